-- Where unified_contacts comes from: a query a source, and what they look up in one another.

CREATE FUNCTION sophia.hubspot_aliases() RETURNS TABLE (id text, survivor text)
LANGUAGE plpgsql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT sophia.has_source('hubspot') THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH RECURSIVE edge AS (
    -- A merged list holds ids, or "id:time" pairs: only the leading digits count.
    SELECT DISTINCT substring(m.entry FROM '^\s*(\d+)') AS loser, c.id AS winner
    FROM hubspot_raw.contacts AS c
    CROSS JOIN LATERAL unnest(c.merged_object_ids || c.calculated_merged_vids) AS m (entry)
    WHERE substring(m.entry FROM '^\s*(\d+)') <> c.id
  ), onward AS MATERIALIZED (
    -- Few survivors were merged away themselves; only these make a chain.
    SELECT edge.loser, edge.winner FROM edge
    WHERE EXISTS (SELECT FROM edge AS earlier WHERE earlier.winner = edge.loser)
  ), reach (loser, at) AS (
    -- UNION drops what was reached before, so that a cycle ends.
    SELECT edge.loser, edge.winner FROM edge
    UNION
    SELECT reach.loser, onward.winner FROM reach JOIN onward ON onward.loser = reach.at
  ), ranked AS (
    -- The end of the chain; within a cycle, which has no end, the newest record, as ids grow.
    SELECT DISTINCT ON (reach.loser) reach.loser, reach.at
    FROM reach
    LEFT JOIN (SELECT DISTINCT onward.loser FROM onward) AS again ON again.loser = reach.at
    ORDER BY reach.loser, again.loser IS NOT NULL,
      length(ltrim(reach.at, '0')) DESC, ltrim(reach.at, '0') COLLATE "C" DESC, reach.at COLLATE "C"
  )
  SELECT ranked.loser, ranked.at FROM ranked WHERE ranked.loser <> ranked.at;
END
$$;
COMMENT ON FUNCTION sophia.hubspot_aliases() IS 'internal: ids of merged-away HubSpot contacts, each with the contact that it ended up in';

CREATE FUNCTION sophia.company_domains() RETURNS TABLE (domain text, name text)
LANGUAGE plpgsql STABLE ROWS 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT sophia.has_source('hubspot') THEN
    RETURN;
  END IF;
  RETURN QUERY
  SELECT DISTINCT ON (d.domain) d.domain, d.name
  FROM (SELECT regexp_replace(lower(btrim(c.domain)), '^www\.', '') AS domain, sophia.value_or_null(c.name) AS name,
      c.is_deleted, c.createdate, c.id
    FROM hubspot_raw.companies AS c) AS d
  WHERE d.domain <> '' AND d.name IS NOT NULL
    AND NOT EXISTS (SELECT FROM sophia.free_mail_domains AS f WHERE f.domain = d.domain)
  ORDER BY d.domain, d.is_deleted, d.createdate NULLS LAST, d.id;
END
$$;
COMMENT ON FUNCTION sophia.company_domains() IS 'internal: name of the HubSpot company of each domain, the oldest one where several share it, without free-mail domains';

CREATE FUNCTION sophia.gong_user_emails() RETURNS TABLE (email_norm text, user_id text)
LANGUAGE plpgsql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT sophia.has_source('gong') THEN
    RETURN;
  END IF;
  RETURN QUERY
  SELECT DISTINCT ON (e.email_norm) e.email_norm, e.id
  FROM (SELECT sophia.normalize_email(a.email) AS email_norm, u.id, u.is_deleted, u.active, a.place
    FROM gong_raw.users AS u
    CROSS JOIN LATERAL unnest(ARRAY[u.email, u.trusted_email] || u.email_aliases) WITH ORDINALITY AS a (email, place)) AS e
  WHERE e.email_norm IS NOT NULL
  ORDER BY e.email_norm, e.is_deleted, e.active IS FALSE, e.place, e.id;
END
$$;
COMMENT ON FUNCTION sophia.gong_user_emails() IS 'internal: every normalised e-mail address of the Gong users with its user';

CREATE FUNCTION sophia.hubspot_owner_emails() RETURNS TABLE (owner_id text, email_norm text)
LANGUAGE plpgsql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT sophia.has_source('hubspot') THEN
    RETURN;
  END IF;
  RETURN QUERY
  SELECT o.id, sophia.normalize_email(o.email) FROM hubspot_raw.owners AS o;
END
$$;
COMMENT ON FUNCTION sophia.hubspot_owner_emails() IS 'internal: normalised e-mail address of each HubSpot owner';

