-- Which rows of unified_contacts a change concerns: keys of a raw table become ids of contacts in the queue of refresh.
--
-- Of what a raw row makes now the raw tables tell; of what it had made, the lookups and the participants of the
-- timeline.  A contact that is named without need costs its recomputation, no more.

CREATE FUNCTION sophia.hubspot_links(ids text[]) RETURNS TABLE (interaction_id text, contact_id text)
LANGUAGE sql STABLE
AS $$
  SELECT 'hubspot_' || e.id, 'hubspot_' || coalesce(a.survivor, x.id)
  FROM hubspot_raw.engagements AS e
  CROSS JOIN LATERAL pg_catalog.unnest(e.contact_ids) AS x (id)
  LEFT JOIN sophia.hubspot_aliases() AS a ON a.id = x.id
  WHERE e.id = ANY (ids)
$$;
COMMENT ON FUNCTION sophia.hubspot_links(text[]) IS 'internal: contacts that these engagements count for';

CREATE FUNCTION sophia.gong_links(ids text[]) RETURNS TABLE (interaction_id text, contact_id text)
LANGUAGE sql STABLE
AS $$
  SELECT 'gong_' || p.call_id, p.contact_id FROM sophia.gong_parties() AS p WHERE p.call_id = ANY (ids) AND p.contact_id IS NOT NULL
  UNION ALL
  SELECT 'gong_' || c.id, 'gong_' || c.primary_user_id FROM gong_raw.calls AS c WHERE c.id = ANY (ids) AND c.primary_user_id IS NOT NULL
$$;
COMMENT ON FUNCTION sophia.gong_links(text[]) IS 'internal: contacts that these calls of Gong count for';

CREATE FUNCTION sophia.slack_links(ids text[]) RETURNS TABLE (interaction_id text, contact_id text)
LANGUAGE sql STABLE
AS $$
  SELECT 'slack_' || m.channel || '_' || m.ts, 'slack_' || m.user_id
  FROM sophia.slack_keys(ARRAY(SELECT 'slack_' || i.id FROM pg_catalog.unnest(ids) AS i (id))) AS k
  JOIN slack_raw.messages AS m ON m.channel = k.channel AND m.ts = k.ts
  WHERE m.user_id IS NOT NULL
$$;
COMMENT ON FUNCTION sophia.slack_links(text[]) IS 'internal: contacts that these messages, channel_ts, count for';

CREATE FUNCTION sophia.uncaptured(stamp xid8, seen pg_snapshot) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
  SELECT stamp >= pg_catalog.pg_snapshot_xmin(seen) AND NOT pg_catalog.pg_visible_in_snapshot(stamp, seen)
$$;
COMMENT ON FUNCTION sophia.uncaptured(xid8, pg_snapshot) IS 'internal: whether a row with this stamp changed since refresh read the changes up to seen';

CREATE FUNCTION sophia.unsettled_links(source text, queued boolean) RETURNS TABLE (interaction_id text, contact_id text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  seen CONSTANT pg_snapshot := sophia.refresh_snapshot();
  ids text[];
BEGIN
  EXECUTE CASE source
    WHEN 'hubspot' THEN 'SELECT array_agg(e.id) FROM hubspot_raw.engagements AS e WHERE sophia.uncaptured(e.changed_xid, $1)'
    WHEN 'gong' THEN 'SELECT array_agg(x.id) FROM (SELECT c.id FROM gong_raw.calls AS c WHERE sophia.uncaptured(c.changed_xid, $1)
      UNION SELECT p.call_id FROM gong_raw.call_parties AS p WHERE sophia.uncaptured(p.changed_xid, $1)) AS x'
    WHEN 'slack' THEN 'SELECT array_agg(m.channel || ''_'' || m.ts) FROM slack_raw.messages AS m WHERE sophia.uncaptured(m.changed_xid, $1)' END
  INTO ids USING seen;
  IF queued THEN
    ids := ids || ARRAY(SELECT substr(q.key, length(source) + 2) FROM sophia.refresh_queue AS q
      WHERE q.target = 'interaction_timeline' AND starts_with(q.key, source || '_'));
  END IF;
  IF ids IS NOT NULL THEN
    RETURN QUERY EXECUTE format('SELECT l.* FROM sophia.%I($1) AS l', source || '_links') USING ids;
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.unsettled_links(text, boolean) IS
  'internal: whom interactions of a source count for that changed since refresh last read the changes, or (queued) that are still in the queue of the timeline';

