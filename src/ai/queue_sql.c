/*
 * queue_sql.c
 *		SQL entry points of the queue and of what else calls AI functions by name (dispatch.h).
 */
#include "postgres.h"

#include "base/compat.h"

#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "ai/dispatch.h"
#include "ai/result.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/settings.h"
#include "net/client_wait.h"
#include "shared/registry.h"

PG_FUNCTION_INFO_V1(sophia_check_call);
PG_FUNCTION_INFO_V1(sophia_call_function);
PG_FUNCTION_INFO_V1(sophia_count_columns);
PG_FUNCTION_INFO_V1(sophia_require_jobs);
PG_FUNCTION_INFO_V1(sophia_wake_jobs);
PG_FUNCTION_INFO_V1(sophia_job_result);

/* How often a session looks for the result that it waits for: soon at first. */
#define FIRST_LOOK_MS 5
#define LAST_LOOK_MS  100

/* check_call(function text, arguments jsonb): the place of the text among them */
Datum
sophia_check_call(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(sophia_dispatch_check(text_to_cstring(PG_GETARG_TEXT_PP(0)),
										  PG_GETARG_JSONB_P(1), sophia_guard_caller()));
}

/* call_function(function text, arguments jsonb, inputs text[]): results in the order of the inputs */
Datum
sophia_call_function(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ArrayType *inputs = PG_GETARG_ARRAYTYPE_P(2);
	int n = ArrayGetNItems(ARR_NDIM(inputs), ARR_DIMS(inputs));
	Call call;
	bool any;

	InitMaterializedSRF(fcinfo, 0);
	any = sophia_dispatch_make(&call, text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_JSONB_P(1),
							   sophia_guard_caller(), inputs);
	if (any)
		sophia_call_run(&call);
	for (int i = 0; i < n; i++)
	{
		Datum values[AI_RESULT_COLUMNS] = {0};
		bool nulls[AI_RESULT_COLUMNS];

		memset(nulls, true, sizeof(nulls));
		if (any)
			sophia_result_row(&call, i, values, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* count_columns(query text): those of a query that reads, as its caller; it is not run */
Datum
sophia_count_columns(PG_FUNCTION_ARGS)
{
	char *query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SPIPlanPtr plan;
	CachedPlanSource *source;
	int n;

	SPI_connect();
	plan = SPI_prepare(query, 0, NULL);
	if (plan == NULL || !SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the query does not return rows"),
				 errhint("It must be one SELECT: the key, and then the arguments.")));
	source = linitial(SPI_plan_get_plan_sources(plan));
	if (source->commandTag != CMDTAG_SELECT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the query must be a SELECT, not %s",
							   GetCommandTagName(source->commandTag))));
	n = source->resultDesc->natts;
	SPI_finish();
	PG_RETURN_INT32(n);
}

/* require_jobs(): raises 55000 where there can be no jobs worker for this database */
Datum
sophia_require_jobs(PG_FUNCTION_ARGS)
{
	if (!sophia_registry_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no jobs worker"),
				 errhint("Add sophia_stack to shared_preload_libraries and restart the server.")));
	if (!sophia_settings_list_database(get_database_name(MyDatabaseId)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("database \"%s\" has no jobs worker", get_database_name(MyDatabaseId)),
				 errhint("Add it to sophia_stack.databases and reload the configuration.")));
	PG_RETURN_VOID();
}

/* wake_jobs(): has the jobs worker look for work after the commit */
Datum
sophia_wake_jobs(PG_FUNCTION_ARGS)
{
	sophia_registry_want_jobs_at_commit();
	PG_RETURN_VOID();
}

/* ---- result ---- */

typedef enum JobState
{
	JOB_UNKNOWN, /* or another role's */
	JOB_UNCOMMITTED,
	JOB_UNFINISHED,
	JOB_FINISHED
} JobState;

/* Looks at a job by the latest snapshot, whatever the transaction's; the result in the caller's context. */
static JobState
look_at_job(int64 id, Datum *result)
{
	static SPIPlanPtr plan = NULL;
	Oid types[] = {INT8OID, OIDOID};
	Datum values[] = {Int64GetDatum(id), ObjectIdGetDatum(sophia_guard_caller())};
	JobState state = JOB_UNKNOWN;
	bool null;

	SPI_connect();
	if (plan == NULL)
	{
		SPIPlanPtr made = SPI_prepare(
			"SELECT j.result, j.finished_at IS NOT NULL, sophia.written_here(j.xmin)"
			" FROM sophia.ai_jobs AS j WHERE j.id = $1 AND pg_has_role($2, j.role, 'MEMBER')",
			2, types);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare a query: %s", SPI_result_code_string(SPI_result));
		plan = made;
	}
	if (SPI_execute_snapshot(plan, values, NULL, GetLatestSnapshot(), InvalidSnapshot, true, false,
							 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the AI queue");
	if (SPI_processed > 0)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc columns = SPI_tuptable->tupdesc;
		bool finished = DatumGetBool(SPI_getbinval(row, columns, 2, &null));
		bool here = DatumGetBool(SPI_getbinval(row, columns, 3, &null));

		state = finished ? JOB_FINISHED : here ? JOB_UNCOMMITTED : JOB_UNFINISHED;
		if (finished)
			*result = SPI_datumTransfer(SPI_getbinval(row, columns, 1, &null), false, -1);
	}
	SPI_finish();
	return state;
}

/* Milliseconds of an interval, 0 for a negative one. */
static int64
milliseconds(const Interval *interval)
{
	double days = interval->month * (double) DAYS_PER_MONTH + interval->day;

	return (int64) Min(Max(days * SECS_PER_DAY * 1000.0 + interval->time / 1000.0, 0), 1e15);
}

/* job_result(id bigint, wait interval): sophia.ai_result, NULL while it is not finished */
Datum
sophia_job_result(PG_FUNCTION_ARGS)
{
	int64 id = PG_GETARG_INT64(0);
	int64 deadline = sophia_clock_ms() + milliseconds(PG_GETARG_INTERVAL_P(1));
	long look = FIRST_LOOK_MS;
	Datum result = (Datum) 0;

	while (true)
	{
		JobState state = look_at_job(id, &result);
		int64 left = deadline - sophia_clock_ms();

		if (state == JOB_FINISHED)
			return result;
		if (state == JOB_UNKNOWN)
			ereport(
				ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("AI job " INT64_FORMAT " does not exist", id),
				 errhint(
					 "See sophia.ai_queue. Finished jobs are kept for sophia_stack.ai_queue_retention.")));
		if (state == JOB_UNCOMMITTED)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("AI job " INT64_FORMAT " was submitted in this transaction", id),
							errhint("It runs once the transaction has committed.")));
		if (left <= 0)
			PG_RETURN_NULL();
		sophia_client_wait((long) Min(left, look));
		look = Min(look * 2, LAST_LOOK_MS);
	}
}
