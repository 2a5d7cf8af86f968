# Fragments that a broker hands out signed URLs for: fetched from their store, proved, and read through the broker where
# that does not work.  The real broker's store is a folder, whose fragments a proxy serves as a cloud does.
use strict;
use warnings;
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Expected;
use Sophia::Proxy;
use Sophia::Wait qw(wait_for);
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time);

use constant { ANN => '030000000001', BEN => '030000000002', FRAGMENT => 65536 };

my $broker = Sophia::Broker->new(auth_key => 'secret of the broker')->start;
srand(20261123);    # of texts that do not compress
my $proxy = Sophia::Proxy->new($broker);
$proxy->serve_fragments;
$ENV{SOPHIA_TEST_TOKEN} = $broker->token;
my $node = Sophia::Cluster->create('main', conf => "log_statement = all\n");
my $expected = Sophia::Expected->new('lastWriteWins');
my $writer = Sophia::Writer->new($broker, $broker->create_journal('acme/users', fields => [ [ 'region', 'a%2Fb' ] ], fragment => { length => FRAGMENT }), [$expected]);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The fragment files of a journal, in order.
sub fragments { my @files = glob $broker->file_root . '/' . $_[0]->journal . '/*'; return @files }

# Appends about so many fragments, the last of which is persisted, and waits until the broker hands them out.
my $number = 0;

sub append
{
	my ($to, $count) = @_;
	for (1 .. $count)
	{
		$to->transaction(ANN, map { $number++; { id => $number % 500, name => "n$number", text => join ' ', map { int rand 1e9 } 1 .. 60 } } 1 .. FRAGMENT / 500);
		$to->put;
	}
	# a fragment that has its length is persisted once the next append begins another one
	$to->outside(BEN, { id => 'last', name => join ' ', map { int rand 1e9 } 1 .. FRAGMENT / 8 });
	$to->put;
	$broker->wait_until_persisted($to->journal, $to->{offset});
	return;
}

# Every stream begins anew, so that it has to catch up with all that there is; returns the seconds that it took.
my $streams = 0;

sub follow
{
	my ($what, %p) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $collection = $p{collection} // 'acme/users';
	sql("SELECT sophia.drop_stream(stream) FROM sophia.streams") if $streams++;
	sql('TRUNCATE slack_raw.users');
	my $started = time;
	sql("SELECT sophia.create_stream('users', 'broker', '$collection', 'slack.users')");
	return if $p{start_only};
	return arrived($what, $started);
}

sub arrived
{
	my ($what, $started) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->await_stream('users'), "$what: the stream is caught up");
	is($expected->differences($node, 'slack_raw.users'), '', "$what: the rows are right");
	$node->wait_until_well('users');
	is(sql("SELECT documents_applied, documents_dead, state, last_error FROM sophia.stream_status WHERE stream = 'users'"), $expected->committed . '|0|running|',
		"$what: each document counted once, and no error is left");
	return time - ($started // time);
}

