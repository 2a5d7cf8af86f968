/*
 * survivor_sql.c
 *		SQL entry points of survivor(): the value of the record that is to be believed, as an aggregate.
 *
 * What array_agg(value ORDER BY ...) would give in its first element, without a sort for each field of each person.
 */
#include "postgres.h"

#include "base/compat.h"
#include "fmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sophia_survivor_step_sql);
PG_FUNCTION_INFO_V1(sophia_survivor_value_sql);

/* The best value so far, and what it is preferred by. */
typedef struct Survivor
{
	text *value; /* NULL = none */
	text *record;
	int32 place; /* of the source, the most trusted first */
	int32 size;
	TimestampTz changed_at;
	bool is_deleted;
	bool is_partial; /* the record lacks some of what is chosen along with the value */
} Survivor;

/*
 * As "is_deleted, is_partial, place NULLS LAST, changed_at DESC NULLS LAST, size DESC NULLS LAST, record COLLATE "C""
 * orders them.
 */
static bool
is_preferred(const Survivor *a, const Survivor *b)
{
	int32 a_size = VARSIZE_ANY_EXHDR(a->record);
	int32 b_size = VARSIZE_ANY_EXHDR(b->record);
	int order;

	if (a->is_deleted != b->is_deleted)
		return b->is_deleted;
	if (a->is_partial != b->is_partial)
		return b->is_partial;
	if (a->place != b->place)
		return a->place < b->place;
	if (a->changed_at != b->changed_at)
		return a->changed_at > b->changed_at;
	if (a->size != b->size)
		return a->size > b->size;
	order = memcmp(VARDATA_ANY(a->record), VARDATA_ANY(b->record), Min(a_size, b_size));
	return order != 0 ? order < 0 : a_size < b_size;
}

static text *
text_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : PG_GETARG_TEXT_PP(argument);
}

static text *
copy_text(const text *value)
{
	Size size = value == NULL ? 0 : VARSIZE_ANY(value);

	return value == NULL ? NULL : memcpy(palloc(size), value, size);
}

/* survivor_step(state, value, is_deleted, is_partial, place, changed_at, size, record) */
Datum
sophia_survivor_step_sql(PG_FUNCTION_ARGS)
{
	Survivor *best = PG_ARGISNULL(0) ? NULL : (Survivor *) PG_GETARG_POINTER(0);
	Survivor offered = {
		.value = text_argument(fcinfo, 1),
		.is_deleted = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2),
		.is_partial = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3),
		.place = PG_ARGISNULL(4) ? PG_INT32_MAX : PG_GETARG_INT32(4),
		.changed_at = PG_ARGISNULL(5) ? PG_INT64_MIN : PG_GETARG_TIMESTAMPTZ(5),
		.size = PG_ARGISNULL(6) ? -1 : PG_GETARG_INT32(6),
		.record = text_argument(fcinfo, 7),
	};
	MemoryContext context;
	MemoryContext caller;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "survivor_step was not called by an aggregate");
	if (offered.record == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("record must not be null")));
	if (best != NULL && !is_preferred(&offered, best))
		PG_RETURN_POINTER(best);
	caller = MemoryContextSwitchTo(context);
	if (best == NULL)
		best = palloc0(sizeof(Survivor));
	offered.value = copy_text(offered.value);
	offered.record = copy_text(offered.record);
	*best = offered;
	MemoryContextSwitchTo(caller);
	PG_RETURN_POINTER(best);
}

/* survivor_value(state) */
Datum
sophia_survivor_value_sql(PG_FUNCTION_ARGS)
{
	Survivor *best = PG_ARGISNULL(0) ? NULL : (Survivor *) PG_GETARG_POINTER(0);

	if (best == NULL || best->value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(best->value);
}
