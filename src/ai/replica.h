/*
 * replica.h
 *		One address of a provider, as the gateway knows it: whether it can be used, its limits, and its health.
 *
 * A provider has one or more, in order of preference.  Requests go to the first that can be used.
 */
#ifndef SOPHIA_REPLICA_H
#define SOPHIA_REPLICA_H

#include "postgres.h"

#include "ai/breaker.h"
#include "ai/gateway.h"
#include "ai/pool.h"

typedef struct Replica
{
	Lane *lane;
	char *address;
	char *ca_file;		 /* "" = the system's */
	const char *problem; /* why it is not talked to, NULL = nothing */
	bool listed;		 /* see sophia_provider_address_problem */
	bool multiplexed;	 /* its connections carry many requests at a time */
	bool retired;		 /* the profile names it no more; it goes with its last request */
	Pool *pool;
	Breaker breaker;
	Window window;
	char failure[CHANNEL_MESSAGE_BYTES]; /* the last one, for people */
	int in_flight;
	int64 paused_until; /* it asked to be left alone */
	ProviderHealth health;
	TimestampTz checked_at;
	int64 check_due;
	int checks;		   /* under way */
	int64 lost;		   /* connections that the server had closed when it was last checked */
	int fill_after;	   /* checks that are to pass before connections are made in store */
	int fill_patience; /* of such checks, how many after the next loss */
} Replica;

/* A new one at that address. */
extern Replica *sophia_replica_create(Lane *lane, const char *address);

/* Takes over limits of the lane that have changed. */
extern void sophia_replica_adjust(Replica *replica);

/* The profile names it no more. */
extern void sophia_replica_retire(Replica *replica);

/* One request less is there; frees it where it was the last of one that is retired. */
extern void sophia_replica_leave(Replica *replica);

/* Looks at the settings anew. */
extern void sophia_replica_check_address(Replica *replica);

typedef enum ReplicaChoice
{
	REPLICA_FOUND,
	REPLICA_LATER, /* one is to be had later */
	REPLICA_NONE   /* none can be used */
} ReplicaChoice;

/* Where a request is to be sent now. */
extern ReplicaChoice sophia_replica_choose(Lane *lane, const GatewayRequest *request, int64 now,
										   Replica **found);

/* Whether there is another one than those that the request was sent to, which could be used at once. */
extern bool sophia_replica_other(const GatewayRequest *request, int64 now);

/* ---- health.c ---- */

/* Starts the checks that are due, and takes the results of those that have ended; returns when to come again, -1 = never. */
extern int64 sophia_health_turn(Lane *lane, int64 now);

/* Ends the checks that are under way. */
extern void sophia_health_stop(Lane *lane);

#endif /* SOPHIA_REPLICA_H */
