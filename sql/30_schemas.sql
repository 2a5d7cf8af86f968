-- Data schemas: what is wanted, what there is, and create_schemas, which makes the difference good.
--
-- The decisions stand in views over the catalogs, which are read once, before anything is changed; then the caller's role
-- does what they say, but for triggers, whose functions nobody else may execute.  Data tables are no members
-- of the extension.  That a table is known to it is told by the comment of the table's primary key, which
-- names the installation: a newly created extension sees that it does not know the table yet, and adopts it.

CREATE TABLE sophia.data_schemas (
  schema_name text PRIMARY KEY,
  source text UNIQUE,
  ordinal integer NOT NULL UNIQUE,
  comment text NOT NULL
);
COMMENT ON TABLE sophia.data_schemas IS 'internal: schemas that create_schemas makes';
COMMENT ON COLUMN sophia.data_schemas.schema_name IS 'name of the schema';
COMMENT ON COLUMN sophia.data_schemas.source IS 'source that asks for the schema; NULL = always made';
COMMENT ON COLUMN sophia.data_schemas.ordinal IS 'place in the report of create_schemas';
COMMENT ON COLUMN sophia.data_schemas.comment IS 'comment of the schema';

CREATE TABLE sophia.data_tables (
  table_schema text NOT NULL REFERENCES sophia.data_schemas,
  table_name text NOT NULL,
  ordinal integer NOT NULL UNIQUE,
  comment text NOT NULL,
  partition_column text,
  fillfactor integer,
  PRIMARY KEY (table_schema, table_name)
);
COMMENT ON TABLE sophia.data_tables IS 'internal: tables that create_schemas makes; their columns are in table_columns';
COMMENT ON COLUMN sophia.data_tables.table_schema IS 'schema of the table';
COMMENT ON COLUMN sophia.data_tables.table_name IS 'name of the table';
COMMENT ON COLUMN sophia.data_tables.ordinal IS 'place in the report of create_schemas';
COMMENT ON COLUMN sophia.data_tables.comment IS 'comment of the table';
COMMENT ON COLUMN sophia.data_tables.partition_column IS
  'time by which the table can be partitioned and which its key holds then; NULL = it is an ordinary table always';
COMMENT ON COLUMN sophia.data_tables.fillfactor IS
  'how full its pages are made, in percent, so that a row can change in its place; NULL = full';

CREATE TABLE sophia.data_indexes (
  table_schema text NOT NULL,
  table_name text NOT NULL,
  index_name text NOT NULL,
  columns text[] NOT NULL,
  is_unique boolean NOT NULL DEFAULT false,
  comment text NOT NULL,
  method text NOT NULL DEFAULT 'btree',
  predicate text,
  PRIMARY KEY (table_schema, index_name),
  FOREIGN KEY (table_schema, table_name) REFERENCES sophia.data_tables
);
COMMENT ON TABLE sophia.data_indexes IS 'internal: indexes that create_schemas makes beside the primary keys';
COMMENT ON COLUMN sophia.data_indexes.table_schema IS 'schema of the table and of the index';
COMMENT ON COLUMN sophia.data_indexes.table_name IS 'name of the table';
COMMENT ON COLUMN sophia.data_indexes.index_name IS 'name of the index';
COMMENT ON COLUMN sophia.data_indexes.columns IS 'columns of the index';
COMMENT ON COLUMN sophia.data_indexes.is_unique IS 'whether the index is unique';
COMMENT ON COLUMN sophia.data_indexes.comment IS 'comment of the index';
COMMENT ON COLUMN sophia.data_indexes.method IS 'access method of the index';
COMMENT ON COLUMN sophia.data_indexes.predicate IS 'condition of the rows that the index holds, NULL = of all';

INSERT INTO sophia.data_schemas (schema_name, source, ordinal, comment) VALUES
  ('hubspot_raw', 'hubspot', 1, 'HubSpot as captured: a row a record, written by the ingest of sophia_stack'),
  ('gong_raw', 'gong', 2, 'Gong as captured: a row a record, written by the ingest of sophia_stack'),
  ('slack_raw', 'slack', 3, 'Slack as captured: a row a record, written by the ingest of sophia_stack'),
  ('processed_data', NULL, 4, 'people and interactions of all sources, written by the transforms of sophia_stack');

