-- Any collection: the shape "generic", whose table is the user's, and create_table_for, which makes such a table.
--
-- The options of a stream say everything about its shape: table, key, reduce, delete and schema.  They are checked when the stream
-- is created and read again by the worker, so nothing but sophia.fields (which member fills which column) is kept beside them.
-- The worker writes as the owner of the table; so the caller must have that owner's rights.

CREATE FUNCTION sophia.caller() RETURNS oid
  AS 'MODULE_PATHNAME', 'sophia_caller' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION sophia.caller() IS 'internal: the role of the session, as SET ROLE left it, whoever''s function runs';

CREATE FUNCTION sophia.execute_as(role oid, statement text) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_execute_as' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.execute_as(oid, text) IS 'internal: runs one statement as that role, in a security-restricted context';

CREATE FUNCTION sophia.announce_table(relation oid) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_announce_table' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.announce_table(oid) IS 'internal: has the workers read anew what fills the columns of a table once the transaction has committed';

-- ---- names ----

CREATE FUNCTION sophia.parse_target(target text, OUT target_schema text, OUT target_table text)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parts text[];
BEGIN
  BEGIN
    parts := parse_ident(target);
  EXCEPTION WHEN invalid_parameter_value THEN
    parts := NULL;
  END;
  IF parts IS NULL OR cardinality(parts) <> 2 THEN
    RAISE EXCEPTION 'invalid name of a table: "%"', target USING ERRCODE = '22023',
      HINT = 'Name the table with its schema, as sales.orders; quote what needs it, as sales."Orders".';
  END IF;
  target_schema := parts[1]::name;
  target_table := parts[2]::name;
  IF target_schema ~ '^pg_' OR target_schema IN ('sophia', 'information_schema') THEN
    RAISE EXCEPTION 'schema "%" cannot hold tables of collections', target_schema USING ERRCODE = '22023';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.parse_target(text) IS 'internal: schema and table that a qualified name means';

CREATE FUNCTION sophia.check_key(key text[], what text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF key IS NULL THEN
    RAISE EXCEPTION '% must not be null', what USING ERRCODE = '22004';
  ELSIF cardinality(key) > 8 OR cardinality(key) <> (SELECT count(DISTINCT k) FROM unnest(key) k WHERE k IS NOT NULL) THEN
    RAISE EXCEPTION '% must have at most 8 different JSON pointers', what USING ERRCODE = '22023';
  END IF;
  PERFORM sophia.check_pointer(k) FROM unnest(key) k;
END;
$$;
COMMENT ON FUNCTION sophia.check_key(text[], text) IS 'internal: raises an error where these cannot be the key of a collection';

-- What every raw table has beside the columns for its documents.
CREATE VIEW sophia.bookkeeping_columns AS
  SELECT c.ordinal, c.column_name, c.column_type, c.not_null, c.column_default, c.comment
  FROM sophia.table_columns c
  WHERE c.table_schema = 'slack_raw' AND c.table_name = 'channel_members' AND c.ordinal >= 900;
COMMENT ON VIEW sophia.bookkeeping_columns IS 'internal: columns that the ingest itself keeps in every table that it writes';

-- The name of a column for a member: its own, cut to what a name can hold, and another where that one is taken.
CREATE FUNCTION sophia.name_column(pointer text, taken text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  steps constant text[] := sophia.pointer_steps(pointer);
  wanted constant text := CASE cardinality(steps) WHEN 1 THEN steps[1] ELSE substr(pointer, 2) END;
  short text := coalesce(nullif(wanted, '')::name::text, '_');
BEGIN
  IF short <> ALL (taken) THEN
    RETURN short;
  ELSIF octet_length(short) < 63 AND short || '_' <> ALL (taken) THEN
    RETURN short || '_';
  END IF;
  WHILE octet_length(short) > 54 LOOP
    short := left(short, -1);
  END LOOP;
  RETURN short || '_' || left(md5(pointer), 8);
END;
$$;
COMMENT ON FUNCTION sophia.name_column(text, text[]) IS 'internal: the name of the column for the member at a pointer';

-- ---- tables for collections ----

-- Raises an error where a table is none that a stream of the shape generic may write.
CREATE FUNCTION sophia.require_own_table(relation oid, role oid) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_table record;
BEGIN
  SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.relowner INTO found_table
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
  IF found_table.relkind NOT IN ('r', 'p') OR found_table.relpersistence <> 'p' THEN
    RAISE EXCEPTION '"%.%" is no ordinary table', found_table.nspname, found_table.relname USING ERRCODE = '42809',
      DETAIL = 'Views, foreign tables, and temporary and unlogged tables cannot follow a collection.';
  ELSIF EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = relation AND d.deptype = 'e') THEN
    RAISE EXCEPTION 'table "%.%" belongs to an extension', found_table.nspname, found_table.relname USING ERRCODE = '42809';
  ELSIF EXISTS (SELECT FROM sophia.data_tables d WHERE d.table_schema = found_table.nspname AND d.table_name = found_table.relname) THEN
    RAISE EXCEPTION 'table "%.%" is written by another shape', found_table.nspname, found_table.relname USING ERRCODE = '42809',
      HINT = 'Follow the collection with the shape that fills this table; see sophia.shapes.';
  ELSIF NOT pg_has_role(role, found_table.relowner, 'USAGE') THEN
    RAISE EXCEPTION 'must be owner of table %', found_table.relname USING ERRCODE = '42501',
      DETAIL = 'The ingest writes a table as its owner.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.require_own_table(oid, oid) IS
  'internal: raises an error where the role cannot have the ingest write that table';

CREATE FUNCTION sophia.has_unique_index(relation oid, columns text[]) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM pg_index i
    WHERE i.indrelid = relation AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indexprs IS NULL AND i.indpred IS NULL
      AND (SELECT array_agg(a.attname::text ORDER BY a.attname COLLATE "C")
           FROM unnest((i.indkey::smallint[])[0:i.indnkeyatts - 1]) k JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = k)
        = (SELECT array_agg(c ORDER BY c COLLATE "C") FROM unnest(columns) c))
