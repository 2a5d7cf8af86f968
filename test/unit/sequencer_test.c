/*
 * Unit tests of flow/sequencer.c: every transition from a given state, then whole scenarios.
 */
#include <string.h>

#include "flow/sequencer.h"
#include "flow/uuid.h"
#include "tap.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OUTSIDE	 0
#define CONT	 DOCUMENT_FLAG_CONTINUE
#define ACK		 DOCUMENT_FLAG_ACK
#define CONTROL	 DOCUMENT_FLAG_CONTROL
#define HIGH	 UINT64_C(0x8000000000000000)

static const char *const outcome_names[] = {"duplicate",  "commit",	   "pending",
											"ack commit", "ack empty", "rollback"};

/* One document met in one state. */
typedef struct Transition
{
	const char *name;
	ProducerState before;
	uint64_t clock;
	int flags;
	SequenceResult expected;
	ProducerState after;
} Transition;

#define NEW                                                                                        \
	{                                                                                              \
		0, 0, -1, false                                                                            \
	}
#define IDLE(ack)                                                                                  \
	{                                                                                              \
		ack, ack, -1, true                                                                         \
	}
#define OPEN(ack, max)                                                                             \
	{                                                                                              \
		ack, max, 500, true                                                                        \
	}
#define OFFSET 900