INSERT INTO sophia.data_tables (table_schema, table_name, ordinal, comment) VALUES
  ('hubspot_raw', 'contacts', 1, 'contacts of HubSpot; one that was merged away keeps its row'),
  ('hubspot_raw', 'companies', 2, 'companies of HubSpot'),
  ('hubspot_raw', 'deals', 3, 'deals of HubSpot'),
  ('hubspot_raw', 'engagements', 4, 'calls, e-mails, meetings, notes and tasks of HubSpot'),
  ('hubspot_raw', 'owners', 5, 'owners of HubSpot: the users that records are assigned to'),
  ('gong_raw', 'calls', 6, 'calls of Gong, in basic or extensive form'),
  ('gong_raw', 'call_parties', 7, 'parties of the calls of Gong'),
  ('gong_raw', 'call_transcripts', 8, 'transcripts of the calls of Gong, a row a monologue'),
  ('gong_raw', 'users', 9, 'users of Gong: colleagues only'),
  ('slack_raw', 'users', 10, 'users of Slack, deactivated ones and bots included'),
  ('slack_raw', 'channels', 11, 'channels of Slack'),
  ('slack_raw', 'channel_members', 12, 'members of the channels of Slack, departed ones included'),
  ('slack_raw', 'messages', 13, 'messages of Slack and the replies to them'),
  ('processed_data', 'unified_contacts', 14, 'people as the sources know them, a row a source record'),
  ('processed_data', 'interaction_timeline', 15, 'calls, e-mails, meetings, notes, tasks and messages of all sources'),
  ('processed_data', 'interaction_participants', 16, 'who took part in the interactions of the timeline'),
  ('processed_data', 'identities', 30, 'people across the sources; one that was merged away keeps its row'),
  ('processed_data', 'identity_links', 31, 'identifiers and links that tell which records are one person'),
  ('processed_data', 'contacts', 32, 'people, a row a person, each field from the record that is to be believed');

UPDATE sophia.data_tables SET partition_column = 'occurred_at' WHERE table_name = 'interaction_timeline';
-- A changed title of a contact would otherwise cost an entry in each index.
UPDATE sophia.data_tables SET fillfactor = 90 WHERE table_schema = 'processed_data' AND table_name IN ('unified_contacts', 'contacts');

INSERT INTO sophia.data_indexes (table_schema, table_name, index_name, columns, is_unique, comment) VALUES
  ('hubspot_raw', 'contacts', 'idx_contacts_email', '{email}', false, 'contacts by e-mail address'),
  ('gong_raw', 'call_parties', 'idx_call_parties_email_norm', '{email_norm}', false, 'one party over all its calls'),
  ('gong_raw', 'call_transcripts', 'idx_calls_sentiment', '{sentiment}', false, 'monologues by sentiment'),
  ('slack_raw', 'messages', 'idx_messages_channel', '{channel}', false, 'messages by channel'),
  ('slack_raw', 'messages', 'idx_messages_channel_sent_at', '{channel,sent_at}', false, 'messages of a channel in time'),
  ('slack_raw', 'messages', 'idx_messages_channel_thread_ts', '{channel,thread_ts}', false, 'messages of a thread'),
  ('processed_data', 'unified_contacts', 'idx_unified_contacts_source', '{source_system,source_id}', true,
    'the contact of a source record'),
  ('processed_data', 'unified_contacts', 'idx_unified_contacts_email_norm', '{email_norm}', false,
    'contacts by normalised e-mail address'),
  ('processed_data', 'unified_contacts', 'idx_unified_contacts_identity', '{identity_id}', false,
    'records of a person'),
  ('processed_data', 'unified_contacts', 'idx_unified_contacts_phone_e164', '{phone_e164}', false,
    'contacts by phone number'),
  ('processed_data', 'interaction_timeline', 'idx_interaction_timeline_contact', '{contact_id,occurred_at}', false,
    'interactions of a contact in time'),
  ('processed_data', 'interaction_timeline', 'idx_interaction_timeline_occurred_at', '{occurred_at}', false,
    'interactions in time'),
  ('processed_data', 'identities', 'idx_identities_primary_contact', '{primary_contact_id}', false,
    'the identity that began with a record'),
  ('processed_data', 'identity_links', 'idx_identity_links_evidence', '{kind,evidence}', false, 'records that share an identifier'),
  ('processed_data', 'identity_links', 'idx_identity_links_identity', '{identity_id}', false, 'evidence for a person'),
  ('processed_data', 'contacts', 'idx_contacts_email_norm', '{email_norm}', false, 'people by normalised e-mail address'),
  ('processed_data', 'interaction_timeline', 'idx_interaction_timeline_owner', '{owner_contact_id,occurred_at}', false,
    'interactions that a colleague owns or hosts, in time'),
  ('processed_data', 'interaction_timeline', 'idx_interaction_timeline_thread', '{thread_key,occurred_at}', false,
    'interactions of a conversation, in time'),
  ('processed_data', 'interaction_participants', 'idx_interaction_participants_contact',
    '{contact_id,occurred_at,interaction_id}', false, 'interactions that a contact took part in, in time'),
  ('processed_data', 'interaction_participants', 'idx_interaction_participants_email_norm', '{email_norm}', false,
    'interactions that an e-mail address took part in');

