/*
 * gateway.c
 *		The gateway's loop: see gateway.h.
 *
 * An error ends the process, and the launcher starts it again: it keeps nothing that matters, and who waits for it learns
 * at once that it is gone.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "ai/gateway.h"
#include "ai/redis.h"
#include "base/clock.h"
#include "net/loop.h"
#include "shared/registry.h"

static void
end_as_told(SIGNAL_ARGS)
{
	sophia_registry_told_to_end();
	die(postgres_signal_arg);
}

static void
work_until_told_to_end(uint64 gateway)
{
	uint64 seen = 0;

	while (true)
	{
		uint64 changes = sophia_channels_changes();
		int64 next;
		bool any;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			sophia_lanes_reload();
			sophia_redis_reload();
		}
		if (changes != seen)
			sophia_sessions_review(gateway);
		seen = changes;

		do
		{
			any = sophia_sessions_read();
			next = sophia_lanes_turn();
			sophia_sessions_write();
		} while (any);
		sophia_cache_tell();
		sophia_loop_wait(next < 0 ? -1 : (long) Max(next - sophia_clock_ms(), 0));
	}
}

void
sophia_gateway_main(Datum arg)
{
	pqsignal(SIGTERM, end_as_told);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	sophia_registry_attach_worker(SOPHIA_WORKER_ARG_SLOT(arg), SOPHIA_WORKER_ARG_GENERATION(arg));
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("sophia_stack gateway");
	pgstat_report_activity(STATE_IDLE, NULL);
	/* a reload that came before the handler was there is lost otherwise */
	ProcessConfigFile(PGC_SIGHUP);

	MemoryContextSwitchTo(
		AllocSetContextCreate(TopMemoryContext, "sophia_stack gateway", ALLOCSET_DEFAULT_SIZES));
	sophia_loop_init();
	sophia_redis_start();
	work_until_told_to_end(sophia_channels_attach_gateway());
}
