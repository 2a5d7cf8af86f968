# Any collection: tables made from a JSON schema or by hand, keys of every type, reductions, appending.
use strict;
use warnings;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(OUTSIDE CONTINUE);
use Sophia::Ingest;
use Test::More;

my $json = JSON::PP->new->canonical;
my $node = Sophia::Ingest->create('main');
my $p = Sophia::Documents->producer('030000000001');
my %journal;

# Appends to the only journal of a collection named as its stream and waits.
sub feed
{
	my ($stream, $bytes) = @_;
	my $journal = $journal{$stream} //= $node->journal("acme/$stream");
	$journal->write($bytes);
	ok($node->await_stream($stream), "$stream: caught up");
	return;
}

# A document that commits by itself, its members as JSON text without the braces.
sub line
{
	my ($members) = @_;
	$members =~ s/%/%%/g;
	return $p->raw('{"_meta":{"uuid":"%s"},' . $members . '}', flags => OUTSIDE);
}

sub tombstone
{
	my ($members) = @_;
	return $p->raw('{"_meta":{"uuid":"%s","op":"d"},' . $members . '}', flags => OUTSIDE);
}

sub create_table
{
	my ($schema, $target, $key) = @_;
	my $text = ref $schema ? $json->encode($schema) : $schema;
	utf8::downgrade($text);
	$text =~ s/'/''/g;
	return $node->rows("SELECT string_agg(action, ' ') FROM sophia.create_table_for('$text', '$target', '$key')");
}

# ---- a table from a schema: types, names, numbers ----

my %typed = (
	id => { type => 'integer' },
	big => { type => 'integer', maximum => 1e30 },
	precise => { type => ['integer', 'string'], format => 'integer' },
	ratio => { type => 'number' },
	flag => { type => ['boolean', 'null'] },
	day => { type => 'string', format => 'date' },
	at => { type => 'string', format => 'date-time' },
	clock => { type => 'string', format => 'time' },
	lasts => { type => 'string', format => 'duration' },
	ip => { type => 'string', format => 'ipv6' },
	mac => { type => 'string', format => 'macaddr' },
	ref => { type => 'string', format => 'uuid' },
	bytes => { type => 'string', contentEncoding => 'base64' },
	mixed => { type => ['integer', 'string', 'object'] },
	nested => { type => 'object', properties => { a => { type => 'object' } } },
	'a/b' => { type => 'string' },
	'c~d' => { type => 'string' },
	'größe' => { type => 'number' },
	'名前' => { type => 'string' },
	'doc' => { type => 'string' },
	'o\'quote"d' => { type => 'string' },
	('x' x 70) => { type => 'string' },
	('x' x 71) => { type => 'string' });
is(create_table({ type => 'object', required => ['id'], properties => \%typed }, 'shop.typed', '{/id}'), 'created created', 'schema and table are made');
is(create_table({ type => 'object', required => ['id'], properties => \%typed }, 'shop.typed', '{/id}'), 'exists', 'again: nothing');
$node->follow('typed', 'acme/typed', 'generic', { table => 'shop.typed', key => ['/id'] });
feed('typed', line('"id":1,"big":123456789012345678901234567890,"precise":"9007199254740993","ratio":-1.5e300,"flag":null,"day":"2026-02-28",'
	. '"at":"2026-02-28T10:00:00+02:00","clock":"10:20:30.5Z","lasts":"P1DT2H3.5S","ip":"2001:db8::1","mac":"08:00:2b:01:02:03",'
	. '"ref":"6F9619FF-8B86-D011-B42D-00CF4FC964FF","bytes":"aGVsbG8=","mixed":{"k":[1]},"nested":{"a":{"b":{"c":9007199254740993}}},'
	. '"a/b":"slash","c~d":"tilde","größe":1.25,"名前":"Zoë 😀","doc":"a text","o\'quote\"d":"q","' . 'x' x 70 . '":"70","' . 'x' x 71 . '":"71"')
	. line('"id":"2","big":-5,"precise":7,"ratio":"NaN","day":"","mixed":"two"')
	. line('"id":9223372036854775807,"mixed":3') . line('"id":9007199254740993,"mixed":true'));
