/*
 * replay.h
 *		Reading documents again that were set aside (flow/tidy.h), because their producer acknowledges them now.
 *
 *		batch meets the acknowledgement ──► ends before it ──► replay: a second reader from the begin of the transaction,
 *		documents of this producer are staged in slices ──► last slice: nothing is missing ──► next batch: the
 *		acknowledgement finds all of it staged, as if it had never been set aside
 *
 * Each slice is one transaction under the same fence as a batch.  A replay that breaks off begins anew.
 * What the source does not have any more is lost; the rest is committed, and an event tells.
 */
#ifndef SOPHIA_REPLAY_H
#define SOPHIA_REPLAY_H

#include "postgres.h"

#include "flow/fence.h"
#include "flow/journal.h"

typedef struct Replay
{
	Producer *producer;
	Reader *reader;
	int64 next;				/* offset up to which it was read */
	ProducerState sequence; /* of this transaction alone: its duplicates are not staged */
	int64 documents;		/* staged so far */
	bool begun;				/* what a broken off replay left behind is gone */
	int64 read_end;			/* offset past the reader's content when that was last seen to grow */
	int64 read_at;			/* when that was, by sophia_clock_ms() */
} Replay;

/* Starts to read again; outside of a transaction, or at least not relying on one. */
extern void sophia_replay_open(Journal *journal, Producer *producer);
extern void sophia_replay_close(Journal *journal);

/* True when the reader has enough for a slice.  Else *next becomes no later than when to ask again. */
extern bool sophia_replay_ready(Replay *replay, int64 now, int64 *next);

/* Runs one slice; journal->replay is NULL after the last one.  Raises what goes wrong, as sophia_batch_run(). */
extern BatchResult sophia_replay_run(const char *stream, Journal *journal);

#endif /* SOPHIA_REPLAY_H */
