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
	return map {
		my $call = $_;
		{ id => "$call", parties => [ map { { id => "$call-$_", name => "Ada $_" } } 1 .. 2 ] }
	} @_;
}

sub write_documents
{
	my (@ids) = @_;
	$journal{contacts}->write($producer->transaction(contacts(@ids)));
	$journal{calls}->write($producer->transaction(calls(@ids)));
}

$node->safe_psql('postgres', "SELECT sophia.create_schemas(); SELECT sophia.create_endpoint('store', 'fragments', '$store');
	SELECT sophia.create_stream('contacts', 'store', 'acme/contacts', 'hubspot.contacts');
	SELECT sophia.create_stream('calls', 'store', 'acme/calls', 'gong.calls')");

# Whatever the tables held when they were last analysed.
my $id = 1;
for my $few (1, 20, 0)
{
	$node->safe_psql('postgres', 'TRUNCATE hubspot_raw.contacts, gong_raw.calls, gong_raw.call_parties');
	write_documents($id .. $id + $few - 1) if $few;
	follow("$few documents");
	$node->safe_psql('postgres', 'VACUUM ANALYZE hubspot_raw.contacts, gong_raw.calls, gong_raw.call_parties');
	$id += $few;
	write_documents($id .. $id + 2999);
	follow('many documents');
	entries_read($_) for keys %journal, 'call_parties';

	$id += 3000;
	write_documents($id - 5 .. $id + 4);
	$journal{$_}->write($producer->document({ id => $id - 8, _meta => { op => 'd' } }) . $producer->ack) for keys %journal;
	follow('a few more, and a tombstone');
	$id += 5;
	cmp_ok(entries_read($_), '<', 200, "rows of $_ were found by key") for qw(contacts calls call_parties);
	is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE is_deleted) FROM gong_raw.call_parties'),
		2 * (3005 + $few) . '|2', 'and all are there');
}
$node->stop;
done_testing();