is($node->rows('SELECT id, big, precise, ratio, flag, day, at AT TIME ZONE \'UTC\', clock, lasts, ip, mac, ref, convert_from(bytes, \'UTF8\'), mixed FROM shop.typed WHERE id = 1'),
	'1|123456789012345678901234567890|9007199254740993|-1.5e+300||2026-02-28|2026-02-28 08:00:00|10:20:30.5|1 day 02:00:03.5|2001:db8::1/128|08:00:2b:01:02:03|6f9619ff-8b86-d011-b42d-00cf4fc964ff|hello|{"k": [1]}',
	'a value of every type');
is($node->rows('SELECT "a/b", "c~d", "größe", "名前", doc_, "o\'quote""d", doc #>> \'{nested,a,b,c}\' FROM shop.typed WHERE id = 1'),
	'slash|tilde|1.25|Zoë 😀|a text|q|9007199254740993', 'names with slash, tilde, umlaut, kanji, and one that is ours');
is($node->rows('SELECT "' . 'x' x 63 . '" || \' \' || (to_jsonb(t) ->> (SELECT column_name FROM sophia.fields WHERE pointers = \'{/' . 'x' x 71 . '}\')) FROM shop.typed t WHERE id = 1'),
	'70 71', 'names that are equal where a name ends stay apart');
is($node->rows("SELECT col_description('shop.typed'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'shop.typed'::regclass AND attname = '" . 'x' x 63 . "'"),
	'/' . 'x' x 70, 'and the comment has the whole pointer');
is($node->rows('SELECT id, big, precise, ratio, day, mixed FROM shop.typed WHERE id <> 1 ORDER BY id'),
	"2|-5|7|NaN||\"two\"\n9007199254740993|||||true\n9223372036854775807|||||3", 'numbers as texts, integers beyond 2^53, mixed types');
my @bad = ('"id":9223372036854775808', '"id":1.5', '"id":"x"', '"id":null', '"id":[1]', '"id":{}', '"big":1',
	'"id":3,"mac":"no"', '"id":3,"ip":"1.2.3.4/33"', '"id":3,"ref":"123"', '"id":3,"day":"2026-02-30"', '"id":3,"clock":"25:00"',
	'"id":3,"lasts":"long"', '"id":3,"bytes":"*"', '"id":3,"ratio":"1e999"', '"id":3,"flag":[]');
feed('typed', join('', map { line($_) } @bad) . line('"id":4'));
is($node->rows("SELECT string_agg(sqlstate, ' ' ORDER BY begin_offset) FROM sophia.dead_letters WHERE stream = 'typed'"),
	'22003 22P02 22P02 23502 23502 23502 23502 22P02 22P02 22P02 22007 22007 22007 22P02 22P02 22P02', 'what fits no column is a dead letter');
is($node->rows('SELECT count(*) FROM shop.typed WHERE id IN (3, 4)'), '1', 'and its neighbour a row');

# ---- keys ----

create_table({ type => 'object', properties => { n => { type => 'string' }, at => { type => 'object',
	properties => { 'x/y' => { type => 'number' }, u => { type => 'string', format => 'uuid' } } } } }, 'shop.keys', '{/at/x~1y,/at/u}');
is($node->rows("SELECT string_agg(column_name || ' ' || column_type, ',' ORDER BY column_name) FROM sophia.fields WHERE table_name = 'keys'"),
	'at jsonb,at/u uuid,at/x~1y double precision,n text', 'keys below the top level have columns of their own');
$node->follow('keys', 'acme/keys', 'generic', { table => 'shop.keys', key => ['/at/x~1y', '/at/u'] });
my $uuid = '6f9619ff-8b86-d011-b42d-00cf4fc964ff';
feed('keys', line("\"n\":\"a\",\"at\":{\"x/y\":1,\"u\":\"$uuid\"}") . line("\"n\":\"b\",\"at\":{\"x/y\":1.0,\"u\":\"" . uc($uuid) . '"}')
	. line("\"n\":\"c\",\"at\":{\"x/y\":\"10e-1\",\"u\":\"{$uuid}\"}") . line("\"n\":\"z\",\"at\":{\"x/y\":-0.0,\"u\":\"$uuid\"}") . line("\"n\":\"y\",\"at\":{\"x/y\":0,\"u\":\"$uuid\"}"));
