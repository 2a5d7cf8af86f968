/*
 * requests.c
 *		What backends ask of the ingest worker: see requests.h.
 *
 * An await has the stream's source list and read every head after the request came; that gives each journal a goal, and
 * the answer is due when all goals are passed.  A request about an endpoint opens a source of its own without a collection.
 */
#include "postgres.h"

#include "flow/requests.h"

#include "base/clock.h"
#include "flow/assignment.h"
#include "flow/attempt.h"
#include "flow/stream.h"
#include "lib/stringinfo.h"
#include "shared/registry.h"
#include "store/statement.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Time between two looks at why a stream is not followed. */
#define LOOK_INTERVAL_MS 90

/* Up to where a journal must be applied. */
typedef struct Goal
{
	char *journal;
	int64 offset;
} Goal;

typedef struct ActiveRequest
{
	Request request;
	MemoryContext context;
	uint64 source_number; /* of the stream's source that was asked, see Stream; 0 = not asked yet */
	uint64 refresh;		  /* what the source's refresh_done must reach */
	bool has_goals;
	List *goals;	/* of Goal * */
	int64 look_at;	/* when to find out why the stream is not followed, by sophia_clock_ms() */
	Source *source; /* of a request about an endpoint */
} ActiveRequest;

static List *active; /* of ActiveRequest *, in TopMemoryContext */
static uint64 last_taken;

static void
finish(ActiveRequest *waiting, int sqlstate, const char *text)
{
	sophia_registry_answer(waiting->request.id, sqlstate, text);
	if (waiting->source != NULL)
		sophia_source_close(waiting->source);
	active = list_delete_ptr(active, waiting);
	MemoryContextDelete(waiting->context);
}

void
sophia_requests_take(void)
{
	Request request;

	while (sophia_registry_next_request(last_taken, &request))
	{
		MemoryContext context =
			AllocSetContextCreate(TopMemoryContext, "sophia_stack request", ALLOCSET_SMALL_SIZES);
		ActiveRequest *waiting = MemoryContextAllocZero(context, sizeof(ActiveRequest));
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		waiting->request = request;
		waiting->context = context;
		active = lappend(active, waiting);
		MemoryContextSwitchTo(old);
		last_taken = request.id;
	}
}

static Stream *
find_stream(List *streams, const char *name)
{
	ListCell *cell;

	foreach(cell, streams)
	{
		Stream *stream = lfirst(cell);

		if (strcmp(stream->definition.stream, name) == 0 && !stream->ended)
			return stream;
	}
	return NULL;
}

/* The heads just read become the goals. */
static void
set_goals(ActiveRequest *waiting, Stream *stream)
{
	MemoryContext old = MemoryContextSwitchTo(waiting->context);
	ListCell *cell;

	foreach(cell, stream->source->journals)
	{
		SourceJournal *listed = lfirst(cell);
		Goal *goal;

		if (listed->removed)
			continue;
		goal = palloc(sizeof(Goal));
		goal->journal = pstrdup(listed->name);
		goal->offset = listed->write_head;
		waiting->goals = lappend(waiting->goals, goal);
	}
	waiting->has_goals = true;
	MemoryContextSwitchTo(old);
}

static bool
goals_reached(const ActiveRequest *waiting, const Stream *stream)
{
	ListCell *goal_cell;
	ListCell *cell;

	foreach(goal_cell, waiting->goals)
	{
		Goal *goal = lfirst(goal_cell);
		bool reached = false;

		foreach(cell, stream->journals)
		{
			Journal *journal = lfirst(cell);

			if (strcmp(journal->name, goal->journal) == 0)
				reached = journal->next_offset >= goal->offset || journal->listed->removed;
		}
		if (!reached)
			return false;
	}
	return true;
}

