-- Where interaction_timeline and its participants come from: lookups, and the queries for HubSpot.
--
-- Each query takes the ids of the interactions that it is to give, NULL for all: the same text is planned by key for a few
-- and by table for all, because the ids are a constant in the statement that uses it.  Participants are made first;
-- the interactions read from them who is their contact, so both are written in that order, and those of Gong before those
-- of HubSpot, which look among the former for a call that shows the same meeting.

CREATE FUNCTION sophia.source_ids(ids text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(substr(i.id, strpos(i.id, '_') + 1)) FROM unnest(ids) AS i (id)
$$;
COMMENT ON FUNCTION sophia.source_ids(text[]) IS 'internal: ids in their source of ids of processed rows: what follows the first underscore';

CREATE FUNCTION sophia.chunks(items text[]) RETURNS TABLE (chunk text[])
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(i.item) FROM unnest(items) WITH ORDINALITY AS i (item, place) GROUP BY i.place / 100
$$;
COMMENT ON FUNCTION sophia.chunks(text[]) IS
  'internal: the items by hundreds: overlap of arrays takes the product of their lengths, and each scan of a GIN index reads all that it has pending';

CREATE FUNCTION sophia.contacts_by_email(emails text[]) RETURNS TABLE (email_norm text, contact_id text)
LANGUAGE plpgsql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = on
AS $$
BEGIN
  -- The few records with further addresses have an index of their own, which the planner thinks little of.
  PERFORM set_config('enable_seqscan', (emails IS NULL)::text, true);
  RETURN QUERY EXECUTE $query$
    SELECT DISTINCT ON (e.email COLLATE "C") e.email, e.id
    FROM (
      SELECT c.email_norm AS email, c.id, c.is_deleted, c.source_system, false AS is_further, c.created_at
      FROM processed_data.unified_contacts AS c
      WHERE c.email_norm IS NOT NULL AND ($1 IS NULL OR c.email_norm = ANY ($1))
      UNION ALL
      SELECT x.email, c.id, c.is_deleted, c.source_system, true, c.created_at
      FROM processed_data.unified_contacts AS c
      CROSS JOIN LATERAL unnest(c.all_emails) AS x (email)
      WHERE $1 IS NULL AND cardinality(c.all_emails) > 1 AND x.email IS DISTINCT FROM c.email_norm
      UNION ALL
      SELECT x.email, c.id, c.is_deleted, c.source_system, true, c.created_at
      FROM sophia.chunks($1) AS k (emails)
      JOIN processed_data.unified_contacts AS c ON c.all_emails && k.emails
      CROSS JOIN LATERAL unnest(c.all_emails) AS x (email)
      WHERE cardinality(c.all_emails) > 1 AND x.email IS DISTINCT FROM c.email_norm AND x.email = ANY (k.emails)) AS e
    ORDER BY e.email COLLATE "C", e.is_deleted, CASE e.source_system WHEN 'hubspot' THEN 1 WHEN 'gong' THEN 2 ELSE 3 END,
      e.is_further, e.created_at NULLS LAST, e.id COLLATE "C" $query$ USING emails;
END
$$;
COMMENT ON FUNCTION sophia.contacts_by_email(text[]) IS
  'internal: contact of each of these e-mail addresses, NULL = of all: of HubSpot before Gong before Slack, one whose primary address it is before others';

CREATE FUNCTION sophia.staff_by_email(emails text[]) RETURNS TABLE (email_norm text, contact_id text)
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
  -- Two queries, as OR would compare each address with every colleague.
  SELECT DISTINCT ON (s.email COLLATE "C") s.email, s.id
  FROM (
    SELECT e.email, c.id, c.is_deleted, c.source_system, c.created_at
    FROM unnest(emails) AS e (email)
    JOIN processed_data.unified_contacts AS c ON c.email_norm = e.email
    WHERE c.is_internal
    UNION ALL
    SELECT e.email, c.id, c.is_deleted, c.source_system, c.created_at
    FROM unnest(emails) AS e (email)
    JOIN processed_data.unified_contacts AS c ON cardinality(c.all_emails) > 1 AND c.all_emails @> ARRAY[e.email]
    WHERE c.is_internal) AS s
  ORDER BY s.email COLLATE "C", s.is_deleted,
    CASE s.source_system WHEN 'gong' THEN 1 WHEN 'slack' THEN 2 ELSE 3 END, s.created_at NULLS LAST, s.id COLLATE "C"
$$;
COMMENT ON FUNCTION sophia.staff_by_email(text[]) IS
  'internal: contact of each of these e-mail addresses of a colleague: of Gong before Slack before HubSpot';

CREATE FUNCTION sophia.hubspot_staff() RETURNS TABLE (owner_id text, contact_id text, email_norm text, name text)
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT o.id, s.contact_id, o.email_norm, o.name
  FROM (SELECT r.id, sophia.normalize_email(r.email) AS email_norm,
      nullif(concat_ws(' ', sophia.value_or_null(r.first_name), sophia.value_or_null(r.last_name)), '') AS name
    FROM hubspot_raw.owners AS r
    WHERE NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.owners'::regclass AND q.key ->> 'id' = r.id)) AS o
  LEFT JOIN sophia.staff_by_email(ARRAY(SELECT DISTINCT sophia.normalize_email(r.email) FROM hubspot_raw.owners AS r)) AS s
    ON s.email_norm = o.email_norm
$$;
COMMENT ON FUNCTION sophia.hubspot_staff() IS 'internal: owners of HubSpot, each with the contact of the colleague';

CREATE FUNCTION sophia.is_erased(doc jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(doc OPERATOR(pg_catalog.#>>) '{properties,hs_gdpr_deleted}' = 'true', false);
COMMENT ON FUNCTION sophia.is_erased(jsonb) IS 'internal: whether HubSpot erased what an engagement said about a person';

CREATE FUNCTION sophia.primary_rank(source_system text, role text, affiliation text, contact_id text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE source_system
  -- A receiver of a copy comes last; so does a contact of HubSpot with an address of the own company.
  WHEN 'hubspot' THEN CASE
    WHEN role IN ('host', 'author', 'attendee') THEN NULL
    WHEN affiliation = 'external' THEN CASE WHEN role IN ('cc', 'bcc') THEN 2 ELSE 1 END
    WHEN contact_id LIKE 'hubspot\_%' THEN CASE role WHEN 'associated' THEN 3 WHEN 'to' THEN 4 END END
  WHEN 'gong' THEN CASE affiliation WHEN 'external' THEN 1 WHEN 'unknown' THEN 2 END
  END;
COMMENT ON FUNCTION sophia.primary_rank(text, text, text, text) IS 'internal: orders the participants that can be the contact of an interaction; NULL = cannot';

CREATE FUNCTION sophia.participants_from_hubspot(ids text[] DEFAULT NULL)
RETURNS TABLE (interaction_id text, ordinal integer, contact_id text, role text, email_norm text, name text, affiliation text,
  speaker_id text, talk_seconds integer, occurred_at timestamptz)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH engagement AS MATERIALIZED (
    SELECT e.id, e.engagement_type, e.owner_id, e.from_email, e.to_emails, e.cc_emails, e.bcc_emails, e.contact_ids,
      CASE e.engagement_type WHEN 'MEETING' THEN e.doc #>> '{properties,hs_attendee_owner_ids}' END AS attendees,
      coalesce(e.occurred_at, e.createdate) AS at
    FROM hubspot_raw.engagements AS e
    WHERE (ids IS NULL OR e.id = ANY (sophia.source_ids(ids))) AND NOT sophia.is_erased(e.doc)
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.engagements'::regclass AND q.key ->> 'id' = e.id)
  ), mailbox AS MATERIALIZED (
    SELECT x.id, x.rank, x.role, x.email_norm, pg_catalog.min(x.place) AS place, x.at
    FROM (
      SELECT e.id, 1 AS rank, 'from' AS role, sophia.normalize_email(e.from_email) AS email_norm, 1::bigint AS place, e.at
      FROM engagement AS e
      WHERE e.from_email IS NOT NULL
      UNION ALL
      SELECT e.id, a.rank, a.role, sophia.normalize_email(m.email), m.place, e.at
      FROM engagement AS e
      CROSS JOIN LATERAL (VALUES (2, 'to', e.to_emails), (3, 'cc', e.cc_emails), (4, 'bcc', e.bcc_emails))
        AS a (rank, role, emails)
      CROSS JOIN LATERAL pg_catalog.unnest(a.emails) WITH ORDINALITY AS m (email, place)
      WHERE e.to_emails IS NOT NULL OR e.cc_emails IS NOT NULL OR e.bcc_emails IS NOT NULL) AS x
    WHERE x.email_norm IS NOT NULL
    GROUP BY x.id, x.rank, x.role, x.email_norm, x.at
  ), address AS MATERIALIZED (
    -- By key for a few addresses; for many, reading all contacts is cheaper.
    SELECT c.email_norm, c.contact_id
    FROM sophia.contacts_by_email(CASE WHEN ids IS NOT NULL OR (SELECT pg_catalog.count(*) FROM mailbox AS m) < 20000
      THEN ARRAY(SELECT DISTINCT m.email_norm FROM mailbox AS m) END) AS c
  ), staff AS (
    -- The owner and the colleagues who attended a meeting; an e-mail names its owner among its addresses.
    SELECT e.id, 5 AS rank, CASE WHEN e.engagement_type IN ('CALL', 'MEETING') THEN 'host' ELSE 'author' END AS role,
      e.owner_id, 1::bigint AS place, e.at
    FROM engagement AS e
    WHERE e.owner_id IS NOT NULL AND coalesce(e.engagement_type, '') NOT IN ('EMAIL', 'INCOMING_EMAIL', 'FORWARDED_EMAIL')
    UNION ALL
    SELECT e.id, 6, 'attendee', x.owner_id, pg_catalog.min(x.place), e.at
    FROM engagement AS e
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.string_to_array(e.attendees, ';')) WITH ORDINALITY AS x (owner_id, place)
    WHERE e.attendees IS NOT NULL AND x.owner_id IS DISTINCT FROM e.owner_id
    GROUP BY e.id, x.owner_id, e.at
  ), linked AS (
    -- Association arrays hold duplicates, and ids that were merged away.
    SELECT x.id, 'hubspot_' || coalesce(a.survivor, x.contact) AS contact_id, pg_catalog.min(x.place) AS place, x.at
    FROM (
      SELECT e.id, c.id AS contact, c.place, e.at
      FROM engagement AS e
      CROSS JOIN LATERAL pg_catalog.unnest(e.contact_ids) WITH ORDINALITY AS c (id, place)) AS x
    LEFT JOIN sophia.hubspot_aliases() AS a ON a.id = x.contact
    GROUP BY x.id, 'hubspot_' || coalesce(a.survivor, x.contact), x.at
  ), named AS MATERIALIZED (
    SELECT m.id, m.rank, m.role, m.place, m.email_norm, NULL::text AS name, c.contact_id, d.domain IS NOT NULL AS is_staff, m.at
    FROM mailbox AS m
    LEFT JOIN address AS c ON c.email_norm = m.email_norm
    LEFT JOIN sophia.staff_domains() AS d ON d.domain = sophia.mail_host(m.email_norm)
    UNION ALL
    SELECT s.id, s.rank, s.role, s.place, o.email_norm, o.name, o.contact_id, true, s.at
    FROM staff AS s
    JOIN sophia.hubspot_staff() AS o ON o.owner_id = s.owner_id
  ), numbered AS (
    SELECT p.*, pg_catalog.row_number() OVER (PARTITION BY p.id COLLATE "C"
      ORDER BY p.rank, p.place, p.email_norm COLLATE "C", p.contact_id COLLATE "C") AS ordinal
    FROM (
      SELECT n.* FROM named AS n
      UNION ALL
      SELECT l.id, 7, 'associated', l.place, NULL, NULL, l.contact_id, false, l.at
      FROM linked AS l
      WHERE EXISTS (SELECT FROM processed_data.unified_contacts AS u WHERE u.id = l.contact_id)
        AND NOT EXISTS (SELECT FROM named AS n WHERE n.id = l.id AND n.contact_id = l.contact_id)) AS p
  )
  SELECT 'hubspot_' || p.id, p.ordinal::integer, p.contact_id, p.role, CASE p.rank WHEN 7 THEN u.email_norm ELSE p.email_norm END,
    coalesce(p.name, u.full_name), CASE WHEN p.is_staff OR u.is_internal THEN 'internal' ELSE 'external' END,
    NULL, NULL::integer, p.at
  FROM numbered AS p
  LEFT JOIN processed_data.unified_contacts AS u ON u.id = p.contact_id
$$;
COMMENT ON FUNCTION sophia.participants_from_hubspot(text[]) IS
  'internal: participants of these HubSpot engagements, NULL = of all: e-mail addresses, owner, attendees, and associated contacts that are none of these';

CREATE FUNCTION sophia.unknown_time() RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT '-infinity'::timestamptz FROM pg_partitioned_table AS p
  WHERE p.partrelid = to_regclass('processed_data.interaction_timeline')
$$;
COMMENT ON FUNCTION sophia.unknown_time() IS 'internal: what stands for an unknown time in interaction_timeline: -infinity where it is partitioned, as its key holds the time';

CREATE FUNCTION sophia.distinct_in_order(items text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(d.item ORDER BY d.place)
  FROM (SELECT i.item, min(i.place) AS place FROM unnest(items) WITH ORDINALITY AS i (item, place)
    WHERE i.item <> '' GROUP BY i.item) AS d
$$;
COMMENT ON FUNCTION sophia.distinct_in_order(text[]) IS 'internal: the items without repetition, in the order in which they first come; NULL where there is none';

CREATE FUNCTION sophia.unique_items(items text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN pg_catalog.cardinality(items) > 1 THEN sophia.distinct_in_order(items)
  ELSE nullif(nullif(items, '{}'::text[]), '{""}'::text[]) END;
COMMENT ON FUNCTION sophia.unique_items(text[]) IS 'internal: as distinct_in_order, and cheap for the usual single item';

CREATE FUNCTION sophia.interactions_from_hubspot(ids text[] DEFAULT NULL)
RETURNS TABLE (id text, source_system text, source_id text, interaction_type text, occurred_at timestamptz,
  ended_at timestamptz, duration_seconds integer, direction text, channel text, channel_name text, thread_key text,
  subject text, body text, snippet text, contact_id text, owner_contact_id text, company_id text, deal_id text,
  sentiment text, sentiment_score real, is_private boolean, source_url text, source_published_at timestamptz,
  created_at timestamptz, updated_at timestamptz, doc_hash bytea, is_deleted boolean, duplicate_of text, parent_id text,
  company_ids text[], deal_ids text[])
LANGUAGE sql STABLE ROWS 100000
AS $$
  SELECT 'hubspot_' || e.id, 'hubspot', e.id, e.kind, coalesce(e.at, sophia.unknown_time()),
    coalesce(e.ended_at, sophia.time_after(e.at, sophia.whole_seconds(e.duration_ms / 1000.0))),
    coalesce(sophia.whole_seconds(e.duration_ms / 1000.0), sophia.whole_seconds(sophia.seconds_between(e.at, e.ended_at))),
    CASE coalesce(e.direction, e.engagement_type)
      WHEN 'INBOUND' THEN 'inbound' WHEN 'INCOMING_EMAIL' THEN 'inbound'
      WHEN 'OUTBOUND' THEN 'outbound' WHEN 'EMAIL' THEN 'outbound'
      ELSE 'unknown' END,
    CASE e.kind WHEN 'email' THEN 'email' WHEN 'call' THEN 'phone' WHEN 'meeting' THEN 'meeting' ELSE 'crm' END,
    NULL, e.thread_id, CASE WHEN NOT e.erased THEN sophia.value_or_null(e.subject) END, e.plain,
    CASE WHEN NOT e.erased THEN sophia.snippet(coalesce(nullif(pg_catalog.btrim(e.body_preview), ''), e.plain)) END,
    p.contact_id, s.contact_id, CASE WHEN NOT e.erased THEN e.company_ids[1] END, CASE WHEN NOT e.erased THEN e.deal_ids[1] END,
    NULL, NULL::real, false, CASE WHEN NOT e.erased THEN e.url END, e.source_published_at, e.createdate, e.lastmodifieddate,
    sophia.document_hash(e.doc), e.is_deleted OR coalesce(e.archived, false) OR e.erased, coalesce(same.id, near.id),
    'hubspot_' || nullif(root.id, e.id),
    CASE WHEN NOT e.erased THEN sophia.unique_items(e.company_ids) END,
    CASE WHEN NOT e.erased THEN sophia.unique_items(e.deal_ids) END
  FROM (
    -- OFFSET 0: what is computed here is used several times.
    SELECT r.*, CASE WHEN NOT r.erased THEN coalesce(r.body_text, sophia.strip_html(r.body_html)) END AS plain,
      CASE r.engagement_type
        WHEN 'CALL' THEN 'call' WHEN 'MEETING' THEN 'meeting' WHEN 'NOTE' THEN 'note' WHEN 'TASK' THEN 'task'
        WHEN 'EMAIL' THEN 'email' WHEN 'INCOMING_EMAIL' THEN 'email' WHEN 'FORWARDED_EMAIL' THEN 'email'
        ELSE 'other' END AS kind
    FROM (
      SELECT r.*, coalesce(r.occurred_at, r.createdate) AS at, sophia.is_erased(r.doc) AS erased
      FROM hubspot_raw.engagements AS r
      WHERE (ids IS NULL OR r.id = ANY (sophia.source_ids(ids)))
        AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.engagements'::regclass AND q.key ->> 'id' = r.id)
      OFFSET 0) AS r
    OFFSET 0) AS e
  LEFT JOIN LATERAL (
    SELECT q.contact_id
    FROM processed_data.interaction_participants AS q
    WHERE q.interaction_id = 'hubspot_' || e.id AND q.contact_id IS NOT NULL
      AND sophia.primary_rank('hubspot', q.role, q.affiliation, q.contact_id) IS NOT NULL
    ORDER BY sophia.primary_rank('hubspot', q.role, q.affiliation, q.contact_id), q.ordinal
    LIMIT 1) AS p ON true
  LEFT JOIN sophia.hubspot_staff() AS s ON s.owner_id = e.owner_id
  LEFT JOIN LATERAL (
    SELECT t.id
    FROM hubspot_raw.engagements AS t
    WHERE t.thread_id = e.thread_id
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.engagements'::regclass AND q.key ->> 'id' = t.id)
    ORDER BY coalesce(t.occurred_at, t.createdate), t.id COLLATE "C"
    LIMIT 1) AS root ON true
  -- The call of the calendar event.  All meetings of a series share it, so the time has to agree too.
  LEFT JOIN LATERAL (
    SELECT g.id
    FROM processed_data.interaction_timeline AS g
    WHERE e.engagement_type = 'MEETING' AND e.ical_uid <> '' AND g.thread_key = e.ical_uid AND g.source_system = 'gong'
      AND g.occurred_at BETWEEN sophia.time_after(e.at, -900) AND sophia.time_after(e.at, 900) AND NOT g.is_deleted
    ORDER BY pg_catalog.abs(sophia.seconds_between(e.at, g.occurred_at)), g.id COLLATE "C"
    LIMIT 1) AS same ON true
  -- Without it, a call of the same host at that time with one of the same people besides.
  LEFT JOIN LATERAL (
    SELECT g.id
    FROM processed_data.interaction_timeline AS g
    WHERE same.id IS NULL AND e.engagement_type = 'MEETING' AND g.owner_contact_id = s.contact_id AND g.source_system = 'gong'
      AND g.occurred_at BETWEEN sophia.time_after(e.at, -900) AND sophia.time_after(e.at, 900) AND NOT g.is_deleted
      AND EXISTS (
        SELECT FROM processed_data.interaction_participants AS m
        JOIN processed_data.interaction_participants AS o ON o.interaction_id = g.id
        LEFT JOIN processed_data.unified_contacts AS u ON u.id = m.contact_id
        WHERE m.interaction_id = 'hubspot_' || e.id
          AND m.contact_id IS DISTINCT FROM s.contact_id AND o.contact_id IS DISTINCT FROM s.contact_id
          AND m.role <> 'host' AND o.role <> 'host'
          AND (o.contact_id = m.contact_id OR o.email_norm = m.email_norm OR o.email_norm = ANY (u.all_emails)))
    ORDER BY pg_catalog.abs(sophia.seconds_between(e.at, g.occurred_at)), g.id COLLATE "C"
    LIMIT 1) AS near ON true
$$;
COMMENT ON FUNCTION sophia.interactions_from_hubspot(text[]) IS
  'internal: rows that interaction_timeline should have for these HubSpot engagements, NULL = for all; one that HubSpot erased tells nothing of what was said, nor who took part';
