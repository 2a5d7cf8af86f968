# Somebody else writes a row of the same key while the ingest has a document for it.
use strict;
use warnings;
use Sophia::Cluster;
use Sophia::Documents qw(OUTSIDE);
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $store = "$folder/store";
mkdir $store or die "cannot make $store: $!";
my $producer = Sophia::Documents->producer('030000000001');
Sophia::Documents->journal($store, 'acme/contacts/pivot=00')
  ->write($producer->outside(map { { id => $_, properties => { firstname => "Ada $_" } } } 1 .. 3));

my $node = Sophia::Cluster->create('writers', fragments => $store);
$node->safe_psql('postgres', "SELECT sophia.create_schemas(); SELECT sophia.create_endpoint('store', 'fragments', '$store')");

# A row that is not committed yet when the ingest looks for it.
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('BEGIN');
$session->query_safe(
	q(INSERT INTO hubspot_raw.contacts (id, doc) VALUES ('2', '{"id": 2, "properties": {"city": "Ulm"}}')));
$node->safe_psql('postgres', "SELECT sophia.create_stream('contacts', 'store', 'acme/contacts', 'hubspot.contacts')");
ok($node->poll_query_until('postgres',
		"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest'"),
	'the ingest waits for the other writer');
$session->query_safe('COMMIT');
$session->quit;

ok($node->await_stream('contacts'), 'the stream goes on when that has committed');
is($node->safe_psql('postgres', "SELECT id, firstname, doc #>> '{properties,city}' FROM hubspot_raw.contacts ORDER BY id"),
	"1|Ada 1|\n2|Ada 2|Ulm\n3|Ada 3|", 'the document is merged into the row of the other writer');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.dead_letters'), 0, 'no document was refused');
is($node->safe_psql('postgres', "SELECT documents_applied, documents_reduced FROM sophia.stream_status"), '3|1',
	'and each was counted once');
$node->stop;
done_testing();
