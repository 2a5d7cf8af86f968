# Data quality in refreshes: rows are left out, come back when they are corrected, and a rule can stop a refresh.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $node = Sophia::Cluster->create('quality');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub refresh { return sql('CALL sophia.refresh(' . join(', ', map { "'$_'" } @_) . ')') }

sub contacts { return sql("SELECT string_agg(id, ',' ORDER BY id) FROM processed_data.unified_contacts") }

sub interactions { return sql("SELECT string_agg(id, ',' ORDER BY id) FROM processed_data.interaction_timeline") }

# A full refresh, which computes everything anew, finds nothing to write.
sub verified
{
	my ($what) = @_;
	my $last = sql('SELECT max(id) FROM sophia.refresh_log');
	refresh('full');
	is(sql("SELECT sum(rows_inserted + rows_updated + rows_deleted) FROM sophia.refresh_log WHERE id > $last"), 0, "$what: as a full refresh has it");
}

sql(<<'SQL');
SELECT sophia.create_schemas();
INSERT INTO hubspot_raw.companies (id, name, doc) VALUES ('9', 'Acme', '{}');
INSERT INTO hubspot_raw.contacts (id, email, associated_company_id, doc) VALUES
  ('1', 'ann@x.example', '9', '{}'), ('2', 'bad', '9', '{}'), ('3', NULL, '10', '{}');
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, from_email, contact_ids, doc) VALUES
  ('50', 'NOTE', '2024-01-01', NULL, '{1,2}', '{}'), ('51', 'SPAM', '2024-01-02', NULL, '{1}', '{}');
INSERT INTO gong_raw.calls (id, started, doc) VALUES ('7', '2024-01-01', '{}');
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, email, email_norm, name, doc) VALUES
  ('7', 'p1', 1, 'bo@y.example', 'bo@y.example', 'Bo', '{}'), ('7', 'p2', 2, 'eve@y.example', 'eve@y.example', 'Eve', '{}');
INSERT INTO slack_raw.users (id, real_name, email, doc) VALUES ('U1', 'Cy', 'cy@own.example', '{}'), ('U2', 'Di', 'di@own.example', '{}');
INSERT INTO slack_raw.channels (id, name, doc) VALUES ('C1', 'general', '{}');
INSERT INTO slack_raw.messages (channel, ts, user_id, text, sent_at, doc) VALUES ('C1', '1.1', 'U1', 'hi', '2024-01-01', '{}'),
  ('C1', '1.2', 'U2', 'buy now', '2024-01-02', '{}');
SQL
refresh();
my $all_contacts = contacts();
my $all_interactions = interactions();
is($all_contacts, 'gong_bo@y.example,gong_eve@y.example,hubspot_1,hubspot_2,hubspot_3,slack_U1,slack_U2', 'without rules everybody is there');

# ---- left out, corrected, readmitted ----

sql(<<'SQL');
SELECT sophia.add_quality_rule('hubspot_raw.contacts', 'address', 'regex', 'quarantine', '{email}', '{"pattern": "@"}');
SELECT sophia.add_quality_rule('hubspot_raw.engagements', 'type', 'accepted', 'quarantine', '{engagement_type}', '{"values": ["NOTE"]}');
SELECT sophia.add_quality_rule('gong_raw.call_parties', 'who', 'sql', 'quarantine', '{name}', '{"check": "name <> ''Eve''"}');
SELECT sophia.add_quality_rule('slack_raw.users', 'who', 'accepted', 'quarantine', '{real_name}', '{"values": ["Cy"]}');
SELECT sophia.add_quality_rule('slack_raw.messages', 'what', 'regex', 'quarantine', '{text}', '{"pattern": "^h"}');
SQL
my $left_contacts = 'gong_bo@y.example,hubspot_1,hubspot_3,slack_U1';
refresh('full');
is(contacts(), $left_contacts, 'a full refresh leaves out who is quarantined');
is(interactions(), 'gong_7,hubspot_50,slack_C1_1.1', 'and what');
is(sql("SELECT string_agg(target || ' ' || value, ', ' ORDER BY target::text) FROM sophia.quarantine WHERE resolved_at IS NULL"),
	'gong_raw.call_parties Eve, hubspot_raw.contacts bad, hubspot_raw.engagements SPAM, slack_raw.messages buy now, slack_raw.users Di',
	'the quarantine says why');