void
sophia_requests_refuse(void)
{
	sophia_requests_take();
	while (active != NIL)
		finish(linitial(active), ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the workers are paused");
}

/* The stream is not followed: why, from its row. */
typedef struct Absence
{
	const char *stream;
	bool starting; /* it should be followed; its time has not come */
	int sqlstate;
	char message[1024];
} Absence;

static void
find_absence(void *argument)
{
	static Statement statement = {
		"SELECT state, last_error FROM sophia.stream_status WHERE stream = $1", 1, {TEXTOID}};
	Absence *absence = argument;
	MemoryContext context = CurrentMemoryContext;

	sophia_transaction_begin("answering a request");
	absence->sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	if (sophia_statement_run(&statement, (Datum[]){CStringGetTextDatum(absence->stream)}, NULL) == 0)
	{
		absence->sqlstate = ERRCODE_UNDEFINED_OBJECT;
		snprintf(absence->message, sizeof(absence->message), "stream \"%s\" does not exist",
				 absence->stream);
	}
	else
	{
		char *state = sophia_result_text(0, 1);
		char *error = sophia_result_text(0, 2);

		absence->starting = strcmp(state, "starting") == 0 || strcmp(state, "running") == 0;
		snprintf(absence->message, sizeof(absence->message), "stream \"%s\" is %s%s%s",
				 absence->stream, state, error != NULL ? ": " : "", error != NULL ? error : "");
	}
	sophia_transaction_commit(context);
}

static void
turn_await(ActiveRequest *waiting, List *streams)
{
	Stream *stream = find_stream(streams, waiting->request.name);

	/* one that is not followed here may be so in another worker */
	if (stream == NULL && (!sophia_assignment_leads() || sophia_clock_ms() < waiting->look_at))
		return;
	if (stream == NULL)
	{
		Absence absence = {.stream = waiting->request.name};
		Failure failure;

		waiting->look_at = sophia_clock_ms() + LOOK_INTERVAL_MS;
		if (!sophia_attempt(find_absence, &absence, &failure))
			finish(waiting, failure.sqlstate, failure.message);
		else if (!absence.starting)
			finish(waiting, absence.sqlstate, absence.message);
		return;
	}
	if (stream->source == NULL)
		return;
	if (waiting->source_number != stream->source_number)
	{
		waiting->source_number = stream->source_number;
		waiting->refresh = sophia_stream_refresh(stream);
		waiting->has_goals = false;
		waiting->goals = NIL;
	}
	if (!waiting->has_goals && stream->source->refresh_done >= waiting->refresh)
		set_goals(waiting, stream);
	if (waiting->has_goals && goals_reached(waiting, stream))
		finish(waiting, 0, "");
}

/*
 * Opens the source of an endpoint; the name is that of the request.  One that can only be asked
 * about a prefix and has none is tried with the collection of one of its streams.
 */
static void
open_endpoint(void *argument)
{
	static Statement statement = {
		"SELECT e.kind, e.address, e.options ->> 'token', e.options ->> 'prefix',"
		" e.options ->> 'data_plane',"
		" CASE WHEN $2 AND e.kind = 'estuary' AND NOT e.options ? 'prefix'"
		" THEN (SELECT min(s.collection) FROM sophia.streams AS s WHERE s.endpoint = e.endpoint) END"
		" FROM sophia.endpoints AS e WHERE e.endpoint = $1",
		2,
		{TEXTOID, BOOLOID}};
	ActiveRequest *waiting = argument;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	const SourceKind *kind;
	bool check = waiting->request.kind == REQUEST_CHECK_ENDPOINT;
	char *address;
	char *token;
	char *prefix;
	char *data_plane;
	char *collection;

	sophia_transaction_begin("answering a request");
	if (sophia_statement_run(
			&statement, (Datum[]){CStringGetTextDatum(waiting->request.name), BoolGetDatum(check)},
			NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("endpoint \"%s\" does not exist", waiting->request.name)));
	kind = sophia_source_kind(sophia_result_text(0, 1));
	old = MemoryContextSwitchTo(waiting->context);
	address = sophia_result_text(0, 2);
	token = sophia_result_text(0, 3);
	prefix = sophia_result_text(0, 4);
	data_plane = sophia_result_text(0, 5);
	collection = sophia_result_text(0, 6);
	MemoryContextSwitchTo(old);
	sophia_transaction_commit(context);
	if (kind == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the kind of endpoint \"%s\" is not supported", waiting->request.name)));
	kind->check_address(address);
	waiting->source = sophia_source_open(waiting->context, kind, address, token, collection);
	waiting->source->prefix = prefix;
	waiting->source->data_plane = data_plane;
	waiting->refresh = ++waiting->source->refresh_wanted;
}

