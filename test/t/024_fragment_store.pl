# Reading a folder of fragments as a broker writes it: codecs, overlaps, files that are not whole yet, holes, journals.
use strict;
use warnings;
use File::Basename qw(basename dirname);
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(OUTSIDE);
use Sophia::Ingest;
use Test::More;

my $node = Sophia::Ingest->create('main');
my $store = $node->store;
my $p = Sophia::Documents->producer('030000000001');

# Lines of documents that commit by themselves.
sub lines { return $p->outside(map { { id => $_ } } @_) }

sub ids { return $node->rows("SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM hubspot_raw.owners WHERE id LIKE '$_[0]%'") }

# A stream of the collection of that name is made and caught up.
sub follow
{
	my ($name) = @_;
	$node->follow($name, "acme/$name", 'hubspot.owners');
	return ok($node->await_stream($name), "$name: caught up");
}

# ---- codecs ----

my $journal = $node->journal('acme/codecs');
$journal->write(lines('c1'));
$journal->write(lines('c2'), codec => 'gz');
$journal->write(lines(map { "c3$_" } 'a' .. 'h'), codec => 'gz', members => 5);
$journal->write(lines('c4'), postfix => 'utc_date=2026-11-23/utc_hour=13');
$journal->write(lines('c5'), codec => 'gz', postfix => 'utc_date=2026-11-23/utc_hour=14');
follow('codecs');
is(ids('c'), 'c1 c2 c3a c3b c3c c3d c3e c3f c3g c3h c4 c5', 'raw and gzip, several members, folders behind the journal');
$journal->write(lines('c6'), codec => 'gz');
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM hubspot_raw.owners WHERE id = 'c6')"), 'a new fragment is noticed by itself');
is($node->status('codecs', 'journals, applied_offset, documents_applied'), join('|', 1, $journal->offset, 13), 'every byte counts once');

# ---- overlaps ----

$journal = $node->journal('acme/overlaps');
my @parts = map { lines("o$_") } 1 .. 4;
$journal->write($parts[0] . $parts[1]);
$journal->write($parts[0] . $parts[1] . $parts[2], begin => 0, codec => 'gz');
$journal->write($parts[1], begin => length $parts[0]);
$journal->write($parts[1] . $parts[2] . $parts[3], begin => length $parts[0]);
follow('overlaps');
is(ids('o') . '|' . $node->status('overlaps', 'documents_applied'), 'o1 o2 o3 o4|4', 'fragments that overlap are read once');
# The checkpoint lies within the only fragment that is left.
my $whole = join '', @parts, my $more = lines('o5');
$node->safe_psql('postgres', "SELECT sophia.stop_stream('overlaps')");
unlink glob "$store/acme/overlaps/pivot=00/*";
$journal->write($whole, begin => 0, codec => 'gz');
$node->safe_psql('postgres', "SELECT sophia.start_stream('overlaps')");
ok($node->await_stream('overlaps'), 'caught up');
is(ids('o') . '|' . $node->status('overlaps', 'documents_applied'), 'o1 o2 o3 o4 o5|5', 'a fragment that begins before the checkpoint is read from there');

# ---- what is not whole ----

$journal = $node->journal('acme/torn');
$journal->write(lines('t0'));
follow('torn');
for my $case ([ 'a raw file that is cut', codec => 'raw', cut => 10 ], [ 'a gzip file that is cut', codec => 'gz', cut => 30 ],
	[ 'an empty file', codec => 'raw', cut => 0 ], [ 'other content than the name says', codec => 'raw', other => 1 ])
{
	my ($name, %how) = @$case;
	my $before = ids('t');
	my $begin = $journal->offset;
	my $bytes = lines('t' . (1 + length($before) . 'a'), 't' . (1 + length($before) . 'b'));
	my $path;
	if ($how{other})
	{
		$path = $journal->write($bytes);
		open my $file, '+<', $path or die "open: $!";
		print $file 'X';
		close $file;
	}
	else
	{
		$path = $journal->write($bytes, %how);
	}
	my $later = lines('t' . (1 + length($before) . 'c'));
	$journal->write($later);
	is($node->rows("SELECT sophia.await_stream('torn', '300 ms')"), 'f', "$name: is waited for");
	$node->poll_query_until('postgres', "SELECT last_error IS NOT NULL FROM sophia.stream_status WHERE stream = 'torn'");
	like($node->status('torn', 'last_error'), qr/\Q@{[ basename $path ]}/, 'and named in last_error');
	is($node->status('torn', 'state, applied_offset'), "running|$begin", 'the stream runs and waits before it');
	is(ids('t'), $before, 'nothing of it, nor of what follows, is applied');
	my $end = $journal->offset;
	unlink $path if $how{other};
	$journal->write($bytes, begin => $begin, codec => $how{codec});
	$journal->{offset} = $end;
	ok($node->await_stream('torn'), 'once it is whole it is read');
	my @new = map { 't' . (1 + length($before)) . $_ } 'a', 'b', 'c';
	is(ids('t'), join(' ', sort split(/ /, $before), @new), 'with what follows');
	ok($node->wait_for_status('torn', 'last_error IS NULL', 't'), 'and the error is gone');
}

