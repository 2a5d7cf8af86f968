/*
 * sequencer.h
 *		Decides what the next document of a producer in one journal means: duplicate, committed, pending, or the end of
 *		a transaction.
 *
 * Appends are at least once, so that a chunk may stand in a journal twice; clocks tell.  There is one ProducerState
 * for each journal and producer, and the caller keeps it together with the documents that it staged.
 * Pure: no server call, no allocation.  Rules: Gazette message/sequencer.go, except that an acknowledgement that is
 * not newer than the last one and meets no pending document is a duplicate.
 */
#ifndef SOPHIA_SEQUENCER_H
#define SOPHIA_SEQUENCER_H

#include <stdbool.h>
#include <stdint.h>

/* Start from a zeroed one with begin = -1; `known` is false until its first document with a clock. */
typedef struct ProducerState
{
	uint64_t last_ack;	/* documents up to this clock are committed or rolled back */
	uint64_t max_clock; /* largest clock of a pending document; last_ack when there is none */
	int64_t begin;		/* offset of the first pending document, -1 = none */
	bool known;
} ProducerState;

typedef enum SequenceOutcome
{
	SEQUENCE_DUPLICATE, /* seen before: drop */
	SEQUENCE_COMMIT,	/* commits by itself */
	SEQUENCE_PENDING,	/* stage until the acknowledgement */
	SEQUENCE_ACK_COMMIT, /* pending documents with commit_after < clock <= this clock commit, others are dropped */
	SEQUENCE_ACK_EMPTY, /* acknowledges nothing that is pending here */
	SEQUENCE_ROLLBACK	/* pending documents are dropped */
} SequenceOutcome;

/* What no correct producer does: it lost documents or went back behind what it had committed. */
typedef enum SequenceAnomaly
{
	SEQUENCE_IN_ORDER,
	SEQUENCE_OUTSIDE_IN_TRANSACTION, /* what commits by itself met an open transaction, which is dropped */
	SEQUENCE_PARTIAL_ACK,  /* pending documents newer than their acknowledgement are dropped */
	SEQUENCE_DEEP_ROLLBACK /* rolled back to before the last acknowledgement */
} SequenceAnomaly;

typedef struct SequenceResult
{
	SequenceOutcome outcome;
	bool discards_pending; /* with SEQUENCE_COMMIT: an open transaction was met and its documents are dropped */
	SequenceAnomaly anomaly; /* to be counted and told */
	uint64_t commit_after;	 /* with SEQUENCE_ACK_COMMIT: exclusive lower clock */
} SequenceResult;

/*
 * Takes the next document (its clock and flags as of sophia_uuid_parse, the journal offset of its first byte) and
 * moves the state on.  A clock of 0 commits and is never tracked.  A control document is sequenced by the other
 * bits of its flags; whether it is data is the caller's matter.
 */
extern SequenceResult sophia_sequence(ProducerState *p, uint64_t clock, int flags, int64_t offset);

#endif /* SOPHIA_SEQUENCER_H */
