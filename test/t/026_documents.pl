# Documents of every form are stored as the server itself would read them: the ingest writes jsonb on its own.
use strict;
use warnings;
use Sophia::Cluster;
use Sophia::Documents qw(OUTSIDE);
use PostgreSQL::Test::Utils;
use Test::More;

srand(20261123);
my $folder = PostgreSQL::Test::Utils::tempdir();
my $store = "$folder/store";
mkdir $store or die "cannot make $store: $!";

my @texts = ('', 'a', '"quoted"\\', "tab\\tnewline\\n", "\\u00e4\\u20ac\\ud83d\\ude00", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
	'x' x 300, 'long ' x 3000, '\\/\\b\\f\\r', '%s');
my @numbers = qw(0 -0 1 -1 10000 99999 123456789012345678 1234567890123456789012345678901234567890 0.1 1.10 -0.000001
	1e3 1.5E-7 12345.678901234567890123456789 9007199254740993);

# A JSON text by chance, of at most $budget values.
my $budget;

sub value
{
	my ($depth) = @_;
	my $kind = int rand($depth > 0 && $budget > 0 ? 8 : 5);
	return 'null' if $kind == 0;
	return rand() < 0.5 ? 'true' : 'false' if $kind == 1;
	return $numbers[ rand @numbers ] if $kind == 2;
	return quoted() if $kind == 3 || $kind == 4;
	my $n = int(rand() ** 3 * 120);
	$budget -= $n;
	return '[' . join(', ', map { value($depth - 1) } 1 .. $n) . ']' if $kind == 5;
	return '{' . join(',', map { member($depth) } 1 .. $n) . '}';
}

sub quoted
{
	my $text = $texts[ rand @texts ];
	$text =~ s/"quoted"\\/\\"quoted\\"\\\\/;
	return "\"$text\"";
}

sub member
{
	my ($depth) = @_;
	my $name = rand() < 0.1 ? quoted() : '"k' . int(rand 400) . '"';
	return "$name : " . value($depth - 1);
}

my $producer = Sophia::Documents->producer('030000000001');
my $bytes = '';
my $plain = '';
foreach my $id (1 .. 600)
{
	$budget = 400;
	my $members = join ',', map { member(4) } 1 .. 1 + int(rand() ** 2 * 200);
	$members =~ s/%/%%/g;
	my $line = $producer->raw("{\"_meta\":{\"uuid\":\"%s\"},\"id\":$id,\"random\":{$members}}", flags => OUTSIDE);
	$line .= "\n" unless $line =~ /\n\z/;
	$bytes .= $line;
	$plain .= "$id\t$line";
}
Sophia::Documents->journal($store, 'acme/documents/pivot=00')->write($bytes, codec => 'gz', members => 2);

my $node = Sophia::Cluster->create('documents', fragments => $store);
$node->safe_psql('postgres', "SELECT sophia.create_schemas();
	SELECT sophia.create_endpoint('store', 'fragments', '$store');
	SELECT sophia.create_stream('documents', 'store', 'acme/documents', 'hubspot.contacts')");
ok($node->await_stream('documents'), 'caught up');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.dead_letters'), 0, 'no document was refused');

# The same texts by the server's own reader.
open my $file, '>', "$folder/plain" or die "cannot write: $!";
$plain =~ s/\\/\\\\/g;
print $file $plain;
close $file;
$node->safe_psql('postgres', 'CREATE TABLE plain (id text PRIMARY KEY, doc jsonb)');
$node->safe_psql('postgres', "COPY plain FROM '$folder/plain'");
is($node->safe_psql('postgres', 'SELECT count(*) FROM plain JOIN hubspot_raw.contacts c USING (id)'), 600, 'every document is there');
is($node->safe_psql('postgres', 'SELECT count(*) FROM plain p JOIN hubspot_raw.contacts c USING (id) WHERE p.doc <> c.doc'),
	0, 'as jsonb they are equal');
is($node->safe_psql('postgres', 'SELECT count(*) FROM plain p JOIN hubspot_raw.contacts c USING (id) WHERE p.doc::text <> c.doc::text'),
	0, 'and so are their texts, digit by digit');
is($node->safe_psql('postgres',
		'SELECT count(*) FROM plain p JOIN hubspot_raw.contacts c USING (id) WHERE pg_catalog.jsonb_send(p.doc) <> pg_catalog.jsonb_send(c.doc)
		 OR pg_column_size((p.doc || \'{}\')) <> pg_column_size(c.doc || \'{}\')'),
	0, 'and their size');
is($node->safe_psql('postgres', "SELECT count(*) FROM plain p JOIN hubspot_raw.contacts c USING (id),
		jsonb_each(p.doc -> 'random') e WHERE (c.doc -> 'random' -> e.key) IS DISTINCT FROM e.value"),
	0, 'every member is found by its name');

# A merge reads the stored form back: touching each document changes nothing but what was touched.
my $second = join '', map { $producer->raw("{\"_meta\":{\"uuid\":\"%s\"},\"id\":$_,\"added\":{\"a\":[1]}}", flags => OUTSIDE) . "\n" } 1 .. 600;
$second =~ s/\n\n/\n/g;
my $journal = Sophia::Documents->journal($store, 'acme/documents/pivot=00');
$journal->write($second, begin => length $bytes);
ok($node->await_stream('documents'), 'caught up again');
is($node->safe_psql('postgres', "SELECT count(*) FROM plain p JOIN hubspot_raw.contacts c USING (id)
	WHERE (c.doc - 'added' - '_meta')::text = (p.doc - '_meta')::text AND c.doc -> 'added' = '{\"a\": [1]}'"),
	600, 'a merge keeps every digit of the rest');
$node->stop;
done_testing();
