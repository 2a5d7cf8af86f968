/*
 * fence.h
 *		How a transaction that moves a journal on begins, and what it can come to.
 */
#ifndef SOPHIA_FENCE_H
#define SOPHIA_FENCE_H

#include "postgres.h"

#include "flow/journal.h"

typedef enum BatchResult
{
	BATCH_APPLIED,	/* committed */
	BATCH_REFUSED,	/* the same, and the stream has too many dead letters now */
	BATCH_AGAIN,	/* somebody holds the extension or a table: try later */
	BATCH_OUTDATED, /* the checkpoint is not where this process believed: open the journal anew */
	BATCH_STOPPED,	/* the stream is not wanted any more */
	BATCH_ALTERED,	/* a table was altered since the shape was read; nothing was done */
	BATCH_WIDEN,	/* a column must be wider first: open the journal anew */
} BatchResult;

/*
 * Locks the extension, the stream and the journal's checkpoint until the end of the transaction; BATCH_APPLIED when all
 * are as they should be.  Raises 55P03 when somebody else holds the stream or the checkpoint.
 */
extern BatchResult sophia_fence(const char *stream, const Journal *journal);

#endif /* SOPHIA_FENCE_H */
