-- Exact cursors: a consumer reads what changed in its sources, and loses nothing under concurrent writers.
--
-- A consumer keeps the snapshot that it has read up to.  next_batch opens a *window*: it takes a snapshot, finds in it the
-- rows that became visible since the kept one (src/transform/cursor.c), keeps their keys, and hands them out in batches.
-- commit_batch of the last of them makes the window's snapshot the kept one.  So a batch is the same however often
-- it is asked for, and whatever becomes of its rows meanwhile: that belongs to the next window.
--
-- A window lists a source whole where it cannot know what changed: see consumer_plan.

CREATE TABLE sophia.consumer_state (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  consumer text NOT NULL UNIQUE,
  snapshot pg_snapshot NOT NULL,
  whole_reason text,
  window_snapshot pg_snapshot,
  next_key bigint NOT NULL DEFAULT 1,
  last_key bigint NOT NULL DEFAULT 0,
  batch_end bigint,
  -- Restored elsewhere, snapshots and oids mean nothing.
  system_identifier bigint NOT NULL,
  database_oid oid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  committed_at timestamptz
);
COMMENT ON TABLE sophia.consumer_state IS 'internal: where each consumer stands; see sophia.consumers';
COMMENT ON SEQUENCE sophia.consumer_state_id_seq IS 'numbers the consumers';
COMMENT ON COLUMN sophia.consumer_state.snapshot IS 'everything visible in it has been read; the consumer''s own transaction counts as in progress';
COMMENT ON COLUMN sophia.consumer_state.whole_reason IS 'why the next window lists every source whole; NULL = it does not';
COMMENT ON COLUMN sophia.consumer_state.window_snapshot IS 'what the open window shows; NULL = there is none';
COMMENT ON COLUMN sophia.consumer_state.next_key IS 'first key of the window that is not committed; 0 = it was not listed';
COMMENT ON COLUMN sophia.consumer_state.last_key IS 'last key of the window';
COMMENT ON COLUMN sophia.consumer_state.batch_end IS 'last key of the open batch, next_key - 1 where it is empty; NULL = there is none';
COMMENT ON COLUMN sophia.consumer_state.system_identifier IS 'the cluster that snapshots and oids are of';
COMMENT ON COLUMN sophia.consumer_state.database_oid IS 'the database that snapshots and oids are of';

-- src/transform/capture.c knows the first three columns.
CREATE TABLE sophia.consumer_sources (
  source_oid oid NOT NULL,
  source_schema text NOT NULL,
  source_name text NOT NULL,
  consumer integer NOT NULL REFERENCES sophia.consumer_state ON DELETE CASCADE,
  ordinal integer NOT NULL,
  triggers oid[] NOT NULL DEFAULT '{}',
  window_reason text,
  whole_at timestamptz,
  whole_reason text,
  PRIMARY KEY (consumer, ordinal)
);
COMMENT ON TABLE sophia.consumer_sources IS 'internal: the tables that each consumer reads';
COMMENT ON COLUMN sophia.consumer_sources.source_oid IS 'oid of the table when it was last read; one that is gone is looked for by its name';
COMMENT ON COLUMN sophia.consumer_sources.triggers IS 'oids of the triggers that noted its changes when it was last read';
COMMENT ON COLUMN sophia.consumer_sources.window_reason IS 'why the open window lists the table whole; NULL = it does not';
COMMENT ON COLUMN sophia.consumer_sources.whole_at IS 'when a window last listed the table whole';
COMMENT ON COLUMN sophia.consumer_sources.whole_reason IS 'why it did';

-- Written without a statement: src/transform/cursor_sql.c knows these columns.
CREATE TABLE sophia.batch_keys (
  consumer integer NOT NULL,
  n bigint NOT NULL,
  source oid NOT NULL,
  key jsonb NOT NULL,
  deleted boolean NOT NULL,
  PRIMARY KEY (consumer, n)
);
COMMENT ON TABLE sophia.batch_keys IS 'internal: what the open windows hold and is not committed; state of this database, not dumped';

-- The first consumer is the one that the extension brings (sql/58_changes.sql).
SELECT pg_catalog.pg_extension_config_dump('sophia.consumer_state', 'WHERE id > 1');
SELECT pg_catalog.pg_extension_config_dump('sophia.consumer_state_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.consumer_sources', 'WHERE consumer > 1');

-- ---- what there is to read ----

