/*
 * dispatch.c
 *		AI functions by name, with their arguments as a JSON array: see dispatch.h.
 *
 * A function f is found by its form try_f: the one for a text tells which arguments there are, the one for an array of texts makes
 * the call.  It is invoked as SQL would, with the rights of its owner, so there is one way from arguments to a call.
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "ai/dispatch.h"
#include "ai/result.h"

#define MOST_ARGUMENTS 8

/* A try_ function that takes certain arguments. */
typedef struct Target
{
	Oid oid;
	int n; /* of its arguments */
	Oid types[MOST_ARGUMENTS];
	int place; /* of the text */
} Target;

/* ---- arguments ---- */

/* The elements of a JSON array, at most MOST_ARGUMENTS of them. */
static int
take_elements(Jsonb *arguments, JsonbValue *elements)
{
	int n;

	if (!JB_ROOT_IS_ARRAY(arguments) || JB_ROOT_IS_SCALAR(arguments))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the arguments must be a JSON array"),
						errhint("Write jsonb_build_array('the text', 'the model').")));
	n = Min(JB_ROOT_COUNT(arguments), MOST_ARGUMENTS + 1);
	for (int i = 0; i < Min(n, MOST_ARGUMENTS); i++)
		elements[i] = *getIthJsonbValueFromContainer(&arguments->root, i);
	return n;
}

/* The members of an array of strings; false where it holds something else. */
static bool
take_strings(const JsonbValue *value, ArrayType **array)
{
	JsonbContainer *container = value->val.binary.data;
	Datum *texts;
	int n;

	if (value->type != jbvBinary || !JsonContainerIsArray(container))
		return false;
	n = JsonContainerSize(container);
	texts = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(container, i);

		if (item->type != jbvString)
			return false;
		texts[i] =
			PointerGetDatum(cstring_to_text_with_len(item->val.string.val, item->val.string.len));
	}
	*array = construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT);
	return true;
}

/* Whether a JSON value can be an argument of a type: null of any, else as the value of SQL. */
static bool
convert(const JsonbValue *value, Oid type, Datum *datum)
{
	ArrayType *array;

	*datum = (Datum) 0;
	if (value->type == jbvNull)
		return true;
	if (type == JSONBOID && value->type == jbvBinary)
		*datum = JsonbPGetDatum(JsonbValueToJsonb(unconstify(JsonbValue *, value)));
	else if (type == TEXTOID && value->type == jbvString)
		*datum =
			PointerGetDatum(cstring_to_text_with_len(value->val.string.val, value->val.string.len));
	else if (type == TEXTARRAYOID && take_strings(value, &array))
		*datum = PointerGetDatum(array);
	else
		return false;
	return true;
}

/* ---- functions ---- */

/* The place of the first argument that is not the model. */
static int
place_of_text(HeapTuple row)
{
	Oid *types;
	char **names;
	char *modes;

	(void) get_func_arg_info(row, &types, &names, &modes);
	return names != NULL && strcmp(names[0], "model") == 0 ? 1 : 0;
}

/* Whether a function, of a text or else of an array of texts, takes such arguments. */
static bool
fits(HeapTuple row, bool of_array, const JsonbValue *elements, int n, Target *target)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(row);
	Datum datum;

	if (proc->proretset != of_array || n > proc->pronargs || proc->pronargs > MOST_ARGUMENTS ||
		n < proc->pronargs - proc->pronargdefaults)
		return false;
	target->oid = proc->oid;
	target->n = proc->pronargs;
	target->place = place_of_text(row);
	memcpy(target->types, proc->proargtypes.values, sizeof(Oid) * target->n);
	for (int i = 0; i < n; i++)
	{
		Oid type = target->types[i];

		if (of_array && i == target->place)
			type = type == TEXTARRAYOID ? TEXTOID : InvalidOid;
		if (!OidIsValid(type) || !convert(&elements[i], type, &datum))
			return false;
	}
	return target->place < n;
}

/* Looks for the function; *known tells whether there is one of that name. */
static bool
find_target(const char *function, bool of_array, const JsonbValue *elements, int n, Target *target,
			bool *known)
{
	Oid namespace = get_namespace_oid("sophia", false);
	char *name = psprintf("try_%s", function);
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	bool found = false;

	for (int i = 0; i < list->n_members && !found; i++)
	{
		HeapTuple row = &list->members[i]->tuple;

		if (((Form_pg_proc) GETSTRUCT(row))->pronamespace != namespace)
			continue;
		*known = true;
		found = fits(row, of_array, elements, n, target);
	}
	ReleaseSysCacheList(list);
	return found;
}

static void
raise_no_function(const char *function, bool known)
{
	if (known)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("AI function \"%s\" does not take such arguments", function),
						errhint("See \\df sophia.%s, in its form for one text.", function)));
	ereport(
		ERROR,
		(errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("there is no AI function \"%s\"", function),
		 errhint(
			 "It is one that has a form try_..., such as sentiment or complete, named without its schema.")));
}

