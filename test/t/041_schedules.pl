# Scheduled jobs with the real pg_cron: ticks from its own and from another database, overlap, failure and backoff, commits inside
# a job, rights, dump and restore, and no pg_cron at all.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;

my $node = Sophia::Cluster->create('schedules', start => 0);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron, sophia_stack'
cron.database_name = 'postgres'
cron.use_background_workers = on
max_worker_processes = 20");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE staging');
for my $database ('postgres', 'staging')
{
	$node->safe_psql($database, "CREATE EXTENSION sophia_stack;
		CREATE TABLE ticks (at timestamptz DEFAULT clock_timestamp(), who name DEFAULT session_user);
		CREATE TABLE worked (at timestamptz DEFAULT clock_timestamp());
		CREATE PROCEDURE work() LANGUAGE plpgsql AS 'BEGIN INSERT INTO worked DEFAULT VALUES; COMMIT; PERFORM 1/0; END';
		CREATE PROCEDURE well() LANGUAGE plpgsql AS 'BEGIN FOR i IN 1..2 LOOP INSERT INTO ticks DEFAULT VALUES; COMMIT; END LOOP; END'");
}

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sub last_run
{
	my ($job, $database) = @_;
	return sql("SELECT state, coalesce(sqlstate, ''), coalesce(error, '') FROM sophia.job_runs WHERE job = '$job' ORDER BY id DESC LIMIT 1", $database);
}

# ---- pg_cron is preloaded, but not there ----

like(($node->error_of("SELECT sophia.schedule('tick', '* * * * *')"))[1],
	qr/55000: job "tick" cannot be scheduled, because pg_cron is not there.*HINT: .*CREATE EXTENSION pg_cron in database postgres/s,
	'without the extension pg_cron it is said what to do');
like($node->error_of("SELECT sophia.schedule('tick', '* * * * *')", 'staging'), qr/^55000/, 'and in another database');
sql('CREATE EXTENSION pg_cron');

# ---- minute schedules, which tick while the rest is tested ----

sql("SELECT sophia.schedule('tick', '* * * * *', 'CALL well()')");
sql("SELECT sophia.schedule('tick', '* * * * *', 'CALL well()')", 'staging');
sql("SELECT sophia.schedule('default', '\@daily')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 3 FROM cron.job"), 'pg_cron has the jobs of both databases');
is(sql("SELECT jobname, schedule, command, database FROM cron.job WHERE username = current_user ORDER BY 1"),
	"sophia_stack postgres default|\@daily|CALL sophia.run_job('default')|postgres
sophia_stack postgres tick|* * * * *|CALL sophia.run_job('tick')|postgres
sophia_stack staging tick|* * * * *|CALL sophia.run_job('tick')|staging", 'as one call each');
for my $database ('postgres', 'staging')
{
	ok($node->poll_query_until($database, "SELECT scheduled, active, next_run_at > now() AND next_run_at <= now() + interval '61 s', running, failures FROM sophia.jobs WHERE job = 'tick'",
		't|t|t|f|0'), "jobs knows what pg_cron has ($database)");
}
is(sql("SELECT command FROM sophia.jobs WHERE job = 'default'"), 'CALL sophia.refresh()', 'the default command');

# ---- what cannot be scheduled ----

for my $case ([ "'x', 'every day'", '22023', 'malformed' ], [ "'x', '61 * * * *'", '22023', 'out of range' ],
	[ "NULL, '* * * * *'", '22004', 'no name' ], [ "'x', '* * * * *', NULL", '22004', 'no command' ],
	[ "'x', '* * * * *', ' ; '", '22023', 'an empty command' ], [ "'', '* * * * *'", '22023', 'an empty name' ])
{
	like($node->error_of("SELECT sophia.schedule($case->[0])", $_), qr/^$case->[1]/, "$case->[2] ($_)") for 'postgres', 'staging';
}
like(($node->error_of("SELECT sophia.schedule('x', '30 seconds')", $_))[1], qr/22023: a schedule in seconds needs pg_cron 1\.5.*DETAIL:  This is pg_cron 1\.4/s,
	"seconds need another pg_cron ($_)") for 'postgres', 'staging';
like($node->error_of("SELECT sophia.$_"), qr/^42704/, "$_ of an unknown job") for "unschedule('x')", "run_now('x')";
like($node->error_of("CALL sophia.run_job('x')"), qr/^42704/, 'run_job of an unknown job');

# ---- the transaction decides ----

sql("BEGIN; SELECT sophia.schedule('gone', '* * * * *'); ROLLBACK;
	BEGIN; SAVEPOINT a; SELECT sophia.schedule('gone', '* * * * *'); ROLLBACK TO a; SELECT sophia.schedule('kept', '1 2 3 4 *'); COMMIT", 'staging');
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM cron.job WHERE jobname = 'sophia_stack staging kept')"), 'what was committed is scheduled');
is(sql("SELECT count(*) FROM cron.job WHERE jobname LIKE '%gone'"), 0, 'what was rolled back is not');
sql("SELECT sophia.schedule('kept', '5 4 * * sun', 'SELECT 1')", 'staging');
ok($node->poll_query_until('postgres', "SELECT schedule = '5 4 * * sun' FROM cron.job WHERE jobname = 'sophia_stack staging kept'"), 'the same name again changes the job');
sql("SELECT sophia.unschedule('kept')", 'staging');
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM cron.job WHERE jobname = 'sophia_stack staging kept')"), 'unschedule takes it from pg_cron');
like($node->error_of("BEGIN; SELECT sophia.schedule('new', NULL); SELECT sophia.run_now('new')"), qr/^55000/, 'a job of this transaction cannot run');

