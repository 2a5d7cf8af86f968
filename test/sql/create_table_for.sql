-- create_table_for: the types of a schema, alternatives and references, names, what it adds, and what it refuses.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS regress_collections CASCADE;
RESET client_min_messages;

-- The columns that a table has for its documents
CREATE FUNCTION pg_temp.columns(target regclass) RETURNS TABLE (column_name name, type text, "null" boolean, comment text)
LANGUAGE sql AS $$
  SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, col_description(a.attrelid, a.attnum)
  FROM pg_attribute a WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attname NOT IN (SELECT b.column_name FROM sophia.bookkeeping_columns b)
  ORDER BY a.attnum
$$;

-- One type each
SELECT * FROM sophia.create_table_for('{
  "type": "object",
  "title": "Orders",
  "required": ["id", "integer", "nullable", "one_of"],
  "properties": {
    "id": {"type": "string", "format": "date-time", "description": "Made at"},
    "integer": {"type": "integer", "description": "A whole number"},
    "integer64": {"type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807},
    "integer_large": {"type": "integer", "maximum": 9223372036854775808},
    "integer_small": {"type": "integer", "minimum": -1e30},
    "nullable": {"type": ["integer", "null"]},
    "number": {"type": "number"},
    "integer_number": {"type": ["integer", "number"]},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "array": {"type": "array"},
    "several": {"type": ["integer", "string"]},
    "anything": {},
    "anything_too": true,
    "nothing": false,
    "null": {"type": "null"},
    "string": {"type": "string"},
    "enum": {"enum": ["a", "b"]},
    "enum_mixed": {"enum": ["a", 1]},
    "const": {"const": 5},
    "f_integer": {"type": "string", "format": "integer"},
    "f_number": {"type": "string", "format": "number"},
    "f_integer_union": {"type": ["integer", "string"], "format": "integer"},
    "f_number_union": {"type": ["number", "string", "null"], "format": "number"},
    "f_uint32": {"type": "string", "format": "uint32"},
    "f_uint64": {"type": "string", "format": "uint64"},
    "f_date": {"type": "string", "format": "date"},
    "f_date_time": {"type": "string", "format": "date-time"},
    "f_time": {"type": "string", "format": "time"},
    "f_duration": {"type": "string", "format": "duration"},
    "f_ipv4": {"type": "string", "format": "ipv4"},
    "f_ipv6": {"type": "string", "format": "ipv6"},
    "f_macaddr": {"type": "string", "format": "macaddr"},
    "f_macaddr8": {"type": "string", "format": "macaddr8"},
    "f_uuid": {"type": "string", "format": "uuid"},
    "f_email": {"type": "string", "format": "email"},
    "base64": {"type": "string", "contentEncoding": "base64"},
    "any_of": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    "one_of": {"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer"}]},
    "one_of_mixed": {"oneOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "uuid"}]},
    "all_of": {"allOf": [{"type": ["string", "integer"]}, {"type": ["string", "null"], "format": "uuid"}]},
    "reference": {"$ref": "#/$defs/amount"},
    "by_anchor": {"$ref": "#day"},
    "_meta": {"type": "object"}
  },
  "$defs": {"amount": {"type": "number", "description": "In euro"}, "day": {"$anchor": "day", "type": "string", "format": "date"}}
}', 'regress_collections.types', '{/id}');
SELECT * FROM pg_temp.columns('regress_collections.types');
SELECT obj_description('regress_collections.types'::regclass);
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'regress_collections.types'::regclass;
SELECT column_name, column_type, conversion FROM sophia.fields WHERE table_schema = 'regress_collections'
  AND conversion IS DISTINCT FROM column_type ORDER BY column_name;

-- Schemas that Flow bundles; conditions; a schema that holds itself
SELECT * FROM sophia.create_table_for('{
  "allOf": [{"$ref": "flow://write-schema"}, {"$ref": "flow://inferred-schema"}],
  "$defs": {
    "flow://write-schema": {"$id": "flow://write-schema", "type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "node": {"$ref": "#/$defs/node"}},
      "$defs": {"node": {"type": "object", "properties": {"child": {"$ref": "#/$defs/node"}}}},
      "if": {"properties": {"kind": {"const": "a"}}}, "then": {"properties": {"a": {"type": "integer"}}}, "else": {"properties": {"b": {"type": "string"}}}},
    "flow://inferred-schema": {"$id": "flow://inferred-schema", "type": "object", "properties": {"id": {"type": "string"}, "seen": {"$ref": "#/$defs/node"}},
      "$defs": {"node": {"type": "boolean"}}}
  }}', 'regress_collections.bundled', '{/id}');
