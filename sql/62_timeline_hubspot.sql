-- Where interaction_timeline and its participants come from: lookups, and the queries for HubSpot.
--
-- primary_rank orders the participants that can be the contact of an interaction; NULL = cannot.

CREATE FUNCTION sophia.contacts_by_email() RETURNS TABLE (email_norm text, contact_id text)
LANGUAGE sql STABLE ROWS 100000
AS $$
  SELECT DISTINCT ON (e.email COLLATE "C") e.email, c.id
  FROM processed_data.unified_contacts AS c
  CROSS JOIN LATERAL pg_catalog.unnest(c.all_emails) AS e (email)
  ORDER BY e.email COLLATE "C", c.is_deleted,
    CASE c.source_system WHEN 'hubspot' THEN 1 WHEN 'gong' THEN 2 ELSE 3 END,
    c.email_norm IS DISTINCT FROM e.email, c.created_at NULLS LAST, c.id COLLATE "C"
$$;
COMMENT ON FUNCTION sophia.contacts_by_email() IS 'internal: contact of each e-mail address: of HubSpot before Gong before Slack, one whose primary address it is before others';

CREATE FUNCTION sophia.staff_by_email() RETURNS TABLE (email_norm text, contact_id text)
LANGUAGE sql STABLE ROWS 1000
AS $$
  SELECT DISTINCT ON (e.email COLLATE "C") e.email, c.id
  FROM processed_data.unified_contacts AS c
  CROSS JOIN LATERAL pg_catalog.unnest(c.all_emails) AS e (email)
  WHERE c.is_internal
  ORDER BY e.email COLLATE "C", c.is_deleted,
    CASE c.source_system WHEN 'gong' THEN 1 WHEN 'slack' THEN 2 ELSE 3 END, c.created_at NULLS LAST, c.id COLLATE "C"
$$;
COMMENT ON FUNCTION sophia.staff_by_email() IS 'internal: contact of each e-mail address of a colleague: of Gong before Slack before HubSpot';

