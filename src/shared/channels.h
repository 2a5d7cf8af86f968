/*
 * channels.h
 *		Shared memory between sessions and the gateway: each session's channel, and what the gateway tells of itself.
 *
 * A channel is a dynamic shared memory segment with two message queues (storage/shm_mq.h), one for each way.  The session
 * makes it at its first call, announces it here under the number of its PGPROC, and keeps it; taking the announcement back
 * is how it says that nobody waits any more.  All of it is lost at a restart.  One LWLock protects it; it is held for copying
 * and signalling only.
 */
#ifndef SOPHIA_CHANNELS_H
#define SOPHIA_CHANNELS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/dsm.h"
#include "storage/shm_mq.h"

#define CHANNEL_QUEUE_BYTES                                                                        \
	65536 /* of each of the two queues; a longer message goes through in pieces */
#define CHANNEL_PROVIDERS	  64 /* providers that the gateway knows at a time, over all databases */
#define CHANNEL_REQUESTS	  256 /* requests that are listed; more run, but are not shown */
#define CHANNEL_NAME_BYTES	  256 /* longest name, with its NUL */
#define CHANNEL_PROMPT_BYTES  512 /* most that is shown of a request, with its NUL */
#define CHANNEL_MESSAGE_BYTES 256 /* longest error that is shown, with its NUL */

/* A session's channel, as the gateway finds it. */
typedef struct ChannelSlot
{
	uint64 id;		/* unique while the server runs; 0 = none */
	uint64 gateway; /* the run of the gateway that it was announced to */
	pid_t pid;
	dsm_handle segment;
} ChannelSlot;

typedef enum ProviderHealth
{
	HEALTH_UNKNOWN,
	HEALTH_GOOD,
	HEALTH_BAD
} ProviderHealth;

/* What the gateway tells of a provider. */
typedef struct ProviderState
{
	Oid database; /* InvalidOid: the place is free */
	char name[CHANNEL_NAME_BYTES];
	char address[CHANNEL_NAME_BYTES]; /* of them, the one in use */
	ProviderHealth health;			  /* of that address, and its breaker (ai/breaker.h) */
	TimestampTz checked_at;			  /* 0 = never */
	int breaker;
	int window; /* most requests at a time */
	int in_flight;
	int64 queued_bytes;
	int queued;	 /* waiting for their turn, or to be tried again */
	int64 calls; /* requests that were finished */
	int64 errors;
	int64 retries;
	int busy; /* open connections that carry a request */
	int idle; /* the other open ones */
	int64 connections_created;
	int64 connections_closed;
	bool has_latencies;
	int32 latencies[3];		   /* microseconds: median, 95th and 99th percentile */
	TimestampTz last_error_at; /* 0 = none */
	char last_error[CHANNEL_MESSAGE_BYTES];
} ProviderState;

typedef enum RequestState
{
	REQUEST_FREE, /* the place is free */
	REQUEST_QUEUED,
	REQUEST_RUNNING,
	REQUEST_WAITING /* to be tried again */
} RequestState;

/* A request that the gateway has. */
typedef struct RequestEntry
{
	RequestState state;
	uint64 number; /* unique in its session */
	pid_t pid;
	Oid database;
	Oid role;
	int attempts;
	TimestampTz received_at;
	char provider[CHANNEL_NAME_BYTES];
	char model[CHANNEL_NAME_BYTES];
	char function[64];
	char prompt[CHANNEL_PROMPT_BYTES]; /* the beginning of what is sent, where a setting has it shown */
} RequestEntry;

typedef enum CacheServerState
{
	CACHE_OFF,		  /* the setting names no server */
	CACHE_CONNECTING, /* or waiting to try again */
	CACHE_UP
} CacheServerState;

/* What the gateway tells of the cache's server, since the gateway was started. */
typedef struct CacheState
{
	CacheServerState state;
	int64 hits;
	int64 misses;
	int64 unanswered; /* keys that were looked up while the server was away, or too slow */
	int64 stores;
	int64 errors;
	int64 connections;		   /* that were made */
	TimestampTz last_error_at; /* 0 = none */
	char last_error[CHANNEL_MESSAGE_BYTES];
} CacheState;

/* Installs the hooks that reserve and prepare the shared memory; for _PG_init while preloading. */
extern void sophia_channels_install(void);

/* ---- the two queues of a segment; both sides ---- */

extern Size sophia_channel_size(void);
extern shm_mq *sophia_channel_queue(dsm_segment *segment, bool to_gateway);

/* ---- session side ---- */

/* The run of the gateway that is up, 0 = none. */
extern uint64 sophia_channels_gateway(void);

/* Announces this session's channel to a run of the gateway; false when that is not up any more. */
extern bool sophia_channels_announce(uint64 gateway, dsm_segment *segment);

/* Takes the announcement back: the gateway ends what it still does for it. */
extern void sophia_channels_withdraw(void);

/* Wakes the gateway. */
extern void sophia_channels_wake_gateway(void);

/* Copies what the gateway tells: CHANNEL_PROVIDERS and CHANNEL_REQUESTS entries, free places among them. */
extern void sophia_channels_copy_providers(ProviderState *providers);
extern void sophia_channels_copy_requests(RequestEntry *requests);
extern CacheState sophia_channels_cache(void);

/* ---- gateway side ---- */

/* Makes this process the gateway until it ends, which wakes every session that waits; returns its run. */
extern uint64 sophia_channels_attach_gateway(void);

/* How often channels have come or gone; cheap. */
extern uint64 sophia_channels_changes(void);

/* How many places there are for channels, and a copy of one. */
extern int sophia_channels_count(void);
extern ChannelSlot sophia_channels_slot(int place);

/* Tells of a provider, or of a request, at its place. */
extern void sophia_channels_tell_provider(int place, const ProviderState *state);
extern void sophia_channels_tell_request(int place, const RequestEntry *entry);

/* Tells of the cache. */
extern void sophia_channels_tell_cache(const CacheState *state);

#endif /* SOPHIA_CHANNELS_H */