CREATE FUNCTION sophia.staff_domains() RETURNS TABLE (domain text)
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT DISTINCT sophia.mail_host(e.email_norm)
  FROM (SELECT email_norm FROM sophia.gong_user_emails()
    UNION ALL SELECT email_norm FROM sophia.hubspot_owner_emails()) AS e
  WHERE sophia.mail_host(e.email_norm) IS NOT NULL
    AND NOT EXISTS (SELECT FROM sophia.free_mail_domains AS f WHERE f.domain = sophia.mail_host(e.email_norm))
$$;
COMMENT ON FUNCTION sophia.staff_domains() IS 'internal: e-mail domains of the own company: those of Gong users and HubSpot owners, without free-mail domains';

CREATE FUNCTION sophia.contacts_from_hubspot()
RETURNS TABLE (id text, source_system text, source_id text, email text, first_name text, last_name text, full_name text,
  company_name text, job_title text, phone text, created_at timestamptz, updated_at timestamptz, email_norm text,
  email_domain text, phone_e164 text, all_emails text[], is_internal boolean, is_bot boolean, is_deleted boolean,
  owner_id text, lifecycle_stage text, source_url text, source_updated_at timestamptz, doc_hash bytea,
  first_seen_at timestamptz, last_seen_at timestamptz)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH alias AS MATERIALIZED (
    SELECT a.id, a.survivor FROM sophia.hubspot_aliases() AS a
  ), merged_emails AS (
    -- An address that only a merged-away contact had still leads to its survivor.
    SELECT a.survivor, pg_catalog.array_agg(e.email) AS emails
    FROM alias AS a
    JOIN hubspot_raw.contacts AS l ON l.id = a.id
    CROSS JOIN LATERAL pg_catalog.unnest(l.additional_emails || l.email) AS e (email)
    GROUP BY a.survivor
  ), seen AS (
    SELECT coalesce(a.survivor, x.id) AS id, pg_catalog.min(e.occurred_at) AS first_at, pg_catalog.max(e.occurred_at) AS last_at
    FROM hubspot_raw.engagements AS e
    CROSS JOIN LATERAL pg_catalog.unnest(e.contact_ids) AS x (id)
    LEFT JOIN alias AS a ON a.id = x.id
    WHERE NOT e.is_deleted AND e.engagement_type IS DISTINCT FROM 'TASK'
    GROUP BY 1
  ), person AS (
    SELECT c.*, sophia.normalize_email(c.email) AS main_email,
      pg_catalog.concat_ws(' ', sophia.value_or_null(c.firstname), sophia.value_or_null(c.lastname)) AS joined_name
    FROM hubspot_raw.contacts AS c
    WHERE NOT EXISTS (SELECT FROM alias AS a WHERE a.id = c.id)
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
    c.owner_id, c.lifecyclestage, c.url, c.source_updated_at, sophia.document_hash(c.doc), seen.first_at, seen.last_at
  FROM person AS c
  LEFT JOIN hubspot_raw.companies AS o ON o.id = c.associated_company_id
  LEFT JOIN merged_emails AS m ON m.survivor = c.id
  LEFT JOIN sophia.staff_domains() AS s ON s.domain = sophia.mail_host(c.main_email)
  LEFT JOIN seen ON seen.id = c.id
$$;
COMMENT ON FUNCTION sophia.contacts_from_hubspot() IS 'internal: rows that unified_contacts should have for HubSpot contacts: all but those that were merged away';

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
    LEFT JOIN gong_raw.users AS u ON u.id = r.user_id
    LEFT JOIN sophia.gong_user_emails() AS e
      ON e.email_norm = coalesce(r.email_norm, sophia.normalize_email(r.email))) AS p
  LEFT JOIN sophia.staff_domains() AS d ON d.domain = sophia.mail_host(p.email_norm)
$$;
COMMENT ON FUNCTION sophia.gong_parties() IS 'internal: parties of Gong calls with the Gong user that each is, if any, and the unified_contacts.id of its own record, if it has one';

