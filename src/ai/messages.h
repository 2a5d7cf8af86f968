/*
 * messages.h
 *		What a session and the gateway tell each other over a channel (shared/channels.h).
 *
 * A message is a header, in the machine's own form since both are processes of one server, and the texts that the header
 * counts, each followed by a NUL, in the order of its fields; at the end the body, without one.
 *
 * A session may have many requests under way, and answers come in any order; `number` tells which is meant.  All that are
 * under way at a time go to one provider.  There is no message to cancel: a session that no longer waits withdraws its channel
 * and makes another one for its next call.
 *
 * Everything about the provider travels with each request, as the session's snapshot shows it, and only once it is
 * committed (ai/profile.c); so there is nothing to keep in step.  The gateway goes by the newest generation that it has
 * seen.  Secrets travel by name: the gateway alone reads their values.
 */
#ifndef SOPHIA_MESSAGES_H
#define SOPHIA_MESSAGES_H

#include "postgres.h"

/* The texts of a request, in their order. */
typedef enum RequestText
{
	TEXT_PROVIDER,
	TEXT_ADDRESS,  /* URLs that paths are appended to, in order of preference, a line each */
	TEXT_SECRET,   /* its reference, '' = none */
	TEXT_CA_FILE,  /* authorities that are trusted, '' = the system's */
	TEXT_HEALTH,   /* path of health checks, '' = none */
	TEXT_AUTH,	   /* how the secret is used: '' = as it is, else see sophia.provider_auth() */
	TEXT_PATH,	   /* begins with a slash */
	TEXT_MODEL,	   /* for people; '' = none */
	TEXT_FUNCTION, /* for people */
	REQUEST_TEXTS
} RequestText;

/* What is asked of the gateway. */
typedef enum AskKind
{
	REQUEST_CALL, /* of a provider */
	REQUEST_LOOKUP, /* of the cache, by a body of keys; the answer has their values in that order, or nothing at all */
	REQUEST_STORE, /* a value, by a body of TTL in seconds, key and value; the answer is empty */
	REQUEST_PURGE  /* the keys of a pattern, which is the body; the answer is their number */
} AskKind;

/* Lengths in the bodies of requests of the cache, and of their answers, are uint32; this one says that there is no value. */
#define CACHE_NO_VALUE PG_UINT32_MAX

typedef struct RequestHeader
{
	AskKind kind;
	uint64 number;	  /* chosen by the session, never twice */
	int64 generation; /* of the provider's profile; a larger one is newer */
	Oid database;
	Oid role;
	int32 timeout_ms;		/* from when it is first sent, with all that is tried again */
	int32 attempts;			/* most times that it is sent; refusals for their rate do not count */
	int32 connections;		/* most connections to the provider */
	int32 min_connections;	/* that are kept while it is in use */
	int32 idle_ms;			/* connections that were idle for longer are closed */
	int32 in_flight;		/* most requests at the provider at a time */
	int32 breaker_failures; /* in a row, that open the breaker */
	int32 breaker_ms;		/* how long at first */
	int32 queue_bytes;		/* of requests that wait for their turn, all sessions together */
	bool post;				/* with the body; else GET */
	bool statement; /* goes to Snowflake's SQL API: an answer of 202 is waited for, and what nobody waits for is cancelled */
	bool shareable; /* an equal request of another session may get the same answer */
	bool repeatable; /* can be sent again where it is not known whether the provider has done its work */
	uint16 lengths[REQUEST_TEXTS];
	uint32 body_length;
} RequestHeader;

typedef struct AnswerHeader
{
	uint64 number;
	int32 sqlstate; /* 0: the provider answered with `status` and the body; else the body is the gateway's message */
	int32 status;	  /* of HTTP */
	int32 attempts;	  /* how often it was sent */
	int32 elapsed_ms; /* since it was first sent */
	bool shared;	  /* it is that of an equal request, which is billed there */
} AnswerHeader;

/* Largest body of a request, and of an answer. */
#define REQUEST_BODY_BYTES (16 * 1024 * 1024)
#define ANSWER_BODY_BYTES  (64 * 1024 * 1024)

#endif /* SOPHIA_MESSAGES_H */
