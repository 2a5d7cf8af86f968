# The sample company, followed and refreshed whole: rows, dead letters and staged documents as its expected.json says.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir . '/sample';
command_ok([ 'test/sample/company', '--out', $folder ], 'the sample company is written');
command_ok([ 'test/sample/verify', $folder ], 'and is what its expected.json says');
my $expected = decode_json(slurp_file("$folder/expected.json"));

my $node = Sophia::Cluster->create('main', fragments => $folder);
$node->safe_psql('postgres', 'SELECT sophia.create_schemas()');
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('sample', 'fragments', '$folder')");
is($node->safe_psql('postgres', "SELECT ok FROM sophia.check_endpoint('sample')"), 't', 'the endpoint answers');
my %streams = %{ $expected->{streams} };
is($node->safe_psql('postgres', "SELECT collection, journals, bytes FROM sophia.collections('sample') ORDER BY collection COLLATE \"C\""),
	join("\n", map { join '|', @$_{qw(collection journals bytes)} }
		sort { $a->{collection} cmp $b->{collection} } values %streams), 'collections() lists all of it');

for my $stream (sort keys %streams)
{
	my $s = $streams{$stream};
	$node->safe_psql('postgres',
		"SELECT sophia.create_stream('$stream', 'sample', '$s->{collection}', '$s->{shape}')");
}
for my $stream (sort keys %streams)
{
	my $s = $streams{$stream};
	ok($node->await_stream($stream), "$stream catches up");
	my $applied = $s->{documents} - $s->{positional_deletes};
	is($node->safe_psql('postgres', <<"SQL"), join('|', 'running', @$s{qw(journals bytes)}, $applied, @$s{qw(dead_letters staged)}), "$stream: status");
SELECT state, journals, applied_offset, documents_applied, documents_dead,
  (SELECT count(*) FROM sophia.staged_documents d WHERE d.stream = s.stream)
FROM sophia.stream_status s WHERE stream = '$stream'
SQL
}

# Stopped and started in one transaction, the worker sees a stream that it follows already.
$node->safe_psql('postgres', "SELECT sophia.stop_stream('gong_users'), sophia.start_stream('gong_users')");
ok($node->poll_query_until('postgres', "SELECT state = 'running' FROM sophia.stream_status WHERE stream = 'gong_users'"),
	'a stream that was stopped and started at once runs');

# Rows, and of these the deleted ones.
sub counts
{
	my ($table) = @_;
	return $node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE is_deleted) FROM $table");
}

# The condition that finds a row by its key.
sub where
{
	my ($key) = @_;
	return join ' AND ', map { "$_ = '$key->{$_}'" } sort keys %$key;
}

for my $table (sort keys %{ $expected->{tables} })
{
	is(counts($table), join('|', @{ $expected->{tables}{$table} }{qw(rows deleted)}), "$table: rows");
}
for my $text (@{ $expected->{never} })
{
	is($node->safe_psql('postgres', "SELECT count(*) FROM $text->{table} WHERE doc::text LIKE '%$text->{text}%'"), 0,
		"$text->{table}: never '$text->{text}'");
}

$node->safe_psql('postgres', 'CALL sophia.refresh()');
for my $table (qw(unified_contacts interaction_timeline))
{
	my $systems = $expected->{processed}{$table};
	is($node->safe_psql('postgres', "SELECT source_system, count(*) FROM processed_data.$table GROUP BY 1 ORDER BY 1"),
		join("\n", map { "$_|$systems->{$_}" } sort keys %$systems), "$table: rows by source");
}
for my $value (@{ $expected->{values} }, @{ $expected->{processed}{values} })
{
	is($node->safe_psql('postgres', "SELECT coalesce($value->{column}::text, 'NULL') FROM $value->{table} WHERE " . where($value->{key})),
		$value->{value} // 'NULL', "$value->{table}.$value->{column} of " . join ', ', values %{ $value->{key} });
}
$node->safe_psql('postgres', 'CALL sophia.refresh()');
is($node->safe_psql('postgres', 'SELECT DISTINCT rows_inserted, rows_updated, rows_deleted FROM sophia.refresh_log WHERE id > 2'),
	'0|0|0', 'a second refresh changes nothing');
$node->stop;

done_testing();
