-- Where interaction_timeline and its participants come from: the queries for Gong and Slack.

CREATE FUNCTION sophia.participants_from_gong(ids text[] DEFAULT NULL)
RETURNS TABLE (interaction_id text, ordinal integer, contact_id text, role text, email_norm text, name text, affiliation text,
  speaker_id text, talk_seconds integer, occurred_at timestamptz)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH talk AS (
    SELECT t.call_id, t.speaker_id, sophia.whole_seconds(pg_catalog.sum(t.end_ms - t.start_ms) / 1000.0) AS seconds
    FROM gong_raw.call_transcripts AS t
    WHERE (ids IS NULL OR t.call_id = ANY (sophia.source_ids(ids))) AND t.speaker_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.call_transcripts'::regclass AND q.key ->> 'call_id' = t.call_id AND q.key ->> 'seq' = t.seq::text)
    GROUP BY t.call_id, t.speaker_id
  ), measured AS (
    -- What Gong measured itself tells where the transcript is missing.
    SELECT c.id AS call_id, x.speaker ->> 'id' AS speaker_id,
      pg_catalog.max(sophia.whole_seconds(CASE WHEN pg_catalog.jsonb_typeof(x.speaker -> 'talkTime') = 'number'
        THEN (x.speaker ->> 'talkTime')::numeric END)) AS seconds
    FROM gong_raw.calls AS c
    CROSS JOIN LATERAL pg_catalog.jsonb_path_query(c.doc, '$.interaction.speakers[*]') AS x (speaker)
    WHERE (ids IS NULL OR c.id = ANY (sophia.source_ids(ids))) AND c.doc ? 'interaction'
    GROUP BY c.id, x.speaker ->> 'id'
  ), party AS MATERIALIZED (
    -- A transcript names one speaker; where several parties share it, the first one spoke.
    SELECT p.call_id, p.party_id, p.ordinal, p.speaker_id, p.email_norm, p.name, p.affiliation, p.user_id, p.contact_id,
      p.hubspot_contact_id, pg_catalog.row_number() OVER (PARTITION BY p.call_id COLLATE "C", p.speaker_id COLLATE "C"
      ORDER BY p.ordinal, p.party_id COLLATE "C") AS turn
    FROM sophia.gong_parties() AS p
    WHERE ids IS NULL OR p.call_id = ANY (sophia.source_ids(ids))
  ), participant AS (
    SELECT p.call_id, 1 AS rank, p.ordinal, p.party_id,
      CASE WHEN p.user_id = c.primary_user_id THEN 'host' WHEN coalesce(t.seconds, g.seconds) IS NOT NULL THEN 'speaker'
        ELSE 'attendee' END AS role,
      coalesce(p.contact_id, 'hubspot_' || coalesce(a.survivor, p.hubspot_contact_id)) AS contact_id,
      p.email_norm, p.name, p.affiliation, p.speaker_id, coalesce(t.seconds, g.seconds) AS seconds,
      coalesce(c.started, c.scheduled) AS at
    FROM party AS p
    JOIN gong_raw.calls AS c ON c.id = p.call_id
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.calls'::regclass AND q.key ->> 'id' = c.id)
    LEFT JOIN talk AS t ON t.call_id = p.call_id AND t.speaker_id = p.speaker_id AND p.turn = 1
    LEFT JOIN measured AS g ON g.call_id = p.call_id AND g.speaker_id = p.speaker_id AND p.turn = 1
    LEFT JOIN sophia.hubspot_aliases() AS a ON a.id = p.hubspot_contact_id
    UNION ALL
    -- The basic form of a call has no parties and names its host only.
    SELECT c.id, 2, 1, '', 'host', 'gong_' || u.id, sophia.normalize_email(u.email), NULL, 'internal', NULL, NULL,
      coalesce(c.started, c.scheduled)
    FROM gong_raw.calls AS c
    JOIN gong_raw.users AS u ON u.id = c.primary_user_id
    WHERE (ids IS NULL OR c.id = ANY (sophia.source_ids(ids)))
      AND NOT EXISTS (SELECT FROM party AS p WHERE p.call_id = c.id AND p.user_id = c.primary_user_id)
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.calls'::regclass AND q.key ->> 'id' = c.id)
  )
  SELECT 'gong_' || p.call_id,
    (pg_catalog.row_number() OVER (PARTITION BY p.call_id COLLATE "C" ORDER BY p.rank, p.ordinal, p.party_id COLLATE "C"))::integer,
    u.id, p.role, p.email_norm, coalesce(p.name, u.full_name), p.affiliation, p.speaker_id, p.seconds, p.at
  FROM participant AS p
  LEFT JOIN processed_data.unified_contacts AS u ON u.id = p.contact_id
