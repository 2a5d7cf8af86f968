/*
 * stream.c
 *		One stream as the ingest worker follows it: see stream.h.
 *
 * State: opened -> listed (journals open, stored state 'running') -> ended.  Each stream fails alone: an error that may
 * pass is tried again with backoff, one that lies in a document makes the next batch careful, any other one is stored as the
 * stream's reason to be 'failed'.
 */
#include "postgres.h"

#include "flow/stream.h"

#include "base/guard.h"
#include "base/settings.h"
#include "flow/apply.h"
#include "flow/attempt.h"
#include "flow/evolution.h"
#include "flow/stream_fields.h"
#include "flow/stream_journals.h"
#include "store/checkpoint.h"
#include "store/statement.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define HEAD_SAVE_MS 1000

/* A stream that has so much to read takes its turns behind the others. */
#define BUSY_BACKLOG (4 * 1024 * 1024)

/* Tries that find something locked before the stream's status mentions it. */
#define LOCKED_SILENTLY 6

/* No line is longer than this, which leaves room below what a bytea holds. */
#define MAX_LINE (512 * 1024 * 1024)

Stream *
sophia_stream_open(MemoryContext parent, const StreamDefinition *definition, const char *state,
				   const char *last_error)
{
	MemoryContext context =
		AllocSetContextCreate(parent, "sophia_stack stream", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Stream *stream = palloc0(sizeof(Stream));

	stream->context = context;
	stream->definition = *definition;
	stream->definition.stream = pstrdup(definition->stream);
	stream->definition.kind = pstrdup(definition->kind);
	stream->definition.address = pstrdup(definition->address);
	stream->definition.token = definition->token != NULL ? pstrdup(definition->token) : NULL;
	stream->definition.collection = pstrdup(definition->collection);
	stream->definition.shape = pstrdup(definition->shape);
	stream->definition.misfit = definition->misfit != NULL ? pstrdup(definition->misfit) : NULL;
	stream->evolution = sophia_evolution_create(context, stream->definition.stream,
												definition->evolves, stream->definition.misfit);
	stream->definition.options = pstrdup(definition->options);
	stream->state = pstrdup(state);
	stream->last_error = last_error != NULL ? pstrdup(last_error) : NULL;
	sophia_backoff_init(&stream->backoff, (uint64) (uintptr_t) stream);
	sophia_backoff_init(&stream->fields_backoff, (uint64) (uintptr_t) stream);
	MemoryContextSwitchTo(old);
	return stream;
}

/* Back to where nothing is open. */
static void
close_source(Stream *stream)
{
	sophia_stream_close_journals(&stream->journals);
	stream->listed = false;
	if (stream->source != NULL)
		sophia_source_close(stream->source);
	stream->source = NULL;
	if (stream->shape != NULL)
		sophia_shape_free(stream->shape);
	stream->shape = NULL;
}

void
sophia_stream_close(Stream *stream)
{
	close_source(stream);
	MemoryContextDelete(stream->context);
}

void
sophia_stream_stored(Stream *stream, const char *state, const char *last_error)
{
	pfree(stream->state);
	stream->state = MemoryContextStrdup(stream->context, state);
	if (stream->last_error != NULL)
		pfree(stream->last_error);
	stream->last_error =
		last_error != NULL ? MemoryContextStrdup(stream->context, last_error) : NULL;
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
sophia_stream_matches(const Stream *stream, const StreamDefinition *definition)
{
	const StreamDefinition *mine = &stream->definition;

	return same_text(mine->stream, definition->stream) && same_text(mine->kind, definition->kind) &&
		   same_text(mine->address, definition->address) &&
		   same_text(mine->token, definition->token) &&
		   same_text(mine->collection, definition->collection) &&
		   same_text(mine->shape, definition->shape) &&
		   same_text(mine->options, definition->options) &&
		   mine->created_at == definition->created_at && mine->rewound_at == definition->rewound_at;
}

uint64
sophia_stream_refresh(Stream *stream)
{
	return ++stream->source->refresh_wanted;
}

/* Arguments of store_state(). */
typedef struct StateChange
{
	const StreamDefinition *definition;
	const char *state;
	const char *error;
	bool stored;
} StateChange;

static void
store_state(void *argument)
{
	StateChange *change = argument;
	MemoryContext context = CurrentMemoryContext;

	sophia_transaction_begin("recording the state of a stream");
	change->stored = sophia_guard_extension();
	if (change->stored)
		sophia_checkpoint_stream_state(change->definition->stream, change->definition->created_at,
									   change->state, change->error);
	sophia_transaction_commit(context);
}

/* Stores state and error where they differ from what is stored. */
static void
set_state(Stream *stream, const char *state, const char *error)
{
	StateChange change = {&stream->definition, state, error, false};
	Failure ignored;

	if (strcmp(stream->state, state) == 0 && same_text(stream->last_error, error))
		return;
	if (sophia_attempt(store_state, &change, &ignored) && change.stored)
		sophia_stream_stored(stream, state, error);
	/* else it is tried again at the next turn */
}

/* Arguments of save_head(). */
typedef struct HeadCall
{
	Stream *stream;
	Journal *journal;
} HeadCall;

/* Stores a write head that moved while no batch could follow it. */
static void
save_head(void *argument)
{
	HeadCall *call = argument;
	MemoryContext context = CurrentMemoryContext;
	CheckpointChange change = {.next_offset = call->journal->next_offset,
							   .write_head = sophia_journal_head(call->journal)};
	const char *stream = call->stream->definition.stream;

	sophia_transaction_begin("recording a write head");
	if (sophia_guard_extension() &&
		sophia_checkpoint_lock(stream, call->journal->name) == change.next_offset)
	{
		sophia_checkpoint_save(stream, call->journal->name, &change);
		call->journal->stored_head = change.write_head;
	}
	sophia_transaction_commit(context);
}

/* The same for all journals: how far a stream that fails is behind. */
static void
save_heads(Stream *stream)
{
	ListCell *cell;

	foreach(cell, stream->journals)
	{
		HeadCall call = {stream, lfirst(cell)};
		Failure ignored;

		if (sophia_journal_head(call.journal) != call.journal->stored_head)
			sophia_attempt(save_head, &call, &ignored);
	}
}

/* A permanent error: the stream is disabled with its reason, and closed. */
static void
fail(Stream *stream, const char *message)
{
	ereport(LOG, (errmsg("stream \"%s\" failed: %s", stream->definition.stream, message)));
	save_heads(stream);
	set_state(stream, "failed", message);
	stream->ended = true;
}

/* Why a stream with too many dead letters fails. */
static const char *
over_limit(void)
{
	return psprintf(
		"stream has more than %d dead letters (sophia_stack.dead_letter_limit): replay or"
		" discard them, then start the stream",
		sophia_dead_letter_limit);
}

/* Something failed that is not tied to one document. */
static void
take_failure(Stream *stream, const Failure *failure)
{
	if (!sophia_failure_is_transient(failure))
	{
		fail(stream, failure->message);
		return;
	}
	strlcpy(stream->batch_error, failure->message, sizeof(stream->batch_error));
	stream->retry_at = sophia_clock_ms() + sophia_backoff_next(&stream->backoff);
}

/* What take_failure() noted is over: everything is open. */
static void
forget_failure(Stream *stream)
{
	if (stream->retry_at == 0)
		return;
	stream->retry_at = 0;
	stream->batch_error[0] = '\0';
	sophia_backoff_reset(&stream->backoff);
}

static uint64 sources_opened;

/* Loads the shape and opens the source. */
static void
open_source(void *argument)
{
	Stream *stream = argument;
	const StreamDefinition *definition = &stream->definition;
	const SourceKind *kind = sophia_source_kind(definition->kind);
	MemoryContext context = CurrentMemoryContext;

	if (kind == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("endpoint kind \"%s\" is not supported", definition->kind)));
	sophia_transaction_begin("opening a stream");
	if (sophia_batch_over_limit(definition->stream))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg_internal("%s", over_limit())));
	stream->any_before = sophia_checkpoint_any(definition->stream);
	sophia_stream_load_shape(stream);
	sophia_transaction_commit(context);
	kind->check_address(definition->address);
	stream->source = sophia_source_open(stream->context, kind, definition->address,
										definition->token, definition->collection);
	stream->source_number = ++sources_opened;
	if (definition->rewinds)
		stream->source->locate_time = definition->rewind_to;
	sophia_stream_refresh(stream);
}

