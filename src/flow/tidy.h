/*
 * tidy.h
 *		What is forgotten of the producers of a journal, so that neither their number nor what is staged grows for ever.
 *
 * By the clocks of the journal, whose newest commit is its present:
 *	- a producer without an open transaction that committed last more than 48 hours ago is forgotten.  A document of
 *	  such a producer counts as a new producer's, so that an append that comes again so late takes effect again;
 *	- staged documents of a producer that wrote nothing for sophia_stack.staging_limit are set aside: deleted, while the
 *	  offset where they begin is kept.  Should they be acknowledged after all, they are read again (flow/replay.h).
 */
#ifndef SOPHIA_TIDY_H
#define SOPHIA_TIDY_H

#include "postgres.h"

#include "flow/journal.h"

/* Notes up to which clock a producer committed; `now` is the clock of this moment. */
extern void sophia_tidy_note(Journal *journal, uint64 clock, uint64 now);

/* The clock of this moment. */
extern uint64 sophia_tidy_now(void);

/*
 * Forgets what is to be forgotten, once an hour of the journal's time, inside the transaction of a batch that has saved its
 * producers.
 */
extern void sophia_tidy(const char *stream, Journal *journal);

#endif /* SOPHIA_TIDY_H */
