-- create_schemas: the first call, the second, what is missing, and what it refuses.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
RESET client_min_messages;

-- The caller needs CREATE on the database, and nothing else.
CREATE ROLE regress_schemas_owner;
CREATE ROLE regress_schemas_other;
GRANT EXECUTE ON FUNCTION sophia.create_schemas(text[], jsonb), sophia.missing_indexes()
  TO regress_schemas_owner, regress_schemas_other;
DO $$ BEGIN
  EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_schemas_owner', current_database());
END $$;

SET ROLE regress_schemas_other;
SELECT * FROM sophia.create_schemas();
RESET ROLE;

-- Arguments
SET ROLE regress_schemas_owner;
DO $$
DECLARE
  call text;
  state text;
  message text;
  hint text;
BEGIN
  FOREACH call IN ARRAY ARRAY[
    $c$SELECT sophia.create_schemas('{hubspot,salesforce}')$c$,
    $c$SELECT sophia.create_schemas('{hubspot,NULL}')$c$,
    $c$SELECT sophia.create_schemas(NULL)$c$,
    $c$SELECT sophia.create_schemas('{processed_data}')$c$,
    $c$SELECT sophia.create_schemas(options => '{"partition": "month"}')$c$,
    $c$SELECT sophia.create_schemas(options => '[]')$c$]
  LOOP
    BEGIN
      EXECUTE call;
      RAISE NOTICE '% passed', call;
    EXCEPTION WHEN invalid_parameter_value THEN
      GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
      RAISE NOTICE E'% %\n%', state, message, hint;
    END;
  END LOOP;
END $$;
SELECT count(*) AS schemas FROM pg_namespace WHERE nspname ~ '_raw$|^processed_data$';

-- First call: a part, then the rest
SELECT * FROM sophia.create_schemas('{gong}', NULL);
SELECT * FROM sophia.create_schemas();

-- Second call: nothing but exists, and no DDL at all
RESET ROLE;
CREATE FUNCTION public.refuse_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'DDL: %', tg_tag;
END $$;
CREATE EVENT TRIGGER refuse_ddl ON ddl_command_start EXECUTE FUNCTION public.refuse_ddl();
SET ROLE regress_schemas_owner;
SELECT action, kind, count(*) FROM sophia.create_schemas() GROUP BY action, kind ORDER BY kind;
SELECT * FROM sophia.create_schemas('{}');
RESET ROLE;
DROP EVENT TRIGGER refuse_ddl;
DROP FUNCTION public.refuse_ddl();

-- Contract: columns, index names, keys
SELECT string_agg(attname, ',' ORDER BY attnum) FILTER (WHERE attnum <= 12) AS contract
FROM pg_attribute WHERE attrelid = 'processed_data.unified_contacts'::regclass AND attnum > 0;
SELECT indexdef FROM pg_indexes
WHERE schemaname IN ('hubspot_raw', 'gong_raw', 'slack_raw', 'processed_data')
ORDER BY schemaname, tablename, indexname;

-- The tables are as table_columns has it, in its order
SELECT table_schema, table_name, column_name, c.ordinal, a.attnum
FROM (SELECT *, row_number() OVER (PARTITION BY table_schema, table_name ORDER BY ordinal) AS place
  FROM sophia.table_columns) AS c
FULL JOIN (SELECT n.nspname, r.relname, a.* FROM pg_attribute AS a
  JOIN pg_class AS r ON r.oid = a.attrelid AND r.relkind = 'r'
  JOIN pg_namespace AS n ON n.oid = r.relnamespace AND n.nspname ~ '_raw$|^processed_data$'
  WHERE a.attnum > 0) AS a
  ON a.nspname = table_schema AND a.relname = table_name AND a.attname = column_name
WHERE a.attnum IS DISTINCT FROM place OR a.atttypid <> column_type::regtype OR a.attnotnull <> not_null
  OR a.attgenerated <> '' OR a.atthasdef <> (column_default IS NOT NULL);

-- Rows come in with the stamp of the exact cursor
BEGIN;
INSERT INTO hubspot_raw.contacts (id, doc) VALUES ('1', '{}');
SELECT changed_xid = pg_current_xact_id() AS stamped, is_deleted, ingested_at = now() AS ingested
FROM hubspot_raw.contacts;
ROLLBACK;

