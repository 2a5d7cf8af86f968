# Streams while their broker is stopped, killed, started again, and while it suspends a journal.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Expected;
use Sophia::Wait qw(wait_for);
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time);

use constant { ANN => '030000000001', BEN => '030000000002' };
use constant FRAGMENT => 4096;

my $broker = Sophia::Broker->new->start;
my $node = Sophia::Cluster->create('main');
my $expected = Sophia::Expected->new('merge');
my $latest = Sophia::Expected->new('lastWriteWins');
my @writers = map {
	Sophia::Writer->new($broker, $broker->create_journal('acme/contacts', pivot => $_, fragment => { length => FRAGMENT }), [ $expected, $latest ])
} qw(00000000 80000000);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub everything_arrived
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->await_stream('contacts'), "$what: the stream is caught up");
	is($expected->differences($node, 'hubspot_raw.contacts'), '', "$what: the rows are right");
	$node->wait_until_well('contacts');
	is(sql("SELECT documents_applied, documents_dead, state, last_error FROM sophia.stream_status WHERE stream = 'contacts'"), $expected->committed . '|0|running|',
		"$what: each document counted once, and no error is left");
	return;
}

my $number = 0;

# A transaction of some documents in each journal, and one that stays open in the first.
sub append
{
	for my $writer (@writers)
	{
		$writer->transaction(ANN, map { $number++; { id => $writer->journal . '-' . $number % 25, properties => { firstname => "n$number", "m$number" => 'x' x 50 } } } 1 .. 60);
		$writer->put;
	}
	$writers[0]->document(BEN, { id => "open $number", properties => { lastname => "n$number" } });
	$writers[0]->put;
	return;
}

# Whether the last byte of a journal lies in a fragment file.
sub is_persisted
{
	my ($writer) = @_;
	my $end = sprintf '%016x', $writer->{offset};
	return scalar grep { -s } glob $broker->file_root . '/' . $writer->journal . "/*-$end-*";
}

sql('SELECT sophia.create_schemas()');
sql("SELECT sophia.create_endpoint('broker', 'broker', '${\$broker->address}')");
sql("SELECT sophia.create_stream('contacts', 'broker', 'acme/contacts', 'hubspot.contacts')");
append();
everything_arrived('before');

# ---- SIGTERM ----

append();
$broker->stop('TERM');
my $pid = $node->wait_for_worker('ingest');
my $used = $node->processor_seconds($pid);
my $started = time;
ok(!$node->await_stream('contacts', 3), 'await_stream is false while the broker is down');
cmp_ok(time - $started, '<', 30, 'when its time is up');
cmp_ok(($node->processor_seconds($pid) - $used) / (time - $started), '<', 0.2, 'trying again costs little');
ok($node->poll_query_until('postgres', "SELECT state = 'running' AND last_error ~ 'could not (list journals|read).*127.0.0.1' FROM sophia.stream_status WHERE stream = 'contacts'"),
	'last_error tells that the broker is not there');
note sql("SELECT last_error FROM sophia.stream_status WHERE stream = 'contacts'");
is(sql("SELECT ok FROM sophia.check_endpoint('broker')"), 'f', 'so does check_endpoint()');
my ($message) = $node->error_of("SELECT * FROM sophia.collections('broker', '10 s')");
like($message, qr/could not list journals/, 'and collections()');

# The worker is new while the broker is down.
$node->wait_for_worker('ingest', $node->kill_worker('ingest', 'TERM'));
ok(!$node->await_stream('contacts', 1), 'a new worker waits, too');

$broker->start;
append();
$started = time;
ok($node->poll_query_until('postgres', "SELECT documents_applied = @{[ $expected->committed ]} FROM sophia.stream_status WHERE stream = 'contacts'"),
	'the stream goes on without anybody asking');
note sprintf 'after %.1f s', time - $started;
everything_arrived('after SIGTERM');

# ---- SIGKILL ----

for (1 .. 8)
{
	$writers[0]->transaction(ANN, map { { id => "large $_", properties => { firstname => "n" . $number++ }, text => 'y' x 4096 } } 1 .. 500);
	$writers[0]->put;
}

