-- Monthly partitions of interaction_timeline, where create_schemas was asked for them.
--
-- Months are those of UTC.  A time that is unknown (-infinity, see unknown_time) or no time of a calendar in use goes to
-- the default partition; the bounds of that are fixed, so that no row of it ever stands in the way of a new month.

CREATE FUNCTION sophia.make_timeline_partitions(source text, ids text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  months timestamp[];
  month timestamp;
  name text;
BEGIN
  IF sophia.unknown_time() IS NULL THEN
    RETURN;
  END IF;
  -- No query may be open on the table when it gets a partition.
  EXECUTE format($query$
    SELECT array_agg(DISTINCT date_trunc('month', i.occurred_at AT TIME ZONE 'UTC'))
    FROM sophia.%I($1) AS i
    WHERE i.occurred_at >= '1990-01-01 00:00:00+00' AND i.occurred_at < '2100-01-01 00:00:00+00'
    $query$, 'interactions_from_' || source) INTO months USING ids;
  FOREACH month IN ARRAY coalesce(months, '{}') LOOP
    name := 'interaction_timeline_' || to_char(month, 'YYYY_MM');
    CONTINUE WHEN EXISTS (SELECT FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
      WHERE h.inhparent = 'processed_data.interaction_timeline'::regclass AND c.relname = name);
    EXECUTE format('CREATE TABLE processed_data.%I PARTITION OF processed_data.interaction_timeline
      FOR VALUES FROM (%L) TO (%L)', name, month || '+00', month + interval '1 month' || '+00');
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.make_timeline_partitions(text, text[]) IS
  'internal: makes the partitions of the months of these interactions, NULL = of all of a source, where the timeline is partitioned; the caller must own it then';
