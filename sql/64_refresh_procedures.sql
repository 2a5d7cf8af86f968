-- refresh: makes processed_data equal to what the raw tables say, and writes only what differs.
--
-- The procedures run as their caller and commit nothing: one call is one transaction.  The statements differ between
-- sources in the names of the queries only; those names are built from a fixed list.  Compiling statements as long as
-- these (jit) takes longer than most of their runs.

CREATE FUNCTION sophia.write_contacts(source text, OUT rows_inserted bigint, OUT rows_updated bigint, OUT rows_deleted bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Rows that are as wanted are left out before the upsert, because ON CONFLICT locks, and so writes, every row it meets.
  EXECUTE format($statement$
    WITH wanted AS MATERIALIZED (
      SELECT * FROM sophia.%I()
    ), changed AS MATERIALIZED (
      SELECT w.*, t.id IS NULL AS is_new
      FROM wanted AS w
      LEFT JOIN processed_data.unified_contacts AS t ON t.id = w.id
      WHERE t.id IS NULL OR
        (t.source_system, t.source_id, t.email, t.first_name, t.last_name, t.full_name, t.company_name, t.job_title,
         t.phone, t.created_at, t.updated_at, t.email_norm, t.email_domain, t.phone_e164, t.all_emails, t.is_internal,
         t.is_bot, t.is_deleted, t.owner_id, t.lifecycle_stage, t.source_url, t.source_updated_at, t.doc_hash,
         t.first_seen_at, t.last_seen_at)
        IS DISTINCT FROM
        (w.source_system, w.source_id, w.email, w.first_name, w.last_name, w.full_name, w.company_name, w.job_title,
         w.phone, w.created_at, w.updated_at, w.email_norm, w.email_domain, w.phone_e164, w.all_emails, w.is_internal,
         w.is_bot, w.is_deleted, w.owner_id, w.lifecycle_stage, w.source_url, w.source_updated_at, w.doc_hash,
         w.first_seen_at, w.last_seen_at)
    ), upserted AS (
      INSERT INTO processed_data.unified_contacts AS t
        (id, source_system, source_id, email, first_name, last_name, full_name, company_name, job_title, phone,
         created_at, updated_at, email_norm, email_domain, phone_e164, all_emails, is_internal, is_bot, is_deleted,
         owner_id, lifecycle_stage, source_url, source_updated_at, doc_hash, first_seen_at, last_seen_at)
      SELECT w.id, w.source_system, w.source_id, w.email, w.first_name, w.last_name, w.full_name, w.company_name,
        w.job_title, w.phone, w.created_at, w.updated_at, w.email_norm, w.email_domain, w.phone_e164, w.all_emails,
        w.is_internal, w.is_bot, w.is_deleted, w.owner_id, w.lifecycle_stage, w.source_url, w.source_updated_at,
        w.doc_hash, w.first_seen_at, w.last_seen_at
      FROM changed AS w
      ON CONFLICT (id) DO UPDATE SET
        (source_system, source_id, email, first_name, last_name, full_name, company_name, job_title, phone,
         created_at, updated_at, email_norm, email_domain, phone_e164, all_emails, is_internal, is_bot, is_deleted,
         owner_id, lifecycle_stage, source_url, source_updated_at, doc_hash, first_seen_at, last_seen_at) =
        ROW (excluded.source_system, excluded.source_id, excluded.email, excluded.first_name, excluded.last_name,
         excluded.full_name, excluded.company_name, excluded.job_title, excluded.phone, excluded.created_at,
         excluded.updated_at, excluded.email_norm, excluded.email_domain, excluded.phone_e164, excluded.all_emails,
         excluded.is_internal, excluded.is_bot, excluded.is_deleted, excluded.owner_id, excluded.lifecycle_stage,
         excluded.source_url, excluded.source_updated_at, excluded.doc_hash, excluded.first_seen_at,
         excluded.last_seen_at)
    ), removed AS (
      DELETE FROM processed_data.unified_contacts AS t
      WHERE t.source_system = $1 AND NOT EXISTS (SELECT FROM wanted AS w WHERE w.id = t.id)
      RETURNING t.id
    )
    SELECT count(*) FILTER (WHERE c.is_new), count(*) FILTER (WHERE NOT c.is_new), (SELECT count(*) FROM removed)
    FROM changed AS c
    $statement$, 'contacts_from_' || source)
  INTO rows_inserted, rows_updated, rows_deleted USING source;
END
$$;
COMMENT ON FUNCTION sophia.write_contacts(text) IS 'internal: makes the rows of a source in unified_contacts as wanted, and counts them; identity_id is left alone';

CREATE FUNCTION sophia.link_merged_contacts() RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE hubspot_raw.contacts AS c SET merged_into = w.survivor
  FROM (SELECT o.id, a.survivor
    FROM hubspot_raw.contacts AS o
    LEFT JOIN sophia.hubspot_aliases() AS a ON a.id = o.id
    WHERE o.merged_into IS DISTINCT FROM a.survivor) AS w
  WHERE c.id = w.id
$$;
COMMENT ON FUNCTION sophia.link_merged_contacts() IS 'internal: writes the survivor of each merged-away HubSpot contact to merged_into';

CREATE FUNCTION sophia.link_speakers() RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE gong_raw.call_transcripts AS t SET party_id = w.party_id
  FROM (SELECT o.call_id, o.seq, p.party_id
    FROM gong_raw.call_transcripts AS o
    LEFT JOIN (SELECT DISTINCT ON (r.call_id, r.speaker_id) r.call_id, r.speaker_id, r.party_id
      FROM gong_raw.call_parties AS r
      WHERE r.speaker_id IS NOT NULL
      ORDER BY r.call_id, r.speaker_id, r.ordinal, r.party_id) AS p
      ON p.call_id = o.call_id AND p.speaker_id = o.speaker_id
    WHERE o.party_id IS DISTINCT FROM p.party_id) AS w
  WHERE t.call_id = w.call_id AND t.seq = w.seq
$$;
COMMENT ON FUNCTION sophia.link_speakers() IS 'internal: writes the party that spoke each monologue of a Gong call to party_id';

CREATE FUNCTION sophia.full_reason(mode text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN mode <> 'full' THEN 'everything is recomputed; only differences are written' END;
COMMENT ON FUNCTION sophia.full_reason(text) IS 'internal: why a refresh runs in mode full where another one was asked for';

CREATE FUNCTION sophia.write_target(target text, writer text, mode text, started_at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source text;
  written record;
  inserted bigint := 0;
  updated bigint := 0;
  deleted bigint := 0;
BEGIN
  FOREACH source IN ARRAY ARRAY['hubspot', 'gong', 'slack'] LOOP
    CONTINUE WHEN NOT sophia.has_source(source);
    EXECUTE format('SELECT w.* FROM sophia.%I($1) AS w', writer) INTO written USING source;
    inserted := inserted + written.rows_inserted;
    updated := updated + written.rows_updated;
    deleted := deleted + written.rows_deleted;
  END LOOP;
  PERFORM sophia.log_refresh(target, mode, 'full', sophia.full_reason(mode), started_at, inserted, updated, deleted);
END
$$;
COMMENT ON FUNCTION sophia.write_target(text, text, text, timestamptz) IS 'internal: has a writer make the rows of every source as wanted, and logs what it counted';

CREATE PROCEDURE sophia.refresh_unified_contacts(mode text DEFAULT 'incremental')
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
  started_at timestamptz;
BEGIN
  PERFORM sophia.check_refresh(mode);
  started_at := clock_timestamp();
  IF sophia.has_source('hubspot') THEN
    PERFORM sophia.link_merged_contacts();
  END IF;
  PERFORM sophia.write_target('unified_contacts', 'write_contacts', mode, started_at);
END
$$;
COMMENT ON PROCEDURE sophia.refresh_unified_contacts(text) IS 'brings unified_contacts up to date with the raw tables; writes only what differs, and its counts to refresh_log';

CREATE PROCEDURE sophia.refresh_interaction_timeline(mode text DEFAULT 'incremental')
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
  started_at timestamptz;
BEGIN
  PERFORM sophia.check_refresh(mode);
  started_at := clock_timestamp();
  IF sophia.has_source('gong') THEN
    PERFORM sophia.link_speakers();
  END IF;
  PERFORM sophia.write_target('interaction_timeline', 'write_interactions', mode, started_at);
END
$$;
COMMENT ON PROCEDURE sophia.refresh_interaction_timeline(text) IS 'brings interaction_timeline and interaction_participants up to date with the raw tables and unified_contacts; writes only what differs, and its counts to refresh_log';

CREATE PROCEDURE sophia.refresh(mode text DEFAULT 'incremental')
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  CALL sophia.refresh_unified_contacts(mode);
  CALL sophia.refresh_interaction_timeline(mode);
END
$$;
COMMENT ON PROCEDURE sophia.refresh(text) IS 'refresh_unified_contacts and then refresh_interaction_timeline, in one transaction';