static const Transition transitions[] = {
	/* without a clock */
	{"clock 0 outside", NEW, 0, OUTSIDE, {SEQUENCE_COMMIT}, NEW},
	{"clock 0 continue", IDLE(10), 0, CONT, {SEQUENCE_COMMIT}, IDLE(10)},
	{"clock 0 in an open transaction", OPEN(10, 20), 0, OUTSIDE, {SEQUENCE_COMMIT}, OPEN(10, 20)},

	/* a new producer */
	{"new: outside", NEW, 10, OUTSIDE, {SEQUENCE_COMMIT}, IDLE(10)},
	{"new: continue", NEW, 10, CONT, {SEQUENCE_PENDING}, {9, 10, OFFSET, true}},
	{"new: acknowledgement", NEW, 10, ACK, {SEQUENCE_ACK_EMPTY}, IDLE(10)},
	{"new: clock 1", NEW, 1, CONT, {SEQUENCE_PENDING}, {0, 1, OFFSET, true}},

	/* outside of a transaction */
	{"outside below last_ack", IDLE(10), 9, OUTSIDE, {SEQUENCE_DUPLICATE}, IDLE(10)},
	{"outside at last_ack", IDLE(10), 10, OUTSIDE, {SEQUENCE_DUPLICATE}, IDLE(10)},
	{"outside above", IDLE(10), 11, OUTSIDE, {SEQUENCE_COMMIT}, IDLE(11)},
	{"outside meets an open transaction",
	 OPEN(10, 20),
	 30,
	 OUTSIDE,
	 {SEQUENCE_COMMIT, true, SEQUENCE_OUTSIDE_IN_TRANSACTION},
	 IDLE(30)},
	{"outside within an open transaction's clocks",
	 OPEN(10, 20),
	 15,
	 OUTSIDE,
	 {SEQUENCE_COMMIT, true, SEQUENCE_OUTSIDE_IN_TRANSACTION},
	 IDLE(15)},
	{"repeated outside leaves an open transaction",
	 OPEN(10, 20),
	 10,
	 OUTSIDE,
	 {SEQUENCE_DUPLICATE},
	 OPEN(10, 20)},

	/* in a transaction */
	{"continue below last_ack", IDLE(10), 9, CONT, {SEQUENCE_DUPLICATE}, IDLE(10)},
	{"continue at last_ack", IDLE(10), 10, CONT, {SEQUENCE_DUPLICATE}, IDLE(10)},
	{"continue at last_ack, open", OPEN(10, 20), 10, CONT, {SEQUENCE_DUPLICATE}, OPEN(10, 20)},
	{"continue below max_clock", OPEN(10, 20), 15, CONT, {SEQUENCE_DUPLICATE}, OPEN(10, 20)},
	{"continue at max_clock", OPEN(10, 20), 20, CONT, {SEQUENCE_DUPLICATE}, OPEN(10, 20)},
	{"continue begins", IDLE(10), 11, CONT, {SEQUENCE_PENDING}, {10, 11, OFFSET, true}},
	{"continue extends", OPEN(10, 20), 21, CONT, {SEQUENCE_PENDING}, OPEN(10, 21)},

	/* acknowledgements */
	{"ack below last_ack, nothing pending", IDLE(10), 9, ACK, {SEQUENCE_DUPLICATE}, IDLE(10)},
	{"ack below last_ack, open",
	 OPEN(10, 20),
	 9,
	 ACK,
	 {SEQUENCE_ROLLBACK, false, SEQUENCE_DEEP_ROLLBACK},
	 IDLE(9)},
	{"ack at last_ack, nothing pending", IDLE(10), 10, ACK, {SEQUENCE_DUPLICATE}, IDLE(10)},
	{"ack at last_ack, open", OPEN(10, 20), 10, ACK, {SEQUENCE_ROLLBACK}, IDLE(10)},
	{"ack above, nothing pending", IDLE(10), 11, ACK, {SEQUENCE_ACK_EMPTY}, IDLE(11)},
	{"ack at max_clock",
	 OPEN(10, 20),
	 20,
	 ACK,
	 {SEQUENCE_ACK_COMMIT, false, SEQUENCE_IN_ORDER, 10},
	 IDLE(20)},
	{"ack above max_clock",
	 OPEN(10, 20),
	 25,
	 ACK,
	 {SEQUENCE_ACK_COMMIT, false, SEQUENCE_IN_ORDER, 10},
	 IDLE(25)},
	{"ack of a part",
	 OPEN(10, 20),
	 15,
	 ACK,
	 {SEQUENCE_ACK_COMMIT, false, SEQUENCE_PARTIAL_ACK, 10},
	 IDLE(15)},

	/* flags are bits */
	{"control outside", IDLE(10), 11, CONTROL, {SEQUENCE_COMMIT}, IDLE(11)},
	{"control repeated", IDLE(10), 10, CONTROL, {SEQUENCE_DUPLICATE}, IDLE(10)},
	{"control continue", IDLE(10), 11, CONTROL | CONT, {SEQUENCE_PENDING}, {10, 11, OFFSET, true}},
	{"control acknowledgement",
	 OPEN(10, 20),
	 20,
	 CONTROL | ACK,
	 {SEQUENCE_ACK_COMMIT, false, SEQUENCE_IN_ORDER, 10},
	 IDLE(20)},
	{"unknown bit outside", IDLE(10), 11, 0x200, {SEQUENCE_COMMIT}, IDLE(11)},
	{"unknown bit continue", IDLE(10), 11, 0x101, {SEQUENCE_PENDING}, {10, 11, OFFSET, true}},
	{"continue and ack",
	 OPEN(10, 20),
	 20,
	 CONT | ACK,
	 {SEQUENCE_ACK_COMMIT, false, SEQUENCE_IN_ORDER, 10},
	 IDLE(20)},

	/* clocks are unsigned */
	{"outside crosses 2^63", IDLE(HIGH - 1), HIGH, OUTSIDE, {SEQUENCE_COMMIT}, IDLE(HIGH)},
	{"small clock after a large one",
	 IDLE(HIGH + 5),
	 7,
	 OUTSIDE,
	 {SEQUENCE_DUPLICATE},
	 IDLE(HIGH + 5)},
	{"continue above 2^63", OPEN(10, HIGH), HIGH + 1, CONT, {SEQUENCE_PENDING}, OPEN(10, HIGH + 1)},
	{"ack above 2^63",
	 OPEN(10, HIGH + 1),
	 HIGH + 1,
	 ACK,
	 {SEQUENCE_ACK_COMMIT, false, SEQUENCE_IN_ORDER, 10},
	 IDLE(HIGH + 1)},
	{"new: largest clock",
	 NEW,
	 UINT64_MAX,
	 CONT,
	 {SEQUENCE_PENDING},
	 {UINT64_MAX - 1, UINT64_MAX, OFFSET, true}},
	{"ack of the largest clock",
	 OPEN(UINT64_MAX - 1, UINT64_MAX),
	 UINT64_MAX,
	 ACK,
	 {SEQUENCE_ACK_COMMIT, false, SEQUENCE_IN_ORDER, UINT64_MAX - 1},
	 IDLE(UINT64_MAX)},
};

