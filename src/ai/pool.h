/*
 * pool.h
 *		The pools of connections that the gateway has: one for each server, secret and authority.
 *
 * Providers whose servers, TLS and secrets are equal share one, whatever database they are of.
 */
#ifndef SOPHIA_POOL_H
#define SOPHIA_POOL_H

#include "postgres.h"

#include "lib/ilist.h"
#include "net/http.h"

typedef struct Pool
{
	dlist_node node;
	char *key;
	int users; /* replicas that have taken it */
	HttpPool *http;
	int in_flight; /* requests, checks included */
	int64 used_at; /* by sophia_clock_ms(); by a request, not by a check */
	int idle_ms;   /* so long after that its connections are closed */
} Pool;

/* The pool for an address (http[s]://host[:port]/path), made if need be. */
extern Pool *sophia_pool_take(const char *address, const char *ca_file, const char *secret_name);

/* Gives it back; the last one to do so closes it. */
extern void sophia_pool_release(Pool *pool);

/* Closes connections that nobody has used for long; returns when to come again, -1 = never. */
extern int64 sophia_pools_turn(int64 now);

#endif /* SOPHIA_POOL_H */
