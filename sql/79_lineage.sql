-- Lineage: which columns a column is made of, which raw rows and documents a row is made of, and runs as OpenLineage events.
--
-- Edges between columns are data that the extension brings; those from raw columns to documents are the pointers by which
-- the ingest fills them.  Of rows nothing is recorded: a key of processed_data tells the raw rows that it is made of, and
-- each of these has the journal and offset of its document.

CREATE TABLE sophia.lineage_edges (
  target_table text NOT NULL,
  target_column text NOT NULL,
  source_schema text NOT NULL,
  source_table text NOT NULL,
  source_column text NOT NULL,
  transformation text NOT NULL CHECK (transformation IN ('identity', 'transformation', 'aggregation', 'join', 'conditional')),
  PRIMARY KEY (target_table, target_column, source_schema, source_table, source_column)
);
COMMENT ON TABLE sophia.lineage_edges IS 'internal: columns that a column of processed_data is made of';
COMMENT ON COLUMN sophia.lineage_edges.target_table IS 'table of processed_data';
COMMENT ON COLUMN sophia.lineage_edges.target_column IS 'its column';
COMMENT ON COLUMN sophia.lineage_edges.source_schema IS 'schema of the column that it is made of';
COMMENT ON COLUMN sophia.lineage_edges.source_table IS 'table of that column';
COMMENT ON COLUMN sophia.lineage_edges.source_column IS 'that column';
COMMENT ON COLUMN sophia.lineage_edges.transformation IS
  'identity, transformation or aggregation of the value; or what leads to it: join (a key that finds it), conditional (decides what it is)';

