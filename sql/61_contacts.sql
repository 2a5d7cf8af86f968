-- Where unified_contacts comes from: a query a source.
--
-- Each answers for all rows of its source (keys NULL) or for some, keys being unified_contacts.source_id.  Its caller gives
-- keys as a parameter of a statement that is planned each time, so that the planner drops what does not apply; what
-- is gathered over many rows has a way for each case, side by side, below one and the same result.

CREATE FUNCTION sophia.hubspot_seen(keys text[]) RETURNS TABLE (id text, first_at timestamptz, last_at timestamptz)
LANGUAGE sql STABLE ROWS 10000
AS $$
  SELECT coalesce(a.survivor, x.id), pg_catalog.min(e.occurred_at), pg_catalog.max(e.occurred_at)
  FROM hubspot_raw.engagements AS e
  CROSS JOIN LATERAL pg_catalog.unnest(e.contact_ids) AS x (id)
  LEFT JOIN sophia.hubspot_aliases() AS a ON a.id = x.id
  WHERE keys IS NULL AND NOT e.is_deleted AND e.engagement_type IS DISTINCT FROM 'TASK'
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.engagements'::regclass AND q.key ->> 'id' = e.id)
  GROUP BY 1
  UNION ALL
  SELECT k.id, pg_catalog.min(e.occurred_at), pg_catalog.max(e.occurred_at)
  FROM (SELECT u.id, u.id AS member FROM pg_catalog.unnest(keys) AS u (id)
    UNION ALL
    SELECT a.survivor, a.id FROM sophia.hubspot_aliases() AS a WHERE a.survivor = ANY (keys)) AS k
  JOIN hubspot_raw.engagements AS e ON e.contact_ids @> ARRAY[k.member]
  WHERE keys IS NOT NULL AND NOT e.is_deleted AND e.engagement_type IS DISTINCT FROM 'TASK'
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.engagements'::regclass AND q.key ->> 'id' = e.id)
    AND NOT EXISTS (SELECT FROM sophia.hubspot_aliases() AS a WHERE a.id = k.id)
  GROUP BY k.id
$$;
COMMENT ON FUNCTION sophia.hubspot_seen(text[]) IS 'internal: first and last engagement of HubSpot contacts, of all or of some, with those that were merged into them';

