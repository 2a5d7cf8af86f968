/*
 * assignment.h
 *		Which streams the ingest workers of a database follow, each: decided by one of them, kept in sophia.streams.
 */
#ifndef SOPHIA_ASSIGNMENT_H
#define SOPHIA_ASSIGNMENT_H

#include "postgres.h"

/*
 * True in the worker that decides, and that answers what concerns no stream that is followed: the first one that runs.
 * There is always one, but for moments there may be two or none.
 */
extern bool sophia_assignment_leads(void);

/*
 * Gives each stream that is wanted here a worker that runs, all that write one table the same one.  For the leader, inside a
 * transaction.  True when something changed, so that the other workers must be told after the commit.
 */
extern bool sophia_assignment_decide(void);

#endif /* SOPHIA_ASSIGNMENT_H */