INSERT INTO sophia.lineage_edges
SELECT e.target_table, t.name, split_part(s.name, '.', 1), split_part(s.name, '.', 2), split_part(s.name, '.', 3), e.transformation
FROM (VALUES
  ('unified_contacts', '{id,source_id}', 'transformation', '{hubspot_raw.contacts.id,gong_raw.users.id,gong_raw.call_parties.call_id,'
    'gong_raw.call_parties.party_id,gong_raw.call_parties.email_norm,slack_raw.users.id}'),
  ('unified_contacts', '{source_system}', 'conditional', '{hubspot_raw.contacts.id,gong_raw.users.id,gong_raw.call_parties.call_id,slack_raw.users.id}'),
  ('unified_contacts', '{email}', 'identity', '{hubspot_raw.contacts.email,gong_raw.users.email,gong_raw.call_parties.email,slack_raw.users.email}'),
  ('unified_contacts', '{email_norm,email_domain}', 'transformation',
    '{hubspot_raw.contacts.email,gong_raw.users.email,gong_raw.call_parties.email_norm,gong_raw.call_parties.email,slack_raw.users.email}'),
  ('unified_contacts', '{all_emails}', 'aggregation', '{hubspot_raw.contacts.email,hubspot_raw.contacts.additional_emails,gong_raw.users.email,'
    'gong_raw.users.email_aliases,gong_raw.users.trusted_email,gong_raw.call_parties.email_norm,slack_raw.users.email}'),
  ('unified_contacts', '{all_emails}', 'join', '{hubspot_raw.contacts.merged_object_ids,hubspot_raw.contacts.calculated_merged_vids}'),
  ('unified_contacts', '{first_name}', 'transformation',
    '{hubspot_raw.contacts.firstname,gong_raw.users.first_name,gong_raw.call_parties.name,slack_raw.users.first_name}'),
  ('unified_contacts', '{last_name}', 'transformation',
    '{hubspot_raw.contacts.lastname,gong_raw.users.last_name,gong_raw.call_parties.name,slack_raw.users.last_name}'),
  ('unified_contacts', '{full_name}', 'transformation', '{hubspot_raw.contacts.firstname,hubspot_raw.contacts.lastname,hubspot_raw.contacts.email,'
    'gong_raw.users.first_name,gong_raw.users.last_name,gong_raw.call_parties.name,slack_raw.users.real_name,slack_raw.users.first_name,'
    'slack_raw.users.last_name,slack_raw.users.display_name}'),
  ('unified_contacts', '{company_name}', 'transformation', '{hubspot_raw.companies.name,hubspot_raw.contacts.company}'),
  ('unified_contacts', '{company_name}', 'join', '{hubspot_raw.contacts.associated_company_id,hubspot_raw.companies.domain,gong_raw.call_parties.email_norm}'),
  ('unified_contacts', '{job_title}', 'transformation',
    '{hubspot_raw.contacts.jobtitle,gong_raw.users.title,gong_raw.call_parties.title,slack_raw.users.title}'),
  ('unified_contacts', '{phone,phone_e164}', 'transformation', '{hubspot_raw.contacts.phone,hubspot_raw.contacts.mobilephone,gong_raw.users.phone,'
    'gong_raw.call_parties.phone,slack_raw.users.phone}'),
  ('unified_contacts', '{phone_e164}', 'identity', '{hubspot_raw.contacts.phone_e164}'),
  ('unified_contacts', '{created_at}', 'identity', '{hubspot_raw.contacts.createdate,gong_raw.users.created}'),
  ('unified_contacts', '{created_at}', 'aggregation', '{gong_raw.calls.started,gong_raw.calls.scheduled,slack_raw.messages.sent_at}'),
  ('unified_contacts', '{updated_at}', 'transformation', '{hubspot_raw.contacts.lastmodifieddate,gong_raw.users.source_updated_at,'
    'gong_raw.users.source_published_at,slack_raw.users.updated_at}'),
  ('unified_contacts', '{updated_at}', 'aggregation', '{gong_raw.calls.started,gong_raw.calls.scheduled}'),
  ('unified_contacts', '{is_internal}', 'conditional', '{hubspot_raw.contacts.email,hubspot_raw.owners.email,gong_raw.users.email,'
    'gong_raw.call_parties.affiliation,slack_raw.users.is_restricted,slack_raw.users.team_id}'),
  ('unified_contacts', '{is_bot}', 'conditional', '{slack_raw.users.is_bot,slack_raw.users.is_app_user}'),
  ('unified_contacts', '{is_deleted}', 'transformation', '{hubspot_raw.contacts.is_deleted,hubspot_raw.contacts.archived,gong_raw.users.is_deleted,'
    'gong_raw.call_parties.is_deleted,gong_raw.calls.is_deleted,slack_raw.users.is_deleted,slack_raw.users.deleted}'),
  ('unified_contacts', '{owner_id}', 'identity', '{hubspot_raw.contacts.owner_id}'),
  ('unified_contacts', '{lifecycle_stage}', 'identity', '{hubspot_raw.contacts.lifecyclestage}'),
  ('unified_contacts', '{source_url}', 'identity', '{hubspot_raw.contacts.url}'),
  ('unified_contacts', '{source_updated_at}', 'identity', '{hubspot_raw.contacts.source_updated_at,gong_raw.users.source_updated_at,slack_raw.users.source_updated_at}'),
  ('unified_contacts', '{doc_hash}', 'transformation', '{hubspot_raw.contacts.doc,gong_raw.users.doc,gong_raw.call_parties.doc,slack_raw.users.doc}'),
  ('unified_contacts', '{first_seen_at,last_seen_at}', 'aggregation', '{hubspot_raw.engagements.occurred_at,gong_raw.calls.started,gong_raw.calls.scheduled,slack_raw.messages.sent_at}'),
  ('unified_contacts', '{first_seen_at,last_seen_at}', 'join', '{hubspot_raw.engagements.contact_ids,gong_raw.calls.primary_user_id,slack_raw.messages.user_id}'),
  ('unified_contacts', '{merged_into}', 'join', '{hubspot_raw.contacts.merged_object_ids,hubspot_raw.contacts.calculated_merged_vids}'),
  ('unified_contacts', '{identity_id}', 'conditional', '{processed_data.identity_links.identity_id}'),
  ('interaction_timeline', '{id,source_id}', 'transformation', '{hubspot_raw.engagements.id,gong_raw.calls.id,slack_raw.messages.channel,slack_raw.messages.ts}'),
  ('interaction_timeline', '{source_system}', 'conditional', '{hubspot_raw.engagements.id,gong_raw.calls.id,slack_raw.messages.ts}'),
  ('interaction_timeline', '{interaction_type}', 'transformation', '{hubspot_raw.engagements.engagement_type}'),
  ('interaction_timeline', '{occurred_at}', 'transformation', '{hubspot_raw.engagements.occurred_at,hubspot_raw.engagements.createdate,gong_raw.calls.started,'
    'gong_raw.calls.scheduled,slack_raw.messages.sent_at}'),
  ('interaction_timeline', '{ended_at,duration_seconds}', 'transformation', '{hubspot_raw.engagements.ended_at,hubspot_raw.engagements.duration_ms,'
    'hubspot_raw.engagements.occurred_at,gong_raw.calls.duration_s}'),
  ('interaction_timeline', '{ended_at}', 'transformation', '{gong_raw.calls.started,gong_raw.calls.scheduled}'),
  ('interaction_timeline', '{direction}', 'transformation', '{hubspot_raw.engagements.direction,gong_raw.calls.direction}'),
  ('interaction_timeline', '{direction}', 'conditional', '{hubspot_raw.engagements.engagement_type,gong_raw.calls.scope,slack_raw.channels.is_ext_shared,'
    'slack_raw.messages.team,slack_raw.users.team_id}'),
  ('interaction_timeline', '{channel}', 'identity', '{gong_raw.calls.system,slack_raw.messages.channel}'),
  ('interaction_timeline', '{channel}', 'conditional', '{hubspot_raw.engagements.engagement_type}'),
  ('interaction_timeline', '{channel_name}', 'identity', '{slack_raw.channels.name}'),
  ('interaction_timeline', '{thread_key}', 'transformation', '{hubspot_raw.engagements.thread_id,gong_raw.calls.calendar_event_id,'
    'slack_raw.messages.channel,slack_raw.messages.thread_ts,slack_raw.messages.ts}'),
  ('interaction_timeline', '{parent_id}', 'join', '{hubspot_raw.engagements.thread_id,slack_raw.messages.thread_ts}'),
  ('interaction_timeline', '{subject}', 'identity', '{hubspot_raw.engagements.subject,gong_raw.calls.title}'),
  ('interaction_timeline', '{body,snippet}', 'transformation', '{hubspot_raw.engagements.body_text,hubspot_raw.engagements.body_html,gong_raw.calls.brief,'
    'gong_raw.call_transcripts.text,slack_raw.messages.text}'),
  ('interaction_timeline', '{body,snippet}', 'conditional', '{gong_raw.calls.is_private}'),
  ('interaction_timeline', '{snippet}', 'transformation', '{hubspot_raw.engagements.body_preview}'),
  ('interaction_timeline', '{contact_id}', 'conditional', '{processed_data.interaction_participants.contact_id,processed_data.interaction_participants.role,'
    'processed_data.interaction_participants.affiliation}'),
  ('interaction_timeline', '{owner_contact_id}', 'join', '{hubspot_raw.engagements.owner_id,hubspot_raw.owners.email,gong_raw.calls.primary_user_id,'
    'processed_data.unified_contacts.all_emails}'),
  ('interaction_timeline', '{owner_contact_id}', 'identity', '{processed_data.unified_contacts.id}'),
  ('interaction_timeline', '{company_id,company_ids}', 'transformation', '{hubspot_raw.engagements.company_ids,gong_raw.calls.doc}'),
  ('interaction_timeline', '{deal_id,deal_ids}', 'transformation', '{hubspot_raw.engagements.deal_ids,gong_raw.calls.doc}'),
  ('interaction_timeline', '{sentiment}', 'aggregation', '{gong_raw.call_transcripts.sentiment}'),
  ('interaction_timeline', '{sentiment_score}', 'aggregation', '{gong_raw.call_transcripts.sentiment_score}'),
  ('interaction_timeline', '{is_private}', 'identity', '{gong_raw.calls.is_private,slack_raw.channels.is_private}'),
  ('interaction_timeline', '{source_url}', 'identity', '{hubspot_raw.engagements.url,gong_raw.calls.url,slack_raw.messages.permalink}'),
  ('interaction_timeline', '{source_published_at}', 'identity', '{hubspot_raw.engagements.source_published_at,gong_raw.calls.source_published_at,'
    'slack_raw.messages.source_published_at}'),
  ('interaction_timeline', '{created_at}', 'transformation', '{hubspot_raw.engagements.createdate,gong_raw.calls.started,gong_raw.calls.scheduled,slack_raw.messages.sent_at}'),
  ('interaction_timeline', '{updated_at}', 'transformation', '{hubspot_raw.engagements.lastmodifieddate,gong_raw.calls.source_updated_at,'
    'gong_raw.calls.source_published_at,slack_raw.messages.source_updated_at,slack_raw.messages.sent_at}'),
  ('interaction_timeline', '{doc_hash}', 'transformation', '{hubspot_raw.engagements.doc,gong_raw.calls.doc,slack_raw.messages.doc}'),
  ('interaction_timeline', '{is_deleted}', 'transformation', '{hubspot_raw.engagements.is_deleted,hubspot_raw.engagements.archived,gong_raw.calls.is_deleted,'
    'slack_raw.messages.is_deleted}'),
  ('interaction_timeline', '{duplicate_of}', 'join', '{hubspot_raw.engagements.ical_uid,hubspot_raw.engagements.occurred_at,gong_raw.calls.calendar_event_id,'
    'gong_raw.calls.started}'),
  ('interaction_participants', '{interaction_id}', 'transformation', '{hubspot_raw.engagements.id,gong_raw.calls.id,slack_raw.messages.channel,slack_raw.messages.ts}'),
  ('interaction_participants', '{ordinal}', 'transformation', '{gong_raw.call_parties.ordinal}'),
  ('interaction_participants', '{ordinal,role}', 'conditional', '{hubspot_raw.engagements.from_email,hubspot_raw.engagements.to_emails,hubspot_raw.engagements.cc_emails,'
    'hubspot_raw.engagements.bcc_emails,hubspot_raw.engagements.owner_id,hubspot_raw.engagements.contact_ids,gong_raw.calls.primary_user_id,'
    'slack_raw.messages.user_id,slack_raw.messages.text}'),
  ('interaction_participants', '{contact_id}', 'identity', '{processed_data.unified_contacts.id}'),
  ('interaction_participants', '{contact_id}', 'join', '{hubspot_raw.engagements.from_email,hubspot_raw.engagements.to_emails,hubspot_raw.engagements.cc_emails,'
    'hubspot_raw.engagements.bcc_emails,hubspot_raw.engagements.owner_id,hubspot_raw.engagements.contact_ids,gong_raw.call_parties.user_id,'
    'gong_raw.call_parties.email_norm,gong_raw.call_parties.hubspot_contact_id,slack_raw.messages.user_id,processed_data.unified_contacts.all_emails}'),
  ('interaction_participants', '{email_norm}', 'transformation', '{hubspot_raw.engagements.from_email,hubspot_raw.engagements.to_emails,hubspot_raw.engagements.cc_emails,'
    'hubspot_raw.engagements.bcc_emails,hubspot_raw.owners.email,gong_raw.call_parties.email_norm,gong_raw.users.email,processed_data.unified_contacts.email_norm}'),
  ('interaction_participants', '{name}', 'transformation', '{hubspot_raw.owners.first_name,hubspot_raw.owners.last_name,gong_raw.call_parties.name,'
    'slack_raw.users.real_name,slack_raw.messages.username,processed_data.unified_contacts.full_name}'),
  ('interaction_participants', '{affiliation}', 'conditional', '{gong_raw.call_parties.affiliation,processed_data.unified_contacts.is_internal,hubspot_raw.owners.email,gong_raw.users.email}'),
  ('interaction_participants', '{speaker_id}', 'identity', '{gong_raw.call_parties.speaker_id}'),
  ('interaction_participants', '{talk_seconds}', 'aggregation', '{gong_raw.call_transcripts.start_ms,gong_raw.call_transcripts.end_ms}'),
  ('interaction_participants', '{talk_seconds}', 'join', '{gong_raw.call_transcripts.speaker_id}'),
  ('interaction_participants', '{occurred_at}', 'identity', '{processed_data.interaction_timeline.occurred_at}'))
  AS e (target_table, target_columns, transformation, sources)