static bool
same_state(const ProducerState *a, const ProducerState *b)
{
	return a->last_ack == b->last_ack && a->max_clock == b->max_clock && a->begin == b->begin &&
		   a->known == b->known;
}

static void
test_transition(const Transition *t)
{
	ProducerState p = t->before;
	SequenceResult r = sophia_sequence(&p, t->clock, t->flags, OFFSET);

	ok(r.outcome == t->expected.outcome && r.discards_pending == t->expected.discards_pending &&
		   r.anomaly == t->expected.anomaly && r.commit_after == t->expected.commit_after &&
		   same_state(&p, &t->after),
	   "%s: %s", t->name, outcome_names[r.outcome]);
}

/*
 * A scenario is a journal: each document has a producer (A or B), flags, and a clock.  What commits is compared, in
 * order, as "A11 B5 ...".
 */
typedef struct Step
{
	char producer;
	int flags;
	uint64_t clock;
} Step;

typedef struct Scenario
{
	const char *name;
	Step steps[16];
	const char *committed;
	int anomalies;
} Scenario;

static const Scenario scenarios[] = {
	{"chunk repeated before the acknowledgement",
	 {{'A', CONT, 1}, {'A', CONT, 2}, {'A', CONT, 1}, {'A', CONT, 2}, {'A', ACK, 2}, {'A', ACK, 2}},
	 "A1 A2 ",
	 0},
	{"chunk repeated after the acknowledgement",
	 {{'A', CONT, 1}, {'A', CONT, 2}, {'A', ACK, 2}, {'A', CONT, 1}, {'A', CONT, 2}, {'A', ACK, 2}},
	 "A1 A2 ",
	 0},
	{"acknowledgement repeated in the next transaction rolls back",
	 {{'A', CONT, 1}, {'A', ACK, 1}, {'A', CONT, 2}, {'A', ACK, 1}, {'A', CONT, 2}, {'A', ACK, 2}},
	 "A1 A2 ",
	 0},
	{"late repetition of an old acknowledgement",
	 {{'A', CONT, 1},
	  {'A', ACK, 1},
	  {'A', CONT, 2},
	  {'A', ACK, 2},
	  {'A', ACK, 1},
	  {'A', CONT, 3},
	  {'A', ACK, 3}},
	 "A1 A2 A3 ",
	 0},
	{"two producers, acknowledged in the other order",
	 {{'A', CONT, 1},
	  {'B', CONT, 1},
	  {'A', CONT, 2},
	  {'B', CONT, 2},
	  {'B', ACK, 2},
	  {'A', CONT, 3},
	  {'A', ACK, 3}},
	 "B1 B2 A1 A2 A3 ",
	 0},
	{"one producer rolls back, the other commits",
	 {{'A', CONT, 5}, {'B', CONT, 6}, {'A', ACK, 4}, {'B', ACK, 6}, {'A', CONT, 7}, {'A', ACK, 7}},
	 "B6 A7 ",
	 0},
	{"outside documents between another's transaction",
	 {{'A', CONT, 1}, {'B', OUTSIDE, 1}, {'B', OUTSIDE, 1}, {'B', OUTSIDE, 2}, {'A', ACK, 1}},
	 "B1 B2 A1 ",
	 0},
	{"outside document drops its own open transaction",
	 {{'A', CONT, 1}, {'A', CONT, 2}, {'A', OUTSIDE, 3}, {'A', ACK, 3}, {'A', CONT, 4}, {'A', ACK, 4}},
	 "A3 A4 ",
	 1},
	{"acknowledgement of a part",
	 {{'A', CONT, 1}, {'A', CONT, 2}, {'A', CONT, 3}, {'A', ACK, 2}, {'A', CONT, 4}, {'A', ACK, 4}},
	 "A1 A2 A4 ",
	 1},
	{"deep rollback, written again",
	 {{'A', CONT, 5}, {'A', ACK, 5}, {'A', CONT, 6}, {'A', ACK, 2}, {'A', CONT, 3}, {'A', ACK, 3}},
	 "A5 A3 ",
	 1},
	{"acknowledgement of what began before the first offset",
	 {{'A', ACK, 9}, {'A', CONT, 10}, {'A', ACK, 10}},
	 "A10 ",
	 0},
	{"clocks around 2^63",
	 {{'A', CONT, HIGH - 1},
	  {'A', CONT, HIGH},
	  {'A', CONT, HIGH - 1},
	  {'A', ACK, HIGH},
	  {'A', CONT, 3},
	  {'A', ACK, HIGH}},
	 "A9223372036854775807 A9223372036854775808 ",
	 0},
	{"nothing without an acknowledgement", {{'A', CONT, 1}, {'A', CONT, 2}}, "", 0},
};

