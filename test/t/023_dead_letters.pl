# Documents that cannot be applied: each is kept whole with its reason, once, and the stream goes on.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(uuid OUTSIDE CONTINUE);
use Sophia::Ingest;
use Test::More;

my $node = Sophia::Ingest->create('main', conf => "sophia_stack.max_document_size = '64kB'\n");
my $p = Sophia::Documents->producer('030000000001');
my %journal;

# Appends to the only journal of a collection named as its stream and waits; returns the offset of the first byte.
sub feed
{
	my ($stream, $bytes) = @_;
	my $journal = $journal{$stream} //= $node->journal("acme/$stream");
	my $offset = $journal->offset;
	$journal->write($bytes);
	ok($node->await_stream($stream), "$stream: caught up");
	return $offset;
}

sub good
{
	my ($id, $name) = @_;
	return { id => $id, properties => { firstname => $name // $id } };
}

# Ids in the table that begin so.
sub ids { return $node->rows("SELECT string_agg(id, ' ' ORDER BY id) FROM hubspot_raw.contacts WHERE id LIKE '$_[0]%'") }

# ---- what each kind of document becomes ----

$node->follow('kinds', 'acme/kinds', 'hubspot.contacts');
my $uuid = '"_meta":{"uuid":"%s"}';
my @kinds = (
	[ 'malformed JSON with a readable uuid', '22P02', qr/not valid JSON/, "{$uuid,\"id\":\"bad\",}" ],
	[ 'a line that is cut off behind its uuid', '22P02', qr/not valid JSON/, "{$uuid,\"id\":\"bad\"" ],
	[ 'malformed JSON without a uuid', '22P02', qr/not valid JSON/, '{"id":"bad' ],
	[ 'no JSON at all', '22P02', qr/not valid JSON/, 'bad' ],
	[ 'JSON that is no object', '22023', qr/no usable .*uuid/, '[1]' ],
	[ 'no uuid', '22023', qr/no usable .*uuid/, '{"id":"bad"}' ],
	[ 'a uuid that is none', '22023', qr/no usable .*uuid/, '{"_meta":{"uuid":"bad"},"id":"bad"}' ],
	[ 'a uuid of another version', '22023', qr/no usable .*uuid/, '{"_meta":{"uuid":"0b0f1f36-6e0b-4b0e-8c51-2f3a4b5c6d7e"},"id":"bad"}' ],
	[ 'a uuid that is a number', '22023', qr/no usable .*uuid/, '{"_meta":{"uuid":1},"id":"bad"}' ],
	[ 'invalid UTF-8', '22021', qr/not valid UTF-8/, "{$uuid,\"id\":\"bad\",\"x\":\"\xff\xfe\"}" ],
	[ 'UTF-8 of a surrogate', '22021', qr/not valid UTF-8/, "{$uuid,\"id\":\"bad\",\"x\":\"\xed\xa0\x80\"}" ],
	[ 'overlong UTF-8', '22021', qr/not valid UTF-8/, "{$uuid,\"id\":\"bad\",\"x\":\"\xc0\xaf\"}" ],
	[ 'a NUL character', '22P05', qr/u0000/, "{$uuid,\"id\":\"bad\",\"x\":\"\\u0000\"}" ],
	[ 'a NUL character in a name', '22P05', qr/u0000/, "{$uuid,\"id\":\"bad\",\"a\\u0000b\":1}" ],
	[ 'half a surrogate pair', '22P02', qr/surrogate/, "{$uuid,\"id\":\"bad\",\"x\":\"\\ud83d\"}" ],
	[ 'the other half of one', '22P02', qr/surrogate/, "{$uuid,\"id\":\"bad\",\"x\":\"\\ude00 x\"}" ],
	[ 'no key', '23502', qr/no usable key/, "{$uuid,\"properties\":{}}" ],
	[ 'a key that is null', '23502', qr/no usable key/, "{$uuid,\"id\":null}" ],
	[ 'a key that is an object', '23502', qr/no usable key/, "{$uuid,\"id\":{}}" ],
	[ 'a timestamp that is none', '22007', qr/"yesterday" of column "createdate" is no timestamp/, "{$uuid,\"id\":\"bad\",\"properties\":{\"createdate\":\"yesterday\"}}" ],
	[ 'a boolean that is none', '22P02', qr/column "archived" is no boolean/, "{$uuid,\"id\":\"bad\",\"archived\":\"maybe\"}" ],
	[ 'more than max_document_size', '54000', qr/larger than sophia_stack.max_document_size/, "{$uuid,\"id\":\"bad\",\"x\":\"" . 'x' x 65536 . '"}' ],
	[ 'more than an index can hold', '54000', qr/index row/, "{$uuid,\"id\":\"bad\",\"properties\":{\"email\":\"" . join('', map { sha1_hex($_) } 1 .. 500) . '"}}' ],
	[ 'nesting without end', '54000', qr/nested too deeply/, "{$uuid,\"id\":\"bad\",\"x\":" . '[' x 20000 . ']' x 20000 . '}' ],
	[ 'a number of any size', '22003', qr/out of range/, "{$uuid,\"id\":\"bad\",\"x\":1e999999}" ]);
my $number = 0;
for my $kind (@kinds)
{
	my ($name, $sqlstate, $reason, $line) = @$kind;
	my $before = $p->outside(good(sprintf 'k%02da', $number));
	my $bad = $p->raw($line, flags => OUTSIDE);
	my $after = $p->outside(good(sprintf 'k%02db', $number));
	my $at = feed('kinds', $before . $bad . $after) + length $before;
	chomp $bad;
	is($node->rows("SELECT sqlstate, document = decode('" . unpack('H*', $bad) . "', 'hex'), journal FROM sophia.dead_letters WHERE stream = 'kinds' AND begin_offset = $at"),
		"$sqlstate|t|acme/kinds/pivot=00", "$name: a dead letter with the whole line");
	like($node->rows("SELECT reason FROM sophia.dead_letters WHERE stream = 'kinds' AND begin_offset = $at"), $reason, 'and the reason');
	is(ids(sprintf 'k%02d', $number), sprintf('k%02da k%02db', $number, $number), 'its neighbours are rows');
	$number++;
}
is($node->status('kinds', 'state, documents_applied, documents_dead'), join('|', 'running', 2 * @kinds, scalar @kinds), 'the stream goes on and counts them');
is(ids('bad'), '', 'none of them is a row');
feed('kinds', "\n \n" . $p->outside(good('kx')));
is($node->status('kinds', 'documents_dead'), scalar @kinds, 'an empty line is nothing');
feed('kinds', $p->raw("{$uuid,\"id\":\"kz\",\"x\":\"\\\\u0000 \\ud83d\\ude00\"}", flags => OUTSIDE));
is($node->rows("SELECT doc ->> 'x' = '\\u0000 ' || U&'\\+01F600' FROM hubspot_raw.contacts WHERE id = 'kz'"), 't', 'what only looks like one is a row');

# ---- when: with the transaction, once ----

$node->follow('when', 'acme/when', 'hubspot.contacts');
my $bad = $p->raw("{$uuid,\"id\":\"w1\",\"archived\":\"maybe\"}");
my $malformed = $p->raw("{$uuid,\"id\":}");
my $large = $p->raw("{$uuid,\"id\":\"w2\",\"x\":\"" . 'x' x 65536 . '"}');
my $none = "{\"id\":\"w3\"}\n";
my $open = $bad . $malformed . $large . $p->document(good('w4'));
feed('when', $open . $none);
is($node->status('when', 'documents_dead'), '1', 'a line without a uuid is a dead letter at once');
is($node->rows("SELECT count(*) FROM sophia.staged_documents WHERE stream = 'when'"), '4', 'those of an open transaction are staged');
feed('when', $open);
is($node->rows("SELECT count(*) FROM sophia.staged_documents WHERE stream = 'when'"), '4', 'and their duplicates are not');
my $ack = $p->ack;
feed('when', $ack);
is($node->status('when', 'documents_dead') . ids('w'), '4w4', 'they become dead letters when it commits');
feed('when', $open . $ack);
is($node->status('when', 'documents_dead'), '4', 'duplicates give no other');
is($node->rows("SELECT string_agg(sqlstate, ' ' ORDER BY begin_offset) FROM sophia.dead_letters WHERE stream = 'when'"), '22P02 22P02 54000 22023', 'each has its reason');
feed('when', $p->raw("{$uuid,\"id\":\"w5\",\"archived\":\"maybe\"}") . $p->raw("{$uuid,\"id\":}") . $p->raw("{$uuid}") . $p->document(good('w6')) . $p->rollback);
is($node->status('when', 'documents_dead') . ids('w'), '4w4', 'a rolled-back document gives none');
feed('when', $p->raw("{$uuid,\"id\":}") . $p->document(good('w7')) . $p->raw("{$uuid,\"id\":\"w8\",\"archived\":\"maybe\"}") . $p->document(good('w9')) . $p->ack);
is($node->status('when', 'documents_dead') . ids('w'), '6w4 w7 w9', 'also when all comes in one batch');
feed('when', $p->ack . $p->ack . $p->raw("{$uuid,\"no\":\"key\"}", flags => Sophia::Documents::CONTROL));
is($node->status('when', 'documents_dead'), '6', 'acknowledgements and control documents never give one');
my $pid = $node->kill_worker('ingest', 'KILL');
$node->wait_for_worker('ingest', $pid);
$node->safe_psql('postgres', "SELECT sophia.drop_stream('when')");
$node->follow('when', 'acme/when', 'hubspot.contacts');
ok($node->await_stream('when'), 'read again from the start');
is($node->rows("SELECT count(*) FROM sophia.dead_letters WHERE stream = 'when'"), '6', 'the dead letters are there once');

# ---- documents of one key ----

for my $together (1, 0)
{
	my $id = 'o' . $together;
	my @lines = (
		$p->outside({ id => $id, properties => { firstname => 'Ann' } }),
		$p->raw("{$uuid,\"id\":\"$id\",\"properties\":{\"lastname\":\"Bad\",\"createdate\":\"never\"}}", flags => OUTSIDE),
		$p->outside({ id => $id, properties => { jobtitle => 'CTO', createdate => '2026-01-01T00:00:00Z' } }));
	my $dead = $node->status('kinds', 'documents_dead');
	feed('kinds', $_) for $together ? join('', @lines) : @lines;
	is($node->rows("SELECT firstname, lastname, jobtitle, createdate AT TIME ZONE 'UTC' FROM hubspot_raw.contacts WHERE id = '$id'"), 'Ann||CTO|2026-01-01 00:00:00',
		'a misfit leaves nothing in the row of its key, ' . ($together ? 'in one batch' : 'alone'));
	is($node->status('kinds', 'documents_dead') - $dead, '1', 'and is one dead letter');
}

# ---- what the table refuses ----

$node->safe_psql('postgres', <<'SQL');
ALTER TABLE hubspot_raw.contacts ADD CONSTRAINT no_mallory CHECK (firstname <> 'Mallory');
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.firstname = 'Trudy' THEN RAISE EXCEPTION 'nobody is called Trudy'; END IF;
  RETURN NEW;
END;
$$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON hubspot_raw.contacts FOR EACH ROW EXECUTE FUNCTION public.refuse();
SQL
feed('kinds', $p->transaction((map { good("t$_") } 1 .. 40), good('t41', 'Mallory'), (map { good("t$_") } 42 .. 60), good('t61', 'Trudy'), good('t62')));
is($node->rows("SELECT count(*) FROM hubspot_raw.contacts WHERE id LIKE 't%'"), '60', 'what constraint and trigger accept is there');
is($node->rows("SELECT sqlstate, reason FROM sophia.dead_letters WHERE stream = 'kinds' ORDER BY id DESC LIMIT 2"),
	"P0001|nobody is called Trudy\n23514|new row for relation \"contacts\" violates check constraint \"no_mallory\"", 'what they refuse are dead letters with their words');
# A document refused after others of its key have taken effect in the same batch.
feed('kinds', $p->transaction(good('u1', 'Ann'), good('u1', 'Mallory'), { id => 'u1', properties => { lastname => 'Lee' } }, good('u2')));
is($node->rows("SELECT id, firstname, lastname FROM hubspot_raw.contacts WHERE id LIKE 'u%' ORDER BY id"), "u1|Ann|Lee\nu2|u2|", 'only the refused document of a key is missing');
# A large open transaction with a refused document in it is applied from staging.
my $head = join '', map { $p->document(good("v$_")) } 1 .. 300;
feed('kinds', $head . $p->document(good('v0', 'Trudy')) . $p->document({ id => 'v0', archived => 'maybe' }));
feed('kinds', $p->document(good('v301')) . $p->ack);
is($node->rows("SELECT count(*), count(*) FILTER (WHERE id = 'v0') FROM hubspot_raw.contacts WHERE id LIKE 'v%'"), '301|0', 'also of a transaction that was staged');
is($node->rows("SELECT count(*) FROM sophia.dead_letters WHERE stream = 'kinds' AND encode(document, 'escape') LIKE '%\"v0\"%'"), '2', 'whose refused documents are dead letters');
is($node->rows('SELECT sum(documents_dead) FROM sophia.stream_status WHERE stream = \'kinds\'') - $node->rows("SELECT count(*) FROM sophia.dead_letters WHERE stream = 'kinds'"), '0',
	'the count is that of the table');

# ---- elements ----

$node->follow('transcripts', 'acme/transcripts', 'gong.call_transcripts');
feed('transcripts', $p->transaction({ callId => 'a', transcript => [ { speakerId => 's', sentences => [ { start => 'soon', end => 2, text => 'x' } ] } ] },
	{ callId => 'b', transcript => 'none' }, { callId => 'c', transcript => [ 1 ] }, { callId => 'd', transcript => [ { speakerId => 's', sentences => [ { start => 1, end => 2, text => 'fine' } ] } ] }));
is($node->rows('SELECT call_id, text FROM gong_raw.call_transcripts'), 'd|fine', 'a transcript is applied whole or not at all');
is($node->status('transcripts', 'documents_dead'), '3', 'those that fit no row are dead letters');

$node->stop;
done_testing();
