# The cases of sequencing that are the trickiest, each by its letter, over a live broker: a, b duplicates and producers;
# c, d crashes and fences; e acknowledgements without a begin; l acknowledgements and control documents; m, n reduction
# and clocks.  What the broker cannot be made to do here stands in 021 and 022 with fragments.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Documents qw(clock_of uuid OUTSIDE CONTINUE ACK CONTROL);
use Sophia::Ingest;
use Test::More;

my $node = Sophia::Ingest->create('main');
my $broker = Sophia::Broker->new->start;
my %journals;
my $producers = 0;
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('broker', 'broker', '" . $broker->address . "')");

# A producer that writes nothing else.
sub producer
{
	my ($clock) = @_;
	return Sophia::Documents->producer(sprintf('03%010x', ++$producers), $clock);
}

sub contact
{
	my ($id, $name, %more) = @_;
	return { id => $id, properties => { firstname => $name }, %more };
}

# Follows a new collection of the broker under the name of the case.
sub follow
{
	my ($case, %p) = @_;
	my $options = $p{options} // '{}';
	$journals{$case} = $broker->create_journal("acme/$case");
	$broker->put($journals{$case}, $p{before}) if defined $p{before};
	$node->safe_psql('postgres', "SELECT sophia.create_stream('$case', 'broker', 'acme/$case', 'hubspot.contacts', '$options')");
	return;
}

# Appends and waits until it is applied; the offset where the bytes begin.
sub feed
{
	my ($case, @bytes) = @_;
	my $end;
	$end = $broker->put($journals{$case}, $_) for @bytes;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->await_stream($case) or fail("$case: caught up");
	return $end - length $bytes[-1];
}

sub contacts
{
	my ($where) = @_;
	return $node->rows("SELECT string_agg(id || '=' || coalesce(firstname, '-'), ' ' ORDER BY id) FROM hubspot_raw.contacts WHERE id LIKE '$where%' AND NOT is_deleted");
}

sub staged { return $node->rows("SELECT count(*) FROM sophia.staged_documents WHERE stream = '$_[0]'") }

