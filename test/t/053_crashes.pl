# A worker that crashes again and again takes the server down each time: it must not keep everybody from connecting.
use strict;
use warnings;
use Sophia::Cluster;
use Test::More;

my $node = Sophia::Cluster->create('crashes');
my $failures = 'SELECT failures FROM sophia.workers WHERE index = 0';

sub crash
{
	return $node->wait_until_up($node->kill_worker('ingest', 'KILL'));
}

crash() for 1 .. 3;
$node->wait_for_worker('ingest');
is($node->safe_psql('postgres', $failures), 0, 'a few crashes do not hold a worker up');
crash() for 1 .. 3;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM sophia.workers WHERE index = 0'), 'the launcher is back');
is($node->safe_psql('postgres', $failures), 3, 'more of them in a row make it wait, longer each time');
ok($node->wait_for_worker('ingest'), 'then it comes');

$node->stop;
done_testing();