-- A column that is NULL in most rows has a partial index: an entry of each NULL would cost the writer of every row.
INSERT INTO sophia.data_indexes (table_schema, table_name, index_name, columns, method, predicate, comment) VALUES
  ('hubspot_raw', 'engagements', 'idx_engagements_contact_ids', '{contact_ids}', 'gin', NULL,
    'engagements that a contact is associated with'),
  ('hubspot_raw', 'engagements', 'idx_engagements_thread_id', '{thread_id}', 'btree', 'thread_id IS NOT NULL',
    'e-mails of a thread'),
  ('hubspot_raw', 'engagements', 'idx_engagements_ical_uid', '{ical_uid}', 'btree', 'ical_uid IS NOT NULL',
    'meetings of a calendar event'),
  ('processed_data', 'unified_contacts', 'idx_unified_contacts_all_emails', '{all_emails}', 'gin',
    'cardinality(all_emails) > 1', 'contacts by any of several e-mail addresses'),
  ('processed_data', 'interaction_timeline', 'idx_interaction_timeline_duplicate', '{duplicate_of}', 'btree',
    'duplicate_of IS NOT NULL', 'duplicates of an interaction'),
  ('processed_data', 'interaction_timeline', 'idx_interaction_timeline_parent', '{parent_id}', 'btree',
    'parent_id IS NOT NULL', 'replies to an interaction'),
  ('hubspot_raw', 'contacts', 'idx_contacts_associated_company', '{associated_company_id}', 'btree',
    'associated_company_id IS NOT NULL', 'contacts of a company'),
  ('hubspot_raw', 'contacts', 'idx_contacts_merged_into', '{merged_into}', 'btree', 'merged_into IS NOT NULL',
    'contacts that were merged into another'),
  ('gong_raw', 'call_parties', 'idx_call_parties_hubspot_contact', '{hubspot_contact_id}', 'btree',
    'hubspot_contact_id IS NOT NULL', 'parties that Gong knows as a contact of HubSpot'),
  ('processed_data', 'identities', 'idx_identities_heir_contact', '{heir_contact_id}', 'btree', 'heir_contact_id IS NOT NULL',
    'identities whose first record left them to another'),
  ('gong_raw', 'calls', 'idx_calls_primary_user', '{primary_user_id}', 'btree', NULL, 'calls that a user hosted'),
  ('gong_raw', 'call_parties', 'idx_call_parties_user', '{user_id}', 'btree', 'user_id IS NOT NULL', 'calls that a user took part in'),
  ('gong_raw', 'call_parties', 'idx_call_parties_email', '{email}', 'btree', 'email_norm IS NULL AND email IS NOT NULL',
    'parties with an address that was not normalised'),
  ('slack_raw', 'messages', 'idx_messages_user_sent_at', '{user_id,sent_at}', 'btree', NULL, 'messages of a user in time'),
  ('processed_data', 'unified_contacts', 'idx_unified_contacts_gong_domain', '{email_domain}', 'btree',
    'source_system = ''gong''', 'people whom Gong knows, by domain');

