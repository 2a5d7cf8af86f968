# Forgetting a person where one hardly looks: hosts of calls, checks and logs, lists, pairs of raw tables, odd documents.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;

my $node = Sophia::Cluster->create('main');
$node->safe_psql('postgres', 'SELECT count(*) FROM sophia.create_schemas()');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Every table of ours whose rows have texts either has a step of the plan, or stands here with why it holds nobody.
my %holds_nobody = (
	'configuration' => 'endpoints shapes table_columns fields data_schemas data_tables data_indexes field_fills new_fields scheduled_jobs
		quality_rules quality_changes builtin_identifier_kinds identifier_limits survivorship_rules match_rules free_mail_domains lineage_edges
		providers models default_models prompts usage_hours budgets enrichments shipped_enrichments',
	'positions' => 'checkpoints producers consumer_state consumer_sources refresh_full',
	'keys of deleted rows, until consumers have read them (README)' => 'deleted_keys batch_keys',
	'hashes' => 'suppressions suppression_key');
is(sql(qq{SELECT string_agg(DISTINCT c.relname, ' ') FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace::regnamespace::text IN ('sophia', 'processed_data', 'hubspot_raw', 'gong_raw', 'slack_raw')
		AND a.atttypid IN ('text'::regtype, 'text[]'::regtype, 'jsonb'::regtype, 'bytea'::regtype)
		AND c.oid NOT IN (SELECT p.name::regclass FROM sophia.forget_plan AS p)
		AND c.relname <> ALL ('{@{[join ',', map { split } values %holds_nobody]}}')}), '', 'no table is passed over');

# ---- a person in all of them ----

sql(<<'SQL');
INSERT INTO gong_raw.users (id, email, first_name, last_name, doc) VALUES ('7001', 'jürgen@bücher.example', 'Jürgen', 'Groß', '{}');
INSERT INTO gong_raw.calls (id, title, primary_user_id, doc) VALUES
	('1', 'one', '7001', '{"metaData": {"id": "1", "primaryUserId": "7001"}}'), ('2', 'two', '7002', '{"primaryUserId": "7002"}'),
	('3', 'Jürgen Groß calls', '7001', '{"id": "3", "primaryUserId": "7001", "title": "Jürgen Groß calls"}');
INSERT INTO hubspot_raw.contacts (id, email, firstname, lastname, doc) VALUES ('11', 'jürgen@bücher.example', 'Jürgen', 'Groß', '{}'), ('12', 'bo@acme.example', 'Bo', 'Ek', '{}');
INSERT INTO hubspot_raw.engagements (id, engagement_type, contact_ids, body_text, doc) VALUES ('1', 'NOTE', '{12}', 'ask Jürgen@Bücher.example or jürgen@bücher.example.org', '{}');
INSERT INTO slack_raw.users (id, name, email, real_name, doc) VALUES ('UBO', 'bo', 'bo@acme.example', 'Bo Ek', '{}');
INSERT INTO slack_raw.messages (channel, ts, user_id, text, doc) VALUES ('C1', '1.000001', 'UBO', 'hello', '{}');
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, user_id, name, email, doc) VALUES ('3', 'p1', 1, '7001', 'Jürgen Groß', 'jürgen@bücher.example', '{}');
CALL sophia.refresh();
SQL
my $him = sql("SELECT DISTINCT identity_id FROM processed_data.unified_contacts WHERE id IN ('gong_7001', 'hubspot_11')");
like($him, qr/^\d+$/, 'two records are one person');
sql(<<'SQL');
INSERT INTO sophia.quarantine (target, key, rule, value) VALUES ('hubspot_raw.contacts', '{"id": "11"}', 'r', 'jg at home'), ('hubspot_raw.contacts', '{"id": "12"}', 'r', 'bo at home'),
	('gong_raw.call_parties', '{"call_id": "3", "party_id": "p1"}', 'r', 'jg at home');
INSERT INTO sophia.quality_results (target, rule, kind, severity, scope, status, example, message) VALUES
	('gong_raw.users', 'r', 'sql', 'warn', 'table', 'failed', '{"id": "7001"}', 'jg at home'), ('gong_raw.users', 'r', 'sql', 'warn', 'table', 'failed', '{"id": "7002"}', 'x at home');
SELECT sophia.block_value('email', 'jürgen@bücher.example', 'his wish'), sophia.block_value('email', '*@shared.example');
SELECT sophia.add_match_rule('r', 'hubspot_raw.contacts', 'id', '{lastname}', '[{"expr": "lastname", "method": "exact", "levels": [{"at": 1, "weight": 1}]}]', 1);
INSERT INTO sophia.match_pairs (source, key_a, key_b, rule, score, strength, evidence, run) VALUES
	('hubspot_raw.contacts', '11', '12', 'r', 1, 1, '[{"a": "Groß"}]', 1), ('hubspot_raw.contacts', '12', '13', 'r', 1, 1, '[]', 1);
