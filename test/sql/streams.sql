-- Endpoints and streams where no worker takes part: in a database that sophia_stack.databases does not list.
CREATE DATABASE sophia_unlisted TEMPLATE template0 ENCODING 'UTF8';
SELECT current_database() AS regression \gset
\c sophia_unlisted
CREATE EXTENSION sophia_stack;
SET client_min_messages = warning;
SELECT count(*) > 0 AS created FROM sophia.create_schemas();

-- Raises nothing, and tells what a statement raises; hints differ with and without preload, so only whether there is one.
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  message text;
  hint text;
BEGIN
  EXECUTE statement;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
  RETURN format('%s %s%s', SQLSTATE, message, CASE WHEN hint <> '' THEN ' (hint)' END);
END;
$$;

\set SHOW_CONTEXT never

-- Addresses of brokers.
SELECT address, regexp_replace(pg_temp.outcome(format('SELECT sophia.check_address(''broker'', %L)', address)), '\(hint\)', '') AS outcome
FROM unnest(ARRAY[
  'https://broker.example.com', 'https://broker.example.com:8080', 'HTTPS://broker.example.com', 'http://localhost:8080', 'http://127.0.0.1:8080',
  'http://10.1.2.3', 'http://172.16.0.1', 'http://192.168.1.1:1', 'http://[::1]:8080', 'http://[fd12::1]:8080', 'http://broker:8080',
  'http://broker.internal', 'https://203.0.113.7', 'https://[2001:db8::1]:443',
  '', 'broker:8080', 'ftp://broker', 'http://', 'http://:8080', 'http://broker:', 'http://broker:0', 'http://broker:65536', 'http://broker:80x',
  'http://broker/', 'https://broker.example.com/path', 'https://broker.example.com?query', 'https://user:word@broker.example.com', 'https://a b',
  E'https://broker\r\nHost: other', 'http://[::1', 'http://[zz]', 'http://broker.example.com', 'http://203.0.113.7', 'http://172.32.0.1', 'http://[2001:db8::1]',
  'http://169.254.169.254', 'https://169.254.1.1', 'http://[fe80::1]', 'https://[febf::1]', 'http://[::ffff:169.254.169.254]', 'http://[fd00:ec2::254]',
  'http://metadata.google.internal', 'https://Metadata.Google.Internal.', 'http://2852039166', 'http://0xa9fea9fe', 'http://169.254.43518']) WITH ORDINALITY a (address, n)
ORDER BY n;

-- Endpoints.
SELECT sophia.create_endpoint('broker', 'broker', 'http://127.0.0.1:8080');
SELECT sophia.create_endpoint('secret', 'broker', 'https://broker.example.com', '{"token": "env:BROKER_TOKEN"}');
SELECT sophia.create_endpoint('secret file', 'broker', 'https://broker.example.com', '{"token": "file:broker-token.txt"}');
SELECT endpoint, kind, address, options FROM sophia.endpoints ORDER BY 1;
SELECT call, pg_temp.outcome('SELECT ' || call) AS outcome FROM unnest(ARRAY[
  $$sophia.create_endpoint('broker', 'broker', 'http://127.0.0.1:8080')$$,
  $$sophia.create_endpoint('', 'broker', 'http://127.0.0.1:8080')$$,
  $$sophia.create_endpoint(repeat('x', 256), 'broker', 'http://127.0.0.1:8080')$$,
  $$sophia.create_endpoint(NULL, 'broker', 'http://127.0.0.1:8080')$$,
  $$sophia.create_endpoint('e', NULL, 'http://127.0.0.1:8080')$$,
  $$sophia.create_endpoint('e', 'estuary', '')$$,
  $$sophia.create_endpoint('e', 'broker', 'http://127.0.0.1:8080', '{"tokn": 1}')$$,
  $$sophia.create_endpoint('e', 'broker', 'http://127.0.0.1:8080', '[]')$$,
  $$sophia.create_endpoint('e', 'fragments', 'relative')$$,
  $$sophia.create_endpoint('e', 'fragments', '/srv/../etc')$$,
  $$sophia.create_endpoint('e', 'fragments', '/no/such/folder/that/is/allowed')$$]) call;
-- A literal is refused and never shown.
SELECT sophia.create_endpoint('e', 'broker', 'http://127.0.0.1:8080', '{"token": "s3cret"}');
SELECT token, pg_temp.outcome(format('SELECT sophia.create_endpoint(''e'', ''broker'', ''http://127.0.0.1:8080'', %L)', format('{"token": %s}', token))) AS outcome
FROM unnest(ARRAY['"env:"', '"env:A-B"', '"ENV:A"', '"file:"', '"file:a/b"', '"file:.."', '"file:a b"', '"env:A\n"', 'null', '1', '["env:A"]']) token;
SELECT sophia.drop_endpoint('secret'), sophia.drop_endpoint('secret file');
SELECT pg_temp.outcome('SELECT sophia.drop_endpoint(''secret'')');

-- Streams.
SELECT sophia.create_stream('contacts', 'broker', 'acme/hubspot/contacts', 'hubspot.contacts', '{"start": false}');
SET client_min_messages = error;
SELECT sophia.create_stream('deals', 'broker', 'acme/hubspot/deals', 'hubspot.deals');
SET client_min_messages = warning;
SELECT stream, endpoint, collection, shape, state, journals, applied_offset, write_head, lag_bytes, documents_applied, documents_reduced,
       documents_deleted, documents_dead, last_document_at, last_error, worker_pid FROM sophia.stream_status ORDER BY stream;
