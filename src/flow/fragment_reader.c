/*
 * fragment_reader.c
 *		Reading a journal from its fragments: see fragment_reader.h.
 */
#include "flow/fragment_reader.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

/* Content that one call handles for a reader. */
#define SLICE_SIZE (4 * 1024 * 1024)

/* What opening a file counts, so that a slice is also so many small files at most. */
#define OPEN_COST (64 * 1024)

/* A failed file that did not change is tried again after this time, doubled each time. */
#define RETRY_MIN_MS 5000
#define RETRY_MAX_MS 60000

/* Gazette's readers wait this long for content that is missing, by the age of what follows it. */
#define HOLE_AGE_SECONDS (6 * 60 * 60)

/* ---- problems ---- */

void
sophia_fragments_set_problem(FragmentsProblem *problem, int sqlstate, bool permanent,
							 const char *format, ...)
{
	va_list args;

	problem->sqlstate = sqlstate;
	problem->permanent = permanent;
	va_start(args, format);
	vsnprintf(problem->message, sizeof(problem->message), format, args);
	va_end(args);
}

void
sophia_fragments_clear_problem(FragmentsProblem *problem)
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
		case FRAGMENT_SHORT:
		case FRAGMENT_DAMAGED:
			return ERRCODE_DATA_CORRUPTED;
		case FRAGMENT_NO_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		default:
			return ERRCODE_IO_ERROR;
	}
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
	sophia_fragments_set_problem(&own->problem, status_sqlstate(status), false,
								 "could not read fragment \"%s\": %s", path, error);
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

/*
 * Makes a verified file ready to be read at the reader's position.  Where reading begins within a fragment, the byte before
 * is read too: it must end a line, or the journal is not the one that was read before.
 */
static void
skip_to_position(Reader *reader)
{
	FragmentsReader *own = reader->private;
	int64 skipped = reader_position(reader) - own->fragment->key.name.begin;

	own->doubted = skipped > 0 && buffer_size(&reader->content) == 0;
	sophia_fragment_skip(own->file, own->doubted ? skipped - 1 : skipped);
}

static bool
open_file(Reader *reader, Fragment *fragment)
{
	FragmentsReader *own = reader->private;
	FragmentIdentity identity;
	char error[256];

	if (!AcquireExternalFD())
	{
		sophia_fragments_set_problem(&own->problem, ERRCODE_INSUFFICIENT_RESOURCES, false,
									 "too many files are open to read journal \"%s\"",
									 reader->journal);
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
		skip_to_position(reader);
	return true;
}

/* The journal begins with fragments that were deleted: nothing of it was read yet, and what there is is old. */
static bool
hole_is_final(Reader *reader, Fragment *next)
{
	FragmentIdentity identity;

	return reader_position(reader) == 0 && identify(reader, next, &identity) &&
		   time(NULL) - identity.mtime_ns / INT64CONST(1000000000) > HOLE_AGE_SECONDS;
}

/*
 * No fragment holds the next byte.  A hole waits for its fragment, so that nothing is lost without anybody's word; only
 * the beginning of a journal may be gone.  True when the reader begins behind it.
 */
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
			(errmsg("journal \"%s\" is read from offset %lld on, where its oldest fragment begins",
					reader->journal, to),
			 errdetail("The fragment is more than six hours old.")));
		reader->offset = next->key.name.begin;
		return true;
	}
	sophia_fragments_set_problem(&own->problem, ERRCODE_UNDEFINED_FILE, false,
								 "no fragment holds bytes %lld to %lld of journal \"%s\"", from, to,
								 reader->journal);
	return false;
}

/* All fragments that there are were read.  When the last of them ends before that, they are not those that were read. */
static void
check_head(Reader *reader)
{
	FragmentsReader *own = reader->private;
	int64 head = own->journal->entry->write_head;

	if (head > 0 && head < reader_position(reader))
		sophia_fragments_set_problem(&own->problem, ERRCODE_DATA_CORRUPTED, false,
									 "journal \"%s\" ends at offset %lld, but was read up to %lld",
									 reader->journal, (long long) head,
									 (long long) reader_position(reader));
	else
		sophia_fragments_clear_problem(&own->problem);
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
		check_head(reader);
		return false;
	}
	if (sophia_fragment_name_codec(&fragment->key.name) == FRAGMENT_UNSUPPORTED)
	{
		char path[MAXPGPATH];

		sophia_index_path(fragment, path);
		sophia_fragments_set_problem(&own->problem, ERRCODE_FEATURE_NOT_SUPPORTED, true,
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
	skip_to_position(reader);
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
		sophia_fragments_clear_problem(&own->problem);
	return status;
}

/* Reads the byte before the reader's position.  False: it ends no line, and the reader has failed for good. */
static bool
settle_doubt(Reader *reader, FragmentStatus *status)
{
	FragmentsReader *own = reader->private;
	char before = '\0';
	size_t got = 0;

	*status = sophia_fragment_read(own->file, &before, 1, &got);
	if (got == 0)
		return true;
	own->doubted = false;
	if (before == '\n')
		return true;
	sophia_fragments_set_problem(
		&own->problem, ERRCODE_DATA_CORRUPTED, true,
		"journal \"%s\" was written anew: no line ends at offset %lld, up to "
		"which it was read",
		reader->journal, (long long) reader_position(reader));
	return false;
}

/* Goes on with the open file, and closes it at its end or when it fails; then another may hold the next byte. */
static void
advance_file(Reader *reader, size_t budget)
{
	FragmentsReader *own = reader->private;
	FragmentStatus status = FRAGMENT_MORE;

	if (own->verified && own->doubted && !settle_doubt(reader, &status))
	{
		close_file(reader);
		return;
	}
	if (status == FRAGMENT_MORE && !own->doubted)
		status = own->verified ? read_slice(reader, budget) : verify_slice(reader, budget);
	if (status == FRAGMENT_MORE)
		return;
	if (status != FRAGMENT_DONE)
	{
		const char *error = sophia_fragment_error(own->file);

		fail_file(reader, own->fragment, status, error[0] != '\0' ? error : "out of memory");
	}
	close_file(reader);
}

bool
sophia_fragments_serve(Reader *reader)
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

/* ---- open and close ---- */

void
sophia_fragments_open_reader(Reader *reader)
{
	reader->private = MemoryContextAllocZero(reader->source->context, sizeof(FragmentsReader));
}

void
sophia_fragments_close_reader(Reader *reader)
{
	close_file(reader);
	pfree(reader->private);
	reader->private = NULL;
}
