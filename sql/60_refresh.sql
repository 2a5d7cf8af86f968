-- What every refresh shares: its log, which sources there are, and small rules about values.
--
-- The functions …_from_<source>() in the files that follow are queries under a name: LANGUAGE sql without a SET clause,
-- so that the planner puts them into the statement that uses them and later restrictions by key reach their tables.
-- Every name in them is qualified, and the procedures that run them pin the search path.
-- Each reads the tables of its own source only; what it needs of another source comes from a function that returns nothing
-- where that source was never created.

CREATE TABLE sophia.refresh_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  target text NOT NULL,
  mode text NOT NULL,
  mode_used text NOT NULL,
  reason text,
  started_at timestamptz NOT NULL,
  finished_at timestamptz,
  complete boolean NOT NULL,
  rows_inserted bigint NOT NULL,
  rows_updated bigint NOT NULL,
  rows_deleted bigint NOT NULL,
  error text
);
CREATE INDEX ON sophia.refresh_log (target, started_at);
COMMENT ON TABLE sophia.refresh_log IS 'runs of the refresh procedures, a row a run and target; state of this database, not dumped';
COMMENT ON SEQUENCE sophia.refresh_log_id_seq IS 'numbers the runs of refresh';
COMMENT ON COLUMN sophia.refresh_log.id IS 'number of the row, growing with time';
COMMENT ON COLUMN sophia.refresh_log.target IS 'table of processed_data that was refreshed; interaction_timeline includes its participants';
COMMENT ON COLUMN sophia.refresh_log.mode IS 'mode that was asked for';
COMMENT ON COLUMN sophia.refresh_log.mode_used IS 'mode that ran';
COMMENT ON COLUMN sophia.refresh_log.reason IS 'why mode_used is not mode';
COMMENT ON COLUMN sophia.refresh_log.started_at IS 'when the run started, after it had waited for another one';
COMMENT ON COLUMN sophia.refresh_log.finished_at IS 'when the run ended; its changes are visible when its transaction commits';
COMMENT ON COLUMN sophia.refresh_log.complete IS 'whether the target shows everything that was committed before the run';
COMMENT ON COLUMN sophia.refresh_log.rows_inserted IS 'rows that were added to the target';
COMMENT ON COLUMN sophia.refresh_log.rows_updated IS 'rows of the target of which something changed, an interaction also when its participants did';
COMMENT ON COLUMN sophia.refresh_log.rows_deleted IS 'rows that were removed from the target';
COMMENT ON COLUMN sophia.refresh_log.error IS 'what stopped a run that is not complete; a run that raised an error leaves no row';

CREATE FUNCTION sophia.log_refresh(target text, mode text, mode_used text, reason text, started_at timestamptz,
  rows_inserted bigint, rows_updated bigint, rows_deleted bigint, complete boolean DEFAULT true)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.refresh_log
    (target, mode, mode_used, reason, started_at, finished_at, complete, rows_inserted, rows_updated, rows_deleted)
  VALUES (target, mode, mode_used, reason, started_at, clock_timestamp(), complete, rows_inserted, rows_updated, rows_deleted)
$$;
COMMENT ON FUNCTION sophia.log_refresh(text, text, text, text, timestamptz, bigint, bigint, bigint, boolean) IS
  'internal: writes a run to refresh_log; called by the refresh procedures, whose caller need not own the log';

CREATE FUNCTION sophia.last_refresh() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(max(l.id), 0) FROM sophia.refresh_log AS l
$$;
COMMENT ON FUNCTION sophia.last_refresh() IS 'internal: number of the last row of refresh_log';

