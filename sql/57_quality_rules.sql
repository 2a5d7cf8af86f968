-- Rules of data quality: how they are added, altered and dropped, and those that the extension brings.

CREATE FUNCTION sophia.check_quality_args(kind text, columns text[], args jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known record;
  wrong text;
BEGIN
  SELECT k.* INTO known FROM sophia.quality_kinds() AS k WHERE k.kind = check_quality_args.kind;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'unknown kind of quality rule: %', coalesce(quote_literal(kind), 'NULL') USING ERRCODE = '22023',
      HINT = format('The kinds are %s.', (SELECT string_agg(k.kind, ', ') FROM sophia.quality_kinds() AS k));
  ELSIF cardinality(columns) NOT BETWEEN known.fewest AND known.most OR array_position(columns, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'a rule of kind % takes %', kind, CASE WHEN known.most = 1 THEN 'one column' ELSE 'columns' END USING ERRCODE = '22023';
  ELSIF jsonb_typeof(args) <> 'object' THEN
    RAISE EXCEPTION 'args must be a JSON object' USING ERRCODE = '22023';
  END IF;
  SELECT a.name INTO wrong FROM jsonb_object_keys(args) AS a (name) WHERE a.name <> ALL (known.allowed) LIMIT 1;
  IF NOT FOUND THEN
    SELECT a.name INTO wrong FROM unnest(known.required) AS a (name) WHERE NOT args ? a.name LIMIT 1;
  END IF;
  IF wrong IS NOT NULL OR kind IN ('range', 'volume') AND NOT args ?| '{min,max}' OR kind = 'sql' AND args ? 'check' = (args ? 'query') THEN
    RAISE EXCEPTION 'invalid args of a rule of kind %', concat(kind, ': "' || wrong || '"') USING ERRCODE = '22023',
      HINT = CASE kind WHEN 'sql' THEN 'It takes either "check" or "query".' WHEN 'range' THEN 'It takes "min", "max" or both.'
        WHEN 'volume' THEN 'It takes "min", "max" or both, and "within".'
        ELSE format('It takes %s.', coalesce((SELECT string_agg(format('"%s"', a.name), ', ') FROM unnest(known.allowed) AS a (name)), 'none')) END;
  END IF;
  SELECT a.key INTO wrong FROM jsonb_each(args) AS a
    WHERE jsonb_typeof(a.value) <> ALL (CASE WHEN a.key IN ('values', 'columns') THEN '{array}'::text[]
        WHEN a.key IN ('min', 'max') THEN '{string,number}' ELSE '{string}' END)
      OR a.key IN ('values', 'columns') AND (a.value = '[]' OR jsonb_path_exists(a.value, '$[*] ? (@.type() != "string" && @.type() != "number" && @.type() != "boolean")'))
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'invalid value of "%": %', wrong, args -> wrong USING ERRCODE = '22023',
      HINT = '"values" and "columns" are arrays, "min" and "max" strings or numbers, everything else a string.';
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.check_quality_args(text, text[], jsonb) IS 'internal: raises an error where a rule of that kind cannot have these columns and args';

CREATE FUNCTION sophia.check_quality_values(rule sophia.current_quality_rules) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  detail text;
BEGIN
  PERFORM '' ~ (rule.args ->> 'pattern'), (rule.args ->> 'max_age')::interval, (rule.args ->> 'within')::interval;
  IF rule.kind = 'volume' THEN
    PERFORM (rule.args ->> 'min')::bigint, (rule.args ->> 'max')::bigint;
  END IF;
  -- Started, not run; with the rights that it will run with.
  PERFORM sophia.query_as(rule.role, format(E'SELECT * FROM (%s\n) AS q LIMIT 0', sophia.rule_query(rule, false)), '[]');
EXCEPTION
  WHEN insufficient_privilege OR undefined_table THEN
    RAISE;
  WHEN syntax_error_or_access_rule_violation OR data_exception THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_HINT;
    RAISE EXCEPTION 'invalid rule "%": %', rule.rule, SQLERRM USING ERRCODE = '22023', HINT = coalesce(nullif(detail, ''),
      'SQL of a rule runs with the search_path pg_catalog: names of other schemas are written with them.');
END
$$;
COMMENT ON FUNCTION sophia.check_quality_values(sophia.current_quality_rules) IS 'internal: raises an error where the SQL of a rule would';

CREATE FUNCTION sophia.check_severity(target regclass, kind text, severity text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF severity IS NULL OR severity NOT IN ('warn', 'quarantine', 'fail') THEN
    RAISE EXCEPTION 'severity must be warn, quarantine or fail, not %', coalesce(quote_literal(severity), 'NULL') USING ERRCODE = '22023';
  ELSIF severity <> 'quarantine' THEN
    RETURN;
  ELSIF kind IN ('freshness', 'volume') THEN
    RAISE EXCEPTION 'a rule of kind % cannot quarantine: it is about no single row', kind USING ERRCODE = '22023', HINT = 'Use warn or fail.';
  ELSIF NOT EXISTS (SELECT FROM sophia.key_columns(target)) THEN
    RAISE EXCEPTION 'table % has no primary key, so its rows cannot be quarantined', target USING ERRCODE = '55000';
  ELSIF EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.oid = target AND n.nspname = 'processed_data') THEN
    RAISE EXCEPTION 'rows of % cannot be quarantined, because they are made of others', target USING ERRCODE = '22023',
      HINT = 'Add the rule to the raw table, or use warn or fail.';
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.check_severity(regclass, text, text) IS 'internal: raises an error where a rule cannot have that severity';

CREATE FUNCTION sophia.require_table_owner(target regclass) RETURNS name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known record;
BEGIN
  SELECT c.relkind, c.relowner INTO known FROM pg_class AS c WHERE c.oid = target;
  IF target IS NULL THEN
    RAISE EXCEPTION 'target must not be null' USING ERRCODE = '22004';
  ELSIF known.relkind IS NULL THEN
    RAISE EXCEPTION 'the table does not exist' USING ERRCODE = '42P01';
  ELSIF known.relkind NOT IN ('r', 'p', 'v', 'm', 'f') THEN
    RAISE EXCEPTION '% has no rows to check', target USING ERRCODE = '42809';
  ELSIF NOT pg_has_role(sophia.caller(), known.relowner, 'USAGE') THEN
    RAISE EXCEPTION 'must be owner of %', target USING ERRCODE = '42501';
  END IF;
  RETURN pg_get_userbyid(known.relowner);
END
$$;
COMMENT ON FUNCTION sophia.require_table_owner(regclass) IS 'internal: owner of a table; raises an error where the caller has not that role''s rights';

CREATE FUNCTION sophia.add_quality_rule(target regclass, rule text, kind text, severity text DEFAULT 'warn', columns text[] DEFAULT '{}',
  args jsonb DEFAULT '{}', filter text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  owner constant text := sophia.require_table_owner(add_quality_rule.target);
  wanted_columns constant text[] := coalesce(add_quality_rule.columns, '{}');
  wanted_args constant jsonb := coalesce(add_quality_rule.args, '{}');
  missing text;
BEGIN
  PERFORM sophia.check_name('quality rule', add_quality_rule.rule);
  PERFORM sophia.check_quality_args(add_quality_rule.kind, wanted_columns, wanted_args);
  PERFORM sophia.check_severity(add_quality_rule.target, add_quality_rule.kind, add_quality_rule.severity);
  SELECT c.name INTO missing FROM unnest(wanted_columns) AS c (name) WHERE sophia.column_type(add_quality_rule.target, c.name) IS NULL LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'column "%" of % does not exist', missing, add_quality_rule.target USING ERRCODE = '42704';
  END IF;
  INSERT INTO sophia.quality_rules (target_schema, target_table, rule, kind, severity, columns, args, filter, owner)
    SELECT n.nspname, c.relname, add_quality_rule.rule, add_quality_rule.kind, add_quality_rule.severity, wanted_columns, wanted_args,
      add_quality_rule.filter, owner
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = add_quality_rule.target
    ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'quality rule "%" of % already exists', add_quality_rule.rule, add_quality_rule.target USING ERRCODE = '42710';
  END IF;
  PERFORM sophia.check_quality_values(sophia.require_quality_rule(add_quality_rule.target, add_quality_rule.rule));
END
$$;
COMMENT ON FUNCTION sophia.add_quality_rule(regclass, text, text, text, text[], jsonb, text) IS
  'adds a rule about the rows of a table that the caller owns; checks and refreshes run it as the owner of the table';

CREATE FUNCTION sophia.require_quality_rule(target regclass, rule text) RETURNS sophia.current_quality_rules
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known sophia.current_quality_rules;
BEGIN
  IF target IS NULL OR rule IS NULL THEN
    RAISE EXCEPTION '% must not be null', CASE WHEN target IS NULL THEN 'target' ELSE 'rule' END USING ERRCODE = '22004';
  END IF;
  SELECT r.* INTO known FROM sophia.current_quality_rules AS r WHERE r.target = require_quality_rule.target AND r.rule = require_quality_rule.rule;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'quality rule "%" of % does not exist', rule, target USING ERRCODE = '42704';
  END IF;
  RETURN known;
END
$$;
COMMENT ON FUNCTION sophia.require_quality_rule(regclass, text) IS 'internal: a rule as it is set; raises an error where there is none';

CREATE FUNCTION sophia.change_quality_rule(target regclass, rule text, severity text, enabled boolean, drops boolean) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  known sophia.current_quality_rules;
  name record;
  released jsonb;
BEGIN
  PERFORM sophia.require_table_owner(change_quality_rule.target);
  known := sophia.require_quality_rule(change_quality_rule.target, change_quality_rule.rule);
  SELECT n.nspname, c.relname INTO name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = known.target;
  IF drops AND known.builtin THEN
    RAISE EXCEPTION 'quality rule "%" of % belongs to the extension', known.rule, known.target USING ERRCODE = '55000',
      HINT = 'Disable it by sophia.alter_quality_rule().';
  ELSIF drops THEN
    DELETE FROM sophia.quality_rules AS r WHERE (r.target_schema, r.target_table, r.rule) = (name.nspname, name.relname, known.rule);
  ELSE
    PERFORM sophia.check_severity(known.target, known.kind, coalesce(change_quality_rule.severity, known.severity));
    IF known.builtin THEN
      INSERT INTO sophia.quality_changes AS o (target_schema, target_table, rule, severity, enabled)
        VALUES (name.nspname, name.relname, known.rule, change_quality_rule.severity, change_quality_rule.enabled)
        ON CONFLICT (target_schema, target_table, rule) DO UPDATE
          SET severity = coalesce(excluded.severity, o.severity), enabled = coalesce(excluded.enabled, o.enabled);
    ELSE
      UPDATE sophia.quality_rules AS r
        SET severity = coalesce(change_quality_rule.severity, r.severity), enabled = coalesce(change_quality_rule.enabled, r.enabled)
        WHERE (r.target_schema, r.target_table, r.rule) = (name.nspname, name.relname, known.rule);
    END IF;
  END IF;
  -- A rule that does not quarantine any more lets its rows go.
  WITH gone AS (
    UPDATE sophia.quarantine AS q SET resolved_at = now()
    WHERE q.target = known.target AND q.rule = known.rule AND q.resolved_at IS NULL
      AND NOT EXISTS (SELECT FROM sophia.current_quality_rules AS r
        WHERE r.target = q.target AND r.rule = q.rule AND r.enabled AND r.severity = 'quarantine')
    RETURNING q.key)
  SELECT jsonb_agg(g.key) INTO released FROM gone AS g;
  RETURN released;
END
$$;
COMMENT ON FUNCTION sophia.change_quality_rule(regclass, text, text, boolean, boolean) IS 'internal: alters or drops a rule, and returns the keys of the rows that it does not quarantine any more';

CREATE FUNCTION sophia.alter_quality_rule(target regclass, rule text, severity text DEFAULT NULL, enabled boolean DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sophia.touch_moved(target, coalesce(sophia.change_quality_rule(target, rule, severity, enabled, false), '[]'))
$$;
COMMENT ON FUNCTION sophia.alter_quality_rule(regclass, text, text, boolean) IS
  'changes the severity of a rule and whether checks run it; NULL = as it is. Rows that it does not quarantine any more come back with the next refresh';

CREATE FUNCTION sophia.drop_quality_rule(target regclass, rule text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sophia.touch_moved(target, coalesce(sophia.change_quality_rule(target, rule, NULL, NULL, true), '[]'))
$$;
COMMENT ON FUNCTION sophia.drop_quality_rule(regclass, text) IS 'drops a rule that add_quality_rule made; its results stay. Rows that it quarantined come back with the next refresh';

-- Rules that the extension brings: what the transforms would stumble over.  They only warn, and cost little.
INSERT INTO sophia.quality_rules (target_schema, target_table, rule, kind, columns, args, builtin)
SELECT split_part(r.target, '.', 1), split_part(r.target, '.', 2), r.rule, r.kind, r.columns::text[], r.args::jsonb, true
FROM (VALUES
  ('hubspot_raw.contacts', 'reachable', 'sql', '{}', '{"check": "coalesce(email, phone, mobilephone, firstname, lastname) IS NOT NULL"}'),
  ('hubspot_raw.contacts', 'email_form', 'sql', '{email}', '{"check": "position(''@'' IN email) > 1 OR email = ''''"}'),
  ('hubspot_raw.companies', 'named', 'sql', '{}', '{"check": "coalesce(name, domain) IS NOT NULL"}'),
  ('hubspot_raw.deals', 'named', 'not_null', '{dealname}', '{}'),
  ('hubspot_raw.deals', 'amount_not_negative', 'range', '{amount}', '{"min": 0}'),
  ('hubspot_raw.engagements', 'type_known', 'not_null', '{engagement_type}', '{}'),
  ('hubspot_raw.engagements', 'time_known', 'sql', '{}', '{"check": "coalesce(occurred_at, createdate) IS NOT NULL"}'),
  ('hubspot_raw.owners', 'email_known', 'not_null', '{email}', '{}'),
  ('gong_raw.calls', 'time_known', 'sql', '{}', '{"check": "coalesce(started, scheduled) IS NOT NULL"}'),
  ('gong_raw.calls', 'duration_possible', 'range', '{duration_s}', '{"min": 0, "max": 86400}'),
  ('gong_raw.call_parties', 'call_known', 'reference', '{call_id}', '{"table": "gong_raw.calls"}'),
  ('gong_raw.call_transcripts', 'times_in_order', 'sql', '{start_ms,end_ms}', '{"check": "end_ms >= start_ms"}'),
  ('gong_raw.call_transcripts', 'call_known', 'reference', '{call_id}', '{"table": "gong_raw.calls"}'),
  ('gong_raw.users', 'email_known', 'not_null', '{email}', '{}'),
  ('slack_raw.users', 'named', 'sql', '{}', '{"check": "coalesce(real_name, display_name, name) IS NOT NULL"}'),
  ('slack_raw.channels', 'named', 'not_null', '{name}', '{}'),
  ('slack_raw.channel_members', 'channel_known', 'reference', '{channel_id}', '{"table": "slack_raw.channels"}'),
  ('slack_raw.channel_members', 'user_known', 'reference', '{member_id}', '{"table": "slack_raw.users"}'),
  ('slack_raw.messages', 'time_known', 'not_null', '{sent_at}', '{}'),
  ('slack_raw.messages', 'channel_known', 'reference', '{channel}', '{"table": "slack_raw.channels"}'))
  AS r (target, rule, kind, columns, args);