# ---- failure, backoff, commits ----

sql("SELECT sophia.schedule('fails', '0 0 1 1 *', 'CALL work()')");
my ($rc, $out, $err) = $node->psql('postgres', "CALL sophia.run_job('fails')");
is($rc, 0, 'a failing job does not fail its caller');
like($err, qr/WARNING:  job "fails" failed: division by zero/, 'but warns');
is(last_run('fails'), 'failed|22012|division by zero', 'the failure is recorded');
is(sql('SELECT count(*) FROM worked'), 1, 'what it committed stays');
is(sql("SELECT failures, retry_after BETWEEN now() + interval '1 s' AND now() + interval '31 s', last_state, last_error FROM sophia.jobs WHERE job = 'fails'"),
	'1|t|failed|division by zero', 'and it backs off');
sql("CALL sophia.run_job('fails')");
like(last_run('fails'), qr/^skipped\|\|failures in a row: 1; tried again after/, 'a tick too early is skipped');
is(sql("SELECT state, error FROM sophia.run_now('fails')"), 'failed|division by zero', 'run_now does not wait');
is(sql("SELECT failures, retry_after > now() + interval '32 s' FROM sophia.jobs WHERE job = 'fails'"), '2|t', 'it backs off twice as long');
sql("UPDATE sophia.scheduled_jobs SET backoff_limit = '0' WHERE job = 'fails'; SELECT sophia.run_now('fails')");
sql("CALL sophia.run_job('fails')");
like(last_run('fails'), qr/^failed/, 'a tick that the backoff allows runs');
sql("CREATE OR REPLACE PROCEDURE work() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'; SELECT sophia.run_now('fails')");
is(last_run('fails') . sql("SELECT failures, retry_after FROM sophia.jobs WHERE job = 'fails'"), 'succeeded||0|', 'a success ends it');

# ---- top level ----

