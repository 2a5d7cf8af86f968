-- Match rules: which records of a table are compared, how, and what follows from how alike they are.
--
-- A rule is SQL of its author over the rows of a table of his.  It runs with the rights of whoever calls match_records,
-- who must therefore be a role that the author could act as anyway: otherwise a rule would be a way to another's rights.

CREATE VIEW sophia.match_methods AS
SELECT m.method, m.compares, m.met, m.extension, m.expression, m.meaning
FROM (VALUES
  ('exact', 'text', 'at least', NULL, '(%1$s = %2$s)::integer', '1 where both values are equal, else 0'),
  ('jaro', 'text', 'at least', NULL, 'sophia.jaro(%1$s, %2$s)', 'Jaro similarity, 0 to 1'),
  ('jaro_winkler', 'text', 'at least', NULL, 'sophia.jaro_winkler(%1$s, %2$s)', 'Jaro-Winkler similarity, 0 to 1'),
  ('levenshtein', 'text', 'at least', NULL, 'sophia.levenshtein_similarity(%1$s, %2$s)',
   '1 minus the edit distance divided by the length of the longer value'),
  ('name', 'text', 'at least', NULL, 'sophia.name_similarity(%1$s, %2$s)',
   'similarity of names whatever the order of their words, 0 to 1'),
  ('tokens', 'text', 'at least', NULL, 'sophia.token_similarity(%1$s, %2$s)', 'share of words in common, 0 to 1'),
  ('trigram', 'text', 'at least', 'pg_trgm', '%3$I.similarity(%1$s, %2$s)', 'share of trigrams in common, 0 to 1'),
  ('metaphone', 'text', 'at least', 'fuzzystrmatch',
   '(nullif(%3$I.dmetaphone(%1$s), '''') = nullif(%3$I.dmetaphone(%2$s), ''''))::integer',
   '1 where both sound alike in English (double metaphone), else 0'),
  ('soundex', 'text', 'at least', 'fuzzystrmatch', '%3$I.difference(%1$s, %2$s) / 4.0',
   'share of the soundex code in common, 0 to 1'),
  ('overlap', 'set', 'at least', NULL, '(nullif(%1$s, ''{}'') && nullif(%2$s, ''{}''))::integer',
   '1 where two arrays have an element in common, else 0; an empty one counts as null'),
  ('edit_distance', 'text', 'at most', NULL, 'sophia.levenshtein(%1$s, %2$s)',
   'characters to insert, delete or replace'),
  ('number_distance', 'number', 'at most', NULL, 'abs(%1$s - %2$s)', 'difference of two numbers'),
  ('day_distance', 'date', 'at most', NULL, 'abs(%1$s - %2$s)', 'days between two dates'))
  AS m (method, compares, met, extension, expression, meaning);
COMMENT ON VIEW sophia.match_methods IS 'methods of the comparisons of match rules';
COMMENT ON COLUMN sophia.match_methods.method IS 'name of the method';
COMMENT ON COLUMN sophia.match_methods.compares IS 'what it compares: text (any value as text), set (arrays), number or date';
COMMENT ON COLUMN sophia.match_methods.met IS 'a level is met where the result is at least, or at most, its "at"';
COMMENT ON COLUMN sophia.match_methods.extension IS 'extension that it needs; NULL = none';
COMMENT ON COLUMN sophia.match_methods.expression IS 'SQL of the result, for format(): both values and the schema of the extension';
COMMENT ON COLUMN sophia.match_methods.meaning IS 'what the result says';
GRANT SELECT ON sophia.match_methods TO PUBLIC;

