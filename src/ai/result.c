/*
 * result.c
 *		The outcomes of a call as results of SQL functions: see result.h.
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "ai/result.h"

/* The columns of sophia.ai_result. */
enum
{
	RESULT_VALUE,
	RESULT_ERROR_CODE,
	RESULT_ERROR,
	RESULT_PROVIDER,
	RESULT_MODEL,
	RESULT_TOKENS_IN,
	RESULT_TOKENS_OUT,
	RESULT_COST,
	RESULT_CACHED,
	RESULT_MS,
	RESULT_ORD,
	RESULT_PROMPT_VERSION,
	RESULT_COLUMNS
};

StaticAssertDecl(RESULT_COLUMNS == AI_RESULT_COLUMNS, "result.h knows the number of columns");

/* Where the call of a try_ function goes that is made and not run; NULL = it is run. */
static Call *made_into = NULL;
static bool made_any;

static Datum
text_datum(TextSpan span)
{
	return PointerGetDatum(cstring_to_text_with_len(span.text, span.length));
}

static TextSpan
span_of(const text *value)
{
	return (TextSpan){VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

void
sophia_result_take_text(Call *call, const text *input)
{
	call->inputs = palloc(sizeof(TextSpan));
	call->inputs[0] = span_of(input);
	call->n = 1;
}

void
sophia_result_take_array(Call *call, ArrayType *array)
{
	Datum *values;
	bool *nulls;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the array of texts must have one dimension")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &call->n);
	call->inputs = palloc0(sizeof(TextSpan) * Max(call->n, 1));
	for (int i = 0; i < call->n; i++)
	{
		if (!nulls[i])
			call->inputs[i] = span_of(DatumGetTextPP(values[i]));
	}
}

void
sophia_result_take(Call *call, FunctionCallInfo fcinfo, int place, bool array)
{
	if (array)
		sophia_result_take_array(call, PG_GETARG_ARRAYTYPE_P(place));
	else
		sophia_result_take_text(call, PG_GETARG_TEXT_PP(place));
}

/* ---- results ---- */

void
sophia_result_warn(const Call *call)
{
	const Outcome *first = NULL;
	int failed = 0;
	int asked = 0;

	for (int i = 0; i < call->n; i++)
	{
		const Outcome *outcome = &call->outcomes[i];

		asked += !outcome->skipped;
		failed += outcome->sqlstate != 0;
		if (outcome->sqlstate != 0 && first == NULL)
			first = outcome;
	}
	if (failed == 0)
		return;
	if (failed == asked)
		sophia_call_raise(first);
	ereport(WARNING, (errcode(first->sqlstate),
					  errmsg("%d of %d texts failed, first number %d: %s", failed, asked,
							 (int) (first - call->outcomes) + 1, first->message),
					  first->detail != NULL ? errdetail_internal("%s", first->detail) : 0));
}

Datum
sophia_result_array(const Call *call, Oid type, ResultMaker maker)
{
	Datum *values = palloc0(sizeof(Datum) * Max(call->n, 1));
	bool *nulls = palloc(sizeof(bool) * Max(call->n, 1));
	int lower = 1;
	int16 length;
	bool by_value;
	char align;

	if (call->n == 0)
		return PointerGetDatum(construct_empty_array(type));
	for (int i = 0; i < call->n; i++)
	{
		nulls[i] = call->outcomes[i].skipped || call->outcomes[i].sqlstate != 0;
		if (!nulls[i])
			values[i] = maker(call, i, type, &nulls[i]);
	}
	get_typlenbyvalalign(type, &length, &by_value, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, (int *) &call->n, &lower, type,
											  length, by_value, align));
}

static Datum
text_maker(const Call *call, int i, Oid type, bool *null)
{
	*null = false;
	return text_datum(call->outcomes[i].text);
}

Datum
sophia_result_texts(const Call *call)
{
	return sophia_result_array(call, TEXTOID, text_maker);
}

Datum
sophia_result_vector(const Outcome *outcome)
{
	Size bytes = sizeof(float) * outcome->dimensions;
	ArrayType *array = palloc0(ARR_OVERHEAD_NONULLS(1) + bytes);

	SET_VARSIZE(array, ARR_OVERHEAD_NONULLS(1) + bytes);
	array->ndim = 1;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = outcome->dimensions;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), outcome->vector, bytes);
	return PointerGetDatum(array);
}