# Requests so far, of fragments, and of reads that are not for metadata only.
sub fetched { return scalar $proxy->requests(qr{^GET /fragments/}) }
sub read_from_broker { return $proxy->requests(qr{^POST \S+/read \{.*"block":true}) }

# Temporary files that the server holds.
sub spools { my @files = grep { -e } glob $node->data_dir . '/base/pgsql_tmp/pgsql_tmp*'; return @files }

sql('SELECT sophia.create_schemas()');
sql("SELECT sophia.create_endpoint('broker', 'broker', '${\$proxy->address}', '{\"token\": \"env:SOPHIA_TEST_TOKEN\"}')");

# ---- from the store ----

append($writer, 6);
my $fragments = fragments($writer);
cmp_ok($fragments, '>=', 5, 'there are some fragments');
follow('from the store');
is(fetched(), $fragments, 'each fragment is fetched once');
my @reads = read_from_broker();
is(scalar(grep { $_->{body} !~ /"offset":"$writer->{offset}"/ } @reads), 0, 'and nothing is read through the broker but what comes behind them');
my ($fetch) = $proxy->requests(qr{^GET /fragments/});
like($fetch->{path}, qr{/region=a%252Fb/}, 'a percent sign of a journal is one of the URL');
is($fetch->{headers}{authorization}, undef, 'the token of the broker is not for the store');
is($fetch->{headers}{'accept-encoding'}, 'gzip', 'and the file is wanted as it is stored');
$writer->outside(BEN, { id => 'live', name => 'live' });
$writer->put;
arrived('live');
is(fetched(), $fragments, 'what is not persisted is read from the broker');
is(scalar(spools()), 0, 'no temporary file stays');

# ---- a stream that goes on inside a fragment ----

append($writer, 2);
arrived('from the store and live');
sql("SELECT sophia.stop_stream('users')");
append($writer, 3);
my $before = fetched();
sql("SELECT sophia.start_stream('users')");
arrived('overlap');
cmp_ok(fetched() - $before, '>=', 3, 'fragments that were written meanwhile are fetched');

# ---- several members ----

my $fault = $proxy->fault(on => 'fragment', times => 0, edit => [ 'members', 7 ]);
follow('several members');
cmp_ok($proxy->applied($fault), '>=', $fragments, 'gzip of several members is one content');
$proxy->clear;

# ---- transfers that break off ----

for my $case ([ 'cut at once', stop => { bytes => 0 } ], [ 'cut', stop => { bytes => 12345 } ], [ 'reset', stop => { bytes => 20000 }, ending => 'reset' ],
	[ 'shorter than named', edit => [ 'shorten', 100 ] ], [ 'an empty answer', answer => { status => 200, body => '' } ])
{
	my ($what, @how) = @$case;
	$before = fetched();
	$fault = $proxy->fault(on => 'fragment', times => 2, @how);
	follow($what);
	is($proxy->applied($fault), 2, "$what: happened");
	is(fetched() - $before, fragments($writer) + 2, "$what: the fragment is fetched again");
}

# ---- expired URLs ----

$proxy->serve_fragments(lifetime => 4);
$fault = $proxy->fault(on => 'fragment', delay => 4.2);
$before = fetched();
follow('expired URLs');
is(fetched() - $before, fragments($writer) + 1, 'a fragment whose URL has expired is fetched again');
$proxy->serve_fragments;
my @metadata = $proxy->requests(qr/"offset":"0","metadataOnly":true/);
cmp_ok(scalar @metadata, '>=', 2, 'metadata is asked for again after 403');
is(scalar(() = slurp_file($node->logfile) =~ /are read through the broker/g), 0, 'none of this leads to the broker');

# ---- what is not the fragment ----

for my $case ([ 'longer than named', [ 'lengthen', 100 ], 'more than the \d+ bytes' ], [ 'another byte', [ 'corrupt', 100 ], 'SHA-1' ])
{
	my ($what, $edit, $reason) = @$case;
	my $log = -s $node->logfile;
	$before = fetched();
	$fault = $proxy->fault(on => 'fragment', edit => $edit);
	follow($what);
	is(fetched() - $before, scalar fragments($writer), "$what: it is not fetched again");
	like(substr(slurp_file($node->logfile), $log), qr/LOG:  bytes 0 to \d+ of journal "\S+" are read through the broker\n.*DETAIL:  They could not be fetched from their store: .*$reason/,
		"$what: the log tells why it is read through the broker");
}

# ---- a store that is not there, or not to be talked to ----

my $log = -s $node->logfile;
$fault = $proxy->fault(on => 'fragment', times => 0, answer => { status => 404, body => 'no such key' });
follow('a store without the fragments');
like(substr(slurp_file($node->logfile), $log), qr/DETAIL:  They could not be fetched from their store: the store answered 404/, 'the log tells that the store has them not');
$proxy->clear;
for my $host ('169.254.169.254', '[fe80::1]', '100.100.100.200')
{
	$log = -s $node->logfile;
	$proxy->serve_fragments(host => $host);
	follow("host $host");
	like(substr(slurp_file($node->logfile), $log), qr/DETAIL:  They could not be fetched from their store: link-local and metadata addresses are refused/, 'is refused');
}
$proxy->serve_fragments;

# ---- large fragments: spooled, in bounded memory ----

my $large = Sophia::Writer->new($broker, $broker->create_journal('acme/large', fragment => { length => 1 << 30 }), []);
my $words = join ' ', map { int rand 1e9 } 1 .. 20_000;
for my $i (1 .. 40)
{
	$large->transaction(ANN, { id => "large $i", name => $words });
	$large->transaction(ANN, map { { id => "same", name => $words } } 1 .. 10);
	$large->put;
}
my $megabytes = int $large->{offset} / 1e6;
cmp_ok($megabytes, '>', 80, "$megabytes MB of content");
$broker->gazctl('journals', 'suspend', '--selector', 'name=' . $large->journal, '--force');    # flushes its fragments
wait_for('the large fragment to be persisted', sub {
	my $answer = eval { ($broker->post('read', { journal => $large->journal, offset => $large->{offset} - 1, metadataOnly => JSON::PP::true }))[0] };
	$answer && $answer->{fragmentUrl};
});
my $pid = $node->wait_for_worker('ingest');
my $spooled = 0;
sql("SELECT sophia.drop_stream('users')");
$node->kill_worker('ingest', 'TERM');
$pid = $node->wait_for_worker('ingest', $pid);
sql("SELECT sophia.create_stream('users', 'broker', 'acme/large', 'slack.users')");
wait_for('the large documents', sub {
	$spooled = max($spooled, map { -s } spools());
	sql("SELECT documents_applied FROM sophia.stream_status WHERE stream = 'users'") == 440;
});
cmp_ok($spooled, '>', 1e6, 'the fragment was spooled to a temporary file');
my ($peak) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
my ($shared) = slurp_file("/proc/$pid/status") =~ /^RssShmem:\s+(\d+) kB/m;
note sprintf '%d MB of content, spool %.1f MB, peak of the worker %.1f MB, %.1f of it shared', $megabytes, $spooled / 1e6, $peak / 1e3, $shared / 1e3;
SKIP: {
	skip 'AddressSanitizer keeps memory that was freed', 1 if $ENV{SOPHIA_SANITIZED};
	cmp_ok($peak - $shared, '<', 60_000, 'but not held in memory');
}
wait_for('the spool to go', sub { !spools() });

# ---- no room for the spool ----

$log = -s $node->logfile;
sql("SELECT sophia.drop_stream('users')");
sql("ALTER SYSTEM SET temp_file_limit = '100kB'");
sql('SELECT pg_reload_conf()');
sql("SELECT sophia.create_stream('users', 'broker', 'acme/large', 'slack.users')");
ok($node->await_stream('users'), 'without room for a spool the stream is caught up, too');
like(substr(slurp_file($node->logfile), $log), qr/are read through the broker\n.*DETAIL:  .*temporary file size exceeds temp_file_limit/, 'through the broker, which the log explains');
is(sql("SELECT state, last_error FROM sophia.stream_status WHERE stream = 'users'"), 'running|', 'and no error is left');
is(scalar(spools()), 0, 'nor a temporary file');

unlike(slurp_file($node->logfile), qr/signature=/, 'no signed URL is ever logged');

$node->stop;
$proxy->stop;
$broker->stop_all;
done_testing();
