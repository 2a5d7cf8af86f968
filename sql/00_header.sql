-- sophia_stack 0.1.0: install script, concatenated from sql/[0-9]*.sql.
\echo Use "CREATE EXTENSION sophia_stack" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA sophia;
COMMENT ON SCHEMA sophia IS 'sophia_stack: configuration, state and functions of the staging pipeline';
GRANT USAGE ON SCHEMA sophia TO PUBLIC;
