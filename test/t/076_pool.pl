# The gateway between sessions and providers: connections in store, health checks, limits, breaker, replicas, fallback, and what
# is sent again.
use strict;
use warnings;
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Provider;
use Sophia::Wait qw(wait_for);
use Test::More;
use Time::HiRes qw(time);

my $provider = Sophia::Provider->new;
my $second = Sophia::Provider->new;
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub status { return sql("SELECT $_[0] FROM sophia.provider_status WHERE provider = '$_[1]'") }
sub status_becomes { return $node->comes_true("SELECT $_[0] FROM sophia.provider_status WHERE provider = '$_[1]'", $_[2]) }

sub comes_about
{
	my ($what, $condition) = @_;
	wait_for($what, $condition);
	return pass($what);
}

# Has a session begin a statement and returns it.
sub begin
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/begin/, "\\echo begin\n$sql;\n");
	return $session;
}

# What the statement of a session has printed, once it has ended.
sub result_of
{
	my ($session) = @_;
	my $printed = $session->query('SELECT 0') =~ s/\s+/ /gr;
	$session->quit;
	return $printed;
}

$node->wait_for_worker('gateway');
sql(<<"SQL");
ALTER SYSTEM SET sophia_stack.health_interval = 1;
SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}', options => '{"timeout": 20}');
SELECT sophia.create_model('chat', 'llm', 'tiny');
SELECT sophia.create_model('embed', 'llm', 'embed-8', '{"dimensions": 8}');
SQL
is(status("health, breaker, connections_open, connections_created, p50 IS NULL, address_in_use IS NULL", 'llm'), 'unknown|closed|0|0|t|t', 'a provider that was not asked yet');

# ---- connections in store ----

is(sql("SELECT sophia.complete('chat', 'x')"), 'echo: x', 'a call');
status_becomes("connections_open = 5 AND connections_idle = 5 AND connections_in_use = 0 AND connections_created = 5 AND connections_closed = 0", 'llm', 'opens five connections');
is(status("health, checked_at IS NOT NULL, concurrency, address_in_use = address, p50 > 0 AND p50 <= p95 AND p95 <= p99 AND p99 < 20000", 'llm'), 'healthy|t|20|t|t', 'and its health is known');
my $caller = begin("SELECT cardinality(sophia.complete('chat', ARRAY(SELECT '#delay=700 ' || i FROM generate_series(1, 12) AS i)))");
status_becomes("connections_in_use >= 12 AND connections_open >= 12 AND in_flight = 12 AND queued = 0", 'llm', 'twelve calls have twelve');
is(result_of($caller), '12 0', 'which are answered');
status_becomes("connections_in_use = 0 AND connections_idle >= 12", 'llm', 'and are kept');
$provider->stop;
status_becomes("connections_open = 0 AND connections_closed = connections_created", 'llm', 'connections that the server closes are noticed');
$node->reload; # from now on checks come every second
$provider->start;
is(sql("SELECT sophia.complete('chat', 'y')"), 'echo: y', 'the next call makes another one');
status_becomes("connections_idle = 5 AND connections_created = connections_closed + 5 AND health = 'healthy'", 'llm', 'and checks those that are missing');
$provider->stop;
status_becomes("health = 'failing' AND last_error ~ '^health check: ' AND last_error_at IS NOT NULL", 'llm', 'a check finds out that the server is away');
$provider->start;
status_becomes("health = 'healthy'", 'llm', 'and that it is back');
sql("SELECT sophia.alter_provider('llm', options => '{\"idle_expiry\": 1.5}')");
sql("SELECT sophia.complete('chat', 'z')");
status_becomes("connections_open = 0 AND connections_closed = connections_created", 'llm', 'without calls they are closed after a while');
my $checks = grep { $_->{path} =~ /models/ } $provider->all_requests;
cmp_ok($checks, '>', 5, 'there were checks');

sql("SELECT sophia.create_provider('other', 'openai', '${\$provider->address}'); SELECT sophia.create_model('chat_of_other', 'other', 'tiny')");
sql("SELECT sophia.alter_provider('llm', options => '{\"idle_expiry\": 300}')");
sql("SELECT sophia.complete('chat', 'z')");
status_becomes("connections_open = 5", 'llm', 'a provider has connections');
my $created = status('connections_created', 'llm');
is(sql("SELECT sophia.complete('chat_of_other', 'z')"), 'echo: z', 'another one of the same address');
status_becomes("connections_created = $created", 'other', 'uses the same');

