-- The golden record: a row a person, each field from the record that is to be believed.

CREATE TABLE sophia.survivorship_rules (
  field text NOT NULL,
  sources text[] NOT NULL,
  builtin boolean NOT NULL DEFAULT false,
  PRIMARY KEY (field, builtin)
);
COMMENT ON TABLE sophia.survivorship_rules IS 'internal: what survivorship shows; a row of the user stands over the shipped one';
SELECT pg_catalog.pg_extension_config_dump('sophia.survivorship_rules', 'WHERE NOT builtin');
INSERT INTO sophia.survivorship_rules (field, sources, builtin) VALUES
  ('email', '{hubspot,gong,slack}', true), ('first_name', '{hubspot,slack,gong}', true), ('last_name', '{hubspot,slack,gong}', true),
  ('full_name', '{hubspot,slack,gong}', true), ('company_name', '{hubspot,gong,slack}', true),
  ('job_title', '{hubspot,slack,gong}', true), ('phone', '{hubspot,slack,gong}', true), ('owner_id', '{hubspot,gong,slack}', true),
  ('lifecycle_stage', '{hubspot,gong,slack}', true);

CREATE VIEW sophia.survivorship AS
SELECT DISTINCT ON (r.field) r.field, r.sources, r.builtin FROM sophia.survivorship_rules AS r ORDER BY r.field, r.builtin;
COMMENT ON VIEW sophia.survivorship IS 'which source each field of the golden record is taken from: the first one that has a value; changed by set_survivorship';
COMMENT ON COLUMN sophia.survivorship.field IS 'column of processed_data.contacts';
COMMENT ON COLUMN sophia.survivorship.sources IS 'sources, the most trusted first; others come after them';
COMMENT ON COLUMN sophia.survivorship.builtin IS 'whether the order is the shipped one';
GRANT SELECT ON sophia.survivorship TO PUBLIC;