INSERT INTO sophia.data_indexes (table_schema, table_name, index_name, columns, comment)
SELECT t.table_schema, t.table_name, format('idx_%s_changed_xid', t.table_name), '{changed_xid}',
  'rows by the transaction that last wrote them, for exact cursors'
FROM sophia.data_tables AS t
JOIN sophia.table_columns AS c USING (table_schema, table_name)
WHERE c.column_name = 'changed_xid';

CREATE VIEW sophia.wanted_columns AS
SELECT c.table_schema, c.table_name, c.ordinal, c.column_name, coalesce(f.column_type, c.column_type) AS column_type,
  c.key_position, c.not_null, c.column_default, c.may_widen, c.comment
FROM sophia.table_columns AS c
LEFT JOIN sophia.fields AS f USING (table_schema, table_name, column_name)
UNION ALL
SELECT f.table_schema, f.table_name,
  1000 + row_number() OVER (PARTITION BY f.table_schema, f.table_name ORDER BY f.added_at, f.column_name)::integer,
  f.column_name, f.column_type, NULL, false, NULL, true, format('filled by sophia_stack from %s', f.pointers[1])
FROM sophia.fields AS f
JOIN sophia.data_tables AS t USING (table_schema, table_name)
WHERE NOT EXISTS (SELECT FROM sophia.table_columns AS c
  WHERE c.table_schema = f.table_schema AND c.table_name = f.table_name AND c.column_name = f.column_name);
COMMENT ON VIEW sophia.wanted_columns IS 'internal: the columns of the data tables with those that were added or widened later';

CREATE VIEW sophia.data_table_state AS
SELECT s.source, t.table_schema, t.table_name, n.oid AS schema_oid, c.oid AS table_oid, c.relkind,
  CASE WHEN c.relkind = 'p' THEN t.partition_column END AS partitioned_by,
  k.conname AS key_name, k.conkey AS key_attributes, m.mark,
  c.oid IS NOT NULL AND obj_description(k.oid, 'pg_constraint') IS NOT DISTINCT FROM m.mark AS known,
  c.relkind <> 'p' AND (c.reltuples >= 100000 OR pg_relation_size(c.oid) >= 67108864) AS large
FROM sophia.data_tables AS t
JOIN sophia.data_schemas AS s ON s.schema_name = t.table_schema
CROSS JOIN (SELECT format('table of sophia_stack, extension %s', oid) AS mark
  FROM pg_extension WHERE extname = 'sophia_stack') AS m
LEFT JOIN pg_namespace AS n ON n.nspname = t.table_schema
LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.table_name
LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'p' AND NOT k.condeferrable;
COMMENT ON VIEW sophia.data_table_state IS 'internal: the wanted tables and what stands in their place';
COMMENT ON COLUMN sophia.data_table_state.known IS 'whether this installation of the extension made or adopted the table';
COMMENT ON COLUMN sophia.data_table_state.large IS
  'whether building an index in a transaction would lock the table for long: 100 000 rows or 64 MB; an index of a '
  'partitioned table cannot be built otherwise';
COMMENT ON COLUMN sophia.data_table_state.partitioned_by IS 'column by which the table is partitioned as wanted, NULL = it is not';
COMMENT ON COLUMN sophia.data_table_state.mark IS 'comment of the primary key by which a table is known';