CREATE FUNCTION sophia.settle_links(ids text[]) RETURNS text[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH settled AS (
    DELETE FROM sophia.refresh_links AS l WHERE l.interaction_id = ANY (ids) RETURNING l.contact_id
  )
  SELECT array_agg(s.contact_id) FROM settled AS s
$$;
COMMENT ON FUNCTION sophia.settle_links(text[]) IS 'internal: takes from refresh_links whom these interactions counted for';

CREATE FUNCTION sophia.touch_merges(winners text[]) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- A recursion is expected to find millions, and would begin by filling work_mem with an empty hash table for them.
SET work_mem = '1MB'
AS $$
DECLARE
  -- Most contacts were never merged with another one.
  edges CONSTANT text := $query$
    SELECT array_agg(DISTINCT x.id)
    FROM unnest($1) AS u (id)
    CROSS JOIN LATERAL (
      SELECT c.winner, c.loser FROM sophia.contact_merges AS c WHERE c.winner = u.id
      UNION ALL
      SELECT c.winner, c.loser FROM sophia.contact_merges AS c WHERE c.loser = u.id) AS n
    CROSS JOIN LATERAL (VALUES (n.winner), (n.loser)) AS x (id) $query$;
  around CONSTANT text := $query$
    WITH RECURSIVE member (id) AS (
      SELECT unnest($1)
      UNION
      SELECT n.id
      FROM member AS m
      CROSS JOIN LATERAL (
        SELECT c.loser FROM sophia.contact_merges AS c WHERE c.winner = m.id
        UNION ALL
        SELECT c.winner FROM sophia.contact_merges AS c WHERE c.loser = m.id) AS n (id)
    )
    SELECT array_agg(m.id) FROM member AS m $query$;
  members text[];
  added text[];
  changed record;
BEGIN
  -- Everybody who was, or is now, merged with one of them in any number of steps.
  EXECUTE edges INTO members USING winners;
  added := sophia.write_merges(winners);
  EXECUTE around INTO members USING members || added;
  PERFORM sophia.enqueue('identities', ARRAY(SELECT 'hubspot_' || m.id FROM unnest(members) AS m (id)));
  SELECT array_agg(l.key) AS keys, array_agg('hubspot_' || x.id) AS contacts INTO changed
  FROM sophia.write_lookups('alias', coalesce(members, '{}')) AS l
  CROSS JOIN LATERAL (VALUES (l.key), (l.old_value), (l.new_value)) AS x (id)
  WHERE x.id IS NOT NULL;
  IF changed.contacts IS NOT NULL THEN
    PERFORM sophia.touch_interactions_of(changed.contacts);
  END IF;
  PERFORM sophia.link_merged_contacts(winners || changed.keys);
  RETURN winners || members;
END
$$;
COMMENT ON FUNCTION sophia.touch_merges(text[]) IS
  'internal: brings merges and aliases up to date for HubSpot contacts that changed; returns them and all that were or are merged with them';

CREATE FUNCTION sophia.touch_hubspot_companies(ids text[]) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  domains text[];
BEGIN
  SELECT array_agg(DISTINCT d.domain) INTO domains
  FROM (SELECT unnest(ARRAY[w.old_value, w.new_value]) FROM sophia.write_lookups('company', ids) AS w
    UNION ALL SELECT l.value FROM sophia.refresh_lookups AS l WHERE l.kind = 'company' AND l.key = ANY (ids)) AS d (domain)
  WHERE d.domain IS NOT NULL;
  domains := ARRAY(SELECT w.key FROM sophia.write_lookups('company_domain', domains) AS w WHERE domains IS NOT NULL);
  RETURN ARRAY(
    SELECT 'hubspot_' || c.id FROM hubspot_raw.contacts AS c WHERE c.associated_company_id = ANY (ids)
    UNION
    SELECT u.id FROM processed_data.unified_contacts AS u
    WHERE u.source_system = 'gong' AND u.email_domain = ANY (domains));
END
$$;
COMMENT ON FUNCTION sophia.touch_hubspot_companies(text[]) IS 'internal: contacts that show the name of one of these companies, now or before';

CREATE FUNCTION sophia.touch_hubspot_engagements(ids text[]) RETURNS text[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(
    SELECT l.contact_id FROM sophia.hubspot_links(ids) AS l
    UNION
    SELECT unnest(sophia.settle_links(ARRAY(SELECT 'hubspot_' || i.id FROM unnest(ids) AS i (id))))
    UNION
    SELECT p.contact_id FROM processed_data.interaction_participants AS p
    WHERE p.interaction_id = ANY (ARRAY(SELECT 'hubspot_' || i.id FROM unnest(ids) AS i (id)))
      AND p.contact_id LIKE 'hubspot\_%')
$$;
COMMENT ON FUNCTION sophia.touch_hubspot_engagements(text[]) IS 'internal: HubSpot contacts that take part in these engagements, now or before';

CREATE FUNCTION sophia.touch_staff_domains() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  changed text;
BEGIN
  SELECT min(w.key) INTO changed FROM sophia.write_lookups('staff_domain') AS w;
  IF changed IS NOT NULL THEN
    PERFORM sophia.request_full('unified_contacts', format('the own company has, or had, another e-mail domain: %s', changed));
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.touch_staff_domains() IS 'internal: has all contacts recomputed where the e-mail domains of the own company are others than before';

CREATE FUNCTION sophia.touch_gong_users(ids text[]) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  touched text[];
BEGIN
  touched := ARRAY(
    SELECT 'gong_' || x.id
    FROM sophia.write_lookups('staff_email') AS w
    CROSS JOIN LATERAL (VALUES (w.key), (w.old_value), (w.new_value)) AS x (id)
    WHERE x.id IS NOT NULL
    UNION
    SELECT 'gong_' || i.id FROM unnest(ids) AS i (id)
    UNION
    SELECT 'gong_' || x.id
    FROM (SELECT o.call_id, o.party_id, coalesce(o.email_norm, sophia.normalize_email(o.email)) AS email
      FROM gong_raw.call_parties AS o WHERE o.user_id = ANY (ids)) AS p
    -- Without the user a party is whom its address names: another user, or nobody on the staff.
    LEFT JOIN sophia.gong_user_emails() AS e ON e.email_norm = p.email
    CROSS JOIN LATERAL (VALUES (e.user_id), (p.email), (p.call_id || '_' || p.party_id)) AS x (id)
    WHERE x.id IS NOT NULL);
  PERFORM sophia.touch_staff_domains();
  RETURN touched;
END
$$;
COMMENT ON FUNCTION sophia.touch_gong_users(text[]) IS 'internal: contacts that these Gong users are, and what their parties are when they are no users';

CREATE FUNCTION sophia.participants_of_calls(ids text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(
    SELECT l.contact_id FROM sophia.gong_links(ids) AS l
    UNION
    SELECT x.id
    FROM processed_data.interaction_participants AS p
    CROSS JOIN LATERAL (VALUES (p.contact_id), ('gong_' || p.email_norm)) AS x (id)
    WHERE p.interaction_id = ANY (ARRAY(SELECT 'gong_' || i.id FROM unnest(ids) AS i (id))) AND x.id LIKE 'gong\_%')
$$;
COMMENT ON FUNCTION sophia.participants_of_calls(text[]) IS 'internal: contacts of Gong who take part in these calls, now or by the timeline';

CREATE FUNCTION sophia.touch_gong_calls(ids text[]) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
DECLARE
  -- A host has many calls: he is computed anew only where the call is not the same for him.
  moved CONSTANT text[] := ARRAY(
    SELECT i.id
    FROM unnest(ids) AS i (id)
    LEFT JOIN gong_raw.calls AS c ON c.id = i.id
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.calls'::regclass AND q.key ->> 'id' = c.id)
    LEFT JOIN processed_data.interaction_timeline AS t ON t.id = 'gong_' || i.id
    LEFT JOIN processed_data.unified_contacts AS u ON u.id = 'gong_' || c.primary_user_id
    WHERE c.id IS NULL OR t.id IS NULL
      OR (t.occurred_at, t.is_deleted) IS DISTINCT FROM (coalesce(c.started, c.scheduled, sophia.unknown_time()), c.is_deleted)
      OR t.owner_contact_id IS DISTINCT FROM u.id);
  -- A party whose call has no row is no participant of anything: the lookups tell what it was.
  lone CONSTANT text[] := ARRAY(
    SELECT p.call_id || ' ' || p.party_id FROM gong_raw.call_parties AS p WHERE p.call_id = ANY (moved)
    UNION
    SELECT l.key FROM sophia.refresh_lookups AS l WHERE l.kind = 'lone_party' AND split_part(l.key, ' ', 1) = ANY (moved));
BEGIN
  RETURN sophia.participants_of_calls(moved) || sophia.touch_lone_parties(lone)
    || sophia.settle_links(ARRAY(SELECT 'gong_' || i.id FROM unnest(ids) AS i (id)));
END
$$;
COMMENT ON FUNCTION sophia.touch_gong_calls(text[]) IS
  'internal: contacts who take part in these calls of Gong, now or before, as far as it makes a difference to them';

CREATE FUNCTION sophia.touch_lone_parties(parties text[]) RETURNS text[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(
    SELECT 'gong_' || x.email FROM sophia.write_lookups('lone_party', parties) AS w
    CROSS JOIN LATERAL (VALUES (w.old_value), (w.new_value)) AS x (email)
    WHERE x.email IS NOT NULL)
$$;
COMMENT ON FUNCTION sophia.touch_lone_parties(text[]) IS 'internal: contacts who these parties, "call party", are or were while their call has no row';

CREATE FUNCTION sophia.touch_gong_parties(calls text[], parties text[]) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
DECLARE
  touched text[];
BEGIN
  -- Who they are, and who was in the calls besides those whose party is the same as before.
  WITH now AS MATERIALIZED (
    SELECT p.call_id, p.contact_id, p.email_norm, k.call_id IS NOT NULL AS is_changed
    FROM (SELECT DISTINCT c.id FROM unnest(calls) AS c (id)) AS c
    JOIN sophia.gong_parties() AS p ON p.call_id = c.id
    LEFT JOIN unnest(calls, parties) AS k (call_id, party_id) ON k.call_id = p.call_id AND k.party_id = p.party_id
  ), gone AS (
    SELECT p.interaction_id, p.contact_id, p.email_norm
    FROM processed_data.interaction_participants AS p
    WHERE p.interaction_id = ANY (ARRAY(SELECT DISTINCT 'gong_' || c.id FROM unnest(calls) AS c (id)))
    EXCEPT ALL
    SELECT 'gong_' || n.call_id, n.contact_id, n.email_norm FROM now AS n WHERE NOT n.is_changed
  )
  SELECT array_agg(x.id) INTO touched
  FROM (
    SELECT n.contact_id AS id FROM now AS n WHERE n.is_changed
    UNION
    SELECT x.id FROM gone AS g CROSS JOIN LATERAL (VALUES (g.contact_id), ('gong_' || g.email_norm)) AS x (id)
    UNION
    SELECT 'gong_' || k.call_id || '_' || k.party_id FROM unnest(calls, parties) AS k (call_id, party_id)) AS x
  WHERE x.id LIKE 'gong\_%';
  RETURN touched || sophia.touch_lone_parties(ARRAY(SELECT k.call_id || ' ' || k.party_id FROM unnest(calls, parties) AS k (call_id, party_id)))
    || sophia.settle_links(ARRAY(SELECT 'gong_' || c.id FROM unnest(calls) AS c (id)));
END
$$;
COMMENT ON FUNCTION sophia.touch_gong_parties(text[], text[]) IS 'internal: contacts who these parties of Gong calls are, or were by the timeline';

CREATE FUNCTION sophia.touch_gong_contexts(calls text[], touched text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM gong_raw.call_parties AS p WHERE p.call_id = ANY (calls) AND p.hubspot_contact_id IS NOT NULL) THEN
    touched := ARRAY(SELECT t.id FROM unnest(touched) AS t (id)
      WHERE EXISTS (SELECT FROM processed_data.identity_links AS l WHERE l.contact_id = t.id AND l.kind = 'hubspot_id'));
  END IF;
  PERFORM sophia.enqueue('identities', touched);
END
$$;
COMMENT ON FUNCTION sophia.touch_gong_contexts(text[], text[]) IS
  'internal: has it decided anew who these contacts are, whom parties of these calls are or were, as far as Gong knows any as HubSpot contacts';

CREATE FUNCTION sophia.touch_slack_users(ids text[]) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  before CONSTANT text := sophia.slack_home();
BEGIN
  -- Each of them may have left the largest team for the second largest.
  UPDATE sophia.refresh_lookups AS l SET value = (l.value::bigint - 2 * cardinality(ids))::text
  WHERE l.kind = 'slack_home' AND l.value::bigint > 2 * cardinality(ids);
  IF NOT FOUND THEN
    PERFORM sophia.write_lookups('slack_home');
    IF sophia.slack_home() IS DISTINCT FROM before THEN
      PERFORM sophia.request_full('unified_contacts', 'the own Slack workspace is another one');
    END IF;
  END IF;
  RETURN ARRAY(SELECT 'slack_' || i.id FROM unnest(ids) AS i (id));
END
$$;
COMMENT ON FUNCTION sophia.touch_slack_users(text[]) IS 'internal: contacts that these Slack users are; has all recomputed where the own workspace is another one';

CREATE FUNCTION sophia.touch_slack_messages(keys jsonb) RETURNS text[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH message AS MATERIALIZED (
    SELECT k ->> 'channel' AS channel, k ->> 'ts' AS ts FROM jsonb_array_elements(keys) AS k
  )
  SELECT ARRAY(
    SELECT 'slack_' || m.user_id
    FROM message AS c
    JOIN slack_raw.messages AS m ON m.channel = c.channel AND m.ts = c.ts
    WHERE m.user_id IS NOT NULL
    UNION
    SELECT unnest(sophia.settle_links(ARRAY(SELECT 'slack_' || c.channel || '_' || c.ts FROM message AS c)))
    UNION
    SELECT p.contact_id
    FROM message AS c
    JOIN processed_data.interaction_participants AS p ON p.interaction_id = 'slack_' || c.channel || '_' || c.ts
    WHERE p.role = 'author' AND p.contact_id IS NOT NULL)
$$;
COMMENT ON FUNCTION sophia.touch_slack_messages(jsonb) IS 'internal: authors of these Slack messages, now or before';

CREATE FUNCTION sophia.touch_contacts(source regclass, keys jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids CONSTANT text[] := ARRAY(SELECT DISTINCT coalesce(k ->> 'id', k ->> 'call_id') FROM jsonb_array_elements(keys) AS k);
  name CONSTANT text := (SELECT format('%s.%s', n.nspname, c.relname)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = source);
  touched text[];
BEGIN
  touched := CASE name
    WHEN 'hubspot_raw.contacts' THEN
      ARRAY(SELECT 'hubspot_' || m.id FROM unnest(sophia.touch_merges(ids)) AS m (id))
    WHEN 'hubspot_raw.companies' THEN sophia.touch_hubspot_companies(ids)
    WHEN 'hubspot_raw.engagements' THEN sophia.touch_hubspot_engagements(ids)
    WHEN 'gong_raw.users' THEN sophia.touch_gong_users(ids)
    WHEN 'gong_raw.calls' THEN sophia.touch_gong_calls(ids)
    WHEN 'gong_raw.call_parties' THEN (SELECT sophia.touch_gong_parties(array_agg(k ->> 'call_id'), array_agg(k ->> 'party_id'))
      FROM jsonb_array_elements(keys) AS k)
    WHEN 'slack_raw.users' THEN sophia.touch_slack_users(ids)
    WHEN 'slack_raw.messages' THEN sophia.touch_slack_messages(keys) END;
  IF name = 'hubspot_raw.owners' THEN
    PERFORM sophia.touch_staff_domains();
  ELSIF name = 'gong_raw.call_parties' THEN
    PERFORM sophia.touch_gong_contexts(ids, touched);
  END IF;
  PERFORM sophia.enqueue('unified_contacts', touched);
END
$$;
COMMENT ON FUNCTION sophia.touch_contacts(regclass, jsonb) IS 'internal: enqueues the contacts that depend on rows of a raw table; keys is an array of key objects as next_batch gives them';
