/*
 * stream_journals.c
 *		The journals of a stream: which are open, and opening those that are not.  See stream_journals.h.
 */
#include "postgres.h"

#include "flow/stream_journals.h"

#include "base/guard.h"
#include "store/checkpoint.h"
#include "store/statement.h"
#include "utils/memutils.h"

Journal *
sophia_stream_find_journal(Stream *stream, const char *name)
{
	ListCell *cell;

	foreach(cell, stream->journals)
	{
		Journal *journal = lfirst(cell);

		if (strcmp(journal->name, name) == 0)
			return journal;
	}
	return NULL;
}

/* True while the stream has never listed its journals, so that option start_from says where they begin. */
static bool
is_first_listing(const Stream *stream)
{
	return !stream->listed && !stream->any_before && strcmp(stream->state, "starting") == 0;
}

/* To the end, or to a time: then the source has said which offset that is. */
static bool
rewinds_to_end(const Stream *stream)
{
	return stream->definition.rewinds && TIMESTAMP_IS_NOEND(stream->definition.rewind_to);
}

bool
sophia_stream_is_located(Stream *stream)
{
	ListCell *cell;

	if (rewinds_to_end(stream))
		return true;
	foreach(cell, stream->source->journals)
	{
		SourceJournal *listed = lfirst(cell);

		if (!listed->removed && listed->located < 0)
			return false;
	}
	return true;
}

static int64
rewind_offset(const Stream *stream, const SourceJournal *listed)
{
	return rewinds_to_end(stream) ? Max(listed->write_head, 0) : listed->located;
}

/* Does the rewind that is due; false when a newer one has come, which the next configuration brings. */
static bool
rewind_journals(Stream *stream)
{
	ListCell *cell;

	if (!sophia_checkpoint_rewind_begin(stream->definition.stream, stream->definition.rewound_at))
		return false;
	foreach(cell, stream->source->journals)
	{
		SourceJournal *listed = lfirst(cell);

		if (!listed->removed)
			sophia_checkpoint_rewind(stream->definition.stream, listed->name,
									 rewind_offset(stream, listed), rewinds_to_end(stream));
	}
	return true;
}

/* The part of sophia_stream_open_journals() inside the transaction; false when it is not the time for it. */
static bool
open_listed(Stream *stream)
{
	ListCell *cell;

	if (!sophia_guard_extension() ||
		!sophia_checkpoint_stream_active(stream->definition.stream, stream->definition.created_at))
		return false;
	if (stream->definition.rewinds && !rewind_journals(stream))
		return false;
	foreach(cell, stream->source->journals)
	{
		SourceJournal *listed = lfirst(cell);
		int64 start = 0;
		Journal *journal;
		MemoryContext old;

		if (listed->removed || sophia_stream_find_journal(stream, listed->name) != NULL)
			continue;
		if (stream->definition.rewinds)
			start = rewind_offset(stream, listed);
		else if (stream->definition.from_end && is_first_listing(stream))
			start = Max(listed->write_head, 0);
		journal = sophia_journal_open(stream->context, stream->source, listed,
									  stream->definition.stream, start);
		journal->truncates = stream->definition.truncates;
		journal->stream_since = stream->definition.created_at;
		/* SPI has left its own context current, which ends with the transaction */
		old = MemoryContextSwitchTo(stream->context);
		stream->opening = lappend(stream->opening, journal);
		MemoryContextSwitchTo(old);
	}
	return true;
}

static void
open_in_transaction(void *argument)
{
	Stream *stream = argument;
	MemoryContext context = CurrentMemoryContext;
	bool opened;

	sophia_transaction_begin("opening journals");
	opened = open_listed(stream);
	sophia_transaction_commit(context);
	context = MemoryContextSwitchTo(stream->context);
	stream->journals = list_concat(stream->journals, stream->opening);
	MemoryContextSwitchTo(context);
	list_free(stream->opening);
	stream->opening = NIL;
	stream->listed |= opened;
	stream->definition.rewinds &= !opened;
}

bool
sophia_stream_open_journals(Stream *stream, Failure *failure)
{
	if (sophia_attempt(open_in_transaction, stream, failure))
		return true;
	sophia_stream_close_journals(&stream->opening);
	return false;
}

void
sophia_stream_close_outdated_journals(Stream *stream)
{
	List *outdated = NIL;
	ListCell *cell;

	foreach(cell, stream->journals)
	{
		Journal *journal = lfirst(cell);

		if (journal->revision != journal->listed->revision && journal->listed->revision != 0)
			outdated = lappend(outdated, journal);
	}
	foreach(cell, outdated)
		stream->journals = list_delete_ptr(stream->journals, lfirst(cell));
	sophia_stream_close_journals(&outdated);
}

bool
sophia_stream_has_unopened_journals(Stream *stream)
{
	ListCell *cell;

	foreach(cell, stream->source->journals)
	{
		SourceJournal *listed = lfirst(cell);

		if (!listed->removed && sophia_stream_find_journal(stream, listed->name) == NULL)
			return true;
	}
	return false;
}

void
sophia_stream_close_journals(List **journals)
{
	ListCell *cell;

	foreach(cell, *journals)
		sophia_journal_close(lfirst(cell));
	list_free(*journals);
	*journals = NIL;
}
