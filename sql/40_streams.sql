-- Endpoints and streams: functions and views.
--
-- What writes tables of the extension is SECURITY DEFINER, so that the right to call it can be granted alone.  The workers
-- hear of a change when it is committed.  A stream belongs to the cluster and the database where it was
-- created or last started; anywhere else, as after a restore, it counts as stopped.

-- ---- what C has to do ----

CREATE FUNCTION sophia.library_version() RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_library_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.library_version() IS 'internal: version of the loaded library';

CREATE FUNCTION sophia.check_address(kind text, address text) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_check_address' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.check_address(text, text) IS 'internal: raises an error where an endpoint of that kind cannot have that address';

CREATE FUNCTION sophia.check_secret(reference text, what text DEFAULT 'option "token"') RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_check_secret' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.check_secret(text, text) IS 'internal: raises an error where that is no reference of a secret, env:NAME or file:name; what names the argument';

CREATE FUNCTION sophia.conversion_of(column_type regtype) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_conversion_of_type' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.conversion_of(regtype) IS 'internal: name of the conversion that fills a column of that type; NULL for a pseudo-type';

CREATE FUNCTION sophia.worker_missing() RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_worker_missing' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.worker_missing() IS 'internal: what to do so that this database gets a worker; NULL where it gets one';

CREATE FUNCTION sophia.notify_workers() RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_notify_workers' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.notify_workers() IS 'internal: has the workers of this database read endpoints and streams anew once the transaction has committed';

CREATE FUNCTION sophia.written_here(xmin xid) RETURNS boolean
  AS 'MODULE_PATHNAME', 'sophia_written_here' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.written_here(xid) IS 'internal: whether the current transaction wrote the row with that xmin';

CREATE FUNCTION sophia.ask_worker(request text, name text, timeout float8,
                                  OUT answered boolean, OUT sqlstate text, OUT answer text)
  AS 'MODULE_PATHNAME', 'sophia_ask_worker' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.ask_worker(text, text, float8) IS 'internal: asks a worker of this database and waits for its answer, at most that many seconds';

CREATE FUNCTION sophia.worker_pid(worker integer DEFAULT NULL) RETURNS integer
  AS 'MODULE_PATHNAME', 'sophia_worker_pid' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION sophia.worker_pid(integer) IS 'process of the ingest worker of that number in this database, or of the first one; NULL = it does not run';

CREATE FUNCTION sophia.worker_list(
    OUT worker text, OUT database oid, OUT index integer, OUT pid integer, OUT state text,
    OUT started_at timestamptz, OUT failures integer, OUT next_start_at timestamptz)
  RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_worker_list' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.worker_list() IS 'the processes of the extension, as shared memory knows them';

