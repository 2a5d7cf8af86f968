/*
 * checkpoint.h
 *		The durable state of a stream: checkpoints and dead letters; store/producers.h has the rest.
 *
 * All of it is read and written inside the caller's transaction and SPI connection, next to the rows that it stands for.
 */
#ifndef SOPHIA_CHECKPOINT_H
#define SOPHIA_CHECKPOINT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What a batch adds to a journal's checkpoint. */
typedef struct CheckpointChange
{
	int64 next_offset;
	int64 write_head;
	int64 applied;
	int64 reduced;
	int64 deleted;
	int64 dead;
	int64 anomalies;
	TimestampTz last_document_at; /* 0 = unchanged */
} CheckpointChange;

/*
 * True when the stream that was created then is wanted: started, and in this database of this cluster.  Then it can be neither stopped nor
 * dropped until the end of the transaction.  Raises 55P03 at once when somebody is about to.
 */
extern bool sophia_checkpoint_stream_active(const char *stream, TimestampTz created_at);

/* True when some journal of the stream has a checkpoint. */
extern bool sophia_checkpoint_any(const char *stream);

/*
 * The offset to go on from; a new journal gets a checkpoint at `start`.  `revision` tells a journal from an earlier one of
 * its name (0 = not known): of that nothing but the counts stays, and the offset is 0.
 */
extern int64 sophia_checkpoint_open(const char *stream, const char *journal, int64 revision,
									int64 start);

/* The part of a journal that is read again after a rewind: see sophia.checkpoints. */
extern void sophia_checkpoint_rewound(const char *stream, const char *journal, int64 *from,
									  int64 *until);
extern void sophia_checkpoint_rewound_from(const char *stream, const char *journal, int64 from);

/* Notes that the rewind made at that time is done; false when there was a newer one. */
extern bool sophia_checkpoint_rewind_begin(const char *stream, TimestampTz rewound_at);

/* Rewinds a journal to an offset or an earlier one, or skips `forward` to it; does nothing to one without checkpoint. */
extern void sophia_checkpoint_rewind(const char *stream, const char *journal, int64 offset,
									 bool forward);

/*
 * Locks a checkpoint until the end of the transaction and returns its offset, -1 when there is none.  Raises 55P03 at once
 * when somebody else holds it.
 */
extern int64 sophia_checkpoint_lock(const char *stream, const char *journal);
extern void sophia_checkpoint_save(const char *stream, const char *journal,
								   const CheckpointChange *change);

/*
 * Records a dead letter; again for the same bytes at the same place does nothing.  Returns true when it is new.  The first
 * of its kind is announced on channel sophia_dead_letter.
 */
extern bool sophia_checkpoint_dead_letter(const char *stream, const char *journal, int64 offset,
										  const char *document, size_t length, const char *reason,
										  int sqlstate);

/* True when the stream has more than `limit` dead letters that nobody replayed or discarded. */
extern bool sophia_checkpoint_many_dead_letters(const char *stream, int64 limit);

/* Records state and error of a stream that is still wanted; `error` NULL clears it. */
extern void sophia_checkpoint_stream_state(const char *stream, TimestampTz created_at,
										   const char *state, const char *error);

#endif /* SOPHIA_CHECKPOINT_H */
