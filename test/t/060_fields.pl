# Columns for fields: added by hand and filled, added by themselves, and widened.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use JSON::PP ();
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Ingest;
use Test::More;

my $node = Sophia::Ingest->create('main', conf => "sophia_stack.evolve_limit = 12\n");
my $p = Sophia::Documents->producer('060000000001');
my %journal;

# Appends documents to the only journal of a collection named as its stream, and waits; returns the offset of the first byte.
sub feed
{
	my ($stream, @documents) = @_;
	my $journal = $journal{$stream} //= $node->journal("acme/$stream");
	my $offset = $journal->offset;
	$journal->write($p->transaction(@documents));
	$node->await_stream($stream) or die "stream $stream did not catch up\n";
	return $offset;
}

sub sql { return $node->rows($_[0]) }

# SQLSTATE of a statement that fails, and whether it has a hint.
sub error_of
{
	my ($statement) = @_;
	my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	my ($sqlstate) = $err =~ /ERROR:\s+(\w{5})/;
	return ($sqlstate // 'none') . ($err =~ /HINT:/ ? ' hint' : '');
}

sub filled
{
	my ($table, $column) = @_;
	return $node->poll_query_until('postgres',
		"SELECT state = 'done' FROM sophia.field_fills WHERE table_schema || '.' || table_name = '$table' AND column_name = '$column'");
}

sub type_of
{
	my ($table, $column) = @_;
	return sql("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '$table'::regclass AND attname = '$column' AND NOT attisdropped");
}

# Waits until a column is there and filled, and returns its type.
sub evolved
{
	my ($table, $column) = @_;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_attribute WHERE attrelid = '$table'::regclass AND attname = '$column'")
	  or return 'missing';
	filled($table, $column) or return 'not filled';
	return type_of($table, $column);
}

# Another session that runs a statement and keeps its transaction open.
sub hold
{
	my ($statement) = @_;
	my $session = $node->beside("BEGIN; $statement; SELECT pg_sleep(1000)");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)%' AND wait_event = 'PgSleep'")
	  or die "nothing is held\n";
	return $session;
}

# Ends it.
sub release
{
	my ($session) = @_;
	sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%pg_sleep(1000)%'");
	eval { $session->{run}->finish };
	return;
}

# ---- add_field ----

$node->follow('contacts', 'acme/contacts', 'hubspot.contacts');
my $many = 5000;
feed('contacts', map { { id => "c$_", properties => { firstname => "n$_", score => $_ % 7 ? $_ : undef, colour => "colour $_" } } } 1 .. $many);
feed('contacts', { id => 'odd', properties => { score => 'high' } }, { id => 'blank', properties => { score => '' } });
my $stamp = sql('SELECT max(changed_xid) FROM hubspot_raw.contacts');
sql("SELECT sophia.add_field('contacts', '/properties/score', 'score', 'bigint')");
is(type_of('hubspot_raw.contacts', 'score'), 'bigint', 'add_field adds the column at once');
feed('contacts', { id => 'later', properties => { score => 42 } }, { id => 'c5', properties => { score => 500 } });
is(sql("SELECT score FROM hubspot_raw.contacts WHERE id IN ('later', 'c5') ORDER BY id"), "500\n42", 'documents that come later fill it');
ok(filled('hubspot_raw.contacts', 'score'), 'the worker fills the others');
is(sql("SELECT count(*), count(score), count(*) FILTER (WHERE score = (doc #>> '{properties,score}')::numeric) FROM hubspot_raw.contacts WHERE id ~ '^c|later'"),
	join('|', $many + 1, $many + 1 - int($many / 7), $many + 1 - int($many / 7)), 'every row has the value of its document');
is(sql("SELECT rows_misfit, error FROM sophia.field_fills WHERE column_name = 'score'"), '1|value "high" of column "score" is no integer (row odd)',
	'what does not fit stays NULL and is told');
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE score IS NULL AND changed_xid > '$stamp'::xid8"), 0, 'a row without the value is not written');
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE score IS NOT NULL AND changed_xid <= '$stamp'::xid8"), 0, 'one with it has a new stamp');
is(sql("SELECT phase, documents >= $many, bytes, time_left FROM sophia.stream_progress WHERE stream = 'contacts' AND field = 'score'"), 'filled|t||00:00:00',
	'stream_progress shows the fill');
