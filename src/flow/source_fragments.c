/*
 * source_fragments.c
 *		The source kind 'fragments': a folder in the layout of Gazette's fragment stores.
 *
 * About once a second, and at once for a refresh, the folder is scanned (flow/fragment_scan.h).  Every pump() gives
 * each reader one slice (flow/fragment_reader.h) and ends after a while, so that the worker's other streams are never
 * kept waiting.
 *
 * What cannot be read yet (a file that is still being written, a hole, a missing folder) is tried again with the next
 * scans; only a forbidden address and an unsupported codec are permanent.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "flow/address.h"
#include "flow/fragment_reader.h"
#include "flow/fragment_scan.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How long one pump goes on with further readers. */
#define PUMP_TIME_MS 10

/* Scans take at most a twentieth of the time. */
#define SCAN_INTERVAL_MS 1000
#define SCAN_TIME_FACTOR 20

/* ---- problems ---- */

/* The first permanent problem, else the first one. */
static const FragmentsProblem *
worst_problem(Source *source)
{
	FragmentsState *state = source->private;
	const FragmentsProblem *worst = &state->problem;
	ListCell *cell;

	foreach(cell, source->readers)
	{
		const FragmentsProblem *problem =
			&((FragmentsReader *) ((Reader *) lfirst(cell))->private)->problem;

		if (problem->message[0] != '\0' &&
			(worst->message[0] == '\0' || (problem->permanent && !worst->permanent)))
			worst = problem;
	}
	return worst;
}

static void
report_problem(Source *source)
{
	const FragmentsProblem *problem = worst_problem(source);

	if (problem->message[0] != '\0')
		sophia_source_fail(source, problem->sqlstate, problem->permanent, "%s", problem->message);
	else if (source->error_message[0] != '\0')
		sophia_source_clear_error(source);
}

/* ---- scanning ---- */

/* The collection becomes a path, so none of its components may lead elsewhere. */
static bool
collection_valid(const char *collection)
{
	const char *p = collection;

	for (;;)
	{
		size_t len = strcspn(p, "/");

		if (len == 0 || len >= NAMEDATALEN * 4 || p[0] == '.')
			return false;
		if (p[len] == '\0')
			return true;
		p += len + 1;
	}
}

