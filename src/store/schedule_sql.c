/*
 * schedule_sql.c
 *		SQL entry points of store that have a short worker do something: see errand.h.
 *
 * They act as the superuser of the cluster, or as any role, so they serve the extension's own functions only, which check
 * what their callers may: whoever calls one has to be a superuser by then.
 */
#include "postgres.h"

#include "base/compat.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "store/errand.h"

PG_FUNCTION_INFO_V1(sophia_ask_database);
PG_FUNCTION_INFO_V1(sophia_tell_database);
PG_FUNCTION_INFO_V1(sophia_run_job_apart);

static void
check_superuser(void)
{
	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("only a superuser may have a background worker act")));
}

/* ask_database(database text, statement text, trial boolean): the first value as text; a trial is rolled back. */
Datum
sophia_ask_database(PG_FUNCTION_ARGS)
{
	ErrandKind kind = PG_GETARG_BOOL(2) ? ERRAND_TRIAL : ERRAND_STATEMENT;

	check_superuser();
	PG_RETURN_TEXT_P(cstring_to_text(
		sophia_errand_run(kind, get_database_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), false),
						  InvalidOid, text_to_cstring(PG_GETARG_TEXT_PP(1)))));
}

/* tell_database(database text, statement text): once the transaction has committed. */
Datum
sophia_tell_database(PG_FUNCTION_ARGS)
{
	check_superuser();
	sophia_errand_at_commit(get_database_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), false),
							text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/* run_job_apart(job text, owner oid, now boolean): what end_job_run says of the run. */
Datum
sophia_run_job_apart(PG_FUNCTION_ARGS)
{
	ErrandKind kind = PG_GETARG_BOOL(2) ? ERRAND_JOB_NOW : ERRAND_JOB;

	check_superuser();
	PG_RETURN_TEXT_P(cstring_to_text(sophia_errand_run(kind, MyDatabaseId, PG_GETARG_OID(1),
													   text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}
