-- How changes of the raw tables travel to the processed ones: what is still to be recomputed, and why everything is.
--
-- A refresh begins by capture_changes(): the exact cursor of consumer sophia.refresh hands over the keys of the raw rows that
-- changed, and of each the rows of the targets are derived that it had made, and that it makes now.  Their ids go to the
-- queue; the writers of the targets take them from there in order, recompute these rows from what the raw tables say by
-- then, and write what differs.  So it does not matter how often, or in which order, a row is named.
--
-- What a raw row had made is read from the processed tables.  But a contact may have been computed from a row that the
-- timeline shows otherwise, because it changed in between, or is still in the queue: refresh_links keeps for whom such
-- rows counted (unsettled_links, in the statement that computes the contact, so that both see the same).
-- Everything here is state of this database, which a full run makes anew; it is not dumped.

CREATE TABLE sophia.refresh_queue (
  target text NOT NULL,
  key text NOT NULL,
  PRIMARY KEY (target, key)
);
COMMENT ON TABLE sophia.refresh_queue IS 'internal: rows of the targets of refresh that are still to be recomputed';
COMMENT ON COLUMN sophia.refresh_queue.target IS 'unified_contacts, interaction_timeline or identities';
COMMENT ON COLUMN sophia.refresh_queue.key IS 'id of the row; for identities unified_contacts.id';