INSERT INTO sophia.match_clusters (source, key, cluster_id) VALUES ('hubspot_raw.contacts', '11', 1), ('hubspot_raw.contacts', '12', 1);
INSERT INTO sophia.skipped_blocks (rule, source, blocking, value, records) VALUES ('r', 'hubspot_raw.contacts', 'lastname', 'JÜRGEN GROSS jürgen groß', 5), ('r', 'hubspot_raw.contacts', 'lastname', 'ek', 5);
INSERT INTO sophia.job_run_records (job, state, error) VALUES ('refresh', 'failed', 'bad value "jürgen@bücher.example"');
INSERT INTO sophia.ai_jobs (role, function, arguments, place, input, priority, max_attempts, state, finished_at) VALUES
	(10, 'sentiment', '[""]', 0, 'mail from jürgen@bücher.example', 0, 1, 'done', now()), (10, 'translate', '["", "", "de"]', 0, 'mail from nobody', 0, 1, 'done', now());
SELECT sophia.create_embeddings();
INSERT INTO sophia.enrichments (name, source_schema, source_table, key, input_expression, function, targets, arguments, role, enabled) VALUES
	('calls', 'gong_raw', 'call_transcripts', '{call_id,seq}', 'text', 'embed_text', '{"embedding": "processed_data.embeddings"}', '[""]', 'postgres', false);
INSERT INTO sophia.enrichment_progress (name, problem) VALUES ('calls', 'what is "jürgen@bücher.example"');
INSERT INTO sophia.enrichment_state (name, key, input_hash) VALUES ('calls', '{"call_id": "3", "seq": 1}', 'x'), ('calls', '{"call_id": "77", "seq": 1}', 'x');
INSERT INTO sophia.enrichment_queue (name, key) VALUES ('calls', '{"call_id": "3", "seq": 2}'), ('calls', '{"call_id": "77", "seq": 2}');
INSERT INTO processed_data.embeddings VALUES ('gong_raw.call_transcripts', '{"call_id": "3", "seq": 1}', 'm', 2, 'x', '{0,1}'),
	('gong_raw.call_transcripts', '{"call_id": "77", "seq": 1}', 'm', 2, 'x', '{0,1}'), ('hubspot_raw.contacts', '{"id": "11"}', 'm', 2, 'x', '{0,1}');
UPDATE sophia.refresh_log SET reason = 'because of jürgen@bücher.example' WHERE id = 1;
INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate) VALUES
	('s', 'j', 1, convert_to('{"note": "from J\u00dcRGEN@b\u00fccher.example"}', 'UTF8'), 'x', '22000'),
	('s', 'j', 2, convert_to('{"note": "from jürgen@bücher.example"}', 'UTF8'), 'x', '22000'),
	('s', 'j', 3, convert_to('no JSON, jürgen@bücher.example', 'UTF8') || '\xff', 'x', '22000'),
	('s', 'j', 4, convert_to('{"metaData": {"id": "9", "primaryUserId": "7001"}, "parties": [{"id": "p", "userId": "7001", "name": "Jürgen"}]}', 'UTF8'), 'x', '22000'),
	('s', 'j', 5, convert_to('{"note": "nobody"}', 'UTF8'), 'invalid input "jürgen@bücher.example"', '22000'),
	('s', 'j', 6, convert_to('{"id": "7002", "note": "nobody \ud83d"}', 'UTF8'), 'x', '22000');
SQL

# Whatever is left of him, as tables.
sub traces
{
	return sql(q{SELECT string_agg(t.name, ' ' ORDER BY 1) FROM (
		SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text IN ('hubspot_raw', 'gong_raw', 'slack_raw', 'processed_data', 'sophia')
			AND c.relname NOT IN ('deleted_keys', 'batch_keys')) t
		WHERE (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s t WHERE to_jsonb(t)::text ~* %L', t.name,
			'jürgen(@bücher.example|@xn--bcher-kva.example)?(?![@a-z.])|jg at home|gong_7001|hubspot_11\M|"7001"|6ac3bc7267656e|4a5c7530306463|6ac3bc7267656e40'), false, true, '')))[1]::text <> '0'});
}
isnt(traces(), '', 'he is found');
my $report = sql("SELECT table_name || ' ' || erased || ' ' || found_again FROM sophia.forget_contact($him) WHERE erased + found_again > 0 ORDER BY 1");
like($report, qr/^\Q$_\E$/m, $_) for 'sophia.quarantine 2 0', 'sophia.quality_results 1 0', 'sophia.blocked_values 1 0', 'sophia.match_pairs 1 0', 'sophia.match_clusters 1 0',
  'sophia.skipped_blocks 1 0', 'sophia.job_run_records 1 0', 'sophia.refresh_log 1 0', 'sophia.dead_letters 5 0', 'gong_raw.calls 2 0', 'hubspot_raw.engagements 1 0';
