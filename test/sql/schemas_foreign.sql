-- Relations of a wanted name that sophia_stack did not make.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
RESET client_min_messages;

-- As Estuary materialises it: refused before anything is changed
CREATE SCHEMA slack_raw;
CREATE TABLE slack_raw.users (id text PRIMARY KEY, name text, "_meta/op" text, flow_published_at timestamptz NOT NULL,
  flow_document json NOT NULL);
CREATE SCHEMA hubspot_raw;
CREATE TABLE hubspot_raw.deals (id text PRIMARY KEY, dealname text);
DO $$
DECLARE
  state text;
  message text;
  detail text;
  hint text;
BEGIN
  PERFORM sophia.create_schemas();
EXCEPTION WHEN duplicate_table THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
    hint = PG_EXCEPTION_HINT;
  RAISE NOTICE E'% %\n%\n%', state, message, detail, hint;
END $$;
SELECT nspname FROM pg_namespace WHERE nspname ~ '_raw$|^processed_data$' ORDER BY nspname;
SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = 'hubspot_raw.deals'::regclass AND attnum > 0;

-- Another source is not hindered, and a table that merely lacks columns is adopted
SELECT * FROM sophia.create_schemas('{hubspot}') WHERE object ~ '^hubspot_raw(.deals.*)?$' AND action <> 'created';
SELECT * FROM sophia.create_schemas('{hubspot}') WHERE action <> 'exists';
DROP TABLE slack_raw.users;
DROP SCHEMA slack_raw;

-- Every other reason
\set check 'SELECT table_schema, relation_name, reason FROM sophia.schema_conflicts ORDER BY 1, 2, 3;' 'SELECT count(*) FROM sophia.create_schemas();'
ALTER TABLE hubspot_raw.contacts ALTER email TYPE varchar(100);
:check
ALTER TABLE hubspot_raw.contacts ALTER email TYPE text;

ALTER TABLE hubspot_raw.contacts DROP CONSTRAINT contacts_pkey;
:check
ALTER TABLE hubspot_raw.contacts ADD PRIMARY KEY (id, email);
:check
ALTER TABLE hubspot_raw.contacts DROP CONSTRAINT contacts_pkey;
ALTER TABLE hubspot_raw.contacts ADD PRIMARY KEY (id) DEFERRABLE;
:check
ALTER TABLE hubspot_raw.contacts DROP CONSTRAINT contacts_pkey;
ALTER TABLE hubspot_raw.contacts ALTER email DROP NOT NULL, ADD PRIMARY KEY (id);

ALTER TABLE hubspot_raw.contacts DROP COLUMN email;
ALTER TABLE hubspot_raw.contacts ADD email text GENERATED ALWAYS AS (id) STORED;
:check
ALTER TABLE hubspot_raw.contacts DROP COLUMN email;

CREATE INDEX idx_contacts_email ON hubspot_raw.deals (dealname);
:check
DROP INDEX hubspot_raw.idx_contacts_email;

DROP TABLE processed_data.interaction_timeline;
CREATE VIEW processed_data.interaction_timeline AS SELECT 1 AS id;
:check
DROP VIEW processed_data.interaction_timeline;

SELECT object, action FROM sophia.create_schemas() WHERE object ~ '(hubspot_raw.(idx_)?contacts|timeline)';
SET client_min_messages = warning;
DROP SCHEMA hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