CROSS JOIN LATERAL unnest(e.target_columns::text[]) AS t (name)
CROSS JOIN LATERAL unnest(e.sources::text[]) AS s (name);

-- People: of each field of the golden record the column of the same name, chosen among the records of the person.
INSERT INTO sophia.lineage_edges
SELECT 'contacts', c.name, 'processed_data', 'unified_contacts', c.name, 'aggregation'
FROM unnest('{email,first_name,last_name,full_name,company_name,job_title,phone,created_at,updated_at,email_norm,email_domain,phone_e164,all_emails,'
  'owner_id,lifecycle_stage,is_internal,is_deleted,first_seen_at,last_seen_at}'::text[]) AS c (name)
UNION ALL VALUES
  ('contacts', 'identity_id', 'processed_data', 'unified_contacts', 'identity_id', 'identity'),
  ('contacts', 'sources', 'processed_data', 'unified_contacts', 'source_system', 'aggregation'),
  ('contacts', 'record_ids', 'processed_data', 'unified_contacts', 'id', 'aggregation'),
  ('identity_links', 'contact_id', 'processed_data', 'unified_contacts', 'id', 'identity')
UNION ALL
SELECT 'identity_links', t.name, 'processed_data', 'unified_contacts', s.name, CASE t.name WHEN 'evidence' THEN 'transformation' ELSE 'conditional' END
FROM unnest('{kind,evidence,qualifier,identity_id,rule,confidence,status,created_at}'::text[]) AS t (name)
CROSS JOIN unnest('{all_emails,phone_e164,last_name,id}'::text[]) AS s (name)
WHERE t.name <> 'qualifier' OR s.name = 'last_name'
UNION ALL
SELECT 'identities', t.name, 'processed_data', 'identity_links', CASE t.name WHEN 'identity_id' THEN 'identity_id' ELSE 'contact_id' END,
  CASE t.name WHEN 'identity_id' THEN 'identity' ELSE 'aggregation' END