is(sql("SELECT column_name, column_type, pointers, conversion, origin FROM sophia.fields"), 'score|bigint|{/properties/score}|bigint|add_field', 'sophia.fields knows it');
is(sql("SELECT stream, table_schema, table_name, column_name, change, old_type, new_type, pointer, reason, journal FROM sophia.schema_changes"),
	'contacts|hubspot_raw|contacts|score|column added||bigint|/properties/score|add_field|', 'schema_changes records it');

sql("SELECT sophia.add_field('contacts', '/properties/score', 'score', 'int8')");
is(sql('SELECT count(*) FROM sophia.schema_changes'), 1, 'the same call again does nothing');
is(error_of("SELECT sophia.add_field('contacts', '/properties/score', 'score', 'text')"), '42710 hint', 'another type is refused');
is(error_of("SELECT sophia.add_field('contacts', '/properties/other', 'score', 'bigint')"), '42710 hint', 'another field too');
is(error_of("SELECT sophia.add_field('contacts', '/properties/email', 'email', 'text')"), '42710 hint', 'and a column of the shape');
is(error_of("SELECT sophia.add_field('nobody', '/a', 'a', 'text')"), '42704', 'an unknown stream');
is(error_of("SELECT sophia.add_field('contacts', 'a', 'a', 'text')"), '22023 hint', 'no pointer');
sql('CREATE ROLE stranger; CREATE DOMAIN theirs AS text; ALTER DOMAIN theirs OWNER TO stranger');
is(error_of("SELECT sophia.add_field('contacts', '/a', 'a', 'theirs')"), '42501 hint', 'a type whose owner could run code as the owner of the table');
is(error_of("SELECT sophia.add_field('contacts', '/a', 'a', 'theirs[]')"), '42501 hint', 'nor an array of it');
is(error_of("SELECT sophia.add_field('contacts', '/a', '', 'text')"), '22023', 'no name');
is(error_of("SELECT sophia.add_field('contacts', '/a', '" . 'x' x 64 . "', 'text')"), '22023', 'a name that would be cut');
is(error_of("SELECT sophia.add_field('contacts', '/a', 'xmin', 'text')"), '22023 hint', 'the name of a system column');
is(error_of("SELECT sophia.add_field('contacts', '/a', 'a', 'anyelement')"), '22023 hint', 'a type that holds no values');
is(error_of("SELECT sophia.add_field('contacts', NULL, 'a', 'text')"), '22004', 'NULL');

