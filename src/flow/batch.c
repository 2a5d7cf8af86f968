/*
 * batch.c
 *		From lines to a committed batch: see batch.h.
 *
 * Each line is parsed once and sequenced; what is committed goes to sophia_apply() in commit order, what is pending at
 * the end is staged.  Documents point into the reader's content, which stays as it is until the commit.  Trees live in one arena
 * for the process; documents that come back from staging are applied in slices with an arena of their own, so that a
 * transaction of any size is applied whole in bounded memory.
 */
#include "postgres.h"

#include "flow/batch.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/xact.h"
#include "base/settings.h"
#include "flow/apply.h"
#include "flow/control_document.h"
#include "flow/document.h"
#include "flow/evolution.h"
#include "flow/groups.h"
#include "flow/notice.h"
#include "flow/replay.h"
#include "flow/tidy.h"
#include "flow/truncate.h"
#include "flow/uuid.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/lmgr.h"
#include "store/checkpoint.h"
#include "store/producers.h"
#include "store/statement.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* A batch ends at the first of these when no transaction is open then, else as soon as none is, at twice these at most. */
#define BATCH_BYTES		(4 * 1024 * 1024)
#define BATCH_DOCUMENTS 8192

/* More is known to be in the journal, but none came for so long: what is there is applied. */
#define LINGER_MS 20

/* What a batch takes when there is little time. */
#define BATCH_LEAST (128 * 1024)

/* A batch this large holds a large document. */
#define GIVE_BACK_BYTES (4 * BATCH_BYTES)

#define STAGED_FETCH 4096

/* A document that waits for the acknowledgement of its producer. */
typedef struct PendingDocument
{
	struct PendingDocument *next;
	ApplyDocument given;
	JsonProblem problem;
	size_t problem_at;
	bool skimmed;
} PendingDocument;

typedef struct Batch
{
	const char *stream;
	Shape *shape;
	Journal *journal;
	MemoryContext context;
	MemoryContext slice; /* reset by each flush() */
	Apply apply;
	ApplyDocument *documents; /* committed, not yet applied */
	int n;
	int room;
	size_t bytes;
	size_t limit; /* bytes */
	int64 at;	  /* offset of the line that is taken */
	int open;	  /* producers with documents that are pending in memory */
	bool skims;	  /* the next document is probably one to be staged: no tree is built of it */
	uint64 now;	  /* clock of this moment */
	CheckpointChange change;
} Batch;

static JsonParser parser;
static Arena line_arena;
static Arena staged_arena;
static Arena page_arena; /* entries of pages */
static Arena row_arena;	 /* reduced documents */

/* True unless more content will be there soon.  It is waited for, so that transactions are neither small nor cut. */
static bool
has_enough(Journal *journal, int64 now, int64 *next)
{
	const Reader *reader = journal->reader;
	int64 end = reader->offset + (int64) buffer_size(&reader->content);

	if (reader->paused || end >= sophia_journal_head(journal) ||
		(journal->limit > 0 && buffer_size(&reader->content) >= journal->limit * 2))
		return true;
	if (end != journal->read_end)
	{
		journal->read_end = end;
		journal->read_at = now;
	}
	if (now - journal->read_at >= LINGER_MS)
		return true;
	*next = Min(*next, journal->read_at + LINGER_MS);
	return false;
}

/* True when the reader holds a whole line; what was searched in vain is not searched again. */
static bool
has_line(Journal *journal)
{
	const Reader *reader = journal->reader;
	size_t size = buffer_size(&reader->content);
	size_t from = Max(journal->searched - reader->offset, 0);

	if (from > size)
		from = 0;
	if (memchr(buffer_bytes(&reader->content) + from, '\n', size - from) != NULL)
		return true;
	journal->searched = reader->offset + size;
	return false;
}

bool
sophia_batch_ready(Journal *journal, int64 now, int64 *next)
{
	const Reader *reader = journal->reader;
	size_t size = buffer_size(&reader->content);

	if (journal->replay != NULL)
		return sophia_replay_ready(journal->replay, now, next);
	if (size == 0)
		return reader->offset > journal->next_offset;
	return has_line(journal) && has_enough(journal, now, next);
}

static void
write_dead_letter(Batch *batch, const char *line, size_t length, int64 offset, int sqlstate,
				  const char *reason)
{
	if (sophia_checkpoint_dead_letter(batch->stream, batch->journal->name, offset, line, length,
									  reason, sqlstate))
		batch->change.dead++;
}

