-- refresh: makes processed_data equal to what the raw tables say, and writes only what differs.
--
-- The procedures run as their caller and commit nothing: one call is one transaction.  Compiling statements as long as
-- theirs (jit) takes longer than most of their runs.  work_mem is what the sorts and hash tables of a full run over a
-- million rows need; several of them may be alive at a time.

CREATE TYPE sophia.refresh_run AS (
  target text,
  mode text,
  mode_used text,
  reason text,
  started_at timestamptz,
  deadline timestamptz,
  rows_left bigint,
  timeline_later boolean,
  rows_inserted bigint,
  rows_updated bigint,
  rows_deleted bigint,
  people bigint[],
  resting regclass[]
);
COMMENT ON TYPE sophia.refresh_run IS 'internal: a run of refresh for one target, and what is left of its limits (NULL = no limit); people are identities of contacts that it wrote, resting the indexes that rest until its rows are written';

CREATE FUNCTION sophia.count_written(run sophia.refresh_run, writer text, ids text[]) RETURNS sophia.refresh_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source text;
  of_source text[];
  written record;
BEGIN
  -- Meetings of HubSpot are compared with the calls of Gong, which therefore come first.
  FOREACH source IN ARRAY ARRAY['gong', 'hubspot', 'slack'] LOOP
    of_source := (SELECT array_agg(i.id) FROM unnest(ids) AS i (id) WHERE starts_with(i.id, source || '_'));
    CONTINUE WHEN ids IS NOT NULL AND of_source IS NULL OR NOT sophia.has_source(source);
    IF writer = 'write_contacts' THEN
      written := sophia.write_contacts(source, of_source, run.timeline_later);
      run.people := run.people || written.people;
    ELSE
      written := sophia.write_interactions(source, of_source);
      PERFORM sophia.note_ahead(source);
    END IF;
    run.rows_inserted := run.rows_inserted + written.rows_inserted;
    run.rows_updated := run.rows_updated + written.rows_updated;
    run.rows_deleted := run.rows_deleted + written.rows_deleted;
  END LOOP;
  RETURN run;
END
$$;
COMMENT ON FUNCTION sophia.count_written(sophia.refresh_run, text, text[]) IS 'internal: has a writer make rows of every source as wanted, ids NULL = all, and counts what it wrote';

CREATE FUNCTION sophia.take_from_queue(target text, most bigint) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- Where there are no more than these, NULL.
  next CONSTANT text := CASE WHEN most IS NOT NULL THEN
    (SELECT q.key FROM sophia.refresh_queue AS q WHERE q.target = take_from_queue.target ORDER BY q.key OFFSET most LIMIT 1) END;
  keys text[];
BEGIN
  WITH taken AS (
    DELETE FROM sophia.refresh_queue AS q
    WHERE q.target = take_from_queue.target AND (next IS NULL OR q.key < next)
    RETURNING q.key
  )
  SELECT array_agg(t.key) INTO keys FROM taken AS t;
  RETURN keys;
END
$$;
COMMENT ON FUNCTION sophia.take_from_queue(text, bigint) IS 'internal: takes the first keys of a target from the queue; NULL = there is none';

