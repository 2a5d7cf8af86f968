# Documents of a live broker in the rows of streams: order, partitions, transactions, large documents, waiting, idling.
use strict;
use warnings;
use List::Util qw(sum);
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Expected;
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time usleep);

use constant { ANN => '030000000001', BEN => '030000000002', CLO => '030000000003' };

my $broker = Sophia::Broker->new->start;
my $address = $broker->address;
my $node = Sophia::Cluster->create('main');
my $expected = Sophia::Expected->new('merge');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub partition
{
	my (%p) = @_;
	return Sophia::Writer->new($broker, $broker->create_journal('acme/contacts', generation => '1122334455667788', %p), [$expected]);
}

# The rows of contacts are those that the committed documents make.
sub rows_are_right
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($expected->differences($node, 'hubspot_raw.contacts'), '', $what);
}

sql('SELECT sophia.create_schemas()');

# ---- endpoints ----

sql("SELECT sophia.create_endpoint('broker', 'broker', '$address')");
is(sql("SELECT ok, message FROM sophia.check_endpoint('broker')"), 't|endpoint answers: 0 collections, 0 journals', 'an empty broker answers');
is(sql("SELECT count(*) FROM sophia.collections('broker')"), 0, 'and has no collection');
sql("SELECT sophia.create_endpoint('nobody', 'broker', 'http://127.0.0.1:9')");
like(sql("SELECT ok, message FROM sophia.check_endpoint('nobody')"), qr/^f\|could not list journals: .*(refused|connect)/i, 'an address without a broker does not, and why is told');
like(scalar $node->error_of("SELECT * FROM sophia.collections('nobody')"), qr/could not list journals/, 'collections() raises that');

# ---- once and in order ----

my $first = partition();
$first->transaction(ANN, map { { id => "a$_", properties => { firstname => "first $_", lastname => 'x' } } } 1 .. 5);
$first->put;
sql("SELECT sophia.create_stream('contacts', 'broker', 'acme/contacts', 'hubspot.contacts')");
sql("SELECT sophia.create_stream('quiet', 'broker', 'acme/contacts', 'slack.users')");
ok($node->await_stream('contacts'), 'documents that were there before the stream arrive');
rows_are_right('in full');

for my $i (1 .. 40)
{
	my $id = 'a' . (1 + $i % 7);
	$first->document(ANN, { id => $id, properties => { firstname => "again $i", ($i % 5 ? () : (lastname => undef)), "m$i" => $i } });
	$first->ack(ANN) if $i % 6 == 0;
	$first->outside(CLO, { id => $id, properties => { jobtitle => "title $i" } }) if $i % 9 == 0;
	$first->put if $i % 4 == 0;
}
$first->ack(ANN);
$first->put;
ok($node->await_stream('contacts'), 'documents that come while it runs arrive, too');
rows_are_right('reduced in the order of their commits');
is(sql("SELECT documents_applied, documents_dead, lag_bytes FROM sophia.stream_status WHERE stream = 'contacts'"),
	$expected->committed . '|0|0', 'each once');

# ---- duplicates, producers among each other, rollback ----

$first->document(ANN, { id => 'b1', properties => { firstname => 'once' } });
$first->document(ANN, { id => 'b2', properties => { firstname => 'once' } });
my $chunk = $first->put;
$first->put_again($chunk);
$first->ack(ANN);
my $ack = $first->put;
$first->put_again($ack);
$first->put_again($chunk);
$first->document(ANN, { id => 'b3', properties => { firstname => 'Ann began first' } });
$first->document(BEN, { id => 'b3', properties => { firstname => 'Ben began last', jobtitle => 'and is first' } });
$first->document(ANN, { id => 'b4', properties => { firstname => 'Ann' } });
$first->put;
$first->ack(BEN);
$first->put;
ok($node->await_stream('contacts'), 'two producers');
is(sql("SELECT id, firstname FROM hubspot_raw.contacts WHERE id IN ('b3', 'b4')"), 'b3|Ben began last', 'who acknowledges does not expose the other');
$first->ack(ANN);
$first->put;
$node->await_stream('contacts');
is(sql("SELECT firstname, jobtitle FROM hubspot_raw.contacts WHERE id = 'b3'"), 'Ann began first|and is first', 'who acknowledges last is applied last');
$first->document(ANN, { id => 'b5' });
$first->document(ANN, { id => 'b1', properties => { firstname => 'rolled back' } });
$first->put;
$node->await_stream('contacts');
$first->rollback(ANN);
$first->document(ANN, { id => 'b6' });
$first->ack(ANN);
$first->put;
ok($node->await_stream('contacts'), 'a transaction that is rolled back');
rows_are_right('duplicates, interleaved producers and a rollback leave the right rows');
is(sql("SELECT documents_applied FROM sophia.stream_status WHERE stream = 'contacts'"), $expected->committed, 'each document counted once');

