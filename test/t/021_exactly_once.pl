# Every committed document takes effect once, whatever is appended twice and whatever crashes in between.
use strict;
use warnings;
use List::Util qw(min);
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(uuid OUTSIDE CONTINUE ACK);
use Sophia::Ingest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = Sophia::Ingest->create('main', conf => "log_line_prefix = '%m [%p] %b '\n");

sub contact
{
	my ($id, $name) = @_;
	return { id => $id, properties => { firstname => $name } };
}

# Contacts in the table, as id=name.
sub contacts
{
	my ($where) = @_;
	return $node->rows("SELECT string_agg(id || '=' || coalesce(firstname, '-'), ' ' ORDER BY id) FROM hubspot_raw.contacts WHERE id LIKE '$where%'");
}

sub staged
{
	my ($stream) = @_;
	return $node->rows("SELECT count(*) FROM sophia.staged_documents WHERE stream = '$stream'");
}

# Ends the worker as a crash does and waits until there is another.
sub kill_worker
{
	my $killed = $node->kill_worker('ingest', 'KILL');
	$node->wait_for_worker('ingest', $killed);
	return;
}

sub restart_at_once
{
	$node->stop('immediate');
	$node->start;
	$node->wait_for_worker('ingest');
	return;
}

# ---- duplicates ----

my $a = Sophia::Documents->producer('030000000001');
my $b = Sophia::Documents->producer('050000000002');
my $journal = $node->journal('acme/duplicates');
my $first = $a->document(contact('d1', 'one')) . $a->document(contact('d2', 'one'));
my $ack = $a->ack;
my $second = $a->document(contact('d1', 'two'));
my $second_ack = $a->ack(style => 'hints');
my $alone = $a->outside(contact('d3', 'one'));
my $last = $a->outside(contact('d3', 'two'));
$journal->write($first . $first . $ack . $ack);
$node->follow('duplicates', 'acme/duplicates', 'hubspot.contacts');
ok($node->await_stream('duplicates'), 'caught up');
is($node->status('duplicates', 'documents_applied'), '2', 'a chunk appended twice before its acknowledgement counts once');
$journal->write($second . $second_ack . $first . $ack . $second . $second_ack);
ok($node->await_stream('duplicates'), 'caught up');
is(contacts('d'), 'd1=two d2=one', 'chunks that come again after their acknowledgement change nothing');
is($node->status('duplicates', 'documents_applied'), '3', 'and are not counted');
$journal->write($alone . $alone . $last . $alone);
$journal->write($alone . $first . $second_ack);
ok($node->await_stream('duplicates'), 'caught up');
is(contacts('d'), 'd1=two d2=one d3=two', 'documents that commit by themselves and come again change nothing');
is($node->status('duplicates', 'documents_applied'), '5', 'and count once');
is(staged('duplicates'), '0', 'nothing is left staged');
kill_worker();
$journal->write($first . $ack . $alone);
ok($node->await_stream('duplicates'), 'caught up');
is($node->status('duplicates', 'documents_applied'), '5', 'so it is when they come again after a crash');

# A chunk of an open transaction that comes again in a later batch.
my $open = $a->document(contact('d4', 'one')) . $a->document(contact('d4', 'two'));
$journal->write($open);
ok($node->await_stream('duplicates'), 'caught up');
is(staged('duplicates'), '2', 'an open transaction is staged');
$journal->write($open);
ok($node->await_stream('duplicates'), 'caught up');
is(staged('duplicates'), '2', 'its duplicates are not');
$journal->write($a->document(contact('d5', 'one')) . $a->ack);
ok($node->await_stream('duplicates'), 'caught up');
is(contacts('d'), 'd1=two d2=one d3=two d4=two d5=one', 'the acknowledgement commits what is staged and what is not');
is($node->status('duplicates', 'documents_applied'), '8', 'each document once');

# ---- producers ----

$journal = $node->journal('acme/producers');
$journal->write($a->document(contact('p1', 'a')) . $b->document(contact('p1', 'b')) . $a->document(contact('p2', 'a'))
	. $b->document(contact('p3', 'b')) . $b->ack);
$node->follow('producers', 'acme/producers', 'hubspot.contacts');
ok($node->await_stream('producers'), 'caught up');
is(contacts('p'), 'p1=b p3=b', 'a commit shows the documents of its own producer only');
is(staged('producers'), '2', 'those of the other one are staged');
$journal->write($a->ack);
ok($node->await_stream('producers'), 'caught up');
is(contacts('p'), 'p1=a p2=a p3=b', 'the last acknowledgement wins, though its transaction began first');

