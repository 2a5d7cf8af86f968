-- Data quality: rules about the rows of tables, what their checks found, and the rows that are kept out of processed_data.
--
-- Every rule that looks at a row by itself becomes a condition of one query over the table, so that a check of many rules
-- reads the table once.  The query runs as the role that owned the table when the rule was added, never as the extension
-- or as whoever checks, and it only reads.  What it found is then written with the rights of the extension.

CREATE FUNCTION sophia.query_as(role oid, statement text, argument jsonb, OUT place bigint, OUT found jsonb) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_query_as' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION sophia.query_as(oid, text, jsonb) IS 'internal: rows of a query that runs as that role and only reads, without those that are NULL; the last one has the number of all';

CREATE TABLE sophia.quality_rules (
  target_schema text NOT NULL,
  target_table text NOT NULL,
  rule text NOT NULL,
  kind text NOT NULL,
  severity text NOT NULL DEFAULT 'warn',
  columns text[] NOT NULL DEFAULT '{}',
  args jsonb NOT NULL DEFAULT '{}',
  filter text,
  owner text,
  enabled boolean NOT NULL DEFAULT true,
  builtin boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (target_schema, target_table, rule)
);
COMMENT ON TABLE sophia.quality_rules IS 'rules about the rows of tables, as add_quality_rule made them or the extension brings them';
COMMENT ON COLUMN sophia.quality_rules.target_schema IS 'schema of the table';
COMMENT ON COLUMN sophia.quality_rules.target_table IS 'name of the table';
COMMENT ON COLUMN sophia.quality_rules.rule IS 'name of the rule, one of its table';
COMMENT ON COLUMN sophia.quality_rules.kind IS 'not_null, unique, regex, range, accepted, reference, freshness, volume or sql';
COMMENT ON COLUMN sophia.quality_rules.severity IS 'what a row that fails leads to: warn, quarantine or fail';
COMMENT ON COLUMN sophia.quality_rules.columns IS 'columns that the rule is about';
COMMENT ON COLUMN sophia.quality_rules.args IS 'what the kind needs beside columns';
COMMENT ON COLUMN sophia.quality_rules.filter IS 'SQL condition of the rows that are looked at; NULL = all that are not deleted';
COMMENT ON COLUMN sophia.quality_rules.owner IS 'role that the rule runs as; NULL = the owner of the table';
COMMENT ON COLUMN sophia.quality_rules.enabled IS 'whether checks run the rule';
COMMENT ON COLUMN sophia.quality_rules.builtin IS 'true for what the extension brings; other rows are dumped';
COMMENT ON COLUMN sophia.quality_rules.created_at IS 'when the rule was added';
SELECT pg_catalog.pg_extension_config_dump('sophia.quality_rules', 'WHERE NOT builtin');

CREATE TABLE sophia.quality_changes (
  target_schema text NOT NULL,
  target_table text NOT NULL,
  rule text NOT NULL,
  severity text,
  enabled boolean,
  PRIMARY KEY (target_schema, target_table, rule)
);
COMMENT ON TABLE sophia.quality_changes IS 'what alter_quality_rule changed in rules that the extension brings; dumped';
COMMENT ON COLUMN sophia.quality_changes.target_schema IS 'schema of the table';
COMMENT ON COLUMN sophia.quality_changes.target_table IS 'name of the table';
COMMENT ON COLUMN sophia.quality_changes.rule IS 'name of the rule';
COMMENT ON COLUMN sophia.quality_changes.severity IS 'severity that it has now; NULL = as the extension brings it';
COMMENT ON COLUMN sophia.quality_changes.enabled IS 'whether checks run it now; NULL = as the extension brings it';
SELECT pg_catalog.pg_extension_config_dump('sophia.quality_changes', '');

