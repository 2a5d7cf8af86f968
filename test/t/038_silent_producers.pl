# Producers that say nothing any more: forgotten when they are closed; what they staged is set aside, and read again
# should they acknowledge it after all.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Documents qw(clock_of uuid OUTSIDE CONTINUE ACK);
use Sophia::Ingest;
use Test::More;

use constant { HOUR => 3600, DAY => 24 * 3600 };

my $now = time;
my $node = Sophia::Ingest->create('main');
my $producers = 0;

# A producer that writes nothing else, with a clock so many seconds ago.
sub producer
{
	my ($ago) = @_;
	return Sophia::Documents->producer(sprintf('03%010x', ++$producers), clock_of($now - $ago));
}

sub contact
{
	my ($id, $name) = @_;
	return { id => $id, properties => { firstname => $name } };
}

sub contacts
{
	my ($where) = @_;
	return $node->rows("SELECT string_agg(id || '=' || coalesce(firstname, '-'), ' ' ORDER BY id) FROM hubspot_raw.contacts WHERE id LIKE '$where%'");
}

sub state
{
	my ($stream, $p) = @_;
	return $node->rows("SELECT begin_offset, gap_end FROM sophia.producers WHERE stream = '$stream'" . ($p ? " AND producer = '\\x$p->{id}'" : ''));
}

sub staged { return $node->rows("SELECT count(*) FROM sophia.staged_documents WHERE stream = '$_[0]'") }