# Fragments of 4 kB are persisted once the next append begins another one.
for my $writer (@writers)
{
	$writer->ack(BEN) if $writer->open(BEN);
	$writer->outside('030000000003', { id => $writer->journal, text => 'z' x FRAGMENT });
	$writer->put;
	wait_for('the fragments to be persisted', sub { $broker->put($writer->journal, ''); is_persisted($writer) });
}
everything_arrived('before SIGKILL');
sql("SELECT sophia.create_stream('users', 'broker', 'acme/contacts', 'slack.users')");
$broker->stop('KILL');
ok(!$node->await_stream('contacts', 1), 'await_stream is false after the broker was killed');
note sprintf '%d of %d documents of a new stream were applied by then', sql("SELECT documents_applied FROM sophia.stream_status WHERE stream = 'users'"), $latest->committed;
$broker->start;
append();
everything_arrived('after SIGKILL');
ok($node->await_stream('users'), 'a stream that had just begun to read goes on');
is($latest->differences($node, 'slack_raw.users'), '', 'its rows are right');
sql("SELECT sophia.drop_stream('users')");

# ---- suspension ----

my $suspended = $writers[1];
$suspended->outside('030000000003', { id => $suspended->journal, text => 'again ' x FRAGMENT });
$suspended->put;
# A file that goes before the broker has listed it is one that the broker still believes to have only itself.
$broker->wait_until_persisted($suspended->journal, $suspended->{offset});

sub level
{
	my ($journal) = grep { $_->{spec}{name} eq $suspended->journal } $broker->list('acme/contacts');
	return $journal->{spec}{suspend}{level} // 'NONE';
}

# Partial while the store holds content, and full when it has been removed, also what was about to be persisted.
sub suspend
{
	my ($wanted) = @_;
	wait_for("level $wanted of suspension", sub {
		unlink glob $broker->file_root . '/' . $suspended->journal . '/*' if $wanted eq 'FULL';
		$broker->gazctl('journals', 'suspend', '--selector', 'name=' . $suspended->journal, '--force');
		level() eq $wanted;
	});
	return;
}

suspend('PARTIAL');
everything_arrived('suspended in part');
$node->kill_worker('ingest', 'TERM');
everything_arrived('suspended in part, with a new worker');
suspend('FULL');
everything_arrived('suspended');
append_to_first();
everything_arrived('the other journal, while one is suspended');
is(level(), 'FULL', 'reading does not wake the journal');
$node->kill_worker('ingest', 'TERM');
everything_arrived('with a new worker, suspended');
$suspended->transaction(ANN, map { { id => "resumed $_" } } 1 .. 10);
wait_for('the journal to be resumed', sub { eval { $suspended->put; 1 } });
is(level(), 'NONE', 'an append wakes it');
$started = time;
everything_arrived('resumed');
cmp_ok(time - $started, '<', 25, 'its content is not waited for');

# ---- deletion ----

$suspended->outside('030000000003', { id => $suspended->journal, text => 'last ' x FRAGMENT });
$suspended->put;
# A file that goes before the broker has listed it is one that the broker still believes to have only itself.
$broker->wait_until_persisted($suspended->journal, $suspended->{offset});
everything_arrived('before a journal is deleted');
$broker->delete_journal($suspended->journal);
everything_arrived('without the journal');
append_to_first();
everything_arrived('the other journal, without the journal');

# Made again without its content, it is another journal of that name, which begins at 0.
unlink glob $broker->file_root . '/' . $suspended->journal . '/*';
is($broker->create_journal('acme/contacts', pivot => '80000000'), $suspended->journal, 'the journal is made again');
my $again = Sophia::Writer->new($broker, $suspended->journal, [$expected]);
$again->outside(ANN, { id => $suspended->journal . '-1', properties => { firstname => 'in its place' } });
$again->put;
everything_arrived('made again');
append_to_first();
everything_arrived('the other journal, when one was made again');
is(sql("SELECT applied_offset FROM sophia.stream_journals WHERE journal = '@{[ $again->journal ]}'"), $again->{offset}, 'its offsets begin at 0');
like(slurp_file($node->logfile), qr/stream "contacts" reads journal "\S+pivot=80000000" from its beginning/, 'which the log tells');
is(sql("SELECT journal, detail FROM sophia.stream_events WHERE event = 'made_again'"), $again->journal . "|{\"read\": $suspended->{offset}}", 'and an event');
is(sql('SELECT count(*) FROM sophia.dead_letters'), 0, 'no part of a line was taken for a document');

sub append_to_first
{
	$writers[0]->ack(BEN);
	$writers[0]->put;
	return;
}

$node->stop;
$broker->stop_all;
done_testing();