feed('keys', line("\"n\":\"d\",\"at\":{\"x/y\":1.000,\"u\":\"$uuid\"}"));
is($node->rows('SELECT n, "at/x~1y" FROM shop.keys ORDER BY n'), "d|1\ny|0", 'equal values are one key, however they are written');

# ---- a table made by hand ----

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE shop.by_hand (
  id varchar(20) PRIMARY KEY, "Total" numeric(10,2), tags text[], place point, kind varchar(5), payload json, at timestamp,
  note text DEFAULT 'mine', twice numeric GENERATED ALWAYS AS ("Total" * 2) STORED);
SQL
my ($error, $text) = $node->error_of(q(SELECT sophia.create_stream('by_hand', 'store', 'acme/by_hand', 'generic', '{"table": "shop.by_hand", "key": ["/id"]}')));
like($error, qr/^42703: .*lacks columns/, 'a table without the columns of the ingest is refused');
like($text, qr/create_table_for/, 'with a hint');
is(create_table('{"properties": {"id": {"type": "string"}}}', 'shop.by_hand', '{/id}') =~ s/(column added ?)+/added/r, 'adopted added', 'create_table_for adds them');
$node->safe_psql('postgres', "DELETE FROM sophia.fields WHERE table_name = 'by_hand'");
$node->follow('by_hand', 'acme/by_hand', 'generic', { table => 'shop.by_hand', key => ['/id'], delete => 'hard' });
feed('by_hand', line('"id":"a","Total":1.239,"tags":["x","y"],"place":"(1,2)","kind":"good","payload":{"b":1,"a":2},"at":"2026-01-01T00:00:00+01:00","note":"theirs"')
	. line('"id":"b","Total":2') . line('"id":"c","place":"nowhere"') . line('"id":"d","kind":"too long"'));
is($node->rows('SELECT id, "Total", twice, tags, place, kind, payload, at, note FROM shop.by_hand ORDER BY id'),
	"a|1.24|2.48|{x,y}|(1,2)|good|{\"a\": 2, \"b\": 1}|2025-12-31 23:00:00|mine\nb|2.00|4.00||||||mine",
	'columns are filled by the members of their names; one with a default is the user\'s own');
is($node->rows("SELECT string_agg(sqlstate, ' ' ORDER BY begin_offset) FROM sophia.dead_letters WHERE stream = 'by_hand'"), '22P02 22001', 'what the types refuse is a dead letter');
feed('by_hand', tombstone('"id":"b"'));
is($node->rows('SELECT string_agg(id, \' \') FROM shop.by_hand'), 'a', 'hard deletion removes the row');

# ---- a type that the owner changed ----

my %altered = (properties => { id => { type => 'string' }, n => { type => 'integer' } });
is(create_table(\%altered, 'shop.altered', '{/id}'), 'created', 'a table with a column of numbers');
$node->follow('altered', 'acme/altered', 'generic', { table => 'shop.altered', key => ['/id'] });
feed('altered', line('"id":"a","n":"x"'));
$node->safe_psql('postgres', 'ALTER TABLE shop.altered ALTER COLUMN n TYPE text');
is(create_table(\%altered, 'shop.altered', '{/id}'), 'exists', 'its owner gave it another type, and calls create_table_for');
is($node->rows("SELECT column_type, conversion FROM sophia.fields WHERE table_name = 'altered' AND column_name = 'n'"), 'text|text', 'which takes note of it');
is($node->rows("SELECT * FROM sophia.replay_dead_letters('altered')"), '1|0', 'what did not fit is replayed');
feed('altered', line('"id":"b","n":"y"'));
is($node->rows('SELECT id, n FROM shop.altered ORDER BY id'), "a|x\nb|y", 'and what comes fits');

# ---- reduction ----