CREATE FUNCTION sophia.survivorship_terms(field text, OUT is_partial text, OUT size text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- Of a record that has first and last name both are taken, and its full name: not one's first and another's last name.
  SELECT CASE WHEN field IN ('first_name', 'last_name', 'full_name') THEN '(c.first_name IS NULL OR c.last_name IS NULL)'
      ELSE format('(c.%I IS NULL)', field) END,
    format('length(c.%I)', CASE WHEN field IN ('first_name', 'last_name') THEN 'full_name' ELSE field END)
$$;
COMMENT ON FUNCTION sophia.survivorship_terms(text) IS
  'internal: SQL for whether a record c lacks some of what is chosen along with a field, and for the size by which equal ones are told apart';

CREATE FUNCTION sophia.survivorship_order(field text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('c.is_deleted, %s, array_position(%L::text[], c.source_system) NULLS LAST, '
    'coalesce(c.source_updated_at, c.updated_at) DESC NULLS LAST, %s DESC NULLS LAST, c.id COLLATE "C"', t.is_partial, s.sources, t.size)
  FROM sophia.survivorship AS s
  CROSS JOIN LATERAL sophia.survivorship_terms(s.field) AS t
  WHERE s.field = survivorship_order.field
$$;
COMMENT ON FUNCTION sophia.survivorship_order(text) IS 'internal: SQL order in which records c give a field: live ones, of a name complete ones, by source, the latest, the longest value, the id';

CREATE FUNCTION sophia.survivor_step(state internal, value text, is_deleted boolean, is_partial boolean, place integer, changed_at timestamptz,
  size integer, record text)
RETURNS internal
LANGUAGE c IMMUTABLE
AS 'MODULE_PATHNAME', 'sophia_survivor_step_sql';
COMMENT ON FUNCTION sophia.survivor_step(internal, text, boolean, boolean, integer, timestamptz, integer, text) IS 'internal: step of survivor';

CREATE FUNCTION sophia.survivor_value(state internal) RETURNS text
LANGUAGE c IMMUTABLE
AS 'MODULE_PATHNAME', 'sophia_survivor_value_sql';
COMMENT ON FUNCTION sophia.survivor_value(internal) IS 'internal: end of survivor';

CREATE AGGREGATE sophia.survivor(value text, is_deleted boolean, is_partial boolean, place integer, changed_at timestamptz, size integer,
  record text) (
  SFUNC = sophia.survivor_step,
  STYPE = internal,
  FINALFUNC = sophia.survivor_value
);
COMMENT ON AGGREGATE sophia.survivor(text, boolean, boolean, integer, timestamptz, integer, text) IS
  'internal: the value that comes first in survivorship_order, whose terms are the arguments';

CREATE FUNCTION sophia.survivor_query(field text, value text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('sophia.survivor(c.%1$I, c.is_deleted, %4$s, array_position(%2$L::text[], c.source_system), '
    'coalesce(c.source_updated_at, c.updated_at), %5$s, c.id) FILTER (WHERE c.%3$I IS NOT NULL)',
    value, s.sources, s.field, t.is_partial, t.size)
  FROM sophia.survivorship AS s
  CROSS JOIN LATERAL sophia.survivorship_terms(s.field) AS t
  WHERE s.field = survivor_query.field
$$;
COMMENT ON FUNCTION sophia.survivor_query(text, text) IS 'internal: SQL for a value of that one of records c that gives a field';

CREATE FUNCTION sophia.golden_query(people text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- Most people have one record: nothing has to be chosen for them.
  SELECT format($query$
    SELECT c.identity_id, %1$s, c.created_at, c.updated_at, c.email_norm, c.email_domain, c.phone_e164, coalesce(c.all_emails, '{}') AS all_emails,
      c.is_internal, c.is_deleted, c.first_seen_at, c.last_seen_at, ARRAY[c.source_system] AS sources, ARRAY[c.id] AS record_ids
    FROM %3$s AS i
    JOIN processed_data.unified_contacts AS c ON c.identity_id = i.identity_id
    WHERE i.size = 1
    UNION ALL
    SELECT c.identity_id, %2$s, min(c.created_at), max(c.updated_at),
      %4$s, %5$s, %6$s,
      ARRAY(SELECT DISTINCT e.value FROM unnest(string_to_array(string_agg(array_to_string(c.all_emails, ' '), ' '), ' ')) AS e (value)
        WHERE e.value <> '' ORDER BY 1),
      bool_or(c.is_internal), bool_and(c.is_deleted), min(c.first_seen_at), max(c.last_seen_at),
      array_agg(DISTINCT c.source_system), array_agg(c.id ORDER BY c.id COLLATE "C")
    FROM %3$s AS i
    JOIN processed_data.unified_contacts AS c ON c.identity_id = i.identity_id
    WHERE i.size > 1
    GROUP BY c.identity_id$query$,
    string_agg(format('c.%I', s.field), ', ' ORDER BY s.field),
    string_agg(sophia.survivor_query(s.field, s.field) || format(' AS %I', s.field), ', ' ORDER BY s.field), people,
    sophia.survivor_query('email', 'email_norm'), sophia.survivor_query('email', 'email_domain'), sophia.survivor_query('phone', 'phone_e164'))
  FROM sophia.survivorship AS s
$$;
COMMENT ON FUNCTION sophia.golden_query(text) IS 'internal: query for the rows that processed_data.contacts should have for these people: a relation with identity_id and size';

CREATE FUNCTION sophia.golden_columns() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT string_agg(quote_ident(s.field), ', ' ORDER BY s.field) || ', created_at, updated_at, email_norm, email_domain, phone_e164, '
    'all_emails, is_internal, is_deleted, first_seen_at, last_seen_at, sources, record_ids'
  FROM sophia.survivorship AS s
$$;
COMMENT ON FUNCTION sophia.golden_columns() IS 'internal: columns of golden_query behind identity_id';

CREATE FUNCTION sophia.write_golden(identities bigint[], OUT rows_inserted bigint, OUT rows_updated bigint, OUT rows_deleted bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  columns CONSTANT text := sophia.golden_columns();
  -- Each is looked up by itself, however many the planner expects.
  person text := 'SELECT i.identity_id, i.size FROM unnest($1) AS u (id)
    CROSS JOIN LATERAL (SELECT o.identity_id, o.size FROM processed_data.identities AS o WHERE o.identity_id = u.id OFFSET 0) AS i';
BEGIN
  IF NOT EXISTS (SELECT FROM processed_data.contacts) THEN
    EXECUTE format('INSERT INTO processed_data.contacts (identity_id, %s) %s', columns, sophia.golden_query('processed_data.identities'));
    GET DIAGNOSTICS rows_inserted = ROW_COUNT;
    rows_updated := 0;
    rows_deleted := 0;
    RETURN;
  END IF;
  IF identities IS NULL THEN
    identities := ARRAY(SELECT i.identity_id FROM processed_data.identities AS i UNION SELECT t.identity_id FROM processed_data.contacts AS t);
    person := 'SELECT i.identity_id, i.size FROM processed_data.identities AS i';
  END IF;
  EXECUTE format($statement$
    WITH person AS MATERIALIZED (
      %5$s
    ), wanted AS MATERIALIZED (
      %1$s
    ), changed AS MATERIALIZED (
      SELECT w.*, t.ctid AS place
      FROM wanted AS w
      LEFT JOIN processed_data.contacts AS t ON t.identity_id = w.identity_id
      WHERE t.identity_id IS NULL OR (%3$s) IS DISTINCT FROM (%4$s)
    ), inserted AS (
      INSERT INTO processed_data.contacts (identity_id, %2$s) SELECT w.identity_id, %4$s FROM changed AS w WHERE w.place IS NULL
    ), updated AS (
      UPDATE processed_data.contacts AS t SET (%2$s) = ROW (%4$s)
      FROM changed AS w WHERE t.identity_id = w.identity_id AND t.ctid = w.place
    ), removed AS (
      DELETE FROM processed_data.contacts AS t
      USING (SELECT unnest($1) EXCEPT SELECT w.identity_id FROM wanted AS w) AS g (identity_id)
      WHERE t.identity_id = g.identity_id
      RETURNING t.identity_id
    )
    SELECT count(*) FILTER (WHERE c.place IS NULL), count(c.place), (SELECT count(*) FROM removed)
    FROM changed AS c
    $statement$, sophia.golden_query('person'), columns,
    regexp_replace(columns, '(\w+)', 't.\1', 'g'), regexp_replace(columns, '(\w+)', 'w.\1', 'g'),
    person)
  INTO rows_inserted, rows_updated, rows_deleted USING identities;
END
$$;
COMMENT ON FUNCTION sophia.write_golden(bigint[]) IS 'internal: makes the golden records of identities (NULL = of all) as wanted, and counts them';

CREATE FUNCTION sophia.write_survivorship(field text, sources text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  DELETE FROM sophia.survivorship_rules AS r WHERE r.field = write_survivorship.field AND NOT r.builtin;
  INSERT INTO sophia.survivorship_rules (field, sources)
  SELECT write_survivorship.field, write_survivorship.sources WHERE write_survivorship.sources IS NOT NULL
$$;
COMMENT ON FUNCTION sophia.write_survivorship(text, text[]) IS 'internal: writes the order of the sources of a field; NULL = the shipped one';

CREATE FUNCTION sophia.set_survivorship(field text, sources text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF field IS NULL OR NOT EXISTS (SELECT FROM sophia.survivorship AS s WHERE s.field = set_survivorship.field) THEN
    RAISE EXCEPTION 'unknown field "%"', coalesce(field, 'NULL') USING ERRCODE = 'invalid_parameter_value',
      HINT = format('Fields are %s.', (SELECT string_agg(s.field, ', ' ORDER BY s.field) FROM sophia.survivorship AS s));
  END IF;
  IF EXISTS (SELECT FROM unnest(sources) AS u (name) WHERE u.name IS NULL OR u.name NOT IN ('hubspot', 'gong', 'slack'))
    OR cardinality(sources) <> (SELECT count(DISTINCT u.name) FROM unnest(sources) AS u (name)) THEN
    RAISE EXCEPTION 'sources must be different ones of hubspot, gong and slack' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.refresh', 0));
  PERFORM sophia.write_survivorship(field, sources);
  IF to_regclass('processed_data.contacts') IS NOT NULL THEN
    PERFORM sophia.write_golden(NULL);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.set_survivorship(text, text[]) IS
  'sets which source a field of processed_data.contacts is taken from: the first one that has a value; NULL = as shipped; acts at once';

CREATE FUNCTION sophia.raw_row_of(record text, OUT source_table regclass, OUT source_key jsonb, OUT journal text, OUT byte_offset bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  contact processed_data.unified_contacts;
BEGIN
  SELECT c.* INTO contact FROM processed_data.unified_contacts AS c WHERE c.id = record;
  IF contact.source_system = 'hubspot' THEN
    SELECT r.tableoid::regclass, jsonb_build_object('id', r.id), r.source_journal, r.source_offset
    INTO source_table, source_key, journal, byte_offset FROM hubspot_raw.contacts AS r WHERE r.id = contact.source_id;
  ELSIF contact.source_system = 'slack' THEN
    SELECT r.tableoid::regclass, jsonb_build_object('id', r.id), r.source_journal, r.source_offset
    INTO source_table, source_key, journal, byte_offset FROM slack_raw.users AS r WHERE r.id = contact.source_id;
  ELSE
    SELECT r.tableoid::regclass, jsonb_build_object('id', r.id), r.source_journal, r.source_offset
    INTO source_table, source_key, journal, byte_offset FROM gong_raw.users AS r WHERE r.id = contact.source_id;
    IF source_table IS NULL THEN
      -- A party is known by its latest call.
      SELECT p.tableoid::regclass, jsonb_build_object('call_id', p.call_id, 'party_id', p.party_id), p.source_journal, p.source_offset
      INTO source_table, source_key, journal, byte_offset
      FROM gong_raw.call_parties AS p
      LEFT JOIN gong_raw.calls AS c ON c.id = p.call_id
      WHERE p.email_norm = contact.source_id
        OR p.email_norm IS NULL AND p.call_id = split_part(contact.source_id, '_', 1) AND contact.source_id = p.call_id || '_' || p.party_id
      ORDER BY coalesce(c.started, c.scheduled) DESC NULLS LAST, p.call_id DESC, p.ordinal LIMIT 1;
    END IF;
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.raw_row_of(text) IS 'internal: the raw row that a record was made from, and the document that it came from';

CREATE FUNCTION sophia.field_provenance(contact bigint)
RETURNS TABLE (field text, value text, rule text, record text, source_updated_at timestamptz, source_table regclass, source_key jsonb,
  journal text, byte_offset bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  identity CONSTANT bigint := sophia.live_identity(contact);
  golden jsonb := (SELECT to_jsonb(t) FROM processed_data.contacts AS t WHERE t.identity_id = identity);
  ruled record;
BEGIN
  FOR ruled IN SELECT s.* FROM sophia.survivorship AS s ORDER BY s.field LOOP
    field := ruled.field;
    value := golden ->> ruled.field;
    rule := NULL;
    record := NULL;
    source_updated_at := NULL;
    EXECUTE format('SELECT c.id, coalesce(c.source_updated_at, c.updated_at), format(''%%s of %%s'', c.source_system, %2$L)
      FROM processed_data.unified_contacts AS c WHERE c.identity_id = $1 AND c.%1$I IS NOT NULL ORDER BY %3$s LIMIT 1',
      ruled.field, array_to_string(ruled.sources, ' > '), sophia.survivorship_order(ruled.field))
    INTO record, source_updated_at, rule USING identity;
    SELECT r.* INTO source_table, source_key, journal, byte_offset FROM sophia.raw_row_of(record) AS r;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.field_provenance(bigint) IS
  'for each chosen field of a person its value, the rule that chose it, the record that gave it and when its source changed it, and the raw row and document of that record; NULLs where no record has a value';