CREATE VIEW sophia.data_index_state AS
SELECT t.source, i.table_schema, i.table_name, i.index_name, t.table_oid, t.known, t.large,
  c.oid AS index_oid,
  x.indrelid IS NOT DISTINCT FROM t.table_oid AND x.indisvalid AS valid,
  x.indrelid IS DISTINCT FROM t.table_oid AS misplaced,
  -- A pending list would be read by each of the many searches of a refresh.
  format('CREATE %sINDEX%s %I ON %I.%I USING %I (%s)%s%s', CASE WHEN i.is_unique THEN 'UNIQUE ' END, '%s', i.index_name,
    i.table_schema, i.table_name, i.method, (SELECT string_agg(quote_ident(u.name), ', ' ORDER BY u.place)
      FROM unnest(i.columns) WITH ORDINALITY AS u (name, place)),
    CASE i.method WHEN 'gin' THEN ' WITH (fastupdate = off)' END, ' WHERE ' || i.predicate) AS definition,
  i.comment
FROM sophia.data_indexes AS i
JOIN sophia.data_table_state AS t USING (table_schema, table_name)
LEFT JOIN pg_class AS c ON c.relnamespace = t.schema_oid AND c.relname = i.index_name
LEFT JOIN pg_index AS x ON x.indexrelid = c.oid;
COMMENT ON VIEW sophia.data_index_state IS 'internal: the wanted indexes and what stands in their place';
COMMENT ON COLUMN sophia.data_index_state.valid IS
  'false where building the index concurrently failed or has not ended';
COMMENT ON COLUMN sophia.data_index_state.misplaced IS
  'whether the name belongs to something else than an index of the table';
COMMENT ON COLUMN sophia.data_index_state.definition IS
  'statement that makes the index, %s standing where CONCURRENTLY goes';

CREATE VIEW sophia.schema_conflicts AS
SELECT t.source, t.table_schema, t.table_name AS relation_name, r.reason
FROM sophia.data_table_state AS t
CROSS JOIN LATERAL (
  SELECT 'it is not an ordinary table' WHERE t.relkind <> 'r' AND t.partitioned_by IS NULL
  UNION ALL
  SELECT format('it has a column "%s", which Estuary writes', a.attname)
  FROM pg_attribute AS a
  WHERE a.attrelid = t.table_oid AND a.attname IN ('flow_published_at', '_meta/op') AND NOT a.attisdropped
  UNION ALL
  SELECT format('its column "%s" is %s%s, not %s', a.attname,
    CASE WHEN a.attgenerated <> '' THEN 'a generated ' END, format_type(a.atttypid, a.atttypmod),
    format_type(to_regtype(c.column_type), -1))
  FROM sophia.wanted_columns AS c
  JOIN pg_attribute AS a
    ON a.attrelid = t.table_oid AND a.attname = c.column_name AND NOT a.attisdropped
  WHERE c.table_schema = t.table_schema AND c.table_name = t.table_name
    AND (a.atttypid <> to_regtype(c.column_type) OR a.atttypmod <> -1 OR a.attgenerated <> '')
    -- an installation before this one widened it
    AND NOT (c.may_widen AND a.atttypid IN ('bigint'::regtype, 'numeric'::regtype, 'text'::regtype) AND a.atttypmod = -1
      AND a.attgenerated = '')
  UNION ALL
  SELECT format('it has no primary key on (%s)',
    string_agg(quote_ident(w.column_name), ', ' ORDER BY w.key_position))
  FROM sophia.table_columns AS w
  WHERE w.table_schema = t.table_schema AND w.table_name = t.table_name
    AND (w.key_position IS NOT NULL OR w.column_name = t.partitioned_by)
    AND (t.relkind = 'r' OR t.partitioned_by IS NOT NULL)
  HAVING array_agg(w.column_name ORDER BY w.column_name COLLATE "C") IS DISTINCT FROM (
    SELECT array_agg(a.attname::text ORDER BY a.attname COLLATE "C")
    FROM pg_attribute AS a WHERE a.attrelid = t.table_oid AND a.attnum = ANY (t.key_attributes))) AS r (reason)
WHERE t.table_oid IS NOT NULL
UNION ALL
SELECT i.source, i.table_schema, i.index_name, format('it is not an index of %I.%I', i.table_schema, i.table_name)
FROM sophia.data_index_state AS i
WHERE i.index_oid IS NOT NULL AND i.misplaced;
COMMENT ON VIEW sophia.schema_conflicts IS
  'wanted names that belong to something that sophia_stack did not make, and why that cannot serve';

