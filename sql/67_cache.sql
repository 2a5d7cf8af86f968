-- The cache of AI answers: in a Redis server, by keys that hold all that an answer depends on.

CREATE SEQUENCE sophia.cache_generation;
COMMENT ON SEQUENCE sophia.cache_generation IS 'internal: part of the keys of answers that are kept; a new value makes those before unreachable, as forgetting a person does';
SELECT pg_catalog.pg_extension_config_dump('sophia.cache_generation', '');

CREATE FUNCTION sophia.cache_state(
    OUT state text, OUT server text, OUT hits bigint, OUT misses bigint, OUT unanswered bigint, OUT stores bigint,
    OUT errors bigint, OUT connections bigint, OUT last_error text, OUT last_error_at timestamptz)
  AS 'MODULE_PATHNAME', 'sophia_cache_state' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.cache_state() IS 'what the gateway tells of the server that keeps AI answers';

CREATE VIEW sophia.cache_status AS
  SELECT s.state, s.server, s.hits, s.misses, s.unanswered, s.stores, s.errors, s.connections, s.last_error, s.last_error_at
  FROM sophia.cache_state() AS s;
COMMENT ON VIEW sophia.cache_status IS 'the server that keeps AI answers, for all databases, since the gateway was started; who is granted it also needs EXECUTE on sophia.cache_state()';
COMMENT ON COLUMN sophia.cache_status.state IS 'off: sophia_stack.cache_server names none; connecting: it is away, and calls do without; up';
COMMENT ON COLUMN sophia.cache_status.hits IS 'texts whose answer was there';
COMMENT ON COLUMN sophia.cache_status.misses IS 'texts whose answer was not there';
COMMENT ON COLUMN sophia.cache_status.unanswered IS 'texts that were sent to their provider since the server was away or took more than 5 ms';
COMMENT ON COLUMN sophia.cache_status.stores IS 'answers that were put there';
COMMENT ON COLUMN sophia.cache_status.connections IS 'that were made';

CREATE FUNCTION sophia.purge_answers(model text, function text) RETURNS bigint
  AS 'MODULE_PATHNAME', 'sophia_purge_answers' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION sophia.purge_answers(text, text) IS 'internal: drops answers of this database from the cache, of a model and a function or of all; see purge_cache';

CREATE FUNCTION sophia.purge_cache(model text DEFAULT NULL, function text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  purged bigint;
BEGIN
  IF purge_cache.function !~ '^[a-z0-9_]+$' THEN
    RAISE EXCEPTION 'invalid name of a function: "%"', purge_cache.function USING ERRCODE = '22023',
      HINT = 'Write it without schema and arguments, such as sentiment.';
  END IF;
  purged := sophia.purge_answers(purge_cache.model, purge_cache.function);
  RETURN format('%s %s of %s and %s purged', purged, CASE purged WHEN 1 THEN 'answer' ELSE 'answers' END,
    coalesce('model "' || purge_cache.model || '"', 'all models'), coalesce('function ' || purge_cache.function, 'all functions'));
END;
$$;
COMMENT ON FUNCTION sophia.purge_cache(text, text) IS 'drops the answers of this database from the cache, of a model, of a function, or of all; says how many there were; at once, whatever becomes of the transaction';
