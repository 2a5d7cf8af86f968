-- Fields that the shape of a stream does not know: columns added for them, their filling, and columns that were widened.
--
-- sophia.stream_progress (48_progress.sql) shows the fills.  The function is in C, because the DDL runs as the owner of the table (src/flow/fields.c).

CREATE TABLE sophia.field_fills (
  table_schema text NOT NULL,
  table_name text NOT NULL,
  column_name text NOT NULL,
  stream text NOT NULL,
  state text NOT NULL DEFAULT 'filling' CHECK (state IN ('filling', 'done', 'failed')),
  position text[],
  rows_done bigint NOT NULL DEFAULT 0,
  rows_total bigint,
  rows_misfit bigint NOT NULL DEFAULT 0,
  error text,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  PRIMARY KEY (table_schema, table_name, column_name)
);
COMMENT ON TABLE sophia.field_fills IS 'columns that are or were filled from doc in rows that were there before them';
COMMENT ON COLUMN sophia.field_fills.table_schema IS 'schema of the data table';
COMMENT ON COLUMN sophia.field_fills.table_name IS 'name of the data table';
COMMENT ON COLUMN sophia.field_fills.column_name IS 'name of the column';
COMMENT ON COLUMN sophia.field_fills.stream IS 'stream that the column was added for; any stream of the table fills it';
COMMENT ON COLUMN sophia.field_fills.state IS 'filling: rows are left, and are filled while a stream of the table runs; done; failed: see error';
COMMENT ON COLUMN sophia.field_fills.position IS 'primary key of the last row that was looked at, NULL = none yet';
COMMENT ON COLUMN sophia.field_fills.rows_done IS 'rows that were looked at';
COMMENT ON COLUMN sophia.field_fills.rows_total IS 'rows of the table when the fill began, as the planner knows them; NULL = not known';
COMMENT ON COLUMN sophia.field_fills.rows_misfit IS 'rows whose value does not fit the column, which stays NULL there';
COMMENT ON COLUMN sophia.field_fills.error IS 'why the fill failed, or the first value that does not fit';
COMMENT ON COLUMN sophia.field_fills.started_at IS 'when the column was added or widened';
COMMENT ON COLUMN sophia.field_fills.updated_at IS 'when rows were last looked at';
COMMENT ON COLUMN sophia.field_fills.finished_at IS 'when the last row was looked at';

CREATE TABLE sophia.schema_changes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  stream text NOT NULL,
  table_schema text NOT NULL,
  table_name text NOT NULL,
  column_name text,
  change text NOT NULL CHECK (change IN ('column added', 'column widened', 'column refused', 'widening refused')),
  old_type text,
  new_type text,
  pointer text,
  reason text NOT NULL,
  journal text,
  begin_offset bigint,
  error text
);
COMMENT ON TABLE sophia.schema_changes IS 'what changed in the tables of streams, when, why, and which document asked for it';
COMMENT ON SEQUENCE sophia.schema_changes_id_seq IS 'numbers the schema changes';
COMMENT ON COLUMN sophia.schema_changes.changed_at IS 'when it was changed or refused';
COMMENT ON COLUMN sophia.schema_changes.stream IS 'stream that it was changed for';
COMMENT ON COLUMN sophia.schema_changes.table_schema IS 'schema of the data table';
COMMENT ON COLUMN sophia.schema_changes.table_name IS 'name of the data table';
COMMENT ON COLUMN sophia.schema_changes.column_name IS 'name of the column, NULL where none was made';
COMMENT ON COLUMN sophia.schema_changes.change IS 'column added, column widened, column refused or widening refused';
COMMENT ON COLUMN sophia.schema_changes.old_type IS 'SQL type before, NULL for a new column';
COMMENT ON COLUMN sophia.schema_changes.new_type IS 'SQL type that the column has got, or should have got';
COMMENT ON COLUMN sophia.schema_changes.pointer IS 'JSON pointer of the field';
COMMENT ON COLUMN sophia.schema_changes.reason IS 'why: add_field, a new field, or the value that did not fit';
COMMENT ON COLUMN sophia.schema_changes.journal IS 'journal of the document that asked for it, NULL = none did';
COMMENT ON COLUMN sophia.schema_changes.begin_offset IS 'offset of the first byte of that document';
COMMENT ON COLUMN sophia.schema_changes.error IS 'why it was refused';

CREATE TABLE sophia.new_fields (
  stream text NOT NULL,
  pointer text NOT NULL,
  conversion text NOT NULL,
  journal text NOT NULL,
  begin_offset bigint NOT NULL,
  PRIMARY KEY (stream, pointer)
);
COMMENT ON TABLE sophia.new_fields IS 'internal: fields that a batch saw for the first time and that have no column yet';
COMMENT ON COLUMN sophia.new_fields.stream IS 'stream with evolve = auto';
COMMENT ON COLUMN sophia.new_fields.pointer IS 'JSON pointer of the field';
COMMENT ON COLUMN sophia.new_fields.conversion IS 'how its values are made a column, which is also the SQL type';
COMMENT ON COLUMN sophia.new_fields.journal IS 'journal of the document that it was first seen in';
COMMENT ON COLUMN sophia.new_fields.begin_offset IS 'offset of the first byte of that document';

SELECT pg_catalog.pg_extension_config_dump('sophia.field_fills', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.schema_changes', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.schema_changes_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.new_fields', '');

CREATE FUNCTION sophia.add_field(stream text, pointer text, column_name text, column_type regtype) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_add_field' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.add_field(text, text, text, regtype) IS
  'adds a column for a field to the table of a stream; rows that are there are filled from doc by the worker; the same call again does nothing';
