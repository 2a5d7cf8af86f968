# What a broker may do to its readers: answers that end anywhere, holes, a head that goes back, and a list of journals
# that changes.  The real broker does most of it; a proxy in front of it the rest.
use strict;
use warnings;
use File::Spec;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Expected;
use Sophia::Proxy;
use Sophia::Wait qw(wait_for);
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time usleep);

use constant { ANN => '030000000001', BEN => '030000000002', FRAGMENT => 4096 };

my $broker = Sophia::Broker->new->start;
my $proxy = Sophia::Proxy->new($broker);
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub writer
{
	my ($collection, $expected, %p) = @_;
	return Sophia::Writer->new($broker, $broker->create_journal($collection, %p), [ $expected // () ]);
}

# Waits until a stream is caught up, and compares.
sub arrived
{
	my ($stream, $expected, $table, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->await_stream($stream), "$what: the stream is caught up");
	is($expected->differences($node, $table), '', "$what: the rows are right");
	$node->wait_until_well($stream);
	is(sql("SELECT documents_applied, documents_dead, state, last_error FROM sophia.stream_status WHERE stream = '$stream'"),
		$expected->committed . '|0|running|', "$what: each document counted once, and no error is left");
	return;
}

# Waits until a row of slack_raw.channels is there, without asking the worker for anything; returns the seconds.
sub seconds_until_row
{
	my ($id) = @_;
	my $started = time;
	wait_for("row $id", sub { sql("SELECT count(*) FROM slack_raw.channels WHERE id = '$id'") });
	return time - $started;
}

sql('SELECT sophia.create_schemas()');
sql("SELECT sophia.create_endpoint('broker', 'broker', '${\$proxy->address}')");

# ---- answers that end anywhere ----

my $contacts = Sophia::Expected->new('merge');
my $first = writer('acme/contacts', $contacts, fields => [ [ 'region', 'a%2Fb' ] ]);
my $number = 0;

sub append_contacts
{
	$first->transaction(ANN, map { $number++; { id => 'c' . $number % 40, properties => { firstname => "n$number", "m$number" => 'x' x 200 } } } 1 .. 100);
	$first->put;
	return;
}

append_contacts();
sql("SELECT sophia.create_stream('contacts', 'broker', 'acme/contacts', 'hubspot.contacts')");
arrived('contacts', $contacts, 'hubspot_raw.contacts', 'through the proxy');

my $error = '{"error":{"grpcCode":14,"httpCode":503,"message":"the broker is going","httpStatus":"Service Unavailable","details":[]}}';
my @endings = (
	[ 'before its header', answer => undef, stop => { bytes => 0 }, ending => 'reset' ],
	[ 'behind its header', stop => { bytes => 0 } ],
	[ 'in a line', stop => { bytes => 150 } ],
	[ 'behind a line', stop => { lines => 1 } ],
	[ 'in base64', stop => { after => qr/"content":"[A-Za-z0-9+\/]{1001}/ } ],
	[ 'in a document', stop => { after => qr/"content":"[A-Za-z0-9+\/]{1001}[^\n]*\n/ } ],
	[ 'by a reset', stop => { bytes => 2000 }, ending => 'reset' ],
	[ 'anywhere', times => 5, stop => { random => 30_000 } ],
	[ 'well, with an empty body', answer => { status => 200, body => '' } ],
	[ 'well, behind its first line', stop => { lines => 1 }, ending => 'end' ],
	[ 'with an error that has no newline', stop => { lines => 1 }, append => $error, ending => 'end' ],
	[ 'with nothing but such an error', stop => { bytes => 0 }, append => $error, ending => 'end' ],
	[ 'with an error that breaks off', stop => { lines => 1 }, append => substr $error, 0, 60 ],
	[ 'with status 503', answer => { status => 503, body => $error } ],
	[ 'with status 500 without a body', answer => { status => 500 } ],
	[ 'with what is no JSON', answer => { status => 200, body => "<html>Bad gateway</html>\n" } ]);
for my $ending (@endings)
{
	my ($how, %fault) = @$ending;
	delete $fault{answer} if !$fault{answer};
	append_contacts() for 1 .. 3;
	my @faults = map { $proxy->fault(on => 'read', request => $_, times => 2, %fault) } qr/"block":true/, qr/"metadataOnly":true.*pivot|pivot.*"metadataOnly":true/;
	$proxy->cut;
	append_contacts();
	wait_for("answers that end $how", sub { $proxy->applied($faults[0]) + $proxy->applied($faults[1]) >= 3 }) if ($fault{times} // 2) == 2;
	arrived('contacts', $contacts, 'hubspot_raw.contacts', "answers that end $how");
	$proxy->clear;
}
is($proxy->requests(qr/a%252F/), 0, 'a percent sign in the name of a journal is sent as it is');
cmp_ok(scalar $proxy->requests(qr{"journal":"acme/contacts/region=a%2Fb/pivot=00"}), '>', 20, 'in JSON');
unlike($node->news, qr/PANIC|TRAP|was terminated by signal/, 'nothing of that ends the worker');

$proxy->refuse;
$proxy->cut;
append_contacts();
ok($node->poll_query_until('postgres', "SELECT last_error ~ 'refused|connect' FROM sophia.stream_status WHERE stream = 'contacts'"), 'a broker that refuses connections is told');
$proxy->allow;
arrived('contacts', $contacts, 'hubspot_raw.contacts', 'connections are taken again');

# ---- statuses ----

for my $case ([ 'INSUFFICIENT_JOURNAL_BROKERS', qr/cannot be read now: the broker answers INSUFFICIENT_JOURNAL_BROKERS/ ], [ 'NO_JOURNAL_PRIMARY_BROKER', qr/NO_JOURNAL_PRIMARY_BROKER/ ],
	[ 'JOURNAL_NOT_FOUND', qr/is unknown to the broker, or the token does not cover it/ ])
{
	my ($status, $message) = @$case;
	$proxy->fault(on => 'read', request => qr/"block":true|"offset":"\d/, times => 0,
		answer => { status => 200, body => qq({"result":{"status":"$status","header":null,"offset":"0","writeHead":"0","fragment":null,"fragmentUrl":"","content":null}}\n) });
	$proxy->cut;
	append_contacts();
	wait_for("$status in last_error", sub { sql("SELECT last_error FROM sophia.stream_status WHERE stream = 'contacts'") =~ $message });
	is(sql("SELECT state FROM sophia.stream_status WHERE stream = 'contacts'"), 'running', "$status is told, and tried again");
	$proxy->clear;
	arrived('contacts', $contacts, 'hubspot_raw.contacts', "after $status");
}

# ---- a listing that breaks off ----

my @many = map { sprintf 'acme/many/pivot=%02x', $_ } 0x10 .. 0x4b;
my %many = (
	name => 'acme/many/',
	replication => 1,
	labels => [
		{ name => 'app.gazette.dev/managed-by', value => 'estuary.dev/flow' },
		{ name => 'content-type', value => 'application/x-ndjson' },
		{ name => 'estuary.dev/collection', value => 'acme/many' } ],
	fragment => { length => 1 << 20, compression_codec => 'GZIP', stores => ['file:///'], refresh_interval => '2s', flush_interval => '0s' });
$broker->apply({ %many, children => [ map { { name => $_ } } @many ] });

sub put_line
{
	my ($journal, $id) = @_;
	my $line = Sophia::Documents->producer(ANN)->outside({ id => $id, name => $journal });
	wait_for("a line in $journal", sub { eval { $broker->put($journal, $line); 1 } });
	return;
}

put_line($_, $_) for @many;
# The broker sends many journals in a message; the proxy makes it a message of those before pivot=2f.
my @half = (replace => [ [ qr{,\{"spec":\{"name":"acme/many/pivot=2f.*(?=\]\}\}\n)}, '' ] ], stop => { lines => 1 });
my $partial = $proxy->fault(on => 'list', request => qr{acme/many}, times => 0, @half, ending => 'end');
sql("SELECT sophia.create_stream('many', 'broker', 'acme/many', 'slack.channels')");
ok($node->poll_query_until('postgres', "SELECT last_error ~ 'ended the listing before it was whole' FROM sophia.stream_status WHERE stream = 'many'"), 'a listing of 60 journals that ends after 31 is told');
is(sql("SELECT state, journals FROM sophia.stream_status WHERE stream = 'many'"), 'starting|0', 'and not believed');
$proxy->clear;
ok($node->await_stream('many'), 'a whole one is');
$node->wait_until_well('many');
is(sql("SELECT state, journals, documents_applied, last_error FROM sophia.stream_status WHERE stream = 'many'"), 'running|60|60|', 'with all journals');

for my $ending (qw(end cut))
{
	$partial = $proxy->fault(on => 'list', request => qr{acme/many}, times => 0, @half, ending => $ending);
	$proxy->cut;
	wait_for('some listings', sub { $proxy->applied($partial) >= 3 });
	put_line($many[-1], "after $ending");
	$proxy->cut;
	seconds_until_row("after $ending");
	pass("a journal that a listing lacks which breaks off ($ending) is read on");
	$proxy->clear;
}
$proxy->fault(on => 'list', request => qr{acme/many}, times => 3, answer => { status => 200, body => '' });
$proxy->cut;
ok($node->await_stream('many'), 'an empty listing is tried again');

# ---- journals that are added, split, removed, made again, suspended: noticed without asking ----

my $noticed = 20;    # seconds; between two refreshes there are 30
$broker->apply({ %many, children => [ { name => 'acme/many/pivot=50' } ] });
put_line('acme/many/pivot=50', 'added');
cmp_ok(seconds_until_row('added'), '<', $noticed, 'an added journal is read at once');

my $left = writer('acme/split', undef);
put_line($left->journal, 'whole');
sql("SELECT sophia.create_stream('split', 'broker', 'acme/split', 'slack.channels')");
seconds_until_row('whole');
my ($spec) = $broker->list('acme/split');
$spec->{spec}{labels} = [ map { $_->{name} eq 'estuary.dev/key-end' ? { name => $_->{name}, value => '7fffffff' } : { name => $_->{name}, value => $_->{value} } } @{ $spec->{spec}{labels}{labels} } ];
$broker->apply({ %many, labels => $spec->{spec}{labels}, children => [ { name => $left->journal, revision => $spec->{modRevision} + 0 } ], name => 'acme/split/' });
my $right = writer('acme/split', undef, pivot => '80000000');
put_line($left->journal, 'left');
put_line($right->journal, 'right');
cmp_ok(seconds_until_row('left'), '<', $noticed, 'a journal that is split goes on');
cmp_ok(seconds_until_row('right'), '<', $noticed, 'and its other half is read at once');
is(sql("SELECT journals, documents_applied FROM sophia.stream_status WHERE stream = 'split'"), '2|3', 'each document once');

$node->news;
$broker->delete_journal($right->journal);
unlink glob $broker->file_root . '/' . $right->journal . '/*';
$right = writer('acme/split', undef, pivot => '80000000');
put_line($right->journal, 'again');
cmp_ok(seconds_until_row('again'), '<', $noticed, 'a journal that was deleted and made again is read from its beginning');
like($node->news, qr/LOG:  stream "split" reads journal "\S+pivot=80000000" from its beginning\n.*DETAIL:  It was deleted and made again; of the earlier one it had read \d+ bytes/, 'which the log tells');
$node->wait_until_well('split');
is(sql("SELECT state, documents_applied, last_error FROM sophia.stream_status WHERE stream = 'split'"), 'running|4|', 'and is no error');

# The same while nobody looks, and with more content than there was.
sql("SELECT sophia.stop_stream('split')");
$broker->delete_journal($right->journal);
unlink glob $broker->file_root . '/' . $right->journal . '/*';
$right = writer('acme/split', undef, pivot => '80000000');
$broker->put($right->journal, Sophia::Documents->producer(ANN)->outside({ id => 'unseen', name => 'y' x 10_000 }));
sql("SELECT sophia.start_stream('split')");
ok($node->await_stream('split'), 'made again while the stream was stopped: caught up');
is(sql("SELECT documents_applied, documents_dead FROM sophia.stream_status WHERE stream = 'split'"), '5|0', 'it is read from its beginning, too');
is(sql("SELECT length(doc ->> 'name') FROM slack_raw.channels WHERE id = 'unseen'"), 10_000, 'as a whole');

my $sleeper = writer('acme/sleeper', undef, fragment => { length => FRAGMENT });
my $ann = Sophia::Documents->producer(ANN);
my $head = $broker->put($sleeper->journal, join '', map { $ann->outside({ id => $_, name => 'z' x FRAGMENT }) } qw(asleep awake));
$broker->wait_until_persisted($sleeper->journal, $head);
sql("SELECT sophia.create_stream('sleeper', 'broker', 'acme/sleeper', 'slack.channels')");
seconds_until_row('awake');
for my $level (qw(PARTIAL FULL))
{
	wait_for("level $level of suspension", sub {
		unlink glob $broker->file_root . '/' . $sleeper->journal . '/*' if $level eq 'FULL';
		usleep(100_000);
		$broker->gazctl('journals', 'suspend', '--selector', 'name=' . $sleeper->journal, '--force');
		my ($journal) = $broker->list('acme/sleeper');
		($journal->{spec}{suspend}{level} // '') eq $level;
	});
}
$proxy->cut;
ok($node->await_stream('sleeper'), 'a stream whose only journal is suspended is caught up');
put_line($sleeper->journal, 'woken');
cmp_ok(seconds_until_row('woken'), '<', $noticed, 'and notices at once that it is resumed');
$node->wait_until_well('sleeper');
is(sql("SELECT state, last_error FROM sophia.stream_status WHERE stream = 'sleeper'"), 'running|', 'without an error');

# A watch that ends well goes on behind what it told.
my $resumed = () = $proxy->requests(qr{/list .*acme/many.*"watchResume":\{});
$proxy->fault(on => 'list', request => qr{acme/many}, times => 2, stop => { after => qr/"journals":\[\]\}\}\n/ }, ending => 'end');
$node->await_stream('many');
wait_for('a watch that is taken up again', sub { $proxy->requests(qr{/list .*acme/many.*"watchResume":\{"processId.*"revision":"\d+"}) > $resumed });
$broker->apply({ %many, children => [ { name => 'acme/many/pivot=51' } ] });
put_line('acme/many/pivot=51', 'added behind');
cmp_ok(seconds_until_row('added behind'), '<', $noticed, 'a watch that was taken up again tells news');

# ---- a name with a suffix ----

my $plain = writer('acme/suffix', undef);
$proxy->fault(on => 'list', request => qr{acme/suffix}, times => 0, replace => [ [ '"name":"acme/suffix/pivot=00\K', ';mirror' ] ]);
sql("SELECT sophia.create_stream('suffix', 'broker', 'acme/suffix', 'slack.channels')");
put_line($plain->journal, 'suffix');
ok($node->await_stream('suffix'), 'a journal whose name has a suffix');
is(sql("SELECT journal, documents_applied FROM sophia.stream_journals WHERE stream = 'suffix'"), $plain->journal . ';mirror|1', 'is read by that name');
sql("SELECT sophia.drop_stream('suffix')");
$proxy->clear;

$node->stop;
$proxy->stop;
$broker->stop_all;
done_testing();