static void
pump_source(void *argument)
{
	Source *source = argument;

	sophia_source_allot(source);
	source->kind->pump(source);
}

/* Arguments of run_batch(). */
typedef struct BatchCall
{
	Stream *stream;
	Journal *journal;
	int64 slice_ms;
	BatchResult result;
} BatchCall;

static void
run_batch(void *argument)
{
	BatchCall *call = argument;

	call->result = sophia_batch_run(call->stream->definition.stream, call->stream->shape,
									call->journal, call->slice_ms);
}

/* Opens a journal anew from its checkpoint, because what memory holds of it is not to be trusted. */
static void
reopen_journal(Stream *stream, Journal *journal, bool careful)
{
	Backoff backoff = journal->backoff;
	int64 retry_at = journal->retry_at;
	SourceJournal *listed = journal->listed;
	Failure failure;

	stream->journals = list_delete_ptr(stream->journals, journal);
	sophia_journal_close(journal);
	if (!sophia_stream_open_journals(stream, &failure))
	{
		take_failure(stream, &failure);
		return;
	}
	journal = sophia_stream_find_journal(stream, listed->name);
	if (journal == NULL)
		return;
	journal->careful = careful;
	journal->backoff = backoff;
	journal->retry_at = retry_at;
}

/* A batch was given up for a column that must be wider first; true when it can be run again at once. */
static bool
widen_for(Stream *stream, Journal *journal)
{
	Failure failure;
	bool done = sophia_stream_widen(stream, &failure);

	if (!done)
	{
		strlcpy(stream->batch_error, failure.message, sizeof(stream->batch_error));
		journal->retry_at = sophia_clock_ms() + sophia_backoff_next(&journal->backoff);
	}
	reopen_journal(stream, journal, false);
	return done;
}

