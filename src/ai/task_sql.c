/*
 * task_sql.c
 *		SQL entry points of the functions with a task of their own (task.h).
 *
 * All share four entry points: for a text or an array of texts, and the same as try_.  What is asked follows from the name of the
 * SQL function, and what its arguments are from theirs: the first is the text, "model", "options" and "schema" are what
 * they say, and the others are what prompts may name.
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "ai/options.h"
#include "ai/result.h"
#include "ai/task.h"

PG_FUNCTION_INFO_V1(sophia_task);
PG_FUNCTION_INFO_V1(sophia_task_array);
PG_FUNCTION_INFO_V1(sophia_try_task);
PG_FUNCTION_INFO_V1(sophia_try_task_array);
PG_FUNCTION_INFO_V1(sophia_task_joined);
PG_FUNCTION_INFO_V1(sophia_check_json_schema);

/* An SQL function, as its row in pg_proc has it. */
typedef struct Signature
{
	const Task *task;
	Oid result; /* type, or that of its elements */
	int n;
	char **names; /* of its arguments */
	Oid *types;
} Signature;

/* ---- arguments ---- */

static const Signature *
read_signature(Oid function)
{
	Signature *signature = palloc0(sizeof(Signature));
	HeapTuple row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	const char *name;
	char *modes;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	proc = (Form_pg_proc) GETSTRUCT(row);
	name = pstrdup(NameStr(proc->proname));
	signature->result = proc->prorettype;
	if (type_is_array(signature->result))
		signature->result = get_element_type(signature->result);
	(void) get_func_arg_info(row, &signature->types, &signature->names, &modes);
	signature->n = proc->pronargs;
	ReleaseSysCache(row);
	signature->task = sophia_task_find(strncmp(name, "try_", 4) == 0 ? name + 4 : name);
	if (signature->task == NULL || signature->names == NULL)
		elog(ERROR, "there is no task \"%s\"", name);
	return signature;
}

static const Signature *
signature_of(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		fcinfo->flinfo->fn_extra = (void *) read_signature(fcinfo->flinfo->fn_oid);
		MemoryContextSwitchTo(old);
	}
	return fcinfo->flinfo->fn_extra;
}

static bool
is_named(const Signature *signature, int place, const char *name)
{
	return strcmp(signature->names[place], name) == 0;
}

/* Whether an argument is one that may be left NULL. */
static bool
is_optional(const Signature *signature, int place)
{
	return is_named(signature, place, "model") || is_named(signature, place, "options");
}

static bool
is_blank(const char *text)
{
	return text[strspn(text, " \t\n\r\f\v")] == '\0';
}

/* The labels that an answer may be. */
static void
take_labels(TaskCall *task, ArrayType *array)
{
	Datum *values;
	bool *nulls;
	const char **labels;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &task->n_labels);
	labels = palloc(sizeof(char *) * Max(task->n_labels, 1));
	for (int i = 0; i < task->n_labels; i++)
	{
		labels[i] = nulls[i] ? "" : TextDatumGetCString(values[i]);
		if (is_blank(labels[i]))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("label number %d is empty", i + 1)));
		for (int j = 0; j < i; j++)
		{
			if (pg_strcasecmp(labels[i], labels[j]) == 0)
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
								errmsg("label \"%s\" is there twice", labels[i])));
		}
	}
	if (task->n_labels < 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there must be at least two labels")));
	task->labels = labels;
}

static JsonbValue
string_value(const char *text)
{
	return (JsonbValue){.type = jbvString,
						.val.string = {.val = unconstify(char *, text), .len = strlen(text)}};
}

