# Twelve writers race two consumers: each change that was committed reaches each consumer in the one window that it belongs to.
#
#   SOPHIA_RACE   `long` for 60 seconds instead of 8
#   SOPHIA_SEED   the seed of an earlier run (printed by each); it repeats a run's choices, though not its timing
#
# What is true is told by a ledger: whoever changes a row writes (table, key, own transaction id) into it, in the same
# transaction.  Of each batch it is noted what it held and between which two snapshots it read.  A change is lost where the
# batches of its window do not hold its key, a row is doubled where a batch holds it and no change of that window does.
use strict;
use warnings;
use IPC::Run ();
use POSIX ();
use Sophia::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

use constant { WRITERS => 12, SCRIPT => 40, KEYS => 400 };

my $seconds = ($ENV{SOPHIA_RACE} // '') eq 'long' ? 60 : 8;
my $seed = int($ENV{SOPHIA_SEED} || time ^ $$);
diag "SOPHIA_SEED=$seed";

my $node = Sophia::Cluster->create('main', preload => 0, conf => <<'CONF');
max_prepared_transactions = 20
deadlock_timeout = 20ms
log_min_messages = fatal
CONF
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE one (id int PRIMARY KEY, v int, is_deleted boolean DEFAULT false, changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE TABLE two (LIKE one INCLUDING ALL);
CREATE TABLE ledger (source text, id int, xid xid8 DEFAULT pg_current_xact_id());
CREATE TABLE windows (consumer text, reader xid8 DEFAULT pg_current_xact_id(), past pg_snapshot, now pg_snapshot);
CREATE TABLE delivered (consumer text, reader xid8 DEFAULT pg_current_xact_id(), source text, id int, deleted boolean);
SELECT sophia.create_consumer(c, '{one,two}') FROM unnest('{reads,writes}'::text[]) c;
SELECT c, sophia.next_batch(c) FROM unnest('{reads,writes}'::text[]) c;
SELECT sophia.commit_batch(c) FROM unnest('{reads,writes}'::text[]) c;
SQL

# One of its arguments.
sub any { return $_[ int rand @_ ] }

# A statement that changes some rows and enters them in the ledger.
sub change
{
	my $table = any('one', 'two');
	my $some = join ', ', map { 1 + int rand KEYS } 1 .. 1 + rand 3;
	my $changed = any(
		"INSERT INTO $table (id, v) SELECT n, 1 FROM unnest(ARRAY[$some]) n ON CONFLICT DO NOTHING RETURNING ARRAY[id]",
		"INSERT INTO $table AS t (id, v) SELECT DISTINCT n, 1 FROM unnest(ARRAY[$some]) n ON CONFLICT (id) DO UPDATE SET v = t.v + 1 RETURNING ARRAY[id]",
		"INSERT INTO $table (id, changed_xid) SELECT DISTINCT n, '3'::xid8 FROM unnest(ARRAY[$some]) n ON CONFLICT DO NOTHING RETURNING ARRAY[id]",
		"UPDATE $table SET v = v + 1, is_deleted = random() < 0.2 WHERE id IN ($some) RETURNING ARRAY[id]",
		"UPDATE $table SET id = id + @{[ KEYS ]} WHERE id IN ($some) AND id <= @{[ KEYS ]} RETURNING ARRAY[id, id - @{[ KEYS ]}]",
		"DELETE FROM $table WHERE id IN ($some) RETURNING ARRAY[id]",
		"DELETE FROM $table WHERE id > @{[ KEYS ]} AND id % 50 = @{[ int rand 50 ]} RETURNING ARRAY[id]");
	return "WITH changed (ids) AS ($changed) INSERT INTO ledger (source, id) SELECT '$table', unnest(ids) FROM changed;\n";
}

sub changes { return join '', map { change() } 1 .. 1 + rand 3 }

# Somebody else may go on.
sub pause { return sprintf "SELECT pg_sleep(%.4f);\n", rand 0.02 }

# A transaction of a writer.
sub writing
{
	my ($name) = @_;
	my $work = changes() . any('', pause());
	$work .= 'SAVEPOINT a; ' . changes() . any('RELEASE a;', 'ROLLBACK TO a;') . "\n" . any('', changes(), pause()) if rand() < 0.5;
	my $end = any(("COMMIT;\n") x 6, "ROLLBACK;\n",
		"PREPARE TRANSACTION '$name';\n" . pause() . any(("COMMIT PREPARED '$name';\n") x 3, "ROLLBACK PREPARED '$name';\n"));
	return any('BEGIN', 'BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ') . ";\n$work$end";
}

# What a consumer does with one batch: looks at it in a transaction of its own or in one that is rolled back, or takes it.
sub reading
{
	my ($consumer, $writes, $most) = @_;
	my $mine = sub { return $writes ? any('', change()) : '' };
	my $look = "SELECT count(*) FROM sophia.next_batch('$consumer'$most);\n";
	my $script = any('', '', $look, "BEGIN; SELECT pg_current_xact_id(); ${look}SELECT sophia.commit_batch('$consumer'); ROLLBACK;\n");
	$script .= any('BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ') . ";\n" . $mine->();
	$script .= "SAVEPOINT a; " . $mine->() . "$look ROLLBACK TO a;\n" if rand() < 0.3;
	$script .= "SAVEPOINT b; " . $mine->() if rand() < 0.3;
	return $script . <<"SQL" . $mine->() . pause() . any(("COMMIT;\n") x 4, "ROLLBACK;\n");
INSERT INTO delivered (consumer, source, id, deleted) SELECT '$consumer', source, (key ->> 'id')::int, deleted FROM sophia.next_batch('$consumer'$most);
INSERT INTO windows (consumer, past, now) SELECT consumer, snapshot, window_snapshot FROM sophia.consumer_state WHERE consumer = '$consumer';
SELECT sophia.commit_batch('$consumer');
SQL
}

# Runs scripts one after the other in a process of its own until the time is over.
sub begin
{
	my ($number, $until, $script) = @_;
	my $pid = fork // die "cannot fork: $!";
	return $pid if $pid;
	srand $seed + $number;
	while (time < $until)
	{
		my $text = join '', map { $script->() } 1 .. SCRIPT;
		IPC::Run::run([ $node->installed_command('psql'), '-XqAt', '-d', $node->connstr('postgres') ], '<', \$text, '>', \my $out, '2>', \my $err);
	}
	POSIX::_exit(0);
}

my $until = time + $seconds;
my @running = map { my $name = "w$_"; begin($_, $until, sub { writing($name) }) } 1 .. WRITERS;
push @running, begin(101, $until, sub { reading('reads', 0, any('', ', 1', ', 7', ', 100')) }),
  begin(102, $until, sub { reading('writes', 1, any('', '', ', 50')) });
waitpid $_, 0 for @running;
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'every transaction has ended');

# What is left.
for my $consumer ('reads', 'writes')
{
	for (1 .. 3)
	{
		$node->safe_psql('postgres', <<"SQL");
BEGIN;
INSERT INTO delivered (consumer, source, id, deleted) SELECT '$consumer', source, (key ->> 'id')::int, deleted FROM sophia.next_batch('$consumer');
INSERT INTO windows (consumer, past, now) SELECT consumer, snapshot, window_snapshot FROM sophia.consumer_state WHERE consumer = '$consumer';
SELECT sophia.commit_batch('$consumer');
COMMIT;
SQL
	}
}

$node->safe_psql('postgres', <<'SQL');
-- Which change became visible in which window of whom.
CREATE TABLE seen AS
  SELECT w.consumer, w.now AS w, l.* FROM (SELECT DISTINCT consumer, past::text, now::text FROM windows) w
  CROSS JOIN LATERAL (
    SELECT n::text::xid8 AS xid FROM generate_series(pg_snapshot_xmax(w.past::pg_snapshot)::text::bigint, pg_snapshot_xmax(w.now::pg_snapshot)::text::bigint - 1) n
    UNION SELECT pg_snapshot_xip(w.past::pg_snapshot)) x
  JOIN (SELECT DISTINCT * FROM ledger) l USING (xid)
  WHERE pg_visible_in_snapshot(l.xid, w.now::pg_snapshot);
-- What the batches held.
CREATE TABLE held AS
  SELECT d.*, w.now::text AS w FROM delivered d JOIN windows w USING (consumer, reader);
ANALYZE;
-- Where the reader changed the row itself, in a transaction that took a batch of the window, the row may come with the next one.
CREATE VIEW lost AS
  SELECT c.consumer, l.* FROM (SELECT DISTINCT * FROM ledger) l CROSS JOIN (VALUES ('reads'), ('writes')) c (consumer)
  WHERE NOT EXISTS (SELECT FROM seen s WHERE (s.consumer, s.source, s.id, s.xid) = (c.consumer, l.source, l.id, l.xid))
  UNION ALL
  SELECT s.consumer, s.source, s.id, s.xid FROM seen s
  WHERE NOT EXISTS (SELECT FROM held h WHERE (h.consumer, h.source, h.id, h.w) = (s.consumer, s.source, s.id, s.w))
    AND NOT EXISTS (SELECT FROM windows w JOIN ledger o ON o.xid = w.reader
      WHERE (w.consumer, w.now::text, o.source, o.id) = (s.consumer, s.w, s.source, s.id) AND s.xid <> w.reader);
CREATE VIEW doubled AS
  SELECT h.consumer, h.source, h.id, h.w FROM held h
  WHERE NOT EXISTS (SELECT FROM seen s WHERE (s.consumer, s.source, s.id, s.w) = (h.consumer, h.source, h.id, h.w))
  UNION ALL
  SELECT h.consumer, h.source, h.id, h.w FROM held h GROUP BY 1, 2, 3, 4 HAVING count(*) > 1;
SQL
my ($rows, $lost, $doubled) = map { $node->safe_psql('postgres', "SELECT count(*) FROM $_") } '(SELECT DISTINCT * FROM ledger) l', 'lost', 'doubled';
is($lost, 0, 'no change is lost') or diag $node->safe_psql('postgres', 'SELECT * FROM lost LIMIT 5');
is($doubled, 0, 'no row comes twice') or diag $node->safe_psql('postgres', 'SELECT * FROM doubled LIMIT 5');

# What each consumer was told last of a row agrees with the row.
is($node->safe_psql('postgres', <<'SQL'), 0, 'what is deleted was told as deleted');
SELECT count(*) FROM (SELECT DISTINCT ON (consumer, source, id) * FROM held ORDER BY consumer, source, id, reader DESC) h
  LEFT JOIN (SELECT 'one' AS source, id, is_deleted FROM one UNION ALL SELECT 'two', id, is_deleted FROM two) t USING (source, id)
WHERE h.deleted IS DISTINCT FROM coalesce(t.is_deleted, true)
SQL
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.deleted_keys'), 0, 'no key is kept that both have read');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT now::text) FROM windows'), '>', $seconds, 'there were many windows');
cmp_ok($rows, '>', 100 * $seconds, 'and many changes');
$node->stop;
done_testing();
note "cursor race: $rows rows, $lost lost, $doubled doubled";
