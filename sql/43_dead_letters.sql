-- Dead letters as a workflow, and what it shares with payloads and adopted tables: applying documents out of their turn.

CREATE FUNCTION sophia.apply_documents(
    shape text, options jsonb, journal text, documents bytea[], clocks bigint[], offsets bigint[],
    OUT applied bigint, OUT rows_inserted bigint, OUT rows_updated bigint, OUT rows_removed bigint,
    OUT elements_written bigint, OUT elements_removed bigint,
    OUT failed integer[], OUT sqlstates text[], OUT reasons text[])
  AS 'MODULE_PATHNAME', 'sophia_apply_documents' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION sophia.apply_documents(text, jsonb, text, bytea[], bigint[], bigint[]) IS
  'internal: applies documents in this transaction as the ingest does, ordered by their clocks alone (NULL: those of their uuids); journal and offsets are what their rows name, NULL for documents of no journal; options: collection, delete (soft, hard), unchanged (skip: write no row that differs in /_meta only); failed: positions from 1 of documents that were not applied, with sqlstates and reasons';

-- ---- dead letters ----

CREATE FUNCTION sophia.dead_letter_kind(reason text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(regexp_replace(left(reason, 200), '^value ".*" of column', 'value of column'), '[0-9]+', '0', 'g');
COMMENT ON FUNCTION sophia.dead_letter_kind(text) IS 'internal: a reason without the value and the numbers that differ from document to document';

CREATE INDEX dead_letters_kind ON sophia.dead_letters (stream, sqlstate, sophia.dead_letter_kind(reason));

CREATE FUNCTION sophia.require_dead_letters(stream text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.check_name('stream', stream);
  IF NOT EXISTS (SELECT FROM sophia.streams s WHERE s.stream = require_dead_letters.stream)
     AND NOT EXISTS (SELECT FROM sophia.dead_letters d WHERE d.stream = require_dead_letters.stream) THEN
    RAISE EXCEPTION 'stream "%" does not exist', stream USING ERRCODE = '42704';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.require_dead_letters(text) IS 'internal: raises an error where there is neither such a stream nor a dead letter of it';

CREATE FUNCTION sophia.replay_slice(stream text, ids bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition record;
  part record;
  result record;
  refused bigint := 0;
BEGIN
  SELECT * INTO definition FROM sophia.letters_definition(replay_slice.stream);
  FOR part IN
    SELECT d.journal, array_agg(d.id ORDER BY d.id) AS ids, array_agg(d.document ORDER BY d.id) AS documents,
           array_agg(d.begin_offset ORDER BY d.id) AS offsets
    FROM sophia.dead_letters d WHERE d.id = ANY (replay_slice.ids) GROUP BY d.journal ORDER BY d.journal
  LOOP
    SELECT * INTO result FROM sophia.apply_documents(definition.shape, definition.options, part.journal,
                                                     part.documents, NULL, part.offsets);
    IF cardinality(result.failed) > 0 THEN
      UPDATE sophia.dead_letters d SET sqlstate = f.sqlstate, reason = f.reason
        FROM unnest(result.failed, result.sqlstates, result.reasons) AS f (n, sqlstate, reason)
        WHERE d.id = part.ids[f.n] AND (d.sqlstate, d.reason) IS DISTINCT FROM (f.sqlstate, f.reason);
    END IF;
    DELETE FROM sophia.dead_letters d
      WHERE d.id = ANY (ARRAY(SELECT p.id FROM unnest(part.ids) WITH ORDINALITY AS p (id, n) WHERE p.n <> ALL (result.failed)));
    refused := refused + cardinality(result.failed);
  END LOOP;
  RETURN refused;
END;
$$;
COMMENT ON FUNCTION sophia.replay_slice(text, bigint[]) IS 'internal: applies dead letters that the caller has locked, and returns how many are refused again';

CREATE FUNCTION sophia.replay_dead_letters(stream text, ids bigint[] DEFAULT NULL) RETURNS TABLE (replayed bigint, failed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  slice_documents constant integer := 1000;
  slice_bytes constant bigint := 4 * 1024 * 1024;
  last bigint := 0;
  slice bigint[];
  refused bigint;
BEGIN
  PERFORM sophia.require_dead_letters(replay_dead_letters.stream);
  PERFORM FROM sophia.streams s WHERE s.stream = replay_dead_letters.stream FOR KEY SHARE;
  IF NOT FOUND AND (SELECT l.shape IS NULL FROM sophia.letters_definition(replay_dead_letters.stream) l) THEN
    RAISE EXCEPTION 'stream "%" does not exist any more', replay_dead_letters.stream USING ERRCODE = '42704',
      HINT = 'Create a stream of that name to replay its dead letters, or discard them.';
  END IF;
  replayed := 0;
  failed := 0;
  LOOP
    -- Of what is locked, as many as fit in a slice, and one at least.
    SELECT array_agg(l.id ORDER BY l.id) INTO slice FROM (
      SELECT k.id, sum(k.size) OVER (ORDER BY k.id) - k.size AS before FROM (
        SELECT d.id, octet_length(d.document) AS size FROM sophia.dead_letters d
        WHERE d.stream = replay_dead_letters.stream AND d.id > last
          AND (replay_dead_letters.ids IS NULL OR d.id = ANY (replay_dead_letters.ids))
        ORDER BY d.id LIMIT slice_documents FOR UPDATE) AS k) AS l
      WHERE l.before < slice_bytes;
    EXIT WHEN slice IS NULL;
    refused := sophia.replay_slice(replay_dead_letters.stream, slice);
    replayed := replayed + cardinality(slice) - refused;
    failed := failed + refused;
    last := slice[cardinality(slice)];
  END LOOP;
  RETURN NEXT;
END;
$$;
COMMENT ON FUNCTION sophia.replay_dead_letters(text, bigint[]) IS
  'applies dead letters of a stream once more, ordered by their clocks; those that are applied go, the others stay with their new reason';

CREATE FUNCTION sophia.discard_dead_letters(stream text, ids bigint[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  discarded bigint;
BEGIN
  PERFORM sophia.require_dead_letters(stream);
  DELETE FROM sophia.dead_letters d
    WHERE d.stream = discard_dead_letters.stream
      AND (discard_dead_letters.ids IS NULL OR d.id = ANY (discard_dead_letters.ids));
  GET DIAGNOSTICS discarded = ROW_COUNT;
  RETURN discarded;
END;
$$;
COMMENT ON FUNCTION sophia.discard_dead_letters(text, bigint[]) IS 'deletes dead letters of a stream, also of one that was dropped';
