/*
 * errand.c
 *		Starting errands: see errand.h; errand_worker.c runs them.
 *
 * One that waits for the commit has its segment from the start, pinned: nothing at the end of a transaction may fail, and all
 * that is left to do there is to register the worker.  Those of a subtransaction that is rolled back go with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "store/errand.h"

typedef struct Pending
{
	dsm_handle segment;
	SubTransactionId subtransaction;
} Pending;

static List *pending =
	NIL; /* of Pending *, in TopMemoryContext; in the order in which they were asked for */

static dsm_segment *
make_segment(ErrandKind kind, Oid database, Oid role, const char *text)
{
	Size size = strlen(text) + 1;
	dsm_segment *segment = dsm_create(offsetof(Errand, text) + size, 0);
	Errand *errand = dsm_segment_address(segment);

	errand->kind = kind;
	errand->database = database;
	errand->role = role;
	errand->pinned = false;
	errand->answered = false;
	errand->sqlstate = 0;
	errand->answer[0] = '\0';
	memcpy(errand->text, text, size);
	return segment;
}

static bool
register_worker(dsm_handle segment, bool job, pid_t notify, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "sophia_stack", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sophia_errand_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, job ? "sophia_stack job" : "sophia_stack errand", BGW_MAXLEN);
	strlcpy(worker.bgw_type, worker.bgw_name, BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(segment);
	worker.bgw_notify_pid = notify;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* ---- those that are waited for ---- */

static void
end_worker(int code, Datum handle)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(handle));
}

static char *
take_answer(const Errand *errand)
{
	if (!errand->answered)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the background worker ended without an answer"),
						errhint("The server's log says why.")));
	if (errand->sqlstate != 0)
		ereport(ERROR, (errcode(errand->sqlstate), errmsg("%s", errand->answer)));
	return pstrdup(errand->answer);
}

char *
sophia_errand_run(ErrandKind kind, Oid database, Oid role, const char *text)
{
	bool job = kind == ERRAND_JOB || kind == ERRAND_JOB_NOW;
	dsm_segment *segment;
	BackgroundWorkerHandle *handle;
	char *answer;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("a standby starts no background worker")));
	segment = make_segment(kind, database, role, text);
	if (!register_worker(dsm_segment_handle(segment), job, MyProcPid, &handle))
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("out of background worker slots"),
						errhint("Increase max_worker_processes.")));
	PG_ENSURE_ERROR_CLEANUP(end_worker, PointerGetDatum(handle));
	{
		(void) WaitForBackgroundWorkerShutdown(handle);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_worker, PointerGetDatum(handle));
	answer = take_answer(dsm_segment_address(segment));
	dsm_detach(segment);
	return answer;
}

/* ---- those that wait for the commit ---- */

static void
start_pending(const Pending *entry)
{
	BackgroundWorkerHandle *handle;

	if (register_worker(entry->segment, false, 0, &handle))
		return;
	dsm_unpin_segment(entry->segment);
	ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("pg_cron was not told of the change: out of background worker slots"),
					  errhint("Increase max_worker_processes, then call sophia.schedule again.")));
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	ListCell *cell;

	if (pending == NIL)
		return;
	if (event == XACT_EVENT_PRE_PREPARE)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has scheduled jobs")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	foreach(cell, pending)
	{
		if (event == XACT_EVENT_COMMIT)
			start_pending(lfirst(cell));
		else
			dsm_unpin_segment(((Pending *) lfirst(cell))->segment);
	}
	list_free_deep(pending);
	pending = NIL;
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	ListCell *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, pending)
	{
		Pending *entry = lfirst(cell);

		if (entry->subtransaction != mine)
			continue;
		entry->subtransaction = parent;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			continue;
		dsm_unpin_segment(entry->segment);
		pfree(entry);
		pending = foreach_delete_current(pending, cell);
	}
}

static void
watch_transactions(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	registered = true;
}

void
sophia_errand_at_commit(Oid database, const char *statement)
{
	dsm_segment *segment = make_segment(ERRAND_STATEMENT, database, InvalidOid, statement);
	MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);
	Pending *entry = palloc(sizeof(Pending));

	watch_transactions();
	dsm_pin_segment(segment);
	((Errand *) dsm_segment_address(segment))->pinned = true;
	entry->segment = dsm_segment_handle(segment);
	entry->subtransaction = GetCurrentSubTransactionId();
	pending = lappend(pending, entry);
	MemoryContextSwitchTo(previous);
	dsm_detach(segment);
}