my $impatient = Sophia::Provider->new(idle => 0.2);
sql("SELECT sophia.create_provider('impatient', 'openai', '${\$impatient->address}'); SELECT sophia.create_model('tea', 'impatient', 'tiny'); ");
is(sql("SELECT sophia.complete('tea', 'x')"), 'echo: x', 'a server that closes idle connections');
status_becomes("connections_closed >= 8", 'impatient', 'is checked some times');
cmp_ok(scalar(grep { $_->{path} =~ /models/ } $impatient->all_requests), '<=', 20, 'but not chased');
is(sql("SELECT count(*) FROM generate_series(1, 5) AS i, LATERAL (SELECT pg_sleep(0.25), sophia.complete('tea', i::text)) AS c"), 5, 'and calls do not mind');
is(status('errors', 'impatient'), 0, 'at all');
$impatient->stop;
sql("SELECT sophia.drop_model('tea'); SELECT sophia.drop_provider('impatient')");

# ---- limits ----

sql("SELECT sophia.create_provider('busy', 'openai', '${\$second->address}', options => '{\"timeout\": 20, \"queue_bytes\": 65536, \"in_flight\": 4, \"min_connections\": 0}'); SELECT sophia.create_model('busy', 'busy', 'tiny')");
is(sql("SELECT sophia.complete('busy', '#status=429 #times=1')"), 'echo: #status=429 #times=1', 'a provider that is asked too much');
is(status('concurrency, retries, errors', 'busy'), '2|1|0', 'is asked half as much at a time');
sql("SELECT sophia.complete('busy', ARRAY(SELECT 'good ' || i FROM generate_series(1, 30) AS i))");
status_becomes('concurrency = 4', 'busy', 'and more again while it is well');
$second->forget;
sql("SELECT sophia.complete('busy', ARRAY(SELECT '#delay=10 ' || i FROM generate_series(1, 40) AS i))");
is(max(map { $_->{running} } $second->requests), 4, 'in_flight is the most');
my @sessions = map { begin("SELECT cardinality(sophia.complete('busy', ARRAY(SELECT '#delay=10 ' || i || repeat('long ', 2000) FROM generate_series(1, 40) AS i)))") } 1 .. 4;
status_becomes('queued_bytes > 60000', 'busy', 'long texts wait in the queue');
my $most = max(map { status('queued_bytes', 'busy') } 1 .. 10);
cmp_ok($most, '<', 65536 + 5 * 10100, 'as far as there is room, and one more of each session');
is(result_of($_), '40 0', 'and are answered') for @sessions;
is(status('queued, queued_bytes, in_flight', 'busy'), '0|0|0', 'then it is empty');

# ---- breaker ----

sql("SELECT sophia.create_provider('frail', 'openai', '${\$second->address}', options => '{\"timeout\": 20, \"breaker_failures\": 3, \"breaker_seconds\": 1, \"min_connections\": 0}'); SELECT sophia.create_model('frail', 'frail', 'tiny')");
like(scalar $node->error_of("SELECT sophia.complete('frail', '#status=500 $_')"), qr/^58000: .*HTTP status 500/, 'a failure') for 1 .. 2;
is(sql("SELECT sophia.complete('frail', 'x')"), 'echo: x', 'and a good answer');
like(scalar $node->error_of("SELECT sophia.complete('frail', '#status=500 input is too large')"), qr/^54000: /, 'a text that is too long is no failure');
like(scalar $node->error_of("SELECT sophia.complete('frail', '#status=400 $_')"), qr/^22023: /, 'nor is one that is refused') for 1 .. 3;
is(status('breaker', 'frail'), 'closed', 'all is well');
like(scalar $node->error_of("SELECT sophia.complete('frail', '#status=500 $_')"), qr/^58000: .*HTTP status 500/, 'three failures in a row') for 1 .. 3;
my $begin = time;
like(scalar $node->error_of("SELECT sophia.complete('frail', 'x')"),
	qr/^55000: model "frail" of provider "frail": its circuit breaker is open after 3 failures in a row, the last: HTTP status 500; it is tried again in 1 s/, 'open its breaker');
