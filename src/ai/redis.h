/*
 * redis.h
 *		The gateway's connection to the Redis server of the cache.
 */
#ifndef SOPHIA_REDIS_H
#define SOPHIA_REDIS_H

#include "postgres.h"

#include <hiredis/hiredis.h>

#include "shared/channels.h"

/* Takes the reply to a command; NULL: the connection has ended before.  The reply is gone afterwards. */
typedef void (*RedisTaker)(redisReply *reply, void *owner);

/* Connects as the settings say; for the start of the gateway, whose loop is there. */
extern void sophia_redis_start(void);

/* Follows the settings, where they have changed. */
extern void sophia_redis_reload(void);

/* Whether commands are worth sending: the server is there, and was not too slow just now. */
extern bool sophia_redis_ready(void);

/* The server was too slow: it is left alone for a moment. */
extern void sophia_redis_spare(void);

/* Sends a command, behind those that are under way; false: it could not be.  The arguments are copied. */
extern bool sophia_redis_send(RedisTaker take, void *owner, int n, const char **arguments,
							  const size_t *lengths);

/* Notes an error, for sophia.cache_status. */
extern void sophia_redis_note_error(const char *error);

/* What is told of it. */
extern CacheState *sophia_redis_state(void);

#endif /* SOPHIA_REDIS_H */