sub events
{
	my ($stream, $columns) = @_;
	return $node->rows("SELECT " . ($columns // 'event') . " FROM sophia.stream_events WHERE stream = '$stream' ORDER BY id");
}

sub kill_worker
{
	$node->wait_for_worker('ingest', $node->kill_worker('ingest', 'KILL'));
	return;
}

# ---- producers are forgotten ----

my $journal = $node->journal('acme/many');
my @closed = map { producer(49 * HOUR + $_) } 1 .. 50;
my $open = producer(49 * HOUR);
my $recent = producer(47 * HOUR);
my $future = Sophia::Documents->producer('0100000000ff', (1 << 63) + 4096);
$journal->write(join('', map { $_->transaction(contact("p$_->{id}", 'x')) } @closed) . $open->document(contact('po', 'x')) . $recent->transaction(contact('pr', 'x')));
$journal->write($future->outside(contact('pf', 'x')));
$node->follow('many', 'acme/many', 'hubspot.contacts');
ok($node->await_stream('many'), 'caught up');
is($node->rows('SELECT count(*) FROM sophia.producers'), '53', 'a clock of the future makes nothing old');
my $present = producer(0);
$journal->write($present->transaction(contact('pp', 'x')));
ok($node->await_stream('many'), 'caught up');
is($node->rows("SELECT string_agg(right(producer::text, 12), ' ' ORDER BY producer) FROM sophia.producers"), join(' ', sort map { $_->{id} } $open, $recent, $future, $present),
	'closed producers 48 hours behind the newest commit are forgotten');
is(staged('many'), '1', 'the open one keeps what it staged');
$journal->write($closed[0]->outside(contact('pc', 'again')) . $recent->outside(contact('pr', 'again')) . $open->ack);
ok($node->await_stream('many'), 'caught up');
is(join(' ', map { contacts($_) } qw(pc pr po)), 'pc=again pr=again po=x', 'a forgotten producer that comes back is a new one');
is($node->status('many', 'documents_applied'), '56', 'each document counts once');

# ---- what a silent producer staged is set aside, and read again ----

my $broker = Sophia::Broker->new->start;
my $address = $broker->address;
my %broker_journals;
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('broker', 'broker', '$address')");

# The two kinds of source alike: make a stream, append.
my %make = (
	fragments => sub {
		my ($name) = @_;
		my $at = $node->journal("acme/$name");
		$node->follow($name, "acme/$name", 'hubspot.contacts');
		return sub { $at->write($_[0], codec => 'gz'); $node->await_stream($name) or fail('caught up') };
	},
	broker => sub {
		my ($name) = @_;
		$broker_journals{$name} = $broker->create_journal("acme/$name", fragment => { length => 1024 });
		$node->safe_psql('postgres', "SELECT sophia.create_stream('$name', 'broker', 'acme/$name', 'hubspot.contacts')");
		return sub { $broker->put($broker_journals{$name}, $_[0]); $node->await_stream($name) or fail('caught up') };
	});

foreach my $kind (sort keys %make)
{
	my $id = substr $kind, 0, 1;
	my $append = $make{$kind}->($kind);
	my ($silent, $never, $other) = (producer(80 * HOUR), producer(80 * HOUR), producer(79 * HOUR));
	my $old = $silent->document(contact("s${id}0", 'x'));
	my $first = $old . $silent->ack;
	my $chunk = $silent->document(contact("s${id}1", 'one')) . $silent->document(contact("s${id}2", 'x'));
	$append->($first . $chunk . $other->transaction(contact("o${id}1", 'x')) . $never->document(contact("n${id}1", 'never')));
	$append->($chunk . $other->outside(contact("o${id}2", 'x')) . $old . $silent->document(contact("s${id}1", 'two')) . $other->document(contact("o${id}3", 'x')) . $other->ack);
	is(staged($kind), '4', "$kind: open transactions are staged");
	my $present = producer(0);
	$append->($present->transaction(contact("q${id}1", 'x')));
	is(staged($kind), '0', 'those whose producers are silent for three days are set aside');
	my $begin = length $first;
	like(state($kind, $silent), qr/^$begin\|\d{3,}$/, 'the offset where they begin is kept');
	is(events($kind, "event, detail ->> 'documents'"), "set_aside|3\nset_aside|1", 'events tell');
	kill_worker();
	$silent->{clock} = clock_of($now);
	$append->($silent->document(contact("s${id}3", 'x')));
	is(staged($kind), '1', 'what comes later is staged');
	is(contacts("s$id"), "s${id}0=x", 'and nothing is visible');
	my $before = $node->status($kind, 'documents_applied');
	$append->($present->outside(contact("q${id}2", 'x')) . $silent->ack . $present->outside(contact("q${id}3", 'x')));
	is(contacts("s$id"), "s${id}0=x s${id}1=two s${id}2=x s${id}3=x", 'its acknowledgement commits all of it, in order');
	is($node->status($kind, 'documents_applied') - $before, '6', 'once');
	is(contacts("q$id"), "q${id}1=x q${id}2=x q${id}3=x", 'and what stands around it');
	is(staged($kind) . state($kind, $silent), '0-1|-1', 'nothing is left staged or missing');
	is(events($kind, 'event') =~ s/(set_aside\n){2}//r, 'read_again', 'an event tells');
	$append->($never->ack(clock => $never->clock - 160));
	is(state($kind, $never) . contacts("n$id"), '-1|-1', 'a rollback of what was set aside reads nothing');
	is($node->status($kind, 'state, last_error'), 'running|', 'the stream is well');
}

# ---- a crash while documents are read again, in slices ----

$journal = $node->journal('acme/slices');
my ($silent, $other, $n) = (producer(90 * HOUR), producer(89 * HOUR), 12_000);
my $text = 'x' x 700;
$journal->write(join('', map { $silent->raw(qq({"_meta":{"uuid":"%s"},"id":"z$_","properties":{"firstname":"$_","company":"$text"}})) . ($_ % 100 ? '' : $other->outside(contact("y$_", 'x'))) } 1 .. $n));
$node->follow('slices', 'acme/slices', 'hubspot.contacts');
ok($node->await_stream('slices'), 'caught up');
my $offset = $node->rows("SELECT max(begin_offset) FROM sophia.staged_documents WHERE stream = 'slices'");
$journal->write(producer(0)->outside(contact('yy', 'x')));
ok($node->await_stream('slices'), 'caught up');
is(staged('slices') . '|' . ($offset > 8 * 1024 * 1024), '0|1', 'more than a slice is set aside');
$node->safe_psql('postgres', <<"SQL");
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
  PERFORM pg_advisory_xact_lock(7);
  RETURN NEW;
END;
\$\$;
CREATE TRIGGER hold BEFORE INSERT ON sophia.staged_documents FOR EACH ROW WHEN (NEW.begin_offset = $offset) EXECUTE FUNCTION public.hold();
SQL
my $holder = $node->beside('SELECT pg_advisory_lock(7), pg_sleep(1000)');
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted", 1);
$journal->write($silent->ack);
ok($node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest' AND wait_event = 'advisory'", 1), 'in the last slice');
my $part = staged('slices');
ok($part > 0 && $part < $n, "slices are committed one by one ($part of $n)");
kill_worker();
$holder->{run}->finish;
$node->wait_for_worker('ingest');
ok($node->await_stream('slices'), 'caught up');
is($node->rows("SELECT count(*), sum(firstname::int) FROM hubspot_raw.contacts WHERE id LIKE 'z%'"), join('|', $n, $n * ($n + 1) / 2), 'after a crash all of it is there');
is($node->status('slices', 'documents_applied') . '|' . staged('slices'), $n + $n / 100 + 1 . '|0', 'applied once');
$node->safe_psql('postgres', 'DROP TRIGGER hold ON sophia.staged_documents');

# ---- history that is gone ----

# Fragments: the part of the transaction that is gone is lost, what is left is committed.
$journal = $node->journal('acme/gone');
($silent, $other) = (producer(80 * HOUR), producer(79 * HOUR));
my $gone = $journal->write($silent->document(contact('g1', 'gone')) . $other->outside(contact('h1', 'x')));
my $left = $journal->write($silent->document(contact('g2', 'left')));
$node->follow('gone', 'acme/gone', 'hubspot.contacts');
ok($node->await_stream('gone'), 'caught up');
$journal->write(producer(0)->outside(contact('h2', 'x')));
ok($node->await_stream('gone'), 'caught up');
is(staged('gone'), '0', 'set aside');
unlink $gone or die "cannot remove $gone: $!\n";
utime $now - 7 * HOUR, $now - 7 * HOUR, $left;
$journal->write($silent->ack . $other->outside(contact('h3', 'x')));
ok($node->await_stream('gone'), 'fragments: the stream goes on');
is(contacts('g') . '|' . contacts('h'), 'g2=left|h1=x h2=x h3=x', 'what the source still has is committed');
is(events('gone', "event, detail ->> 'from', (detail ->> 'to')::int > 100"), "set_aside||\nhistory_gone|0|t\nread_again||", 'an event tells what is gone');

# Fragments: other bytes are not taken for those that were read.
$journal = $node->journal('acme/rewritten');
($silent, $other) = (producer(80 * HOUR), producer(79 * HOUR));
my $bytes = $other->outside(contact('k1', 'x')) . $silent->document(contact('k2', 'never'));
my $rewritten = $journal->write($bytes);
$node->follow('rewritten', 'acme/rewritten', 'hubspot.contacts');
ok($node->await_stream('rewritten'), 'caught up');
$journal->write(producer(0)->outside(contact('k3', 'x')));
ok($node->await_stream('rewritten'), 'caught up');
my $end = $journal->offset;
unlink $rewritten or die "cannot remove $rewritten: $!\n";
$journal->write('x' x (length($bytes) - 1) . "\n", begin => 0);
$journal->{offset} = $end;
$journal->write($silent->ack);
like($node->failure_of('rewritten'), qr/was written anew/, 'a journal that was written anew fails the stream');
is(contacts('k'), 'k1=x k3=x', 'and nothing of the transaction is committed');

# A broker: all of it is gone.
my $append = $make{broker}->('expired');
($silent, $other) = (producer(80 * HOUR), producer(79 * HOUR));
$append->($silent->document({ %{ contact('x1', 'gone') }, text => 'x' x 2000 }));
$append->($other->outside({ %{ contact('w1', 'x') }, text => 'x' x 2000 }));
$append->(producer(0)->outside(contact('w2', 'x')));
is(staged('expired'), '0', 'set aside');

# Waits for what happens within three minutes; empty appends let the broker persist what is full.
sub wait_for
{
	my ($what, $condition) = @_;
	my $until = time + 180;
	until ($condition->())
	{
		return fail($what) if time > $until;
		$broker->put($broker_journals{expired}, '');
		select undef, undef, undef, 0.2;
	}
	return pass($what);
}

wait_for('the broker has persisted it, and knows', sub {
	my ($answer) = $broker->post('read', { journal => $broker_journals{expired}, offset => 0, metadataOnly => JSON::PP::true });
	return $answer->{fragment}{modTime};
});
unlink glob $broker->file_root . "/$broker_journals{expired}/" . '0' x 16 . '-*';
wait_for('and has noticed that it is gone', sub { eval { $broker->read($broker_journals{expired}) !~ /gone/ } });
$append->($silent->ack . $other->outside(contact('w3', 'x')));
is(contacts('x') . '|' . contacts('w'), '|w1=x w2=x w3=x', 'broker: the stream goes on without what is gone');
is(events('expired'), "set_aside\nhistory_gone\nread_again", 'events tell');

# ---- a checkpoint does not outlive its stream ----

# drop_stream with a snapshot from before the stream's newest journal: it fails, instead of leaving that behind.
my $late = $node->beside(<<'SQL');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM sophia.checkpoints, pg_advisory_lock(9);
DO $$
BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 10) LOOP
    PERFORM pg_sleep(0.05);
  END LOOP;
END;
$$;
SELECT sophia.drop_stream('many');
COMMIT;
SQL
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 9");
$node->journal('acme/many', name => 'pivot=80000000')->write($present->outside(contact('late', 'x')));
ok($node->await_stream('many'), 'caught up');
$holder = $node->beside('SELECT pg_advisory_lock(10), pg_sleep(1000)');
$late->{run}->finish;
like(${ $late->{err} }, qr/could not serialize access/, 'drop_stream does not miss a checkpoint that it cannot see');
$holder->{run}->kill_kill;
is($node->status('many', 'state, journals'), 'running|2', 'all or nothing');
$node->safe_psql('postgres', "SELECT sophia.drop_stream('many')");
is($node->rows("SELECT (SELECT count(*) FROM sophia.checkpoints WHERE stream = 'many') + (SELECT count(*) FROM sophia.producers WHERE stream = 'many')"), '0',
	'and at the next try nothing is left');

$broker->stop_all;
$node->stop;
done_testing();