# ---- holes ----

$journal = $node->journal('acme/holes');
$journal->write(lines('h1'));
follow('holes');
my $missing = lines('h2');
my $at = $journal->offset;
$journal->skip(length $missing);
$journal->write(lines('h3'));
is($node->rows("SELECT sophia.await_stream('holes', '300 ms')"), 'f', 'a hole waits');
$node->wait_for_status('holes', 'last_error IS NOT NULL', 't');
like($node->status('holes', 'last_error'), qr/bytes $at to @{[ $at + length $missing ]} of journal "acme\/holes\/pivot=00"/, 'and is named in last_error');
is(ids('h'), 'h1', 'nothing behind it is applied');
my $end = $journal->offset;
$journal->write($missing, begin => $at);
$journal->{offset} = $end;
ok($node->await_stream('holes'), 'filled');
is(ids('h'), 'h1 h2 h3', 'it is read in order');
$journal->skip(100);
my $old = $journal->write(lines('h4'));
utime time - 7 * 3600, time - 7 * 3600, $old or die "utime: $!";
is($node->rows("SELECT sophia.await_stream('holes', '1500 ms')"), 'f', 'a hole before something old waits, too');
is(ids('h'), 'h1 h2 h3', 'and nothing behind it is applied');
$journal = $node->journal('acme/begun');
$journal->skip(5000);
my $oldest = $journal->write(lines('hb1'));
$node->follow('begun', 'acme/begun', 'hubspot.owners');
is($node->rows("SELECT sophia.await_stream('begun', '1500 ms')"), 'f', 'a journal without its beginning waits at first');
utime time - 7 * 3600, time - 7 * 3600, $oldest or die "utime: $!";
ok($node->await_stream('begun'), 'when its oldest fragment is old it begins there');
is(ids('hb') . '|' . $node->status('begun', 'applied_offset'), 'hb1|' . $journal->offset, 'with what is there');

# ---- journals of a collection ----

my @names = ('1122334455667788/pivot=00', '1122334455667788/pivot=80000000', '99aabbccddeeff00/active=%_true/pivot=00',
	'99aabbccddeeff00/active=%_false/region=a%20b/pivot=00', 'active=%_null/pivot=00', 'pivot=00');