SELECT column_name, data_type FROM information_schema.columns WHERE (table_schema, table_name) = ('sophia', 'stream_status') ORDER BY ordinal_position;
SELECT call, pg_temp.outcome('SELECT ' || call) AS outcome FROM unnest(ARRAY[
  $$sophia.create_stream('contacts', 'broker', 'a/b', 'hubspot.contacts', '{"start": false}')$$,
  $$sophia.create_stream('s', 'nowhere', 'a/b', 'hubspot.contacts')$$,
  $$sophia.create_stream('', 'broker', 'a/b', 'hubspot.contacts')$$,
  $$sophia.create_stream('s', 'broker', 'a/b', NULL)$$,
  $$sophia.create_stream('s', 'broker', 'a/b', 'hubspot.nothing')$$]) call;
SELECT left(collection, 20) AS collection, pg_temp.outcome(format('SELECT sophia.create_stream(''s'', ''broker'', %L, ''hubspot.contacts'')', collection)) AS outcome
FROM unnest(ARRAY['', '/a', 'a/', 'a//b', 'a/../b', '..', './a', E'a\nb', repeat('x', 512)]) collection;
SELECT options, pg_temp.outcome(format('SELECT sophia.create_stream(''s'', ''broker'', ''a/b'', ''hubspot.contacts'', %L)', options)) AS outcome
FROM unnest(ARRAY['[]', '1', '{"begin": true}', '{"start": "true"}', '{"start": null}', '{"start": [true]}', '{"start_from": "middle"}', '{"start_from": 1}',
                  '{"delete": "never"}', '{"delete": []}', '{"evolve": "on"}', '{"misfit": "narrow"}']) options;
SELECT sophia.create_stream('s', 'broker', 'a/b', 'hubspot.contacts', '{"delete": "never"}');
SELECT sophia.create_stream('s', 'broker', 'a/b', 'hubspot.nothing');
BEGIN;
SELECT sophia.create_stream('all', 'broker', 'a/b', 'hubspot.contacts',
  '{"start": false, "start_from": "end", "delete": "hard", "evolve": "off", "misfit": "dead_letter"}');
ROLLBACK;

-- The table must be there.
BEGIN;
DROP TABLE hubspot_raw.deals;
SELECT pg_temp.outcome($$SELECT sophia.create_stream('s', 'broker', 'a/b', 'hubspot.deals')$$);
ROLLBACK;

-- What needs a worker says so.
SELECT call, pg_temp.outcome('SELECT ' || call) AS outcome FROM unnest(ARRAY[
  'sophia.start_stream(''contacts'')', 'sophia.await_stream(''contacts'')', 'sophia.check_endpoint(''broker'')', 'sophia.collections(''broker'')',
  'sophia.start_stream(''none'')', 'sophia.await_stream(''none'')', 'sophia.check_endpoint(''none'')', 'sophia.collections(''none'')',
  'sophia.stop_stream(''none'')', 'sophia.drop_stream(''none'')', 'sophia.await_stream(''contacts'', NULL)', 'sophia.await_stream(NULL)']) call;

-- Stopping a stopped stream does nothing; a failed one becomes stopped and keeps its reason.
SELECT sophia.stop_stream('contacts');
UPDATE sophia.streams SET state = 'failed', last_error = 'the reason' WHERE stream = 'contacts';
SELECT sophia.stop_stream('contacts');
SELECT state, last_error FROM sophia.stream_status WHERE stream = 'contacts';

-- Offsets are summed and a lag is never negative; what runs without a worker is starting; a restored stream is stopped.
INSERT INTO sophia.checkpoints (stream, journal, next_offset, write_head, documents_applied) VALUES
  ('contacts', 'a/pivot=00', 100, 150, 7), ('contacts', 'a/pivot=80', 30, 20, 5), ('deals', 'b/pivot=00', 1, 1, 1);
INSERT INTO sophia.producers VALUES ('contacts', 'a/pivot=00', '\x010203040506', 1, 1, -1);
INSERT INTO sophia.staged_documents VALUES ('contacts', 'a/pivot=00', '\x010203040506', 5, 1, '{}');
INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate) VALUES ('contacts', 'a/pivot=00', 1, 'x', 'malformed', '22P02');
UPDATE sophia.streams SET state = 'running', last_error = NULL WHERE stream = 'contacts';
SELECT state, journals, applied_offset, write_head, lag_bytes, documents_applied, worker_pid FROM sophia.stream_status WHERE stream = 'contacts';
SELECT stream, journal, applied_offset, write_head, lag_bytes FROM sophia.stream_journals ORDER BY 1, 2;
BEGIN;
UPDATE sophia.streams SET system_identifier = system_identifier + 1;
SELECT stream, state FROM sophia.stream_status ORDER BY 1;
ROLLBACK;
BEGIN;
UPDATE sophia.streams SET database_oid = 1;
SELECT stream, state FROM sophia.stream_status ORDER BY 1;
ROLLBACK;

-- Dropping.
SELECT pg_temp.outcome($$SELECT sophia.drop_endpoint('broker')$$);
SELECT sophia.drop_endpoint('broker');
INSERT INTO hubspot_raw.contacts (id, doc) VALUES ('1', '{}');
SELECT sophia.drop_stream('contacts');
SELECT (SELECT count(*) FROM sophia.checkpoints) AS checkpoints, (SELECT count(*) FROM sophia.producers) AS producers,
       (SELECT count(*) FROM sophia.staged_documents) AS staged, (SELECT count(*) FROM sophia.dead_letters) AS dead,
       (SELECT count(*) FROM hubspot_raw.contacts) AS rows;
SELECT sophia.drop_stream('deals');
SELECT sophia.drop_endpoint('broker');
\c :regression
DROP DATABASE sophia_unlisted;
