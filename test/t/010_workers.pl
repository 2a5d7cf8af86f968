# The launcher and its workers through what happens to a cluster: reload, crashes, dropped and renamed databases,
# shutdown, promotion.  What a worker does with its streams is tested elsewhere.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = Sophia::Cluster->create('main', init => { allows_streaming => 1 }, conf => "log_line_prefix = '%m [%p] %b '\n");

# Workers of a database, as text; waits until the number is that.
sub workers
{
	my ($n, $database, $number) = @_;
	return $n->poll_query_until('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest' AND datname = '$database'",
		$number);
}

sub set_and_reload
{
	my ($n, %settings) = @_;
	$n->safe_psql('postgres', "ALTER SYSTEM SET $_ = $settings{$_}") for keys %settings;
	$n->reload;
}

# How often the log has that.
sub times_logged
{
	my ($n, $pattern) = @_;
	return scalar(() = slurp_file($n->logfile) =~ /$pattern/g);
}

sub wait_for_log_entry
{
	my ($n, $pattern) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if times_logged($n, $pattern);
		usleep(100_000);
	}
	return 0;
}

# ---- start, reload ----

my $launcher = $node->wait_for_worker('launcher');
my $first = $node->wait_for_worker('ingest');
my $gateway = $node->wait_for_worker('gateway');
ok($first, 'the launcher starts a worker');
is($node->safe_psql('postgres', 'SELECT worker, database, index, pid, state, failures FROM sophia.workers ORDER BY pid IS NULL, worker DESC'),
	"sophia_stack launcher|||$launcher|running|\nsophia_stack ingest|postgres|0|$first|running|0\nsophia_stack gateway|||$gateway|running|0", 'view workers tells of all');
is($node->safe_psql('postgres', 'SELECT sophia.worker_pid()'), $first, 'so does worker_pid()');

$node->safe_psql('postgres', "CREATE DATABASE second");
set_and_reload($node, 'sophia_stack.databases' => "postgres, second, absent");
ok(workers($node, 'second', 1), 'a database that is listed later gets a worker');
is($node->worker_pid('ingest', 'postgres'), $first, 'and the other worker stays');
ok(wait_for_log_entry($node, qr/WARNING:  database "absent" does not exist/), 'a database that does not exist is warned of');
$node->safe_psql('postgres', 'CREATE DATABASE absent');
ok(workers($node, 'absent', 1), 'it gets a worker as soon as it exists');
is(times_logged($node, qr/WARNING:  database "absent" does not exist/), 1, 'the warning came once');

set_and_reload($node, 'sophia_stack.ingest_workers' => 2);
ok(workers($node, 'second', 2), 'ingest_workers raises the number of workers');
set_and_reload($node, 'sophia_stack.ingest_workers' => 1);
ok(workers($node, 'second', 1), 'and lowers it');
set_and_reload($node, 'sophia_stack.databases' => "postgres, second");
ok(workers($node, 'absent', 0), 'the worker of a database that is no longer listed ends');
$node->safe_psql('postgres', 'DROP DATABASE absent');

# ---- statements that need a database for themselves ----

my $started = time;
$node->safe_psql('postgres', 'ALTER DATABASE second RENAME TO third');
cmp_ok(time - $started, '<', 20, 'a database is renamed while a worker is connected');
ok(workers($node, 'third', 0), 'the renamed database is not listed, so it has no worker');
$node->safe_psql('postgres', 'ALTER DATABASE third RENAME TO second');
ok(workers($node, 'second', 1), 'it gets one again under the old name');

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE second');
ok(workers($node, 'second', 1), 'a listed database can be a template, and its worker comes back');
my $offset = -s $node->logfile;
$node->safe_psql('postgres', "SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''");
$node->safe_psql('postgres', 'ALTER DATABASE second SET TABLESPACE elsewhere');
ok(workers($node, 'second', 1), 'a listed database can be moved to another tablespace');
$node->safe_psql('postgres', 'ALTER DATABASE second SET TABLESPACE pg_default');
$node->safe_psql('postgres', 'DROP TABLESPACE elsewhere');
ok(workers($node, 'second', 1), 'and back');
$node->safe_psql('postgres', 'DROP DATABASE copy');

my $second = $node->worker_pid('ingest', 'second');
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN; CREATE ROLE creator LOGIN CREATEDB');
for my $sql ('DROP DATABASE second', 'ALTER DATABASE second RENAME TO mine', 'CREATE DATABASE mine TEMPLATE second',
	'ALTER DATABASE second SET TABLESPACE pg_default')
{
	my ($status) = $node->psql('postgres', "SET ROLE creator; $sql");
	isnt($status, 0, "whoever does not own the database may not: $sql");
}
is($node->worker_pid('ingest', 'second'), $second, 'and disturbs no worker');

