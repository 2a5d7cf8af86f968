/*
 * store_sql.c
 *		SQL entry points of store: DDL under the role that asked for it, from a function that has its owner's rights.
 *
 * Such a function may change the extension's tables, and must not lend its rights to what its caller has it make.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/guard.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"

PG_FUNCTION_INFO_V1(sophia_caller);
PG_FUNCTION_INFO_V1(sophia_execute_as);
PG_FUNCTION_INFO_V1(sophia_announce_table);

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

/* announce_table(relation oid): who knows what fills its columns reads that anew once this transaction has committed. */
Datum
sophia_announce_table(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}
