-- Identities where there are none yet: what resolve_records does, for people all of whom are new.
--
-- Records that fill_contacts wrote have an identity each, as if they were all different people.  So only those that turn
-- out to be somebody else are written again, nothing has to be compared, and no list of all records is in memory.

CREATE FUNCTION sophia.are_all_new() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN NOT EXISTS (SELECT FROM processed_data.identities)
    AND (SELECT count(*) = count(DISTINCT c.identity_id) FROM processed_data.unified_contacts AS c WHERE NOT c.is_bot);
END
$$;
COMMENT ON FUNCTION sophia.are_all_new() IS 'internal: whether there are no identities yet, and every record that gets one has a number of its own';

CREATE FUNCTION sophia.fill_identities() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
  PERFORM sophia.analyze_filled('unified_contacts');
  DELETE FROM processed_data.identity_links;
  WITH edge AS MATERIALIZED (
    SELECT * FROM sophia.identity_edges(NULL, '{}', '{}', false)
  ), linked AS (
    INSERT INTO processed_data.identity_links
      (contact_id, kind, evidence, qualifier, identity_id, rule, confidence, status, created_at)
    SELECT e.record, e.kind, e.value, e.qualifier, e.least_identity_id, e.rule, e.confidence, e.status, now()
    FROM edge AS e
    WHERE e.rule <> ''
  )
  UPDATE processed_data.unified_contacts AS c SET identity_id = m.least_identity_id
  FROM (SELECT DISTINCT e.record, e.least_identity_id FROM edge AS e WHERE e.least_identity_id <> e.identity_id) AS m
  WHERE c.id = m.record;
  INSERT INTO processed_data.identities (identity_id, status, size, primary_contact_id, created_at, updated_at)
  SELECT c.identity_id, 'active', count(*), coalesce(min(c.id) FILTER (WHERE starts_with(c.id, 'hubspot_')), min(c.id)), now(), now()
  FROM processed_data.unified_contacts AS c
  WHERE NOT c.is_bot
  GROUP BY c.identity_id;
  PERFORM sophia.analyze_filled('identities');
END
$$;
COMMENT ON FUNCTION sophia.fill_identities() IS 'internal: writes identities and identity_links where there are none yet';