my ($status) = $node->psql('postgres', 'BEGIN; DROP DATABASE second');
isnt($status, 0, 'a DROP DATABASE that fails');
ok(workers($node, 'second', 1), 'leaves the database with a worker');

$started = time;
$node->safe_psql('postgres', 'DROP DATABASE second');
cmp_ok(time - $started, '<', 20, 'a database is dropped while a worker is connected');
$node->safe_psql('postgres', 'CREATE DATABASE second');
ok(workers($node, 'second', 1), 'a new one of that name gets a worker');
$node->safe_psql('postgres', 'DROP DATABASE second WITH (FORCE)');
unlike(substr(slurp_file($node->logfile), $offset), qr/FATAL:  database \S+ does not exist/, 'no worker was started in vain');
set_and_reload($node, 'sophia_stack.databases' => "postgres");

# ---- ends of processes ----

my $pid = $node->worker_pid('ingest', 'postgres');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
isnt($node->wait_for_worker('ingest', $pid), '', 'a worker that ended by an error is started again');
is($node->safe_psql('postgres', "SELECT failures FROM sophia.workers WHERE database = 'postgres'"), 1, 'and its end is counted');

# With each of these counted, the last would come after half a minute.
$started = time;
for (1 .. 6)
{
	$pid = $node->worker_pid('ingest', 'postgres');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->wait_for_worker('ingest', $pid);
}
cmp_ok(time - $started, '<', 25, 'a worker that was told to end is replaced at once');
is($node->safe_psql('postgres', "SELECT failures FROM sophia.workers WHERE database = 'postgres'"), 1, 'and that is no failure');

$pid = $node->worker_pid('ingest', 'postgres');
$launcher = $node->worker_pid('launcher');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
isnt($node->wait_for_worker('launcher', $launcher), '', 'the launcher is started again');
is($node->worker_pid('ingest', 'postgres'), $pid, 'and adopts the worker');
set_and_reload($node, 'sophia_stack.databases' => "''");
ok(workers($node, 'postgres', 0), 'which it can end');
set_and_reload($node, 'sophia_stack.databases' => "postgres");
ok(workers($node, 'postgres', 1), 'and start');

for my $kind (qw(ingest launcher))
{
	my $killed = $node->kill_worker($kind, 'KILL');
	ok($node->poll_query_until('postgres',
			"SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type LIKE 'sophia_stack%' AND pid <> $killed"),
		"all are back after kill -9 of the $kind");
}
is($node->safe_psql('postgres', "SELECT failures FROM sophia.workers WHERE database = 'postgres'"), 0,
	'a crash of the server is no failure of the worker');

# ---- requests and what a transaction tells the workers ----

$node->safe_psql('postgres', "SELECT sophia.create_endpoint('broker', 'broker', 'http://127.0.0.1:9')");
like(scalar $node->error_of("BEGIN; SELECT sophia.create_endpoint('e', 'broker', 'http://127.0.0.1:9'); SELECT sophia.check_endpoint('e')"),
	qr/^55000: endpoint "e" was created in this transaction/, 'no worker knows an endpoint of the same transaction');
$node->safe_psql('postgres', 'SELECT count(*) FROM sophia.create_schemas()');
like(scalar $node->error_of("BEGIN; SELECT sophia.create_stream('s', 'broker', 'a/b', 'hubspot.contacts'); SELECT sophia.await_stream('s')"),
	qr/^55000: stream "s" was created or started in this transaction/, 'nor a stream');
like(scalar $node->error_of("BEGIN; SAVEPOINT a; SELECT sophia.create_stream('s', 'broker', 'a/b', 'hubspot.contacts'); RELEASE a; SELECT sophia.await_stream('s')"),
	qr/^55000: stream "s" was created or started in this transaction/, 'nor one of a subtransaction');
$node->safe_psql('postgres', "SELECT sophia.create_stream('s', 'broker', 'a/b', 'hubspot.contacts', '{\"start\": false}')");
like(scalar $node->error_of("SELECT sophia.await_stream('s')"), qr/^55000: stream "s" is stopped/, 'a stopped stream is not waited for');
$node->safe_psql('postgres', "UPDATE sophia.streams SET state = 'failed', last_error = 'the reason'");
like(scalar $node->error_of("SELECT sophia.await_stream('s')"), qr/^55000: stream "s" is failed: the reason/, 'nor a failed one');
$node->safe_psql('postgres', "SELECT sophia.start_stream('s')");
like($node->safe_psql('postgres', "SELECT state FROM sophia.streams"), qr/^starting$/, 'which can be started again');
$node->safe_psql('postgres', "SELECT sophia.stop_stream('s')");
$node->safe_psql('postgres', "UPDATE sophia.streams SET state = 'running', system_identifier = system_identifier + 1");
is($node->safe_psql('postgres', "SELECT state FROM sophia.stream_status"), 'stopped', 'a restored stream is stopped');
like(scalar $node->error_of("SELECT sophia.await_stream('s')"), qr/^55000: stream "s" is stopped/, 'and not waited for');
$node->safe_psql('postgres', "SELECT sophia.start_stream('s')");
is($node->safe_psql('postgres', "SELECT s.state, (s.system_identifier, s.database_oid) = (h.system_identifier, h.database_oid) FROM sophia.streams s, sophia.here h"),
	'starting|t', 'until it is started here');
