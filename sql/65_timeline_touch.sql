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

CREATE FUNCTION sophia.changed_inputs(input text, keys text[], current_keys text[], current_values text[]) RETURNS text[]
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH now AS (
    SELECT c.key, c.value FROM unnest(current_keys, current_values) AS c (key, value)
  ), gone AS (
    DELETE FROM sophia.timeline_inputs AS t
    WHERE t.input = changed_inputs.input AND t.key = ANY (keys) AND NOT EXISTS (SELECT FROM now AS n WHERE n.key = t.key)
    RETURNING t.key
  ), written AS (
    INSERT INTO sophia.timeline_inputs AS t (input, key, value)
    SELECT changed_inputs.input, n.key, n.value FROM now AS n
    WHERE NOT EXISTS (SELECT FROM sophia.timeline_inputs AS o
      WHERE o.input = changed_inputs.input AND o.key = n.key AND o.value = n.value)
    ON CONFLICT ON CONSTRAINT timeline_inputs_pkey DO UPDATE SET value = excluded.value
    RETURNING t.key
  )
  SELECT array_agg(c.key) FROM (SELECT g.key FROM gone AS g UNION ALL SELECT w.key FROM written AS w) AS c
$$;
COMMENT ON FUNCTION sophia.changed_inputs(text, text[], text[], text[]) IS
  'internal: keeps what rows of these keys say now, and gives the keys for which it is new; a key without a current value is gone';

CREATE FUNCTION sophia.queue_interactions(ids text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.refresh_queue (target, key)
  SELECT DISTINCT 'interaction_timeline', i.id FROM unnest(ids) AS i (id) WHERE i.id IS NOT NULL
  ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION sophia.queue_interactions(text[]) IS 'internal: has the next refresh write these interactions';

CREATE FUNCTION sophia.touched_by_engagements(keys text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH thread AS (
    -- Those of one thread name its first e-mail, which may be another one now.
    SELECT DISTINCT x.thread_id
    FROM (SELECT e.thread_id FROM hubspot_raw.engagements AS e WHERE e.id = ANY (keys)
      UNION ALL
      SELECT t.thread_key FROM processed_data.interaction_timeline AS t
      WHERE t.id = ANY (ARRAY(SELECT 'hubspot_' || k FROM unnest(keys) AS k))) AS x
    WHERE x.thread_id IS NOT NULL
  )
  SELECT ARRAY(
    SELECT 'hubspot_' || k FROM unnest(keys) AS k
    UNION
    SELECT t.id
    FROM thread AS h
    LEFT JOIN LATERAL (
      SELECT 'hubspot_' || e.id AS id FROM hubspot_raw.engagements AS e WHERE e.thread_id = h.thread_id
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
AS $$
  SELECT ARRAY(SELECT 'slack_' || m.channel || '_' || m.ts FROM slack_raw.messages AS m
    WHERE m.user_id = ANY (keys)
      OR m.text LIKE '%<@%' AND ARRAY(SELECT x[1] FROM regexp_matches(m.text, '<@([[:alnum:]]+)[|>]', 'g') AS x) && keys)
$$;
COMMENT ON FUNCTION sophia.touched_by_slack_users(text[]) IS
  'internal: interactions that changes of these Slack users concern; reads all messages';

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
AS $$
BEGIN
  IF NOT sophia.has_source('hubspot') THEN
    RETURN;
  END IF;
  PERFORM sophia.queue_interactions(ARRAY(
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

CREATE FUNCTION sophia.touch_staff_domains() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  domains constant text[] := ARRAY(SELECT d.domain FROM sophia.staff_domains() AS d);
  changed text[];
BEGIN
  changed := sophia.changed_inputs('staff domain', ARRAY(SELECT i.key FROM sophia.kept_inputs('staff domain') AS i (key)),
    domains, domains);
  IF changed IS NOT NULL THEN
    PERFORM sophia.queue_interactions(sophia.touched_by_domains(changed));
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.touch_staff_domains() IS 'internal: has the next refresh write the interactions with addresses of domains that became or ceased to be of the own company';

CREATE FUNCTION sophia.kept_inputs(input text) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT t.key FROM sophia.timeline_inputs AS t WHERE t.input = kept_inputs.input
$$;
COMMENT ON FUNCTION sophia.kept_inputs(text) IS 'internal: keys that something is kept of';