static void
write_problem(Batch *batch, const ApplyDocument *given, JsonProblem problem, size_t at)
{
	const char *reason;
	int sqlstate = sophia_document_problem(problem, at, &reason);

	write_dead_letter(batch, given->line, given->length, given->document.offset, sqlstate, reason);
}

/* Applies what is collected. */
static void
flush(Batch *batch)
{
	const ApplyDocument *documents;
	int n = batch->n;
	ListCell *cell;

	MemoryContextSwitchTo(batch->slice);
	sophia_arena_reset(&page_arena);
	documents = sophia_groups_open_pages(batch->shape, &page_arena, batch->documents, &n);
	if (batch->journal->careful)
		sophia_apply_carefully(&batch->apply, documents, n);
	else
		sophia_apply(&batch->apply, documents, n);
	sophia_evolution_look(batch->shape->evolution, batch->journal->name, documents, n);
	foreach(cell, batch->apply.dead)
	{
		DeadLetter *letter = lfirst(cell);

		write_dead_letter(batch, letter->line, letter->length, letter->offset, letter->sqlstate,
						  letter->reason);
	}
	batch->apply.dead = NIL;
	batch->n = 0;
	batch->bytes = 0;
	MemoryContextSwitchTo(batch->context);
	MemoryContextReset(batch->slice);
}

/* A document that is committed: to its row, or to the dead letters. */
static void
commit_document(Batch *batch, const ApplyDocument *given, JsonProblem problem, size_t problem_at)
{
	if (problem != JSON_FINE)
		write_problem(batch, given, problem, problem_at);
	else if (sophia_document_too_large(given->length))
	{
		const char *reason;
		int sqlstate = sophia_document_problem_of_size(given->length, &reason);

		write_dead_letter(batch, given->line, given->length, given->document.offset, sqlstate,
						  reason);
	}
	else
	{
		if (batch->n == batch->room)
		{
			batch->room = Max(batch->room * 2, 256);
			batch->documents =
				batch->documents == NULL
					? MemoryContextAlloc(batch->context, sizeof(ApplyDocument) * batch->room)
					: repalloc_huge(batch->documents, sizeof(ApplyDocument) * batch->room);
		}
		batch->documents[batch->n] = *given;
		if (batch->at < batch->journal->rewound_until)
			batch->documents[batch->n].document.rewound_from = batch->journal->rewound_from;
		batch->n++;
		batch->bytes += given->length;
	}
}

/* Row number `i` of the cursor's current ones, in the memory of a slice; false when its clock is out of bounds. */
static bool
read_staged(Batch *batch, SPITupleTable *table, uint64 i, uint64 after, uint64 through,
			ApplyDocument *given)
{
	bool null;
	bytea *stored;

	*given = (ApplyDocument){0};
	given->document.offset = DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 1, &null));
	given->document.clock =
		(uint64) DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 2, &null));
	if (given->document.clock <= after || given->document.clock > through)
		return false;
	MemoryContextSwitchTo(batch->slice);
	stored = DatumGetByteaPP(SPI_getbinval(table->vals[i], table->tupdesc, 3, &null));
	given->line = VARDATA_ANY(stored);
	given->length = VARSIZE_ANY_EXHDR(stored);
	sophia_document_parse(&parser, &staged_arena, given);
	return true;
}

/* Applies what was collected of the staged documents and gives their memory back. */
static void
flush_staged(Batch *batch)
{
	flush(batch);
	sophia_arena_reset(&staged_arena);
	CHECK_FOR_INTERRUPTS();
}

/* Documents of a producer that an earlier batch staged and that its acknowledgement now commits; returns how many. */
static uint64
commit_staged(Batch *batch, Producer *producer, uint64 after, uint64 through)
{
	Portal cursor;
	uint64 committed = 0;

	flush(batch);
	cursor = sophia_producers_staged(batch->stream, batch->journal->name, producer->id);
	while (SPI_cursor_fetch(cursor, true, STAGED_FETCH), SPI_processed > 0)
	{
		SPITupleTable *table = SPI_tuptable;
		uint64 rows = SPI_processed;

		for (uint64 i = 0; i < rows; i++)
		{
			ApplyDocument given;

			if (!read_staged(batch, table, i, after, through, &given))
				continue;
			commit_document(batch, &given, parser.problem, parser.problem_at);
			committed++;
			if (batch->bytes >= BATCH_BYTES)
				flush_staged(batch);
		}
		flush_staged(batch);
		SPI_freetuptable(table);
	}
	SPI_cursor_close(cursor);
	return committed;
}