cmp_ok(time - $begin, '<', 0.9, 'which fails at once');
is(status('breaker', 'frail'), 'open', 'and is shown');
$second->forget;
is(sql("SELECT (sophia.try_complete('frail', 'x')).error_code"), '55000', 'try_complete tells it, too');
comes_about('after a while a probe is sent', sub { $node->error_of("SELECT sophia.complete('frail', '#status=500 probe')") =~ /^58000/ });
is(status('breaker', 'frail'), 'open', 'which fails');
comes_about('the next one is well', sub { my ($rc, $out) = $node->psql('postgres', "SELECT sophia.complete('frail', 'x')"); $out eq 'echo: x' });
status_becomes("breaker = 'closed'", 'frail', 'and closes it');

# ---- replicas ----

my $third = Sophia::Provider->new;
sql("SELECT sophia.create_provider('pair', 'openai', '${\$third->address}/v1', options => '{\"timeout\": 20, \"breaker_failures\": 1, \"breaker_seconds\": 1, \"replicas\": [\"${\$second->address}/v1\"]}'); SELECT sophia.create_model('pair', 'pair', 'tiny'); SELECT sophia.create_model('pair_embed', 'pair', 'embed-8')");
$second->forget;
is(sql("SELECT sophia.complete('pair', 'a')"), 'echo: a', 'of two addresses');
is_deeply([ scalar $third->requests, scalar $second->requests ], [ 1, 0 ], 'the first is asked');
$begin = time;
is(sql("SELECT sophia.complete('pair', '#status=503 #times=1')"), 'echo: #status=503 #times=1', 'where it is overloaded');
is_deeply([ scalar $third->requests, map { $_->{text} } $second->requests ], [ 2, ('#status=503 #times=1') x 2 ], 'the other one');
$third->stop;
$second->forget;
is(sql("SELECT sophia.complete('pair', ARRAY(SELECT i::text FROM generate_series(1, 100) AS i)) = ARRAY(SELECT 'echo: ' || i FROM generate_series(1, 100) AS i)"), 't', 'where it is away the other one answers all');
cmp_ok(scalar $second->requests, '==', 100, 'which is asked');
is(status('address_in_use', 'pair'), $second->address . '/v1', 'and is the one in use');
$third->start;
$third->forget;
comes_about('when it is back it is asked again', sub { sql("SELECT sophia.complete('pair', 'back')"); scalar $third->requests });
is(status('address_in_use, breaker', 'pair'), $third->address . '/v1|closed', 'and is in use');

$caller = begin("SELECT sophia.complete('pair', ARRAY(SELECT '#delay=400 ' || i FROM generate_series(1, 30) AS i)) = ARRAY(SELECT '#delay=400 ' || i FROM generate_series(1, 30) AS i) IS NOT NULL");
status_becomes('in_flight > 0', 'pair', 'while calls run');
sql("SELECT sophia.alter_provider('pair', '${\$second->address}/v1', options => '{\"replicas\": null, \"breaker_failures\": 5}')");
$second->forget;
is(sql("SELECT sophia.complete('pair', 'moved')"), 'echo: moved', 'a provider can be moved');
ok(scalar(grep { $_->{text} eq 'moved' } $second->requests), 'to another address');
is(result_of($caller), 't 0', 'and what runs is answered');
status_becomes("in_flight = 0 AND queued = 0 AND address_in_use = '${\$second->address}/v1'", 'pair', 'by either');
is(scalar $node->error_of("SELECT sophia.alter_provider('pair', 'http://169.254.1.1/v1')"), '22023: invalid address of a provider: link-local addresses and metadata services are not allowed', 'some addresses are refused');

# ---- fallback ----

sql("SELECT sophia.create_provider('away', 'openai', 'http://127.0.0.1:1', options => '{\"attempts\": 1}'); SELECT sophia.create_model('lost', 'away', 'tiny', '{\"fallback\": [\"frail\", \"chat\"]}')");
is(sql("SELECT value, provider, model, error_code FROM sophia.try_complete('lost', ARRAY['a', 'b', '#status=500', 'a']) ORDER BY ord"),
	"\"echo: a\"|frail|frail|\n\"echo: b\"|frail|frail|\n|llm|chat|58000\n\"echo: a\"|frail|frail|", 'what a provider does not answer goes to the fallback, one after the other');
