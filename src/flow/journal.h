/*
 * journal.h
 *		One journal of a stream as the ingest worker follows it: where it stands and what its producers did.
 */
#ifndef SOPHIA_JOURNAL_H
#define SOPHIA_JOURNAL_H

#include "postgres.h"

#include "base/clock.h"
#include "flow/sequencer.h"
#include "flow/source.h"
#include "utils/hsearch.h"

typedef struct Producer
{
	uint64 id; /* hash key */
	ProducerState state;
	bool dirty;	 /* differs from what is stored */
	bool staged; /* documents of its open transaction are in the table of staged documents */
	struct PendingDocument *first; /* those of this batch, in order of offset */
	struct PendingDocument *last;
} Producer;

typedef struct Journal
{
	const char *name;
	SourceJournal *listed;
	Reader *reader;
	HTAB *producers;	 /* of Producer, by id */
	int64 revision;		 /* listed->revision when it was opened */
	int64 next_offset;	 /* committed */
	int64 stored_head;	 /* write head as stored with the checkpoint */
	int64 head_saved_at; /* sophia_clock_ms() */
	int64 read_end;		 /* offset past the reader's content when that was last seen to grow */
	int64 read_at;		 /* when that was, by sophia_clock_ms() */
	bool careful;		 /* the next batch finds out which document the last one failed on */
	Backoff backoff;
	int64 retry_at; /* sophia_clock_ms() before which no batch is tried */
} Journal;

/* Reads or makes the checkpoint, starts a reader from it.  Inside a transaction, within an SPI connection. */
extern Journal *sophia_journal_open(MemoryContext context, Source *source, SourceJournal *listed,
									const char *stream, int64 start);
extern void sophia_journal_close(Journal *journal);

/* The state of a producer, new when it is unknown. */
extern Producer *sophia_journal_producer(Journal *journal, uint64 id);

/* The write head as far as anything tells. */
extern int64 sophia_journal_head(const Journal *journal);

#endif /* SOPHIA_JOURNAL_H */