sql("SELECT sophia.schedule('vacuum', NULL, 'VACUUM ticks'), sophia.schedule('several', NULL, 'CREATE TABLE a (); SELECT 1/0'),
	sophia.schedule('open', NULL, 'BEGIN'), sophia.schedule('no sql', NULL, 'no sql'), sophia.schedule('dies', NULL, 'SELECT pg_terminate_backend(pg_backend_pid())')");
is(sql("SELECT state FROM sophia.run_now('vacuum')"), 'succeeded', 'a command that needs to be alone');
is(sql("SELECT state, to_regclass('a') FROM sophia.run_now('several')"), 'failed|', 'several statements are one transaction');
is(sql("SELECT state, error FROM sophia.run_now('open')"), 'failed|the command left a transaction open', 'an open transaction');
is(sql("SELECT state, error FROM sophia.run_now('no sql')"), 'failed|syntax error at or near "no"', 'no SQL');
like($node->error_of("SELECT sophia.run_now('dies')"), qr/^55000: the background worker ended without an answer/, 'a session that ends');
is(last_run('dies'), 'failed||the run ended without saying how', 'its run is known as failed');
is(sql("SELECT scheduled, next_run_at FROM sophia.jobs WHERE job = 'vacuum'"), 'f|', 'a job without cron is none of pg_cron\'s');

# ---- overlap ----

sql("SELECT sophia.schedule('slow', NULL, 'SELECT pg_sleep(600)')");
my $ignored = '';
my $handle = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', "CALL sophia.run_job('slow')" ],
	'<', \undef, '&>', \$ignored, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
ok($node->poll_query_until('postgres', "SELECT running FROM sophia.jobs WHERE job = 'slow'"), 'a run is seen');
sql("CALL sophia.run_job('slow')");
is(last_run('slow'), 'skipped||another run of the job is under way', 'a second one is skipped');
sql("SELECT pg_cancel_backend(pid) FROM sophia.job_runs WHERE job = 'slow' AND state = 'running'");
$handle->finish;
is(sql("SELECT state, sqlstate FROM sophia.job_runs WHERE job = 'slow' ORDER BY id LIMIT 1"), 'failed|57014', 'a run can be cancelled');
is($node->error_of("SET statement_timeout = '5s'; SELECT sophia.run_now('slow')") =~ /^57014/, 1, 'whoever waits for a run may give up');
ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM sophia.job_runs WHERE job = 'slow' ORDER BY id DESC LIMIT 1"), 'which ends the run');

# ---- rights ----

sql("CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE crew; GRANT crew TO ann; GRANT ann TO bob;
	GRANT EXECUTE ON FUNCTION sophia.schedule, sophia.unschedule, sophia.run_now TO ann, crew;
	GRANT EXECUTE ON PROCEDURE sophia.run_job TO ann, bob; GRANT INSERT ON ticks TO ann");
sql("SET ROLE ann; SELECT sophia.schedule('hers', NULL, 'INSERT INTO ticks DEFAULT VALUES'), sophia.schedule('climbs', NULL, 'RESET SESSION AUTHORIZATION; SELECT * FROM pg_authid')");
sql("SELECT sophia.run_now('hers')");
is(sql("SELECT count(*) FROM ticks WHERE who = 'ann'"), 1, 'a job runs as its owner, whoever calls');
is(sql("SELECT state, error FROM sophia.run_now('climbs')"), 'failed|permission denied for table pg_authid', 'with no other rights');
like($node->error_of("SET ROLE ann; SELECT sophia.$_"), qr/^42501: must be owner of job "tick"/, "$_ is the owner's")
  for "unschedule('tick')", "run_now('tick')", "schedule('tick', NULL, 'SELECT 1')";
is(($node->psql('postgres', "SET ROLE bob; CALL sophia.run_job('hers')"))[0], 0, 'a member of the owner may run it');
like($node->error_of("SET ROLE crew; SELECT sophia.schedule('theirs', NULL)"), qr/^42501: role crew cannot log in/, 'who cannot log in owns no job');
like($node->error_of("SET ROLE ann; SELECT sophia.ask_database('staging', 'SELECT 1', true)"), qr/^42501/, 'errands are for the extension only');

# ---- the ticks came ----

for my $database ('postgres', 'staging')
{
	ok($node->poll_query_until($database, "SELECT EXISTS (SELECT FROM sophia.job_runs WHERE job = 'tick' AND state = 'succeeded')"),
		"pg_cron ran the job ($database)");
	is(sql("SELECT count(*) >= 2 FROM ticks WHERE who = session_user", $database), 't', 'which committed twice');
	is(sql("SELECT last_state, last_run_at > now() - interval '5 min', last_error FROM sophia.jobs WHERE job = 'tick'", $database), 'succeeded|t|', 'jobs knows of it');
}
is(sql("SELECT count(*) FROM cron.job_run_details WHERE command LIKE '%run_job%' AND status = 'failed'"), 0, 'no call failed');

# ---- next_tick ----

for my $case ([ '*/15 * * * *', '2026-01-05 10:15' ], [ '0 0 1 * *', '2026-02-01 00:00' ], [ '30 9 * * mon-fri', '2026-01-06 09:30' ],
	[ '0 12 13 * 5', '2026-01-09 12:00' ], [ '0 12 */13 * 5', '2026-02-27 12:00' ], [ '0 0 29 2 *', '2028-02-29 00:00' ], [ '5,7 8-11 * JAN 7', '2026-01-11 08:05' ],
	[ '@hourly', '2026-01-05 11:00' ], [ '@reboot', '' ], [ '0 0 31 2 *', '' ], [ 'nonsense', '' ])
{
	is(sql("SELECT to_char(sophia.next_tick('$case->[0]', '2026-01-05 10:14:30+00') AT TIME ZONE 'GMT', 'YYYY-MM-DD HH24:MI')"), $case->[1], "next tick of $case->[0]");
}

# ---- history, dump and restore, drop ----

sql("UPDATE sophia.job_run_records SET started_at = started_at - interval '31 days' WHERE job = 'fails'; SELECT sophia.run_now('fails')");
is(sql("SELECT count(*) FROM sophia.job_runs WHERE job = 'fails'"), 1, 'old records go');
command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', $node->connstr('staging') ], 'dump');
sql('CREATE DATABASE restored');
command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $node->basedir . '/dump' ], 'restore');
is(sql("SELECT job, cron, command, scheduled, active FROM sophia.jobs", 'restored'), 'tick|* * * * *|CALL well()|f|f', 'a restored job is not scheduled');
sql("SELECT sophia.schedule(job, cron, command) FROM sophia.jobs", 'restored');
ok($node->poll_query_until('restored', 'SELECT scheduled FROM sophia.jobs'), 'until it is scheduled again');
sql("SELECT sophia.unschedule(job) FROM sophia.jobs", 'restored');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM cron.job WHERE database = 'restored'"), 'all jobs can be taken back');
sql('DROP EXTENSION pg_cron; SELECT sophia.unschedule(job) FROM sophia.jobs');
is(sql('SELECT count(*) FROM sophia.jobs'), 0, 'also when pg_cron is gone');

# ---- no pg_cron ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
like(($node->error_of("SELECT sophia.schedule('x', '* * * * *')"))[1], qr/55000: .*HINT:  Install pg_cron \(Debian: apt install postgresql-15-cron\), add pg_cron to shared_preload_libraries, set cron\.database_name/s,
	'without pg_cron it is said how to get it');
sql("SELECT sophia.schedule('x', NULL, 'CALL well()')");
sql("CALL sophia.run_job('x')");
is(last_run('x') . sql("SELECT job, scheduled FROM sophia.jobs"), 'succeeded||x|f', 'any other scheduler can run a job, without preload too');
$node->stop;
done_testing();
