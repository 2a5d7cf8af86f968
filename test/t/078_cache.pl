# The cache of AI answers: within a statement, and in a real Redis server that is killed, stands still, wants a password.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Provider;
use Sophia::Redis;
use File::Temp ();
use IPC::Run ();
use Test::More;
use Time::HiRes qw(time);

my $provider = Sophia::Provider->new;
my $redis = Sophia::Redis->new;
my $secrets = File::Temp->newdir(TMPDIR => 1);
my $node = Sophia::Cluster->create('main', secrets => $secrets);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The chats and embeddings that the provider was asked for since the last time, health checks left out.
sub asked
{
	my $n = grep { $_->{path} !~ /models/ } $provider->requests;
	$provider->forget;
	return $n;
}

sub use_server
{
	my ($server, $secret) = @_;
	sql("ALTER SYSTEM SET sophia_stack.cache_secret = '" . ($secret // '') . "'");
	sql("ALTER SYSTEM SET sophia_stack.cache_server = '$server'");
	sql('SELECT pg_reload_conf()');
	return;
}

# Waits for a state of the cache; the setting may not have come through yet.
sub wait_for_state
{
	my ($state, $more) = @_;
	return $node->poll_query_until('postgres', "SELECT state = '$state' AND " . ($more // 'true') . ' FROM sophia.cache_status');
}

$node->wait_for_worker('gateway');
sql(<<"SQL");
SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}', NULL, '{"attempts": 1}');
SELECT sophia.create_model('chat', 'llm', 'tiny', '{"price": {"in": 1000, "out": 2000}}');
SELECT sophia.create_model('short', 'llm', 'tiny', '{"cache_ttl": 60}');
SELECT sophia.create_model('never', 'llm', 'tiny', '{"cache_ttl": 0}');
SELECT sophia.create_model('vectors', 'llm', 'embed-8');
SELECT sophia.set_default_model('complete', 'chat');
SQL
my $row = "SELECT value #>> '{}', cached, tokens_in > 0, cost > 0 FROM sophia.try_complete('chat', '%s'%s)";

# ---- one statement ----

is(sql('SELECT state, server FROM sophia.cache_status'), 'off|', 'there is no server at first');
asked();
is(sql("SELECT count(*), count(DISTINCT sophia.complete('chat', t)) FROM unnest('{a,b,a,a}'::text[]) AS t"), '4|2', 'four texts, two of them distinct');
is(asked(), 2, 'each is sent once in a statement');
sql("SELECT sophia.complete('chat', 'a')");
is(asked(), 1, 'and again in the next');
sql("SET sophia_stack.cache = off; SELECT count(sophia.complete('chat', t)) FROM unnest('{a,a}'::text[]) AS t");
is(asked(), 2, 'but not where the session wants no cache');
sql("SELECT count(sophia.complete('chat', t, '{\"temperature\": 0.5}')) FROM unnest('{a,a}'::text[]) AS t");
is(asked(), 2, 'nor where answers are to differ');

# ---- the server ----

use_server($redis->host_port);
wait_for_state('up');
is(sql(sprintf $row, 'hello', ''), 'echo: hello|f|t|t', 'the first call asks the provider');
is(asked(), 1, 'once');
is(sql(sprintf $row, 'hello', ''), 'echo: hello|t|f|f', 'the second has its answer from the cache');
is(asked(), 0, 'without the provider');
like(sql("SELECT sum(cache_hits) FROM sophia.ai_usage WHERE model = 'chat'"), qr/^3$/, 'two of the statement, and one of the server');
wait_for_state('up', 'hits = 1 AND misses = 1 AND stores = 1');
is(sql('SELECT hits, misses, stores, unanswered FROM sophia.cache_status'), '1|1|1|0', 'so does the status');
is($redis->command('DBSIZE'), 1, 'the server has one answer');
my $ttl = $redis->command('TTL', $redis->command('--raw', 'KEYS', '*'));
ok($ttl > 604000 && $ttl <= 604800, 'for a week');

is(sql(sprintf $row, 'hello', q(, '{"max_tokens": 5}')), 'echo: hello|f|t|t', 'other options, another answer');
sql("SELECT sophia.complete('short', 'hello')");
is(asked(), 2, 'so another model');
is($redis->command('DBSIZE'), 3, 'each has its own');
sql("SELECT sophia.complete('never', 'hello') FROM generate_series(1, 2)") for 1 .. 2;
is(asked(), 2, 'a model may keep none beyond the statement');
sql("SELECT sophia.complete('chat', 'hello', '{\"temperature\": 0.1}')") for 1 .. 2;
is(asked(), 2, 'nor is a temperature above 0');
sql("SELECT sophia.complete('chat', 'hello', '{\"temperature\": 0}')") for 1 .. 2;
is(asked(), 1, 'one of 0 is');
$node->psql('postgres', "SELECT sophia.complete('chat', 'bad #status=400')") for 1 .. 2;
$node->psql('postgres', "SELECT sophia.sentiment('fine #answer={\"score\": 7}', 'chat')") for 1 .. 2;
is(asked(), 4, 'errors are not kept, nor are answers of no use');
is($redis->command('DBSIZE'), 4, 'as the server shows');

# Other kinds of answers go through the same reading.
my $score = sql("SELECT sophia.sentiment('good #answer={\"score\": 0.25}', 'chat')");
is($score, '0.25', 'a score');
is(sql("SELECT sophia.sentiment('good #answer={\"score\": 0.25}', 'chat')"), $score, 'is the same from the cache');
is(asked(), 1, 'which it is from');
sql("SELECT sophia.embed_text(ARRAY['a', 'b'], 'vectors')");
asked();
is(sql("SELECT sophia.embed_text('b', 'vectors')"), sql("SELECT embedding FROM sophia.embed_text(ARRAY['a', 'b'], 'vectors') WHERE ord = 2"), 'a vector of a pack alone');
is(asked(), 0, 'is in the cache');
is($redis->command('STRLEN', (split /\n/, $redis->command('--raw', 'KEYS', '*:embed_text:*'))[0]), 33, 'in four bytes a number');
sql("SELECT count(*) FROM sophia.embed_text(ARRAY['a', 'c'], 'vectors')");
is(asked(), 1, 'only what is not there is sent');

# ---- purging ----

my ($before) = $redis->command('DBSIZE');
is(sql("SELECT sophia.purge_cache(function => 'sentiment')"), '1 answer of all models and function sentiment purged', 'purging a function');
is(sql("SELECT sophia.purge_cache('vectors')"), '3 answers of model "vectors" and all functions purged', 'and a model');
is($redis->command('DBSIZE'), $before - 4, 'drops these');
like(sql('SELECT sophia.purge_cache()'), qr/^4 answers of all models and all functions purged$/, 'then all');
is($redis->command('DBSIZE'), 0, 'nothing is left');
sql("SELECT sophia.complete('chat', 'hello')");
is(asked(), 1, 'so the provider is asked again');
sql("SELECT sophia.alter_provider('llm', options => '{\"timeout\": 60}')");
sql("SELECT sophia.complete('chat', 'hello')");
is(asked(), 1, 'as after a change of the provider');
sql("SELECT nextval('sophia.cache_generation')") for 1 .. 2;
sql("SELECT sophia.complete('chat', 'hello')");
is(asked(), 1, 'and after a person was forgotten');

# ---- a server that is slow, or away ----

sql("SELECT sophia.complete('chat', 'hello')");
is(asked(), 0, 'it is in the cache');
$redis->hang;
my $begin = time;
is(sql(sprintf $row, 'hello', ''), 'echo: hello|f|t|t', 'while the server stands still the provider is asked');
ok(time - $begin < 1.5, 'and nobody waits for the server');
wait_for_state('connecting', "last_error LIKE '%no answer within 2 s%'");
is(sql('SELECT unanswered > 0 FROM sophia.cache_status'), 't', 'the status says what happened');
like(($node->psql('postgres', 'SELECT sophia.purge_cache()'))[2], qr/the cache could not be purged/, 'purging fails meanwhile');
$redis->go_on;
wait_for_state('up');
is(sql(sprintf $row, 'hello', ''), 'echo: hello|t|f|f', 'when it goes on, it is used again');
$redis->kill;
wait_for_state('connecting');
asked();
is(sql(sprintf $row, 'hello', ''), 'echo: hello|f|t|t', 'without it the provider is asked');
$redis->start;
wait_for_state('up');
is(sql(sprintf $row, 'hello', ''), 'echo: hello|f|t|t', 'a new one is empty');
is(sql(sprintf $row, 'hello', ''), 'echo: hello|t|f|f', 'and is filled');

# ---- a unix socket, a password ----

use_server('unix:' . $redis->socket);
wait_for_state('up', "server LIKE 'unix:%'");
$redis->kill;
wait_for_state('connecting', "server LIKE 'unix:%'");
$redis->start;
wait_for_state('up');
sql("SELECT sophia.complete('chat', 'by socket')") for 1 .. 2;
like($redis->command('CLIENT', 'LIST'), qr/\Q${\$redis->socket}\E/, 'the server is reached by its socket');
my $guarded = Sophia::Redis->new(password => 'open sesame');
append_to_file("$secrets/redis", "open sesame\n");
append_to_file("$secrets/wrong", "abracadabra\n");
chmod 0600, "$secrets/redis", "$secrets/wrong";
use_server($guarded->host_port);
wait_for_state('connecting', "last_error LIKE 'NOAUTH%'");
use_server($guarded->host_port, 'file:wrong');
wait_for_state('connecting', "last_error LIKE 'the password is not accepted%'");
is(sql("SELECT last_error ~ 'abracadabra' FROM sophia.cache_status"), 'f', 'no secret is told');
use_server($guarded->host_port, 'file:redis');
wait_for_state('up');
sql("SELECT sophia.complete('chat', 'guarded')") for 1 .. 2;
is($guarded->command('DBSIZE'), 1, 'with its password it is used');

# ---- bounds ----

like(($node->psql('postgres', "ALTER SYSTEM SET sophia_stack.cache_server = 'nowhere'"))[2], qr/neither unix:\/path nor host:port/, 'a setting that cannot be meant');
like(($node->psql('postgres', "SELECT sophia.purge_cache(function => 'a*')"))[2], qr/invalid name of a function/, 'nor a pattern');
asked();
is(sql("SELECT count(DISTINCT t) FROM unnest(sophia.complete((SELECT array_agg('text ' || i) FROM generate_series(1, 600) AS i))) AS t"), 600, 'many texts');
is(sql("SELECT count(DISTINCT t) FROM unnest(sophia.complete((SELECT array_agg('text ' || i) FROM generate_series(1, 601) AS i))) AS t"), 601, 'all but one in the cache');
is(asked(), 601, 'are sent once each');
use_server('');
wait_for_state('off');
is(sql(sprintf $row, 'guarded', ''), 'echo: guarded|f|t|t', 'without the setting nothing is looked up');

# ---- single flight ----

# Runs statements at the same time, each in a session of its own; their results.
sub at_once
{
	my @runs = map {
		my ($out, $err) = ('', '');
		my $run = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres'), map { ('-c', $_) } split /; / ], '<', '/dev/null', '>', \$out, '2>', \$err);
		# the first one leads
		$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM sophia.gateway_requests');
		[ $run, \$out, \$err ];
	} @_;
	return map { $_->[0]->finish; my $out = ${ $_->[1] }; chomp $out; $out } @runs;
}

asked();
my $equal = "SELECT value #>> '{}', cached, tokens_in > 0, cost > 0 FROM sophia.try_complete('chat', 'at once #delay=1500')";
is_deeply([ at_once($equal, $equal, $equal) ], [ 'echo: at once #delay=1500|f|t|t', ('echo: at once #delay=1500|t|f|f') x 2 ], 'equal calls of several sessions have one answer');
is(asked(), 1, 'which is asked for, and paid, once');
is_deeply([ map { /^[^|]*/ ? $& : '' } at_once((q{SELECT sophia.complete('chat', 'at random #delay=1000', '{"temperature": 0.7}')}) x 2) ], [ ('echo: at random #delay=1000') x 2 ], 'where answers may differ');
is(asked(), 2, 'each has its own');
is_deeply([ at_once(("SELECT error_code FROM sophia.try_complete('chat', 'fails #delay=1000 #status=400')") x 2) ], [ ('22023') x 2 ], 'an error is that of all');
asked();
$equal =~ s/at once/left behind/;
is_deeply([ at_once("SET statement_timeout = '700ms'; $equal", $equal, $equal) ], [ '', 'echo: left behind #delay=1500|f|t|t', 'echo: left behind #delay=1500|t|f|f' ],
	'when the first is cancelled, the others have it asked for again');
is(asked(), 2, 'once');
is(sql('SELECT count(*) FROM sophia.gateway_requests'), 0, 'nothing is left');

done_testing();
