/*
 * ai_sql.c
 *		SQL entry points of the AI functions: arguments to a call, and its outcomes to results.
 *
 * They run with the rights of the extension's owner, to read the profiles, and run nobody's SQL.
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "ai/call.h"
#include "ai/options.h"
#include "ai/result.h"

PG_FUNCTION_INFO_V1(sophia_complete);
PG_FUNCTION_INFO_V1(sophia_complete_messages);
PG_FUNCTION_INFO_V1(sophia_complete_array);
PG_FUNCTION_INFO_V1(sophia_try_complete);
PG_FUNCTION_INFO_V1(sophia_try_complete_messages);
PG_FUNCTION_INFO_V1(sophia_try_complete_array);
PG_FUNCTION_INFO_V1(sophia_embed_text);
PG_FUNCTION_INFO_V1(sophia_embed_text_384);
PG_FUNCTION_INFO_V1(sophia_embed_text_768);
PG_FUNCTION_INFO_V1(sophia_embed_text_1024);
PG_FUNCTION_INFO_V1(sophia_embed_text_array);
PG_FUNCTION_INFO_V1(sophia_embed_text_384_array);
PG_FUNCTION_INFO_V1(sophia_embed_text_768_array);
PG_FUNCTION_INFO_V1(sophia_embed_text_1024_array);
PG_FUNCTION_INFO_V1(sophia_try_embed_text);
PG_FUNCTION_INFO_V1(sophia_try_embed_text_array);
PG_FUNCTION_INFO_V1(sophia_try_embed_text_384);
PG_FUNCTION_INFO_V1(sophia_try_embed_text_384_array);
PG_FUNCTION_INFO_V1(sophia_try_embed_text_768);
PG_FUNCTION_INFO_V1(sophia_try_embed_text_768_array);
PG_FUNCTION_INFO_V1(sophia_try_embed_text_1024);
PG_FUNCTION_INFO_V1(sophia_try_embed_text_1024_array);
PG_FUNCTION_INFO_V1(sophia_check_model_options);

/* The arguments of a function: positions, -1 = it has none. */
typedef struct Places
{
	int model;
	int input;
	int options;
} Places;

/* ---- arguments ---- */

static bool
has_argument(FunctionCallInfo fcinfo, int place)
{
	return place >= 0 && place < PG_NARGS() && !PG_ARGISNULL(place);
}

/* Takes model and options of a call. */
static void
take_profile(Call *call, FunctionCallInfo fcinfo, const Places *places)
{
	bool has_options = has_argument(fcinfo, places->options);
	char *model = has_argument(fcinfo, places->model)
					  ? text_to_cstring(PG_GETARG_TEXT_PP(places->model))
					  : NULL;
	Datum options = (Datum) 0;

	if (has_options)
	{
		Jsonb *given = PG_GETARG_JSONB_P(places->options);

		sophia_check_call_options(given);
		options = JsonbPGetDatum(given);
	}
	call->profile = sophia_profile_of_model(model, call->function, options, has_options,
											call->kind == CALL_EMBED);
	if (call->dimensions != 0 && call->profile->dimensions != 0 &&
		call->dimensions != call->profile->dimensions)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("embeddings of model \"%s\" have %d dimensions, not %d",
							   call->profile->model, call->profile->dimensions, call->dimensions)));
}

/* The messages of a chat as text, the one input of the call. */
static void
take_messages(Call *call, Jsonb *messages)
{
	if (!JB_ROOT_IS_ARRAY(messages) || JB_ROOT_IS_SCALAR(messages) || JB_ROOT_COUNT(messages) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("messages must be a JSON array of at least one message"),
						errhint("Write '[{\"role\": \"user\", \"content\": \"...\"}]'::jsonb.")));
	call->messages = JsonbToCString(NULL, &messages->root, VARSIZE(messages));
	call->inputs = palloc(sizeof(TextSpan));
	call->inputs[0] = (TextSpan){call->messages, strlen(call->messages)};
	call->n = 1;
}

/* ---- completions ---- */

/* The places of (prompt), or of (model, prompt [, options]). */
static Places
complete_places(FunctionCallInfo fcinfo)
{
	if (PG_NARGS() == 1)
		return (Places){-1, 0, -1};
	return (Places){0, 1, 2};
}

/* CallMaker: over a prompt or an array of them */
static bool
make_prompts(FunctionCallInfo fcinfo, Call *call, bool array)
{
	Places places = complete_places(fcinfo);

	*call = (Call){.kind = CALL_CHAT, .function = "complete"};
	if (PG_ARGISNULL(places.input))
		return false;
	sophia_result_take(call, fcinfo, places.input, array);
	take_profile(call, fcinfo, &places);
	return true;
}

/* CallMaker: over messages */
static bool
make_messages(FunctionCallInfo fcinfo, Call *call, bool array)
{
	Places places = complete_places(fcinfo);

	*call = (Call){.kind = CALL_CHAT, .function = "complete"};
	if (PG_ARGISNULL(places.input))
		return false;
	take_messages(call, PG_GETARG_JSONB_P(places.input));
	take_profile(call, fcinfo, &places);
	return true;
}

static Datum
complete_one(FunctionCallInfo fcinfo, CallMaker make)
{
	Call call;

	if (!make(fcinfo, &call, false))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	if (call.outcomes[0].sqlstate != 0)
		sophia_call_raise(&call.outcomes[0]);
	PG_RETURN_TEXT_P(
		cstring_to_text_with_len(call.outcomes[0].text.text, call.outcomes[0].text.length));
}