CREATE VIEW sophia.consumer_plan AS
  SELECT s.consumer, s.ordinal, r.source, t.triggers,
    CASE
      WHEN (c.system_identifier, c.database_oid) <> (h.system_identifier, h.database_oid) THEN 'restored from another cluster or database'
      WHEN pg_snapshot_xmax(coalesce(c.window_snapshot, c.snapshot)) > pg_snapshot_xmax(pg_current_snapshot()) THEN 'transaction ids went back'
      WHEN c.whole_reason IS NOT NULL THEN c.whole_reason
      WHEN cardinality(t.triggers) < 4 THEN 'triggers of the table are missing or disabled'
      WHEN t.triggers <> s.triggers THEN 'the table or its triggers were made anew'
    END AS reason
  FROM sophia.consumer_state AS c
  CROSS JOIN sophia.here AS h
  JOIN sophia.consumer_sources AS s ON s.consumer = c.id
  CROSS JOIN LATERAL (SELECT coalesce(
    (SELECT k.oid FROM pg_class AS k WHERE k.oid = s.source_oid
      AND (c.system_identifier, c.database_oid) = (h.system_identifier, h.database_oid)),
    (SELECT k.oid FROM pg_class AS k JOIN pg_namespace AS n ON n.oid = k.relnamespace
      WHERE n.nspname = s.source_schema AND k.relname = s.source_name AND k.relkind = 'r')) AS source) AS r
  CROSS JOIN LATERAL (SELECT coalesce(array_agg(g.oid ORDER BY g.oid), '{}') AS triggers
    FROM pg_trigger AS g
    WHERE g.tgrelid = r.source AND g.tgenabled = 'A'
      AND g.tgfoid IN ('sophia.stamp_row'::regproc, 'sophia.keep_key'::regproc)) AS t
  -- A table that was dropped has no rows; when it is made again it is another one.
  WHERE r.source IS NOT NULL;
COMMENT ON VIEW sophia.consumer_plan IS 'internal: the sources of each consumer that exist, and why the next window lists one whole';

-- A consumer that was restored, or whose table was made anew, has not read a thing of the table.
CREATE VIEW sophia.source_horizons AS
  SELECT k.oid AS source, coalesce(min(CASE WHEN s.source_oid = k.oid THEN pg_snapshot_xmin(c.snapshot) ELSE '0'::xid8 END)
      FILTER (WHERE c.id IS NOT NULL), '18446744073709551615'::xid8) AS horizon
  FROM pg_class AS k
  JOIN pg_namespace AS n ON n.oid = k.relnamespace
  LEFT JOIN sophia.consumer_sources AS s ON s.source_oid = k.oid OR (s.source_schema, s.source_name) = (n.nspname, k.relname)
  LEFT JOIN sophia.consumer_state AS c ON c.id = s.consumer
  GROUP BY k.oid;
COMMENT ON VIEW sophia.source_horizons IS 'internal: the transaction before which every consumer of a table has read everything';

CREATE FUNCTION sophia.fill_window(consumer integer, sources oid[], whole boolean[], past xid8, in_progress xid8[],
    OUT snapshot pg_snapshot, OUT keys bigint, OUT truncated oid[])
  AS 'MODULE_PATHNAME', 'sophia_fill_window' LANGUAGE C STRICT;
COMMENT ON FUNCTION sophia.fill_window(integer, oid[], boolean[], xid8, xid8[]) IS
  'internal: keeps the keys of the rows that became visible since a snapshot that ended at past and saw in_progress in progress';

CREATE FUNCTION sophia.count_changes(sources oid[], whole boolean[], past xid8, in_progress xid8[], most bigint)
  RETURNS TABLE (source oid, changes bigint, truncated boolean)
  AS 'MODULE_PATHNAME', 'sophia_count_changes' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION sophia.count_changes(oid[], boolean[], xid8, xid8[], bigint) IS
  'internal: how many keys fill_window would keep, counted up to most for each source';

CREATE FUNCTION sophia.prune_deleted_keys(sources oid[]) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_prune_deleted_keys' LANGUAGE C STRICT;
COMMENT ON FUNCTION sophia.prune_deleted_keys(oid[]) IS 'internal: forgets deleted rows that every consumer of their table has heard of';

-- ---- consumers ----

