-- Calls of AI functions that wait in a table: submitted by sessions, run by the jobs worker (src/ai/work.c), which takes those
-- that share everything but their text as one batch.  No transaction is open while a provider works.

CREATE TABLE sophia.ai_jobs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  role oid NOT NULL,
  function text NOT NULL,
  arguments jsonb NOT NULL,
  place integer NOT NULL,
  input text,
  priority integer NOT NULL,
  max_attempts integer NOT NULL,
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed', 'cancelled')),
  attempts integer NOT NULL DEFAULT 0,
  next_at timestamptz NOT NULL DEFAULT now(),
  submitted_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz,
  result sophia.ai_result
);
COMMENT ON TABLE sophia.ai_jobs IS 'internal: the AI queue, see ai_queue; state of this database, not dumped';
COMMENT ON COLUMN sophia.ai_jobs.arguments IS 'of the function, with an empty text at place';
COMMENT ON COLUMN sophia.ai_jobs.place IS 'of the text among the arguments, from 0';
COMMENT ON SEQUENCE sophia.ai_jobs_id_seq IS 'internal: numbers of AI jobs';
CREATE INDEX ai_jobs_pending ON sophia.ai_jobs (priority DESC, id) WHERE state = 'pending';
COMMENT ON INDEX sophia.ai_jobs_pending IS 'internal: the order that jobs run in';
CREATE INDEX ai_jobs_running ON sophia.ai_jobs (id) WHERE state = 'running';
COMMENT ON INDEX sophia.ai_jobs_running IS 'internal: jobs that a batch has';
CREATE INDEX ai_jobs_finished ON sophia.ai_jobs (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON INDEX sophia.ai_jobs_finished IS 'internal: jobs by their end, for their removal';

CREATE VIEW sophia.ai_queue AS
  SELECT j.id, pg_get_userbyid(j.role) AS role, j.function, j.state, j.priority, j.attempts, j.submitted_at, j.started_at, j.finished_at,
    CASE WHEN j.state = 'pending' AND j.attempts > 0 THEN j.next_at END AS next_attempt_at,
    (j.result).model AS model, (j.result).error_code AS error_code, (j.result).error AS error
  FROM sophia.ai_jobs AS j
  WHERE pg_has_role(j.role, 'MEMBER');
COMMENT ON VIEW sophia.ai_queue IS 'AI jobs of the roles that the caller is a member of; finished ones are kept for sophia_stack.ai_queue_retention';
COMMENT ON COLUMN sophia.ai_queue.role IS 'that submitted the job, and is billed for it';
COMMENT ON COLUMN sophia.ai_queue.state IS 'pending, running, done, failed or cancelled';
COMMENT ON COLUMN sophia.ai_queue.priority IS 'jobs of a higher one run first';
COMMENT ON COLUMN sophia.ai_queue.attempts IS 'how often it was taken to be run';
COMMENT ON COLUMN sophia.ai_queue.next_attempt_at IS 'when it is tried again; NULL = it was not tried yet, or is not any more';
COMMENT ON COLUMN sophia.ai_queue.error_code IS 'SQLSTATE, of one that failed, or that waits to be tried again';

CREATE FUNCTION sophia.check_call(function text, arguments jsonb) RETURNS integer
  AS 'MODULE_PATHNAME', 'sophia_check_call' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION sophia.check_call(text, jsonb) IS 'internal: the place of the text among the arguments of an AI function; raises an error where they do not fit it, or the caller must not execute it';

CREATE FUNCTION sophia.wake_jobs() RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_wake_jobs' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION sophia.wake_jobs() IS 'internal: has the jobs worker look for work once the transaction has committed';

CREATE FUNCTION sophia.require_jobs() RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_require_jobs' LANGUAGE C STABLE;
COMMENT ON FUNCTION sophia.require_jobs() IS 'internal: raises an error where no jobs worker works for this database';

-- The arguments with an empty text at a place, which is like the one that was there: text, or JSON.
CREATE FUNCTION sophia.without_input(arguments jsonb, place integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE jsonb_typeof(arguments -> place)
    WHEN 'string' THEN jsonb_set(arguments, ARRAY[place::text], '""')
    WHEN 'array' THEN jsonb_set(arguments, ARRAY[place::text], '[]')
    WHEN 'object' THEN jsonb_set(arguments, ARRAY[place::text], '{}')
    ELSE arguments END
$$;
COMMENT ON FUNCTION sophia.without_input(jsonb, integer) IS 'internal: the arguments of a call with an empty text at its place';

-- ---- for users ----

CREATE FUNCTION sophia.submit(function text, args jsonb, options jsonb DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  unknown text;
  place integer;
  made bigint;
BEGIN
  IF submit.function IS NULL OR submit.args IS NULL THEN
    RAISE EXCEPTION '% must not be null', CASE WHEN submit.function IS NULL THEN 'function' ELSE 'args' END USING ERRCODE = '22004';
  END IF;
  submit.options := coalesce(submit.options, '{}');
  IF jsonb_typeof(submit.options) <> 'object' THEN
    RAISE EXCEPTION 'the options must be a JSON object' USING ERRCODE = '22023';
  END IF;
  SELECT k INTO unknown FROM jsonb_object_keys(submit.options) AS k WHERE k NOT IN ('attempts', 'priority') LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'unknown option "%"', unknown USING ERRCODE = '22023', HINT = 'The options are "attempts" and "priority".';
  ELSIF submit.options ? 'attempts' AND NOT submit.options @? '$.attempts ? (@.type() == "number" && @ >= 1 && @ <= 100 && @ == @.floor())' THEN
    RAISE EXCEPTION 'option "attempts" must be a whole number from 1 to 100' USING ERRCODE = '22023';
  ELSIF submit.options ? 'priority' AND NOT submit.options @? '$.priority ? (@.type() == "number" && @ >= -1000 && @ <= 1000 && @ == @.floor())' THEN
    RAISE EXCEPTION 'option "priority" must be a whole number from -1000 to 1000' USING ERRCODE = '22023';
  END IF;
  place := sophia.check_call(submit.function, submit.args);
  PERFORM sophia.require_jobs(), sophia.wake_jobs();
  INSERT INTO sophia.ai_jobs (role, function, arguments, place, input, priority, max_attempts)
    VALUES (sophia.caller(), submit.function, sophia.without_input(submit.args, place), place, submit.args ->> place,
            coalesce((submit.options ->> 'priority')::integer, 0), coalesce((submit.options ->> 'attempts')::integer, 5))
    RETURNING id INTO made;
  RETURN made;
END;
$$;
COMMENT ON FUNCTION sophia.submit(text, jsonb, jsonb) IS 'has the jobs worker call an AI function with the arguments of a JSON array once the transaction has committed; returns the id for sophia.result(). Options: priority (higher first, default 0), attempts (default 5, where the provider fails)';

CREATE FUNCTION sophia.result(id bigint, wait interval DEFAULT '0') RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_job_result' LANGUAGE C VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.result(bigint, interval) IS 'what became of a job of the caller; NULL while it is not finished, for which it waits so long';

CREATE FUNCTION sophia.cancel(id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  caller constant oid := sophia.caller();
BEGIN
  IF cancel.id IS NULL THEN
    RETURN NULL;
  END IF;
  UPDATE sophia.ai_jobs AS j SET state = 'cancelled', finished_at = clock_timestamp(),
      result = (NULL, '57014', 'the job was cancelled', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::sophia.ai_result
    WHERE j.id = cancel.id AND j.state = 'pending' AND pg_has_role(caller, j.role, 'MEMBER');
  IF FOUND THEN
    PERFORM pg_notify('sophia_ai', cancel.id::text);
    RETURN true;
  ELSIF NOT EXISTS (SELECT FROM sophia.ai_jobs AS j WHERE j.id = cancel.id AND pg_has_role(caller, j.role, 'MEMBER')) THEN
    RAISE EXCEPTION 'AI job % does not exist', cancel.id USING ERRCODE = '42704', HINT = 'See sophia.ai_queue.';
  END IF;
  RETURN false;
END;
$$;
COMMENT ON FUNCTION sophia.cancel(bigint) IS 'cancels a job of the caller that has not been taken to be run; tells whether it came in time';

-- ---- for the jobs worker ----

-- What waits longest, and what shares everything with it but the text.
CREATE FUNCTION sophia.take_jobs(OUT handle jsonb, OUT role oid, OUT function text, OUT arguments jsonb, OUT inputs text[], OUT expects boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  first sophia.ai_jobs;
BEGIN
  DELETE FROM sophia.ai_jobs AS j WHERE j.id = ANY (ARRAY(SELECT o.id FROM sophia.ai_jobs AS o
    WHERE o.finished_at < now() - current_setting('sophia_stack.ai_queue_retention')::interval ORDER BY o.finished_at LIMIT 1000 FOR UPDATE SKIP LOCKED));
  SELECT j.* INTO first FROM sophia.ai_jobs AS j WHERE j.state = 'pending' AND j.next_at <= now()
    ORDER BY j.priority DESC, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    expects := EXISTS (SELECT FROM sophia.ai_jobs AS j WHERE j.state = 'pending');
    RETURN;
  END IF;
  WITH alike AS (
    SELECT j.id, j.input FROM sophia.ai_jobs AS j
    WHERE j.state = 'pending' AND j.next_at <= now() AND j.priority = first.priority AND j.id >= first.id AND j.role = first.role
      AND j.function = first.function AND j.arguments = first.arguments
    -- Of messages each call has its own.
    ORDER BY j.priority DESC, j.id LIMIT CASE jsonb_typeof(first.arguments -> first.place) WHEN 'string' THEN 256 ELSE 1 END
    FOR UPDATE SKIP LOCKED),
  sized AS (
    SELECT a.id, a.input, sum(length(a.input)) OVER (ORDER BY a.id) AS size FROM alike AS a),
  taken AS (
    UPDATE sophia.ai_jobs AS j SET state = 'running', attempts = j.attempts + 1, started_at = clock_timestamp()
    FROM sized AS s WHERE j.id = s.id AND (s.size <= 2000000 OR s.id = first.id OR s.size IS NULL)
    RETURNING j.id, j.input)
  SELECT jsonb_agg(t.id ORDER BY t.id), array_agg(t.input ORDER BY t.id) INTO handle, inputs FROM taken AS t;
  role := first.role;
  function := first.function;
  arguments := first.arguments;
END;
$$;
COMMENT ON FUNCTION sophia.take_jobs() IS 'internal: takes the jobs of the next batch, and removes some that finished long ago; expects: there are some to be tried again later';

-- Errors that another time may not bring: the provider's, its rate, a gateway or breaker that is not there.
CREATE FUNCTION sophia.is_passing_error(code text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT code IN ('58000', '53400', '55000')
$$;
COMMENT ON FUNCTION sophia.is_passing_error(text) IS 'internal: whether a call that failed so is tried again';

CREATE FUNCTION sophia.finish_jobs(handle jsonb, results sophia.ai_result[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  WITH outcome AS (
    SELECT j.id, r.value, r.error_code, r.error, r.provider, r.model, r.tokens_in, r.tokens_out, r.cost, r.cached, r.ms, r.ord, r.prompt_version,
      CASE WHEN r.ord IS NULL THEN 'open' WHEN r.error_code IS NULL THEN 'done'
        WHEN sophia.is_passing_error(r.error_code) AND j.attempts < j.max_attempts THEN 'again' ELSE 'failed' END AS fate
    FROM jsonb_array_elements(handle) WITH ORDINALITY AS t (id, n)
    JOIN unnest(results) WITH ORDINALITY AS r (value, error_code, error, provider, model, tokens_in, tokens_out, cost, cached, ms, ord, prompt_version, n)
      USING (n)
    JOIN sophia.ai_jobs AS j ON j.id = (t.id #>> '{}')::bigint),
  finished AS (
    UPDATE sophia.ai_jobs AS j
    SET state = CASE WHEN o.fate IN ('open', 'again') THEN 'pending' ELSE o.fate END,
      attempts = j.attempts - (o.fate = 'open')::integer,
      next_at = CASE o.fate WHEN 'open' THEN j.next_at ELSE clock_timestamp() + least(300, 2 ^ (j.attempts - 1)) * interval '1 second' END,
      finished_at = CASE WHEN o.fate IN ('done', 'failed') THEN clock_timestamp() END,
      result = CASE WHEN o.fate <> 'open' THEN
        (o.value, o.error_code, o.error, o.provider, o.model, o.tokens_in, o.tokens_out, o.cost, o.cached, o.ms, 1, o.prompt_version)::sophia.ai_result END
    FROM outcome AS o
    WHERE j.id = o.id AND j.state = 'running'
    RETURNING j.id, j.finished_at)
  SELECT pg_notify('sophia_ai', f.id::text) FROM finished AS f WHERE f.finished_at IS NOT NULL
$$;
COMMENT ON FUNCTION sophia.finish_jobs(jsonb, sophia.ai_result[]) IS 'internal: writes the results of a batch; NULL = it was cut short, and the job waits again';

CREATE FUNCTION sophia.recover_jobs() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  WITH recovered AS (
    UPDATE sophia.ai_jobs AS j
    SET state = CASE WHEN j.attempts < j.max_attempts THEN 'pending' ELSE 'failed' END,
      finished_at = CASE WHEN j.attempts >= j.max_attempts THEN clock_timestamp() END,
      result = CASE WHEN j.attempts >= j.max_attempts THEN
        (NULL, 'XX000', format('the jobs worker ended %s times while the job ran', j.attempts), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::sophia.ai_result END
    WHERE j.state = 'running'
    RETURNING j.id, j.finished_at)
  SELECT pg_notify('sophia_ai', r.id::text) FROM recovered AS r WHERE r.finished_at IS NOT NULL
$$;
COMMENT ON FUNCTION sophia.recover_jobs() IS 'internal: takes back the jobs that a worker had that is gone';

-- Called by the workers that are there anyhow (src/flow/worker.c).
CREATE FUNCTION sophia.find_jobs() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM sophia.ai_jobs AS j WHERE j.state IN ('pending', 'running')) OR EXISTS (SELECT FROM sophia.enrichments AS e WHERE e.enabled) THEN
    PERFORM sophia.wake_jobs();
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.find_jobs() IS 'internal: wakes the jobs worker where something is left to do';

-- ---- ai_map ----

CREATE FUNCTION sophia.count_columns(query text) RETURNS integer
  AS 'MODULE_PATHNAME', 'sophia_count_columns' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION sophia.count_columns(text) IS 'internal: how many columns a query has';

CREATE FUNCTION sophia.call_function(function text, arguments jsonb, inputs text[]) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_call_function' LANGUAGE C VOLATILE STRICT ROWS 1000 SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.call_function(text, jsonb, text[]) IS 'internal: what an AI function gives for texts that stand for the one among the arguments';

-- Rows that share everything but their text are one call; what they do not share makes calls that come one after the other.
CREATE FUNCTION sophia.call_rows(function text, keys jsonb[], args jsonb[]) RETURNS TABLE (key jsonb, result sophia.ai_result)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  WITH rows AS (
    SELECT u.n, u.a, sophia.check_call(call_rows.function, u.a) AS place FROM unnest(args) WITH ORDINALITY AS u (a, n)),
  groups AS (
    SELECT sophia.without_input(r.a, r.place) AS arguments, array_agg(r.a ->> r.place ORDER BY r.n) AS inputs, array_agg(r.n ORDER BY r.n) AS places
    FROM rows AS r
    GROUP BY 1, CASE WHEN jsonb_typeof(r.a -> r.place) IN ('array', 'object') THEN r.n END),
  called AS MATERIALIZED (
    SELECT g.places[c.i] AS n, c.result
    FROM groups AS g
    CROSS JOIN LATERAL (SELECT row_number() OVER () AS i, f AS result FROM sophia.call_function(call_rows.function, g.arguments, g.inputs) AS f) AS c)
  SELECT keys[c.n], c.result FROM called AS c ORDER BY c.n
$$;
COMMENT ON FUNCTION sophia.call_rows(text, jsonb[], jsonb[]) IS 'internal: calls an AI function for rows of arguments, in their order';

-- STABLE has its query run read only; the rows come by a cursor, so that only a batch of them is in memory.
CREATE FUNCTION sophia.ai_map(function text, query text, options jsonb DEFAULT '{}') RETURNS TABLE (key jsonb, result sophia.ai_result)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 1000000 AS $$
#variable_conflict use_column
DECLARE
  columns integer;
  size integer;
  unknown text;
  item record;
  keys jsonb[] := '{}';
  args jsonb[] := '{}';
BEGIN
  IF ai_map.function IS NULL OR ai_map.query IS NULL THEN
    RAISE EXCEPTION '% must not be null', CASE WHEN ai_map.function IS NULL THEN 'function' ELSE 'query' END USING ERRCODE = '22004';
  ELSIF pg_catalog.jsonb_typeof(ai_map.options) <> 'object' THEN
    RAISE EXCEPTION 'the options must be a JSON object' USING ERRCODE = '22023';
  END IF;
  SELECT k INTO unknown FROM pg_catalog.jsonb_object_keys(ai_map.options) AS k WHERE k <> 'batch' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'unknown option "%"', unknown USING ERRCODE = '22023', HINT = 'The only one is "batch".';
  ELSIF ai_map.options ? 'batch' AND NOT ai_map.options @? '$.batch ? (@.type() == "number" && @ >= 1 && @ <= 100000 && @ == @.floor())' THEN
    RAISE EXCEPTION 'option "batch" must be a whole number from 1 to 100000' USING ERRCODE = '22023';
  END IF;
  size := coalesce((ai_map.options ->> 'batch')::integer, 1000);
  ai_map.query := pg_catalog.regexp_replace(ai_map.query, ';\s*$', '');
  columns := sophia.count_columns(ai_map.query);
  IF columns < 2 THEN
    RAISE EXCEPTION 'the query has % column', columns USING ERRCODE = '22023', HINT = 'The first is the key, and the others are the arguments of the function.';
  END IF;
  FOR item IN EXECUTE pg_catalog.format('SELECT pg_catalog.to_jsonb(q.k) AS key, pg_catalog.jsonb_build_array(%s) AS args FROM (%s%s) AS q (k, %s)',
    (SELECT pg_catalog.string_agg('q.a' || i, ', ' ORDER BY i) FROM pg_catalog.generate_series(2, columns) AS i), ai_map.query, E'\n',
    (SELECT pg_catalog.string_agg('a' || i, ', ' ORDER BY i) FROM pg_catalog.generate_series(2, columns) AS i))
  LOOP
    keys := keys || ARRAY[item.key];
    args := args || ARRAY[item.args];
    IF pg_catalog.cardinality(keys) >= size THEN
      RETURN QUERY SELECT r.key, r.result FROM sophia.call_rows(ai_map.function, keys, args) AS r;
      keys := '{}';
      args := '{}';
    END IF;
  END LOOP;
  IF pg_catalog.cardinality(keys) > 0 THEN
    RETURN QUERY SELECT r.key, r.result FROM sophia.call_rows(ai_map.function, keys, args) AS r;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.ai_map(text, text, jsonb) IS 'calls an AI function for each row of a query, which runs as the caller and read only: its first column is the key, the others are the arguments. For results that are too large for an array. Option: batch, rows of one call (default 1000)';
