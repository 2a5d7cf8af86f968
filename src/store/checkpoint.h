/*
 * checkpoint.h
 *		The durable state of a stream: checkpoints, producers, staged documents, dead letters.
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
	TimestampTz last_document_at; /* 0 = unchanged */
} CheckpointChange;

typedef struct StoredProducer
{
	uint64 producer; /* 48 bits */
	uint64 last_ack;
	uint64 max_clock;
	int64 begin_offset;
} StoredProducer;

/*
 * True when the stream is wanted: started, and in this database of this cluster.  Then it can be neither stopped nor
 * dropped until the end of the transaction.  Raises 55P03 at once when somebody is about to.
 */
extern bool sophia_checkpoint_stream_active(const char *stream);

/* True when some journal of the stream has a checkpoint. */
extern bool sophia_checkpoint_any(const char *stream);

/*
 * The offset to go on from; a new journal gets a checkpoint at `start`.  `revision` tells a journal from an earlier one of
 * its name (0 = not known): of that nothing but the counts stays, and the offset is 0.
 */
extern int64 sophia_checkpoint_open(const char *stream, const char *journal, int64 revision,
									int64 start);

/*
 * Locks a checkpoint until the end of the transaction and returns its offset, -1 when there is none.  Raises 55P03 at once
 * when somebody else holds it.
 */
extern int64 sophia_checkpoint_lock(const char *stream, const char *journal);
extern void sophia_checkpoint_save(const char *stream, const char *journal,
								   const CheckpointChange *change);

/* Calls `take` with each producer that is known of a journal. */
extern void sophia_checkpoint_producers(const char *stream, const char *journal,
										void (*take)(void *owner, const StoredProducer *producer),
										void *owner);
extern void sophia_checkpoint_save_producer(const char *stream, const char *journal,
											const StoredProducer *producer);

extern void sophia_checkpoint_stage(const char *stream, const char *journal, uint64 producer,
									int64 offset, uint64 clock, const char *document,
									size_t length);
extern void sophia_checkpoint_unstage(const char *stream, const char *journal, uint64 producer);

/* A cursor over the staged documents of a producer in the order of their offsets: (begin_offset, clock, document). */
extern struct PortalData *sophia_checkpoint_staged(const char *stream, const char *journal,
												   uint64 producer);

/* Records a dead letter; again for the same bytes at the same place does nothing.  Returns true when it is new. */
extern bool sophia_checkpoint_dead_letter(const char *stream, const char *journal, int64 offset,
										  const char *document, size_t length, const char *reason,
										  int sqlstate);

/* Records state and error of a stream that is still wanted; `error` NULL clears it. */
extern void sophia_checkpoint_stream_state(const char *stream, const char *state, const char *error);

#endif /* SOPHIA_CHECKPOINT_H */