# the owner of the table does the DDL, and needs no more than the right to call
sql('CREATE ROLE keeper; CREATE ROLE caller; GRANT USAGE, CREATE ON SCHEMA hubspot_raw TO keeper; ALTER TABLE hubspot_raw.contacts OWNER TO keeper');
sql('GRANT EXECUTE ON FUNCTION sophia.add_field TO caller');
sql("SET ROLE caller; SELECT sophia.add_field('contacts', '/properties/colour', 'Odd \"Name\"', 'text')");
ok(filled('hubspot_raw.contacts', 'Odd "Name"'), 'a caller without other rights, an owner without superuser, a strange name');
is(sql(qq{SELECT count(*) FROM hubspot_raw.contacts WHERE "Odd ""Name""" = doc #>> '{properties,colour}'}), $many, 'filled');
is(error_of('SET ROLE keeper; SELECT sophia.add_field(NULL, NULL, NULL, NULL)'), '42501', 'nobody else may call it');

# what another session holds is waited for without holding up the stream
sql("SELECT sophia.stop_stream('contacts')");
sql("SELECT sophia.add_field('contacts', '/properties/firstname', 'first', 'text')");
my $holder = hold("SELECT FROM hubspot_raw.contacts WHERE id = 'c9' FOR UPDATE");
sql("SELECT sophia.start_stream('contacts')");
feed('contacts', { id => 'meanwhile', properties => { firstname => 'Ada' } });
is(sql("SELECT first FROM hubspot_raw.contacts WHERE id = 'meanwhile'"), 'Ada', 'a row that somebody locked does not stop the stream');
is(sql("SELECT phase FROM sophia.stream_progress WHERE field = 'first'"), 'filling', 'only the fill waits for it');
$node->restart('immediate');
eval { $holder->{run}->finish };
ok(filled('hubspot_raw.contacts', 'first'), 'it goes on after a crash');
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE first IS DISTINCT FROM firstname"), 0, 'and fills every row');

# tables whose rows are elements
$node->follow('transcripts', 'acme/transcripts', 'gong.call_transcripts');
feed('transcripts', { callId => 'k1', transcript => [ map { { speakerId => "s$_", topic => "t$_", mood => "m$_", sentences => [ { start => $_, end => $_ + 1, text => "x$_" } ] } } 1 .. 3 ] });
sql("SELECT sophia.add_field('transcripts', '/mood', 'mood', 'text')");
ok(filled('gong_raw.call_transcripts', 'mood'), 'the table of elements');
is(sql("SELECT string_agg(mood, ' ' ORDER BY seq) FROM gong_raw.call_transcripts"), 'm1 m2 m3', 'each row from its own element');

# create_schemas lives with it, also anew
is(sql("SELECT DISTINCT action FROM sophia.create_schemas()"), 'exists', 'create_schemas has nothing to add');
is(sql('SELECT count(*) FROM sophia.missing_indexes()'), 0, 'nor has missing_indexes');
sql('ALTER TABLE hubspot_raw.contacts DROP COLUMN first');
feed('contacts', { id => 'dropped', properties => { firstname => 'Bob' } });
is(sql("SELECT firstname FROM hubspot_raw.contacts WHERE id = 'dropped'"), 'Bob', 'a column that the user dropped is not missed');
is(sql("SELECT object FROM sophia.create_schemas() WHERE action = 'column added'"), 'hubspot_raw.contacts.first', 'create_schemas brings it back');

# ---- evolve ----

$node->follow('deals', 'acme/deals', 'hubspot.deals', { evolve => 'auto' });
feed('deals', { id => 'd1', properties => { dealname => 'one', margin => 3, stage_age => 4.5, won => JSON::PP::true, 'Next Step' => 'call', list => [ 1 ], nothing => undef },
	region => 'north', ctid => 'x', nested => { deep => 1 } });
is(evolved('hubspot_raw.deals', 'margin'), 'bigint', 'a new field that is an integer');
is(evolved('hubspot_raw.deals', 'stage_age'), 'numeric', 'a number');
is(evolved('hubspot_raw.deals', 'won'), 'boolean', 'a boolean');
is(evolved('hubspot_raw.deals', 'next_step'), 'text', 'a text, under a name that needs no quotes');
is(evolved('hubspot_raw.deals', 'region'), 'text', 'a member of the root');
is(evolved('hubspot_raw.deals', 'ctid_2'), 'text', 'a reserved name gets a number');
is(sql("SELECT count(*) FROM sophia.fields WHERE table_name = 'deals'"), 6, 'objects, arrays and nulls get none');
is(sql("SELECT margin, stage_age, won, next_step, region, ctid_2 FROM hubspot_raw.deals"), '3|4.5|t|call|north|x', 'the document that brought them has its values');
is(sql("SELECT change, new_type, reason, journal, begin_offset FROM sophia.schema_changes WHERE column_name = 'margin'"), 'column added|bigint|new field|acme/deals/pivot=00|0',
	'schema_changes names it');
my $at = feed('deals', { id => 'd2', properties => { margin => 5, region => 'south' } });
is(evolved('hubspot_raw.deals', 'properties_region'), 'text', 'a name that is taken is made from the whole pointer');
is(sql("SELECT region, properties_region FROM hubspot_raw.deals ORDER BY id"), "north|\n|south", 'two fields, two columns');

feed('deals', { id => 'd3', properties => { margin => 2.5, won => 'perhaps' } });
is(type_of('hubspot_raw.deals', 'margin') . ' ' . type_of('hubspot_raw.deals', 'won'), 'numeric text', 'their types follow the values');
is(sql("SELECT margin FROM hubspot_raw.deals ORDER BY id"), "3\n5\n2.5", 'no value is lost');
feed('deals', { id => 'd4', properties => { margin => 'n/a' } }, { id => 'd5', properties => { margin => 7 } });
is(type_of('hubspot_raw.deals', 'margin'), 'text', 'numeric becomes text');
ok(filled('hubspot_raw.deals', 'margin') && filled('hubspot_raw.deals', 'won'), 'texts are filled anew');
is(sql("SELECT string_agg(margin, ' ' ORDER BY id), string_agg(won, ' ' ORDER BY id) FROM hubspot_raw.deals"), '3 5 2.5 n/a 7|true perhaps', 'as the documents have them');
is(sql("SELECT old_type, new_type, reason FROM sophia.schema_changes WHERE column_name = 'margin' AND change = 'column widened' ORDER BY id"),
	qq{bigint|numeric|value "2.5" of column "margin" is no integer\nnumeric|text|value "n/a" of column "margin" is no number}, 'each step is recorded with the value');
feed('deals', { id => 'd6', properties => { amount => 'much' } });
is(sql("SELECT sqlstate FROM sophia.dead_letters WHERE stream = 'deals'"), '22P02', 'a column of the shape is left alone');
is(type_of('hubspot_raw.deals', 'amount'), 'numeric', 'and keeps its type');

# the limit
feed('deals', { id => 'd7', properties => { map { ("extra$_" => 'x') } 1 .. 10 } });
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM sophia.schema_changes WHERE change = 'column refused'");
is(sql("SELECT count(*) FROM sophia.fields WHERE table_name = 'deals' AND origin = 'evolve'"), 12, 'no more columns than evolve_limit');
like(sql("SELECT error FROM sophia.schema_changes WHERE change = 'column refused'"), qr/evolve_limit/, 'which is recorded');
is(sql("SELECT doc #>> '{properties,extra10}' FROM hubspot_raw.deals WHERE id = 'd7'"), 'x', 'the others stay in doc');
is(sql("SELECT count(*) FROM sophia.new_fields"), 0, 'and nothing waits');

# explicit dead letters
$node->follow('owners', 'acme/owners', 'hubspot.owners', { evolve => 'auto', misfit => 'dead_letter' });
feed('owners', { id => 'o1', level => 1 });
is(evolved('hubspot_raw.owners', 'level'), 'bigint', 'evolve with misfit = dead_letter');
feed('owners', { id => 'o2', level => 'boss' }, { id => 'o3', level => 2 });
is(sql("SELECT id, level FROM hubspot_raw.owners ORDER BY id") . ' ' . sql("SELECT sqlstate FROM sophia.dead_letters WHERE stream = 'owners'"), "o1|1\no3|2 22P02", 'makes dead letters');

# a table that is read all the time does not hold up the stream
$holder = hold('SELECT count(*) FROM hubspot_raw.owners');
feed('owners', { id => 'o4', team => 'blue' });
is(sql("SELECT doc ->> 'team' FROM hubspot_raw.owners WHERE id = 'o4'"), 'blue', 'a reader of the table does not keep a document with a new field away');
is(sql("SELECT pointer FROM sophia.new_fields"), '/team', 'the field waits for its column');
$node->restart('immediate');
eval { $holder->{run}->finish };
is(evolved('hubspot_raw.owners', 'team'), 'text', 'and gets it, also after a crash');
is(sql("SELECT team FROM hubspot_raw.owners WHERE id = 'o4'"), 'blue', 'with its value');

# ---- misfit = widen ----

$node->follow('wide', 'acme/wide', 'hubspot.deals', { misfit => 'widen' });
feed('wide', { id => 'w1', properties => { amount => '1.50' } });
$at = feed('wide', { id => 'w2', properties => { amount => 'n/a' } }, { id => 'w3', properties => { amount => 3 } }, { id => 'w2', properties => { dealname => 'two' } });
is(type_of('hubspot_raw.deals', 'amount'), 'text', 'a column of the shape is widened');
ok(filled('hubspot_raw.deals', 'amount'), 'and filled anew');
is(sql("SELECT amount, dealname FROM hubspot_raw.deals WHERE id LIKE 'w%' ORDER BY id"), "1.50|\nn/a|two\n3|", 'the document is applied');
is(sql("SELECT change, old_type, new_type, journal, begin_offset FROM sophia.schema_changes WHERE stream = 'wide'"), "column widened|numeric|text|acme/wide/pivot=00|$at", 'and recorded');
is($node->status('wide', 'documents_applied, documents_dead'), '4|0', 'documents count once');
is(sql("SELECT DISTINCT action FROM sophia.create_schemas()"), 'exists', 'create_schemas has nothing against it');
feed('deals', { id => 'd8', properties => { amount => 'many' } });
is(sql("SELECT amount FROM hubspot_raw.deals WHERE id = 'd8'"), 'many', 'another stream of the table knows the wider column');
feed('wide', { id => 'w4', properties => { createdate => 'yesterday' } });
is(sql("SELECT sqlstate FROM sophia.dead_letters WHERE stream = 'wide'"), '22007', 'a column that a transform reads is not widened');

# a row met while its column is filled
$node->follow('firms', 'acme/firms', 'hubspot.companies', { misfit => 'widen' });
feed('firms', { id => 'f1', properties => { size => 7 } }, { id => 'f2', properties => { size => 'large' } });
sql("SELECT sophia.add_field('firms', '/properties/size', 'size', 'bigint')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM sophia.schema_changes WHERE change = 'column widened' AND column_name = 'size'"),
	'a value of a row widens the column that is filled');
is(evolved('hubspot_raw.companies', 'size'), 'text', 'to a type that holds it');
is(sql("SELECT size FROM hubspot_raw.companies WHERE id ~ '^f' ORDER BY id"), "7\nlarge", 'in every row');
is(sql("SELECT reason, journal, begin_offset FROM sophia.schema_changes WHERE change = 'column widened' AND column_name = 'size'"),
	'value "large" of column "size" is no integer||', 'and is recorded, without a document');
is(sql("SELECT column_type FROM sophia.fields WHERE column_name = 'size'"), 'text', 'sophia.fields names the type as everywhere');

# a view in the way
sql('CREATE VIEW public.closing AS SELECT id, closedate FROM hubspot_raw.deals');
feed('wide', { id => 'w5', properties => { closedate => 'soon' } }, { id => 'w6', properties => {} });
is(sql("SELECT sqlstate FROM sophia.dead_letters WHERE stream = 'wide' ORDER BY id DESC LIMIT 1"), '22007', 'where a view reads the column, the document is a dead letter');
like(sql("SELECT change || ': ' || error FROM sophia.schema_changes WHERE column_name = 'closedate'"), qr/^widening refused: .*view/, 'and the refusal is recorded');
is(sql("SELECT count(*) FROM hubspot_raw.deals WHERE id = 'w6'"), 1, 'the stream goes on');
feed('wide', { id => 'w7', properties => { closedate => 'later' } });
is(sql("SELECT count(*) FROM sophia.schema_changes WHERE column_name = 'closedate'"), 1, 'once');

# a lock in the way
$holder = hold('SELECT count(*) FROM hubspot_raw.deals');
$journal{wide}->write($p->transaction({ id => 'w8', properties => { hs_is_closed_won => 'maybe' } }));
$node->poll_query_until('postgres', "SELECT last_error LIKE '%lock timeout%' FROM sophia.stream_status WHERE stream = 'wide'");
is($node->status('wide', 'state'), 'running', 'a lock is waited for, and last_error says so');
release($holder);
ok($node->await_stream('wide'), 'when it is gone');
is(sql("SELECT is_closed_won FROM hubspot_raw.deals WHERE id = 'w8'"), 'maybe', 'the column is widened');
is($node->status('wide', 'last_error'), '', 'and the error is gone');

# ---- tables of the user ----

sql(q(CREATE SCHEMA chat; CREATE TABLE chat.posts (id bigint NOT NULL, body text, mine text) PARTITION BY HASH (id);
	CREATE TABLE chat.posts_0 PARTITION OF chat.posts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE chat.posts_1 PARTITION OF chat.posts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE UNIQUE INDEX ON chat.posts (id)));
sql(q(SELECT sophia.create_table_for('{"type": "object", "properties": {"id": {"type": "integer"}, "body": {"type": "string"}}}', 'chat.posts', '{/id}')));
$node->follow('posts', 'acme/posts', 'generic', { table => 'chat.posts', key => ['/id'], evolve => 'auto', misfit => 'widen' });
feed('posts', map { { id => $_, body => "b$_", likes => $_, author => { name => "a$_" } } } 1 .. 40);
is(evolved('chat.posts', 'likes'), 'bigint', 'evolve in a partitioned table of the user, without a primary key');
sql("SELECT sophia.add_field('posts', '/author/name', 'author', 'text')");
ok(filled('chat.posts', 'author'), 'add_field there');
is(sql("SELECT count(*), count(*) FILTER (WHERE likes = id AND author = 'a' || id) FROM chat.posts"), '40|40', 'each row has its own values');
feed('posts', { id => 41, likes => 0.5, author => { name => 'x' } }, { id => 'none' });
is(type_of('chat.posts', 'likes') . ' ' . type_of('chat.posts', 'id'), 'numeric bigint', 'a column is widened, a key never');
is($node->status('posts', 'documents_dead'), 1, 'what does not fit the key is a dead letter');
sql("UPDATE chat.posts SET mine = 'note' WHERE id = 1");
is(error_of("SELECT sophia.add_field('posts', '/body', 'mine', 'text')"), '42710 hint', 'a column in which the user keeps something is refused');
sql('UPDATE chat.posts SET mine = NULL');
sql("SELECT sophia.add_field('posts', '/body', 'mine', 'text')");
ok(filled('chat.posts', 'mine'), 'an empty one is taken over');
is(sql("SELECT count(*) FROM chat.posts WHERE mine IS DISTINCT FROM body"), 0, 'and filled');

# without the extension that added them, columns are known by their comment
sql('SELECT sophia.drop_stream(stream) FROM sophia.streams');
sql('DROP SCHEMA chat CASCADE; DROP EXTENSION sophia_stack CASCADE; CREATE EXTENSION sophia_stack');
$node->prepare('postgres');
is(sql("SELECT count(*) FROM sophia.fields"), 0, 'a new extension knows no fields');
$node->follow('again', 'acme/contacts', 'hubspot.contacts');
ok($node->await_stream('again'), 'the collection is read again');
sql("SELECT sophia.add_field('again', '/properties/score', 'score', 'bigint')");
ok(filled('hubspot_raw.contacts', 'score'), 'a column that is left is taken over');
is(error_of("SELECT sophia.add_field('again', '/properties/colour', 'score', 'bigint')"), '42710 hint', 'for its own field only');

$node->stop;

# ---- without a worker ----

my $plain = Sophia::Cluster->create('plain', preload => 0);
$plain->safe_psql('postgres', "SELECT count(*) FROM sophia.create_schemas()");
$plain->safe_psql('postgres', "SELECT sophia.create_endpoint('far', 'broker', 'http://127.0.0.1:1')");
$plain->safe_psql('postgres', "SELECT sophia.create_stream('idle', 'far', 'acme/contacts', 'hubspot.contacts')");
$plain->safe_psql('postgres', "SELECT sophia.add_field('idle', '/properties/score', 'score', 'bigint')");
is($plain->safe_psql('postgres', "SELECT count(*), count(score) FROM hubspot_raw.contacts"), '0|0', 'without a worker the column is there, too');
is($plain->safe_psql('postgres', "SELECT phase FROM sophia.stream_progress WHERE field = 'score'"), 'stopped', 'and waits for one to be filled');
$plain->safe_psql('postgres', 'DROP TABLE hubspot_raw.contacts');
my (undef, undef, $err) = $plain->psql('postgres', "\\set VERBOSITY verbose\nSELECT sophia.add_field('idle', '/a', 'a', 'text')");
like($err, qr/42P01/, 'a table that is gone has no columns');
is($plain->safe_psql('postgres', "SELECT count(*) FROM sophia.create_schemas() WHERE action = 'created' AND kind = 'table'"), 1, 'create_schemas makes it anew');
is($plain->safe_psql('postgres', "SELECT count(score) FROM hubspot_raw.contacts"), 0, 'with the column');
$plain->stop;
done_testing();
