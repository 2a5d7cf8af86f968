/*
 * fence.c
 *		Whether a transaction may move a journal on: see fence.h.
 */
#include "postgres.h"

#include "flow/fence.h"

#include "base/guard.h"
#include "store/checkpoint.h"

BatchResult
sophia_fence(const char *stream, const Journal *journal)
{
	if (!sophia_guard_extension())
		return BATCH_AGAIN;
	if (!sophia_checkpoint_stream_active(stream, journal->stream_since))
		return BATCH_STOPPED;
	if (sophia_checkpoint_lock(stream, journal->name) != journal->next_offset)
		return BATCH_OUTDATED;
	return BATCH_APPLIED;
}
