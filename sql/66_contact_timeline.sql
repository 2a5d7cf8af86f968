-- contact_timeline: what a person took part in, over all records of the identity, page by page.
--
-- The time of an interaction stands beside each participant, so that an index gives the newest of each record in order; the
-- records are merged.  A page ends with a time, not within one: then the time of its last row is all that the next needs.

CREATE FUNCTION sophia.contact_timeline(identity bigint, before timestamptz DEFAULT NULL, max_rows integer DEFAULT 50)
RETURNS TABLE (id text, occurred_at timestamptz, interaction_type text, source_system text, direction text, channel text,
  channel_name text, thread_key text, parent_id text, subject text, snippet text, role text, contact_id text,
  owner_contact_id text, company_id text, deal_id text, duration_seconds integer, talk_seconds integer, sentiment text,
  is_private boolean, source_url text)
LANGUAGE plpgsql STABLE ROWS 50
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  upto constant timestamptz := coalesce(before, 'infinity');
  records text[];
  found_rows bigint;
BEGIN
  IF identity IS NULL OR max_rows IS NULL THEN
    RAISE EXCEPTION '% must not be null', CASE WHEN identity IS NULL THEN 'identity' ELSE 'max_rows' END
      USING ERRCODE = 'null_value_not_allowed';
  ELSIF max_rows < 1 THEN
    RAISE EXCEPTION 'max_rows must be at least 1, not %', max_rows USING ERRCODE = 'invalid_parameter_value';
  END IF;
  records := ARRAY(SELECT c.id FROM processed_data.unified_contacts AS c WHERE c.identity_id = sophia.resolve_id(identity));
  RETURN QUERY
    SELECT t.id, f.occurred_at, t.interaction_type, t.source_system, t.direction, t.channel, t.channel_name, t.thread_key,
      t.parent_id, t.subject, t.snippet, f.role, f.contact_id, t.owner_contact_id, t.company_id, t.deal_id,
      t.duration_seconds, f.talk_seconds, t.sentiment, t.is_private, t.source_url
    FROM (
      SELECT x.*
      FROM unnest(records) AS r (id)
      CROSS JOIN LATERAL (
        SELECT p.interaction_id, p.occurred_at, p.role, p.contact_id, p.talk_seconds
        FROM processed_data.interaction_participants AS p
        JOIN processed_data.interaction_timeline AS s ON s.id = p.interaction_id AND s.occurred_at = p.occurred_at
        WHERE p.contact_id = r.id AND p.occurred_at <= upto AND (before IS NULL OR p.occurred_at < before)
          AND NOT s.is_deleted
          -- Whoever takes part several times does so as the first of these.
          AND (p.ordinal = 1 OR NOT EXISTS (SELECT FROM processed_data.interaction_participants AS o
            WHERE o.interaction_id = p.interaction_id AND o.ordinal < p.ordinal AND o.contact_id = ANY (records)))
          -- A duplicate is shown only where the person is not seen to take part in what it shows as well.
          AND NOT (s.duplicate_of IS NOT NULL AND EXISTS (SELECT FROM processed_data.interaction_participants AS o
            WHERE o.interaction_id = s.duplicate_of AND o.contact_id = ANY (records)))
        ORDER BY p.occurred_at DESC
        FETCH FIRST max_rows ROWS WITH TIES) AS x
      ORDER BY x.occurred_at DESC
      FETCH FIRST max_rows ROWS WITH TIES) AS f
    JOIN processed_data.interaction_timeline AS t ON t.id = f.interaction_id AND t.occurred_at = f.occurred_at
    ORDER BY f.occurred_at DESC, t.id COLLATE "C";
  GET DIAGNOSTICS found_rows = ROW_COUNT;
  IF found_rows >= max_rows THEN
    RETURN;
  END IF;
  -- At the end, what has no time.
  RETURN QUERY
    SELECT t.id, NULL::timestamptz, t.interaction_type, t.source_system, t.direction, t.channel, t.channel_name, t.thread_key,
      t.parent_id, t.subject, t.snippet, p.role, p.contact_id, t.owner_contact_id, t.company_id, t.deal_id,
      t.duration_seconds, p.talk_seconds, t.sentiment, t.is_private, t.source_url
    FROM unnest(records) AS r (id)
    JOIN processed_data.interaction_participants AS p ON p.contact_id = r.id AND p.occurred_at IS NULL
    JOIN processed_data.interaction_timeline AS t ON t.id = p.interaction_id
    WHERE NOT t.is_deleted
      AND NOT EXISTS (SELECT FROM processed_data.interaction_participants AS o
        WHERE o.interaction_id = p.interaction_id AND o.ordinal < p.ordinal AND o.contact_id = ANY (records))
    ORDER BY t.id COLLATE "C";
END
$$;
COMMENT ON FUNCTION sophia.contact_timeline(bigint, timestamptz, integer) IS
  'what a person took part in, newest first, over all records of the identity, which may be an old one; duplicates come once and '
  'deleted interactions not at all.  before: the occurred_at of the last row of the page before; several rows of that time all '
  'stand on one page, which therefore may be longer than max_rows; what has no time ends the last page';
