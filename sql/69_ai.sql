-- AI functions, and what the gateway tells of itself.
--
-- Labels (docs/architecture.md, "AI calls"): generating functions are VOLATILE, so that the planner never evaluates, and bills, a call
-- twice; embedding is STABLE, so that an index on vectors can be searched with it.  All are PARALLEL RESTRICTED, since calls run
-- at the same time by themselves, and costly, so that cheap conditions are looked at first.

CREATE TYPE sophia.ai_result AS (
  value jsonb, error_code text, error text, provider text, model text, tokens_in bigint, tokens_out bigint, cost numeric,
  cached boolean, ms float8, ord bigint, prompt_version integer);
COMMENT ON TYPE sophia.ai_result IS 'what became of one call: its value, or its error; cost by the price of the model, ord the place in the array of texts, prompt_version of sophia.prompts';

-- ---- complete ----

CREATE FUNCTION sophia.complete(prompt text) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_complete' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text) IS 'the default model''s answer to a prompt';

CREATE FUNCTION sophia.complete(model text, prompt text) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_complete' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text, text) IS 'a model''s answer to a prompt';

CREATE FUNCTION sophia.complete(model text, prompt text, options jsonb) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_complete' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text, text, jsonb) IS 'a model''s answer to a prompt, with options such as temperature and max_tokens';

CREATE FUNCTION sophia.complete(model text, messages jsonb) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_complete_messages' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text, jsonb) IS 'a model''s answer to a conversation: a JSON array of {role, content}';

CREATE FUNCTION sophia.complete(model text, messages jsonb, options jsonb) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_complete_messages' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text, jsonb, jsonb) IS 'a model''s answer to a conversation, with options';

CREATE FUNCTION sophia.complete(prompts text[]) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_complete_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text[]) IS 'the default model''s answers to many prompts, at the same time and in their order; NULL where one failed';

CREATE FUNCTION sophia.complete(model text, prompts text[]) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_complete_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text, text[]) IS 'a model''s answers to many prompts, at the same time and in their order; NULL where one failed';

CREATE FUNCTION sophia.complete(model text, prompts text[], options jsonb) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_complete_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete(text, text[], jsonb) IS 'a model''s answers to many prompts, with options';

CREATE FUNCTION sophia.try_complete(prompt text) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text) IS 'complete, with the error as a value';

CREATE FUNCTION sophia.try_complete(model text, prompt text) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text, text) IS 'complete, with the error as a value';

CREATE FUNCTION sophia.try_complete(model text, prompt text, options jsonb) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text, text, jsonb) IS 'complete, with the error as a value';

CREATE FUNCTION sophia.try_complete(model text, messages jsonb) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete_messages' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text, jsonb) IS 'complete, with the error as a value';

CREATE FUNCTION sophia.try_complete(model text, messages jsonb, options jsonb) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete_messages' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text, jsonb, jsonb) IS 'complete, with the error as a value';

CREATE FUNCTION sophia.try_complete(prompts text[]) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text[]) IS 'complete for many prompts, a row each in their order, with the error as a value';

CREATE FUNCTION sophia.try_complete(model text, prompts text[]) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text, text[]) IS 'complete for many prompts, a row each in their order, with the error as a value';

CREATE FUNCTION sophia.try_complete(model text, prompts text[], options jsonb) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_complete_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete(text, text[], jsonb) IS 'complete for many prompts, a row each in their order, with the error as a value';

-- ---- embed_text ----

CREATE FUNCTION sophia.embed_text(input text, model text DEFAULT NULL) RETURNS real[]
  AS 'MODULE_PATHNAME', 'sophia_embed_text' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text(text, text) IS 'the embedding of a text by a model, or by the default one';

CREATE FUNCTION sophia.embed_text(inputs text[], model text DEFAULT NULL, OUT ord bigint, OUT embedding real[]) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_embed_text_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text(text[], text) IS 'the embeddings of many texts, a row each; NULL where one failed';