$journal->write($a->document(contact('p4', 'a')) . $b->document(contact('p4', 'b')) . $a->ack . $b->ack);
ok($node->await_stream('producers'), 'caught up');
is(contacts('p4'), 'p4=b', 'also within one batch');

$journal->write($a->document(contact('p5', 'undone')) . $b->document(contact('p6', 'done')) . $a->rollback . $b->ack
	. $a->document(contact('p7', 'done')) . $a->ack);
ok($node->await_stream('producers'), 'caught up');
is(contacts('p'), 'p1=a p2=a p3=b p4=b p6=done p7=done', 'a rollback drops the documents of its producer only');
$journal->write($a->document(contact('p8', 'undone')));
ok($node->await_stream('producers'), 'caught up');
is(staged('producers'), '1', 'one is staged');
$journal->write($a->rollback . $a->transaction(contact('p9', 'done')));
ok($node->await_stream('producers'), 'caught up');
is(staged('producers') . contacts('p8') . contacts('p9'), '0p9=done', 'a staged one is rolled back, too');

# What commits by itself discards the open transaction of its producer; an acknowledgement covers what is not newer.
$journal->write($a->document(contact('pa', 'lost')) . $a->outside(contact('pb', 'kept')) . $a->ack);
my $early = $a->tick;
$journal->write($a->document(contact('pc', 'kept'), clock => $early) . $a->document(contact('pd', 'lost')) . $a->ack(clock => $early));
# An acknowledgement whose transaction began before the journal is read.
$journal->write(Sophia::Documents->producer('070000000003')->ack . $a->outside(contact('pe', 'kept')));
ok($node->await_stream('producers'), 'caught up');
is(join(' ', map { contacts($_) } qw(pa pb pc pd pe)), ' pb=kept pc=kept  pe=kept', 'partial acknowledgements');
is(staged('producers'), '0', 'leave nothing staged');
is($node->status('producers', 'state, documents_dead'), 'running|0', 'and no dead letter');

# A document that contains what an acknowledgement contains is data all the same.
$journal->write($a->document({ %{ contact('pf', 'data') }, is_ack => JSON::PP::true, hints => [], _meta => { ack => JSON::PP::true } }) . $a->ack);
ok($node->await_stream('producers'), 'caught up');
is(contacts('pf'), 'pf=data', 'only the flag makes an acknowledgement');

# ---- open transactions and crashes ----

for my $crash ([ 'kill -9 of the worker', \&kill_worker ], [ 'an immediate shutdown', \&restart_at_once ])
{
	my ($name, $crash_now) = @$crash;
	$journal->write($a->document(contact('c1', $name)) . $b->document(contact('c2', "not $name")));
	ok($node->await_stream('producers'), 'caught up');
	my $count = $node->status('producers', 'documents_applied');
	$crash_now->();
	is(staged('producers'), '2', "open transactions stay staged over $name");
	$journal->write($a->document(contact('c3', $name)) . $a->ack . $b->rollback(clock => $b->{last_ack}));
	ok($node->await_stream('producers'), 'caught up');
	is(contacts('c'), "c1=$name c3=$name", 'the acknowledgement commits, the rollback drops them');
	is($node->status('producers', 'documents_applied') - $count, '2', 'once');
	is(staged('producers'), '0', 'and nothing stays staged');
}

# ---- a transaction larger than a batch ----

$journal = $node->journal('acme/large');
my $text = 'x' x 500;
my $n = 9000;
$journal->write(join('', map { $a->raw(qq({"_meta":{"uuid":"%s"},"id":"l$_","properties":{"firstname":"$_","company":"$text"}})) } 1 .. $n));
cmp_ok($journal->offset, '>', 4 * 1024 * 1024, 'more than 4 MB');
$node->follow('large', 'acme/large', 'hubspot.contacts');
ok($node->await_stream('large'), 'caught up');
is(staged('large'), $n, 'a transaction of many batches is staged whole');
is(contacts('l'), '', 'and shows nothing');
kill_worker();
$journal->write($a->ack);
ok($node->await_stream('large'), 'caught up');
is($node->rows("SELECT count(*), count(DISTINCT changed_xid), sum(firstname::int) FROM hubspot_raw.contacts WHERE id LIKE 'l%'"),
	join('|', $n, 1, $n * ($n + 1) / 2), 'its acknowledgement commits all of it in one transaction');