-- Comments everywhere
SELECT c.relname, a.attname
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname ~ '_raw$|^processed_data$'
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND c.relkind = 'r'
WHERE c.relkind = 'r' AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)
  OR c.relname ~ '^idx_' AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT count(*) AS schemas FROM pg_namespace
WHERE nspname ~ '_raw$|^processed_data$' AND obj_description(oid, 'pg_namespace') IS NOT NULL;

-- Everything belongs to the caller, nothing to the extension
SELECT DISTINCT pg_get_userbyid(c.relowner) AS tables, pg_get_userbyid(n.nspowner) AS schemas,
  EXISTS (SELECT FROM pg_depend AS d WHERE d.deptype = 'e' AND d.objid IN (c.oid, n.oid)) AS member
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname ~ '_raw$|^processed_data$';

-- What is missing comes back; what is more, stays
SET ROLE regress_schemas_owner;
INSERT INTO hubspot_raw.contacts (id, doc) VALUES ('1', '{}');
ALTER TABLE hubspot_raw.contacts DROP COLUMN jobtitle, DROP COLUMN doc, DROP COLUMN is_deleted,
  ADD COLUMN own_column integer DEFAULT 7;
COMMENT ON COLUMN hubspot_raw.contacts.email IS 'a comment of our own';
DROP INDEX slack_raw.idx_messages_channel;
DROP TABLE gong_raw.users;
SELECT * FROM sophia.create_schemas() WHERE action <> 'exists';
SELECT id, jobtitle, doc, is_deleted, own_column, col_description('hubspot_raw.contacts'::regclass, 2) FROM hubspot_raw.contacts;
SELECT col_description(attrelid, attnum), attnotnull FROM pg_attribute
WHERE attrelid = 'hubspot_raw.contacts'::regclass AND attname IN ('jobtitle', 'doc', 'is_deleted') ORDER BY attname;
SELECT DISTINCT action FROM sophia.create_schemas();

-- An index missing on a large table is left to missing_indexes
SELECT * FROM sophia.missing_indexes();
DROP INDEX hubspot_raw.idx_contacts_email, processed_data.idx_unified_contacts_source;
RESET ROLE;
UPDATE pg_class SET reltuples = 200000
WHERE oid IN ('hubspot_raw.contacts'::regclass, 'processed_data.unified_contacts'::regclass);
SET ROLE regress_schemas_owner;
SELECT DISTINCT action FROM sophia.create_schemas();
SELECT statement FROM sophia.missing_indexes() \gexec
SELECT * FROM sophia.missing_indexes();
SELECT object, action FROM sophia.create_schemas() WHERE object ~ 'idx_contacts_email|contacts_source';

-- One that was left invalid is built anew
RESET ROLE;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'hubspot_raw.idx_contacts_email'::regclass;
SET ROLE regress_schemas_owner;
SELECT DISTINCT action FROM sophia.create_schemas();
SELECT statement FROM sophia.missing_indexes();
SELECT statement FROM sophia.missing_indexes() \gexec
SELECT * FROM sophia.missing_indexes();
RESET ROLE;

-- A newly created extension adopts what the old one left
DROP EXTENSION sophia_stack;
SELECT count(*) FROM hubspot_raw.contacts;
CREATE EXTENSION sophia_stack;
GRANT EXECUTE ON FUNCTION sophia.create_schemas(text[], jsonb) TO regress_schemas_owner;
SET ROLE regress_schemas_owner;
DROP TABLE gong_raw.users;
ALTER TABLE slack_raw.users DROP COLUMN tz;
SELECT action, kind, count(*) FROM sophia.create_schemas() GROUP BY action, kind ORDER BY action, kind;
SELECT action, kind, count(*) FROM sophia.create_schemas() GROUP BY action, kind ORDER BY action, kind;
SELECT id, col_description('hubspot_raw.contacts'::regclass, 2) FROM hubspot_raw.contacts;
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
DROP OWNED BY regress_schemas_owner, regress_schemas_other;
DROP ROLE regress_schemas_owner;
DROP ROLE regress_schemas_other;
