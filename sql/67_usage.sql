-- What AI calls have used, and what they may: kept in shared memory at first, apart from transactions, and written to
-- usage_hours by the jobs worker.

CREATE TABLE sophia.usage_hours (
  hour timestamptz NOT NULL,
  role name NOT NULL,
  function text NOT NULL,
  model text NOT NULL,
  calls bigint NOT NULL,
  cache_hits bigint NOT NULL,
  tokens_in bigint NOT NULL,
  tokens_out bigint NOT NULL,
  errors bigint NOT NULL,
  ms bigint NOT NULL,
  cost numeric NOT NULL,
  PRIMARY KEY (hour, role, function, model)
);
COMMENT ON TABLE sophia.usage_hours IS 'internal: what AI calls have used, by hour, as far as it was written; see ai_usage';
SELECT pg_catalog.pg_extension_config_dump('sophia.usage_hours', '');

CREATE FUNCTION sophia.pending_usage(
    OUT hour timestamptz, OUT role name, OUT function text, OUT model text, OUT calls bigint, OUT cache_hits bigint,
    OUT tokens_in bigint, OUT tokens_out bigint, OUT errors bigint, OUT ms bigint, OUT cost numeric) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_pending_usage' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.pending_usage() IS 'what AI calls in this database have used that the jobs worker has not written yet';

CREATE VIEW sophia.ai_usage AS
  SELECT current_database() AS database, u.role, u.function, u.model, (u.hour AT TIME ZONE 'UTC')::date AS day,
    sum(u.calls)::bigint AS calls, sum(u.cache_hits)::bigint AS cache_hits, sum(u.tokens_in)::bigint AS tokens_in,
    sum(u.tokens_out)::bigint AS tokens_out, trim_scale(sum(u.cost)) AS cost, sum(u.errors)::bigint AS errors,
    sum(u.ms)::float8 AS ms
  FROM (
    SELECT h.hour, h.role, h.function, h.model, h.calls, h.cache_hits, h.tokens_in, h.tokens_out, h.errors, h.ms, h.cost
    FROM sophia.usage_hours AS h
    UNION ALL
    SELECT p.hour, p.role, p.function, p.model, p.calls, p.cache_hits, p.tokens_in, p.tokens_out, p.errors, p.ms, p.cost
    FROM sophia.pending_usage() AS p) AS u
  GROUP BY u.role, u.function, u.model, (u.hour AT TIME ZONE 'UTC')::date;
COMMENT ON VIEW sophia.ai_usage IS 'what AI calls in this database have used, also those of read-only and of aborted transactions; who is granted it also needs EXECUTE on sophia.pending_usage()';
COMMENT ON COLUMN sophia.ai_usage.role IS 'that called';
COMMENT ON COLUMN sophia.ai_usage.day IS 'in UTC';
COMMENT ON COLUMN sophia.ai_usage.calls IS 'texts that were sent to the provider, or found in the cache';
COMMENT ON COLUMN sophia.ai_usage.cache_hits IS 'of them, those that were found in the cache';
COMMENT ON COLUMN sophia.ai_usage.cost IS 'by the price of the model when it was called; 0 where it has none';
COMMENT ON COLUMN sophia.ai_usage.errors IS 'of the calls, those that failed; tokens and cost of an answer of no use are counted, too';
COMMENT ON COLUMN sophia.ai_usage.ms IS 'milliseconds that the calls took, added up';

CREATE TABLE sophia.budgets (
  role regrole NOT NULL,
  per text NOT NULL CHECK (per IN ('hour', 'day', 'month')),
  amount numeric NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (role, per)
);
COMMENT ON TABLE sophia.budgets IS 'what roles may spend on AI calls in this database; see set_budget and budget_status';
COMMENT ON COLUMN sophia.budgets.role IS 'that calls; not its members';
COMMENT ON COLUMN sophia.budgets.per IS 'hour, day or month, in UTC';
COMMENT ON COLUMN sophia.budgets.amount IS 'in the currency of the models'' prices; 0 forbids';
SELECT pg_catalog.pg_extension_config_dump('sophia.budgets', '');

CREATE FUNCTION sophia.budgets_left(role oid) RETURNS TABLE (per text, amount numeric, spent numeric)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT b.per, b.amount, (SELECT coalesce(sum(u.cost), 0)
    FROM (SELECT h.hour, h.role, h.cost FROM sophia.usage_hours AS h
      UNION ALL SELECT p.hour, p.role, p.cost FROM sophia.pending_usage() AS p) AS u
    WHERE u.role = pg_get_userbyid(budgets_left.role) AND u.hour >= date_trunc(b.per, clock_timestamp(), 'UTC'))
  FROM sophia.budgets AS b
  WHERE b.role = budgets_left.role
$$;
COMMENT ON FUNCTION sophia.budgets_left(oid) IS 'internal: the budgets of a role, and what it has spent of them in the running hour, day or month';

CREATE VIEW sophia.budget_status AS
  SELECT r.role, l.per, l.amount, trim_scale(l.spent) AS spent, trim_scale(greatest(l.amount - l.spent, 0)) AS remaining
  FROM (SELECT DISTINCT b.role FROM sophia.budgets AS b) AS r
  CROSS JOIN LATERAL sophia.budgets_left(r.role) AS l;
COMMENT ON VIEW sophia.budget_status IS 'budgets, and what is spent of them in the running hour, day or month; who is granted it also needs EXECUTE on sophia.budgets_left(oid), and SELECT on sophia.budgets and sophia.usage_hours';

CREATE FUNCTION sophia.set_budget(role regrole, amount numeric, per text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF set_budget.role IS NULL OR set_budget.per IS NULL THEN
    RAISE EXCEPTION '% must not be null', CASE WHEN set_budget.role IS NULL THEN 'role' ELSE 'per' END USING ERRCODE = '22004';
  ELSIF set_budget.per NOT IN ('hour', 'day', 'month') THEN
    RAISE EXCEPTION 'invalid period "%"', set_budget.per USING ERRCODE = '22023', HINT = 'It can be "hour", "day" or "month".';
  ELSIF set_budget.amount < 0 OR set_budget.amount IN ('NaN', 'Infinity') THEN
    RAISE EXCEPTION 'invalid amount %', set_budget.amount USING ERRCODE = '22023',
      HINT = 'It is 0 or more, in the currency of the models'' prices; 0 forbids, and NULL lifts the budget.';
  ELSIF set_budget.amount IS NULL THEN
    DELETE FROM sophia.budgets AS b WHERE b.role = set_budget.role AND b.per = set_budget.per;
  ELSE
    INSERT INTO sophia.budgets (role, per, amount) VALUES (set_budget.role, set_budget.per, set_budget.amount)
    ON CONFLICT (role, per) DO UPDATE SET amount = excluded.amount;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.set_budget(regrole, numeric, text) IS 'lets a role spend so much on AI calls in this database per hour, day or month; 0 forbids, NULL lifts the budget';
