/*
 * requests.h
 *		What backends ask of the ingest worker: to tell when a stream has caught up, what an endpoint holds, and
 *		whether it answers.
 */
#ifndef SOPHIA_REQUESTS_H
#define SOPHIA_REQUESTS_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Takes new requests.  To be called before the configuration is read, so that no request meets an older one than its own. */
extern void sophia_requests_take(void);

/* Goes on with the requests that were taken and answers what can be answered; `streams` are those followed. */
extern void sophia_requests_turn(List *streams);

/* The sophia_clock_ms() at which it wants to be called again at the latest. */
extern int64 sophia_requests_wake_at(void);

/* Answers everything that is asked by an error: the workers are paused. */
extern void sophia_requests_refuse(void);

#endif /* SOPHIA_REQUESTS_H */