CREATE FUNCTION sophia.contacts_from_hubspot(keys text[] DEFAULT NULL)
RETURNS TABLE (id text, source_system text, source_id text, email text, first_name text, last_name text, full_name text,
  company_name text, job_title text, phone text, created_at timestamptz, updated_at timestamptz, email_norm text,
  email_domain text, phone_e164 text, all_emails text[], is_internal boolean, is_bot boolean, is_deleted boolean,
  owner_id text, lifecycle_stage text, source_url text, source_updated_at timestamptz, doc_hash bytea,
  first_seen_at timestamptz, last_seen_at timestamptz)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH merged_emails AS (
    -- An address that only a merged-away contact had still leads to its survivor.
    SELECT a.survivor, pg_catalog.array_agg(e.email) AS emails
    FROM sophia.hubspot_aliases() AS a
    JOIN hubspot_raw.contacts AS l ON l.id = a.id
    CROSS JOIN LATERAL pg_catalog.unnest(l.additional_emails || l.email) AS e (email)
    WHERE (keys IS NULL OR a.survivor = ANY (keys))
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.contacts'::regclass AND q.key ->> 'id' = l.id)
    GROUP BY a.survivor
  ), person AS (
    -- OFFSET 0: computed once a row, not where it is used, so that joins need not carry the document.
    SELECT c.*, sophia.normalize_email(c.email) AS main_email, sophia.document_hash(c.doc) AS doc_hash,
      pg_catalog.concat_ws(' ', sophia.value_or_null(c.firstname), sophia.value_or_null(c.lastname)) AS joined_name
    FROM hubspot_raw.contacts AS c
    WHERE (keys IS NULL OR c.id = ANY (keys))
      AND NOT EXISTS (SELECT FROM sophia.hubspot_aliases() AS a WHERE a.id = c.id)
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.contacts'::regclass AND q.key ->> 'id' = c.id)
    OFFSET 0
  )
  SELECT 'hubspot_' || c.id, 'hubspot', c.id, sophia.value_or_null(c.email),
    sophia.value_or_null(c.firstname), sophia.value_or_null(c.lastname),
    coalesce(nullif(c.joined_name, ''), nullif(pg_catalog.split_part(c.email, '@', 1), '')),
    coalesce(sophia.value_or_null(o.name), sophia.value_or_null(c.company)),
    sophia.value_or_null(c.jobtitle), coalesce(sophia.value_or_null(c.phone), sophia.value_or_null(c.mobilephone)),
    c.createdate, c.lastmodifieddate, c.main_email, sophia.mail_host(c.main_email),
    coalesce(c.phone_e164, sophia.normalize_phone(c.phone), sophia.normalize_phone(c.mobilephone)),
    CASE WHEN c.additional_emails IS NULL AND m.emails IS NULL
      THEN CASE WHEN c.main_email IS NULL THEN '{}'::text[] ELSE ARRAY[c.main_email] END
      ELSE ARRAY(SELECT DISTINCT sophia.normalize_email(e.email)
        FROM pg_catalog.unnest(c.additional_emails || m.emails || c.email) AS e (email)
        WHERE sophia.normalize_email(e.email) IS NOT NULL ORDER BY 1) END,
    s.domain IS NOT NULL, false, c.is_deleted OR coalesce(c.archived, false),
    c.owner_id, c.lifecyclestage, c.url, c.source_updated_at, c.doc_hash, seen.first_at, seen.last_at
  FROM person AS c
  LEFT JOIN hubspot_raw.companies AS o ON o.id = c.associated_company_id
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.companies'::regclass AND q.key ->> 'id' = o.id)
  LEFT JOIN merged_emails AS m ON m.survivor = c.id
  LEFT JOIN sophia.staff_domains() AS s ON s.domain = sophia.mail_host(c.main_email)
  -- Grouped, so that the planner knows them to be distinct, and hashes them instead of the contacts.
  LEFT JOIN (SELECT e.id, pg_catalog.min(e.first_at) AS first_at, pg_catalog.max(e.last_at) AS last_at
    FROM sophia.hubspot_seen(keys) AS e GROUP BY e.id) AS seen ON seen.id = c.id
$$;
COMMENT ON FUNCTION sophia.contacts_from_hubspot(text[]) IS 'internal: rows that unified_contacts should have for HubSpot contacts: all but those that were merged away';

CREATE FUNCTION sophia.gong_parties()
RETURNS TABLE (call_id text, party_id text, ordinal integer, speaker_id text, email text, email_norm text, name text, title text,
  phone text, affiliation text, user_id text, contact_id text, hubspot_contact_id text, called_at timestamptz,
  is_deleted boolean, doc jsonb)