is(sql("SELECT count(*) FROM processed_data.interaction_participants WHERE contact_id = 'hubspot_2' OR name = 'Eve'"), 0, 'nobody of them takes part in anything');
verified('quarantined');

sql(<<'SQL');
UPDATE hubspot_raw.contacts SET email = 'good@x.example' WHERE id = '2';
UPDATE hubspot_raw.engagements SET engagement_type = 'NOTE' WHERE id = '51';
UPDATE gong_raw.call_parties SET name = 'Eva' WHERE party_id = 'p2';
UPDATE slack_raw.users SET real_name = 'Cy' WHERE id = 'U2';
UPDATE slack_raw.messages SET text = 'hello' WHERE ts = '1.2';
SQL
refresh();
is(contacts(), $all_contacts, 'who was corrected is there again after an incremental refresh');
is(interactions(), $all_interactions, 'so is what was corrected');
is(sql('SELECT count(*), count(resolved_at), bool_and(last_seen_at < resolved_at) FROM sophia.quarantine'), '5|5|t', 'the quarantine knows until when');
verified('readmitted');

sql("UPDATE hubspot_raw.contacts SET email = 'worse' WHERE id = '1'; UPDATE slack_raw.messages SET text = 'bad' WHERE ts = '1.1'");
refresh();
is(contacts(), 'gong_bo@y.example,gong_eve@y.example,hubspot_2,hubspot_3,slack_U1,slack_U2', 'an incremental refresh leaves out what has become bad');
is(interactions(), 'gong_7,hubspot_50,hubspot_51,slack_C1_1.2', 'messages, too');
verified('quarantined by an incremental refresh');
sql("SELECT sophia.drop_quality_rule('hubspot_raw.contacts', 'address'); SELECT sophia.alter_quality_rule('slack_raw.messages', 'what', 'warn')");
refresh();
is(contacts(), $all_contacts, 'a rule that is dropped lets go');
is(interactions(), $all_interactions, 'and one that only warns');
verified('let go');

# ---- rows that depend on others ----