CREATE FUNCTION sophia.gong_calendar_calls() RETURNS TABLE (calendar_event_id text, call_id text, called_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT sophia.has_source('gong') THEN
    RETURN;
  END IF;
  RETURN QUERY
  SELECT c.calendar_event_id, c.id, coalesce(c.started, c.scheduled)
  FROM gong_raw.calls AS c
  WHERE c.calendar_event_id <> '' AND NOT c.is_deleted;
END
$$;
COMMENT ON FUNCTION sophia.gong_calendar_calls() IS 'internal: Gong calls that a calendar event belongs to';

CREATE FUNCTION sophia.participants_from_hubspot()
RETURNS TABLE (interaction_id text, ordinal integer, contact_id text, role text, email_norm text, name text, affiliation text,
  speaker_id text, talk_seconds integer, primary_rank integer)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH mailbox AS MATERIALIZED (
    SELECT e.id, a.rank, a.role, sophia.normalize_email(x.email) AS email_norm, pg_catalog.min(x.place) AS place
    FROM hubspot_raw.engagements AS e
    CROSS JOIN LATERAL (VALUES (1, 'from', ARRAY[e.from_email]), (2, 'to', e.to_emails), (3, 'cc', e.cc_emails),
      (4, 'bcc', e.bcc_emails)) AS a (rank, role, emails)
    CROSS JOIN LATERAL pg_catalog.unnest(a.emails) WITH ORDINALITY AS x (email, place)
    WHERE sophia.normalize_email(x.email) IS NOT NULL
    GROUP BY e.id, a.rank, a.role, sophia.normalize_email(x.email)
  ), staff AS (
    -- The owner and the colleagues who attended a meeting; an e-mail names its owner among its addresses.
    SELECT e.id, 5 AS rank, CASE WHEN e.engagement_type IN ('CALL', 'MEETING') THEN 'host' ELSE 'author' END AS role,
      e.owner_id, 1::bigint AS place
    FROM hubspot_raw.engagements AS e
    WHERE e.owner_id IS NOT NULL
      AND coalesce(e.engagement_type, '') NOT IN ('EMAIL', 'INCOMING_EMAIL', 'FORWARDED_EMAIL')
    UNION ALL
    SELECT e.id, 6, 'attendee', x.owner_id, pg_catalog.min(x.place)
    FROM hubspot_raw.engagements AS e
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.string_to_array(
      e.doc #>> '{properties,hs_attendee_owner_ids}', ';')) WITH ORDINALITY AS x (owner_id, place)
    WHERE e.engagement_type = 'MEETING' AND x.owner_id IS DISTINCT FROM e.owner_id
    GROUP BY e.id, x.owner_id
  ), linked AS (
    -- Association arrays hold duplicates, and ids that were merged away.
    SELECT e.id, 'hubspot_' || coalesce(a.survivor, x.id) AS contact_id, pg_catalog.min(x.place) AS place
    FROM hubspot_raw.engagements AS e
    CROSS JOIN LATERAL pg_catalog.unnest(e.contact_ids) WITH ORDINALITY AS x (id, place)
    LEFT JOIN sophia.hubspot_aliases() AS a ON a.id = x.id
    GROUP BY e.id, 'hubspot_' || coalesce(a.survivor, x.id)
  ), participant AS (
    SELECT m.id, m.rank, m.role, m.place, m.email_norm, NULL::text AS name, c.contact_id, d.domain IS NOT NULL AS is_staff
    FROM mailbox AS m
    LEFT JOIN sophia.contacts_by_email() AS c ON c.email_norm = m.email_norm
    LEFT JOIN sophia.staff_domains() AS d ON d.domain = sophia.mail_host(m.email_norm)
    UNION ALL
    SELECT s.id, s.rank, s.role, s.place, sophia.normalize_email(o.email),
      nullif(pg_catalog.concat_ws(' ', sophia.value_or_null(o.first_name), sophia.value_or_null(o.last_name)), ''),
      c.contact_id, true
    FROM staff AS s
    JOIN hubspot_raw.owners AS o ON o.id = s.owner_id
    LEFT JOIN sophia.staff_by_email() AS c ON c.email_norm = sophia.normalize_email(o.email)
    UNION ALL
    SELECT l.id, 7, 'associated', l.place, u.email_norm, NULL, l.contact_id, u.is_internal
    FROM linked AS l
    JOIN processed_data.unified_contacts AS u ON u.id = l.contact_id
  ), ranked AS (
    SELECT p.*, pg_catalog.min(p.rank) OVER (PARTITION BY p.id, p.contact_id) AS first_rank
    FROM participant AS p
  )
  SELECT 'hubspot_' || r.id,
    (pg_catalog.row_number() OVER (PARTITION BY r.id ORDER BY r.rank, r.place, r.email_norm, r.contact_id))::integer,
    r.contact_id, r.role, r.email_norm, coalesce(r.name, u.full_name),
    CASE WHEN r.is_staff OR u.is_internal THEN 'internal' ELSE 'external' END, NULL, NULL::integer,
    -- A receiver of a copy comes last; so does a contact of HubSpot with an address of the own company.
    CASE
      WHEN r.role IN ('host', 'author', 'attendee') THEN NULL
      WHEN NOT (r.is_staff OR coalesce(u.is_internal, false)) THEN CASE WHEN r.role IN ('cc', 'bcc') THEN 2 ELSE 1 END
      WHEN u.source_system = 'hubspot' THEN CASE r.role WHEN 'associated' THEN 3 WHEN 'to' THEN 4 END END
  FROM ranked AS r
  LEFT JOIN processed_data.unified_contacts AS u ON u.id = r.contact_id
  WHERE r.contact_id IS NULL OR r.rank <> 7 OR r.first_rank = 7
$$;
COMMENT ON FUNCTION sophia.participants_from_hubspot() IS 'internal: participants of HubSpot engagements: e-mail addresses, owner, attendees, and associated contacts that are none of these';

CREATE FUNCTION sophia.interactions_from_hubspot()
RETURNS TABLE (id text, source_system text, source_id text, interaction_type text, occurred_at timestamptz,
  ended_at timestamptz, duration_seconds integer, direction text, channel text, channel_name text, thread_key text,
  subject text, body text, snippet text, owner_contact_id text, company_id text, deal_id text, sentiment text,
  sentiment_score real, is_private boolean, source_url text, source_published_at timestamptz, created_at timestamptz,
  updated_at timestamptz, doc_hash bytea, is_deleted boolean, duplicate_of text)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH same_meeting AS (
    -- All meetings of a series share the calendar event, so the time has to agree too.
    SELECT DISTINCT ON (e.id) e.id, g.call_id
    FROM hubspot_raw.engagements AS e
    JOIN sophia.gong_calendar_calls() AS g ON g.calendar_event_id = e.ical_uid
      AND pg_catalog.abs(sophia.seconds_between(e.occurred_at, g.called_at)) <= 900
    WHERE e.engagement_type = 'MEETING'
    ORDER BY e.id, pg_catalog.abs(sophia.seconds_between(e.occurred_at, g.called_at)), g.call_id
  ), engagement AS (
    SELECT e.*, coalesce(e.occurred_at, e.createdate) AS at, coalesce(e.body_text, sophia.strip_html(e.body_html)) AS plain,
      CASE e.engagement_type
        WHEN 'CALL' THEN 'call' WHEN 'MEETING' THEN 'meeting' WHEN 'NOTE' THEN 'note' WHEN 'TASK' THEN 'task'
        WHEN 'EMAIL' THEN 'email' WHEN 'INCOMING_EMAIL' THEN 'email' WHEN 'FORWARDED_EMAIL' THEN 'email'
        ELSE 'other' END AS kind
    FROM hubspot_raw.engagements AS e
  )
  SELECT 'hubspot_' || e.id, 'hubspot', e.id, e.kind, e.at,
    coalesce(e.ended_at, sophia.time_after(e.at, sophia.whole_seconds(e.duration_ms / 1000.0))),
    coalesce(sophia.whole_seconds(e.duration_ms / 1000.0), sophia.whole_seconds(sophia.seconds_between(e.at, e.ended_at))),
    CASE coalesce(e.direction, e.engagement_type)
      WHEN 'INBOUND' THEN 'inbound' WHEN 'INCOMING_EMAIL' THEN 'inbound'
      WHEN 'OUTBOUND' THEN 'outbound' WHEN 'EMAIL' THEN 'outbound'
      ELSE 'unknown' END,
    CASE e.kind WHEN 'email' THEN 'email' WHEN 'call' THEN 'phone' WHEN 'meeting' THEN 'meeting' ELSE 'crm' END,
    NULL, e.thread_id, sophia.value_or_null(e.subject), e.plain,
    sophia.snippet(coalesce(nullif(pg_catalog.btrim(e.body_preview), ''), e.plain)),
    s.contact_id, e.company_ids[1], e.deal_ids[1], NULL, NULL::real, false, e.url, e.source_published_at,
    e.createdate, e.lastmodifieddate, sophia.document_hash(e.doc), e.is_deleted OR coalesce(e.archived, false),
    'gong_' || m.call_id
  FROM engagement AS e
  LEFT JOIN hubspot_raw.owners AS o ON o.id = e.owner_id
  LEFT JOIN sophia.staff_by_email() AS s ON s.email_norm = sophia.normalize_email(o.email)
  LEFT JOIN same_meeting AS m ON m.id = e.id
$$;
COMMENT ON FUNCTION sophia.interactions_from_hubspot() IS 'internal: rows that interaction_timeline should have for HubSpot engagements, without their contact';