/* Forgets what is pending of a producer, here and in the table; returns how many documents that were. */
static uint64
drop_pending(Batch *batch, Producer *producer)
{
	uint64 n = 0;

	if (producer->staged)
		n = sophia_producers_unstage(batch->stream, batch->journal->name, producer->id);
	for (PendingDocument *pending = producer->first; pending != NULL; pending = pending->next)
		n++;
	producer->staged = false;
	producer->gap_end = -1;
	batch->open -= producer->first != NULL;
	producer->first = producer->last = NULL;
	return n;
}

/* An acknowledgement commits the pending documents with after < clock <= through; returns how many others are dropped. */
static uint64
commit_pending(Batch *batch, Producer *producer, uint64 after, uint64 through)
{
	uint64 committed = 0;

	if (producer->staged)
		committed = commit_staged(batch, producer, after, through);
	for (PendingDocument *pending = producer->first; pending != NULL; pending = pending->next)
	{
		if (pending->given.document.clock <= after || pending->given.document.clock > through)
			continue;
		if (pending->skimmed && pending->problem == JSON_FINE)
			sophia_document_parse(&parser, &line_arena, &pending->given);
		commit_document(batch, &pending->given, pending->problem, pending->problem_at);
		committed++;
	}
	return drop_pending(batch, producer) - committed;
}

static void
add_pending(Batch *batch, Producer *producer, const ApplyDocument *given)
{
	PendingDocument *pending = MemoryContextAlloc(batch->context, sizeof(PendingDocument));

	pending->next = NULL;
	pending->given = *given;
	pending->problem = parser.problem;
	pending->problem_at = parser.problem_at;
	pending->skimmed = parser.skim;
	if (producer->first == NULL)
	{
		producer->first = pending;
		batch->open++;
	}
	else
		producer->last->next = pending;
	producer->last = pending;
}

/* An acknowledgement or a control document is never a row; what it says becomes an event, or truncates. */
static void
take_control(Batch *batch, ApplyDocument *given, const DocumentUuid *uuid, bool committed)
{
	ControlDocument control = sophia_control_document_read(&given->document.root, uuid->flags);

	if (control.kind == CONTROL_BACKFILL_COMPLETE && committed && batch->journal->truncates)
	{
		flush(batch);
		sophia_truncate(batch->stream, batch->shape, batch->journal, given, &control);
	}
	else if (control.kind != CONTROL_NOTHING)
		sophia_notice_control(batch->stream, batch->journal, &batch->change, given, &control);
}

/*
 * A document whose uuid could be read takes its place in the sequence of its producer.  False: it commits documents that
 * must be read again first.
 */
static bool
sequence_document(Batch *batch, ApplyDocument *given, const DocumentUuid *uuid)
{
	Journal *journal = batch->journal;
	Producer *producer = sophia_journal_producer(journal, uuid->producer);
	bool data = (uuid->flags & (DOCUMENT_FLAG_ACK | DOCUMENT_FLAG_CONTROL)) == 0;
	ProducerState state = producer->state;
	SequenceResult result =
		sophia_sequence(&state, uuid->clock, uuid->flags, given->document.offset);
	uint64 dropped = 0;

	if (result.outcome == SEQUENCE_ACK_COMMIT && producer->gap_end >= 0)
	{
		journal->wanted = producer;
		return false;
	}
	producer->state = state;
	if (result.outcome == SEQUENCE_DUPLICATE)
		return true;
	if (uuid->clock != 0)
		sophia_journal_touch(journal, producer);
	if (result.discards_pending)
		dropped = drop_pending(batch, producer);
	switch (result.outcome)
	{
		case SEQUENCE_DUPLICATE:
		case SEQUENCE_ACK_EMPTY:
			break;
		case SEQUENCE_COMMIT:
			if (data && parser.skim && parser.problem == JSON_FINE)
				sophia_document_parse(&parser, &line_arena, given);
			if (data)
				commit_document(batch, given, parser.problem, parser.problem_at);
			break;
		case SEQUENCE_PENDING:
			if (data)
				add_pending(batch, producer, given);
			break;
		case SEQUENCE_ACK_COMMIT:
			dropped = commit_pending(batch, producer, result.commit_after, uuid->clock);
			break;
		case SEQUENCE_ROLLBACK:
			dropped = drop_pending(batch, producer);
			break;
	}
	if (!data)
		take_control(batch, given, uuid,
					 result.outcome != SEQUENCE_PENDING && result.outcome != SEQUENCE_ROLLBACK);
	if (result.anomaly != SEQUENCE_IN_ORDER)
		sophia_notice_anomaly(batch->stream, journal, &batch->change, given, uuid->producer,
							  result.anomaly, dropped);
	if (result.outcome != SEQUENCE_PENDING)
		sophia_tidy_note(journal, producer->state.last_ack, batch->now);
	batch->skims = producer->staged;
	return true;
}