CREATE FUNCTION sophia.logged_since(last bigint) RETURNS sophia.refresh_log[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(SELECT l FROM sophia.refresh_log AS l WHERE l.id > last ORDER BY l.id)
$$;
COMMENT ON FUNCTION sophia.logged_since(bigint) IS 'internal: rows of refresh_log after this one';

CREATE FUNCTION sophia.log_again(runs sophia.refresh_log[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.refresh_log
    (target, mode, mode_used, reason, started_at, finished_at, complete, rows_inserted, rows_updated, rows_deleted)
  SELECT r.target, 'dry_run', r.mode_used, r.reason, r.started_at, r.finished_at, r.complete, r.rows_inserted, r.rows_updated,
    r.rows_deleted
  FROM unnest(runs) AS r
  ORDER BY r.id
$$;
COMMENT ON FUNCTION sophia.log_again(sophia.refresh_log[]) IS 'internal: logs runs that were taken back';

CREATE TABLE sophia.free_mail_domains (
  domain text PRIMARY KEY,
  builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE sophia.free_mail_domains IS 'e-mail domains that anybody can have an address in: they tell nothing about a company';
COMMENT ON COLUMN sophia.free_mail_domains.domain IS 'domain in lower case';
COMMENT ON COLUMN sophia.free_mail_domains.builtin IS 'true for what the extension brings; other rows are dumped';
GRANT SELECT ON sophia.free_mail_domains TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('sophia.free_mail_domains', 'WHERE NOT builtin');

INSERT INTO sophia.free_mail_domains (domain, builtin)
SELECT unnest(ARRAY['126.com', '163.com', 'aim.com', 'aol.com', 'att.net', 'bellsouth.net', 'bigpond.com', 'bol.com.br',
  'bt.com', 'btinternet.com', 'charter.net', 'comcast.net', 'cox.net', 'duck.com', 'earthlink.net', 'fastmail.com',
  'fastmail.fm', 'free.fr', 'freenet.de', 'gmail.com', 'gmx.at', 'gmx.ch', 'gmx.com', 'gmx.de', 'gmx.net', 'googlemail.com',
  'hey.com', 'hotmail.ca', 'hotmail.co.uk', 'hotmail.com', 'hotmail.de', 'hotmail.es', 'hotmail.fr', 'hotmail.it',
  'hushmail.com', 'icloud.com', 'inbox.com', 'juno.com', 'laposte.net', 'libero.it', 'live.ca', 'live.co.uk', 'live.com',
  'live.fr', 'live.nl', 'mac.com', 'mail.com', 'mail.ru', 'me.com', 'msn.com', 'naver.com', 'optonline.net', 'orange.fr',
  'outlook.com', 'outlook.de', 'outlook.es', 'outlook.fr', 'pm.me', 'proton.me', 'protonmail.com', 'qq.com', 'rediffmail.com',
  'rocketmail.com', 'sbcglobal.net', 'seznam.cz', 'sfr.fr', 'sky.com', 't-online.de', 'terra.com.br', 'tutanota.com',
  'uol.com.br', 'verizon.net', 'virgilio.it', 'wanadoo.fr', 'web.de', 'wp.pl', 'yahoo.ca', 'yahoo.co.in', 'yahoo.co.jp',
  'yahoo.co.uk', 'yahoo.com', 'yahoo.com.br', 'yahoo.de', 'yahoo.es', 'yahoo.fr', 'yahoo.it', 'yandex.com', 'yandex.ru',
  'ymail.com', 'zoho.com']), true;

CREATE FUNCTION sophia.has_source(source text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(bool_and(to_regclass(format('%I.%I', t.table_schema, t.table_name)) IS NOT NULL), false)
  FROM sophia.data_schemas AS s
  JOIN sophia.data_tables AS t ON t.table_schema = s.schema_name
  WHERE s.source = has_source.source
$$;
COMMENT ON FUNCTION sophia.has_source(text) IS 'internal: whether create_schemas made every raw table of the source';

CREATE FUNCTION sophia.value_or_null(value text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_value_or_null_sql';
COMMENT ON FUNCTION sophia.value_or_null(text) IS 'internal: value without surrounding blanks; NULL for what systems write where there is no value';

CREATE FUNCTION sophia.document_hash(doc jsonb) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_document_hash_sql';
COMMENT ON FUNCTION sophia.document_hash(jsonb) IS 'internal: hash of what a document says, without the _meta of its transport';

CREATE FUNCTION sophia.mail_host(email_norm text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(pg_catalog.split_part(email_norm, '@', 2), '');
COMMENT ON FUNCTION sophia.mail_host(text) IS 'internal: domain of a normalised e-mail address';

CREATE FUNCTION sophia.whole_seconds(seconds numeric) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN seconds >= 0::numeric AND seconds < 2147483647::numeric THEN pg_catalog.round(seconds)::integer END;
COMMENT ON FUNCTION sophia.whole_seconds(numeric) IS 'internal: a duration as an integer; NULL for one that is negative or does not fit';

CREATE FUNCTION sophia.seconds_between(earlier timestamptz, later timestamptz) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN pg_catalog.isfinite(earlier) AND pg_catalog.isfinite(later)
  THEN EXTRACT(epoch FROM later OPERATOR(pg_catalog.-) earlier) END;
COMMENT ON FUNCTION sophia.seconds_between(timestamptz, timestamptz) IS 'internal: seconds between two times; NULL where a source gave a time without bound';

CREATE FUNCTION sophia.time_after(start timestamptz, seconds integer) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN start >= '0001-01-01 00:00:00+00'::timestamptz AND start < '20000-01-01 00:00:00+00'::timestamptz
  THEN (start AT TIME ZONE 'UTC' + seconds * interval '1 second') AT TIME ZONE 'UTC' END;
COMMENT ON FUNCTION sophia.time_after(timestamptz, integer) IS 'internal: time some seconds later; NULL far outside history, where it might not exist';

CREATE TRIGGER request_refresh AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sophia.free_mail_domains
  FOR EACH STATEMENT EXECUTE FUNCTION sophia.request_refresh();

CREATE FUNCTION sophia.check_refresh(mode text, max_rows bigint, time_budget interval) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF mode IS NULL OR mode NOT IN ('incremental', 'full', 'dry_run') THEN
    RAISE EXCEPTION 'refresh mode must be incremental, full or dry_run, not %', coalesce(quote_literal(mode), 'NULL')
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF max_rows < 1 THEN
    RAISE EXCEPTION 'max_rows must be at least 1' USING ERRCODE = 'invalid_parameter_value';
  ELSIF time_budget < interval '0' THEN
    RAISE EXCEPTION 'time_budget must not be negative' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF to_regclass('processed_data.unified_contacts') IS NULL OR to_regclass('processed_data.interaction_timeline') IS NULL
    OR to_regclass('processed_data.interaction_participants') IS NULL THEN
    RAISE EXCEPTION 'the tables of processed_data do not exist'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call sophia.create_schemas() first.';
  END IF;
  -- One run at a time: the second waits here until the transaction of the first has ended.
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.refresh', 0));
END
$$;
COMMENT ON FUNCTION sophia.check_refresh(text, bigint, interval) IS
  'internal: checks the arguments of a refresh and what it needs, and waits for a run that is under way';