CREATE VIEW sophia.schema_plan AS
-- Schemas are known by their tables.
SELECT s.source, 1 AS step, s.ordinal AS place, 0 AS part, s.schema_name AS object, 'schema' AS kind,
  CASE WHEN n.oid IS NULL THEN 'created' WHEN k.known THEN 'exists' ELSE 'adopted' END AS action,
  CASE WHEN n.oid IS NULL THEN ARRAY[
    format('CREATE SCHEMA %I', s.schema_name),
    format('COMMENT ON SCHEMA %I IS %L', s.schema_name, s.comment)] END AS statements, NULL::text AS partitioned
FROM sophia.data_schemas AS s
LEFT JOIN pg_namespace AS n ON n.nspname = s.schema_name
CROSS JOIN LATERAL (SELECT bool_or(t.known) AS known
  FROM sophia.data_table_state AS t WHERE t.table_schema = s.schema_name) AS k
UNION ALL
SELECT t.source, 2, d.ordinal, 0, t.table_schema || '.' || t.table_name, 'table',
  CASE WHEN t.table_oid IS NULL THEN 'created' WHEN t.known THEN 'exists' ELSE 'adopted' END,
  CASE
    WHEN t.known THEN NULL
    ELSE array_remove(ARRAY[
      CASE WHEN t.table_oid IS NULL THEN c.definition || coalesce(' WITH (fillfactor = ' || d.fillfactor || ')', '') END,
      format('COMMENT ON CONSTRAINT %I ON %I.%I IS %L',
        coalesce(t.key_name, t.table_name || '_pkey'), t.table_schema, t.table_name, t.mark),
      CASE WHEN obj_description(t.table_oid, 'pg_class') IS NULL
        THEN format('COMMENT ON TABLE %I.%I IS %L', t.table_schema, t.table_name, d.comment) END], NULL)
      || c.comments
  END,
  CASE WHEN t.table_oid IS NULL AND d.partition_column IS NOT NULL THEN format('%s PARTITION BY RANGE (%I)',
    regexp_replace(c.definition, '\)\)$', format(', %s))', d.partition_column)), d.partition_column) END
FROM sophia.data_table_state AS t
JOIN sophia.data_tables AS d USING (table_schema, table_name)
CROSS JOIN LATERAL (
  SELECT format(E'CREATE TABLE %I.%I (\n  %s,\n  CONSTRAINT %I PRIMARY KEY (%s))', t.table_schema, t.table_name,
      string_agg(format('%I %s%s%s', w.column_name, w.column_type, CASE WHEN w.not_null THEN ' NOT NULL' END,
        ' DEFAULT ' || w.column_default), E',\n  ' ORDER BY w.ordinal),
      t.table_name || '_pkey',
      string_agg(quote_ident(w.column_name), ', ' ORDER BY w.key_position)
        FILTER (WHERE w.key_position IS NOT NULL)) AS definition,
    array_agg(format('COMMENT ON COLUMN %I.%I.%I IS %L', t.table_schema, t.table_name, w.column_name, w.comment)
      ORDER BY w.ordinal)
      FILTER (WHERE t.table_oid IS NULL
        OR a.attnum IS NOT NULL AND col_description(t.table_oid, a.attnum) IS NULL) AS comments
  FROM sophia.wanted_columns AS w
  LEFT JOIN pg_attribute AS a ON a.attrelid = t.table_oid AND a.attname = w.column_name AND NOT a.attisdropped
  WHERE w.table_schema = t.table_schema AND w.table_name = t.table_name) AS c
UNION ALL
-- Rows that are there already cannot meet a NOT NULL without a default, so an added column goes without.
SELECT t.source, 2, d.ordinal, w.ordinal, t.table_schema || '.' || t.table_name || '.' || w.column_name, 'column',
  'column added', ARRAY[
    format('ALTER TABLE %I.%I ADD COLUMN %I %s%s', t.table_schema, t.table_name, w.column_name, w.column_type,
      ' DEFAULT ' || w.column_default || CASE WHEN w.not_null THEN ' NOT NULL' ELSE '' END),
    format('COMMENT ON COLUMN %I.%I.%I IS %L', t.table_schema, t.table_name, w.column_name, w.comment)], NULL