/* A collection that an endpoint holds. */
typedef struct HeldCollection
{
	char *name;
	int64 journals;
	int64 bytes; /* sum of the write heads */
} HeldCollection;

/* The journals of a source by collection. */
static List *
gather_collections(const Source *source)
{
	List *collections = NIL;
	ListCell *cell;

	foreach(cell, source->journals)
	{
		SourceJournal *journal = lfirst(cell);
		size_t length = sophia_collection_length(journal->name);
		HeldCollection *collection = collections != NIL ? llast(collections) : NULL;

		if (length == 0 || journal->removed)
			continue;
		if (collection == NULL || strlen(collection->name) != length ||
			memcmp(collection->name, journal->name, length) != 0)
		{
			ListCell *other;

			collection = NULL;
			foreach(other, collections)
			{
				HeldCollection *known = lfirst(other);

				if (strlen(known->name) == length && memcmp(known->name, journal->name, length) == 0)
					collection = known;
			}
		}
		if (collection == NULL)
		{
			collection = palloc0(sizeof(HeldCollection));
			collection->name = pnstrdup(journal->name, length);
			collections = lappend(collections, collection);
		}
		collection->journals++;
		collection->bytes += Max(journal->write_head, 0);
	}
	return collections;
}

/* The answer about an endpoint that was listed. */
static void
answer_endpoint(ActiveRequest *waiting)
{
	MemoryContext old = MemoryContextSwitchTo(waiting->context);
	List *collections = gather_collections(waiting->source);
	StringInfoData text;
	ListCell *cell;

	initStringInfo(&text);
	if (waiting->request.kind == REQUEST_CHECK_ENDPOINT)
		appendStringInfo(&text, "endpoint answers: %d collections, %d journals",
						 list_length(collections), list_length(waiting->source->journals));
	else
	{
		appendStringInfoChar(&text, '[');
		foreach(cell, collections)
		{
			HeldCollection *collection = lfirst(cell);

			appendStringInfoString(&text,
								   text.len > 1 ? ", {\"collection\": " : "{\"collection\": ");
			escape_json(&text, collection->name);
			appendStringInfo(&text, ", \"journals\": %lld, \"bytes\": %lld}",
							 (long long) collection->journals, (long long) collection->bytes);
		}
		appendStringInfoChar(&text, ']');
	}
	MemoryContextSwitchTo(old);
	finish(waiting, 0, text.data);
}

static void
pump_endpoint(void *argument)
{
	Source *source = argument;

	source->kind->pump(source);
}

static void
turn_endpoint(ActiveRequest *waiting)
{
	Failure failure;

	if (waiting->source == NULL && !sophia_attempt(open_endpoint, waiting, &failure))
	{
		finish(waiting, failure.sqlstate, failure.message);
		return;
	}
	if (!sophia_attempt(pump_endpoint, waiting->source, &failure))
		finish(waiting, failure.sqlstate, failure.message);
	else if (waiting->source->refresh_done >= waiting->refresh)
		answer_endpoint(waiting);
	else if (waiting->source->error_message[0] != '\0')
		finish(waiting, waiting->source->error_sqlstate, waiting->source->error_message);
}

void
sophia_requests_turn(List *streams)
{
	List *waiting_ones;
	ListCell *cell;

	waiting_ones = list_copy(active);
	foreach(cell, waiting_ones)
	{
		ActiveRequest *waiting = lfirst(cell);

		if (!sophia_registry_request_alive(waiting->request.id))
			finish(waiting, 0, "");
		else if (waiting->request.kind == REQUEST_AWAIT_STREAM)
			turn_await(waiting, streams);
		else if (waiting->source != NULL || sophia_assignment_leads())
			turn_endpoint(waiting);
	}
	list_free(waiting_ones);
}

int64
sophia_requests_wake_at(void)
{
	int64 now = sophia_clock_ms();
	int64 wake = now + 3600 * 1000;
	ListCell *cell;

	foreach(cell, active)
	{
		ActiveRequest *waiting = lfirst(cell);

		wake = Min(wake, now + 100);
		if (waiting->source != NULL && waiting->source->wake_at != 0)
			wake = Min(wake, now + TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
																   waiting->source->wake_at));
	}
	return wake;
}
