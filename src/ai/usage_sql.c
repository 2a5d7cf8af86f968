/*
 * usage_sql.c
 *		SQL entry points of what AI calls have used.
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "shared/usage.h"

PG_FUNCTION_INFO_V1(sophia_pending_usage);

#define COLUMNS 11

/* The name of a role, also of one that was dropped: as pg_get_userbyid gives it. */
static Datum
role_name(Oid role)
{
	return DirectFunctionCall1(pg_get_userbyid, ObjectIdGetDatum(role));
}

static Datum
cost_datum(int64 units)
{
	return DirectFunctionCall2(numeric_div, NumericGetDatum(int64_to_numeric(units)),
							   NumericGetDatum(int64_to_numeric(INT64CONST(1000000000000))));
}

/* pending_usage(): what shared memory holds of this database. */
Datum
sophia_pending_usage(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	UsageEntry *entries;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	n = sophia_usage_copy(MyDatabaseId, &entries);
	for (int i = 0; i < n; i++)
	{
		const UsageCounts *counts = &entries[i].counts;
		bool nulls[COLUMNS] = {false};
		Datum values[COLUMNS] = {
			TimestampTzGetDatum(entries[i].key.hour),
			role_name(entries[i].key.role),
			CStringGetTextDatum(entries[i].key.function),
			CStringGetTextDatum(entries[i].key.model),
			Int64GetDatum(counts->calls),
			Int64GetDatum(counts->cache_hits),
			Int64GetDatum(counts->tokens_in),
			Int64GetDatum(counts->tokens_out),
			Int64GetDatum(counts->errors),
			Int64GetDatum(counts->ms),
			cost_datum(counts->cost),
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