$$;
COMMENT ON FUNCTION sophia.has_unique_index(oid, text[]) IS 'internal: whether a table has a unique index on exactly these columns';

-- The columns that a table for a schema has, each under the name that it has already or gets.
CREATE FUNCTION sophia.plan_table(collection_schema jsonb, target_schema text, target_table text, key text[], relation oid)
  RETURNS TABLE (ordinal integer, column_name text, pointer text, column_type text, not_null boolean, key_position integer,
                 column_default text, comment text, present_type text, recorded boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  -- Names of system columns, and the one by which a table of Estuary's own is told.
  taken text[] := ARRAY(SELECT b.column_name FROM sophia.bookkeeping_columns b)
    || '{ctid,xmin,cmin,xmax,cmax,tableoid,flow_published_at}'::text[];
  known record;
  item record;
BEGIN
  taken := taken || ARRAY(SELECT f.column_name FROM sophia.fields f
    WHERE relation IS NOT NULL AND f.table_schema = plan_table.target_schema AND f.table_name = plan_table.target_table);
  ordinal := 0;
  FOR item IN SELECT s.* FROM sophia.schema_columns(collection_schema, plan_table.key) s LOOP
    SELECT f.column_name INTO known FROM sophia.fields f
      WHERE relation IS NOT NULL AND f.table_schema = plan_table.target_schema AND f.table_name = plan_table.target_table
        AND f.pointers[1] = item.pointer
      ORDER BY f.added_at, f.column_name LIMIT 1;
    recorded := FOUND;
    column_name := CASE WHEN FOUND THEN known.column_name ELSE sophia.name_column(item.pointer, taken) END;
    taken := taken || column_name;
    ordinal := ordinal + 1;
    pointer := item.pointer;
    column_type := item.column_type;
    -- Documents that are appended may be deltas and tombstones, which hold no more than they must.
    not_null := item.not_null AND plan_table.key <> '{}';
    key_position := item.key_position;
    column_default := NULL;
    comment := item.pointer || coalesce(': ' || item.description, '');
    present_type := (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
      WHERE a.attrelid = relation AND a.attname = column_name AND NOT a.attisdropped);
    RETURN NEXT;
  END LOOP;
  RETURN QUERY
    SELECT b.ordinal, b.column_name, NULL::text, b.column_type,
      b.not_null OR (plan_table.key = '{}' AND b.column_name IN ('source_journal', 'source_offset')),
      CASE WHEN plan_table.key = '{}' THEN CASE b.column_name WHEN 'source_journal' THEN 1 WHEN 'source_offset' THEN 2 END END,
      b.column_default, b.comment,
      (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = b.column_name AND NOT a.attisdropped), true
    FROM sophia.bookkeeping_columns b ORDER BY b.ordinal;
END;
$$;
COMMENT ON FUNCTION sophia.plan_table(jsonb, text, text, text[], oid) IS 'internal: the columns that create_table_for wants, and what stands in their place';

-- A column that was widened since it was made still serves, and so do the older forms of text and jsonb.
CREATE FUNCTION sophia.column_serves(wanted text, present text, recorded boolean) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT wanted::regtype::oid = to_regtype(present)::oid
    OR wanted = 'text' AND present ~ '^character varying' OR wanted = 'jsonb' AND present = 'json'
    OR recorded AND (present IN ('text', 'jsonb') OR wanted = 'bigint' AND present IN ('numeric', 'double precision'))
$$;
COMMENT ON FUNCTION sophia.column_serves(text, text, boolean) IS 'internal: whether a column of that type can hold what is wanted of it';

CREATE FUNCTION sophia.table_conflict(relation oid, plan jsonb, key_columns text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(r.reason, '; ') FROM (
    SELECT format('its column "%s" is %s, not %s', p.column_name, p.present_type, p.column_type) AS reason
    FROM jsonb_to_recordset(plan) AS p (column_name text, column_type text, present_type text, recorded boolean)
    WHERE p.present_type IS NOT NULL AND NOT sophia.column_serves(p.column_type, p.present_type, p.recorded)
    UNION ALL
    SELECT format('its column "%s" is generated', a.attname)
    FROM jsonb_to_recordset(plan) AS p (column_name text)
    JOIN pg_attribute a ON a.attrelid = relation AND a.attname = p.column_name AND a.attgenerated <> ''
    UNION ALL
    SELECT format('it has no unique index on (%s)', (SELECT string_agg(quote_ident(c), ', ') FROM unnest(key_columns) c))
    WHERE NOT sophia.has_unique_index(relation, key_columns)) AS r
$$;
COMMENT ON FUNCTION sophia.table_conflict(oid, jsonb, text[]) IS 'internal: why a table cannot be what create_table_for wants; NULL where it can';

CREATE FUNCTION sophia.create_table_for(collection_schema jsonb, target text, key text[])
  RETURNS TABLE (object text, kind text, action text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role constant oid := sophia.caller();
  names record;
  quoted text;
  relation oid;
  stream text;
  plan jsonb;
  key_columns text[];
  reasons text;
  item record;
BEGIN
  IF create_table_for.target IS NULL THEN
    RAISE EXCEPTION 'target must not be null' USING ERRCODE = '22004';
  END IF;
  names := sophia.parse_target(create_table_for.target);
  quoted := format('%I.%I', names.target_schema, names.target_table);
  PERFORM sophia.check_key(create_table_for.key, 'key');
  IF collection_schema IS NULL THEN
    RAISE EXCEPTION 'collection_schema must not be null' USING ERRCODE = '22004';
  ELSIF jsonb_typeof(collection_schema) <> 'object' THEN
    RAISE EXCEPTION 'collection_schema must be a JSON object' USING ERRCODE = '22023';
  ELSIF EXISTS (SELECT FROM sophia.data_tables d WHERE d.table_schema = names.target_schema AND d.table_name = names.target_table) THEN
    RAISE EXCEPTION 'table "%.%" is made by sophia.create_schemas()', names.target_schema, names.target_table USING ERRCODE = '42809';
  END IF;
  -- Two callers at once would both find the same objects missing.
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.create_table_for', 0));
  relation := to_regclass(quoted);
  IF relation IS NOT NULL THEN
    PERFORM sophia.require_own_table(relation, role);
    -- A stream that writes the table already has new columns filled in the rows that are there.
    SELECT min(s.stream) INTO stream FROM sophia.streams s
      WHERE s.shape = 'generic' AND sophia.stream_table(s.shape, s.options) = quoted;
  END IF;
  SELECT jsonb_agg(to_jsonb(p) ORDER BY p.ordinal), array_agg(p.column_name ORDER BY p.key_position) FILTER (WHERE p.key_position IS NOT NULL)
    INTO plan, key_columns
    FROM sophia.plan_table(collection_schema, names.target_schema, names.target_table, create_table_for.key, relation) p;
  reasons := CASE WHEN relation IS NOT NULL THEN sophia.table_conflict(relation, plan, key_columns) END;
  IF reasons IS NOT NULL THEN
    RAISE EXCEPTION 'relation "%.%" already exists, but cannot hold these documents', names.target_schema, names.target_table
      USING ERRCODE = 'duplicate_table', DETAIL = format('What stands in its place cannot serve: %s.', reasons),
        HINT = 'Nothing was changed. Name another table.';
  END IF;

  IF to_regnamespace(quote_ident(names.target_schema)) IS NULL THEN
    PERFORM sophia.execute_as(role, format('CREATE SCHEMA %I', names.target_schema));
    RETURN QUERY SELECT names.target_schema::text, 'schema', 'created';
  END IF;
  IF relation IS NULL THEN
    -- What is remembered of an earlier table of the name says nothing of this one.
    DELETE FROM sophia.fields f WHERE f.table_schema = names.target_schema AND f.table_name = names.target_table;
    PERFORM sophia.execute_as(role, (
      SELECT format(E'CREATE TABLE %s (\n  %s,\n  PRIMARY KEY (%s))', quoted,
        string_agg(format('%I %s%s%s', p.column_name, p.column_type, CASE WHEN p.not_null THEN ' NOT NULL' END, ' DEFAULT ' || p.column_default),
          E',\n  ' ORDER BY p.ordinal),
        (SELECT string_agg(quote_ident(k.name), ', ' ORDER BY k.place) FROM unnest(key_columns) WITH ORDINALITY AS k (name, place)))
      FROM jsonb_to_recordset(plan) AS p (ordinal integer, column_name text, column_type text, not_null boolean, column_default text)));
    PERFORM sophia.execute_as(role, format('COMMENT ON TABLE %s IS %L', quoted,
      'documents of a collection' || coalesce(': ' || coalesce(collection_schema ->> 'title', collection_schema ->> 'description'), '')));
  END IF;
  RETURN QUERY SELECT names.target_schema || '.' || names.target_table, 'table', CASE WHEN relation IS NULL THEN 'created'
    WHEN EXISTS (SELECT FROM sophia.fields f WHERE f.table_schema = names.target_schema AND f.table_name = names.target_table) THEN 'exists'
    ELSE 'adopted' END;
  FOR item IN SELECT p.* FROM jsonb_to_recordset(plan) AS p (ordinal integer, column_name text, pointer text, column_type text,
      not_null boolean, column_default text, comment text, present_type text) ORDER BY p.ordinal LOOP
    IF relation IS NOT NULL AND item.present_type IS NULL AND item.pointer IS NOT NULL AND stream IS NOT NULL THEN
      PERFORM sophia.add_field(stream, item.pointer, item.column_name, item.column_type::regtype);
      RETURN QUERY SELECT names.target_schema || '.' || names.target_table || '.' || item.column_name, 'column', 'column added';
    ELSIF relation IS NOT NULL AND item.present_type IS NULL THEN
      -- Rows that are there already cannot meet a NOT NULL without a default.
      PERFORM sophia.execute_as(role, format('ALTER TABLE %s ADD COLUMN %I %s%s', quoted, item.column_name, item.column_type,
        ' DEFAULT ' || item.column_default || CASE WHEN item.not_null THEN ' NOT NULL' ELSE '' END));
      RETURN QUERY SELECT names.target_schema || '.' || names.target_table || '.' || item.column_name, 'column', 'column added';
    END IF;
    IF relation IS NULL OR item.present_type IS NULL THEN
      PERFORM sophia.execute_as(role, format('COMMENT ON COLUMN %s.%I IS %L', quoted, item.column_name, item.comment));
    END IF;
    IF item.pointer IS NOT NULL THEN
      INSERT INTO sophia.fields (table_schema, table_name, column_name, column_type, pointers, conversion, origin)
        VALUES (names.target_schema, names.target_table, item.column_name, coalesce(item.present_type, item.column_type), ARRAY[item.pointer],
          sophia.conversion_of(coalesce(item.present_type, item.column_type)::regtype), 'create_table_for')
        -- Its owner may have given the column another type.
        ON CONFLICT (table_schema, table_name, column_name) DO UPDATE SET column_type = EXCLUDED.column_type, conversion = EXCLUDED.conversion
          WHERE to_regtype(fields.column_type) IS DISTINCT FROM to_regtype(EXCLUDED.column_type);
    END IF;
  END LOOP;
  IF relation IS NOT NULL THEN
    PERFORM sophia.announce_table(relation);
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.create_table_for(jsonb, text, text[]) IS
  'creates a table for the documents of a collection from their JSON schema, owned by the caller, or adds what it lacks; '
  'key: JSON pointers of its primary key, none for a table that documents are appended to; '
  'reports each object as created, column added, exists or adopted; a table that cannot hold them raises 42P07 before anything is changed';

-- ---- the shape ----

-- Where nothing is remembered of a table that the user made, each column is filled by the member of its name; one with a default
-- is left to who made it, unless the schema names it.
CREATE FUNCTION sophia.map_columns(relation oid, options jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  names constant record := sophia.parse_target(options ->> 'table');
  described constant jsonb := CASE WHEN options ? 'schema'
    THEN sophia.schema_form(options -> 'schema', options -> 'schema', options -> 'schema', 1) -> 'properties' ELSE '{}' END;
BEGIN
  DELETE FROM sophia.fields f
    WHERE f.table_schema = names.target_schema AND f.table_name = names.target_table
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = f.column_name AND NOT a.attisdropped);
  IF EXISTS (SELECT FROM sophia.fields f WHERE f.table_schema = names.target_schema AND f.table_name = names.target_table) THEN
    RETURN;
  END IF;
  INSERT INTO sophia.fields (table_schema, table_name, column_name, column_type, pointers, conversion, origin)
    SELECT names.target_schema, names.target_table, a.attname, format_type(a.atttypid, NULL), ARRAY[coalesce(
        (SELECT k FROM jsonb_array_elements_text(coalesce(options -> 'key', '[]')) k WHERE substr(k, 2) = a.attname),
        '/' || replace(replace(a.attname, '~', '~0'), '/', '~1'))],
      sophia.conversion_of(a.atttypid), 'create_stream'
    FROM pg_attribute a
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity = ''
      AND (NOT a.atthasdef OR described ? a.attname) AND sophia.conversion_of(a.atttypid) IS NOT NULL
      AND a.attname NOT IN (SELECT b.column_name FROM sophia.bookkeeping_columns b);
END;
$$;
COMMENT ON FUNCTION sophia.map_columns(oid, jsonb) IS 'internal: remembers which member fills which column of a table that the user made';

-- A tombstone may hold no more than its key, and its row is kept.
CREATE FUNCTION sophia.admit_tombstones(relation oid, options jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  names constant record := sophia.parse_target(options ->> 'table');
  actions text;
BEGIN
  SELECT string_agg(format('ALTER COLUMN %I DROP NOT NULL', a.attname), ', ' ORDER BY a.attnum) INTO actions
    FROM pg_attribute a
    JOIN sophia.fields f ON f.table_schema = names.target_schema AND f.table_name = names.target_table AND f.column_name = a.attname
    WHERE a.attrelid = relation AND a.attnotnull AND NOT a.attisdropped AND f.origin = 'create_table_for'
      AND a.attnum <> ALL (SELECT unnest(i.indkey) FROM pg_index i WHERE i.indrelid = relation AND i.indisprimary)
      AND f.pointers[1] NOT IN (SELECT jsonb_array_elements_text(options -> 'key'));
  IF actions IS NOT NULL THEN
    PERFORM sophia.execute_as(c.relowner, format('ALTER TABLE %I.%I %s', names.target_schema, names.target_table, actions))
      FROM pg_class c WHERE c.oid = relation;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.admit_tombstones(oid, jsonb) IS
  'internal: takes NOT NULL from what create_table_for gave it to, but from keys, where rows of deleted documents are kept';

CREATE FUNCTION sophia.generic_options() RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT '{table,key,reduce,schema}'::text[] $$;
COMMENT ON FUNCTION sophia.generic_options() IS 'internal: the stream options that only the shape generic has';

CREATE FUNCTION sophia.generic_reduction(options jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  schema constant jsonb := options -> 'schema';
  reduction jsonb;
BEGIN
  IF schema IS NULL OR options ->> 'reduce' = 'none' THEN
    RETURN jsonb_build_object('reduce', coalesce(options ->> 'reduce', 'lastWriteWins'));
  ELSIF jsonb_typeof(schema) <> 'object' THEN
    RAISE EXCEPTION 'stream option "schema" must be a JSON schema, which is an object' USING ERRCODE = '22023';
  END IF;
  reduction := sophia.reduction_of(schema, schema, schema);
  IF options ? 'reduce' THEN
    RETURN jsonb_build_object('reduce', options ->> 'reduce');
  END IF;
  RETURN jsonb_strip_nulls(jsonb_build_object('reduce', coalesce(reduction ->> 'strategy', 'lastWriteWins'),
    'plan', sophia.merge_plan(reduction)));
END;
$$;
COMMENT ON FUNCTION sophia.generic_reduction(jsonb) IS
  'internal: how the documents of a stream with these options reduce, {"reduce", "plan"}; raises 0A000 for what the ingest does not reduce';

CREATE FUNCTION sophia.shape_definition(shape text, options jsonb)
  RETURNS TABLE (target_schema text, target_table text, key text[], key_columns text[], reduce text, array_pointer text,
                 array_table text, ignores_tombstones boolean, kept_columns text[], kept_while text[], plan text,
                 page_pointer text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  reduction jsonb;
  pointer text;
BEGIN
  IF shape_definition.shape <> 'generic' THEN
    RETURN QUERY SELECT s.target_schema, s.target_table, s.key, s.key_columns, s.reduce, s.array_pointer, s.array_table,
        s.ignores_tombstones, s.kept_columns, s.kept_while, NULL::text, s.page_pointer
      FROM sophia.shapes s WHERE s.shape = shape_definition.shape;
    RETURN;
  END IF;
  SELECT t.target_schema, t.target_table INTO target_schema, target_table FROM sophia.parse_target(options ->> 'table') t;
  IF to_regclass(format('%I.%I', target_schema, target_table)) IS NULL THEN
    RAISE EXCEPTION 'table "%.%" does not exist', target_schema, target_table USING ERRCODE = '42P01',
      HINT = 'Make it by sophia.create_table_for().';
  END IF;
  reduction := sophia.generic_reduction(options);
  reduce := reduction ->> 'reduce';
  plan := reduction ->> 'plan';
  ignores_tombstones := false;
  IF reduce = 'none' THEN
    -- Their values are known without the document.
    key := '{/,/}';
    key_columns := '{source_journal,source_offset}';
  ELSE
    key := ARRAY(SELECT jsonb_array_elements_text(options -> 'key'));
    FOREACH pointer IN ARRAY key LOOP
      key_columns := key_columns || (
        SELECT f.column_name FROM sophia.fields f
        WHERE f.table_schema = shape_definition.target_schema AND f.table_name = shape_definition.target_table AND f.pointers[1] = pointer
        ORDER BY f.added_at, f.column_name LIMIT 1);
      IF key_columns[cardinality(key_columns)] IS NULL THEN
        RAISE EXCEPTION 'table "%.%" has no column for key "%"', target_schema, target_table, pointer USING ERRCODE = '42703';
      END IF;
    END LOOP;
  END IF;
  RETURN NEXT;
END;
$$;
COMMENT ON FUNCTION sophia.shape_definition(text, jsonb) IS
  'internal: how the documents of a stream of that shape and with these options become rows; no row for an unknown shape';

-- All streams that write one table go to one worker.
CREATE FUNCTION sophia.stream_table(shape text, options jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN CASE WHEN shape = 'generic'
    THEN (SELECT format('%I.%I', t.target_schema, t.target_table) FROM sophia.parse_target(options ->> 'table') t) ELSE shape END;
EXCEPTION WHEN invalid_parameter_value THEN
  -- Such a stream fails when it is opened; the others must not fail with it.
  RETURN shape;
END;
$$;
COMMENT ON FUNCTION sophia.stream_table(text, jsonb) IS 'internal: equal for streams that write the same table';

CREATE FUNCTION sophia.check_key_columns(relation oid, key_columns text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  unfit text;
BEGIN
  -- Values that the server calls equal must have equal texts, for the documents of a batch are gathered by them.
  SELECT format('column "%s" of type %s', a.attname, format_type(a.atttypid, a.atttypmod)) INTO unfit
    FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = relation AND a.attname = ANY (key_columns)
      AND (a.atttypid <> ALL ('{text,varchar,smallint,integer,bigint,numeric,real,double precision,boolean,uuid,date,time,timestamp,timestamptz,bytea,inet,cidr}'::regtype[])
           OR a.atttypmod <> -1 AND a.atttypid <> 'varchar'::regtype OR NOT coalesce(c.collisdeterministic, true))
    LIMIT 1;
  IF unfit IS NOT NULL THEN
    RAISE EXCEPTION '% cannot be a key of the ingest', unfit USING ERRCODE = '42804',
      HINT = 'Give it one of the types text, bigint, numeric, uuid, date, timestamptz, without a modifier and with a deterministic collation.';
  ELSIF NOT sophia.has_unique_index(relation, key_columns) THEN
    RAISE EXCEPTION 'table "%" has no unique index on (%)', relation::regclass, (SELECT string_agg(quote_ident(c), ', ') FROM unnest(key_columns) c)
      USING ERRCODE = '42P10', HINT = 'Make a primary key or a unique index of exactly these columns.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_key_columns(oid, text[]) IS 'internal: raises an error where the ingest cannot find rows by these columns';

CREATE FUNCTION sophia.check_generic(stream text, options jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relation oid;
  definition record;
  other record;
  lacking text;
BEGIN
  IF jsonb_typeof(options -> 'table') IS DISTINCT FROM 'string' THEN
    RAISE EXCEPTION 'shape "generic" needs the stream option "table"' USING ERRCODE = '22023',
      HINT = 'Name the table with its schema, as {"table": "sales.orders", "key": ["/id"]}.';
  ELSIF options ->> 'reduce' IS DISTINCT FROM 'none' OR options ? 'key' THEN
    IF jsonb_typeof(options -> 'key') IS DISTINCT FROM 'array' OR jsonb_path_exists(options, '$."key"[*] ? (@.type() != "string")')
       OR options -> 'key' = '[]' AND options ->> 'reduce' IS DISTINCT FROM 'none' THEN
      RAISE EXCEPTION 'shape "generic" needs the stream option "key", an array of JSON pointers' USING ERRCODE = '22023',
        HINT = 'Pass the key of the collection, as ["/id"], or "reduce": "none", which appends every document.';
    END IF;
    PERFORM sophia.check_key(ARRAY(SELECT jsonb_array_elements_text(options -> 'key')), 'stream option "key"');
  END IF;
  IF options ->> 'reduce' = 'none' AND options ->> 'delete' = 'hard' THEN
    RAISE EXCEPTION 'stream option "delete" cannot be "hard" where "reduce" is "none"' USING ERRCODE = '22023',
      DETAIL = 'Every committed document is a row, tombstones too.';
  END IF;
  PERFORM sophia.generic_reduction(options);
  PERFORM sophia.parse_target(options ->> 'table');
  relation := to_regclass(sophia.stream_table('generic', options));
  IF relation IS NULL THEN
    RAISE EXCEPTION 'table "%" does not exist', options ->> 'table' USING ERRCODE = '42P01',
      HINT = 'Make it by sophia.create_table_for().';
  END IF;
  PERFORM sophia.require_own_table(relation, sophia.caller());
  SELECT string_agg(format('%I %s', b.column_name, b.column_type), ', ' ORDER BY b.ordinal) INTO lacking
    FROM sophia.bookkeeping_columns b
    WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = b.column_name AND NOT a.attisdropped
      AND a.atttypid = b.column_type::regtype AND a.attgenerated = '');
  IF lacking IS NOT NULL THEN
    RAISE EXCEPTION 'table "%" lacks columns that the ingest keeps', options ->> 'table' USING ERRCODE = '42703',
      DETAIL = format('It needs %s.', lacking), HINT = 'sophia.create_table_for() makes tables that have them, and adds them to others.';
  END IF;
  PERFORM sophia.map_columns(relation, options);
  SELECT d.* INTO definition FROM sophia.shape_definition('generic', options) d;
  PERFORM sophia.check_key_columns(relation, definition.key_columns);
  IF options ->> 'reduce' IS DISTINCT FROM 'none' AND options ->> 'delete' IS DISTINCT FROM 'hard' THEN
    PERFORM sophia.admit_tombstones(relation, options);
  END IF;
  FOR other IN SELECT s.stream, s.options FROM sophia.streams s
      WHERE s.shape = 'generic' AND s.stream <> check_generic.stream
        AND sophia.stream_table(s.shape, s.options) = sophia.stream_table('generic', check_generic.options) LOOP
    IF (SELECT d.key_columns FROM sophia.shape_definition('generic', other.options) d) <> definition.key_columns THEN
      RAISE EXCEPTION 'stream "%" writes table "%" by another key', other.stream, options ->> 'table' USING ERRCODE = '22023';
    END IF;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_generic(text, jsonb) IS
  'internal: raises an error where a stream of the shape generic cannot have these options; else remembers the columns of its table';
