/*
 * work.h
 *		What the jobs worker asks providers on its own: the jobs of the queue, and the rows of enrichments.
 */
#ifndef SOPHIA_WORK_H
#define SOPHIA_WORK_H

#include "postgres.h"

/*
 * Runs a batch of work, if there is any; whether there was.  *expects tells that there may be some again without
 * anybody saying so: a job that waits to be tried again, or an enrichment.
 */
extern bool sophia_work_turn(MemoryContext context, bool *expects);

/* Takes back what a worker that is gone had under way. */
extern void sophia_work_recover(MemoryContext context);

/* For the handler of signals: whether a call is under way. */
extern bool sophia_work_is_calling(void);

#endif /* SOPHIA_WORK_H */