FROM sophia.data_table_state AS t
JOIN sophia.data_tables AS d USING (table_schema, table_name)
JOIN sophia.wanted_columns AS w USING (table_schema, table_name)
WHERE t.table_oid IS NOT NULL
  AND NOT EXISTS (SELECT FROM pg_attribute AS a
    WHERE a.attrelid = t.table_oid AND a.attname = w.column_name AND NOT a.attisdropped)
UNION ALL
SELECT i.source, 3, d.ordinal, 0, i.table_schema || '.' || i.index_name, 'index',
  CASE
    WHEN i.valid THEN CASE WHEN i.known THEN 'exists' ELSE 'adopted' END
    WHEN i.index_oid IS NULL AND i.large IS NOT TRUE THEN 'created'
  END,
  CASE WHEN i.index_oid IS NULL AND i.large IS NOT TRUE THEN ARRAY[
    format(i.definition, ''),
    format('COMMENT ON INDEX %I.%I IS %L', i.table_schema, i.index_name, i.comment)] END, NULL
FROM sophia.data_index_state AS i
JOIN sophia.data_tables AS d USING (table_schema, table_name);
COMMENT ON VIEW sophia.schema_plan IS 'what create_schemas would report and do now';
COMMENT ON COLUMN sophia.schema_plan.source IS 'source that asks for the object; NULL = always wanted';
COMMENT ON COLUMN sophia.schema_plan.step IS
  'schemas, then tables and columns, then indexes; place and part order within';
COMMENT ON COLUMN sophia.schema_plan.action IS 'as in the report; NULL = an index that is left to missing_indexes';
COMMENT ON COLUMN sophia.schema_plan.statements IS 'DDL that the action takes, NULL = none';
COMMENT ON COLUMN sophia.schema_plan.partitioned IS 'the first of the statements as it makes a partitioned table; NULL = that cannot be';

GRANT SELECT ON sophia.data_schemas, sophia.data_tables, sophia.data_indexes, sophia.wanted_columns, sophia.data_table_state,
  sophia.data_index_state, sophia.schema_conflicts, sophia.schema_plan TO PUBLIC;

