/*
 * launcher.c
 *		Keeps the gateway running, and the workers that sophia_stack.databases and sophia_stack.ingest_workers ask for.
 *
 * Each cycle compares the wanted workers with the places in shared memory, and acts on the difference; it keeps nothing of
 * its own that matters, so a launcher that was restarted finds the workers of its predecessor in their
 * places.  Workers are never restarted by the postmaster: when, is decided here, by the backoff in their place.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/settings.h"
#include "shared/launcher.h"
#include "shared/registry.h"
#include "shared/usage.h"

#define LONGEST_NAP_MS 60000 /* between two looks at the databases, when nothing calls for one */
#define TROUBLE_NAP_MS 10000 /* the same, while something wanted is missing */
#define START_LIMIT_MS 30000 /* a process of a predecessor that has not come by then never will */

/* The processes, by kind: entry point and backend_type. */
static const struct
{
	const char *function;
	const char *type;
} kinds[WORKER_KINDS] = {
	[WORKER_INGEST] = {"sophia_ingest_main", "sophia_stack ingest"},
	[WORKER_GATEWAY] = {"sophia_gateway_main", "sophia_stack gateway"},
	[WORKER_JOBS] = {"sophia_jobs_main", "sophia_stack jobs"},
};

/* A database that is listed. */
typedef struct Wanted
{
	char *name;
	Oid database; /* InvalidOid = there is none of that name */
} Wanted;

/* Handles of the processes that this launcher registered, by place. */
static BackgroundWorkerHandle *handles[SOPHIA_WORKER_SLOTS];

/* What was already warned of, so that it is said once; forgotten when it is over or the settings are read anew. */
static List *names_warned = NIL; /* of char *, in TopMemoryContext */
static bool slots_warned = false;
static bool places_warned = false;

void
sophia_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "sophia_stack", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sophia_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "sophia_stack launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "sophia_stack launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* ---- what is wanted ---- */

static void
fill_oid(List *wanted, Form_pg_database database)
{
	ListCell *cell;

	foreach(cell, wanted)
	{
		Wanted *entry = lfirst(cell);

		if (strcmp(entry->name, NameStr(database->datname)) == 0)
			entry->database = database->oid;
	}
}

static List *
listed_databases(void)
{
	List *wanted = NIL;
	ListCell *cell;

	foreach(cell, sophia_settings_databases())
	{
		Wanted *entry = palloc0(sizeof(Wanted));

		entry->name = lfirst(cell);
		wanted = lappend(wanted, entry);
	}
	return wanted;
}

/* The listed databases with their oids.  A process without a database has no syscache of them, so it scans. */
static List *
wanted_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *wanted = listed_databases();
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
		fill_oid(wanted, (Form_pg_database) GETSTRUCT(tuple));
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	/* the commit left another context current, which is never reset */
	MemoryContextSwitchTo(context);
	return wanted;
}

/* Whether there is work for the jobs worker of a database. */
static bool
has_jobs(Oid database)
{
	return sophia_usage_waits(database) || sophia_registry_jobs_wanted(database);
}

/* A jobs worker that is not there keeps its place while it has work. */
static bool
is_wanted(List *wanted, const WorkerSlot *worker)
{
	ListCell *cell;

	if (worker->kind == WORKER_GATEWAY)
		return true;
	if (worker->kind == WORKER_JOBS && worker->state == WORKER_IDLE && !has_jobs(worker->database))
		return false;
	if (worker->index >= sophia_ingest_workers)
		return false;
	foreach(cell, wanted)
	{
		if (((Wanted *) lfirst(cell))->database == worker->database)
			return true;
	}
	return false;
}

/* ---- warnings, each said once ---- */

static bool
was_warned(const char *name)
{
	ListCell *cell;

	foreach(cell, names_warned)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

static void
warn_missing_database(const char *name)
{
	MemoryContext previous;

	if (was_warned(name))
		return;
	previous = MemoryContextSwitchTo(TopMemoryContext);
	names_warned = lappend(names_warned, pstrdup(name));
	MemoryContextSwitchTo(previous);
	ereport(WARNING,
			(errcode(ERRCODE_UNDEFINED_DATABASE),
			 errmsg("database \"%s\" does not exist, so sophia_stack starts no worker for it", name),
			 errhint("Create it, or take it out of sophia_stack.databases.")));
}

static void
forget_missing_database(const char *name)
{
	ListCell *cell;

	foreach(cell, names_warned)
	{
		if (strcmp(lfirst(cell), name) == 0)
		{
			pfree(lfirst(cell));
			names_warned = foreach_delete_current(names_warned, cell);
		}
	}
}

static void
forget_warnings(void)
{
	list_free_deep(names_warned);
	names_warned = NIL;
	slots_warned = places_warned = false;
}

static void
warn_of_process_limit(void)
{
	if (slots_warned)
		return;
	slots_warned = true;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("out of background worker slots, so not every worker of sophia_stack can start"),
			 errhint("Increase max_worker_processes.")));
}

static void
warn_of_place_limit(void)
{
	if (places_warned)
		return;
	places_warned = true;
	ereport(
		WARNING,
		(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		 errmsg("sophia_stack can run %d workers at most", SOPHIA_WORKER_SLOTS),
		 errhint(
			 "List fewer databases in sophia_stack.databases, or lower sophia_stack.ingest_workers.")));
}

