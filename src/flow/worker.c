/*
 * worker.c
 *		The ingest worker: one process that follows many streams on one event loop.
 *
 * Each turn: take what was committed to the configuration, answer requests, give every stream its turn, wait.  Waiting
 * happens in one place (net/loop.c), never inside a transaction.  An error that belongs to a stream stays there
 * (stream.c); any other ends the process, and the launcher starts it again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/settings.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "commands/extension.h"
#include "flow/launcher.h"
#include "flow/requests.h"
#include "flow/stream.h"
#include "miscadmin.h"
#include "net/loop.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shared/registry.h"
#include "store/large_tables.h"
#include "store/statement.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Looks for changes that nobody announced (a restored dump, an extension just created) this often. */
#define RECHECK_MS 5000

/* Comes back to a configuration that somebody is changing. */
#define RETRY_MS 200

static List *streams; /* of Stream *, in TopMemoryContext */

/* Settings of the process: whatever the database or the role has set, the worker's own statements run the same. */
static void
pin_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	} settings[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"lock_timeout", "250"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"TimeZone", "UTC"},
		{"DateStyle", "ISO, YMD"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		/* every statement finds its rows by key: see flow/shape_statements.c */
		{"enable_seqscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"plan_cache_mode", "force_generic_plan"},
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i].name, settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_appname("sophia_stack ingest");
}

/* True for a stream that this worker follows: all that write one table go to one worker. */
static bool
is_mine(const char *table)
{
	uint32 hash = hash_bytes((const unsigned char *) table, strlen(table));

	return hash % (uint32) sophia_ingest_workers == (uint32) sophia_registry_worker_index();
}

static Stream *
find_stream(const StreamDefinition *definition)
{
	ListCell *cell;

	foreach(cell, streams)
	{
		Stream *stream = lfirst(cell);

		if (!stream->ended && sophia_stream_matches(stream, definition))
			return stream;
	}
	return NULL;
}

/* The streams that are wanted become those that are followed. */
static void
take_configuration(void)
{
	static Statement statement = {
		"SELECT s.stream, e.kind, e.address, e.options ->> 'token', s.collection, s.shape,"
		" s.options ->> 'delete', s.options ->> 'start_from', s.state, s.last_error, s.created_at,"
		" s.options::pg_catalog.text, sophia.stream_table(s.shape, s.options)"
		" FROM sophia.streams AS s JOIN sophia.endpoints AS e USING (endpoint)"
		" WHERE s.state IN ('starting', 'running') AND s.system_identifier = $1"
		" AND s.database_oid = $2 ORDER BY s.stream",
		2,
		{INT8OID, OIDOID}};
	uint64 n = sophia_statement_run(
		&statement,
		(Datum[]){Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)},
		NULL);
	List *kept = NIL;
	ListCell *cell;

	for (uint64 i = 0; i < n; i++)
	{
		char *delete = sophia_result_text(i, 7);
		char *start_from = sophia_result_text(i, 8);
		StreamDefinition definition = {
			.stream = sophia_result_text(i, 1),
			.kind = sophia_result_text(i, 2),
			.address = sophia_result_text(i, 3),
			.token = sophia_result_text(i, 4),
			.collection = sophia_result_text(i, 5),
			.shape = sophia_result_text(i, 6),
			.options = sophia_result_text(i, 12),
			.hard_delete = delete != NULL && strcmp(delete, "hard") == 0,
			.from_end = start_from != NULL && strcmp(start_from, "end") == 0,
		};
		Stream *stream;
		MemoryContext old;
		bool null;

		definition.created_at = DatumGetTimestampTz(sophia_result(i, 11, &null));
		if (!is_mine(sophia_result_text(i, 13)))
			continue;
		stream = find_stream(&definition);
		if (stream != NULL)
		{
			streams = list_delete_ptr(streams, stream);
			sophia_stream_stored(stream, sophia_result_text(i, 9), sophia_result_text(i, 10));
		}
		else
			stream = sophia_stream_open(TopMemoryContext, &definition, sophia_result_text(i, 9),
										sophia_result_text(i, 10));
		old = MemoryContextSwitchTo(TopMemoryContext);
		kept = lappend(kept, stream);
		MemoryContextSwitchTo(old);
	}
	foreach(cell, streams)
		sophia_stream_close(lfirst(cell));
	list_free(streams);
	streams = kept;
}

static void
drop_streams(void)
{
	ListCell *cell;

	foreach(cell, streams)
		sophia_stream_close(lfirst(cell));
	list_free(streams);
	streams = NIL;
}

/*
 * Reads the configuration; without the extension there is nothing to follow.  False when somebody is about to alter or
 * drop the extension, so that it must be read again soon.
 */
static bool
read_configuration(void)
{
	MemoryContext context = CurrentMemoryContext;
	bool exists;
	bool held;

	sophia_transaction_begin("reading the configuration");
	exists = OidIsValid(get_extension_oid("sophia_stack", true));
	held = exists && sophia_guard_extension();
	if (held)
		take_configuration();
	else if (!exists)
		drop_streams();
	sophia_transaction_commit(context);
	return held || !exists;
}

/* Every stream once; returns when to come again. */
static int64
turn_streams(void)
{
	int64 next = sophia_clock_ms() + RECHECK_MS;
	ListCell *cell;

	foreach(cell, streams)
	{
		Stream *stream = lfirst(cell);

		next = Min(next, sophia_stream_turn(stream));
		CHECK_FOR_INTERRUPTS();
		if (stream->ended)
		{
			sophia_stream_close(stream);
			streams = foreach_delete_current(streams, cell);
		}
	}
	return next;
}

static void
work_until_told_to_end(void)
{
	MemoryContext turn =
		AllocSetContextCreate(TopMemoryContext, "sophia_stack turn", ALLOCSET_DEFAULT_SIZES);
	int64 recheck_at = 0;

	MemoryContextSwitchTo(turn);
	while (true)
	{
		int64 now = sophia_clock_ms();
		int64 next = now + RECHECK_MS;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			recheck_at = 0;
		}
		if (!sophia_enabled)
		{
			drop_streams();
			sophia_requests_drop();
			recheck_at = 0;
		}
		else
		{
			sophia_requests_take();
			if (sophia_registry_config_changed() || now >= recheck_at)
			{
				bool read = read_configuration();

				recheck_at = sophia_clock_ms() + (read ? RECHECK_MS : RETRY_MS);
			}
			next = Min(recheck_at, turn_streams());
			sophia_requests_turn(streams);
			next = Min(next, sophia_requests_wake_at());
		}
		MemoryContextReset(turn);
		sophia_loop_wait(Max(next - sophia_clock_ms(), 0));
	}
}

void
sophia_ingest_main(Datum argument)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	sophia_registry_attach_worker(SOPHIA_WORKER_ARG_SLOT(argument),
								  SOPHIA_WORKER_ARG_GENERATION(argument));
	BackgroundWorkerInitializeConnectionByOid(sophia_registry_worker_database(), InvalidOid, 0);
	/* a reload that came before the handler was there is lost otherwise */
	ProcessConfigFile(PGC_SIGHUP);
	pin_settings();
	sophia_large_tables_expect();
	sophia_loop_init();
	work_until_told_to_end();
}
