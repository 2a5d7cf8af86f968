# Collections of Estuary: the control plane hands out broker, token and journals.  The control plane is a stand-in, which
# is a paid service; the broker is real and verifies the tokens.
use strict;
use warnings;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::ControlPlane;
use Sophia::Documents;
use Sophia::Proxy;
use Sophia::Secrets;
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time);

use constant { ANN => '030000000001', FIRST => '1122334455667788', SECOND => '99aabbccddeeff00' };

my $broker = Sophia::Broker->new(auth_key => 'supersecret')->start;
my $plane = Sophia::ControlPlane->new($broker);
my $secrets = Sophia::Secrets->new;
my %token = (ann => $plane->user('ann@acme.test', 'acme/'), bob => $plane->user('bob@other.test', 'other/'));
$token{none} = encode_base64('{"id":"00:11:22:33:44:55:66:77","secret":"01234567-89ab-cdef-0123-456789abcdef"}', '');     # of nobody

$secrets->write($_, $token{$_}) for keys %token;
my $node = Sophia::Cluster->create('main', secrets => $secrets->folder,
	conf => "sophia_stack.control_plane = '${\$plane->address}'\nlog_statement = all\nlog_min_messages = debug1\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub wait_for_error
{
	my ($stream, $pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->comes_true("SELECT last_error ~ '$pattern' FROM sophia.stream_status WHERE stream = '$stream'", $what);
	note "$stream: " . sql("SELECT state, last_error FROM sophia.stream_status WHERE stream = '$stream'");
	return;
}

sub wait_for_no_error
{
	my ($stream) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $node->comes_true("SELECT state = 'running' AND last_error IS NULL FROM sophia.stream_status WHERE stream = '$stream'", "stream $stream has no error any more");
}

# A collection that the control plane knows, with a journal of the first generation; parameters of its collection().
sub collection
{
	my ($name, %p) = @_;
	$plane->collection("acme/$name", prefix => "acme/$name/${\FIRST}/", %p);
	my $writer = Sophia::Writer->new($broker, $broker->create_journal("acme/$name", generation => FIRST));
	append($writer, "$name 1");
	return $writer;
}

sub append
{
	my ($writer, $id) = @_;
	$writer->transaction(ANN, { id => $id });
	$writer->put;
	return;
}

sub follow
{
	my ($name, $endpoint) = @_;
	sql("SELECT sophia.create_stream('$name', '${\($endpoint // 'ann')}', 'acme/$name', 'slack.users')");
	return;
}

sub applied { return sql("SELECT documents_applied FROM sophia.stream_status WHERE stream = '$_[0]'") }

sub requests { return $plane->requests("acme/$_[0]") }

sql('SELECT sophia.create_schemas()');

# ---- endpoints ----

for my $wrong (
	[ "'estuary', ''", 'an endpoint of kind "estuary" needs the option "token"' ],
	[ "'estuary', 'nowhere', '{\"token\": \"file:ann\"}'", 'invalid address of a control plane: it starts neither with http:// nor with https://' ],
	[ "'estuary', 'http://169.254.169.254', '{\"token\": \"file:ann\"}'", 'invalid address of a control plane: link-local addresses and metadata services are not allowed' ],
	[ "'estuary', '', '{\"token\": \"file:ann\", \"prefix\": \"acme/\"}'", 'endpoint options "prefix" and "data_plane" go together' ],
	[ "'estuary', '', '{\"token\": \"file:ann\", \"prefix\": \"acme\", \"data_plane\": \"ops/dp/local\"}'", 'invalid value of endpoint option "prefix"' ],
	[ "'estuary', '', '{\"token\": \"file:ann\", \"prefix\": \"acme/\", \"data_plane\": 1}'", 'invalid value of endpoint option "data_plane"' ],
	[ "'estuary', '', '{\"token\": \"$token{ann}\"}'", 'option "token" must name a secret as env:NAME or file:name' ],
	[ "'broker', '${\$broker->address}', '{\"prefix\": \"acme/\", \"data_plane\": \"ops/dp/local\"}'", 'endpoint options "prefix" and "data_plane" belong to kind "estuary"' ],
	[ "'other', ''", 'unknown kind of endpoint "other"' ])
{
	# what must not be logged is left out of the log by the test itself
	is(scalar $node->error_of("SET log_statement = 'none'; SELECT sophia.create_endpoint('wrong', $wrong->[0])"), "22023: $wrong->[1]", "is refused: $wrong->[1]");
}
sql("SELECT sophia.create_endpoint('ann', 'estuary', '', '{\"token\": \"file:ann\"}')");
sql("SELECT sophia.create_endpoint('bob', 'estuary', '${\$plane->address}', '{\"token\": \"file:bob\"}')");
sql("SELECT sophia.create_endpoint('none', 'estuary', '', '{\"token\": \"file:none\"}')");
sql("SELECT sophia.create_endpoint('whole', 'estuary', '', '{\"token\": \"file:ann\", \"prefix\": \"acme/\", \"data_plane\": \"ops/dp/local\"}')");

# ---- all is well ----

my $writer = collection('contacts');
my $second = Sophia::Writer->new($broker, $broker->create_journal('acme/contacts', generation => FIRST, pivot => '80000000'));
append($second, 'contacts 2');
$broker->create_journal('other/secret');
like(sql("SELECT ok, message FROM sophia.check_endpoint('ann')"), qr/^f\|.*needs the options "prefix" and "data_plane"/, 'without a prefix there is nothing to list yet');
follow('contacts');
ok($node->await_stream('contacts'), 'the stream is caught up');
is(sql("SELECT state, journals, documents_applied, last_error FROM sophia.stream_status WHERE stream = 'contacts'"), 'running|2|2|', 'both journals were read');
append($writer, 'contacts 3');
$node->comes_true("SELECT EXISTS (SELECT FROM slack_raw.users WHERE id = 'contacts 3')", 'and are followed');
my @asked = requests('contacts');
is(scalar @asked, 1, 'the control plane was asked once');
is($asked[0]{path}, '/authorize/user/collection', 'for the collection');
is($asked[0]{user}, 'ann@acme.test', 'with the refresh token');
cmp_ok(abs($asked[0]{request}{startedUnix} - $asked[0]{time}), '<', 30, 'and told when the question began');
is_deeply([ sort keys %{ $asked[0]{request} } ], [qw(capability collection startedUnix)], 'and nothing else');
is(sql("SELECT ok, message FROM sophia.check_endpoint('ann')"), 't|endpoint answers: 1 collections, 2 journals', 'an endpoint without a prefix is checked by one of its streams');
like(scalar $node->error_of("SELECT * FROM sophia.collections('ann')"), qr/^22023: .*needs the options/, 'but lists no collections');
like(sql("SELECT ok, message FROM sophia.check_endpoint('whole')"), qr/^f\|no access to "acme\/": the control plane answered 404: data-plane ops\/dp\/local is not known/, 'a wrong data plane is told');
$plane->collection('acme/', data_plane => 'ops/dp/local');
is(sql("SELECT ok, message FROM sophia.check_endpoint('whole')"), 't|endpoint answers: 1 collections, 2 journals', 'an endpoint with a prefix is checked by it');
is(sql("SELECT collection, journals, bytes FROM sophia.collections('whole')"), "acme/contacts|2|" . ($writer->{offset} + $second->{offset}), 'and lists what is below it');
is(($plane->requests('acme/'))[-1]{path}, '/authorize/user/prefix', 'by the authorization for a prefix');

# ---- the control plane has no answer yet ----

collection('later');
$plane->answer('acme/later', ({ retryMillis => 700 }) x 3);
follow('later');
ok($node->await_stream('later'), 'a provisional answer is waited out');
@asked = requests('later');
is(scalar @asked, 4, 'it is asked again for each');
is(scalar(keys %{ { map { $_->{request}{startedUnix} => 1 } @asked } }), 1, 'as one question');
cmp_ok($asked[$_]{time} - $asked[ $_ - 1 ]{time}, '>=', 0.69, 'not before its time') for 1 .. 3;

collection('redirected');
$plane->answer('acme/redirected', { redirect => 2 });
follow('redirected');
ok($node->await_stream('redirected'), 'a redirection is followed');
@asked = requests('redirected');
is(scalar @asked, 2, 'once');
like($asked[1]{query}, qr/^started=.*&retryAfter=/, 'to the place that it names');
is_deeply($asked[1]{request}, $asked[0]{request}, 'with the same question');
cmp_ok($asked[1]{time} - $asked[0]{time}, '>=', 1, 'after its date');        # which is in whole seconds

collection('lured');
my $elsewhere = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 5) or die;
my @lures = map { { redirect => 0, location => $_ } }
  'http://127.0.0.1:' . $elsewhere->sockport . '/authorize/user/collection', '/other/place', '//' . $plane->address =~ s{^http://}{}r . '.evil.test/authorize/user/collection';
$plane->answer('acme/lured', (@lures) x 3);
follow('lured');
wait_for_error('lured', 'no access to "acme/lured": the control plane redirects to another place', 'a redirection to another place is not followed');
ok(eventually(sub { requests('lured') >= @lures }), 'wherever that is');
$plane->forget_answers('acme/lured');
ok($node->await_stream('lured'), 'but the question asked again');
is(scalar(grep { $_->{query} ne '' } requests('lured')), 0, 'where it was asked before');
ok(!IO::Select->new($elsewhere)->can_read(0), 'and nobody else saw the refresh token');

# ---- refusals ----

collection($_) for qw(refused forbidden masked cordoned malformed);
append(Sophia::Writer->new($broker, $broker->create_journal('acme/unknown', generation => FIRST)), 'unknown 1');
$plane->collection('acme/masked', masked => 1);
$plane->collection('acme/cordoned', down => 1);
$plane->answer('acme/malformed', { status => 400, body => "capability must be one of\nread, write" });
my @refusals = (
	[ 'refused', 'none', '401: invalid refresh token' ],
	[ 'forbidden', 'bob', '403: bob@other.test is not authorized to acme/forbidden for Read' ],
	[ 'masked', 'ann', '403: the token was not granted what this needs; missing: ReadCollections' ],
	[ 'unknown', 'ann', '404: collection acme/unknown is not known' ],
	[ 'cordoned', 'ann', '503: data-plane is cordoned for migration' ],
	[ 'malformed', 'ann', '400: capability must be one of read, write' ]);
follow($_->[0], $_->[1]) for @refusals;
wait_for_error($_->[0], "^no access to \"acme/$_->[0]\": the control plane answered $_->[2]\$", "the words of a refusal are told: $_->[0]") for @refusals;
is(sql("SELECT string_agg(stream || ' ' || state, ', ' ORDER BY stream) FROM sophia.stream_status WHERE journals = 0"),
	'cordoned starting, forbidden starting, malformed failed, masked starting, refused starting, unknown starting', 'only a question that is wrong in itself fails the stream');
my $started = time;
$secrets->write($_, $token{ann}) for qw(none bob);
$plane->collection('acme/masked', masked => 0);
$plane->collection('acme/cordoned', down => 0);
$plane->collection('acme/unknown', prefix => "acme/unknown/${\FIRST}/");
sql("SELECT sophia.start_stream('malformed')");
for my $stream (map { $_->[0] } @refusals)
{
	ok($node->await_stream($stream), "stream $stream goes on when the cause is gone");
	is(applied($stream), 1, 'and reads');
	wait_for_no_error($stream);
}
note sprintf 'after %.1f s', time - $started;

# ---- tokens of no use: clocks that differ, and a scope that is too narrow ----

collection('skewed', skew => 9);
follow('skewed');
wait_for_error('skewed', 'the broker answered 401: .*before issued', 'a token of the future is refused');
collection('narrow', scope => 'acme/other/');
follow('narrow');
$node->comes_true("SELECT state = 'running' FROM sophia.stream_status WHERE stream = 'narrow'", 'a token of another scope shows no journal');
cmp_ok(scalar(requests('narrow')), '>=', 2, 'which is believed of a second token only');
is(applied('narrow'), 0, 'nothing is read');
$plane->collection('acme/narrow', scope => undef);

# ---- tokens that end ----

my $proxy = Sophia::Proxy->new($broker);
$writer = collection('renewed', lifetime => 4, broker => $proxy->address);
follow('renewed');
$started = time;
for my $i (2 .. 6)
{
	append($writer, "renewed $i");
	ok($node->await_stream('renewed'), "append $i is read");
	is(sql("SELECT last_error FROM sophia.stream_status WHERE stream = 'renewed'"), '', 'without an error');
	select undef, undef, undef, 0.9;
}
@asked = requests('renewed');
cmp_ok(scalar @asked, '>=', 3, 'a token is renewed before it ends: ' . @asked . ' requests');
cmp_ok(scalar @asked, '<=', 1 + time - $started, 'but not all the time');
# one that went on until its token ended would be one for two tokens
ok(eventually(sub { $proxy->requests(qr/"block":true/) >= @asked }), 'and blocking reads are sent anew with it');
$plane->collection('acme/renewed', lifetime => 3600);

$writer = collection('expired', lifetime => 3);
follow('expired');
ok($node->await_stream('expired'), 'a token that expires soon is good at first');
$plane->collection('acme/expired', down => 1);
wait_for_error('expired', 'the control plane answered 503', 'when it cannot be renewed, that is told');
select undef, undef, undef, 2;
append($writer, 'expired 2');
$plane->collection('acme/expired', down => 0, lifetime => 3600);
$started = time;
$node->comes_true("SELECT EXISTS (SELECT FROM slack_raw.users WHERE id = 'expired 2')", 'a blocking read that a token ended goes on with the next one');
cmp_ok(time - $started, '<', 60, sprintf 'after %.1f s', time - $started);
wait_for_no_error('expired');
is(applied('expired'), 2, 'nothing is read twice');

# ---- the tokens of no use ----

ok($node->await_stream('skewed'), 'a token of the future is good when its time has come');
wait_for_no_error('skewed');
is(scalar(requests('skewed')), 2, 'the control plane was asked a second time, and no more');

# ---- a token that becomes too narrow ----

$writer = collection('narrowed', lifetime => 4);
follow('narrowed');
ok($node->await_stream('narrowed'), 'a token of the right scope at first');
my $before = requests('narrowed');
$plane->answer('acme/narrowed', { grant => { scope => 'acme/other/' } });
$plane->collection('acme/narrowed', lifetime => 3600);
ok(eventually(sub { requests('narrowed') > $before }), 'then one that covers another journal');
append($writer, 'narrowed 2');
ok($node->await_stream('narrowed'), 'is not believed');
is(applied('narrowed'), 2, 'and the journal is read on');
wait_for_no_error('narrowed');
is($broker->write_head($writer->journal), sql("SELECT applied_offset FROM sophia.stream_journals WHERE stream = 'narrowed'"), 'up to its head');

# ---- a broker that moves ----

$writer = collection('moved', lifetime => 4, broker => 'http://169.254.169.254');
follow('moved');
wait_for_error('moved', 'the control plane gave an invalid address of a broker: link-local', 'not every address is taken');
$plane->collection('acme/moved', broker => $broker->address . '/');
ok($node->await_stream('moved'), 'a broker\'s address may end with a slash');
$plane->collection('acme/moved', broker => $broker->address =~ s/127.0.0.1/localhost/r);
$before = requests('moved');
ok(eventually(sub { requests('moved') > $before }), 'it gets another address');
append($writer, 'moved 2');
ok($node->await_stream('moved'), 'and is found there');
is(applied('moved'), 2, 'where it goes on');

# ---- a collection that is reset ----

my $old = collection('reset', lifetime => 4);
follow('reset');
ok($node->await_stream('reset'), 'the first generation is read');
my $new = Sophia::Writer->new($broker, $broker->create_journal('acme/reset', generation => SECOND));
append($new, 'reset 2');
append($new, 'reset 3');
append($old, 'reset 4');
ok($node->await_stream('reset'), 'as long as it is the one');
is(sql("SELECT string_agg(id, ',' ORDER BY id) FROM slack_raw.users WHERE id ~ '^reset'"), 'reset 1,reset 4', 'and it alone');
$broker->delete_journal($old->journal);
$plane->collection('acme/reset', prefix => "acme/reset/${\SECOND}/", lifetime => 3600);
$node->comes_true("SELECT count(*) = 4 FROM slack_raw.users WHERE id ~ '^reset'", 'the second generation is read from its beginning');
append($new, 'reset 5');
ok($node->await_stream('reset'), 'the old one is not waited for');
is(applied('reset'), 5, 'each document counts once');
wait_for_no_error('reset');
like(join('', grep { /was reset/ } split /^/, slurp_file($node->logfile)), qr{LOG:  collection "acme/reset" was reset: its journals now begin with "acme/reset/${\SECOND}/"}, 'and the log tells');
is(sql("SELECT count(*) FROM sophia.stream_journals WHERE stream = 'reset'"), 2, 'both generations are on record');

# Whoever lists the journals again has another token asked for, but not all the time.
ok(eventually(sub { $node->await_stream('narrow') && applied('narrow') == 1 }), 'with the right scope the first stream of a narrow token reads');
cmp_ok(scalar(requests('narrow')), '<=', 4, 'which took ' . requests('narrow') . ' tokens');

# ---- never to be seen ----

my $known = join "\n", slurp_file($node->logfile), sql('SELECT * FROM pg_stat_activity'), sql('SELECT * FROM sophia.stream_status'),
  sql('SELECT * FROM sophia.workers'), sql('SELECT name, setting, reset_val FROM pg_settings'),
  map { sql("SELECT t::text FROM $_ AS t") } split /\n/,
  sql("SELECT oid::regclass FROM pg_class WHERE relnamespace = 'sophia'::regnamespace AND relkind IN ('r', 'v')");
cmp_ok(length $known, '>', 10_000, 'there is something to search');
ok(index($known, $token{$_}) < 0, "the refresh token of $_ is nowhere to be seen") for sort keys %token;
ok($known !~ /eyJ[\w-]+\.eyJ/, 'nor is a token of the broker');

$node->stop;
$plane->stop;
$proxy->stop;
$broker->stop_all;
done_testing();

sub eventually
{
	my ($condition) = @_;
	my $until = time + 120;
	while (!$condition->())
	{
		return 0 if time > $until;
		select undef, undef, undef, 0.1;
	}
	return 1;
}
