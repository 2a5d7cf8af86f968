-- Exact cursors in one session: what may be a source, arguments, rights, and what a batch holds.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
RESET client_min_messages;
CREATE TABLE plain (id int PRIMARY KEY);
CREATE TABLE keyless (id int, changed_xid xid8);
CREATE TABLE wrong (id int PRIMARY KEY, changed_xid bigint);
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, changed_xid xid8);
CREATE TABLE parts (id int PRIMARY KEY, changed_xid xid8) PARTITION BY RANGE (id);
CREATE VIEW shown AS SELECT * FROM keyless;
CREATE FOREIGN DATA WRAPPER regress_wrapper;
CREATE SERVER regress_server FOREIGN DATA WRAPPER regress_wrapper;
CREATE FOREIGN TABLE elsewhere (id int, changed_xid xid8) SERVER regress_server;
CREATE TABLE fine (a text, b timestamptz, c numeric, changed_xid xid8, PRIMARY KEY (b, a));
CREATE TABLE "Odd name" ("the id" int PRIMARY KEY, is_deleted text, changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id());

-- Arguments
CREATE FUNCTION state_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  hint text;
BEGIN
  EXECUTE command;
  RETURN 'passed';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN format('%s %s%s', SQLSTATE, SQLERRM, E'\n  ' || nullif(hint, ''));
END $$;
SELECT state_of(c) FROM unnest(ARRAY[
  $$SELECT sophia.create_consumer(NULL, '{fine}')$$,
  $$SELECT sophia.create_consumer('c', NULL)$$,
  $$SELECT sophia.create_consumer('c', '{fine,NULL}')$$,
  $$SELECT sophia.create_consumer('', '{fine}')$$,
  $$SELECT sophia.create_consumer('c', '{}')$$,
  $$SELECT sophia.create_consumer('c', '{fine,fine}')$$,
  $$SELECT sophia.create_consumer('c', '{absent}')$$,
  $$SELECT sophia.create_consumer('c', ARRAY[0::oid::regclass])$$,
  $$SELECT sophia.create_consumer('c', '{plain}')$$,
  $$SELECT sophia.create_consumer('c', '{wrong}')$$,
  $$SELECT sophia.create_consumer('c', '{keyless}')$$,
  $$SELECT sophia.create_consumer('c', '{unlogged}')$$,
  $$SELECT sophia.create_consumer('c', '{parts}')$$,
  $$SELECT sophia.create_consumer('c', '{shown}')$$,
  $$SELECT sophia.create_consumer('c', '{elsewhere}')$$,
  $$SELECT sophia.create_consumer('c', ARRAY['fine', '"Odd name"']::regclass[])$$,
  $$SELECT sophia.create_consumer('c', '{fine}')$$,
  $$SELECT sophia.next_batch('d')$$,
  $$SELECT sophia.next_batch(NULL)$$,
  $$SELECT sophia.next_batch('c', 0)$$,
  $$SELECT sophia.commit_batch('d')$$,
  $$SELECT sophia.commit_batch('c')$$,
  $$SELECT sophia.drop_consumer('d')$$,
  $$SELECT sophia.reset_consumer('d')$$,
  $$SELECT sophia.skip_batch('d')$$,
  $$SELECT sophia.pending_changes('d', 1)$$,
  $$SELECT sophia.stamp_row()$$,
  $$CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION sophia.stamp_row(); INSERT INTO plain VALUES (1)$$,
  $$CREATE TRIGGER t AFTER INSERT ON fine FOR EACH ROW EXECUTE FUNCTION sophia.keep_key(); INSERT INTO fine VALUES ('a', now())$$]) c;

-- What was made, once
SELECT tgrelid::regclass, tgname, tgenabled, obj_description(t.oid, 'pg_trigger') FROM pg_trigger t WHERE tgname ~ '^sophia' ORDER BY 1, 2;
SELECT indexrelid::regclass FROM pg_index WHERE indrelid IN ('fine'::regclass, '"Odd name"'::regclass) ORDER BY 1::text;
SELECT sophia.create_consumer('d', '{fine}');
SELECT count(*) FROM pg_trigger WHERE tgname ~ '^sophia';
SELECT sophia.drop_consumer('d');

