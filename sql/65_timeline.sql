-- The timeline written: interaction_timeline and interaction_participants made equal to what their queries say, for all
-- interactions of a source or for some.
--
-- Rows are compared first and only differences are written.  New rows are inserted plainly and others updated by their id:
-- a refresh runs alone (check_refresh), and a partitioned timeline has no unique index that ON CONFLICT could name.

CREATE FUNCTION sophia.result_columns(query text) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(a.name ORDER BY a.place)
  FROM pg_proc AS p
  CROSS JOIN LATERAL unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS a (name, mode, place)
  WHERE p.proname = query AND p.pronamespace = 'sophia'::regnamespace AND a.mode = 't'
$$;
COMMENT ON FUNCTION sophia.result_columns(text) IS 'internal: columns that a query under a name gives: those that a refresh writes';

CREATE FUNCTION sophia.write_rows(target text, query text, keys text[], in_scope text, ids text[],
  OUT inserted text[], OUT updated text[], OUT deleted text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 1.1
AS $$
DECLARE
  columns constant text[] := sophia.result_columns(query);
  list constant text := (SELECT string_agg(quote_ident(c), ', ') FROM unnest(columns) AS c);
  of_target constant text := (SELECT string_agg(format('t.%I', c), ', ') FROM unnest(columns) AS c);
  of_wanted constant text := (SELECT string_agg(format('w.%I', c), ', ') FROM unnest(columns) AS c);
  same_key constant text := (SELECT string_agg(format('t.%1$I = w.%1$I', k), ' AND ') FROM unnest(keys) AS k);
BEGIN
  IF ids IS NOT NULL THEN
    PERFORM set_config('random_page_cost', '0.1', true);
  END IF;
  EXECUTE format($statement$
    WITH wanted AS MATERIALIZED (
      SELECT * FROM sophia.%1$I($1)
    ), removed AS (
      DELETE FROM processed_data.%2$I AS t
      USING (SELECT %9$s FROM processed_data.%2$I AS t WHERE %3$s EXCEPT SELECT %10$s FROM wanted AS w) AS w
      WHERE %4$s
      RETURNING t.%5$I AS id
    ), changed AS MATERIALIZED (
      SELECT w.*, t.%5$I IS NULL AS is_new
      FROM wanted AS w
      LEFT JOIN %11$s AS t ON %4$s
      WHERE t.%5$I IS NULL OR (%6$s) IS DISTINCT FROM (%7$s)
    ), inserted AS (
      INSERT INTO processed_data.%2$I (%8$s) SELECT %7$s FROM changed AS w WHERE w.is_new
    ), updated AS (
      UPDATE processed_data.%2$I AS t SET (%8$s) = ROW (%7$s) FROM changed AS w WHERE NOT w.is_new AND %4$s
    )
    SELECT ARRAY(SELECT DISTINCT c.%5$I FROM changed AS c WHERE c.is_new),
      ARRAY(SELECT DISTINCT c.%5$I FROM changed AS c WHERE NOT c.is_new), ARRAY(SELECT DISTINCT r.id FROM removed AS r)
    $statement$, query, target, in_scope, same_key, keys[1], of_target, of_wanted, list,
    (SELECT string_agg(format('t.%I', k), ', ') FROM unnest(keys) AS k), (SELECT string_agg(format('w.%I', k), ', ') FROM unnest(keys) AS k),
    -- Beside the key of a row, the list of ids would be searched for each row again.
    format(CASE WHEN ids IS NULL THEN '(SELECT * FROM processed_data.%I AS t WHERE %s)' ELSE 'processed_data.%I' END, target, in_scope))
  INTO inserted, updated, deleted USING ids;
END
$$;
COMMENT ON FUNCTION sophia.write_rows(text, text, text[], text, text[]) IS
  'internal: makes the rows of a table of processed_data that are in scope as a query wants them; tells the first key columns of what it inserted, updated and deleted';

CREATE FUNCTION sophia.link_speakers(calls text[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET random_page_cost = 1.1
AS $$
BEGIN
  UPDATE gong_raw.call_transcripts AS t SET party_id = w.party_id
  FROM (SELECT o.call_id, o.seq, p.party_id
    FROM gong_raw.call_transcripts AS o
    LEFT JOIN (SELECT DISTINCT ON (r.call_id COLLATE "C", r.speaker_id COLLATE "C") r.call_id, r.speaker_id, r.party_id
      FROM gong_raw.call_parties AS r
      WHERE (calls IS NULL OR r.call_id = ANY (calls)) AND r.speaker_id IS NOT NULL
      ORDER BY r.call_id COLLATE "C", r.speaker_id COLLATE "C", r.ordinal, r.party_id COLLATE "C") AS p
      ON p.call_id = o.call_id AND p.speaker_id = o.speaker_id
    WHERE (calls IS NULL OR o.call_id = ANY (calls)) AND o.party_id IS DISTINCT FROM p.party_id) AS w
  WHERE t.call_id = w.call_id AND t.seq = w.seq;
END
$$;
COMMENT ON FUNCTION sophia.link_speakers(text[]) IS 'internal: writes the party that spoke each monologue of these Gong calls, NULL = of all, to party_id';

CREATE FUNCTION sophia.prepare_interactions(source text, ids text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF source = 'gong' THEN
    PERFORM sophia.link_speakers(sophia.source_ids(ids));
  END IF;
  IF ids IS NULL THEN
    PERFORM sophia.keep_all_inputs(source);
  END IF;
  PERFORM sophia.make_timeline_partitions(source, ids);
END
$$;
COMMENT ON FUNCTION sophia.prepare_interactions(text, text[]) IS 'internal: what has to be there before these interactions of a source, NULL = all, are written';

CREATE FUNCTION sophia.note_ahead(source text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.refresh_links SELECT DISTINCT l.interaction_id, l.contact_id FROM sophia.unsettled_links(source, false) AS l
  ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION sophia.note_ahead(text) IS
  'internal: keeps for whom interactions of a source count that changed since contacts were computed: the timeline, just written, may show them as no contact knows them';

CREATE FUNCTION sophia.write_interactions(source text, ids text[] DEFAULT NULL,
  OUT rows_inserted bigint, OUT rows_updated bigint, OUT rows_deleted bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  participants record;
  interactions record;
  touched text[];
BEGIN
  PERFORM sophia.prepare_interactions(source, ids);
  IF ids IS NULL AND NOT sophia.has_interactions(source) THEN
    rows_inserted := sophia.fill_interactions(source);
    rows_updated := 0;
    rows_deleted := 0;
    RETURN;
  END IF;
  participants := sophia.write_rows('interaction_participants', 'participants_from_' || source, '{interaction_id,ordinal}',
    CASE WHEN ids IS NULL THEN format('starts_with(t.interaction_id, %L)', source || '_')
      ELSE 't.interaction_id = ANY ($1)' END, ids);
  interactions := sophia.write_rows('interaction_timeline', 'interactions_from_' || source, '{id}',
    CASE WHEN ids IS NULL THEN format('t.source_system = %L', source) ELSE 't.id = ANY ($1)' END, ids);
  touched := ARRAY(
    SELECT unnest(participants.inserted || participants.updated || participants.deleted || interactions.updated)
    EXCEPT SELECT unnest(interactions.inserted || interactions.deleted));
  rows_inserted := cardinality(interactions.inserted);
  rows_updated := cardinality(touched);
  rows_deleted := cardinality(interactions.deleted);
  IF source = 'gong' AND ids IS NOT NULL THEN
    PERFORM sophia.touch_duplicates(touched || interactions.inserted || interactions.deleted);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.write_interactions(text, text[]) IS
  'internal: makes these interactions of a source, NULL = all, and their participants as wanted, and counts interactions; those of Gong come before those of HubSpot';

CREATE FUNCTION sophia.has_interactions(source text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM processed_data.interaction_timeline AS t WHERE t.source_system = source)
    OR EXISTS (SELECT FROM processed_data.interaction_participants AS p WHERE starts_with(p.interaction_id, source || '_'))
$$;
COMMENT ON FUNCTION sophia.has_interactions(text) IS 'internal: whether the timeline shows anything of a source';

CREATE FUNCTION sophia.fill_rows(target text, source text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  query constant text := CASE target WHEN 'interaction_timeline' THEN 'interactions' ELSE 'participants' END || '_from_' || source;
  written bigint;
BEGIN
  EXECUTE format('INSERT INTO processed_data.%1$I (%2$s) SELECT %2$s FROM sophia.%3$I(NULL)', target,
    (SELECT string_agg(quote_ident(c), ', ') FROM unnest(sophia.result_columns(query)) AS c), query);
  GET DIAGNOSTICS written = ROW_COUNT;
  RETURN written;
END
$$;
COMMENT ON FUNCTION sophia.fill_rows(text, text) IS 'internal: writes the participants or interactions of a source of which there are none yet, and counts them';

CREATE FUNCTION sophia.fill_interactions(source text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  written bigint;
BEGIN
  PERFORM sophia.fill_rows('interaction_participants', source);
  PERFORM sophia.analyze_filled('interaction_participants');
  written := sophia.fill_rows('interaction_timeline', source);
  PERFORM sophia.analyze_filled('interaction_timeline');
  RETURN written;
END
$$;
COMMENT ON FUNCTION sophia.fill_interactions(text) IS 'internal: writes the interactions of a source of which the timeline shows nothing yet, and counts them';

CREATE FUNCTION sophia.fill_timeline() RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  sources constant text[] := ARRAY(SELECT s.name FROM unnest('{gong,slack,hubspot}'::text[]) WITH ORDINALITY AS s (name, place)
    WHERE sophia.has_source(s.name) ORDER BY s.place);
  looked_up constant regclass[] := array_remove(ARRAY[to_regclass('processed_data.idx_interaction_timeline_thread'),
    to_regclass('processed_data.idx_interaction_timeline_owner')], NULL);
  source text;
  resting regclass[];
  written bigint := 0;
BEGIN
  FOREACH source IN ARRAY sources LOOP
    PERFORM sophia.prepare_interactions(source, NULL);
  END LOOP;
  resting := sophia.rest_indexes('{interaction_participants}');
  FOREACH source IN ARRAY sources LOOP
    PERFORM sophia.fill_rows('interaction_participants', source);
  END LOOP;
  PERFORM sophia.rebuild_indexes(resting);
  PERFORM sophia.analyze_filled('interaction_participants');
  resting := sophia.rest_indexes('{interaction_timeline}');
  FOREACH source IN ARRAY sources LOOP
    -- Meetings of HubSpot look, by these two indexes, for the calls of Gong that show them as well.
    IF source = 'hubspot' THEN
      PERFORM sophia.rebuild_indexes(ARRAY(SELECT r.index FROM unnest(resting) AS r (index) WHERE r.index = ANY (looked_up)));
      PERFORM sophia.analyze_filled('interaction_timeline');
      resting := ARRAY(SELECT r.index FROM unnest(resting) AS r (index) WHERE r.index <> ALL (looked_up));
    END IF;
    written := written + sophia.fill_rows('interaction_timeline', source);
    PERFORM sophia.note_ahead(source);
  END LOOP;
  PERFORM sophia.rebuild_indexes(resting);
  PERFORM sophia.analyze_filled('interaction_timeline');
  RETURN written;
END
$$;
COMMENT ON FUNCTION sophia.fill_timeline() IS 'internal: writes all interactions with their participants into the empty tables, and counts them';