CREATE FUNCTION sophia.contacts_from_gong()
RETURNS TABLE (id text, source_system text, source_id text, email text, first_name text, last_name text, full_name text,
  company_name text, job_title text, phone text, created_at timestamptz, updated_at timestamptz, email_norm text,
  email_domain text, phone_e164 text, all_emails text[], is_internal boolean, is_bot boolean, is_deleted boolean,
  owner_id text, lifecycle_stage text, source_url text, source_updated_at timestamptz, doc_hash bytea,
  first_seen_at timestamptz, last_seen_at timestamptz)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH party AS MATERIALIZED (
    SELECT p.* FROM sophia.gong_parties() AS p
  ), attended AS (
    SELECT a.user_id, pg_catalog.min(a.called_at) AS first_at, pg_catalog.max(a.called_at) AS last_at
    FROM (SELECT p.user_id, p.called_at FROM party AS p WHERE NOT p.is_deleted
      UNION ALL
      SELECT c.primary_user_id, coalesce(c.started, c.scheduled) FROM gong_raw.calls AS c WHERE NOT c.is_deleted) AS a
    WHERE a.user_id IS NOT NULL
    GROUP BY a.user_id
  ), outsider AS (
    -- One row over all calls: the latest call that tells a value gives it.
    SELECT p.contact_id, p.email_norm,
      (pg_catalog.array_agg(p.email ORDER BY p.called_at DESC NULLS LAST, p.call_id DESC, p.ordinal))[1] AS email,
      (pg_catalog.array_agg(p.name ORDER BY p.called_at DESC NULLS LAST, p.call_id DESC, p.ordinal)
        FILTER (WHERE p.name IS NOT NULL))[1] AS name,
      (pg_catalog.array_agg(p.title ORDER BY p.called_at DESC NULLS LAST, p.call_id DESC, p.ordinal)
        FILTER (WHERE p.title IS NOT NULL))[1] AS title,
      (pg_catalog.array_agg(p.phone ORDER BY p.called_at DESC NULLS LAST, p.call_id DESC, p.ordinal)
        FILTER (WHERE p.phone IS NOT NULL))[1] AS phone,
      (pg_catalog.array_agg(p.affiliation ORDER BY p.called_at DESC NULLS LAST, p.call_id DESC, p.ordinal))[1] AS affiliation,
      (pg_catalog.array_agg(p.doc ORDER BY p.called_at DESC NULLS LAST, p.call_id DESC, p.ordinal))[1] AS doc,
      pg_catalog.min(p.called_at) AS first_at, pg_catalog.max(p.called_at) AS last_at,
      pg_catalog.bool_and(p.is_deleted) AS is_deleted
    FROM party AS p
    WHERE p.user_id IS NULL AND p.contact_id IS NOT NULL
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
  UNION ALL
  SELECT o.contact_id, 'gong', pg_catalog.substr(o.contact_id, 6), o.email,
    -- "Lee, Ann" and "Ann Lee": what stands before the comma, or after the first blank, is the last name.
    CASE WHEN o.name LIKE '%,%' THEN sophia.value_or_null(pg_catalog.split_part(o.name, ',', 2))
      ELSE pg_catalog.split_part(o.name, ' ', 1) END,
    CASE WHEN o.name LIKE '%,%' THEN sophia.value_or_null(pg_catalog.split_part(o.name, ',', 1))
      ELSE sophia.value_or_null(pg_catalog.substr(o.name, pg_catalog.length(pg_catalog.split_part(o.name, ' ', 1)) + 1)) END,
    o.name, d.name, o.title, o.phone, o.first_at, o.last_at, o.email_norm, sophia.mail_host(o.email_norm),
    sophia.normalize_phone(o.phone), CASE WHEN o.email_norm IS NULL THEN '{}'::text[] ELSE ARRAY[o.email_norm] END,
    o.affiliation = 'internal', false, o.is_deleted, NULL, NULL, NULL, NULL::timestamptz, sophia.document_hash(o.doc),
    o.first_at, o.last_at
  FROM outsider AS o
  LEFT JOIN sophia.company_domains() AS d ON d.domain = sophia.mail_host(o.email_norm) AND o.affiliation <> 'internal'
$$;
COMMENT ON FUNCTION sophia.contacts_from_gong() IS 'internal: rows that unified_contacts should have for Gong: its users, and the parties of calls that are none of them';

CREATE FUNCTION sophia.contacts_from_slack()
RETURNS TABLE (id text, source_system text, source_id text, email text, first_name text, last_name text, full_name text,
  company_name text, job_title text, phone text, created_at timestamptz, updated_at timestamptz, email_norm text,
  email_domain text, phone_e164 text, all_emails text[], is_internal boolean, is_bot boolean, is_deleted boolean,
  owner_id text, lifecycle_stage text, source_url text, source_updated_at timestamptz, doc_hash bytea,
  first_seen_at timestamptz, last_seen_at timestamptz)
LANGUAGE sql STABLE ROWS 10000
AS $$
  WITH home AS MATERIALIZED (
    SELECT pg_catalog.mode() WITHIN GROUP (ORDER BY u.team_id) AS team_id FROM slack_raw.users AS u
  ), seen AS (
    SELECT m.user_id, pg_catalog.min(m.sent_at) AS first_at, pg_catalog.max(m.sent_at) AS last_at
    FROM slack_raw.messages AS m
    WHERE NOT m.is_deleted AND m.user_id IS NOT NULL
    GROUP BY m.user_id
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
  LEFT JOIN seen ON seen.user_id = u.id
  WHERE NOT coalesce(u.is_bot, false) AND NOT coalesce(u.is_app_user, false) AND u.id <> 'USLACKBOT'
    AND (n.full_name IS NOT NULL OR n.email_norm IS NOT NULL)
$$;
COMMENT ON FUNCTION sophia.contacts_from_slack() IS 'internal: rows that unified_contacts should have for Slack users: people only, deactivated ones included';
