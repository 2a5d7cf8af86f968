# Responses of Gong's API in a collection, and payloads loaded by hand, beside what Estuary captures.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(OUTSIDE);
use Sophia::Ingest;
use JSON::PP ();
use Test::More;

my $node = Sophia::Ingest->create('main');
my $json = JSON::PP->new->canonical;
my $p = Sophia::Documents->producer('030000000001');
my %journal;

sub feed
{
	my ($stream, $bytes) = @_;
	($journal{$stream} //= $node->journal("acme/$stream"))->write($bytes);
	ok($node->await_stream($stream), "$stream: caught up");
}

sub load
{
	my ($function, $payload) = @_;
	my $text = $json->encode($payload);
	return $node->rows("SELECT * FROM sophia.$function('$text')");
}

sub calls { return $node->rows('SELECT id, title, duration_s, brief, (SELECT string_agg(p.name, \',\' ORDER BY ordinal) FROM gong_raw.call_parties p WHERE p.call_id = c.id) FROM gong_raw.calls c ORDER BY id') }
sub extensive
{
	my ($id, $title, %more) = @_;
	return { metaData => { id => "$id", title => $title, duration => 60 }, content => { brief => "Brief $id" }, parties => [ map { { id => $_, name => $_ } } 'ann', "p$id" ], %more };
}
sub page { return { requestId => 'r', records => { totalRecords => scalar @_ }, calls => [@_] } }

# ---- pages and entries from a collection ----

$node->follow('pages', 'acme/pages', 'gong.calls', { evolve => 'auto' });
feed('pages', $p->transaction(page(extensive(1, 'One'), { id => '2', title => 'Two', duration => 5 }), page(), extensive(3, 'Three'), { id => 4, title => 'Four' }));
is(calls(), "1|One|60|Brief 1|ann,p1\n2|Two|5||\n3|Three|60|Brief 3|ann,p3\n4|Four|||", 'pages, extensive and basic calls become rows');
is($node->rows("SELECT doc ->> 'requestId', doc -> '_meta' ? 'uuid', source_journal FROM gong_raw.calls WHERE id = '1'"), '|t|acme/pages/pivot=00', 'each with its own document and the _meta of its page');
is($node->status('pages', 'documents_dead'), '0', 'an empty page is nothing');
is($node->rows('SELECT count(*) FROM sophia.schema_changes'), '0', 'nor are members of a page fields of its calls');
feed('pages', $p->transaction(page({ id => '1', title => 'One again' }, extensive(2, 'Two again'))));
is(calls(), "1|One again|60|Brief 1|ann,p1\n2|Two again|60|Brief 2|ann,p2\n3|Three|60|Brief 3|ann,p3\n4|Four|||", 'the two forms of a call keep each other\'s members');

feed('pages', $p->transaction(page({ id => '5', title => 'Five' }, extensive(6, 'Six', parties => 'none'), 'x', { id => '7', started => 'soon' }, { id => '8', title => 'Eight' })));
is($node->rows("SELECT string_agg(id, ' ' ORDER BY id) FROM gong_raw.calls WHERE id > '4'"), '5 8', 'a bad entry of a page leaves the others');
is($node->rows("SELECT count(*), min(reason), bool_and(encode(document, 'escape') ~ 'requestId') FROM sophia.dead_letters"), '1|entry 3: document has no usable key|t', 'and the page becomes a dead letter, once, that names an entry');
is($node->rows("SELECT * FROM sophia.replay_dead_letters('pages')"), '0|1', 'which is a dead letter still when it is replayed');
$node->safe_psql('postgres', "SELECT sophia.discard_dead_letters('pages')");
$node->safe_psql('postgres', "ALTER TABLE gong_raw.calls ADD CONSTRAINT refuse CHECK (title <> 'no')");
feed('pages', $p->transaction(page({ id => '5', title => 'Fiver' }, { id => '9', title => 'no' })));
is($node->rows("SELECT title FROM gong_raw.calls WHERE id IN ('5', '9')"), 'Fiver', 'so does a page of which the table refuses one');
$node->safe_psql('postgres', "ALTER TABLE gong_raw.calls DROP CONSTRAINT refuse");
is($node->rows("SELECT * FROM sophia.replay_dead_letters('pages')"), '1|0', 'replayed, all of it is there');
is($node->rows("SELECT string_agg(title, ' ' ORDER BY id) FROM gong_raw.calls WHERE id IN ('5', '9')"), 'Fiver no', 'with its rows');

$node->follow('talk', 'acme/talk', 'gong.call_transcripts');
my $said = sub { my ($id, @texts) = @_; return { callId => "$id", transcript => [ map { { speakerId => 's', sentences => [ { start => 1, end => 2, text => $_ } ] } } @texts ] } };
feed('talk', $p->transaction({ requestId => 'r', callTranscripts => [ $said->(1, 'a', 'b'), $said->(2, 'c') ] }, $said->(3, 'd')));
is($node->rows("SELECT string_agg(call_id || text, ' ' ORDER BY call_id, seq) FROM gong_raw.call_transcripts"), '1a 1b 2c 3d', 'pages of transcripts and single ones');

# ---- payloads beside a collection ----

$node->follow('basic', 'acme/basic', 'gong.calls');
my $early = $p->document({ id => 'b', title => 'Captured early', duration => 7, purpose => 'sales' }, flags => OUTSIDE);
is(load('load_gong_calls', page(extensive('b', 'Loaded'))), '1|1|0|0|2|0', 'a payload comes first');
feed('basic', $early);
is($node->rows("SELECT title, duration_s, purpose, brief, source_journal FROM gong_raw.calls WHERE id = 'b'"), 'Loaded|60|sales|Brief b|', 'a document from before it only fills');
my $stamp = $node->rows("SELECT changed_xid, ctid FROM gong_raw.calls WHERE id = 'b'");
is(load('load_gong_calls', page(extensive('b', 'Loaded'))), '1|0|0|1|0|0', 'the payload again changes nothing');
is($node->rows("SELECT changed_xid, ctid FROM gong_raw.calls WHERE id = 'b'"), $stamp, 'and writes nothing');
my $later = Sophia::Documents->producer('030000000002');
feed('basic', $later->outside({ id => 'b', title => 'Captured later', duration => 8 }));
is($node->rows("SELECT title, duration_s, purpose, brief, source_journal, (SELECT count(*) FROM gong_raw.call_parties WHERE call_id = 'b') FROM gong_raw.calls WHERE id = 'b'"), 'Captured later|8|sales|Brief b|acme/basic/pivot=00|2',
	'a document from after it counts and leaves what only the extensive form has');
is(load('load_gong_calls', extensive('b', 'Loaded again')), '1|0|1|0|0|0', 'a later payload counts again');
is($node->rows("SELECT title, duration_s, purpose FROM gong_raw.calls WHERE id = 'b'"), 'Loaded again|60|sales', 'and erases nothing of the basic form');
is(load('load_gong_transcripts', { callTranscripts => [ $said->('1', 'a', 'z'), $said->(9, 'e') ] }), '2|2|0', 'a payload of transcripts');
is($node->rows("SELECT string_agg(call_id || text, ' ' ORDER BY call_id, seq) FROM gong_raw.call_transcripts"), '1a 1z 2c 3d 9e', 'writes what differs');

# ---- while a worker writes the same rows ----

my $busy = $p->transaction(map { { id => "w$_", title => "worker $_" } } 1 .. 2000);
my @loads = map { my $n = $_; $node->beside("SELECT sophia.load_gong_calls(jsonb_agg(jsonb_build_object('metaData', jsonb_build_object('id', 'w' || i, 'duration', $n)))) FROM generate_series(1, 2000) i") } 1 .. 3;
feed('basic', $busy);
$_->{run}->finish for @loads;
is(join('', map { ${ $_->{err} } } @loads), '', 'payloads and a stream at the same time do not fail');
is($node->rows("SELECT count(*), count(*) FILTER (WHERE title IS NOT NULL), count(*) FILTER (WHERE duration_s IS NOT NULL) FROM gong_raw.calls WHERE id ~ '^w'"), '2000|2000|2000', 'and nothing of either is lost');
is($node->status('basic', 'state, documents_dead'), 'running|0', 'nor a dead letter');

$node->stop;
done_testing();