CREATE TABLE sophia.refresh_full (
  target text PRIMARY KEY,
  reason text,
  listed boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE sophia.refresh_full IS 'internal: targets of which everything is still to be recomputed';
COMMENT ON COLUMN sophia.refresh_full.target IS 'unified_contacts or interaction_timeline';
COMMENT ON COLUMN sophia.refresh_full.reason IS 'why; NULL = mode full was asked for';
COMMENT ON COLUMN sophia.refresh_full.listed IS 'whether the queue holds what is left of it, because limits stopped it';

CREATE TABLE sophia.refresh_links (
  interaction_id text NOT NULL,
  contact_id text NOT NULL,
  PRIMARY KEY (interaction_id, contact_id)
);
COMMENT ON TABLE sophia.refresh_links IS 'internal: contacts that were computed from interactions which the timeline does not show as they were then';
COMMENT ON COLUMN sophia.refresh_links.interaction_id IS 'interaction_timeline.id';
COMMENT ON COLUMN sophia.refresh_links.contact_id IS 'unified_contacts.id';

CREATE FUNCTION sophia.enqueue(target text, keys text[]) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.refresh_queue AS q (target, key)
  SELECT DISTINCT enqueue.target, k.key FROM unnest(keys) AS k (key) WHERE k.key IS NOT NULL
  ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION sophia.enqueue(text, text[]) IS 'internal: has the next refresh recompute these rows of a target; NULLs are skipped';

CREATE FUNCTION sophia.request_full(target text, reason text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.refresh_full AS f (target, reason) VALUES (request_full.target, request_full.reason)
  ON CONFLICT ON CONSTRAINT refresh_full_pkey DO UPDATE SET listed = false
$$;
COMMENT ON FUNCTION sophia.request_full(text, text) IS 'internal: has the next refresh recompute everything of a target; the first reason is kept';

-- plpgsql, as other small functions of each call are: it keeps their plans, which take longer to make than to run.
CREATE FUNCTION sophia.has_backlog(target text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN EXISTS (SELECT FROM sophia.refresh_full AS f WHERE f.target = has_backlog.target)
    OR EXISTS (SELECT FROM sophia.refresh_queue AS q WHERE q.target = has_backlog.target);
END
$$;
COMMENT ON FUNCTION sophia.has_backlog(text) IS 'internal: whether rows of a target are still to be recomputed';

CREATE FUNCTION sophia.request_refresh() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- The first refresh, as after a restore, recomputes everything for a reason of its own.
  IF EXISTS (SELECT FROM sophia.refresh_lookups) THEN
    PERFORM sophia.request_full(t.target, format('%s changed', TG_TABLE_NAME))
    FROM unnest(ARRAY['unified_contacts', 'interaction_timeline']) AS t (target);
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION sophia.request_refresh() IS 'internal: trigger of tables that every row may depend on; whoever may change them need not have rights on the queue';

CREATE FUNCTION sophia.skip_changes(reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM sophia.skip_batch('sophia.refresh');
  PERFORM sophia.commit_batch('sophia.refresh');
  PERFORM sophia.request_full(t.target, reason)
  FROM unnest(ARRAY['unified_contacts', 'interaction_timeline']) AS t (target);
  PERFORM sophia.check_sources();
END
$$;
COMMENT ON FUNCTION sophia.skip_changes(text) IS 'internal: passes over what changed, and has everything recomputed instead';

-- Beyond so many changed rows it is not worth while to look up what each of them had made.
CREATE FUNCTION sophia.capture_limit() RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT greatest(20000, sum(greatest(c.reltuples, 0))::bigint / 10)
    FROM pg_class AS c
    WHERE c.oid IN (to_regclass('processed_data.unified_contacts'), to_regclass('processed_data.interaction_timeline')));
END
$$;
COMMENT ON FUNCTION sophia.capture_limit() IS 'internal: number of changed raw rows from which on everything is recomputed';

CREATE FUNCTION sophia.interaction_sources() RETURNS regclass[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(to_regclass(t.name))
  FROM unnest(ARRAY['hubspot_raw.engagements', 'gong_raw.calls', 'gong_raw.call_parties', 'slack_raw.messages']) AS t (name)
$$;
COMMENT ON FUNCTION sophia.interaction_sources() IS 'internal: raw tables of which the timeline tells whom a row concerned';

-- random_page_cost, here and in what follows: rows that are looked up by key lie in memory, or next to each other, and are
-- few, so that a scan of a whole table is never to be preferred.
CREATE FUNCTION sophia.capture_changes(deadline timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET random_page_cost = 0.1
AS $$
DECLARE
  batch_rows CONSTANT integer := 10000;
  most CONSTANT bigint := sophia.capture_limit();
  -- What a changed row had made is read from the timeline; one that was never made cannot tell.
  timeline_behind CONSTANT boolean := EXISTS (SELECT FROM sophia.refresh_full AS f WHERE f.target = 'interaction_timeline');
  reason text := sophia.lost_state();
  pending bigint;
  changed record;
  read bigint;
BEGIN
  IF reason IS NULL THEN
    SELECT sum(p.changes), min(p.source || ': ' || p.reason) FILTER (WHERE p.is_full) INTO pending, reason
    FROM sophia.pending_changes('sophia.refresh', most + 1) AS p;
    IF reason IS NULL AND pending > most THEN
      reason := format('more than %s raw rows changed', most);
    END IF;
  END IF;
  -- Where everything is recomputed anyway, nobody needs to know what changed.
  IF reason IS NOT NULL OR (SELECT count(*) = 2 FROM sophia.refresh_full AS f WHERE NOT f.listed) THEN
    PERFORM sophia.skip_changes(reason);
    RETURN true;
  END IF;
  WHILE pending > 0 LOOP
    read := 0;
    FOR changed IN
      SELECT b.source, count(*) AS n, jsonb_agg(b.key) AS keys
      FROM sophia.next_batch('sophia.refresh', batch_rows) AS b
      GROUP BY b.source
    LOOP
      PERFORM sophia.check_changed(changed.source, changed.keys);
      IF timeline_behind AND changed.source = ANY (sophia.interaction_sources()) THEN
        PERFORM sophia.request_full('unified_contacts', 'interaction_timeline is behind');
      ELSE
        PERFORM sophia.touch_contacts(changed.source, changed.keys);
      END IF;
      PERFORM sophia.touch_interactions(changed.source, changed.keys);
      read := read + changed.n;
    END LOOP;
    PERFORM sophia.commit_batch('sophia.refresh');
    EXIT WHEN read < batch_rows;
    IF clock_timestamp() >= deadline THEN
      RETURN false;
    END IF;
  END LOOP;
  RETURN true;
END
$$;
COMMENT ON FUNCTION sophia.capture_changes(timestamptz) IS
  'internal: reads what changed in the raw tables since the last call and enqueues what depends on it; false = the time was up before all was read';

CREATE FUNCTION sophia.refresh_snapshot() RETURNS pg_snapshot
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT c.snapshot FROM sophia.consumer_state AS c WHERE c.consumer = 'sophia.refresh'
$$;
COMMENT ON FUNCTION sophia.refresh_snapshot() IS 'internal: up to where refresh has read the changes of the raw tables';

-- The consumer of refresh comes with the extension, so that deletions count from the beginning of each raw table.
INSERT INTO sophia.consumer_state (consumer, snapshot, whole_reason, system_identifier, database_oid)
SELECT 'sophia.refresh', pg_current_snapshot(), 'nothing was refreshed here before', h.* FROM sophia.here AS h;
INSERT INTO sophia.consumer_sources (consumer, ordinal, source_oid, source_schema, source_name)
SELECT c.id, t.ordinal, 0, t.table_schema, t.table_name
FROM sophia.consumer_state AS c
CROSS JOIN sophia.data_tables AS t
JOIN sophia.data_schemas AS s ON s.schema_name = t.table_schema
WHERE s.source IS NOT NULL;
