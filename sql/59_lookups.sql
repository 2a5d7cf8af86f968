-- What many rows look up: kept as rows of their own, because a change of one of these must find the rows that it concerns,
-- by its old value as well as by its new one.
--
--   alias           id of a merged-away HubSpot contact → the contact that it ended up in
--   company         id of a HubSpot company → its domain
--   company_domain  domain → the name of its company
--   staff_email     e-mail address of a Gong user → the user
--   staff_domain    e-mail domain of the own company
--   slack_home      team of the own Slack workspace → how many users may change before another can have become it
--   lone_party      call and party of Gong, whose call has no row → its e-mail address
--   file            name of a table → the file it is in, or its oid
--
-- current_<kind>() computes a kind from the raw tables, all of it or the part of some keys; write_lookups() makes the table
-- agree, and tells what differed.

CREATE TABLE sophia.refresh_lookups (
  kind text NOT NULL,
  key text NOT NULL,
  value text NOT NULL,
  PRIMARY KEY (kind, key)
);
CREATE INDEX refresh_lookups_value ON sophia.refresh_lookups (kind, value);
COMMENT ON TABLE sophia.refresh_lookups IS 'internal: what many rows of the processed tables look up; state that a full refresh makes anew, not dumped';
COMMENT ON COLUMN sophia.refresh_lookups.kind IS 'what key and value are';
COMMENT ON COLUMN sophia.refresh_lookups.key IS 'what is looked up';
COMMENT ON COLUMN sophia.refresh_lookups.value IS 'what is found, '''' where only the key counts';

CREATE TABLE sophia.contact_merges (
  winner text NOT NULL,
  loser text NOT NULL,
  PRIMARY KEY (winner, loser)
);
CREATE INDEX contact_merges_loser ON sophia.contact_merges (loser);
COMMENT ON TABLE sophia.contact_merges IS 'internal: what the merge lists of HubSpot contacts say; state that a full refresh makes anew, not dumped';
COMMENT ON COLUMN sophia.contact_merges.winner IS 'id of the contact that has the list';
COMMENT ON COLUMN sophia.contact_merges.loser IS 'id in its list';

-- ---- reading ----

CREATE FUNCTION sophia.hubspot_aliases() RETURNS TABLE (id text, survivor text)
LANGUAGE sql STABLE ROWS 1000
AS $$
  SELECT l.key, l.value FROM sophia.refresh_lookups AS l WHERE l.kind = 'alias'
$$;
COMMENT ON FUNCTION sophia.hubspot_aliases() IS 'internal: ids of merged-away HubSpot contacts, each with the contact that it ended up in';

CREATE FUNCTION sophia.company_domains() RETURNS TABLE (domain text, name text)
LANGUAGE sql STABLE ROWS 10000
AS $$
  SELECT l.key, l.value FROM sophia.refresh_lookups AS l WHERE l.kind = 'company_domain'
$$;
COMMENT ON FUNCTION sophia.company_domains() IS 'internal: name of the HubSpot company of each domain, the oldest one where several share it, without free-mail domains';

CREATE FUNCTION sophia.gong_user_emails() RETURNS TABLE (email_norm text, user_id text)
LANGUAGE sql STABLE ROWS 1000
AS $$
  SELECT l.key, l.value FROM sophia.refresh_lookups AS l WHERE l.kind = 'staff_email'
$$;
COMMENT ON FUNCTION sophia.gong_user_emails() IS 'internal: every normalised e-mail address of the Gong users with its user';

CREATE FUNCTION sophia.staff_domains() RETURNS TABLE (domain text)
LANGUAGE sql STABLE ROWS 100
AS $$
  SELECT l.key FROM sophia.refresh_lookups AS l WHERE l.kind = 'staff_domain'
$$;
COMMENT ON FUNCTION sophia.staff_domains() IS 'internal: e-mail domains of the own company: those of Gong users and HubSpot owners, without free-mail domains';

CREATE FUNCTION sophia.slack_home() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT l.key FROM sophia.refresh_lookups AS l WHERE l.kind = 'slack_home'
$$;
COMMENT ON FUNCTION sophia.slack_home() IS 'internal: team that most users of Slack are in; NULL = none';

-- ---- computing ----

CREATE FUNCTION sophia.current_merges(winners text[]) RETURNS TABLE (winner text, loser text)
LANGUAGE sql STABLE ROWS 1000
AS $$
  -- A merged list holds ids, or "id:time" pairs: only the leading digits count.
  SELECT DISTINCT c.id, m.loser
  FROM hubspot_raw.contacts AS c
  CROSS JOIN LATERAL (SELECT pg_catalog.substring(l.entry, '^\s*(\d+)')
    FROM pg_catalog.unnest(c.merged_object_ids || c.calculated_merged_vids) AS l (entry)) AS m (loser)
  WHERE (winners IS NULL OR c.id = ANY (winners))
    AND (c.merged_object_ids IS NOT NULL OR c.calculated_merged_vids IS NOT NULL) AND m.loser <> c.id
$$;
COMMENT ON FUNCTION sophia.current_merges(text[]) IS 'internal: what contact_merges should hold, of all contacts or of some winners';

CREATE FUNCTION sophia.current_alias(members text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 1000
AS $$
  WITH RECURSIVE edge AS (
    SELECT m.loser, m.winner FROM sophia.contact_merges AS m WHERE members IS NULL OR m.loser = ANY (members)
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
      pg_catalog.length(pg_catalog.ltrim(reach.at, '0')) DESC, pg_catalog.ltrim(reach.at, '0') COLLATE "C" DESC,
      reach.at COLLATE "C"
  )
  SELECT ranked.loser, ranked.at FROM ranked WHERE ranked.loser <> ranked.at
$$;
COMMENT ON FUNCTION sophia.current_alias(text[]) IS
  'internal: lookups of kind alias as contact_merges has it, of all contacts or of some that were merged among themselves only';

CREATE FUNCTION sophia.current_company(ids text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 10000
AS $$
  SELECT d.id, d.domain
  FROM (SELECT c.id, pg_catalog.regexp_replace(pg_catalog.lower(pg_catalog.btrim(c.domain)), '^www\.', '') AS domain
    FROM hubspot_raw.companies AS c
    WHERE c.domain IS NOT NULL AND (ids IS NULL OR c.id = ANY (ids))) AS d
  WHERE d.domain <> ''
$$;
COMMENT ON FUNCTION sophia.current_company(text[]) IS 'internal: lookups of kind company, of all HubSpot companies or of some';

CREATE FUNCTION sophia.current_company_domain(domains text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 10000
AS $$
  SELECT DISTINCT ON (d.domain) d.domain, d.name
  FROM (SELECT l.value AS domain, sophia.value_or_null(c.name) AS name, c.is_deleted, c.createdate, c.id
    FROM sophia.refresh_lookups AS l
    JOIN hubspot_raw.companies AS c ON c.id = l.key
    WHERE l.kind = 'company' AND (domains IS NULL OR l.value = ANY (domains))) AS d
  WHERE d.name IS NOT NULL AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.companies'::regclass AND q.key ->> 'id' = d.id)
    AND NOT EXISTS (SELECT FROM sophia.free_mail_domains AS f WHERE f.domain = d.domain)
  ORDER BY d.domain, d.is_deleted, d.createdate NULLS LAST, d.id
$$;
COMMENT ON FUNCTION sophia.current_company_domain(text[]) IS 'internal: lookups of kind company_domain as those of kind company have it, of all domains or of some';

CREATE FUNCTION sophia.current_staff_email(emails text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 1000
AS $$
  SELECT DISTINCT ON (e.email_norm) e.email_norm, e.id
  FROM (SELECT sophia.normalize_email(a.email) AS email_norm, u.id, u.is_deleted, u.active, a.place
    FROM gong_raw.users AS u
    CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[u.email, u.trusted_email] || u.email_aliases) WITH ORDINALITY AS a (email, place)) AS e
  WHERE e.email_norm IS NOT NULL AND (emails IS NULL OR e.email_norm = ANY (emails))
  ORDER BY e.email_norm, e.is_deleted, e.active IS FALSE, e.place, e.id
$$;
COMMENT ON FUNCTION sophia.current_staff_email(text[]) IS 'internal: lookups of kind staff_email';

CREATE FUNCTION sophia.hubspot_owner_emails() RETURNS TABLE (email_norm text)
LANGUAGE plpgsql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF sophia.has_source('hubspot') THEN
    RETURN QUERY SELECT sophia.normalize_email(o.email) FROM hubspot_raw.owners AS o;
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.hubspot_owner_emails() IS 'internal: normalised e-mail addresses of the HubSpot owners';

CREATE FUNCTION sophia.current_staff_domain(domains text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 100
AS $$
  SELECT DISTINCT sophia.mail_host(e.email_norm), ''
  FROM (SELECT s.email_norm FROM sophia.gong_user_emails() AS s
    UNION ALL SELECT o.email_norm FROM sophia.hubspot_owner_emails() AS o) AS e
  WHERE sophia.mail_host(e.email_norm) IS NOT NULL
    AND (domains IS NULL OR sophia.mail_host(e.email_norm) = ANY (domains))
    AND NOT EXISTS (SELECT FROM sophia.free_mail_domains AS f WHERE f.domain = sophia.mail_host(e.email_norm))
$$;
COMMENT ON FUNCTION sophia.current_staff_domain(text[]) IS 'internal: lookups of kind staff_domain as those of kind staff_email and the owners have it';

CREATE FUNCTION sophia.current_slack_home(teams text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 1
AS $$
  SELECT t.team_id, (t.users - coalesce(t.next_users, 0))::text
  FROM (SELECT u.team_id, pg_catalog.count(*) AS users,
      pg_catalog.lead(pg_catalog.count(*)) OVER (ORDER BY pg_catalog.count(*) DESC, u.team_id) AS next_users,
      pg_catalog.row_number() OVER (ORDER BY pg_catalog.count(*) DESC, u.team_id) AS place
    FROM slack_raw.users AS u
    WHERE u.team_id IS NOT NULL
    GROUP BY u.team_id) AS t
  WHERE t.place = 1 AND (teams IS NULL OR t.team_id = ANY (teams))
$$;
COMMENT ON FUNCTION sophia.current_slack_home(text[]) IS 'internal: lookup of kind slack_home: the team of most users, and by how many it leads';

CREATE FUNCTION sophia.current_lone_party(parties text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 100
AS $$
  SELECT p.call_id || ' ' || p.party_id, coalesce(p.email_norm, sophia.normalize_email(p.email))
  FROM (
    SELECT a.call_id, a.party_id, a.email_norm, a.email FROM gong_raw.call_parties AS a WHERE parties IS NULL
    UNION ALL
    SELECT b.call_id, b.party_id, b.email_norm, b.email
    FROM (SELECT DISTINCT pg_catalog.split_part(k.key, ' ', 1) AS call_id FROM pg_catalog.unnest(parties) AS k (key)) AS k
    CROSS JOIN LATERAL (SELECT o.* FROM gong_raw.call_parties AS o WHERE o.call_id = k.call_id OFFSET 0) AS b
    WHERE b.call_id || ' ' || b.party_id = ANY (parties)) AS p
  WHERE NOT EXISTS (SELECT FROM gong_raw.calls AS c WHERE c.id = p.call_id)
    AND coalesce(p.email_norm, sophia.normalize_email(p.email)) IS NOT NULL
$$;
COMMENT ON FUNCTION sophia.current_lone_party(text[]) IS 'internal: lookups of kind lone_party';

CREATE FUNCTION sophia.current_file(tables text[]) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE ROWS 10
AS $$
  -- A processed table that was truncated or rewritten has another file; a raw one tells its consumers.
  SELECT t.table_schema || '.' || t.table_name,
    CASE WHEN s.source IS NULL THEN c.relfilenode ELSE c.oid END::text
  FROM sophia.data_tables AS t
  JOIN sophia.data_schemas AS s ON s.schema_name = t.table_schema
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.table_schema
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.table_name
  WHERE tables IS NULL OR t.table_schema || '.' || t.table_name = ANY (tables)
$$;
COMMENT ON FUNCTION sophia.current_file(text[]) IS 'internal: lookups of kind file';

-- ---- writing ----

CREATE FUNCTION sophia.write_lookups(kind text, keys text[] DEFAULT NULL)
RETURNS TABLE (key text, old_value text, new_value text)
LANGUAGE plpgsql ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY EXECUTE format($statement$
    WITH changed AS MATERIALIZED (
      SELECT coalesce(w.key, l.key) AS key, l.value AS old_value, w.value AS new_value
      FROM (SELECT c.key, c.value FROM sophia.%I($2) AS c) AS w
      FULL JOIN (SELECT o.key, o.value FROM sophia.refresh_lookups AS o
        WHERE o.kind = $1 AND ($2 IS NULL OR o.key = ANY ($2))) AS l ON l.key = w.key
      WHERE l.value IS DISTINCT FROM w.value
    ), removed AS (
      DELETE FROM sophia.refresh_lookups AS l USING changed AS c
      WHERE l.kind = $1 AND l.key = c.key AND c.new_value IS NULL
    ), written AS (
      INSERT INTO sophia.refresh_lookups AS l (kind, key, value)
      SELECT $1, c.key, c.new_value FROM changed AS c WHERE c.new_value IS NOT NULL
      ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value
    )
    SELECT c.key, c.old_value, c.new_value FROM changed AS c
    $statement$, 'current_' || kind) USING kind, keys;
END
$$;
COMMENT ON FUNCTION sophia.write_lookups(text, text[]) IS 'internal: makes the lookups of a kind, or those of some keys, as they should be, and returns those that differed';

CREATE FUNCTION sophia.write_merges(winners text[] DEFAULT NULL) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  merged text[];
BEGIN
  WITH wanted AS MATERIALIZED (
    SELECT w.winner, w.loser FROM sophia.current_merges(winners) AS w
  ), removed AS (
    DELETE FROM sophia.contact_merges AS m
    WHERE (winners IS NULL OR m.winner = ANY (winners))
      AND NOT EXISTS (SELECT FROM wanted AS w WHERE w.winner = m.winner AND w.loser = m.loser)
  ), added AS (
    INSERT INTO sophia.contact_merges AS m (winner, loser)
    SELECT w.winner, w.loser FROM wanted AS w
    ON CONFLICT DO NOTHING
    RETURNING m.winner, m.loser
  )
  SELECT array_agg(x.id) INTO merged
  FROM added AS a
  CROSS JOIN LATERAL (VALUES (a.winner), (a.loser)) AS x (id)
  WHERE winners IS NOT NULL;
  RETURN merged;
END
$$;
COMMENT ON FUNCTION sophia.write_merges(text[]) IS
  'internal: makes contact_merges, or the rows of some winners, as the merge lists say; of these it returns the contacts that are merged since';

CREATE FUNCTION sophia.lookup_kinds() RETURNS TABLE (source text, kind text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
  VALUES ('hubspot', 'alias'), ('hubspot', 'company'), ('hubspot', 'company_domain'), ('gong', 'staff_email'),
    ('gong', 'lone_party'), ('slack', 'slack_home'), (NULL, 'staff_domain'), (NULL, 'file')
$$;
COMMENT ON FUNCTION sophia.lookup_kinds() IS 'internal: kinds of lookups, each with the source that it is made from (NULL = any), behind those that it is made from';

CREATE FUNCTION sophia.write_all_lookups() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  item record;
BEGIN
  IF sophia.has_source('hubspot') THEN
    PERFORM sophia.write_merges();
  END IF;
  FOR item IN SELECT * FROM sophia.lookup_kinds() LOOP
    IF item.source IS NULL OR sophia.has_source(item.source) THEN
      PERFORM sophia.write_lookups(item.kind);
    ELSE
      DELETE FROM sophia.refresh_lookups AS l WHERE l.kind = item.kind;
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.write_all_lookups() IS 'internal: makes every lookup as the raw tables say';

CREATE FUNCTION sophia.lost_state() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  other text;
BEGIN
  IF NOT EXISTS (SELECT FROM sophia.refresh_lookups AS l WHERE l.kind = 'file') THEN
    RETURN 'nothing was refreshed here before';
  END IF;
  SELECT min(coalesce(f.key, l.key)) INTO other
  FROM sophia.current_file(NULL) AS f
  FULL JOIN (SELECT o.key, o.value FROM sophia.refresh_lookups AS o WHERE o.kind = 'file') AS l ON l.key = f.key
  WHERE f.value IS DISTINCT FROM l.value;
  RETURN other || ' is another table or was rewritten';
END
$$;
COMMENT ON FUNCTION sophia.lost_state() IS 'internal: why what an earlier refresh left cannot be built upon; NULL = it can';