static bool
is_blank(const char *line, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

/* One line of the journal, without its newline.  False: the batch ends before it. */
static bool
take_line(Batch *batch, const char *line, size_t length, int64 offset)
{
	ApplyDocument given = {.line = line, .length = length};
	DocumentUuid uuid;
	bool fine;

	if (is_blank(line, length))
		return true;
	fine = batch->skims ? sophia_document_skim(&parser, &line_arena, line, length)
						: sophia_document_parse(&parser, &line_arena, &given);
	given.document.offset = offset;
	if (parser.uuid.kind != JSON_STRING ||
		!sophia_uuid_parse(parser.uuid.u.text, parser.uuid.length, &uuid))
	{
		const char *reason;
		int sqlstate = sophia_document_problem_of_uuid(&reason);

		if (fine)
			write_dead_letter(batch, line, length, offset, sqlstate, reason);
		else
			write_problem(batch, &given, parser.problem, parser.problem_at);
		return true;
	}
	given.document.clock = uuid.clock;
	/* what is no data is never staged */
	if (batch->skims && fine && (uuid.flags & (DOCUMENT_FLAG_ACK | DOCUMENT_FLAG_CONTROL)) != 0)
		sophia_document_parse(&parser, &line_arena, &given);
	return sequence_document(batch, &given, &uuid);
}

static bool
is_full(const Batch *batch, int lines, size_t bytes)
{
	int factor = batch->open > 0 ? 2 : 1;

	return lines >= BATCH_DOCUMENTS * factor || bytes >= batch->limit * factor;
}

/* Takes whole lines until the batch is large enough; returns the bytes taken. */
static size_t
take_lines(Batch *batch)
{
	const Reader *reader = batch->journal->reader;
	const char *start = buffer_bytes(&reader->content);
	size_t size = buffer_size(&reader->content);
	size_t taken = 0;

	for (int n = 0; !is_full(batch, n, taken); n++)
	{
		const char *line = start + taken;
		const char *newline = taken < size ? memchr(line, '\n', size - taken) : NULL;

		if (newline == NULL)
			break;
		CHECK_FOR_INTERRUPTS();
		batch->at = reader->offset + taken;
		if (!take_line(batch, line, newline - line, reader->offset + taken))
			break;
		taken += newline - line + 1;
	}
	return taken;
}

/* Stages what is still pending and stores the state of the producers that moved. */
static void
save_producers(Batch *batch)
{
	Journal *journal = batch->journal;
	ProducerRows *rows;

	if (journal->dirty == NULL)
		return;
	rows = sophia_producers_rows();
	for (Producer *producer = journal->dirty; producer != NULL; producer = producer->next_dirty)
	{
		StoredProducer stored = {producer->id, producer->state.last_ack, producer->state.max_clock,
								 producer->state.begin, producer->gap_end};

		for (PendingDocument *pending = producer->first; pending != NULL; pending = pending->next)
			sophia_producers_stage(rows, producer->id, pending->given.document.offset,
								   pending->given.document.clock, pending->given.line,
								   pending->given.length);
		producer->staged |= producer->first != NULL;
		producer->first = producer->last = NULL;
		sophia_producers_put(rows, &stored);
		producer->dirty = false;
	}
	journal->dirty = NULL;
	sophia_producers_save(rows, batch->stream, journal->name);
}

/* Locks a table that the batch writes without waiting for it; a table that is gone is found out later. */
static bool
lock_table(const TargetTable *table)
{
	Oid relid = sophia_target_relation(table, true);

	return !OidIsValid(relid) || ConditionalLockRelationOid(relid, RowExclusiveLock);
}

bool
sophia_batch_over_limit(const char *stream)
{
	return sophia_dead_letter_limit >= 0 &&
		   sophia_checkpoint_many_dead_letters(stream, sophia_dead_letter_limit);
}

/* A journal whose beginning is gone is read again from where it begins now, as if it had been rewound to there. */
static void
skip_missing(Batch *batch)
{
	Journal *journal = batch->journal;
	int64 offset = journal->reader->offset;

	if (journal->next_offset != journal->rewound_from || journal->next_offset == offset ||
		offset >= journal->rewound_until)
		return;
	journal->rewound_from = offset;
	sophia_checkpoint_rewound_from(batch->stream, journal->name, offset);
}

/* The part inside the transaction. */
static BatchResult
run_locked(Batch *batch, size_t *taken)
{
	Journal *journal = batch->journal;
	BatchResult fenced = sophia_fence(batch->stream, journal);

	if (fenced != BATCH_APPLIED)
		return fenced;
	if ((batch->shape->main != NULL && !lock_table(batch->shape->main)) ||
		(batch->shape->elements != NULL && !lock_table(batch->shape->elements)))
		return BATCH_AGAIN;
	if (batch->shape->outdated)
		return BATCH_ALTERED;
	sophia_evolution_begin(batch->shape->evolution);
	skip_missing(batch);
	*taken = take_lines(batch);
	flush(batch);
	if (sophia_evolution_widening(batch->shape->evolution) != NULL)
		return BATCH_WIDEN;
	sophia_evolution_save(batch->shape->evolution);
	save_producers(batch);
	sophia_tidy(batch->stream, journal);
	batch->change.next_offset = journal->reader->offset + *taken;
	batch->change.write_head = Max(sophia_journal_head(journal), batch->change.next_offset);
	batch->change.applied = batch->apply.applied;
	batch->change.reduced = batch->apply.reduced;
	batch->change.deleted = batch->apply.deleted;
	batch->change.last_document_at = batch->apply.last_document_at;
	sophia_checkpoint_save(batch->stream, journal->name, &batch->change);
	return batch->change.dead > 0 && sophia_batch_over_limit(batch->stream) ? BATCH_REFUSED
																			: BATCH_APPLIED;
}

/* Bytes that a batch may take so that it is done in time. */
static size_t
choose_limit(const Journal *journal, int64 slice_ms)
{
	double bytes = journal->speed * slice_ms;

	if (slice_ms == 0)
		return BATCH_BYTES;
	if (journal->speed == 0)
		return BATCH_BYTES / 8;
	return (size_t) Min(Max(bytes, BATCH_LEAST), BATCH_BYTES);
}

/* What a large document took goes back to the system; the allocator would keep much of it. */
static void
give_back(size_t bytes)
{
	if (bytes < GIVE_BACK_BYTES)
		return;
	sophia_arena_free(&line_arena);
	sophia_arena_free(&staged_arena);
	sophia_arena_free(&page_arena);
	sophia_arena_free(&row_arena);
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

/* Small batches tell little: what they take is the commit's. */
static void
note_speed(Journal *journal, size_t bytes, instr_time start)
{
	instr_time took;
	double speed;

	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, start);
	if (bytes < BATCH_LEAST)
		return;
	speed = bytes / Max(INSTR_TIME_GET_MILLISEC(took), 0.1);
	journal->speed = journal->speed == 0 ? speed : (journal->speed * 3 + speed) / 4;
}

BatchResult
sophia_batch_run(const char *stream, Shape *shape, Journal *journal, int64 slice_ms)
{
	MemoryContext caller = CurrentMemoryContext;
	Batch batch = {.stream = stream,
				   .shape = shape,
				   .journal = journal,
				   .limit = choose_limit(journal, slice_ms),
				   .now = sophia_tidy_now(),
				   .apply = {.shape = shape,
							 .journal = journal->name,
							 .arena = &row_arena,
							 .careful = journal->careful}};
	BatchResult result;
	size_t taken = 0;
	instr_time start;

	if (journal->replay != NULL)
		return sophia_replay_run(stream, journal);
	INSTR_TIME_SET_CURRENT(start);
	sophia_arena_reset(&line_arena);
	sophia_arena_reset(&staged_arena);
	sophia_transaction_begin("applying documents");
	batch.context =
		AllocSetContextCreate(CurrentMemoryContext, "sophia_stack batch", ALLOCSET_DEFAULT_SIZES);
	batch.slice =
		AllocSetContextCreate(batch.context, "sophia_stack slice", ALLOCSET_DEFAULT_SIZES);
	batch.apply.context = batch.slice;
	result = run_locked(&batch, &taken);
	if (result != BATCH_APPLIED && result != BATCH_REFUSED)
	{
		SPI_finish();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller);
		pgstat_report_activity(STATE_IDLE, NULL);
		return result;
	}
	sophia_transaction_commit(caller);
	sophia_evolution_committed(shape->evolution);
	give_back(taken);
	note_speed(journal, taken, start);
	sophia_reader_consume(journal->reader, taken);
	journal->next_offset = batch.change.next_offset;
	journal->stored_head = batch.change.write_head;
	journal->limit = batch.limit;
	journal->careful = false;
	if (journal->wanted != NULL)
		sophia_replay_open(journal, journal->wanted);
	journal->wanted = NULL;
	return result;
}