# ---- a transaction that stays open, also across a crash ----

$first->document(ANN, { id => "c$_", properties => { firstname => "open $_" } }) for 1 .. 20;
$first->put;
ok($node->await_stream('contacts'), 'await_stream is true while a transaction is open');
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE id LIKE 'c%'"), 0, 'whose documents are not visible');
is(sql("SELECT count(*) FROM sophia.staged_documents WHERE stream = 'contacts'"), 20, 'but staged');
my $pid = $node->kill_worker('ingest', 'KILL');
$first->document(ANN, { id => "c$_", properties => { firstname => "open $_" } }) for 15 .. 30;
$first->put;
$node->wait_until_up($pid);
ok($node->await_stream('contacts'), 'the stream is followed again after a crash');
is(sql("SELECT count(*) FROM sophia.staged_documents WHERE stream = 'contacts'"), 36, 'the rest of the transaction joins');
$node->stop('immediate');
$node->start;
$first->ack(ANN);
$first->put;
ok($node->await_stream('contacts'), 'its acknowledgement comes after another crash');
rows_are_right('and commits it as a whole');

# ---- partitions ----

my $second = partition(pivot => '80000000');
$second->outside(BEN, { id => 'd1', properties => { firstname => 'second partition' } });
$second->put;
my $third = partition(fields => [ [ 'region', 'a%2Fb%20c' ] ]);
like($third->journal, qr/%2F/, 'a partition whose name holds percent signs');
$third->transaction(CLO, { id => 'd2', properties => { firstname => 'third partition' } });
$third->put;
ok($node->await_stream('contacts'), 'partitions that are added while the stream runs');
rows_are_right('bring their documents');
is(sql("SELECT journal, applied_offset = write_head, lag_bytes FROM sophia.stream_journals WHERE stream = 'contacts' ORDER BY journal"),
	join("\n", map { "$_|t|0" } sort map { $_->journal } $first, $second, $third), 'stream_journals has a row a journal');

# One key in two journals: the larger clock wins, whichever comes first.  Not in $expected, which knows one journal a key.
my ($old, $new) = map { Sophia::Documents->producer($_) } '0300000000a1', '0300000000a2';
$new->tick(1000);
for my $append ([ $first, $new->outside({ id => 'clock', properties => { firstname => 'later', email => 'later@example.com' } }) ],
	[ $second, $old->outside({ id => 'clock', properties => { firstname => 'earlier', lastname => 'only earlier' } }) ],
	[ $second, $old->outside({ id => 'clock', properties => { firstname => 'earlier, too', jobtitle => 'only there' } }) ])
{
	my ($writer, $bytes) = @$append;
	$writer->{offset} = $broker->put($writer->journal, $bytes);
	$node->await_stream('contacts');
}
is(sql("SELECT firstname, lastname, jobtitle, source_journal FROM hubspot_raw.contacts WHERE id = 'clock'"),
	'later|only earlier|only there|' . $first->journal, 'of two journals the larger clock wins, the older fills');
sql("DELETE FROM hubspot_raw.contacts WHERE id = 'clock'");

# ---- more journals than one message of a listing holds ----

my @many = map { sprintf 'acme/many/pivot=%02x', $_ } 1 .. 60;
$broker->apply({
	name => 'acme/many/',
	replication => 1,
	labels => [
		{ name => 'app.gazette.dev/managed-by', value => 'estuary.dev/flow' },
		{ name => 'content-type', value => 'application/x-ndjson' },
		{ name => 'estuary.dev/collection', value => 'acme/many' } ],
	fragment => { length => 1 << 20, compression_codec => 'GZIP', stores => ['file:///'], refresh_interval => '2s', flush_interval => '0s' },
	children => [ map { { name => $_ } } @many ] });
for my $journal (@many)
{
	my $line = Sophia::Documents->producer(ANN)->outside({ id => $journal, name => $journal });
	my $until = time + 120;
	until (eval { $broker->put($journal, $line) })
	{
		die $@ if time > $until;
		usleep(50_000);
	}
}
sql("SELECT sophia.create_stream('many', 'broker', 'acme/many', 'slack.channels')");
ok($node->await_stream('many'), 'a collection of 60 journals is followed');
is(sql("SELECT journals, documents_applied FROM sophia.stream_status WHERE stream = 'many'"), '60|60', 'each of them');
is(sql("SELECT string_agg(id, ',' ORDER BY id) FROM slack_raw.channels"), join(',', @many), 'each document of them');
is(sql("SELECT collection, journals, bytes > 0 FROM sophia.collections('broker') ORDER BY 1"), "acme/contacts|3|t\nacme/many|60|t",
	'collections() counts journals');