$node->journal('acme/many', name => $names[$_])->write(lines("m$_")) for 0 .. $#names;
$node->journal('acme/many/other')->write(lines('mx'));
$node->journal('acme/manyother')->write(lines('my'));
follow('many');
is(ids('m'), join(' ', map { "m$_" } 0 .. $#names), 'generations and partitions are journals, other folders other collections');
is($node->rows("SELECT string_agg(journal, ' ' ORDER BY journal COLLATE \"C\") FROM sophia.stream_journals WHERE stream = 'many'"),
	join(' ', sort map { "acme/many/$_" } @names), 'each with its name');
$node->journal('acme/many', name => '99aabbccddeeff00/pivot=40000000')->write(lines('mz'));
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM hubspot_raw.owners WHERE id = 'mz')"), 'a new journal is noticed by itself');

# What is no fragment is passed over.
my $folder = "$store/acme/many/pivot=00";
append_to_file("$folder/README", 'no fragment');
append_to_file("$folder/0000000000000000-0000000000000001-short.raw", 'x');
append_to_file("$folder/" . '0' x 16 . '-' . 'f' x 16 . '-' . '0' x 40 . '.raw.tmp', 'x');
symlink '/nonexistent', "$folder/link" or die "symlink: $!";
$node->journal('acme/many', offset => $node->rows("SELECT applied_offset FROM sophia.stream_journals WHERE journal = 'acme/many/pivot=00'"))->write(lines('mzz'));
ok($node->await_stream('many'), 'other files do not matter');
is(ids('mzz') . $node->status('many', 'last_error'), 'mzz', 'and are no error');

# ---- the collection that is not there yet ----

$node->follow('nothing', 'acme/nothing', 'hubspot.owners');
is($node->rows("SELECT sophia.await_stream('nothing', '300 ms')"), 'f', 'a collection without a folder is waited for');
$node->wait_for_status('nothing', 'last_error IS NOT NULL', 't');
like($node->status('nothing', 'last_error'), qr/could not read folder ".*acme\/nothing"/, 'and named in last_error');
$node->journal('acme/nothing')->write(lines('n1'));
ok($node->await_stream('nothing'), 'until there is one');
is(ids('n') . '|' . $node->status('nothing', 'state, last_error'), 'n1|running|', 'which is read');

# ---- what cannot be read ----

my $bytes = lines('z1');
$journal = $node->journal('acme/codec');
$journal->write($bytes);
my $path = $journal->write(lines('z2'));
rename $path, $path =~ s/raw$/zst/r or die "rename: $!";
$node->follow('codec', 'acme/codec', 'hubspot.owners');
like($node->failure_of('codec'), qr/compression of fragment "[^"]*\.zst" is not supported/, 'an unsupported codec fails the stream, with its reason');
is(ids('z'), 'z1', 'what comes before it is applied');
like($node->error_of("SELECT sophia.await_stream('codec')"), qr/^55000: stream "codec" is failed: the compression/, 'await says so');
rename $path =~ s/raw$/zst/r, $path or die "rename: $!";
$node->safe_psql('postgres', "SELECT sophia.start_stream('codec')");
ok($node->await_stream('codec'), 'it can be started again');
is(ids('z') . '|' . $node->status('codec', 'state, last_error'), 'z1 z2|running|', 'and goes on');

# ---- a store that was written anew under the same names ----

foreach my $case ([ 'longer', [ map { "w$_" } 1 .. 9 ] ], [ 'shorter', ['w1'] ])
{
	my ($name, $ids) = @$case;
	my $anew = $node->journal("acme/$name");
	$anew->write(lines("$name-a", "$name-b", "$name-c"));
	follow($name);
	$node->safe_psql('postgres', "SELECT sophia.stop_stream('$name')");
	unlink glob "$store/acme/$name/pivot=00/*";
	$anew->write(lines(@$ids), begin => 0);
	$node->safe_psql('postgres', "SELECT sophia.start_stream('$name')");
}
like($node->failure_of('longer'), qr/was written anew: no line ends at offset/, 'where reading went on in the middle of a line the stream fails');
is(ids('w') . $node->status('longer', 'documents_dead'), '0', 'and nothing of it was applied');
ok($node->poll_query_until('postgres', "SELECT last_error LIKE '%ends at offset % but was read up to %' FROM sophia.stream_status WHERE stream = 'shorter'"),
	'a journal that ends before what was read says so');

# ---- folders that are not allowed ----

my $outside = PostgreSQL::Test::Utils::tempdir('outside');
$outside = File::Spec->rel2abs($outside);
like($node->error_of("SELECT sophia.create_endpoint('outside', 'fragments', '$outside')"), qr/^42501: /, 'a folder outside fragment_directories is refused');
symlink $outside, "$store/link" or die "symlink: $!";
like($node->error_of("SELECT sophia.create_endpoint('outside', 'fragments', '$store/link')"), qr/^42501: /, 'also behind a symbolic link');
like($node->error_of("SELECT sophia.create_endpoint('outside', 'fragments', '$store/../x')"), qr/^(22023|42501): /, 'and behind dots');
unlink "$store/link";
make_path("$store/moving/acme/moving");
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('moving', 'fragments', '$store/moving')");
$node->safe_psql('postgres', "SELECT sophia.create_stream('moving', 'moving', 'acme/moving', 'hubspot.owners')");
ok($node->await_stream('moving'), 'a folder below is allowed');
Sophia::Documents->journal($outside, 'acme/moving/pivot=00')->write(lines('x1'));
rename "$store/moving", "$store/moved" or die "rename: $!";
symlink $outside, "$store/moving" or die "symlink: $!";
like($node->failure_of('moving'), qr/not below one that sophia_stack.fragment_directories allows/, 'a stream whose folder leads elsewhere later fails');
is(ids('x'), '', 'and reads nothing there');
is($node->status('codecs', 'state'), 'running', 'the others go on');
$node->safe_psql('postgres', "ALTER SYSTEM SET sophia_stack.fragment_directories = ''");
$node->reload;
like($node->failure_of('codecs'), qr/fragment_directories/, 'a stream fails when its folder is not allowed any more');
like($node->error_of("SELECT sophia.create_endpoint('again', 'fragments', '$store')"), qr/^42501: /, 'and no endpoint can be made of it');

$node->stop;
done_testing();
