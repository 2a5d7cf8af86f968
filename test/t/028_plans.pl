# Plans are kept, so one that was made while a table was small must serve when it is large: rows are found by key.
use strict;
use warnings;
use Sophia::Cluster;
use Sophia::Documents;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $store = "$folder/store";
mkdir $store or die "cannot make $store: $!";
my $producer = Sophia::Documents->producer('030000000001');
my %journal = map { $_ => Sophia::Documents->journal($store, "acme/$_/pivot=00") } qw(contacts calls);
my $node = Sophia::Cluster->create('plans', fragments => $store, conf => "autovacuum = off\n");

# Index entries that were read of these tables since the last call.
my %read;

sub entries_read
{
	my ($table) = @_;
	my $all = $node->safe_psql('postgres', "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = '$table'");
	my $since = $all - ($read{$table} // 0);
	$read{$table} = $all;
	return $since;
}

sub follow
{
	my ($what) = @_;
	ok($node->await_stream($_), "$what: $_") for qw(contacts calls);
}

sub contacts { return map { { id => $_ } } @_ }

sub calls
{
	return map { { id => "$_", parties => [ { id => "a$_", name => 'Ada' }, { id => "b$_", name => 'Bela' } ] } } @_;
}

$node->safe_psql('postgres', "SELECT sophia.create_schemas(); SELECT sophia.create_endpoint('store', 'fragments', '$store');
	SELECT sophia.create_stream('contacts', 'store', 'acme/contacts', 'hubspot.contacts');
	SELECT sophia.create_stream('calls', 'store', 'acme/calls', 'gong.calls')");
$journal{contacts}->write($producer->transaction(contacts(1 .. 20)));
$journal{calls}->write($producer->transaction(calls(1 .. 20)));
follow('a few documents');
$node->safe_psql('postgres', 'VACUUM ANALYZE');

$journal{contacts}->write($producer->transaction(contacts(21 .. 3000)));
$journal{calls}->write($producer->transaction(calls(21 .. 3000)));
follow('many documents');
entries_read($_) for qw(contacts calls call_parties);

$journal{contacts}->write($producer->transaction(contacts(2996 .. 3005)));
$journal{calls}->write($producer->transaction(calls(2996 .. 3005)));
follow('a few more');
cmp_ok(entries_read($_), '<', 200, "rows of $_ were found by key") for qw(contacts calls call_parties);
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM hubspot_raw.contacts), (SELECT count(*) FROM gong_raw.calls),'
		. ' (SELECT count(*) FROM gong_raw.call_parties)'), '3005|3005|6010', 'and all are there');
$node->stop;
done_testing();