SELECT column_name, type, "null" FROM pg_temp.columns('regress_collections.bundled');

-- References to a place in another schema: by its address, by one that counts from where the reference stands, with odd bytes, to an anchor
SELECT count(*) FROM sophia.create_table_for('{
  "$id": "files://shop/catalog.yaml?ptr=/collections/orders/schema", "$ref": "files://shop/parts/row#/$defs/row",
  "$defs": {
    "__inline1": {"$id": "files://shop/parts/row", "$defs": {"row": {"type": "object", "required": ["id"],
      "properties": {"id": {"$ref": "scalars#/$defs/a%20key"}, "at": {"$ref": "./scalars#when"}, "self": {"$ref": "#/$defs/flag"}, "up": {"$ref": "/flags"}}},
      "flag": {"type": "boolean"}}},
    "__inline2": {"$id": "files://shop/parts/scalars", "$defs": {"a key": {"$ref": "#/$defs/number"}, "number": {"type": "integer"},
      "when": {"$anchor": "when", "type": "string", "format": "date"}}},
    "outer": {"$id": "files://shop/", "$defs": {"flags": {"$id": "flags", "type": ["boolean", "null"]}}}
  }}', 'regress_collections.referred', '{/id}');
SELECT column_name, type, "null" FROM pg_temp.columns('regress_collections.referred');
SELECT sophia.create_table_for('{"$ref": "files://shop/elsewhere#/$defs/row"}', 'regress_collections.nowhere', '{/id}');

-- Keys: several, below the top level, of one or several scalar types, none
SELECT count(*) FROM sophia.create_table_for('{"properties": {"a": {"type": "integer"}, "b": {"properties": {"c/d": {"type": "string", "format": "uuid"}}},
  "e": {"type": ["integer", "string"]}, "f": {"type": "string", "format": "integer"}, "g": {"type": ["boolean", "null"]}}}', 'regress_collections.keys', '{/b/c~1d,/e,/f,/g,/a}');
SELECT column_name, type, "null" FROM pg_temp.columns('regress_collections.keys');
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'regress_collections.keys'::regclass;
SELECT count(*) FROM sophia.create_table_for('{"required": ["a"], "properties": {"a": {"type": "integer"}}}', 'regress_collections.appended', '{}');
SELECT column_name, type, "null" FROM pg_temp.columns('regress_collections.appended');
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'regress_collections.appended'::regclass;

-- Names
SELECT count(*) FROM sophia.create_table_for('{"properties": {"id": {"type": "string"}, "doc": {"type": "string"}, "doc_": {"type": "string"}, "is_deleted": {"type": "boolean"},
  "ctid": {"type": "string"}, "Mixed Case": {"type": "string"}, "quo\"te": {"type": "string"}, "a/b": {"type": "string"}, "c~d": {"type": "string"}, "": {"type": "string"}, "ä": {"type": "string"},
  "a_name_of_which_only_the_end_makes_it_differ_from_the_other_one_1": {"type": "string"},
  "a_name_of_which_only_the_end_makes_it_differ_from_the_other_one_2": {"type": "string"}}}', 'regress_collections."Names"', '{/id}');
SELECT column_name, comment FROM pg_temp.columns('regress_collections."Names"');

-- Again: nothing; a schema that grew: what is missing, nullable; one that was widened since serves
SELECT action, kind, object FROM sophia.create_table_for('{"properties": {"id": {"type": "string"}}}', 'regress_collections.grown', '{/id}');
SELECT action, kind, object FROM sophia.create_table_for('{"required": ["n"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}', 'regress_collections.grown', '{/id}');
SELECT action, kind, object FROM sophia.create_table_for('{"required": ["n"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}', 'regress_collections.grown', '{/id}');
SELECT column_name, type, "null" FROM pg_temp.columns('regress_collections.grown');
ALTER TABLE regress_collections.grown ALTER n TYPE numeric;
SELECT action FROM sophia.create_table_for('{"properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}', 'regress_collections.grown', '{/id}');
-- A table of the user's gets what it lacks; a table that was dropped leaves nothing behind
CREATE TABLE regress_collections.by_hand (id varchar(10) UNIQUE NOT NULL, note text);
SELECT action, kind, object FROM sophia.create_table_for('{"properties": {"id": {"type": "string"}}}', 'regress_collections.by_hand', '{/id}');
DROP TABLE regress_collections.by_hand;
SELECT action FROM sophia.create_table_for('{"properties": {"key": {"type": "integer"}}}', 'regress_collections.by_hand', '{/key}');
SELECT column_name, pointers FROM sophia.fields WHERE table_name = 'by_hand';

