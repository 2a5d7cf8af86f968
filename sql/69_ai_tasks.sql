-- Functions with a task of their own: what they say to a provider stands in sophia.prompts, what its answers mean in ai/task.c.
--
-- Each has four forms: for a text, for an array of texts, and both as try_.  The first argument is the text; all C entry points
-- go by the names of function and arguments.  Labels are those of complete (69_ai.sql).

CREATE TYPE sophia.summary_detail AS (summary text, ratio float8, tokens_in bigint, tokens_out bigint);
COMMENT ON TYPE sophia.summary_detail IS 'a summary, its length divided by that of the text in characters, and the tokens it took';

-- ---- complete_json ----

CREATE FUNCTION sophia.complete_json(prompt text, schema jsonb, model text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS jsonb
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete_json(text, jsonb, text, jsonb) IS 'a model''s answer to a prompt, as JSON that fits a JSON schema';

CREATE FUNCTION sophia.complete_json(prompts text[], schema jsonb, model text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS jsonb[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.complete_json(text[], jsonb, text, jsonb) IS 'a model''s answers to many prompts, as JSON that fits a JSON schema';

CREATE FUNCTION sophia.try_complete_json(prompt text, schema jsonb, model text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete_json(text, jsonb, text, jsonb) IS 'complete_json, with the error as a value';

CREATE FUNCTION sophia.try_complete_json(prompts text[], schema jsonb, model text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_complete_json(text[], jsonb, text, jsonb) IS 'complete_json of many texts, a row each in their order, with the error as a value';

-- ---- sentiment ----

CREATE FUNCTION sophia.sentiment(input text, model text DEFAULT NULL) RETURNS float8
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.sentiment(text, text) IS 'the sentiment of a text, from -1 (negative) to 1 (positive)';

CREATE FUNCTION sophia.sentiment(inputs text[], model text DEFAULT NULL) RETURNS float8[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.sentiment(text[], text) IS 'the sentiments of many texts, in their order';

CREATE FUNCTION sophia.try_sentiment(input text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_sentiment(text, text) IS 'sentiment, with the error as a value';

CREATE FUNCTION sophia.try_sentiment(inputs text[], model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_sentiment(text[], text) IS 'sentiment of many texts, a row each in their order, with the error as a value';

-- ---- classify_sentiment ----

CREATE FUNCTION sophia.classify_sentiment(input text, model text DEFAULT NULL) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.classify_sentiment(text, text) IS 'the sentiment of a text: positive, negative, neutral or mixed';

CREATE FUNCTION sophia.classify_sentiment(inputs text[], model text DEFAULT NULL) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.classify_sentiment(text[], text) IS 'the sentiments of many texts, in their order';

CREATE FUNCTION sophia.try_classify_sentiment(input text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_classify_sentiment(text, text) IS 'classify_sentiment, with the error as a value';

CREATE FUNCTION sophia.try_classify_sentiment(inputs text[], model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_classify_sentiment(text[], text) IS 'classify_sentiment of many texts, a row each in their order, with the error as a value';

-- ---- classify_text ----

CREATE FUNCTION sophia.classify_text(input text, labels text[], model text DEFAULT NULL) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.classify_text(text, text[], text) IS 'which of these labels fits a text best';

CREATE FUNCTION sophia.classify_text(inputs text[], labels text[], model text DEFAULT NULL) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.classify_text(text[], text[], text) IS 'which of these labels fits each of many texts best, in their order';

CREATE FUNCTION sophia.try_classify_text(input text, labels text[], model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_classify_text(text, text[], text) IS 'classify_text, with the error as a value';

CREATE FUNCTION sophia.try_classify_text(inputs text[], labels text[], model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_classify_text(text[], text[], text) IS 'classify_text of many texts, a row each in their order, with the error as a value';

-- ---- translate ----

CREATE FUNCTION sophia.translate(input text, from_lang text, to_lang text, model text DEFAULT NULL) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.translate(text, text, text, text) IS 'a text in another language; from_lang '''': the model finds out which it is in';

CREATE FUNCTION sophia.translate(inputs text[], from_lang text, to_lang text, model text DEFAULT NULL) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.translate(text[], text, text, text) IS 'many texts in another language, in their order';

CREATE FUNCTION sophia.try_translate(input text, from_lang text, to_lang text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_translate(text, text, text, text) IS 'translate, with the error as a value';

CREATE FUNCTION sophia.try_translate(inputs text[], from_lang text, to_lang text, model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_translate(text[], text, text, text) IS 'translate of many texts, a row each in their order, with the error as a value';

-- ---- extract_answer ----

CREATE FUNCTION sophia.extract_answer(document text, question text, model text DEFAULT NULL) RETURNS jsonb
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.extract_answer(text, text, text) IS 'what a document says to a question: [{answer, score}]';

CREATE FUNCTION sophia.extract_answer(documents text[], question text, model text DEFAULT NULL) RETURNS jsonb[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.extract_answer(text[], text, text) IS 'what each of many documents says to a question, in their order';

CREATE FUNCTION sophia.try_extract_answer(document text, question text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_extract_answer(text, text, text) IS 'extract_answer, with the error as a value';

CREATE FUNCTION sophia.try_extract_answer(documents text[], question text, model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_extract_answer(text[], text, text) IS 'extract_answer of many texts, a row each in their order, with the error as a value';

-- ---- summarize ----

CREATE FUNCTION sophia.summarize(input text, model text DEFAULT NULL) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.summarize(text, text) IS 'a summary of a text, of any length';

CREATE FUNCTION sophia.summarize(inputs text[], model text DEFAULT NULL) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.summarize(text[], text) IS 'summaries of many texts, in their order';

CREATE FUNCTION sophia.try_summarize(input text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_summarize(text, text) IS 'summarize, with the error as a value';

CREATE FUNCTION sophia.try_summarize(inputs text[], model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_summarize(text[], text) IS 'summarize of many texts, a row each in their order, with the error as a value';

-- ---- summarize_detail ----

CREATE FUNCTION sophia.summarize_detail(input text, model text DEFAULT NULL) RETURNS sophia.summary_detail
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.summarize_detail(text, text) IS 'a summary of a text, how much shorter it is, and the tokens it took';

CREATE FUNCTION sophia.summarize_detail(inputs text[], model text DEFAULT NULL) RETURNS sophia.summary_detail[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.summarize_detail(text[], text) IS 'the same of many texts, in their order';

CREATE FUNCTION sophia.try_summarize_detail(input text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_summarize_detail(text, text) IS 'summarize_detail, with the error as a value';

CREATE FUNCTION sophia.try_summarize_detail(inputs text[], model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_summarize_detail(text[], text) IS 'summarize_detail of many texts, a row each in their order, with the error as a value';

-- ---- ai_filter ----

CREATE FUNCTION sophia.ai_filter(input text, question text, model text DEFAULT NULL) RETURNS boolean
  AS 'MODULE_PATHNAME', 'sophia_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.ai_filter(text, text, text) IS 'whether the answer to a question about a text is yes; NULL where the text does not tell';

CREATE FUNCTION sophia.ai_filter(inputs text[], question text, model text DEFAULT NULL) RETURNS boolean[]
  AS 'MODULE_PATHNAME', 'sophia_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.ai_filter(text[], text, text) IS 'the same of many texts, in their order';

CREATE FUNCTION sophia.try_ai_filter(input text, question text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_ai_filter(text, text, text) IS 'ai_filter, with the error as a value';

CREATE FUNCTION sophia.try_ai_filter(inputs text[], question text, model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_task_array' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_ai_filter(text[], text, text) IS 'ai_filter of many texts, a row each in their order, with the error as a value';

-- ---- summarize_agg ----

CREATE FUNCTION sophia.summarize_texts(texts text[]) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_task_joined' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.summarize_texts(text[]) IS 'internal: one summary of many texts, the last step of summarize_agg';

CREATE AGGREGATE sophia.summarize_agg(text) (
  SFUNC = pg_catalog.array_append, STYPE = text[], FINALFUNC = sophia.summarize_texts, FINALFUNC_MODIFY = READ_ONLY, PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE sophia.summarize_agg(text) IS 'one summary of all texts, of any number; NULL and blank ones do not count';

-- ---- similarity, and tokens ----

CREATE FUNCTION sophia.similarity(a text, b text, model text DEFAULT NULL) RETURNS float8
  AS 'MODULE_PATHNAME', 'sophia_similarity' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.similarity(text, text, text) IS 'how alike two texts are: the cosine of their embeddings';

CREATE FUNCTION sophia.similarity(texts text[], b text, model text DEFAULT NULL) RETURNS float8[]
  AS 'MODULE_PATHNAME', 'sophia_similarity_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.similarity(text[], text, text) IS 'how alike each of many texts is to another one, in their order';

CREATE FUNCTION sophia.try_similarity(a text, b text, model text DEFAULT NULL) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_similarity' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_similarity(text, text, text) IS 'similarity, with the error as a value';

CREATE FUNCTION sophia.try_similarity(texts text[], b text, model text DEFAULT NULL) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_similarity_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_similarity(text[], text, text) IS 'similarity of many texts, a row each in their order, with the error as a value';

CREATE FUNCTION sophia.count_tokens(model text, input text) RETURNS integer
  AS 'MODULE_PATHNAME', 'sophia_count_tokens' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.count_tokens(text, text) IS 'how many tokens of a model a text has; sophia.models.token_count tells whether that is an estimate';

CREATE FUNCTION sophia.count_tokens(model text, inputs text[]) RETURNS integer[]
  AS 'MODULE_PATHNAME', 'sophia_count_tokens_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.count_tokens(text, text[]) IS 'how many tokens of a model each of many texts has, in their order';

CREATE FUNCTION sophia.try_count_tokens(model text, input text) RETURNS sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_count_tokens' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_count_tokens(text, text) IS 'count_tokens, with the error as a value';

CREATE FUNCTION sophia.try_count_tokens(model text, inputs text[]) RETURNS SETOF sophia.ai_result
  AS 'MODULE_PATHNAME', 'sophia_try_count_tokens_array' LANGUAGE C STABLE PARALLEL RESTRICTED COST 100000
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sophia.try_count_tokens(text, text[]) IS 'count_tokens of many texts, a row each in their order, with the error as a value';
