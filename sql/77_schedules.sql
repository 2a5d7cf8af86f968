-- Scheduled jobs: pg_cron calls, and each call is one CALL sophia.run_job(job).
--
-- A job is ours, its tick is pg_cron's: what a job does, for whom, and how its runs went stands in tables here; pg_cron keeps nothing
-- but when to call.  So a job can be run by any other scheduler too, and after a restore only its tick has to be made again.  A run
-- has a session of its own, its owner's (src/store/errand.h): the command runs at top level there, whoever called run_job.
-- Where pg_cron lives in another database, a short worker looks and changes there, the latter after the commit.

CREATE TABLE sophia.scheduled_jobs (
  job text PRIMARY KEY,
  cron text,
  command text NOT NULL,
  owner name NOT NULL,
  backoff interval NOT NULL DEFAULT '30 s' CHECK (backoff >= '0'),
  backoff_limit interval NOT NULL DEFAULT '1 hour' CHECK (backoff_limit >= '0'),
  failures integer NOT NULL DEFAULT 0,
  retry_after timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sophia.scheduled_jobs IS 'jobs as scheduled, with their backoff; sophia.jobs shows them with what pg_cron and their runs say';
COMMENT ON COLUMN sophia.scheduled_jobs.cron IS 'when, as pg_cron writes it; NULL = another scheduler calls run_job';
COMMENT ON COLUMN sophia.scheduled_jobs.command IS 'one or more SQL statements';
COMMENT ON COLUMN sophia.scheduled_jobs.owner IS 'the role that scheduled the job, with whose rights the command runs';
COMMENT ON COLUMN sophia.scheduled_jobs.backoff IS 'how long ticks are skipped after a first failure; twice as long after each further one';
COMMENT ON COLUMN sophia.scheduled_jobs.backoff_limit IS 'the longest that ticks are skipped after a failure';
COMMENT ON COLUMN sophia.scheduled_jobs.failures IS 'failures since the last success';
COMMENT ON COLUMN sophia.scheduled_jobs.retry_after IS 'ticks before that are skipped; NULL = none is';
SELECT pg_catalog.pg_extension_config_dump('sophia.scheduled_jobs', '');

CREATE TABLE sophia.job_run_records (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job text NOT NULL,
  state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'skipped')),
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  sqlstate text,
  error text,
  pid integer
);
CREATE INDEX ON sophia.job_run_records (job, started_at);
CREATE INDEX ON sophia.job_run_records (started_at);
COMMENT ON TABLE sophia.job_run_records IS 'internal: runs of jobs as they were written down; sophia.job_runs knows which of them died';
COMMENT ON SEQUENCE sophia.job_run_records_id_seq IS 'numbers the runs';

-- ---- what C has to do ----

CREATE FUNCTION sophia.ask_database(database text, statement text, trial boolean) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_ask_database' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.ask_database(text, text, boolean) IS 'internal: first value of a statement that a short worker runs in another database; a trial is rolled back';

CREATE FUNCTION sophia.tell_database(database text, statement text) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_tell_database' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.tell_database(text, text) IS 'internal: has a short worker run a statement in another database once the transaction has committed';

CREATE FUNCTION sophia.run_job_apart(job text, owner oid, now boolean) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_run_job_apart' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.run_job_apart(text, oid, boolean) IS 'internal: runs a job in a session of its owner and returns what end_job_run says of the run';

-- ---- when the next tick is ----

CREATE FUNCTION sophia.cron_field(field text, low integer, high integer, names text[] DEFAULT '{}') RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  part text;
  bounds text[];
  name text;
  found integer[] := '{}';
BEGIN
  FOREACH name IN ARRAY names LOOP
    field := regexp_replace(field, '\m' || name || '\M', (low + array_position(names, name) - 1)::text, 'gi');
  END LOOP;
  FOREACH part IN ARRAY string_to_array(field, ',') LOOP
    bounds := regexp_match(part, '^(?:\*|(\d{1,4})(?:-(\d{1,4}))?)(?:/(\d{1,4}))?$');
    IF bounds IS NULL OR bounds[3] = '0' THEN
      RETURN NULL;
    END IF;
    found := found || ARRAY(SELECT generate_series(coalesce(bounds[1]::integer, low),
      coalesce(bounds[2], bounds[1], high::text)::integer, coalesce(bounds[3], '1')::integer));
  END LOOP;
  RETURN found;
