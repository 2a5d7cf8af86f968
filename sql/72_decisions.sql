-- Decisions of people about people, and answers about them: they outrank rules, last until they are undone, and act at once.
--
-- A decision is an event; what it demands of pairs of records stands in identity_decisions.  Of two decisions about one
-- pair the later one stands, and undoing it lets the earlier one stand again.

CREATE FUNCTION sophia.check_record(record text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF record IS NULL THEN
    RAISE EXCEPTION 'record must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  IF to_regclass('processed_data.unified_contacts') IS NULL
    OR NOT EXISTS (SELECT FROM processed_data.unified_contacts AS c WHERE c.id = record) THEN
    RAISE EXCEPTION 'record "%" does not exist', record
      USING ERRCODE = 'no_data_found', HINT = 'A record is an id of processed_data.unified_contacts.';
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.check_record(text) IS 'internal: raises where the record is NULL or unknown';

CREATE FUNCTION sophia.resolve_id(identity bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  step record;
  current bigint := identity;
BEGIN
  IF identity IS NULL THEN
    RAISE EXCEPTION 'identity must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  LOOP
    IF to_regclass('processed_data.identities') IS NOT NULL THEN
      SELECT i.status, i.merged_into INTO step FROM processed_data.identities AS i WHERE i.identity_id = current;
    END IF;
    IF NOT FOUND OR step IS NULL THEN
      RAISE EXCEPTION 'identity % does not exist', current USING ERRCODE = 'no_data_found';
    END IF;
    EXIT WHEN step.status <> 'merged';
    current := step.merged_into;
  END LOOP;
  RETURN CASE WHEN step.status = 'active' THEN current END;
END
$$;
COMMENT ON FUNCTION sophia.resolve_id(bigint) IS 'identity_id of the person that an identity stands for now, however often it was merged; NULL where no record of that person is left';

CREATE FUNCTION sophia.live_identity(identity bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  current CONSTANT bigint := sophia.resolve_id(identity);
BEGIN
  IF current IS NULL THEN
    RAISE EXCEPTION 'identity % has no record any more', identity USING ERRCODE = 'no_data_found';
  END IF;
  RETURN current;
END
$$;
COMMENT ON FUNCTION sophia.live_identity(bigint) IS 'internal: resolve_id, which raises where nobody is left';

CREATE FUNCTION sophia.identity_of(record text) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM sophia.check_record(record);
  RETURN (SELECT c.identity_id FROM processed_data.unified_contacts AS c WHERE c.id = record);
END
$$;
COMMENT ON FUNCTION sophia.identity_of(text) IS 'internal: the identity that a record belongs to, NULL before the first resolution';

CREATE FUNCTION sophia.anchor_of(identity bigint) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT coalesce(i.heir_contact_id, i.primary_contact_id) FROM processed_data.identities AS i WHERE i.identity_id = identity);
END
$$;
COMMENT ON FUNCTION sophia.anchor_of(bigint) IS 'internal: the record that an identity belongs to';

CREATE FUNCTION sophia.log_decision(decision text, identity bigint, other bigint, contact text, other_contact text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.identity_events (kind, decision, identity_id, other_identity_id, contact_id, other_contact_id)
  VALUES ('decision', log_decision.decision, log_decision.identity, log_decision.other, log_decision.contact, log_decision.other_contact)
  RETURNING event
$$;
COMMENT ON FUNCTION sophia.log_decision(text, bigint, bigint, text, text) IS 'internal: writes a decision to the log and returns its event';

CREATE FUNCTION sophia.demand(event bigint, demand text, one text[], other text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.identity_decisions (event, demand, record_a, record_b)
  SELECT demand.event, demand.demand, least(u.a COLLATE "C", u.b COLLATE "C"), greatest(u.a COLLATE "C", u.b COLLATE "C")
  FROM unnest(one, other) AS u (a, b)
$$;
COMMENT ON FUNCTION sophia.demand(bigint, text, text[], text[]) IS 'internal: writes what a decision demands of pairs of records';

CREATE FUNCTION sophia.demand_absorbed(event bigint, keep bigint, absorb bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.identity_decisions (event, demand, keep, absorb)
  VALUES (demand_absorbed.event, 'absorbed', demand_absorbed.keep, demand_absorbed.absorb)
$$;
COMMENT ON FUNCTION sophia.demand_absorbed(bigint, bigint, bigint) IS 'internal: writes which of two identities gives way';

CREATE FUNCTION sophia.lock_identities() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  records text[];
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.refresh', 0));
  -- A decision is about the people that are there, so records that were never resolved come first.
  IF to_regclass('processed_data.unified_contacts') IS NOT NULL
    AND EXISTS (SELECT FROM processed_data.unified_contacts AS c WHERE c.identity_id IS NULL AND NOT c.is_bot) THEN
    records := ARRAY(SELECT c.id FROM processed_data.unified_contacts AS c WHERE c.identity_id IS NULL AND NOT c.is_bot);
    PERFORM sophia.resolve_identities(records);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.lock_identities() IS 'internal: waits for a refresh that is under way, and resolves what was never resolved';

CREATE FUNCTION sophia.link(record text, other_record text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  event bigint;
BEGIN
  PERFORM sophia.check_record(r.id) FROM unnest(ARRAY[record, other_record]) AS r (id);
  IF record = other_record THEN
    RAISE EXCEPTION 'a record cannot be linked to itself' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM sophia.lock_identities();
  event := sophia.log_decision('link', sophia.identity_of(record), sophia.identity_of(other_record), record, other_record);
  PERFORM sophia.demand(event, 'together', ARRAY[record], ARRAY[other_record]);
  PERFORM sophia.resolve_identities(ARRAY[record, other_record]);
  IF sophia.identity_of(record) IS DISTINCT FROM sophia.identity_of(other_record) THEN
    RAISE EXCEPTION 'records "%" and "%" cannot be one person', record, other_record
      USING ERRCODE = 'object_not_in_prerequisite_state',
        DETAIL = 'Other decisions link each of them to records that a decision keeps apart.',
        HINT = 'Undo one of those decisions: see sophia.identity_decisions.';
  END IF;
  RETURN event;
END
$$;
COMMENT ON FUNCTION sophia.link(text, text) IS
  'decides that two source records are one person, whatever the rules say, and returns the event; it stands over an earlier unlink of the two';

CREATE FUNCTION sophia.unlink(record text, other_record text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  event bigint;
BEGIN
  PERFORM sophia.check_record(r.id) FROM unnest(ARRAY[record, other_record]) AS r (id);
  IF record = other_record THEN
    RAISE EXCEPTION 'a record cannot be unlinked from itself' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM sophia.lock_identities();
  event := sophia.log_decision('unlink', sophia.identity_of(record), sophia.identity_of(other_record), record, other_record);
  PERFORM sophia.demand(event, 'apart', ARRAY[record], ARRAY[other_record]);
  PERFORM sophia.resolve_identities(ARRAY[record, other_record]);
  RETURN event;
END
$$;
COMMENT ON FUNCTION sophia.unlink(text, text) IS
  'decides that two source records are two people, whatever the rules say, and returns the event; it stands over an earlier link of the two';

CREATE FUNCTION sophia.merge_contacts(keep bigint, absorb bigint) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  event bigint;
  kept text;
  absorbed text;
  one text[];
  other text[];
BEGIN
  PERFORM sophia.lock_identities();
  keep := sophia.live_identity(keep);
  absorb := sophia.live_identity(absorb);
  IF keep = absorb THEN
    RAISE EXCEPTION 'both identities are %', keep USING ERRCODE = 'invalid_parameter_value';
  END IF;
  kept := sophia.anchor_of(keep);
  absorbed := sophia.anchor_of(absorb);
  event := sophia.log_decision('merge_contacts', keep, absorb, kept, absorbed);
  -- It stands over every earlier decision that keeps a record of the one apart from a record of the other.
  SELECT array_agg(p.record_a), array_agg(p.record_b) INTO one, other
  FROM sophia.pairs_in_force() AS p
  JOIN processed_data.unified_contacts AS a ON a.id = p.record_a
  JOIN processed_data.unified_contacts AS b ON b.id = p.record_b
  WHERE NOT p.together AND a.identity_id IN (keep, absorb) AND b.identity_id IN (keep, absorb) AND a.identity_id <> b.identity_id;
  PERFORM sophia.demand(event, 'together', one, other);
  PERFORM sophia.demand(event, 'together', ARRAY[kept], ARRAY[absorbed]);
  PERFORM sophia.demand_absorbed(event, keep, absorb);
  PERFORM sophia.resolve_identities(ARRAY[kept, absorbed]);
  RETURN event;
END
$$;
COMMENT ON FUNCTION sophia.merge_contacts(bigint, bigint) IS
  'decides that two people are one and keeps the number of the first, even if the other one is older; returns the event; old numbers are resolved';

CREATE FUNCTION sophia.split_contact(identity bigint, records text[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  event bigint;
  rest text[];
  stranger text;
  former text;
  heir text;
BEGIN
  IF records IS NULL THEN
    RAISE EXCEPTION 'records must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  PERFORM sophia.check_record(r.id) FROM unnest(records) AS r (id);
  PERFORM sophia.lock_identities();
  identity := sophia.live_identity(identity);
  SELECT r.id INTO stranger FROM unnest(records) AS r (id) WHERE sophia.identity_of(r.id) IS DISTINCT FROM identity LIMIT 1;
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION 'record "%" is not of identity %', stranger, identity USING ERRCODE = 'invalid_parameter_value';
  END IF;
  rest := ARRAY(SELECT c.id FROM processed_data.unified_contacts AS c
    WHERE c.identity_id = identity AND c.id <> ALL (records)
    ORDER BY NOT starts_with(c.id, 'hubspot_'), c.created_at, c.id COLLATE "C");
  IF records = '{}' OR rest = '{}' THEN
    RAISE EXCEPTION 'some but not all records of identity % must be named', identity USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- The number stays with those that stay.
  former := sophia.anchor_of(identity);
  heir := CASE WHEN former = ANY (records) THEN rest[1] END;
  event := sophia.log_decision('split_contact', identity, NULL, heir, CASE WHEN heir IS NOT NULL THEN former END);
  PERFORM sophia.demand(event, 'apart', array_agg(r.id), array_agg(o.id)) FROM unnest(records) AS r (id), unnest(rest) AS o (id);
  PERFORM sophia.demand(event, 'together', array_agg(records[1]), array_agg(r.id)) FROM unnest(records[2:]) AS r (id)
  WHERE r.id <> records[1];
  IF heir IS NOT NULL THEN
    UPDATE processed_data.identities AS i SET primary_contact_id = heir, heir_contact_id = NULL WHERE i.identity_id = identity;
  END IF;
  PERFORM sophia.resolve_identities(records || rest);
  RETURN event;
END
$$;
COMMENT ON FUNCTION sophia.split_contact(bigint, text[]) IS
  'decides that these records of a person are another one, and returns the event; the number stays with the other records, these take back the number that they had or get a new one';

CREATE FUNCTION sophia.take_back(event bigint, OUT records text[], OUT decision sophia.identity_events)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  SELECT e.* INTO decision FROM sophia.identity_events AS e WHERE e.event = take_back.event FOR UPDATE;
  IF decision.event IS NULL THEN
    RAISE EXCEPTION 'event % does not exist', event USING ERRCODE = 'no_data_found';
  END IF;
  IF decision.kind <> 'decision' OR decision.decision = 'undo' THEN
    RAISE EXCEPTION 'event % is no decision that can be undone', event
      USING ERRCODE = 'invalid_parameter_value', HINT = 'link, unlink, merge_contacts and split_contact can be.';
  END IF;
  IF decision.undone_by IS NOT NULL THEN
    RAISE EXCEPTION 'event % was undone by event %', event, decision.undone_by USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  WITH taken AS (
    DELETE FROM sophia.identity_decisions AS d WHERE d.event = take_back.event RETURNING d.record_a, d.record_b
  )
  SELECT array_agg(DISTINCT r.id) INTO records
  FROM taken AS t CROSS JOIN LATERAL unnest(ARRAY[t.record_a, t.record_b]) AS r (id) WHERE r.id IS NOT NULL;
END
$$;
COMMENT ON FUNCTION sophia.take_back(bigint) IS 'internal: removes what a decision demands, and returns the records that it named';

CREATE FUNCTION sophia.mark_undone(event bigint, undone_by bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE sophia.identity_events AS e SET undone_by = mark_undone.undone_by WHERE e.event = mark_undone.event
$$;
COMMENT ON FUNCTION sophia.mark_undone(bigint, bigint) IS 'internal: notes which event undid a decision';

CREATE FUNCTION sophia.undo(event bigint) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  taken record;
  undoing bigint;
BEGIN
  IF event IS NULL THEN
    RAISE EXCEPTION 'event must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  PERFORM sophia.lock_identities();
  SELECT t.records, t.decision INTO taken FROM sophia.take_back(event) AS t;
  undoing := sophia.log_decision('undo', (taken.decision).identity_id, (taken.decision).other_identity_id,
    (taken.decision).contact_id, (taken.decision).other_contact_id);
  PERFORM sophia.mark_undone(event, undoing);
  IF (taken.decision).decision = 'split_contact' THEN
    UPDATE processed_data.identities AS i SET primary_contact_id = (taken.decision).other_contact_id, heir_contact_id = NULL
    WHERE i.identity_id = (taken.decision).identity_id AND i.primary_contact_id = (taken.decision).contact_id;
  END IF;
  PERFORM sophia.resolve_identities(taken.records);
  RETURN undoing;
END
$$;
COMMENT ON FUNCTION sophia.undo(bigint) IS
  'takes a decision back: rules and the decisions that remain apply again, and identities get the numbers back that they had; returns the event of its own';

CREATE FUNCTION sophia.explain_identity(record text, other_record text)
RETURNS TABLE (step integer, from_record text, to_record text, kind text, evidence text, rule text, confidence real)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  identity bigint;
  frontier text[] := ARRAY[record];
  reached text[] := ARRAY[record];
  found jsonb;
  ways jsonb := '{}';
  path jsonb[] := '{}';
  at text := other_record;
BEGIN
  identity := sophia.identity_of(record);
  IF identity IS DISTINCT FROM sophia.identity_of(other_record) OR record = other_record THEN
    RETURN;
  END IF;
  -- Breadth first, so that the path is one of the shortest; of several steps to a record the surest is kept.
  WHILE frontier <> '{}' AND NOT ways ? other_record LOOP
    SELECT jsonb_object_agg(w.to_record, to_jsonb(w)) INTO found
    FROM (
      SELECT DISTINCT ON (n.to_record) n.*
      FROM (
        SELECT a.contact_id AS from_record, b.contact_id AS to_record, a.kind, concat_ws(' ', a.evidence, nullif(a.qualifier, '')) AS evidence,
          CASE WHEN a.rule = b.rule THEN a.rule ELSE a.rule || ', ' || b.rule END AS rule, least(a.confidence, b.confidence) AS confidence
        FROM processed_data.identity_links AS a
        JOIN processed_data.identity_links AS b
          ON b.kind = a.kind AND b.evidence = a.evidence AND b.qualifier = a.qualifier AND b.status = 'linked'
        WHERE a.identity_id = identity AND b.identity_id = identity AND a.status = 'linked' AND a.kind <> 'record'
          AND a.contact_id = ANY (frontier)
        UNION ALL
        SELECT d.one, d.other, l.kind, l.contact_id || ' ' || l.evidence, l.rule, l.confidence
        FROM processed_data.identity_links AS l
        CROSS JOIN LATERAL (VALUES (l.contact_id, l.evidence), (l.evidence, l.contact_id)) AS d (one, other)
        WHERE l.identity_id = identity AND l.kind = 'record' AND l.status = 'linked' AND d.one = ANY (frontier)) AS n
      WHERE n.to_record <> ALL (reached)
      ORDER BY n.to_record, n.confidence DESC, n.kind, n.evidence COLLATE "C", n.from_record COLLATE "C") AS w;
    frontier := ARRAY(SELECT jsonb_object_keys(coalesce(found, '{}')));
    reached := reached || frontier;
    ways := ways || coalesce(found, '{}');
  END LOOP;
  WHILE at <> record AND ways ? at LOOP
    path := (ways -> at) || path;
    at := ways -> at ->> 'from_record';
  END LOOP;
  RETURN QUERY
  SELECT p.place::integer, p.way ->> 'from_record', p.way ->> 'to_record', p.way ->> 'kind', p.way ->> 'evidence', p.way ->> 'rule',
    (p.way ->> 'confidence')::real
  FROM unnest(path) WITH ORDINALITY AS p (way, place) ORDER BY p.place;
END
$$;
COMMENT ON FUNCTION sophia.explain_identity(text, text) IS
  'why two source records are one person: the shortest chain of evidence between them, a row a step; no row where they are not one person';

CREATE FUNCTION sophia.identity_changes()
RETURNS TABLE (event bigint, occurred_at timestamptz, actor text, kind text, decision text, identity_id bigint, other_identity_id bigint,
  contact_id text, other_contact_id text, undone_by bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT e.event, e.occurred_at, e.actor, e.kind, e.decision, e.identity_id, e.other_identity_id, e.contact_id, e.other_contact_id, e.undone_by
  FROM sophia.identity_events AS e;
  IF to_regclass('processed_data.identities') IS NOT NULL THEN
    RETURN QUERY EXECUTE 'SELECT NULL::bigint, i.created_at, NULL::text, ''created'', NULL::text, i.identity_id, NULL::bigint, i.primary_contact_id,
      NULL::text, NULL::bigint FROM processed_data.identities AS i';
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.identity_changes() IS 'internal: what identity_history shows';

CREATE VIEW sophia.identity_history AS SELECT * FROM sophia.identity_changes();
COMMENT ON VIEW sophia.identity_history IS 'what happened to identities, and what was decided about them';
COMMENT ON COLUMN sophia.identity_history.event IS 'number of the event, growing with time; NULL for the making of an identity';
COMMENT ON COLUMN sophia.identity_history.occurred_at IS 'when it happened';
COMMENT ON COLUMN sophia.identity_history.actor IS 'role that ran the refresh or made the decision; NULL for the making of an identity';
COMMENT ON COLUMN sophia.identity_history.kind IS
  'created; merged: into the other one; split: its records were of the other one; restored: it is a person again; moved: a record came from the other one; retired: no record is left; decision';
COMMENT ON COLUMN sophia.identity_history.decision IS 'link, unlink, merge_contacts, split_contact or undo';
COMMENT ON COLUMN sophia.identity_history.identity_id IS 'the identity that it happened to';
COMMENT ON COLUMN sophia.identity_history.other_identity_id IS 'the other identity of it, NULL = none';
COMMENT ON COLUMN sophia.identity_history.contact_id IS 'the record that moved or that was decided about; of an identity that was created the one that it began with';
COMMENT ON COLUMN sophia.identity_history.other_contact_id IS 'the other record that was decided about';
COMMENT ON COLUMN sophia.identity_history.undone_by IS 'event of the undo, NULL = it stands';

CREATE FUNCTION sophia.identity_history(identity bigint) RETURNS SETOF sophia.identity_history
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  family bigint[] := ARRAY[identity];
  before bigint[];
BEGIN
  PERFORM sophia.resolve_id(identity);
  -- With every identity that was ever merged with it.
  WHILE before IS DISTINCT FROM family LOOP
    before := family;
    family := ARRAY(
      SELECT f.id FROM unnest(before) AS f (id)
      UNION
      SELECT unnest(ARRAY[e.identity_id, e.other_identity_id]) FROM sophia.identity_history AS e
      WHERE e.kind = 'merged' AND (e.identity_id = ANY (before) OR e.other_identity_id = ANY (before))
      ORDER BY 1);
  END LOOP;
  RETURN QUERY
  SELECT h.* FROM sophia.identity_history AS h
  WHERE h.identity_id = ANY (family) OR h.other_identity_id = ANY (family)
  ORDER BY h.occurred_at, h.event NULLS FIRST, h.identity_id;
END
$$;
COMMENT ON FUNCTION sophia.identity_history(bigint) IS 'what happened to an identity and to all that were ever merged with it, in time';
