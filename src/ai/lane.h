/*
 * lane.h
 *		What the gateway keeps of a provider; for lane.c and request.c.
 */
#ifndef SOPHIA_LANE_H
#define SOPHIA_LANE_H

#include "postgres.h"

#include "ai/gateway.h"
#include "store/secrets.h"

struct Lane
{
	Oid database;
	char *provider;
	int64 generation;
	char *address;
	char *auth;
	char *secret_name; /* "" = none */
	int connections;
	int max_in_flight;
	const char *problem; /* why it is not talked to, NULL = nothing */
	bool listed;		 /* see sophia_provider_address_problem */
	bool multiplexed;	 /* its connections carry many requests at a time */
	Secret secret;		 /* the bearer token: for a key pair one that was signed by it */
	int64 secret_read_at;
	dlist_head turns; /* sessions that have requests queued for it */
	dlist_head running;
	dlist_head waiting;
	int in_flight;
	int queued;
	int64 paused_until;
	HttpPool *pool; /* lives on when the lane is gone, while connections point to it */
	ProviderState told;
	bool changed; /* since it was told */
	int64 told_at;
	int64 used_at;
};

/* Takes a request out of the list that it is in. */
extern void sophia_request_leave(GatewayRequest *request);

/* Sends a request that is in no list. */
extern void sophia_request_send(GatewayRequest *request);

/* Answers a request whose transfer has ended, or has it tried again. */
extern void sophia_request_finish(GatewayRequest *request);

/* Answers with a message of the gateway's own. */
extern void sophia_request_fail(GatewayRequest *request, int sqlstate, const char *format, ...)
	pg_attribute_printf(3, 4);

#endif /* SOPHIA_LANE_H */