LANGUAGE sql STABLE ROWS 100000
AS $$
  SELECT p.call_id, p.party_id, p.ordinal, p.speaker_id, p.email, p.email_norm, p.name, p.title, p.phone,
    CASE
      WHEN p.staff_id IS NOT NULL OR p.affiliation = 'internal' THEN 'internal'
      WHEN p.affiliation = 'external' THEN 'external'
      WHEN d.domain IS NOT NULL THEN 'internal'
      WHEN p.email_norm IS NOT NULL THEN 'external'
      ELSE 'unknown' END,
    p.staff_id,
    'gong_' || coalesce(p.staff_id, p.email_norm,
      CASE WHEN p.name IS NOT NULL OR p.phone IS NOT NULL THEN p.call_id || '_' || p.party_id END),
    p.hubspot_contact_id, p.called_at, p.is_deleted, p.doc
  FROM (
    SELECT r.call_id, r.party_id, r.ordinal, r.speaker_id, sophia.value_or_null(r.email) AS email,
      coalesce(r.email_norm, sophia.normalize_email(r.email)) AS email_norm, sophia.value_or_null(r.name) AS name,
      sophia.value_or_null(r.title) AS title, sophia.value_or_null(r.phone) AS phone,
      pg_catalog.lower(r.affiliation) AS affiliation, coalesce(u.id, e.user_id) AS staff_id, r.hubspot_contact_id,
      coalesce(c.started, c.scheduled) AS called_at, r.is_deleted OR coalesce(c.is_deleted, false) AS is_deleted, r.doc
    FROM gong_raw.call_parties AS r
    LEFT JOIN gong_raw.calls AS c ON c.id = r.call_id
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.calls'::regclass AND q.key ->> 'id' = c.id)
    LEFT JOIN gong_raw.users AS u ON u.id = r.user_id
    LEFT JOIN sophia.gong_user_emails() AS e
      ON e.email_norm = coalesce(r.email_norm, sophia.normalize_email(r.email))
    WHERE NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.call_parties'::regclass AND q.key ->> 'call_id' = r.call_id AND q.key ->> 'party_id' = r.party_id)) AS p
  LEFT JOIN sophia.staff_domains() AS d ON d.domain = sophia.mail_host(p.email_norm)
$$;
COMMENT ON FUNCTION sophia.gong_parties() IS 'internal: parties of Gong calls with the Gong user that each is, if any, and the unified_contacts.id of its own record, if it has one';

CREATE FUNCTION sophia.gong_parties_of(keys text[]) RETURNS TABLE (call_id text, party_id text)
LANGUAGE sql STABLE ROWS 1000
AS $$
  -- OFFSET 0, here and below: keys are few, and each is looked up by itself, whatever the planner thinks of their number.
  WITH address AS MATERIALIZED (
    SELECT pg_catalog.unnest(keys) AS email
    UNION
    SELECT l.key FROM sophia.refresh_lookups AS l WHERE l.kind = 'staff_email' AND l.value = ANY (keys)
  )
  SELECT p.call_id, p.party_id
  FROM address AS a
  CROSS JOIN LATERAL (SELECT o.call_id, o.party_id FROM gong_raw.call_parties AS o WHERE o.email_norm = a.email OFFSET 0) AS p
  UNION
  -- The ingest normalises each address; who writes by hand may not have done so.
  SELECT p.call_id, p.party_id FROM gong_raw.call_parties AS p
  WHERE p.email_norm IS NULL AND p.email IS NOT NULL
    AND sophia.normalize_email(p.email) IN (SELECT a.email FROM address AS a)
  UNION
  SELECT p.call_id, p.party_id
  FROM pg_catalog.unnest(keys) AS k (id)
  CROSS JOIN LATERAL (SELECT o.call_id, o.party_id FROM gong_raw.call_parties AS o WHERE o.user_id = k.id OFFSET 0) AS p
  UNION
  -- call_party, wherever it is cut
  SELECT p.call_id, p.party_id
  FROM pg_catalog.unnest(keys) AS k (id)
  CROSS JOIN LATERAL pg_catalog.generate_series(1, pg_catalog.length(k.id)) AS n (place)
  CROSS JOIN LATERAL (SELECT o.call_id, o.party_id FROM gong_raw.call_parties AS o
    WHERE o.call_id = pg_catalog.left(k.id, n.place - 1) AND o.party_id = pg_catalog.substr(k.id, n.place + 1) OFFSET 0) AS p
  WHERE pg_catalog.strpos(k.id, '_') > 0 AND pg_catalog.substr(k.id, n.place, 1) = '_'
$$;
COMMENT ON FUNCTION sophia.gong_parties_of(text[]) IS 'internal: keys of the parties of Gong calls that can be one of these contacts';

CREATE FUNCTION sophia.contacts_from_gong(keys text[] DEFAULT NULL)
RETURNS TABLE (id text, source_system text, source_id text, email text, first_name text, last_name text, full_name text,
  company_name text, job_title text, phone text, created_at timestamptz, updated_at timestamptz, email_norm text,
  email_domain text, phone_e164 text, all_emails text[], is_internal boolean, is_bot boolean, is_deleted boolean,
  owner_id text, lifecycle_stage text, source_url text, source_updated_at timestamptz, doc_hash bytea,
  first_seen_at timestamptz, last_seen_at timestamptz)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH party AS MATERIALIZED (
    SELECT p.contact_id, p.user_id, p.call_id, p.ordinal, p.email_norm, p.email, p.name, p.title, p.phone, p.affiliation,
      p.called_at, p.is_deleted, CASE WHEN p.user_id IS NULL THEN sophia.document_hash(p.doc) END AS doc_hash
    FROM sophia.gong_parties() AS p
    WHERE keys IS NULL
    UNION ALL
    SELECT p.contact_id, p.user_id, p.call_id, p.ordinal, p.email_norm, p.email, p.name, p.title, p.phone, p.affiliation,
      p.called_at, p.is_deleted, CASE WHEN p.user_id IS NULL THEN sophia.document_hash(p.doc) END
    FROM sophia.gong_parties_of(keys) AS k
    CROSS JOIN LATERAL (SELECT o.* FROM sophia.gong_parties() AS o
      WHERE o.call_id = k.call_id AND o.party_id = k.party_id OFFSET 0) AS p
    WHERE keys IS NOT NULL AND pg_catalog.substr(p.contact_id, 6) = ANY (keys)
  ), attended AS (
    SELECT a.user_id, pg_catalog.min(a.called_at) AS first_at, pg_catalog.max(a.called_at) AS last_at
    FROM (SELECT p.user_id, p.called_at FROM party AS p WHERE NOT p.is_deleted
      UNION ALL
      SELECT c.primary_user_id, coalesce(c.started, c.scheduled)
      FROM (SELECT h.* FROM gong_raw.calls AS h WHERE keys IS NULL
        UNION ALL
        SELECT h.* FROM pg_catalog.unnest(keys) AS k (id)
        CROSS JOIN LATERAL (SELECT o.* FROM gong_raw.calls AS o WHERE o.primary_user_id = k.id OFFSET 0) AS h) AS c
      WHERE NOT c.is_deleted
        AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.calls'::regclass AND q.key ->> 'id' = c.id)) AS a
    WHERE a.user_id IS NOT NULL
    GROUP BY a.user_id
  ), outsider AS (
    -- One row over all calls: the latest call that tells a value gives it.  The order of the rows is that of each array.
    SELECT p.contact_id, p.email_norm, (pg_catalog.array_agg(p.email))[1] AS email,
      (pg_catalog.array_agg(p.name) FILTER (WHERE p.name IS NOT NULL))[1] AS name,
      (pg_catalog.array_agg(p.title) FILTER (WHERE p.title IS NOT NULL))[1] AS title,
      (pg_catalog.array_agg(p.phone) FILTER (WHERE p.phone IS NOT NULL))[1] AS phone,
      (pg_catalog.array_agg(p.affiliation))[1] AS affiliation, (pg_catalog.array_agg(p.doc_hash))[1] AS doc_hash,
      pg_catalog.min(p.called_at) AS first_at, pg_catalog.max(p.called_at) AS last_at,
      pg_catalog.bool_and(p.is_deleted) AS is_deleted
    FROM (SELECT o.* FROM party AS o
      WHERE o.user_id IS NULL AND o.contact_id IS NOT NULL
      ORDER BY o.contact_id, o.email_norm, o.called_at DESC NULLS LAST, o.call_id DESC, o.ordinal) AS p
    GROUP BY p.contact_id, p.email_norm
  )
  SELECT 'gong_' || u.id, 'gong', u.id, sophia.value_or_null(u.email),
    sophia.value_or_null(u.first_name), sophia.value_or_null(u.last_name),
    nullif(pg_catalog.concat_ws(' ', sophia.value_or_null(u.first_name), sophia.value_or_null(u.last_name)), ''),
    NULL, sophia.value_or_null(u.title), sophia.value_or_null(u.phone), u.created,
    coalesce(u.source_updated_at, u.source_published_at), sophia.normalize_email(u.email),
    sophia.mail_host(sophia.normalize_email(u.email)), sophia.normalize_phone(u.phone),
    ARRAY(SELECT DISTINCT sophia.normalize_email(e.email)
      FROM pg_catalog.unnest(u.email_aliases || ARRAY[u.email, u.trusted_email]) AS e (email)
      WHERE sophia.normalize_email(e.email) IS NOT NULL ORDER BY 1),
    true, false, u.is_deleted, NULL, NULL, NULL, u.source_updated_at, sophia.document_hash(u.doc), a.first_at, a.last_at
  FROM gong_raw.users AS u
  LEFT JOIN attended AS a ON a.user_id = u.id
  WHERE (keys IS NULL OR u.id = ANY (keys))
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.users'::regclass AND q.key ->> 'id' = u.id)
  UNION ALL
  SELECT o.contact_id, 'gong', pg_catalog.substr(o.contact_id, 6), o.email,
    -- "Lee, Ann" and "Ann Lee": what stands before the comma, or after the first blank, is the last name.
    CASE WHEN o.name LIKE '%,%' THEN sophia.value_or_null(pg_catalog.split_part(o.name, ',', 2))
      ELSE pg_catalog.split_part(o.name, ' ', 1) END,
    CASE WHEN o.name LIKE '%,%' THEN sophia.value_or_null(pg_catalog.split_part(o.name, ',', 1))
      ELSE sophia.value_or_null(pg_catalog.substr(o.name, pg_catalog.length(pg_catalog.split_part(o.name, ' ', 1)) + 1)) END,
    o.name, d.name, o.title, o.phone, o.first_at, o.last_at, o.email_norm, sophia.mail_host(o.email_norm),
    sophia.normalize_phone(o.phone), CASE WHEN o.email_norm IS NULL THEN '{}'::text[] ELSE ARRAY[o.email_norm] END,
    o.affiliation = 'internal', false, o.is_deleted, NULL, NULL, NULL, NULL::timestamptz, o.doc_hash,
    o.first_at, o.last_at
  FROM outsider AS o
  LEFT JOIN sophia.company_domains() AS d ON d.domain = sophia.mail_host(o.email_norm) AND o.affiliation <> 'internal'
$$;
COMMENT ON FUNCTION sophia.contacts_from_gong(text[]) IS 'internal: rows that unified_contacts should have for Gong: its users, and the parties of calls that are none of them';

CREATE FUNCTION sophia.slack_seen(keys text[]) RETURNS TABLE (user_id text, first_at timestamptz, last_at timestamptz)
LANGUAGE sql STABLE ROWS 10000
AS $$
  SELECT m.user_id, pg_catalog.min(m.sent_at), pg_catalog.max(m.sent_at)
  FROM slack_raw.messages AS m
  WHERE keys IS NULL AND m.user_id IS NOT NULL AND NOT m.is_deleted
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.messages'::regclass AND q.key ->> 'channel' = m.channel AND q.key ->> 'ts' = m.ts)
    AND coalesce(m.subtype, '') IN ('', 'thread_broadcast', 'file_share', 'bot_message', 'me_message')
  GROUP BY m.user_id
  UNION ALL
  -- From either end of an index, however much somebody wrote.
  SELECT k.id, first.sent_at, last.sent_at
  FROM pg_catalog.unnest(keys) AS k (id)
  LEFT JOIN LATERAL (SELECT m.sent_at FROM slack_raw.messages AS m
    WHERE m.user_id = k.id AND NOT m.is_deleted AND m.sent_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.messages'::regclass AND q.key ->> 'channel' = m.channel AND q.key ->> 'ts' = m.ts)
      AND coalesce(m.subtype, '') IN ('', 'thread_broadcast', 'file_share', 'bot_message', 'me_message')
    ORDER BY m.sent_at LIMIT 1) AS first ON true
  LEFT JOIN LATERAL (SELECT m.sent_at FROM slack_raw.messages AS m
    WHERE m.user_id = k.id AND NOT m.is_deleted AND m.sent_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.messages'::regclass AND q.key ->> 'channel' = m.channel AND q.key ->> 'ts' = m.ts)
      AND coalesce(m.subtype, '') IN ('', 'thread_broadcast', 'file_share', 'bot_message', 'me_message')
    ORDER BY m.sent_at DESC LIMIT 1) AS last ON true
  WHERE keys IS NOT NULL
$$;
COMMENT ON FUNCTION sophia.slack_seen(text[]) IS 'internal: first and last message that Slack users wrote, of all or of some; notices such as joined and left are none';

CREATE FUNCTION sophia.contacts_from_slack(keys text[] DEFAULT NULL)
RETURNS TABLE (id text, source_system text, source_id text, email text, first_name text, last_name text, full_name text,
  company_name text, job_title text, phone text, created_at timestamptz, updated_at timestamptz, email_norm text,
  email_domain text, phone_e164 text, all_emails text[], is_internal boolean, is_bot boolean, is_deleted boolean,
  owner_id text, lifecycle_stage text, source_url text, source_updated_at timestamptz, doc_hash bytea,
  first_seen_at timestamptz, last_seen_at timestamptz)
LANGUAGE sql STABLE ROWS 10000
AS $$
  WITH home AS MATERIALIZED (
    SELECT sophia.slack_home() AS team_id
  )
  SELECT 'slack_' || u.id, 'slack', u.id, sophia.value_or_null(u.email),
    sophia.value_or_null(u.first_name), sophia.value_or_null(u.last_name), n.full_name, NULL,
    sophia.value_or_null(u.title), sophia.value_or_null(u.phone), seen.first_at, u.updated_at,
    n.email_norm, sophia.mail_host(n.email_norm), sophia.normalize_phone(u.phone),
    CASE WHEN n.email_norm IS NULL THEN '{}'::text[] ELSE ARRAY[n.email_norm] END,
    NOT coalesce(u.is_restricted, false) AND coalesce(u.team_id = home.team_id, true), false,
    u.is_deleted OR coalesce(u.deleted, false), NULL, NULL, NULL, u.source_updated_at, sophia.document_hash(u.doc),
    seen.first_at, seen.last_at
  FROM slack_raw.users AS u
  CROSS JOIN home
  CROSS JOIN LATERAL (SELECT sophia.normalize_email(u.email) AS email_norm,
    coalesce(sophia.value_or_null(u.real_name),
      nullif(pg_catalog.concat_ws(' ', sophia.value_or_null(u.first_name), sophia.value_or_null(u.last_name)), ''),
      sophia.value_or_null(u.display_name)) AS full_name) AS n
  LEFT JOIN sophia.slack_seen(keys) AS seen ON seen.user_id = u.id
  WHERE (keys IS NULL OR u.id = ANY (keys))
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.users'::regclass AND q.key ->> 'id' = u.id)
    AND NOT coalesce(u.is_bot, false) AND NOT coalesce(u.is_app_user, false) AND u.id <> 'USLACKBOT'
    AND (n.full_name IS NOT NULL OR n.email_norm IS NOT NULL)
$$;
COMMENT ON FUNCTION sophia.contacts_from_slack(text[]) IS 'internal: rows that unified_contacts should have for Slack users: people only, deactivated ones included';
