# Journals with holes, and journals whose head goes back, as the real broker has them.
use strict;
use warnings;
use File::Spec;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Wait qw(wait_for);
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time);

use constant { ANN => '030000000001', BEN => '030000000002', FRAGMENT => 4096 };

my $broker = Sophia::Broker->new->start;
my %small = (fragment => { length => FRAGMENT, refresh_interval => '1s' });
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub writer
{
	my ($collection, $expected, %p) = @_;
	return Sophia::Writer->new($broker, $broker->create_journal($collection, %p), [ $expected // () ]);
}

# Waits until a row of slack_raw.channels is there, without asking the worker for anything; returns the seconds.
sub seconds_until_row
{
	my ($id) = @_;
	my $started = time;
	wait_for("row $id", sub { sql("SELECT count(*) FROM slack_raw.channels WHERE id = '$id'") });
	return time - $started;
}

sub put_line
{
	my ($journal, $id) = @_;
	my $line = Sophia::Documents->producer(ANN)->outside({ id => $id, name => $journal });
	wait_for("a line in $journal", sub { eval { $broker->put($journal, $line); 1 } });
	return;
}

sql('SELECT sophia.create_schemas()');
sql("SELECT sophia.create_endpoint('broker', 'broker', '${\$broker->address}')");

# ---- holes ----

# Appends documents of about a fragment to a journal, so that the last of them is persisted, and returns the files.
sub append_fragments
{
	my ($writer, @ids) = @_;
	for my $id (@ids)
	{
		$writer->outside(BEN, { id => $id, name => 'f' x FRAGMENT });
		$writer->put;
	}
	$broker->wait_until_persisted($writer->journal, $writer->{offset});
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

$node->news;
my $old = writer('acme/old', undef, %small);
my @files = append_fragments($old, map { "old$_" } 1 .. 4);
take_away($old, $files[0]);
sql("SELECT sophia.create_stream('old', 'broker', 'acme/old', 'slack.channels')");
ok($node->await_stream('old'), 'a journal whose first fragment is gone');
is(names('old'), 'old2 old3 old4', 'is read from the next one on');
like($node->news, qr{journal "acme/old/\S+" has a hole: bytes 0 to \d+ are gone}, 'which the log tells');

my $young = writer('acme/young', undef, %small);
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
unlike($node->news, qr/has a hole/, 'there was no hole');

# A worker that begins right behind a hole does not wait for what it does not need.
sql("SELECT sophia.stop_stream('young')");
$back = take_away($young, $files[-1]);
append_fragments($young, 'young5');
sql("SELECT sophia.start_stream('young')");
cmp_ok(seconds_until_row('young5'), '<', 60, 'what stood before a checkpoint may be gone');

my $torn = writer('acme/torn', undef, %small);
append_fragments($torn, 'torn1');
my $line = Sophia::Documents->producer(BEN)->outside({ id => 'torn2', name => 't' x (3 * FRAGMENT) });
for my $part (unpack '(a' . 2 * FRAGMENT . ')*', $line)
{
	$torn->{offset} = $broker->put($torn->journal, $part);
	$broker->wait_until_persisted($torn->journal, $torn->{offset}) if $part !~ /\n/;
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
seconds_until_row('torn1');    # the error may be told before what stands in front of the hole is committed
is(names('torn'), 'torn1', 'and nothing is spliced');
is(sql("SELECT count(*) FROM sophia.dead_letters"), 0, 'nor a dead letter');
sql("SELECT sophia.drop_stream('torn')");

# The same where a line ends: after six hours the stream goes on.
my $gap = writer('acme/gap', undef, %small);
@files = append_fragments($gap, map { "gap$_" } 1 .. 4);
take_away($gap, $files[1]);
utime $long_ago, $long_ago, grep { -e } @files;
sql("SELECT sophia.create_stream('gap', 'broker', 'acme/gap', 'slack.channels')");
ok($node->await_stream('gap'), 'a hole that is more than six hours old is passed');
is(names('gap'), 'gap1 gap3 gap4', 'with what stands behind it');

# ---- a head that goes back ----

my %head = map { $_ => writer("acme/$_", undef, %small) } qw(same other);
append_fragments($head{$_}, "$_-kept") for keys %head;
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

$node->stop;
$broker->stop_all;
done_testing();
