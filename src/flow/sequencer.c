/*
 * sequencer.c
 *		The transitions of a producer's state.
 *
 * Pure: no server call, no allocation.  Rules: Gazette message/sequencer.go.
 */
#include "flow/sequencer.h"

#include "flow/uuid.h"

static SequenceResult
result(SequenceOutcome outcome)
{
	return (SequenceResult){.outcome = outcome};
}

/* Everything up to clock is decided and nothing is pending. */
static void
settle(ProducerState *p, uint64_t clock)
{
	p->last_ack = clock;
	p->max_clock = clock;
	p->begin = -1;
}

static SequenceResult
sequence_outside(ProducerState *p, uint64_t clock)
{
	if (clock <= p->last_ack)
		return result(SEQUENCE_DUPLICATE);

	SequenceResult commit = result(SEQUENCE_COMMIT);

	commit.discards_pending = p->begin >= 0;
	if (commit.discards_pending)
		commit.anomaly = SEQUENCE_OUTSIDE_IN_TRANSACTION;
	settle(p, clock);
	return commit;
}

static SequenceResult
sequence_continue(ProducerState *p, uint64_t clock, int64_t offset)
{
	/* max_clock is never below last_ack, so this covers both what was decided and what is pending. */
	if (clock <= p->max_clock)
		return result(SEQUENCE_DUPLICATE);

	if (p->begin < 0)
		p->begin = offset;
	p->max_clock = clock;
	return result(SEQUENCE_PENDING);
}

static SequenceResult
sequence_ack(ProducerState *p, uint64_t clock)
{
	SequenceResult ack;

	if (p->begin < 0)
	{
		if (clock <= p->last_ack)
			return result(SEQUENCE_DUPLICATE);
		ack = result(SEQUENCE_ACK_EMPTY);
	}
	else if (clock <= p->last_ack)
	{
		/* Below the last acknowledgement, the producer went back behind what it had committed. */
		ack = result(SEQUENCE_ROLLBACK);
		if (clock < p->last_ack)
			ack.anomaly = SEQUENCE_DEEP_ROLLBACK;
	}
	else
	{
		/* A document newer than its acknowledgement is lost: no later one will cover it. */
		ack = result(SEQUENCE_ACK_COMMIT);
		if (clock < p->max_clock)
			ack.anomaly = SEQUENCE_PARTIAL_ACK;
		ack.commit_after = p->last_ack;
	}
	settle(p, clock);
	return ack;
}

SequenceResult
sophia_sequence(ProducerState *p, uint64_t clock, int flags, int64_t offset)
{
	if (clock == 0)
		return result(SEQUENCE_COMMIT);

	if (!p->known)
	{
		settle(p, clock - 1);
		p->known = true;
	}

	/* An acknowledgement is never data, so its bit goes first should both be set. */
	if (flags & DOCUMENT_FLAG_ACK)
		return sequence_ack(p, clock);
	if (flags & DOCUMENT_FLAG_CONTINUE)
		return sequence_continue(p, clock, offset);
	return sequence_outside(p, clock);
}