END
$$;
COMMENT ON FUNCTION sophia.cron_field(text, integer, integer, text[]) IS 'internal: values that a field of a cron text allows; NULL where it cannot be read';

-- A day has to fit both its field and that of the week, or one of them where neither begins with *, as cron has always read it.
CREATE FUNCTION sophia.next_tick(cron text, after timestamptz, zone text DEFAULT 'GMT') RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  field text[] := regexp_split_to_array(CASE btrim(cron)
    WHEN '@yearly' THEN '0 0 1 1 *' WHEN '@annually' THEN '0 0 1 1 *' WHEN '@monthly' THEN '0 0 1 * *'
    WHEN '@weekly' THEN '0 0 * * 0' WHEN '@daily' THEN '0 0 * * *' WHEN '@midnight' THEN '0 0 * * *'
    WHEN '@hourly' THEN '0 * * * *' ELSE btrim(cron) END, '\s+');
  start timestamp := date_trunc('minute', after AT TIME ZONE zone) + interval '1 minute';
  minutes integer[] := sophia.cron_field(field[1], 0, 59);
  hours integer[] := sophia.cron_field(field[2], 0, 23);
  days integer[] := sophia.cron_field(field[3], 1, 31);
  months integer[] := sophia.cron_field(field[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
  weekdays integer[] := sophia.cron_field(field[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
  either boolean := field[3] NOT LIKE '*%' AND field[5] NOT LIKE '*%';
  day date;
  fits_day boolean;
  fits_weekday boolean;
  tick timestamp;
BEGIN
  IF cardinality(field) <> 5 OR minutes IS NULL OR hours IS NULL OR days IS NULL OR months IS NULL OR weekdays IS NULL THEN
    RETURN NULL;
  END IF;
  FOR i IN 0 .. 8 * 366 LOOP
    day := start::date + i;
    fits_day := EXTRACT(day FROM day) = ANY (days);
    fits_weekday := EXTRACT(dow FROM day) = ANY (weekdays) OR EXTRACT(isodow FROM day) = ANY (weekdays);
    CONTINUE WHEN NOT (EXTRACT(month FROM day) = ANY (months)
      AND CASE WHEN either THEN fits_day OR fits_weekday ELSE fits_day AND fits_weekday END);
    SELECT min(day + make_interval(hours => h, mins => m)) INTO tick
    FROM unnest(hours) AS h, unnest(minutes) AS m
    WHERE day + make_interval(hours => h, mins => m) >= start;
    IF tick IS NOT NULL THEN
      RETURN tick AT TIME ZONE zone;
    END IF;
  END LOOP;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION sophia.next_tick(text, timestamptz, text) IS 'internal: first tick of a cron text after a time; NULL where none can be told, as of @reboot';

-- ---- pg_cron, wherever it lives ----

CREATE FUNCTION sophia.cron_missing() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  database text := current_setting('cron.database_name', true);
BEGIN
  IF current_setting('shared_preload_libraries') !~ '\mpg_cron\M' OR database IS NULL THEN
    RETURN format('Install pg_cron (Debian: apt install postgresql-%s-cron), add pg_cron to shared_preload_libraries, set cron.database_name, restart the server, and run CREATE EXTENSION pg_cron in that database.',
      current_setting('server_version_num')::integer / 10000);
  ELSIF NOT EXISTS (SELECT FROM pg_database WHERE datname = database) THEN
    RETURN format('cron.database_name names database %I, which does not exist.', database);
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION sophia.cron_missing() IS 'internal: what to do so that the server has pg_cron; NULL where it has it';

CREATE FUNCTION sophia.ask_cron(statement text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  database text := current_setting('cron.database_name');
  answer text;
BEGIN
  IF database <> current_database() THEN
    RETURN sophia.ask_database(database, statement, true);
  END IF;
  EXECUTE statement INTO answer;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION sophia.ask_cron(text) IS 'internal: first value of a statement in the database of pg_cron; what it changes is kept where that is this one';

CREATE FUNCTION sophia.cron_version() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN sophia.cron_missing() IS NULL
    THEN nullif(sophia.ask_cron('SELECT extversion FROM pg_extension WHERE extname = ''pg_cron'''), '') END
$$;
COMMENT ON FUNCTION sophia.cron_version() IS 'internal: version of the extension pg_cron in its database; NULL = it is not there';

CREATE FUNCTION sophia.change_cron(statement text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.ask_cron(statement);
  IF current_setting('cron.database_name') <> current_database() THEN
    PERFORM sophia.tell_database(current_setting('cron.database_name'), statement);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.change_cron(text) IS 'internal: runs a statement in the database of pg_cron; in another one than this it is tried at once and done after the commit';

-- Names of jobs are unique among all databases there, and have at most 63 bytes.
CREATE FUNCTION sophia.cron_name(job text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN octet_length(n.name) < 64 THEN n.name ELSE 'sophia_stack ' || md5(n.name) END
  FROM (SELECT format('sophia_stack %s %s', current_database(), job) AS name) AS n
$$;
COMMENT ON FUNCTION sophia.cron_name(text) IS 'internal: name under which pg_cron has a job';

CREATE FUNCTION sophia.cron_jobs() RETURNS TABLE (name text, id bigint, schedule text, owner text, active boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF pg_is_in_recovery() OR sophia.cron_missing() IS NOT NULL THEN
    RETURN;
  END IF;
  RETURN QUERY
    SELECT j.* FROM jsonb_to_recordset(nullif(sophia.ask_cron(format(
      $statement$SELECT jsonb_agg(jsonb_build_object('name', jobname, 'id', jobid, 'schedule', schedule, 'owner', username,
        'active', active)) FROM cron.job WHERE database = %L AND starts_with(jobname, 'sophia_stack ')$statement$,
      current_database())), '')::jsonb) AS j (name text, id bigint, schedule text, owner text, active boolean);
EXCEPTION
  WHEN undefined_table OR invalid_schema_name THEN
    RETURN;
  WHEN configuration_limit_exceeded THEN
    RAISE WARNING 'pg_cron could not be asked: %', SQLERRM;
END
$$;
COMMENT ON FUNCTION sophia.cron_jobs() IS 'what pg_cron has of this database''s jobs, asked of its own database by a short worker where that is another one';

-- ---- runs ----

CREATE FUNCTION sophia.job_lock(job text) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT hashtextextended('sophia_stack.job ' || job, 0) $$;
COMMENT ON FUNCTION sophia.job_lock(text) IS 'internal: key of the advisory lock that a run of a job holds';

CREATE VIEW sophia.job_runs AS
SELECT r.id, r.job, CASE WHEN died.yes THEN 'failed' ELSE r.state END AS state, r.started_at, r.finished_at, r.sqlstate,
  CASE WHEN died.yes THEN 'the run ended without saying how' ELSE r.error END AS error, r.pid
FROM sophia.job_run_records AS r
CROSS JOIN LATERAL (SELECT r.state = 'running' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_locks AS l
    JOIN pg_catalog.pg_database AS d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid = r.pid
      AND l.classid::bigint = ((sophia.job_lock(r.job) >> 32) & 4294967295)
      AND l.objid::bigint = (sophia.job_lock(r.job) & 4294967295)) AS yes) AS died;
COMMENT ON VIEW sophia.job_runs IS 'runs of jobs, also those that are under way; state is running, succeeded, failed or skipped';
COMMENT ON COLUMN sophia.job_runs.error IS 'why the run failed or was skipped';

-- Called by the worker of a run, in the session of the job's owner.
CREATE FUNCTION sophia.begin_job_run(job text, now boolean, pid integer, OUT run bigint, OUT command text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  scheduled sophia.scheduled_jobs;
  hindrance text;
BEGIN
  SELECT s.* INTO scheduled FROM sophia.scheduled_jobs AS s WHERE s.job = begin_job_run.job AND s.owner = session_user;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'job "%" does not exist', job USING ERRCODE = 'undefined_object';
  END IF;
  DELETE FROM sophia.job_run_records AS r
  WHERE r.started_at < clock_timestamp() - current_setting('sophia_stack.job_history')::interval;

  IF NOT pg_try_advisory_lock(sophia.job_lock(job)) THEN
    hindrance := 'another run of the job is under way';
  ELSE
    UPDATE sophia.job_run_records AS r
    SET state = 'failed', finished_at = clock_timestamp(), error = 'the run ended without saying how'
    WHERE r.job = begin_job_run.job AND r.state = 'running';
    IF NOT now AND scheduled.retry_after > clock_timestamp() THEN
      hindrance := format('failures in a row: %s; tried again after %s', scheduled.failures, scheduled.retry_after);
    END IF;
  END IF;
  IF hindrance IS NULL THEN
    command := scheduled.command;
  END IF;
  INSERT INTO sophia.job_run_records AS r (job, state, finished_at, error, pid)
  VALUES (job, CASE WHEN hindrance IS NULL THEN 'running' ELSE 'skipped' END,
    CASE WHEN hindrance IS NOT NULL THEN clock_timestamp() END, hindrance, begin_job_run.pid)
  RETURNING r.id INTO run;
END
$$;
COMMENT ON FUNCTION sophia.begin_job_run(text, boolean, integer) IS 'internal: records the beginning of a run and returns what to run; NULL where the run is skipped';

CREATE FUNCTION sophia.end_job_run(run bigint, sqlstate text, error text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ended sophia.job_run_records;
BEGIN
  UPDATE sophia.job_run_records AS r
  SET state = CASE WHEN end_job_run.error IS NULL THEN 'succeeded' ELSE 'failed' END, finished_at = clock_timestamp(),
    sqlstate = end_job_run.sqlstate, error = end_job_run.error
  WHERE r.id = run AND r.state = 'running'
  RETURNING r.* INTO ended;
  IF NOT FOUND THEN
    RETURN (SELECT jsonb_build_object('run', r.id, 'state', r.state, 'error', r.error)
      FROM sophia.job_run_records AS r WHERE r.id = run);
  END IF;
  UPDATE sophia.scheduled_jobs AS s
  SET failures = CASE WHEN end_job_run.error IS NULL THEN 0 ELSE s.failures + 1 END,
    retry_after = CASE WHEN end_job_run.error IS NOT NULL
      THEN clock_timestamp() + least(s.backoff * 2 ^ least(s.failures, 20), s.backoff_limit) END
  WHERE s.job = ended.job AND (end_job_run.error IS NOT NULL OR s.failures > 0 OR s.retry_after IS NOT NULL);
  RETURN jsonb_build_object('run', ended.id, 'state', ended.state, 'error', ended.error);
END
$$;
COMMENT ON FUNCTION sophia.end_job_run(bigint, text, text) IS 'internal: records the end of a run, and of a failure when ticks count again; returns run, state and error';

-- ---- the interface ----

CREATE FUNCTION sophia.check_job(job text) RETURNS oid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  scheduled record;
  owner oid;
BEGIN
  PERFORM sophia.check_name('job', job);
  SELECT s.owner, sophia.written_here(s.xmin) AS is_new INTO scheduled
  FROM sophia.scheduled_jobs AS s WHERE s.job = check_job.job;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'job "%" does not exist', job USING ERRCODE = 'undefined_object';
  END IF;
  owner := to_regrole(quote_ident(scheduled.owner))::oid;
  IF NOT pg_has_role(sophia.caller(), coalesce(owner, 10), 'MEMBER') THEN
    RAISE EXCEPTION 'must be owner of job "%"', job USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN owner;
END
$$;
COMMENT ON FUNCTION sophia.check_job(text) IS 'internal: owner of a job, NULL where the role is gone; an error where there is no such job, or the caller may not touch it';

CREATE FUNCTION sophia.run_job_for(job text, now boolean) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner oid := sophia.check_job(job);
BEGIN
  IF owner IS NULL THEN
    RAISE EXCEPTION 'the owner of job "%" does not exist any more', job USING ERRCODE = 'undefined_object',
      HINT = 'Schedule it again.';
  ELSIF EXISTS (SELECT FROM sophia.scheduled_jobs AS s WHERE s.job = run_job_for.job AND sophia.written_here(s.xmin)) THEN
    RAISE EXCEPTION 'job "%" was scheduled in this transaction', job USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'Commit first.';
  END IF;
  RETURN sophia.run_job_apart(job, owner, now)::jsonb;
END
$$;
COMMENT ON FUNCTION sophia.run_job_for(text, boolean) IS 'internal: has a job run, for a caller who may, and returns run, state and error';

CREATE PROCEDURE sophia.run_job(job text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ended jsonb := sophia.run_job_for(job, false);
BEGIN
  IF ended ->> 'state' = 'failed' THEN
    RAISE WARNING 'job "%" failed: %', job, ended ->> 'error';
  ELSIF ended ->> 'state' = 'skipped' THEN
    RAISE NOTICE 'job "%" was skipped: %', job, ended ->> 'error';
  END IF;
END
$$;
COMMENT ON PROCEDURE sophia.run_job(text) IS 'runs a job once, unless it runs already or still waits after a failure; what pg_cron calls, and any other scheduler may. A failure is recorded and a warning';

CREATE FUNCTION sophia.run_now(job text, OUT run bigint, OUT state text, OUT error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ended jsonb := sophia.run_job_for(job, true);
BEGIN
  run := (ended ->> 'run')::bigint;
  state := ended ->> 'state';
  error := ended ->> 'error';
END
$$;
COMMENT ON FUNCTION sophia.run_now(text) IS 'runs a job once, also while it waits after a failure, and tells how the run ended';

CREATE FUNCTION sophia.give_to_cron(job text, cron text, owner name) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  missing text := sophia.cron_missing();
  version text;
BEGIN
  IF missing IS NULL THEN
    version := sophia.cron_version();
    IF version IS NULL THEN
      missing := format('Run CREATE EXTENSION pg_cron in database %I.', current_setting('cron.database_name'));
    END IF;
  END IF;
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION 'job "%" cannot be scheduled, because pg_cron is not there', job
      USING ERRCODE = 'object_not_in_prerequisite_state',
        HINT = missing || ' Or pass NULL as cron, and have another scheduler CALL sophia.run_job.';
  END IF;
  IF cron ~ '^\s*\d+\s+seconds?\s*$' AND string_to_array(regexp_replace(version, '[^0-9.].*', ''), '.')::integer[] < '{1,5}' THEN
    RAISE EXCEPTION 'a schedule in seconds needs pg_cron 1.5' USING ERRCODE = 'invalid_parameter_value',
      DETAIL = format('This is pg_cron %s.', version);
  END IF;
  PERFORM sophia.change_cron(format(
    'DELETE FROM cron.job WHERE jobname = %1$L AND username <> %4$L; '
    'UPDATE cron.job SET active = true WHERE jobname = %1$L AND NOT active; '
    'SELECT cron.schedule_in_database(%1$L, %2$L, %3$L, %5$L, %4$L, true)',
    sophia.cron_name(job), cron, format('CALL sophia.run_job(%L)', job), owner, current_database()));
END
$$;
COMMENT ON FUNCTION sophia.give_to_cron(text, text, name) IS 'internal: has pg_cron call run_job for a job, under the name of its owner';

CREATE FUNCTION sophia.take_from_cron(job text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF sophia.cron_version() IS NOT NULL THEN
    PERFORM sophia.change_cron(format('DELETE FROM cron.job WHERE jobname = %L RETURNING jobid', sophia.cron_name(job)));
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.take_from_cron(text) IS 'internal: has pg_cron forget a job, where there is pg_cron';

CREATE FUNCTION sophia.schedule(job text, cron text, command text DEFAULT 'CALL sophia.refresh()') RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caller regrole := sophia.caller();
  owner name;
BEGIN
  PERFORM sophia.check_name('job', job);
  IF command IS NULL THEN
    RAISE EXCEPTION 'command must not be null' USING ERRCODE = 'null_value_not_allowed';
  ELSIF btrim(command, E' \t\r\n;') = '' THEN
    RAISE EXCEPTION 'command must not be empty' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF EXISTS (SELECT FROM sophia.scheduled_jobs AS s WHERE s.job = schedule.job) THEN
    PERFORM sophia.check_job(job);
  END IF;
  SELECT r.rolname INTO owner FROM pg_roles AS r WHERE r.oid = caller AND r.rolcanlogin;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'role % cannot log in, so it cannot own a job', caller USING ERRCODE = 'insufficient_privilege',
      HINT = 'Schedule it as a role that has LOGIN.';
  END IF;

  INSERT INTO sophia.scheduled_jobs AS s (job, cron, command, owner) VALUES (job, cron, command, owner)
  ON CONFLICT ON CONSTRAINT scheduled_jobs_pkey
  DO UPDATE SET cron = excluded.cron, command = excluded.command, owner = excluded.owner, failures = 0, retry_after = NULL;
  IF cron IS NULL THEN
    PERFORM sophia.take_from_cron(job);
  ELSE
    PERFORM sophia.give_to_cron(job, cron, owner);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.schedule(text, text, text) IS 'has pg_cron run a command again and again with the rights of the caller; the same name again changes the job. Without cron another scheduler calls run_job';

CREATE FUNCTION sophia.unschedule(job text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.check_job(job);
  DELETE FROM sophia.scheduled_jobs AS s WHERE s.job = unschedule.job;
  PERFORM sophia.take_from_cron(job);
END
$$;
COMMENT ON FUNCTION sophia.unschedule(text) IS 'forgets a job; the records of its runs stay until they are old';

CREATE VIEW sophia.jobs AS
SELECT j.job, j.cron, j.command, j.owner, c.id IS NOT NULL AS scheduled, coalesce(c.active, false) AS active,
  CASE WHEN c.active THEN sophia.next_tick(c.schedule, pg_catalog.now(),
    coalesce(pg_catalog.current_setting('cron.timezone', true), 'GMT')) END AS next_run_at,
  coalesce(l.state = 'running', false) AS running, l.started_at AS last_run_at, l.state AS last_state, f.error AS last_error,
  j.failures, j.retry_after, j.created_at
FROM sophia.scheduled_jobs AS j
LEFT JOIN sophia.cron_jobs() AS c ON c.name = sophia.cron_name(j.job) AND c.owner = j.owner
LEFT JOIN LATERAL (SELECT r.* FROM sophia.job_runs AS r WHERE r.job = j.job AND r.state <> 'skipped'
  ORDER BY r.started_at DESC, r.id DESC LIMIT 1) AS l ON true
LEFT JOIN LATERAL (SELECT r.* FROM sophia.job_runs AS r WHERE r.job = j.job AND r.state = 'failed'
  ORDER BY r.started_at DESC, r.id DESC LIMIT 1) AS f ON true;
COMMENT ON VIEW sophia.jobs IS 'jobs, with what pg_cron has of them and how they went';
COMMENT ON COLUMN sophia.jobs.scheduled IS 'whether pg_cron has the job; false after a restore: schedule it again';
COMMENT ON COLUMN sophia.jobs.active IS 'whether pg_cron calls it';
COMMENT ON COLUMN sophia.jobs.next_run_at IS 'the next tick; NULL where there is none or it cannot be told';
COMMENT ON COLUMN sophia.jobs.last_run_at IS 'when the last run began that was not skipped';
COMMENT ON COLUMN sophia.jobs.last_error IS 'of the last failure';
COMMENT ON COLUMN sophia.jobs.retry_after IS 'ticks before that are skipped, after a failure';
