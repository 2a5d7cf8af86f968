/*
 * compare_sql.c
 *		SQL entry points of functions over embeddings and tokens: similarity, count_tokens.
 */
#include "postgres.h"

#include <math.h>

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "ai/result.h"
#include "ai/vector.h"

PG_FUNCTION_INFO_V1(sophia_similarity);
PG_FUNCTION_INFO_V1(sophia_similarity_array);
PG_FUNCTION_INFO_V1(sophia_try_similarity);
PG_FUNCTION_INFO_V1(sophia_try_similarity_array);
PG_FUNCTION_INFO_V1(sophia_count_tokens);
PG_FUNCTION_INFO_V1(sophia_count_tokens_array);
PG_FUNCTION_INFO_V1(sophia_try_count_tokens);
PG_FUNCTION_INFO_V1(sophia_try_count_tokens_array);
PG_FUNCTION_INFO_V1(sophia_try_tokenizer);

static char *
model_of(FunctionCallInfo fcinfo, int place)
{
	return PG_ARGISNULL(place) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(place));
}

static Datum
jsonb_of_number(Datum numeric)
{
	JsonbValue value = {.type = jbvNumeric, .val.numeric = DatumGetNumeric(numeric)};

	return JsonbPGetDatum(JsonbValueToJsonb(&value));
}

/* A number that JSON may lack: NaN becomes null. */
static Datum
jsonb_of_float(double number)
{
	JsonbValue null = {.type = jbvNull};

	if (isnan(number))
		return JsonbPGetDatum(JsonbValueToJsonb(&null));
	return jsonb_of_number(DirectFunctionCall1(float8_numeric, Float8GetDatum(number)));
}

/* ---- similarity ---- */

/* Adds the text that the others are compared with, behind them. */
static void
add_other(Call *call, const text *other)
{
	TextSpan *inputs = palloc(sizeof(TextSpan) * (call->n + 1));

	memcpy(inputs, call->inputs, sizeof(TextSpan) * call->n);
	inputs[call->n] = (TextSpan){VARDATA_ANY(other), VARSIZE_ANY_EXHDR(other)};
	call->inputs = inputs;
	call->n++;
	call->n_others = 1;
}

/* Makes of a text's outcome that of its comparison with the other text. */
static void
compare(Outcome *outcome, const Outcome *other)
{
	if (outcome->skipped || outcome->sqlstate != 0)
		return;
	if (other->sqlstate != 0)
	{
		*outcome = *other;
		return;
	}
	outcome->similarity = sophia_vector_cosine(outcome->vector, other->vector, outcome->dimensions);
	outcome->value = jsonb_of_float(outcome->similarity);
	if (outcome->tokens_in >= 0 && other->tokens_in >= 0)
		outcome->tokens_in += other->tokens_in;
}

/* Call.finish: the last text is the one that the others are compared with. */
static void
compare_all(Call *call)
{
	call->n -= call->n_others;
	for (int i = 0; i < call->n; i++)
		compare(&call->outcomes[i], &call->outcomes[call->n]);
}

/* CallMaker: similarity(text or text[], text, model) */
static bool
make_similarity(FunctionCallInfo fcinfo, Call *call, bool array)
{
	*call = (Call){.kind = CALL_EMBED, .function = "similarity"};
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return false;
	sophia_result_take(call, fcinfo, 0, array);
	call->profile = sophia_profile_of_model(model_of(fcinfo, 2), call->function, 0, false, true);
	if (call->n == 0)
		return true;
	add_other(call, PG_GETARG_TEXT_PP(1));
	call->finish = compare_all;
	return true;
}

/* similarity(a text, b text, model text DEFAULT NULL) */
Datum
sophia_similarity(PG_FUNCTION_ARGS)
{
	Call call;

	if (!make_similarity(fcinfo, &call, false))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	if (call.outcomes[0].sqlstate != 0)
		sophia_call_raise(&call.outcomes[0]);
	PG_RETURN_FLOAT8(call.outcomes[0].similarity);
}