$$;
COMMENT ON FUNCTION sophia.participants_from_gong(text[]) IS 'internal: participants of these Gong calls, NULL = of all: their parties, and the host where he is none of them';

CREATE FUNCTION sophia.interactions_from_gong(ids text[] DEFAULT NULL)
RETURNS TABLE (id text, source_system text, source_id text, interaction_type text, occurred_at timestamptz,
  ended_at timestamptz, duration_seconds integer, direction text, channel text, channel_name text, thread_key text,
  subject text, body text, snippet text, contact_id text, owner_contact_id text, company_id text, deal_id text,
  sentiment text, sentiment_score real, is_private boolean, source_url text, source_published_at timestamptz,
  created_at timestamptz, updated_at timestamptz, doc_hash bytea, is_deleted boolean, duplicate_of text, parent_id text,
  company_ids text[], deal_ids text[])
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH transcript AS (
    -- Ten monologues tell what a call is about.  numeric, so that the average does not depend on the order of rows.
    SELECT t.call_id, pg_catalog.string_agg(t.text, E'\n' ORDER BY t.seq) FILTER (WHERE t.seq <= 10) AS opening,
      pg_catalog.mode() WITHIN GROUP (ORDER BY t.sentiment) AS sentiment,
      pg_catalog.avg(t.sentiment_score::numeric)::real AS score
    FROM gong_raw.call_transcripts AS t
    WHERE (ids IS NULL OR t.call_id = ANY (sophia.source_ids(ids)))
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.call_transcripts'::regclass AND q.key ->> 'call_id' = t.call_id AND q.key ->> 'seq' = t.seq::text)
    GROUP BY t.call_id
  ), call AS (
    -- OFFSET 0: what is computed here is used several times.
    SELECT c.*, coalesce(c.started, c.scheduled) AS at, coalesce(c.is_private, false) AS hidden,
      CASE WHEN NOT coalesce(c.is_private, false) THEN coalesce(sophia.value_or_null(c.brief), t.opening) END AS told,
      CASE WHEN NOT coalesce(c.is_private, false) THEN t.sentiment END AS sentiment,
      CASE WHEN NOT coalesce(c.is_private, false) THEN t.score END AS score,
      ARRAY(SELECT o.id #>> '{}' FROM pg_catalog.jsonb_path_query(c.doc, '$.context[*] ? (@.system == "HubSpot").objects[*]
        ? (@.objectType == "Account" || @.objectType == "Company").objectId') AS o (id)) AS companies,
      ARRAY(SELECT o.id #>> '{}' FROM pg_catalog.jsonb_path_query(c.doc, '$.context[*] ? (@.system == "HubSpot").objects[*]
        ? (@.objectType == "Opportunity" || @.objectType == "Deal").objectId') AS o (id)) AS deals
    FROM gong_raw.calls AS c
    LEFT JOIN transcript AS t ON t.call_id = c.id
    WHERE (ids IS NULL OR c.id = ANY (sophia.source_ids(ids)))
      AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'gong_raw.calls'::regclass AND q.key ->> 'id' = c.id)
    OFFSET 0
  )
  SELECT 'gong_' || c.id, 'gong', c.id, 'call', coalesce(c.at, sophia.unknown_time()), sophia.time_after(c.at, c.duration_s), c.duration_s,
    CASE
      WHEN pg_catalog.lower(c.scope) = 'internal' THEN 'internal'
      WHEN pg_catalog.lower(c.direction) IN ('inbound', 'outbound', 'conference') THEN pg_catalog.lower(c.direction)
      ELSE 'unknown' END,
    c.system, NULL, c.calendar_event_id, sophia.value_or_null(c.title),
    c.told, sophia.snippet(c.told), p.contact_id, u.id, c.companies[1], c.deals[1], c.sentiment, c.score, c.hidden, c.url, c.source_published_at, c.at,
    coalesce(c.source_updated_at, c.source_published_at), sophia.document_hash(c.doc), c.is_deleted, NULL, NULL,
    sophia.unique_items(c.companies), sophia.unique_items(c.deals)
  FROM call AS c
  LEFT JOIN LATERAL (
    SELECT q.contact_id
    FROM processed_data.interaction_participants AS q
    WHERE q.interaction_id = 'gong_' || c.id AND q.contact_id IS NOT NULL
      AND sophia.primary_rank('gong', q.role, q.affiliation, q.contact_id) IS NOT NULL
    ORDER BY sophia.primary_rank('gong', q.role, q.affiliation, q.contact_id), q.ordinal
    LIMIT 1) AS p ON true
  LEFT JOIN processed_data.unified_contacts AS u ON u.id = 'gong_' || c.primary_user_id
$$;
COMMENT ON FUNCTION sophia.interactions_from_gong(text[]) IS 'internal: rows that interaction_timeline should have for these Gong calls, NULL = for all; a private call shows neither body nor sentiment';

CREATE FUNCTION sophia.is_written_by_somebody(subtype text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN subtype IS NULL OR subtype IN ('', 'thread_broadcast', 'file_share', 'bot_message', 'me_message');
COMMENT ON FUNCTION sophia.is_written_by_somebody(text) IS 'internal: whether a Slack message of this subtype is more than a notice such as joined or left';

CREATE FUNCTION sophia.slack_keys(ids text[]) RETURNS TABLE (channel text, ts text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1000
AS $$
  SELECT substring(i.id FROM '^slack_(.*)_[^_]*$'), substring(i.id FROM '_([^_]*)$')
  FROM pg_catalog.unnest(ids) AS i (id)
$$;
COMMENT ON FUNCTION sophia.slack_keys(text[]) IS 'internal: channel and ts of the Slack messages of these interactions; ts holds no underscore';

CREATE FUNCTION sophia.slack_messages(ids text[])
RETURNS TABLE (channel text, ts text, user_id text, username text, message text, thread_ts text, sent_at timestamptz,
  permalink text, team text, source_updated_at timestamptz, source_published_at timestamptz, is_deleted boolean, doc jsonb,
  channel_name text, is_private boolean, is_ext_shared boolean)
LANGUAGE sql STABLE ROWS 100000
AS $$
  SELECT m.channel, m.ts, m.user_id, m.username, m.text, m.thread_ts, m.sent_at, m.permalink, m.team, m.source_updated_at,
    m.source_published_at, m.is_deleted, m.doc, c.name, coalesce(c.is_private, false), coalesce(c.is_ext_shared, false)
  FROM (
    SELECT a.* FROM slack_raw.messages AS a WHERE ids IS NULL
    UNION ALL
    SELECT b.* FROM sophia.slack_keys(ids) AS k
    JOIN slack_raw.messages AS b ON b.channel = k.channel AND b.ts = k.ts) AS m
  LEFT JOIN slack_raw.channels AS c ON c.id = m.channel
  -- Of a channel that is left out nobody knows who may read it.
  WHERE sophia.is_written_by_somebody(m.subtype)
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.messages'::regclass AND q.key ->> 'channel' = m.channel AND q.key ->> 'ts' = m.ts)
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.channels'::regclass AND q.key ->> 'id' = m.channel)
$$;
COMMENT ON FUNCTION sophia.slack_messages(text[]) IS 'internal: these Slack messages, NULL = all, as far as somebody wrote them, without notices such as joined and left, with their channel';

CREATE FUNCTION sophia.slack_mentions(message text)
RETURNS TABLE (id text, name text)
LANGUAGE sql STABLE ROWS 2
AS $$
  -- Two queries, each with its own test of what it looks up: so both look up by key, as the planner expects few.
  SELECT x.found[2],
    coalesce(p.full_name, sophia.value_or_null(u.real_name), sophia.value_or_null(u.display_name), sophia.value_or_null(u.name))
  FROM pg_catalog.regexp_matches(message, '<([@#])([[:alnum:]]+)[|>]', 'g') AS x (found)
  LEFT JOIN slack_raw.users AS u ON u.id = x.found[2]
  LEFT JOIN processed_data.unified_contacts AS p ON p.id = 'slack_' || x.found[2]
  WHERE message LIKE '%<@%' AND x.found[1] = '@'
  UNION ALL
  SELECT x.found[2], CASE WHEN NOT coalesce(c.is_private, false) THEN sophia.value_or_null(c.name) END
  FROM pg_catalog.regexp_matches(message, '<([@#])([[:alnum:]]+)[|>]', 'g') AS x (found)
  LEFT JOIN slack_raw.channels AS c ON c.id = x.found[2]
  WHERE message LIKE '%<#%' AND x.found[1] = '#'
$$;
COMMENT ON FUNCTION sophia.slack_mentions(text) IS 'internal: users and channels that a Slack message mentions, with their names; a private channel gives none';

CREATE FUNCTION sophia.participants_from_slack(ids text[] DEFAULT NULL)
RETURNS TABLE (interaction_id text, ordinal integer, contact_id text, role text, email_norm text, name text, affiliation text,
  speaker_id text, talk_seconds integer, occurred_at timestamptz)
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH participant AS (
    SELECT m.channel, m.ts, 1 AS rank, 1::bigint AS place, 'author' AS role, m.user_id,
      CASE WHEN m.user_id IS NULL THEN sophia.value_or_null(m.username) END AS name, m.sent_at
    FROM sophia.slack_messages(ids) AS m
    WHERE m.user_id IS NOT NULL OR sophia.value_or_null(m.username) IS NOT NULL
    UNION ALL
    SELECT m.channel, m.ts, 2, x.place, 'mentioned', x.id, NULL, m.sent_at
    FROM sophia.slack_messages(ids) AS m
    CROSS JOIN LATERAL (
      SELECT s.found[1] AS id, pg_catalog.min(s.place) AS place
      FROM pg_catalog.regexp_matches(m.message, '<@([[:alnum:]]+)[|>]', 'g') WITH ORDINALITY AS s (found, place)
      WHERE s.found[1] IS DISTINCT FROM m.user_id
      GROUP BY s.found[1]) AS x
    WHERE m.message LIKE '%<@%'
  )
  SELECT 'slack_' || p.channel || '_' || p.ts,
    (pg_catalog.row_number() OVER (PARTITION BY p.channel COLLATE "C", p.ts COLLATE "C" ORDER BY p.rank, p.place))::integer,
    u.id, p.role, u.email_norm,
    coalesce(u.full_name, p.name, sophia.value_or_null(r.real_name), sophia.value_or_null(r.display_name), sophia.value_or_null(r.name)),
    CASE WHEN u.is_internal THEN 'internal' WHEN u.id IS NOT NULL THEN 'external' ELSE 'unknown' END, NULL, NULL::integer, p.sent_at
  FROM participant AS p
  LEFT JOIN slack_raw.users AS r ON r.id = p.user_id
  LEFT JOIN processed_data.unified_contacts AS u ON u.id = 'slack_' || p.user_id AND u.source_system = 'slack'
$$;
COMMENT ON FUNCTION sophia.participants_from_slack(text[]) IS 'internal: participants of these Slack messages, NULL = of all: the author, and who is mentioned in one that is not private';

CREATE FUNCTION sophia.interactions_from_slack(ids text[] DEFAULT NULL)
RETURNS TABLE (id text, source_system text, source_id text, interaction_type text, occurred_at timestamptz,
  ended_at timestamptz, duration_seconds integer, direction text, channel text, channel_name text, thread_key text,
  subject text, body text, snippet text, contact_id text, owner_contact_id text, company_id text, deal_id text,
  sentiment text, sentiment_score real, is_private boolean, source_url text, source_published_at timestamptz,
  created_at timestamptz, updated_at timestamptz, doc_hash bytea, is_deleted boolean, duplicate_of text, parent_id text,
  company_ids text[], deal_ids text[])
LANGUAGE sql STABLE ROWS 100000
AS $$
  WITH home AS MATERIALIZED (
    SELECT sophia.slack_home() AS team_id
  ), message AS (
    SELECT m.*, sophia.slack_text(m.message, CASE WHEN m.message LIKE '%<%' THEN (
        SELECT pg_catalog.jsonb_object_agg(x.id, x.name) FROM sophia.slack_mentions(m.message) AS x
        WHERE x.name IS NOT NULL) END) AS told
    FROM sophia.slack_messages(ids) AS m
    OFFSET 0
  )
  SELECT 'slack_' || m.channel || '_' || m.ts, 'slack', m.channel || '_' || m.ts, 'message',
    coalesce(m.sent_at, sophia.unknown_time()), NULL::timestamptz,
    NULL::integer,
    CASE
      WHEN NOT m.is_ext_shared AND coalesce(m.team = home.team_id, true) THEN 'internal'
      WHEN u.id IS NULL THEN 'unknown'
      WHEN u.is_internal THEN 'outbound'
      ELSE 'inbound' END,
    m.channel, m.channel_name, m.channel || ':' || coalesce(m.thread_ts, m.ts), NULL, m.told, sophia.snippet(m.told),
    u.id, NULL, NULL, NULL, NULL, NULL::real, m.is_private, m.permalink, m.source_published_at, m.sent_at,
    coalesce(m.source_updated_at, m.sent_at), sophia.document_hash(m.doc), m.is_deleted, NULL,
    'slack_' || r.channel || '_' || r.ts, NULL::text[], NULL::text[]
  FROM message AS m
  CROSS JOIN home
  LEFT JOIN slack_raw.messages AS r ON r.channel = m.channel AND r.ts = m.thread_ts AND r.ts <> m.ts
    AND sophia.is_written_by_somebody(r.subtype)
    AND NOT EXISTS (SELECT FROM sophia.quarantined AS q WHERE q.target = 'slack_raw.messages'::regclass AND q.key ->> 'channel' = r.channel AND q.key ->> 'ts' = r.ts)
  LEFT JOIN processed_data.unified_contacts AS u ON u.id = 'slack_' || m.user_id AND u.source_system = 'slack'
$$;
COMMENT ON FUNCTION sophia.interactions_from_slack(text[]) IS 'internal: rows that interaction_timeline should have for these Slack messages, NULL = for all';
