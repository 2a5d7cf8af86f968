-- match_records: finds alike records by the rules of their table, and makes clusters of them.
--
-- Each rule is three statements over temporary tables: its records with the values that are compared, the pairs that share
-- a block (each once, whatever finds it), and their scores.  They run as the caller, since they hold the rule's SQL; the
-- functions that write the state run with the owner's rights and get values only.

CREATE TABLE sophia.match_pairs (
  pair bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source regclass NOT NULL,
  key_a text COLLATE "C" NOT NULL,
  key_b text COLLATE "C" NOT NULL,
  rule text NOT NULL,
  score float8 NOT NULL,
  strength float8 NOT NULL,
  status text NOT NULL DEFAULT 'review' CHECK (status IN ('review', 'linked', 'same', 'different')),
  conflict text,
  evidence jsonb NOT NULL,
  run bigint NOT NULL,
  found_at timestamptz NOT NULL DEFAULT now(),
  decided_at timestamptz,
  decided_by text,
  UNIQUE (source, key_a, key_b),
  CHECK (key_a < key_b)
);
CREATE INDEX ON sophia.match_pairs (source, key_b);
CREATE INDEX ON sophia.match_pairs (score) WHERE status = 'review';
COMMENT ON TABLE sophia.match_pairs IS 'pairs of records that match rules found alike, and what was decided about them';
COMMENT ON SEQUENCE sophia.match_pairs_pair_seq IS 'numbers the pairs';
COMMENT ON COLUMN sophia.match_pairs.pair IS 'number of the pair, kept as long as it is found or decided';
COMMENT ON COLUMN sophia.match_pairs.source IS 'table of the records';
COMMENT ON COLUMN sophia.match_pairs.key_a IS 'key of the record that comes first';
COMMENT ON COLUMN sophia.match_pairs.key_b IS 'key of the other one';
COMMENT ON COLUMN sophia.match_pairs.rule IS 'rule that found it; of several, the one for which it is the strongest';
COMMENT ON COLUMN sophia.match_pairs.score IS 'sum of the weights by that rule';
COMMENT ON COLUMN sophia.match_pairs.strength IS 'score divided by link_at of the rule: 1 or more links; 0 for a rule that never links';
COMMENT ON COLUMN sophia.match_pairs.status IS 'review (waits), linked (by the rule), same or different (decided)';
COMMENT ON COLUMN sophia.match_pairs.conflict IS 'why a pair that is strong enough, or decided to be the same, did not join the clusters of both; NULL = it did, or is not';
COMMENT ON COLUMN sophia.match_pairs.evidence IS 'an object for each comparison: expr, method, both values (a, b), result and weight';
COMMENT ON COLUMN sophia.match_pairs.run IS 'run of match_records that found it last';
COMMENT ON COLUMN sophia.match_pairs.found_at IS 'when it was found first';
COMMENT ON COLUMN sophia.match_pairs.decided_at IS 'when it was decided; NULL = never';
COMMENT ON COLUMN sophia.match_pairs.decided_by IS 'role that decided';

CREATE TABLE sophia.match_clusters (
  source regclass NOT NULL,
  key text COLLATE "C" NOT NULL,
  cluster_id bigint NOT NULL,
  previous_id bigint,
  PRIMARY KEY (source, key)
);
CREATE INDEX ON sophia.match_clusters (source, cluster_id);
CREATE SEQUENCE sophia.match_cluster_id_seq;
COMMENT ON TABLE sophia.match_clusters IS 'cluster of each record of the tables that match_records was called for';
COMMENT ON SEQUENCE sophia.match_cluster_id_seq IS 'numbers the clusters';
COMMENT ON COLUMN sophia.match_clusters.source IS 'table of the record';
COMMENT ON COLUMN sophia.match_clusters.key IS 'key of the record';
COMMENT ON COLUMN sophia.match_clusters.cluster_id IS 'records of one cluster are one person; ids stay when clusters grow, merge (the oldest wins) or split (most of its records keep it)';
COMMENT ON COLUMN sophia.match_clusters.previous_id IS 'cluster before the last run of match_records; NULL for a record that is new';

SELECT pg_catalog.pg_extension_config_dump('sophia.match_pairs', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = source)');
SELECT pg_catalog.pg_extension_config_dump('sophia.match_pairs_pair_seq', '');
-- Pairs name the run that found them, so runs go on where they were.
SELECT pg_catalog.pg_extension_config_dump('sophia.match_runs_run_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.match_clusters', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = source)');
SELECT pg_catalog.pg_extension_config_dump('sophia.match_cluster_id_seq', '');