/* One batch of one journal; true when something was done. */
static bool
turn_journal(Stream *stream, Journal *journal, int64 slice_ms)
{
	BatchCall call = {stream, journal, slice_ms, BATCH_AGAIN};
	Failure failure;

	if (!sophia_attempt(run_batch, &call, &failure))
	{
		bool careful = sophia_is_data_error(failure.sqlstate) && !journal->careful;

		if (!careful)
		{
			/* in careful mode no document can be to blame any more */
			if (!sophia_failure_is_transient(&failure))
			{
				fail(stream, failure.message);
				return false;
			}
			strlcpy(stream->batch_error, failure.message, sizeof(stream->batch_error));
			journal->retry_at = sophia_clock_ms() + sophia_backoff_next(&journal->backoff);
		}
		reopen_journal(stream, journal, careful || journal->careful);
		return careful;
	}
	switch (call.result)
	{
		case BATCH_APPLIED:
			sophia_backoff_reset(&journal->backoff);
			journal->retry_at = 0;
			stream->batch_error[0] = '\0';
			return true;
		case BATCH_REFUSED:
			fail(stream, over_limit());
			return false;
		case BATCH_AGAIN:
			journal->retry_at = sophia_clock_ms() + sophia_backoff_next(&journal->backoff);
			if (journal->backoff.failures > LOCKED_SILENTLY)
				strlcpy(stream->batch_error, "waiting for a lock that another session holds",
						sizeof(stream->batch_error));
			return false;
		case BATCH_OUTDATED:
			reopen_journal(stream, journal, false);
			return false;
		case BATCH_STOPPED:
			stream->ended = true;
			return false;
		case BATCH_ALTERED:
			/* the turn that follows reads the shape anew */
			return true;
		case BATCH_WIDEN:
			return widen_for(stream, journal);
	}
	return false;
}

/* A line that is longer than what is read ahead gets more room, up to a limit. */
static void
make_room(Stream *stream, Journal *journal)
{
	Reader *reader = sophia_journal_reader(journal);

	if (!reader->paused || buffer_size(&reader->content) < reader->limit)
		return;
	if (reader->limit >= MAX_LINE)
		fail(stream, psprintf("journal \"%s\" holds a line of more than %d MB at offset %lld",
							  journal->name, MAX_LINE / (1024 * 1024), (long long) reader->offset));
	else if (sophia_reader_grow(reader))
	{
		reader->limit = Min(reader->limit, MAX_LINE);
		stream->source->wake_at = GetCurrentTimestamp();
	}
}

/* Stores the head of a journal that has no batch to store it with. */
static void
note_head(Stream *stream, Journal *journal, int64 now)
{
	HeadCall call = {stream, journal};
	Failure ignored;

	if (sophia_journal_head(journal) == journal->stored_head ||
		now - journal->head_saved_at < HEAD_SAVE_MS)
		return;
	journal->head_saved_at = now;
	sophia_attempt(save_head, &call, &ignored);
}

/* The journals in the order of this turn: the next turn goes on behind the one that this one ends with. */
static List *
journals_in_turn(Stream *stream)
{
	int n = list_length(stream->journals);
	List *journals = NIL;

	for (int i = 0; i < n; i++)
		journals = lappend(journals, list_nth(stream->journals, (stream->next_journal + i) % n));
	return journals;
}

