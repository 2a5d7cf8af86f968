-- unified_contacts written: made equal to what the queries of the sources say, for all contacts of a source or for some.
--
-- Where there is nothing of the source yet, its rows are inserted as they come.  Otherwise wanted and present rows are
-- joined in full and only differences are kept and written, to the places where the rows were found.  The statements
-- differ between sources in the name of the query only, and are planned each time: the planner must know whether there
-- are keys.

CREATE FUNCTION sophia.fill_contacts(source text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  columns CONSTANT text := (SELECT string_agg(quote_ident(c), ', ') FROM unnest(sophia.result_columns('contacts_from_' || source)) AS c);
  -- Where nobody has an identity yet, each record gets one of its own, which most of them keep.
  first_identity CONSTANT bigint := CASE WHEN sophia.is_empty('{identities}') THEN sophia.new_identity_ids(0) END;
  written bigint;
BEGIN
  EXECUTE format($statement$
    WITH noted AS (
      INSERT INTO sophia.refresh_links SELECT DISTINCT l.interaction_id, l.contact_id FROM sophia.unsettled_links($1, false) AS l
      ON CONFLICT DO NOTHING
    )
    INSERT INTO processed_data.unified_contacts (%1$s, identity_id)
    SELECT %1$s, CASE WHEN NOT is_bot THEN $2 - 1 + row_number() OVER () END FROM sophia.%2$I(NULL)
    $statement$, columns, 'contacts_from_' || source) USING source, first_identity;
  GET DIAGNOSTICS written = ROW_COUNT;
  IF first_identity IS NOT NULL THEN
    PERFORM sophia.new_identity_ids(written);
  END IF;
  RETURN written;
END
$$;
COMMENT ON FUNCTION sophia.fill_contacts(text) IS 'internal: inserts all contacts of a source, of which there is none yet';

CREATE FUNCTION sophia.write_contacts(source text, ids text[] DEFAULT NULL, timeline_later boolean DEFAULT false,
  OUT rows_inserted bigint, OUT rows_updated bigint, OUT rows_deleted bigint, OUT people bigint[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  columns CONSTANT text[] := array_remove(sophia.result_columns('contacts_from_' || source), 'id');
  list CONSTANT text := (SELECT string_agg(quote_ident(c), ', ') FROM unnest(columns) AS c);
  of_target CONSTANT text := (SELECT string_agg(format('t.%I', c), ', ') FROM unnest(columns) AS c);
  of_wanted CONSTANT text := (SELECT string_agg(format('w.%I', c), ', ') FROM unnest(columns) AS c);
  -- Beyond so many, everything that depends on contacts is recomputed.
  most CONSTANT integer := 50000;
  everything CONSTANT boolean := ids IS NULL OR EXISTS (SELECT FROM sophia.refresh_full AS f WHERE f.target = 'unified_contacts');
  written record;
BEGIN
  IF ids IS NULL AND NOT EXISTS (SELECT FROM processed_data.unified_contacts AS t WHERE t.source_system = source) THEN
    rows_inserted := sophia.fill_contacts(source);
    rows_updated := 0;
    rows_deleted := 0;
    RETURN;
  END IF;
  EXECUTE format($statement$
    WITH changed AS MATERIALIZED (
      SELECT w.*, t.id AS old_id, t.place, t.identity_id,
        t.id IS NULL OR w.id IS NULL OR (t.email_norm, t.all_emails, t.first_name, t.last_name, t.full_name, t.is_internal, t.is_deleted,
          t.created_at)
          IS DISTINCT FROM (w.email_norm, w.all_emails, w.first_name, w.last_name, w.full_name, w.is_internal, w.is_deleted,
          w.created_at) AS is_told,
        t.id IS NULL OR w.id IS NULL OR (t.email_norm, t.all_emails, t.phone_e164, t.first_name, t.last_name, t.full_name, t.is_internal,
          t.is_bot)
          IS DISTINCT FROM (w.email_norm, w.all_emails, w.phone_e164, w.first_name, w.last_name, w.full_name, w.is_internal,
          w.is_bot) AS is_identified
      FROM sophia.%1$I($2) AS w
      FULL JOIN (SELECT o.*, o.ctid AS place FROM processed_data.unified_contacts AS o
        WHERE %5$s) AS t ON t.id = w.id
      WHERE t.id IS NULL OR w.id IS NULL OR (%2$s) IS DISTINCT FROM (%3$s)
    ), noted AS (
      INSERT INTO sophia.refresh_links SELECT DISTINCT l.interaction_id, l.contact_id FROM sophia.unsettled_links($1, $4) AS l
      ON CONFLICT DO NOTHING
    ), removed AS (
      DELETE FROM processed_data.unified_contacts AS t USING changed AS c WHERE c.id IS NULL AND t.id = c.old_id AND t.ctid = c.place
    ), updated AS (
      UPDATE processed_data.unified_contacts AS t SET (%4$s) = ROW (%3$s)
      FROM changed AS w WHERE w.id IS NOT NULL AND t.id = w.old_id AND t.ctid = w.place
    ), inserted AS (
      INSERT INTO processed_data.unified_contacts (id, %4$s) SELECT w.id, %3$s FROM changed AS w WHERE w.old_id IS NULL
    )
    SELECT count(*) FILTER (WHERE c.old_id IS NULL) AS inserted,
      count(*) FILTER (WHERE c.old_id IS NOT NULL AND c.id IS NOT NULL) AS updated,
      count(*) FILTER (WHERE c.id IS NULL) AS deleted, array_agg(coalesce(c.id, c.old_id)) AS records,
      array_agg(c.identity_id) FILTER (WHERE c.identity_id IS NOT NULL) AS people,
      array_agg(coalesce(c.id, c.old_id)) FILTER (WHERE c.is_identified) AS identified,
      array_agg(coalesce(c.id, c.old_id)) FILTER (WHERE c.is_told) AS told
    FROM changed AS c
    $statement$, 'contacts_from_' || source, of_target, of_wanted, list,
    CASE WHEN ids IS NULL THEN 'o.source_system = $1' ELSE 'o.id = ANY ($3)' END)
  INTO written
  USING source, (SELECT array_agg(substr(i.id, length(source) + 2)) FROM unnest(ids) AS i (id)), ids, timeline_later;
  rows_inserted := written.inserted;
  rows_updated := written.updated;
  rows_deleted := written.deleted;
  people := written.people;
  -- Raw rows that identifiers come from have enqueued their records themselves, unless nobody knows what changed.
  PERFORM sophia.enqueue('identities', CASE WHEN everything THEN coalesce(ids, written.records) ELSE written.identified END);
  IF cardinality(written.told) > most THEN
    PERFORM sophia.request_full('interaction_timeline', format('more than %s contacts changed', most));
  ELSIF written.told IS NOT NULL AND NOT EXISTS (SELECT FROM sophia.refresh_full AS f WHERE f.target = 'interaction_timeline') THEN
    PERFORM sophia.touch_interactions_of(written.told);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.write_contacts(text, text[], boolean) IS
  'internal: makes these contacts of a source, NULL = all, as wanted, and counts them; identity_id is left alone; what depends on those that changed is enqueued, and people are the identities that these had; timeline_later: the queue of the timeline is not worked off in this call';

CREATE FUNCTION sophia.link_merged_contacts(ids text[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
  UPDATE hubspot_raw.contacts AS c SET merged_into = w.survivor
  FROM (SELECT a.id, a.survivor
    FROM sophia.hubspot_aliases() AS a
    WHERE ids IS NULL OR a.id = ANY (ids)
    UNION ALL
    SELECT o.id, NULL
    FROM hubspot_raw.contacts AS o
    WHERE (ids IS NULL OR o.id = ANY (ids)) AND o.merged_into IS NOT NULL
      AND NOT EXISTS (SELECT FROM sophia.hubspot_aliases() AS a WHERE a.id = o.id)) AS w
  WHERE c.id = w.id AND c.merged_into IS DISTINCT FROM w.survivor;
END
$$;
COMMENT ON FUNCTION sophia.link_merged_contacts(text[]) IS 'internal: writes the survivor of each merged-away HubSpot contact to merged_into, of all or of some, where it differs';
