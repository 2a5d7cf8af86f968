-- verify_refresh: what the processed tables hold, compared with what the raw tables say now.
--
-- The queries of the sources are asked anew, for some rows or for all, and so are the lookups that they use.  Each check is
-- a function of its own; verify_refresh names them.

CREATE FUNCTION sophia.ids_of_source(target text, source text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE target || ' ' || source
    WHEN 'unified_contacts hubspot' THEN 'SELECT ''hubspot_'' || c.id FROM hubspot_raw.contacts AS c'
    WHEN 'unified_contacts gong' THEN 'SELECT ''gong_'' || u.id FROM gong_raw.users AS u
      UNION SELECT p.contact_id FROM sophia.gong_parties() AS p WHERE p.contact_id IS NOT NULL'
    WHEN 'unified_contacts slack' THEN 'SELECT ''slack_'' || u.id FROM slack_raw.users AS u'
    WHEN 'interaction_timeline hubspot' THEN 'SELECT ''hubspot_'' || e.id FROM hubspot_raw.engagements AS e'
    WHEN 'interaction_timeline gong' THEN 'SELECT ''gong_'' || c.id FROM gong_raw.calls AS c'
    WHEN 'interaction_timeline slack' THEN 'SELECT ''slack_'' || m.channel || ''_'' || m.ts FROM slack_raw.messages AS m' END
$$;
COMMENT ON FUNCTION sophia.ids_of_source(text, text) IS 'internal: query for the ids of all rows that a target may get from a source';

CREATE FUNCTION sophia.sample_ids(target text, source text, part float8) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids text[];
BEGIN
  IF part >= 1 THEN
    RETURN NULL;
  END IF;
  EXECUTE format('SELECT array_agg(DISTINCT k.id) FROM (%s UNION ALL SELECT t.id FROM processed_data.%I AS t WHERE t.source_system = $1) AS k (id)
    WHERE random() < $2', sophia.ids_of_source(target, source), target)
  INTO ids USING source, part;
  RETURN coalesce(ids, '{}');
END
$$;
COMMENT ON FUNCTION sophia.sample_ids(text, text, float8) IS 'internal: part of the ids that a target has or should have from a source; NULL = all';

CREATE FUNCTION sophia.compare_rows(target text, query text, keys text[], arguments text[], in_scope text, ids text[])
RETURNS TABLE (key text, column_name text, incremental text, recomputed text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  columns CONSTANT text[] := sophia.result_columns(query);
BEGIN
  RETURN QUERY EXECUTE format($statement$
    SELECT coalesce(%1$s, %2$s), c.name,
      CASE WHEN t.%3$I IS NOT NULL THEN to_jsonb(t) ->> c.name END, CASE WHEN w.%3$I IS NOT NULL THEN to_jsonb(w) ->> c.name END
    FROM sophia.%4$I($1) AS w
    FULL JOIN (SELECT o.* FROM processed_data.%5$I AS o WHERE %6$s) AS t ON %7$s
    CROSS JOIN LATERAL unnest($3) AS c (name)
    WHERE (%8$s) IS DISTINCT FROM (%9$s)
      -- A row that one side lacks is told by its key.
      AND CASE WHEN t.%3$I IS NULL OR w.%3$I IS NULL THEN c.name = %3$L
        ELSE to_jsonb(t) -> c.name IS DISTINCT FROM to_jsonb(w) -> c.name END
    $statement$,
    (SELECT string_agg(format('t.%I', k), ' || '' '' || ') FROM unnest(keys) AS k),
    (SELECT string_agg(format('w.%I', k), ' || '' '' || ') FROM unnest(keys) AS k),
    keys[1], query, target, in_scope,
    (SELECT string_agg(format('t.%1$I = w.%1$I', k), ' AND ') FROM unnest(keys) AS k),
    (SELECT string_agg(format('t.%I', c), ', ') FROM unnest(columns) AS c),
    (SELECT string_agg(format('w.%I', c), ', ') FROM unnest(columns) AS c))
  USING arguments, ids, columns;
END
$$;
COMMENT ON FUNCTION sophia.compare_rows(text, text, text[], text[], text, text[]) IS
  'internal: what differs, column by column, between rows of a processed table that are in scope and what a query gives for some arguments';

CREATE FUNCTION sophia.verify_lookups(part float8)
RETURNS TABLE (target text, key text, column_name text, incremental text, recomputed text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  item record;
BEGIN
  IF sophia.has_source('hubspot') THEN
    RETURN QUERY
    SELECT 'contact_merges', coalesce(m.winner || ' ' || m.loser, w.winner || ' ' || w.loser), 'loser', m.loser, w.loser
    FROM sophia.contact_merges AS m
    FULL JOIN sophia.current_merges(NULL) AS w ON w.winner = m.winner AND w.loser = m.loser
    WHERE m.winner IS NULL OR w.winner IS NULL;
  END IF;
  FOR item IN SELECT * FROM sophia.lookup_kinds() LOOP
    CONTINUE WHEN item.source IS NOT NULL AND NOT sophia.has_source(item.source);
    RETURN QUERY EXECUTE format('SELECT ''refresh_lookups'', $1 || '' '' || coalesce(l.key, w.key), ''value'', l.value, w.value
      FROM (SELECT o.key, o.value FROM sophia.refresh_lookups AS o WHERE o.kind = $1) AS l
      FULL JOIN sophia.%I(NULL) AS w ON w.key = l.key
      -- How many users may still change tells of the past.
      WHERE l.key IS NULL OR w.key IS NULL OR $1 <> ''slack_home'' AND l.value <> w.value', 'current_' || item.kind)
    USING item.kind;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.verify_lookups(float8) IS 'internal: what many rows look up, compared with what the raw tables say; all of it, whatever part is';

CREATE FUNCTION sophia.verify_contacts(part float8)
RETURNS TABLE (target text, key text, column_name text, incremental text, recomputed text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source text;
  ids text[];
BEGIN
  FOREACH source IN ARRAY ARRAY['hubspot', 'gong', 'slack'] LOOP
    CONTINUE WHEN NOT sophia.has_source(source);
    ids := sophia.sample_ids('unified_contacts', source, part);
    CONTINUE WHEN ids = '{}';
    RETURN QUERY SELECT 'unified_contacts', c.*
    FROM sophia.compare_rows('unified_contacts', 'contacts_from_' || source, '{id}', sophia.source_ids(ids),
      format('o.source_system = %L AND ($2 IS NULL OR o.id = ANY ($2))', source), ids) AS c;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.verify_contacts(float8) IS 'internal: unified_contacts, or a part of it, compared with what the raw tables say';

CREATE FUNCTION sophia.verify_timeline(part float8)
RETURNS TABLE (target text, key text, column_name text, incremental text, recomputed text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source text;
  ids text[];
BEGIN
  FOREACH source IN ARRAY ARRAY['hubspot', 'gong', 'slack'] LOOP
    CONTINUE WHEN NOT sophia.has_source(source);
    ids := sophia.sample_ids('interaction_timeline', source, part);
    CONTINUE WHEN ids = '{}';
    RETURN QUERY SELECT 'interaction_timeline', c.*
    FROM sophia.compare_rows('interaction_timeline', 'interactions_from_' || source, '{id}', ids,
      format('o.source_system = %L AND ($2 IS NULL OR o.id = ANY ($2))', source), ids) AS c;
    RETURN QUERY SELECT 'interaction_participants', c.*
    FROM sophia.compare_rows('interaction_participants', 'participants_from_' || source, '{interaction_id,ordinal}', ids,
      CASE WHEN ids IS NULL THEN format('starts_with(o.interaction_id, %L)', source || '_') ELSE 'o.interaction_id = ANY ($2)' END,
      ids) AS c;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.verify_timeline(float8) IS 'internal: the timeline and its participants, or a part of them, compared with what raw tables and contacts say';

CREATE FUNCTION sophia.verify_refresh(part float8 DEFAULT 0.01)
RETURNS TABLE (target text, key text, column_name text, incremental text, recomputed text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
SET work_mem = '64MB'
AS $$
DECLARE
  check_name text;
BEGIN
  IF part IS NULL OR NOT part > 0 OR part > 1 THEN
    RAISE EXCEPTION 'part must be greater than 0 and at most 1, not %', coalesce(part::text, 'NULL')
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM sophia.check_refresh('dry_run', NULL, NULL);
  FOREACH check_name IN ARRAY ARRAY['verify_lookups', 'verify_contacts', 'verify_timeline'] LOOP
    RETURN QUERY EXECUTE format('SELECT v.* FROM sophia.%I($1) AS v', check_name) USING part;
  END LOOP;
  -- Who is who cannot be told from a part of the records.
  IF part = 1 THEN
    RETURN QUERY SELECT v.* FROM sophia.verify_identities() AS v;
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.verify_refresh(float8) IS
  'recomputes this part of the processed rows, 1 = all, and returns every value that differs from what refresh left, identities included where it is all; waits for a refresh that is under way; changes that no refresh has read yet are differences';
