-- How good clusters are, measured by records of which the truth is known.

CREATE FUNCTION sophia.evaluate_clusters(keys text[], truths text[], founds text[],
  OUT "precision" float8, OUT recall float8, OUT f1 float8,
  OUT b3_precision float8, OUT b3_recall float8, OUT b3_f1 float8, OUT largest_cluster bigint, OUT clusters bigint)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  WITH record AS (
    -- A record without a cluster is alone.
    SELECT u.truth, CASE WHEN u.found IS NULL THEN 'alone ' || u.key ELSE 'cluster ' || u.found END AS found
    FROM unnest(keys, truths, founds) AS u (key, truth, found)
  ), shared AS (
    SELECT r.truth, r.found, count(*)::numeric AS n FROM record AS r GROUP BY 1, 2
  ), sized AS (
    SELECT s.n, sum(s.n) OVER (PARTITION BY s.truth) AS of_truth, sum(s.n) OVER (PARTITION BY s.found) AS of_found FROM shared AS s
  ), pairs AS (
    SELECT (SELECT sum(s.n * (s.n - 1)) FROM shared AS s) AS right_ones,
      (SELECT sum(t.n * (t.n - 1)) FROM (SELECT sum(s.n) AS n FROM shared AS s GROUP BY s.truth) AS t) AS true_ones,
      (SELECT sum(f.n * (f.n - 1)) FROM (SELECT sum(s.n) AS n FROM shared AS s GROUP BY s.found) AS f) AS found_ones
  ), b_cubed AS (
    SELECT (sum(z.n * z.n / z.of_found) / sum(z.n))::float8 AS p, (sum(z.n * z.n / z.of_truth) / sum(z.n))::float8 AS r FROM sized AS z
  )
  SELECT CASE WHEN p.found_ones = 0 THEN 1 ELSE (p.right_ones / p.found_ones)::float8 END,
    CASE WHEN p.true_ones = 0 THEN 1 ELSE (p.right_ones / p.true_ones)::float8 END,
    CASE WHEN p.true_ones + p.found_ones = 0 THEN 1 ELSE (2 * p.right_ones / (p.true_ones + p.found_ones))::float8 END,
    b.p, b.r, 2 * b.p * b.r / (b.p + b.r),
    (SELECT max(z.of_found)::bigint FROM sized AS z), (SELECT count(DISTINCT s.found) FROM shared AS s)
  FROM pairs AS p CROSS JOIN b_cubed AS b
$$;
COMMENT ON FUNCTION sophia.evaluate_clusters(text[], text[], text[]) IS 'internal: compares the clusters that were found with the true ones';

-- Share of the records whose cluster is another one than before the last run.
CREATE FUNCTION sophia.cluster_churn(source regclass) RETURNS float8
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF source = to_regclass('processed_data.unified_contacts') THEN
    RETURN (
      SELECT count(DISTINCT e.contact_id)::float8
        / (SELECT nullif(count(*), 0) FROM processed_data.unified_contacts AS c WHERE c.identity_id IS NOT NULL)
      FROM sophia.identity_events AS e
      WHERE e.kind = 'moved'
        AND e.occurred_at >= (SELECT max(l.started_at) FROM sophia.refresh_log AS l WHERE l.target = 'contacts'));
  END IF;
  RETURN (
    SELECT avg((m.cluster_id <> m.previous_id)::integer)
    FROM sophia.match_clusters AS m WHERE m.source = cluster_churn.source AND m.previous_id IS NOT NULL);
END;
$$;
COMMENT ON FUNCTION sophia.cluster_churn(regclass) IS 'internal: share of the records of a source that changed their cluster, or identity, in the last run';

CREATE FUNCTION sophia.evaluate_identities(truth regclass, source regclass DEFAULT NULL,
  OUT "precision" float8, OUT recall float8, OUT f1 float8,
  OUT b3_precision float8, OUT b3_recall float8, OUT b3_f1 float8, OUT largest_cluster bigint, OUT clusters bigint, OUT id_churn float8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  contacts constant regclass := to_regclass('processed_data.unified_contacts');
  measured constant regclass := coalesce(source, contacts);
  records record;
BEGIN
  IF truth IS NULL THEN
    RAISE EXCEPTION 'truth must not be null' USING ERRCODE = '22004';
  ELSIF (measured = contacts) IS NOT TRUE AND NOT EXISTS (SELECT FROM sophia.match_clusters AS m WHERE m.source = measured) THEN
    RAISE EXCEPTION 'there are no clusters of "%"', coalesce(measured::text, 'processed_data.unified_contacts') USING ERRCODE = '55000',
      HINT = 'Call sophia.match_records() first.';
  ELSIF num_nulls(sophia.column_type(truth, 'key'), sophia.column_type(truth, 'cluster')) > 0 THEN
    RAISE EXCEPTION '"%" has no columns key and cluster', truth USING ERRCODE = '22023',
      HINT = 'A view can name the columns of another table so.';
  ELSIF measured = contacts THEN
    EXECUTE format('SELECT array_agg(t.key::text) AS keys, array_agg(t.cluster::text) AS truths, array_agg(c.identity_id::text) AS founds '
      'FROM %s AS t LEFT JOIN processed_data.unified_contacts AS c ON c.id = t.key::text '
      'WHERE t.key IS NOT NULL AND t.cluster IS NOT NULL', truth) INTO records;
  ELSE
    EXECUTE format('SELECT array_agg(t.key::text) AS keys, array_agg(t.cluster::text) AS truths, array_agg(m.cluster_id::text) AS founds '
      'FROM %s AS t LEFT JOIN sophia.match_clusters AS m ON m.source = $1 AND m.key = t.key::text '
      'WHERE t.key IS NOT NULL AND t.cluster IS NOT NULL', truth) INTO records USING measured;
  END IF;
  IF (SELECT count(DISTINCT k) < count(*) FROM unnest(records.keys) AS k) THEN
    RAISE EXCEPTION 'a key appears more than once in "%"', truth USING ERRCODE = '22023';
  END IF;
  SELECT e.* INTO "precision", recall, f1, b3_precision, b3_recall, b3_f1, largest_cluster, clusters
    FROM sophia.evaluate_clusters(records.keys, records.truths, records.founds) AS e;
  id_churn := sophia.cluster_churn(measured);
END;
$$;
COMMENT ON FUNCTION sophia.evaluate_identities(regclass, regclass) IS
  'compares clusters with the true ones, a table or view with columns key and cluster: those of match_records, or identities for unified_contacts (the default)';