void
sophia_result_vectors(FunctionCallInfo fcinfo, const Call *call)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < call->n; i++)
	{
		const Outcome *outcome = &call->outcomes[i];
		bool nulls[2] = {false, outcome->vector == NULL};
		Datum values[2] = {Int64GetDatum(i + 1), (Datum) 0};

		if (!nulls[1])
			values[1] = sophia_result_vector(outcome);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		if (!nulls[1])
			pfree(DatumGetPointer(values[1]));
	}
}

/* ---- sophia.ai_result ---- */

/* A number of a vector in the fewest digits that give it again. */
static Numeric
numeric_of(float number)
{
	Datum digits = DirectFunctionCall1(float4out, Float4GetDatum(number));

	return DatumGetNumeric(
		DirectFunctionCall3(numeric_in, digits, ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static Datum
value_of(const Outcome *outcome)
{
	JsonbParseState *state = NULL;
	JsonbValue item;

	if (outcome->value != 0)
		return outcome->value;
	if (outcome->vector == NULL)
	{
		item.type = jbvString;
		item.val.string.val = unconstify(char *, outcome->text.text);
		item.val.string.len = outcome->text.length;
		return JsonbPGetDatum(JsonbValueToJsonb(&item));
	}
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < outcome->dimensions; i++)
	{
		item.type = jbvNumeric;
		item.val.numeric = numeric_of(outcome->vector[i]);
		pushJsonbValue(&state, WJB_ELEM, &item);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

void
sophia_result_row(const Call *call, int i, Datum *values, bool *nulls)
{
	const Outcome *outcome = &call->outcomes[i];
	const Profile *profile = outcome->profile != NULL ? outcome->profile : call->profile;
	bool failed = outcome->sqlstate != 0;

	memset(nulls, true, sizeof(bool) * RESULT_COLUMNS);
	values[RESULT_ORD] = Int64GetDatum(i + 1);
	nulls[RESULT_ORD] = false;
	if (outcome->skipped)
		return;
	nulls[RESULT_PROVIDER] = nulls[RESULT_MODEL] = profile == NULL;
	if (profile != NULL)
	{
		values[RESULT_PROVIDER] = CStringGetTextDatum(profile->provider);
		values[RESULT_MODEL] = CStringGetTextDatum(profile->model);
	}
	values[RESULT_TOKENS_IN] = Int64GetDatum(outcome->tokens_in);
	values[RESULT_TOKENS_OUT] = Int64GetDatum(outcome->tokens_out);
	values[RESULT_CACHED] = BoolGetDatum(outcome->cached);
	values[RESULT_MS] = Float8GetDatum(outcome->ms);
	if (call->prompt != NULL)
	{
		values[RESULT_PROMPT_VERSION] = Int32GetDatum(call->prompt->version);
		nulls[RESULT_PROMPT_VERSION] = false;
	}
	nulls[RESULT_CACHED] = nulls[RESULT_MS] = false;
	nulls[RESULT_TOKENS_IN] = failed || outcome->tokens_in < 0;
	nulls[RESULT_TOKENS_OUT] = failed || outcome->tokens_out < 0;
	if (failed)
	{
		values[RESULT_ERROR_CODE] = CStringGetTextDatum(unpack_sql_state(outcome->sqlstate));
		values[RESULT_ERROR] = CStringGetTextDatum(outcome->message);
		nulls[RESULT_ERROR_CODE] = nulls[RESULT_ERROR] = false;
		return;
	}
	values[RESULT_VALUE] = value_of(outcome);
	nulls[RESULT_VALUE] = false;
	nulls[RESULT_COST] = !sophia_call_cost(profile, outcome, &values[RESULT_COST]);
}

/* Whether an error tells of the call, and was raised where nothing was held; others go their way. */
static bool
is_of_call(int sqlstate)
{
	static const int of_calls[] = {
		ERRCODE_INVALID_PARAMETER_VALUE,
		ERRCODE_NULL_VALUE_NOT_ALLOWED,
		ERRCODE_INVALID_REGULAR_EXPRESSION,
		ERRCODE_FEATURE_NOT_SUPPORTED,
		ERRCODE_UNDEFINED_OBJECT,
		ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
		ERRCODE_PROGRAM_LIMIT_EXCEEDED,
		ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
		ERRCODE_INSUFFICIENT_PRIVILEGE,
		ERRCODE_SYSTEM_ERROR,
	};

	for (size_t i = 0; i < lengthof(of_calls); i++)
	{
		if (of_calls[i] == sqlstate)
			return true;
	}
	return false;
}

/* Every text of a call fails by an error that met the call. */
static void
fail_all(Call *call, const ErrorData *error)
{
	if (call->inputs == NULL)
	{
		call->n = 1;
		call->inputs = palloc0(sizeof(TextSpan));
		call->inputs[0].text = "";
	}
	call->n -= call->n_others;
	call->outcomes = palloc0(sizeof(Outcome) * Max(call->n, 1));
	for (int i = 0; i < call->n; i++)
	{
		Outcome *outcome = &call->outcomes[i];

		outcome->tokens_in = outcome->tokens_out = -1;
		outcome->skipped = call->inputs[i].text == NULL;
		if (outcome->skipped)
			continue;
		outcome->sqlstate = error->sqlerrcode;
		outcome->message = error->message;
	}
}

bool
sophia_result_fail(Call *call, const ErrorData *error)
{
	if (!is_of_call(error->sqlerrcode))
		return false;
	fail_all(call, error);
	return true;
}

/* Makes a call and runs it; its errors become those of its texts. */
static bool
attempt(FunctionCallInfo fcinfo, CallMaker make, Call *call, bool array)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool any = true;

	memset(call, 0, sizeof(Call));
	PG_TRY();
	{
		any = make(fcinfo, call, array);
		if (any)
			sophia_call_run(call);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!sophia_result_fail(call, error))
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return any;
}

bool
sophia_result_make(Call *call, FunctionCallInfo fcinfo)
{
	memset(call, 0, sizeof(Call));
	made_into = call;
	made_any = false;
	PG_TRY();
	{
		(void) FunctionCallInvoke(fcinfo);
	}
	PG_FINALLY();
	{
		made_into = NULL;
	}
	PG_END_TRY();
	return made_any;
}

/* Whether the call was only to be made. */
static bool
is_only_made(FunctionCallInfo fcinfo, CallMaker make, bool array)
{
	if (made_into == NULL)
		return false;
	made_any = make(fcinfo, made_into, array);
	return true;
}

Datum
sophia_result_try(FunctionCallInfo fcinfo, CallMaker make)
{
	Datum values[RESULT_COLUMNS] = {0};
	bool nulls[RESULT_COLUMNS];
	TupleDesc row;
	Call call;

	if (is_only_made(fcinfo, make, false))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result is no composite type");
	if (!attempt(fcinfo, make, &call, false))
		PG_RETURN_NULL();
	sophia_result_row(&call, 0, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
}

Datum
sophia_result_try_array(FunctionCallInfo fcinfo, CallMaker make)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Call call;

	if (is_only_made(fcinfo, make, true))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	if (!attempt(fcinfo, make, &call, true))
		return (Datum) 0;
	for (int i = 0; i < call.n; i++)
	{
		Datum values[RESULT_COLUMNS] = {0};
		bool nulls[RESULT_COLUMNS];

		sophia_result_row(&call, i, values, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