FROM unnest('{identity_id,status,merged_into,size,primary_contact_id,heir_contact_id,created_at,updated_at}'::text[]) AS t (name);

CREATE FUNCTION sophia.lineage(object regclass, column_name text DEFAULT NULL)
RETURNS TABLE (target regclass, target_column text, source text, source_column text, transformation text, depth integer)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF object IS NULL THEN
    RAISE EXCEPTION 'object must not be null' USING ERRCODE = '22004';
  ELSIF column_name IS NOT NULL AND sophia.column_type(object, column_name) IS NULL THEN
    RAISE EXCEPTION 'column "%" of % does not exist', column_name, object USING ERRCODE = '42704';
  END IF;
  RETURN QUERY
  WITH RECURSIVE pointer AS (
    SELECT f.table_schema, f.table_name, f.column_name, coalesce(s.shape, 'generic') AS shape, p.pointer
    FROM (SELECT w.table_schema, w.table_name, w.column_name, w.pointers FROM sophia.table_columns AS w
      UNION ALL
      SELECT a.table_schema, a.table_name, a.column_name, a.pointers FROM sophia.fields AS a WHERE a.origin <> 'misfit') AS f
    CROSS JOIN LATERAL unnest(f.pointers) AS p (pointer)
    LEFT JOIN sophia.shapes AS s ON s.target_schema = f.table_schema AND f.table_name IN (s.target_table, s.array_table)
  ), edge AS (
    SELECT c.oid::regclass AS target, e.target_column, format('%I.%I', e.source_schema, e.source_table) AS source, e.source_column, e.transformation,
      d.oid::regclass AS next
    FROM sophia.lineage_edges AS e
    JOIN pg_namespace AS n ON n.nspname = 'processed_data'
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = e.target_table
    LEFT JOIN pg_namespace AS m ON m.nspname = e.source_schema
    LEFT JOIN pg_class AS d ON d.relnamespace = m.oid AND d.relname = e.source_table
    UNION ALL
    SELECT c.oid::regclass, p.column_name, p.shape, p.pointer, 'identity', NULL
    FROM pointer AS p
    JOIN pg_namespace AS n ON n.nspname = p.table_schema
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.table_name
  ), reached (target, target_column, source, source_column, transformation, next, depth) AS (
    SELECT e.target, e.target_column, e.source, e.source_column, e.transformation, e.next, 1
    FROM edge AS e WHERE e.target = object AND e.target_column = coalesce(lineage.column_name, e.target_column)
    UNION
    -- What depends on itself (contact_id on participants, they on contacts) comes once: no path is longer than the tables.
    SELECT e.target, e.target_column, e.source, e.source_column, e.transformation, e.next, r.depth + 1
    FROM reached AS r JOIN edge AS e ON e.target = r.next AND e.target_column = r.source_column
    WHERE r.depth < 8
  )
  SELECT r.target, r.target_column, r.source, r.source_column, r.transformation, min(r.depth)
  FROM reached AS r
  GROUP BY 1, 2, 3, 4, 5
  ORDER BY min(r.depth), r.target::text COLLATE "C", r.target_column COLLATE "C", r.source COLLATE "C", r.source_column COLLATE "C";
END
$$;
COMMENT ON FUNCTION sophia.lineage(regclass, text) IS
  'columns that a column, or every column of a table, is made of, step by step down to JSON pointers; there the source is the shape of the documents';

-- ---- rows ----

