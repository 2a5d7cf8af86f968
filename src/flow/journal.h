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
	bool dirty;	   /* differs from what is stored, and is in journal->dirty */
	bool staged;   /* documents of its open transaction are in the table of staged documents */
	int64 gap_end; /* those that begin before this offset were set aside; -1 = none */
	struct PendingDocument *first; /* those of this batch, in order of offset */
	struct PendingDocument *last;
	struct Producer *next_dirty;
} Producer;

typedef struct Journal
{
	const char *name;
	SourceJournal *listed;
	Reader *reader;
	HTAB *producers; /* of Producer, by id */
	Producer *dirty; /* those that differ from what is stored */
	uint64 newest;	 /* largest clock that a producer committed up to, none of the future */
	uint64 tidied;	 /* what that was when producers were last forgotten */
	Producer *wanted; /* its documents must be read again before the batch can go on; NULL = nobody's */
	struct Replay *replay; /* reads them; NULL = nobody does */
	bool truncates;		   /* option truncate = apply */
	TimestampTz
		stream_since;	/* created_at of its stream, which tells it from a later one of that name */
	int64 told_since;	/* sophia_clock_ms() from which the events that are limited are counted */
	int told;			/* and how many were recorded since */
	int64 next_offset;	/* committed */
	int64 rewound_from; /* of the last rewind, see sophia.checkpoints */
	int64 rewound_until;
	int64 revision;		 /* listed->revision when it was opened */
	int64 stored_head;	 /* write head as stored with the checkpoint */
	int64 head_saved_at; /* sophia_clock_ms() */
	int64 searched;		 /* no line ends before this offset */
	int64 read_end;		 /* offset past the reader's content when that was last seen to grow */
	int64 read_at;		 /* when that was, by sophia_clock_ms() */
	double speed;		 /* bytes that a batch takes in a millisecond; 0 = not known */
	size_t limit;		 /* bytes that the last batch was allowed; 0 = there was none */
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

/* The producer differs from what is stored. */
extern void sophia_journal_touch(Journal *journal, Producer *producer);

/* Who reads what is wanted next of the journal: its own reader, or that of what is read again. */
extern Reader *sophia_journal_reader(const Journal *journal);

/* The write head as far as anything tells. */
extern int64 sophia_journal_head(const Journal *journal);

#endif /* SOPHIA_JOURNAL_H */
