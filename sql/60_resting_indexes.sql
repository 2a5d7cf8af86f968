-- Indexes that rest while empty tables are filled: a full refresh builds them from its rows, which takes a third of the time.

CREATE FUNCTION sophia.suspend_indexes(target regclass) RETURNS regclass[]
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'sophia_suspend_indexes_sql';
COMMENT ON FUNCTION sophia.suspend_indexes(regclass) IS
  'internal: has the indexes of a table rest, and the table locked, until rebuild_indexes, which the same transaction has to call; those that rest, none of them where the caller does not own the table or others use it';

CREATE FUNCTION sophia.rebuild_indexes(indexes regclass[]) RETURNS void
LANGUAGE c VOLATILE STRICT
SET maintenance_work_mem = '128MB'
AS 'MODULE_PATHNAME', 'sophia_rebuild_indexes_sql';
COMMENT ON FUNCTION sophia.rebuild_indexes(regclass[]) IS 'internal: builds the indexes that rest from the rows of their tables';

CREATE FUNCTION sophia.is_empty(targets text[]) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target text;
  filled boolean;
BEGIN
  FOREACH target IN ARRAY targets LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM processed_data.%I)', target) INTO filled;
    IF filled THEN
      RETURN false;
    END IF;
  END LOOP;
  RETURN true;
END
$$;
COMMENT ON FUNCTION sophia.is_empty(text[]) IS 'internal: whether these tables of processed_data are all empty';

CREATE FUNCTION sophia.rest_indexes(targets text[]) RETURNS regclass[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target text;
  resting regclass[] := '{}';
BEGIN
  IF sophia.is_empty(targets) THEN
    FOREACH target IN ARRAY targets LOOP
      resting := resting || sophia.suspend_indexes(format('processed_data.%I', target)::regclass);
    END LOOP;
  END IF;
  RETURN resting;
END
$$;
COMMENT ON FUNCTION sophia.rest_indexes(text[]) IS 'internal: has the indexes of these tables of processed_data rest if all of these are empty, and returns those that do';

-- What comes next is planned by these rows, and autovacuum sees them only after the commit: it takes the large sample.
CREATE FUNCTION sophia.analyze_filled(target text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET default_statistics_target = 20
AS $$
BEGIN
  EXECUTE format('ANALYZE processed_data.%I (%s)', target, CASE target
    WHEN 'unified_contacts' THEN 'id, source_system, source_id, email_norm, phone_e164, identity_id, is_internal, is_bot'
    WHEN 'identities' THEN 'identity_id, size'
    WHEN 'interaction_timeline' THEN 'id, source_system, occurred_at, owner_contact_id, thread_key'
    ELSE 'interaction_id, ordinal, contact_id, email_norm' END);
END
$$;
COMMENT ON FUNCTION sophia.analyze_filled(text) IS 'internal: gathers statistics of the columns by which a table of processed_data is looked up';
