# Changes of the configuration that a worker sees all at once: a stream that was dropped and created anew, stopped and
# started, or replaced while somebody waits for it.
use strict;
use warnings;
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Documents;
use Test::More;

my $store = PostgreSQL::Test::Utils::tempdir() . '/store';
mkdir $store or die "cannot make $store: $!";
my $producer = Sophia::Documents->producer('030000000001');
my $journal = Sophia::Documents->journal($store, 'acme/contacts/pivot=00');
$journal->write($producer->transaction(map { { id => $_ } } 1 .. 10));

my $node = Sophia::Cluster->create('configuration', fragments => $store);
my $create = "SELECT sophia.create_stream('people', 'store', 'acme/contacts', 'hubspot.contacts');";

sub rows { return $node->safe_psql('postgres', 'SELECT count(*) FROM hubspot_raw.contacts') }

sub state_becomes
{
	my ($state) = @_;
	return $node->poll_query_until('postgres', "SELECT state = '$state' FROM sophia.stream_status");
}

$node->safe_psql('postgres', "SELECT sophia.create_schemas(); SELECT sophia.create_endpoint('store', 'fragments', '$store');");
$node->safe_psql('postgres', $create);
ok($node->await_stream('people'), 'a stream catches up');
is(rows(), 10, 'with its rows');

# ---- dropped and created anew in one transaction ----

$node->safe_psql('postgres', "BEGIN; DELETE FROM hubspot_raw.contacts; SELECT sophia.drop_stream('people'); $create COMMIT;");
ok($node->await_stream('people'), 'one that was dropped and created anew catches up');
is(rows(), 10, 'it reads from the beginning');
is($node->safe_psql('postgres', 'SELECT documents_applied FROM sophia.stream_status'), 10, 'and counts anew');

# ---- stopped and started in one transaction ----

ok(state_becomes('running'), 'it runs');
$node->safe_psql('postgres', "BEGIN; SELECT sophia.stop_stream('people'); SELECT sophia.start_stream('people'); COMMIT;");
ok(state_becomes('running'), 'stopped and started at once, it comes to run again');

# ---- replaced while its worker was told of it several times ----

$node->await_stream('people') for 1 .. 3;
$node->safe_psql('postgres', "BEGIN; DELETE FROM hubspot_raw.contacts; SELECT sophia.drop_stream('people');
	SELECT sophia.create_stream('people', 'store', 'acme/contacts', 'hubspot.contacts', '{\"delete\": \"hard\"}'); COMMIT;");
ok($node->await_stream('people'), 'whoever waits for a stream that was replaced is answered');
is(rows(), 10, 'when its rows are there');

# ---- start_from = end is decided once ----

make_path("$store/acme/late");
$node->safe_psql('postgres', "SELECT sophia.create_stream('late', 'store', 'acme/late', 'hubspot.companies', '{\"start_from\": \"end\"}')");
ok($node->await_stream('late'), 'a collection without journals is caught up with');
$node->poll_query_until('postgres', "SELECT state = 'running' FROM sophia.stream_status WHERE stream = 'late'");
$node->stop;
Sophia::Documents->journal($store, 'acme/late/pivot=00')->write($producer->transaction({ id => 1 }, { id => 2 }));
$node->start;
$node->wait_for_worker('ingest');
ok($node->await_stream('late'), 'so it is after a restart');
is($node->safe_psql('postgres', 'SELECT count(*) FROM hubspot_raw.companies'), 2,
	'what was written since the stream first looked is not skipped');

$node->stop;
done_testing();