/* ---- acting on the difference ---- */

static void
drop_handle(int slot)
{
	if (handles[slot] != NULL)
		pfree(handles[slot]);
	handles[slot] = NULL;
}

static bool
register_worker(int slot, uint64 generation, WorkerKind kind, const char *name)
{
	BackgroundWorker worker;
	MemoryContext previous;
	bool registered;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "sophia_stack", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, kinds[kind].function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, kinds[kind].type, BGW_MAXLEN);
	worker.bgw_main_arg = SOPHIA_WORKER_ARG(slot, generation);
	worker.bgw_notify_pid = MyProcPid;

	drop_handle(slot);
	previous = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handles[slot]);
	MemoryContextSwitchTo(previous);
	return registered;
}

/* `name` is what the process is called where the system lists it. */
static void
start_worker(WorkerKind kind, Oid database, int index, const char *name)
{
	int slot = sophia_registry_place_worker(kind, database, index);
	uint64 generation;

	if (slot < 0)
	{
		warn_of_place_limit();
		return;
	}
	if (!sophia_registry_reserve_worker(slot, &generation))
		return;
	if (register_worker(slot, generation, kind, name))
	{
		slots_warned = false;
		return;
	}
	handles[slot] = NULL;
	sophia_registry_start_failed(slot, generation);
	warn_of_process_limit();
}

/* A process that ended before it took its place left it starting. */
static void
settle_start(int slot, const WorkerSlot *worker)
{
	bool lost;
	pid_t pid;

	if (handles[slot] != NULL)
		lost = GetBackgroundWorkerPid(handles[slot], &pid) == BGWH_STOPPED;
	else
		lost = sophia_clock_ms() - worker->changed > START_LIMIT_MS;
	if (lost)
		sophia_registry_start_failed(slot, worker->generation);
}

static void
review_places(List *wanted)
{
	WorkerSlot *workers = palloc(sizeof(WorkerSlot) * SOPHIA_WORKER_SLOTS);

	sophia_registry_copy_workers(workers);
	for (int slot = 0; slot < SOPHIA_WORKER_SLOTS; slot++)
	{
		WorkerSlot *worker = &workers[slot];

		if (worker->kind == WORKER_NONE)
			continue;
		if (worker->state == WORKER_STARTING)
			settle_start(slot, worker);
		if (!is_wanted(wanted, worker))
			sophia_registry_end_worker(slot, worker->generation);
	}
}

/* Until when there is nothing to do unless somebody wakes the launcher, in milliseconds from now. */
static long
nap_length(bool trouble)
{
	WorkerSlot *workers = palloc(sizeof(WorkerSlot) * SOPHIA_WORKER_SLOTS);
	int64 now = sophia_clock_ms();
	int64 nap = trouble ? TROUBLE_NAP_MS : LONGEST_NAP_MS;

	sophia_registry_copy_workers(workers);
	for (int slot = 0; slot < SOPHIA_WORKER_SLOTS; slot++)
	{
		WorkerSlot *worker = &workers[slot];

		if (worker->kind == WORKER_NONE)
			continue;
		if (worker->state == WORKER_IDLE && worker->next_start > now)
			nap = Min(nap, worker->next_start - now);
		else if (worker->state != WORKER_RUNNING)
			nap = Min(nap, TROUBLE_NAP_MS);
	}
	return (long) Max(nap, 1);
}

static long
run_cycle(void)
{
	List *wanted = wanted_databases();
	List *known = NIL;
	bool trouble = false;
	ListCell *cell;

	review_places(wanted);
	foreach(cell, wanted)
	{
		Wanted *entry = lfirst(cell);

		if (!OidIsValid(entry->database))
		{
			warn_missing_database(entry->name);
			trouble = true;
			continue;
		}
		forget_missing_database(entry->name);
		known = lappend_oid(known, entry->database);
		for (int index = 0; index < sophia_ingest_workers; index++)
			start_worker(WORKER_INGEST, entry->database, index,
						 psprintf("%s %d of %s", kinds[WORKER_INGEST].type, index + 1, entry->name));
		if (has_jobs(entry->database))
			start_worker(WORKER_JOBS, entry->database, 0,
						 psprintf("%s of %s", kinds[WORKER_JOBS].type, entry->name));
	}
	sophia_registry_forget_jobs(known);
	start_worker(WORKER_GATEWAY, InvalidOid, 0, kinds[WORKER_GATEWAY].type);
	return nap_length(trouble || slots_warned || places_warned);
}

static void
check_process_limit(void)
{
	int wanted = 2 + list_length(sophia_settings_databases()) * sophia_ingest_workers;

	if (wanted > max_worker_processes)
		warn_of_process_limit();
}

void
sophia_launcher_main(Datum arg)
{
	MemoryContext cycle;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	sophia_registry_attach_launcher();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("sophia_stack launcher");
	pgstat_report_activity(STATE_IDLE, NULL);

	/* A reload before the handler was there went unseen. */
	ProcessConfigFile(PGC_SIGHUP);

	cycle = AllocSetContextCreate(TopMemoryContext, "sophia_stack launcher cycle",
								  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cycle);
	check_process_limit();

	for (;;)
	{
		long nap;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			forget_warnings();
		}

		nap = run_cycle();
		MemoryContextReset(cycle);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, nap,
						 PG_WAIT_EXTENSION);
	}
}
