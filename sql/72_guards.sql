-- Guards changed: lists of blocked values, and limits.  The records concerned are resolved by the next refresh.

CREATE FUNCTION sophia.check_kind(kind text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF kind IS NULL THEN
    RAISE EXCEPTION 'kind must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  IF NOT EXISTS (SELECT FROM sophia.identifier_kinds AS k WHERE k.kind = check_kind.kind) THEN
    RAISE EXCEPTION 'unknown kind of identifier "%"', kind
      USING ERRCODE = 'invalid_parameter_value',
        HINT = format('Kinds are %s.', (SELECT string_agg(k.kind, ', ' ORDER BY k.priority) FROM sophia.identifier_kinds AS k));
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.check_kind(text) IS 'internal: raises where the kind of identifier is NULL or unknown';

CREATE FUNCTION sophia.guard_value(kind text, value text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted text := btrim(value);
BEGIN
  PERFORM sophia.check_kind(kind);
  IF value IS NULL THEN
    RAISE EXCEPTION 'value must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  IF wanted = '' OR wanted ~ '^\*+$' THEN
    RAISE EXCEPTION 'value "%" would match everything or nothing', value USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- As the identifiers themselves are normalised; a pattern is taken as it is, in lower case.
  RETURN coalesce(CASE WHEN strpos(wanted, '*') = 0 THEN
    CASE kind WHEN 'email' THEN sophia.normalize_email(wanted) WHEN 'phone' THEN sophia.normalize_phone(wanted) END END,
    CASE kind WHEN 'email' THEN lower(wanted) ELSE wanted END);
END
$$;
COMMENT ON FUNCTION sophia.guard_value(text, text) IS 'internal: a value of a list as identifiers are compared with it';

CREATE FUNCTION sophia.requeue_identifiers(kind text, value text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF to_regclass('processed_data.unified_contacts') IS NULL OR to_regclass('processed_data.identity_links') IS NULL THEN
    RETURN;
  END IF;
  EXECUTE format($statement$
    SELECT sophia.enqueue('identities', array_agg(i.record)) FROM (%s) AS i
    WHERE i.kind = $1 AND ($2 IS NULL OR i.value LIKE replace(regexp_replace($2, '([\\%%_])', '\\\1', 'g'), '*', '%%'))
    $statement$, sophia.identifier_query()) USING kind, value;
  -- A Gong party with a role address leaves its context out.
  IF kind = 'email' AND value LIKE '%@*' THEN
    PERFORM sophia.enqueue('identities', array_agg(c.id)) FROM processed_data.unified_contacts AS c
    WHERE c.source_system = 'gong' AND starts_with(c.email_norm, rtrim(value, '*'));
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.requeue_identifiers(text, text) IS 'internal: has the next refresh resolve the records that hold a value or pattern, NULL = any value of the kind';

CREATE FUNCTION sophia.set_blocking(kind text, value text, blocked boolean, reason text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.blocked_values AS b (kind, value, builtin, blocked, reason)
  VALUES (set_blocking.kind, set_blocking.value, false, set_blocking.blocked, set_blocking.reason)
  ON CONFLICT ON CONSTRAINT blocked_values_pkey DO UPDATE SET blocked = excluded.blocked, reason = excluded.reason, changed_at = now()
$$;
COMMENT ON FUNCTION sophia.set_blocking(text, text, boolean, text) IS 'internal: writes a row of the lists of blocked values';

CREATE FUNCTION sophia.block_value(kind text, value text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  value := sophia.guard_value(kind, value);
  PERFORM sophia.set_blocking(kind, value, true, reason);
  PERFORM sophia.requeue_identifiers(kind, value);
END
$$;
COMMENT ON FUNCTION sophia.block_value(text, text, text) IS
  'has a value of an identifier, or a pattern such as info@* or *@example.com, never link records; the next refresh takes existing people apart';

CREATE FUNCTION sophia.unblock_value(kind text, value text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  value := sophia.guard_value(kind, value);
  PERFORM sophia.set_blocking(kind, value, false, NULL);
  PERFORM sophia.requeue_identifiers(kind, value);
END
$$;
COMMENT ON FUNCTION sophia.unblock_value(text, text) IS
  'lets a value link records in spite of lists and of the number of records that share it, or takes a pattern off the lists';

CREATE FUNCTION sophia.write_limits(kind text, max_records integer, max_values integer, enabled boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.identifier_limits AS l (kind, max_records, max_values, enabled)
  VALUES (write_limits.kind, write_limits.max_records, write_limits.max_values, write_limits.enabled)
  ON CONFLICT ON CONSTRAINT identifier_limits_pkey DO UPDATE
  SET max_records = excluded.max_records, max_values = excluded.max_values, enabled = excluded.enabled
$$;
COMMENT ON FUNCTION sophia.write_limits(text, integer, integer, boolean) IS 'internal: writes the limits of a kind of identifier';

CREATE FUNCTION sophia.set_identifier_limits(kind text, max_records integer DEFAULT NULL, max_values integer DEFAULT NULL,
  enabled boolean DEFAULT true)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM sophia.check_kind(kind);
  IF max_records <= 0 OR max_values <= 0 OR enabled IS NULL THEN
    RAISE EXCEPTION 'limits must be positive and enabled must be true or false' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM sophia.write_limits(kind, max_records, max_values, enabled);
  PERFORM sophia.requeue_identifiers(kind, NULL);
END
$$;
COMMENT ON FUNCTION sophia.set_identifier_limits(text, integer, integer, boolean) IS
  'sets how many records may share a value of the kind, how many values a person may have, and whether the kind links at all; NULL = as shipped; the next refresh resolves the records concerned';

CREATE FUNCTION sophia.barred_identifiers() RETURNS TABLE (kind text, value text, status text, records bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF to_regclass('processed_data.identity_links') IS NOT NULL THEN
    RETURN QUERY SELECT l.kind, l.evidence, l.status, count(*) FROM processed_data.identity_links AS l
      WHERE l.status IN ('blocked', 'contested') GROUP BY l.kind, l.evidence, l.status;
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.barred_identifiers() IS 'internal: values that the last resolution found too many or contradicting records to share';

CREATE VIEW sophia.blocked_identifiers AS
SELECT h.kind, h.value, CASE h.status WHEN 'blocked' THEN 'limit' ELSE 'several users' END AS blocked_by,
  CASE h.status WHEN 'blocked' THEN format('%s records share it', h.records) ELSE 'an alias that another Gong user has, too' END AS reason,
  h.records, true AS automatic
FROM sophia.barred_identifiers() AS h
UNION ALL
SELECT b.kind, b.value, CASE WHEN b.builtin THEN 'shipped list' ELSE 'block_value' END, b.reason, NULL, false
FROM sophia.blocked_values AS b
JOIN sophia.blocked_values_in_force AS f ON f.kind = b.kind AND f.value = b.value AND f.blocked
WHERE b.blocked AND (NOT b.builtin OR NOT EXISTS (SELECT FROM sophia.blocked_values AS u
  WHERE u.kind = b.kind AND u.value = b.value AND NOT u.builtin));
COMMENT ON VIEW sophia.blocked_identifiers IS 'values and patterns that link no records, and why';
COMMENT ON COLUMN sophia.blocked_identifiers.kind IS 'kind of identifier';
COMMENT ON COLUMN sophia.blocked_identifiers.value IS 'value, or a pattern in which * stands for any characters';
COMMENT ON COLUMN sophia.blocked_identifiers.blocked_by IS 'limit, several users, shipped list or block_value';
COMMENT ON COLUMN sophia.blocked_identifiers.reason IS 'why';
COMMENT ON COLUMN sophia.blocked_identifiers.records IS 'records that the value does not link, where it was blocked by itself';
COMMENT ON COLUMN sophia.blocked_identifiers.automatic IS 'whether it was blocked by itself, and is unblocked when fewer records or users share it';