/* complete(prompt text), complete(model text, prompt text [, options jsonb]) */
Datum
sophia_complete(PG_FUNCTION_ARGS)
{
	return complete_one(fcinfo, make_prompts);
}

/* complete(model text, messages jsonb [, options jsonb]) */
Datum
sophia_complete_messages(PG_FUNCTION_ARGS)
{
	return complete_one(fcinfo, make_messages);
}

/* complete(prompts text[]), complete(model text, prompts text[] [, options jsonb]) */
Datum
sophia_complete_array(PG_FUNCTION_ARGS)
{
	Call call;

	if (!make_prompts(fcinfo, &call, true))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	sophia_result_warn(&call);
	return sophia_result_texts(&call);
}

/* try_complete(prompt text), try_complete(model text, prompt text [, options jsonb]) */
Datum
sophia_try_complete(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_prompts);
}

/* try_complete(model text, messages jsonb [, options jsonb]) */
Datum
sophia_try_complete_messages(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_messages);
}

/* try_complete(prompts text[]), try_complete(model text, prompts text[] [, options jsonb]) */
Datum
sophia_try_complete_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_prompts);
}

/* ---- embeddings ---- */

static bool
make_embed(FunctionCallInfo fcinfo, Call *call, const Places *places, int dimensions, bool array)
{
	*call = (Call){.kind = CALL_EMBED, .function = "embed_text", .dimensions = dimensions};
	if (PG_ARGISNULL(places->input))
		return false;
	sophia_result_take(call, fcinfo, places->input, array);
	take_profile(call, fcinfo, places);
	return true;
}

static Datum
embed_one(FunctionCallInfo fcinfo, const Places *places, int dimensions)
{
	Call call;

	if (!make_embed(fcinfo, &call, places, dimensions, false))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	if (call.outcomes[0].sqlstate != 0)
		sophia_call_raise(&call.outcomes[0]);
	return sophia_result_vector(&call.outcomes[0]);
}

static Datum
embed_many(FunctionCallInfo fcinfo, const Places *places, int dimensions)
{
	Call call;

	InitMaterializedSRF(fcinfo, 0);
	if (!make_embed(fcinfo, &call, places, dimensions, true))
		return (Datum) 0;
	sophia_call_run(&call);
	sophia_result_warn(&call);
	sophia_result_vectors(fcinfo, &call);
	return (Datum) 0;
}

static const Places input_first = {.model = 1, .input = 0, .options = -1};
static const Places model_first = {.model = 0, .input = 1, .options = -1};

/* embed_text(input text, model text DEFAULT NULL) */
Datum
sophia_embed_text(PG_FUNCTION_ARGS)
{
	return embed_one(fcinfo, &input_first, 0);
}

/* embed_text(inputs text[], model text DEFAULT NULL) */
Datum
sophia_embed_text_array(PG_FUNCTION_ARGS)
{
	return embed_many(fcinfo, &input_first, 0);
}

/* embed_text_384(model text, input text) and its kin */
Datum
sophia_embed_text_384(PG_FUNCTION_ARGS)
{
	return embed_one(fcinfo, &model_first, 384);
}

Datum
sophia_embed_text_768(PG_FUNCTION_ARGS)
{
	return embed_one(fcinfo, &model_first, 768);
}

Datum
sophia_embed_text_1024(PG_FUNCTION_ARGS)
{
	return embed_one(fcinfo, &model_first, 1024);
}

/* embed_text_384(model text, inputs text[]) and its kin */
Datum
sophia_embed_text_384_array(PG_FUNCTION_ARGS)
{
	return embed_many(fcinfo, &model_first, 384);
}

Datum
sophia_embed_text_768_array(PG_FUNCTION_ARGS)
{
	return embed_many(fcinfo, &model_first, 768);
}

Datum
sophia_embed_text_1024_array(PG_FUNCTION_ARGS)
{
	return embed_many(fcinfo, &model_first, 1024);
}

/* CallMakers */
static bool
make_embed_any(FunctionCallInfo fcinfo, Call *call, bool array)
{
	return make_embed(fcinfo, call, &input_first, 0, array);
}

static bool
make_embed_384(FunctionCallInfo fcinfo, Call *call, bool array)
{
	return make_embed(fcinfo, call, &model_first, 384, array);
}

static bool
make_embed_768(FunctionCallInfo fcinfo, Call *call, bool array)
{
	return make_embed(fcinfo, call, &model_first, 768, array);
}

static bool
make_embed_1024(FunctionCallInfo fcinfo, Call *call, bool array)
{
	return make_embed(fcinfo, call, &model_first, 1024, array);
}

/* try_embed_text(input text, model text DEFAULT NULL), and of an array */
Datum
sophia_try_embed_text(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_embed_any);
}

Datum
sophia_try_embed_text_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_embed_any);
}

/* try_embed_text_384(model text, input text) and its kin, and of arrays */
Datum
sophia_try_embed_text_384(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_embed_384);
}

Datum
sophia_try_embed_text_384_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_embed_384);
}

Datum
sophia_try_embed_text_768(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_embed_768);
}

Datum
sophia_try_embed_text_768_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_embed_768);
}

Datum
sophia_try_embed_text_1024(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_embed_1024);
}

Datum
sophia_try_embed_text_1024_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_embed_1024);
}

/* check_call_options(options jsonb): raises what is wrong. */
Datum
sophia_check_model_options(PG_FUNCTION_ARGS)
{
	sophia_check_call_options(PG_GETARG_JSONB_P(0));
	PG_RETURN_VOID();
}
