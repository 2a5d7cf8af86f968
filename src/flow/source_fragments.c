/*
 * source_fragments.c
 *		The source kind 'fragments': a folder in the layout of Gazette's fragment stores.
 *
 * About once a second, and at once for a refresh, the folder is scanned (flow/fragment_scan.h).  Each reader has at
 * most one file open, which is proved whole before its first byte is delivered.  Every pump() gives each reader one
 * slice and ends after a while, so that the worker's other streams are never kept waiting.
 *
 * What cannot be read yet (a file that is still being written, a hole, a missing folder) is tried again with the next
 * scans; only a forbidden address and an unsupported codec are permanent.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "flow/address.h"
#include "flow/fragment_index.h"
#include "flow/fragment_scan.h"
#include "flow/source.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Content that one pump handles for one reader, and how long it goes on with further readers. */
#define SLICE_SIZE	 (4 * 1024 * 1024)
#define PUMP_TIME_MS 50

/* What opening a file counts, so that a slice is also so many small files at most. */
#define OPEN_COST (64 * 1024)

/* Scans take at most a twentieth of the time. */
#define SCAN_INTERVAL_MS 1000
#define SCAN_TIME_FACTOR 20

/* A failed file that did not change is tried again after this time, doubled each time. */
#define RETRY_MIN_MS 5000
#define RETRY_MAX_MS 60000

/* Gazette's readers wait this long for the content of a hole, by the age of what follows it. */
#define HOLE_AGE_SECONDS (6 * 60 * 60)

/* Why something does not go on; message '' = it does. */
typedef struct Problem
{
	int sqlstate;
	bool permanent;
	char message[512];
} Problem;

typedef struct FragmentsState
{
	FragmentIndex *index;  /* NULL once its memory is gone */
	MemoryContext scratch; /* of one check of the address */
	TimestampTz next_scan;
	int64 scan_interval_ms;
	uint64 refresh_tried; /* the refresh_wanted of the last scan */
	int next_reader;	  /* who is served first next time */
	Problem problem;	  /* with the folder as a whole */
} FragmentsState;

typedef struct FragmentsReader
{
	IndexedJournal *journal; /* NULL while no scan has seen it */
	Fragment *fragment;		 /* pinned while its file is open */
	FragmentFile *file;
	bool verified;
	uint64 idle; /* the scan after which there was nothing to do */
	Problem problem;
} FragmentsReader;

/* ---- problems ---- */

static void pg_attribute_printf(4, 5)
	set_problem(Problem *problem, int sqlstate, bool permanent, const char *format, ...)
{
	va_list args;

	problem->sqlstate = sqlstate;
	problem->permanent = permanent;
	va_start(args, format);
	vsnprintf(problem->message, sizeof(problem->message), format, args);
	va_end(args);
}

static void
clear_problem(Problem *problem)
{
	problem->message[0] = '\0';
}

static int
status_sqlstate(FragmentStatus status)
{
	switch (status)
	{
		case FRAGMENT_MISSING:
			return ERRCODE_UNDEFINED_FILE;
		case FRAGMENT_DAMAGED:
			return ERRCODE_DATA_CORRUPTED;
		case FRAGMENT_NO_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		default:
			return ERRCODE_IO_ERROR;
	}
}

/* The first permanent problem, else the first one. */
static const Problem *
worst_problem(Source *source)
{
	FragmentsState *state = source->private;
	const Problem *worst = &state->problem;
	ListCell *cell;

	foreach(cell, source->readers)
	{
		const Problem *problem = &((FragmentsReader *) ((Reader *) lfirst(cell))->private)->problem;

		if (problem->message[0] != '\0' &&
			(worst->message[0] == '\0' || (problem->permanent && !worst->permanent)))
			worst = problem;
	}
	return worst;
}

