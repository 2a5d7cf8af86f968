# Tables that Estuary's own PostgreSQL materialization writes, in each of their forms and through each change of their schema.
use strict;
use warnings;
use JSON::PP ();
use Sophia::Ingest;
use Sophia::Materialization;
use Test::More;

my $node = Sophia::Ingest->create('adopt');
$node->safe_psql('postgres', 'CREATE ROLE estuary LOGIN; GRANT CREATE ON DATABASE postgres TO estuary;
	GRANT EXECUTE ON FUNCTION sophia.adopt_new_table, sophia.adopt_table TO estuary');

# What nobody announces is found by the worker within five seconds, and at once by feed_adopted().
# Waits for what a query gives, and compares.
sub becomes
{
	my ($sql, $expected, $what) = @_;
	$node->poll_query_until('postgres', $sql, $expected);
	return is($node->rows($sql), $expected, $what);
}

# What an adopted table is said to be.
sub state_of
{
	my ($landing, $columns) = @_;
	return $node->rows("SELECT $columns FROM sophia.adopted_tables WHERE landing = '$landing'");
}

my @crm = ([ 'id', 'BIGINT', 'integer' ]);
my @depth_1 = (
	[ '_meta/op', 'TEXT', 'string' ], [ 'archived', 'BOOLEAN NOT NULL', 'boolean' ], [ 'companies', 'JSON', 'array' ],
	[ 'createdAt', 'TIMESTAMPTZ NOT NULL', 'string' ], [ 'properties', 'JSON NOT NULL', 'object' ],
	[ 'updatedAt', 'TIMESTAMPTZ NOT NULL', 'string' ], [ 'url', 'TEXT', 'string' ]);
my @flat = (
	[ '_meta/op', 'TEXT', 'string' ], [ 'archived', 'BOOLEAN', 'boolean' ], [ 'companies', 'JSON', 'array' ],
	[ 'createdAt', 'TIMESTAMPTZ', 'string' ], [ 'updatedAt', 'TIMESTAMPTZ', 'string' ], [ 'properties/email', 'TEXT', 'string' ],
	[ 'properties/firstname', 'TEXT', 'string' ], [ 'properties/hs_score', 'NUMERIC', 'number string' ]);

sub contact
{
	my ($id, $email, %more) = @_;
	return { id => $id, archived => JSON::PP::false, companies => [ 7, 8 ], createdAt => '2024-01-02T03:04:05.678Z',
		updatedAt => '2024-02-03T04:05:06Z', url => "https://hubspot.example/$id",
		properties => { email => $email, firstname => "Ada $id", hs_score => '12.50' }, %more };
}

# ---- depth 1, with flow_document, by the additional table create SQL ----

my $contacts = Sophia::Materialization->new($node, 'estuary_hubspot.contacts', collection => 'acmeCo/hubspot/contacts',
	keys => \@crm, values => [@depth_1], user => 'estuary', sql => $node->rows("SELECT sophia.adoption_sql('hubspot.contacts')"));
$contacts->create;
is(state_of('estuary_hubspot.contacts', 'shape, state, rows_fed, last_error'), 'hubspot.contacts|feeding|0|',
	'the additional SQL adopts the table as the role of the materialization');
$contacts->store(contact(1, 'one@example.com'), contact(2, 'two@example.com'));
my $fed = "SELECT id, email, firstname, company_ids, createdate, is_deleted FROM hubspot_raw.contacts ORDER BY id";
becomes($fed, "1|one\@example.com|Ada 1|{7,8}|2024-01-02 03:04:05.678+00|f\n2|two\@example.com|Ada 2|{7,8}|2024-01-02 03:04:05.678+00|f",
	'rows land in the raw table');
is($node->rows("SELECT doc = d.flow_document::jsonb, source_published_at = d.flow_published_at, source_journal
	FROM hubspot_raw.contacts AS c JOIN estuary_hubspot.contacts AS d ON d.id::text = c.id WHERE c.id = '1'"),
	't|t|estuary_hubspot.contacts', 'with the whole document and the time of its publication');

$contacts->store(contact(1, 'uno@example.com'), contact(2, 'two@example.com', _meta => { op => 'd' }));
becomes('SELECT id, email, is_deleted FROM hubspot_raw.contacts ORDER BY id', "1|uno\@example.com|f\n2|two\@example.com|t",
	'an update is fed, and a soft delete marks the row');
$contacts->delete(contact(1, 'uno@example.com'));
becomes("SELECT is_deleted, doc #>> '{_meta,op}' FROM hubspot_raw.contacts WHERE id = '1'", 't|d', 'a hard delete marks it, too');
$contacts->store(contact(1, 'eins@example.com'));
becomes("SELECT email, is_deleted FROM hubspot_raw.contacts WHERE id = '1'", 'eins@example.com|f', 'and a new row brings it back');
$contacts->run("UPDATE estuary_hubspot.contacts SET \"_meta/op\" = 'd' WHERE id = 1");
becomes("SELECT is_deleted FROM hubspot_raw.contacts WHERE id = '1'", 't', 'a mark of deletion that the document lacks counts');

my $before = state_of('estuary_hubspot.contacts', 'rows_fed');
$contacts->run('UPDATE estuary_hubspot.contacts SET url = url, flow_document = flow_document');
is($node->rows('SELECT count(*) FROM sophia.landed_rows') . state_of('estuary_hubspot.contacts', 'rows_fed'), "0$before",
	'an update that says nothing new is not fed');

# ---- what a document may hold, and what must not stop Estuary ----

{
	local $contacts->{raw} = '{"id": 3, "properties": {"email": "nul\u0000@example.com"}}';
	$contacts->store(contact(3, 'x'));
	local $contacts->{raw} = '{"id": 4, "properties": {"email": "\ud800"}}';
	$contacts->store(contact(4, 'x'));
	local $contacts->{raw} = '{"id": 5, "properties": "none", "createdAt": 12.340000000000000000001}';
	$contacts->store(contact(5, 'five@example.com'));
}
becomes("SELECT convert_from(document, 'UTF8') ~ 'id', sqlstate FROM sophia.dead_letters WHERE stream = 'estuary_hubspot.contacts' ORDER BY id LIMIT 2",
	"t|22P05\nt|22P02", 'documents that no row can hold become dead letters, whole');
becomes("SELECT count(*) FROM sophia.dead_letters", 3, 'and so does a value that fits no column');
is(state_of('estuary_hubspot.contacts', 'state, rows_dead, rows_waiting'), 'feeding|3|0', 'feeding goes on');

$node->safe_psql('postgres', 'ALTER TABLE hubspot_raw.contacts RENAME TO elsewhere');
$contacts->store(contact(6, 'six@example.com'));
becomes("SELECT state, last_error ~ 'contacts' FROM sophia.adopted_tables WHERE landing = 'estuary_hubspot.contacts'", 'failing|t',
	'without the raw table Estuary still writes, and the error is shown');
$node->safe_psql('postgres', 'ALTER TABLE hubspot_raw.elsewhere RENAME TO contacts');
$node->safe_psql('postgres', 'SELECT sophia.feed_adopted()');
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '6'", 'six@example.com', 'what landed meanwhile is fed later');
becomes("SELECT state FROM sophia.adopted_tables WHERE landing = 'estuary_hubspot.contacts'", 'feeding', 'and the error is gone');

my $locker = $node->background_psql('postgres', on_error_stop => 1);
$locker->query_safe('BEGIN; LOCK TABLE hubspot_raw.contacts IN ACCESS EXCLUSIVE MODE');
$contacts->store(contact(7, 'seven@example.com'));
pass('a lock on the raw table does not keep Estuary waiting');
$locker->query_safe('COMMIT');
$locker->quit;
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '7'", 'seven@example.com', 'and is waited for');

$contacts->run("BEGIN; " . $contacts->store_sql(contact(8, 'eight@example.com')) . '; ROLLBACK');
delete $contacts->{known}{8};
is($node->rows('SELECT count(*) FROM sophia.landed_rows'), 0, 'what is rolled back leaves nothing');

# Whatever the session has set, and whatever types somebody chose, Estuary's transaction goes on.
$contacts->run(q(CREATE SCHEMA hostile;
	CREATE FUNCTION hostile.escape_json(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hostile'; END $$;
	CREATE DOMAIN hostile.score AS numeric CHECK (VALUE IS NULL OR VALUE <> 13);
	CREATE TYPE hostile.pair AS (a integer, b text);
	CREATE TABLE hostile.contacts (id hostile.score PRIMARY KEY, n double precision, t timestamptz, pair hostile.pair, list text[],
		period tstzrange, flow_published_at timestamptz NOT NULL)));
$contacts->run(q(SELECT sophia.adopt_table('hostile.contacts', 'hubspot.contacts')));
$contacts->run(q~SET search_path = hostile; SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German'; SET extra_float_digits = -15;
	SET lock_timeout = '1ms'; SET bytea_output = 'escape'; BEGIN ISOLATION LEVEL SERIALIZABLE; SAVEPOINT s;
	INSERT INTO contacts VALUES (40, 'NaN', 'infinity', (1, 'x"y'), '{a,b}', '[2024-01-01,)', 'infinity'); ROLLBACK TO s;
	INSERT INTO contacts VALUES (41, '-Infinity', '-infinity', (1, 'x"y'), '{a,b}', 'empty', '0001-01-01 BC');
	INSERT INTO contacts VALUES (42, 0.1, '2024-01-02 03:04:05+00', (1, 'x"y'), '{a,b}', 'empty', '2024-01-02 03:04:05+00'); COMMIT~);
becomes(q(SELECT doc - '_meta' - 'period', source_published_at FROM hubspot_raw.contacts WHERE id IN ('40', '41', '42') ORDER BY id),
	q({"n": "-Infinity", "t": "-infinity", "id": 41, "list": "{a,b}", "pair": "(1,\"x\"\"y\")"}|1582-10-15 00:00:00+00) . "\n"
	  . q({"n": 0.1, "t": "2024-01-02T03:04:05+00:00", "id": 42, "list": "{a,b}", "pair": "(1,\"x\"\"y\")"}|2024-01-02 03:04:05+00),
	'whatever the session has set and the columns are');
$contacts->run(q(INSERT INTO hostile.contacts (id, flow_published_at) VALUES (42, now()) ON CONFLICT (id) DO UPDATE SET n = 1;
	MERGE INTO hostile.contacts AS c USING (VALUES (43)) AS v (id) ON c.id = v.id
		WHEN NOT MATCHED THEN INSERT (id, flow_published_at) VALUES (v.id, '2024-01-03')));
becomes("SELECT count(*) FROM hubspot_raw.contacts WHERE (id, doc ->> 'n') = ('42', '1') OR id = '43'", 2, 'and by whatever statement');
$node->safe_psql('postgres', "SELECT sophia.release_table('hostile.contacts')");

# ---- schema evolution ----

$contacts->add_column('propertiesWithHistory', 'JSON', 'object');
$contacts->store(contact(9, 'nine@example.com', propertiesWithHistory => { email => [ { value => 'old' } ] }));
becomes("SELECT doc #>> '{propertiesWithHistory,email,0,value}' FROM hubspot_raw.contacts WHERE id = '9'", 'old', 'a column is added');

my $flat = Sophia::Materialization->new($node, 'estuary_flat.contacts', collection => 'acmeCo/hubspot/contacts', document => 0,
	keys => \@crm, values => [@flat], user => 'estuary', clock => 1_710_000_000);
$flat->create;
$flat->store(contact(20, 'twenty@example.com'), contact(21, 'x@example.com'));
$node->safe_psql('postgres', "SELECT sophia.adopt_table('estuary_flat.contacts', 'hubspot.contacts')",
	connstr => $node->connstr('postgres') . ' user=estuary');
is($node->rows("SELECT email, firstname, company_ids, createdate, doc #>> '{properties,hs_score}' FROM hubspot_raw.contacts WHERE id = '20'"),
	'twenty@example.com|Ada 20|{7,8}|2024-01-02 03:04:05.678+00|12.50', 'flat columns are put together; the rows of a small table are there at once');
is($node->rows("SELECT source_published_at FROM hubspot_raw.contacts WHERE id = '20'"), '2024-03-09 16:00:00+00',
	'with the time of the column as the time of publication');

$flat->store({ %{ contact(20, 'twenty@example.com') }, properties => { email => undef, firstname => 'Ada' } });
becomes("SELECT email, doc #>> '{properties,hs_score}', doc -> 'properties' ? 'email' FROM hubspot_raw.contacts WHERE id = '20'", '||t',
	'a value that is gone becomes null');

my @evolution = (
	[ 'properties/city', sub { $flat->add_column('properties/city', 'TEXT', 'string') }, 'a column is added', 'Ulm', 'Ulm' ],
	[ 'properties/hs_score', sub { $flat->alter_type('properties/hs_score', 'DOUBLE PRECISION') }, 'numeric becomes double', '3.5', '3.5' ],
	[ 'properties/hs_score', sub { $flat->alter_type('properties/hs_score', 'TEXT') }, 'double becomes text', 'high', 'high' ],
	[ 'properties/n', sub { $flat->add_column('properties/n', 'BIGINT', 'integer') }, 'an integer is added', '41', '41' ],
	[ 'properties/n', sub { $flat->alter_type('properties/n', 'NUMERIC') }, 'bigint becomes numeric',
		'123456789012345678901234567890', '123456789012345678901234567890' ],
	[ 'properties/n', sub { $flat->alter_type('properties/n', 'JSON', 'to_json("properties/n")') }, 'anything becomes json',
		{ a => 1 }, '{"a": 1}' ],
	[ 'properties/n', sub { $flat->alter_type('properties/n', 'JSONB') }, 'json becomes jsonb', [ 1, 'b' ], '[1, "b"]' ],
	[ 'properties/t', sub { $flat->add_column('properties/t', 'TIMESTAMPTZ', 'string') }, 'a time is added',
		'2024-05-06T07:08:09Z', '2024-05-06T07:08:09+00:00' ],
	[ 'properties/t', sub { $flat->alter_type('properties/t', 'TEXT',
				q(to_char("properties/t" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USZ'))) }, 'a time becomes text',
		'2024-05-06T07:08:09.000000Z', '2024-05-06T07:08:09.000000Z' ],
	[ 'properties/stage', sub {
			$flat->run(q(CREATE TYPE estuary_flat."contacts_properties/stage_flow_enum" AS ENUM ('lead', 'customer')));
			$flat->add_column('properties/stage', 'estuary_flat."contacts_properties/stage_flow_enum"', 'string');
		}, 'an enumeration is added', 'lead', 'lead' ],
	[ 'properties/stage', sub {
			$flat->run(q(ALTER TYPE estuary_flat."contacts_properties/stage_flow_enum" ADD VALUE IF NOT EXISTS 'evangelist'));
		}, 'an enumeration gains a value', 'evangelist', 'evangelist' ],
	[ 'properties/stage', sub { $flat->alter_type('properties/stage', 'TEXT') }, 'an enumeration becomes text', 'other', 'other' ],
	[ 'properties/firstname', sub { $flat->replace_type('properties/firstname', 'VARCHAR(200)') }, 'a type changes by a column beside',
		'Grace', 'Grace' ],
	[ 'companies', sub { $flat->alter_type('companies', 'TEXT') }, 'json becomes text', [ 3, 4 ], '[3, 4]' ],
	[ 'archived', sub { $flat->run('ALTER TABLE estuary_flat.contacts ALTER COLUMN archived SET NOT NULL'); $flat->drop_not_null('archived') },
		'a column may be null', JSON::PP::true, 'true' ]);
for my $step (@evolution)
{
	my ($field, $change, $what, $value, $expected) = @$step;
	my $document = contact(21, "$what\@example.com");
	if (my ($property) = $field =~ m{^properties/(.*)}) { $document->{properties}{$property} = $value }
	else { $document->{$field} = $value }
	$change->();
	$flat->store($document);
	my $path = $field =~ s{/}{,}r;
	becomes("SELECT doc #>> '{$path}', email FROM hubspot_raw.contacts WHERE id = '21'", "$expected|$what\@example.com", $what);
}
is($node->rows("SELECT company_ids FROM hubspot_raw.contacts WHERE id = '21'"), '{7,8}', 'an array in a text is an array');
is(state_of('estuary_flat.contacts', 'state, rows_dead, last_error'), 'feeding|0|', 'none of which is an error');

# Backfill: the table is emptied, or made anew; documents come again, older states first.
$contacts->store(contact(30, 'new@example.com'));
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '30'", 'new@example.com', 'before a backfill');
my $rows = $node->rows('SELECT count(*) FROM hubspot_raw.contacts WHERE NOT is_deleted');
$contacts->truncate;
$contacts->transaction($contacts->store_sql(contact(30, 'old@example.com', url => undef), 1_600_000_000));
$contacts->store(contact(31, 'later@example.com'));
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '31'", 'later@example.com', 'TRUNCATE: what comes after it is fed');
is($node->rows("SELECT email FROM hubspot_raw.contacts WHERE id = '30'"), 'new@example.com', 'an older state does not come back');
is($node->rows('SELECT count(*) FROM hubspot_raw.contacts WHERE NOT is_deleted'), $rows + 1, 'and nothing counts as deleted');

$contacts->recreate;
$contacts->store(contact(32, 'again@example.com'));
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '32'", 'again@example.com', 'DROP TABLE: the new table is adopted as it is made');

# Without the additional SQL the worker finds the table by its name.
$flat->recreate;
$flat->store(contact(33, 'found@example.com'));
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '33'", 'found@example.com', 'a table that was made anew is found by its name');
becomes("SELECT state FROM sophia.adopted_tables WHERE landing = 'estuary_flat.contacts'", 'feeding', 'and feeds');
$flat->store(contact(34, 'goes.on@example.com'));
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '34'", 'goes.on@example.com', 'and goes on feeding');
$node->safe_psql('postgres', 'DROP TABLE estuary_flat.contacts; CREATE TABLE estuary_flat.contacts (id bigint, flow_document json);
	INSERT INTO estuary_flat.contacts VALUES (35, \'{"id": 35}\')');
$node->safe_psql('postgres', 'SELECT sophia.feed_adopted()');
becomes("SELECT state, last_error ~ 'another role' FROM sophia.adopted_tables WHERE landing = 'estuary_flat.contacts'", 'detached|t',
	'a table of another role does not take its place by itself');
is($node->rows("SELECT count(*) FROM hubspot_raw.contacts WHERE id = '35'"), 0, 'and feeds nothing');

$contacts->run('ALTER TABLE estuary_hubspot.contacts DISABLE TRIGGER sophia_adopted');
$contacts->store(contact(36, 'disabled@example.com'));
$node->safe_psql('postgres', 'SELECT sophia.feed_adopted()');
becomes("SELECT state FROM sophia.adopted_tables WHERE landing = 'estuary_hubspot.contacts'", 'detached', 'a trigger that is disabled stays so');
$contacts->run('ALTER TABLE estuary_hubspot.contacts ENABLE TRIGGER sophia_adopted');
$node->safe_psql('postgres', 'SELECT sophia.feed_adopted()');
becomes("SELECT email FROM hubspot_raw.contacts WHERE id = '36'", 'disabled@example.com', 'and what it missed is read once it is enabled');

# ---- delta updates ----

my $delta = Sophia::Materialization->new($node, 'estuary_delta.messages', collection => 'acmeCo/slack/threads', delta => 1,
	keys => [ [ 'channel_id', 'TEXT', 'string' ], [ 'ts', 'TEXT', 'string' ] ],
	values => [ [ 'text', 'TEXT', 'string' ], [ 'reply_count', 'BIGINT', 'integer' ], [ 'reactions', 'JSON', 'array' ] ]);
$delta->create;
$delta->store({ channel_id => 'C1', ts => '1700000000.000100', text => 'first', reply_count => 1 });
$node->safe_psql('postgres', "SELECT sophia.adopt_table('estuary_delta.messages', 'slack.messages')");
$delta->store({ channel_id => 'C1', ts => '1700000000.000100', reply_count => 2 });
$delta->store({ channel_id => 'C1', ts => '1700000000.000100', reply_count => 3, reactions => [ { name => 'tada' } ] });
becomes('SELECT channel, ts, text, reply_count, from_stream FROM slack_raw.messages', 'C1|1700000000.000100|first|3|threads',
	'the rows of delta updates are merged in their order');

# ---- the other sources; names cut to 63 bytes ----

my $long = 'hs_' . 'x' x 70;
my $deals = Sophia::Materialization->new($node, 'estuary_flat.deals', document => 0, keys => \@crm,
	values => [ [ 'properties/dealname', 'TEXT', 'string' ], [ "properties/$long", 'TEXT', 'string' ], [ 'user named', 'TEXT', 'string', '/properties/pipeline' ] ]);
$deals->create;
$node->safe_psql('postgres', "SELECT sophia.adopt_table('estuary_flat.deals', 'hubspot.deals')");
$deals->store({ id => 1, properties => { dealname => 'Big', $long => 'long', pipeline => 'p' } });
becomes("SELECT dealname, pipeline, doc #>> '{properties,$long}' FROM hubspot_raw.deals", 'Big|p|long',
	'names that were cut, or given, are resolved by the comment');

my $calls = Sophia::Materialization->new($node, 'estuary_gong.calls', document => 0, keys => [ [ 'id', 'NUMERIC', 'integer' ] ],
	values => [ [ 'title', 'TEXT', 'string' ], [ 'started', 'TIMESTAMPTZ', 'string' ], [ 'duration', 'BIGINT', 'integer' ],
		[ 'isPrivate', 'BOOLEAN', 'boolean' ], [ 'language', 'TEXT', 'string' ] ]);
$calls->create;
$node->safe_psql('postgres', "SELECT sophia.adopt_table('estuary_gong.calls', 'gong.calls')");
my $call = JSON::PP->new->allow_bignum->decode('{"id": 12345678901234567890, "title": "Demo", "started": "2024-05-06T07:08:09Z", "duration": 60, "isPrivate": false, "language": "eng"}');
$call->{id} = '12345678901234567890';
$calls->store($call);
becomes("SELECT id, title, started, is_private FROM gong_raw.calls", '12345678901234567890|Demo|2024-05-06 07:08:09+00|f',
	'calls of Gong, with an id of 20 digits');

my $users = Sophia::Materialization->new($node, 'estuary_slack.users', keys => [ [ 'id', 'TEXT', 'string' ] ], uuid => 0,
	values => [ [ 'name', 'TEXT', 'string' ], [ 'profile', 'JSON', 'object' ] ]);
$users->create;
$node->safe_psql('postgres', "SELECT sophia.adopt_table('estuary_slack.users', 'slack.users')");
$users->store({ id => 'U1', name => 'ann', profile => { email => 'ann@example.com' } });
$users->store({ id => 'U1', name => 'ann', profile => { email => 'lee@example.com' } });
becomes("SELECT id, name, email, source_published_at FROM slack_raw.users", 'U1|ann|lee@example.com|2023-11-14 22:13:21+00',
	'users of Slack, whose documents have no uuid: the column tells when they were published');
$users->alter_type('flow_published_at', 'TEXT', q(to_char(flow_published_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
$users->store({ id => 'U1', name => 'ann', profile => { email => 'ann.lee@example.com' } });
becomes("SELECT email, source_published_at FROM slack_raw.users", 'ann.lee@example.com|2023-11-14 22:13:22+00', 'also where that became text');

# ---- dead letters are replayed, tables released ----

$node->safe_psql('postgres', "ALTER TABLE slack_raw.users ADD CONSTRAINT short CHECK (length(name) < 6)");
$users->store({ id => 'U2', name => 'too long' });
becomes("SELECT count(*) FROM sophia.dead_letters WHERE stream = 'estuary_slack.users'", 1, 'a constraint makes a dead letter');
$calls->run(q(ALTER TABLE gong_raw.calls ADD CONSTRAINT short CHECK (length(title) < 6)));
$calls->store({ %$call, id => '2', title => 'too long' });
becomes("SELECT count(*) FROM sophia.dead_letters WHERE stream = 'estuary_gong.calls'", 1, 'of a table without flow_document, too');
$calls->run('ALTER TABLE gong_raw.calls DROP CONSTRAINT short');
is($node->rows("SELECT * FROM sophia.replay_dead_letters('estuary_gong.calls')"), '1|0', 'it is replayed');
is($node->rows("SELECT title FROM gong_raw.calls WHERE id = '2'"), 'too long', 'and applied');

$users->store({ id => 'U3', name => 'bo' });
$node->safe_psql('postgres', "SELECT sophia.release_table('estuary_slack.users')");
is($node->rows("SELECT name FROM slack_raw.users WHERE id = 'U3'"), 'bo', 'what waits is fed before a table is released');
$users->store({ id => 'U4', name => 'cy' });
is($node->rows("SELECT (SELECT count(*) FROM sophia.landed_rows), (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'estuary_slack.users'::regclass)"),
	'0|0', 'then nothing is left of it');
$node->safe_psql('postgres', "SELECT sophia.adopt_table('estuary_slack.users', 'slack.users')");
is($node->rows("SELECT name FROM slack_raw.users WHERE id = 'U4'"), 'cy', 'and it may be adopted again');

# ---- a table that is larger than what adopt_table reads at once, while others write ----

$node->safe_psql('postgres', q(CREATE TABLE estuary_hubspot.companies (id bigint PRIMARY KEY, flow_published_at timestamptz NOT NULL, flow_document json NOT NULL);
	INSERT INTO estuary_hubspot.companies SELECT g, to_timestamp(1700000000), json_build_object('id', g, 'properties',
		json_build_object('name', 'old ' || g, 'pad', repeat('x', 700))) FROM generate_series(1, 20000) AS g));
my $writer = $node->beside(q(SELECT sophia.adopt_table('estuary_hubspot.companies', 'hubspot.companies')));
for my $round (1 .. 8)
{
	$node->safe_psql('postgres', "UPDATE estuary_hubspot.companies SET flow_published_at = to_timestamp(1700000000 + $round),
		flow_document = json_build_object('id', id, 'properties', json_build_object('name', 'round $round')) WHERE id % 100 = $round;
		DELETE FROM estuary_hubspot.companies WHERE id % 100 = 50 + $round;");
	$node->safe_psql('postgres', 'VACUUM FULL estuary_hubspot.companies') if $round == 3;
}
$writer->{run}->finish;
is(${ $writer->{err} }, '', 'adopting a large table beside its writers');
becomes("SELECT state, rows_waiting FROM sophia.adopted_tables WHERE landing = 'estuary_hubspot.companies'", 'feeding|0', 'it is read');
is($node->rows("SELECT e.id, e.flow_document #>> '{properties,name}', e.flow_published_at, r.id, r.name, r.is_deleted, r.source_published_at
	FROM estuary_hubspot.companies AS e FULL JOIN hubspot_raw.companies AS r ON r.id = e.id::text
	WHERE CASE WHEN NOT r.is_deleted THEN r.name END IS DISTINCT FROM e.flow_document #>> '{properties,name}' LIMIT 20"), '',
	'and each row is what the table says');

# While somebody has the extension for himself: another table is adopted, and the transaction stays open.
my $adopter = $node->background_psql('postgres', on_error_stop => 1);
$adopter->query_safe(q(BEGIN; CREATE TABLE public.owners (id text PRIMARY KEY, flow_published_at timestamptz NOT NULL, flow_document json NOT NULL);
	SELECT sophia.adopt_table('public.owners', 'hubspot.owners')));
$node->safe_psql('postgres', q(INSERT INTO estuary_hubspot.companies SELECT 30000 + g, now(), json_build_object('id', 30000 + g) FROM generate_series(1, 100) AS g));
$adopter->query_safe('COMMIT');
$adopter->quit;
becomes('SELECT count(*) FROM hubspot_raw.companies WHERE id::int > 30000', 100, 'what is written while another table is adopted is fed');
$node->safe_psql('postgres', "SELECT sophia.release_table('public.owners'); DROP TABLE public.owners");

# ---- what takes the table's place while its rows are being read ----

$node->safe_psql('postgres', q(CREATE SCHEMA swap AUTHORIZATION estuary; SET ROLE estuary;
	CREATE TABLE swap.companies (id bigint PRIMARY KEY, flow_published_at timestamptz NOT NULL, flow_document json NOT NULL);
	CREATE SEQUENCE swap.calls; SELECT sophia.adopt_table('swap.companies', 'hubspot.companies')));
my $swapper = $node->background_psql('postgres', on_error_stop => 1);
$swapper->query_safe(q(SET ROLE estuary; BEGIN; ALTER TABLE swap.companies RENAME TO away;
	CREATE VIEW swap.companies AS SELECT nextval('swap.calls') AS id, now() AS flow_published_at, '{"id": 1}'::json AS flow_document, '(0,1)'::tid AS ctid));
$writer = $node->beside(q(DO $$ BEGIN FOR i IN 1 .. 20 LOOP
	UPDATE sophia.adoptions SET next_block = 0, retry_at = NULL WHERE landing_schema = 'swap' AND attached IS NOT NULL;
	PERFORM sophia.feed_adopted(); END LOOP; END $$));
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'swap.companies'::regclass"), 'reading waits for who alters the table');
$swapper->query_safe('COMMIT');
$swapper->quit;
$writer->{run}->finish;
is(${ $writer->{err} }, '', 'it ends without an error');
is($node->rows('SELECT is_called FROM swap.calls'), 'f', 'a view that took its place is not read');
becomes("SELECT state FROM sophia.adopted_tables WHERE landing = 'swap.companies'", 'detached', 'the table is gone');
$node->safe_psql('postgres', "SELECT sophia.release_table('swap.companies'); DROP SCHEMA swap CASCADE");

# ---- errors; dump; the extension goes ----

my ($error) = $node->error_of("SELECT sophia.adopt_table('estuary_slack.users', 'slack.unknown')");
like($error, qr/^22023: unknown shape "slack\.unknown"/, 'unknown shape');
($error) = $node->error_of("SELECT sophia.adopt_table('estuary_slack.users', 'generic')");
like($error, qr/^22023: a landing table cannot feed shape "generic"/, 'no landing table for the generic shape');
($error) = $node->error_of("SELECT sophia.adopt_table('estuary_slack.users', NULL)");
like($error, qr/^22004: shape must not be null/, 'no shape');
($error) = $node->error_of('SELECT sophia.adopt_new_table(NULL)');
like($error, qr/^22004: shape must not be null/, 'none for a new table either');
($error) = $node->error_of("SELECT sophia.adopt_table('estuary_slack.users', 'slack.channels')");
like($error, qr/^42710: table "estuary_slack\.users" is adopted with shape "slack\.users"/, 'another shape');
($error) = $node->error_of("SELECT sophia.adopt_table('hubspot_raw.contacts', 'hubspot.contacts')");
like($error, qr/^22023: table "hubspot_raw\.contacts" is a table of sophia_stack/, 'a raw table');
($error) = $node->error_of("SELECT sophia.adopt_table('estuary_slack.flow_checkpoints_v1', 'slack.users')");
like($error, qr/^22023: table "estuary_slack\.flow_checkpoints_v1" cannot feed shape/, 'a table without the key');
($error) = $node->error_of("SELECT sophia.release_table('estuary_slack.nothing')");
like($error, qr/^42704: table "estuary_slack\.nothing" is not adopted/, 'a table that is not adopted');
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA estuary_gong TO estuary');
($error) = $node->error_of("SET ROLE estuary; SELECT sophia.adopt_table('estuary_gong.calls', 'gong.calls')");
like($error, qr/^42501: must be owner of table estuary_gong\.calls/, 'a table of somebody else');

# Planning a query on a table runs what its owner wrote into an expression of an index.
$node->safe_psql('postgres', q(SET ROLE estuary; CREATE SCHEMA estuary_own;
	CREATE TABLE estuary_own.users (id text PRIMARY KEY, flow_published_at timestamptz, flow_document json);
	CREATE TABLE estuary_own.seen (who text); GRANT INSERT ON estuary_own.seen TO PUBLIC;
	INSERT INTO estuary_own.users VALUES ('U8', now(), '{"id": "U8", "name": "eve"}');
	CREATE FUNCTION estuary_own.constant(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
	CREATE INDEX ON estuary_own.users ((estuary_own.constant(1)));
	CREATE FUNCTION estuary_own.note() RETURNS void LANGUAGE sql AS 'INSERT INTO estuary_own.seen VALUES (current_user)';
	CREATE OR REPLACE FUNCTION estuary_own.constant(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM estuary_own.note(); RETURN 1; END';
	SELECT sophia.adopt_table('estuary_own.users', 'slack.users')));
becomes("SELECT name FROM slack_raw.users WHERE id = 'U8'", 'eve', 'a table is adopted by its owner');
is($node->rows('SELECT count(*) FROM estuary_own.seen'), 0, 'whose code does not run with the rights of whoever feeds it');

$node->safe_psql('postgres', 'CREATE ROLE monitor; GRANT SELECT ON sophia.adopted_tables TO monitor');
my $seen = 'SELECT landing, state FROM sophia.adopted_tables ORDER BY landing';
is($node->rows("SET ROLE monitor; $seen"), $node->rows($seen), 'who is granted the view sees the states, without a right to the schemas of the tables');

my ($out, $err);
$node->run_log([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $node->basedir . '/dump.sql' ]);
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->run_log([ 'psql', '-q', '-X', '-d', $node->connstr('restored'), '-f', $node->basedir . '/dump.sql' ]);
$node->safe_psql('restored', q(INSERT INTO estuary_slack.users VALUES ('U9', NULL, 'dora', NULL, '{"id": "U9", "name": "dora"}')
	) =~ s/'U9', NULL, 'dora', NULL/'U9', '2024-01-01', 'dora', '{}'/r);
is($node->safe_psql('restored', 'SELECT sophia.feed_adopted() > 0'), 't', 'a restored database goes on feeding, where it has no worker by feed_adopted()');
is($node->safe_psql('restored', "SELECT name FROM slack_raw.users WHERE id = 'U9'"), 'dora', 'and misses no row');

# Whoever drops the extension waits for a transaction that writes the table, which does not wait for him.
my $writing = $node->background_psql('postgres', on_error_stop => 1);
$writing->query_safe('BEGIN; LOCK TABLE estuary_slack.users IN ROW EXCLUSIVE MODE');
my $dropper = $node->beside('DROP EXTENSION sophia_stack');
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'estuary_slack.users'::regclass"), 'DROP EXTENSION waits for a writer');
$writing->query_safe(q(INSERT INTO estuary_slack.users (id, flow_published_at, flow_document) SELECT 'V' || g, '2024-01-01', '{}' FROM generate_series(1, 1000) AS g; COMMIT));
$writing->quit;
$dropper->{run}->finish;
is(${ $dropper->{err} }, '', 'and then drops');
is($node->rows("SELECT count(*) FROM pg_trigger WHERE tgname = 'sophia_adopted'"), 0, 'DROP EXTENSION takes the triggers along, without CASCADE');
$users->store({ id => 'U5', name => 'dee' });
pass('and Estuary goes on writing');
$node->stop;
done_testing();