is(staged('large'), '0', 'and nothing stays staged');
$journal->write(join('', map { $a->raw(qq({"_meta":{"uuid":"%s"},"id":"l$_","properties":{"firstname":"0"}})) } 1 .. 8500)
	. $a->rollback);
ok($node->await_stream('large'), 'caught up');
is(staged('large') . '|' . $node->rows("SELECT min(firstname::int) FROM hubspot_raw.contacts WHERE id LIKE 'l%'"), '0|1',
	'a large transaction is rolled back whole');

# ---- a worker whose checkpoint another one moved ----

$journal = $node->journal('acme/fence');
$journal->write($a->outside(contact('f1', 'x')));
$node->follow('fence', 'acme/fence', 'hubspot.contacts');
ok($node->await_stream('fence'), 'caught up');
my $line = $a->outside(contact('f2', 'skipped'));
$node->safe_psql('postgres', "UPDATE sophia.checkpoints SET next_offset = next_offset + " . length($line) . " WHERE stream = 'fence'");
$journal->write($line . $a->outside(contact('f3', 'x')));
ok($node->await_stream('fence'), 'caught up');
is(contacts('f'), 'f1=x f3=x', 'a worker goes on where the checkpoint stands, not where it believed to be');

# ---- a crash in the middle of a batch ----

$journal = $node->journal('acme/middle');
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id = 'm500' THEN PERFORM pg_advisory_xact_lock(7); END IF;
  RETURN NEW;
