-- Enrichments: columns that AI functions fill for rows that are new or have changed.
--
-- What changed comes from an exact cursor where the table has one (a column changed_xid and the primary key as key), else from a
-- trigger; either way the keys stand in enrichment_queue until they are done.  The jobs worker takes a batch of them
-- (src/ai/work.c), calls the function without a transaction, and writes each result only where the row's input is still the
-- one that was sent.  Expressions, filters and writes run as the owner of the table.

CREATE TABLE sophia.enrichments (
  name text PRIMARY KEY CHECK (name <> ''),
  source_schema text NOT NULL,
  source_table text NOT NULL,
  key text[] NOT NULL,
  input_expression text NOT NULL,
  function text NOT NULL,
  targets jsonb NOT NULL,
  filter text,
  model text,
  arguments jsonb NOT NULL,
  role name NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  per_minute integer CHECK (per_minute > 0),
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sophia.enrichments IS 'internal: what AI functions fill, see enrichment_status';
COMMENT ON COLUMN sophia.enrichments.arguments IS 'of the calls, with an empty text';
COMMENT ON COLUMN sophia.enrichments.role IS 'that created it, and is billed for the calls';
SELECT pg_catalog.pg_extension_config_dump('sophia.enrichments', '');

CREATE TABLE sophia.enrichment_state (
  name text NOT NULL REFERENCES sophia.enrichments ON DELETE CASCADE,
  key jsonb NOT NULL,
  input_hash text NOT NULL,
  model text,
  prompt_version integer,
  written_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (name, key)
);
COMMENT ON TABLE sophia.enrichment_state IS 'what each enrichment has written: a row is due when the hash of its input, function, model and prompt version is another one';
COMMENT ON COLUMN sophia.enrichment_state.key IS 'of the row: an object of its key columns';
COMMENT ON COLUMN sophia.enrichment_state.input_hash IS 'SHA-256 in hexadecimal, of input, function, model and prompt version';
COMMENT ON COLUMN sophia.enrichment_state.model IS 'that answered';
COMMENT ON COLUMN sophia.enrichment_state.prompt_version IS 'of sophia.prompts; NULL where the function has no prompt';
SELECT pg_catalog.pg_extension_config_dump('sophia.enrichment_state', '');

CREATE TABLE sophia.enrichment_queue (
  name text NOT NULL REFERENCES sophia.enrichments ON DELETE CASCADE,
  key jsonb NOT NULL,
  changes bigint NOT NULL DEFAULT 1,
  attempts integer NOT NULL DEFAULT 0,
  next_at timestamptz NOT NULL DEFAULT now(),
  is_dead boolean NOT NULL DEFAULT false,
  error_code text,
  error text,
  PRIMARY KEY (name, key)
);
COMMENT ON TABLE sophia.enrichment_queue IS 'internal: rows that may be due, and those that failed';
COMMENT ON COLUMN sophia.enrichment_queue.changes IS 'counts the changes, so that one that comes while the row is worked on is not lost';
CREATE INDEX enrichment_queue_next ON sophia.enrichment_queue (name, next_at) WHERE NOT is_dead;
COMMENT ON INDEX sophia.enrichment_queue_next IS 'internal: the order that rows are taken in';
SELECT pg_catalog.pg_extension_config_dump('sophia.enrichment_queue', '');

CREATE TABLE sophia.enrichment_progress (
  name text PRIMARY KEY REFERENCES sophia.enrichments ON DELETE CASCADE,
  next_at timestamptz NOT NULL DEFAULT now(),
  turn_at timestamptz NOT NULL DEFAULT now(),
  problem text,
  written bigint NOT NULL DEFAULT 0,
  failed bigint NOT NULL DEFAULT 0,
  last_written_at timestamptz,
  backfill_after jsonb,
  backfill_started_at timestamptz,
  backfill_ended_at timestamptz
);
COMMENT ON TABLE sophia.enrichment_progress IS 'internal: how far each enrichment is';
COMMENT ON COLUMN sophia.enrichment_progress.next_at IS 'not before then, because of its rate or a problem';
COMMENT ON COLUMN sophia.enrichment_progress.backfill_after IS 'last key that a backfill has listed';
SELECT pg_catalog.pg_extension_config_dump('sophia.enrichment_progress', '');

-- ---- the shipped ones ----

CREATE TABLE sophia.shipped_enrichments (
  name text PRIMARY KEY,
  source_schema text NOT NULL,
  source_table text NOT NULL,
  key text[] NOT NULL,
  input_expression text NOT NULL,
  function text NOT NULL,
  targets jsonb NOT NULL,
  filter text
);
COMMENT ON TABLE sophia.shipped_enrichments IS 'internal: enrichments that resume_enrichment creates';
INSERT INTO sophia.shipped_enrichments VALUES
  ('transcript_sentiment', 'gong_raw', 'call_transcripts', '{call_id,seq}', 'text', 'sentiment',
    '{"score": "sentiment_score", "label": "sentiment", "model": "sentiment_model"}', NULL),
  ('message_sentiment', 'slack_raw', 'messages', '{channel,ts}', 'text', 'sentiment',
    '{"score": "sentiment_score", "label": "sentiment", "model": "sentiment_model"}', 'NOT is_deleted'),
  ('call_summaries', 'processed_data', 'interaction_timeline', '{id}', 'body', 'summarize',
    '{"value": "summary"}', 'source_system = ''gong'''),
  ('transcript_embeddings', 'gong_raw', 'call_transcripts', '{call_id,seq}', 'text', 'embed_text',
    '{"embedding": "processed_data.embeddings"}', NULL),
  ('message_embeddings', 'slack_raw', 'messages', '{channel,ts}', 'text', 'embed_text',
    '{"embedding": "processed_data.embeddings"}', 'NOT is_deleted');

-- ---- defining ----

CREATE FUNCTION sophia.write_as(role oid, statement text, argument jsonb) RETURNS SETOF jsonb
  AS 'MODULE_PATHNAME', 'sophia_write_as' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.write_as(oid, text, jsonb) IS
  'internal: runs a statement that returns jsonb as that role, in a security-restricted context; $1 is the argument';

-- The model stands before the text in some functions, and behind it in others.
CREATE FUNCTION sophia.enrichment_arguments(function text, model text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
  IF function IN ('complete', 'count_tokens') OR function LIKE 'embed\_text\_%' THEN
    IF model IS NULL AND function = 'complete' THEN
      PERFORM sophia.check_call(function, '[""]');
      RETURN '[""]';
    END IF;
    PERFORM sophia.check_call(function, jsonb_build_array(model, ''));
    RETURN jsonb_build_array(model, '');
  END IF;
  PERFORM sophia.check_call(function, jsonb_build_array('', model));
  RETURN jsonb_build_array('', model);
END;
$$;
COMMENT ON FUNCTION sophia.enrichment_arguments(text, text) IS
  'internal: the arguments of an enrichment''s calls, with an empty text; raises an error where the function needs more, or the caller must not execute it';

CREATE FUNCTION sophia.check_targets(source regclass, targets jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parts constant text[] := '{value,score,label,embedding,model,provider,cost,tokens_in,tokens_out,prompt_version}';
  target record;
BEGIN
  IF jsonb_typeof(targets) <> 'object' OR targets = '{}' THEN
    RAISE EXCEPTION 'targets must be a JSON object of at least one part of the result' USING ERRCODE = '22023',
      HINT = 'Write {"score": "a_column", "label": "another_column"}.';
  END IF;
  FOR target IN SELECT t.key AS part, t.value, t.value #>> '{}' AS name FROM jsonb_each(targets) AS t LOOP
    IF target.part <> ALL (parts) THEN
      RAISE EXCEPTION 'unknown part "%" of a result', target.part USING ERRCODE = '22023',
        HINT = format('The parts are %s.', (SELECT string_agg(format('"%s"', p), ', ') FROM unnest(parts) AS p));
    ELSIF jsonb_typeof(target.value) <> 'string' THEN
      RAISE EXCEPTION 'target "%" must be the name of a column', target.part USING ERRCODE = '22023';
    ELSIF NOT (target.part = 'embedding' AND target.name = 'processed_data.embeddings') AND sophia.column_type(source, target.name) IS NULL THEN
      RAISE EXCEPTION 'column "%" of % does not exist', target.name, source USING ERRCODE = '42703';
    END IF;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_targets(regclass, jsonb) IS 'internal: raises an error where an enrichment cannot have these targets';

-- Made where the first enrichment wants it; as the schema's other tables, it belongs to the schema's owner.
CREATE FUNCTION sophia.create_embeddings() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner constant oid := (SELECT n.nspowner FROM pg_namespace AS n WHERE n.nspname = 'processed_data');
BEGIN
  IF owner IS NULL THEN
    RAISE EXCEPTION 'schema "processed_data" does not exist' USING ERRCODE = '3F000', HINT = 'Call sophia.create_schemas() first.';
  ELSIF to_regclass('processed_data.embeddings') IS NULL THEN
    PERFORM sophia.execute_as(owner, $create$CREATE TABLE processed_data.embeddings (
      source_table text NOT NULL, source_key jsonb NOT NULL, model text NOT NULL, dimensions integer NOT NULL, input_hash text NOT NULL,
      embedding real[] NOT NULL, PRIMARY KEY (source_table, source_key, model))$create$);
    PERFORM sophia.execute_as(owner, 'COMMENT ON TABLE processed_data.embeddings IS ''embeddings that enrichments of sophia_stack keep of rows''');
    PERFORM sophia.execute_as(owner, 'COMMENT ON COLUMN processed_data.embeddings.source_key IS ''of the row: an object of its key columns''');
    PERFORM sophia.execute_as(owner, 'COMMENT ON COLUMN processed_data.embeddings.input_hash IS ''SHA-256 of the text in hexadecimal''');
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.create_embeddings() IS 'internal: makes processed_data.embeddings where it is missing';

-- The changes of a table come from an exact cursor where it has a stamp and the key is its primary key, else from a trigger.
CREATE FUNCTION sophia.follow_changes(name text, source regclass, key text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner constant oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = source);
  consumer constant text := sophia.enrichment_consumer(follow_changes.name);
  trigger constant text := quote_ident('sophia_' || consumer);
BEGIN
  IF sophia.column_type(source, 'changed_xid') = 'xid8'
      AND (SELECT c.relkind = 'r' FROM pg_class AS c WHERE c.oid = source)
      AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = source AND i.indisprimary) = ARRAY(SELECT k FROM unnest(key) AS k ORDER BY k COLLATE "C") THEN
    PERFORM sophia.create_consumer(consumer, ARRAY[source]);
    PERFORM sophia.skip_batch(consumer), sophia.commit_batch(consumer);
    RETURN;
  END IF;
  EXECUTE format('CREATE TRIGGER %s AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION sophia.note_enrichment(%L, %s)',
    trigger, source, name, (SELECT string_agg(quote_literal(k), ', ' ORDER BY n) FROM unnest(key) WITH ORDINALITY AS u (k, n)));
  EXECUTE format('ALTER TRIGGER %s ON %s DEPENDS ON EXTENSION sophia_stack', trigger, source);
END;
$$;
COMMENT ON FUNCTION sophia.follow_changes(text, regclass, text[]) IS 'internal: has the changes of a table from now on noted for an enrichment';

CREATE FUNCTION sophia.create_enrichment(name text, source regclass, key text[], input_expression text, function text, targets jsonb,
  filter text DEFAULT NULL, model text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e sophia.enrichments;
  missing text;
BEGIN
  IF num_nulls(create_enrichment.name, source, create_enrichment.key, create_enrichment.input_expression, create_enrichment.function,
      create_enrichment.targets) > 0 THEN
    RAISE EXCEPTION 'name, source, key, input_expression, function and targets must not be null' USING ERRCODE = '22004';
  ELSIF create_enrichment.name !~ '\S' OR octet_length(create_enrichment.name) > 40 THEN
    RAISE EXCEPTION 'the name of an enrichment has 1 to 40 bytes' USING ERRCODE = '22023';
  END IF;
  PERFORM sophia.require_table_owner(source);
  IF (SELECT c.relkind NOT IN ('r', 'p') FROM pg_class AS c WHERE c.oid = source) THEN
    RAISE EXCEPTION '"%" is no table', source USING ERRCODE = '42809';
  END IF;
  SELECT k INTO missing FROM unnest(create_enrichment.key) AS k WHERE sophia.column_type(source, k) IS NULL LIMIT 1;
  IF FOUND OR cardinality(create_enrichment.key) = 0 THEN
    RAISE EXCEPTION 'column "%" of % does not exist', missing, source USING ERRCODE = '42703', HINT = 'The key names the columns that tell a row.';
  END IF;
  PERFORM sophia.check_targets(source, create_enrichment.targets);
  PERFORM sophia.require_jobs();
  IF create_enrichment.model IS NOT NULL AND NOT EXISTS (SELECT FROM sophia.models AS m WHERE m.model = create_enrichment.model) THEN
    RAISE EXCEPTION 'model "%" does not exist', create_enrichment.model USING ERRCODE = '42704', HINT = 'See sophia.models; sophia.create_model makes one.';
  END IF;
  INSERT INTO sophia.enrichments AS n (name, source_schema, source_table, key, input_expression, function, targets, filter, model, arguments, role)
    SELECT create_enrichment.name, s.nspname, c.relname, create_enrichment.key, create_enrichment.input_expression, create_enrichment.function,
      create_enrichment.targets, create_enrichment.filter, create_enrichment.model,
      sophia.enrichment_arguments(create_enrichment.function, create_enrichment.model), pg_get_userbyid(sophia.caller())
    FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace WHERE c.oid = source
  ON CONFLICT DO NOTHING RETURNING n.* INTO e;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'enrichment "%" already exists', create_enrichment.name USING ERRCODE = '42710';
  END IF;
  INSERT INTO sophia.enrichment_progress (name) VALUES (e.name);
  IF e.targets ->> 'embedding' = 'processed_data.embeddings' THEN
    PERFORM sophia.create_embeddings();
  END IF;
  -- An expression or filter that cannot be run says so now.
  PERFORM FROM sophia.read_inputs(e, '[]');
  PERFORM sophia.follow_changes(e.name, source, e.key), sophia.wake_jobs();
END;
$$;
COMMENT ON FUNCTION sophia.create_enrichment(text, regclass, text[], text, text, jsonb, text, text) IS
  'has the jobs worker fill columns of a table that the caller owns by an AI function, for rows that are new or change from now on; targets maps parts of the result (value, score, label, embedding, model, provider, cost, tokens_in, tokens_out, prompt_version) to columns';

-- A shipped one may write columns that its table has not.
CREATE FUNCTION sophia.create_shipped_enrichment(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  s sophia.shipped_enrichments;
  source regclass;
  col record;
BEGIN
  SELECT h.* INTO s FROM sophia.shipped_enrichments AS h WHERE h.name = create_shipped_enrichment.name;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'enrichment "%" does not exist', create_shipped_enrichment.name USING ERRCODE = '42704', HINT = 'See sophia.enrichment_status.';
  END IF;
  source := to_regclass(format('%I.%I', s.source_schema, s.source_table));
  IF source IS NULL THEN
    RAISE EXCEPTION 'table %.% does not exist', s.source_schema, s.source_table USING ERRCODE = '42P01', HINT = 'Call sophia.create_schemas() first.';
  END IF;
  PERFORM sophia.require_table_owner(source);
  FOR col IN SELECT t.value AS name, CASE t.key WHEN 'score' THEN 'real' ELSE 'text' END AS type FROM jsonb_each_text(s.targets) AS t
    WHERE t.key <> 'embedding' AND sophia.column_type(source, t.value) IS NULL
  LOOP
    PERFORM sophia.execute_as((SELECT c.relowner FROM pg_class AS c WHERE c.oid = source),
      format('ALTER TABLE %s ADD COLUMN %I %s', source, col.name, col.type));
    PERFORM sophia.execute_as((SELECT c.relowner FROM pg_class AS c WHERE c.oid = source),
      format('COMMENT ON COLUMN %s.%I IS %L', source, col.name, 'computed: written by enrichment ' || s.name));
  END LOOP;
  PERFORM sophia.create_enrichment(s.name, source, s.key, s.input_expression, s.function, s.targets, s.filter);
END;
$$;
COMMENT ON FUNCTION sophia.create_shipped_enrichment(text) IS 'internal: creates an enrichment that the extension brings';

-- ---- managing ----

CREATE FUNCTION sophia.require_enrichment(name text) RETURNS sophia.enrichments
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e sophia.enrichments;
  source regclass;
BEGIN
  SELECT n.* INTO e FROM sophia.enrichments AS n WHERE n.name = require_enrichment.name;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'enrichment "%" does not exist', require_enrichment.name USING ERRCODE = '42704', HINT = 'See sophia.enrichment_status.';
  END IF;
  source := to_regclass(format('%I.%I', e.source_schema, e.source_table));
  IF source IS NOT NULL THEN
    PERFORM sophia.require_table_owner(source);
  ELSIF NOT pg_has_role(sophia.caller(), to_regrole(quote_ident(e.role)), 'MEMBER') THEN
    RAISE EXCEPTION 'must be owner of enrichment "%"', e.name USING ERRCODE = '42501';
  END IF;
  RETURN e;
END;
$$;
COMMENT ON FUNCTION sophia.require_enrichment(text) IS 'internal: an enrichment; raises an error where there is none, or the caller does not own its table';

CREATE FUNCTION sophia.pause_enrichment(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e constant sophia.enrichments := sophia.require_enrichment(pause_enrichment.name);
BEGIN
  UPDATE sophia.enrichments AS n SET enabled = false WHERE n.name = e.name AND n.enabled;
END;
$$;
COMMENT ON FUNCTION sophia.pause_enrichment(text) IS 'has an enrichment rest: rows that change are noted and worked on once it is resumed';

CREATE FUNCTION sophia.resume_enrichment(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e sophia.enrichments;
BEGIN
  PERFORM sophia.require_jobs();
  IF NOT EXISTS (SELECT FROM sophia.enrichments AS n WHERE n.name = resume_enrichment.name) THEN
    PERFORM sophia.create_shipped_enrichment(resume_enrichment.name);
    RETURN;
  END IF;
  e := sophia.require_enrichment(resume_enrichment.name);
  UPDATE sophia.enrichments AS n SET enabled = true WHERE n.name = e.name AND NOT n.enabled;
  UPDATE sophia.enrichment_progress AS p SET next_at = clock_timestamp(), problem = NULL WHERE p.name = e.name;
  PERFORM sophia.wake_jobs();
END;
$$;
COMMENT ON FUNCTION sophia.resume_enrichment(text) IS 'has a paused enrichment go on, and enables one that the extension brings';

CREATE FUNCTION sophia.retry_enrichment(name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e constant sophia.enrichments := sophia.require_enrichment(retry_enrichment.name);
  n bigint;
BEGIN
  UPDATE sophia.enrichment_queue AS q SET is_dead = false, attempts = 0, next_at = clock_timestamp() WHERE q.name = e.name AND q.error_code IS NOT NULL;
  GET DIAGNOSTICS n = ROW_COUNT;
  PERFORM sophia.wake_jobs();
  RETURN n;
END;
$$;
COMMENT ON FUNCTION sophia.retry_enrichment(text) IS 'has the rows of enrichment_errors tried again; returns how many there are';

CREATE FUNCTION sophia.limit_enrichment(name text, per_minute integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e constant sophia.enrichments := sophia.require_enrichment(limit_enrichment.name);
BEGIN
  IF limit_enrichment.per_minute < 1 THEN
    RAISE EXCEPTION 'per_minute must be at least 1' USING ERRCODE = '22023', HINT = 'NULL lifts the limit; sophia.pause_enrichment() has it rest.';
  END IF;
  UPDATE sophia.enrichments AS n SET per_minute = limit_enrichment.per_minute WHERE n.name = e.name;
  UPDATE sophia.enrichment_progress AS p SET next_at = clock_timestamp() WHERE p.name = e.name AND p.problem IS NULL;
  PERFORM sophia.wake_jobs();
END;
$$;
COMMENT ON FUNCTION sophia.limit_enrichment(text, integer) IS 'how many rows of an enrichment may be sent in a minute; NULL = as many as the provider takes';

CREATE FUNCTION sophia.drop_enrichment(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e constant sophia.enrichments := sophia.require_enrichment(drop_enrichment.name);
  source constant regclass := to_regclass(format('%I.%I', e.source_schema, e.source_table));
BEGIN
  IF EXISTS (SELECT FROM sophia.consumer_state AS c WHERE c.consumer = sophia.enrichment_consumer(e.name)) THEN
    PERFORM sophia.drop_consumer(sophia.enrichment_consumer(e.name));
  END IF;
  IF source IS NOT NULL THEN
    EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', 'sophia_' || sophia.enrichment_consumer(e.name), source);
  END IF;
  DELETE FROM sophia.enrichments AS n WHERE n.name = e.name;
END;
$$;
COMMENT ON FUNCTION sophia.drop_enrichment(text) IS 'drops an enrichment; what it has written stays';

CREATE VIEW sophia.enrichment_status AS
  SELECT e.name, format('%I.%I', e.source_schema, e.source_table) AS source, e.function, e.model, e.role,
    CASE WHEN NOT e.enabled THEN 'paused' WHEN p.problem IS NOT NULL THEN 'failing' ELSE 'active' END AS state,
    (SELECT count(*) FROM sophia.enrichment_queue AS q WHERE q.name = e.name AND NOT q.is_dead) AS pending,
    (SELECT count(*) FROM sophia.enrichment_queue AS q WHERE q.name = e.name AND q.is_dead) AS dead,
    p.written, p.failed, p.last_written_at, e.per_minute, p.problem,
    CASE WHEN p.backfill_started_at IS NULL THEN NULL WHEN p.backfill_ended_at IS NULL THEN 'under way' ELSE 'done' END AS backfill
  FROM sophia.enrichments AS e JOIN sophia.enrichment_progress AS p USING (name)
  UNION ALL
  SELECT s.name, format('%I.%I', s.source_schema, s.source_table), s.function, NULL, NULL, 'off', 0, 0, 0, 0, NULL, NULL, NULL, NULL
  FROM sophia.shipped_enrichments AS s WHERE NOT EXISTS (SELECT FROM sophia.enrichments AS e WHERE e.name = s.name);
COMMENT ON VIEW sophia.enrichment_status IS 'enrichments, those that the extension brings included, and how far they are';
COMMENT ON COLUMN sophia.enrichment_status.role IS 'that created it, and is billed';
COMMENT ON COLUMN sophia.enrichment_status.state IS 'off (shipped, not enabled), active, paused, or failing: see problem';
COMMENT ON COLUMN sophia.enrichment_status.pending IS 'rows that have changed, or wait to be tried again; an exact cursor may have more';
COMMENT ON COLUMN sophia.enrichment_status.dead IS 'rows that are not tried again until they change, see enrichment_errors';
COMMENT ON COLUMN sophia.enrichment_status.written IS 'results in all';
COMMENT ON COLUMN sophia.enrichment_status.failed IS 'calls in all that failed';
COMMENT ON COLUMN sophia.enrichment_status.per_minute IS 'most rows sent in a minute, see limit_enrichment; NULL = no limit';
COMMENT ON COLUMN sophia.enrichment_status.problem IS 'what keeps it from looking for rows; it tries again every 30 seconds';
COMMENT ON COLUMN sophia.enrichment_status.backfill IS 'under way or done; NULL = there was none';

CREATE VIEW sophia.enrichment_errors AS
  SELECT q.name, q.key, q.attempts, q.is_dead, CASE WHEN NOT q.is_dead THEN q.next_at END AS next_attempt_at, q.error_code, q.error
  FROM sophia.enrichment_queue AS q WHERE q.error_code IS NOT NULL;
COMMENT ON VIEW sophia.enrichment_errors IS 'rows that enrichments could not be had for';
COMMENT ON COLUMN sophia.enrichment_errors.key IS 'of the row';
COMMENT ON COLUMN sophia.enrichment_errors.is_dead IS 'it is not tried again until the row changes, or retry_enrichment is called';

-- ---- backfill ----

CREATE FUNCTION sophia.backfill_step(name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e constant sophia.enrichments := sophia.require_enrichment(backfill_step.name);
  source constant regclass := to_regclass(format('%I.%I', e.source_schema, e.source_table));
  after jsonb;
  listed jsonb[];
BEGIN
  PERFORM sophia.require_jobs();
  SELECT p.backfill_after INTO after FROM sophia.enrichment_progress AS p WHERE p.name = e.name FOR UPDATE;
  SELECT array_agg(f.found ORDER BY f.n) INTO listed FROM sophia.query_as((SELECT c.relowner FROM pg_class AS c WHERE c.oid = source), format(
    'SELECT jsonb_build_object(%1$s) FROM %2$s AS t%3$s ORDER BY %4$s LIMIT 5000',
    (SELECT string_agg(format('%L, t.%I', k, k), ', ' ORDER BY n) FROM unnest(e.key) WITH ORDINALITY AS u (k, n)), source,
    CASE WHEN after IS NOT NULL THEN format(' CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, $1) AS r WHERE (%s) > (%s)', source,
      (SELECT string_agg(format('t.%I', k), ', ' ORDER BY n) FROM unnest(e.key) WITH ORDINALITY AS u (k, n)),
      (SELECT string_agg(format('r.%I', k), ', ' ORDER BY n) FROM unnest(e.key) WITH ORDINALITY AS u (k, n))) ELSE '' END,
    (SELECT string_agg(format('t.%I', k), ', ' ORDER BY n) FROM unnest(e.key) WITH ORDINALITY AS u (k, n))), after) AS f (n, found)
    WHERE f.found IS NOT NULL;
  INSERT INTO sophia.enrichment_queue AS q (name, key) SELECT e.name, k FROM unnest(listed) AS k
    ON CONFLICT (name, key) DO UPDATE SET is_dead = false, attempts = 0, next_at = now() WHERE q.is_dead;
  UPDATE sophia.enrichment_progress AS p SET backfill_after = listed[cardinality(listed)],
      backfill_started_at = CASE WHEN after IS NULL THEN clock_timestamp() ELSE p.backfill_started_at END,
      backfill_ended_at = CASE WHEN listed IS NULL THEN clock_timestamp() END
    WHERE p.name = e.name;
  PERFORM sophia.wake_jobs();
  RETURN coalesce(cardinality(listed), 0);
END;
$$;
COMMENT ON FUNCTION sophia.backfill_step(text) IS 'internal: notes the next rows of a table for an enrichment, in the order of their keys; returns how many';

CREATE FUNCTION sophia.backfill_left(name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  e constant sophia.enrichments := sophia.require_enrichment(backfill_left.name);
  trouble constant text := (SELECT p.problem FROM sophia.enrichment_progress AS p WHERE p.name = e.name);
BEGIN
  IF NOT e.enabled THEN
    RAISE EXCEPTION 'enrichment "%" is paused', e.name USING ERRCODE = '55000', HINT = 'Call sophia.resume_enrichment(), and the procedure again: it goes on.';
  ELSIF trouble IS NOT NULL THEN
    RAISE EXCEPTION 'enrichment "%" cannot go on: %', e.name, trouble USING ERRCODE = '55000', HINT = 'Call the procedure again when that is repaired: it goes on.';
  END IF;
  RETURN (SELECT count(*) FROM sophia.enrichment_queue AS q WHERE q.name = e.name AND NOT q.is_dead);
END;
$$;
COMMENT ON FUNCTION sophia.backfill_left(text) IS 'internal: noted rows of an enrichment that are not done';

-- It has no setting of its own and is nobody else's, or it could not commit.
CREATE PROCEDURE sophia.backfill_enrichment(name text)
LANGUAGE plpgsql AS $$
DECLARE
  listed bigint := 1;
  remaining bigint;
  told timestamptz := pg_catalog.clock_timestamp();
BEGIN
  remaining := sophia.backfill_left(backfill_enrichment.name);
  LOOP
    IF listed > 0 AND remaining < 5000 THEN
      listed := sophia.backfill_step(backfill_enrichment.name);
    END IF;
    COMMIT;
    remaining := sophia.backfill_left(backfill_enrichment.name);
    EXIT WHEN listed = 0 AND remaining = 0;
    COMMIT;
    IF listed = 0 OR remaining >= 5000 THEN
      PERFORM pg_catalog.pg_sleep(0.1);
    END IF;
    IF pg_catalog.clock_timestamp() > told + interval '10 seconds' THEN
      RAISE NOTICE 'enrichment "%": % rows are left of those that are noted', backfill_enrichment.name, remaining;
      told := pg_catalog.clock_timestamp();
    END IF;
  END LOOP;
END;
$$;
COMMENT ON PROCEDURE sophia.backfill_enrichment(text) IS
  'has an enrichment look at every row of its table, and returns when those that are due are done; commits as it goes, and goes on where it was ended';
