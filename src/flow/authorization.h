/*
 * authorization.h
 *		What Estuary's control plane answers when it is asked for access to a broker, and how long a
 *		broker's token lasts.  Pure: no server call.
 *
 * Source: estuary/flow crates/models/src/authorizations.rs (UserCollectionAuthorization,
 * UserPrefixAuthorization), crates/control-plane-api/src/server/error.rs.
 */
#ifndef SOPHIA_AUTHORIZATION_H
#define SOPHIA_AUTHORIZATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum AuthorizationKind
{
	AUTHORIZATION_GRANTED,	   /* address and token are set */
	AUTHORIZATION_PROVISIONAL, /* what the control plane knows is too old: ask the same again */
	AUTHORIZATION_UNKNOWN,	   /* 401: it does not take the refresh token */
	AUTHORIZATION_DENIED,	   /* 403: the user has no right to that */
	AUTHORIZATION_NOT_FOUND,   /* 404: there is no such collection or data plane */
	AUTHORIZATION_REJECTED,	   /* 400: it will never take this request */
	AUTHORIZATION_UNAVAILABLE  /* anything else: it may work another time */
} AuthorizationKind;

typedef struct Authorization
{
	AuthorizationKind kind;
	char *address;	 /* of the broker, without slashes at its end; malloc'ed like the others */
	char *token;	 /* for the broker */
	char *prefix;	 /* journals' names begin so; NULL = the answer names none */
	int64_t wait_ms; /* of a provisional answer; -1 = it is a redirection, and its header says so */
	char message[320]; /* why it is not granted */
} Authorization;

/*
 * Judges an answer by its HTTP status and its body.  `secret`, what was sent, does not get into the
 * message even if the answer repeats it.
 */
extern void sophia_authorization_read(Authorization *authorization, long status, const char *body,
									  size_t length, const char *secret);

/* Wipes and frees what an answer holds. */
extern void sophia_authorization_clear(Authorization *authorization);

/*
 * Reads when a token was issued and when it expires (unix seconds, 0 = it does not say) from the
 * payload of a JSON web token (RFC 7519).  Nothing is verified; false when it is no such token or
 * never expires.
 */
extern bool sophia_token_times(const char *token, int64_t *issued, int64_t *expires);

#endif /* SOPHIA_AUTHORIZATION_H */
