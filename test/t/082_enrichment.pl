# Enrichments: columns that AI functions fill for rows that are new or have changed.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Provider;
use Test::More;

my $provider = Sophia::Provider->new;
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# What a statement says on standard error.
sub error_of
{
	my (undef, undef, $error) = $node->psql('postgres', $_[0], extra_params => ['-v', 'VERBOSITY=verbose']);
	return $error;
}

# Waits until a query gives true.
sub await
{
	my ($query, $name) = @_;
	ok($node->poll_query_until('postgres', $query), $name);
}

# How many requests held a text.
sub asked { my $text = shift; return scalar grep { index($_->{text} // '', $text) >= 0 } $provider->requests }

$node->wait_for_worker('gateway');
sql(<<"SQL");
SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}', NULL, '{"attempts": 1}');
SELECT sophia.create_model('chat', 'llm', 'tiny', '{"price": {"in": 1000, "out": 2000}}');
SELECT sophia.create_model('chat2', 'llm', 'tiny');
SELECT sophia.create_model('vectors', 'llm', 'embed-8');
SELECT sophia.set_default_model('complete', 'chat');
SELECT sophia.set_default_model('embed_text', 'vectors');
SELECT FROM sophia.create_schemas('{gong,slack}');
CREATE ROLE ann LOGIN;
GRANT USAGE ON SCHEMA sophia TO ann;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sophia TO ann;
GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA sophia TO ann;
GRANT CREATE ON SCHEMA public TO ann;
SET ROLE ann;
CREATE TABLE notes (id int PRIMARY KEY, note text, score real, label text, model text, other int, hidden boolean DEFAULT false);
INSERT INTO notes (id, note) SELECT n, 'old ' || n || ' #answer={"score": 0.5}' FROM generate_series(1, 10) AS n;
SELECT sophia.create_enrichment('notes', 'notes', '{id}', 'note', 'sentiment', '{"score": "score", "label": "label", "model": "model"}', 'NOT hidden');
SQL

# ---- a table with a trigger ----

is(sql("SELECT name, source, function, model, role, state, pending, dead, written, backfill FROM sophia.enrichment_status WHERE role IS NOT NULL"),
	'notes|public.notes|sentiment||ann|active|0|0|0|', 'an enrichment is created');
sql(q{SET ROLE ann; INSERT INTO notes (id, note) VALUES (11, 'good #answer={"score": 0.9}'), (12, 'bad #answer={"score": -0.9}'), (13, 'so so #answer={"score": 0.1}'), (14, NULL), (15, '  '); INSERT INTO notes (id, note, hidden) VALUES (16, 'unseen', true)});
await('SELECT count(*) = 3 FROM notes WHERE score IS NOT NULL', 'new rows are filled');
is(sql('SELECT id, score, label, model FROM notes WHERE score IS NOT NULL ORDER BY id'), "11|0.9|positive|chat\n12|-0.9|negative|chat\n13|0.1|neutral|chat", 'with score, label by thresholds, and model');
is(asked('good '), 1, 'one call gives all of them');
await('SELECT pending = 0 AND written = 3 FROM sophia.enrichment_status WHERE name = \'notes\'', 'then there is nothing left');
is(sql('SELECT count(*) FROM notes WHERE id IN (14, 15, 16) AND score IS NULL'), 3, 'empty and unwanted rows are left alone');
is(asked('good '), 1, 'its own writes do not make a row due');
is(sql("SELECT role, function, calls FROM sophia.ai_usage"), 'ann|sentiment|3', 'its role is billed');
is(sql("SELECT count(*) FROM sophia.enrichment_state WHERE name = 'notes' AND input_hash ~ '^[0-9a-f]{64}\$' AND model = 'chat' AND prompt_version IS NOT NULL"), 3, 'the state says what was written by what');

sql('SET ROLE ann; UPDATE notes SET other = 1 WHERE id > 10');
await('SELECT pending = 0 FROM sophia.enrichment_status WHERE name = \'notes\'', 'other columns');
is(asked('good '), 1, 'do not make a row due');
sql(q{SET ROLE ann; UPDATE notes SET note = 'better #answer={"score": 1}' WHERE id = 11});
await('SELECT score = 1 FROM notes WHERE id = 11', 'a changed text is scored again');
sql("SELECT sophia.set_prompt('sentiment', 'Another prompt. Answer in JSON.')");
sql('SET ROLE ann; UPDATE notes SET other = 2 WHERE id = 12');
await(q{SELECT prompt_version >= 1000 FROM sophia.enrichment_state WHERE key = '{"id": 12}'}, 'another version of the prompt makes it due');
sql('SET ROLE ann; DELETE FROM notes WHERE id = 13');
await(q{SELECT count(*) = 0 FROM sophia.enrichment_state WHERE key = '{"id": 13}'}, 'a deleted row leaves nothing');

# ---- conditional write ----

sql(q{SET ROLE ann; INSERT INTO notes (id, note) VALUES (20, 'first #delay=1500 #answer={"score": -1}')});
for (1 .. 100) { last if asked('first '); select undef, undef, undef, 0.05 }
sql(q{SET ROLE ann; UPDATE notes SET note = 'second #answer={"score": 1}' WHERE id = 20});
sql('CREATE TABLE seen (score real); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.score); RETURN NULL; END $$;'
	. ' GRANT ALL ON seen TO ann; CREATE TRIGGER see AFTER UPDATE OF score ON notes FOR EACH ROW EXECUTE FUNCTION see()');
await('SELECT score = 1 FROM notes WHERE id = 20', 'a row that changes while it is asked for is asked for again');
is(sql('SELECT count(*) FROM seen WHERE score = -1'), 0, 'and the first answer is never written');

# ---- errors ----

sql(q{SET ROLE ann; INSERT INTO notes (id, note) VALUES (30, 'wrong #status=400'), (31, 'passes #status=500 #times=1 #answer={"score": 0}')});
await('SELECT score = 0 FROM notes WHERE id = 31', 'a failure that passes is tried again');
await("SELECT count(*) = 1 FROM sophia.enrichment_errors", 'another one is not');
is(sql('SELECT name, key, attempts, is_dead, error_code, error LIKE \'%wrong%\' FROM sophia.enrichment_errors'), 'notes|{"id": 30}|1|t|22023|t', 'it is a dead letter');
is(sql("SELECT dead, failed >= 2, state FROM sophia.enrichment_status WHERE name = 'notes'"), '1|t|active', 'the status counts it');
is(sql("SET ROLE ann; SELECT sophia.retry_enrichment('notes')"), 1, 'it can be tried again');
await("SELECT count(*) = 1 FROM sophia.enrichment_errors WHERE is_dead", 'and fails again');
sql(q{SET ROLE ann; UPDATE notes SET note = 'right #answer={"score": 0.7}' WHERE id = 30});
await('SELECT score = real \'0.7\' FROM notes WHERE id = 30', 'a row that is put right');
await("SELECT count(*) = 0 FROM sophia.enrichment_errors", 'is no dead letter any more');

# ---- pause, limit, backfill ----

sql("SET ROLE ann; SELECT sophia.pause_enrichment('notes')");
sql(q{SET ROLE ann; INSERT INTO notes (id, note) VALUES (40, 'paused #answer={"score": 0}')});
like(error_of("CALL sophia.backfill_enrichment('notes')"), qr/ERROR:  55000: enrichment "notes" is paused/, 'a paused one is not filled');
is(asked('paused '), 0, 'and asks nothing');
is(sql("SELECT state, pending FROM sophia.enrichment_status WHERE name = 'notes'"), 'paused|1', 'but notes what changes');
sql("SET ROLE ann; SELECT sophia.resume_enrichment('notes')");
await('SELECT score = 0 FROM notes WHERE id = 40', 'resumed, it goes on');
is(sql('SELECT count(*) FROM notes WHERE id <= 10 AND score IS NOT NULL'), 0, 'what was there before is not touched');
sql("SET ROLE ann; CALL sophia.backfill_enrichment('notes')");
is(sql('SELECT count(*) FROM notes WHERE id <= 10 AND score = 0.5'), 10, 'but by a backfill, which returns when all is done');
is(sql("SELECT backfill, pending FROM sophia.enrichment_status WHERE name = 'notes'"), 'done|0', 'as the status says');
my $before = $provider->requests;
sql("SET ROLE ann; CALL sophia.backfill_enrichment('notes')");
is(scalar($provider->requests), $before, 'another one finds nothing due');
like(error_of("BEGIN; CALL sophia.backfill_enrichment('notes')"), qr/ERROR:  2D000: invalid transaction termination/, 'it commits as it goes');
sql("SET ROLE ann; SELECT sophia.limit_enrichment('notes', 60); UPDATE notes SET note = 'limited ' || id || ' #answer={\"score\": 0}' WHERE id <= 3");
await("SELECT count(*) = 3 FROM notes WHERE score = 0 AND id <= 3", 'a limited one');
is(sql("SELECT next_at > clock_timestamp() + interval '1 second' FROM sophia.enrichment_progress WHERE name = 'notes'"), 't', 'waits before it goes on');
sql("SET ROLE ann; SELECT sophia.limit_enrichment('notes', NULL)");
like(error_of("SELECT sophia.limit_enrichment('notes', 0)"), qr/ERROR:  22023: /, 'no limit of none');

# ---- an expression that fails ----

sql("SET ROLE ann; CREATE TABLE shares (a int, b int, share text, PRIMARY KEY (a, b)); SELECT sophia.create_enrichment('shares', 'shares', '{a,b}', '(a / b) || '' parts''', 'complete', '{\"value\": \"share\"}', model => 'chat')");
sql('SET ROLE ann; INSERT INTO shares VALUES (4, 2), (1, 0), (9, 3)');
await("SELECT count(*) = 2 FROM shares WHERE share = 'echo: ' || (a / nullif(b, 0)) || ' parts'", 'rows whose expression works are filled');
is(sql('SELECT key, is_dead, error_code FROM sophia.enrichment_errors'), '{"a": 1, "b": 0}|t|22012', 'the one where it fails is a dead letter');
sql("SET ROLE ann; ALTER TABLE shares ADD CHECK (length(share) < 30); INSERT INTO shares VALUES (1000000000, 1, NULL), (6, 2, NULL)");
sql("SET ROLE ann; UPDATE shares SET share = NULL WHERE a = 4");
await("SELECT count(*) = 4 FROM shares WHERE share IS NOT NULL", 'an emptied target is filled again');
sql("SET ROLE ann; ALTER TABLE shares ADD CHECK (share <> 'echo: 7 parts'); INSERT INTO shares VALUES (7, 1, NULL), (8, 1, NULL)");
await("SELECT share = 'echo: 8 parts' FROM shares WHERE a = 8", 'a result that cannot be written');
is(sql(q{SELECT key, is_dead, error_code FROM sophia.enrichment_errors WHERE key @> '{"a": 7}'}), '{"a": 7, "b": 1}|t|23514', 'does not hold up others');
sql("SET ROLE ann; ALTER TABLE shares RENAME COLUMN b TO c; INSERT INTO shares VALUES (5, 1, NULL)");
await("SELECT state = 'failing' AND problem LIKE '%t.b%' FROM sophia.enrichment_status WHERE name = 'shares'", 'one that cannot go on says why');
sql("SET ROLE ann; SELECT sophia.drop_enrichment('shares')");
is(sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shares'::regclass AND NOT tgisinternal"), 0, 'dropped, it leaves no trigger');

# ---- refused ----

for (
	["'notes', 'notes', '{id}', 'note', 'sentiment', '{\"score\": \"score\"}'", '42710', 'already exists'],
	["'x', 'notes', '{no}', 'note', 'sentiment', '{\"score\": \"score\"}'", '42703', 'column "no" of notes does not exist'],
	["'x', 'notes', '{id}', 'no', 'sentiment', '{\"score\": \"score\"}'", '42703', 'column "no" does not exist'],
	["'x', 'notes', '{id}', 'note', 'no', '{\"score\": \"score\"}'", '42883', 'no AI function "no"'],
	["'x', 'notes', '{id}', 'note', 'translate', '{\"value\": \"label\"}'", '42883', 'does not take such arguments'],
	["'x', 'notes', '{id}', 'note', 'sentiment', '{\"score\": \"no\"}'", '42703', 'column "no" of notes does not exist'],
	["'x', 'notes', '{id}', 'note', 'sentiment', '{\"no\": \"score\"}'", '22023', 'unknown part "no"'],
	["'x', 'notes', '{id}', 'note', 'sentiment', '{}'", '22023', 'targets must be'],
	["'x', 'notes', '{id}', 'note', 'sentiment', '{\"score\": \"score\"}', 'id + 1'", '42804', 'boolean'],
	["'x', 'notes', '{id}', 'note', 'sentiment', '{\"score\": \"score\"}', model => 'no'", '42704', 'model "no" does not exist'],
	["'x', 'notes', '{id}', NULL, 'sentiment', '{\"score\": \"score\"}'", '22004', 'must not be null'],
	["'', 'notes', '{id}', 'note', 'sentiment', '{\"score\": \"score\"}'", '22023', 'the name of an enrichment'])
{
	my ($arguments, $code, $message) = @$_;
	my $error = error_of("SELECT sophia.create_enrichment($arguments)");
	like($error, qr/ERROR:  $code: /, "refused: $arguments") or next;
	like($error, qr/$message/, 'for its reason') if $message !~ /"/;
}
sql('GRANT USAGE ON SCHEMA gong_raw TO ann');
like(error_of("SET ROLE ann; SELECT sophia.create_enrichment('x', 'gong_raw.calls', '{id}', 'title', 'sentiment', '{\"score\": \"title\"}')"), qr/ERROR:  42501: must be owner of/, 'only the owner of a table has it filled');
like(error_of("SELECT sophia.$_('no')"), qr/ERROR:  42704: enrichment "no" does not exist/, "$_ of none") for qw(pause_enrichment resume_enrichment drop_enrichment retry_enrichment);

like(error_of("SET ROLE ann; SELECT sophia.write_as(10, 'SELECT \$1', '{}')"), qr/ERROR:  42501: only a superuser may write as another role/, 'nobody writes as somebody else');

# ---- the shipped ones ----

is(sql("SELECT string_agg(name, ',' ORDER BY name) FROM sophia.enrichment_status WHERE state = 'off'"),
	'call_summaries,message_embeddings,message_sentiment,transcript_embeddings,transcript_sentiment', 'the shipped ones are off');
sql("SELECT sophia.resume_enrichment(name) FROM sophia.enrichment_status WHERE state = 'off'");
is(sql("SELECT count(*) FROM sophia.enrichment_status WHERE state = 'active'"), 6, 'until they are enabled');
is(sql("SELECT count(*) FROM sophia.consumers WHERE consumer LIKE 'enrichment %'"), 4, 'raw tables have exact cursors');
sql(<<'SQL');
INSERT INTO gong_raw.call_transcripts (call_id, seq, speaker_id, text, doc) VALUES ('c1', 1, 's', 'hello #answer={"score": 0.8}', '{}'), ('c1', 2, 's', 'bye #answer={"score": -0.8}', '{}');
INSERT INTO slack_raw.messages (channel, ts, user_id, text, doc) VALUES ('C1', '1.1', 'U1', 'message #answer={"score": 0.8}', '{}');
INSERT INTO processed_data.interaction_timeline (id, source_system, source_id, interaction_type, body) VALUES ('gong_c1', 'gong', 'c1', 'call', 'a long call'), ('slack_1', 'slack', 'C1_1.1', 'message', 'no call');
SQL
await('SELECT count(*) = 2 FROM gong_raw.call_transcripts WHERE sentiment_score IS NOT NULL', 'transcripts are scored');
is(sql('SELECT seq, sentiment, sentiment_score, sentiment_model FROM gong_raw.call_transcripts ORDER BY seq'), "1|positive|0.8|chat\n2|negative|-0.8|chat", 'in their columns');
await("SELECT sentiment = 'positive' AND sentiment_score = real '0.8' AND sentiment_model = 'chat' FROM slack_raw.messages", 'and messages');
await("SELECT summary = 'echo: a long call' FROM processed_data.interaction_timeline WHERE id = 'gong_c1'", 'calls are summed up');
is(sql("SELECT summary IS NULL FROM processed_data.interaction_timeline WHERE id = 'slack_1'"), 't', 'nothing else is');
await('SELECT count(*) = 3 FROM processed_data.embeddings', 'embeddings are kept');
is(sql("SELECT source_table, source_key, model, dimensions, cardinality(embedding), length(input_hash) FROM processed_data.embeddings ORDER BY 1, 2"),
	qq(gong_raw.call_transcripts|{"seq": 1, "call_id": "c1"}|vectors|8|8|64\ngong_raw.call_transcripts|{"seq": 2, "call_id": "c1"}|vectors|8|8|64\nslack_raw.messages|{"ts": "1.1", "channel": "C1"}|vectors|8|8|64), 'with table, key, model and dimensions');
is(sql("SELECT embedding = sophia.embed_text('bye #answer={\"score\": -0.8}') FROM processed_data.embeddings WHERE source_key @> '{\"seq\": 2}'"), 't', 'and are those of the text');
sql("DELETE FROM gong_raw.call_transcripts WHERE seq = 2");
sql("UPDATE slack_raw.messages SET is_deleted = true");
await('SELECT count(*) = 1 FROM processed_data.embeddings', 'deleted rows lose theirs');
await("SELECT sum(pending) = 0 FROM sophia.enrichment_status", 'all is done');
my $embeds = grep { $_->{path} =~ /embeddings/ } $provider->requests;
sql('UPDATE gong_raw.call_transcripts SET topic = \'x\'');
await("SELECT count(*) > 0 FROM sophia.consumers WHERE consumer LIKE 'enrichment transcript%' AND committed_at > now() - interval '5 seconds'", 'a cursor goes on');

# ---- restart, dump, drop ----

sql(q{SET ROLE ann; UPDATE notes SET note = 'restart ' || id || ' #delay=1000 #answer={"score": 0.25}'});
for (1 .. 100) { last if asked('restart '); select undef, undef, undef, 0.05 }
$node->stop('immediate');
$node->start;
$node->wait_for_worker('gateway');
await("SELECT count(*) = 0 FROM notes WHERE NOT hidden AND score IS DISTINCT FROM 0.25", 'enrichments go on after a crash');
my $dump = $node->basedir . '/dump';
$node->command_ok(['pg_dump', '-f', $dump, $node->connstr('postgres')], 'the database is dumped');
sql('CREATE DATABASE restored');
$node->command_ok(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored')], 'and restored');
is($node->safe_psql('restored', "SELECT count(*) FROM sophia.enrichment_status WHERE state = 'active'"), 6, 'with its enrichments');
is($node->safe_psql('restored', 'SELECT count(*) FROM sophia.enrichment_state'), sql('SELECT count(*) FROM sophia.enrichment_state'), 'and what they have done');
sql("SELECT sophia.drop_enrichment(name) FROM sophia.enrichment_status WHERE state = 'active'");
is(sql("SELECT count(*) FROM sophia.consumers WHERE consumer LIKE 'enrichment %'"), 0, 'dropped, they leave no consumer');
sql("SELECT sophia.resume_enrichment('message_sentiment'); SELECT sophia.resume_enrichment('call_summaries')");
sql('DROP EXTENSION sophia_stack');
is(sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'sophia_enrichment%'"), 0, 'the extension takes its triggers along');

$node->stop;
done_testing();
