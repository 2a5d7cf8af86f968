# What ends a call before its answer: cancel, timeout, termination, a client that leaves, and the end of the gateway.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Provider;
use Test::More;
use Time::HiRes qw(time usleep);

use constant SOON => 2;       # seconds; a tenth of one is the aim, and a loaded machine is slow

my $provider = Sophia::Provider->new;
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Waits until a condition holds; returns the seconds that took, undef after too long.
sub seconds_until
{
	my ($condition) = @_;
	my $begin = time;
	while (time - $begin < $PostgreSQL::Test::Utils::timeout_default)
	{
		return time - $begin if $condition->();
		usleep(10_000);
	}
	return;
}

# A session with a call under way; returns it and its pid.
sub calling
{
	my ($text) = @_;
	$provider->forget;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query_until(qr/begin/, "\\echo begin\nSELECT sophia.complete('chat', '$text');\n");
	ok(defined seconds_until(sub { scalar $provider->requests }), 'a call is under way');
	return ($session, $pid);
}

# The request ends at the provider as well, which notices that its connection was closed.
sub ends_at_provider
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $seconds = seconds_until(sub { ($provider->requests)[0]{gone} });
	return cmp_ok($seconds // 999, '<', SOON, $what);
}

my $gateway = $node->wait_for_worker('gateway');
is(sql("SELECT worker, database IS NULL, index IS NULL, pid, state FROM sophia.workers WHERE worker LIKE '%gateway'"),
	"sophia_stack gateway|t|t|$gateway|running", 'the gateway is listed');
sql("SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}'); SELECT sophia.create_model('chat', 'llm')");

# ---- cancel, timeout, termination ----

my ($session, $pid) = calling('#delay=60000');
is(sql("SELECT request ~ '^$pid\\.\\d+\$', database, role IS NOT NULL, provider, model, function, state, attempts FROM sophia.gateway_requests"),
	't|postgres|t|llm|chat|complete|running|1', 'it is listed');
my $begin = time;
sql("SELECT pg_cancel_backend($pid)");
$session->query('SELECT 1');
cmp_ok(time - $begin, '<', SOON, 'it can be cancelled');
like($session->{stderr}, qr/canceling statement due to user request/, 'which is the error');
ends_at_provider('and ends at the provider');
is($session->query("SELECT sophia.complete('chat', 'next')"), 'echo: next', 'the session goes on');
$session->quit;

$begin = time;
is(scalar $node->error_of("SET statement_timeout = 300; SELECT sophia.complete('chat', '#delay=60000')"), '57014: canceling statement due to statement timeout', 'statement_timeout holds');
cmp_ok(time - $begin, '<', SOON + 0.3, 'in time');
is(scalar $node->error_of("SET statement_timeout = 300; SELECT sophia.try_complete('chat', '#delay=60000')"), '57014: canceling statement due to statement timeout', 'and is no value of try_complete');

($session, $pid) = calling('#delay=60000');
$begin = time;
sql("SELECT pg_terminate_backend($pid, 10000)");
cmp_ok(time - $begin, '<', SOON, 'a session can be terminated');
ends_at_provider('and its request ends');
eval { $session->quit };