CREATE FUNCTION sophia.stream_of(source regclass, journal text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT min(s.stream)
  FROM sophia.checkpoints AS k
  JOIN sophia.streams AS s ON s.stream = k.stream
  LEFT JOIN sophia.shapes AS h ON h.shape = s.shape
  JOIN pg_class AS c ON c.oid = source
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE k.journal = stream_of.journal
    AND (h.target_schema = n.nspname AND c.relname IN (h.target_table, h.array_table)
      OR h.shape IS NULL AND ARRAY[n.nspname::text, c.relname::text] = parse_ident(s.options ->> 'table'))
$$;
COMMENT ON FUNCTION sophia.stream_of(regclass, text) IS 'internal: stream that follows a journal into a table; NULL where there is none any more';

-- Prefixes of a name that ends before an underscore: its parts may hold underscores themselves.
CREATE FUNCTION sophia.name_splits(name text) RETURNS TABLE (first text, rest text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT left(name, i - 1), substr(name, i + 1) FROM generate_series(1, length(name)) AS i WHERE substr(name, i, 1) = '_'
$$;
COMMENT ON FUNCTION sophia.name_splits(text) IS 'internal: every way to split a name at an underscore';

CREATE FUNCTION sophia.contact_raw_rows(id text) RETURNS TABLE (source regclass, part text, key jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  own constant text := substr(id, position('_' IN id) + 1);
BEGIN
  CASE split_part(id, '_', 1)
    WHEN 'hubspot' THEN
      RETURN QUERY
      SELECT 'hubspot_raw.contacts'::regclass, 'record', jsonb_build_object('id', own)
      UNION ALL
      SELECT 'hubspot_raw.contacts'::regclass, 'merged record', jsonb_build_object('id', c.id) FROM hubspot_raw.contacts AS c WHERE c.merged_into = own
      UNION ALL
      SELECT 'hubspot_raw.companies'::regclass, 'company', jsonb_build_object('id', c.associated_company_id)
      FROM hubspot_raw.contacts AS c WHERE c.id = own AND c.associated_company_id IS NOT NULL;
    WHEN 'gong' THEN
      RETURN QUERY
      SELECT 'gong_raw.users'::regclass, 'record', jsonb_build_object('id', own)
      UNION ALL
      SELECT 'gong_raw.call_parties'::regclass, 'record', jsonb_build_object('call_id', p.call_id, 'party_id', p.party_id)
      FROM gong_raw.call_parties AS p WHERE p.email_norm = own
      UNION ALL
      SELECT 'gong_raw.call_parties'::regclass, 'record', jsonb_build_object('call_id', s.first, 'party_id', s.rest) FROM sophia.name_splits(own) AS s;
    WHEN 'slack' THEN
      RETURN QUERY SELECT 'slack_raw.users'::regclass, 'record', jsonb_build_object('id', own);
  END CASE;
END
$$;
COMMENT ON FUNCTION sophia.contact_raw_rows(text) IS 'internal: raw rows that a row of unified_contacts may be made of';

CREATE FUNCTION sophia.interaction_raw_rows(id text) RETURNS TABLE (source regclass, part text, key jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  own constant text := substr(id, position('_' IN id) + 1);
BEGIN
  CASE split_part(id, '_', 1)
    WHEN 'hubspot' THEN
      RETURN QUERY
      SELECT 'hubspot_raw.engagements'::regclass, 'record', jsonb_build_object('id', own)
      UNION ALL
      SELECT 'hubspot_raw.owners'::regclass, 'owner', jsonb_build_object('id', e.owner_id)
      FROM hubspot_raw.engagements AS e WHERE e.id = own AND e.owner_id IS NOT NULL;
    WHEN 'gong' THEN
      RETURN QUERY
      SELECT 'gong_raw.calls'::regclass, 'record', jsonb_build_object('id', own)
      UNION ALL
      SELECT 'gong_raw.call_parties'::regclass, 'party', jsonb_build_object('call_id', p.call_id, 'party_id', p.party_id)
      FROM gong_raw.call_parties AS p WHERE p.call_id = own
      UNION ALL
      SELECT 'gong_raw.call_transcripts'::regclass, 'transcript', jsonb_build_object('call_id', t.call_id, 'seq', t.seq)
      FROM gong_raw.call_transcripts AS t WHERE t.call_id = own;
    WHEN 'slack' THEN
      RETURN QUERY
      SELECT 'slack_raw.messages'::regclass, 'record', jsonb_build_object('channel', s.first, 'ts', s.rest) FROM sophia.name_splits(own) AS s
      UNION ALL
      SELECT 'slack_raw.channels'::regclass, 'channel', jsonb_build_object('id', s.first) FROM sophia.name_splits(own) AS s
      UNION ALL
      SELECT 'slack_raw.users'::regclass, 'author', jsonb_build_object('id', m.user_id)
      FROM sophia.name_splits(own) AS s JOIN slack_raw.messages AS m ON m.channel = s.first AND m.ts = s.rest AND m.user_id IS NOT NULL;
  END CASE;
END
$$;
COMMENT ON FUNCTION sophia.interaction_raw_rows(text) IS 'internal: raw rows that a row of interaction_timeline may be made of';

CREATE FUNCTION sophia.participant_raw_rows(interaction text, place integer) RETURNS TABLE (source regclass, part text, key jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  own constant text := substr(interaction, position('_' IN interaction) + 1);
  known record;
BEGIN
  SELECT p.contact_id, p.email_norm, p.speaker_id, p.name INTO known
    FROM processed_data.interaction_participants AS p WHERE p.interaction_id = interaction AND p.ordinal = place;
  RETURN QUERY SELECT s.* FROM sophia.interaction_raw_rows(interaction) AS s WHERE s.part IN ('record', 'owner');
  IF starts_with(interaction, 'gong_') THEN
    RETURN QUERY
    SELECT 'gong_raw.call_parties'::regclass, 'party', jsonb_build_object('call_id', p.call_id, 'party_id', p.party_id)
    FROM gong_raw.call_parties AS p
    WHERE p.call_id = own AND (p.speaker_id = known.speaker_id OR p.email_norm = known.email_norm OR p.name = known.name)
    UNION ALL
    SELECT 'gong_raw.call_transcripts'::regclass, 'transcript', jsonb_build_object('call_id', t.call_id, 'seq', t.seq)
    FROM gong_raw.call_transcripts AS t WHERE t.call_id = own AND t.speaker_id = known.speaker_id;
  END IF;
  RETURN QUERY SELECT s.source, 'contact', s.key FROM sophia.contact_raw_rows(known.contact_id) AS s WHERE known.contact_id IS NOT NULL;
END
$$;
COMMENT ON FUNCTION sophia.participant_raw_rows(text, integer) IS 'internal: raw rows that a row of interaction_participants may be made of';

CREATE FUNCTION sophia.raw_rows(target regclass, row_key text) RETURNS TABLE (source regclass, part text, key jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  CASE target::oid
    WHEN to_regclass('processed_data.unified_contacts')::oid THEN
      RETURN QUERY SELECT s.* FROM processed_data.unified_contacts AS u, sophia.contact_raw_rows(u.id) AS s WHERE u.id = row_key;
    WHEN to_regclass('processed_data.interaction_timeline')::oid THEN
      RETURN QUERY SELECT s.* FROM processed_data.interaction_timeline AS i, sophia.interaction_raw_rows(i.id) AS s WHERE i.id = row_key;
    WHEN to_regclass('processed_data.interaction_participants')::oid THEN
      RETURN QUERY SELECT s.* FROM sophia.participant_raw_rows(row_key::jsonb ->> 'interaction_id', (row_key::jsonb ->> 'ordinal')::integer) AS s;
    WHEN to_regclass('processed_data.identity_links')::oid THEN
      RETURN QUERY SELECT s.* FROM sophia.contact_raw_rows(row_key::jsonb ->> 'contact_id') AS s;
    ELSE
      RETURN QUERY SELECT s.* FROM processed_data.unified_contacts AS u, sophia.contact_raw_rows(u.id) AS s WHERE u.identity_id = row_key::bigint;
  END CASE;
END
$$;
COMMENT ON FUNCTION sophia.raw_rows(regclass, text) IS 'internal: raw rows that a row of processed_data may be made of';

CREATE FUNCTION sophia.row_lineage(target regclass, key text)
RETURNS TABLE (source regclass, source_key jsonb, part text, stream text, journal text, journal_offset bigint, published_at timestamptz, is_deleted boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- The planner expects a hundred keys of a JSON array, which are few; they are looked up one by one.
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  one record;
BEGIN
  IF row_lineage.target IS NULL OR row_lineage.key IS NULL THEN
    RAISE EXCEPTION '% must not be null', CASE WHEN row_lineage.target IS NULL THEN 'target' ELSE 'key' END USING ERRCODE = '22004';
  ELSIF NOT EXISTS (SELECT FROM sophia.lineage_edges AS e JOIN pg_namespace AS n ON n.nspname = 'processed_data'
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = e.target_table WHERE c.oid = row_lineage.target) THEN
    RAISE EXCEPTION '% is no table of processed_data', row_lineage.target USING ERRCODE = '22023',
      HINT = 'A raw row has source_journal and source_offset of its own.';
  END IF;
  FOR one IN
    SELECT s.source, jsonb_agg(DISTINCT s.key || jsonb_build_object('part', s.part)) AS keys
    FROM sophia.raw_rows(row_lineage.target, row_lineage.key) WITH ORDINALITY AS s (source, part, key, place)
    GROUP BY s.source ORDER BY min(s.place)
  LOOP
    -- Elements of one document, such as monologues, come as one.
    RETURN QUERY EXECUTE format(
      'SELECT $2, (array_agg(%s ORDER BY k.place))[1], k.part, sophia.stream_of($2, t.source_journal), t.source_journal, t.source_offset, t.source_published_at, t.is_deleted '
      'FROM (SELECT row_number() OVER () AS place, r.* FROM jsonb_to_recordset($1) AS r (part text, %s)) AS k JOIN %s AS t ON (%s) '
      'GROUP BY k.part, t.source_journal, t.source_offset, t.source_published_at, t.is_deleted, '
      'CASE WHEN k.part <> ''transcript'' OR t.source_journal IS NULL THEN k.place END ORDER BY min(k.place)',
      sophia.key_expression(one.source, 't'), (SELECT string_agg(format('%I %s', k.name, k.type), ', ') FROM sophia.key_columns(one.source) AS k),
      one.source, (SELECT string_agg(format('t.%I = k.%I', k.name, k.name), ' AND ') FROM sophia.key_columns(one.source) AS k))
      USING one.keys, one.source;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.row_lineage(regclass, text) IS
  'raw rows that a row of processed_data is made of, each with the document that it was last made of; key is the primary key, as a JSON object where it has several columns';

CREATE FUNCTION sophia.row_lineage(target regclass, key jsonb)
RETURNS TABLE (source regclass, source_key jsonb, part text, stream text, journal text, journal_offset bigint, published_at timestamptz, is_deleted boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r.* FROM sophia.row_lineage(target, CASE WHEN jsonb_typeof(key) <> 'object' THEN key #>> '{}'
    WHEN (SELECT count(*) FROM jsonb_object_keys(key)) = 1 THEN (SELECT e.value FROM jsonb_each_text(key) AS e)
    ELSE key::text END) AS r
$$;
COMMENT ON FUNCTION sophia.row_lineage(regclass, jsonb) IS 'raw rows that a row of processed_data is made of; key as JSON';

CREATE FUNCTION sophia.row_lineage(target regclass, key bigint)
RETURNS TABLE (source regclass, source_key jsonb, part text, stream text, journal text, journal_offset bigint, published_at timestamptz, is_deleted boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r.* FROM sophia.row_lineage(target, key::text) AS r
$$;
COMMENT ON FUNCTION sophia.row_lineage(regclass, bigint) IS 'raw rows that the records of a person are made of; key is identity_id';

-- ---- OpenLineage ----
-- Events of the form of https://openlineage.io/spec/2-0-2/OpenLineage.json; facets by the versions that their URLs name.

CREATE FUNCTION sophia.openlineage_facet(name text, version text, content jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('_producer', sophia.openlineage_producer(),
    '_schemaURL', format('https://openlineage.io/spec/facets/%s/%s.json#/$defs/%s', version, name, name)) || content
$$;
COMMENT ON FUNCTION sophia.openlineage_facet(text, text, jsonb) IS 'internal: a facet with what every facet has';

CREATE FUNCTION sophia.openlineage_producer() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT 'urn:sophia-stack:' || e.extversion FROM pg_extension AS e WHERE e.extname = 'sophia_stack'
$$;
COMMENT ON FUNCTION sophia.openlineage_producer() IS 'internal: what wrote the events, with its version';

CREATE FUNCTION sophia.openlineage_name(table_schema text, table_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT concat_ws('.', current_database(), table_schema, table_name)
$$;
COMMENT ON FUNCTION sophia.openlineage_name(text, text) IS 'internal: name of a dataset: database, schema and table';

CREATE FUNCTION sophia.openlineage_schema(table_schema text, table_name text) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sophia.openlineage_facet('SchemaDatasetFacet', '1-1-1', jsonb_build_object('fields',
    coalesce(jsonb_agg(jsonb_build_object('name', c.column_name, 'type', c.column_type) ORDER BY c.ordinal), '[]')))
  FROM sophia.wanted_columns AS c
  WHERE c.table_schema = openlineage_schema.table_schema AND c.table_name = openlineage_schema.table_name
$$;
COMMENT ON FUNCTION sophia.openlineage_schema(text, text) IS 'internal: facet with the columns of a table';

CREATE FUNCTION sophia.openlineage_columns(target_table text, namespace text) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sophia.openlineage_facet('ColumnLineageDatasetFacet', '1-2-0', jsonb_build_object('fields',
    coalesce(jsonb_object_agg(f.target_column, jsonb_build_object('inputFields', f.inputs)), '{}')))
  FROM (SELECT e.target_column, jsonb_agg(jsonb_build_object('namespace', namespace,
        'name', sophia.openlineage_name(e.source_schema, e.source_table), 'field', e.source_column,
        'transformations', jsonb_build_array(jsonb_build_object(
          'type', CASE WHEN e.transformation IN ('join', 'conditional') THEN 'INDIRECT' ELSE 'DIRECT' END,
          'subtype', upper(e.transformation))))
      ORDER BY e.source_schema, e.source_table, e.source_column) AS inputs
    FROM sophia.lineage_edges AS e
    WHERE e.target_table = openlineage_columns.target_table
    GROUP BY e.target_column) AS f
$$;
COMMENT ON FUNCTION sophia.openlineage_columns(text, text) IS 'internal: facet with the columns that those of a table of processed_data are made of';

-- What a target of refresh_log covers: interaction_timeline has its participants, contacts is what resolving writes.
CREATE FUNCTION sophia.openlineage_outputs(target text) RETURNS TABLE (table_name text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT unnest(CASE target WHEN 'interaction_timeline' THEN '{interaction_timeline,interaction_participants}'::text[]
    WHEN 'contacts' THEN '{contacts,identities,identity_links}' ELSE ARRAY[target] END)
$$;
COMMENT ON FUNCTION sophia.openlineage_outputs(text) IS 'internal: tables that a run for that target writes';

CREATE FUNCTION sophia.openlineage_checks(table_schema text, table_name text, at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- A rule about several columns, or none, is about the table.
  SELECT jsonb_build_object('dataQualityAssertions', sophia.openlineage_facet('DataQualityAssertionsDatasetFacet', '1-0-1',
    jsonb_build_object('assertions', jsonb_agg(jsonb_strip_nulls(jsonb_build_object('assertion', format('%s: %s', l.kind, l.rule),
      'success', l.status = 'passed', 'column', CASE WHEN cardinality(l.columns) = 1 THEN l.columns[1] END)) ORDER BY l.rule))))
  FROM (SELECT DISTINCT ON (r.rule) r.rule, r.kind, r.status, q.columns
    FROM sophia.quality_results AS r
    JOIN pg_class AS c ON c.oid = r.target
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN sophia.current_quality_rules AS q ON q.target = r.target AND q.rule = r.rule
    WHERE n.nspname = openlineage_checks.table_schema AND c.relname = openlineage_checks.table_name AND r.checked_at <= at
    ORDER BY r.rule, r.id DESC) AS l
  HAVING count(*) > 0
$$;
COMMENT ON FUNCTION sophia.openlineage_checks(text, text, timestamptz) IS 'internal: input facets with the last results of the rules of a table at that time';

CREATE FUNCTION sophia.openlineage_time(at timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
COMMENT ON FUNCTION sophia.openlineage_time(timestamptz) IS 'internal: a time as RFC 3339 has it';

-- The same for a run whenever it is asked, another for the run of that number elsewhere; version 8 of RFC 9562.
CREATE FUNCTION sophia.openlineage_run(run bigint, started_at timestamptz) RETURNS uuid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT overlay(overlay(md5(concat_ws(' ', h.system_identifier, h.database_oid, run, extract(epoch FROM started_at)))
    PLACING '8' FROM 13) PLACING 'a' FROM 17)::uuid
  FROM sophia.here AS h
$$;
COMMENT ON FUNCTION sophia.openlineage_run(bigint, timestamptz) IS 'internal: identifier of a run of refresh';

CREATE FUNCTION sophia.openlineage_events(since timestamptz DEFAULT NULL, namespace text DEFAULT NULL) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
  WITH place AS MATERIALIZED (
    SELECT coalesce(openlineage_events.namespace,
      format('postgres://%s:%s', coalesce(host(inet_server_addr()), 'localhost'), current_setting('port'))) AS namespace
  ), run AS MATERIALIZED (
    SELECT l.*, e.event_type, e.event_at
    FROM sophia.refresh_log AS l
    CROSS JOIN LATERAL (VALUES ('START', l.started_at),
      (CASE WHEN l.error IS NULL THEN 'COMPLETE' ELSE 'FAIL' END, l.finished_at)) AS e (event_type, event_at)
    WHERE e.event_at >= coalesce(since, '-infinity') AND l.mode <> 'dry_run'
  ), input AS MATERIALIZED (
    -- Tables that a run writes itself are none of its inputs.
    SELECT d.*, sophia.openlineage_schema(d.source_schema, d.source_table) AS columns
    FROM (SELECT DISTINCT t.target, e.source_schema, e.source_table
      FROM (SELECT DISTINCT r.target FROM run AS r) AS t
      CROSS JOIN LATERAL sophia.openlineage_outputs(t.target) AS o
      JOIN sophia.lineage_edges AS e ON e.target_table = o.table_name
      JOIN pg_namespace AS n ON n.nspname = e.source_schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = e.source_table
      WHERE e.source_schema <> 'processed_data' OR e.source_table NOT IN (SELECT w.table_name FROM sophia.openlineage_outputs(t.target) AS w)) AS d
  ), output AS MATERIALIZED (
    SELECT t.target, o.table_name, jsonb_build_object('schema', sophia.openlineage_schema('processed_data', o.table_name),
      'columnLineage', sophia.openlineage_columns(o.table_name, p.namespace)) AS facets
    FROM place AS p, (SELECT DISTINCT r.target FROM run AS r) AS t
    CROSS JOIN LATERAL sophia.openlineage_outputs(t.target) AS o
  )
  -- The events of a run add up, and columns belong to what it has written: they come with COMPLETE alone.
  SELECT jsonb_build_object(
    'eventType', r.event_type,
    'eventTime', sophia.openlineage_time(r.event_at),
    'producer', sophia.openlineage_producer(),
    'schemaURL', 'https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent',
    'run', jsonb_build_object('runId', sophia.openlineage_run(r.id, r.started_at), 'facets',
      jsonb_build_object('processing_engine', sophia.openlineage_facet('ProcessingEngineRunFacet', '1-1-1',
        jsonb_build_object('version', current_setting('server_version'), 'name', 'PostgreSQL')))
      || CASE WHEN r.event_type = 'FAIL' THEN jsonb_build_object('errorMessage', sophia.openlineage_facet('ErrorMessageRunFacet', '1-0-1',
        jsonb_build_object('message', r.error, 'programmingLanguage', 'SQL'))) ELSE '{}' END),
    'job', jsonb_build_object('namespace', p.namespace, 'name', concat_ws('.', current_database(), 'sophia.refresh', r.target), 'facets',
      jsonb_build_object('jobType', sophia.openlineage_facet('JobTypeJobFacet', '2-0-3',
        jsonb_build_object('processingType', 'BATCH', 'integration', 'SOPHIA_STACK', 'jobType', 'REFRESH')))),
    'inputs', coalesce((SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('namespace', p.namespace,
          'name', sophia.openlineage_name(i.source_schema, i.source_table),
          'facets', CASE WHEN r.event_type = 'COMPLETE' THEN jsonb_build_object('schema', i.columns) END,
          'inputFacets', CASE WHEN r.event_type <> 'START' THEN sophia.openlineage_checks(i.source_schema, i.source_table, r.event_at) END))
        ORDER BY i.source_schema, i.source_table)
      FROM input AS i WHERE i.target = r.target), '[]'),
    'outputs', (SELECT jsonb_agg(jsonb_build_object('namespace', p.namespace, 'name', sophia.openlineage_name('processed_data', o.table_name))
          || CASE WHEN r.event_type = 'COMPLETE' THEN jsonb_build_object('facets', o.facets) ELSE '{}' END
          || CASE WHEN r.event_type = 'COMPLETE' AND o.table_name = r.target THEN jsonb_build_object('outputFacets', jsonb_build_object(
            'outputStatistics', sophia.openlineage_facet('OutputStatisticsOutputDatasetFacet', '1-0-2',
              jsonb_build_object('rowCount', r.rows_inserted + r.rows_updated)))) ELSE '{}' END
        ORDER BY o.table_name)
      FROM output AS o WHERE o.target = r.target))
  FROM run AS r CROSS JOIN place AS p
  ORDER BY r.event_at, r.id, r.event_type DESC
$$;
COMMENT ON FUNCTION sophia.openlineage_events(timestamptz, text) IS
  'runs of refresh since a time (NULL = all that refresh_log holds) as OpenLineage run events, in order; namespace is that of datasets and jobs, by default postgres:// with the address and port of this connection';
