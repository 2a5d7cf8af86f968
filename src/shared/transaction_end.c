/*
 * transaction_end.c
 *		What a backend leaves to the end of its transaction: telling the workers of a change or of landed rows, and letting
 *		them back on a database that it had for itself.
 *
 * A worker that was woken before the commit would not see the change.  A database that is dropped, renamed or moved is
 * locked until the end of the transaction, so a worker that came back earlier would only wait for that lock, and fail where
 * the database is gone.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"

#include "shared/registry_state.h"

static bool workers_wait_for_commit = false;
static bool rows_wait_for_commit = false;
static bool jobs_wait_for_commit = false;
static bool have_holds = false;

/* Tells the workers of this database that their configuration changed; one that is not there starts at once. */
static void
announce_configuration(Oid database)
{
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (worker->database != database)
			continue;
		worker->config_generation++;
		if (worker->state == WORKER_IDLE)
			worker->next_start = 0;
	}
	sophia_registry_wake_workers(database);
}

/* Tells them that there are rows to be fed; who is not there finds them when it comes. */
static void
announce_rows(Oid database)
{
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
		if (sophia_registry->workers[i].database == database)
			sophia_registry->workers[i].rows_generation++;
	sophia_registry_wake_workers(database);
}

static void
release_holds(void)
{
	for (int i = 0; i < HOLD_SLOTS; i++)
	{
		Hold *hold = &sophia_registry->holds[i];

		if (OidIsValid(hold->database) && hold->pid == MyProcPid)
			hold->database = InvalidOid;
	}
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!workers_wait_for_commit && !rows_wait_for_commit && !jobs_wait_for_commit && !have_holds)
		return;
	if (event == XACT_EVENT_PRE_PREPARE && workers_wait_for_commit)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed endpoints or streams")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	release_holds();
	if (workers_wait_for_commit && event == XACT_EVENT_COMMIT)
		announce_configuration(MyDatabaseId);
	if (rows_wait_for_commit && event == XACT_EVENT_COMMIT)
		announce_rows(MyDatabaseId);
	if (jobs_wait_for_commit && event == XACT_EVENT_COMMIT)
		sophia_registry_want_jobs(MyDatabaseId);
	if (workers_wait_for_commit || have_holds)
		sophia_registry_wake_launcher();
	LWLockRelease(sophia_registry->lock);
	workers_wait_for_commit = rows_wait_for_commit = jobs_wait_for_commit = have_holds = false;
}

static void
watch_transaction_end(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
}

void
sophia_registry_notify_at_commit(void)
{
	if (!sophia_registry_available())
		return;
	watch_transaction_end();
	workers_wait_for_commit = true;
}

void
sophia_registry_rows_landed_at_commit(void)
{
	if (!sophia_registry_available())
		return;
	watch_transaction_end();
	rows_wait_for_commit = true;
}

void
sophia_registry_want_jobs_at_commit(void)
{
	if (!sophia_registry_available())
		return;
	watch_transaction_end();
	jobs_wait_for_commit = true;
}

static void
add_hold(Oid database)
{
	for (int i = 0; i < HOLD_SLOTS; i++)
	{
		Hold *hold = &sophia_registry->holds[i];

		if (OidIsValid(hold->database))
			continue;
		hold->database = database;
		hold->pid = MyProcPid;
		return;
	}
}

void
sophia_registry_hold_database(Oid database)
{
	watch_transaction_end();
	have_holds = true;

	/* Where there is no room for the hold, the workers still end, and come back after their first delay. */
	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	add_hold(database);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (worker->database == database && worker->pid != 0)
		{
			worker->ending = sophia_registry_is_held(database);
			kill(worker->pid, SIGTERM);
		}
	}
	LWLockRelease(sophia_registry->lock);
}
