-- Proof on demand that what was resolved piece by piece is what resolving everything at once gives.

CREATE FUNCTION sophia.identity_rows() RETURNS TABLE (target text, key text, content jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT 'unified_contacts', c.id, jsonb_build_object('identity_id', c.identity_id) FROM processed_data.unified_contacts AS c
  UNION ALL
  SELECT 'identities', i.identity_id::text, to_jsonb(i) - '{created_at,updated_at}'::text[] FROM processed_data.identities AS i
  UNION ALL
  SELECT 'identity_links', concat_ws(' ', l.contact_id, l.kind, l.evidence), to_jsonb(l) - 'created_at' FROM processed_data.identity_links AS l
  UNION ALL
  SELECT 'contacts', t.identity_id::text, to_jsonb(t) FROM processed_data.contacts AS t;
END
$$;
COMMENT ON FUNCTION sophia.identity_rows() IS 'internal: what resolve_identities wrote, without the times of its runs';

CREATE FUNCTION sophia.verify_identities()
RETURNS TABLE (target text, key text, column_name text, incremental text, recomputed text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  targets text[];
  keys text[];
  hashes bigint[];
  found_targets text[];
  found_keys text[];
  found_rows jsonb[];
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.refresh', 0));
  SELECT array_agg(r.target), array_agg(r.key), array_agg(jsonb_hash_extended(r.content, 0)) INTO targets, keys, hashes
  FROM sophia.identity_rows() AS r;
  -- Everything is resolved, and that is taken back.
  BEGIN
    PERFORM sophia.resolve_identities();
    SELECT array_agg(coalesce(r.target, b.target)), array_agg(coalesce(r.key, b.key)), array_agg(r.content)
    INTO found_targets, found_keys, found_rows
    FROM sophia.identity_rows() AS r
    FULL JOIN unnest(targets, keys, hashes) AS b (target, key, hash) ON b.target = r.target AND b.key = r.key
    WHERE jsonb_hash_extended(r.content, 0) IS DISTINCT FROM b.hash;
    RAISE EXCEPTION USING ERRCODE = 'SDRY0';
  EXCEPTION WHEN SQLSTATE 'SDRY0' THEN
    NULL;
  END;
  IF found_keys IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY
  SELECT f.target, f.key, d.name, d.incremental, d.recomputed
  FROM unnest(found_targets, found_keys, found_rows) AS f (target, key, content)
  LEFT JOIN sophia.identity_rows() AS r ON r.target = f.target AND r.key = f.key
  CROSS JOIN LATERAL (
    SELECT coalesce(o.key, n.key) AS name, o.value AS incremental, n.value AS recomputed
    FROM jsonb_each_text(coalesce(r.content, '{}')) AS o
    FULL JOIN jsonb_each_text(coalesce(f.content, '{}')) AS n ON n.key = o.key) AS d
  WHERE d.incremental IS DISTINCT FROM d.recomputed;
END
$$;
COMMENT ON FUNCTION sophia.verify_identities() IS
  'resolves everything anew, takes that back, and reports each difference from what the refreshes left: none is expected';