$node->safe_psql('postgres', "SELECT sophia.create_table_for('{\"properties\": {\"id\": {\"type\": \"string\"}}}', 'shop.' || t, '{/id}') FROM unnest('{last,deep,annotated}'::text[]) t");
my @documents = (line('"id":"a","o":{"x":1,"in":{"p":1}},"q":1') . line('"id":"a","o":{"y":2,"in":{"q":2}},"r":2'));
my $annotated = { type => 'object', '$ref' => '#/$defs/row', '$defs' => { row => { type => 'object',
	if => { properties => { _meta => { properties => { op => { const => 'd' } } } } }, then => { reduce => { strategy => 'merge', delete => JSON::PP::true } },
	else => { reduce => { strategy => 'merge' } }, properties => { o => { anyOf => [ { type => 'object', reduce => { strategy => 'merge' } }, { type => 'null' } ] } } } } };
$node->follow('last', 'acme/last', 'generic', { table => 'shop.last', key => ['/id'] });
$node->follow('deep', 'acme/deep', 'generic', { table => 'shop.deep', key => ['/id'], reduce => 'merge' });
$node->follow('annotated', 'acme/annotated', 'generic', { table => 'shop.annotated', key => ['/id'], schema => $annotated });
feed($_, @documents) for qw(last deep annotated);
is($node->rows("SELECT doc - '_meta' FROM shop.last"), '{"o": {"y": 2, "in": {"q": 2}}, "r": 2, "id": "a"}', 'the last document is the row by default');
is($node->rows("SELECT doc - '_meta' FROM shop.deep"), '{"o": {"x": 1, "y": 2, "in": {"p": 1, "q": 2}}, "q": 1, "r": 2, "id": "a"}', 'merge unites objects at every depth');
is($node->rows("SELECT doc - '_meta' FROM shop.annotated"), '{"o": {"x": 1, "y": 2, "in": {"q": 2}}, "q": 1, "r": 2, "id": "a"}', 'a schema says which of them');
feed('annotated', tombstone('"id":"a"'));
is($node->rows("SELECT is_deleted, doc ? 'q' FROM shop.annotated"), 't|t', 'a tombstone marks the row');
feed('annotated', line('"id":"a","s":1'));
is($node->rows("SELECT is_deleted, doc - '_meta' FROM shop.annotated"), 'f|{"s": 1, "id": "a"}', 'and the next document starts anew');

# ---- what a database capture says of its collections ----

my $order = { '$anchor' => 'Order', type => 'object', required => [ 'id', 'n' ],
	properties => { id => { type => 'integer' }, n => { type => 'string' } } };
my $change = { type => 'object', properties => { op => { enum => [qw(c u d)] },
	before => { '$ref' => '#Order', reduce => { strategy => 'firstWriteWins' } } }, reduce => { strategy => 'merge' } };
my $captured = { '$defs' => { Order => $order }, allOf => [
	{ required => ['_meta'], properties => { _meta => $change }, reduce => { strategy => 'merge' } }, { '$ref' => '#Order' } ] };
is(create_table($captured, 'shop.captured', '{/id}'), 'created', 'a table for it');
is($node->rows(q(SELECT attnotnull FROM pg_attribute WHERE attrelid = 'shop.captured'::regclass AND attname = 'n')), 't', 'what is required is NOT NULL');
$node->follow('captured', 'acme/captured', 'generic', { table => 'shop.captured', key => ['/id'], schema => $captured });
feed('captured', line('"id":1,"n":"one","more":1') . line('"id":1,"n":"uno"') . tombstone('"id":2') . line('"id":3,"n":"three"') . tombstone('"id":3'));
is($node->rows('SELECT id, n, is_deleted, doc -> \'more\' FROM shop.captured ORDER BY id'), "1|uno|f|1\n2||t|\n3|three|t|",
	'what a schema says of /_meta is no matter; a tombstone of its key alone is a row');
is($node->dead_letters('captured'), '', 'and no dead letter');
is($node->rows(q(SELECT attname FROM pg_attribute WHERE attrelid = 'shop.captured'::regclass AND attname IN ('id', 'n') AND attnotnull)), 'id', 'only the key stays NOT NULL');

