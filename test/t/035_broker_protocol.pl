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
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time usleep);

use constant { ANN => '030000000001', BEN => '030000000002', FRAGMENT => 4096 };

my $broker = Sophia::Broker->new->start;
my $proxy = Sophia::Proxy->new($broker);
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub wait_for
{
	my ($what, $condition) = @_;
	my $until = time + 60;
	until ($condition->())
	{
		die "waited in vain for $what" if time > $until;
		usleep(50_000);
	}
	return;
}

# What there is in the log since the last time.
my $logged = 0;

sub news
{
	my $text = substr slurp_file($node->logfile), $logged;
	$logged += length $text;
	return $text;
}

sub writer
{
	my ($collection, $expected, %p) = @_;
	return Sophia::Writer->new($broker, $broker->create_journal($collection, %p), [ $expected // () ]);
}

# Ends all that is read for a stream, and waits until it is caught up.
sub arrived
{
	my ($stream, $expected, $table, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->await_stream($stream), "$what: the stream is caught up");
	is($expected->differences($node, $table), '', "$what: the rows are right");
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
unlike(news(), qr/PANIC|TRAP|was terminated by signal/, 'nothing of that ends the worker');

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

my $noticed = 10;    # seconds; between two refreshes there are 30
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

news();
$broker->delete_journal($right->journal);
unlink glob $broker->file_root . '/' . $right->journal . '/*';
$right = writer('acme/split', undef, pivot => '80000000');
put_line($right->journal, 'again');
cmp_ok(seconds_until_row('again'), '<', $noticed, 'a journal that was deleted and made again is read from its beginning');
like(news(), qr/LOG:  stream "split" reads journal "\S+pivot=80000000" from its beginning\n.*DETAIL:  It was deleted and made again; of the earlier one it had read \d+ bytes/, 'which the log tells');
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
wait_for('the broker to know its fragment as persisted', sub {
	$broker->put($sleeper->journal, '');
	my ($answer) = $broker->post('read', { journal => $sleeper->journal, offset => $head - 1, metadataOnly => JSON::PP::true });
	$answer->{fragmentUrl};
});
sql("SELECT sophia.create_stream('sleeper', 'broker', 'acme/sleeper', 'slack.channels')");
seconds_until_row('awake');
for my $level (qw(PARTIAL FULL))
{
	unlink glob $broker->file_root . '/' . $sleeper->journal . '/*' if $level eq 'FULL';
	wait_for("level $level of suspension", sub {
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
is(sql("SELECT state, last_error FROM sophia.stream_status WHERE stream = 'sleeper'"), 'running|', 'without an error');

# A watch that ends well goes on behind what it told.
my $resumed = () = $proxy->requests(qr{/list .*acme/many.*"watchResume":\{});
$proxy->fault(on => 'list', request => qr{acme/many}, times => 2, stop => { after => qr/"journals":\[\]\}\}\n/ }, ending => 'end');
$node->await_stream('many');
wait_for('a watch that is taken up again', sub { $proxy->requests(qr{/list .*acme/many.*"watchResume":\{"processId.*"revision":"\d+"}) > $resumed });
$broker->apply({ %many, children => [ { name => 'acme/many/pivot=51' } ] });
put_line('acme/many/pivot=51', 'added behind');
cmp_ok(seconds_until_row('added behind'), '<', $noticed, 'a watch that was taken up again tells news');

# ---- holes ----

# Appends documents of about a fragment to a journal, so that the last of them is persisted, and returns the files.
sub append_fragments
{
	my ($writer, @ids) = @_;
	for my $id (@ids)
	{
		$writer->outside(BEN, { id => $id, name => 'f' x FRAGMENT });
		$writer->put;
		my $end = sprintf '%016x', $writer->{offset};
		wait_for("the fragment of $id", sub { $broker->put($writer->journal, ''); grep { -s } glob $broker->file_root . '/' . $writer->journal . "/*-$end-*" });
	}
	my @files = glob $broker->file_root . '/' . $writer->journal . '/*';
	return @files;
}

# Takes a fragment away and waits until the broker knows; returns what brings it back.
sub take_away
{
	my ($writer, $file) = @_;
	my ($begin) = map { hex } $file =~ m{/([0-9a-f]{16})-};
	my $aside = $broker->file_root . '/../' . (File::Spec->splitpath($file))[2];
	rename $file, $aside or die "rename: $!";
	wait_for('the broker to know the hole', sub {
		my ($answer) = $broker->post('read', { journal => $writer->journal, offset => $begin, metadataOnly => JSON::PP::true });
		$answer->{status} eq 'OFFSET_NOT_YET_AVAILABLE' || $answer->{offset} > $begin;
	});
	return sub { rename $aside, $file or die "rename: $!" };
}

sub names { return sql("SELECT string_agg(id, ' ' ORDER BY id) FROM slack_raw.channels WHERE id LIKE '$_[0]%'") }

news();
my $old = writer('acme/old', undef, fragment => { length => FRAGMENT });
my @files = append_fragments($old, map { "old$_" } 1 .. 4);
take_away($old, $files[0]);
sql("SELECT sophia.create_stream('old', 'broker', 'acme/old', 'slack.channels')");
ok($node->await_stream('old'), 'a journal whose first fragment is gone');
is(names('old'), 'old2 old3 old4', 'is read from the next one on');
like(news(), qr/journal "\S+acme\/old\S+" has a hole: bytes 0 to \d+ are gone/, 'which the log tells');

my $young = writer('acme/young', undef, fragment => { length => FRAGMENT });
@files = append_fragments($young, map { "young$_" } 1 .. 4);
my $back = take_away($young, $files[2]);
sql("SELECT sophia.create_stream('young', 'broker', 'acme/young', 'slack.channels')");
seconds_until_row('young2');
ok(!$node->await_stream('young', 2), 'a hole that is not six hours old is waited for');
is(names('young'), 'young1 young2', 'nothing behind it is read');
cmp_ok(sql("SELECT lag_bytes FROM sophia.stream_status WHERE stream = 'young'"), '>', 2 * FRAGMENT, 'and the lag shows it');
$back->();
ok($node->await_stream('young'), 'when it is filled the stream goes on');
is(names('young'), 'young1 young2 young3 young4', 'with all documents');
unlike(news(), qr/has a hole/, 'there was no hole');

# A worker that begins right behind a hole does not wait for what it does not need.
sql("SELECT sophia.stop_stream('young')");
$back = take_away($young, $files[-1]);
append_fragments($young, 'young5');
sql("SELECT sophia.start_stream('young')");
cmp_ok(seconds_until_row('young5'), '<', 10, 'what stood before a checkpoint may be gone');

my $torn = writer('acme/torn', undef, fragment => { length => FRAGMENT });
append_fragments($torn, 'torn1');
my $line = Sophia::Documents->producer(BEN)->outside({ id => 'torn2', name => 't' x (3 * FRAGMENT) });
for my $part (unpack '(a' . 2 * FRAGMENT . ')*', $line)
{
	$torn->{offset} = $broker->put($torn->journal, $part);
	my $end = sprintf '%016x', $torn->{offset};
	last if $part =~ /\n/;
	wait_for('the part of a line', sub { $broker->put($torn->journal, ''); grep { -s } glob $broker->file_root . '/' . $torn->journal . "/*-$end-*" });
}
@files = append_fragments($torn, 'torn3', 'torn4');
my $middle = $files[2];
take_away($torn, $middle);
my $long_ago = time - 8 * 3600;
utime $long_ago, $long_ago, grep { $_ ne $middle } @files;
wait_for('the broker to skip the hole', sub {
	my ($begin) = map { hex } $middle =~ m{/([0-9a-f]{16})-};
	my ($answer) = $broker->post('read', { journal => $torn->journal, offset => $begin, metadataOnly => JSON::PP::true });
	$answer->{offset} > $begin;
});
sql("SELECT sophia.create_stream('torn', 'broker', 'acme/torn', 'slack.channels')");
ok($node->poll_query_until('postgres', "SELECT last_error ~ 'has a hole inside a line: bytes \\d+ to \\d+ are missing' FROM sophia.stream_status WHERE stream = 'torn'"), 'a hole in a line is told');
is(names('torn'), 'torn1', 'and nothing is spliced');
is(sql("SELECT count(*) FROM sophia.dead_letters"), 0, 'nor a dead letter');
sql("SELECT sophia.drop_stream('torn')");

# The same where a line ends: after six hours the stream goes on.
my $gap = writer('acme/gap', undef, fragment => { length => FRAGMENT });
@files = append_fragments($gap, map { "gap$_" } 1 .. 4);
take_away($gap, $files[1]);
utime $long_ago, $long_ago, grep { -e } @files;
sql("SELECT sophia.create_stream('gap', 'broker', 'acme/gap', 'slack.channels')");
ok($node->await_stream('gap'), 'a hole that is more than six hours old is passed');
is(names('gap'), 'gap1 gap3 gap4', 'with what stands behind it');

# ---- a head that goes back ----

my %head = map { $_ => writer("acme/$_", undef) } qw(same other);
my $kept = $broker->put($head{$_}->journal, Sophia::Documents->producer(ANN)->outside({ id => "$_-kept" })) for keys %head;
wait_for('the first fragments', sub { 2 == grep { my @files = glob $broker->file_root . "/acme/$_/*/*.gz"; @files } keys %head });
my $lost = Sophia::Documents->producer(ANN)->outside({ id => 'lost', name => 'l' x 500 });
my %read_up_to = map { $_ => $broker->put($head{$_}->journal, $lost) } keys %head;
for my $name (sort keys %head)
{
	sql("SELECT sophia.create_stream('$name', 'broker', 'acme/$name', 'slack.channels')");
	ok($node->await_stream($name), "stream $name has read up to the head");
}
$broker->stop('KILL');
$broker->start;
cmp_ok($broker->write_head($head{$_}->journal), '<', $read_up_to{$_}, "what was not persisted of $_ is lost with its broker") for keys %head;
ok($node->poll_query_until('postgres', "SELECT last_error ~ 'ends at offset \\d+, but was read up to $read_up_to{$_}: its brokers lost content' FROM sophia.stream_status WHERE stream = '$_'"), "the stream of $_ tells that its head went back")
  for sort keys %head;
is(sql("SELECT state FROM sophia.stream_status WHERE stream = '$_'"), 'running', 'and waits') for sort keys %head;

$broker->put($head{same}->journal, $lost);
put_line($head{same}->journal, 'same-next');
ok($node->await_stream('same'), 'when the same bytes are there again, the stream goes on');
is(names('same'), 'same-kept same-next', 'behind them');
is(sql("SELECT state, documents_applied, last_error FROM sophia.stream_status WHERE stream = 'same'"), 'running|3|', 'without an error');

$broker->put($head{other}->journal, Sophia::Documents->producer(BEN)->outside({ id => 'rewritten', name => 'r' x 2000 }));
ok($node->poll_query_until('postgres', "SELECT state = 'failed' AND last_error ~ 'was written anew: no line ends at offset $read_up_to{other}, up to which it was read' FROM sophia.stream_status WHERE stream = 'other'"),
	'when other bytes are there, the stream fails with that reason');
like(scalar $node->error_of("SELECT sophia.await_stream('other')"), qr/^55000: stream "other" is failed: .*written anew/, 'which await_stream tells');
is(names('rewritten'), '', 'and nothing of them is read');
is(sql('SELECT count(*) FROM sophia.dead_letters'), 0, 'no part of a line was taken for a document');

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