/* The administrator may have changed what is allowed, or somebody where a link leads. */
static bool
address_allowed(Source *source)
{
	FragmentsState *state = source->private;
	MemoryContext old = MemoryContextSwitchTo(state->scratch);
	volatile bool allowed = true;

	PG_TRY();
	{
		sophia_check_fragments_address(source->address);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(state->scratch);

		ErrorData *error = CopyErrorData();

		FlushErrorState();
		sophia_fragments_set_problem(&state->problem, error->sqlerrcode, true, "%s", error->message);
		allowed = false;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(old);
	MemoryContextReset(state->scratch);
	return allowed;
}

/* Is the folder there?  Asked before whether it is allowed, since one that is missing may come back. */
static bool
address_present(Source *source)
{
	FragmentsState *state = source->private;
	int fd = open(source->address, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
	{
		sophia_fragments_set_problem(
			&state->problem, errno == ENOENT ? ERRCODE_UNDEFINED_FILE : ERRCODE_IO_ERROR, false,
			"could not read folder \"%s\": %s", source->address, strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

/* Returns true when everything was listed. */
static bool
scan(Source *source)
{
	FragmentsState *state = source->private;

	if (!address_present(source) || !address_allowed(source))
		return false;

	FragmentsProblem *problem = &state->problem;

	problem->permanent = false;
	if (!sophia_index_scan(state->index, &problem->sqlstate, problem->message,
						   sizeof(problem->message)))
		return false;
	sophia_fragments_clear_problem(problem);
	return true;
}

static void
scan_if_due(Source *source, TimestampTz now)
{
	FragmentsState *state = source->private;
	uint64 wanted = source->refresh_wanted;
	bool refresh = wanted > source->refresh_done && wanted != state->refresh_tried;

	/* A clock that was set back must not stop the scans. */
	if (!refresh && now < state->next_scan &&
		state->next_scan <= TimestampTzPlusMilliseconds(now, state->scan_interval_ms))
		return;

	state->refresh_tried = wanted;
	if (scan(source) && wanted > source->refresh_done)
		source->refresh_done = wanted;

	TimestampTz end = GetCurrentTimestamp();

	state->scan_interval_ms =
		Max(SCAN_INTERVAL_MS, SCAN_TIME_FACTOR * TimestampDifferenceMilliseconds(now, end));
	state->next_scan = TimestampTzPlusMilliseconds(end, state->scan_interval_ms);
}

/* Says where a time stands, in journals that were not asked yet: see Source.locate_time. */
static void
locate_journals(Source *source)
{
	FragmentsState *state = source->private;
	ListCell *cell;

	if (source->locate_time == 0 || TIMESTAMP_IS_NOEND(source->locate_time))
		return;
	foreach(cell, state->index->journals)
	{
		IndexedJournal *journal = lfirst(cell);

		if (journal->entry->located < 0)
			journal->entry->located = sophia_index_locate(
				state->index, journal, timestamptz_to_time_t(source->locate_time));
	}
}

/* ---- the kind ---- */

/* Serves readers in turn for a while; true when there is more to do at once. */
static bool
serve_readers(Source *source)
{
	FragmentsState *state = source->private;
	int count = list_length(source->readers);
	TimestampTz start = GetCurrentTimestamp();
	bool more = false;

	for (int i = 0; i < count; i++)
	{
		Reader *reader = list_nth(source->readers, (state->next_reader + i) % count);

		if (sophia_fragments_serve(reader))
			more = true;
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), PUMP_TIME_MS) && i + 1 < count)
		{
			state->next_reader = (state->next_reader + i + 1) % count;
			return true;
		}
	}
	return more;
}

/* When an error takes the source's memory away, the index goes before the files of the readers are closed. */
static void
index_gone(void *argument)
{
	((FragmentsState *) argument)->index = NULL;
}

static void
create_index(Source *source)
{
	FragmentsState *state = source->private;
	MemoryContext context =
		AllocSetContextCreate(source->context, "sophia fragment index", ALLOCSET_DEFAULT_SIZES);
	MemoryContextCallback *gone = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));

	state->index = sophia_index_create(context, source);
	gone->func = index_gone;
	gone->arg = state;
	MemoryContextRegisterResetCallback(context, gone);
}

static void
fragments_open(Source *source)
{
	FragmentsState *state = MemoryContextAllocZero(source->context, sizeof(FragmentsState));

	source->private = state;
	state->scan_interval_ms = SCAN_INTERVAL_MS;
	state->scratch =
		AllocSetContextCreate(source->context, "sophia fragments scratch", ALLOCSET_SMALL_SIZES);
	if (source->collection == NULL || collection_valid(source->collection))
		create_index(source);
	else
		sophia_source_fail(source, ERRCODE_INVALID_PARAMETER_VALUE, true,
						   "\"%s\" is not the name of a collection", source->collection);
}

static void
fragments_pump(Source *source)
{
	FragmentsState *state = source->private;

	source->wake_at = 0;
	if (source->error_permanent)
		return;

	scan_if_due(source, GetCurrentTimestamp());
	if (!state->problem.permanent)
		locate_journals(source);

	bool more = !state->problem.permanent && serve_readers(source);

	report_problem(source);
	if (!source->error_permanent)
		source->wake_at = more ? GetCurrentTimestamp() : state->next_scan;
}

/* Readers are closed before; the rest is memory of the source's context. */
static void
fragments_close(Source *source)
{
	source->private = NULL;
}

const SourceKind sophia_source_fragments = {
	.name = "fragments",
	.check_address = sophia_check_fragments_address,
	.open = fragments_open,
	.pump = fragments_pump,
	.open_reader = sophia_fragments_open_reader,
	.close_reader = sophia_fragments_close_reader,
	.close = fragments_close,
};