is(sql("SELECT sophia.complete('lost', 'x', '{\"max_tokens\": 7}')"), 'echo: x', 'with the options of the call');
is(($second->requests)[-1]{body}{max_tokens}, 7, 'as it was given');
is(scalar $node->error_of("SELECT sophia.create_model('e', 'away', options => '{\"dimensions\": 8, \"fallback\": [\"embed\"]}')"), '22023: a model for embeddings has no fallback', 'embeddings have none');
like(scalar $node->error_of("SELECT sophia.embed_text('x', 'lost')"), qr/^58000: model "lost" of provider "away": could not connect/, 'nor does a call for them use one');
is(scalar $node->error_of("SELECT sophia.drop_model('chat')"), '2BP01: model "chat" is in use', 'a fallback cannot be dropped');
is(scalar $node->error_of("SELECT sophia.alter_model('lost', options => '{\"fallback\": [\"none\"]}')"), '42704: model "none" does not exist', 'and must exist');
is(scalar $node->error_of("SELECT sophia.alter_model('lost', options => '{\"fallback\": [\"lost\"]}')"), '22023: model "lost" cannot be its own fallback', 'as another model');

# ---- what is sent again ----

for my $fault ('#status=500', '#status=502', '#cut')
{
	is(sql("SELECT cardinality(sophia.embed_text('$fault #times=2', 'embed'))"), 8, "an embedding is asked for again after $fault");
}
like(scalar $node->error_of("SELECT sophia.embed_text('#status=500 the input is too large', 'embed')"), qr/^54000: /, 'but not when it is too long');
$provider->forget;
$caller = begin("SELECT count(embedding) FROM sophia.embed_text(ARRAY(SELECT '#delay=1500 ' || i || repeat('x', 5000) FROM generate_series(1, 200) AS i), 'embed')");
comes_about('embeddings are under way', sub { scalar $provider->requests });
my $gateway = $node->wait_for_worker('gateway');
sql("SELECT pg_terminate_backend($gateway)");
is(result_of($caller), '200 0', 'when the gateway ends they are asked for again');
isnt($node->wait_for_worker('gateway', $gateway), $gateway, 'by the next gateway');

# ---- what is shown ----

sql("ALTER SYSTEM SET sophia_stack.show_prompts = on; SELECT pg_reload_conf()");
$caller = begin("SELECT sophia.complete('chat', '#delay=3000 secret plan')");
$node->comes_true("SELECT prompt LIKE '{\"model\":\"tiny\",%secret plan%' FROM sophia.gateway_requests", 'prompts are shown where a setting says so');
sql("SELECT pg_cancel_backend(pid) FROM sophia.gateway_requests");
eval { result_of($caller) };
sql("ALTER SYSTEM RESET sophia_stack.show_prompts; SELECT pg_reload_conf()");
$caller = begin("SELECT sophia.complete('chat', '#delay=3000 secret plan')");
$node->comes_true("SELECT prompt IS NULL FROM sophia.gateway_requests", 'and not otherwise');
sql("SELECT pg_cancel_backend(pid) FROM sophia.gateway_requests");
eval { result_of($caller) };

for my $case (
	[ '{"replicas": []}', 'invalid value of provider option "replicas"' ],
	[ '{"replicas": "http://127.0.0.1"}', 'invalid value of provider option "replicas"' ],
	[ '{"replicas": ["ftp://x"]}', 'invalid address of a provider: it starts neither with http:// nor with https://' ],
	[ '{"replicas": ["http://127.0.0.1/v2"]}', 'replica "http://127.0.0.1/v2" has another path than the address' ],
	[ '{"ca_file": "ca.pem"}', 'invalid value of provider option "ca_file"' ],
	[ '{"min_connections": 201}', 'invalid value of provider option "min_connections"' ],
	[ '{"breaker_seconds": 0}', 'invalid value of provider option "breaker_seconds"' ],
	[ '{"queue_bytes": 1}', 'invalid value of provider option "queue_bytes"' ])
{
	is(scalar $node->error_of("SELECT sophia.alter_provider('llm', options => '$case->[0]')"), "22023: $case->[1]", "is refused: $case->[0]");
}

$node->stop;
$_->stop for $provider, $second, $third;
done_testing();