# ---- appending ----

is(create_table('{"properties": {"id": {"type": "string"}, "n": {"type": "integer"}}, "required": ["id", "n"]}', 'shop.log', '{}'), 'created', 'a table to append to');
$node->follow('log', 'acme/log', 'generic', { table => 'shop.log', reduce => 'none', key => ['/id'],
	schema => { type => 'object', reduce => { strategy => 'sum' } } });
feed('log', $p->transaction(map { { id => 'a', n => $_ } } 1 .. 3) . tombstone('"id":"a"') . line('"no":"key"') . $p->document({ id => 'open' }));
is($node->rows('SELECT count(*), count(DISTINCT source_offset), sum(n), count(*) FILTER (WHERE is_deleted) FROM shop.log'), '5|5|6|1',
	'every committed document is a row, also of one key, without one, and tombstones');
$node->safe_psql('postgres', "SELECT sophia.drop_stream('log')");
$node->follow('log', 'acme/log', 'generic', { table => 'shop.log', reduce => 'none' });
feed('log', $p->rollback . line('"id":"b","n":10'));
my $pid = $node->kill_worker('ingest', 'KILL');
$node->wait_for_worker('ingest', $pid);
feed('log', line('"id":"c","n":100'));
is($node->rows('SELECT count(*), sum(n) FROM shop.log'), '7|116', 'read again from the start, and after a crash, none is doubled');

# ---- what create_stream refuses ----

sub refused
{
	my ($sqlstate, $name, $options, $message) = @_;
	my $text = $json->encode($options) =~ s/'/''/gr;
	my ($error, $all) = $node->error_of("SELECT sophia.create_stream('refused', 'store', 'acme/refused', 'generic', '$text')");
	like($error, qr/^$sqlstate: /, "refused: $name");
	like($all, $message, '... saying why') if defined $message;
	return;
}
my %good = (table => 'shop.last', key => ['/id']);
refused('22023', 'no options', {}, qr/"table"/);
refused('22023', 'no key', { table => 'shop.last' }, qr/"key"/);
refused('22023', 'an empty key', { %good, key => [] });
refused('22023', 'a key that is no pointer', { %good, key => ['id'] }, qr/"id" is not a usable JSON pointer/);
refused('22023', 'a key twice', { %good, key => ['/id', '/id'] });
refused('22023', 'an unknown option', { %good, tabel => 'x' }, qr/"table", "key", "reduce" and "schema"/);
refused('22023', 'an unknown reduction', { %good, reduce => 'sum' }, qr/"none"/);
refused('22023', 'hard deletion of what is appended', { table => 'shop.log', reduce => 'none', delete => 'hard' });
refused('22023', 'a table without schema', { %good, table => 'last' });
refused('42P01', 'no table', { %good, table => 'shop.missing' }, qr/create_table_for/);
refused('42703', 'a key without a column', { %good, key => ['/other'] });
refused('42P10', 'a table to append to without its index', { table => 'shop.last', reduce => 'none' });
refused('42809', 'a table of another shape', { %good, table => 'hubspot_raw.contacts' }, qr/another shape/);
refused('22023', 'a table of the extension', { %good, table => 'sophia.streams' });
for my $strategy (qw(sum append minimize maximize set firstWriteWins jsonSchemaMerge))
{
	refused('0A000', "reduction $strategy", { %good, schema => { reduce => { strategy => 'merge' }, properties => { n => { reduce => { strategy => $strategy } } } } },
		qr/"$strategy".*reduce = none/s);
}
refused('0A000', 'a reduction of a member called _meta', { %good, schema => { properties => { o => { properties => { _meta => { reduce => { strategy => 'sum' } } } } } } });
refused('0A000', 'a reduction by the value', { %good, schema => { oneOf => [ { properties => { a => { const => 1 } }, reduce => { strategy => 'merge' } }, { reduce => { strategy => 'lastWriteWins' } } ] } });
refused('0A000', 'a merge of arrays', { %good, schema => { properties => { a => { type => 'array', reduce => { strategy => 'merge', key => ['/k'] } } } } });
refused('0A000', 'a deletion by another member', { %good, schema => { if => { properties => { archived => { const => JSON::PP::true } } }, then => { reduce => { strategy => 'merge', delete => JSON::PP::true } } } });
like($node->error_of(q(SELECT sophia.create_stream('refused', 'store', 'acme/refused', 'hubspot.contacts', '{"table": "shop.last"}'))), qr/^22023: .*only for the shape generic/, 'other shapes have no such options');

