-- Changing what runs: rewind a stream, alter a stream or an endpoint.
--
-- A change takes effect with its commit: it waits for the batch that runs, and the worker opens the stream anew from what is
-- stored then.

-- ---- rewind ----

-- How far back a rewind goes so that nothing is lost or doubled: an open transaction is read again from its first document,
-- and a rewind that is not read through yet from where it went to.
CREATE FUNCTION sophia.rewind_journal(stream text, journal text, wanted bigint, forward boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  stored sophia.checkpoints;
  target bigint;
BEGIN
  SELECT c.* INTO stored FROM sophia.checkpoints c
    WHERE c.stream = rewind_journal.stream AND c.journal = rewind_journal.journal FOR UPDATE;
  IF NOT FOUND OR (forward AND wanted <= stored.next_offset) THEN
    RETURN;
  END IF;
  IF forward THEN
    -- What a producer committed or rolled back stays decided; what it has open is skipped.
    target := wanted;
    UPDATE sophia.producers p SET max_clock = p.last_ack, begin_offset = -1, gap_end = -1
      WHERE p.stream = rewind_journal.stream AND p.journal = rewind_journal.journal;
  ELSE
    SELECT least(wanted, stored.next_offset, min(p.begin_offset) FILTER (WHERE p.begin_offset >= 0),
                 CASE WHEN stored.next_offset < stored.rewound_until THEN stored.rewound_from END)
      INTO target FROM sophia.producers p
      WHERE p.stream = rewind_journal.stream AND p.journal = rewind_journal.journal;
    IF target = stored.next_offset THEN
      RETURN;
    END IF;
    DELETE FROM sophia.producers p WHERE p.stream = rewind_journal.stream AND p.journal = rewind_journal.journal;
  END IF;
  DELETE FROM sophia.staged_documents d WHERE d.stream = rewind_journal.stream AND d.journal = rewind_journal.journal;
  UPDATE sophia.checkpoints c
    SET next_offset = target, rewound_from = target,
        rewound_until = CASE WHEN forward THEN target ELSE greatest(stored.next_offset, stored.rewound_until) END,
        begun_at = clock_timestamp(), begun_offset = target, begun_documents = c.documents_applied, caught_up_at = NULL,
        updated_at = clock_timestamp(), bytes_per_second = 0, documents_per_second = 0
    WHERE c.stream = rewind_journal.stream AND c.journal = rewind_journal.journal;
END;
$$;
COMMENT ON FUNCTION sophia.rewind_journal(text, text, bigint, boolean) IS 'internal: has a journal be read again from an offset or an earlier one, or skips forward to it';

CREATE FUNCTION sophia.check_position("position" text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  wanted constant text := $1;
  moment timestamptz;
BEGIN
  IF wanted IS NULL THEN
    RAISE EXCEPTION 'position must not be null' USING ERRCODE = '22004';
  ELSIF wanted = 'beginning' THEN
    RETURN '-infinity';
  ELSIF wanted = 'end' THEN
    RETURN 'infinity';
  END IF;
  BEGIN
    moment := wanted::timestamptz;
  EXCEPTION WHEN data_exception THEN
    moment := NULL;
  END;
  IF moment IS NULL OR NOT isfinite(moment) THEN
    RAISE EXCEPTION 'invalid position "%"', wanted USING ERRCODE = '22023',
      HINT = 'It can be "beginning", "end" or a timestamp.';
  END IF;
  RETURN moment;
END;
$$;
COMMENT ON FUNCTION sophia.check_position(text) IS 'internal: the moment that a position means; -infinity = the beginning, infinity = the end';

CREATE FUNCTION sophia.rewind_stream(stream text, "position" text DEFAULT 'beginning') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  target constant timestamptz := sophia.check_position($2);
  begun boolean;
BEGIN
  PERFORM sophia.check_name('stream', rewind_stream.stream);
  PERFORM FROM sophia.streams s WHERE s.stream = rewind_stream.stream FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream "%" does not exist', rewind_stream.stream USING ERRCODE = '42704';
  END IF;
  begun := EXISTS (SELECT FROM sophia.checkpoints c WHERE c.stream = rewind_stream.stream);
  IF target = '-infinity' THEN
    PERFORM sophia.rewind_journal(c.stream, c.journal, 0, false) FROM sophia.checkpoints c WHERE c.stream = rewind_stream.stream;
  END IF;
  -- The worker knows where the end is, or what stood where at a time.  A stream that has not begun is only told where to begin.
  UPDATE sophia.streams s
    SET rewound_at = clock_timestamp(),
        rewind_to = CASE WHEN target <> '-infinity' AND (begun OR isfinite(target)) THEN target END,
        options = CASE WHEN begun OR isfinite(target) THEN s.options
                       ELSE s.options || jsonb_build_object('start_from', rewind_stream."position") END,
        state = CASE WHEN s.state = 'running' THEN 'starting' ELSE s.state END
    WHERE s.stream = rewind_stream.stream;
  PERFORM sophia.notify_workers();
END;
$$;
COMMENT ON FUNCTION sophia.rewind_stream(text, text) IS 'has a stream read its journals again, from the beginning or from a timestamp, or skip to their end';

-- ---- alter ----

CREATE FUNCTION sophia.change_options(options jsonb, changes jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT (options || changes) - ARRAY(SELECT c.key FROM jsonb_each(changes) c WHERE c.value = 'null')
$$;
COMMENT ON FUNCTION sophia.change_options(jsonb, jsonb) IS 'internal: options with some of them changed; null takes one away';

CREATE FUNCTION sophia.check_changes(changes jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF changes IS NULL THEN
    RAISE EXCEPTION 'options must not be null' USING ERRCODE = '22004';
  ELSIF jsonb_typeof(changes) <> 'object' THEN
    RAISE EXCEPTION 'options must be a JSON object' USING ERRCODE = '22023';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_changes(jsonb) IS 'internal: raises an error where these cannot be changes of options';

CREATE FUNCTION sophia.check_removed_option(name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  what text;
BEGIN
  PERFORM sophia.check_stream_options(jsonb_build_object(name, NULL));
EXCEPTION WHEN invalid_parameter_value THEN
  -- No option can be null; only that there is no such option is of interest.
  GET STACKED DIAGNOSTICS what = MESSAGE_TEXT;
  IF starts_with(what, 'unknown') THEN
    RAISE;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_removed_option(text) IS 'internal: raises an error where there is no stream option of that name';

CREATE FUNCTION sophia.alter_stream(stream text, options jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known sophia.streams;
  changed jsonb;
  fixed text;
BEGIN
  PERFORM sophia.check_name('stream', alter_stream.stream);
  PERFORM sophia.check_changes(alter_stream.options);
  SELECT s.* INTO known FROM sophia.streams s WHERE s.stream = alter_stream.stream FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'stream "%" does not exist', alter_stream.stream USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.check_removed_option(c.key) FROM jsonb_each(alter_stream.options) c WHERE c.value = 'null';
  changed := sophia.change_options(known.options, alter_stream.options);
  PERFORM sophia.check_stream_options(changed);
  -- The rows that there are were made by what says which rows there are.
  SELECT f INTO fixed FROM unnest(ARRAY['start', 'table', 'key', 'reduce', 'schema']) f
    WHERE changed -> f IS DISTINCT FROM known.options -> f LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'stream option "%" cannot be changed', fixed USING ERRCODE = '22023',
      HINT = CASE fixed WHEN 'start' THEN 'Use sophia.start_stream() or sophia.stop_stream().'
                        ELSE 'Drop the stream and create it as it should be.' END;
  ELSIF coalesce(changed ->> 'start_from', 'beginning') <> coalesce(known.options ->> 'start_from', 'beginning')
        AND EXISTS (SELECT FROM sophia.checkpoints c WHERE c.stream = alter_stream.stream) THEN
    RAISE EXCEPTION 'stream "%" has begun, so option "start_from" cannot be changed', alter_stream.stream USING ERRCODE = '55000',
      HINT = 'Use sophia.rewind_stream().';
  END IF;
  -- The right to have the table written is asked only of who changes what is written.
  IF known.shape = 'generic' AND changed -> 'delete' IS DISTINCT FROM known.options -> 'delete' THEN
    PERFORM sophia.require_shape(known.shape, alter_stream.stream, changed);
  END IF;
  UPDATE sophia.streams s SET options = changed WHERE s.stream = alter_stream.stream AND s.options <> changed;
  IF FOUND THEN
    PERFORM sophia.notify_workers();
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.alter_stream(text, jsonb) IS 'changes options of a stream: the given ones; null takes one back to its default';

CREATE FUNCTION sophia.alter_endpoint(endpoint text, address text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known sophia.endpoints;
  changed jsonb;
BEGIN
  PERFORM sophia.check_name('endpoint', alter_endpoint.endpoint);
  SELECT e.* INTO known FROM sophia.endpoints e WHERE e.endpoint = alter_endpoint.endpoint FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'endpoint "%" does not exist', alter_endpoint.endpoint USING ERRCODE = '42704';
  END IF;
  changed := known.options;
  IF alter_endpoint.options IS NOT NULL THEN
    PERFORM sophia.check_changes(alter_endpoint.options);
    -- The names first: what takes an option away has no value that could be looked at.
    PERFORM sophia.check_endpoint_options((SELECT jsonb_object_agg(c.key, 'env:NAME') FROM jsonb_each(alter_endpoint.options) c));
    changed := sophia.change_options(known.options, alter_endpoint.options);
    PERFORM sophia.check_endpoint_options(changed);
    PERFORM sophia.check_endpoint_kind(known.kind, changed);
  END IF;
  IF alter_endpoint.address IS NOT NULL THEN
    PERFORM sophia.check_address(known.kind, alter_endpoint.address);
  END IF;
  UPDATE sophia.endpoints e SET address = coalesce(alter_endpoint.address, e.address), options = changed
    WHERE e.endpoint = alter_endpoint.endpoint
      AND (e.address, e.options) IS DISTINCT FROM (coalesce(alter_endpoint.address, e.address), changed);
  IF FOUND THEN
    PERFORM sophia.notify_workers();
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.alter_endpoint(text, text, jsonb) IS 'changes address or options of an endpoint; its streams read on from their checkpoints';
