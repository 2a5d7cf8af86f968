/*
 * flow_sql.c
 *		SQL entry points of the ingest: what sql/40_streams.sql cannot say in SQL.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/settings.h"
#include "flow/address.h"
#include "flow/conversion.h"
#include "shared/registry.h"

PG_FUNCTION_INFO_V1(sophia_library_version);
PG_FUNCTION_INFO_V1(sophia_check_address);
PG_FUNCTION_INFO_V1(sophia_check_secret);
PG_FUNCTION_INFO_V1(sophia_conversion_of_type);
PG_FUNCTION_INFO_V1(sophia_worker_missing);
PG_FUNCTION_INFO_V1(sophia_notify_workers);
PG_FUNCTION_INFO_V1(sophia_written_here);
PG_FUNCTION_INFO_V1(sophia_ask_worker);
PG_FUNCTION_INFO_V1(sophia_worker_pid);
PG_FUNCTION_INFO_V1(sophia_worker_list);

#define LONGEST_TIMEOUT_S	1e9
#define WORKER_LIST_COLUMNS 8

Datum
sophia_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(SOPHIA_STACK_VERSION));
}

/* check_address(kind text, address text): raises what is wrong. */
Datum
sophia_check_address(PG_FUNCTION_ARGS)
{
	char *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *address = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (strcmp(kind, "broker") == 0)
		sophia_check_broker_address(address);
	else if (strcmp(kind, "estuary") == 0)
		sophia_check_estuary_address(address);
	else if (strcmp(kind, "fragments") == 0)
		sophia_check_fragments_address(address);
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown kind of endpoint \"%s\"", kind),
						errhint("The kinds are \"estuary\", \"broker\" and \"fragments\".")));
	PG_RETURN_VOID();
}

