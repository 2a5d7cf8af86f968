# 50000 documents from a live broker while the ingest worker is killed and the server is shut down at random points:
# afterwards each row is what the committed documents make of it, and each document counted once.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Expected;
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time usleep);

use constant { DOCUMENTS => 50_000, APPEND => 150, KEYS => 6000, KILLS => 6, SHUTDOWNS => 3 };

my $seed = int($ENV{SOPHIA_SEED} // time ^ $$);
srand $seed;
diag "SOPHIA_SEED=$seed";

my $broker = Sophia::Broker->new->start;
my $node = Sophia::Cluster->create('main');
my %expected = (
	'hubspot_raw.contacts' => Sophia::Expected->new('merge'),
	'slack_raw.users' => Sophia::Expected->new('lastWriteWins'));
my @writers = map {
	Sophia::Writer->new($broker, $broker->create_journal('acme/people', generation => '1122334455667788', pivot => $_),
		[ values %expected ])
} qw(00000000 55555555 aaaaaaaa);

$node->safe_psql('postgres', <<"SQL");
SELECT sophia.create_schemas();
SELECT sophia.create_endpoint('broker', 'broker', '${\$broker->address}');
SELECT sophia.create_stream('contacts', 'broker', 'acme/people', 'hubspot.contacts');
SELECT sophia.create_stream('users', 'broker', 'acme/people', 'slack.users');
SQL

# A document of one of the keys of a journal: some members, some null, a tombstone now and then.
sub random_document
{
	my ($journal) = @_;
	my $id = $journal . '-' . int rand KEYS / @writers;
	return { id => $id, _meta => { op => 'd' } } if rand() < 0.02;
	my %properties = map { ("member_$_" => rand() < 0.1 ? undef : "value " . int rand 1e6) } map { int rand 8 } 1 .. 3;
	$properties{firstname} = "Zo\x{eb} " . int rand 100 if rand() < 0.5;
	$properties{email} = "$id\@example.com" if rand() < 0.5;
	return { id => $id, name => "n" . int rand 1000, properties => \%properties, _meta => { op => 'u' } };
}

my $duplicates = 0;

# Two producers with transactions of any length, also over several appends, some rolled back, and one without any.
sub append
{
	my ($number) = @_;
	my $writer = $writers[$number];
	my @producers = map { sprintf '03000000%02d%02d', $number, $_ } 1, 2;
	my $rolled_back = 0;
	for (1 .. APPEND)
	{
		my $producer = $producers[ rand @producers ];
		$writer->document($producer, random_document($number));
		$writer->outside(sprintf('03000000%02d09', $number), random_document($number)) if rand() < 0.05;
		my $luck = rand;
		if ($luck < 0.05) { $writer->ack($producer) }
		elsif ($luck < 0.06 && $writer->{producers}{$producer}{last_ack}) { $writer->rollback($producer); $rolled_back++ }
	}
	if (rand() < 0.3)
	{
		$writer->ack($_) for grep { $writer->open($_) } @producers;
	}
	my $bytes = $writer->put;
	return if $rolled_back || $writer->open;
	$writer->put_again($bytes);
	$duplicates += APPEND;
	return;
}

my %at;
my $appends = int DOCUMENTS / APPEND;
while (keys %at < KILLS + SHUTDOWNS)
{
	my $i = 5 + int rand $appends - 10;
	$at{$i} = keys %at < KILLS ? 'kill' : 'shutdown' if !exists $at{$i};
}

my ($kills, $shutdowns) = (0, 0);
my $started = time;
for my $i (0 .. $appends)
{
	my $what = $at{$i} // '';
	my $pid = $what eq 'kill' ? $node->wait_for_worker('ingest') : 0;
	append($i % @writers);
	usleep(rand 20_000) if $what;
	if ($what eq 'kill')
	{
		$kills += kill 'KILL', $pid;
		append(rand @writers);
		$node->wait_until_up($pid);
	}
	elsif ($what eq 'shutdown')
	{
		$node->stop('immediate');
		append($_ % @writers) for 1 .. 20;
		$node->start;
		$shutdowns++;
	}
}
for my $writer (@writers)
{
	$writer->ack($_) for grep { $writer->open($_) } sort keys %{ $writer->{pending} };
	$writer->put;
}
note "$duplicates duplicates";
note sprintf 'appended in %.1f s', time - $started;

cmp_ok($kills, '>=', 4, 'the worker was killed');
cmp_ok($shutdowns, '>=', 2, 'and the server shut down, while documents flowed');
ok($node->await_stream($_), "stream $_ is caught up") for qw(contacts users);
note sprintf 'caught up after %.1f s', time - $started;
for my $table (sort keys %expected)
{
	cmp_ok($expected{$table}->committed, '>=', DOCUMENTS * 0.9, 'enough documents were committed');
	is($expected{$table}->differences($node, $table), '', "the rows of $table are as the documents make them");
	is($node->safe_psql('postgres', "SELECT count(*) FROM $table"), $expected{$table}->rows, 'and so many');
}
is($node->safe_psql('postgres', 'SELECT stream, documents_applied, documents_dead, lag_bytes, state, last_error FROM sophia.stream_status ORDER BY 1'),
	join("\n", map { "$_|" . $expected{'slack_raw.users'}->committed . '|0|0|running|' } qw(contacts users)),
	'each committed document is counted once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.staged_documents'), 0, 'nothing stays staged');
is(scalar(() = slurp_file($node->logfile) =~ /sequence anomaly/g), 0, 'no anomaly of a sequence is logged');

$node->stop;
$broker->stop_all;
done_testing();
