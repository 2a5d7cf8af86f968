/*
 * jobs.c
 *		The jobs worker of a database: runs what was submitted and what enrichments want, and writes down what calls have used.
 *
 * The launcher starts it when there is something to do.  What a stopped server has left, an ingest worker finds (flow/worker.c).
 * It ends when there was nothing for a while, so a database whose users make no such calls has none.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "ai/jobs.h"
#include "ai/work.h"
#include "base/clock.h"
#include "base/settings.h"
#include "shared/registry.h"
#include "store/statement.h"

#define LOOK_MS 2000  /* between two looks, unless it is woken */
#define IDLE_MS 60000 /* without anything to do it ends */

static bool idle = false; /* it ends since there is nothing to do */

/* Where a call is under way, it is cut short: its texts without an answer are asked for again by the next worker. */
static void
end_as_told(SIGNAL_ARGS)
{
	sophia_registry_told_to_end();
	if (sophia_work_is_calling())
		QueryCancelPending = InterruptPending = true;
	SignalHandlerForShutdownRequest(postgres_signal_arg);
}

/* Its own statements run the same, whatever the database has set. */
static void
pin_settings(void)
{
	SetConfigOption("lock_timeout", "250", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	sophia_statement_pin_settings(true);
	pgstat_report_appname("sophia_stack jobs");
}

/* before_shmem_exit: who comes next goes on with what is left. */
static void
tell_of_the_rest(int code, Datum argument)
{
	if (!idle)
		sophia_registry_look_for_jobs(MyDatabaseId);
}

/* Does what there is to do; whether there was anything.  *expects as of sophia_work_turn(). */
static bool
work(MemoryContext turn, bool *expects)
{
	bool worked = sophia_usage_write(turn);

	MemoryContextReset(turn);
	worked |= !ShutdownRequestPending && sophia_work_turn(turn, expects);
	MemoryContextReset(turn);
	return worked;
}

static void
work_until_idle(void)
{
	MemoryContext turn =
		AllocSetContextCreate(TopMemoryContext, "sophia_stack jobs turn", ALLOCSET_DEFAULT_SIZES);
	int64 busy_at = sophia_clock_ms();
	bool wanted = true;

	MemoryContextSwitchTo(turn);
	sophia_work_recover(turn);
	while (wanted || sophia_clock_ms() - busy_at < IDLE_MS)
	{
		bool last = ShutdownRequestPending;
		bool expects = false;
		bool worked;

		CHECK_FOR_INTERRUPTS();
		ResetLatch(MyLatch);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		sophia_registry_take_jobs_wanted();
		worked = sophia_enabled && work(turn, &expects);
		if (worked)
			busy_at = sophia_clock_ms();
		if (last)
			break;
		if (!worked)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS,
							 PG_WAIT_EXTENSION);
		wanted = expects || sophia_registry_jobs_wanted(MyDatabaseId);
	}
	idle = !ShutdownRequestPending;
	sophia_registry_told_to_end(); /* that it ends is no failure */
}

void
sophia_jobs_main(Datum argument)
{
	pqsignal(SIGTERM, end_as_told);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	sophia_registry_attach_worker(SOPHIA_WORKER_ARG_SLOT(argument),
								  SOPHIA_WORKER_ARG_GENERATION(argument));
	BackgroundWorkerInitializeConnectionByOid(sophia_registry_worker_database(), InvalidOid, 0);
	/* a reload that came before the handler was there is lost otherwise */
	ProcessConfigFile(PGC_SIGHUP);
	before_shmem_exit(tell_of_the_rest, (Datum) 0);
	pin_settings();
	work_until_idle();
	proc_exit(0);
}
