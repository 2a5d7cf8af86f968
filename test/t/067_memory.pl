# Memory of an ingest worker: bounded whatever the count of journals, and by sixteen times the largest document.
use strict;
use warnings;
use Digest::MD5 ();
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Documents;
use Sophia::Ingest;
use Test::More;
use Time::HiRes qw(time usleep);

use constant MB => 1024 * 1024;
use constant LARGEST => 64 * MB;

my $node = Sophia::Ingest->create('main');
my $broker = Sophia::Broker->new->start;
my $ann = Sophia::Documents->producer('030000000001');
my $pid = $node->wait_for_worker('ingest');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Megabytes of its own that the worker has now: neither shared memory nor files.
sub memory
{
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb / 1024;
}

# Runs SQL beside the test; returns the most memory that the worker had meanwhile.
sub peak_while
{
	my ($sql) = @_;
	my $session = $node->beside($sql);
	my $peak = 0;
	while ($session->{run}->pumpable)
	{
		$session->{run}->pump_nb;
		my $now = memory();
		$peak = $now if $now > $peak;
		usleep(3000);
	}
	$session->{run}->finish;
	die ${ $session->{err} } if ${ $session->{err} } ne '';
	return sprintf '%.0f', $peak;
}

# A document of so many bytes with its newline, that commits by itself.
sub large
{
	my ($id, $bytes, $format) = @_;
	my $uuid = Sophia::Documents::uuid('030000000001', $ann->tick, 0);
	my $start = qq({"_meta":{"uuid":"$uuid"},"id":"$id","properties":{"firstname":");
	my $end = qq("}}\n);
	return $start . 'x' x ($bytes - length($start) - length $end) . $end;
}

sub lengths
{
	return sql("SELECT id, length(firstname) / 1024, (doc -> 'properties') ->> 'firstname' = firstname FROM hubspot_raw.contacts ORDER BY id");
}

# ---- the largest document ----

my $journal = $node->journal('acme/large');
$journal->write(large('one', LARGEST));
sql("SELECT sophia.create_stream('large', 'store', 'acme/large', 'hubspot.contacts')");
my $peak = peak_while("SELECT sophia.await_stream('large', '180 s')");
note "64 MiB from a fragment: $peak MB at most";
is(lengths(), 'one|65535|t', 'a document of 64 MiB arrives from a fragment');
cmp_ok($peak, '<', 16 * 64, 'in sixteen times its size');
$journal->write(large('one', LARGEST));
$peak = peak_while("SELECT sophia.await_stream('large', '180 s')");
note "64 MiB meets a row of 64 MiB: $peak MB at most";
cmp_ok($peak, '<', 16 * 64, 'and so does one that meets its row');
my $limit = time + 180;
usleep(50_000) while memory() > 64 && time < $limit;
cmp_ok(memory(), '<', 64, 'the memory is given back');

# Three at once, in streams of their own.
for my $name (qw(p q r))
{
	$node->journal("acme/$name")->write(large($name, LARGEST));
	$node->follow($name, "acme/$name", 'hubspot.contacts', { start => JSON::PP::false });
}
sql("SELECT sophia.start_stream(s) FROM unnest('{p,q,r}'::text[]) s");
$peak = peak_while("SELECT sophia.await_stream(s, '180 s') FROM unnest('{p,q,r}'::text[]) s");
note "three of 64 MiB at once: $peak MB at most";
is(lengths(), join("\n", map { "$_|65535|t" } qw(one p q r)), 'three of them in three streams arrive');
cmp_ok($peak, '<', 16 * 64, 'one at a time');
sql("SELECT sophia.drop_stream(s) FROM unnest('{large,p,q,r}'::text[]) s; TRUNCATE hubspot_raw.contacts");

my $name = $broker->create_journal('acme/live', fragment => { length => 1 << 28 });
sql("SELECT sophia.create_endpoint('broker', 'broker', '" . $broker->address . "')");
sql("SELECT sophia.create_stream('live', 'broker', 'acme/live', 'hubspot.contacts')");
ok($node->await_stream('live'), 'a stream of a broker');
$broker->put($name, large('live', LARGEST));
$peak = peak_while("SELECT sophia.await_stream('live', '180 s')");
note "64 MiB from a broker: $peak MB at most";
is(lengths(), 'live|65535|t', 'a document of 64 MiB arrives from a broker');
cmp_ok($peak, '<', 16 * 64, 'in sixteen times its size, too');
sql("SELECT sophia.drop_stream('live'); TRUNCATE hubspot_raw.contacts");

# ---- what is too large ----

$journal = $node->journal('acme/too_large');
my $document = large('big', LARGEST + 2);
my $numbers = $ann->raw('{"_meta":{"uuid":"%s"},"id":"many","n":[' . join(',', ('1') x (5 * MB)) . ']}', flags => 0);
$journal->write($document . $numbers . large('small', 1000));
sql("SELECT sophia.create_stream('too_large', 'store', 'acme/too_large', 'hubspot.contacts')");
$peak = peak_while("SELECT sophia.await_stream('too_large', '180 s')");
is($node->dead_letters('too_large'),
	"0|54000|document of 67108865 bytes is larger than sophia_stack.max_document_size\n"
	  . length($document) . '|54000|document holds too many values (byte 8388677)',
	'a larger document, and one of very many values, become dead letters');
is(sql("SELECT string_agg(length(document) || ' ' || md5(document), ',' ORDER BY begin_offset) FROM sophia.dead_letters"),
	join(',', map { chomp(my $line = $_); length($line) . ' ' . Digest::MD5::md5_hex($line) } $document, $numbers), 'which are kept whole');
is(sql('SELECT id FROM hubspot_raw.contacts'), 'small', 'and the stream goes on');
cmp_ok($peak, '<', 16 * 64, 'in the same memory');
sql("SELECT sophia.drop_stream('too_large'); TRUNCATE sophia.dead_letters");
undef $_ for $document, $numbers;

# ---- small documents that meet large rows ----

$journal = $node->journal('acme/rows');
$journal->write(large("row$_", 8 * MB)) for 1 .. 12;
sql("SELECT sophia.create_stream('rows', 'store', 'acme/rows', 'hubspot.contacts')");
ok($node->await_stream('rows'), '12 rows of 8 MB');
$journal->write($ann->transaction(map { { id => "row$_", properties => { lastname => 'Lee' } } } 1 .. 12));
$peak = peak_while("SELECT sophia.await_stream('rows', '180 s')");
note "12 small documents that meet rows of 8 MB: $peak MB at most";
is(sql("SELECT count(*), min(length(firstname)) > 8000000 FROM hubspot_raw.contacts WHERE lastname = 'Lee'"), '12|t', 'are changed by one transaction');
cmp_ok($peak, '<', 96 + 64, 'a few at a time');
sql("SELECT sophia.drop_stream('rows'); TRUNCATE hubspot_raw.contacts");

# ---- many journals ----

# Nobody takes what is read, because somebody holds the table: all that the readers hold stays.
my $line = large('x', 1000);
for my $n (0 .. 149)
{
	my $pivot = sprintf 'pivot=%02x', $n;
	$node->journal('acme/many', name => $pivot)->write($line x 2000);
}
my @live = map { $broker->create_journal('acme/many_live', pivot => sprintf('%08x', $_ << 24), key_end => sprintf('%08x', ($_ << 24) + 0xffffff)) } 0 .. 9;
$broker->put($_, $line x 2000) for @live;
my $holder = $node->beside('BEGIN; LOCK TABLE slack_raw.users, slack_raw.channels; SELECT pg_sleep(600)');
$node->poll_query_until('postgres', "SELECT count(*) = 2 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation::regclass::text LIKE 'slack_raw.%'");
sql("SELECT sophia.create_stream('many', 'store', 'acme/many', 'slack.users')");
sql("SELECT sophia.create_stream('many_live', 'broker', 'acme/many_live', 'slack.channels')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 160 AND sum(lag_bytes) >= 320000000 FROM sophia.stream_journals"),
	'160 journals of 2 MB wait to be applied');
$peak = peak_while('SELECT pg_sleep(4)');
note "160 journals of 2 MB: $peak MB at most";
cmp_ok($peak, '<', 200, 'and the worker holds a part of them');
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND pid <> pg_backend_pid()");
$holder->{run}->finish;
ok($node->await_stream($_), "$_ is read") for 'many', 'many_live';
is(sql("SELECT sum(documents_applied) FROM sophia.stream_status WHERE stream LIKE 'many%'"), 160, 'all of it: of each journal the same document, once');
is($node->worker_pid('ingest'), $pid, 'all that in one process');

$node->stop('fast');
done_testing();