static Datum
float_of(const Call *call, int i, Oid type, bool *null)
{
	*null = false;
	return Float8GetDatum(call->outcomes[i].similarity);
}

/* similarity(texts text[], b text, model text DEFAULT NULL) */
Datum
sophia_similarity_array(PG_FUNCTION_ARGS)
{
	Call call;

	if (!make_similarity(fcinfo, &call, true))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	sophia_result_warn(&call);
	return sophia_result_array(&call, FLOAT8OID, float_of);
}

/* try_similarity(a text, b text, model text DEFAULT NULL) */
Datum
sophia_try_similarity(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_similarity);
}

/* try_similarity(texts text[], b text, model text DEFAULT NULL) */
Datum
sophia_try_similarity_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_similarity);
}

/* ---- count_tokens ---- */

/* Call.finish */
static void
write_counts(Call *call)
{
	for (int i = 0; i < call->n; i++)
	{
		Outcome *outcome = &call->outcomes[i];

		if (!outcome->skipped && outcome->sqlstate == 0)
			outcome->value =
				jsonb_of_number(DirectFunctionCall1(int8_numeric, Int64GetDatum(outcome->count)));
	}
}

/* CallMaker: count_tokens(model, text or text[]) */
static bool
make_count(FunctionCallInfo fcinfo, Call *call, bool array)
{
	*call = (Call){.kind = CALL_TOKENS, .function = "count_tokens"};
	if (PG_ARGISNULL(1))
		return false;
	sophia_result_take(call, fcinfo, 1, array);
	call->profile = sophia_profile_of_model(model_of(fcinfo, 0), call->function, 0, false, false);
	call->finish = write_counts;
	if (strcmp(call->profile->kind, "snowflake") == 0)
		call->prompt =
			sophia_prompt_for(call->function, model_of(fcinfo, 0),
							  DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")), 0, 0);
	return true;
}

/* count_tokens(model text, input text) */
Datum
sophia_count_tokens(PG_FUNCTION_ARGS)
{
	Call call;

	if (!make_count(fcinfo, &call, false))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	if (call.outcomes[0].sqlstate != 0)
		sophia_call_raise(&call.outcomes[0]);
	PG_RETURN_INT32((int32) call.outcomes[0].count);
}

static Datum
int_of(const Call *call, int i, Oid type, bool *null)
{
	*null = false;
	return Int32GetDatum((int32) call->outcomes[i].count);
}

/* count_tokens(model text, inputs text[]) */
Datum
sophia_count_tokens_array(PG_FUNCTION_ARGS)
{
	Call call;

	if (!make_count(fcinfo, &call, true))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	sophia_result_warn(&call);
	return sophia_result_array(&call, INT4OID, int_of);
}

/* try_count_tokens(model text, input text) */
Datum
sophia_try_count_tokens(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_count);
}

/* try_count_tokens(model text, inputs text[]) */
Datum
sophia_try_count_tokens_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_count);
}

/* try_tokenizer(model text): whether its provider counts tokens */
Datum
sophia_try_tokenizer(PG_FUNCTION_ARGS)
{
	TextSpan input = {"word", 4};
	Call call = {.kind = CALL_TOKENS, .function = "check_provider", .n = 1, .inputs = &input};

	call.profile = sophia_profile_of_model(model_of(fcinfo, 0), call.function, 0, false, false);
	if (strcmp(call.profile->kind, "snowflake") == 0)
		PG_RETURN_BOOL(true); /* by a statement, which is billed */
	call.profile->estimates_tokens = false;
	call.profile->attempts = 1;
	call.profile->timeout_ms = Min(call.profile->timeout_ms, 5000);
	sophia_call_run(&call);
	if (call.outcomes[0].sqlstate != 0)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(!call.outcomes[0].estimated);
}