static void
require_execute(Oid function, Oid role)
{
	AclResult allowed = compat_function_aclcheck(function, role);

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, get_func_name(function));
}

/* The function for one text. */
static void
find_scalar(Target *target, const char *function, Jsonb *arguments, Oid role)
{
	JsonbValue elements[MOST_ARGUMENTS];
	int n = take_elements(arguments, elements);
	bool known = false;

	if (n > MOST_ARGUMENTS || !find_target(function, false, elements, n, target, &known))
		raise_no_function(function, known);
	require_execute(target->oid, role);
}

int
sophia_dispatch_check(const char *function, Jsonb *arguments, Oid role)
{
	Target target;

	find_scalar(&target, function, arguments, role);
	return target.place;
}

/* ---- calls ---- */

/* Has the function make its call; the text is `input`, which is a text[] where it takes one. */
static bool
invoke(Call *call, const Target *target, Jsonb *arguments, Datum input)
{
	LOCAL_FCINFO(fcinfo, MOST_ARGUMENTS);
	JsonbValue elements[MOST_ARGUMENTS];
	int n = take_elements(arguments, elements);
	FmgrInfo info;

	fmgr_info(target->oid, &info);
	InitFunctionCallInfoData(*fcinfo, &info, target->n, InvalidOid, NULL, NULL);
	for (int i = 0; i < target->n; i++)
	{
		fcinfo->args[i].value = (Datum) 0;
		if (i == target->place)
			fcinfo->args[i].value = input;
		else if (i < n)
			(void) convert(&elements[i], target->types[i], &fcinfo->args[i].value);
		fcinfo->args[i].isnull = fcinfo->args[i].value == (Datum) 0;
	}
	return sophia_result_make(call, fcinfo);
}

/* The one text of an array, as an argument of a type; NULL where it is. */
static Datum
only_input(ArrayType *inputs, Oid type)
{
	Datum *values;
	bool *nulls;
	int n;

	deconstruct_array(inputs, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	if (n != 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("such a call takes one input, not %d", n)));
	if (nulls[0] || type == TEXTOID)
		return nulls[0] ? (Datum) 0 : values[0];
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(values[0])));
}

bool
sophia_dispatch_make(Call *call, const char *function, Jsonb *arguments, Oid role, ArrayType *inputs)
{
	JsonbValue elements[MOST_ARGUMENTS];
	int n = take_elements(arguments, elements);
	bool known = false;
	Target target;

	find_scalar(&target, function, arguments, role);
	if (target.types[target.place] == TEXTOID &&
		find_target(function, true, elements, n, &target, &known))
		return invoke(call, &target, arguments, PointerGetDatum(inputs));
	return invoke(call, &target, arguments, only_input(inputs, target.types[target.place]));
}

bool
sophia_dispatch_is_open(const Outcome *outcome)
{
	return !outcome->skipped && outcome->sqlstate == 0 && outcome->text.text == NULL &&
		   outcome->vector == NULL && outcome->value == 0;
}

/* Every text that has no outcome fails by an error that met the call. */
static void
fail_open(Call *call, const ErrorData *error)
{
	if (call->outcomes == NULL)
	{
		(void) sophia_result_fail(call, error);
		return;
	}
	for (int i = 0; i < call->n; i++)
	{
		Outcome *outcome = &call->outcomes[i];

		if (!sophia_dispatch_is_open(outcome))
			continue;
		outcome->sqlstate = error->sqlerrcode;
		outcome->message = error->message;
	}
}

void
sophia_dispatch_run(Call *call)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		sophia_call_run(call);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			fail_open(call, error);
	}
	PG_END_TRY();
}

/* ---- results ---- */

static Oid
result_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("ai_result"),
						   ObjectIdGetDatum(get_namespace_oid("sophia", false)));
}

Oid
sophia_dispatch_results_type(void)
{
	return get_array_type(result_type());
}

Datum
sophia_dispatch_results(const Call *call, int n)
{
	Oid type = result_type();
	TupleDesc row = lookup_rowtype_tupdesc(type, -1);
	Datum *results = palloc0(sizeof(Datum) * Max(n, 1));
	bool *open = palloc(sizeof(bool) * Max(n, 1));
	int lower = 1;

	for (int i = 0; i < n; i++)
	{
		Datum values[AI_RESULT_COLUMNS] = {0};
		bool nulls[AI_RESULT_COLUMNS];

		open[i] = call->outcomes == NULL || sophia_dispatch_is_open(&call->outcomes[i]);
		if (open[i])
			continue;
		sophia_result_row(call, i, values, nulls);
		results[i] = HeapTupleGetDatum(heap_form_tuple(row, values, nulls));
	}
	ReleaseTupleDesc(row);
	return PointerGetDatum(
		construct_md_array(results, open, 1, &n, &lower, type, -1, false, TYPALIGN_DOUBLE));
}
