/*
 * attempt.h
 *		Running something that may fail without ending the worker.
 */
#ifndef SOPHIA_ATTEMPT_H
#define SOPHIA_ATTEMPT_H

#include "postgres.h"

typedef struct Failure
{
	int sqlstate;
	char message[512];
} Failure;

/*
 * Calls work(argument), which runs transactions of its own.  False when it raised an error: the transaction is then
 * rolled back, the error is in the log and in *failure.  An error that ends the process still does.
 */
extern bool sophia_attempt(void (*work)(void *argument), void *argument, Failure *failure);

/* True for an error that may be gone when the same is tried again. */
extern bool sophia_failure_is_transient(const Failure *failure);

#endif /* SOPHIA_ATTEMPT_H */