CREATE TABLE sophia.match_rules (
  rule text PRIMARY KEY,
  source regclass NOT NULL,
  key text NOT NULL,
  blocking text[] NOT NULL,
  comparisons jsonb NOT NULL,
  review_at float8 NOT NULL,
  link_at float8,
  search_path text NOT NULL,
  author text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON sophia.match_rules (source);
COMMENT ON TABLE sophia.match_rules IS 'rules that find records of one person, or of one thing, by how alike they are; see sophia.add_match_rule';
COMMENT ON COLUMN sophia.match_rules.rule IS 'name of the rule';
COMMENT ON COLUMN sophia.match_rules.source IS 'table or view whose rows are compared';
COMMENT ON COLUMN sophia.match_rules.key IS 'SQL expression that tells its rows apart, the same for all rules of the source';
COMMENT ON COLUMN sophia.match_rules.blocking IS 'SQL expressions: rows are compared where one of them is equal';
COMMENT ON COLUMN sophia.match_rules.comparisons IS 'what is compared, how, and the weights of the levels';
COMMENT ON COLUMN sophia.match_rules.review_at IS 'a pair of this score or more waits for review';
COMMENT ON COLUMN sophia.match_rules.link_at IS 'a pair of this score or more is linked; NULL = never';
COMMENT ON COLUMN sophia.match_rules.search_path IS 'where names in the expressions are looked up: as it was when the rule was added';
COMMENT ON COLUMN sophia.match_rules.author IS 'role that added the rule; it runs only for roles that this one may act as';
COMMENT ON COLUMN sophia.match_rules.created_at IS 'when the rule was added';
SELECT pg_catalog.pg_extension_config_dump('sophia.match_rules', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = source)');

CREATE TABLE sophia.match_runs (
  run bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source regclass NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  records bigint NOT NULL DEFAULT 0,
  pairs_compared bigint NOT NULL DEFAULT 0,
  pairs_linked bigint NOT NULL DEFAULT 0,
  pairs_waiting bigint NOT NULL DEFAULT 0,
  conflicts bigint NOT NULL DEFAULT 0,
  blocks_skipped bigint NOT NULL DEFAULT 0
);
CREATE INDEX ON sophia.match_runs (source, run);
COMMENT ON TABLE sophia.match_runs IS 'runs of match_records; state of this database, not dumped';
COMMENT ON SEQUENCE sophia.match_runs_run_seq IS 'numbers the runs of match_records';
COMMENT ON COLUMN sophia.match_runs.run IS 'number of the run';
COMMENT ON COLUMN sophia.match_runs.source IS 'table whose rows were compared';
COMMENT ON COLUMN sophia.match_runs.started_at IS 'when it started, after it had waited for another one';
COMMENT ON COLUMN sophia.match_runs.finished_at IS 'when it ended; its changes are visible when its transaction commits';
COMMENT ON COLUMN sophia.match_runs.records IS 'rows of the source that have a key';
COMMENT ON COLUMN sophia.match_runs.pairs_compared IS 'pairs that were compared, summed over the rules';
COMMENT ON COLUMN sophia.match_runs.pairs_linked IS 'pairs that are linked now, by rule or by decision';
COMMENT ON COLUMN sophia.match_runs.pairs_waiting IS 'pairs that wait for review now';
COMMENT ON COLUMN sophia.match_runs.conflicts IS 'of these: pairs strong enough to link whose clusters were not joined';
COMMENT ON COLUMN sophia.match_runs.blocks_skipped IS 'blocks that were too large to compare: see sophia.skipped_blocks';

CREATE TABLE sophia.skipped_blocks (
  rule text NOT NULL REFERENCES sophia.match_rules ON DELETE CASCADE,
  source regclass NOT NULL,
  blocking text NOT NULL,
  value text NOT NULL,
  records bigint NOT NULL
);
CREATE INDEX ON sophia.skipped_blocks (rule);
COMMENT ON TABLE sophia.skipped_blocks IS 'blocks with more records than sophia_stack.match_block_limit, which the last match_records did not compare; state, not dumped';
COMMENT ON COLUMN sophia.skipped_blocks.rule IS 'match rule';
COMMENT ON COLUMN sophia.skipped_blocks.source IS 'table whose rows share the value';
COMMENT ON COLUMN sophia.skipped_blocks.blocking IS 'blocking expression';
COMMENT ON COLUMN sophia.skipped_blocks.value IS 'value that too many records share';
COMMENT ON COLUMN sophia.skipped_blocks.records IS 'number of records';

-- ---- adding and dropping ----

CREATE FUNCTION sophia.check_match_levels(levels jsonb, method text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF jsonb_typeof(levels) IS DISTINCT FROM 'array' OR levels = '[]' OR EXISTS (
    SELECT FROM jsonb_array_elements(levels) AS l (item)
    WHERE CASE WHEN jsonb_typeof(item) = 'object' THEN jsonb_typeof(item -> 'at') IS DISTINCT FROM 'number'
      OR jsonb_typeof(item -> 'weight') IS DISTINCT FROM 'number' OR item - 'at' - 'weight' <> '{}' ELSE true END)
  THEN
    RAISE EXCEPTION 'levels of method "%" must be an array of {"at": number, "weight": number}, not %',
      method, coalesce(levels::text, 'null') USING ERRCODE = '22023';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_match_levels(jsonb, text) IS 'internal: raises an error where these cannot be the levels of a comparison';

CREATE FUNCTION sophia.check_match_comparisons(comparisons jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  item jsonb;
  unknown text;
BEGIN
  IF jsonb_typeof(comparisons) <> 'array' OR comparisons = '[]' THEN
    RAISE EXCEPTION 'comparisons must be an array of objects, with one at least' USING ERRCODE = '22023';
  END IF;
  FOR item IN SELECT e.value FROM jsonb_array_elements(comparisons) AS e LOOP
    IF jsonb_typeof(item) <> 'object' OR jsonb_typeof(item -> 'expr') IS DISTINCT FROM 'string'
      OR jsonb_typeof(item -> 'method') IS DISTINCT FROM 'string' THEN
      RAISE EXCEPTION 'a comparison must be an object with texts "expr" and "method", not %', item USING ERRCODE = '22023';
    END IF;
    SELECT k INTO unknown FROM jsonb_object_keys(item) AS k WHERE k NOT IN ('expr', 'method', 'levels', 'null');
    IF FOUND THEN
      RAISE EXCEPTION 'unknown key "%" of a comparison', unknown USING ERRCODE = '22023',
        HINT = 'Keys are expr, method, levels and null.';
    END IF;
    IF NOT EXISTS (SELECT FROM sophia.match_methods AS m WHERE m.method = item ->> 'method') THEN
      RAISE EXCEPTION 'unknown method "%"', item ->> 'method' USING ERRCODE = '22023',
        HINT = format('Methods are %s.', (SELECT string_agg(m.method, ', ' ORDER BY m.method) FROM sophia.match_methods AS m));
    END IF;
    IF jsonb_typeof(item -> 'null') <> 'number' THEN
      RAISE EXCEPTION 'weight of null must be a number, not %', item -> 'null' USING ERRCODE = '22023';
    END IF;
    PERFORM sophia.check_match_levels(item -> 'levels', item ->> 'method');
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_match_comparisons(jsonb) IS 'internal: raises an error where these cannot be the comparisons of a match rule';

CREATE FUNCTION sophia.method_schema(method text) RETURNS name
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  needed text;
  found name;
BEGIN
  SELECT m.extension, n.nspname INTO needed, found
  FROM sophia.match_methods AS m
  LEFT JOIN pg_extension AS e ON e.extname = m.extension
  LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace
  WHERE m.method = method_schema.method;
  IF needed IS NOT NULL AND found IS NULL THEN
    RAISE EXCEPTION 'method "%" needs extension "%"', method, needed USING ERRCODE = '55000',
      HINT = format('Run CREATE EXTENSION %I.', needed);
  END IF;
  RETURN found;
END;
$$;
COMMENT ON FUNCTION sophia.method_schema(text) IS 'internal: schema of the extension that a method needs; an error where it is not installed';

CREATE FUNCTION sophia.try_match_expression(source regclass, expression text, search_path text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  statement constant text := format(E'SELECT pg_catalog.pg_typeof((SELECT (%s\n) FROM %s LIMIT 0))', expression, source);
  found text;
BEGIN
  PERFORM set_config('search_path', try_match_expression.search_path, true);
  EXECUTE statement INTO found;
  RETURN found;
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE;
  WHEN OTHERS THEN
    RAISE EXCEPTION 'expression "%" cannot be evaluated over "%": %', expression, source, SQLERRM USING ERRCODE = '22023';
END;
$$;
COMMENT ON FUNCTION sophia.try_match_expression(regclass, text, text) IS 'internal: type of an expression over the rows of a table, with the rights of the caller';

CREATE FUNCTION sophia.try_match_rule(source regclass, key text, blocking text[], comparisons jsonb, search_path text)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  item record;
  found text;
BEGIN
  IF source IS NULL OR key IS NULL OR blocking IS NULL OR comparisons IS NULL THEN
    RAISE EXCEPTION 'source, key, blocking and comparisons must not be null' USING ERRCODE = '22004';
  ELSIF cardinality(blocking) = 0 OR array_position(blocking, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'blocking must hold one expression at least, and no null' USING ERRCODE = '22023',
      HINT = 'Without blocking every row would be compared with every other one.';
  END IF;
  PERFORM sophia.check_match_comparisons(comparisons);
  PERFORM sophia.try_match_expression(source, e, try_match_rule.search_path) FROM unnest(array_prepend(key, blocking)) AS e;
  FOR item IN
    SELECT e.value ->> 'expr' AS expr, m.method, m.compares
    FROM jsonb_array_elements(comparisons) AS e JOIN sophia.match_methods AS m ON m.method = e.value ->> 'method'
  LOOP
    PERFORM sophia.method_schema(item.method);
    found := sophia.try_match_expression(source, item.expr, try_match_rule.search_path);
    IF item.compares = 'set' AND found NOT LIKE '%[]'
      OR item.compares = 'number' AND found NOT IN ('smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision')
      OR item.compares = 'date' AND found NOT IN ('date', 'timestamp without time zone', 'timestamp with time zone') THEN
      RAISE EXCEPTION 'method "%" compares values of type %, but expression "%" has type %',
        item.method, CASE item.compares WHEN 'set' THEN 'array' ELSE item.compares END, item.expr, found USING ERRCODE = '22023';
    END IF;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.try_match_rule(regclass, text, text[], jsonb, text) IS 'internal: raises an error where a match rule could not run, with the rights of the caller';

CREATE FUNCTION sophia.store_match_rule(rule text, source regclass, key text, blocking text[], comparisons jsonb, review_at float8,
  link_at float8, search_path text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  other record;
BEGIN
  PERFORM sophia.check_name('rule', store_match_rule.rule);
  IF store_match_rule.review_at IS NULL THEN
    RAISE EXCEPTION 'review_at must not be null' USING ERRCODE = '22004';
  ELSIF store_match_rule.link_at < store_match_rule.review_at OR store_match_rule.link_at <= 0
    OR 'Infinity' IN (abs(store_match_rule.review_at), store_match_rule.link_at)
    OR 'NaN' IN (store_match_rule.review_at, store_match_rule.link_at) THEN
    RAISE EXCEPTION 'link_at must be greater than 0, and not less than review_at' USING ERRCODE = '22023',
      HINT = 'NULL never links: every pair waits for review.';
  END IF;
  SELECT r.rule, r.key INTO other FROM sophia.match_rules AS r
    WHERE r.source = store_match_rule.source AND r.key <> store_match_rule.key AND r.rule <> store_match_rule.rule LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'rules of one source must have the same key: "%", as rule "%" has', other.key, other.rule USING ERRCODE = '22023';
  END IF;
  INSERT INTO sophia.match_rules (rule, source, key, blocking, comparisons, review_at, link_at, search_path, author)
    VALUES (store_match_rule.rule, store_match_rule.source, store_match_rule.key, store_match_rule.blocking,
      store_match_rule.comparisons, store_match_rule.review_at, store_match_rule.link_at, store_match_rule.search_path,
      pg_get_userbyid(sophia.caller()))
    ON CONFLICT (rule) DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'match rule "%" exists already', store_match_rule.rule USING ERRCODE = '42710',
      HINT = 'To change a rule, drop it by sophia.drop_match_rule() and add it again in one transaction.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.store_match_rule(text, regclass, text, text[], jsonb, float8, float8, text) IS 'internal: remembers a match rule that was tried, with its author';

CREATE FUNCTION sophia.caller_search_path() RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT pg_catalog.concat_ws(', ', 'pg_catalog', pg_catalog.string_agg(pg_catalog.quote_ident(s), ', ' ORDER BY n), 'pg_temp')
  FROM ROWS FROM (pg_catalog.unnest(pg_catalog.current_schemas(false))) WITH ORDINALITY AS p (s, n)
  WHERE s OPERATOR(pg_catalog.<>) 'pg_catalog'::name);
COMMENT ON FUNCTION sophia.caller_search_path() IS 'internal: the search_path of the session with pg_catalog first, for expressions that are looked up later';

-- Not in PL/pgSQL: a SET clause, which every function of that kind has, would hide the caller's search_path.
CREATE FUNCTION sophia.add_match_rule(rule text, source regclass, key text, blocking text[], comparisons jsonb, review_at float8,
  link_at float8 DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  SELECT sophia.try_match_rule(add_match_rule.source, add_match_rule.key, add_match_rule.blocking, add_match_rule.comparisons,
    sophia.caller_search_path());
  SELECT sophia.store_match_rule(add_match_rule.rule, add_match_rule.source, add_match_rule.key, add_match_rule.blocking,
    add_match_rule.comparisons, add_match_rule.review_at, add_match_rule.link_at, sophia.caller_search_path());
END;
COMMENT ON FUNCTION sophia.add_match_rule(text, regclass, text, text[], jsonb, float8, float8) IS
  'adds a rule that finds alike records of a table: pairs of a score of review_at or more wait for review, those of link_at or more are linked; match_records applies it';
