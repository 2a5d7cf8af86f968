# Refresh as its callers meet it: limits, a second caller, a rollback, dry runs, a crash, tables that were made anew, indexes of
# tables that are filled.
use strict;
use warnings;
use Sophia::Cluster;
use Test::More;

my $node = Sophia::Cluster->create('runs');
my $log = sub {
	my ($columns, $where) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM sophia.refresh_log WHERE target = '" . ($where // 'unified_contacts') . "' ORDER BY id DESC LIMIT 1");
};
my $contacts = 'SELECT count(*) FROM processed_data.unified_contacts';

$node->safe_psql('postgres', <<'SQL');
SELECT sophia.create_schemas();
INSERT INTO hubspot_raw.contacts (id, email, doc) SELECT n, 'p' || n || '@acme.example', '{}' FROM generate_series(1, 50) n;
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, contact_ids, doc)
	SELECT n, 'NOTE', '2024-01-01', ARRAY[n::text], '{}' FROM generate_series(1, 50) n;
SQL

# ---- arguments ----

like(scalar $node->error_of("CALL sophia.refresh('often')"), qr/^22023: refresh mode must be incremental, full or dry_run/, 'unknown mode');
like(scalar $node->error_of('CALL sophia.refresh(max_rows => 0)'), qr/^22023: max_rows/, 'no rows at all');
like(scalar $node->error_of("CALL sophia.refresh(time_budget => '-1 s')"), qr/^22023: time_budget/, 'less than no time');
like(scalar $node->error_of('SELECT * FROM sophia.verify_refresh(0)'), qr/^22023: part/, 'nothing to verify');

# ---- a dry run of the first run ----

$node->safe_psql('postgres', "CALL sophia.refresh('dry_run')");
is($node->safe_psql('postgres', $contacts), 0, 'a dry run changes nothing');
is($log->('mode, mode_used, rows_inserted, complete'), 'dry_run|full|50|t', 'and counts');
is($log->('rows_inserted', 'interaction_timeline'), 50, 'interactions, too');

# ---- everything in steps ----

my $steps = 0;
while ($steps < 20)
{
	$node->safe_psql('postgres', 'CALL sophia.refresh(max_rows => 30)');
	$steps++;
	last if $log->('complete', 'interaction_timeline') eq 't';
}
is($steps, 5, 'a hundred rows in steps of thirty, and a look at what changed meanwhile');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.verify_refresh(1)'), 0, 'and all are there');
$node->safe_psql('postgres', "UPDATE hubspot_raw.contacts SET jobtitle = 'X'; CALL sophia.refresh(max_rows => 20)");
is($log->('mode_used, rows_updated, complete'), 'incremental|20|f', 'twenty of fifty changed rows');
is($node->safe_psql('postgres', "BEGIN; CALL sophia.refresh(); ROLLBACK; SELECT count(*) FROM processed_data.unified_contacts WHERE job_title = 'X'"), 20,
	'a run that is rolled back did nothing');
$node->safe_psql('postgres', "CALL sophia.refresh(time_budget => '1 h')");
is($log->('rows_updated, complete'), '30|t', 'the next call goes on');
$node->safe_psql('postgres', "CALL sophia.refresh('dry_run')");
is($log->('mode_used, rows_inserted + rows_updated + rows_deleted'), 'incremental|0', 'a dry run that finds nothing');

# ---- a second caller ----

my $first = $node->background_psql('postgres');
$first->query_safe("BEGIN; UPDATE hubspot_raw.contacts SET jobtitle = 'Y' WHERE id = '1'; CALL sophia.refresh();");
my $second = $node->background_psql('postgres', on_error_stop => 0);
$second->query_until(qr/waits/, "\\echo waits\nCALL sophia.refresh();\n\\echo done\n");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"), 'a second call waits');
$first->query_safe('COMMIT');
$first->quit;
$second->query_until(qr/done/, '');
$second->quit;
is($node->safe_psql('postgres', "SELECT job_title FROM processed_data.unified_contacts WHERE id = 'hubspot_1'"), 'Y', 'both are done');

# ---- a crash ----

$node->safe_psql('postgres', "UPDATE hubspot_raw.contacts SET jobtitle = 'Z'; CALL sophia.refresh(max_rows => 10)");
$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', 'CALL sophia.refresh()');
is($node->safe_psql('postgres', "SELECT count(*) FROM processed_data.unified_contacts WHERE job_title = 'Z'"), 50, 'after a crash the next call goes on');
is($log->('mode_used'), 'incremental', 'where the last one ended');

# ---- what an earlier run left is gone ----

