-- sophia_stack 0.1.0: install script, concatenated from sql/[0-9]*.sql.
\echo Use "CREATE EXTENSION sophia_stack" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

DO $$
BEGIN
  IF current_setting('server_encoding') <> 'UTF8' THEN
    RAISE EXCEPTION 'sophia_stack needs a database in encoding UTF8'
      USING ERRCODE = 'feature_not_supported',
            DETAIL = format('Database "%s" is in encoding %s.', current_database(), current_setting('server_encoding')),
            HINT = 'Create one with CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
  END IF;
END
$$;

CREATE SCHEMA sophia;
COMMENT ON SCHEMA sophia IS 'sophia_stack: configuration, state and functions of the staging pipeline';
GRANT USAGE ON SCHEMA sophia TO PUBLIC;
