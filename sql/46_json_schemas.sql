-- What a JSON schema says of the documents of a collection: the columns that they fill, and how they reduce.
--
-- A schema is brought into a form without references and alternatives first, of each location:
--   types (without "integer" where there is "number"), format, encoding, minimum, maximum, required, properties, description
-- Schemas that Flow bundles hold each other by their "$id"; "#/..." counts from the innermost schema with an "$id".

CREATE FUNCTION sophia.pointer_steps(pointer text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT array_agg(replace(replace(s.step, '~1', '/'), '~0', '~') ORDER BY s.place)
  FROM string_to_table(substr(pointer, 2), '/') WITH ORDINALITY AS s (step, place)
$$;
COMMENT ON FUNCTION sophia.pointer_steps(text) IS 'internal: the names that a JSON pointer goes through';

CREATE FUNCTION sophia.check_pointer(pointer text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF pointer IS NULL OR pointer !~ '^(/([^~/]|~[01])*)+$' OR cardinality(sophia.pointer_steps(pointer)) > 8 THEN
    RAISE EXCEPTION '% is not a usable JSON pointer', coalesce('"' || pointer || '"', 'null') USING ERRCODE = '22023',
      HINT = 'A pointer names the members to go through, as "/id" or "/order/id", at most 8 of them; ~1 stands for / and ~0 for ~.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_pointer(text) IS 'internal: raises an error where that is no JSON pointer to a member';

-- The part of RFC 3986 that schemas use: a path that counts from the folder of its base.
CREATE FUNCTION sophia.absolute_reference(base text, reference text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN base IS NULL OR reference ~ '^[A-Za-z][A-Za-z0-9+.-]*:' THEN reference
    WHEN reference LIKE '/%' THEN coalesce(substring(base FROM '^[A-Za-z][A-Za-z0-9+.-]*:(?://[^/?#]*)?'), '') || reference
    ELSE regexp_replace(regexp_replace(base, '[?#].*$', ''), '[^/]*$', '') || regexp_replace(reference, '^(\./)+', '') END
$$;
COMMENT ON FUNCTION sophia.absolute_reference(text, text) IS 'internal: the address that a reference means in a schema with that "$id"';

-- A schema with an "$id" is where the references in it count from; its own may count from the one around it.
CREATE FUNCTION sophia.schema_base(base jsonb, schema jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN jsonb_typeof(schema -> '$id') = 'string'
    THEN schema || jsonb_build_object('$id', sophia.absolute_reference(base ->> '$id', schema ->> '$id')) ELSE base END
$$;
COMMENT ON FUNCTION sophia.schema_base(jsonb, jsonb) IS 'internal: the schema that references in a schema count from';

CREATE FUNCTION sophia.refuse_reference(reference text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'the schema refers to "%", which it does not hold', reference USING ERRCODE = '22023',
    HINT = 'Pass a schema that holds all that it refers to, such as the bundled one of a built collection.';
END;
$$;
COMMENT ON FUNCTION sophia.refuse_reference(text) IS 'internal: raises the error of a reference to what a schema does not hold';

-- The schema that the part of a reference before its # names, with its full "$id"; what follows counts from it.
CREATE FUNCTION sophia.referred_base(root jsonb, base jsonb, reference text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named constant text := split_part(reference, '#', 1);
  full_name constant text := sophia.absolute_reference(base ->> '$id', named);
  found_schema jsonb;
BEGIN
  IF named = '' THEN
    RETURN base;
  END IF;
  SELECT s.schema INTO found_schema
    FROM jsonb_path_query(root, 'strict $.** ? (@."$id".type() == "string")') AS s (schema)
    WHERE full_name IN (s.schema ->> '$id', sophia.absolute_reference(root ->> '$id', s.schema ->> '$id'))
      OR s.schema ->> '$id' = named LIMIT 1;
  found_schema := coalesce(found_schema, root -> '$defs' -> full_name, root -> '$defs' -> named, root -> 'definitions' -> named);
  IF found_schema IS NULL THEN
    PERFORM sophia.refuse_reference(reference);
  END IF;
  RETURN CASE jsonb_typeof(found_schema) WHEN 'object' THEN found_schema || jsonb_build_object('$id', full_name) ELSE found_schema END;
END;
$$;
COMMENT ON FUNCTION sophia.referred_base(jsonb, jsonb, text) IS 'internal: the schema with an "$id" that a "$ref" names or stands in';

-- A pointer in an address has its odd bytes as %XX.
CREATE FUNCTION sophia.resolve_reference(base jsonb, reference text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  place text := substr(reference, nullif(strpos(reference, '#'), 0) + 1);
  found_schema jsonb := base;
BEGIN
  IF place LIKE '/%' THEN
    IF place ~ '%[0-9A-Fa-f]{2}' THEN
      SELECT convert_from(string_agg(CASE WHEN p.part[1] ~ '^%..$' THEN decode(substr(p.part[1], 2), 'hex') ELSE convert_to(p.part[1], 'UTF8') END,
                                     ''::bytea ORDER BY p.n), 'UTF8') INTO place
        FROM regexp_matches(place, '(%[0-9A-Fa-f]{2}|.)', 'g') WITH ORDINALITY AS p (part, n);
    END IF;
    found_schema := base #> sophia.pointer_steps(place);
  ELSIF place <> '' THEN
    found_schema := jsonb_path_query_first(base, 'lax $.** ? (@."$anchor" == $name)', jsonb_build_object('name', place));
  END IF;
  IF found_schema IS NULL THEN
    PERFORM sophia.refuse_reference(reference);
  END IF;
  RETURN found_schema;
END;
$$;
COMMENT ON FUNCTION sophia.resolve_reference(jsonb, text) IS 'internal: the schema that a "$ref" names, in what it counts from';

CREATE FUNCTION sophia.common_types(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(DISTINCT t), '[]') FROM (
    SELECT x AS t FROM jsonb_array_elements_text(a) x WHERE b ? x OR x = 'integer' AND b ? 'number'
    UNION SELECT x FROM jsonb_array_elements_text(b) x WHERE a ? x OR x = 'integer' AND a ? 'number') AS u (t)
$$;
COMMENT ON FUNCTION sophia.common_types(jsonb, jsonb) IS 'internal: the types that are allowed by both of two sets';

CREATE FUNCTION sophia.either_type(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(DISTINCT u.t), '[]') FROM (
    SELECT jsonb_array_elements_text(a) UNION SELECT jsonb_array_elements_text(b)) AS u (t)
  WHERE u.t <> 'integer' OR NOT (a ? 'number' OR b ? 'number')
$$;
COMMENT ON FUNCTION sophia.either_type(jsonb, jsonb) IS 'internal: the types that are allowed by one of two sets';

-- Two forms of one location as one: both hold (all), or one of them does.
CREATE FUNCTION sophia.combine_forms(a jsonb, b jsonb, "all" boolean) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  result jsonb := '{}';
  name text;
BEGIN
  IF NOT "all" AND a -> 'types' = '[]' THEN
    RETURN b;
  ELSIF NOT "all" AND b -> 'types' = '[]' THEN
    RETURN a;
  END IF;
  result := jsonb_build_object(
    'types', CASE WHEN "all" THEN sophia.common_types(a -> 'types', b -> 'types') ELSE sophia.either_type(a -> 'types', b -> 'types') END,
    'required', (SELECT coalesce(jsonb_agg(DISTINCT r), '[]') FROM (
        SELECT jsonb_array_elements_text(a -> 'required') UNION SELECT jsonb_array_elements_text(b -> 'required')) AS u (r)
      WHERE "all" OR (NOT a -> 'types' ? 'object' OR a -> 'required' ? r) AND (NOT b -> 'types' ? 'object' OR b -> 'required' ? r)));
  FOREACH name IN ARRAY ARRAY['format', 'encoding'] LOOP
    -- Alternatives that agree, or of which only one is a string.
    IF "all" OR a -> name = b -> name OR NOT (a -> 'types' ? 'string' AND b -> 'types' ? 'string') THEN
      result := result || jsonb_strip_nulls(jsonb_build_object(name, coalesce(a -> name, b -> name)));
    END IF;
  END LOOP;
  IF "all" OR (a ? 'minimum' AND b ? 'minimum') THEN
    result := result || jsonb_strip_nulls(jsonb_build_object('minimum', CASE WHEN "all"
      THEN greatest((a ->> 'minimum')::numeric, (b ->> 'minimum')::numeric) ELSE least((a ->> 'minimum')::numeric, (b ->> 'minimum')::numeric) END));
  END IF;
  IF "all" OR (a ? 'maximum' AND b ? 'maximum') THEN
    result := result || jsonb_strip_nulls(jsonb_build_object('maximum', CASE WHEN "all"
      THEN least((a ->> 'maximum')::numeric, (b ->> 'maximum')::numeric) ELSE greatest((a ->> 'maximum')::numeric, (b ->> 'maximum')::numeric) END));
  END IF;
  RETURN result
    || jsonb_strip_nulls(jsonb_build_object('description', coalesce(a -> 'description', b -> 'description')))
    || jsonb_build_object('properties', (SELECT coalesce(jsonb_object_agg(coalesce(p.key, q.key),
        CASE WHEN p.key IS NULL THEN q.value WHEN q.key IS NULL THEN p.value
             ELSE sophia.combine_forms(p.value, q.value, "all") END), '{}')
      FROM jsonb_each(a -> 'properties') AS p FULL JOIN jsonb_each(b -> 'properties') AS q ON p.key = q.key));
END;
$$;
COMMENT ON FUNCTION sophia.combine_forms(jsonb, jsonb, boolean) IS 'internal: two forms of one location of a schema as one';

CREATE FUNCTION sophia.schema_form(root jsonb, base jsonb, schema jsonb, depth integer, hops integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  every constant jsonb := '["array", "boolean", "null", "number", "object", "string"]';
  types jsonb := every;
  form jsonb;
  part jsonb;
  branches jsonb;
  name text;
BEGIN
  IF hops > 64 THEN
    RAISE EXCEPTION 'the schema refers to itself without end' USING ERRCODE = '22023';
  ELSIF jsonb_typeof(schema) = 'boolean' THEN
    RETURN jsonb_build_object('types', CASE WHEN schema = 'true' THEN every ELSE '[]' END, 'required', '[]'::jsonb, 'properties', '{}'::jsonb);
  ELSIF jsonb_typeof(schema) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'a JSON schema must be an object or a boolean' USING ERRCODE = '22023';
  END IF;
  base := sophia.schema_base(base, schema);
  IF schema ? 'type' THEN
    types := CASE jsonb_typeof(schema -> 'type') WHEN 'array' THEN schema -> 'type' ELSE jsonb_build_array(schema -> 'type') END;
    IF NOT types <@ '["array", "boolean", "integer", "null", "number", "object", "string"]' THEN
      RAISE EXCEPTION 'the schema has an invalid "type": %', schema -> 'type' USING ERRCODE = '22023';
    END IF;
    types := sophia.either_type(types, types);
  END IF;
  IF schema ? 'const' OR jsonb_typeof(schema -> 'enum') = 'array' THEN
    SELECT sophia.common_types(types, coalesce(jsonb_agg(DISTINCT
        CASE WHEN jsonb_typeof(v) = 'number' AND v::text !~ '[.eE]' THEN 'integer' ELSE jsonb_typeof(v) END), '[]'))
      INTO types
      FROM jsonb_array_elements(CASE WHEN schema ? 'const' THEN jsonb_build_array(schema -> 'const') ELSE schema -> 'enum' END) AS v;
  END IF;
  form := jsonb_build_object('types', types,
      'required', CASE jsonb_typeof(schema -> 'required') WHEN 'array' THEN schema -> 'required' ELSE '[]' END, 'properties', '{}'::jsonb)
    || jsonb_strip_nulls(jsonb_build_object('format', schema -> 'format', 'encoding', schema -> 'contentEncoding',
      'description', coalesce(schema -> 'description', schema -> 'title'),
      'minimum', CASE jsonb_typeof(schema -> 'minimum') WHEN 'number' THEN schema -> 'minimum' END,
      'maximum', CASE jsonb_typeof(schema -> 'maximum') WHEN 'number' THEN schema -> 'maximum' END));
  IF depth > 0 AND jsonb_typeof(schema -> 'properties') = 'object' THEN
    form := form || jsonb_build_object('properties', (SELECT coalesce(jsonb_object_agg(p.key,
        sophia.schema_form(root, base, p.value, depth - 1)), '{}') FROM jsonb_each(schema -> 'properties') AS p));
  END IF;
  IF schema ? '$ref' THEN
    part := sophia.referred_base(root, base, schema ->> '$ref');
    form := sophia.combine_forms(form,
      sophia.schema_form(root, part, sophia.resolve_reference(part, schema ->> '$ref'), depth, hops + 1), true);
  END IF;
  IF jsonb_typeof(schema -> 'allOf') = 'array' THEN
    FOR part IN SELECT jsonb_array_elements(schema -> 'allOf') LOOP
      form := sophia.combine_forms(form, sophia.schema_form(root, base, part, depth, hops + 1), true);
    END LOOP;
  END IF;
  -- "if" alone says nothing of a document; "then" and "else" are alternatives.
  IF schema ? 'if' AND (schema ? 'then' OR schema ? 'else') THEN
    schema := schema || jsonb_build_object('?', jsonb_build_array(coalesce(schema -> 'then', 'true'), coalesce(schema -> 'else', 'true')));
  END IF;
  FOREACH name IN ARRAY ARRAY['anyOf', 'oneOf', '?'] LOOP
    branches := NULL;
    IF jsonb_typeof(schema -> name) = 'array' THEN
      FOR part IN SELECT jsonb_array_elements(schema -> name) LOOP
        part := sophia.schema_form(root, base, part, depth, hops + 1);
        branches := CASE WHEN branches IS NULL THEN part ELSE sophia.combine_forms(branches, part, false) END;
      END LOOP;
      form := sophia.combine_forms(form, coalesce(branches, form), true);
    END IF;
  END LOOP;
  RETURN form;
END;
$$;
COMMENT ON FUNCTION sophia.schema_form(jsonb, jsonb, jsonb, integer, integer) IS
  'internal: a schema without references and alternatives, down to that many levels of properties';

-- The types that Estuary gives the columns of its own PostgreSQL materialization, but jsonb for json and text for enumerations.
CREATE FUNCTION sophia.form_type(form jsonb, is_key boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  types constant text[] := ARRAY(SELECT t FROM jsonb_array_elements_text(form -> 'types') t WHERE t <> 'null' ORDER BY t COLLATE "C");
  format constant text := form ->> 'format';
BEGIN
  IF types = '{}' THEN
    RETURN NULL;
  ELSIF types = '{integer}' THEN
    RETURN CASE WHEN (form ->> 'minimum')::numeric < -9223372036854775808 OR (form ->> 'maximum')::numeric > 9223372036854775807
      THEN 'numeric' ELSE 'bigint' END;
  ELSIF types = '{number}' THEN
    RETURN 'double precision';
  ELSIF types = '{boolean}' THEN
    RETURN 'boolean';
  ELSIF types IN ('{string}', '{integer,string}', '{number,string}') AND format IN ('integer', 'number', 'uint32', 'uint64') AND NOT is_key
        AND (types <> '{number,string}' OR format = 'number') THEN
    RETURN 'numeric';
  ELSIF types = '{string}' AND form ->> 'encoding' = 'base64' THEN
    RETURN 'bytea';
  ELSIF types = '{string}' THEN
    RETURN CASE
      WHEN is_key AND format IN ('date', 'date-time', 'time', 'duration', 'macaddr', 'macaddr8') THEN 'text'
      WHEN format IN ('date', 'time', 'uuid', 'macaddr', 'macaddr8') THEN format
      WHEN format = 'date-time' THEN 'timestamptz'
      WHEN format = 'duration' THEN 'interval'
      WHEN format IN ('ipv4', 'ipv6') THEN 'cidr'
      ELSE 'text' END;
  END IF;
  RETURN CASE WHEN is_key AND NOT types && '{array,object}' THEN 'text' ELSE 'jsonb' END;
END;
$$;
COMMENT ON FUNCTION sophia.form_type(jsonb, boolean) IS
  'internal: the type of the column that holds a location of that form; NULL = nothing but null can stand there';

CREATE FUNCTION sophia.schema_columns(collection_schema jsonb, key text[])
  RETURNS TABLE (pointer text, column_type text, not_null boolean, key_position integer, description text)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  form constant jsonb := sophia.schema_form(collection_schema, collection_schema, collection_schema,
    greatest(1, (SELECT max(cardinality(sophia.pointer_steps(k))) FROM unnest(schema_columns.key) k)));
  place jsonb;
  step text;
BEGIN
  FOR i IN 1 .. cardinality(schema_columns.key) LOOP
    place := form;
    FOREACH step IN ARRAY sophia.pointer_steps(schema_columns.key[i]) LOOP
      place := place -> 'properties' -> step;
    END LOOP;
    pointer := schema_columns.key[i];
    column_type := CASE WHEN place IS NOT NULL THEN sophia.form_type(place, true) ELSE 'jsonb' END;
    IF column_type IS NULL OR column_type = 'jsonb' THEN
      RAISE EXCEPTION 'key "%" is no scalar', pointer USING ERRCODE = '22023',
        DETAIL = CASE WHEN place IS NULL THEN 'The schema does not describe it.' ELSE 'It may be an object or an array, or is always null.' END,
        HINT = 'A key is a member that the schema describes and that is neither an object nor an array.';
    END IF;
    not_null := true;
    key_position := i;
    description := place ->> 'description';
    RETURN NEXT;
  END LOOP;
  RETURN QUERY
    SELECT n.pointer, sophia.form_type(p.value, false), form -> 'required' ? p.key AND NOT p.value -> 'types' ? 'null',
      NULL::integer, p.value ->> 'description'
    FROM jsonb_each(form -> 'properties') AS p
    CROSS JOIN LATERAL (SELECT '/' || replace(replace(p.key, '~', '~0'), '/', '~1') AS pointer) AS n
    WHERE p.key <> '_meta' AND n.pointer <> ALL (schema_columns.key) AND sophia.form_type(p.value, false) IS NOT NULL
    ORDER BY p.key COLLATE "C";
END;
$$;
COMMENT ON FUNCTION sophia.schema_columns(jsonb, text[]) IS
  'internal: the columns of a table for the documents of a schema: its key and its top-level properties but _meta';

-- ---- reduction ----

-- Raises the error of everything that we do not reduce.
CREATE FUNCTION sophia.refuse_reduction(what text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION '% is not supported', what USING ERRCODE = '0A000',
    HINT = 'Follow the collection with reduce = none, which appends every committed document, and reduce them by SQL.';
END;
$$;
COMMENT ON FUNCTION sophia.refuse_reduction(text) IS 'internal: raises the error of a reduction that the ingest does not know';

-- Whether a condition is the one that captures use: /_meta/op is "d".
CREATE FUNCTION sophia.asks_for_tombstone(condition jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((condition - 'required' - 'type') #- '{properties,_meta,required}' #- '{properties,_meta,type}' #- '{properties,_meta,properties,op,type}'
    IN ('{"properties": {"_meta": {"properties": {"op": {"const": "d"}}}}}', '{"properties": {"_meta": {"properties": {"op": {"enum": ["d"]}}}}}'), false)
$$;
COMMENT ON FUNCTION sophia.asks_for_tombstone(jsonb) IS 'internal: whether an "if" of a schema says that /_meta/op is "d"';

-- Two reductions of one location as one; NULL is none.
CREATE FUNCTION sophia.combine_reductions(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF a IS NULL OR b IS NULL OR a = b THEN
    RETURN coalesce(a, b);
  ELSIF a ->> 'strategy' <> b ->> 'strategy' THEN
    PERFORM sophia.refuse_reduction('a location with several reduction strategies');
  END IF;
  RETURN jsonb_strip_nulls(jsonb_build_object('strategy', coalesce(a -> 'strategy', b -> 'strategy'),
      'others', sophia.combine_reductions(a -> 'others', b -> 'others')))
    || jsonb_build_object('members', (SELECT coalesce(jsonb_object_agg(coalesce(p.key, q.key),
        CASE WHEN p.value = 'false' THEN q.value WHEN q.value = 'false' THEN p.value
             ELSE sophia.combine_reductions(p.value, q.value) END), '{}')
      FROM jsonb_each(coalesce(a -> 'members', '{}')) AS p FULL JOIN jsonb_each(coalesce(b -> 'members', '{}')) AS q ON p.key = q.key));
END;
$$;
COMMENT ON FUNCTION sophia.combine_reductions(jsonb, jsonb) IS 'internal: two reductions of one location of a schema as one';

-- {"strategy", "members": {name: reduction or false}, "others": reduction} of a schema; NULL where nothing in it is annotated.
-- What is said of /_meta is passed over: a row always has that of the last document.
CREATE FUNCTION sophia.reduction_of(root jsonb, base jsonb, schema jsonb, refs text[] DEFAULT '{}', whole boolean DEFAULT true) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  result jsonb;
  part jsonb;
  branch jsonb;
  branches jsonb;
  target jsonb;
  place text;
  name text;
BEGIN
  IF jsonb_typeof(schema) IS DISTINCT FROM 'object' THEN
    RETURN NULL;
  END IF;
  base := sophia.schema_base(base, schema);
  IF schema ? 'reduce' THEN
    part := schema -> 'reduce';
    IF jsonb_typeof(part) <> 'object' OR jsonb_typeof(part -> 'strategy') IS DISTINCT FROM 'string' THEN
      RAISE EXCEPTION 'the schema has an invalid "reduce": %', part USING ERRCODE = '22023';
    ELSIF part ->> 'strategy' NOT IN ('merge', 'lastWriteWins') THEN
      PERFORM sophia.refuse_reduction(format('reduction strategy "%s"', part ->> 'strategy'));
    ELSIF part ->> 'strategy' = 'merge' AND (part ? 'key' OR schema -> 'type' @> '"array"') THEN
      PERFORM sophia.refuse_reduction('reduction strategy "merge" of arrays');
    ELSIF part -> 'delete' = 'true' THEN
      PERFORM sophia.refuse_reduction('a reduction that deletes where /_meta/op is not "d"');
    END IF;
    result := jsonb_build_object('strategy', part -> 'strategy', 'members', '{}'::jsonb);
  END IF;
  -- Items are replaced with their array, but what cannot be reduced is told.
  FOR part IN SELECT jsonb_path_query(schema, 'lax $."items"') UNION ALL SELECT jsonb_path_query(schema, 'lax $."prefixItems"[*]') LOOP
    PERFORM sophia.reduction_of(root, base, part, refs, false);
  END LOOP;
  SELECT jsonb_object_agg(p.key, CASE WHEN whole AND p.key = '_meta' THEN 'false'
      ELSE coalesce(sophia.reduction_of(root, base, p.value, refs, false), 'false') END) INTO branches
    FROM jsonb_each(CASE jsonb_typeof(schema -> 'properties') WHEN 'object' THEN schema -> 'properties' ELSE '{}' END) AS p;
  part := sophia.reduction_of(root, base, schema -> 'additionalProperties', refs, false);
  IF part IS NOT NULL OR EXISTS (SELECT FROM jsonb_each(branches) AS b WHERE b.value <> 'false') THEN
    result := sophia.combine_reductions(result, jsonb_strip_nulls(jsonb_build_object('others', part))
      || jsonb_build_object('members', coalesce(branches, '{}')));
  END IF;
  FOR part IN SELECT p.value FROM jsonb_each(CASE jsonb_typeof(schema -> 'patternProperties') WHEN 'object' THEN schema -> 'patternProperties' ELSE '{}' END) AS p LOOP
    IF sophia.reduction_of(root, base, part, refs, false) IS NOT NULL THEN
      PERFORM sophia.refuse_reduction('a reduction of members whose names follow a pattern');
    END IF;
  END LOOP;
  IF schema ? '$ref' THEN
    part := sophia.referred_base(root, base, schema ->> '$ref');
    target := sophia.resolve_reference(part, schema ->> '$ref');
    place := concat(part ->> '$id', substring(schema ->> '$ref' FROM '#.*'));
    IF place = ANY (refs) THEN
      IF jsonb_path_exists(target, 'lax $.**."reduce"') THEN
        PERFORM sophia.refuse_reduction('a reduction of a schema that refers to itself');
      END IF;
    ELSE
      result := sophia.combine_reductions(result, sophia.reduction_of(root, part, target, refs || place, whole));
    END IF;
  END IF;
  FOR part IN SELECT jsonb_path_query(schema, 'lax $."allOf"[*]') LOOP
    result := sophia.combine_reductions(result, sophia.reduction_of(root, base, part, refs, whole));
  END LOOP;
  IF schema ? 'if' AND sophia.asks_for_tombstone(schema -> 'if') THEN
    -- The ingest takes every such document as a tombstone, whatever is said here.
    part := schema -> 'then';
    IF jsonb_typeof(part) = 'object' THEN
      PERFORM sophia.reduction_of(root, base, part #- '{reduce,delete}', refs, whole);
    END IF;
    result := sophia.combine_reductions(result, sophia.reduction_of(root, base, schema -> 'else', refs, whole));
  ELSIF schema ? 'if' THEN
    schema := schema || jsonb_build_object('?', jsonb_build_array(coalesce(schema -> 'then', 'true'), coalesce(schema -> 'else', 'true')));
  END IF;
  FOREACH name IN ARRAY ARRAY['anyOf', 'oneOf', '?'] LOOP
    branches := NULL;
    FOR branch IN SELECT b FROM jsonb_array_elements(CASE jsonb_typeof(schema -> name) WHEN 'array' THEN schema -> name ELSE '[]' END) AS b LOOP
      -- Only objects merge, so what becomes of other values is no alternative.
      part := coalesce(sophia.reduction_of(root, base, branch, refs, whole), 'null');
      IF sophia.schema_form(root, base, branch, 0) -> 'types' ? 'object' THEN
        branches := CASE WHEN branches IS NULL THEN jsonb_build_array(part) WHEN branches @> jsonb_build_array(part) THEN branches
                         ELSE branches || jsonb_build_array(part) END;
      END IF;
    END LOOP;
    IF jsonb_array_length(branches) > 1 THEN
      PERFORM sophia.refuse_reduction('a reduction that depends on the document');
    END IF;
    result := sophia.combine_reductions(result, nullif(branches -> 0, 'null'));
  END LOOP;
  RETURN result;
END;
$$;
COMMENT ON FUNCTION sophia.reduction_of(jsonb, jsonb, jsonb, text[], boolean) IS
  'internal: the reduction that a schema asks for at each location; NULL = none; raises 0A000 for what the ingest does not reduce';

CREATE FUNCTION sophia.merge_plan(reduction jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN reduction ->> 'strategy' = 'merge' THEN
    jsonb_strip_nulls(jsonb_build_object('others', sophia.merge_plan(reduction -> 'others')))
    || jsonb_build_object('members', (SELECT coalesce(jsonb_object_agg(m.key, coalesce(sophia.merge_plan(m.value), 'false')), '{}')
                                      FROM jsonb_each(reduction -> 'members') AS m)) END
$$;
COMMENT ON FUNCTION sophia.merge_plan(jsonb) IS
  'internal: a reduction as the ingest follows it: {"members": {name: plan or false}, "others": plan} of an object that merges, else NULL';