sub events
{
	my ($case, $columns) = @_;
	return $node->rows("SELECT " . ($columns // 'event') . " FROM sophia.stream_events WHERE stream = '$case' ORDER BY id");
}

sub anomalies { return $node->rows("SELECT sum(anomalies) FROM sophia.stream_journals WHERE stream = '$_[0]'") }

sub kill_worker
{
	$node->wait_for_worker('ingest', $node->kill_worker('ingest', 'KILL'));
	return;
}

# ---- a: a chunk that is appended again ----

my $p = producer();
my $chunk = $p->document(contact('a1', 'x')) . $p->document(contact('a2', 'x'));
my $ack = $p->ack;
follow('a', before => $chunk . $chunk . $ack . $ack);
feed('a', $chunk);
is(contacts('a'), 'a1=x a2=x', 'a: a chunk that comes twice before its acknowledgement and again after it');
is($node->status('a', 'documents_applied'), '2', 'a: is applied once');
is(staged('a') . anomalies('a'), '00', 'a: and is neither staged nor an anomaly');
my $open = $p->document(contact('a3', 'x'));
feed('a', $open, $open, $p->ack . $open);
is(contacts('a') . $node->status('a', 'documents_applied'), 'a1=x a2=x a3=x3', 'a: so it is over several batches');

# ---- b: two producers ----

my ($q, $r) = (producer(), producer());
follow('b');
feed('b', $q->document(contact('b1', 'q')), $r->document(contact('b1', 'r')), $q->document(contact('b2', 'q')), $r->document(contact('b3', 'r')) . $r->ack);
is(contacts('b') . '|' . staged('b'), 'b1=r b3=r|2', 'b: a commit does not expose the other producer, which began first');
feed('b', $q->ack);
is(contacts('b') . '|' . staged('b'), 'b1=q b2=q b3=r|0', 'b: the acknowledgement that comes last is applied last');

# ---- c: a transaction that is open across a crash ----

$p = producer();
$q = producer();
follow('c', before => $p->transaction(contact('c0', 'x')) . $q->transaction(contact('c9', 'x')));
feed('c', $p->document(contact('c1', 'x')) . $q->document(contact('c8', 'undone')));
is(staged('c'), '2', 'c: open transactions are staged');
kill_worker();
feed('c', $p->document(contact('c2', 'x')), $p->ack, $q->rollback);
is(contacts('c') . '|' . $node->status('c', 'documents_applied') . '|' . staged('c'), 'c0=x c1=x c2=x c9=x|4|0',
	'c: after kill -9 one is committed once, the other vanishes by a rollback');

# ---- d: crashes between commit and read, before the commit, and a second worker ----

$p = producer();
follow('d', before => $p->transaction(contact('d1', 'x')));
$node->await_stream('d');
kill_worker();
feed('d', $p->transaction(contact('d2', 'x')));
is(contacts('d') . '|' . $node->status('d', 'documents_applied'), 'd1=x d2=x|2', 'd: killed between a commit and the next read');

$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(7);
  RETURN NEW;
END;
$$;
CREATE TRIGGER hold BEFORE INSERT ON hubspot_raw.contacts FOR EACH ROW WHEN (NEW.id = 'd4') EXECUTE FUNCTION public.hold();
SQL
my $waiting = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest' AND wait_event = 'advisory'";
my $holder = $node->beside('SELECT pg_advisory_lock(7), pg_sleep(1000)');
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted", 1);
$broker->put($journals{d}, $p->transaction(contact('d3', 'x'), contact('d4', 'x')));
ok($node->poll_query_until('postgres', $waiting, 1), 'd: in the middle of a batch');
kill_worker();
$holder->{run}->finish;
$node->wait_for_worker('ingest');
feed('d', $p->transaction(contact('d5', 'x')));
is(contacts('d') . '|' . $node->status('d', 'documents_applied'), 'd1=x d2=x d3=x d4=x d5=x|5', 'd: killed before a commit');
$node->safe_psql('postgres', 'DROP TRIGGER hold ON hubspot_raw.contacts');

# Another worker on the same journal: it holds the checkpoint, applies what comes, and moves the checkpoint on.
my $theirs = $p->outside(contact('d6', 'theirs'));
$holder = $node->beside(<<"SQL");
BEGIN;
SELECT FROM sophia.checkpoints WHERE stream = 'd' FOR UPDATE;
SELECT pg_advisory_lock(8);
INSERT INTO hubspot_raw.contacts (id, firstname, doc) VALUES ('d6', 'by the other worker', '{}');
UPDATE sophia.checkpoints SET next_offset = next_offset + @{[ length $theirs ]} WHERE stream = 'd';
SELECT pg_sleep(1);
COMMIT;
SQL
ok($node->poll_query_until('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 8", 1), 'd: another worker holds the checkpoint');
feed('d', $theirs, $p->outside(contact('d7', 'x')));
$holder->{run}->finish;
is(contacts('d6') . '|' . contacts('d7'), 'd6=by the other worker|d7=x', 'd: who finds the checkpoint moved takes nothing twice');

# ---- e: an acknowledgement whose transaction began before the first offset ----

$p = producer();
follow('e', before => $p->document(contact('e1', 'never read')), options => '{"start_from": "end"}');
$node->await_stream('e');
feed('e', $p->ack . $p->transaction(contact('e2', 'x')));
is(contacts('e') . '|' . $node->status('e', 'state, documents_dead') . '|' . anomalies('e') . events('e'), 'e2=x|running|0|0', 'e: commits nothing and is no error');

# ---- l: acknowledgements, control documents, and data that looks like them ----

# A line that is no data.
sub line
{
	my ($who, $flags, $text, %p) = @_;
	return $who->raw($text, flags => $flags, %p);
}

$p = producer();
follow('l', before => $p->document(contact('l1', 'template')) . $p->ack . $p->document(contact('l2', 'hints')) . $p->ack(style => 'hints'));
feed('l', $p->document({ %{ contact('l3', 'data') }, is_ack => JSON::PP::true, hints => [], backfillBegin => JSON::PP::true, _meta => { ack => JSON::PP::true, backfillComplete => JSON::PP::true } }) . $p->ack);
is(contacts('l') . '|' . events('l'), 'l1=template l2=hints l3=data|', 'l: both shapes of acknowledgements; a document with their members is data');
my $begin = line($p, CONTROL, '{"_meta":{"uuid":"%s","backfillBegin":true,"keyBegin":"00000000","keyEnd":"ffffffff"}}');
my $begin_clock = $p->clock;
my $at = feed('l', $begin . $begin);
feed('l', $p->outside(contact('l4', 'x')) . line($p, CONTROL, '{"_meta":{"uuid":"%s","backfillComplete":true,"truncatedAt":"2026-01-15T12:00:00Z"}}'));
is(events('l', 'event, begin_offset - ' . $at . " < 999, detail, document IS NOT NULL"),
	sprintf("backfill_begin|t|{}|t\nbackfill_complete|t|{\"truncated_at\": \"%016x\"}|t", clock_of(1768478400)), 'l: markers as control documents are events, once');
is(events('l', "clock, begin_offset, convert_from(document, 'UTF8')") =~ s/\n.*//sr, "$begin_clock|$at|" . ($begin =~ s/\n//r), 'l: kept whole, with their clock');
feed('l', $p->document(contact('l5', 'x')) . line($p, ACK, '{"_meta":{"uuid":"%s"},"is_ack":true,"hints":[],"backfillBegin":true,"keyBegin":"00000000","keyEnd":"ffffffff"}'));
feed('l', $p->document(contact('l6', 'x')) . line($p, ACK, '{"_meta":{"uuid":"%s"},"is_ack":true,"backfillComplete":true,"truncatedAt":"1f0123456789abcd"}'));
is(contacts('l') . '|' . (events('l', 'event, detail') =~ s/^(?:.*\n){2}//r), "l1=template l2=hints l3=data l4=x l5=x l6=x|backfill_begin|{}\nbackfill_complete|{\"truncated_at\": \"1f0123456789abcd\"}",
	'l: markers as acknowledgements are events, and acknowledge; nothing is truncated');
is(anomalies('l'), '0', 'l: none of that is an anomaly');
feed('l', line($p, CONTROL, '{"_meta":{"uuid":"%s"},"somethingNew":[1]}') . line($p, CONTROL | CONTINUE, '{"_meta":{"uuid":"%s"},"id":"l7"}') . $p->ack
	. line($p, ACK, '{"_meta":{"uuid":"%s"},"id":"l8","properties":{}}') . line($p, CONTROL | ACK, '[') . $p->outside(contact('l9', 'x')));
is((events('l', 'event') =~ s/^(?:.*\n){4}//r), "control\ncontrol\nack_content", 'l: an unknown control document and an acknowledgement with content are kept as events');
is(contacts('l') =~ s/.*l6=x //r, 'l9=x', 'l: and the stream goes on');
is($node->status('l', 'state, documents_dead') . '|' . anomalies('l'), 'running|1|3', 'l: no dead letter but for the line that is no JSON; counted');

# Producers that break the rules: as Gazette does, but counted and told.
$p = producer();
follow('rules', before => $p->document(contact('r1', 'lost')) . $p->document(contact('r2', 'lost')) . $p->outside(contact('r3', 'x')));
my $early;
feed('rules', $p->document(contact('r4', 'x')), do { $early = $p->clock; $p->document(contact('r5', 'lost')) }, $p->ack(clock => $early));
feed('rules', $p->document(contact('r6', 'lost')) . $p->ack(clock => $early - 160));
is(contacts('r'), 'r3=x r4=x', 'a document outside of a transaction drops the open one; an acknowledgement commits what it covers');
is(events('rules', "event, detail ->> 'dropped'"), "outside_in_transaction|2\npartial_ack|1\ndeep_rollback|1", 'what was dropped is told');
is(anomalies('rules'), '3', 'and counted');
feed('rules', join '', map { line($p, CONTROL, '{"_meta":{"uuid":"%s"},"beat":1}') } 1 .. 150);
is(anomalies('rules') . '|' . $node->rows("SELECT count(*) FROM sophia.stream_events WHERE stream = 'rules'"), '153|100', 'all are counted, a hundred an hour are recorded');

# An acknowledgement that comes with more of a transaction that is staged in part.
$p = producer();
follow('part', before => $p->document(contact('p1', 'x')));
ok($node->await_stream('part'), 'the first part is staged');
feed('part', $p->document(contact('p2', 'x')) . $p->ack);
is(contacts('p') . '|' . events('part') . anomalies('part'), 'p1=x p2=x|0', 'the acknowledgement of what was staged before says nothing but that');

# ---- truncation on opt-in ----

foreach my $case ([ 'soft', 'kept', '' ], [ 'hard', 'gone', ', "delete": "hard"' ])
{
	my ($name, $what, $option) = @$case;
	my $id = substr $name, 0, 1;
	$p = producer();
	follow("truncate_$name", before => $p->transaction(contact("t${id}1", 'old'), contact("t${id}2", 'old')), options => qq({"truncate": "apply"$option}));
	feed("truncate_$name", line($p, CONTROL, '{"_meta":{"uuid":"%s","backfillBegin":true}}') . $p->transaction(contact("t${id}2", 'new'))
		. producer()->document(contact("t${id}4", 'large'), flags => OUTSIDE, clock => (1 << 63) + 4096));
	is(contacts("t$id"), "t${id}1=old t${id}2=new t${id}4=large", 'a backfill that begins deletes nothing');
	feed("truncate_$name", $p->document(contact("t${id}3", 'new')) . line($p, ACK, '{"_meta":{"uuid":"%s"},"is_ack":true,"backfillComplete":true}'));
	is(contacts("t$id"), "t${id}2=new t${id}3=new t${id}4=large", 'one that is complete deletes what it did not bring');
	is($node->rows("SELECT count(*) FROM hubspot_raw.contacts WHERE id = 't${id}1'"), $name eq 'soft' ? 1 : 0, "the row is $what");
	is(events("truncate_$name", "event, detail ->> 'rows'"), "backfill_begin|\nbackfill_complete|1", 'the event tells how many');
}

# ---- m: reduction within a transaction ----

$p = producer();
follow('m', before => $p->transaction(contact('m1', 'one', archived => JSON::PP::false), { id => 'm1', properties => { lastname => 'two', firstname => undef } }));
is($node->await_stream('m') && $node->rows("SELECT firstname, lastname, archived, doc -> 'properties' FROM hubspot_raw.contacts WHERE id = 'm1'"),
	'|two|f|{"lastname": "two", "firstname": null}', 'm: the same key twice in one span; a partial document merges, an explicit null stays');
feed('m', $p->transaction({ id => 'm1', _meta => { op => 'd' } }, { id => 'm1', properties => { lastname => 'anew' } }));
is($node->rows("SELECT firstname, lastname, archived, is_deleted, doc -> 'properties' FROM hubspot_raw.contacts WHERE id = 'm1'"), '|anew||f|{"lastname": "anew"}',
	'm: a tombstone and a new document in one transaction begin from nothing');

# ---- n: clocks over two journals ----

$journals{n2} = $broker->create_journal('acme/n', pivot => '80000000');
follow('n');
foreach my $case ([ 'clocks of this century', clock_of(4_000_000_000), clock_of(4_000_000_010) ], [ 'clocks on both sides of 2^63', (1 << 63) - 4096, (1 << 63) + 4096 ])
{
	my ($name, $small, $large) = @$case;
	my $id = 'n' . substr $name, -1;
	feed('n', producer()->document(contact($id, 'newer', archived => JSON::PP::true), flags => OUTSIDE, clock => $large));
	$broker->put($journals{n2}, producer()->document({ id => $id, properties => { firstname => 'older', phone => '1' } }, flags => OUTSIDE, clock => $small));
	$node->await_stream('n');
	is($node->rows("SELECT firstname, phone, archived, source_clock FROM hubspot_raw.contacts WHERE id = '$id'"), 'newer|1|t|' . unpack('q', pack('Q', $large)),
		"n: the same key in two journals, the newer document first: $name");
}

$broker->stop_all;
$node->stop;
done_testing();