CREATE FUNCTION sophia.cluster_pairs(records integer, a integer[], b integer[], kind integer[], strength float8[],
  OUT cluster integer[], OUT first integer[], OUT second integer[], OUT outcome integer[])
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000
AS 'MODULE_PATHNAME', 'sophia_cluster_pairs_sql';
COMMENT ON FUNCTION sophia.cluster_pairs(integer, integer[], integer[], integer[], float8[]) IS
  'internal: clusters of records 1 … records by pairs (kind 0 different, 1 same, 2 links, 3 supports): the smallest record of the cluster of each; and for each pair first, second: 0 not asked, 1 joined, 2 too little support, 3 forbidden';

-- ---- writing ----

CREATE FUNCTION sophia.lock_matches(source regclass) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  -- One at a time: the second waits here until the transaction of the first has ended.
  SELECT pg_advisory_xact_lock(hashtextextended('sophia_stack.match_records', source::oid::bigint))
$$;
COMMENT ON FUNCTION sophia.lock_matches(regclass) IS 'internal: waits for whoever else is changing the pairs of a source';

CREATE FUNCTION sophia.enqueue_matches(source regclass, keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Links between contacts are links between identities, which the next refresh resolves.
  IF source = to_regclass('processed_data.unified_contacts') THEN
    INSERT INTO sophia.refresh_queue (target, key)
      SELECT DISTINCT 'identities', k FROM unnest(keys) AS k ON CONFLICT DO NOTHING;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.enqueue_matches(regclass, text[]) IS 'internal: has the identities of these records resolved anew, where they are contacts';

CREATE FUNCTION sophia.store_matches(source regclass, rule text, run bigint, keys_a text[], keys_b text[], scores float8[], evidence jsonb[])
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO sophia.match_pairs AS p (source, key_a, key_b, rule, score, strength, evidence, run)
    SELECT store_matches.source, f.key_a, f.key_b, r.rule, f.score, coalesce(f.score / r.link_at, 0), f.evidence, store_matches.run
    FROM unnest(keys_a, keys_b, scores, store_matches.evidence) AS f (key_a, key_b, score, evidence)
    JOIN sophia.match_rules AS r ON r.rule = store_matches.rule AND r.source = store_matches.source
    ON CONFLICT (source, key_a, key_b) DO UPDATE
      SET (rule, score, strength, evidence, run) = ROW (excluded.rule, excluded.score, excluded.strength, excluded.evidence, excluded.run)
      WHERE p.run < excluded.run OR (p.strength, p.score) < (excluded.strength, excluded.score)
$$;
COMMENT ON FUNCTION sophia.store_matches(regclass, text, bigint, text[], text[], float8[], jsonb[]) IS 'internal: remembers pairs that a rule found; of several rules the strongest score stays';

CREATE FUNCTION sophia.store_skipped_blocks(source regclass, rule text, blocks jsonb) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM sophia.skipped_blocks AS s WHERE s.rule = store_skipped_blocks.rule;
  INSERT INTO sophia.skipped_blocks (rule, source, blocking, value, records)
    SELECT r.rule, r.source, r.blocking[b.block], b.value, b.records
    FROM jsonb_to_recordset(blocks) AS b (block integer, value text, records bigint)
    JOIN sophia.match_rules AS r ON r.rule = store_skipped_blocks.rule AND r.source = store_skipped_blocks.source
$$;
COMMENT ON FUNCTION sophia.store_skipped_blocks(regclass, text, jsonb) IS 'internal: remembers which blocks of a rule were too large';

-- `keys` are all records of the source, or some that no pair links to others; only a whole run makes the ids that
-- there were the previous ones.
CREATE FUNCTION sophia.write_match_clusters(source regclass, keys text[], whole boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  changed text[];
BEGIN
  WITH record AS MATERIALIZED (
    SELECT k.key, row_number() OVER (ORDER BY k.key)::integer AS n
    FROM (SELECT DISTINCT u.key COLLATE "C" AS key FROM unnest(keys) AS u (key)) AS k
  ), pair AS MATERIALIZED (
    SELECT p.pair, p.status, p.conflict, p.key_a, p.key_b, a.n AS a, b.n AS b,
      CASE p.status WHEN 'different' THEN 0 WHEN 'same' THEN 1 ELSE CASE WHEN p.strength >= 1 THEN 2 ELSE 3 END END AS kind,
      CASE p.status WHEN 'same' THEN greatest(p.strength, 1) ELSE p.strength END AS strength
    FROM sophia.match_pairs AS p
    JOIN record AS a ON a.key = p.key_a
    JOIN record AS b ON b.key = p.key_b
    WHERE p.source = write_match_clusters.source
  ), clustered AS MATERIALIZED (
    SELECT c.*
    FROM (SELECT coalesce(array_agg(p.a), '{}') AS a, coalesce(array_agg(p.b), '{}') AS b, coalesce(array_agg(p.kind), '{}') AS kind,
        coalesce(array_agg(p.strength), '{}') AS strength FROM pair AS p) AS e
    CROSS JOIN LATERAL sophia.cluster_pairs((SELECT count(*)::integer FROM record), e.a, e.b, e.kind, e.strength) AS c
  ), judged AS (
    SELECT p.pair, p.key_a, p.key_b,
      CASE WHEN p.status IN ('same', 'different') THEN p.status WHEN p.kind = 2 AND o.outcome = 1 THEN 'linked' ELSE 'review' END AS status,
      CASE o.outcome WHEN 2 THEN 'too little agreement between the other records of both clusters'
        WHEN 3 THEN 'would join records that were decided to be different' END AS conflict
    FROM clustered AS c
    CROSS JOIN LATERAL unnest(c.first, c.second, c.outcome) AS o (a, b, outcome)
    JOIN pair AS p ON p.a = o.a AND p.b = o.b
  ), updated AS (
    UPDATE sophia.match_pairs AS p SET status = j.status, conflict = j.conflict
    FROM judged AS j
    WHERE p.pair = j.pair AND (p.status, p.conflict) IS DISTINCT FROM (j.status, j.conflict)
    RETURNING p.key_a, p.key_b
  ), component AS MATERIALIZED (
    SELECT r.key, u.cluster AS component, m.cluster_id AS old_id
    FROM clustered AS c
    CROSS JOIN LATERAL unnest(c.cluster) WITH ORDINALITY AS u (cluster, n)
    JOIN record AS r ON r.n = u.n
    LEFT JOIN sophia.match_clusters AS m ON m.source = write_match_clusters.source AND m.key = r.key
  ), heir AS (
    -- Of a cluster that was split, the part with most of its records may keep the id.
    SELECT DISTINCT ON (o.old_id) o.old_id, o.component
    FROM (SELECT c.old_id, c.component, count(*) AS records FROM component AS c WHERE c.old_id IS NOT NULL GROUP BY 1, 2) AS o
    ORDER BY o.old_id, o.records DESC, o.component
  ), kept AS (
    -- Of clusters that were merged, the oldest id stays.
    SELECT h.component, min(h.old_id) AS id FROM heir AS h GROUP BY 1
  ), numbered AS MATERIALIZED (
    SELECT o.component, coalesce(o.id, nextval('sophia.match_cluster_id_seq')) AS id
    FROM (SELECT c.component, k.id
      FROM (SELECT DISTINCT d.component FROM component AS d) AS c
      LEFT JOIN kept AS k ON k.component = c.component
      ORDER BY c.component) AS o
  ), written AS (
    INSERT INTO sophia.match_clusters AS m (source, key, cluster_id, previous_id)
      SELECT write_match_clusters.source, c.key, n.id, o.previous_id
      FROM component AS c
      JOIN numbered AS n ON n.component = c.component
      LEFT JOIN sophia.match_clusters AS e ON e.source = write_match_clusters.source AND e.key = c.key
      CROSS JOIN LATERAL (SELECT CASE WHEN whole THEN e.cluster_id ELSE e.previous_id END AS previous_id) AS o
      WHERE (e.cluster_id, e.previous_id) IS DISTINCT FROM (n.id, o.previous_id)
      ON CONFLICT (source, key) DO UPDATE SET cluster_id = excluded.cluster_id, previous_id = excluded.previous_id
  ), removed AS (
    DELETE FROM sophia.match_clusters AS m
    WHERE whole AND m.source = write_match_clusters.source AND NOT EXISTS (SELECT FROM record AS r WHERE r.key = m.key)
  )
  SELECT array_agg(u.key_a) || array_agg(u.key_b) INTO changed FROM updated AS u;
  PERFORM sophia.enqueue_matches(source, changed);
END;
$$;
COMMENT ON FUNCTION sophia.write_match_clusters(regclass, text[], boolean) IS 'internal: clusters these records by the pairs between them, and sets the status of these pairs';

CREATE FUNCTION sophia.begin_match_run(source regclass) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO sophia.match_runs (source) VALUES (source) RETURNING run
$$;
COMMENT ON FUNCTION sophia.begin_match_run(regclass) IS 'internal: a new run of match_records';

CREATE FUNCTION sophia.end_match_run(run bigint, source regclass, keys text[], pairs_compared bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  gone text[];
BEGIN
  WITH removed AS (
    DELETE FROM sophia.match_pairs AS p
    WHERE p.source = end_match_run.source AND p.run < end_match_run.run AND p.status IN ('review', 'linked')
    RETURNING p.key_a, p.key_b, p.status
  )
  SELECT array_agg(r.key_a) || array_agg(r.key_b) INTO gone FROM removed AS r WHERE r.status = 'linked';
  PERFORM sophia.enqueue_matches(source, gone);
  PERFORM sophia.write_match_clusters(source, keys, true);
  UPDATE sophia.match_runs AS m SET finished_at = clock_timestamp(), records = cardinality(keys),
    pairs_compared = end_match_run.pairs_compared, pairs_linked = n.linked, pairs_waiting = n.waiting, conflicts = n.conflicts,
    blocks_skipped = (SELECT count(*) FROM sophia.skipped_blocks AS s WHERE s.source = end_match_run.source)
  FROM (SELECT count(*) FILTER (WHERE p.status IN ('linked', 'same')) AS linked,
      count(*) FILTER (WHERE p.status = 'review') AS waiting, count(p.conflict) AS conflicts
    FROM sophia.match_pairs AS p WHERE p.source = end_match_run.source) AS n
  WHERE m.run = end_match_run.run;
END;
$$;
COMMENT ON FUNCTION sophia.end_match_run(bigint, regclass, text[], bigint) IS 'internal: forgets undecided pairs that a run did not find, and clusters all records';

-- ---- finding ----

-- The SQL of the score: a column for the result of each comparison (v), then for its weight (w).
CREATE FUNCTION sophia.match_statement(comparisons jsonb, review_at float8) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  item record;
  results text[] := '{}';
  weights text[] := '{}';
  sums text[] := '{}';
  evidence text[] := '{}';
BEGIN
  FOR item IN
    SELECT e.n, e.value ->> 'expr' AS expr, m.method, m.met, coalesce(e.value ->> 'null', '0') AS null_weight, e.value -> 'levels' AS levels,
      format(m.expression, 'x.c' || e.n, 'y.c' || e.n, sophia.method_schema(m.method)) AS expression
    FROM jsonb_array_elements(comparisons) WITH ORDINALITY AS e (value, n)
    JOIN sophia.match_methods AS m ON m.method = e.value ->> 'method'
    ORDER BY e.n
  LOOP
    results := results || format('(%s)::float8 AS v%s', item.expression, item.n);
    weights := weights || (SELECT format('CASE WHEN v.v%s IS NULL THEN %L::float8 %s ELSE 0 END AS w%1$s', item.n, item.null_weight,
        string_agg(format('WHEN v.v%s %s %L::float8 THEN %L::float8', item.n, CASE item.met WHEN 'at least' THEN '>=' ELSE '<=' END,
          l.value ->> 'at', l.value ->> 'weight'), ' ' ORDER BY l.n))
      FROM jsonb_array_elements(item.levels) WITH ORDINALITY AS l (value, n));
    sums := sums || format('w.w%s', item.n);
    evidence := evidence || format('jsonb_build_object(''expr'', %L::text, ''method'', %L::text, ''a'', x.c%3$s, ''b'', y.c%3$s, '
      '''result'', v.v%3$s, ''weight'', w.w%3$s)', item.expr, item.method, item.n);
  END LOOP;
  -- OFFSET 0 keeps each result from being computed once for every level.
  RETURN format(
    'CREATE TEMP TABLE sophia_match_found ON COMMIT DROP AS '
    'SELECT x.key AS key_a, y.key AS key_b, s.score, jsonb_build_array(%s) AS evidence '
    'FROM pg_temp.sophia_match_pair AS p '
    'JOIN pg_temp.sophia_match_record AS x ON x.n = p.a JOIN pg_temp.sophia_match_record AS y ON y.n = p.b '
    'CROSS JOIN LATERAL (SELECT %s OFFSET 0) AS v CROSS JOIN LATERAL (SELECT %s OFFSET 0) AS w '
    'CROSS JOIN LATERAL (SELECT %s AS score OFFSET 0) AS s WHERE s.score >= %L::float8',
    array_to_string(evidence, ', '), array_to_string(results, ', '), array_to_string(weights, ', '), array_to_string(sums, ' + '), review_at);
END;
$$;
COMMENT ON FUNCTION sophia.match_statement(jsonb, float8) IS 'internal: SQL that scores the pairs of a rule';

CREATE FUNCTION sophia.drop_match_tables() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
  DROP TABLE IF EXISTS pg_temp.sophia_match_record, pg_temp.sophia_match_block, pg_temp.sophia_match_pair, pg_temp.sophia_match_found;
END;
$$;
COMMENT ON FUNCTION sophia.drop_match_tables() IS 'internal: drops the temporary tables of match_records';

-- The records of a rule with what is compared, and the blocks they are in; returns the keys.
CREATE FUNCTION sophia.read_match_records(source regclass, rule sophia.match_rules) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relation constant text := source::text;
  compared text;
  blocks text;
  double text;
BEGIN
  PERFORM sophia.drop_match_tables();
  SELECT string_agg(format(E', (%s\n)::%s AS c%s', e.value ->> 'expr',
      CASE m.compares WHEN 'number' THEN 'double precision' WHEN 'set' THEN 'text[]' ELSE m.compares END, e.n), '' ORDER BY e.n)
    INTO compared
    FROM jsonb_array_elements(rule.comparisons) WITH ORDINALITY AS e (value, n)
    JOIN sophia.match_methods AS m ON m.method = e.value ->> 'method';
  SELECT string_agg(format(E'SELECT %s AS block, (%s\n)::text AS key, (%s\n)::text AS value FROM %s', b.n, rule.key, b.expression, relation),
      ' UNION ALL ' ORDER BY b.n)
    INTO blocks FROM unnest(rule.blocking) WITH ORDINALITY AS b (expression, n);
  PERFORM set_config('search_path', rule.search_path, true);
  EXECUTE format(E'CREATE TEMP TABLE sophia_match_record ON COMMIT DROP AS '
    'SELECT (row_number() OVER (ORDER BY s.key COLLATE "C"))::integer AS n, s.* '
    'FROM (SELECT (%s\n)::text AS key %s FROM %s) AS s WHERE s.key IS NOT NULL', rule.key, compared, relation);
  EXECUTE format('CREATE TEMP TABLE sophia_match_block ON COMMIT DROP AS SELECT DISTINCT b.block, b.value, r.n '
    'FROM (%s) AS b JOIN pg_temp.sophia_match_record AS r ON r.key = b.key WHERE b.value IS NOT NULL', blocks);
  PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
  SELECT r.key INTO double FROM pg_temp.sophia_match_record AS r GROUP BY 1 HAVING count(*) > 1 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'key "%" of match rule "%" is not unique: value "%" appears more than once', rule.key, rule.rule, double
      USING ERRCODE = '22023';
  END IF;
  ANALYZE pg_temp.sophia_match_record;
  ANALYZE pg_temp.sophia_match_block;
  RETURN ARRAY(SELECT r.key FROM pg_temp.sophia_match_record AS r);
END;
$$;
COMMENT ON FUNCTION sophia.read_match_records(regclass, sophia.match_rules) IS 'internal: the temporary tables of the records of a rule and of their blocks';

CREATE FUNCTION sophia.match_block_limit() RETURNS integer
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'sophia_match_block_limit_sql';
COMMENT ON FUNCTION sophia.match_block_limit() IS 'internal: setting sophia_stack.match_block_limit';

-- Pairs of records that share a block, each once; blocks that are too large are left out.  Returns how many there are.
CREATE FUNCTION sophia.pair_match_records(source regclass, rule text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  most constant integer := sophia.match_block_limit();
  skipped jsonb;
  pairs bigint;
BEGIN
  SELECT jsonb_agg(s) INTO skipped
    FROM (SELECT b.block, b.value, count(*) AS records FROM pg_temp.sophia_match_block AS b
      GROUP BY 1, 2 HAVING count(*) > most ORDER BY 1, 3 DESC, 2) AS s;
  PERFORM sophia.store_skipped_blocks(source, rule, coalesce(skipped, '[]'));
  IF skipped IS NOT NULL THEN
    RAISE NOTICE 'match rule "%" leaves out % blocks with more than % records: see sophia.skipped_blocks', rule,
      jsonb_array_length(skipped), most;
    DELETE FROM pg_temp.sophia_match_block AS b USING jsonb_to_recordset(skipped) AS s (block integer, value text)
      WHERE b.block = s.block AND b.value = s.value;
  END IF;
  CREATE TEMP TABLE sophia_match_pair ON COMMIT DROP AS
    SELECT DISTINCT a.n AS a, b.n AS b
    FROM pg_temp.sophia_match_block AS a
    JOIN pg_temp.sophia_match_block AS b ON b.block = a.block AND b.value = a.value AND b.n > a.n;
  GET DIAGNOSTICS pairs = ROW_COUNT;
  ANALYZE pg_temp.sophia_match_pair;
  RETURN pairs;
END;
$$;
COMMENT ON FUNCTION sophia.pair_match_records(regclass, text) IS 'internal: the temporary table of the pairs of a rule';

CREATE FUNCTION sophia.check_match_author(rule sophia.match_rules) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT coalesce((SELECT pg_has_role(a.oid, current_user, 'MEMBER') FROM pg_roles AS a WHERE a.rolname = rule.author), false) THEN
    RAISE EXCEPTION 'match rule "%" of role "%" cannot run as role "%"', rule.rule, rule.author, current_user USING ERRCODE = '42501',
      HINT = 'A rule runs with the rights of who calls match_records: its author must have these. Call it as the author, or add the rule anew.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_match_author(sophia.match_rules) IS 'internal: raises an error where the SQL of a rule would get rights that its author does not have';

CREATE FUNCTION sophia.rules_of(source regclass) RETURNS SETOF sophia.match_rules
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.* FROM sophia.match_rules AS r WHERE r.source = rules_of.source ORDER BY r.rule
$$;
COMMENT ON FUNCTION sophia.rules_of(regclass) IS 'internal: the match rules of a source, in the order they run';

CREATE PROCEDURE sophia.match_records(source regclass)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET work_mem = '128MB' SET jit = off AS $$
DECLARE
  this_run bigint;
  item sophia.match_rules;
  part record;
  keys text[];
  compared bigint := 0;
  pairs bigint;
  found bigint;
BEGIN
  IF source IS NULL THEN
    RAISE EXCEPTION 'source must not be null' USING ERRCODE = '22004';
  ELSIF NOT EXISTS (SELECT FROM sophia.rules_of(source)) THEN
    RAISE EXCEPTION 'there is no match rule for "%"', source USING ERRCODE = '42704',
      HINT = 'Add one by sophia.add_match_rule().';
  END IF;
  PERFORM sophia.lock_matches(source);
  PERFORM sophia.check_match_author(r) FROM sophia.rules_of(source) AS r;
  this_run := sophia.begin_match_run(source);
  FOR item IN SELECT r.* FROM sophia.rules_of(source) AS r LOOP
    keys := sophia.read_match_records(source, item);
    pairs := sophia.pair_match_records(source, item.rule);
    EXECUTE sophia.match_statement(item.comparisons, item.review_at);
    GET DIAGNOSTICS found = ROW_COUNT;
    RAISE NOTICE 'match rule "%": % records, % pairs compared, % of them score % or more', item.rule, cardinality(keys), pairs, found, item.review_at;
    -- In parts, so that the evidence of millions of pairs is never in one value.
    FOR part IN
      SELECT array_agg(f.key_a ORDER BY f.n) AS keys_a, array_agg(f.key_b ORDER BY f.n) AS keys_b,
        array_agg(f.score ORDER BY f.n) AS scores, array_agg(f.evidence ORDER BY f.n) AS evidence
      FROM (SELECT s.*, row_number() OVER (ORDER BY s.key_a COLLATE "C", s.key_b COLLATE "C") AS n FROM pg_temp.sophia_match_found AS s) AS f
      GROUP BY f.n / 10000 ORDER BY f.n / 10000
    LOOP
      PERFORM sophia.store_matches(source, item.rule, this_run, part.keys_a, part.keys_b, part.scores, part.evidence);
    END LOOP;
    compared := compared + pairs;
  END LOOP;
  PERFORM sophia.drop_match_tables();
  PERFORM sophia.end_match_run(this_run, source, keys, compared);
END;
$$;
COMMENT ON PROCEDURE sophia.match_records(regclass) IS
  'compares the rows of a table by its match rules: links pairs, has others wait in review_queue, and writes match_clusters';