$node->safe_psql('postgres', 'TRUNCATE processed_data.unified_contacts; CALL sophia.refresh()');
is($node->safe_psql('postgres', $contacts), 50, 'a truncated target is filled again');
is($log->('mode_used'), 'full', 'by a full run');
like($log->('reason'), qr/unified_contacts is another table or was rewritten/, 'that says why');
$node->safe_psql('postgres', 'TRUNCATE hubspot_raw.contacts; CALL sophia.refresh()');
is($node->safe_psql('postgres', $contacts), 0, 'the rows of a truncated source go');
is($node->safe_psql('postgres', "INSERT INTO sophia.free_mail_domains VALUES ('acme.example'); CALL sophia.refresh();
	SELECT reason FROM sophia.refresh_log WHERE target = 'unified_contacts' ORDER BY id DESC LIMIT 1"), 'free_mail_domains changed', 'a setting that concerns everybody');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.verify_refresh(1)'), 0, 'nothing differs');

# ---- a call that changes between contacts and timeline of one run ----

$node->safe_psql('postgres', <<'SQL');
INSERT INTO gong_raw.users (id, email, doc) VALUES ('g1', 'host@own.example', '{}');
INSERT INTO gong_raw.calls (id, started, primary_user_id, doc) VALUES ('c1', '2024-03-01', 'g1', '{}');
CALL sophia.refresh();
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
CREATE TRIGGER hold AFTER UPDATE ON processed_data.unified_contacts FOR EACH STATEMENT EXECUTE FUNCTION hold();
UPDATE gong_raw.calls SET started = '2024-03-02';
SQL
$first = $node->background_psql('postgres');
$first->query_safe('SELECT pg_advisory_lock(7)');
$second = $node->background_psql('postgres', on_error_stop => 0);
$second->query_until(qr/runs/, "\\echo runs\nCALL sophia.refresh();\n\\echo done\n");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted)"), 'contacts are written');
$node->safe_psql('postgres', "UPDATE gong_raw.calls SET started = '2024-03-03'");
$first->query_safe('SELECT pg_advisory_unlock(7)');
$first->quit;
$second->query_until(qr/done/, '');
$second->quit;
is($node->safe_psql('postgres', "SET timezone = 'UTC'; SELECT occurred_at::date FROM processed_data.interaction_timeline WHERE id = 'gong_c1'"), '2024-03-03', 'the timeline is ahead of them');
$node->safe_psql('postgres', 'DROP TRIGGER hold ON processed_data.unified_contacts; CALL sophia.refresh()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.verify_refresh(1)'), 0, 'the next run sees to the host');

# ---- indexes of tables that are filled ----

my $tables = 'processed_data.unified_contacts, processed_data.identities, processed_data.identity_links, processed_data.contacts,
	processed_data.interaction_timeline, processed_data.interaction_participants';
my $indexes = "pg_index AS x JOIN pg_class AS c ON c.oid = x.indexrelid WHERE x.indrelid IN (SELECT oid FROM pg_class
	WHERE relnamespace = 'processed_data'::regnamespace AND relkind = 'r')";
my $number = $node->safe_psql('postgres', "SELECT count(*) FROM $indexes");
my $same_after = sub {
	my ($fill) = @_;
	return $node->safe_psql('postgres', <<~SQL);
		CREATE TABLE files AS SELECT x.indexrelid, x.indrelid, c.relfilenode FROM $indexes;
		$fill;
		SELECT string_agg(DISTINCT f.indrelid::regclass::text, ' ' ORDER BY f.indrelid::regclass::text)
		FROM files AS f JOIN pg_class AS c ON c.oid = f.indexrelid AND c.relfilenode = f.relfilenode;
		DROP TABLE files;
		SQL
};
my $usable = "SELECT count(*) FROM $indexes AND x.indisvalid AND x.indisready AND NOT x.indcheckxmin";
my $truncate = "SET client_min_messages = error; TRUNCATE $tables";
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION amcheck;
INSERT INTO hubspot_raw.contacts (id, email, additional_emails, phone, lastname, doc)
	SELECT n, 'p' || n || '@acme.example', ARRAY['q' || n / 2 || '@acme.example'], '+1 415 2000001', 'Lee', '{}' FROM generate_series(1, 500) n;
SQL
$node->safe_psql('postgres', $truncate);
is($same_after->("CALL sophia.refresh('full')"), '', 'a full run into empty tables builds every index anew');
is($node->safe_psql('postgres', $usable), $number, 'and all are in use');
is($node->safe_psql('postgres', "SELECT count(bt_index_check(x.indexrelid, true)) FROM $indexes AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')"),
	$number - 1, 'and hold every row');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.verify_refresh(1)'), 0, 'which are right');
isnt($same_after->("CALL sophia.refresh('full')"), '', 'a full run into tables with rows leaves the indexes alone');
$node->safe_psql('postgres', "BEGIN; $truncate; CALL sophia.refresh('full'); ROLLBACK");
is($node->safe_psql('postgres', $usable), $number, 'after a rollback the indexes are in use');
$node->safe_psql('postgres', "DELETE FROM processed_data.interaction_timeline; DELETE FROM processed_data.interaction_participants");
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM processed_data.interaction_timeline');
like($same_after->("SET lock_timeout = '10s'; CALL sophia.refresh_interaction_timeline('full')"), qr/processed_data\.interaction_timeline/,
	'a table that somebody reads is filled without waiting, its indexes as they are');
$reader->query_safe('COMMIT');
$reader->quit;
is($node->safe_psql('postgres', "BEGIN; $truncate; DECLARE c CURSOR FOR TABLE processed_data.identities; CALL sophia.refresh('full'); COMMIT; $usable"), $number,
	'a cursor on a table is no obstacle either');
$node->safe_psql('postgres', "CREATE ROLE etl; GRANT ALL ON ALL TABLES IN SCHEMA sophia, hubspot_raw, gong_raw, slack_raw, processed_data TO etl;
	GRANT USAGE ON SCHEMA sophia, hubspot_raw, gong_raw, slack_raw, processed_data TO etl; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA sophia TO etl");
isnt($same_after->("$truncate; DROP TABLE files; CREATE TABLE files AS SELECT x.indexrelid, x.indrelid, c.relfilenode FROM $indexes; SET ROLE etl; CALL sophia.refresh('full'); RESET ROLE"), '',
	'who does not own the tables fills them row by row');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.verify_refresh(1)'), 0, 'with the same result');

$node->stop;
done_testing();
