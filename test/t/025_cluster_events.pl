# What happens to streams when something happens to the database: dump and restore, drop, locks, rights, shutdown.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(OUTSIDE);
use Sophia::Ingest;
use Test::More;
use Time::HiRes qw(time);

my $node = Sophia::Ingest->create('main', databases => 'postgres, other', init => { allows_streaming => 1 },
	conf => "log_line_prefix = '%m [%p] %b '\n");
my $p = Sophia::Documents->producer('030000000001');
my $rows = 'SELECT id, email, is_deleted, doc, source_clock, source_journal, source_offset FROM';

sub owner { return { id => $_[0], email => $_[1] // "$_[0]\@x.example" } }

# Ids in a table, those that begin so.
sub ids
{
	my ($table, $prefix, $database) = @_;
	return $node->safe_psql($database // 'postgres', "SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM $table WHERE id LIKE '$prefix%'");
}

# ---- dump and restore ----

my $journal = $node->journal('acme/owners');
$journal->write($p->transaction(map { owner("a$_") } 1 .. 3) . $p->document(owner('a4')) . $p->raw('{"_meta":{"uuid":"%s"}}', flags => OUTSIDE));
$journal->write($p->document(owner('a4')));
$node->follow('owners', 'acme/owners', 'hubspot.owners');
ok($node->await_stream('owners'), 'caught up');
my @companies = map { sprintf q(INSERT INTO estuary.companies VALUES ('%s', now(), '{"id": "%s"}')), $_, $_ } 'd1', 'd2';
$node->safe_psql('postgres', "CREATE SCHEMA estuary;
	CREATE TABLE estuary.companies (id text PRIMARY KEY, flow_published_at timestamptz NOT NULL, flow_document json NOT NULL);
	SELECT sophia.adopt_table('estuary.companies', 'hubspot.companies'); $companies[0]; SELECT sophia.feed_adopted()");
my $state = $node->rows('SELECT c::text FROM sophia.checkpoints c UNION ALL SELECT d::text FROM sophia.staged_documents d UNION ALL SELECT e::text FROM sophia.stream_events e');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a database is dumped while its stream runs');
$journal->write($p->ack . $p->transaction(owner('a5')));
ok($node->await_stream('owners'), 'which goes on');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest' AND datname = 'other'", 1);
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('other'), '-f', $dump ], 'it is restored where a worker runs');
is($node->safe_psql('other', 'SELECT stream, state, worker_pid FROM sophia.stream_status'), 'owners|stopped|', 'the restored stream is stopped');
$node->safe_psql('other', $companies[1]);
# The worker proves to have seen it by following another stream.
$node->safe_psql('other', "SELECT sophia.create_stream('proof', 'store', 'acme/owners', 'hubspot.owners', '{\"start_from\": \"end\"}')");
ok($node->await_stream('proof', undef, 'other'), 'the worker of the restored database works');
is(ids('hubspot_raw.owners', 'a', 'other'), 'a1 a2 a3', 'but has written nothing of the restored stream');
is($node->safe_psql('other', "SELECT c::text FROM sophia.checkpoints c WHERE stream <> 'proof' UNION ALL SELECT d::text FROM sophia.staged_documents d UNION ALL SELECT e::text FROM sophia.stream_events e"),
	$state, 'nor touched its checkpoint');
my ($error, $text) = $node->error_of("SELECT sophia.await_stream('owners')", 'other');
like($error, qr/^55000: stream "owners" is stopped/, 'it cannot be waited for');
$node->safe_psql('other', "SELECT sophia.drop_stream('proof'); SELECT sophia.start_stream('owners')");
ok($node->await_stream('owners', undef, 'other'), 'until it is started');
is(ids('hubspot_raw.owners', 'a', 'other'), 'a1 a2 a3 a4 a5', 'then it goes on, with what was staged');
is($node->safe_psql('other', 'SELECT state, rows_waiting FROM sophia.adopted_tables'), 'stopped|1', 'so is an adopted table');
is(ids('hubspot_raw.companies', 'd', 'other'), 'd1', 'which the worker has not fed');
$node->safe_psql('other', "SELECT sophia.adopt_table('estuary.companies', 'hubspot.companies')");
$node->poll_query_until('other', "SELECT state || rows_waiting FROM sophia.adopted_tables", 'feeding0');
is(ids('hubspot_raw.companies', 'd', 'other'), 'd1 d2', 'until it is adopted again');
is($node->safe_psql('other', 'SELECT documents_applied, documents_dead FROM sophia.stream_status'), '5|1', 'and applies nothing twice');

# ---- DROP DATABASE ----

my $started = time;
$node->safe_psql('postgres', 'DROP DATABASE other');
cmp_ok(time - $started, '<', 20, 'a database is dropped while its stream runs');

# ---- DROP EXTENSION ----

my $before = $node->rows("$rows hubspot_raw.owners ORDER BY id");
$node->safe_psql('postgres', 'DROP EXTENSION sophia_stack CASCADE');
is($node->rows("$rows hubspot_raw.owners ORDER BY id"), $before, 'the rows survive the extension');
$node->safe_psql('postgres', 'CREATE EXTENSION sophia_stack');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT action, ' ') FROM sophia.create_schemas()"), 'adopted', 'a new one adopts the tables');
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('store', 'fragments', '" . $node->store . "')");
$node->follow('owners', 'acme/owners', 'hubspot.owners');
ok($node->await_stream('owners'), 'and reads everything again');
is($node->rows("$rows hubspot_raw.owners ORDER BY id"), $before, 'which gives the same rows');
is($node->status('owners', 'documents_applied, documents_dead'), '5|1', 'from all documents');

# In the middle of a batch: the drop comes through, and nothing of the batch stays.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id = 'hold' THEN PERFORM pg_advisory_xact_lock(7); END IF;
  RETURN NEW;
END;
$$;
CREATE TRIGGER hold BEFORE INSERT ON hubspot_raw.owners FOR EACH ROW EXECUTE FUNCTION public.hold();
SQL
my $holder = $node->beside('SELECT pg_advisory_lock(7), pg_sleep(1000)');
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted", 1);
$journal->write($p->transaction(owner('b1'), owner('hold'), owner('b2')));
ok($node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest' AND wait_event = 'advisory'", 1),
	'the worker is in the middle of a batch');
$node->safe_psql('postgres', "SET lock_timeout = '60 s'; DROP EXTENSION sophia_stack CASCADE");
is(ids('hubspot_raw.owners', 'b'), '', 'the extension is dropped all the same');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_advisory_lock(7)%'");
$holder->{run}->finish;
$node->safe_psql('postgres', 'CREATE EXTENSION sophia_stack');
$node->prepare('postgres');
$node->follow('owners', 'acme/owners', 'hubspot.owners');
ok($node->await_stream('owners'), 'read again');
is(ids('hubspot_raw.owners', 'b'), 'b1 b2', 'and complete');
$node->safe_psql('postgres', 'DROP TRIGGER hold ON hubspot_raw.owners');

# ---- tables that others use ----

my $contacts = $node->journal('acme/contacts');
my $users = $node->journal('acme/users');
$contacts->write($p->outside({ id => 'c1' }));
$users->write($p->outside({ id => 'u1' }));
$node->follow('contacts', 'acme/contacts', 'hubspot.contacts');
$node->follow('users', 'acme/users', 'slack.users');
ok($node->await_stream($_), "$_: caught up") for 'contacts', 'users';

for my $statement ('LOCK TABLE hubspot_raw.contacts IN ACCESS EXCLUSIVE MODE', 'TRUNCATE hubspot_raw.contacts',
	'ALTER TABLE hubspot_raw.contacts ADD COLUMN IF NOT EXISTS note text', 'LOCK TABLE hubspot_raw.contacts IN SHARE MODE')
{
	my $session = $node->beside("BEGIN; $statement; SELECT pg_sleep(1000)");
	$node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1);
	my $id = 'l' . $contacts->offset;
	$contacts->write($p->outside({ id => $id }));
	is($node->rows("SELECT sophia.await_stream('contacts', '1500 ms')"), 'f', "$statement: the stream waits");
	$users->write($p->outside({ id => $id }));
	$started = time;
	ok($node->await_stream('users'), 'another one goes on');
	cmp_ok(time - $started, '<', 15, 'without waiting for it');
	is($node->status('contacts', 'state'), 'running', 'the stream has not failed');
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
	$session->{run}->finish;
	ok($node->await_stream('contacts'), 'then it catches up');
	is(ids('hubspot_raw.contacts', $id), $id, 'with what had to wait');
	ok($node->wait_for_status('contacts', 'last_error IS NULL', 't'), 'and no error stays');
}
# A stream that could not be opened for a while, and then has nothing to apply.
$node->safe_psql('postgres', "SELECT sophia.stop_stream('users')");
my $opening = $node->beside('BEGIN; LOCK TABLE sophia.shapes IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1000)');
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1);
$node->safe_psql('postgres', "SELECT sophia.start_stream('users')");
ok($node->wait_for_status('users', "state || (last_error LIKE '%lock timeout%')", 'startingtrue'), 'a stream that cannot be opened says so');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
$opening->{run}->finish;
ok($node->await_stream('users'), 'it is opened later');
ok($node->wait_for_status('users', 'state || (last_error IS NULL)', 'runningtrue'), 'and the error goes though nothing is to be applied');