-- A first batch has everything, and what follows what changed. Keys are written as jsonb_build_object writes them.
SET timezone = 'UTC';
INSERT INTO fine VALUES ('x', '2026-01-02 03:04:05.06+00', 1.50), ('y', 'infinity', 2), ('gone', '2026-01-01', 3);
INSERT INTO "Odd name" VALUES (1, 'yes'), (2, NULL);
SELECT * FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
UPDATE fine SET c = 9 WHERE a = 'y';
UPDATE fine SET a = 'z' WHERE a = 'x';
DELETE FROM fine WHERE a = 'gone';
DELETE FROM "Odd name";
INSERT INTO "Odd name" VALUES (2);
SELECT * FROM sophia.next_batch('c') ORDER BY source, key::text;
-- It stays what it was, whatever becomes of its rows and however many are asked for.
DELETE FROM fine WHERE a = 'y';
SELECT count(*) FROM sophia.next_batch('c', 1);
SELECT batch_rows, rows_waiting, next_full_reason FROM sophia.consumers WHERE consumer = 'c';
SELECT sophia.commit_batch('c');
SELECT * FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
SELECT count(*) FROM sophia.deleted_keys;

-- A window is cut, also within one transaction's rows; what comes meanwhile is of the next one.
INSERT INTO fine SELECT 'n' || n, 'epoch' FROM generate_series(1, 5) n;
SELECT key ->> 'a' FROM sophia.next_batch('c', 2);
SELECT batch_rows, rows_waiting FROM sophia.consumers WHERE consumer = 'c';
INSERT INTO fine VALUES ('later', 'epoch');
SELECT sophia.commit_batch('c');
SELECT key ->> 'a' FROM sophia.next_batch('c', 2);
SELECT sophia.commit_batch('c');
SELECT key ->> 'a' FROM sophia.next_batch('c', 2);
SELECT sophia.commit_batch('c');
SELECT key ->> 'a' FROM sophia.next_batch('c', 2);
SELECT sophia.commit_batch('c');

-- An empty batch holds nothing up, and can be committed.
SELECT * FROM sophia.next_batch('c');
INSERT INTO fine VALUES ('after empty', 'epoch');
SELECT key ->> 'a' FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
SELECT * FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');

-- What the transaction writes itself comes later, whether before next_batch or after, and in savepoints.
BEGIN;
INSERT INTO fine VALUES ('own', 'epoch');
SELECT * FROM sophia.next_batch('c');
SAVEPOINT s;
INSERT INTO fine VALUES ('undone', 'epoch');
ROLLBACK TO s;
SAVEPOINT s;
INSERT INTO fine VALUES ('own 2', 'epoch');
SELECT sophia.commit_batch('c');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT key ->> 'a' FROM sophia.next_batch('c') ORDER BY 1;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT key ->> 'a' FROM sophia.next_batch('c') ORDER BY 1;
SELECT sophia.commit_batch('c');
COMMIT;

-- An old stamp becomes a new one.
INSERT INTO fine VALUES ('old', 'epoch', NULL, '3');
UPDATE fine SET changed_xid = '3' WHERE a = 'own';
SELECT key ->> 'a' FROM sophia.next_batch('c') ORDER BY 1;
SELECT count(*) FROM fine WHERE changed_xid IS NULL OR changed_xid < '4';
SELECT sophia.commit_batch('c');

-- All of it again: after TRUNCATE, triggers that are disabled or made anew, another table of the name, and when asked for.
TRUNCATE fine;
INSERT INTO fine VALUES ('one', 'epoch'), ('two', 'epoch');
SELECT * FROM sophia.pending_changes('c', 1);
SELECT source, key ->> 'a' AS a FROM sophia.next_batch('c') ORDER BY 2;
SELECT sophia.commit_batch('c');
SELECT * FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
ALTER TABLE fine DISABLE TRIGGER sophia_stamp_update;
UPDATE fine SET c = 1 WHERE a = 'one';
SELECT count(*) FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
SELECT next_full_reason, last_full_reason FROM sophia.consumers WHERE consumer = 'c';
SELECT sophia.create_consumer('again', '{fine}');
SELECT sophia.drop_consumer('again');
SELECT count(*) FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
SELECT count(*) FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
DROP TABLE "Odd name";
SELECT count(*) FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
CREATE TABLE "Odd name" ("other id" int PRIMARY KEY, changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id());
INSERT INTO "Odd name" VALUES (7);
SELECT * FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
SELECT sophia.reset_consumer('c');
SELECT next_full_reason FROM sophia.consumers WHERE consumer = 'c';
SELECT source, count(*) FROM sophia.next_batch('c') GROUP BY source ORDER BY source;
SELECT sophia.commit_batch('c');

