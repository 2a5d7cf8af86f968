# Several ingest workers: how streams are spread, moved when a worker ends, and answered for; and fair turns within one worker.
use strict;
use warnings;
use List::Util qw(max sum);
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Documents;
use Sophia::Ingest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = Sophia::Ingest->create('main', conf => "sophia_stack.ingest_workers = 3\n");
my $ann = Sophia::Documents->producer('030000000001');
my %shape = (
	contacts => 'hubspot.contacts', companies => 'hubspot.companies', deals => 'hubspot.deals', owners => 'hubspot.owners',
	users => 'slack.users', channels => 'slack.channels', more_users => 'slack.users');
my %journal = map { $_ => $node->journal("acme/$_") } keys %shape;
my %written;

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub poll { return $node->poll_query_until('postgres', @_) }

# Writes a document into each collection.
sub write_all
{
	for my $name (sort keys %shape)
	{
		$written{$name}++;
		$journal{$name}->write($ann->outside({ id => "$name $written{$name}", name => 'x' }));
	}
	return;
}

sub set_workers
{
	my ($n) = @_;
	sql("ALTER SYSTEM SET sophia_stack.ingest_workers = $n");
	$node->reload;
	return;
}

# Condition: every stream is followed by a running worker, and so many tables by each of so many.
sub spread
{
	my ($tables, $workers) = @_;
	return <<~SQL;
		SELECT count(*) = $workers AND bool_and(n BETWEEN @{[ int($tables / $workers) ]} AND @{[ int(($tables + $workers - 1) / $workers) ]})
		  AND (SELECT bool_and(worker_pid IS NOT NULL AND state = 'running') FROM sophia.stream_status)
		FROM (SELECT worker_pid, count(DISTINCT shape) AS n FROM sophia.stream_status GROUP BY worker_pid) s
		SQL
}

# All streams are caught up, and each table holds what was written once.
sub all_is_there
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @late = grep { !$node->await_stream($_) } sort keys %shape;
	is("@late", '', "$what: all streams answer");
	is(sql("SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n FROM hubspot_raw.contacts UNION ALL SELECT count(*) FROM hubspot_raw.companies"
			. ' UNION ALL SELECT count(*) FROM hubspot_raw.deals UNION ALL SELECT count(*) FROM hubspot_raw.owners'
			. ' UNION ALL SELECT count(*) FROM slack_raw.users UNION ALL SELECT count(*) FROM slack_raw.channels) t'),
		join(' ', ($written{contacts}) x 4, 2 * $written{users}, $written{users}), "$what: every row is there");
	return;
}

# ---- spread ----

ok(poll("SELECT count(*) = 3 FROM sophia.workers WHERE worker LIKE '%ingest' AND state = 'running'"), 'three workers run');
write_all();
$node->follow($_, "acme/$_", $shape{$_}) for sort keys %shape;
all_is_there('three workers');
ok(poll(spread(6, 3)), 'six tables on three workers are two each');
is(sql("SELECT count(DISTINCT worker_pid) FROM sophia.stream_status WHERE shape = 'slack.users'"), 1, 'all streams into one table are with one worker');
is(sql("SELECT count(*) FROM sophia.stream_status s JOIN pg_stat_activity a ON a.pid = s.worker_pid WHERE a.backend_type = 'sophia_stack ingest'"), 7,
	'the status names the process that follows each');

# ---- questions ----

is(sql("SELECT ok, message FROM sophia.check_endpoint('store')"), 't|endpoint answers: 7 collections, 7 journals', 'one of them answers about an endpoint');
is(sql("SELECT count(*) FROM sophia.collections('store')"), 7, 'and about its collections');
like(scalar $node->error_of("SELECT sophia.await_stream('nobody')"), qr/^42704/, 'a stream that does not exist');
my @asking = map { $node->beside("SELECT sophia.await_stream('$_')") } sort keys %shape;
$_->{run}->finish for @asking;
is(join('', map { ${ $_->{out} } } @asking), "t\n" x 7, 'questions about all streams at once are answered by whoever follows them');

# ---- a worker ends ----

my ($victim, $its) = split /\|/, sql("SELECT worker_pid, array_to_string(array_agg(stream), ' ') FROM sophia.stream_status GROUP BY 1 ORDER BY 1 LIMIT 1");
my $others = sql("SELECT array_agg(stream || ' ' || worker_pid ORDER BY stream) FROM sophia.stream_status WHERE worker_pid <> $victim");
write_all();
my $started = time;
sql("SELECT pg_terminate_backend($victim)");
ok($node->await_stream($_), "$_ goes on") for split / /, $its;
cmp_ok(time - $started, '<', 30, 'streams of a worker that ended go on at once');
is(sql("SELECT count(*) FROM sophia.stream_status WHERE worker_pid = $victim"), 0, 'with others');
all_is_there('one has ended');
ok(poll("SELECT count(*) = 3 FROM sophia.workers WHERE worker LIKE '%ingest' AND state = 'running'"), 'it is started again');
ok(poll(spread(6, 3)), 'and gets its part');