# ---- rights: the worker writes as the owner, so the caller must be one ----

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE owner LOGIN; CREATE ROLE member LOGIN; CREATE ROLE stranger LOGIN;
GRANT owner TO member;
GRANT EXECUTE ON FUNCTION sophia.create_stream, sophia.create_table_for, sophia.drop_stream TO owner, member, stranger;
CREATE SCHEMA owned AUTHORIZATION owner;
SQL
my $make = q(SELECT count(*) FROM sophia.create_table_for('{"properties": {"id": {"type": "string"}}}', 'owned.t', '{/id}'));
my $follow = q(SELECT sophia.create_stream('owned', 'store', 'acme/owned', 'generic', '{"table": "owned.t", "key": ["/id"]}'));
like($node->error_of("SET ROLE stranger; $make"), qr/^42501/, 'create_table_for makes the table with the rights of its caller');
$node->safe_psql('postgres', "SET ROLE owner; $make");
is($node->rows("SELECT tableowner FROM pg_tables WHERE schemaname = 'owned'"), 'owner', 'who owns it then');
like($node->error_of("SET ROLE stranger; $_"), qr/^42501: must be owner/, 'nobody else can have it written or changed') for $make, $follow;
$node->safe_psql('postgres', "CREATE FUNCTION shop.who() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN NEW.doc := NEW.doc || jsonb_build_object('who', current_user); RETURN NEW; END \$\$;
	GRANT USAGE ON SCHEMA shop TO owner; SET ROLE owner; CREATE TRIGGER who BEFORE INSERT ON owned.t FOR EACH ROW EXECUTE FUNCTION shop.who()");
$node->safe_psql('postgres', "SET ROLE member; $follow");
feed('owned', line('"id":"1"'));
is($node->rows("SELECT doc ->> 'who' FROM owned.t"), 'owner', 'a member of the owner can, and the worker writes as the owner');

# Code of the owner that runs for somebody else, as in a REINDEX, is not that somebody.
$node->safe_psql('postgres', <<'SQL');
SET ROLE owner;
CREATE TABLE owned.armed ();
CREATE TABLE owned.bait (a text);
CREATE FUNCTION owned.sneak(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF EXISTS (SELECT FROM owned.armed) THEN
    PERFORM sophia.create_table_for('{"properties": {"id": {"type": "string"}}}', 'owned.sneaked', '{/id}');
  END IF;
  RETURN $1;
END $$;
CREATE INDEX ON owned.bait (owned.sneak(a));
INSERT INTO owned.bait VALUES ('x');
INSERT INTO owned.armed DEFAULT VALUES;
SQL
like($node->error_of('REINDEX TABLE owned.bait'), qr/^42501: cannot tell the caller/, 'whoever has code run in the name of another has not its rights');
$node->safe_psql('postgres', 'DROP TABLE owned.bait');

like($node->error_of(q(GRANT EXECUTE ON FUNCTION sophia.alter_stream TO stranger; SET ROLE stranger; SELECT sophia.alter_stream('owned', '{"delete": "hard"}'))), qr/^42501: must be owner/,
	'nor can anybody else change how it is written');
like($node->error_of(qq(SELECT sophia.alter_stream('owned', '$_'))), qr/^22023: stream option "\w+" cannot be changed/, "$_ says which rows there are, and stays")
  for '{"table": "shop.missing"}', '{"key": ["/no"]}', '{"reduce": "merge"}', '{"schema": {"reduce": {"strategy": "merge"}}}';
$node->safe_psql('postgres', q(SELECT sophia.alter_stream('owned', '{"delete": "hard"}')));
feed('owned', tombstone('"id":"1"'));
is($node->rows("SELECT count(*) FROM owned.t"), '0', 'an option that is changed takes effect');

# ---- the table goes away and comes back; a second stream into it; a column more ----

$node->safe_psql('postgres', 'DROP TABLE shop.last');
$journal{last}->write(line('"id":"b"'));
like($node->failure_of('last'), qr/"shop.last" does not exist/, 'a table that is gone fails its stream with that reason');
create_table('{"properties": {"id": {"type": "string"}, "q": {"type": "integer"}}}', 'shop.last', '{/id}');
$node->safe_psql('postgres', "SELECT sophia.start_stream('last')");
feed('last', line('"id":"c","q":3'));
is($node->rows("SELECT string_agg(id || coalesce(q::text, ''), ' ' ORDER BY id) FROM shop.last"), 'b c3', 'made anew and started, it goes on where it stood');
$node->follow('second', 'acme/second', 'generic', { table => 'shop."last"', key => ['/id'] });
feed('second', line('"id":"b","q":2'));
is($node->rows("SELECT string_agg(id || coalesce(q::text, ''), ' ' ORDER BY id) FROM shop.last"), 'b2 c3', 'two collections can feed one table');
is(create_table('{"properties": {"id": {"type": "string"}, "s": {"type": "string"}}}', 'shop.last', '{/id}'), 'exists column added', 'a schema that grew adds a column');
feed('second', line('"id":"d","s":"new"'));
is($node->rows("SELECT s FROM shop.last WHERE id = 'd'"), 'new', 'which the running streams fill');
feed('second', line('"id":"e","late":"in doc"'));
is(create_table('{"properties": {"id": {"type": "string"}, "late": {"type": "string"}}}', 'shop.last', '{/id}'), 'exists column added', 'a column for what is in doc already');
ok($node->poll_query_until('postgres', "SELECT late = 'in doc' FROM shop.last WHERE id = 'e'"), 'is filled in the rows that are there');
$node->safe_psql('postgres', 'ALTER TABLE shop.last ADD COLUMN own text');
is(create_table('{"properties": {"id": {"type": "string"}, "own": {"type": "string"}}}', 'shop.last', '{/id}'), 'exists', 'a column that the user added');
feed('second', line('"id":"f","own":"told"'));
is($node->rows("SELECT own FROM shop.last WHERE id = 'f'"), 'told', 'is filled once a schema names it');

# ---- what a session has set makes no difference to keys ----

$node->safe_psql('postgres', q(CREATE TABLE shop.measures AS SELECT 0.5::float8 AS at, t.* FROM (SELECT * FROM shop.last LIMIT 0) AS t (id);
	ALTER TABLE shop.measures DROP COLUMN id, ALTER is_deleted SET DEFAULT false, ADD PRIMARY KEY (at);
	SELECT sophia.create_stream('measures', 'store', 'acme/measures', 'generic', '{"table": "shop.measures", "key": ["/at"], "start": false}')));
my $twice = q(SELECT rows_inserted, rows_updated FROM sophia.apply_documents('generic', '{"table": "shop.measures", "key": ["/at"]}', NULL,
	ARRAY['{"at": 0.1}', '{"at": 0.10000000000000003}']::bytea[], ARRAY[16, 32], NULL));
is($node->safe_psql('postgres', "SET extra_float_digits = -3; $twice; $twice"), "2|0\n0|2", 'keys that differ in the last digit, whatever digits a session shows');

# ---- definitions survive a dump ----

my $copy = 'postgres_copy';
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dump');
$node->safe_psql('postgres', "CREATE DATABASE $copy");
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($copy), '-f', $dump ], 'restore');
is($node->safe_psql($copy, "SELECT shape, options ->> 'table' FROM sophia.streams WHERE stream = 'typed'"), 'generic|shop.typed', 'a stream');
is($node->safe_psql($copy, "SELECT key_columns FROM sophia.shape_definition('generic', (SELECT options FROM sophia.streams WHERE stream = 'keys'))"), '{at/x~1y,at/u}', 'and its columns');

$node->stop;
done_testing();