CREATE TABLE sophia.quality_results (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  target regclass NOT NULL,
  rule text NOT NULL,
  kind text NOT NULL,
  severity text NOT NULL,
  scope text NOT NULL,
  status text NOT NULL,
  rows_tested bigint,
  rows_failed bigint,
  example jsonb,
  message text,
  checked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON sophia.quality_results (target, rule, id);
COMMENT ON TABLE sophia.quality_results IS 'history of checks, a row a rule; of a check of changed rows only where it found something; state of this database, not dumped';
COMMENT ON SEQUENCE sophia.quality_results_id_seq IS 'numbers the results';
COMMENT ON COLUMN sophia.quality_results.id IS 'number of the row, growing with time';
COMMENT ON COLUMN sophia.quality_results.target IS 'table that was checked';
COMMENT ON COLUMN sophia.quality_results.rule IS 'name of the rule';
COMMENT ON COLUMN sophia.quality_results.kind IS 'kind of the rule';
COMMENT ON COLUMN sophia.quality_results.severity IS 'severity of the rule at that time';
COMMENT ON COLUMN sophia.quality_results.scope IS 'table: all rows were tested; changes: those that a refresh found changed';
COMMENT ON COLUMN sophia.quality_results.status IS 'passed, failed, or error: the rule could not be evaluated, see message';
COMMENT ON COLUMN sophia.quality_results.rows_tested IS 'rows that were looked at; NULL where the rule does not tell';
COMMENT ON COLUMN sophia.quality_results.rows_failed IS 'rows that fail; 1 of a rule about the table as a whole';
COMMENT ON COLUMN sophia.quality_results.example IS 'key of one row that fails';
COMMENT ON COLUMN sophia.quality_results.message IS 'value of that row, or why the rule could not be evaluated';
COMMENT ON COLUMN sophia.quality_results.checked_at IS 'when the check ended';

CREATE TABLE sophia.quarantine (
  target regclass NOT NULL,
  key jsonb NOT NULL,
  rule text NOT NULL,
  value text,
  first_seen_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz,
  attempts integer NOT NULL DEFAULT 1,
  PRIMARY KEY (target, key, rule)
);
CREATE INDEX ON sophia.quarantine (target, key) WHERE resolved_at IS NULL;
COMMENT ON TABLE sophia.quarantine IS 'rows that failed a rule of severity quarantine; those not resolved are left out of processed_data; state of this database, not dumped';
COMMENT ON COLUMN sophia.quarantine.target IS 'table of the row';
COMMENT ON COLUMN sophia.quarantine.key IS 'primary key of the row';
COMMENT ON COLUMN sophia.quarantine.rule IS 'rule that the row failed';
COMMENT ON COLUMN sophia.quarantine.value IS 'beginning of the value that failed, as it was last';
COMMENT ON COLUMN sophia.quarantine.first_seen_at IS 'when a check first found that the row fails';
COMMENT ON COLUMN sophia.quarantine.last_seen_at IS 'when a check last found so';
COMMENT ON COLUMN sophia.quarantine.resolved_at IS 'when a check found that the row does not fail any more, or is gone; NULL = it is quarantined';
COMMENT ON COLUMN sophia.quarantine.attempts IS 'how many checks found that the row fails';

-- Without the values, and with the rows of tables only that one may read: a refresh runs as its caller.
CREATE VIEW sophia.quarantined AS
SELECT q.target, q.key FROM sophia.quarantine AS q
WHERE q.resolved_at IS NULL AND pg_catalog.has_table_privilege(q.target, 'SELECT');
COMMENT ON VIEW sophia.quarantined IS 'internal: rows that a refresh leaves out';
GRANT SELECT ON sophia.quarantined TO PUBLIC;

CREATE FUNCTION sophia.quality_kinds() RETURNS TABLE (kind text, scope text, fewest integer, most integer, allowed text[], required text[])
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
  VALUES ('not_null', 'row', 1, 32, '{}'::text[], '{}'::text[]),
    ('regex', 'row', 1, 1, '{pattern}', '{pattern}'),
    ('range', 'row', 1, 1, '{min,max}', '{}'),
    ('accepted', 'row', 1, 1, '{values}', '{values}'),
    ('reference', 'row', 1, 32, '{table,columns}', '{table}'),
    ('sql', 'row', 0, 32, '{check,query}', '{}'),
    ('unique', 'set', 1, 32, '{}', '{}'),
    ('freshness', 'table', 1, 1, '{max_age}', '{max_age}'),
    ('volume', 'table', 0, 1, '{min,max,within}', '{}')
$$;
COMMENT ON FUNCTION sophia.quality_kinds() IS 'internal: kinds of rules: what they look at, how many columns they take, and which args';

CREATE VIEW sophia.current_quality_rules AS
SELECT c.oid::regclass AS target, r.rule, r.kind, coalesce(o.severity, r.severity) AS severity, r.columns, r.args, r.filter,
  coalesce(o.enabled, r.enabled) AS enabled, r.builtin,
  -- A rule that is a query of its own looks at the table as a set.
  CASE WHEN r.args ? 'query' THEN 'set' ELSE k.scope END AS scope,
  CASE WHEN r.owner IS NULL THEN c.relowner ELSE (SELECT a.oid FROM pg_roles AS a WHERE a.rolname = r.owner) END AS role,
  r.owner, r.created_at
FROM sophia.quality_rules AS r
JOIN sophia.quality_kinds() AS k ON k.kind = r.kind
JOIN pg_namespace AS n ON n.nspname = r.target_schema
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = r.target_table
LEFT JOIN sophia.quality_changes AS o USING (target_schema, target_table, rule);
COMMENT ON VIEW sophia.current_quality_rules IS 'internal: the rules of tables that exist, as they are set';

-- ---- rules as SQL ----

CREATE FUNCTION sophia.key_columns(target regclass) RETURNS TABLE (name text, type text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)
  FROM pg_index AS i
  CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
  WHERE i.indrelid = target AND i.indisprimary
  ORDER BY k.place
$$;
COMMENT ON FUNCTION sophia.key_columns(regclass) IS 'internal: columns of the primary key with their types, in order';

CREATE FUNCTION sophia.key_expression(target regclass, alias text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce('jsonb_build_object(' || string_agg(format('%L, %s.%I', k.name, alias, k.name), ', ') || ')', 'NULL::jsonb')
  FROM sophia.key_columns(target) AS k
$$;
COMMENT ON FUNCTION sophia.key_expression(regclass, text) IS 'internal: SQL for the key of a row; NULL where the table has no primary key';

CREATE FUNCTION sophia.among_keys(target regclass, alias text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('(%s) IN (SELECT %s FROM jsonb_to_recordset($1) AS k (%s))', string_agg(format('%s.%I', alias, k.name), ', '),
    string_agg(format('k.%I', k.name), ', '), string_agg(format('%I %s', k.name, k.type), ', '))
  FROM sophia.key_columns(target) AS k
$$;
COMMENT ON FUNCTION sophia.among_keys(regclass, text) IS 'internal: SQL condition that a row has one of the keys in $1';

CREATE FUNCTION sophia.live_condition(target regclass, filter text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT concat_ws(' AND ',
    (SELECT 't.is_deleted IS NOT TRUE' FROM pg_attribute AS a
      WHERE a.attrelid = target AND a.attname = 'is_deleted' AND a.atttypid = 'boolean'::regtype AND NOT a.attisdropped),
    -- The line break ends a comment in what users wrote.
    E'(' || filter || E'\n) IS TRUE', 'true')
$$;
COMMENT ON FUNCTION sophia.live_condition(regclass, text) IS 'internal: SQL condition of the rows that a rule looks at: not deleted, and within its filter';

CREATE FUNCTION sophia.column_type(target regclass, name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
  WHERE a.attrelid = target AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION sophia.column_type(regclass, text) IS 'internal: type of a column, NULL where there is none';

CREATE FUNCTION sophia.rule_value(columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('left(concat_ws('', '', %s), 200)', coalesce(string_agg(format('t.%I::text', c.name), ', ' ORDER BY c.place), ''''''))
  FROM unnest(columns) WITH ORDINALITY AS c (name, place)
$$;
COMMENT ON FUNCTION sophia.rule_value(text[]) IS 'internal: SQL for the beginning of the values of a row that a rule is about';

CREATE FUNCTION sophia.reference_condition(target regclass, columns text[], args jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  referenced constant oid := (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE ARRAY[n.nspname::text, c.relname::text] = parse_ident(args ->> 'table'));
  their_columns text[] := ARRAY(SELECT jsonb_array_elements_text(args -> 'columns'));
BEGIN
  IF referenced IS NULL THEN
    RAISE EXCEPTION 'table "%" does not exist', args ->> 'table' USING ERRCODE = '42P01';
  ELSIF args -> 'columns' IS NULL THEN
    their_columns := ARRAY(SELECT k.name FROM sophia.key_columns(referenced) AS k);
  END IF;
  IF cardinality(their_columns) <> cardinality(columns) THEN
    RAISE EXCEPTION 'the rule has % columns and refers to %', cardinality(columns), cardinality(their_columns)
      USING ERRCODE = '22023', HINT = 'Name the columns of the other table in args, as {"table": …, "columns": […]}.';
  END IF;
  RETURN (SELECT format('%s AND NOT EXISTS (SELECT FROM %s AS r WHERE %s)',
      string_agg(format('t.%I IS NOT NULL', c.ours), ' AND ' ORDER BY c.place), referenced::regclass,
      string_agg(format('r.%I = t.%I', c.theirs, c.ours), ' AND ' ORDER BY c.place))
    FROM unnest(columns, their_columns) WITH ORDINALITY AS c (ours, theirs, place));
END
$$;
COMMENT ON FUNCTION sophia.reference_condition(regclass, text[], jsonb) IS 'internal: SQL condition that a row refers to nothing; one with a NULL does not refer';

CREATE FUNCTION sophia.failing_condition(target regclass, kind text, columns text[], args jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  name constant text := 't.' || quote_ident(columns[1]);
  type constant text := sophia.column_type(target, columns[1]);
BEGIN
  CASE kind
    WHEN 'not_null' THEN
      RETURN (SELECT string_agg(format('t.%I IS NULL', c.name), ' OR ') FROM unnest(columns) AS c (name));
    WHEN 'regex' THEN
      RETURN format('%s::text !~ %L', name, args ->> 'pattern');
    WHEN 'range' THEN
      RETURN concat_ws(' OR ', name || ' < ' || quote_literal(args ->> 'min') || '::' || type,
        name || ' > ' || quote_literal(args ->> 'max') || '::' || type);
    WHEN 'accepted' THEN
      RETURN format('%s::text <> ALL (%L::text[])', name, ARRAY(SELECT jsonb_array_elements_text(args -> 'values')));
    WHEN 'reference' THEN
      RETURN sophia.reference_condition(target, columns, args);
    WHEN 'sql' THEN
      RETURN format(E'NOT (%s\n)', args ->> 'check');
  END CASE;
END
$$;
COMMENT ON FUNCTION sophia.failing_condition(regclass, text, text[], jsonb) IS 'internal: SQL condition that a row fails a rule; NULL passes but for not_null';

CREATE FUNCTION sophia.row_pass(target regclass, rules text[], keyed boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- One condition decides for almost every row; only for those that fail is told which rules and values.
  SELECT format('SELECT CASE WHEN %s THEN jsonb_build_object(''key'', %s, ''fails'', jsonb_strip_nulls(jsonb_object(%L::text[], ARRAY[%s]::text[]))) END FROM %s AS t WHERE %s',
    string_agg(r.condition, E'\n OR ' ORDER BY r.rule), sophia.key_expression(target, 't'), array_agg(r.rule ORDER BY r.rule),
    string_agg(format(E'CASE WHEN %s THEN %s END', r.condition, sophia.rule_value(r.columns)), E',\n ' ORDER BY r.rule), target,
    concat_ws(' AND ', sophia.live_condition(target, NULL), CASE WHEN keyed THEN sophia.among_keys(target, 't') END))
  FROM (SELECT q.rule, q.columns, concat(E'(' || q.filter || E'\n) IS TRUE AND ', '(',
      sophia.failing_condition(q.target, q.kind, q.columns, q.args), ') IS TRUE') AS condition
    FROM sophia.current_quality_rules AS q
    WHERE q.target = row_pass.target AND q.rule = ANY (rules)) AS r
$$;
COMMENT ON FUNCTION sophia.row_pass(regclass, text[], boolean) IS 'internal: the query that tests all rules about single rows in one pass';

CREATE FUNCTION sophia.unique_pass(rule sophia.current_quality_rules, keyed boolean) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  names constant text := (SELECT string_agg(format('t.%I', c.name), ', ' ORDER BY c.place)
    FROM unnest(rule.columns) WITH ORDINALITY AS c (name, place));
  shown constant text := (SELECT string_agg(DISTINCT format('t.%I', c.name), ', ')
    FROM (SELECT unnest(rule.columns) UNION SELECT k.name FROM sophia.key_columns(rule.target) AS k) AS c (name));
  condition constant text := concat_ws(' AND ', sophia.live_condition(rule.target, rule.filter),
    (SELECT string_agg(format('t.%I IS NOT NULL', c.name), ' AND ') FROM unnest(rule.columns) AS c (name)));
BEGIN
  -- Of changed rows: all rows that share their values.
  RETURN format('SELECT CASE WHEN t."how many" > 1 THEN jsonb_build_object(''key'', %s, ''fails'', jsonb_build_object(%L, %s)) END '
    'FROM (SELECT %s, count(*) OVER (PARTITION BY %s) AS "how many" FROM %s AS t WHERE %s %s) AS t',
    sophia.key_expression(rule.target, 't'), rule.rule, sophia.rule_value(rule.columns), shown, names, rule.target, condition,
    CASE WHEN keyed THEN format('AND (%s) IN (SELECT %s FROM %s AS t WHERE %s AND %s)', names, names, rule.target, condition,
      sophia.among_keys(rule.target, 't')) END);
END
$$;
COMMENT ON FUNCTION sophia.unique_pass(sophia.current_quality_rules, boolean) IS 'internal: the query that tests a rule of kind unique; a row with a NULL is equal to none';

CREATE FUNCTION sophia.table_pass(rule sophia.current_quality_rules) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- A deletion is news, too.
  condition text := sophia.live_condition(CASE WHEN rule.kind = 'volume' THEN rule.target END, rule.filter);
  measured text := 'count(*)';
  failing text;
BEGIN
  IF rule.kind = 'freshness' THEN
    measured := format('max(t.%I)', rule.columns[1]);
    failing := format('coalesce(%s < now() - %L::interval, true)', measured, rule.args ->> 'max_age');
  ELSE
    failing := concat_ws(' OR ', 'count(*) < ' || ((rule.args ->> 'min')::bigint), 'count(*) > ' || ((rule.args ->> 'max')::bigint));
    IF rule.args ? 'within' THEN
      condition := condition || format(' AND t.%I >= now() - %L::interval', rule.columns[1], rule.args ->> 'within');
    END IF;
  END IF;
  RETURN format('SELECT CASE WHEN %s THEN jsonb_build_object(''fails'', jsonb_build_object(%L, coalesce(%s::text, ''''))) END FROM %s AS t WHERE %s',
    failing, rule.rule, measured, rule.target, condition);
END
$$;
COMMENT ON FUNCTION sophia.table_pass(sophia.current_quality_rules) IS 'internal: the query that tests a rule of kind freshness or volume';

CREATE FUNCTION sophia.rule_query(rule sophia.current_quality_rules, keyed boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN rule.scope = 'row' THEN sophia.row_pass(rule.target, ARRAY[rule.rule], keyed)
    WHEN rule.kind = 'unique' THEN sophia.unique_pass(rule, keyed)
    WHEN rule.kind = 'sql' THEN
      format(E'SELECT jsonb_build_object(''key'', %s, ''fails'', jsonb_build_object(%L, '''')) FROM (%s\n) AS t %s',
        sophia.key_expression(rule.target, 't'), rule.rule, rule.args ->> 'query',
        CASE WHEN keyed THEN 'WHERE ' || sophia.among_keys(rule.target, 't') END)
    ELSE sophia.table_pass(rule) END
$$;
COMMENT ON FUNCTION sophia.rule_query(sophia.current_quality_rules, boolean) IS 'internal: the query that tests one rule';

-- ---- checks ----

CREATE FUNCTION sophia.quality_pass(target regclass, rules text[], scope text, keys jsonb)
RETURNS TABLE (rule text, rows_tested bigint, rows_failed bigint, example jsonb, value text, moved jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  one sophia.current_quality_rules;
  statement text;
BEGIN
  SELECT r.* INTO one FROM sophia.current_quality_rules AS r WHERE r.target = quality_pass.target AND r.rule = rules[1];
  IF one.role IS NULL THEN
    RAISE EXCEPTION 'role "%" does not exist', one.owner USING ERRCODE = '42704',
      HINT = 'Drop the rule and add it again.';
  END IF;
  statement := CASE quality_pass.scope WHEN 'row' THEN sophia.row_pass(target, rules, keys IS NOT NULL)
    ELSE sophia.rule_query(one, keys IS NOT NULL) END;
  RETURN QUERY
  WITH found AS MATERIALIZED (
    SELECT q.place, q.found FROM sophia.query_as(one.role, statement, keys) AS q
  ), failing AS MATERIALIZED (
    SELECT nullif(f.found -> 'key', 'null') AS key, e.rule, nullif(e.value, '') AS value
    FROM found AS f CROSS JOIN LATERAL jsonb_each_text(f.found -> 'fails') AS e (rule, value)
  ), strict AS MATERIALIZED (
    SELECT r.rule FROM sophia.current_quality_rules AS r
    WHERE r.target = quality_pass.target AND r.rule = ANY (rules) AND r.severity = 'quarantine'
  ), known AS MATERIALIZED (
    SELECT q.key, q.rule, q.resolved_at FROM sophia.quarantine AS q
    WHERE q.target = quality_pass.target AND q.rule IN (SELECT s.rule FROM strict AS s)
  ), put AS (
    INSERT INTO sophia.quarantine AS q (target, key, rule, value)
    -- A query of the user may name a row twice.
    SELECT DISTINCT ON (f.rule, f.key) quality_pass.target, f.key, f.rule, f.value FROM failing AS f JOIN strict AS s ON s.rule = f.rule
    ON CONFLICT (target, key, rule) DO UPDATE
      SET value = excluded.value, last_seen_at = excluded.last_seen_at, resolved_at = NULL, attempts = q.attempts + 1
  ), resolved AS (
    UPDATE sophia.quarantine AS q SET resolved_at = now()
    FROM known AS k
    WHERE q.target = quality_pass.target AND q.key = k.key AND q.rule = k.rule AND k.resolved_at IS NULL
      AND (keys IS NULL OR q.key IN (SELECT jsonb_array_elements(keys)))
      AND NOT EXISTS (SELECT FROM failing AS f WHERE f.key = k.key AND f.rule = k.rule)
    RETURNING q.key, q.rule
  ), moves AS (
    SELECT r.rule, r.key FROM resolved AS r
    UNION ALL
    SELECT DISTINCT f.rule, f.key FROM failing AS f JOIN strict AS s ON s.rule = f.rule
    WHERE NOT EXISTS (SELECT FROM known AS k WHERE k.key = f.key AND k.rule = f.rule AND k.resolved_at IS NULL)
  )
  SELECT r.rule,
    CASE WHEN quality_pass.scope = 'row' OR one.kind = 'unique' THEN (SELECT max(f.place) FROM found AS f) END,
    coalesce(f.n, 0), f.example, (SELECT w.value FROM failing AS w WHERE w.rule = r.rule AND w.key IS NOT DISTINCT FROM f.example LIMIT 1),
    (SELECT jsonb_agg(m.key) FROM moves AS m WHERE m.rule = r.rule)
  FROM unnest(rules) AS r (rule)
  LEFT JOIN (SELECT w.rule, count(*) AS n, min(w.key::text)::jsonb AS example FROM failing AS w GROUP BY w.rule) AS f ON f.rule = r.rule;
END
$$;
COMMENT ON FUNCTION sophia.quality_pass(regclass, text[], text, jsonb) IS 'internal: runs rules of a table in one query and brings the quarantine up to date with what it found';

CREATE FUNCTION sophia.attempt_quality_pass(target regclass, rules text[], scope text, keys jsonb)
RETURNS TABLE (rule text, rows_tested bigint, rows_failed bigint, example jsonb, value text, moved jsonb, error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  one text;
BEGIN
  BEGIN
    RETURN QUERY SELECT p.*, NULL FROM sophia.quality_pass(target, rules, scope, keys) AS p;
    RETURN;
  EXCEPTION WHEN OTHERS THEN
    -- What comes from outside the rules passes for no fault of theirs.
    IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58', 'XX') THEN
      RAISE;
    END IF;
    IF cardinality(rules) = 1 THEN
      RETURN QUERY SELECT rules[1], NULL::bigint, NULL::bigint, NULL::jsonb, NULL, NULL::jsonb, SQLERRM;
      RETURN;
    END IF;
  END;
  -- One of them cannot be evaluated: each by itself.
  FOREACH one IN ARRAY rules LOOP
    RETURN QUERY SELECT * FROM sophia.attempt_quality_pass(target, ARRAY[one], scope, keys);
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.attempt_quality_pass(regclass, text[], text, jsonb) IS 'internal: quality_pass, and each rule alone where one cannot be evaluated';

CREATE FUNCTION sophia.run_quality(target regclass, keys jsonb)
RETURNS TABLE (rule text, kind text, severity text, status text, rows_tested bigint, rows_failed bigint, example jsonb, message text, moved jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  pass record;
  tested jsonb := keys;
BEGIN
  IF NOT has_table_privilege(sophia.caller(), target, 'SELECT') THEN
    RAISE EXCEPTION 'permission denied for table %', target USING ERRCODE = '42501';
  END IF;
  -- One check of a table at a time, so that its results follow one another.
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.quality', target::oid::bigint));
  IF keys IS NOT NULL THEN
    -- Whether such a row fails depends on others: it is tested again although it did not change.
    tested := keys || coalesce((SELECT jsonb_agg(DISTINCT q.key) FROM sophia.quarantine AS q
      JOIN sophia.current_quality_rules AS r ON r.target = q.target AND r.rule = q.rule
      WHERE q.target = run_quality.target AND q.resolved_at IS NULL AND r.kind IN ('unique', 'reference', 'sql')
        AND NOT EXISTS (SELECT FROM jsonb_array_elements(keys) AS k (key) WHERE k.key = q.key)), '[]');
  END IF;
  FOR pass IN
    SELECT r.scope, array_agg(r.rule ORDER BY r.rule) AS rules
    FROM sophia.current_quality_rules AS r
    WHERE r.target = run_quality.target AND r.enabled
      -- Of a table without a key, and about a table as a whole, nothing can be told from a few rows.
      AND (keys IS NULL OR r.scope <> 'table' AND EXISTS (SELECT FROM sophia.key_columns(run_quality.target)))
    GROUP BY r.scope, r.role, CASE WHEN r.scope <> 'row' THEN r.rule END
    ORDER BY r.scope, min(r.rule)
  LOOP
    RETURN QUERY
    WITH outcome AS MATERIALIZED (
      SELECT p.rule, r.kind, r.severity,
        CASE WHEN p.error IS NOT NULL THEN 'error' WHEN p.rows_failed > 0 THEN 'failed' ELSE 'passed' END AS status,
        p.rows_tested, p.rows_failed, p.example, coalesce(p.error, p.value) AS message, p.moved
      FROM sophia.attempt_quality_pass(target, pass.rules, pass.scope, tested) AS p
      JOIN sophia.current_quality_rules AS r ON r.target = run_quality.target AND r.rule = p.rule
    ), history AS (
      INSERT INTO sophia.quality_results (target, rule, kind, severity, scope, status, rows_tested, rows_failed, example, message)
      SELECT run_quality.target, o.rule, o.kind, o.severity, CASE WHEN keys IS NULL THEN 'table' ELSE 'changes' END, o.status,
        o.rows_tested, o.rows_failed, o.example, o.message
      FROM outcome AS o
      -- Of changed rows, what passes is no news, unless it resolves something.
      WHERE keys IS NULL OR o.status <> 'passed' OR o.moved IS NOT NULL
    )
    SELECT o.* FROM outcome AS o;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.run_quality(regclass, jsonb) IS 'internal: runs the rules of a table over all rows, or over those with the keys, and records what they found';

CREATE FUNCTION sophia.touch_moved(target regclass, keys jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF jsonb_array_length(keys) > 0 AND EXISTS (SELECT FROM sophia.data_schemas AS s JOIN pg_namespace AS n ON n.nspname = s.schema_name
      JOIN pg_class AS c ON c.relnamespace = n.oid WHERE c.oid = target AND s.source IS NOT NULL) THEN
    PERFORM sophia.touch_contacts(target, keys);
    PERFORM sophia.touch_interactions(target, keys);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.touch_moved(regclass, jsonb) IS 'internal: has the next refresh write anew what is made of raw rows that were quarantined or readmitted';

CREATE FUNCTION sophia.check_quality(INOUT target regclass DEFAULT NULL, OUT rule text, OUT kind text, OUT severity text,
  OUT status text, OUT rows_tested bigint, OUT rows_failed bigint, OUT example jsonb, OUT message text)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  moved jsonb;
BEGIN
  FOR target IN SELECT * FROM sophia.quality_targets(target) LOOP
    FOR rule, kind, severity, status, rows_tested, rows_failed, example, message, moved IN SELECT * FROM sophia.run_quality(target, NULL) LOOP
      PERFORM sophia.touch_moved(target, coalesce(moved, '[]'));
      RETURN NEXT;
    END LOOP;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.check_quality(regclass) IS
  'runs the rules of a table, or of all tables that one may read, over all rows; records and returns what they found, and raises no error for it';

CREATE FUNCTION sophia.quality_targets(target regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT DISTINCT r.target FROM sophia.current_quality_rules AS r
  WHERE r.target = quality_targets.target
    OR quality_targets.target IS NULL AND has_table_privilege(sophia.caller(), r.target, 'SELECT')
  ORDER BY 1
$$;
COMMENT ON FUNCTION sophia.quality_targets(regclass) IS 'internal: tables that have rules: that one, or all that the caller may read';

CREATE FUNCTION sophia.check_changed(target regclass, keys jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  one record;
  waiting regclass;
BEGIN
  IF jsonb_array_length(keys) = 0 THEN
    RETURN;
  END IF;
  PERFORM sophia.apply_quality(target, keys);
  -- Quarantined rows that refer to what changed may refer to something now.
  FOR waiting IN SELECT * FROM sophia.quality_waiting(target) LOOP
    PERFORM sophia.apply_quality(waiting, '[]');
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.check_changed(regclass, jsonb) IS 'internal: runs the rules of a raw table over the rows with the keys, NULL = all, as a part of a refresh';

CREATE FUNCTION sophia.check_sources() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  checked regclass;
BEGIN
  FOR checked IN SELECT * FROM sophia.quality_targets_of(ARRAY(SELECT s.schema_name FROM sophia.data_schemas AS s WHERE s.source IS NOT NULL)) LOOP
    PERFORM sophia.apply_quality(checked, NULL);
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.check_sources() IS 'internal: runs the rules of the raw tables over all rows, as a part of a refresh';

CREATE FUNCTION sophia.check_written() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  checked regclass;
BEGIN
  FOR checked IN SELECT * FROM sophia.quality_targets_of('{processed_data}') LOOP
    PERFORM sophia.apply_quality(checked, NULL);
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.check_written() IS 'internal: runs the rules of the tables of processed_data over all rows, as a part of a refresh that wrote some';

CREATE FUNCTION sophia.quality_targets_of(schemas text[]) RETURNS SETOF regclass
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT DISTINCT r.target
  FROM sophia.current_quality_rules AS r
  JOIN pg_class AS c ON c.oid = r.target
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = ANY (schemas) AND r.enabled
  ORDER BY 1
$$;
COMMENT ON FUNCTION sophia.quality_targets_of(text[]) IS 'internal: tables of these schemas that have rules';

CREATE FUNCTION sophia.quality_waiting(target regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT DISTINCT r.target FROM sophia.current_quality_rules AS r
  JOIN pg_namespace AS n ON n.nspname = (parse_ident(r.args ->> 'table'))[1]
  JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = (parse_ident(r.args ->> 'table'))[2]
  WHERE r.kind = 'reference' AND c.oid = quality_waiting.target AND r.target <> quality_waiting.target
    AND EXISTS (SELECT FROM sophia.quarantine AS q WHERE q.target = r.target AND q.rule = r.rule AND q.resolved_at IS NULL)
$$;
COMMENT ON FUNCTION sophia.quality_waiting(regclass) IS 'internal: tables with quarantined rows that refer to that one';

CREATE FUNCTION sophia.apply_quality(target regclass, keys jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  one record;
BEGIN
  FOR one IN SELECT * FROM sophia.run_quality(target, keys) LOOP
    IF one.severity = 'fail' AND one.status = 'error' THEN
      RAISE EXCEPTION 'quality rule "%" of % could not be evaluated: %', one.rule, target, one.message USING ERRCODE = '23514';
    ELSIF one.severity = 'fail' AND one.status = 'failed' THEN
      RAISE EXCEPTION 'quality rule "%" of % fails for % %', one.rule, target, one.rows_failed,
          CASE one.rows_failed WHEN 1 THEN 'row' ELSE 'rows' END || coalesce(', for example ' || one.example::text, '')
        USING ERRCODE = '23514', DETAIL = coalesce('The value is "' || nullif(one.message, '') || '".', 'There is no value.'),
          HINT = 'Nothing was refreshed. Correct the rows, or change the rule by sophia.alter_quality_rule().';
    END IF;
    PERFORM sophia.touch_moved(target, coalesce(one.moved, '[]'));
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.apply_quality(regclass, jsonb) IS 'internal: runs rules as a part of a refresh; one of severity fail ends it by an error';

CREATE FUNCTION sophia.quality_failures(target regclass, rule text) RETURNS TABLE (key jsonb, value text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known sophia.current_quality_rules;
BEGIN
  known := sophia.require_quality_rule(target, rule);
  IF NOT has_table_privilege(sophia.caller(), target, 'SELECT') THEN
    RAISE EXCEPTION 'permission denied for table %', target USING ERRCODE = '42501';
  END IF;
  RETURN QUERY SELECT nullif(f.found -> 'key', 'null'), nullif(f.found #>> ARRAY['fails', known.rule], '')
    FROM sophia.query_as(known.role, sophia.rule_query(known, false), NULL) AS f WHERE f.found IS NOT NULL;
END
$$;
COMMENT ON FUNCTION sophia.quality_failures(regclass, text) IS 'keys and values of all rows that fail a rule now; records nothing';

CREATE VIEW sophia.quality_status AS
SELECT r.target, r.rule, r.kind, r.severity, r.enabled, r.builtin,
  CASE WHEN l.status = 'passed' AND i.rows > 0 THEN 'failed' ELSE coalesce(l.status, 'unchecked') END AS status,
  CASE WHEN l.scope = 'changes' AND r.severity = 'quarantine' AND l.status <> 'error' THEN i.rows ELSE l.rows_failed END AS rows_failed, l.example,
  l.message, (SELECT min(s.checked_at) FROM sophia.quality_results AS s
    WHERE s.target = r.target AND s.rule = r.rule AND s.status = l.status AND s.id > coalesce((SELECT max(d.id)
      FROM sophia.quality_results AS d WHERE d.target = r.target AND d.rule = r.rule AND d.status <> l.status), 0)) AS since,
  l.checked_at, i.rows AS rows_quarantined, l.scope
FROM sophia.current_quality_rules AS r
CROSS JOIN LATERAL (SELECT count(*) AS rows FROM sophia.quarantine AS q
  WHERE q.target = r.target AND q.rule = r.rule AND q.resolved_at IS NULL) AS i
LEFT JOIN LATERAL (SELECT s.* FROM sophia.quality_results AS s
  WHERE s.target = r.target AND s.rule = r.rule ORDER BY s.id DESC LIMIT 1) AS l ON true;
COMMENT ON VIEW sophia.quality_status IS 'the rules of the tables that exist, each with its last result';
COMMENT ON COLUMN sophia.quality_status.target IS 'table that the rule is about';
COMMENT ON COLUMN sophia.quality_status.rule IS 'name of the rule';
COMMENT ON COLUMN sophia.quality_status.kind IS 'kind of the rule';
COMMENT ON COLUMN sophia.quality_status.severity IS 'what a row that fails leads to: warn, quarantine or fail';
COMMENT ON COLUMN sophia.quality_status.enabled IS 'whether checks run the rule';
COMMENT ON COLUMN sophia.quality_status.builtin IS 'whether the extension brought the rule';
COMMENT ON COLUMN sophia.quality_status.status IS 'passed, failed, error (see message) or unchecked';
COMMENT ON COLUMN sophia.quality_status.rows_failed IS 'rows that failed in the last check, see scope; of a rule that quarantines all that fail by then';
COMMENT ON COLUMN sophia.quality_status.example IS 'key of one of them';
COMMENT ON COLUMN sophia.quality_status.message IS 'value of that row, or why the rule could not be evaluated';
COMMENT ON COLUMN sophia.quality_status.since IS 'when a check first had that status without another one since';
COMMENT ON COLUMN sophia.quality_status.checked_at IS 'when the last check was that is recorded';
COMMENT ON COLUMN sophia.quality_status.rows_quarantined IS 'rows that are quarantined because of the rule';
COMMENT ON COLUMN sophia.quality_status.scope IS 'what the last check looked at: table, or changes, the rows that a refresh found changed';

CREATE FUNCTION sophia.prune_quality(keep interval DEFAULT '90 days') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  results bigint;
  rows bigint;
BEGIN
  -- The last result of a rule is what quality_status shows.
  DELETE FROM sophia.quality_results AS r WHERE r.checked_at < now() - keep
    AND EXISTS (SELECT FROM sophia.quality_results AS later WHERE later.target = r.target AND later.rule = r.rule AND later.id > r.id);
  GET DIAGNOSTICS results = ROW_COUNT;
  DELETE FROM sophia.quarantine AS q WHERE q.resolved_at < now() - keep
    OR NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = q.target);
  GET DIAGNOSTICS rows = ROW_COUNT;
  RETURN results + rows;
END
$$;
COMMENT ON FUNCTION sophia.prune_quality(interval) IS
  'deletes results and resolved entries of the quarantine that are older, and returns how many; the last result of each rule stays';