# One that fails again and again is waited for longer; its streams stay with the others.
ok(poll("SELECT CASE WHEN failures < 3 THEN coalesce(pg_cancel_backend(pid), true) IS NULL ELSE true END FROM sophia.workers WHERE worker LIKE '%ingest' AND index = 2"),
	'a worker that fails is started again, thrice');
write_all();
ok(poll("SELECT CASE WHEN state = 'idle' THEN (SELECT bool_and(worker_pid IS NOT NULL) FROM sophia.stream_status) ELSE coalesce(pg_cancel_backend(pid), true) IS NULL END"
		. " FROM sophia.workers WHERE worker LIKE '%ingest' AND index = 2"),
	'then it is left alone for a while, and the others follow its streams');
all_is_there('while it is away');

# ---- other numbers ----

set_workers(1);
ok(poll(spread(6, 1)), 'one worker follows all');
write_all();
all_is_there('one worker');
set_workers(2);
ok(poll(spread(6, 2)), 'two are three tables each');
write_all();
all_is_there('two workers');
is(sql('SELECT sum(documents_applied) FROM sophia.stream_status'), sum(values %written), 'through all that each document was applied once');

# ---- fair turns ----

# A live stream beside one that reads 150 MB of ten journals in the same worker.
set_workers(1);
ok(poll(spread(6, 1)), 'one worker again');
my $broker = Sophia::Broker->new->start;
my $live = $broker->create_journal('acme/live');
sql("SELECT sophia.create_endpoint('broker', 'broker', '" . $broker->address . "')");
sql("SELECT sophia.create_stream('live', 'broker', 'acme/live', 'gong.users')");
my @much = map { $node->journal('acme/much', name => sprintf 'pivot=%02x', $_) } 0 .. 9;
my $part = join '', map { qq({"_meta":{"uuid":"%s"},"id":"m%d","name":") . 'x' x 600 . qq("}\n) } 1 .. 4000;
my $document = 0;
for my $file (1 .. 60)
{
	my $lines = $part =~ s/%s/Sophia::Documents::uuid('030000000002', Sophia::Documents::clock_of(1_780_000_000) + 160 * ++$document, 0)/egr;
	my $n = $document - 4000;
	$lines =~ s/%d/++$n/eg;
	$much[ $file % 10 ]->write($lines);
}
ok($node->await_stream('live'), 'a live stream');
my $seen = $node->beside("DO \$\$ BEGIN CREATE TABLE public.seen (id text, at timestamptz);"
	  . " COMMIT; FOR i IN 1 .. 60000 LOOP"
	  . " INSERT INTO public.seen SELECT id, clock_timestamp() FROM gong_raw.users u WHERE NOT EXISTS (SELECT FROM public.seen s WHERE s.id = u.id);"
	  . " COMMIT; EXIT WHEN EXISTS (SELECT FROM public.seen WHERE id = 'last'); PERFORM pg_sleep(0.002); END LOOP; END \$\$");
ok(poll("SELECT to_regclass('public.seen') IS NOT NULL"), 'somebody watches');
my $began = time;
sql("SELECT sophia.create_stream('much', 'store', 'acme/much', 'hubspot.engagements')");
ok(poll("SELECT phase = 'backfill' AND documents > 0 FROM sophia.stream_progress WHERE stream = 'much'"), 'a backfill begins');
my %appended;
while (keys %appended < 300)
{
	my $id = 'live' . keys %appended;
	$broker->put($live, $ann->outside({ id => $id }));
	$appended{$id} = time;
	last if keys(%appended) % 20 == 0 && sql("SELECT phase FROM sophia.stream_progress WHERE stream = 'much'") ne 'backfill';
	usleep(10_000);
}
cmp_ok(scalar keys %appended, '>', 60, 'documents come while it runs');
$broker->put($live, $ann->outside({ id => 'last' }));
$seen->{run}->finish;
my %at = split /[|\n]/, sql('SELECT id, extract(epoch FROM at) FROM public.seen');
my @late = sort { $a <=> $b } map { 1000 * ($at{$_} - $appended{$_}) } keys %appended;
my ($p50, $p99) = @late[ $#late / 2, int(0.99 * $#late) ];
ok($node->await_stream('much'), 'the backfill ends');
# What is soon follows from how fast this machine is now: one turn of all ten would be a quarter of the backfill.
my $took = 1000 * (time - $began);
note sprintf 'milliseconds until a live document is visible: p50 %.0f p99 %.0f of %d; of the backfill %.0f', $p50, $p99, scalar @late, $took;
cmp_ok($p50, '<', max(250, $took / 16), 'and are visible soon');
cmp_ok($p99, '<', max(1000, $took / 4), 'all of them');
is(sql('SELECT count(*) FROM hubspot_raw.engagements'), $document, 'with all of its documents');

$node->stop('fast');
done_testing();
