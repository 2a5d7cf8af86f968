/*
 * batch.h
 *		What was read of a journal becomes rows, staged documents, dead letters and a new checkpoint, in one transaction.
 */
#ifndef SOPHIA_BATCH_H
#define SOPHIA_BATCH_H

#include "postgres.h"

#include "flow/fence.h"
#include "flow/journal.h"
#include "flow/shape.h"

/*
 * True when the reader holds at least one whole line and a batch is worth its transaction: the reader has all that it may
 * hold or all that there is, or nothing came for a moment.  Else *next becomes no later than when to ask again.  Also true
 * when the reader has moved on past a gap, and while documents are read again, when some of these have come.
 */
extern bool sophia_batch_ready(Journal *journal, int64 now, int64 *next);

/*
 * Runs one batch of a few megabytes (or one longer line), which ends between transactions if one ends in time.  With `slice_ms`
 * it is as large as may be done in about that time, as the batches before tell; 0 = whatever time it takes.  Raises what goes wrong; then nothing is changed but the
 * producers' states in memory, so that the journal must be opened anew.  While documents are read again, a batch is
 * a slice of these.
 */
extern BatchResult sophia_batch_run(const char *stream, Shape *shape, Journal *journal,
									int64 slice_ms);

/* True when the stream has more dead letters than it may; within a transaction. */
extern bool sophia_batch_over_limit(const char *stream);

#endif /* SOPHIA_BATCH_H */