$node->safe_psql('postgres', "UPDATE hubspot_raw.contacts SET archived = true; TRUNCATE hubspot_raw.contacts");
$contacts->write($p->outside({ id => 'c1', url => 'new' }));
ok($node->await_stream('contacts'), 'caught up');
is($node->rows('SELECT id, url FROM hubspot_raw.contacts'), 'c1|new', 'after TRUNCATE a document finds no row');
$node->safe_psql('postgres', 'ALTER TABLE hubspot_raw.contacts ADD COLUMN mine text DEFAULT \'x\'; CREATE INDEX ON hubspot_raw.contacts (lastname)');
$contacts->write($p->outside({ id => 'c2' }));
ok($node->await_stream('contacts'), 'caught up');
is($node->rows("SELECT id, mine FROM hubspot_raw.contacts WHERE id = 'c2'"), 'c2|x', 'a column of the user is left to its default');

# A row that a user holds.
my $session = $node->beside("BEGIN; UPDATE hubspot_raw.contacts SET mine = 'y' WHERE id = 'c2'; SELECT pg_sleep(1000)");
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1);
$contacts->write($p->outside({ id => 'c2', url => 'after' }));
is($node->rows("SELECT sophia.await_stream('contacts', '1500 ms')"), 'f', 'a locked row is waited for');
$users->write($p->outside({ id => 'u2' }));
ok($node->await_stream('users'), 'another stream goes on');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
$session->{run}->finish;
ok($node->await_stream('contacts'), 'then it catches up');
is($node->rows("SELECT url, mine FROM hubspot_raw.contacts WHERE id = 'c2'"), 'after|x', 'with the document');

