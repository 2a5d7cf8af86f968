/*
 * store_sql.c
 *		SQL entry points of store: statements under the role that asked for them, from a function that has its owner's
 *		rights.
 *
 * Such a function may change the extension's tables, and must not lend its rights to what its caller has it make or ask.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/guard.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"

PG_FUNCTION_INFO_V1(sophia_caller);
PG_FUNCTION_INFO_V1(sophia_execute_as);
PG_FUNCTION_INFO_V1(sophia_query_as);
PG_FUNCTION_INFO_V1(sophia_write_as);
PG_FUNCTION_INFO_V1(sophia_announce_table);

#define ROWS_AT_ONCE 1000 /* rows of a query in memory at a time */

/* caller(): the role of the session, as SET ROLE left it, whoever's function runs. */
Datum
sophia_caller(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(sophia_guard_caller());
}

/* execute_as(role regrole, statement text): one statement, in a security-restricted context. */
Datum
sophia_execute_as(PG_FUNCTION_ARGS)
{
	char *statement = text_to_cstring(PG_GETARG_TEXT_PP(1));
	GuardState state;
	int rc;

	SPI_connect();
	sophia_guard_become(PG_GETARG_OID(0), &state);
	rc = SPI_execute(statement, false, 0);
	sophia_guard_restore(&state);
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", statement, SPI_result_code_string(rc));
	SPI_finish();
	PG_RETURN_VOID();
}

static void
put_found(ReturnSetInfo *result, int64 place, Datum found, bool is_null)
{
	Datum values[2] = {Int64GetDatum(place), found};
	bool nulls[2] = {false, is_null};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Adds what the next rows of a query found, and returns how many rows there are now in all. */
static int64
put_next(ReturnSetInfo *result, Portal portal, int64 seen)
{
	SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool is_null;
		Datum found = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &is_null);

		seen++;
		if (!is_null)
			put_found(result, seen, found, false);
	}
	SPI_freetuptable(SPI_tuptable);
	return seen;
}

/*
 * query_as(role oid, statement text, argument jsonb): a query that only reads, in a security-restricted context; $1 is
 * the argument.  Its first column is jsonb.  Where that is NULL the row is only counted, so that a pass over a table
 * costs memory for what it found; a last row without a result has the number of all.
 */
Datum
sophia_query_as(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid type = JSONBOID;
	Datum argument = PG_GETARG_DATUM(2);
	char argument_null = PG_ARGISNULL(2) ? 'n' : ' ';
	GuardState state;
	SPIPlanPtr plan;
	Portal portal;
	int64 seen = 0;
	int64 before;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("role and statement must not be null")));
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	sophia_guard_become(PG_GETARG_OID(0), &state);
	plan = SPI_prepare(text_to_cstring(PG_GETARG_TEXT_PP(1)), 1, &type);
	if (plan == NULL)
		elog(ERROR, "could not prepare the query: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, &argument, &argument_null, true);
	do
	{
		before = seen;
		seen = put_next(result, portal, seen);
	} while (seen > before);
	SPI_cursor_close(portal);
	sophia_guard_restore(&state);
	SPI_finish();
	put_found(result, seen, (Datum) 0, true);
	return (Datum) 0;
}

/* write_as(role oid, statement text, argument jsonb): a statement that returns jsonb, in a security-restricted context. */
Datum
sophia_write_as(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *statement = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid type = JSONBOID;
	Datum argument = PG_GETARG_DATUM(2);
	GuardState state;
	int rc;

	/* it acts as any role, so it serves functions of the extension's owner only */
	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("only a superuser may write as another role")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	SPI_connect();
	sophia_guard_become(PG_GETARG_OID(0), &state);
	rc = SPI_execute_with_args(statement, 1, &type, &argument, NULL, false, 0);
	sophia_guard_restore(&state);
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", statement, SPI_result_code_string(rc));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool is_null;
		Datum found = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &is_null);

		tuplestore_putvalues(result->setResult, result->setDesc, &found, &is_null);
	}
	SPI_finish();
	return (Datum) 0;
}

/* announce_table(relation oid): who knows what fills its columns reads that anew once this transaction has committed. */
Datum
sophia_announce_table(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}