$node->safe_psql('postgres', "SELECT sophia.drop_stream('s')");

# ---- folders ----

my $allowed = $node->basedir . '/allowed';
mkdir $_ or die "mkdir $_: $!" for $allowed, "$allowed/inside", $node->basedir . '/outside';
symlink $node->basedir . '/outside', "$allowed/link" or die "symlink: $!";
like(scalar $node->error_of("SELECT sophia.create_endpoint('f', 'fragments', '$allowed/inside')"), qr/^42501/, 'no folder is allowed at first');
set_and_reload($node, 'sophia_stack.fragment_directories' => "'$allowed'");
$node->poll_query_until('postgres', "SELECT current_setting('sophia_stack.fragment_directories') <> ''");
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('f', 'fragments', '$allowed/inside')");
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('later', 'fragments', '$allowed/not/there/yet')");
like(scalar $node->error_of("SELECT sophia.create_endpoint('g', 'fragments', '$_')"), qr/^42501/, "refused: $_")
  for $node->basedir . '/outside', "$allowed/link", "$allowed/link/below", "${allowed}2", '/';

# ---- without a worker ----

$node->safe_psql('postgres', 'CREATE DATABASE unlisted');
$node->safe_psql('unlisted', "CREATE EXTENSION sophia_stack; SELECT sophia.create_schemas(); SELECT sophia.create_endpoint('broker', 'broker', 'http://127.0.0.1:9')");
my ($message, $error) = $node->error_of("SELECT sophia.check_endpoint('broker')", 'unlisted');
like($error, qr/55000.*HINT:  Add "unlisted" to sophia_stack.databases/s, 'a hint says how an unlisted database gets a worker');
my (undef, undef, $warning) = $node->psql('unlisted', "SELECT sophia.create_stream('s', 'broker', 'a/b', 'hubspot.contacts')");
like($warning, qr/WARNING:  stream "s" is left stopped.*HINT:  Add "unlisted"/s, 'create_stream warns there');
is($node->safe_psql('unlisted', 'SELECT state FROM sophia.stream_status'), 'stopped', 'and leaves the stream stopped');
$node->safe_psql('postgres', 'DROP DATABASE unlisted');

my $plain = Sophia::Cluster->create('plain', preload => 0);
$plain->safe_psql('postgres', "SELECT sophia.create_endpoint('broker', 'broker', 'http://127.0.0.1:9')");
($message, $error) = $plain->error_of("SELECT sophia.collections('broker')");
like($error, qr/55000.*HINT:  Add sophia_stack to shared_preload_libraries/s, 'a hint says how a server gets workers');
is($plain->safe_psql('postgres', 'SELECT count(*) FROM sophia.workers'), 0, 'there is no worker without preload');
$plain->stop;

# ---- limits ----

set_and_reload($node, 'sophia_stack.databases' => "''");
ok(workers($node, 'postgres', 0), 'no worker before the limit is tried');
# One is the server's own launcher of logical replication.
set_and_reload($node, 'max_worker_processes' => 2, 'sophia_stack.databases' => 'postgres');
$node->restart;
ok(wait_for_log_entry($node, qr/WARNING:  out of background worker slots, .*\n.*HINT:  Increase max_worker_processes/),
	'too few worker processes are warned of, with a hint');
is($node->safe_psql('postgres', "SELECT sophia.worker_pid() IS NULL"), 't', 'and the server goes on without the worker');
set_and_reload($node, 'max_worker_processes' => 16);

# ---- shutdown, standby ----

$node->restart('immediate');
ok($node->wait_for_worker('ingest'), 'the worker is back after an immediate shutdown');
$node->backup('base');
my $standby = Sophia::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 0);
$standby->set_standby_mode;
$standby->start;
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sophia_stack%'"), 0,
	'a standby has no workers');
$standby->promote;
ok($standby->wait_for_worker('ingest'), 'they start at its promotion');
$standby->stop;

$started = time;
$node->stop('fast');
cmp_ok(time - $started, '<', 30, 'a fast shutdown does not wait for the workers');

done_testing();