/* check_secret(reference text, what text): raises what is wrong. */
Datum
sophia_check_secret(PG_FUNCTION_ARGS)
{
	sophia_check_secret_reference(text_to_cstring(PG_GETARG_TEXT_PP(0)),
								  text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/* conversion_of(column_type regtype): name of the conversion that fills such a column; NULL where none can. */
Datum
sophia_conversion_of_type(PG_FUNCTION_ARGS)
{
	const char *name = sophia_conversion_of(PG_GETARG_OID(0));

	if (name == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* worker_missing(): NULL where this database has workers by configuration, else what to do about it. */
Datum
sophia_worker_missing(PG_FUNCTION_ARGS)
{
	char *database = get_database_name(MyDatabaseId);

	if (!sophia_registry_available())
		PG_RETURN_TEXT_P(cstring_to_text(
			"Add sophia_stack to shared_preload_libraries and restart the server."));
	if (!sophia_settings_list_database(database))
		PG_RETURN_TEXT_P(cstring_to_text(psprintf(
			"Add \"%s\" to sophia_stack.databases and reload the configuration.", database)));
	PG_RETURN_NULL();
}

/* notify_workers(): they read endpoints and streams anew once this transaction has committed. */
Datum
sophia_notify_workers(PG_FUNCTION_ARGS)
{
	sophia_registry_notify_at_commit();
	PG_RETURN_VOID();
}

/* written_here(xid): whether the current transaction wrote the row with that xmin, so that nobody else sees it yet. */
Datum
sophia_written_here(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(TransactionIdIsCurrentTransactionId(PG_GETARG_TRANSACTIONID(0)));
}

static RequestKind
request_kind(const char *name)
{
	if (strcmp(name, "await_stream") == 0)
		return REQUEST_AWAIT_STREAM;
	if (strcmp(name, "check_endpoint") == 0)
		return REQUEST_CHECK_ENDPOINT;
	if (strcmp(name, "collections") == 0)
		return REQUEST_COLLECTIONS;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown request \"%s\"", name),
			 errhint("The requests are \"await_stream\", \"check_endpoint\" and \"collections\".")));
}

/*
 * ask_worker(request text, name text, timeout float8): one row (answered, sqlstate, answer); sqlstate is NULL when
 * the request succeeded, else answer is the message.
 */
Datum
sophia_ask_worker(PG_FUNCTION_ARGS)
{
	RequestKind kind = request_kind(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	float8 timeout = PG_GETARG_FLOAT8(2);
	TupleDesc descriptor;
	Datum values[3] = {0};
	bool nulls[3] = {false, true, true};
	int sqlstate = 0;
	char *answer = NULL;
	bool answered;

	if (!sophia_registry_available() || strlen(name) >= SOPHIA_REQUEST_NAME)
		elog(ERROR, "request to a worker that cannot be made");
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	timeout = timeout > 0 ? Min(timeout, LONGEST_TIMEOUT_S) : 0;
	answered = sophia_registry_ask(kind, name, (int64) (timeout * 1000), &sqlstate, &answer);
	values[0] = BoolGetDatum(answered);
	if (answered && sqlstate != 0)
	{
		values[1] = CStringGetTextDatum(unpack_sql_state(sqlstate));
		nulls[1] = false;
	}
	if (answered)
	{
		values[2] = CStringGetTextDatum(answer);
		nulls[2] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

/*
 * worker_pid(worker integer): of the ingest worker of this database that has this number, or of the first one (NULL);
 * NULL = it does not run.
 */
Datum
sophia_worker_pid(PG_FUNCTION_ARGS)
{
	int index = PG_ARGISNULL(0) ? -1 : PG_GETARG_INT32(0);
	int pid = PG_ARGISNULL(0) || index >= 0 ? sophia_registry_worker_pid(MyDatabaseId, index) : 0;

	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}

static void
put_launcher(ReturnSetInfo *result)
{
	Datum values[WORKER_LIST_COLUMNS] = {0};
	bool nulls[WORKER_LIST_COLUMNS];
	int pid = sophia_registry_launcher_pid();

	memset(nulls, true, sizeof(nulls));
	values[0] = CStringGetTextDatum("sophia_stack launcher");
	values[3] = Int32GetDatum(pid);
	values[4] = CStringGetTextDatum(pid != 0 ? "running" : "idle");
	nulls[0] = nulls[4] = false;
	nulls[3] = pid == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_worker(ReturnSetInfo *result, const WorkerSlot *worker)
{
	static const char *const states[] = {"idle", "starting", "running"};
	static const char *const kinds[WORKER_KINDS] = {[WORKER_INGEST] = "sophia_stack ingest",
													[WORKER_GATEWAY] = "sophia_stack gateway",
													[WORKER_JOBS] = "sophia_stack jobs"};
	Datum values[WORKER_LIST_COLUMNS];
	bool nulls[WORKER_LIST_COLUMNS] = {false};

	values[0] = CStringGetTextDatum(kinds[worker->kind]);
	values[1] = ObjectIdGetDatum(worker->database);
	values[2] = Int32GetDatum(worker->index);
	values[3] = Int32GetDatum(worker->pid);
	values[4] = CStringGetTextDatum(states[worker->state]);
	values[5] = TimestampTzGetDatum(worker->started_at);
	values[6] = Int32GetDatum(worker->failures);
	values[7] = TimestampTzGetDatum(
		GetCurrentTimestamp() + Max(worker->next_start - sophia_clock_ms(), 0) * INT64CONST(1000));
	nulls[1] = nulls[2] = !OidIsValid(worker->database);
	nulls[3] = worker->pid == 0;
	nulls[5] = worker->started_at == 0;
	nulls[7] = worker->state != WORKER_IDLE;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* worker_list(): the launcher and every place of a worker; nothing without preload. */
Datum
sophia_worker_list(PG_FUNCTION_ARGS)
{
	WorkerSlot *workers;

	InitMaterializedSRF(fcinfo, 0);
	if (!sophia_registry_available())
		return (Datum) 0;

	workers = palloc(sizeof(WorkerSlot) * SOPHIA_WORKER_SLOTS);
	sophia_registry_copy_workers(workers);
	put_launcher((ReturnSetInfo *) fcinfo->resultinfo);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		if (workers[i].kind != WORKER_NONE)
			put_worker((ReturnSetInfo *) fcinfo->resultinfo, &workers[i]);
	}
	return (Datum) 0;
}