typedef struct Pending
{
	char producer;
	uint64_t clock;
} Pending;

/* Commits (or only drops) the pending documents of a producer; returns how many bytes of text were added. */
static size_t
resolve(Pending *pending, char producer, bool commit, uint64_t after, uint64_t upto, char *text)
{
	size_t used = 0;

	for (int i = 0; i < 16; i++)
	{
		if (pending[i].producer != producer)
			continue;
		if (commit && pending[i].clock > after && pending[i].clock <= upto)
			used +=
				sprintf(text + used, "%c%llu ", producer, (unsigned long long) pending[i].clock);
		pending[i].producer = 0;
	}
	text[used] = '\0';
	return used;
}

static void
test_scenario(const Scenario *s)
{
	ProducerState states[2] = {NEW, NEW};
	Pending pending[16] = {{0}};
	char text[512] = "";
	size_t used = 0;
	int anomalies = 0;

	for (int i = 0; i < 16 && s->steps[i].producer != 0; i++)
	{
		const Step *d = &s->steps[i];
		SequenceResult r = sophia_sequence(&states[d->producer - 'A'], d->clock, d->flags, i);

		anomalies += r.anomaly != SEQUENCE_IN_ORDER;
		if (r.discards_pending || r.outcome == SEQUENCE_ROLLBACK)
			resolve(pending, d->producer, false, 0, 0, text + used);
		if (r.outcome == SEQUENCE_PENDING)
			pending[i] = (Pending){d->producer, d->clock};
		if (r.outcome == SEQUENCE_COMMIT)
			used += sprintf(text + used, "%c%llu ", d->producer, (unsigned long long) d->clock);
		if (r.outcome == SEQUENCE_ACK_COMMIT)
			used += resolve(pending, d->producer, true, r.commit_after, d->clock, text + used);
	}
	ok(strcmp(text, s->committed) == 0, "%s: commits %s", s->name, text);
	ok(anomalies == s->anomalies, "%s: %d anomalies", s->name, anomalies);
}

int
main(void)
{
	for (size_t i = 0; i < COUNT(transitions); i++)
		test_transition(&transitions[i]);
	for (size_t i = 0; i < COUNT(scenarios); i++)
		test_scenario(&scenarios[i]);
	done_testing();
	return exit_status();
}
