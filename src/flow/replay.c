/*
 * replay.c
 *		Reading documents again that were set aside: see replay.h.
 */
#include "postgres.h"

#include "flow/replay.h"

#include "access/xact.h"
#include "flow/document.h"
#include "flow/row.h"
#include "flow/uuid.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "store/events.h"
#include "store/producers.h"
#include "store/statement.h"
#include "utils/memutils.h"

/* Enough for a transaction, and how long more is waited for. */
#define SLICE_BYTES (4 * 1024 * 1024)
#define LINGER_MS	20

static JsonParser parser;
static Arena arena;

void
sophia_replay_open(Journal *journal, Producer *producer)
{
	Replay *replay = MemoryContextAllocZero(GetMemoryChunkContext(journal), sizeof(Replay));

	replay->producer = producer;
	replay->next = producer->state.begin;
	replay->sequence = (ProducerState){.last_ack = producer->state.last_ack,
									   .max_clock = producer->state.last_ack,
									   .begin = -1,
									   .known = true};
	replay->reader = sophia_reader_open(journal->reader->source, journal->name, replay->next);
	replay->reader->again = true;
	journal->replay = replay;
}

void
sophia_replay_close(Journal *journal)
{
	sophia_reader_close(journal->replay->reader);
	pfree(journal->replay);
	journal->replay = NULL;
}

bool
sophia_replay_ready(Replay *replay, int64 now, int64 *next)
{
	const Reader *reader = replay->reader;
	size_t size = buffer_size(&reader->content);
	int64 end = reader->offset + (int64) size;

	if (reader->offset > replay->next)
		return true;
	if (size == 0 || memchr(buffer_bytes(&reader->content), '\n', size) == NULL)
		return false;
	if (reader->paused || size >= SLICE_BYTES || end > replay->producer->gap_end)
		return true;
	if (end != replay->read_end)
	{
		replay->read_end = end;
		replay->read_at = now;
	}
	if (now - replay->read_at >= LINGER_MS)
		return true;
	*next = Min(*next, replay->read_at + LINGER_MS);
	return false;
}

static void
add_event(const char *stream, const Journal *journal, const char *name, int64 offset,
		  const char *detail)
{
	uint64 clock = journal->replay->producer->state.max_clock;
	StreamEvent event = {.name = name,
						 .offset = offset,
						 .clock = clock,
						 .published_at = sophia_row_published(clock),
						 .detail = detail};

	sophia_events_add(stream, journal->name, &event);
}

/* Tells that documents which the transaction may have had are gone from the source. */
static void
lose(const char *stream, Journal *journal, int64 from, int64 to)
{
	Producer *producer = journal->replay->producer;

	ereport(LOG,
			(errmsg("documents of a transaction in journal \"%s\" of stream \"%s\" may be lost",
					journal->name, stream),
			 errdetail("Producer %012llx acknowledges documents that were set aside; bytes %lld to"
					   " %lld, where they may have been, are gone from the source.",
					   (unsigned long long) producer->id, (long long) from, (long long) to)));
	add_event(stream, journal, "history_gone", from,
			  psprintf("{\"producer\": \"%012llx\", \"from\": %lld, \"to\": %lld}",
					   (unsigned long long) producer->id, (long long) from, (long long) to));
}

/* Stages a line if it is a pending document of the producer. */
static void
take_line(Replay *replay, ProducerRows *rows, const char *line, size_t length, int64 offset)
{
	DocumentUuid uuid;

	sophia_document_skim(&parser, &arena, line, length);
	if (parser.uuid.kind != JSON_STRING ||
		!sophia_uuid_parse(parser.uuid.u.text, parser.uuid.length, &uuid) ||
		uuid.producer != replay->producer->id || uuid.clock == 0 ||
		(uuid.flags & DOCUMENT_FLAG_ACK) != 0 || (uuid.flags & DOCUMENT_FLAG_CONTINUE) == 0 ||
		sophia_sequence(&replay->sequence, uuid.clock, uuid.flags, offset).outcome !=
			SEQUENCE_PENDING ||
		(uuid.flags & DOCUMENT_FLAG_CONTROL) != 0)
		return;
	sophia_producers_stage(rows, replay->producer->id, offset, uuid.clock, line, length);
	replay->documents++;
}

/* Takes the whole lines that begin before the end of what was set aside; returns the bytes taken. */
static size_t
take_lines(Replay *replay, ProducerRows *rows)
{
	const Reader *reader = replay->reader;
	const char *start = buffer_bytes(&reader->content);
	size_t size = buffer_size(&reader->content);
	size_t taken = 0;

	while (taken < size && reader->offset + (int64) taken < replay->producer->gap_end)
	{
		const char *line = start + taken;
		const char *newline = memchr(line, '\n', size - taken);

		if (newline == NULL)
			break;
		CHECK_FOR_INTERRUPTS();
		take_line(replay, rows, line, newline - line, reader->offset + (int64) taken);
		taken += newline - line + 1;
	}
	return taken;
}

/* All is staged again: the producer is as if nothing had been set aside. */
static void
complete(const char *stream, Journal *journal, ProducerRows *rows)
{
	Producer *producer = journal->replay->producer;
	StoredProducer stored = {producer->id, producer->state.last_ack, producer->state.max_clock,
							 producer->state.begin, -1};

	sophia_producers_put(rows, &stored);
	add_event(stream, journal, "read_again", producer->state.begin,
			  psprintf("{\"producer\": \"%012llx\", \"documents\": %lld}",
					   (unsigned long long) producer->id, (long long) journal->replay->documents));
}

/* The part inside the transaction, behind the fence; *done: it was the last slice. */
static size_t
run_slice(const char *stream, Journal *journal, bool *done)
{
	Replay *replay = journal->replay;
	Producer *producer = replay->producer;
	int64 at = replay->reader->offset;
	ProducerRows *rows = sophia_producers_rows();
	size_t taken;

	if (!replay->begun)
		sophia_producers_unstage_before(stream, journal->name, producer->id, producer->gap_end);
	if (at > replay->next)
		lose(stream, journal, replay->next, Min(at, producer->gap_end));
	taken = take_lines(replay, rows);
	*done = at + (int64) taken >= producer->gap_end;
	if (*done)
		complete(stream, journal, rows);
	sophia_producers_save(rows, stream, journal->name);
	return taken;
}

BatchResult
sophia_replay_run(const char *stream, Journal *journal)
{
	MemoryContext caller = CurrentMemoryContext;
	Replay *replay = journal->replay;
	BatchResult result;
	size_t taken = 0;
	bool done = false;

	sophia_arena_reset(&arena);
	sophia_transaction_begin("reading documents again");
	result = sophia_fence(stream, journal);
	if (result != BATCH_APPLIED)
	{
		SPI_finish();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller);
		pgstat_report_activity(STATE_IDLE, NULL);
		return result;
	}
	taken = run_slice(stream, journal, &done);
	sophia_transaction_commit(caller);
	replay->begun = true;
	sophia_reader_consume(replay->reader, taken);
	replay->next = replay->reader->offset;
	if (done)
	{
		replay->producer->gap_end = -1;
		replay->producer->staged = true;
		sophia_replay_close(journal);
	}
	return BATCH_APPLIED;
}
