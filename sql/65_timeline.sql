-- interaction_timeline and interaction_participants: makes them equal to what the raw tables say.

CREATE FUNCTION sophia.write_interactions(source text, OUT rows_inserted bigint, OUT rows_updated bigint, OUT rows_deleted bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format($statement$
    WITH wanted_participant AS MATERIALIZED (
      SELECT * FROM sophia.%I()
    ), wanted AS MATERIALIZED (
      SELECT i.*, p.contact_id
      FROM sophia.%I() AS i
      LEFT JOIN (
        SELECT DISTINCT ON (w.interaction_id) w.interaction_id, w.contact_id
        FROM wanted_participant AS w
        WHERE w.primary_rank IS NOT NULL AND w.contact_id IS NOT NULL
        ORDER BY w.interaction_id, w.primary_rank, w.ordinal) AS p ON p.interaction_id = i.id
    ), changed AS MATERIALIZED (
      SELECT w.*, t.id IS NULL AS is_new
      FROM wanted AS w
      LEFT JOIN processed_data.interaction_timeline AS t ON t.id = w.id
      WHERE t.id IS NULL OR
        (t.source_system, t.source_id, t.interaction_type, t.occurred_at, t.ended_at, t.duration_seconds, t.direction,
         t.channel, t.channel_name, t.thread_key, t.subject, t.body, t.snippet, t.contact_id, t.owner_contact_id,
         t.company_id, t.deal_id, t.sentiment, t.sentiment_score, t.is_private, t.source_url, t.source_published_at,
         t.created_at, t.updated_at, t.doc_hash, t.is_deleted, t.duplicate_of)
        IS DISTINCT FROM
        (w.source_system, w.source_id, w.interaction_type, w.occurred_at, w.ended_at, w.duration_seconds, w.direction,
         w.channel, w.channel_name, w.thread_key, w.subject, w.body, w.snippet, w.contact_id, w.owner_contact_id,
         w.company_id, w.deal_id, w.sentiment, w.sentiment_score, w.is_private, w.source_url, w.source_published_at,
         w.created_at, w.updated_at, w.doc_hash, w.is_deleted, w.duplicate_of)
    ), upserted AS (
      INSERT INTO processed_data.interaction_timeline AS t
        (id, source_system, source_id, interaction_type, occurred_at, ended_at, duration_seconds, direction, channel,
         channel_name, thread_key, subject, body, snippet, contact_id, owner_contact_id, company_id, deal_id,
         sentiment, sentiment_score, is_private, source_url, source_published_at, created_at, updated_at, doc_hash,
         is_deleted, duplicate_of)
      SELECT w.id, w.source_system, w.source_id, w.interaction_type, w.occurred_at, w.ended_at, w.duration_seconds,
        w.direction, w.channel, w.channel_name, w.thread_key, w.subject, w.body, w.snippet, w.contact_id,
        w.owner_contact_id, w.company_id, w.deal_id, w.sentiment, w.sentiment_score, w.is_private, w.source_url,
        w.source_published_at, w.created_at, w.updated_at, w.doc_hash, w.is_deleted, w.duplicate_of
      FROM changed AS w
      ON CONFLICT (id) DO UPDATE SET
        (source_system, source_id, interaction_type, occurred_at, ended_at, duration_seconds, direction, channel,
         channel_name, thread_key, subject, body, snippet, contact_id, owner_contact_id, company_id, deal_id,
         sentiment, sentiment_score, is_private, source_url, source_published_at, created_at, updated_at, doc_hash,
         is_deleted, duplicate_of) =
        ROW (excluded.source_system, excluded.source_id, excluded.interaction_type, excluded.occurred_at,
         excluded.ended_at, excluded.duration_seconds, excluded.direction, excluded.channel, excluded.channel_name,
         excluded.thread_key, excluded.subject, excluded.body, excluded.snippet, excluded.contact_id,
         excluded.owner_contact_id, excluded.company_id, excluded.deal_id, excluded.sentiment,
         excluded.sentiment_score, excluded.is_private, excluded.source_url, excluded.source_published_at,
         excluded.created_at, excluded.updated_at, excluded.doc_hash, excluded.is_deleted, excluded.duplicate_of)
    ), removed AS (
      DELETE FROM processed_data.interaction_timeline AS t
      WHERE t.source_system = $1 AND NOT EXISTS (SELECT FROM wanted AS w WHERE w.id = t.id)
      RETURNING t.id
    ), changed_participant AS MATERIALIZED (
      SELECT w.*
      FROM wanted_participant AS w
      LEFT JOIN processed_data.interaction_participants AS t
        ON t.interaction_id = w.interaction_id AND t.ordinal = w.ordinal
      WHERE t.interaction_id IS NULL OR
        (t.contact_id, t.role, t.email_norm, t.name, t.affiliation, t.speaker_id, t.talk_seconds)
        IS DISTINCT FROM
        (w.contact_id, w.role, w.email_norm, w.name, w.affiliation, w.speaker_id, w.talk_seconds)
    ), upserted_participant AS (
      INSERT INTO processed_data.interaction_participants AS t
        (interaction_id, ordinal, contact_id, role, email_norm, name, affiliation, speaker_id, talk_seconds)
      SELECT w.interaction_id, w.ordinal, w.contact_id, w.role, w.email_norm, w.name, w.affiliation, w.speaker_id,
        w.talk_seconds
      FROM changed_participant AS w
      ON CONFLICT (interaction_id, ordinal) DO UPDATE SET
        (contact_id, role, email_norm, name, affiliation, speaker_id, talk_seconds) =
        ROW (excluded.contact_id, excluded.role, excluded.email_norm, excluded.name, excluded.affiliation,
         excluded.speaker_id, excluded.talk_seconds)
    ), removed_participant AS (
      DELETE FROM processed_data.interaction_participants AS t
      WHERE starts_with(t.interaction_id, $1 || '_') AND NOT EXISTS (
        SELECT FROM wanted_participant AS w WHERE w.interaction_id = t.interaction_id AND w.ordinal = t.ordinal)
      RETURNING t.interaction_id
    ), touched AS (
      SELECT c.id FROM changed AS c
      UNION SELECT c.interaction_id FROM changed_participant AS c
      UNION SELECT r.interaction_id FROM removed_participant AS r
      EXCEPT SELECT r.id FROM removed AS r
    )
    SELECT n.inserted, (SELECT count(*) FROM touched) - n.inserted, (SELECT count(*) FROM removed)
    FROM (SELECT count(*) AS inserted FROM changed AS c WHERE c.is_new) AS n
    $statement$, 'participants_from_' || source, 'interactions_from_' || source)
  INTO rows_inserted, rows_updated, rows_deleted USING source;
END
$$;
COMMENT ON FUNCTION sophia.write_interactions(text) IS 'internal: makes the rows of a source in interaction_timeline and interaction_participants as wanted, and counts interactions';
