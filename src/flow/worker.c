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
#include "commands/extension.h"
#include "flow/assignment.h"
#include "flow/feeding.h"
#include "flow/requests.h"
#include "flow/stream.h"
#include "flow/worker.h"
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

/* Where streams share the worker, a turn of one of them ends after about this time. */
#define TURN_MS 30

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
		{"lock_timeout", "250"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"plan_cache_mode", "force_generic_plan"},
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i].name, settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
	sophia_statement_pin_settings(true);
	pgstat_report_appname("sophia_stack ingest");
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

/* Row `i` of the streams' query as a definition, in the current memory context. */
static StreamDefinition
read_definition(uint64 i)
{
	char *delete = sophia_result_text(i, 7);
	char *start_from = sophia_result_text(i, 8);
	char *evolve = sophia_result_text(i, 16);
	StreamDefinition definition = {
		.stream = sophia_result_text(i, 1),
		.kind = sophia_result_text(i, 2),
		.address = sophia_result_text(i, 3),
		.token = sophia_result_text(i, 4),
		.collection = sophia_result_text(i, 5),
		.shape = sophia_result_text(i, 6),
		.hard_delete = delete != NULL && strcmp(delete, "hard") == 0,
		.from_end = start_from != NULL && strcmp(start_from, "end") == 0,
		.options = sophia_result_text(i, 12),
		.evolves = evolve != NULL && strcmp(evolve, "auto") == 0,
		.misfit = sophia_result_text(i, 17),
	};
	bool null;

	definition.created_at = DatumGetTimestampTz(sophia_result(i, 11, &null));
	definition.rewound_at = DatumGetTimestampTz(sophia_result(i, 13, &null));
	definition.rewound_at = null ? 0 : definition.rewound_at;
	definition.rewind_to = DatumGetTimestampTz(sophia_result(i, 14, &null));
	definition.rewinds = !null;
	definition.truncates = DatumGetBool(sophia_result(i, 15, &null)) && !null;
	return definition;
}

/* The streams that this worker was given become those that it follows. */
static void
take_configuration(void)
{
	static Statement statement = {
		"SELECT s.stream, e.kind, e.address, e.options ->> 'token', s.collection, s.shape,"
		" s.options ->> 'delete', s.options ->> 'start_from', s.state, s.last_error, s.created_at,"
		" s.options::text, s.rewound_at, s.rewind_to, s.options ->> 'truncate' = 'apply',"
		" s.options ->> 'evolve', s.options ->> 'misfit'"
		" FROM sophia.streams AS s JOIN sophia.endpoints AS e USING (endpoint)"
		" WHERE s.state IN ('starting', 'running') AND s.system_identifier = $1"
		" AND s.database_oid = $2 AND s.worker = $3 ORDER BY s.stream",
		3,
		{INT8OID, OIDOID, INT4OID}};
	uint64 n = sophia_statement_run(&statement,
									(Datum[]){Int64GetDatum((int64) GetSystemIdentifier()),
											  ObjectIdGetDatum(MyDatabaseId),
											  Int32GetDatum(sophia_registry_worker_index())},
									NULL);
	List *kept = NIL;
	ListCell *cell;

	for (uint64 i = 0; i < n; i++)
	{
		StreamDefinition definition = read_definition(i);
		Stream *stream = find_stream(&definition);
		MemoryContext old;

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

/* What a stopped server has left to do is found by the first worker of the database that comes. */
static void
look_for_jobs(void)
{
	static Statement look = {"SELECT sophia.find_jobs()", 0, {0}};
	static bool looked = false;

	if (!looked)
		(void) sophia_statement_run(&look, NULL, NULL);
	looked = true;
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
	bool decided = false;

	sophia_transaction_begin("reading the configuration");
	exists = OidIsValid(get_extension_oid("sophia_stack", true));
	held = exists && sophia_guard_extension();
	if (held)
	{
		decided = sophia_assignment_leads() && sophia_assignment_decide();
		take_configuration();
		look_for_jobs();
	}
	else if (!exists)
		drop_streams();
	sophia_transaction_commit(context);
	if (decided)
		sophia_registry_tell_others();
	return held || !exists;
}

/* True when one journal must not keep another one waiting. */
static bool
is_shared(void)
{
	int journals = 0;
	ListCell *cell;

	foreach(cell, streams)
		journals += list_length(((Stream *) lfirst(cell))->journals);
	return journals > 1;
}

/* The busy stream that has waited longest, of those that had no turn since; NULL = none. */
static Stream *
find_busy(uint64 since)
{
	Stream *found = NULL;
	ListCell *cell;

	foreach(cell, streams)
	{
		Stream *stream = lfirst(cell);

		if (stream->busy && stream->turned <= since &&
			(found == NULL || stream->turned < found->turned))
			found = stream;
	}
	return found;
}

/* Streams that have much to read, until one of them had its time; returns when to come again. */
static int64
turn_busy_streams(int64 slice_ms)
{
	static uint64 turns = 0;
	uint64 since = turns;
	int64 start = sophia_clock_ms();
	int64 next = start + RECHECK_MS;
	int64 again_at;
	Stream *stream;

	while ((stream = find_busy(since)) != NULL)
	{
		if (sophia_clock_ms() - start >= TURN_MS / 2)
			return start;
		stream->turned = ++turns;
		again_at = sophia_stream_turn(stream, slice_ms);
		next = Min(next, again_at);
		CHECK_FOR_INTERRUPTS();
	}
	return next;
}

static void
close_ended(void)
{
	ListCell *cell;

	foreach(cell, streams)
	{
		Stream *stream = lfirst(cell);

		if (!stream->ended)
			continue;
		sophia_stream_close(stream);
		streams = foreach_delete_current(streams, cell);
	}
}

/*
 * Every stream once that has little to do, then those that have much, for a while; returns when to come again.  So whoever
 * has much to read keeps the others waiting for the time of one such turn only.
 */
static int64
turn_streams(void)
{
	int64 slice_ms = is_shared() ? TURN_MS : 0;
	int64 next = sophia_clock_ms() + RECHECK_MS;
	int64 busy_at;
	ListCell *cell;

	foreach(cell, streams)
	{
		Stream *stream = lfirst(cell);
		int64 again_at = stream->busy ? next : sophia_stream_turn(stream, slice_ms);

		next = Min(next, again_at);
		CHECK_FOR_INTERRUPTS();
	}
	busy_at = turn_busy_streams(slice_ms);
	close_ended();
	return Min(next, busy_at);
}

static void
work_until_told_to_end(void)
{
	MemoryContext turn =
		AllocSetContextCreate(TopMemoryContext, "sophia_stack turn", ALLOCSET_DEFAULT_SIZES);
	int64 recheck_at = 0;
	int64 feed_at;

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
			sophia_requests_refuse();
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
			next = turn_streams();
			next = Min(next, recheck_at);
			feed_at = sophia_feeding_turn();
			next = Min(next, feed_at);
			sophia_requests_turn(streams);
			next = Min(next, sophia_requests_wake_at());
		}
		MemoryContextReset(turn);
		sophia_loop_wait(Max(next - sophia_clock_ms(), 0));
	}
}

/* Whoever ends a worker by pg_terminate_backend() wants a new one, not a wait. */
static void
end_as_told(SIGNAL_ARGS)
{
	sophia_registry_told_to_end();
	die(postgres_signal_arg);
}

void
sophia_ingest_main(Datum argument)
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
	sophia_large_tables_expect();
	sophia_loop_init();
	work_until_told_to_end();
}
