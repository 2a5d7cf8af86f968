-- What a change of rules would do to people: it is made, the records concerned are resolved, and all that is taken back.

CREATE FUNCTION sophia.check_rules(rules jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unknown text;
BEGIN
  IF rules IS NULL THEN
    RAISE EXCEPTION 'rules must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  SELECT k INTO unknown FROM jsonb_object_keys(CASE WHEN jsonb_typeof(rules) = 'object' THEN rules ELSE '{"": 0}' END) AS k
  WHERE k NOT IN ('limits', 'block', 'unblock', 'match', 'drop_match')
    OR jsonb_typeof(rules -> k) <> CASE k WHEN 'limits' THEN 'object' ELSE 'array' END LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'rules must be an object with limits (an object), block, unblock, match and drop_match (arrays)'
      USING ERRCODE = 'invalid_parameter_value',
        HINT = '{"limits": {"email": {"max_records": 5}}, "block": [{"kind": "email", "value": "info@*"}], "drop_match": ["names"]}';
  END IF;
  SELECT k INTO unknown FROM jsonb_array_elements(rules -> 'match') AS m (said)
  CROSS JOIN LATERAL jsonb_object_keys(CASE WHEN jsonb_typeof(m.said) = 'object' THEN m.said ELSE '{"": 0}' END) AS k
  WHERE k NOT IN ('rule', 'key', 'blocking', 'comparisons', 'review_at', 'link_at')
    OR k = 'blocking' AND jsonb_typeof(m.said -> k) <> 'array' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'match must hold objects with rule, key, blocking (an array), comparisons, review_at and link_at'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'They are the arguments of sophia.add_match_rule(), of a rule for processed_data.unified_contacts.';
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.check_rules(jsonb) IS 'internal: raises where rules are not what preview_rules takes';

CREATE FUNCTION sophia.apply_match_rules(rules jsonb, search_path text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  people CONSTANT regclass := to_regclass('processed_data.unified_contacts');
  said record;
BEGIN
  PERFORM sophia.drop_match_rule(d.rule) FROM jsonb_array_elements_text(rules -> 'drop_match') AS d (rule);
  FOR said IN
    SELECT m.said ->> 'rule' AS rule, coalesce(m.said ->> 'key', 'id') AS key, m.said -> 'comparisons' AS comparisons,
      ARRAY(SELECT jsonb_array_elements_text(m.said -> 'blocking')) AS blocking, (m.said ->> 'review_at')::float8 AS review_at,
      (m.said ->> 'link_at')::float8 AS link_at
    FROM jsonb_array_elements(rules -> 'match') AS m (said)
  LOOP
    PERFORM sophia.drop_match_rule(r.rule) FROM sophia.rules_of(people) AS r WHERE r.rule = said.rule;
    PERFORM sophia.try_match_rule(people, said.key, said.blocking, said.comparisons, apply_match_rules.search_path);
    PERFORM sophia.store_match_rule(said.rule, people, said.key, said.blocking, said.comparisons, said.review_at, said.link_at,
      apply_match_rules.search_path);
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.apply_match_rules(jsonb, text) IS 'internal: drops, changes and adds the match rules that preview_rules was given';

CREATE FUNCTION sophia.apply_guards(rules jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM sophia.set_identifier_limits(l.kind, (l.said ->> 'max_records')::integer, (l.said ->> 'max_values')::integer,
    coalesce((l.said ->> 'enabled')::boolean, true))
  FROM jsonb_each(rules -> 'limits') AS l (kind, said);
  PERFORM sophia.block_value(b.said ->> 'kind', b.said ->> 'value', b.said ->> 'reason') FROM jsonb_array_elements(rules -> 'block') AS b (said);
  PERFORM sophia.unblock_value(b.said ->> 'kind', b.said ->> 'value') FROM jsonb_array_elements(rules -> 'unblock') AS b (said);
END
$$;
COMMENT ON FUNCTION sophia.apply_guards(jsonb) IS 'internal: makes the changes of guards that preview_rules was given';

CREATE FUNCTION sophia.match_people() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM sophia.rules_of(to_regclass('processed_data.unified_contacts'))) THEN
    CALL sophia.match_records('processed_data.unified_contacts');
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.match_people() IS 'internal: match_records for people, where there are rules for them';

CREATE FUNCTION sophia.last_identity_event() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(max(e.event), 0) FROM sophia.identity_events AS e
$$;
COMMENT ON FUNCTION sophia.last_identity_event() IS 'internal: number of the last event of identities';

CREATE FUNCTION sophia.try_rules(rules jsonb, search_path text, OUT changes text[], OUT identities bigint[], OUT others bigint[],
  OUT records text[], OUT kept bigint, OUT created bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  about_matches CONSTANT boolean := rules ?| '{match,drop_match}';
  last bigint;
  before bigint[];
BEGIN
  PERFORM sophia.check_rules(rules);
  IF to_regclass('processed_data.identities') IS NULL THEN
    RAISE EXCEPTION 'the tables of processed_data do not exist'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call sophia.create_schemas() first.';
  END IF;
  BEGIN
    PERFORM sophia.lock_identities();
    -- What is due anyway is no consequence of the change.
    IF about_matches THEN
      PERFORM sophia.match_people();
    END IF;
    PERFORM sophia.resolve_changed(false);
    last := sophia.last_identity_event();
    before := ARRAY(SELECT i.identity_id FROM processed_data.identities AS i WHERE i.status = 'active');
    PERFORM sophia.apply_guards(rules);
    IF about_matches THEN
      PERFORM sophia.apply_match_rules(rules, try_rules.search_path);
      PERFORM sophia.match_people();
    END IF;
    PERFORM sophia.resolve_changed(false);
    SELECT array_agg(h.kind ORDER BY h.event), array_agg(h.identity_id ORDER BY h.event), array_agg(h.other_identity_id ORDER BY h.event),
      array_agg(h.contact_id ORDER BY h.event)
    INTO changes, identities, others, records
    FROM sophia.identity_history AS h WHERE h.event > last;
    SELECT count(b.id), count(*) FILTER (WHERE b.id IS NULL) INTO kept, created
    FROM processed_data.identities AS i
    LEFT JOIN unnest(before) AS b (id) ON b.id = i.identity_id
    WHERE i.status = 'active';
    created := created - (SELECT count(*) FROM unnest(changes) AS c (change) WHERE c.change = 'restored');
    RAISE EXCEPTION USING ERRCODE = 'SDRY0';
  EXCEPTION WHEN SQLSTATE 'SDRY0' THEN
    NULL;
  END;
END
$$;
COMMENT ON FUNCTION sophia.try_rules(jsonb, text) IS
  'internal: the events that a change of rules would cause, as parallel arrays, and how many numbers would stay and be new; names in expressions of match rules are looked up by search_path';

-- Not in PL/pgSQL, as add_match_rule is not: the caller's search_path counts.
CREATE FUNCTION sophia.preview_rules(rules jsonb DEFAULT '{}')
RETURNS TABLE (change text, identity_id bigint, other_identity_id bigint, contact_id text)
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  SELECT c.change, c.identity_id, c.other_identity_id, c.contact_id
  FROM sophia.try_rules(preview_rules.rules, sophia.caller_search_path()) AS t
  CROSS JOIN LATERAL ROWS FROM (unnest(t.changes), unnest(t.identities), unnest(t.others), unnest(t.records)) AS c (change, identity_id, other_identity_id, contact_id);
END;
COMMENT ON FUNCTION sophia.preview_rules(jsonb) IS
  'what a change of guards and of match rules for people would do, without doing it: a row for each identity that would be merged, split, restored or retired, and for each record that would move to another identity';

CREATE FUNCTION sophia.preview_churn(rules jsonb DEFAULT '{}')
RETURNS TABLE (kept bigint, merged bigint, retired bigint, split bigint, created bigint, restored bigint, moved bigint)
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  SELECT t.kept, count(*) FILTER (WHERE c.change = 'merged'), count(*) FILTER (WHERE c.change = 'retired'),
    count(DISTINCT c.other_identity_id) FILTER (WHERE c.change = 'split'), t.created, count(*) FILTER (WHERE c.change = 'restored'),
    count(*) FILTER (WHERE c.change = 'moved')
  FROM sophia.try_rules(preview_churn.rules, sophia.caller_search_path()) AS t
  LEFT JOIN LATERAL ROWS FROM (unnest(t.changes), unnest(t.others)) AS c (change, other_identity_id) ON true
  GROUP BY t.kept, t.created;
END;
COMMENT ON FUNCTION sophia.preview_churn(jsonb) IS
  'how many identities a change of rules, given as to preview_rules, would keep (those that it splits included), merge into others, leave without a record, split, make and restore, and how many records would move';
