# A broker that demands tokens: none, the right one, one of another collection, one that expires; and where the token never appears.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Expected;
use Sophia::Secrets;
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time);

use constant ANN => '030000000001';

my $broker = Sophia::Broker->new(auth_key => 'supersecret')->start;
my $expected = Sophia::Expected->new('merge');
my $writer = Sophia::Writer->new($broker, $broker->create_journal('acme/contacts'), [$expected]);
my $other = Sophia::Writer->new($broker, $broker->create_journal('acme/other'));
$other->outside(ANN, { id => 'other' });
$other->put;

my $secrets = Sophia::Secrets->new;
my @tokens;         # every one that was ever used

sub new_token
{
	push @tokens, $broker->token(@_);
	return $tokens[-1];
}

$ENV{SOPHIA_TEST_TOKEN} = new_token(collection => 'acme/contacts');
my $node = Sophia::Cluster->create('main', secrets => $secrets->folder, conf => "log_statement = all\nlog_min_messages = debug1\nlog_error_verbosity = verbose\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub append
{
	my ($id) = @_;
	$writer->transaction(ANN, { id => $id, properties => { firstname => $id } });
	$writer->put;
	return;
}

sql('SELECT sophia.create_schemas()');
append('first');

# ---- none ----

sql("SELECT sophia.create_endpoint('none', 'broker', '${\$broker->address}')");
like(sql("SELECT ok, message FROM sophia.check_endpoint('none')"), qr/^f\|could not list journals: the broker answered 401: \S/, 'without a token check_endpoint() tells the broker\'s words');
like(scalar $node->error_of("SELECT * FROM sophia.collections('none')"), qr/^28000: .*401/, 'collections() raises them');
sql("SELECT sophia.create_stream('none', 'none', 'acme/contacts', 'slack.users')");
$node->comes_true("SELECT state = 'starting' AND last_error ~ 'the broker answered 401: .' FROM sophia.stream_status WHERE stream = 'none'", 'stream_status tells them, too');
note sql("SELECT last_error FROM sophia.stream_status WHERE stream = 'none'");
ok(!$node->await_stream('none', 1), 'nothing is awaited');

# ---- from a file and from the environment ----

$secrets->write('broker-token', new_token(collection => 'acme/contacts'));
sql("SELECT sophia.create_endpoint('file', 'broker', '${\$broker->address}', '{\"token\": \"file:broker-token\"}')");
sql("SELECT sophia.create_endpoint('env', 'broker', '${\$broker->address}', '{\"token\": \"env:SOPHIA_TEST_TOKEN\"}')");
for my $endpoint (qw(file env))
{
	is(sql("SELECT ok, message FROM sophia.check_endpoint('$endpoint')"), 't|endpoint answers: 1 collections, 1 journals', "a token of $endpoint: opens the broker");
	is(sql("SELECT collection, journals, bytes FROM sophia.collections('$endpoint')"), "acme/contacts|1|$writer->{offset}", 'but only its collection');
}
sql("SELECT sophia.create_stream('contacts', 'file', 'acme/contacts', 'hubspot.contacts')");
sql("SELECT sophia.create_stream('users', 'env', 'acme/contacts', 'slack.users')");
append('second');
for my $stream (qw(contacts users))
{
	ok($node->await_stream($stream), "stream $stream is caught up");
	is(sql("SELECT state, journals, documents_applied, last_error FROM sophia.stream_status WHERE stream = '$stream'"), 'running|1|2|', 'and has no error');
}

# ---- missing secrets ----

sql("SELECT sophia.create_endpoint('missing', 'broker', '${\$broker->address}', '{\"token\": \"file:missing\"}')");
like(sql("SELECT ok, message FROM sophia.check_endpoint('missing')"), qr/^f\|.*could not open secret file "missing": No such file/, 'a file that is missing is told');
sql("SELECT sophia.create_endpoint('unset', 'broker', '${\$broker->address}', '{\"token\": \"env:SOPHIA_NOT_SET\"}')");
like(sql("SELECT ok, message FROM sophia.check_endpoint('unset')"), qr/^f\|.*environment variable "SOPHIA_NOT_SET" is not set/, 'so is a variable');

# ---- of another collection, of another key ----

$secrets->write('other-token', new_token(collection => 'acme/other'));
sql("SELECT sophia.create_endpoint('other', 'broker', '${\$broker->address}', '{\"token\": \"file:other-token\"}')");
is(sql("SELECT collection FROM sophia.collections('other')"), 'acme/other', 'a token of another collection shows that one');
sql("SELECT sophia.create_stream('other', 'other', 'acme/contacts', 'slack.channels')");
ok($node->await_stream('other'), 'a stream with it has nothing to wait for');
is(sql("SELECT journals, documents_applied FROM sophia.stream_status WHERE stream = 'other'"), '0|0', 'and finds no journal');
push @tokens, Sophia::Jwt::mint(key => 'wrong key');
$secrets->write('wrong-token', $tokens[-1]);
sql("SELECT sophia.create_endpoint('wrong', 'broker', '${\$broker->address}', '{\"token\": \"file:wrong-token\"}')");
like(sql("SELECT ok, message FROM sophia.check_endpoint('wrong')"), qr/^f\|.*the broker answered 401: .*signature/, 'a token of another key is refused');

# The stream that had the wrong scope gets the right one.
$secrets->write('other-token', new_token(collection => 'acme/contacts'));
ok($node->await_stream('other'), 'a wrong token is replaced by the right one');
is(sql("SELECT journals, documents_applied FROM sophia.stream_status WHERE stream = 'other'"), '1|2', 'and the stream reads');

# ---- one that expires while it is read with ----

$secrets->write('broker-token', new_token(collection => 'acme/contacts', lifetime => 8));
sql("SELECT sophia.stop_stream('contacts')");
sql("SELECT sophia.start_stream('contacts')");
append('third');
ok($node->await_stream('contacts'), 'a token that expires soon is good at first');
$node->comes_true("SELECT last_error ~ 'the broker answered 401: .*expired' FROM sophia.stream_status WHERE stream = 'contacts'", 'its end is told');
is(sql("SELECT state FROM sophia.stream_status WHERE stream = 'contacts'"), 'running', 'but the stream goes on trying');
append('fourth');
$secrets->write('broker-token', new_token(collection => 'acme/contacts'));
my $started = time;
$node->comes_true("SELECT EXISTS (SELECT FROM hubspot_raw.contacts WHERE id = 'fourth')", 'a fresh token is found without anybody asking');
my $took = time - $started;
note sprintf 'after %.1f s', $took;
cmp_ok($took, '<', 60, 'soon');
ok($node->await_stream('contacts'), 'the stream is caught up');
is($expected->differences($node, 'hubspot_raw.contacts'), '', 'the rows are right');
$node->comes_true("SELECT last_error IS NULL FROM sophia.stream_status WHERE stream = 'contacts'", 'and the error goes');

# ---- never to be seen ----

my $known = join "\n", slurp_file($node->logfile), sql('SELECT * FROM pg_stat_activity'), sql('SELECT * FROM sophia.stream_status'),
  sql('SELECT * FROM sophia.workers'), sql('SELECT name, setting, reset_val FROM pg_settings'),
  map { sql("SELECT t::text FROM $_ AS t") } split /\n/,
  sql("SELECT oid::regclass FROM pg_class WHERE relnamespace = 'sophia'::regnamespace AND relkind IN ('r', 'v')");
cmp_ok(length $known, '>', 10_000, 'there is something to search');
for my $i (0 .. $#tokens)
{
	my ($signature) = $tokens[$i] =~ /\.([^.]+)$/;
	ok(index($known, $tokens[$i]) < 0 && index($known, $signature) < 0, "token number $i is nowhere to be seen");
}

$node->stop;
$broker->stop_all;
done_testing();