/* What a batch may take of the turn that began at `start`; a part of it in any case. */
static int64
time_left(int64 start, int64 slice_ms)
{
	return Max(slice_ms - (sophia_clock_ms() - start), slice_ms / 4);
}

/* Each journal once, or as many as the time allows; returns when to come again. */
static int64
turn_journals(Stream *stream, int64 now, int64 slice_ms)
{
	int64 next = now + 1000;
	List *journals = journals_in_turn(stream); /* reopening changes the list */
	int served = 0;
	ListCell *cell;

	foreach(cell, journals)
	{
		Journal *journal = lfirst(cell);

		if (stream->ended)
			break;
		if (slice_ms > 0 && served > 0 && sophia_clock_ms() - now >= slice_ms)
		{
			next = now;
			break;
		}
		served++;
		if (sophia_batch_ready(journal, now, &next))
		{
			if (journal->retry_at > now)
				next = Min(next, journal->retry_at);
			else if (turn_journal(stream, journal, time_left(now, slice_ms)))
				next = now;
		}
		else
		{
			make_room(stream, journal);
			note_head(stream, journal, now);
		}
	}
	if (served < list_length(journals))
		stream->next_journal = (stream->next_journal + served) % list_length(journals);
	list_free(journals);
	return next;
}

/* Bytes that are known to be in the journals and not applied. */
static int64
backlog(const Stream *stream)
{
	int64 bytes = 0;
	ListCell *cell;

	foreach(cell, stream->journals)
	{
		Journal *journal = lfirst(cell);

		bytes += sophia_journal_head(journal) - journal->next_offset;
	}
	return bytes;
}

/* True while some journal holds a whole line that a batch or a replay can take. */
static bool
has_whole_line(const Stream *stream)
{
	ListCell *cell;

	foreach(cell, stream->journals)
	{
		const ByteBuffer *content = &sophia_journal_reader(lfirst(cell))->content;
		size_t size = buffer_size(content);

		if (size > 0 && memchr(buffer_bytes(content), '\n', size) != NULL)
			return true;
	}
	return false;
}

/* Opens what is not open yet; false while the stream has nothing to read from. */
static bool
prepare(Stream *stream, int64 now)
{
	Failure failure;

	if (stream->retry_at > now)
		return false;
	if (stream->source == NULL && !sophia_attempt(open_source, stream, &failure))
	{
		close_source(stream);
		take_failure(stream, &failure);
		return false;
	}
	if (!sophia_attempt(pump_source, stream->source, &failure))
	{
		/* what it left behind is not to be trusted */
		close_source(stream);
		take_failure(stream, &failure);
		return false;
	}
	/* what was read before the error is applied first */
	if (stream->source->error_permanent && !has_whole_line(stream))
	{
		fail(stream, stream->source->error_message);
		return false;
	}
	if (stream->source->refresh_done == 0 ||
		(stream->definition.rewinds && !sophia_stream_is_located(stream)))
		return false;
	sophia_stream_close_outdated_journals(stream);
	if ((!stream->listed || sophia_stream_has_unopened_journals(stream)) &&
		!sophia_stream_open_journals(stream, &failure))
	{
		take_failure(stream, &failure);
		return false;
	}
	if (!sophia_stream_refresh_shape(stream, &failure))
	{
		take_failure(stream, &failure);
		return false;
	}
	forget_failure(stream);
	return true;
}

int64
sophia_stream_turn(Stream *stream, int64 slice_ms)
{
	int64 now = sophia_clock_ms();
	int64 next = now + 1000;
	const char *error;

	if (prepare(stream, now))
	{
		next = turn_journals(stream, now, slice_ms);
		if (!stream->ended)
		{
			int64 fields_at = sophia_stream_turn_fields(stream, now);

			next = Min(next, fields_at);
		}
	}
	if (stream->ended)
		return now;
	stream->busy = backlog(stream) >= BUSY_BACKLOG;
	error = stream->source != NULL && stream->source->error_message[0] != '\0'
				? stream->source->error_message
				: stream->batch_error;
	set_state(stream, stream->listed ? "running" : "starting", error[0] != '\0' ? error : NULL);
	if (stream->source != NULL && stream->source->wake_at != 0)
	{
		int64 wait =
			TimestampDifferenceMilliseconds(GetCurrentTimestamp(), stream->source->wake_at);

		next = Min(next, now + wait);
	}
	return stream->retry_at > now ? Max(next, Min(stream->retry_at, now + 1000)) : next;
}