CREATE FUNCTION sophia.version() RETURNS TABLE (library text, sql text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT sophia.library_version(), e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'sophia_stack'
$$;
COMMENT ON FUNCTION sophia.version() IS 'versions of the loaded library and of the SQL objects';

-- ---- checks that several functions share ----

CREATE FUNCTION sophia.check_name(what text, name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF name IS NULL THEN
    RAISE EXCEPTION '% must not be null', what USING ERRCODE = '22004';
  ELSIF name = '' OR octet_length(name) >= 256 THEN
    RAISE EXCEPTION 'invalid name of %: it must have 1 to 255 bytes', what USING ERRCODE = '22023';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_name(text, text) IS 'internal: raises an error where that cannot name an endpoint or a stream';

CREATE FUNCTION sophia.check_collection(collection text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF collection IS NULL THEN
    RAISE EXCEPTION 'collection must not be null' USING ERRCODE = '22004';
  ELSIF octet_length(collection) >= 512 OR collection !~ '^[^/]+(/[^/]+)*$' OR collection ~ '[[:cntrl:]]'
        OR string_to_array(collection, '/') && ARRAY['.', '..'] THEN
    RAISE EXCEPTION 'invalid collection name' USING ERRCODE = '22023',
      HINT = 'A name has parts separated by single slashes, for example acmeCo/hubspot/contacts.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_collection(text) IS 'internal: raises an error where that cannot be the name of a collection';

CREATE FUNCTION sophia.check_endpoint_options(options jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text;
BEGIN
  IF jsonb_typeof(options) <> 'object' THEN
    RAISE EXCEPTION 'endpoint options must be a JSON object' USING ERRCODE = '22023';
  END IF;
  FOR name IN SELECT k FROM jsonb_object_keys(options) k WHERE k NOT IN ('token', 'prefix', 'data_plane') LOOP
    RAISE EXCEPTION 'unknown endpoint option "%"', name USING ERRCODE = '22023',
      HINT = 'The options are "token" and, of kind "estuary", "prefix" and "data_plane".';
  END LOOP;
  IF options ? 'token' THEN
    -- What is no string is no reference either, and is not shown.
    PERFORM sophia.check_secret(CASE WHEN jsonb_typeof(options -> 'token') = 'string' THEN options ->> 'token' ELSE '' END);
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_endpoint_options(jsonb) IS 'internal: raises an error where these cannot be the options of an endpoint';

CREATE FUNCTION sophia.check_endpoint_kind(kind text, options jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF kind <> 'estuary' AND options ?| ARRAY['prefix', 'data_plane'] THEN
    RAISE EXCEPTION 'endpoint options "prefix" and "data_plane" belong to kind "estuary"' USING ERRCODE = '22023';
  ELSIF kind <> 'estuary' THEN
    RETURN;
  ELSIF NOT options ? 'token' THEN
    RAISE EXCEPTION 'an endpoint of kind "estuary" needs the option "token"' USING ERRCODE = '22023',
      HINT = 'It names the secret that holds a refresh token, as env:NAME or file:name.';
  ELSIF options ? 'prefix' <> options ? 'data_plane' THEN
    RAISE EXCEPTION 'endpoint options "prefix" and "data_plane" go together' USING ERRCODE = '22023';
  ELSIF options ? 'prefix' AND (jsonb_typeof(options -> 'prefix') <> 'string' OR options ->> 'prefix' !~ '^([^/[:cntrl:]]+/)+$') THEN
    RAISE EXCEPTION 'invalid value of endpoint option "prefix"' USING ERRCODE = '22023',
      HINT = 'It is what names of collections begin with, up to a slash, for example acmeCo/hubspot/.';
  ELSIF options ? 'data_plane' AND (jsonb_typeof(options -> 'data_plane') <> 'string' OR options ->> 'data_plane' ~ '^$|[[:cntrl:]]') THEN
    RAISE EXCEPTION 'invalid value of endpoint option "data_plane"' USING ERRCODE = '22023',
      HINT = 'It is the name of a data plane, for example ops/dp/public/gcp-us-central1-c1.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_endpoint_kind(text, jsonb) IS 'internal: raises an error where an endpoint of that kind cannot have these options';

CREATE FUNCTION sophia.check_stream_options(options jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  allowed constant jsonb := '{"start": [true, false], "start_from": ["beginning", "end"], "delete": ["soft", "hard"],
                              "evolve": ["off", "auto"], "misfit": ["dead_letter", "widen"], "truncate": ["ignore", "apply"],
                              "reduce": ["lastWriteWins", "merge", "none"]}';
  -- These are looked at with the shape.
  free constant text[] := '{table,key,schema}';
  name text;
  value jsonb;
BEGIN
  IF jsonb_typeof(options) <> 'object' THEN
    RAISE EXCEPTION 'stream options must be a JSON object' USING ERRCODE = '22023';
  END IF;
  FOR name, value IN SELECT o.key, o.value FROM jsonb_each(options) o LOOP
    CONTINUE WHEN name = ANY (free);
    IF NOT allowed ? name THEN
      RAISE EXCEPTION 'unknown stream option "%"', name USING ERRCODE = '22023',
        HINT = 'The options are "start", "start_from", "delete", "evolve", "misfit" and "truncate", and of the shape generic "table", "key", "reduce" and "schema".';
    END IF;
    IF jsonb_typeof(value) IN ('array', 'object') OR NOT allowed -> name @> value THEN
      RAISE EXCEPTION 'invalid value of stream option "%"', name USING ERRCODE = '22023',
        HINT = format('It can be %s.', (SELECT string_agg(v::text, ' or ') FROM jsonb_array_elements(allowed -> name) v));
    END IF;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_stream_options(jsonb) IS 'internal: raises an error where these cannot be the options of a stream';

CREATE FUNCTION sophia.check_timeout(timeout interval) RETURNS float8
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF timeout IS NULL THEN
    RAISE EXCEPTION 'timeout must not be null' USING ERRCODE = '22004';
  END IF;
  RETURN extract(epoch FROM timeout);
END;
$$;
COMMENT ON FUNCTION sophia.check_timeout(interval) IS 'internal: seconds of a timeout';

CREATE FUNCTION sophia.require_worker() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  remedy constant text := sophia.worker_missing();
BEGIN
  IF remedy IS NOT NULL THEN
    RAISE EXCEPTION 'this database has no ingest worker' USING ERRCODE = '55000', HINT = remedy;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.require_worker() IS 'internal: raises an error where this database gets no worker';

CREATE FUNCTION sophia.require_answer() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.require_worker();
  IF current_setting('sophia_stack.enabled', true) = 'off' THEN
    RAISE EXCEPTION 'the workers are paused' USING ERRCODE = '55000',
      HINT = 'The setting sophia_stack.enabled is off. Set it to on and reload the configuration.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.require_answer() IS 'internal: raises an error where no worker of this database would answer';

CREATE FUNCTION sophia.require_shape(shape text, stream text, options jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  target record;
BEGIN
  IF shape = 'generic' THEN
    PERFORM sophia.check_generic(stream, options);
    RETURN;
  END IF;
  SELECT s.target_schema, s.target_table INTO target FROM sophia.shapes s WHERE s.shape = require_shape.shape;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'unknown shape "%"', shape USING ERRCODE = '22023',
      HINT = format('The shapes are %s.', (SELECT string_agg(n.name, ', ' ORDER BY n.name)
        FROM (SELECT s.shape FROM sophia.shapes s UNION ALL SELECT 'generic') AS n (name)));
  ELSIF options ?| sophia.generic_options() THEN
    RAISE EXCEPTION 'stream option "%" is only for the shape generic', (SELECT o FROM unnest(sophia.generic_options()) o WHERE options ? o LIMIT 1)
      USING ERRCODE = '22023', HINT = format('The columns and the reduction of shape "%s" are in sophia.shapes and sophia.table_columns.', shape);
  END IF;
  IF to_regclass(format('%I.%I', target.target_schema, target.target_table)) IS NULL THEN
    RAISE EXCEPTION 'table "%.%" does not exist', target.target_schema, target.target_table USING ERRCODE = '42P01',
      HINT = 'Call sophia.create_schemas() first.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.require_shape(text, text, jsonb) IS 'internal: raises an error where there is no such shape, not the table that it fills, or it cannot have these options';

-- ---- endpoints ----

CREATE FUNCTION sophia.create_endpoint(endpoint text, kind text, address text, options jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM sophia.check_name('endpoint', create_endpoint.endpoint);
  IF create_endpoint.kind IS NULL OR create_endpoint.address IS NULL THEN
    RAISE EXCEPTION 'kind and address must not be null' USING ERRCODE = '22004';
  END IF;
  PERFORM sophia.check_endpoint_options(coalesce(create_endpoint.options, '{}'));
  PERFORM sophia.check_address(create_endpoint.kind, create_endpoint.address);
  PERFORM sophia.check_endpoint_kind(create_endpoint.kind, coalesce(create_endpoint.options, '{}'));
  INSERT INTO sophia.endpoints (endpoint, kind, address, options)
    VALUES (create_endpoint.endpoint, create_endpoint.kind, create_endpoint.address, coalesce(create_endpoint.options, '{}'))
    ON CONFLICT (endpoint) DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'endpoint "%" exists already', create_endpoint.endpoint USING ERRCODE = '42710';
  END IF;
  PERFORM sophia.notify_workers();
END;
$$;
COMMENT ON FUNCTION sophia.create_endpoint(text, text, text, jsonb) IS 'names a place that collections are read from; kind is estuary, broker or fragments';

CREATE FUNCTION sophia.drop_endpoint(endpoint text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.check_name('endpoint', endpoint);
  DELETE FROM sophia.endpoints e WHERE e.endpoint = drop_endpoint.endpoint;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'endpoint "%" does not exist', endpoint USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.notify_workers();
EXCEPTION WHEN foreign_key_violation THEN
  RAISE EXCEPTION 'endpoint "%" is in use', endpoint USING ERRCODE = '2BP01',
    DETAIL = format('It is read by %s.', (SELECT string_agg(format('stream "%s"', s.stream), ', ' ORDER BY s.stream)
                                         FROM sophia.streams s WHERE s.endpoint = drop_endpoint.endpoint)),
    HINT = 'Drop its streams first.';
END;
$$;
COMMENT ON FUNCTION sophia.drop_endpoint(text) IS 'forgets an endpoint that no stream reads';

CREATE FUNCTION sophia.require_endpoint(endpoint text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  uncommitted boolean;
BEGIN
  PERFORM sophia.check_name('endpoint', endpoint);
  SELECT sophia.written_here(e.xmin) INTO uncommitted FROM sophia.endpoints e WHERE e.endpoint = require_endpoint.endpoint;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'endpoint "%" does not exist', endpoint USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.require_answer();
  IF uncommitted THEN
    RAISE EXCEPTION 'endpoint "%" was created in this transaction, so no worker knows it yet', endpoint
      USING ERRCODE = '55000', HINT = 'Commit first.';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.require_endpoint(text) IS 'internal: raises an error where no worker can be asked about that endpoint';

CREATE FUNCTION sophia.check_endpoint(endpoint text, timeout interval DEFAULT '30 s') RETURNS TABLE (ok boolean, message text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  seconds constant float8 := sophia.check_timeout(timeout);
  reply record;
BEGIN
  PERFORM sophia.require_endpoint(endpoint);
  SELECT * INTO reply FROM sophia.ask_worker('check_endpoint', endpoint, seconds);
  ok := reply.answered AND reply.sqlstate IS NULL;
  message := CASE WHEN reply.answered THEN reply.answer
                  ELSE format('no answer within %s', timeout) END;
  RETURN NEXT;
END;
$$;
COMMENT ON FUNCTION sophia.check_endpoint(text, interval) IS 'has a worker try an endpoint, and tells what it found';

CREATE FUNCTION sophia.collections(endpoint text, timeout interval DEFAULT '30 s')
  RETURNS TABLE (collection text, journals bigint, bytes bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  seconds constant float8 := sophia.check_timeout(timeout);
  reply record;
BEGIN
  PERFORM sophia.require_endpoint(collections.endpoint);
  SELECT * INTO reply FROM sophia.ask_worker('collections', collections.endpoint, seconds);
  IF NOT reply.answered THEN
    RAISE EXCEPTION 'no answer about endpoint "%" within %', collections.endpoint, collections.timeout USING ERRCODE = '58000',
      HINT = 'See sophia.workers.';
  ELSIF reply.sqlstate IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = reply.sqlstate, MESSAGE = reply.answer;
  END IF;
  RETURN QUERY
    SELECT c.collection, c.journals, c.bytes
    FROM jsonb_to_recordset(reply.answer::jsonb) AS c (collection text, journals bigint, bytes bigint)
    ORDER BY c.collection;
END;
$$;
COMMENT ON FUNCTION sophia.collections(text, interval) IS 'has a worker list the collections that an endpoint holds';

-- ---- streams ----

CREATE VIEW sophia.here AS
  SELECT c.system_identifier, d.oid AS database_oid
  FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d
  WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();
COMMENT ON VIEW sophia.here IS 'internal: this cluster and this database, as a stream remembers where it belongs';
COMMENT ON COLUMN sophia.here.system_identifier IS 'identifier of the cluster';
COMMENT ON COLUMN sophia.here.database_oid IS 'oid of the database';

CREATE FUNCTION sophia.create_stream(stream text, endpoint text, collection text, shape text, options jsonb DEFAULT '{}')
  RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  settings constant jsonb := coalesce(create_stream.options, '{}');
  remedy constant text := sophia.worker_missing();
  starts boolean;
BEGIN
  PERFORM sophia.check_name('stream', create_stream.stream);
  PERFORM sophia.check_name('endpoint', create_stream.endpoint);
  PERFORM sophia.check_collection(create_stream.collection);
  IF create_stream.shape IS NULL THEN
    RAISE EXCEPTION 'shape must not be null' USING ERRCODE = '22004';
  END IF;
  PERFORM sophia.check_stream_options(settings);
  PERFORM FROM sophia.endpoints e WHERE e.endpoint = create_stream.endpoint FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'endpoint "%" does not exist', create_stream.endpoint USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.require_shape(create_stream.shape, create_stream.stream, settings);

  starts := coalesce((settings ->> 'start')::boolean, true);
  INSERT INTO sophia.streams (stream, endpoint, collection, shape, options, state, system_identifier, database_oid)
    SELECT create_stream.stream, create_stream.endpoint, create_stream.collection, create_stream.shape, settings,
           CASE WHEN starts AND remedy IS NULL THEN 'starting' ELSE 'stopped' END, h.system_identifier, h.database_oid
    FROM sophia.here h
    ON CONFLICT (stream) DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream "%" exists already', create_stream.stream USING ERRCODE = '42710';
  END IF;
  IF starts AND remedy IS NOT NULL THEN
    RAISE WARNING 'stream "%" is left stopped, because this database has no ingest worker', create_stream.stream
      USING ERRCODE = '55000', HINT = remedy;
  END IF;
  PERFORM sophia.notify_workers();
END;
$$;
COMMENT ON FUNCTION sophia.create_stream(text, text, text, text, jsonb) IS 'follows a collection into the table of a shape';

CREATE FUNCTION sophia.start_stream(stream text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM sophia.check_name('stream', start_stream.stream);
  PERFORM FROM sophia.streams s WHERE s.stream = start_stream.stream FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream "%" does not exist', start_stream.stream USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.require_worker();
  UPDATE sophia.streams s
    SET state = 'starting', last_error = NULL,
        system_identifier = h.system_identifier, database_oid = h.database_oid
    FROM sophia.here h
    WHERE s.stream = start_stream.stream
      AND (s.state IN ('stopped', 'failed')
           OR (s.system_identifier, s.database_oid) IS DISTINCT FROM (h.system_identifier, h.database_oid));
  IF FOUND THEN
    PERFORM sophia.notify_workers();
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.start_stream(text) IS 'starts a stream that is stopped, failed or restored; does nothing for another';

CREATE FUNCTION sophia.stop_stream(stream text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM sophia.check_name('stream', stop_stream.stream);
  PERFORM FROM sophia.streams s WHERE s.stream = stop_stream.stream FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream "%" does not exist', stop_stream.stream USING ERRCODE = '42704';
  END IF;
  UPDATE sophia.streams s SET state = 'stopped' WHERE s.stream = stop_stream.stream AND s.state <> 'stopped';
  IF FOUND THEN
    PERFORM sophia.notify_workers();
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.stop_stream(text) IS 'stops a stream, which keeps its checkpoint; does nothing for one that is stopped';

CREATE FUNCTION sophia.drop_stream(stream text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM sophia.check_name('stream', drop_stream.stream);
  DELETE FROM sophia.streams s WHERE s.stream = drop_stream.stream;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream "%" does not exist', drop_stream.stream USING ERRCODE = '42704';
  END IF;
  DELETE FROM sophia.producers p WHERE p.stream = drop_stream.stream;
  DELETE FROM sophia.staged_documents d WHERE d.stream = drop_stream.stream;
  DELETE FROM sophia.new_fields n WHERE n.stream = drop_stream.stream;
  PERFORM sophia.notify_workers();
END;
$$;
COMMENT ON FUNCTION sophia.drop_stream(text) IS 'forgets a stream, its checkpoint, its staged documents and its events; rows and dead letters stay';

CREATE FUNCTION sophia.await_stream(stream text, timeout interval DEFAULT '30 s') RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  seconds constant float8 := sophia.check_timeout(timeout);
  known record;
  reply record;
BEGIN
  PERFORM sophia.check_name('stream', stream);
  SELECT CASE WHEN s.system_identifier = h.system_identifier AND s.database_oid = h.database_oid THEN s.state
              ELSE 'stopped' END AS state,
         s.last_error, sophia.written_here(s.xmin) AS uncommitted
    INTO known FROM sophia.streams s, sophia.here h WHERE s.stream = await_stream.stream;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream "%" does not exist', stream USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.require_worker();
  IF known.state IN ('stopped', 'failed') THEN
    RAISE EXCEPTION 'stream "%" is %', stream, known.state || coalesce(': ' || known.last_error, '')
      USING ERRCODE = '55000', HINT = 'Start it with sophia.start_stream().';
  ELSIF known.uncommitted THEN
    RAISE EXCEPTION 'stream "%" was created or started in this transaction, so no worker knows it yet', stream
      USING ERRCODE = '55000', HINT = 'Commit first.';
  END IF;
  PERFORM sophia.require_answer();
  SELECT * INTO reply FROM sophia.ask_worker('await_stream', stream, seconds);
  IF reply.sqlstate IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = reply.sqlstate, MESSAGE = reply.answer,
      HINT = CASE reply.answer WHEN 'the workers are paused' THEN 'The setting sophia_stack.enabled is off. Set it to on and reload the configuration.'
                               ELSE 'See sophia.stream_status.' END;
  END IF;
  RETURN reply.answered;
END;
$$;
COMMENT ON FUNCTION sophia.await_stream(text, interval) IS 'waits until a stream has applied what its endpoint held at the call; false when the time is up';

-- ---- views ----

CREATE VIEW sophia.stream_journals AS
  SELECT c.stream, c.journal, c.next_offset AS applied_offset, c.write_head,
         greatest(c.write_head - c.next_offset, 0) AS lag_bytes,
         c.documents_applied, c.documents_reduced, c.documents_deleted, c.documents_dead, c.last_document_at, c.anomalies
  FROM sophia.checkpoints c;
COMMENT ON VIEW sophia.stream_journals IS 'how far each journal of each stream is applied';
COMMENT ON COLUMN sophia.stream_journals.lag_bytes IS 'bytes that the endpoint held when it was last asked and that are not applied yet';

CREATE VIEW sophia.stream_status AS
  SELECT s.stream, s.endpoint, s.collection, s.shape,
         CASE
           WHEN s.system_identifier <> h.system_identifier OR s.database_oid <> h.database_oid THEN 'stopped'
           WHEN s.state = 'running' AND w.pid IS NULL THEN 'starting'
           ELSE s.state
         END AS state,
         count(j.journal) AS journals,
         coalesce(sum(j.applied_offset), 0)::bigint AS applied_offset,
         coalesce(sum(j.write_head), 0)::bigint AS write_head,
         coalesce(sum(j.lag_bytes), 0)::bigint AS lag_bytes,
         coalesce(sum(j.documents_applied), 0)::bigint AS documents_applied,
         coalesce(sum(j.documents_reduced), 0)::bigint AS documents_reduced,
         coalesce(sum(j.documents_deleted), 0)::bigint AS documents_deleted,
         coalesce(sum(j.documents_dead), 0)::bigint AS documents_dead,
         max(j.last_document_at) AS last_document_at,
         CASE WHEN s.state IN ('starting', 'running') AND current_setting('sophia_stack.enabled', true) = 'off' THEN 'sophia_stack.enabled is off'
              ELSE s.last_error END AS last_error,
         CASE WHEN s.state IN ('starting', 'running') AND s.system_identifier = h.system_identifier
                   AND s.database_oid = h.database_oid THEN w.pid END AS worker_pid,
         (SELECT count(*) FROM sophia.dead_letters d WHERE d.stream = s.stream) AS dead_letters
  FROM sophia.streams s
  CROSS JOIN sophia.here h
  CROSS JOIN LATERAL (SELECT sophia.worker_pid(coalesce(s.worker, -1)) AS pid) w
  LEFT JOIN sophia.stream_journals j ON j.stream = s.stream
  GROUP BY s.stream, h.system_identifier, h.database_oid, w.pid;
COMMENT ON COLUMN sophia.stream_journals.anomalies IS 'how often a producer broke the rules of its sequence, or wrote what is neither data nor known: see stream_events';
COMMENT ON VIEW sophia.stream_status IS 'state and progress of each stream; who is granted it also needs EXECUTE on sophia.worker_pid';
COMMENT ON COLUMN sophia.stream_status.state IS 'stopped, starting, running or failed';
COMMENT ON COLUMN sophia.stream_status.lag_bytes IS 'bytes that the endpoint held when it was last asked and that are not applied yet';
COMMENT ON COLUMN sophia.stream_status.documents_dead IS 'documents that became dead letters, whatever became of these';
COMMENT ON COLUMN sophia.stream_status.worker_pid IS 'process that follows the stream; NULL = none';
COMMENT ON COLUMN sophia.stream_status.dead_letters IS 'dead letters that are neither replayed nor discarded';

CREATE VIEW sophia.workers AS
  SELECT l.worker, d.datname AS database, l.index, l.pid, l.state, l.started_at, l.failures, l.next_start_at
  FROM sophia.worker_list() l LEFT JOIN pg_catalog.pg_database d ON d.oid = l.database;
COMMENT ON VIEW sophia.workers IS 'processes of the extension in the whole cluster; who is granted it also needs EXECUTE on sophia.worker_list()';
COMMENT ON COLUMN sophia.workers.worker IS 'kind of process, as in pg_stat_activity.backend_type';
COMMENT ON COLUMN sophia.workers.database IS 'database that it works on';
COMMENT ON COLUMN sophia.workers.index IS 'number among the workers of its database, from 0';
COMMENT ON COLUMN sophia.workers.pid IS 'process id while it runs';
COMMENT ON COLUMN sophia.workers.state IS 'idle: not there, see next_start_at; starting; running';
COMMENT ON COLUMN sophia.workers.failures IS 'ends by an error in a row, each within a minute of its start';
COMMENT ON COLUMN sophia.workers.next_start_at IS 'when an idle one is started at the earliest';
