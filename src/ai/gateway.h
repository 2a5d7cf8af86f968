/*
 * gateway.h
 *		The gateway: the one process of a cluster that talks to AI providers.
 *
 * gateway.c is its loop, session.c its side of the channels, lane.c and request.c what it does for one provider.  It has no database:
 * everything it needs comes with the requests (messages.h).
 */
#ifndef SOPHIA_GATEWAY_H
#define SOPHIA_GATEWAY_H

#include "postgres.h"

#include "ai/messages.h"
#include "lib/ilist.h"
#include "net/http.h"
#include "shared/channels.h"

typedef struct Lane Lane;
typedef struct Replica Replica;

/* A session that has a channel. */
typedef struct Session
{
	dlist_node node;
	int place; /* of its slot */
	pid_t pid;
	dsm_segment *segment;
	shm_mq_handle *in;
	shm_mq_handle *out;
	bool broken;		 /* said something that is no request, or is gone */
	dlist_head requests; /* all that it waits for, by GatewayRequest.of_session */
	dlist_head queued;	 /* of them, those that wait for their turn, by of_queue */
	int n_queued;
	Size queued_bytes;
	Lane *lane;		 /* where the queued ones go to */
	dlist_node turn; /* in lane->turns while any is queued */
	dlist_head answers;
} Session;

/*
 * A request: queued (in its session's queue), then running, and waiting between two tries (in its lane's lists), until it
 * is answered or its session is gone.
 */
typedef struct GatewayRequest
{
	dlist_node of_session;
	dlist_node of_queue;
	Session *session;
	Lane *lane;
	RequestHeader header; /* of the message below, aligned */
	char *message;
	const char *texts[REQUEST_TEXTS];
	const char *body;
	RequestState state;
	int place; /* where it is listed, -1 = nowhere */
	int attempts;
	int counted;  /* of them, those that count against header.attempts */
	uint32 tried; /* addresses that it was sent to since its last wait, as bits of their places */
	Replica *replica;			   /* where it is, while running */
	bool secret_renewed;		   /* the secret was read anew for it */
	int64 first_sent;			   /* sophia_clock_ms(); 0 = not yet */
	int64 sent;					   /* the last time */
	TimestampTz sent_at;		   /* the same, with microseconds */
	int64 due;					   /* while waiting: when it is tried again */
	HttpRequest *http;			   /* while running */
	uint64 flight;				   /* key of equal requests */
	bool leads;					   /* others may follow it, see flight.c */
	dlist_head followers;		   /* of a leader, by of_queue */
	struct GatewayRequest *leader; /* whose answer it gets, NULL = it is sent itself */
	char *statement; /* handle of a statement that goes on at the account, NULL = none */
	int looks;		 /* how often it was looked at */
	void *work;		 /* of the cache, for cache_server.c */
} GatewayRequest;

/* ---- session.c ---- */

/* Takes up channels that were announced to this run, and ends those that were withdrawn. */
extern void sophia_sessions_review(uint64 gateway);

/* Takes a request of each session, as far as there is room for them; whether there were any. */
extern bool sophia_sessions_read(void);

/* Sends answers, as far as there is room for them; ends the sessions that are gone. */
extern void sophia_sessions_write(void);

/* Leaves an answer for the session; it goes as soon as there is room. */
extern void sophia_session_answer(Session *session, const AnswerHeader *header, const char *body,
								  Size length);

/* ---- lane.c ---- */

/* Takes a request that its session has just sent; it may be answered at once. */
extern void sophia_lane_submit(GatewayRequest *request);

/* Finishes, tries again and starts what is due; returns when to come again, by sophia_clock_ms(), at the latest. */
extern int64 sophia_lanes_turn(void);

/* Whether the lane's queue is full; what it has no room for waits in the channels. */
extern bool sophia_lane_full(const Lane *lane);

/* The settings have changed. */
extern void sophia_lanes_reload(void);

/* ---- flight.c ---- */

/* Has a request wait for the answer of an equal one that is under way; false where there is none: then others may follow it. */
extern bool sophia_flight_join(GatewayRequest *request);

/* Gives the followers of a request its answer. */
extern void sophia_flight_land(GatewayRequest *leader, const AnswerHeader *answer, const char *body,
							   Size length);

/* A request goes: it follows nobody any more, and who follows it is submitted anew. */
extern void sophia_flight_leave(GatewayRequest *request);

/* ---- request.c ---- */

/* Forgets a request, whatever its state, and frees it. */
extern void sophia_request_drop(GatewayRequest *request);

/* ---- cache_server.c ---- */

/* Takes a request of the cache that its session has just sent; it may be answered at once. */
extern void sophia_cache_submit(GatewayRequest *request);

/* The request of that work is gone. */
extern void sophia_cache_forget(void *work);

/* Tells what has changed. */
extern void sophia_cache_tell(void);

/* ---- listing.c ---- */

/* Lists a request, in its present state, where sophia.gateway_requests finds it; takes it off. */
extern void sophia_listing_show(GatewayRequest *request, RequestState state);
extern void sophia_listing_remove(GatewayRequest *request);

/* Entry point of the process; the postmaster finds it by name.  arg: SOPHIA_WORKER_ARG of shared/registry.h. */
extern PGDLLEXPORT void sophia_gateway_main(Datum arg);

#endif /* SOPHIA_GATEWAY_H */
