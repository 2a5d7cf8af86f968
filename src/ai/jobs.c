/*
 * jobs.c
 *		The jobs worker: writes what AI calls have used from shared memory to its database.
 *
 * The launcher starts it when there is something to write, and it ends when there was nothing for a while, so a database
 * whose users make no such calls has none.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "ai/jobs.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/settings.h"
#include "shared/registry.h"
#include "shared/usage.h"
#include "store/statement.h"

#define WRITE_MS 2000  /* between two looks */
#define IDLE_MS	 60000 /* without anything to write it ends */

static void
end_as_told(SIGNAL_ARGS)
{
	sophia_registry_told_to_end();
	SignalHandlerForShutdownRequest(postgres_signal_arg);
}

static void
write_entry(const UsageEntry *entry)
{
	static Statement statement = {
		"INSERT INTO sophia.usage_hours AS u (hour, role, function, model, calls, cache_hits,"
		" tokens_in, tokens_out, errors, ms, cost)"
		" VALUES ($1, pg_get_userbyid($2), $3, $4, $5, $6, $7, $8, $9, $10, $11 / 1e12)"
		" ON CONFLICT (hour, role, function, model) DO UPDATE SET calls = u.calls + excluded.calls,"
		" cache_hits = u.cache_hits + excluded.cache_hits, tokens_in = u.tokens_in + excluded.tokens_in,"
		" tokens_out = u.tokens_out + excluded.tokens_out, errors = u.errors + excluded.errors,"
		" ms = u.ms + excluded.ms, cost = u.cost + excluded.cost",
		11,
		{TIMESTAMPTZOID, OIDOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		 INT8OID, NUMERICOID}};
	const UsageCounts *counts = &entry->counts;
	Datum values[] = {
		TimestampTzGetDatum(entry->key.hour),
		ObjectIdGetDatum(entry->key.role),
		CStringGetTextDatum(entry->key.function),
		CStringGetTextDatum(entry->key.model),
		Int64GetDatum(counts->calls),
		Int64GetDatum(counts->cache_hits),
		Int64GetDatum(counts->tokens_in),
		Int64GetDatum(counts->tokens_out),
		Int64GetDatum(counts->errors),
		Int64GetDatum(counts->ms),
		NumericGetDatum(int64_to_numeric(counts->cost)),
	};

	sophia_statement_run(&statement, values, NULL);
}

/* Whether there was something to write.  Without the extension it waits, until it is lost with the server. */
static bool
write_usage(MemoryContext context)
{
	UsageEntry *entries;
	int n = sophia_usage_copy(MyDatabaseId, &entries);
	bool held;

	if (n == 0)
		return false;
	sophia_transaction_begin("writing the usage of AI functions");
	held = OidIsValid(get_extension_oid("sophia_stack", true)) && sophia_guard_extension();
	for (int i = 0; held && i < n; i++)
		write_entry(&entries[i]);
	sophia_transaction_commit(context);
	if (held)
		sophia_usage_written(entries, n);
	return held;
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

static void
work_until_idle(void)
{
	MemoryContext turn =
		AllocSetContextCreate(TopMemoryContext, "sophia_stack jobs turn", ALLOCSET_DEFAULT_SIZES);
	int64 busy_at = sophia_clock_ms();

	MemoryContextSwitchTo(turn);
	while (sophia_clock_ms() - busy_at < IDLE_MS)
	{
		bool last = ShutdownRequestPending;

		CHECK_FOR_INTERRUPTS();
		ResetLatch(MyLatch);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (sophia_enabled && write_usage(turn))
			busy_at = sophia_clock_ms();
		MemoryContextReset(turn);
		if (last)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WRITE_MS,
						 PG_WAIT_EXTENSION);
	}
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
	pin_settings();
	work_until_idle();
	proc_exit(0);
}