-- What it refuses, before anything is changed
CREATE VIEW regress_collections.a_view AS SELECT 1 AS id;
DO $$
DECLARE
  call record;
  state text;
  message text;
  detail text;
BEGIN
  FOR call IN SELECT * FROM (VALUES
    ('{"properties": {"key": {"type": "string"}, "new": {}}}', 'regress_collections.by_hand', '{/key}'),
    ('{"properties": {"id": {"type": "string"}, "n": {"type": "boolean"}}}', 'regress_collections.grown', '{/id}'),
    ('{"properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}', 'regress_collections.grown', '{/id,/n}'),
    ('{"properties": {"id": {"type": "object"}}}', 'regress_collections.refused', '{/id}'),
    ('{"properties": {"id": {"type": ["string", "array"]}}}', 'regress_collections.refused', '{/id}'),
    ('{"properties": {"id": {"type": "null"}}}', 'regress_collections.refused', '{/id}'),
    ('{"properties": {"id": {"type": "string"}}}', 'regress_collections.refused', '{/other}'),
    ('{"properties": {"id": {"type": "string"}}}', 'regress_collections.refused', '{id}'),
    ('{"properties": {"id": {"type": "string"}}}', 'regress_collections.refused', '{/id,/id}'),
    ('{"properties": {"id": {"type": "string"}}}', 'regress_collections.refused', NULL),
    ('{"properties": {"id": {"type": "text"}}}', 'regress_collections.refused', '{/id}'),
    ('{"properties": {"id": {"$ref": "#/$defs/missing"}}}', 'regress_collections.refused', '{/id}'),
    ('{"$ref": "#"}', 'regress_collections.refused', '{/id}'),
    ('[]', 'regress_collections.refused', '{/id}'),
    (NULL, 'regress_collections.refused', '{/id}'),
    ('{"properties": {"id": {"type": "string"}}}', 'refused', '{/id}'),
    ('{"properties": {"id": {"type": "string"}}}', 'a.b.c', '{/id}'),
    ('{"properties": {"id": {"type": "string"}}}', NULL, '{/id}'),
    ('{"properties": {"id": {"type": "string"}}}', 'sophia.refused', '{/id}'),
    ('{"properties": {"id": {"type": "string"}}}', 'hubspot_raw.contacts', '{/id}'),
    ('{"properties": {"id": {"type": "integer"}}}', 'regress_collections.a_view', '{/id}')) AS c (collection_schema, target, key)
  LOOP
    BEGIN
      PERFORM sophia.create_table_for(call.collection_schema::jsonb, call.target, call.key::text[]);
      RAISE NOTICE '% passed', call;
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
      RAISE NOTICE E'% %\n%', state, message, detail;
    END;
  END LOOP;
END $$;
SELECT to_regclass('regress_collections.refused');
SELECT column_name FROM pg_temp.columns('regress_collections.by_hand');

-- What a schema says of the reduction
SELECT s.schema, sophia.generic_reduction(jsonb_build_object('schema', s.schema::jsonb)) FROM (VALUES
  ('{}'),
  ('{"reduce": {"strategy": "merge"}}'),
  ('{"properties": {"a": {"reduce": {"strategy": "merge"}}}}'),
  ('{"reduce": {"strategy": "merge"}, "properties": {"a": {"reduce": {"strategy": "merge"}}, "b": {"type": "object"}}, "additionalProperties": {"reduce": {"strategy": "merge"}}}'),
  ('{"allOf": [{"reduce": {"strategy": "merge"}}, {"$ref": "#/$defs/x"}], "$defs": {"x": {"properties": {"a": {"reduce": {"strategy": "merge"}}}}}}'),
  ('{"if": {"properties": {"_meta": {"properties": {"op": {"const": "d"}}}}}, "then": {"reduce": {"strategy": "merge", "delete": true}}, "else": {"reduce": {"strategy": "merge"}}}'),
  ('{"reduce": {"strategy": "merge"}, "if": {"properties": {"_meta": {"properties": {"op": {"enum": ["d"], "type": "string"}}, "required": ["op"]}}, "required": ["_meta"]}, "then": {"reduce": {"strategy": "merge", "delete": true}}}'),
  ('{"anyOf": [{"type": "object", "reduce": {"strategy": "merge"}}, {"type": "array"}]}'),
  ('{"reduce": {"strategy": "merge"}, "properties": {"child": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"properties": {"child": {"$ref": "#/$defs/n"}}}}}')) AS s (schema);

SET client_min_messages = warning;
DROP SCHEMA regress_collections CASCADE;
DELETE FROM sophia.fields;