# ---- rights and missing tables ----

$node->safe_psql('postgres', 'CREATE ROLE keeper; GRANT USAGE ON SCHEMA hubspot_raw TO keeper; ALTER TABLE hubspot_raw.contacts OWNER TO keeper');
$contacts->write($p->outside({ id => 'c3' }));
ok($node->await_stream('contacts'), 'another owner will do');
$node->safe_psql('postgres', 'REVOKE INSERT ON hubspot_raw.contacts FROM keeper');
$contacts->write($p->outside({ id => 'c4' }));
like($node->failure_of('contacts'), qr/permission denied for table contacts/, 'an owner who lost INSERT fails the stream');
$users->write($p->outside({ id => 'u3' }));
ok($node->await_stream('users'), 'the others go on');
is(ids('hubspot_raw.contacts', 'c'), 'c1 c2 c3', 'nothing was written in its stead');
$node->safe_psql('postgres', "GRANT INSERT ON hubspot_raw.contacts TO keeper; SELECT sophia.start_stream('contacts')");
ok($node->await_stream('contacts'), 'with the right it can be started again');
is(ids('hubspot_raw.contacts', 'c'), 'c1 c2 c3 c4', 'and misses nothing');

# The owner's rights are all that a trigger of his has.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.mine := current_user || ' ' || session_user || ' ' || current_setting('search_path') || ' ' || pg_has_role('pg_read_server_files', 'USAGE');
  RETURN NEW;
END;
$$;
CREATE TRIGGER tell BEFORE INSERT ON hubspot_raw.contacts FOR EACH ROW EXECUTE FUNCTION public.tell();
SQL
$contacts->write($p->outside({ id => 'c5' }));
ok($node->await_stream('contacts'), 'caught up');
like($node->rows("SELECT mine FROM hubspot_raw.contacts WHERE id = 'c5'"), qr/^keeper \S+ pg_catalog, pg_temp false$/, 'the worker writes as the owner of the table');
$node->safe_psql('postgres', <<'SQL');
DROP TRIGGER tell ON hubspot_raw.contacts;
CREATE FUNCTION public.escape() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id = 'c6' THEN CREATE TEMP TABLE t (); ELSE RESET ROLE; END IF;
  RETURN NEW;