/* A text argument that prompts may name. */
static void
push_text(JsonbParseState **state, const char *name, const char *value)
{
	JsonbValue item = string_value(value);

	/* only the language of a text may be left for the model to find */
	if (is_blank(value) && strcmp(name, "from_lang") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument %s is empty", name)));
	pushJsonbValue(state, WJB_VALUE, &item);
}

static void
push_labels(JsonbParseState **state, const TaskCall *task)
{
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < task->n_labels; i++)
	{
		JsonbValue item = string_value(task->labels[i]);

		pushJsonbValue(state, WJB_ELEM, &item);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

/* Takes the arguments other than the text, model and options. */
static void
take_arguments(TaskCall *task, FunctionCallInfo fcinfo, const Signature *signature)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int place = 1; place < signature->n; place++)
	{
		JsonbValue key = string_value(signature->names[place]);

		if (is_optional(signature, place))
			continue;
		if (is_named(signature, place, "schema"))
		{
			task->schema = PG_GETARG_JSONB_P(place);
			continue;
		}
		pushJsonbValue(&state, WJB_KEY, &key);
		if (signature->types[place] == TEXTOID)
			push_text(&state, signature->names[place], text_to_cstring(PG_GETARG_TEXT_PP(place)));
		else
		{
			take_labels(task, PG_GETARG_ARRAYTYPE_P(place));
			push_labels(&state, task);
		}
	}
	task->arguments =
		JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* ---- calls ---- */

/* CallMaker: NULL where an argument is NULL that must be there. */
static bool
make_task(FunctionCallInfo fcinfo, Call *call, bool array)
{
	const Signature *signature = signature_of(fcinfo);
	TaskCall *task = palloc0(sizeof(TaskCall));
	char *model = NULL;
	Datum options = (Datum) 0;

	*call = (Call){.kind = CALL_CHAT, .function = signature->task->prompt};
	for (int place = 0; place < signature->n; place++)
	{
		if (PG_ARGISNULL(place) && !is_optional(signature, place))
			return false;
	}
	sophia_result_take(call, fcinfo, 0, array);
	task->task = signature->task;
	take_arguments(task, fcinfo, signature);
	for (int place = 1; place < signature->n; place++)
	{
		if (is_named(signature, place, "model") && !PG_ARGISNULL(place))
			model = text_to_cstring(PG_GETARG_TEXT_PP(place));
		if (is_named(signature, place, "options") && !PG_ARGISNULL(place))
		{
			sophia_check_call_options(PG_GETARG_JSONB_P(place));
			options = PG_GETARG_DATUM(place);
		}
	}
	sophia_task_make(call, task, model, options);
	return true;
}

/* ---- results ---- */

static Datum
text_of(const JsonbValue *value)
{
	return PointerGetDatum(cstring_to_text_with_len(value->val.string.val, value->val.string.len));
}

static size_t
characters(TextSpan text)
{
	return pg_mbstrlen_with_len(text.text, text.length);
}

/* (summary, ratio, tokens_in, tokens_out) */
static Datum
summary_of(const Call *call, int i, const JsonbValue *summary, Oid type)
{
	const Outcome *outcome = &call->outcomes[i];
	TextSpan text = {summary->val.string.val, summary->val.string.len};
	Datum values[] = {text_of(summary),
					  Float8GetDatum((double) characters(text) / characters(call->inputs[i])),
					  Int64GetDatum(outcome->tokens_in), Int64GetDatum(outcome->tokens_out)};
	bool nulls[] = {false, false, outcome->tokens_in < 0, outcome->tokens_out < 0};
	TupleDesc row = lookup_rowtype_tupdesc(type, -1);
	Datum result = HeapTupleGetDatum(heap_form_tuple(row, values, nulls));

	ReleaseTupleDesc(row);
	return result;
}

/* What an outcome that is well gives as SQL. */
static Datum
datum_of(const Call *call, int i, Oid type, bool *null)
{
	Datum value = call->outcomes[i].value;
	JsonbValue scalar = {.type = jbvNull};

	*null = false;
	if (type == JSONBOID)
		return value;
	(void) JsonbExtractScalar(&DatumGetJsonbP(value)->root, &scalar);
	switch (call->task->task->value)
	{
		case TASK_SCORE:
			return DirectFunctionCall1(numeric_float8, NumericGetDatum(scalar.val.numeric));
		case TASK_TRUTH:
			*null = scalar.type == jbvNull;
			return BoolGetDatum(!*null && scalar.val.boolean);
		case TASK_SUMMARY:
			return summary_of(call, i, &scalar, type);
		default:
			return text_of(&scalar);
	}
}

/* sentiment(input text, …) and its kin */
Datum
sophia_task(PG_FUNCTION_ARGS)
{
	Call call;
	Datum result;
	bool null;

	if (!make_task(fcinfo, &call, false))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	if (call.outcomes[0].sqlstate != 0)
		sophia_call_raise(&call.outcomes[0]);
	result = datum_of(&call, 0, signature_of(fcinfo)->result, &null);
	if (null)
		PG_RETURN_NULL();
	return result;
}

/* sentiment(inputs text[], …) and its kin */
Datum
sophia_task_array(PG_FUNCTION_ARGS)
{
	Call call;

	if (!make_task(fcinfo, &call, true))
		PG_RETURN_NULL();
	sophia_call_run(&call);
	sophia_result_warn(&call);
	return sophia_result_array(&call, signature_of(fcinfo)->result, datum_of);
}

/* try_sentiment(input text, …) and its kin */
Datum
sophia_try_task(PG_FUNCTION_ARGS)
{
	return sophia_result_try(fcinfo, make_task);
}

/* try_sentiment(inputs text[], …) and its kin */
Datum
sophia_try_task_array(PG_FUNCTION_ARGS)
{
	return sophia_result_try_array(fcinfo, make_task);
}

/* The texts of an array as one, a blank line between two; NULL and blank ones are left out.  NULL where there is none. */
static text *
join_texts(ArrayType *array)
{
	StringInfoData joined;
	Datum *values;
	bool *nulls;
	int n;

	initStringInfo(&joined);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char *one = nulls[i] ? NULL : TextDatumGetCString(values[i]);

		if (one == NULL || is_blank(one))
			continue;
		appendStringInfo(&joined, "%s%s", joined.len > 0 ? "\n\n" : "", one);
		pfree(one);
	}
	return joined.len > 0 ? cstring_to_text_with_len(joined.data, joined.len) : NULL;
}

/* summarize_texts(texts text[]): the last step of the aggregate summarize_agg */
Datum
sophia_task_joined(PG_FUNCTION_ARGS)
{
	TaskCall task = {.task = sophia_task_find("summarize_agg")};
	Call call = {0};
	text *joined = PG_ARGISNULL(0) ? NULL : join_texts(PG_GETARG_ARRAYTYPE_P(0));
	bool null;

	if (joined == NULL)
		PG_RETURN_NULL();
	sophia_result_take_text(&call, joined);
	task.arguments = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	sophia_task_make(&call, &task, NULL, 0);
	sophia_call_run(&call);
	if (call.outcomes[0].sqlstate != 0)
		sophia_call_raise(&call.outcomes[0]);
	return datum_of(&call, 0, TEXTOID, &null);
}

/* check_json_schema(schema jsonb): raises what is wrong */
Datum
sophia_check_json_schema(PG_FUNCTION_ARGS)
{
	sophia_task_check_schema(PG_GETARG_JSONB_P(0));
	PG_RETURN_VOID();
}