-- Raises an error where changes of a table cannot be told.
CREATE FUNCTION sophia.check_source(source oid, role oid) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known record;
BEGIN
  SELECT c.oid::regclass AS name, c.relkind, c.relpersistence, EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key,
         EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'changed_xid' AND a.atttypid = 'xid8'::regtype
                   AND NOT a.attisdropped AND a.attgenerated = '') AS has_stamp
    INTO known FROM pg_class c WHERE c.oid = check_source.source;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'table with oid % does not exist', check_source.source USING ERRCODE = '42P01';
  ELSIF known.relkind = 'p' THEN
    RAISE EXCEPTION 'partitioned table "%" cannot be a source', known.name USING ERRCODE = '22023', HINT = 'Name its partitions.';
  ELSIF known.relkind <> 'r' OR known.relpersistence <> 'p' THEN
    RAISE EXCEPTION '"%" cannot be a source', known.name USING ERRCODE = '22023',
      DETAIL = 'It is not an ordinary table that survives a crash.', HINT = 'Name ordinary tables that have a primary key and a column changed_xid xid8.';
  ELSIF NOT known.has_stamp THEN
    RAISE EXCEPTION 'table "%" cannot be a source: it has no column changed_xid of type xid8', known.name USING ERRCODE = '22023',
      HINT = format('ALTER TABLE %s ADD COLUMN changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id();', known.name);
  ELSIF NOT known.has_key THEN
    RAISE EXCEPTION 'table "%" cannot be a source: it has no primary key', known.name USING ERRCODE = '22023', HINT = 'Give it one.';
  ELSIF NOT has_table_privilege(role, check_source.source, 'SELECT') THEN
    RAISE EXCEPTION 'permission denied for table %', known.name USING ERRCODE = '42501';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_source(oid, oid) IS 'internal: raises an error where a table cannot be a source of a consumer';

