/*
 * snowflake.h
 *		Providers of kind "snowflake": their paths, their embeddings, and tokens signed by a key pair.
 *
 * Chats go by the dialect of OpenAI, which Cortex speaks too (openai.h).  Pure: no server call.
 */
#ifndef SOPHIA_SNOWFLAKE_H
#define SOPHIA_SNOWFLAKE_H

#include <time.h>

#include "ai/openai.h"

/* Seconds that a token lives; the service takes an hour at most. */
#define SNOWFLAKE_TOKEN_SECONDS 600

/* The body of an embedding of n texts.  False: no memory. */
extern bool sophia_snowflake_embedding_request(ByteBuffer *out, const char *model,
											   const TextSpan *texts, size_t n);

/*
 * Appends a token (JWT, RS256) with its final NUL, valid from `now`.  `key` is an RSA private key, PEM in one line with spaces
 * for its newlines; `account` may be a host, of which the account's name is taken.  Source: the vendor's Python driver,
 * auth/keypair.py.  False: *problem says why, without telling of the key.
 */
extern bool sophia_snowflake_sign(ByteBuffer *out, const char *key, const char *account,
								  const char *user, time_t now, const char **problem);

#endif /* SOPHIA_SNOWFLAKE_H */
