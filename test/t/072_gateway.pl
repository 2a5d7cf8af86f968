# AI calls through the gateway: results, errors, what is tried again, and what is shared.
use strict;
use warnings;
use List::Util qw(max uniq);
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Provider;
use Sophia::Secrets;
use Test::More;
use Time::HiRes qw(time);

my $secrets = Sophia::Secrets->new;
my $provider = Sophia::Provider->new(key => 'key-of-ann');
$secrets->write('llm', 'key-of-ann');
my $node = Sophia::Cluster->create('main', secrets => $secrets->folder, conf => "log_statement = all\nlog_min_messages = debug1\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub warnings_of
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return ($out, $err);
}

$node->wait_for_worker('gateway');
sql(<<"SQL");
SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}', 'file:llm', '{"timeout": 20}');
SELECT sophia.create_model('chat', 'llm', 'tiny', '{"defaults": {"temperature": 0}, "price": {"in": 2, "out": 10}}');
SELECT sophia.create_model('embed', 'llm', 'embed-8', '{"dimensions": 8}');
SELECT sophia.create_model('wide', 'llm', 'embed-384');
SELECT sophia.create_model('numbers', 'llm', 'float-8');
SELECT sophia.create_model('wrong', 'llm', 'embed-8', '{"dimensions": 9}');
SELECT sophia.set_default_model('complete', 'chat');
SELECT sophia.set_default_model('embed_text', 'embed');
SQL

# ---- results ----

is(sql("SELECT sophia.complete('hello')"), 'echo: hello', 'a prompt is answered by the default model');
is(sql("SELECT sophia.complete('chat', 'hello, \"Ann\" \\ \t\x{c3}\x{a9}')"), "echo: hello, \"Ann\" \\ \t\x{c3}\x{a9}", 'by a named one; every character arrives');
is(sql("SELECT sophia.complete('chat', '[{\"role\": \"system\", \"content\": \"short\"}, {\"role\": \"user\", \"content\": \"hi\"}]'::jsonb)"), 'echo: hi', 'a conversation is answered');
is(sql("SELECT sophia.complete('chat', 'x', '{\"max_tokens\": 5, \"temperature\": 0.5}')"), 'echo: x', 'options may be given');
is_deeply(($provider->requests)[-1]{body}, { model => 'tiny', messages => [ { role => 'user', content => 'x' } ], temperature => 0.5, max_tokens => 5 }, 'and are laid over the defaults of the model');
is(sql("SELECT sophia.complete(NULL, 'x')"), 'echo: x', 'a model of NULL is the default');
is(sql("SELECT sophia.complete('chat', NULL::text) IS NULL AND sophia.complete(NULL::text[]) IS NULL AND sophia.embed_text(NULL::text) IS NULL"), 't', 'NULL gives NULL');
my $vector = '{' . join(',', map { 0 + $_ } Sophia::Provider::vector('hello', 8)) . '}';
is(sql("SELECT sophia.embed_text('hello')"), $vector, 'an embedding in base64');
is(($provider->requests)[-1]{body}{encoding_format}, 'base64', 'which was asked for');
is(sql("SELECT sophia.embed_text('hello', 'numbers')"), $vector, 'an embedding in numbers');
is(sql("SELECT cardinality(sophia.embed_text_384('wide', 'hello'))"), 384, 'an embedding of 384 dimensions');
is(sql("SELECT pg_typeof(sophia.embed_text('a')), r.value, r.cost FROM sophia.try_complete('a') AS r"), 'real[]|"echo: a"|0.000044', 'types and cost');
is(sql("SELECT provider, model, tokens_in, tokens_out, cached, error_code, ms >= 0 FROM sophia.try_complete('a')"), 'llm|chat|7|3|f||t', 'try_complete tells of the call');

# ---- arrays ----