unlike($report, qr/ [1-9]\d*$/m, 'nothing is found again');
is(traces(), '', 'nor by searching every table');
is(sql('SELECT id, primary_user_id, doc FROM gong_raw.calls ORDER BY id'), qq(1||{"metaData": {"id": "1", "primaryUserId": null}}\n2|7002|{"primaryUserId": "7002"}\n3||{"id": "3", "title": "calls", "primaryUserId": null}),
	'calls stay without their host');
is(sql("SELECT body_text FROM hubspot_raw.engagements"), 'ask  or jürgen@bücher.example.org', 'his address in a note, but no longer one');
is(sql("SELECT string_agg(begin_offset || ' ' || convert_from(document, 'UTF8') || ' ' || reason, E'\n' ORDER BY begin_offset) FROM sophia.dead_letters"), join("\n",
	'1 {"note": "from"} x', '2 {"note": "from"} x', '4 {"parties": [{"id": "p"}], "metaData": {"id": "9", "primaryUserId": null}} x', '5 {"note": "nobody"} invalid input ""', '6 {"id": "7002", "note": "nobody \ud83d"} x'),
	'dead letters of others');

# ---- later captures ----

sql(<<'SQL');
INSERT INTO gong_raw.calls (id, primary_user_id, doc) VALUES ('4', '7001', '{"metaData": {"primaryUserId": "7001"}, "primaryUserId": "7001"}'), ('5', '7002', '{"primaryUserId": "7002"}');
UPDATE gong_raw.calls SET primary_user_id = '7001', doc = '{"id": "1", "primaryUserId": "7001"}' WHERE id = '1';
INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate) VALUES
	('s', 'j', 7, convert_to('{"note": "from j\u00fcrgen@b\u00fccher.example"}', 'UTF8'), 'x', '22000'),
	('s', 'j', 8, convert_to('{"metaData": {"id": "9", "primaryUserId": "7001"}, "parties": [{"id": "p", "userId": "7001", "name": "Jürgen"}]}', 'UTF8'), 'x', '22000');
SQL
is(sql("SELECT id, coalesce(primary_user_id, '-'), doc FROM gong_raw.calls WHERE id IN ('1', '4', '5') ORDER BY id"), join("\n",
	'1|-|{"id": "1", "primaryUserId": null}', '4|-|{"metaData": {"primaryUserId": null}, "primaryUserId": null}', '5|7002|{"primaryUserId": "7002"}'), 'a host who is forgotten stays out');
is(sql("SELECT string_agg(convert_from(document, 'UTF8'), E'\n' ORDER BY begin_offset) FROM sophia.dead_letters WHERE begin_offset > 6"),
	qq({"note": "from"}\n{"parties": [{"id": "p"}], "metaData": {"id": "9", "primaryUserId": null}}), 'dead letters, too');
is(traces(), '', 'and nothing of him came back');

# ---- reading bytes ----

is(sql(<<'SQL'), 'a\\\\u00fc ü 😀 \ud83d \u0000 \u12???b', 'a document as text');
SELECT sophia.document_text('a\\\\u00fc \\u00fc \\ud83d\\ude00 \\ud83d \\u0000 \\u12'::bytea || '\xff00c3'::bytea || 'b'::bytea);
SQL
is(sql(q{SELECT sophia.forget_needles(ARRAY['Ann.Lee@x.example', 'jürgen@x.example', '+49 30 901820', ''])}), "901820\nAnn.Lee\@x.example\nrgen\@x.example", 'needles');
is(sql(q{SELECT sophia.forget_needles('{é}')}), '', 'a needle for what is not ASCII');
is(sql(q{SELECT sophia.may_name('(1,ANN@x.example)', E'bo@\nann@X'), sophia.may_name('(1,an)', E'bo@\nann@X'), sophia.may_name('any', E'bo@\n'), sophia.may_name('', ''), sophia.may_name('ann', NULL)}), 't|f|t|t|', 'and how they are looked for');
$node->stop;
done_testing();
