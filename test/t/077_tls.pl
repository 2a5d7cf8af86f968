# Providers over TLS: a private authority, HTTP/2 through nginx, certificates that are not good, and answers that are none.
use strict;
use warnings;
use List::Util qw(max uniq);
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Nginx;
use Sophia::Provider;
use Test::More;

my $provider = Sophia::Provider->new;
my $two = Sophia::Nginx->new(upstream => $provider->port);
my $one = Sophia::Nginx->new(upstream => $provider->port, http2 => 0);
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A provider of that name with one model, of the same name.
sub create
{
	my ($name, $address, $options) = @_;
	return sql("SELECT sophia.create_provider('$name', 'openai', '$address', options => '$options'); SELECT sophia.create_model('$name', '$name', 'tiny')");
}

$node->wait_for_worker('gateway');
create('two', $two->address, sprintf '{"ca_file": "%s", "in_flight": 50, "timeout": 20}', $two->ca_file);
create('one', $one->address, sprintf '{"ca_file": "%s", "in_flight": 50, "timeout": 20}', $one->ca_file);
create('stranger', $two->address, '{"attempts": 3, "timeout": 20}');

# ---- HTTP/2 ----

is(sql("SELECT sophia.complete('two', 'x')"), 'echo: x', 'a provider behind TLS, by an authority of its own');
like(($two->lines)[0], qr{^HTTP/2\.0 }, 'speaks HTTP/2');
$node->comes_true("SELECT connections_open = 1 AND connections_idle = 1 AND health = 'healthy' FROM sophia.provider_status WHERE provider = 'two'", 'of which one connection is kept');
$provider->forget;
is(sql("SELECT cardinality(sophia.complete('two', ARRAY(SELECT '#delay=300 ' || i FROM generate_series(1, 100) AS i)))"), 100, 'many calls');
is(max(map { $_->{running} } $provider->requests), 50, 'run at the same time');
is(scalar(uniq map { (split)[1] } $two->lines), 1, 'over one connection');
is(sql("SELECT length(sophia.complete('two', '#big=3000000'))"), 3000000, 'a large answer');
is(sql("SELECT length(sophia.complete('two', repeat('long ', 200000)))"), 6 + 1000000, 'and a large prompt go through');
is(scalar $node->error_of("SET statement_timeout = 300; SELECT sophia.complete('two', '#delay=5000')"), '57014: canceling statement due to statement timeout', 'a call can be cancelled');
is(sql("SELECT sophia.complete('two', 'y')"), 'echo: y', 'and the connection goes on');
is(scalar(uniq map { (split)[1] } $two->lines), 1, 'as the same one');

# ---- HTTP/1.1 ----

is(sql("SELECT sophia.complete('one', 'x')"), 'echo: x', 'where there is no HTTP/2');
like(($one->lines)[0], qr{^HTTP/1\.1 }, 'HTTP/1.1 is spoken');
$provider->forget;
is(sql("SELECT cardinality(sophia.complete('one', ARRAY(SELECT '#delay=200 ' || i FROM generate_series(1, 60) AS i)))"), 60, 'many calls');
is(max(map { $_->{running} } $provider->requests), 20, 'have a connection each, as many as there may be');

# ---- certificates ----

like(scalar $node->error_of("SELECT sophia.complete('stranger', 'x')"), qr/^58000: model "stranger" of provider "stranger": could not connect: SSL certificate problem: /, 'an authority that is not known is refused');
is(sql("SELECT retries FROM sophia.provider_status WHERE provider = 'stranger'"), 0, 'and that is not tried again');
$one->certify(days => -1);
$one->stop;
$one->start;
like(scalar $node->error_of("SELECT sophia.complete('one', 'x')"), qr/^58000: .*could not connect: SSL certificate problem: certificate has expired/, 'so is a certificate that has expired');
like(sql("SELECT ok, message FROM sophia.check_provider('one')"), qr/^f\|.*certificate has expired/, 'which check_provider tells');
$one->certify(host => 'example.com');
$one->stop;
$one->start;
like(scalar $node->error_of("SELECT sophia.complete('one', 'x')"), qr/^58000: .*could not connect: SSL: /, 'and one of another host');
$one->certify;
$one->stop;
$one->start;
is(sql("SELECT sophia.complete('one', 'x')"), 'echo: x', 'with a good one all is well');
sql("SELECT sophia.alter_provider('one', options => '{\"ca_file\": \"/nowhere/ca.pem\"}')");
like(scalar $node->error_of("SELECT sophia.complete('one', 'x')"), qr/^58000: .*could not connect: error setting certificate/, 'a file of authorities that is not there is told');

# ---- what comes through nginx when the server is away ----

$provider->stop;
like(scalar $node->error_of("SELECT sophia.complete('two', 'x')"), qr/^58000: .*HTTP status 502/, 'an error page is an error');
$provider->start;
is(sql("SELECT sophia.complete('two', 'x')"), 'echo: x', 'until the server is back');

# ---- answers that are none, of chats and of embeddings ----

sql("SELECT sophia.create_model('embed', 'two', 'embed-8')");
for my $case (
	[ '#garbage', '58000', 'the answer is no JSON' ],
	[ '#other', '58000', 'the answer has (no choices|not one embedding for each text)' ],
	[ '#bytes', '22021', 'the answer holds bytes or characters that are no text' ],
	[ '#nul', '22021', 'the answer holds bytes or characters that are no text' ],
	[ '#big=70000000', '54000', 'the answer is larger than 64 MB' ],
	[ '#status=429 #retry=90', '53400', 'HTTP status 429' ],
	[ '#status=500', '58000', 'HTTP status 500' ],
	[ '#cut', '58000', 'the connection broke before the answer was whole' ])
{
	for my $call ("complete('two', 'x $case->[0]')", "embed_text('x $case->[0]', 'embed')")
	{
		sql("SELECT sophia.alter_provider('two', options => '{\"timeout\": 3, \"breaker_failures\": 0}')");
		like(scalar $node->error_of("SELECT sophia.$call"), qr/^$case->[1]: model "\w+" of provider "two": $case->[2]/, "fails: $call");
	}
}
is(sql("SELECT sophia.complete('two', '#trickle')"), 'echo: #trickle', 'an answer that comes in small pieces is taken');
is(scalar $node->error_of("SET statement_timeout = 200; SELECT sophia.complete('two', '#delay=2000 #trickle')"), '57014: canceling statement due to statement timeout', 'or can be cancelled');

$node->stop;
$_->stop for $one, $two, $provider;
done_testing();