CREATE FUNCTION sophia.index_stamp(source oid, role oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
      WHERE i.indrelid = source AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree' AND a.attname = 'changed_xid') THEN
    PERFORM sophia.execute_as(role, format('CREATE INDEX ON %s (changed_xid)', source::regclass));
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.index_stamp(oid, oid) IS 'internal: makes the index on changed_xid where a table lacks it';

CREATE FUNCTION sophia.create_consumer(consumer text, sources regclass[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role constant oid := sophia.caller();
  source oid;
  made integer;
BEGIN
  IF create_consumer.consumer IS NULL OR sources IS NULL OR array_position(sources, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'consumer, sources and their elements must not be null' USING ERRCODE = '22004';
  ELSIF create_consumer.consumer = '' OR cardinality(sources) = 0 OR array_ndims(sources) <> 1 THEN
    RAISE EXCEPTION 'a consumer needs a name and a list of sources' USING ERRCODE = '22023';
  ELSIF (SELECT count(DISTINCT u) FROM unnest(sources) u) < cardinality(sources) THEN
    RAISE EXCEPTION 'sources names a table twice' USING ERRCODE = '22023';
  END IF;
  PERFORM sophia.check_source(u, role) FROM unnest(sources) u;
  -- Whoever deletes rows looks whether there is a consumer: until this one is committed, nobody does.
  FOR source IN SELECT u FROM unnest(sources) u ORDER BY u LOOP
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', source::regclass);
    PERFORM sophia.capture_table(source, role), sophia.index_stamp(source, role);
  END LOOP;
  INSERT INTO sophia.consumer_state AS c (consumer, snapshot, whole_reason, system_identifier, database_oid)
    SELECT create_consumer.consumer, pg_current_snapshot(), 'the consumer is new', h.* FROM sophia.here h
    ON CONFLICT DO NOTHING RETURNING c.id INTO made;
  IF made IS NULL THEN
    RAISE EXCEPTION 'consumer "%" already exists', create_consumer.consumer USING ERRCODE = '42710';
  END IF;
  INSERT INTO sophia.consumer_sources (consumer, ordinal, source_oid, source_schema, source_name)
    SELECT made, u.n, k.oid, n.nspname, k.relname
    FROM unnest(sources) WITH ORDINALITY AS u (source, n)
    JOIN pg_class k ON k.oid = u.source
    JOIN pg_namespace n ON n.oid = k.relnamespace;
END;
$$;
COMMENT ON FUNCTION sophia.create_consumer(text, regclass[]) IS
  'makes a consumer of the changes of tables that have a primary key and a stamp (changed_xid xid8); its first window holds all their rows; makes the index and the triggers that a table lacks, as the owner only can; waits until nobody writes the tables';

-- The consumer's row, locked until the end of the transaction.
CREATE FUNCTION sophia.lock_consumer(consumer text) RETURNS sophia.consumer_state
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  locked sophia.consumer_state;
BEGIN
  IF lock_consumer.consumer IS NULL THEN
    RAISE EXCEPTION 'consumer must not be null' USING ERRCODE = '22004';
  END IF;
  SELECT c.* INTO locked FROM sophia.consumer_state c WHERE c.consumer = lock_consumer.consumer FOR UPDATE SKIP LOCKED;
  IF FOUND THEN
    RETURN locked;
  ELSIF EXISTS (SELECT FROM sophia.consumer_state c WHERE c.consumer = lock_consumer.consumer) THEN
    RAISE EXCEPTION 'consumer "%" is in use by another session', lock_consumer.consumer USING ERRCODE = '55P03',
      HINT = 'It is free when the transaction there has ended.';
  END IF;
  RAISE EXCEPTION 'consumer "%" does not exist', lock_consumer.consumer USING ERRCODE = '42704';
END;
$$;
COMMENT ON FUNCTION sophia.lock_consumer(text) IS 'internal: the row of a consumer, locked; raises an error where another session has it';

-- The tables of a consumer in which nobody else is pruning: who prunes keeps the lock until it commits, and its deletions are
-- visible then.
CREATE FUNCTION sophia.prune_consumer(sources oid[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM sophia.deleted_keys) AND pg_try_advisory_xact_lock(hashtextextended('sophia_stack.prune_deleted_keys', 0)) THEN
    PERFORM sophia.prune_deleted_keys(prune_consumer.sources);
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.prune_consumer(oid[]) IS 'internal: forgets deleted rows of these tables that nobody has still to hear of, unless somebody else is about it';

CREATE FUNCTION sophia.drop_consumer(consumer text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  dropped constant integer := (sophia.lock_consumer(consumer)).id;
  sources constant oid[] := ARRAY(SELECT s.source_oid FROM sophia.consumer_sources s WHERE s.consumer = dropped);
BEGIN
  DELETE FROM sophia.batch_keys k WHERE k.consumer = dropped;
  DELETE FROM sophia.consumer_state c WHERE c.id = dropped;
  PERFORM sophia.prune_consumer(sources);
END;
$$;
COMMENT ON FUNCTION sophia.drop_consumer(text) IS 'forgets a consumer; index and triggers of its tables stay';

CREATE FUNCTION sophia.reset_consumer(consumer text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  reset constant integer := (sophia.lock_consumer(consumer)).id;
BEGIN
  DELETE FROM sophia.batch_keys k WHERE k.consumer = reset;
  UPDATE sophia.consumer_sources s SET window_reason = NULL WHERE s.consumer = reset;
  UPDATE sophia.consumer_state c SET whole_reason = 'the consumer was reset', window_snapshot = NULL, batch_end = NULL, next_key = 1, last_key = 0
    WHERE c.id = reset;
END;
$$;
COMMENT ON FUNCTION sophia.reset_consumer(text) IS 'gives up the open batch, if there is one; the next window holds all rows';

-- ---- batches ----

-- A transaction's own id counts as visible in its own snapshot, but its later changes are still to come: it is stored as in progress.
CREATE FUNCTION sophia.without_own_changes(snapshot pg_snapshot) RETURNS pg_snapshot
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN pg_current_xact_id_if_assigned() < pg_snapshot_xmax(snapshot)
    THEN (SELECT format('%s:%s:%s', least(pg_snapshot_xmin(snapshot), pg_current_xact_id_if_assigned()), pg_snapshot_xmax(snapshot),
                        string_agg(i.xid::text, ',' ORDER BY i.xid))
          FROM (SELECT pg_snapshot_xip(snapshot) AS xid UNION SELECT pg_current_xact_id_if_assigned()) AS i)::pg_snapshot
    ELSE snapshot END
$$;
COMMENT ON FUNCTION sophia.without_own_changes(pg_snapshot) IS 'internal: a snapshot in which the current transaction is in progress';

-- Opens a window from the kept snapshot to now.  Triggers are looked at before the snapshot is taken: what they note
-- later belongs to the next window.
CREATE FUNCTION sophia.open_window(state sophia.consumer_state, listing boolean) RETURNS sophia.consumer_state
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  plan record;
  filled record;
BEGIN
  SELECT coalesce(array_agg(p.ordinal ORDER BY p.ordinal), '{}') AS ordinals, coalesce(array_agg(p.source ORDER BY p.ordinal), '{}') AS sources,
         coalesce(array_agg(p.reason IS NOT NULL ORDER BY p.ordinal), '{}') AS whole,
         min(p.reason) FILTER (WHERE p.reason NOT IN ('the consumer is new', 'the consumer was reset')) AS notice
    INTO plan FROM sophia.consumer_plan p WHERE p.consumer = state.id;
  IF listing AND plan.notice IS NOT NULL THEN
    RAISE NOTICE 'consumer "%" lists tables whole: %', state.consumer, plan.notice;
  END IF;
  UPDATE sophia.consumer_sources s
    SET source_oid = p.source, triggers = p.triggers, window_reason = p.reason,
        whole_at = CASE WHEN p.reason IS NULL THEN s.whole_at ELSE clock_timestamp() END, whole_reason = coalesce(p.reason, s.whole_reason)
    FROM sophia.consumer_plan p
    WHERE p.consumer = state.id AND s.consumer = state.id AND s.ordinal = p.ordinal
      AND (s.source_oid, s.triggers, s.window_reason) IS DISTINCT FROM (p.source, p.triggers, p.reason);
  IF listing THEN
    SELECT * INTO filled FROM sophia.fill_window(state.id, plan.sources, plan.whole, pg_snapshot_xmax(state.snapshot),
                                                 ARRAY(SELECT pg_snapshot_xip(state.snapshot)));
    IF filled.truncated <> '{}' THEN
      UPDATE sophia.consumer_sources s SET window_reason = 'the table was emptied', whole_at = clock_timestamp(), whole_reason = 'the table was emptied'
        WHERE s.consumer = state.id AND s.source_oid = ANY (filled.truncated) AND s.window_reason IS NULL;
      RAISE NOTICE 'consumer "%" lists tables whole: the table was emptied', state.consumer;
    END IF;
  ELSE
    SELECT pg_current_snapshot() AS snapshot, 0::bigint AS keys INTO filled;
  END IF;
  state.whole_reason := NULL;
  state.window_snapshot := sophia.without_own_changes(filled.snapshot);
  state.next_key := 1;
  state.last_key := filled.keys;
  RETURN state;
END;
$$;
COMMENT ON FUNCTION sophia.open_window(sophia.consumer_state, boolean) IS 'internal: what the state of a consumer is with a new window; listing: with the keys of what changed in it';

CREATE FUNCTION sophia.close_window(state sophia.consumer_state) RETURNS sophia.consumer_state
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  state.snapshot := state.window_snapshot;
  state.window_snapshot := NULL;
  UPDATE sophia.consumer_sources s SET window_reason = NULL WHERE s.consumer = state.id AND s.window_reason IS NOT NULL;
  RETURN state;
END;
$$;
COMMENT ON FUNCTION sophia.close_window(sophia.consumer_state) IS 'internal: what the state of a consumer is when its window is read';

-- Gives up a window that was taken elsewhere: its snapshot and its oids mean nothing here.
CREATE FUNCTION sophia.settle_consumer(state sophia.consumer_state) RETURNS sophia.consumer_state
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  home constant record := (SELECT h FROM sophia.here h);
  reason constant text := CASE
    WHEN (state.system_identifier, state.database_oid) <> (home.system_identifier, home.database_oid) THEN 'restored from another cluster or database'
    WHEN pg_snapshot_xmax(coalesce(state.window_snapshot, state.snapshot)) > pg_snapshot_xmax(pg_current_snapshot()) THEN 'transaction ids went back' END;
BEGIN
  IF reason IS NOT NULL THEN
    DELETE FROM sophia.batch_keys k WHERE k.consumer = state.id;
    state.system_identifier := home.system_identifier;
    state.database_oid := home.database_oid;
    state.snapshot := pg_current_snapshot();
    state.whole_reason := reason;
    state.window_snapshot := NULL;
    state.batch_end := NULL;
    UPDATE sophia.consumer_sources s SET source_oid = 0 WHERE s.consumer = state.id;
    PERFORM sophia.store_consumer(state);
  END IF;
  RETURN state;
END;
$$;
COMMENT ON FUNCTION sophia.settle_consumer(sophia.consumer_state) IS 'internal: what the state of a consumer is in this database';

CREATE FUNCTION sophia.store_consumer(state sophia.consumer_state) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  UPDATE sophia.consumer_state c
    SET (snapshot, whole_reason, window_snapshot, next_key, last_key, batch_end, system_identifier, database_oid, committed_at) =
        (state.snapshot, state.whole_reason, state.window_snapshot, state.next_key, state.last_key, state.batch_end,
         state.system_identifier, state.database_oid, state.committed_at)
    WHERE c.id = state.id
$$;
COMMENT ON FUNCTION sophia.store_consumer(sophia.consumer_state) IS 'internal: writes the state of a consumer';

CREATE FUNCTION sophia.next_batch(consumer text, max_rows bigint DEFAULT NULL)
  RETURNS TABLE (source regclass, key jsonb, deleted boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  state sophia.consumer_state;
BEGIN
  IF max_rows < 1 THEN
    RAISE EXCEPTION 'max_rows must be at least 1' USING ERRCODE = '22023';
  END IF;
  state := sophia.settle_consumer(sophia.lock_consumer(next_batch.consumer));
  IF state.batch_end IS NULL OR state.last_key = 0 AND state.next_key = 1 THEN
    IF state.batch_end IS NOT NULL THEN
      -- There was nothing, so there is nothing to wait for.
      state := sophia.close_window(state);
    END IF;
    IF state.window_snapshot IS NULL THEN
      state := sophia.open_window(state, true);
    END IF;
    state.batch_end := least(state.last_key, state.next_key - 1 + max_rows);
    PERFORM sophia.store_consumer(state);
  END IF;
  RETURN QUERY SELECT k.source::regclass, k.key, k.deleted FROM sophia.batch_keys k
    WHERE k.consumer = state.id AND k.n BETWEEN state.next_key AND state.batch_end ORDER BY k.n;
END;
$$;
COMMENT ON FUNCTION sophia.next_batch(text, bigint) IS
  'the keys of rows that changed since the last batch that was committed, at most max_rows; the same ones again until commit_batch; deleted: the row is gone, or its is_deleted is true';

CREATE FUNCTION sophia.commit_batch(consumer text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
  state sophia.consumer_state := sophia.lock_consumer(commit_batch.consumer);
BEGIN
  IF state.batch_end IS NULL THEN
    RAISE EXCEPTION 'consumer "%" has no open batch', state.consumer USING ERRCODE = '55000', HINT = 'Call sophia.next_batch() first.';
  END IF;
  IF state.batch_end >= state.next_key THEN
    DELETE FROM sophia.batch_keys k WHERE k.consumer = state.id AND k.n <= state.batch_end;
  END IF;
  state.next_key := state.batch_end + 1;
  state.batch_end := NULL;
  state.committed_at := clock_timestamp();
  IF state.next_key > state.last_key THEN
    state := sophia.close_window(state);
  END IF;
  PERFORM sophia.store_consumer(state);
  IF state.window_snapshot IS NULL THEN
    PERFORM sophia.prune_consumer(ARRAY(SELECT s.source_oid FROM sophia.consumer_sources s WHERE s.consumer = state.id));
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.commit_batch(text) IS 'the batch that next_batch gave is done; takes effect with the transaction';

-- For transforms, inside the transaction that refreshes:
--
--   pending_changes(consumer, most)   looks, without a lock and without changing anything, whether there is anything to do
--   next_batch, commit_batch          for what changed
--   skip_batch, commit_batch          where everything is read anyhow: what changes from here on comes with the next batch
--
-- Statements that run after either see at least what the batch is about.
CREATE FUNCTION sophia.skip_batch(consumer text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  state sophia.consumer_state := sophia.settle_consumer(sophia.lock_consumer(skip_batch.consumer));
BEGIN
  DELETE FROM sophia.batch_keys k WHERE k.consumer = state.id;
  state := sophia.open_window(state, false);
  state.next_key := 0;
  state.batch_end := 0;
  PERFORM sophia.store_consumer(state);
END;
$$;
COMMENT ON FUNCTION sophia.skip_batch(text) IS
  'internal: opens a batch of everything up to now without listing it, in place of an open one; commit_batch commits it';

CREATE FUNCTION sophia.pending_changes(consumer text, most bigint)
  RETURNS TABLE (source regclass, changes bigint, is_full boolean, reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  state sophia.consumer_state;
  seen pg_snapshot;
  plan record;
BEGIN
  SELECT c.* INTO state FROM sophia.consumer_state c WHERE c.consumer = pending_changes.consumer;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'consumer "%" does not exist', pending_changes.consumer USING ERRCODE = '42704';
  END IF;
  seen := coalesce(state.window_snapshot, state.snapshot);
  SELECT coalesce(array_agg(p.source ORDER BY p.ordinal), '{}') AS sources, coalesce(array_agg(p.reason IS NOT NULL ORDER BY p.ordinal), '{}') AS whole,
         array_agg(coalesce(p.reason, s.window_reason) ORDER BY p.ordinal) AS reasons
    INTO plan FROM sophia.consumer_plan p JOIN sophia.consumer_sources s USING (consumer, ordinal) WHERE p.consumer = state.id;
  RETURN QUERY
    SELECT c.source::regclass, least(most, c.changes + w.keys), r.reason IS NOT NULL OR c.truncated,
           coalesce(r.reason, CASE WHEN c.truncated THEN 'the table was emptied' END)
    FROM sophia.count_changes(plan.sources, plan.whole, pg_snapshot_xmax(seen), ARRAY(SELECT pg_snapshot_xip(seen)), most) c
    JOIN unnest(plan.sources, plan.reasons) AS r (source, reason) ON r.source = c.source
    CROSS JOIN LATERAL (SELECT count(*) AS keys
      FROM (SELECT FROM sophia.batch_keys k WHERE k.consumer = state.id AND k.n <= state.last_key AND k.source = c.source LIMIT most) AS k) AS w;
END;
$$;
COMMENT ON FUNCTION sophia.pending_changes(text, bigint) IS
  'internal: what there is to read for a consumer, a row a source: how many rows changed, counted up to most, and whether and why all of its rows are to be read';

CREATE VIEW sophia.consumers AS
  SELECT c.consumer,
         ARRAY(SELECT format('%I.%I', s.source_schema, s.source_name) FROM sophia.consumer_sources s WHERE s.consumer = c.id ORDER BY s.ordinal) AS sources,
         CASE WHEN c.next_key > 0 THEN c.batch_end - c.next_key + 1 END AS batch_rows,
         CASE WHEN c.window_snapshot IS NOT NULL THEN c.last_key - coalesce(c.batch_end, c.next_key - 1) ELSE 0 END AS rows_waiting,
         p.reason AS next_full_reason,
         CASE WHEN (c.system_identifier, c.database_oid) = (h.system_identifier, h.database_oid)
           THEN greatest(0, pg_snapshot_xmax(pg_current_snapshot())::text::numeric - pg_snapshot_xmin(c.snapshot)::text::numeric) END AS transactions_behind,
         c.committed_at, l.whole_at AS last_full_at, l.whole_reason AS last_full_reason, c.created_at
  FROM sophia.consumer_state c
  CROSS JOIN sophia.here h
  CROSS JOIN LATERAL (SELECT string_agg(DISTINCT p.reason, '; ') AS reason FROM sophia.consumer_plan p WHERE p.consumer = c.id) p
  LEFT JOIN LATERAL (SELECT s.whole_at, s.whole_reason FROM sophia.consumer_sources s
    WHERE s.consumer = c.id AND s.whole_at IS NOT NULL ORDER BY s.whole_at DESC LIMIT 1) l ON true;
COMMENT ON VIEW sophia.consumers IS 'who reads changes of tables by next_batch, and how far each has come';
COMMENT ON COLUMN sophia.consumers.sources IS 'the tables that it reads';
COMMENT ON COLUMN sophia.consumers.batch_rows IS 'how many rows the open batch has; NULL = none is open, or it was not listed';
COMMENT ON COLUMN sophia.consumers.rows_waiting IS 'how many rows of the same window follow that batch';
COMMENT ON COLUMN sophia.consumers.next_full_reason IS 'why the next window lists all rows of a source; NULL = it lists what changed, unless a source was emptied';
COMMENT ON COLUMN sophia.consumers.transactions_behind IS 'how many transaction ids were given out since the oldest transaction that it has not read; NULL = it was restored from elsewhere';
COMMENT ON COLUMN sophia.consumers.committed_at IS 'when it last committed a batch';
COMMENT ON COLUMN sophia.consumers.last_full_at IS 'when a window last listed all rows of a source';
COMMENT ON COLUMN sophia.consumers.last_full_reason IS 'why it did';