END;
$$;
CREATE TRIGGER escape BEFORE INSERT ON hubspot_raw.contacts FOR EACH ROW EXECUTE FUNCTION public.escape();
SQL
$contacts->write($p->outside({ id => 'c6' }));
like($node->failure_of('contacts'), qr/cannot create temporary table within security-restricted operation/, 'and in a security-restricted context');
$node->safe_psql('postgres', "ALTER TABLE hubspot_raw.contacts DISABLE TRIGGER escape; SELECT sophia.start_stream('contacts')");
ok($node->await_stream('contacts'), 'caught up');
$node->safe_psql('postgres', 'ALTER TABLE hubspot_raw.contacts ENABLE TRIGGER escape');
$contacts->write($p->outside({ id => 'c6a' }));
like($node->failure_of('contacts'), qr/cannot set parameter "role"/, 'which nothing leaves');
$node->safe_psql('postgres', "DROP TRIGGER escape ON hubspot_raw.contacts; SELECT sophia.start_stream('contacts')");
ok($node->await_stream('contacts'), 'caught up');

$node->safe_psql('postgres', 'ALTER TABLE hubspot_raw.contacts DROP COLUMN jobtitle');
$contacts->write($p->outside({ id => 'c7' }));
like($node->failure_of('contacts'), qr/column "jobtitle" .*does not exist/, 'a dropped column fails the stream, with its reason');
$node->safe_psql('postgres', 'DROP TABLE hubspot_raw.owners');
$journal->write($p->outside(owner('z1')));
like($node->failure_of('owners'), qr/relation "hubspot_raw.owners" does not exist/, 'so does a dropped table');
$users->write($p->outside({ id => 'u4' }));
ok($node->await_stream('users'), 'the others go on');
is($node->safe_psql('postgres', "SELECT count(*) FROM sophia.create_schemas() WHERE action IN ('created', 'column added') AND kind <> 'index'"), '2', 'create_schemas makes both again');
$node->safe_psql('postgres', "SELECT sophia.start_stream(s) FROM unnest(ARRAY['contacts', 'owners']) s");
ok($node->await_stream($_), "$_ goes on") for 'contacts', 'owners';
is(ids('hubspot_raw.contacts', 'c') . '|' . ids('hubspot_raw.owners', 'z'), 'c1 c2 c3 c4 c5 c6 c6a c7|z1', 'with what had to wait');
is($node->rows("SELECT count(*) FROM sophia.dead_letters WHERE stream IN ('contacts', 'users')"), '0', 'none of all that made a dead letter');

# ---- pause ----

my $worker = $node->worker_pid('ingest', 'postgres');
$node->safe_psql('postgres', 'ALTER SYSTEM SET sophia_stack.enabled = off');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT current_setting('sophia_stack.enabled')", 'off'), 'switched off');
$users->write($p->outside({ id => 'u5' }));
like(scalar $node->error_of("SELECT sophia.await_stream('users', '2500 ms')"), qr/^55000: the workers are paused/, 'nobody waits for a paused worker');
is(ids('slack_raw.users', 'u5'), '', 'and writes nothing');
is($node->status('users', 'state, last_error'), 'running|sophia_stack.enabled is off', 'the status says why');
$node->safe_psql('postgres', 'ALTER SYSTEM SET sophia_stack.enabled = on');
$node->reload;
ok($node->await_stream('users'), 'switched on, it goes on');
is(ids('slack_raw.users', 'u5') . '|' . $node->worker_pid('ingest', 'postgres'), "u5|$worker", 'in the same process');

# ---- shutdown, standby ----

$node->backup('base');
my $standby = Sophia::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$users->write(join('', map { $p->outside({ id => "s$_" }) } 1 .. 20_000));
$node->poll_query_until('postgres', "SELECT applied_offset > 0 FROM sophia.stream_status WHERE stream = 'users'");
$started = time;
$node->stop('fast');
cmp_ok(time - $started, '<', 30, 'a fast shutdown while streaming is prompt');
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sophia_stack%'"), '0', 'a standby has no workers');
$standby->promote;
ok($standby->wait_for_worker('ingest'), 'a promoted one has');
ok($standby->await_stream('users'), 'and its stream goes on');
is($standby->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE id LIKE 's%') FROM slack_raw.users WHERE id NOT LIKE 'l%'"), '20005|20000', 'to the last document');
is($standby->safe_psql('postgres', "SELECT documents_applied FROM sophia.stream_status WHERE stream = 'users'"), 20_005 + 4, 'each applied once');
$standby->stop;

done_testing();
