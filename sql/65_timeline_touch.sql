-- Which interactions a change concerns: what next_batch gives becomes ids of interaction_timeline in the queue of refresh.
--
-- Both what a raw row had made and what it makes now count: the former is read from the processed tables.  Small tables
-- that many interactions depend on (owners, channels, …) are captured anew all the time without saying anything new;
-- timeline_inputs keeps what the timeline has used of each, and only what differs from that concerns interactions.

CREATE TABLE sophia.timeline_inputs (
  input text NOT NULL,
  key text NOT NULL,
  value text NOT NULL,
  PRIMARY KEY (input, key)
);
COMMENT ON TABLE sophia.timeline_inputs IS 'internal: what interaction_timeline uses of rows that many interactions depend on; state of this database, not dumped';
COMMENT ON COLUMN sophia.timeline_inputs.input IS 'kind of the row, such as slack channel';
COMMENT ON COLUMN sophia.timeline_inputs.key IS 'id of the row in its source';
COMMENT ON COLUMN sophia.timeline_inputs.value IS 'what is used of it';

CREATE FUNCTION sophia.keep_inputs(input text, keys text[], current_keys text[], current_values text[]) RETURNS text[]
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH now AS (
    SELECT c.key, c.value FROM unnest(current_keys, current_values) AS c (key, value)
  ), gone AS (
    DELETE FROM sophia.timeline_inputs AS t
    WHERE t.input = keep_inputs.input AND (keys IS NULL OR t.key = ANY (keys))
      AND NOT EXISTS (SELECT FROM now AS n WHERE n.key = t.key)
    RETURNING t.key
  ), written AS (
    INSERT INTO sophia.timeline_inputs AS t (input, key, value)
    SELECT keep_inputs.input, n.key, n.value FROM now AS n
    WHERE NOT EXISTS (SELECT FROM sophia.timeline_inputs AS o
      WHERE o.input = keep_inputs.input AND o.key = n.key AND o.value = n.value)
    ON CONFLICT ON CONSTRAINT timeline_inputs_pkey DO UPDATE SET value = excluded.value
    RETURNING t.key
  )
  SELECT array_agg(c.key) FROM (SELECT g.key FROM gone AS g UNION ALL SELECT w.key FROM written AS w) AS c
$$;
COMMENT ON FUNCTION sophia.keep_inputs(text, text[], text[], text[]) IS
  'internal: keeps what rows of these keys, NULL = all, say now; gives the keys for which that is new, NULL if there is none';