sql("SELECT sophia.add_quality_rule('hubspot_raw.contacts', 'company', 'reference', 'quarantine', '{associated_company_id}', '{\"table\": \"hubspot_raw.companies\"}');
	SELECT sophia.check_quality('hubspot_raw.contacts')");
refresh();
is(contacts() =~ /hubspot_3/ ? 1 : 0, 0, 'check_quality quarantines, too, and the next refresh leaves out');
sql("INSERT INTO hubspot_raw.companies (id, name, doc) VALUES ('10', 'Late', '{}')");
refresh();
is(contacts(), $all_contacts, 'when what a row refers to arrives, the row is readmitted although it did not change');
verified('referring');

# ---- a rule that stops a refresh ----

sql("SELECT sophia.add_quality_rule('hubspot_raw.contacts', 'no spam', 'regex', 'fail', '{email}', '{\"pattern\": \"^(?!spam)\"}')");
my $before = sql('SELECT md5(string_agg(u::text, chr(10) ORDER BY id)) FROM processed_data.unified_contacts AS u');
my $runs = sql('SELECT count(*) FROM sophia.refresh_log');
sql("UPDATE hubspot_raw.contacts SET email = 'spam\@x.example' WHERE id = '1'; UPDATE hubspot_raw.contacts SET email = 'new\@x.example' WHERE id = '2'");
my ($rc, undef, $err) = $node->psql('postgres', '\set VERBOSITY verbose' . "\nCALL sophia.refresh()");
like($err, qr/23514: quality rule "no spam" of hubspot_raw.contacts fails for 1 row, for example \{"id": "1"\}/, 'it names rule, table, number and an example');
is(sql('SELECT md5(string_agg(u::text, chr(10) ORDER BY id)) FROM processed_data.unified_contacts AS u'), $before, 'the last good result stays');
is(sql('SELECT count(*) FROM sophia.refresh_log'), $runs, 'nothing of the refresh does');
($rc, undef, $err) = $node->psql('postgres', "CALL sophia.refresh('full')");
like($err, qr/quality rule "no spam"/, 'a full refresh does the same');
is(sql("SELECT status, rows_failed FROM sophia.check_quality('hubspot_raw.contacts') WHERE rule = 'no spam'"), 'failed|1', 'check_quality records it');
is(sql("SELECT status, rows_failed FROM sophia.quality_status WHERE rule = 'no spam'"), 'failed|1', 'and the status shows it');
sql("UPDATE hubspot_raw.contacts SET email = 'ann\@x.example' WHERE id = '1'");
refresh();
is(sql("SELECT email FROM processed_data.unified_contacts WHERE id = 'hubspot_2'"), 'new@x.example', 'once it is corrected, everything follows');
sql("SELECT sophia.drop_quality_rule('hubspot_raw.contacts', 'no spam')");
sql("SELECT sophia.add_quality_rule('hubspot_raw.contacts', 'has a job', 'not_null', 'fail', '{jobtitle}', filter => 'id = ''1'''); UPDATE hubspot_raw.contacts SET lastname = 'Lee' WHERE id = '1'");
($rc, undef, $err) = $node->psql('postgres', 'CALL sophia.refresh()');
like($err, qr/DETAIL:  There is no value\./, 'a value that is missing is not shown as one');
sql("SELECT sophia.drop_quality_rule('hubspot_raw.contacts', 'has a job')");
sql("SELECT sophia.add_quality_rule('processed_data.unified_contacts', 'one address', 'unique', 'fail', '{email_norm}');
	UPDATE hubspot_raw.contacts SET email = 'ann\@x.example' WHERE id = '2'");
($rc, undef, $err) = $node->psql('postgres', 'CALL sophia.refresh()');
like($err, qr/quality rule "one address" of processed_data.unified_contacts fails for 2 rows/, 'a rule of a processed table stops a refresh, too');
sql("SELECT sophia.drop_quality_rule('processed_data.unified_contacts', 'one address')");
refresh();
verified('after all');

# ---- many rows ----

sql("INSERT INTO hubspot_raw.contacts (id, email, doc) SELECT 'x' || i, CASE WHEN i % 100 = 0 THEN 'none' ELSE i || '\@z.example' END, '{}' FROM generate_series(1, 100000) AS i;
	SELECT sophia.add_quality_rule('hubspot_raw.contacts', 'address', 'regex', 'quarantine', '{email}', '{\"pattern\": \"\@\"}');
	SELECT sophia.add_quality_rule('hubspot_raw.contacts', 'one', 'unique', 'warn', '{email}')");
my $began = time;
is(sql("SELECT rows_tested, rows_failed FROM sophia.check_quality('hubspot_raw.contacts') WHERE rule = 'address'"), '100003|1000', '100,000 rows are checked');
my $seconds = time - $began;
cmp_ok($seconds, '<', 30, sprintf 'in %.1f s', $seconds);
refresh();
is(sql("SELECT count(*) FROM processed_data.unified_contacts WHERE source_id LIKE 'x%'"), 99000, 'those that failed are left out');
verified('many');

# ---- dump and restore ----

sql("SELECT sophia.alter_quality_rule('hubspot_raw.deals', 'named', 'fail')");
my $rules = "SELECT target, rule, kind, severity, columns, args, filter, enabled, builtin FROM sophia.current_quality_rules ORDER BY target::text, rule";
my $expected = sql($rules);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'dumped');
sql('CREATE DATABASE other');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('other'), $dump ], 'restored');
is($node->safe_psql('other', $rules), $expected, 'rules are dumped, and what was altered in those that the extension brings');
$node->safe_psql('other', 'CALL sophia.refresh()');
is($node->safe_psql('other', 'SELECT count(*) FROM sophia.quarantine WHERE resolved_at IS NULL'), 1000, 'the quarantine is made anew');
is($node->safe_psql('other', "SELECT count(*) FROM processed_data.unified_contacts WHERE source_id LIKE 'x%'"), 99000, 'and kept');

$node->stop;
done_testing();
