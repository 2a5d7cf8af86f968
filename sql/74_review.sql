-- Review: pairs that wait for a decision, and decisions, which outrank every rule.

CREATE VIEW sophia.review_queue AS
SELECT p.pair, p.source, p.key_a, p.key_b, p.rule, p.score, p.evidence,
  (SELECT jsonb_object_agg(e.value ->> 'expr', e.value -> 'a') FROM jsonb_array_elements(p.evidence) AS e) AS values_a,
  (SELECT jsonb_object_agg(e.value ->> 'expr', e.value -> 'b') FROM jsonb_array_elements(p.evidence) AS e) AS values_b,
  p.conflict, p.found_at
FROM sophia.match_pairs AS p
WHERE p.status = 'review'
ORDER BY p.score DESC, p.pair;
COMMENT ON VIEW sophia.review_queue IS 'pairs of records that wait for sophia.decide(), the most alike first';
COMMENT ON COLUMN sophia.review_queue.pair IS 'number of the pair, for decide()';
COMMENT ON COLUMN sophia.review_queue.source IS 'table of the records';
COMMENT ON COLUMN sophia.review_queue.key_a IS 'key of one record';
COMMENT ON COLUMN sophia.review_queue.key_b IS 'key of the other one';
COMMENT ON COLUMN sophia.review_queue.rule IS 'match rule that found the pair';
COMMENT ON COLUMN sophia.review_queue.score IS 'sum of the weights';
COMMENT ON COLUMN sophia.review_queue.evidence IS 'an object for each comparison: expr, method, both values (a, b), result and weight';
COMMENT ON COLUMN sophia.review_queue.values_a IS 'what was compared of one record, by expression';
COMMENT ON COLUMN sophia.review_queue.values_b IS 'the same of the other one';
COMMENT ON COLUMN sophia.review_queue.conflict IS 'why the pair waits though its score would link it; NULL = it would not';
COMMENT ON COLUMN sophia.review_queue.found_at IS 'when the pair was found first';

-- Records that pairs link, directly or through others, with these two, and those they were in one cluster with.
CREATE FUNCTION sophia.records_around(source regclass, key_a text, key_b text) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE reached (key) AS (
    SELECT n.key
    FROM sophia.match_clusters AS c
    JOIN sophia.match_clusters AS n ON n.source = c.source AND n.cluster_id = c.cluster_id
    WHERE c.source = records_around.source AND c.key IN (records_around.key_a, records_around.key_b)
    UNION
    SELECT o.key
    FROM reached AS r
    CROSS JOIN LATERAL (
      SELECT p.key_b FROM sophia.match_pairs AS p
      WHERE p.source = records_around.source AND p.key_a = r.key AND (p.strength >= 1 OR p.status = 'same')
      UNION ALL
      SELECT p.key_a FROM sophia.match_pairs AS p
      WHERE p.source = records_around.source AND p.key_b = r.key AND (p.strength >= 1 OR p.status = 'same')) AS o (key)
    JOIN sophia.match_clusters AS c ON c.source = records_around.source AND c.key = o.key
  )
  SELECT coalesce(array_agg(r.key), '{}') FROM reached AS r
$$;
COMMENT ON FUNCTION sophia.records_around(regclass, text, text) IS 'internal: records whose cluster a decision about two of them may change';

CREATE FUNCTION sophia.decide(pair bigint, decision text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known record;
BEGIN
  IF decide.pair IS NULL OR decide.decision IS NULL THEN
    RAISE EXCEPTION 'pair and decision must not be null' USING ERRCODE = '22004';
  ELSIF decide.decision NOT IN ('same', 'different') THEN
    RAISE EXCEPTION 'decision must be same or different, not "%"', decide.decision USING ERRCODE = '22023';
  END IF;
  PERFORM sophia.lock_matches(p.source) FROM sophia.match_pairs AS p WHERE p.pair = decide.pair;
  UPDATE sophia.match_pairs AS p
    SET status = decide.decision, conflict = NULL, decided_at = now(), decided_by = pg_get_userbyid(sophia.caller())
    WHERE p.pair = decide.pair
    RETURNING p.source, p.key_a, p.key_b INTO known;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'pair % does not exist', decide.pair USING ERRCODE = 'P0002';
  END IF;
  PERFORM sophia.enqueue_matches(known.source, ARRAY[known.key_a, known.key_b]);
  PERFORM sophia.write_match_clusters(known.source, sophia.records_around(known.source, known.key_a, known.key_b), false);
END;
$$;
COMMENT ON FUNCTION sophia.decide(bigint, text) IS
  'decides that the two records of a pair are the same or different: permanent, outranks rules, and changed by deciding again';

CREATE FUNCTION sophia.drop_match_rule(rule text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  of_source regclass;
  gone text[];
BEGIN
  PERFORM sophia.check_name('rule', drop_match_rule.rule);
  DELETE FROM sophia.match_rules AS r WHERE r.rule = drop_match_rule.rule RETURNING r.source INTO of_source;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'match rule "%" does not exist', drop_match_rule.rule USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.lock_matches(of_source);
  WITH removed AS (
    DELETE FROM sophia.match_pairs AS p
    WHERE p.source = of_source AND p.rule = drop_match_rule.rule AND p.status IN ('review', 'linked')
    RETURNING p.key_a, p.key_b
  )
  SELECT array_agg(r.key_a) || array_agg(r.key_b) INTO gone FROM removed AS r;
  PERFORM sophia.enqueue_matches(of_source, gone);
  PERFORM sophia.write_match_clusters(of_source,
    ARRAY(SELECT c.key FROM sophia.match_clusters AS c WHERE c.source = of_source), false);
END;
$$;
COMMENT ON FUNCTION sophia.drop_match_rule(text) IS
  'drops a match rule and the pairs that it found, but for those that were decided; other rules find theirs at the next match_records';