CREATE FUNCTION sophia.try_embed_text(input text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text(text, text) IS 'embed_text, with the error as a value';

CREATE FUNCTION sophia.try_embed_text(inputs text[], model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text(text[], text) IS 'embed_text for many texts, a row each in their order, with the error as a value';

CREATE FUNCTION sophia.embed_text_384(model text, input text) RETURNS real[]
  AS 'MODULE_PATHNAME', 'sophia_embed_text_384' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text_384(text, text) IS 'the embedding of a text, which must have 384 dimensions';

CREATE FUNCTION sophia.embed_text_384(model text, inputs text[], OUT ord bigint, OUT embedding real[]) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_embed_text_384_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text_384(text, text[]) IS 'the embeddings of many texts, which must have 384 dimensions, a row each; NULL where one failed';

CREATE FUNCTION sophia.embed_text_768(model text, input text) RETURNS real[]
  AS 'MODULE_PATHNAME', 'sophia_embed_text_768' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text_768(text, text) IS 'the embedding of a text, which must have 768 dimensions';

CREATE FUNCTION sophia.embed_text_768(model text, inputs text[], OUT ord bigint, OUT embedding real[]) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_embed_text_768_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text_768(text, text[]) IS 'the embeddings of many texts, which must have 768 dimensions, a row each; NULL where one failed';

CREATE FUNCTION sophia.embed_text_1024(model text, input text) RETURNS real[]
  AS 'MODULE_PATHNAME', 'sophia_embed_text_1024' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text_1024(text, text) IS 'the embedding of a text, which must have 1024 dimensions';

CREATE FUNCTION sophia.embed_text_1024(model text, inputs text[], OUT ord bigint, OUT embedding real[]) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_embed_text_1024_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.embed_text_1024(text, text[]) IS 'the embeddings of many texts, which must have 1024 dimensions, a row each; NULL where one failed';

CREATE FUNCTION sophia.try_embed_text_384(model text, input text) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text_384' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text_384(text, text) IS 'embed_text_384, with the error as a value';

CREATE FUNCTION sophia.try_embed_text_384(model text, inputs text[]) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text_384_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text_384(text, text[]) IS 'embed_text_384 for many texts, a row each in their order, with the error as a value';

CREATE FUNCTION sophia.try_embed_text_768(model text, input text) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text_768' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text_768(text, text) IS 'embed_text_768, with the error as a value';

CREATE FUNCTION sophia.try_embed_text_768(model text, inputs text[]) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text_768_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text_768(text, text[]) IS 'embed_text_768 for many texts, a row each in their order, with the error as a value';

CREATE FUNCTION sophia.try_embed_text_1024(model text, input text) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text_1024' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text_1024(text, text) IS 'embed_text_1024, with the error as a value';

CREATE FUNCTION sophia.try_embed_text_1024(model text, inputs text[]) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_embed_text_1024_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_embed_text_1024(text, text[]) IS 'embed_text_1024 for many texts, a row each in their order, with the error as a value';

-- ---- what the gateway tells ----

CREATE FUNCTION sophia.provider_states(
    OUT provider text, OUT address_in_use text, OUT health text, OUT checked_at timestamptz, OUT breaker text, OUT concurrency integer,
    OUT in_flight integer, OUT queued integer, OUT queued_bytes bigint, OUT requests bigint, OUT errors bigint, OUT retries bigint,
    OUT connections_idle integer, OUT connections_in_use integer, OUT connections_created bigint, OUT connections_closed bigint,
    OUT p50 float8, OUT p95 float8, OUT p99 float8, OUT last_error text, OUT last_error_at timestamptz) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_provider_states' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.provider_states() IS 'what the gateway tells of the providers of this database that it has been asked about';

CREATE VIEW sophia.provider_status AS
  SELECT p.provider, p.kind, p.address, s.address_in_use, coalesce(s.health, 'unknown') AS health, s.checked_at,
    coalesce(s.breaker, 'closed') AS breaker, s.concurrency, coalesce(s.in_flight, 0) AS in_flight, coalesce(s.queued, 0) AS queued,
    coalesce(s.queued_bytes, 0) AS queued_bytes, coalesce(s.requests, 0) AS requests, coalesce(s.errors, 0) AS errors,
    coalesce(s.retries, 0) AS retries, coalesce(s.connections_idle + s.connections_in_use, 0) AS connections_open,
    coalesce(s.connections_idle, 0) AS connections_idle, coalesce(s.connections_in_use, 0) AS connections_in_use,
    coalesce(s.connections_created, 0) AS connections_created, coalesce(s.connections_closed, 0) AS connections_closed,
    s.p50, s.p95, s.p99, s.last_error, s.last_error_at
  FROM sophia.providers AS p LEFT JOIN sophia.provider_states() AS s USING (provider);
COMMENT ON VIEW sophia.provider_status IS 'what the gateway does with each provider, since it was started; who is granted it also needs EXECUTE on sophia.provider_states()';
COMMENT ON COLUMN sophia.provider_status.address_in_use IS 'of the address and its replicas, the first that can be used; NULL until the provider is first asked';
COMMENT ON COLUMN sophia.provider_status.health IS 'what the last check of that address found: unknown, healthy or failing';
COMMENT ON COLUMN sophia.provider_status.breaker IS 'closed: requests are sent; open: they fail at once, since so many failed in a row; half-open: the next one is a probe';
COMMENT ON COLUMN sophia.provider_status.concurrency IS 'most requests at a time: in_flight of the provider, less while it says that it is overloaded';
COMMENT ON COLUMN sophia.provider_status.in_flight IS 'requests that are at the provider now';
COMMENT ON COLUMN sophia.provider_status.queued IS 'requests that wait for their turn, or to be tried again';
COMMENT ON COLUMN sophia.provider_status.queued_bytes IS 'bytes of the requests that wait for their turn';
COMMENT ON COLUMN sophia.provider_status.requests IS 'requests that were answered, errors included';
COMMENT ON COLUMN sophia.provider_status.errors IS 'of them, those that failed';
COMMENT ON COLUMN sophia.provider_status.retries IS 'how often a request was tried again';
COMMENT ON COLUMN sophia.provider_status.connections_open IS 'open connections to all its addresses, with those of other providers that share them';
COMMENT ON COLUMN sophia.provider_status.connections_in_use IS 'open connections that carry a request, or are being made';
COMMENT ON COLUMN sophia.provider_status.p50 IS 'milliseconds that half of the last 512 good answers took at most, from sending to the end';
COMMENT ON COLUMN sophia.provider_status.p95 IS 'the same of 95 in 100';
COMMENT ON COLUMN sophia.provider_status.p99 IS 'the same of 99 in 100';

CREATE FUNCTION sophia.request_list(
    OUT request text, OUT pid integer, OUT database oid, OUT role oid, OUT provider text, OUT model text, OUT function text,
    OUT state text, OUT attempts integer, OUT received_at timestamptz, OUT prompt text) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_request_list' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.request_list() IS 'requests that the gateway has now, of the whole cluster; 256 at most are listed';

CREATE VIEW sophia.gateway_requests AS
  SELECT l.request, l.pid, d.datname AS database, r.rolname AS role, l.provider, l.model, l.function, l.state, l.attempts,
    l.received_at, clock_timestamp() - l.received_at AS elapsed, l.prompt
  FROM sophia.request_list() AS l
    LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) l.database
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) l.role;
COMMENT ON VIEW sophia.gateway_requests IS 'what the gateway does now, for whom, and for how long; who is granted it also needs EXECUTE on sophia.request_list()';
COMMENT ON COLUMN sophia.gateway_requests.request IS 'as errors name it: process and number';
COMMENT ON COLUMN sophia.gateway_requests.pid IS 'process of the session that waits';
COMMENT ON COLUMN sophia.gateway_requests.state IS 'queued: waits for its turn; running: at the provider; waiting: between two tries';
COMMENT ON COLUMN sophia.gateway_requests.attempts IS 'how often it was sent';
COMMENT ON COLUMN sophia.gateway_requests.prompt IS 'the beginning of what is sent, where sophia_stack.show_prompts has it shown';
