# The AI queue: jobs that sessions submit and the jobs worker runs, results, cancels, retries, restarts; and ai_map.
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

$node->wait_for_worker('gateway');
sql(<<"SQL");
SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}', NULL, '{"attempts": 1}');
SELECT sophia.create_model('chat', 'llm', 'tiny', '{"price": {"in": 1000, "out": 2000}}');
SELECT sophia.create_model('vectors', 'llm', 'embed-8');
SELECT sophia.set_default_model('complete', 'chat');
CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE nobody LOGIN;
GRANT USAGE ON SCHEMA sophia TO ann, bob, nobody;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sophia TO ann, bob;
GRANT EXECUTE ON FUNCTION sophia.submit, sophia.result TO nobody;
GRANT SELECT ON sophia.ai_queue TO ann, bob;
SQL

# ---- a job ----

my $id = sql("SET ROLE ann; SELECT sophia.submit('complete', '[\"hello\"]')");
is(sql("SELECT value, error_code, provider, model, cached, ord FROM sophia.result($id, '30s')"), '"echo: hello"||llm|chat|f|1', 'a job is run');
is(sql("SELECT role, function, state, attempts, model, finished_at >= submitted_at FROM sophia.ai_queue"), 'ann|complete|done|1|chat|t', 'and in the queue with its role');
is(sql("SELECT role, function, calls, cost > 0 FROM sophia.ai_usage"), 'ann|complete|1|t', 'its role is billed');
is(sql("SET ROLE bob; SELECT count(*) FROM sophia.ai_queue"), 0, 'others do not see it');
like(error_of("SET ROLE bob; SELECT sophia.result($id)"), qr/ERROR:  42704: AI job $id does not exist/, 'nor its result');
like(error_of("SET ROLE bob; SELECT sophia.cancel($id)"), qr/ERROR:  42704: /, 'nor can they cancel it');
is(sql("SET ROLE ann; SELECT sophia.cancel($id)"), 'f', 'a cancel comes too late');
like(error_of('SELECT sophia.result(4711)'), qr/ERROR:  42704: /, 'a job that does not exist');

like(error_of("BEGIN; SELECT sophia.result(sophia.submit('complete', '[\"hello\"]'))"), qr/ERROR:  55000: AI job \d+ was submitted in this transaction/, 'a job is not run before it is committed');
is(sql('SELECT count(*) FROM sophia.ai_jobs'), 1, 'and not if it never is');

# It sees the result although the snapshot of the transaction does not.
is( sql(<<'SQL'), '"echo: later #delay=1500"', 'a result is seen under REPEATABLE READ');
CREATE TABLE job AS SELECT sophia.submit('complete', '["later #delay=1500"]') AS id;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT FROM job WHERE false;
SELECT (sophia.result(id, '30s')).value FROM job;
COMMIT;
SQL
my $slow = sql("SELECT sophia.submit('complete', '[\"slow #delay=3000\"]')");
is(sql("SELECT sophia.result($slow, '10ms') IS NULL"), 't', 'NULL while it is not finished');
is(sql("SELECT (sophia.result($slow, '30s')).value"), '"echo: slow #delay=3000"', 'then its value');

# ---- every function ----

