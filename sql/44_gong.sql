-- Responses of Gong's API: calls with their parties, and transcripts, which no capture of Estuary brings.

CREATE FUNCTION sophia.gong_entries(payload jsonb, page text, own text[], loader text) RETURNS SETOF jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF payload IS NULL THEN
    RAISE EXCEPTION 'payload must not be null' USING ERRCODE = '22004';
  ELSIF jsonb_typeof(payload) = 'array' THEN
    RETURN QUERY SELECT e.entry FROM jsonb_array_elements(payload) WITH ORDINALITY AS p (part, n),
                        sophia.gong_entries(p.part, page, own, loader) WITH ORDINALITY AS e (entry, n) ORDER BY p.n, e.n;
  ELSIF jsonb_typeof(payload -> page) = 'array' THEN
    RETURN QUERY SELECT jsonb_array_elements(payload -> page);
  ELSIF page = 'calls' AND jsonb_typeof(payload -> 'call') = 'object' THEN
    RETURN NEXT payload -> 'call';
  ELSIF jsonb_typeof(payload) = 'object' AND payload ?| own THEN
    RETURN NEXT payload;
  ELSE
    RAISE EXCEPTION 'payload is no response of Gong with %', page USING ERRCODE = '22023',
      HINT = format('sophia.%s() takes a page {"%s": [...]}, an entry of one, or an array of these.', loader, page);
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.gong_entries(jsonb, text, text[], text) IS 'internal: the entries of a page, of an array of pages or entries, or a single one';

CREATE FUNCTION sophia.apply_gong_entries(entries jsonb[], shape text, what text,
    OUT inserted bigint, OUT updated bigint, OUT elements_written bigint, OUT elements_removed bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- As clocks of uuids: 100 ns since 1582-10-15, in units of 16.
  clock constant bigint := ((extract(epoch FROM clock_timestamp()) * 10000000)::bigint + 122192928000000000) * 16;
  meta constant jsonb := jsonb_build_object('_meta', jsonb_build_object('loaded_at', clock_timestamp()));
  ids text[];
  documents bytea[];
  clocks bigint[];
  result record;
BEGIN
  -- Pages may overlap: of two entries of a call, the later one says how it is.
  SELECT array_agg(clock + e.n ORDER BY e.n),
         array_agg(coalesce(e.entry #>> '{metaData,id}', e.entry ->> 'id', e.entry ->> 'callId', '') ORDER BY e.n),
         array_agg(convert_to((e.entry || meta)::text, 'UTF8') ORDER BY e.n)
    INTO clocks, ids, documents FROM unnest(entries) WITH ORDINALITY AS e (entry, n);
  IF array_position(ids, '') IS NOT NULL THEN
    RAISE EXCEPTION 'entry % of the payload has no id of a call', array_position(ids, '') USING ERRCODE = '22023',
      HINT = 'Nothing of the payload was loaded.';
  END IF;
  SELECT * INTO result FROM sophia.apply_documents(shape, '{"unchanged": "skip"}', NULL, coalesce(documents, '{}'),
                                                   coalesce(clocks, '{}'), NULL);
  IF cardinality(result.failed) > 0 THEN
    RAISE EXCEPTION '% "%" cannot be loaded: %', what, ids[result.failed[1]], result.reasons[1]
      USING ERRCODE = result.sqlstates[1], HINT = 'Nothing of the payload was loaded.';
  END IF;
  inserted := result.rows_inserted;
  updated := result.rows_updated;
  elements_written := result.elements_written;
  elements_removed := result.elements_removed;
END;
$$;
COMMENT ON FUNCTION sophia.apply_gong_entries(jsonb[], text, text) IS 'internal: applies entries of a payload, all or none, as documents published now';

CREATE FUNCTION sophia.load_gong_calls(payload jsonb)
  RETURNS TABLE (calls bigint, inserted bigint, updated bigint, unchanged bigint, parties_written bigint, parties_removed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  entries jsonb[];
BEGIN
  PERFORM sophia.require_shape('gong.calls', NULL, '{}');
  -- An object in member media holds links to recordings, which end after hours.
  SELECT coalesce(array_agg(CASE WHEN jsonb_typeof(e.entry -> 'media') = 'object' THEN e.entry - 'media' ELSE e.entry END
                            ORDER BY e.n), '{}')
    INTO entries
    FROM sophia.gong_entries(load_gong_calls.payload, 'calls', '{id,metaData}', 'load_gong_calls') WITH ORDINALITY AS e (entry, n);
  RETURN QUERY
    SELECT g.given, a.inserted, a.updated, g.given - a.inserted - a.updated, a.elements_written, a.elements_removed
    FROM (SELECT cardinality(entries)::bigint AS given) AS g, sophia.apply_gong_entries(entries, 'gong.calls', 'call') AS a;
END;
$$;
COMMENT ON FUNCTION sophia.load_gong_calls(jsonb) IS
  'loads calls and their parties from a response of Gong''s API, basic or extensive: a page, an entry, or an array of these; the same again writes nothing';

CREATE FUNCTION sophia.load_gong_transcripts(payload jsonb)
  RETURNS TABLE (transcripts bigint, monologues_written bigint, monologues_removed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  entries jsonb[];
  bad bigint;
BEGIN
  PERFORM sophia.require_shape('gong.call_transcripts', NULL, '{}');
  SELECT coalesce(array_agg(e.entry ORDER BY e.n), '{}') INTO entries
    FROM sophia.gong_entries(load_gong_transcripts.payload, 'callTranscripts', '{callId}', 'load_gong_transcripts')
         WITH ORDINALITY AS e (entry, n);
  -- Without it, the call would lose the transcript that it has.
  SELECT min(e.n) INTO bad FROM unnest(entries) WITH ORDINALITY AS e (entry, n) WHERE NOT e.entry ? 'transcript';
  IF bad IS NOT NULL THEN
    RAISE EXCEPTION 'entry % of the payload has no transcript', bad USING ERRCODE = '22023',
      HINT = 'Nothing of the payload was loaded.';
  END IF;
  RETURN QUERY
    SELECT cardinality(entries)::bigint, a.elements_written, a.elements_removed
    FROM sophia.apply_gong_entries(entries, 'gong.call_transcripts', 'transcript of call') AS a;
END;
$$;
COMMENT ON FUNCTION sophia.load_gong_transcripts(jsonb) IS
  'loads transcripts from a response of Gong''s API: a page, an entry, or an array of these; the same again writes nothing';
