-- What the jobs worker does for enrichments: notes what changed, takes what is due, writes the results.

-- What a target column gets of a result; the label of a score by these thresholds: 0.25 and more is positive, -0.25 and less negative.
CREATE FUNCTION sophia.result_part(part text, result sophia.ai_result) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE part
    WHEN 'label' THEN CASE
      WHEN jsonb_typeof(result.value) <> 'number' THEN result.value
      WHEN (result.value)::numeric >= 0.25 THEN '"positive"'
      WHEN (result.value)::numeric <= -0.25 THEN '"negative"'
      ELSE '"neutral"' END
    WHEN 'model' THEN to_jsonb(result.model)
    WHEN 'provider' THEN to_jsonb(result.provider)
    WHEN 'cost' THEN to_jsonb(result.cost)
    WHEN 'tokens_in' THEN to_jsonb(result.tokens_in)
    WHEN 'tokens_out' THEN to_jsonb(result.tokens_out)
    WHEN 'prompt_version' THEN to_jsonb(result.prompt_version)
    ELSE result.value END
$$;
COMMENT ON FUNCTION sophia.result_part(text, sophia.ai_result) IS 'internal: what a target of an enrichment gets';

-- The model that an enrichment asks, and the version of its prompt, as of now.
CREATE FUNCTION sophia.enrichment_model(function text, model text, OUT name text, OUT prompt_version integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT m.model, (SELECT max(p.version) FROM sophia.prompts AS p
      WHERE p.kind = v.kind AND p.function = CASE enrichment_model.function WHEN 'summarize_detail' THEN 'summarize' ELSE enrichment_model.function END)
  FROM sophia.models AS m JOIN sophia.providers AS v USING (provider)
  WHERE m.model = coalesce(enrichment_model.model, (SELECT d.model FROM sophia.default_models AS d
    WHERE d.function IN (enrichment_model.function, CASE WHEN enrichment_model.function LIKE 'embed%' THEN 'embed_text' ELSE 'complete' END)
    ORDER BY d.function = enrichment_model.function DESC LIMIT 1))
$$;
COMMENT ON FUNCTION sophia.enrichment_model(text, text) IS 'internal: the model that an enrichment asks now, and the version of its prompt';

-- ---- noting what changed ----

CREATE FUNCTION sophia.note_keys(name text, keys jsonb[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO sophia.enrichment_queue AS q (name, key) SELECT DISTINCT note_keys.name, k FROM unnest(keys) AS k
  ON CONFLICT (name, key) DO UPDATE SET changes = q.changes + 1, attempts = 0, next_at = now(), is_dead = false, error_code = NULL, error = NULL
$$;
COMMENT ON FUNCTION sophia.note_keys(text, jsonb[]) IS 'internal: notes changed rows for an enrichment';

-- Row trigger: its arguments are the enrichment and the columns of its key.
CREATE FUNCTION sophia.note_enrichment() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.note_keys(e.name, ARRAY(SELECT (SELECT jsonb_object_agg(k, r.doc -> k) FROM unnest(TG_ARGV[1:]) AS k)
      FROM (SELECT to_jsonb(NEW) AS doc WHERE TG_OP <> 'DELETE' UNION ALL SELECT to_jsonb(OLD) WHERE TG_OP <> 'INSERT') AS r))
    FROM sophia.enrichments AS e WHERE e.name = TG_ARGV[0];
  PERFORM sophia.wake_jobs();
  RETURN NULL;
END;
$$;
COMMENT ON FUNCTION sophia.note_enrichment() IS 'internal: trigger that notes the changed rows of a table for an enrichment';

CREATE FUNCTION sophia.enrichment_consumer(name text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT 'enrichment ' || name
$$;
COMMENT ON FUNCTION sophia.enrichment_consumer(text) IS 'internal: name of the consumer that an enrichment reads an exact cursor as';

CREATE FUNCTION sophia.pull_changes(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF NOT EXISTS (SELECT FROM sophia.consumer_state AS c WHERE c.consumer = sophia.enrichment_consumer(pull_changes.name)) THEN
    RETURN;
  END IF;
  PERFORM sophia.note_keys(pull_changes.name, ARRAY(SELECT b.key FROM sophia.next_batch(sophia.enrichment_consumer(pull_changes.name), 5000) AS b));
  PERFORM sophia.commit_batch(sophia.enrichment_consumer(pull_changes.name));
END;
$$;
COMMENT ON FUNCTION sophia.pull_changes(text) IS 'internal: notes the next changes of an enrichment''s exact cursor, where it has one';

-- ---- taking what is due ----

CREATE FUNCTION sophia.same_key(key text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(format('t.%1$I = r.%1$I', k), ' AND ') FROM unnest(key) AS k
$$;
COMMENT ON FUNCTION sophia.same_key(text[]) IS 'internal: condition that the records t and r have the same key';

-- Names in the expression and in the filter mean columns of the row, whatever else is around.
CREATE FUNCTION sophia.enrichment_input(e sophia.enrichments) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('(SELECT i.input, i.wanted, encode(sha256(convert_to(i.input, ''UTF8'')), ''hex'') AS sha'
    ' FROM (SELECT (%s%s)::text AS input, (%s%s) AS wanted FROM (SELECT t.*) AS %I) AS i)',
    e.input_expression, E'\n', coalesce(e.filter, 'true'), E'\n', e.source_table)
$$;
COMMENT ON FUNCTION sophia.enrichment_input(sophia.enrichments) IS 'internal: subquery that gives the input of record t, its hash, and whether the row is wanted';

CREATE FUNCTION sophia.target_columns(targets jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(t.value ORDER BY t.key), '{}') FROM jsonb_each_text(targets) AS t WHERE t.value <> 'processed_data.embeddings'
$$;
COMMENT ON FUNCTION sophia.target_columns(jsonb) IS 'internal: the columns of its table that an enrichment writes';

CREATE FUNCTION sophia.read_inputs(e sophia.enrichments, keys jsonb) RETURNS TABLE (key jsonb, input text, sha text, is_empty boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  source constant regclass := to_regclass(format('%I.%I', e.source_schema, e.source_table));
BEGIN
  RETURN QUERY SELECT f.found -> 'key', f.found ->> 'input', f.found ->> 'sha', (f.found ->> 'empty')::boolean
    FROM sophia.query_as((SELECT c.relowner FROM pg_class AS c WHERE c.oid = source), format(
      'SELECT jsonb_build_object(''key'', k.key, ''input'', x.input, ''sha'', x.sha, ''empty'', %s)'
      ' FROM jsonb_array_elements($1) AS k (key)'
      ' CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, k.key) AS r'
      ' JOIN %s AS t ON %s CROSS JOIN LATERAL %s AS x WHERE x.wanted AND x.input ~ ''\S''',
      coalesce((SELECT 'num_nonnulls(' || string_agg(format('t.%I', c), ', ') || ') = 0' FROM unnest(sophia.target_columns(e.targets)) AS c), 'false'),
      source, source, sophia.same_key(e.key), sophia.enrichment_input(e)), keys) AS f (n, found)
    WHERE f.found IS NOT NULL;
END;
$$;
COMMENT ON FUNCTION sophia.read_inputs(sophia.enrichments, jsonb) IS
  'internal: inputs of the rows with these keys that are wanted, their hashes, and whether all targets are empty, read as the owner of the table';

CREATE FUNCTION sophia.read_inputs_carefully(e sophia.enrichments, keys jsonb) RETURNS TABLE (key jsonb, input text, sha text, is_empty boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  one jsonb;
BEGIN
  BEGIN
    RETURN QUERY SELECT r.key, r.input, r.sha, r.is_empty FROM sophia.read_inputs(e, keys) AS r;
    RETURN;
  EXCEPTION WHEN data_exception OR raise_exception OR cardinality_violation THEN
    NULL;
  END;
  FOR one IN SELECT k FROM jsonb_array_elements(keys) AS k LOOP
    BEGIN
      RETURN QUERY SELECT r.key, r.input, r.sha, r.is_empty FROM sophia.read_inputs(e, jsonb_build_array(one)) AS r;
    EXCEPTION WHEN data_exception OR raise_exception OR cardinality_violation THEN
      UPDATE sophia.enrichment_queue AS q SET is_dead = true, error_code = SQLSTATE, error = SQLERRM WHERE q.name = e.name AND q.key = one;
    END;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.read_inputs_carefully(sophia.enrichments, jsonb) IS 'internal: the same as read_inputs; a row whose expression fails becomes a dead letter';

CREATE FUNCTION sophia.enrichment_hash(input_sha text, function text, model text, prompt_version integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT encode(sha256(convert_to(jsonb_build_array(input_sha, function, model, prompt_version)::text, 'UTF8')), 'hex')
$$;
COMMENT ON FUNCTION sophia.enrichment_hash(text, text, text, integer) IS 'internal: a row is due when this is not the one that was kept';

CREATE FUNCTION sophia.forget_enriched(e sophia.enrichments, keys jsonb[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  DELETE FROM sophia.enrichment_state AS s WHERE s.name = e.name AND s.key = ANY (keys);
  DELETE FROM sophia.enrichment_queue AS q WHERE q.name = e.name AND q.key = ANY (keys) AND NOT q.is_dead;
  IF e.targets ? 'embedding' AND to_regclass('processed_data.embeddings') IS NOT NULL THEN
    EXECUTE 'DELETE FROM processed_data.embeddings AS m WHERE m.source_table = $1 AND m.source_key = ANY ($2)'
      USING format('%I.%I', e.source_schema, e.source_table), keys;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.forget_enriched(sophia.enrichments, jsonb[]) IS 'internal: forgets what was kept of rows that are gone, or not wanted any more';

CREATE FUNCTION sophia.next_due(e sophia.enrichments, OUT handle jsonb, OUT inputs text[], OUT is_done boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  asked record;
  noted jsonb;
  looked jsonb;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('key', q.key, 'changes', q.changes)), '[]') INTO noted
    FROM (SELECT n.key, n.changes FROM sophia.enrichment_queue AS n
      WHERE n.name = e.name AND NOT n.is_dead AND n.next_at <= clock_timestamp() ORDER BY n.next_at LIMIT least(256, e.per_minute)) AS q;
  is_done := noted = '[]';
  IF is_done THEN
    RETURN;
  END IF;
  SELECT m.* INTO asked FROM sophia.enrichment_model(e.function, e.model) AS m;
  SELECT coalesce(jsonb_agg(to_jsonb(f) || jsonb_build_object('hash', sophia.enrichment_hash(f.sha, e.function, asked.name, asked.prompt_version))), '[]')
    INTO looked
    FROM sophia.read_inputs_carefully(e, (SELECT jsonb_agg(n -> 'key') FROM jsonb_array_elements(noted) AS n)) AS f;
  PERFORM sophia.forget_enriched(e, ARRAY(
    SELECT n -> 'key' FROM jsonb_array_elements(noted) AS n EXCEPT SELECT f -> 'key' FROM jsonb_array_elements(looked) AS f));
  WITH due AS (
    SELECT u.f, n.c ->> 'changes' AS changes, u.n, sum(length(u.f ->> 'input')) OVER (ORDER BY u.n) AS size,
      s.input_hash IS NOT DISTINCT FROM u.f ->> 'hash' AND NOT (u.f ->> 'is_empty')::boolean AS is_same
    FROM jsonb_array_elements(looked) WITH ORDINALITY AS u (f, n)
    JOIN jsonb_array_elements(noted) AS n (c) ON n.c -> 'key' = u.f -> 'key'
    LEFT JOIN sophia.enrichment_state AS s ON s.name = e.name AND s.key = u.f -> 'key'),
  same AS (
    DELETE FROM sophia.enrichment_queue AS q USING due AS d
    WHERE d.is_same AND q.name = e.name AND q.key = d.f -> 'key' AND q.changes = d.changes::bigint)
  SELECT jsonb_build_object('name', e.name, 'rows', jsonb_agg((d.f - 'input') || jsonb_build_object('changes', d.changes) ORDER BY d.n)),
      array_agg(d.f ->> 'input' ORDER BY d.n)
    INTO handle, inputs
    FROM due AS d WHERE NOT d.is_same AND (d.size <= 2000000 OR d.n = 1);
  IF inputs IS NULL THEN
    handle := NULL;
  END IF;
  UPDATE sophia.enrichment_queue AS q SET attempts = q.attempts + 1 FROM jsonb_array_elements(handle -> 'rows') AS r
    WHERE q.name = e.name AND q.key = r -> 'key';
END;
$$;
COMMENT ON FUNCTION sophia.next_due(sophia.enrichments) IS
  'internal: looks at the next noted rows of an enrichment, and takes those that are due; handle NULL: none of them, is_done: there were none';

CREATE FUNCTION sophia.take_enrichment(OUT handle jsonb, OUT role oid, OUT function text, OUT arguments jsonb, OUT inputs text[], OUT expects boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e sophia.enrichments;
  due record;
BEGIN
  FOR e IN SELECT n.* FROM sophia.enrichments AS n JOIN sophia.enrichment_progress AS p USING (name)
    WHERE n.enabled AND p.next_at <= clock_timestamp() ORDER BY p.turn_at
  LOOP
    BEGIN
      IF to_regclass(format('%I.%I', e.source_schema, e.source_table)) IS NULL THEN
        RAISE EXCEPTION 'table %.% does not exist', e.source_schema, e.source_table USING ERRCODE = '42P01';
      ELSIF to_regrole(quote_ident(e.role)) IS NULL THEN
        RAISE EXCEPTION 'role "%" does not exist', e.role USING ERRCODE = '42704';
      END IF;
      PERFORM sophia.pull_changes(e.name);
      FOR i IN 1 .. 100 LOOP
        SELECT d.* INTO due FROM sophia.next_due(e) AS d;
        EXIT WHEN due.is_done OR due.handle IS NOT NULL;
      END LOOP;
      UPDATE sophia.enrichment_progress AS p SET turn_at = clock_timestamp(), problem = NULL,
          next_at = clock_timestamp() + coalesce(cardinality(due.inputs) * interval '1 minute' / e.per_minute, '0')
        WHERE p.name = e.name AND (due.handle IS NOT NULL OR p.problem IS NOT NULL);
      handle := due.handle;
    EXCEPTION WHEN OTHERS THEN
      handle := NULL;
      UPDATE sophia.enrichment_progress AS p SET problem = SQLERRM, next_at = clock_timestamp() + interval '30 seconds' WHERE p.name = e.name;
    END;
    IF handle IS NOT NULL THEN
      inputs := due.inputs;
      role := to_regrole(quote_ident(e.role));
      function := e.function;
      arguments := e.arguments;
      EXIT;
    END IF;
  END LOOP;
  expects := EXISTS (SELECT FROM sophia.enrichments AS n WHERE n.enabled);
END;
$$;
COMMENT ON FUNCTION sophia.take_enrichment() IS 'internal: takes the next rows of an enrichment; expects: there is one that is not paused';

-- ---- writing results ----

CREATE FUNCTION sophia.write_columns(e sophia.enrichments, rows jsonb) RETURNS SETOF jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  source constant regclass := to_regclass(format('%I.%I', e.source_schema, e.source_table));
BEGIN
  RETURN QUERY SELECT w FROM sophia.write_as((SELECT c.relowner FROM pg_class AS c WHERE c.oid = source), format(
    'UPDATE %s AS t SET %s FROM (SELECT u.row ->> ''sha'' AS "row sha", u.row -> ''key'' AS "row key", p.* FROM jsonb_array_elements($1) AS u (row)'
    ' CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, (u.row -> ''columns'') || (u.row -> ''key'')) AS p) AS r'
    ' WHERE %s AND (SELECT x.wanted AND x.sha = r."row sha" FROM %s AS x) RETURNING r."row key"',
    source, (SELECT string_agg(format('%1$I = r.%1$I', c), ', ') FROM unnest(sophia.target_columns(e.targets)) AS c),
    source, sophia.same_key(e.key), sophia.enrichment_input(e)), rows) AS w;
END;
$$;
COMMENT ON FUNCTION sophia.write_columns(sophia.enrichments, jsonb) IS
  'internal: writes target columns as the owner of the table; returns the keys of the rows whose input was still the same';

CREATE FUNCTION sophia.write_embeddings(e sophia.enrichments, rows jsonb) RETURNS SETOF jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  source constant text := format('%I.%I', e.source_schema, e.source_table);
BEGIN
  RETURN QUERY WITH still AS (
    SELECT f.key, f.sha FROM sophia.read_inputs(e, (SELECT jsonb_agg(r -> 'key') FROM jsonb_array_elements(rows) AS r)) AS f)
  SELECT w FROM sophia.write_as((SELECT c.relowner FROM pg_class AS c WHERE c.oid = 'processed_data.embeddings'::regclass),
    'INSERT INTO processed_data.embeddings AS m (source_table, source_key, model, dimensions, input_hash, embedding)'
    ' SELECT u.source_table, u.source_key, u.model, cardinality(u.embedding), u.input_hash, u.embedding'
    ' FROM jsonb_to_recordset($1) AS u (source_table text, source_key jsonb, model text, input_hash text, embedding real[])'
    ' ON CONFLICT (source_table, source_key, model) DO UPDATE'
    '  SET dimensions = excluded.dimensions, input_hash = excluded.input_hash, embedding = excluded.embedding'
    ' RETURNING m.source_key',
    (SELECT coalesce(jsonb_agg(jsonb_build_object('source_table', source, 'source_key', s.key, 'model', r -> 'model', 'input_hash', s.sha,
        'embedding', r -> 'embedding')), '[]')
      FROM still AS s JOIN jsonb_array_elements(rows) AS r ON r -> 'key' = s.key AND r ->> 'sha' = s.sha)) AS w;
END;
$$;
COMMENT ON FUNCTION sophia.write_embeddings(sophia.enrichments, jsonb) IS
  'internal: writes processed_data.embeddings as its owner; returns the keys of the rows whose input was still the same';

CREATE FUNCTION sophia.write_rows(e sophia.enrichments, rows jsonb) RETURNS SETOF jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF e.targets ? 'embedding' AND e.targets ->> 'embedding' = 'processed_data.embeddings' THEN
    IF sophia.target_columns(e.targets) <> '{}' THEN
      PERFORM sophia.write_columns(e, rows);
    END IF;
    RETURN QUERY SELECT w FROM sophia.write_embeddings(e, rows) AS w;
  ELSE
    RETURN QUERY SELECT w FROM sophia.write_columns(e, rows) AS w;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.write_rows(sophia.enrichments, jsonb) IS 'internal: writes the results of rows; returns the keys of those whose input was still the same';

-- A row that cannot be written becomes a dead letter, and the others are written.
CREATE FUNCTION sophia.write_rows_carefully(e sophia.enrichments, rows jsonb) RETURNS SETOF jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  one jsonb;
BEGIN
  BEGIN
    RETURN QUERY SELECT w FROM sophia.write_rows(e, rows) AS w;
    RETURN;
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
  FOR one IN SELECT r FROM jsonb_array_elements(rows) AS r LOOP
    BEGIN
      RETURN QUERY SELECT w FROM sophia.write_rows(e, jsonb_build_array(one)) AS w;
    EXCEPTION WHEN OTHERS THEN
      UPDATE sophia.enrichment_queue AS q SET is_dead = true, error_code = SQLSTATE, error = SQLERRM WHERE q.name = e.name AND q.key = one -> 'key';
    END;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.write_rows_carefully(sophia.enrichments, jsonb) IS 'internal: the same as write_rows; a row that cannot be written becomes a dead letter';

CREATE FUNCTION sophia.finish_enrichment(handle jsonb, results sophia.ai_result[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e sophia.enrichments;
  outcomes jsonb;
  done jsonb[];
  failures bigint;
BEGIN
  SELECT n.* INTO e FROM sophia.enrichments AS n WHERE n.name = handle ->> 'name';
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT jsonb_agg(h.row || jsonb_build_object('is_open', r.ord IS NULL, 'error_code', r.error_code, 'error', r.error, 'model', r.model,
      'prompt_version', r.prompt_version, 'embedding', r.value,
      'columns', (SELECT coalesce(jsonb_object_agg(t.value, sophia.result_part(t.key, (r.value, r.error_code, r.error, r.provider, r.model, r.tokens_in,
          r.tokens_out, r.cost, r.cached, r.ms, r.ord, r.prompt_version)::sophia.ai_result)), '{}')
        FROM jsonb_each_text(e.targets) AS t WHERE t.value <> 'processed_data.embeddings')))
    INTO outcomes
    FROM jsonb_array_elements(handle -> 'rows') WITH ORDINALITY AS h (row, n)
    JOIN unnest(results) WITH ORDINALITY AS r (value, error_code, error, provider, model, tokens_in, tokens_out, cost, cached, ms, ord, prompt_version, n)
      USING (n);
  SELECT coalesce(array_agg(w), '{}') INTO done FROM sophia.write_rows_carefully(e, (SELECT coalesce(jsonb_agg(o), '[]')
    FROM jsonb_array_elements(outcomes) AS o WHERE o ->> 'error_code' IS NULL AND NOT (o ->> 'is_open')::boolean)) AS w;
  INSERT INTO sophia.enrichment_state AS s (name, key, input_hash, model, prompt_version, written_at)
    SELECT e.name, o -> 'key', o ->> 'hash', o ->> 'model', (o ->> 'prompt_version')::integer, clock_timestamp()
    FROM jsonb_array_elements(outcomes) AS o WHERE o -> 'key' = ANY (done)
  ON CONFLICT (name, key) DO UPDATE SET input_hash = excluded.input_hash, model = excluded.model, prompt_version = excluded.prompt_version,
    written_at = excluded.written_at;
  DELETE FROM sophia.enrichment_queue AS q USING jsonb_array_elements(outcomes) AS o
    WHERE q.name = e.name AND q.key = o -> 'key' AND q.key = ANY (done) AND q.changes = (o ->> 'changes')::bigint;
  -- What is left was cut short, has failed, or has changed meanwhile.
  UPDATE sophia.enrichment_queue AS q
    SET attempts = CASE WHEN o ->> 'error_code' IS NULL THEN q.attempts - 1 ELSE q.attempts END,
      next_at = CASE WHEN o ->> 'error_code' IS NULL THEN q.next_at ELSE clock_timestamp() + least(300, 2 ^ (q.attempts - 1)) * interval '1 second' END,
      is_dead = q.is_dead OR o ->> 'error_code' IS NOT NULL AND (NOT sophia.is_passing_error(o ->> 'error_code') OR q.attempts >= 5),
      error_code = coalesce(o ->> 'error_code', q.error_code),
      error = coalesce(o ->> 'error', q.error)
    FROM jsonb_array_elements(outcomes) AS o
    WHERE q.name = e.name AND q.key = o -> 'key' AND q.changes = (o ->> 'changes')::bigint AND NOT q.is_dead;
  SELECT count(*) INTO failures FROM jsonb_array_elements(outcomes) AS o WHERE o ->> 'error_code' IS NOT NULL;
  UPDATE sophia.enrichment_progress AS p SET written = p.written + cardinality(done), failed = p.failed + failures,
      last_written_at = CASE WHEN cardinality(done) > 0 THEN clock_timestamp() ELSE p.last_written_at END
    WHERE p.name = e.name;
END;
$$;
COMMENT ON FUNCTION sophia.finish_enrichment(jsonb, sophia.ai_result[]) IS 'internal: writes the results of rows; NULL = the call was cut short';