static void
report_problem(Source *source)
{
	const Problem *problem = worst_problem(source);

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
		set_problem(&state->problem, error->sqlerrcode, true, "%s", error->message);
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
		set_problem(&state->problem, errno == ENOENT ? ERRCODE_UNDEFINED_FILE : ERRCODE_IO_ERROR,
					false, "could not read folder \"%s\": %s", source->address, strerror(errno));
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

	Problem *problem = &state->problem;

	problem->permanent = false;
	if (!sophia_index_scan(state->index, &problem->sqlstate, problem->message,
						   sizeof(problem->message)))
		return false;
	clear_problem(problem);
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

/* ---- choosing and opening a file ---- */

static int64
reader_position(const Reader *reader)
{
	return reader->offset + (int64) buffer_size(&reader->content);
}

static void
close_file(Reader *reader)
{
	FragmentsState *state = reader->source->private;
	FragmentsReader *own = reader->private;

	if (own->file == NULL)
		return;
	sophia_fragment_close(own->file);
	ReleaseExternalFD();
	if (state->index != NULL)
		sophia_index_unpin(state->index, own->fragment);
	own->file = NULL;
	own->fragment = NULL;
}

/* A failure of the file: it is tried again later, or once it has changed. */
static void
fail_file(Reader *reader, Fragment *fragment, FragmentStatus status, const char *error)
{
	FragmentsReader *own = reader->private;
	char path[MAXPGPATH];
	int64 delay = Min(RETRY_MAX_MS, (int64) RETRY_MIN_MS << Min(fragment->failures, 10));

	fragment->state = FRAGMENT_FAILED;
	fragment->failures++;
	fragment->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
	sophia_index_path(fragment, path);
	set_problem(&own->problem, status_sqlstate(status), false, "could not read fragment \"%s\": %s",
				path, error);
}

/* The identity of a file that is not open, or a failure of the reader. */
static bool
identify(Reader *reader, Fragment *fragment, FragmentIdentity *identity)
{
	FragmentsState *state = reader->source->private;
	char file[FRAGMENT_NAME_SIZE];
	char error[256];
	FragmentStatus status;
	int folder = sophia_index_open_folder(state->index, fragment->key.folder);

	if (folder < 0)
	{
		fail_file(reader, fragment, errno == ENOENT ? FRAGMENT_MISSING : FRAGMENT_UNREADABLE,
				  strerror(errno));
		return false;
	}
	sophia_fragment_name_print(&fragment->key.name, file);
	status = sophia_fragment_identify(folder, file, identity, error, sizeof(error));
	close(folder);
	if (status != FRAGMENT_DONE)
		fail_file(reader, fragment, status, error);
	return status == FRAGMENT_DONE;
}

/* Is it worth looking into a file that failed before? */
static bool
retry_due(Reader *reader, Fragment *fragment)
{
	FragmentsReader *own = reader->private;
	FragmentIdentity identity;

	if (fragment->state != FRAGMENT_FAILED || own->problem.message[0] == '\0' ||
		GetCurrentTimestamp() >= fragment->retry_at)
		return true;
	if (!identify(reader, fragment, &identity))
		return false;
	if (sophia_fragment_same(&identity, &fragment->identity))
		return false;
	fragment->failures = 0;
	return true;
}

static FragmentStatus
open_in_folder(Reader *reader, Fragment *fragment, FragmentIdentity *identity, char *error,
			   size_t error_size)
{
	FragmentsState *state = reader->source->private;
	FragmentsReader *own = reader->private;
	char file[FRAGMENT_NAME_SIZE];
	int folder = sophia_index_open_folder(state->index, fragment->key.folder);

	if (folder < 0)
	{
		snprintf(error, error_size, "could not open its folder: %s", strerror(errno));
		return errno == ENOENT ? FRAGMENT_MISSING : FRAGMENT_UNREADABLE;
	}
	sophia_fragment_name_print(&fragment->key.name, file);

	FragmentStatus status = sophia_fragment_open(folder, file, &fragment->key.name, &own->file,
												 identity, error, error_size);

	close(folder);
	return status;
}

static bool
open_file(Reader *reader, Fragment *fragment)
{
	FragmentsReader *own = reader->private;
	FragmentIdentity identity;
	char error[256];

	if (!AcquireExternalFD())
	{
		set_problem(&own->problem, ERRCODE_INSUFFICIENT_RESOURCES, false,
					"too many files are open to read journal \"%s\"", reader->journal);
		return false;
	}

	FragmentStatus status = open_in_folder(reader, fragment, &identity, error, sizeof(error));

	if (status != FRAGMENT_DONE)
	{
		ReleaseExternalFD();
		fail_file(reader, fragment, status, error);
		return false;
	}
	own->fragment = fragment;
	sophia_index_pin(fragment);
	own->verified = fragment->state == FRAGMENT_VERIFIED &&
					sophia_fragment_same(&identity, &fragment->identity);
	fragment->identity = identity;
	if (own->verified)
		sophia_fragment_skip(own->file, reader_position(reader) - fragment->key.name.begin);
	return true;
}

/* What follows a hole is so old that the hole will not be filled any more. */
static bool
hole_is_final(Reader *reader, Fragment *next)
{
	FragmentIdentity identity;

	return buffer_size(&reader->content) == 0 && identify(reader, next, &identity) &&
		   time(NULL) - identity.mtime_ns / INT64CONST(1000000000) > HOLE_AGE_SECONDS;
}

/* No fragment holds the next byte.  True when the reader went on behind a hole. */
static bool
pass_hole(Reader *reader, Fragment *next)
{
	FragmentsReader *own = reader->private;
	long long from = (long long) reader_position(reader);
	long long to = (long long) next->key.name.begin;

	if (hole_is_final(reader, next))
	{
		ereport(
			LOG,
			(errmsg("bytes %lld to %lld of journal \"%s\" are missing, reading goes on after them",
					from, to, reader->journal),
			 errdetail("The fragment after them is more than six hours old.")));
		reader->offset = next->key.name.begin;
		return true;
	}
	set_problem(&own->problem, ERRCODE_UNDEFINED_FILE, false,
				"no fragment holds bytes %lld to %lld of journal \"%s\"", from, to,
				reader->journal);
	return false;
}

/* Opens the file that holds the next byte.  False when there is nothing to do until the next scan. */
static bool
begin_file(Reader *reader)
{
	FragmentsReader *own = reader->private;
	Fragment *next;
	Fragment *fragment = sophia_index_choose(own->journal, reader_position(reader), &next);

	if (fragment == NULL && next != NULL)
	{
		if (!pass_hole(reader, next))
			return false;
		fragment = sophia_index_choose(own->journal, reader_position(reader), &next);
	}
	if (fragment == NULL)
	{
		clear_problem(&own->problem);
		return false;
	}
	if (sophia_fragment_name_codec(&fragment->key.name) == FRAGMENT_UNSUPPORTED)
	{
		char path[MAXPGPATH];

		sophia_index_path(fragment, path);
		set_problem(&own->problem, ERRCODE_FEATURE_NOT_SUPPORTED, true,
					"the compression of fragment \"%s\" is not supported", path);
		return false;
	}
	return retry_due(reader, fragment) && open_file(reader, fragment);
}

/* ---- reading ---- */

static FragmentStatus
verify_slice(Reader *reader, size_t budget)
{
	FragmentsReader *own = reader->private;
	FragmentStatus status = sophia_fragment_verify(own->file, budget);

	if (status != FRAGMENT_DONE)
		return status;
	own->verified = true;
	own->fragment->state = FRAGMENT_VERIFIED;
	own->fragment->failures = 0;
	sophia_fragment_skip(own->file, reader_position(reader) - own->fragment->key.name.begin);
	return FRAGMENT_MORE;
}

static FragmentStatus
read_slice(Reader *reader, size_t budget)
{
	FragmentsReader *own = reader->private;
	size_t room = Min(budget, reader->limit - buffer_size(&reader->content));
	int64 left = own->fragment->key.name.end - reader_position(reader);

	room = Min((int64) room, left);

	char *into = sophia_buffer_reserve(&reader->content, room);
	size_t got;

	if (into == NULL)
		return FRAGMENT_NO_MEMORY;

	FragmentStatus status = sophia_fragment_read(own->file, into, room, &got);

	reader->content.end += got;
	if (got > 0)
		clear_problem(&own->problem);
	return status;
}

/* Goes on with the open file, and closes it at its end or when it fails; then another may hold the next byte. */
static void
advance_file(Reader *reader, size_t budget)
{
	FragmentsReader *own = reader->private;
	FragmentStatus status =
		own->verified ? read_slice(reader, budget) : verify_slice(reader, budget);

	if (status == FRAGMENT_MORE)
		return;
	if (status != FRAGMENT_DONE)
	{
		const char *error = sophia_fragment_error(own->file);

		fail_file(reader, own->fragment, status, error[0] != '\0' ? error : "out of memory");
	}
	close_file(reader);
}

/* Gives a reader one slice; true when more can be done at once. */
static bool
serve_reader(Reader *reader)
{
	FragmentsState *state = reader->source->private;
	FragmentsReader *own = reader->private;
	int64 budget = SLICE_SIZE;

	if (own->journal == NULL)
		own->journal = sophia_index_journal(state->index, reader->journal);
	if (own->journal == NULL)
		return false;
	reader->write_head = own->journal->entry->write_head;

	while (budget > 0)
	{
		CHECK_FOR_INTERRUPTS();
		reader->paused = buffer_size(&reader->content) >= reader->limit;
		if (reader->paused)
			return false;
		if (own->file == NULL)
		{
			if (own->idle == sophia_index_generation(state->index))
				return false;
			if (!begin_file(reader))
			{
				own->idle = sophia_index_generation(state->index);
				return false;
			}
			budget -= OPEN_COST;
			continue;
		}

		int64 length = own->fragment->key.name.end - own->fragment->key.name.begin;

		advance_file(reader, (size_t) budget);
		budget -= Min(budget, length);
	}
	return true;
}

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

		if (serve_reader(reader))
			more = true;
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), PUMP_TIME_MS) && i + 1 < count)
		{
			state->next_reader = (state->next_reader + i + 1) % count;
			return true;
		}
	}
	return more;
}

/* ---- the kind ---- */

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

	bool more = !state->problem.permanent && serve_readers(source);

	report_problem(source);
	if (!source->error_permanent)
		source->wake_at = more ? GetCurrentTimestamp() : state->next_scan;
}

static void
fragments_open_reader(Reader *reader)
{
	reader->private = MemoryContextAllocZero(reader->source->context, sizeof(FragmentsReader));
}

static void
fragments_close_reader(Reader *reader)
{
	close_file(reader);
	pfree(reader->private);
	reader->private = NULL;
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
	.open_reader = fragments_open_reader,
	.close_reader = fragments_close_reader,
	.close = fragments_close,
};