-- For transforms: how much there is, and a window that is not listed
UPDATE fine SET c = 2;
DELETE FROM fine WHERE a = 'two';
SELECT source, changes, is_full FROM sophia.pending_changes('c', 10);
SELECT source, changes FROM sophia.pending_changes('c', 1);
SELECT sophia.skip_batch('c');
SELECT count(*) FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
SELECT source, changes, reason FROM sophia.pending_changes('c', 10);

-- Renamed, its key renamed, and without one
ALTER TABLE fine RENAME TO finer;
ALTER TABLE finer RENAME a TO aa;
UPDATE finer SET c = 3;
SELECT * FROM sophia.next_batch('c');
SELECT sophia.commit_batch('c');
ALTER TABLE finer DROP CONSTRAINT fine_pkey;
SELECT state_of($$SELECT sophia.next_batch('c')$$);
SELECT sophia.drop_consumer('c');
SELECT (SELECT count(*) FROM sophia.consumer_sources WHERE source_name = 'fine'), (SELECT count(*) FROM sophia.batch_keys), (SELECT count(*) FROM sophia.deleted_keys);
DELETE FROM finer;
SELECT count(*) FROM sophia.deleted_keys;

-- Rights: the session's role reads the sources; an owner has the triggers made.
CREATE ROLE regress_reader;
CREATE ROLE regress_owner;
GRANT EXECUTE ON FUNCTION sophia.create_consumer, sophia.next_batch, sophia.drop_consumer TO regress_reader, regress_owner;
CREATE TABLE owned (id int PRIMARY KEY, changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id());
ALTER TABLE owned OWNER TO regress_owner;
GRANT CREATE ON SCHEMA public TO regress_owner;
INSERT INTO owned VALUES (1);
SET ROLE regress_reader;
SELECT state_of($$SELECT sophia.create_consumer('r', '{owned}')$$);
RESET ROLE;
GRANT SELECT ON owned TO regress_reader;
SET ROLE regress_reader;
SELECT state_of($$SELECT sophia.create_consumer('r', '{owned}')$$);
SET ROLE regress_owner;
SELECT state_of($$SELECT sophia.create_consumer('o', '{owned}')$$);
SELECT * FROM sophia.next_batch('o');
SET ROLE regress_reader;
SELECT state_of($$SELECT sophia.create_consumer('r', '{owned}')$$);
RESET ROLE;
REVOKE SELECT ON owned FROM regress_reader;
SET ROLE regress_reader;
SELECT state_of($$SELECT sophia.next_batch('r')$$);
SELECT state_of($$DELETE FROM sophia.deleted_keys$$);
RESET ROLE;

-- The raw tables have what it takes.
SELECT count(*) > 0 FROM sophia.create_schemas();
SELECT count(*), count(DISTINCT tgrelid) FROM pg_trigger WHERE tgname ~ '^sophia_(stamp|keep)' AND tgrelid::regclass::text ~ '_raw\.';
DROP TRIGGER sophia_keep_deleted ON hubspot_raw.deals;
SELECT count(*) FROM sophia.create_schemas() WHERE action <> 'exists';
SELECT count(*) FROM pg_trigger WHERE tgname = 'sophia_keep_deleted' AND tgrelid = 'hubspot_raw.deals'::regclass;

SET client_min_messages = warning;
SELECT sophia.drop_consumer(consumer) FROM sophia.consumers WHERE consumer IN ('o', 'r');
DROP SCHEMA hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
DROP TABLE plain, keyless, wrong, unlogged, parts, finer, "Odd name", owned CASCADE;
DROP FOREIGN DATA WRAPPER regress_wrapper CASCADE;
DROP FUNCTION state_of;
REVOKE CREATE ON SCHEMA public FROM regress_owner;
DROP OWNED BY regress_reader, regress_owner;
DROP ROLE regress_reader, regress_owner;