CREATE FUNCTION sophia.current_inputs(input text, keys text[]) RETURNS TABLE (key text, value text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
  CASE input
    WHEN 'staff domain' THEN
      RETURN QUERY SELECT d.domain, '' FROM sophia.staff_domains() AS d;
    WHEN 'hubspot owner' THEN
      RETURN QUERY SELECT o.owner_id, jsonb_build_array(o.contact_id, o.email_norm, o.name)::text
        FROM sophia.hubspot_staff() AS o;
    WHEN 'slack team' THEN
      RETURN QUERY SELECT 'home', h.team_id FROM sophia.slack_home() AS h (team_id) WHERE h.team_id IS NOT NULL;
    WHEN 'slack channel' THEN
      RETURN QUERY SELECT c.id, jsonb_build_array(c.name, c.is_private, c.is_ext_shared)::text FROM slack_raw.channels AS c
        WHERE (keys IS NULL OR c.id = ANY (keys))
          AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.channels'::regclass AND q.key ->> 'id' = c.id);
    WHEN 'slack bot' THEN
      RETURN QUERY SELECT u.id, jsonb_build_array(u.real_name, u.display_name, u.name)::text FROM slack_raw.users AS u
        WHERE (keys IS NULL OR u.id = ANY (keys))
          AND NOT EXISTS (SELECT FROM processed_data.unified_contacts AS p WHERE p.id = 'slack_' || u.id);
  END CASE;
END
$$;
COMMENT ON FUNCTION sophia.current_inputs(text, text[]) IS
  'internal: what the timeline uses of rows of a kind: staff domain, hubspot owner, slack team, slack channel, or slack bot (a user who is no contact)';

CREATE FUNCTION sophia.changed_inputs(input text, keys text[] DEFAULT NULL) RETURNS text[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sophia.keep_inputs(input, keys, array_agg(c.key), array_agg(c.value)) FROM sophia.current_inputs(input, keys) AS c
$$;
COMMENT ON FUNCTION sophia.changed_inputs(text, text[]) IS
  'internal: keys, among these or NULL = all, of rows of a kind of which the timeline uses something else than before; NULL if there is none';

CREATE FUNCTION sophia.touched_by_engagements(keys text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH thread AS (
    -- Those of one thread name its first e-mail, which may be another one now; one that was read in a thread between two of
    -- its own rows is only known by who names it.
    SELECT DISTINCT x.thread_id
    FROM (SELECT e.thread_id FROM hubspot_raw.engagements AS e WHERE e.id = ANY (keys)
      UNION ALL
      SELECT t.thread_key FROM processed_data.interaction_timeline AS t
      WHERE t.id = ANY (ARRAY(SELECT 'hubspot_' || k FROM unnest(keys) AS k))
      UNION ALL
      SELECT t.thread_key FROM processed_data.interaction_timeline AS t
      WHERE t.parent_id = ANY (ARRAY(SELECT 'hubspot_' || k FROM unnest(keys) AS k))) AS x
    WHERE x.thread_id IS NOT NULL
  )
  SELECT ARRAY(
    SELECT 'hubspot_' || k FROM unnest(keys) AS k
    UNION
    SELECT t.id
    FROM thread AS h
    LEFT JOIN LATERAL (
      SELECT 'hubspot_' || e.id AS id FROM hubspot_raw.engagements AS e WHERE e.thread_id = h.thread_id
        AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'hubspot_raw.engagements'::regclass AND q.key ->> 'id' = e.id)
      ORDER BY coalesce(e.occurred_at, e.createdate), e.id COLLATE "C" LIMIT 1) AS root ON true
    CROSS JOIN LATERAL (
      SELECT m.id, m.parent_id FROM processed_data.interaction_timeline AS m
      WHERE m.thread_key = h.thread_id AND m.source_system = 'hubspot' OFFSET 0) AS t
    WHERE t.parent_id IS DISTINCT FROM nullif(root.id, t.id))
$$;
COMMENT ON FUNCTION sophia.touched_by_engagements(text[]) IS 'internal: interactions that changes of these HubSpot engagements concern';

CREATE FUNCTION sophia.touched_by_owners(keys text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(SELECT 'hubspot_' || e.id FROM hubspot_raw.engagements AS e
    WHERE e.owner_id = ANY (keys)
      OR e.engagement_type = 'MEETING' AND string_to_array(e.doc #>> '{properties,hs_attendee_owner_ids}', ';') && keys)
$$;
COMMENT ON FUNCTION sophia.touched_by_owners(text[]) IS 'internal: interactions that changes of these HubSpot owners concern; reads all engagements';

CREATE FUNCTION sophia.touched_by_domains(domains text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(SELECT DISTINCT p.interaction_id FROM processed_data.interaction_participants AS p
    WHERE sophia.mail_host(p.email_norm) = ANY (domains))
$$;
COMMENT ON FUNCTION sophia.touched_by_domains(text[]) IS
  'internal: interactions that it concerns whether these domains are of the own company; reads all participants';

CREATE FUNCTION sophia.touched_by_slack_users(keys text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
  WITH unknown AS MATERIALIZED (
    -- Who is no contact takes part as one that nobody knows.
    SELECT DISTINCT p.interaction_id AS id FROM processed_data.interaction_participants AS p
    WHERE p.contact_id IS NULL AND starts_with(p.interaction_id, 'slack_')
  )
  SELECT ARRAY(SELECT 'slack_' || m.channel || '_' || m.ts
    FROM sophia.slack_keys(ARRAY(SELECT u.id FROM unknown AS u)) AS k
    JOIN slack_raw.messages AS m ON m.channel = k.channel AND m.ts = k.ts
    WHERE m.user_id = ANY (keys)
      OR m.text LIKE '%<@%' AND ARRAY(SELECT x[1] FROM regexp_matches(m.text, '<@([[:alnum:]]+)[|>]', 'g') AS x) && keys)
$$;
COMMENT ON FUNCTION sophia.touched_by_slack_users(text[]) IS
  'internal: interactions that changes of these Slack users, who were no contacts when these were written, concern';

CREATE FUNCTION sophia.touched_by_channels(keys text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(SELECT 'slack_' || m.channel || '_' || m.ts FROM slack_raw.messages AS m
    WHERE m.channel = ANY (keys)
      OR m.text LIKE '%<#%' AND ARRAY(SELECT x[1] FROM regexp_matches(m.text, '<#([[:alnum:]]+)[|>]', 'g') AS x) && keys)
$$;
COMMENT ON FUNCTION sophia.touched_by_channels(text[]) IS
  'internal: interactions that changes of these Slack channels concern; reads all messages';

CREATE FUNCTION sophia.touched_by_messages(channels text[], stamps text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH message AS (
    SELECT k.channel, k.ts, 'slack_' || k.channel || '_' || k.ts AS id,
      EXISTS (SELECT FROM slack_raw.messages AS m
        WHERE m.channel = k.channel AND m.ts = k.ts AND sophia.is_written_by_somebody(m.subtype)) AS is_shown
    FROM unnest(channels, stamps) AS k (channel, ts)
  )
  SELECT ARRAY(
    SELECT m.id FROM message AS m
    UNION
    -- A reply names the message that began the thread if the timeline shows that.
    SELECT t.id FROM message AS m
    JOIN processed_data.interaction_timeline AS t ON t.thread_key = m.channel || ':' || m.ts AND t.id <> m.id
    WHERE t.source_system = 'slack' AND t.parent_id IS DISTINCT FROM CASE WHEN m.is_shown THEN m.id END)
$$;
COMMENT ON FUNCTION sophia.touched_by_messages(text[], text[]) IS 'internal: interactions that changes of these Slack messages concern';

CREATE FUNCTION sophia.touch_duplicates(calls text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
BEGIN
  IF NOT sophia.has_source('hubspot') THEN
    RETURN;
  END IF;
  PERFORM sophia.enqueue('interaction_timeline', ARRAY(
    SELECT t.id FROM processed_data.interaction_timeline AS t
    WHERE t.duplicate_of = ANY (calls)
    UNION
    SELECT 'hubspot_' || e.id
    FROM processed_data.interaction_timeline AS g
    JOIN hubspot_raw.engagements AS e ON e.ical_uid = g.thread_key
    WHERE g.id = ANY (calls)
    UNION
    SELECT m.id
    FROM processed_data.interaction_timeline AS g
    JOIN processed_data.interaction_timeline AS m ON m.owner_contact_id = g.owner_contact_id
      AND m.occurred_at BETWEEN sophia.time_after(g.occurred_at, -900) AND sophia.time_after(g.occurred_at, 900)
    WHERE g.id = ANY (calls) AND m.source_system = 'hubspot' AND m.interaction_type = 'meeting'));
END
$$;
COMMENT ON FUNCTION sophia.touch_duplicates(text[]) IS
  'internal: has the next refresh write the HubSpot meetings that these Gong calls, which it has just written, show or showed as well';

CREATE FUNCTION sophia.touch_shared_inputs(slack_users text[] DEFAULT NULL, channels text[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  changed text[];
BEGIN
  changed := sophia.changed_inputs('staff domain');
  IF changed IS NOT NULL THEN
    PERFORM sophia.enqueue('interaction_timeline', sophia.touched_by_domains(changed));
  END IF;
  IF sophia.has_source('hubspot') THEN
    changed := sophia.changed_inputs('hubspot owner');
    IF changed IS NOT NULL THEN
      PERFORM sophia.enqueue('interaction_timeline', sophia.touched_by_owners(changed));
    END IF;
  END IF;
  IF channels IS NOT NULL THEN
    changed := sophia.changed_inputs('slack channel', channels);
    IF changed IS NOT NULL THEN
      PERFORM sophia.enqueue('interaction_timeline', sophia.touched_by_channels(changed));
    END IF;
  END IF;
  IF slack_users IS NOT NULL THEN
    changed := sophia.changed_inputs('slack bot', slack_users);
    IF changed IS NOT NULL THEN
      PERFORM sophia.enqueue('interaction_timeline', sophia.touched_by_slack_users(changed));
    END IF;
    IF sophia.changed_inputs('slack team') IS NOT NULL THEN
      PERFORM sophia.enqueue('interaction_timeline', ARRAY(SELECT 'slack_' || m.channel || '_' || m.ts FROM slack_raw.messages AS m));
    END IF;
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.touch_shared_inputs(text[], text[]) IS
  'internal: has the next refresh write what depends on the own domains and owners of HubSpot, and on these users and channels of Slack, as far as they say something new';

CREATE FUNCTION sophia.keep_all_inputs(source text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  CASE source
    WHEN 'hubspot' THEN PERFORM sophia.changed_inputs('hubspot owner');
    WHEN 'gong' THEN PERFORM sophia.changed_inputs('staff domain');
    WHEN 'slack' THEN
      PERFORM sophia.changed_inputs('slack channel');
      PERFORM sophia.changed_inputs('slack bot');
      PERFORM sophia.changed_inputs('slack team');
  END CASE;
END
$$;

COMMENT ON FUNCTION sophia.keep_all_inputs(text) IS 'internal: keeps what the timeline uses of a source, all interactions of which are being written';

CREATE FUNCTION sophia.touch_interactions(source regclass, keys jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
DECLARE
  ids text[];
BEGIN
  CASE source::oid
    WHEN to_regclass('hubspot_raw.engagements') THEN
      PERFORM sophia.enqueue('interaction_timeline', sophia.touched_by_engagements(
        ARRAY(SELECT k ->> 'id' FROM jsonb_array_elements(keys) AS k)));
    WHEN to_regclass('hubspot_raw.owners') THEN
      PERFORM sophia.touch_shared_inputs();
    WHEN to_regclass('gong_raw.calls') THEN
      PERFORM sophia.enqueue('interaction_timeline', ARRAY(SELECT 'gong_' || (k ->> 'id') FROM jsonb_array_elements(keys) AS k));
    WHEN to_regclass('gong_raw.call_parties'), to_regclass('gong_raw.call_transcripts') THEN
      PERFORM sophia.enqueue('interaction_timeline', ARRAY(SELECT 'gong_' || (k ->> 'call_id') FROM jsonb_array_elements(keys) AS k));
    WHEN to_regclass('gong_raw.users') THEN
      PERFORM sophia.touch_shared_inputs();
    WHEN to_regclass('slack_raw.messages') THEN
      PERFORM sophia.enqueue('interaction_timeline', sophia.touched_by_messages(array_agg(k ->> 'channel'), array_agg(k ->> 'ts')))
      FROM jsonb_array_elements(keys) AS k;
    WHEN to_regclass('slack_raw.channels') THEN
      PERFORM sophia.touch_shared_inputs(channels => ARRAY(SELECT k ->> 'id' FROM jsonb_array_elements(keys) AS k));
    WHEN to_regclass('slack_raw.users') THEN
      PERFORM sophia.touch_shared_inputs(ARRAY(SELECT k ->> 'id' FROM jsonb_array_elements(keys) AS k));
    ELSE
      -- Contacts come by touch_interactions_of; companies and deals are only named by their ids.
      NULL;
  END CASE;
END
$$;
COMMENT ON FUNCTION sophia.touch_interactions(regclass, jsonb) IS
  'internal: has the next refresh write the interactions that changes of these rows of a raw table concern; keys is an array of key objects as next_batch gives them';

CREATE FUNCTION sophia.hubspot_ids_of(contacts text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE alias (id) AS (
    SELECT substr(c.id, 9) FROM unnest(contacts) AS c (id) WHERE c.id LIKE 'hubspot\_%'
    UNION
    SELECT substring(m.entry FROM '^\s*(\d+)')
    FROM alias AS a
    JOIN hubspot_raw.contacts AS r ON r.id = a.id
    CROSS JOIN LATERAL unnest(r.merged_object_ids || r.calculated_merged_vids) AS m (entry)
  )
  SELECT ARRAY(SELECT a.id FROM alias AS a WHERE a.id IS NOT NULL)
$$;
COMMENT ON FUNCTION sophia.hubspot_ids_of(text[]) IS 'internal: HubSpot ids of these contacts and of all that were merged into them, in any number of steps';

CREATE FUNCTION sophia.touch_interactions_of(contact_ids text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
DECLARE
  emails constant text[] := ARRAY(SELECT DISTINCT e.email FROM processed_data.unified_contacts AS c
    CROSS JOIN LATERAL unnest(c.all_emails || c.email_norm) AS e (email)
    WHERE c.id = ANY (contact_ids) AND e.email IS NOT NULL);
  ids text[];
BEGIN
  -- Who was the contact, and whose address an interaction has, which may lead to another contact now.
  PERFORM sophia.enqueue('interaction_timeline', ARRAY(
    SELECT p.interaction_id FROM processed_data.interaction_participants AS p WHERE p.contact_id = ANY (contact_ids)
    UNION
    SELECT p.interaction_id FROM processed_data.interaction_participants AS p WHERE p.email_norm = ANY (emails)
    UNION
    SELECT t.id FROM processed_data.interaction_timeline AS t WHERE t.owner_contact_id = ANY (contact_ids)));
  IF sophia.has_source('hubspot') THEN
    ids := sophia.hubspot_ids_of(contact_ids);
    PERFORM sophia.enqueue('interaction_timeline', ARRAY(
      SELECT 'hubspot_' || e.id FROM sophia.chunks(ids) AS c (ids)
      JOIN hubspot_raw.engagements AS e ON e.contact_ids && c.ids));
    IF sophia.has_source('gong') THEN
      PERFORM sophia.enqueue('interaction_timeline', ARRAY(
        SELECT 'gong_' || p.call_id FROM gong_raw.call_parties AS p WHERE p.hubspot_contact_id = ANY (ids)));
    END IF;
  END IF;
  IF sophia.has_source('gong') THEN
    PERFORM sophia.enqueue('interaction_timeline', ARRAY(
      SELECT 'gong_' || p.call_id
      FROM sophia.gong_parties_of(ARRAY(SELECT substr(c.id, 6) FROM unnest(contact_ids) AS c (id) WHERE c.id LIKE 'gong\_%')) AS p
      UNION
      SELECT 'gong_' || c.id FROM gong_raw.calls AS c
      WHERE c.primary_user_id = ANY (ARRAY(SELECT substr(c.id, 6) FROM unnest(contact_ids) AS c (id) WHERE c.id LIKE 'gong\_%'))));
  END IF;
  IF sophia.has_source('slack') THEN
    -- Who is a contact no longer, or is one now, counts among the bots from now on, or does not; what has them is enqueued here.
    ids := ARRAY(SELECT substr(c.id, 7) FROM unnest(contact_ids) AS c (id) WHERE c.id LIKE 'slack\_%');
    IF ids <> '{}' THEN
      PERFORM sophia.changed_inputs('slack bot', ids);
    END IF;
    ids := ARRAY(SELECT substr(c.id, 7) FROM unnest(contact_ids) AS c (id)
      WHERE c.id LIKE 'slack\_%'
        AND NOT EXISTS (SELECT FROM processed_data.interaction_participants AS p WHERE p.contact_id = c.id));
    IF ids <> '{}' THEN
      PERFORM sophia.enqueue('interaction_timeline', sophia.touched_by_slack_users(ids));
    END IF;
  END IF;
  PERFORM sophia.touch_shared_inputs();
END
$$;
COMMENT ON FUNCTION sophia.touch_interactions_of(text[]) IS
  'internal: has the next refresh write the interactions of these records of unified_contacts, which came, went, or got other names or addresses';
