-- How far streams are, how fast, and how long it takes still.

CREATE VIEW sophia.stream_progress AS
  WITH journals AS (
    SELECT c.stream, c.begun_at, c.updated_at,
           c.documents_applied - c.begun_documents AS documents,
           c.next_offset - c.begun_offset AS bytes,
           greatest(c.write_head - c.next_offset, 0) AS bytes_left,
           c.caught_up_at IS NULL AND c.write_head > c.next_offset AS behind,
           -- What the average weighs at its beginning, and what it has lost since it was stored.
           exp(-greatest(extract(epoch FROM statement_timestamp() - c.updated_at)::float8, 0) / 10)
             / (1 - exp(-greatest(extract(epoch FROM c.updated_at - c.begun_at)::float8, 0.01) / 10)) AS weight,
           c.bytes_per_second, c.documents_per_second
    FROM sophia.checkpoints c
  ), streams AS (
    SELECT j.stream, min(j.begun_at) AS started_at, max(j.updated_at) AS updated_at,
           sum(j.documents)::bigint AS documents, sum(j.bytes)::bigint AS bytes, sum(j.bytes_left)::bigint AS bytes_left,
           bool_or(j.behind) AS behind,
           sum(j.bytes_per_second * j.weight) AS rate, sum(j.documents_per_second * j.weight) AS document_rate
    FROM journals j GROUP BY j.stream
  )
  SELECT t.stream, NULL::text AS field,
         CASE WHEN t.state IN ('starting', 'running') AND current_setting('sophia_stack.enabled', true) = 'off' THEN 'paused'
              WHEN t.state <> 'running' THEN t.state
              WHEN s.behind OR s.bytes_left >= 16 * 1024 * 1024 THEN 'backfill'
              ELSE 'live' END AS phase,
         coalesce(s.documents, 0) AS documents,
         coalesce(s.bytes, 0) AS bytes,
         coalesce(s.bytes + s.bytes_left, 0) AS bytes_total,
         coalesce(s.bytes_left, 0) AS bytes_left,
         coalesce(round(s.rate), 0)::bigint AS rate,
         coalesce(round(s.document_rate), 0)::bigint AS documents_per_second,
         CASE WHEN t.state = 'starting' THEN NULL
              WHEN coalesce(s.bytes_left, 0) = 0 THEN interval '0'
              WHEN t.state IN ('starting', 'running') AND s.rate >= 1
                THEN date_trunc('second', make_interval(secs => least(s.bytes_left / s.rate, 1e9)) + interval '1 s') END AS time_left,
         s.started_at, s.updated_at
  FROM sophia.stream_status t LEFT JOIN streams s ON s.stream = t.stream
  UNION ALL
  -- Columns that are filled: how far since the column was added, at the average rate.
  SELECT f.stream, f.column_name,
         CASE WHEN f.state = 'done' THEN 'filled'
              WHEN f.state = 'failed' OR t.state = 'running' AND current_setting('sophia_stack.enabled', true) <> 'off' THEN f.state
              WHEN t.state IN ('starting', 'running') AND current_setting('sophia_stack.enabled', true) = 'off' THEN 'paused'
              ELSE t.state END,
         f.rows_done, NULL, NULL, NULL, NULL, round(v.rate)::bigint,
         CASE WHEN f.state <> 'filling' THEN interval '0'
              WHEN v.rate >= 1
                THEN date_trunc('second', make_interval(secs => greatest(f.rows_total - f.rows_done, 0) / v.rate) + interval '1 s') END,
         f.started_at, f.updated_at
  FROM sophia.field_fills f JOIN sophia.stream_status t ON t.stream = f.stream
  CROSS JOIN LATERAL (SELECT (f.rows_done
    / greatest(extract(epoch FROM coalesce(f.finished_at, statement_timestamp()) - f.started_at), 0.01))::float8 AS rate) v;
COMMENT ON VIEW sophia.stream_progress IS 'how far each stream is since it began or was rewound, how fast, and how long it takes still; who is granted it also needs EXECUTE on sophia.worker_pid';
COMMENT ON COLUMN sophia.stream_progress.field IS 'column that is or was filled from the documents that are there; NULL: the row is about the stream itself';
COMMENT ON COLUMN sophia.stream_progress.phase IS 'stopped, failed, paused, starting, backfill (reading what was there before) or live; of a column also filling and filled';
COMMENT ON COLUMN sophia.stream_progress.documents IS 'documents applied since started_at; of a column, rows looked at';
COMMENT ON COLUMN sophia.stream_progress.bytes IS 'bytes of journals read since started_at; of a column, NULL as all that counts bytes';
COMMENT ON COLUMN sophia.stream_progress.bytes_total IS 'bytes, with those that are left';
COMMENT ON COLUMN sophia.stream_progress.bytes_left IS 'bytes that the endpoint held when it was last asked and that are not applied yet';
COMMENT ON COLUMN sophia.stream_progress.rate IS 'bytes per second, average over about the last ten seconds';
COMMENT ON COLUMN sophia.stream_progress.documents_per_second IS 'the same in documents';
COMMENT ON COLUMN sophia.stream_progress.time_left IS 'bytes_left at that rate; NULL = not known, because the stream has not begun or nothing moves';
COMMENT ON COLUMN sophia.stream_progress.started_at IS 'when the stream began, or was last rewound';
COMMENT ON COLUMN sophia.stream_progress.updated_at IS 'when a checkpoint was last stored';