CREATE FUNCTION sophia.create_schemas(sources text[] DEFAULT '{hubspot,gong,slack}', options jsonb DEFAULT '{}')
RETURNS TABLE (object text, kind text, action text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  role constant oid := sophia.caller();
  unknown text;
  conflict record;
  plan sophia.schema_plan[];
  item sophia.schema_plan;
  statement text;
BEGIN
  IF sources IS NULL OR EXISTS (SELECT FROM unnest(sources) AS u (name)
      WHERE NOT EXISTS (SELECT FROM sophia.data_schemas AS s WHERE s.source = u.name)) THEN
    SELECT coalesce(quote_literal(u.name), 'NULL') INTO unknown
    FROM unnest(coalesce(sources, ARRAY[NULL::text])) AS u (name)
    WHERE NOT EXISTS (SELECT FROM sophia.data_schemas AS s WHERE s.source = u.name)
    LIMIT 1;
    RAISE EXCEPTION 'unknown source %', unknown
      USING ERRCODE = 'invalid_parameter_value',
        HINT = format('Sources are %s.',
          (SELECT string_agg(s.source, ', ' ORDER BY s.ordinal) FROM sophia.data_schemas AS s));
  END IF;
  IF jsonb_typeof(coalesce(options, '{}')) <> 'object' THEN
    RAISE EXCEPTION 'options must be a JSON object'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'The only option is partition_timeline.';
  END IF;
  FOR unknown IN SELECT o.key FROM jsonb_object_keys(options) AS o (key) WHERE o.key <> 'partition_timeline' LIMIT 1 LOOP
    RAISE EXCEPTION 'unknown option "%"', unknown
      USING ERRCODE = 'invalid_parameter_value', HINT = 'The only option is partition_timeline.';
  END LOOP;
  IF options -> 'partition_timeline' <> '"month"' THEN
    RAISE EXCEPTION 'option partition_timeline must be "month", not %', options -> 'partition_timeline'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;

  -- Two callers at once would both find the same objects missing.
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.create_schemas', 0));

  SELECT c.table_schema, c.relation_name, string_agg(DISTINCT c.reason, '; ') AS reasons INTO conflict
  FROM sophia.schema_conflicts AS c
  WHERE c.source IS NULL OR c.source = ANY (sources)
  GROUP BY c.table_schema, c.relation_name
  ORDER BY c.table_schema, c.relation_name
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'relation "%.%" already exists, but not as sophia_stack makes it',
        conflict.table_schema, conflict.relation_name
      USING ERRCODE = 'duplicate_table',
        DETAIL = format('What stands in its place cannot serve: %s.', conflict.reasons),
        HINT = format(
          'Nothing was changed. Move it to a landing schema such as estuary_%s, and let its loader write there.',
          split_part(conflict.table_schema, '_', 1));
  END IF;

  SELECT array_agg(p ORDER BY p.step, p.place, p.part, p.object) INTO plan
  FROM sophia.schema_plan AS p
  WHERE p.source IS NULL OR p.source = ANY (sources);
  FOREACH item IN ARRAY plan LOOP
    IF item.partitioned IS NOT NULL AND options ? 'partition_timeline' THEN
      item.statements[1] := item.partitioned;
      item.statements := item.statements || format('CREATE TABLE %s PARTITION OF %s DEFAULT', item.object || '_default', item.object);
    END IF;
    FOREACH statement IN ARRAY coalesce(item.statements, '{}') LOOP
      PERFORM sophia.execute_as(role, statement);
    END LOOP;
    IF item.action IS NULL THEN
      RAISE NOTICE 'index % is left to sophia.missing_indexes()', item.object
        USING HINT = 'Building it here would lock a large table, or it was left invalid: run the statements by \gexec.';
      CONTINUE;
    END IF;
    object := item.object;
    kind := item.kind;
    action := item.action;
    RETURN NEXT;
  END LOOP;

  PERFORM sophia.capture_table(t.table_oid, role)
  FROM sophia.data_table_state AS t
  JOIN sophia.table_columns AS c USING (table_schema, table_name)
  WHERE c.column_name = 'changed_xid' AND (t.source IS NULL OR t.source = ANY (sources));
  PERFORM sophia.guard_tables();
END
$$;
COMMENT ON FUNCTION sophia.create_schemas(text[], jsonb) IS
  'creates the data schemas of the named sources and processed_data, owned by the caller, or adds what they lack; '
  'reports each object as created, column added, exists or adopted (not known to this installation yet); '
  'an index missing on a large table (100 000 rows or 64 MB) is left to missing_indexes, with a notice; '
  'a relation that sophia_stack did not make raises 42P07 before anything is changed.  options: {"partition_timeline": "month"} '
  'has a timeline that is made now partitioned by the month of occurred_at';

CREATE FUNCTION sophia.missing_indexes()
RETURNS TABLE (statement text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT s.statement
  FROM sophia.data_index_state AS i
  CROSS JOIN LATERAL (
    SELECT 1 AS place, format('DROP INDEX CONCURRENTLY %I.%I', i.table_schema, i.index_name) AS statement
    WHERE i.index_oid IS NOT NULL
    UNION ALL
    SELECT 2, format(i.definition, ' CONCURRENTLY')) AS s
  WHERE i.table_oid IS NOT NULL AND NOT i.valid AND (i.index_oid IS NULL OR NOT i.misplaced)
  ORDER BY i.table_schema, i.table_name, i.index_name, s.place
$$;
COMMENT ON FUNCTION sophia.missing_indexes() IS
  'statements that build the wanted indexes which existing data tables lack, without locking out writers, '
  'for \gexec; one that was left invalid is dropped first';
