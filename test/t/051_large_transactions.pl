# Transactions that are much larger than a batch: staged on the way, applied in slices when they are acknowledged.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Documents;
use Test::More;

use constant DOCUMENTS => 12000;

my $store = PostgreSQL::Test::Utils::tempdir() . '/store';
mkdir $store or die "cannot make $store: $!";
my $producer = Sophia::Documents->producer('030000000001');
my $journal = Sophia::Documents->journal($store, 'acme/contacts/pivot=00');
my $node = Sophia::Cluster->create('large', fragments => $store);

# A transaction of the documents, in fragments; every hundredth fits no column.  Texts do not compress.
sub write_transaction
{
	my ($round) = @_;
	my $bytes = '';
	srand($round);
	foreach my $id (1 .. DOCUMENTS)
	{
		my $notes = join '', map { sprintf '%08x', rand(2**32) } 1 .. 350;
		my $created = $id % 100 ? '2026-01-02T03:04:05Z' : "no time $round";
		$bytes .= $producer->document({ id => "$id", createdAt => $created, properties => { notes => $notes, round => $round } });
	}
	$journal->write($bytes . $producer->ack, codec => 'gz');
}

# The worker's private memory in MB.
sub private_memory
{
	my $pid = $node->worker_pid('ingest');
	my ($kb) = slurp_file("/proc/$pid/status") =~ /RssAnon:\s+(\d+)/;
	return int($kb / 1024);
}

$node->safe_psql('postgres', "SELECT sophia.create_schemas();
	SELECT sophia.create_endpoint('store', 'fragments', '$store');
	SELECT sophia.create_stream('people', 'store', 'acme/contacts', 'hubspot.contacts')");
write_transaction(1);
write_transaction(2);
ok($node->await_stream('people'), 'caught up');
is($node->safe_psql('postgres', 'SELECT count(*), min(doc -> \'properties\' ->> \'round\') FROM hubspot_raw.contacts'),
	DOCUMENTS * 0.99 . '|2', 'every document that fits is a row, reduced by the second transaction');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT begin_offset) FROM sophia.dead_letters
		WHERE reason LIKE 'value \"no time _\"%'
		AND convert_from(document, 'UTF8')::jsonb ->> 'createdAt' = substring(reason from 'no time .')"),
	DOCUMENTS * 0.02 . '|' . DOCUMENTS * 0.02, 'every other one is a dead letter, with its bytes and its reason');
is($node->safe_psql('postgres', 'SELECT documents_applied, documents_reduced, documents_dead FROM sophia.stream_status'),
	join('|', DOCUMENTS * 1.98, DOCUMENTS * 0.99, DOCUMENTS * 0.02), 'the counts agree');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.staged_documents'), 0, 'nothing is staged any more');
cmp_ok(private_memory(), '<', 60, 'the memory does not grow with the transaction');

$node->stop;
done_testing();
