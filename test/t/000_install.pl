# The extension as an object of the database: install, dump and restore, drop and create, with and without preload.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;

my @configuration = qw(endpoints streams checkpoints producers staged_documents dead_letters);

# Rows of every table of the configuration and state, as text.
sub contents
{
	my ($node, $database) = @_;
	return join "\n", map { $node->safe_psql($database, "SELECT '$_', t.* FROM sophia.$_ t ORDER BY t") } @configuration;
}

my $node = Sophia::Cluster->create('main', extension => 0);
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('postgres', 'CREATE DATABASE target');

is($node->safe_psql('source', "SELECT default_version = '0.1.0' FROM pg_available_extensions WHERE name = 'sophia_stack'"),
	't', 'version 0.1.0 is available');
$node->safe_psql('source', 'CREATE EXTENSION sophia_stack');
is($node->safe_psql('source', <<'SQL'), '', 'every object of the extension has a comment');
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend d
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sophia_stack')
  AND classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass, 'pg_type'::regclass)
  AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = objid AND classid = 'pg_class'::regclass AND relkind NOT IN ('r', 'v'))
  AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = objid AND classid = 'pg_type'::regclass AND (typrelid <> 0 OR typelem <> 0))
  AND obj_description(objid, classid::regclass::text) IS NULL
ORDER BY 1
SQL
is($node->safe_psql('source', <<'SQL'), '', 'every object of the extension lies in schema sophia');
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend d
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sophia_stack')
  AND (pg_identify_object(classid, objid, 0)).schema <> 'sophia'
SQL

# A configuration with state, as a running installation has it.
$node->safe_psql('source', <<'SQL');
INSERT INTO sophia.endpoints (endpoint, kind, address) VALUES ('store', 'fragments', '/srv/fragments');
INSERT INTO sophia.streams (stream, endpoint, collection, shape, state, system_identifier, database_oid)
SELECT 'contacts', 'store', 'acme/contacts', 'hubspot.contacts', 'stopped', system_identifier,
  (SELECT oid FROM pg_database WHERE datname = current_database()) FROM pg_control_system();
INSERT INTO sophia.checkpoints (stream, journal, next_offset) VALUES ('contacts', 'acme/contacts/pivot=00', 4711);
INSERT INTO sophia.producers (stream, journal, producer, last_ack, max_clock, begin_offset)
VALUES ('contacts', 'acme/contacts/pivot=00', '\x030000000001', -1, -1, 4000);
INSERT INTO sophia.staged_documents VALUES ('contacts', 'acme/contacts/pivot=00', '\x030000000001', 4000, -1, '{}');
INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate)
VALUES ('contacts', 'acme/contacts/pivot=00', 17, '\xff00', 'invalid byte sequence', '22021');
SQL
my $before = contents($node, 'source');
my $dump = $node->basedir . '/source.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('source'), '-f', $dump ], 'the database can be dumped');
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('target'), '-f', $dump ],
	'and restored');
is(contents($node, 'target'), $before, 'configuration and state are restored');
is($node->safe_psql('target', <<'SQL'), '2', 'the next dead letter gets a new number');
INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate)
VALUES ('contacts', 'acme/contacts/pivot=00', 18, '', 'again', '22021') RETURNING id;
SQL

$node->safe_psql('target', 'DROP EXTENSION sophia_stack CASCADE');
is($node->safe_psql('target', "SELECT count(*) FROM pg_namespace WHERE nspname = 'sophia'"), '0',
	'dropping leaves nothing of it');
$node->safe_psql('target', 'CREATE EXTENSION sophia_stack');
is($node->safe_psql('target', 'SELECT count(*) FROM sophia.endpoints'), '0', 'it can be created again');
$node->safe_psql('postgres', 'DROP DATABASE target');

$node->safe_psql('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
my ($error) = $node->error_of('CREATE EXTENSION sophia_stack', 'latin');
like($error, qr/^0A000: .* needs a database in encoding UTF8/, 'a database that is not UTF8 is refused');
$node->stop;

# Without preload the library loads, and the SQL that needs no worker is there.
my $plain = Sophia::Cluster->create('plain', preload => 0);
is($plain->safe_psql('postgres', "LOAD 'sophia_stack'; SELECT count(*) FROM sophia.streams"), '0',
	'the library can be loaded by a session');
is($plain->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sophia_stack %'"), '0',
	'no worker runs then');
($error, my $text) = $plain->error_of("SELECT sophia.start_stream('contacts')");
like($error, qr/^42704:/, 'a stream that does not exist cannot be started');
$plain->safe_psql('postgres', 'SELECT sophia.create_schemas()');
$plain->safe_psql('postgres', "SELECT sophia.create_endpoint('broker', 'broker', 'http://127.0.0.1:9')");
$plain->safe_psql('postgres',
	"SELECT sophia.create_stream('contacts', 'broker', 'acme/contacts', 'hubspot.contacts', '{\"start\": false}')");
($error, $text) = $plain->error_of("SELECT sophia.start_stream('contacts')");
like($error, qr/^55000:/, 'a stream that exists cannot be started without a worker');
like($text, qr/HINT:.*shared_preload_libraries/, 'and the hint names the setting');
$plain->stop;

done_testing();