END;
$$;
CREATE TRIGGER hold BEFORE INSERT ON hubspot_raw.contacts FOR EACH ROW EXECUTE FUNCTION public.hold();
SQL
$journal->write($a->transaction(map { contact("m$_", $_) } 1 .. 999));
for my $crash ([ 'kill -9', \&kill_worker ], [ 'an immediate shutdown', \&restart_at_once ])
{
	my ($name, $crash_now) = @$crash;
	my $holder = $node->beside('SELECT pg_advisory_lock(7), pg_sleep(1000)');
	$node->poll_query_until('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted", 1);
	$node->follow('middle', 'acme/middle', 'hubspot.contacts');
	ok($node->poll_query_until('postgres',
			"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest' AND wait_event = 'advisory'", 1),
		"the worker is in the middle of a batch before $name");
	$crash_now->();
	$holder->{run}->finish;
	isnt(${ $holder->{err} }, '', 'whoever held it up is gone');
	ok($node->await_stream('middle'), "caught up after $name");
	is($node->rows("SELECT count(*), sum(firstname::int) FROM hubspot_raw.contacts WHERE id LIKE 'm%'"), '999|499500', 'everything is there');
	is($node->status('middle', 'documents_applied'), '999', 'applied once');
	$node->safe_psql('postgres', "SELECT sophia.drop_stream('middle'); DELETE FROM hubspot_raw.contacts WHERE id LIKE 'm%'");
}
$node->safe_psql('postgres', 'DROP TRIGGER hold ON hubspot_raw.contacts');
$node->safe_psql('postgres', "SELECT sophia.drop_stream(stream) FROM sophia.streams");
$node->safe_psql('postgres', 'TRUNCATE hubspot_raw.contacts');

# ---- crashes at any point, against what a model expects ----

my @fields = qw(firstname lastname jobtitle company phone);

# Writes lines of three producers as a broker would hold them, and what they mean: lines, rows by id, documents.
sub make_journal
{
	my ($prefix, $documents, $keys) = @_;
	my %made = (lines => [], rows => {}, applied => 0, bytes => 0, open => 0);
	my @producers = map { { id => sprintf('0%d00000000%02x', 2 * $_ + 1, ord $prefix), clock => Sophia::Documents::clock_of(1_780_000_000) + $_, pending => [], left => 0 } } 0 .. 2;

	my $append = sub {
		my ($line) = @_;
		my $offset = $made{bytes};
		push @{ $made{lines} }, $line;
		$made{bytes} += length $line;
		return $offset;
	};
	my $document = sub {
		my ($p, $flags) = @_;
		my $clock = $p->{clock} += 160;
		my $id = $prefix . int rand $keys;
		my $uuid = uuid($p->{id}, $clock, $flags);
		my $deleted = rand() < 0.03;
		my $field = $fields[rand @fields];
		my $value = rand() < 0.1 ? undef : "$prefix-$made{bytes}";
		my $line = $deleted
		  ? qq({"_meta":{"op":"d","uuid":"$uuid"},"id":"$id"}\n)
		  : qq({"_meta":{"op":"u","uuid":"$uuid"},"id":"$id","properties":{"$field":) . (defined $value ? qq("$value") : 'null') . "}}\n";
		my $offset = $append->($line);
		return { id => $id, deleted => $deleted, field => $field, value => $value, clock => $clock, offset => $offset, line => $line };
	};
	my $apply = sub {
		my ($d) = @_;
		my $row = $made{rows}{ $d->{id} };
		$made{applied}++;
		$row = $made{rows}{ $d->{id} } = {} if !$row || $row->{deleted} && !$d->{deleted};
		$row->{ $d->{field} } = $d->{value} if !$d->{deleted};
		@$row{qw(deleted clock offset)} = @$d{qw(deleted clock offset)};
	};
	for (my $i = 0; $i < $documents;)
	{
		my $p = $producers[rand @producers];
		if (!@{ $p->{pending} } && rand() < 0.2)
		{
			my $d = $document->($p, OUTSIDE);
			$append->($d->{line}) if rand() < 0.1;
			$p->{acked} = $d->{clock};
			$apply->($d);
			$i++;
			next;
		}
		$p->{left} ||= 1 + int rand 60;
		my $chunk = min($p->{left}, 1 + int rand 10);
		my @chunk = map { $document->($p, CONTINUE) } 1 .. $chunk;
		$i += $chunk;
		push @{ $p->{pending} }, @chunk;
		if (rand() < 0.05) { $append->($_->{line}) for @chunk }
		next if $p->{left} -= $chunk;
		if (defined $p->{acked} && rand() < 0.1)
		{
			$append->(qq({"_meta":{"ack":true,"uuid":") . uuid($p->{id}, $p->{acked}, ACK) . qq("}}\n));
		}
		else
		{
			my $line = qq({"_meta":{"ack":true,"uuid":") . uuid($p->{id}, $p->{acked} = $p->{clock} += 160, ACK) . qq("}}\n);
			$append->($line);
			$append->($line) if rand() < 0.1;
			$apply->($_) for @{ $p->{pending} };
		}
		$p->{pending} = [];
	}
	$made{open} += @{ $_->{pending} } for @producers;
	return \%made;
}

my $seed = int($ENV{SOPHIA_SEED} // time ^ $$);
srand $seed;
diag "SOPHIA_SEED=$seed";
my %made = map { $_ => make_journal($_, 25_000, 3_000) } qw(x y);
my %journal = (x => $node->journal('acme/many'), y => $node->journal('acme/many', name => 'pivot=80000000'));

# Appends the next so many lines of both journals, cut into fragments.
sub append
{
	my ($lines) = @_;
	for my $name (sort keys %journal)
	{
		my $left = $lines;
		while ($left > 0 && @{ $made{$name}{lines} })
		{
			my $count = min($left, 1 + int rand 2000);
			$journal{$name}->write(join('', splice(@{ $made{$name}{lines} }, 0, $count)), codec => rand() < 0.5 ? 'gz' : 'raw');
			$left -= $count;
		}
	}
	return;
}

$node->follow('many', 'acme/many', 'hubspot.contacts');
for my $round (1 .. 8)
{
	append(3000);
	my $waiting = $node->beside("SELECT sophia.await_stream('many', '60 s')");
	# not to wait for something, but so that the crash comes at any point
	usleep(rand 400_000);
	$round % 3 ? kill_worker() : restart_at_once();
	$waiting->{run}->finish;
}
append(1_000_000);
ok($node->await_stream('many'), 'caught up after crashes at any point');
my @expected;
for my $made (values %made)
{
	for my $id (keys %{ $made->{rows} })
	{
		my $row = $made->{rows}{$id};
		push @expected, join '|', $id, (map { $row->{$_} // '-' } @fields), $row->{deleted} ? 't' : 'f', @$row{qw(clock offset)};
	}
}
my @found = split /\n/, $node->rows("SELECT concat_ws('|', id, " . join(', ', map { "coalesce($_, '-')" } @fields) . ', is_deleted, source_clock, source_offset) FROM hubspot_raw.contacts');
is(scalar @found, scalar @expected, 'as many rows as expected');
is_deeply([ sort @found ], [ sort @expected ], 'and every row is what the committed documents make of it')
  or diag("seed $seed");
is($node->status('many', 'documents_applied, applied_offset, lag_bytes, documents_dead'),
	join('|', $made{x}{applied} + $made{y}{applied}, $made{x}{bytes} + $made{y}{bytes}, 0, 0), 'every document was applied once');
is(staged('many'), $made{x}{open} + $made{y}{open}, 'what is open at the end is staged');

$node->stop;
done_testing();
