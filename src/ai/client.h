/*
 * client.h
 *		The session's side of the gateway: sends requests, and waits for their answers.
 */
#ifndef SOPHIA_CLIENT_H
#define SOPHIA_CLIENT_H

#include "postgres.h"

#include "ai/messages.h"
#include "lib/stringinfo.h"

/* What is to be asked.  Both functions may raise errors. */
typedef struct Exchange
{
	int window; /* most requests that are under way at a time */

	/* Writes the next request, with a number of its own, into the empty `message`; false: there is none now. */
	bool (*next)(struct Exchange *exchange, StringInfo message);

	/* Takes the answer to one of them; more requests may be there afterwards. */
	void (*take)(struct Exchange *exchange, const AnswerHeader *answer, const char *body,
				 Size length);
} Exchange;

/*
 * Sends all requests and takes all answers.  Can be cancelled at any time, which ends the requests as well.  Raises 55000
 * where there is no gateway, or when it ends meanwhile.
 */
extern void sophia_client_exchange(Exchange *exchange);

#endif /* SOPHIA_CLIENT_H */