CREATE FUNCTION sophia.list_rows(target text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source text;
BEGIN
  FOREACH source IN ARRAY ARRAY['gong', 'hubspot', 'slack'] LOOP
    CONTINUE WHEN NOT sophia.has_source(source);
    IF target = 'interaction_timeline' THEN
      PERFORM sophia.keep_all_inputs(source);
    END IF;
    EXECUTE format('INSERT INTO sophia.refresh_queue (target, key) SELECT $1, k.id FROM (%s) AS k (id) ON CONFLICT DO NOTHING',
      sophia.ids_of_source(target, source)) USING target;
  END LOOP;
  EXECUTE format('INSERT INTO sophia.refresh_queue (target, key) SELECT $1, t.id FROM processed_data.%I AS t ON CONFLICT DO NOTHING', target)
    USING target;
  UPDATE sophia.refresh_full AS f SET listed = true WHERE f.target = list_rows.target;
END
$$;
COMMENT ON FUNCTION sophia.list_rows(text) IS 'internal: enqueues every row that a target has or should have';

CREATE FUNCTION sophia.worth_full(target text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  most bigint;
BEGIN
  SELECT greatest(20000, (greatest(c.reltuples, 0) / 4)::bigint) INTO most
  FROM pg_class AS c WHERE c.oid = to_regclass(format('processed_data.%I', target));
  IF (SELECT count(*) > most FROM (SELECT FROM sophia.refresh_queue AS q WHERE q.target = worth_full.target LIMIT most + 1) AS q) THEN
    RETURN format('more than %s rows are concerned', most);
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION sophia.worth_full(text) IS 'internal: why recomputing everything is cheaper than recomputing what is in the queue; NULL = it is not';

CREATE FUNCTION sophia.write_everything(run sophia.refresh_run, writer text) RETURNS sophia.refresh_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM sophia.refresh_full AS f WHERE f.target = run.target;
  DELETE FROM sophia.refresh_queue AS q WHERE q.target = run.target;
  IF run.target = 'unified_contacts' THEN
    PERFORM sophia.write_all_lookups();
    IF sophia.has_source('hubspot') THEN
      PERFORM sophia.link_merged_contacts();
    END IF;
    -- Until the identities are written, too: nothing that is made of empty tables is looked up in them.
    run.resting := sophia.rest_indexes('{unified_contacts,identities,identity_links,contacts}');
  ELSIF sophia.is_empty('{interaction_participants,interaction_timeline}') THEN
    run.rows_inserted := sophia.fill_timeline();
    RETURN run;
  END IF;
  RETURN sophia.count_written(run, writer, NULL);
END
$$;
COMMENT ON FUNCTION sophia.write_everything(sophia.refresh_run, text) IS 'internal: makes all rows of a target as wanted';

CREATE FUNCTION sophia.write_queued(run sophia.refresh_run, writer text) RETURNS sophia.refresh_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
DECLARE
  batch bigint;
  keys text[];
BEGIN
  -- Against the clock, small steps; the first one is made however late it is, so that every call comes on.
  batch := CASE WHEN run.deadline IS NULL THEN 20000 ELSE 200 END;
  LOOP
    EXIT WHEN run.rows_left <= 0;
    keys := sophia.take_from_queue(run.target, least(batch, run.rows_left));
    EXIT WHEN keys IS NULL;
    run := sophia.count_written(run, writer, keys);
    run.rows_left := run.rows_left - cardinality(keys);
    EXIT WHEN clock_timestamp() >= run.deadline;
    batch := least(batch * 2, 20000);
  END LOOP;
  DELETE FROM sophia.refresh_full AS f
  WHERE f.target = run.target AND f.listed
    AND NOT EXISTS (SELECT FROM sophia.refresh_queue AS q WHERE q.target = run.target);
  RETURN run;
END
$$;
COMMENT ON FUNCTION sophia.write_queued(sophia.refresh_run, text) IS 'internal: recomputes what is in the queue of a target, within the limits of the run';

CREATE FUNCTION sophia.write_target(run sophia.refresh_run, writer text) RETURNS sophia.refresh_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  everything sophia.refresh_full;
  limited CONSTANT boolean := run.rows_left IS NOT NULL OR run.deadline IS NOT NULL;
BEGIN
  SELECT f.* INTO everything FROM sophia.refresh_full AS f WHERE f.target = run.target;
  IF everything.target IS NULL AND NOT limited THEN
    everything.reason := sophia.worth_full(run.target);
  END IF;
  IF everything.target IS NOT NULL OR everything.reason IS NOT NULL THEN
    run.mode_used := 'full';
    run.reason := coalesce(run.reason, everything.reason);
    IF NOT limited THEN
      RETURN sophia.write_everything(run, writer);
    ELSIF NOT everything.listed THEN
      IF run.target = 'unified_contacts' THEN
        PERFORM sophia.write_all_lookups();
        IF sophia.has_source('hubspot') THEN
          PERFORM sophia.link_merged_contacts();
        END IF;
      END IF;
      PERFORM sophia.list_rows(run.target);
    END IF;
  END IF;
  RETURN sophia.write_queued(run, writer);
END
$$;
COMMENT ON FUNCTION sophia.write_target(sophia.refresh_run, text) IS 'internal: recomputes what is in the queue of a target, or everything, within the limits of the run';

CREATE FUNCTION sophia.resolve_changed(everything boolean, people bigint[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  records text[];
BEGIN
  IF everything THEN
    DELETE FROM sophia.refresh_queue AS q WHERE q.target = 'identities';
    PERFORM sophia.resolve_identities();
    RETURN;
  END IF;
  records := sophia.take_from_queue('identities', NULL);
  IF records IS NOT NULL OR people <> '{}' THEN
    PERFORM sophia.resolve_people(coalesce(records, '{}'), people);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.resolve_changed(boolean, bigint[]) IS
  'internal: decides anew which records are one person, for all or for those that changed, and writes the golden records of these and of the other people';

-- Without indexes a nested loop would read a table for each row of another.
CREATE FUNCTION sophia.resolve_filled(resting regclass[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off
AS $$
BEGIN
  PERFORM sophia.resolve_changed(true);
  PERFORM sophia.rebuild_indexes(resting);
END
$$;
COMMENT ON FUNCTION sophia.resolve_filled(regclass[]) IS 'internal: decides which records are one person where all contacts are new, and then builds the indexes that rest';

CREATE FUNCTION sophia.run_targets(targets text[], mode text, max_rows bigint, time_budget interval) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  started CONSTANT timestamptz := clock_timestamp();
  deadline CONSTANT timestamptz := started + time_budget;
  runs sophia.refresh_run[] := ARRAY(
    SELECT ROW (t.target, run_targets.mode, 'incremental', NULL, started, deadline, max_rows,
      cardinality(targets) = 1 OR max_rows IS NOT NULL OR time_budget IS NOT NULL, 0, 0, 0, '{}', '{}')::sophia.refresh_run
    FROM unnest(targets) WITH ORDINALITY AS t (target, place) ORDER BY t.place);
  under_way boolean;
  captured boolean := false;
  run sophia.refresh_run;
BEGIN
  SELECT count(*) > 0 INTO under_way FROM sophia.refresh_full AS f WHERE f.listed;
  IF mode = 'full' AND NOT under_way THEN
    PERFORM sophia.request_full(t.target, NULL) FROM unnest(targets) AS t (target);
    IF cardinality(targets) = 1 THEN
      PERFORM sophia.check_sources();
    END IF;
  END IF;
  -- What changes while everything is being recomputed step by step can wait for its end.
  IF NOT under_way OR max_rows IS NULL AND time_budget IS NULL THEN
    captured := sophia.capture_changes(deadline);
  END IF;
  FOR i IN 1 .. cardinality(runs) LOOP
    IF i > 1 THEN
      runs[i].rows_left := runs[i - 1].rows_left;
    END IF;
    -- What the limits did not allow for the first target has to come before the next.
    IF i = 1 OR NOT sophia.has_backlog(runs[i - 1].target) THEN
      runs[i] := sophia.write_target(runs[i],
        CASE runs[i].target WHEN 'unified_contacts' THEN 'write_contacts' ELSE 'write_interactions' END);
    END IF;
    run := runs[i];
    PERFORM sophia.log_refresh(run.target, run.mode, run.mode_used, run.reason, run.started_at, run.rows_inserted,
      run.rows_updated, run.rows_deleted, captured AND NOT sophia.has_backlog(run.target));
    IF run.resting <> '{}' THEN
      PERFORM sophia.resolve_filled(run.resting);
    ELSIF run.target = 'unified_contacts' THEN
      PERFORM sophia.resolve_changed(run.mode_used = 'full' AND max_rows IS NULL AND time_budget IS NULL, run.people);
    END IF;
  END LOOP;
  IF EXISTS (SELECT FROM unnest(runs) AS r WHERE r.rows_inserted + r.rows_updated + r.rows_deleted > 0) THEN
    PERFORM sophia.check_written();
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.run_targets(text[], text, bigint, interval) IS 'internal: one refresh of these targets, which are logged';

CREATE FUNCTION sophia.run_refresh(targets text[], mode text, max_rows bigint, time_budget interval) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
SET work_mem = '64MB'
AS $$
DECLARE
  last bigint;
  logged sophia.refresh_log[];
BEGIN
  PERFORM sophia.check_refresh(mode, max_rows, time_budget);
  IF mode <> 'dry_run' THEN
    PERFORM sophia.run_targets(targets, mode, max_rows, time_budget);
    RETURN;
  END IF;
  -- The run itself, taken back; only what it logged is kept.
  BEGIN
    last := sophia.last_refresh();
    PERFORM sophia.run_targets(targets, mode, max_rows, time_budget);
    logged := sophia.logged_since(last);
    RAISE EXCEPTION USING ERRCODE = 'SDRY0';
  EXCEPTION WHEN SQLSTATE 'SDRY0' THEN
    PERFORM sophia.log_again(logged);
  END;
END
$$;
COMMENT ON FUNCTION sophia.run_refresh(text[], text, bigint, interval) IS 'internal: what the refresh procedures do';

CREATE PROCEDURE sophia.refresh_unified_contacts(mode text DEFAULT 'incremental', max_rows bigint DEFAULT NULL, time_budget interval DEFAULT NULL)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM sophia.run_refresh('{unified_contacts}', mode, max_rows, time_budget);
END
$$;
COMMENT ON PROCEDURE sophia.refresh_unified_contacts(text, bigint, interval) IS
  'brings unified_contacts up to date with the raw tables; modes incremental, full and dry_run (changes nothing); max_rows and time_budget end it early, and the next call goes on';

CREATE PROCEDURE sophia.refresh_interaction_timeline(mode text DEFAULT 'incremental', max_rows bigint DEFAULT NULL, time_budget interval DEFAULT NULL)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM sophia.run_refresh('{interaction_timeline}', mode, max_rows, time_budget);
END
$$;
COMMENT ON PROCEDURE sophia.refresh_interaction_timeline(text, bigint, interval) IS
  'brings interaction_timeline and interaction_participants up to date with the raw tables and unified_contacts; modes and limits as of refresh_unified_contacts';

CREATE PROCEDURE sophia.refresh(mode text DEFAULT 'incremental', max_rows bigint DEFAULT NULL, time_budget interval DEFAULT NULL)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM sophia.run_refresh('{unified_contacts,interaction_timeline}', mode, max_rows, time_budget);
END
$$;
COMMENT ON PROCEDURE sophia.refresh(text, bigint, interval) IS
  'refresh_unified_contacts and then refresh_interaction_timeline, in one transaction; max_rows and time_budget are for both together';