$provider->forget;
is(sql("SELECT sophia.complete(ARRAY['a', 'b', NULL, 'a', 'c'])"), '{"echo: a","echo: b",NULL,"echo: a","echo: c"}', 'an array is answered in its order');
is(scalar $provider->requests, 3, 'equal texts are sent once');
is(sql("SELECT sophia.complete('{}'::text[])"), '{}', 'an empty array is answered');
$provider->forget;
my $begin = time;
is(sql("SELECT cardinality(sophia.complete(array_agg('#delay=300 ' || i))) FROM generate_series(1, 40) AS i"), 40, 'forty slow prompts');
cmp_ok(time - $begin, '<', 5, 'take the time of two');
is(max(map { $_->{running} } $provider->requests), 20, 'since twenty are answered at a time');
is(scalar(uniq map { $_->{connection} } $provider->requests), 20, 'over as many connections');
$provider->forget;
is(sql("SELECT count(*), count(embedding), bool_and(embedding = sophia.embed_text(i::text)) FROM generate_series(1, 3) AS i, sophia.embed_text(ARRAY['1', '2', '3']) AS e WHERE e.ord = i"), '3|3|t', 'embeddings of an array are in order');
is(scalar(grep { @{ $_->{body}{input} } == 3 } $provider->requests), 1, 'and travel together');
my ($out, $err) = warnings_of("SELECT ord, embedding IS NULL FROM sophia.embed_text(ARRAY['a', 'b #refuse', '', 'c', NULL]) ORDER BY ord");
is($out, "1|f\n2|t\n3|t\n4|f\n5|t", 'one text that is refused does not lose the others');
like($err, qr/WARNING:  22023: 2 of 4 texts failed, first number 2: model "embed" of provider "llm": HTTP status 400: input 0 is refused/, 'and is told');
($out, $err) = warnings_of("SELECT sophia.complete(ARRAY['a', '#status=500 b', 'c'])");
is($out, '{"echo: a",NULL,"echo: c"}', 'a prompt that fails is NULL');
like($err, qr/WARNING:  58000: 1 of 3 texts failed, first number 2: model "chat" of provider "llm": HTTP status 500: #status=500 b\nDETAIL:  Request \d+\.\d+, attempt 1, \d+ ms/, 'with a warning');
is(sql("SELECT ord, value, error_code FROM sophia.try_complete(ARRAY['a', '#status=500 b', NULL, ' ']) ORDER BY ord"),
	"1|\"echo: a\"|\n2||58000\n3||\n4||22023", 'try_complete tells of each');
is(sql("SELECT count(DISTINCT c) FROM unnest(sophia.complete(ARRAY(SELECT repeat('long ', 100) || i FROM generate_series(1, 500) AS i))) AS c"), 500, 'more than fits into the channel goes through');

# ---- errors ----

for my $case (
	[ "complete('chat', '')", '22023: the text is empty' ],
	[ "complete('chat', '[]'::jsonb)", '22023: messages must be a JSON array of at least one message' ],
	[ "complete('chat', '{\"role\": \"user\"}'::jsonb)", '22023: messages must be a JSON array of at least one message' ],
	[ "complete('chat', 'x', '{\"temprature\": 1}')", '22023: unknown option "temprature"' ],
	[ "complete('chat', 'x', '{\"temperature\": 3}')", '22023: invalid value of option "temperature"' ],
	[ "complete('none', 'x')", '42704: model "none" does not exist' ],
	[ "complete(ARRAY['#status=500 a', ''])", '58000: model "chat" of provider "llm": HTTP status 500: #status=500 a' ],
	[ "complete('#status=401')", '28000: model "chat" of provider "llm": HTTP status 401: #status=401' ],
	[ "complete('#status=400 bad')", '22023: model "chat" of provider "llm": HTTP status 400: #status=400 bad' ],
	[ "complete('#status=400 maximum context length')", '54000: model "chat" of provider "llm": HTTP status 400: #status=400 maximum context length' ],
	[ "complete('#status=500 input is too large')", '54000: model "chat" of provider "llm": HTTP status 500: #status=500 input is too large' ],
	[ "complete('#status=413')", '54000: model "chat" of provider "llm": HTTP status 413: #status=413' ],
	[ "complete('#status=429 #retry=100')", '53400: model "chat" of provider "llm": HTTP status 429: #status=429 #retry=100' ],
	[ "complete('#garbage')", '58000: model "chat" of provider "llm": the answer is no JSON' ],
	[ "complete('#empty')", '58000: model "chat" of provider "llm": the answer has no choices' ],
	[ "complete('#bytes')", '22021: model "chat" of provider "llm": the answer holds bytes or characters that are no text' ],
	[ "complete('#nul')", '22021: model "chat" of provider "llm": the answer holds bytes or characters that are no text' ],
	[ "complete('#big=70000000')", '54000: model "chat" of provider "llm": the answer is larger than 64 MB' ],
	[ "complete(repeat('x', 9000000))", '54000: the text has 9000000 bytes, more than 8388608' ],
	[ "embed_text('x', 'wrong')", '58000: model "wrong" of provider "llm": its embeddings have 8 dimensions, but the model is declared with 9' ],
	[ "embed_text_768('wide', 'x')", '22023: model "wide" of provider "llm": its embeddings have 384 dimensions, not 768' ],
	[ "embed_text_768('embed', 'x')", '22023: embeddings of model "embed" have 8 dimensions, not 768' ],
	[ "embed_text(ARRAY[['a'], ['b']])", '22023: the array of texts must have one dimension' ])
{
	is(scalar $node->error_of("SELECT sophia.$case->[0]"), $case->[1], "fails: $case->[0]");
}
like(scalar $node->error_of("SELECT sophia.complete('#cut')"), qr/^58000: model "chat" of provider "llm": the connection broke before the answer was whole: /, 'an answer that is cut fails');
is(sql("SELECT length(sophia.complete('#big=5000000'))"), 5000000, 'a large one does not');
sql("SELECT sophia.alter_provider('llm', options => '{\"timeout\": 0.5}')");
is(scalar $node->error_of("SELECT sophia.complete('#delay=5000')"), '58000: model "chat" of provider "llm": no answer within 500 ms', 'an answer that comes too late fails');
sql("SELECT sophia.alter_provider('llm', options => '{\"timeout\": 20}')");
sql("SELECT sophia.set_default_model('complete', NULL)");
is(scalar $node->error_of("SELECT sophia.complete('x')"), '55000: there is no default model for complete', 'without a default a model must be named');
sql("SELECT sophia.set_default_model('complete', 'chat')");
is(scalar $node->error_of("BEGIN; SELECT sophia.alter_provider('llm', 'http://127.0.0.1:1'); SELECT sophia.complete('x')"),
	'55000: provider "llm" or its model was changed in this transaction, so it cannot be called yet', 'a change that may be rolled back is not used');
is(sql("SELECT sophia.complete('x')"), 'echo: x', 'and did not reach the gateway');

# ---- trying again ----

for my $status (429, 503)
{
	$provider->forget;
	is(sql("SELECT sophia.complete('#status=$status #times=2')"), "echo: #status=$status #times=2", "$status is tried again");
	is(scalar $provider->requests, 3, 'until it is well');
}
$provider->forget;
$begin = time;
is(sql("SELECT sophia.complete('#status=429 #times=1 #retry=1')"), 'echo: #status=429 #times=1 #retry=1', 'Retry-After is minded');
cmp_ok(time - $begin, '>=', 1, 'for as long as it says');
$provider->forget;
like(scalar $node->error_of("SELECT sophia.complete('#status=503')"), qr/^58000: .*HTTP status 503/, '503 for ever fails');
is(scalar $provider->requests, 4, 'after four tries');
$provider->forget;
$node->error_of("SELECT sophia.complete('#status=500')");
is(scalar $provider->requests, 1, '500 is not tried again: the provider may have done its work');
$provider->stop;
like(scalar $node->error_of("SELECT sophia.complete('x')"), qr/^58000: model "chat" of provider "llm": could not connect: /, 'a provider that is down is an error');
my $caller = $node->background_psql('postgres');
$caller->query_until(qr/calls/, "\\echo calls\nSELECT sophia.complete('patient');\n");
$node->comes_true("SELECT state = 'waiting' FROM sophia.gateway_requests WHERE model = 'chat'", 'a call waits for it');
$provider->start;
is($caller->query("SELECT 1") =~ s/\s+/ /gr, 'echo: patient 1', 'and is answered when it is back');
$caller->quit;

# ---- secrets ----

is(($provider->requests)[-1]{key}, 'key-of-ann', 'the secret was sent');
$provider->key('key-of-bob');
my ($error, $whole) = $node->error_of("SELECT sophia.complete('x')");
is($error, '28000: model "chat" of provider "llm": HTTP status 401: invalid key **********', 'a wrong secret is told, and blotted out');
$secrets->write('llm', 'key-of-bob');
is(sql("SELECT sophia.complete('x')"), 'echo: x', 'a new one is read at once');
$provider->forget;
$secrets->write('llm', 'key-of-nobody');
$provider->key('key-of-carl');
like(scalar $node->error_of("SELECT sophia.complete(ARRAY(SELECT i::text FROM generate_series(1, 1000) AS i))"), qr/^28000: /, 'an array meets it too');
cmp_ok(scalar $provider->requests, '<', 100, 'and does not try it with every text');
$secrets->write('llm', 'key-of-carl');
sql("SELECT sophia.complete('x')");
unlike($node->news, qr/key-of-/, 'no secret is in the log');
sql("SELECT sophia.create_provider('keyless', 'openai', '${\$provider->address}', 'file:none')");
like(sql("SELECT ok, message FROM sophia.check_provider('keyless')"), qr/^f\|provider "keyless": could not open secret file "none"/, 'a secret that is missing is told');

# ---- checks and figures ----

like(sql("SELECT ok, message FROM sophia.check_provider('llm')"), qr/^t\|provider answers within \d+ ms: tiny, embed-8$/, 'check_provider lists the models');
sql("SELECT sophia.create_provider('nobody', 'openai', 'http://127.0.0.1:1')");
like(sql("SELECT ok, message FROM sophia.check_provider('nobody')"), qr/^f\|provider "nobody": could not connect: /, 'and tells what is wrong');
is(scalar $node->error_of("SELECT * FROM sophia.check_provider('none')"), '42704: provider "none" does not exist', 'of providers that there are');
$node->comes_true("SELECT requests > 500 AND errors > 20 AND retries > 5 AND in_flight = 0 AND queued = 0 AND connections_open BETWEEN 1 AND 20"
	. " AND connections_created > connections_closed AND last_error IS NOT NULL FROM sophia.provider_status WHERE provider = 'llm'", 'provider_status counts');

# ---- permissions ----

sql('CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT EXECUTE ON FUNCTION sophia.complete(text, text) TO ann');
is(sql("SET ROLE ann; SELECT sophia.complete('chat', 'x')"), 'echo: x', 'the right to call can be granted alone');
is(scalar $node->error_of("SET ROLE bob; SELECT sophia.complete('chat', 'x')"), '42501: permission denied for function complete', 'and is needed');
is(scalar $node->error_of('SET ROLE ann; SELECT * FROM sophia.providers'), '42501: permission denied for table providers', 'profiles are for administrators');
is(scalar $node->error_of("SET ROLE ann; SELECT sophia.create_model('mine', 'llm')"), '42501: permission denied for function create_model', 'and so is writing them');

# ---- many sessions ----

$provider->forget;
my @sessions = map { $node->background_psql('postgres') } 1 .. 25;
$_->query_until(qr/begin/, "\\echo begin\nSELECT count(DISTINCT c) FROM unnest(sophia.complete(ARRAY(SELECT '#delay=20 ' || i FROM generate_series(1, 20) AS i))) AS c;\n") for @sessions;
my @counts = map { $_->query('SELECT 0') =~ s/\s+/ /gr } @sessions;
is("@counts", join(' ', ('20 0') x 25), '25 sessions lose nothing');
cmp_ok(max(map { $_->{running} } $provider->requests), '<=', 20, 'they share the limit');
cmp_ok(scalar(uniq map { $_->{connection} } $provider->requests), '<=', 20, 'and the connections');
$_->quit for @sessions;

$provider->forget;
$caller = $node->background_psql('postgres');
$caller->query_until(qr/begin/, "\\echo begin\nSELECT cardinality(sophia.complete(ARRAY(SELECT '#delay=50 ' || i FROM generate_series(1, 400) AS i)));\n");
$node->comes_true("SELECT count(*) > 40 FROM sophia.gateway_requests WHERE provider = 'llm'", 'one session asks much');
is(sql("SELECT sophia.complete('chat', 'quick')"), 'echo: quick', 'another one asks once');
is($caller->query('SELECT 0') =~ s/\s+/ /gr, '400 0', 'the first one gets all');
my @texts = map { $_->{text} } $provider->requests;
my ($place) = grep { $texts[$_] eq 'quick' } 0 .. $#texts;
cmp_ok($place, '<', 300, 'but the other one had its turn between');
$caller->quit;

# ---- the end ----

sql("DROP EXTENSION sophia_stack CASCADE");
sql("CREATE EXTENSION sophia_stack");
sql("SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}/v1/', 'file:llm'); SELECT sophia.create_model('chat', 'llm')");
is(sql("SELECT sophia.complete('chat', 'again')"), 'echo: again', 'the extension can be dropped and made again');
$node->stop;
unlike($node->news, qr/TRAP|PANIC|server process .* was terminated/, 'nothing crashed');
$provider->stop;

done_testing();