my %calls = (
	'complete:["chat","hi"]' => '"echo: hi"',
	'complete:["chat","hi",{"temperature":0}]' => '"echo: hi"',
	'complete:["chat",[{"role":"user","content":"message"}]]' => '"echo: message"',
	'complete_json:["hi",{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}]' => '{"a": "echo: hi"}',
	'sentiment:["fine #answer={\"score\": 0.5}"]' => '0.5',
	'sentiment:["fine #answer={\"score\": 0.5}","chat"]' => '0.5',
	'classify_sentiment:["fine"]' => '"positive"',
	'classify_text:["fine",["a","b"]]' => '"a"',
	'translate:["fine","","de"]' => '"echo: fine"',
	'extract_answer:["fine","what?"]' => qr/^\[\{"score": .*"answer": "echo: fine"/,
	'summarize:["fine"]' => '"echo: fine"',
	'ai_filter:["fine","is it?"]' => 'true',
	'embed_text:["fine","vectors"]' => qr/^\[-?\d/,
	'similarity:["fine","fine","vectors"]' => qr/^(1|0\.99)/,
	'count_tokens:["chat","one two three"]' => '3',
	'sentiment:[null]' => '');
for my $call (sort keys %calls)
{
	my ($function, $arguments) = split /:/, $call, 2;
	my $value = sql("SELECT (sophia.result(id, '30s')).value FROM (SELECT " . sql("SELECT sophia.submit('$function', \$a\$$arguments\$a\$)") . ' AS id) AS j');
	ref $calls{$call} ? like($value, $calls{$call}, $call) : is($value, $calls{$call}, $call);
}

# ---- what is refused ----

for (
	["'no_such', '[\"x\"]'", '42883', 'there is no AI function "no_such"'],
	["'sentiment', '[]'", '42883', 'AI function "sentiment" does not take such arguments'],
	["'sentiment', '[[\"x\", \"y\"]]'", '42883', 'does not take such arguments'],
	["'sentiment', '[1]'", '42883', 'does not take such arguments'],
	["'sentiment', '\"x\"'", '22023', 'the arguments must be a JSON array'],
	["'sentiment', NULL", '22004', 'args must not be null'],
	["NULL, '[]'", '22004', 'function must not be null'],
	["'sentiment', '[\"x\"]', '{\"prio\": 1}'", '22023', 'unknown option "prio"'],
	["'sentiment', '[\"x\"]', '{\"priority\": 1.5}'", '22023', 'option "priority" must be'],
	["'sentiment', '[\"x\"]', '{\"attempts\": 0}'", '22023', 'option "attempts" must be'],
	["'sentiment', '[\"x\"]', '[]'", '22023', 'the options must be a JSON object'])
{
	my ($arguments, $code, $message) = @$_;
	like(error_of("SELECT sophia.submit($arguments)"), qr/ERROR:  $code: .*\Q$message\E/, "refused: $arguments");
}
like(error_of("SET ROLE nobody; SELECT sophia.submit('sentiment', '[\"x\"]')"), qr/ERROR:  42501: permission denied for function try_sentiment/, 'a role submits what it may execute');
sql('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION sophia_stack');
my (undef, undef, $unlisted) = $node->psql('other', "SELECT sophia.submit('sentiment', '[\"x\"]')", extra_params => ['-v', 'VERBOSITY=verbose']);
like($unlisted, qr/ERROR:  55000: database "other" has no jobs worker/, 'a database that is not listed has no queue');

# ---- errors ----

my $bad = sql("SELECT sophia.submit('sentiment', '[\"x\", \"no such model\"]')");
is(sql("SELECT error_code, error FROM sophia.result($bad, '30s')"), '42704|model "no such model" does not exist', 'an unknown model');
$bad = sql("SELECT sophia.submit('sentiment', '[\"fine #answer=gibberish\"]', '{\"attempts\": 1}')");
is(sql("SELECT error_code FROM sophia.result($bad, '30s')"), '58000', 'an answer that makes no sense');
is(sql("SELECT state, attempts, error_code FROM sophia.ai_queue WHERE id = $bad"), 'failed|1|58000', 'the queue shows it');
my $retried = sql("SELECT sophia.submit('complete', '[\"soon #status=500 #times=1\"]')");
is(sql("SELECT value FROM sophia.result($retried, '30s')"), '"echo: soon #status=500 #times=1"', 'a failure of the provider passes');
is(sql("SELECT state, attempts FROM sophia.ai_queue WHERE id = $retried"), 'done|2', 'by another attempt');
$bad = sql("SELECT sophia.submit('complete', '[\"#bad #status=400\"]')");
is(sql("SELECT error_code FROM sophia.result($bad, '30s')"), '22023', 'what the provider calls bad');
is(sql("SELECT attempts FROM sophia.ai_queue WHERE id = $bad"), 1, 'is not tried again');

# ---- many ----

my $before = $provider->requests;
sql("CREATE TABLE jobs AS SELECT n, sophia.submit('complete', jsonb_build_array('text ' || n)) AS id FROM generate_series(1, 1000) AS n");
is(sql("SELECT count(*) FILTER (WHERE (sophia.result(id, '60s')).value = to_jsonb('echo: text ' || n)) FROM jobs"), 1000, 'a thousand jobs have their own results');
is(scalar($provider->requests) - $before, 1000, 'each was sent once');
is(sql("SELECT count(*) FROM sophia.ai_queue WHERE id IN (SELECT id FROM jobs) AND state = 'done' AND attempts = 1"), 1000, 'in one attempt');

# ---- order and cancel ----

$slow = sql("SELECT sophia.submit('complete', '[\"in front #delay=3000\"]')");
$node->poll_query_until('postgres', "SELECT state = 'running' FROM sophia.ai_queue WHERE id = $slow") or die 'the job was not taken';
my $cancelled = sql("SELECT sophia.submit('complete', '[\"never\"]')");
my $low = sql("SELECT sophia.submit('complete', '[\"low\"]', '{\"priority\": -1}')");
my $high = sql("SELECT sophia.submit('complete', '[\"high\"]', '{\"priority\": 1}')");
is(sql("SELECT sophia.cancel($slow)"), 'f', 'what is under way is not cancelled');
my $heard = sql("LISTEN sophia_ai; SELECT sophia.cancel($cancelled)");
like($heard, qr/^t$/m, 'what waits is');
like($heard, qr/Asynchronous notification "sophia_ai" with payload "$cancelled"/, 'its end is notified');
is(sql("SELECT value, error_code FROM sophia.result($cancelled)"), '|57014', 'its result says so');
sql("SELECT sophia.result($low, '30s')");
is(sql("SELECT array_agg(id ORDER BY started_at) = ARRAY[$high, $low]::bigint[] FROM sophia.ai_queue WHERE id IN ($high, $low)"), 't', 'a higher priority comes first');
ok(!(grep { ($_->{text} // '') =~ /never/ } $provider->requests), 'a cancelled job is never sent');

# ---- notification ----

my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN sophia_ai');
my $told = sql("SELECT sophia.submit('complete', '[\"tell\"]')");
sql("SELECT sophia.result($told, '30s')");
like($listener->query_safe('SELECT 1'), qr/"sophia_ai" with payload "$told"/, 'the end of a job is notified');
$listener->quit;

# ---- restart ----

sql("INSERT INTO jobs SELECT n, sophia.submit('complete', jsonb_build_array('again ' || n || ' #delay=1000')) FROM generate_series(2001, 2100) AS n");
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM sophia.ai_queue WHERE state = 'running'") or die 'no job was taken';
my $took = time;
$node->restart('fast');
cmp_ok(time - $took, '<', 30, 'a server stops while jobs run');
$node->wait_for_worker('gateway');
is(sql("SELECT count(*) FILTER (WHERE (sophia.result(id, '60s')).value = to_jsonb('echo: again ' || n || ' #delay=1000')) FROM jobs WHERE n > 2000"), 100, 'jobs go on after a restart');
sql("INSERT INTO jobs SELECT n, sophia.submit('complete', jsonb_build_array('crash ' || n || ' #delay=1000')) FROM generate_series(3001, 3020) AS n");
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM sophia.ai_queue WHERE state = 'running'") or die 'no job was taken';
$node->stop('immediate');
$node->start;
$node->wait_for_worker('gateway');
is(sql("SELECT count(*) FILTER (WHERE (sophia.result(id, '60s')).value = to_jsonb('echo: crash ' || n || ' #delay=1000')) FROM jobs WHERE n > 3000"), 20, 'and after a crash');

# ---- retention ----

sql("UPDATE sophia.ai_jobs SET finished_at = now() - interval '8 days' WHERE id IN (SELECT id FROM jobs)");
sql("SELECT sophia.submit('complete', '[\"one more\"]')");
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM sophia.ai_jobs WHERE id IN (SELECT id FROM jobs)'), 'finished jobs go after a week');

# ---- ai_map ----

sql("CREATE TABLE texts AS SELECT n AS id, 'text ' || n AS body, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END AS kind FROM generate_series(1, 250) AS n; GRANT SELECT ON texts TO ann");
is(sql(q{SET ROLE ann; SELECT count(*), count(*) FILTER (WHERE (result).value = to_jsonb('echo: text ' || (key #>> '{}'))), min((result).model)
  FROM sophia.ai_map('complete', 'SELECT id, body FROM texts ORDER BY id;', '{"batch": 100}')}), '250|250|chat', 'ai_map calls a function for each row');
is(sql(q{SELECT array_agg(key ORDER BY o) = array_agg(to_jsonb(o::int) ORDER BY o) FROM sophia.ai_map('complete', 'SELECT id, body FROM texts ORDER BY id') WITH ORDINALITY AS m (key, result, o)}), 't', 'in the order of the rows');
is(sql(q{SELECT key, (result).value FROM sophia.ai_map('classify_text', $q$SELECT jsonb_build_array(id), body, ARRAY['a', 'b'], 'chat' FROM texts WHERE id = 1 -- comment$q$)}), '[1]|"a"', 'with all its arguments');
is(sql(q{SELECT (result).error_code FROM sophia.ai_map('sentiment', $q$SELECT 1, 'x #status=400'$q$)}), '22023', 'an error is a result');
is(sql(q{SELECT key, (result).value IS NULL, (result).error_code FROM sophia.ai_map('sentiment', 'SELECT 1, NULL::text')}), '1|t|', 'NULL gives NULL');
for (
	["'sentiment', 'SELECT 1'", '22023', 'the query has 1 column'],
	["'sentiment', 'DELETE FROM texts RETURNING id, body'", '0A000|22023', ''],
	["'sentiment', 'SELECT pg_notify(NULL), ''x'''", '42883', ''],
	["'sentiment', 'VACUUM'", '22023', 'the query does not return rows'],
	["'sentiment', 'SELECT 1, ''x''', '{\"size\": 1}'", '22023', 'unknown option "size"'],
	["'no_such', 'SELECT 1, ''x'''", '42883', 'there is no AI function'])
{
	my ($arguments, $code, $message) = @$_;
	like(error_of("SELECT * FROM sophia.ai_map($arguments)"), qr/ERROR:  ($code): .*\Q$message\E/, "refused: ai_map($arguments)");
}
is(sql('SELECT count(*) FROM texts'), 250, 'the query cannot write');
like(error_of("SET ROLE bob; SELECT * FROM sophia.ai_map('sentiment', 'SELECT id, body FROM texts')"), qr/ERROR:  42501: permission denied for table texts/, 'it runs as the caller');

# ---- the extension goes ----

sql('DROP EXTENSION sophia_stack CASCADE');
is(sql("SELECT count(*) FROM pg_class WHERE relname = 'ai_jobs'"), 0, 'the queue goes with the extension');

$node->stop;
done_testing();