($session, $pid) = calling('#delay=60000');
$begin = time;
$session->{run}->kill_kill;
cmp_ok(seconds_until(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") eq '0' }) // 999, '<', SOON + 1, 'a client that goes away is noticed');
ends_at_provider('and its request ends');

$node->comes_true("SELECT count(*) = 0 FROM sophia.gateway_requests", 'nothing is left');
$node->comes_true("SELECT in_flight = 0 AND queued = 0 FROM sophia.provider_status", 'and nothing is counted');

# ---- an array that is cancelled ----

$provider->forget;
is(scalar $node->error_of("SET statement_timeout = 500; SELECT sophia.complete('chat', ARRAY(SELECT '#delay=200 ' || i FROM generate_series(1, 2000) AS i))"),
	'57014: canceling statement due to statement timeout', 'an array can be cancelled');
cmp_ok(scalar $provider->requests, '<', 200, 'and what was not sent yet never is');

# ---- the end of the gateway ----

($session, $pid) = calling('#delay=60000');
$begin = time;
sql("SELECT pg_terminate_backend($gateway)");
$session->query('SELECT 1');
cmp_ok(time - $begin, '<', SOON, 'who waits learns that the gateway has ended');
like($session->{stderr}, qr/the gateway ended while the call was under way/, 'by an error');
is($session->query("SELECT sophia.complete('chat', 'next')"), 'echo: next', 'and the next call finds another one');
$session->quit;
isnt($node->wait_for_worker('gateway', $gateway), $gateway, 'which the launcher has started');
is(sql("SELECT failures FROM sophia.workers WHERE worker LIKE '%gateway'"), 0, 'and it counts as no failure');

my $killed = $node->kill_worker('gateway', 'KILL');
ok($node->wait_until_up($killed), 'the server is up again after kill -9 of the gateway');
ok(defined seconds_until(sub { my ($status, $out) = $node->psql('postgres', "SELECT sophia.complete('chat', 'again')"); $out eq 'echo: again' }), 'and so is the gateway');

sql('ALTER SYSTEM SET sophia_stack.enabled = off');
$node->reload;
ok(defined seconds_until(sub { $node->error_of("SELECT sophia.complete('chat', 'x')") eq '55000: the gateway is paused' }), 'a pause is an error');
sql('ALTER SYSTEM RESET sophia_stack.enabled');
$node->reload;

# ---- addresses ----

for my $case (
	[ 'ftp://127.0.0.1', 'it starts neither with http:// nor with https://' ],
	[ 'http://ann@127.0.0.1', 'it names a user' ],
	[ 'http://127.0.0.1:99999', 'the port is no number from 1 to 65535, or something follows it' ],
	[ 'http://127.0.0.1/v1?x=1', 'what follows the host is no plain path' ],
	[ 'http://127.0.0.1/../x', 'what follows the host is no plain path' ],
	[ 'http://example.com/v1', 'plain http is allowed on loopback and private networks only' ],
	[ 'http://169.254.169.254/v1', 'link-local addresses and metadata services are not allowed' ],
	[ 'http://[fe80::1]/v1', 'link-local addresses and metadata services are not allowed' ],
	[ 'http://metadata.google.internal', 'link-local addresses and metadata services are not allowed' ])
{
	is(scalar $node->error_of("SELECT sophia.create_provider('p', 'openai', '$case->[0]')"), "22023: invalid address of a provider: $case->[1]", "is refused: $case->[0]");
}
sql("ALTER SYSTEM SET sophia_stack.provider_hosts = '169.254.169.254', '*.example.com'");
$node->reload;
ok(defined seconds_until(sub { $node->error_of("SELECT sophia.complete('chat', 'x')") =~ /^42501: .*the address is not allowed: sophia_stack.provider_hosts does not list its host/ }), 'a host that is not listed is not talked to');
sql("SELECT sophia.create_provider('metadata', 'openai', 'http://169.254.169.254/v1'); SELECT sophia.create_provider('below', 'openai', 'https://api.example.com/v1')");
pass('those that are listed may be');
is(scalar $node->error_of("SELECT sophia.create_provider('p', 'openai', 'https://example.com')"), '22023: invalid address of a provider: sophia_stack.provider_hosts does not list its host', '*.domain is what lies below it');

$node->stop;
my $plain = Sophia::Cluster->create('plain', preload => 0);
$plain->safe_psql('postgres', "SELECT sophia.create_provider('llm', 'openai', 'http://127.0.0.1:1'); SELECT sophia.create_model('chat', 'llm')");
my ($error, $whole) = $plain->error_of("SELECT sophia.complete('chat', 'x')");
is($error, '55000: there is no gateway', 'without preload there is no gateway');
like($whole, qr/HINT:  Add sophia_stack to shared_preload_libraries/, 'and the hint says so');
$plain->stop;
$provider->stop;

done_testing();
