/*
 * lane.h
 *		What the gateway keeps of a provider; for lane.c, replica.c, health.c and request.c.
 */
#ifndef SOPHIA_LANE_H
#define SOPHIA_LANE_H

#include "postgres.h"

#include "ai/gateway.h"
#include "ai/replica.h"
#include "store/secrets.h"

#define LANE_REPLICAS 32 /* most addresses of a provider; sophia.check_provider_options */

struct Lane
{
	Oid database;
	char *provider;
	int64 generation;
	char *addresses;   /* as the profile has them, a line each */
	char *auth;		   /* how the secret is used: see TEXT_AUTH */
	char *secret_name; /* "" = none */
	char *ca_file;	   /* "" = the system's */
	char *health_path; /* "" = it is not checked */
	int connections;
	int min_connections;
	int idle_ms;
	int max_in_flight;
	int breaker_failures;
	int breaker_ms;
	int queue_bytes;
	Replica *replicas[LANE_REPLICAS];
	int n_replicas;
	Secret secret; /* the bearer token: for a key pair one that was signed by it */
	int64 secret_read_at;
	dlist_head turns; /* sessions that have requests queued for it */
	dlist_head running;
	dlist_head waiting;
	dlist_head checks;
	int in_flight;
	int queued;
	Size queued_bytes;
	bool blocked; /* the next request waits for an address to be usable, or to have room */
	Latencies latencies;
	ProviderState told;
	bool changed; /* since it was told */
	int64 told_at;
	int64 used_at;
};

/* Reads the secret unless it is at hand; false: there is none, see sophia_lane_secret_error. */
extern bool sophia_lane_has_secret(Lane *lane);
extern const char *sophia_lane_secret_error(void);

/* Sends something to an address, with the provider's secret. */
extern HttpRequest *sophia_replica_start_http(Replica *replica, const char *method,
											  const char *path, const char *body, Size body_length,
											  long timeout_ms, Size limit, char *error,
											  Size error_size);

/* Takes a request out of the list that it is in. */
extern void sophia_request_leave(GatewayRequest *request);

/* Sends a request that is in no list. */
extern void sophia_request_send(GatewayRequest *request, Replica *replica);

/* Answers a request that no address can take. */
extern void sophia_request_refuse(GatewayRequest *request);

/* Answers a request whose transfer has ended, or has it tried again. */
extern void sophia_request_finish(GatewayRequest *request);

/* Answers with a message of the gateway's own. */
extern void sophia_request_fail(GatewayRequest *request, int sqlstate, const char *format, ...)
	pg_attribute_printf(3, 4);

/* ---- farewell.c ---- */

/* Tells the account that nobody waits for a statement any more. */
extern void sophia_farewell_statement(Replica *replica, const char *handle);

/* Closes what was answered. */
extern void sophia_farewells_turn(void);

#endif /* SOPHIA_LANE_H */