is(sql("SELECT bytes FROM sophia.collections('broker') WHERE collection = 'acme/contacts'"), sum(map { $_->{offset} } $first, $second, $third), 'and bytes');
is(sql("SELECT ok, message FROM sophia.check_endpoint('broker')"), 't|endpoint answers: 2 collections, 63 journals', 'check_endpoint() sums them up');

# ---- from the end on ----

sql("SELECT sophia.create_stream('end', 'broker', 'acme/contacts', 'slack.users', '{\"start_from\": \"end\"}')");
ok($node->await_stream('end'), 'a stream that starts at the end');
my $before = sql("SELECT documents_applied FROM sophia.stream_status WHERE stream = 'end'");
$second->outside(BEN, { id => 'e1' });
$second->put;
$node->await_stream('end');
is(sql("SELECT documents_applied FROM sophia.stream_status WHERE stream = 'end'"), $before + 1, 'reads what comes later');
is($before, 0, 'and nothing else');
my $fourth = partition(pivot => 'c0000000');
$fourth->outside(BEN, { id => 'e2' });
$fourth->put;
$node->await_stream('end');
is(sql("SELECT documents_applied FROM sophia.stream_status WHERE stream = 'end'"), 2, 'a partition that is added is read from its beginning');
sql("SELECT sophia.drop_stream('end')");

# ---- a large document ----

my $text = join ' ', map { "word $_ \x{20ac}" } 1 .. 1_300_000;
$first->transaction(ANN, { id => 'large', properties => { firstname => 'large' }, text => $text }, { id => 'after large' });
cmp_ok(length $first->{bytes}, '>', 20_000_000, 'a document of 20 MB');
my $size = length $first->{bytes};
my $started = time;
$first->put;
note sprintf 'appended in %.1f s', time - $started;
$started = time;
ok($node->await_stream('contacts'), 'arrives');
my $large_took = time - $started;
note sprintf '%d bytes were applied after %.1f s', $size, $large_took;
is(sql("SELECT md5(doc ->> 'text') FROM hubspot_raw.contacts WHERE id = 'large'"), do { require Digest::MD5; utf8::encode(my $t = $text); Digest::MD5::md5_hex($t) }, 'byte by byte');
cmp_ok($large_took, '<', 90, 'in time');

# ---- idle, and awake again ----

$node->await_stream($_) for qw(contacts many);
$node->poll_query_until('postgres', "SELECT documents_applied = @{[ $expected->committed + 3 ]} FROM sophia.stream_status WHERE stream = 'quiet'");
$pid = $node->wait_for_worker('ingest');
my $busy;
for (1 .. 10)    # what ends slowly where others keep the processors busy
{
	my $used = $node->processor_seconds($pid);
	sleep 2;
	$busy = ($node->processor_seconds($pid) - $used) / 2;
	last if $busy < 0.1;
}
note sprintf 'idle: %.1f %% of a core for 4 streams', 100 * $busy;
cmp_ok($busy, '<', 0.1, 'idle streams use no processor');

my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(<<'SQL');
CREATE FUNCTION pg_temp.wait_for(wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  started timestamptz := clock_timestamp();
BEGIN
  WHILE clock_timestamp() < started + interval '30 s' LOOP
    PERFORM FROM hubspot_raw.contacts WHERE id = 'latency' AND lastname = wanted;
    IF FOUND THEN
      RETURN true;
    END IF;
    PERFORM pg_sleep(0.0002);
  END LOOP;
  RETURN false;
END;
$$
SQL
my @latencies;
for my $i (1 .. 50)
{
	$first->outside(CLO, { id => 'latency', properties => { lastname => "append $i" } });
	my $append = time;
	$first->put;
	my $put = time;
	$session->query_safe("SELECT pg_temp.wait_for('append $i')");
	push @latencies, [ time - $put, time - $append ];
}
$session->quit;
my @after_put = sort { $a <=> $b } map { $_->[0] } @latencies;
my @after_append = sort { $a <=> $b } map { $_->[1] } @latencies;
note sprintf 'latency of %d single appends, from the answer to PUT until visible: p50 %.1f ms, max %.1f ms; with PUT: p50 %.1f ms', scalar @latencies,
  1000 * $after_put[25], 1000 * $after_put[-1], 1000 * $after_append[25];
cmp_ok($after_append[25], '<', 2, 'a new document is noticed at once');

# ---- at the end ----

$node->await_stream('contacts');
rows_are_right('every row is right in the end');
ok($node->poll_query_until('postgres', "SELECT journals = 4 AND lag_bytes = 0 AND documents_applied = @{[ $expected->committed + 3 ]} FROM sophia.stream_status WHERE stream = 'quiet'"),
	'a stream that nobody awaited has found all partitions by itself');
is(sql("SELECT count(*) FROM sophia.dead_letters"), 0, 'no document was a misfit');

$node->stop;
$broker->stop_all;
done_testing();
