# What lies in a store by accident: folders whose names no table could hold.
use strict;
use warnings;
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Documents;
use Test::More;

my $store = PostgreSQL::Test::Utils::tempdir() . '/store';
make_path($store);
my $producer = Sophia::Documents->producer('030000000001');
Sophia::Documents->journal($store, 'acme/contacts/pivot=00')->write($producer->outside({ id => 1 }));
Sophia::Documents->journal($store, "acme/contacts/region=\xff\xfe/pivot=00")->write($producer->outside({ id => 2 }));
Sophia::Documents->journal($store, "caf\xe9/contacts/pivot=00")->write($producer->outside({ id => 3 }));

my $node = Sophia::Cluster->create('names', fragments => $store);
$node->safe_psql('postgres', "SELECT sophia.create_schemas();
	SELECT sophia.create_endpoint('store', 'fragments', '$store');
	SELECT sophia.create_stream('people', 'store', 'acme/contacts', 'hubspot.contacts')");
ok($node->await_stream('people'), 'caught up');
is($node->safe_psql('postgres', "SELECT string_agg(convert_from(convert_to(journal, 'UTF8'), 'UTF8'), ',') FROM sophia.stream_journals"),
	'acme/contacts/pivot=00', 'a folder whose name is no UTF-8 holds no journal');
is($node->safe_psql('postgres', "SELECT collection, journals FROM sophia.collections('store')"), 'acme/contacts|1', 'and no collection');

$node->stop;
done_testing();
