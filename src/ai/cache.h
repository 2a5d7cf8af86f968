/*
 * cache.h
 *		The session's side of the cache: keys of answers, those of this statement, and those of the cache's server.
 */
#ifndef SOPHIA_CACHE_H
#define SOPHIA_CACHE_H

#include "postgres.h"

#include "ai/call.h"
#include "lib/stringinfo.h"

#define CACHE_DIGEST_BYTES 32 /* SHA-256 */

typedef struct CacheKey
{
	unsigned char digest[CACHE_DIGEST_BYTES];
} CacheKey;

/* What the keys of a call have in common. */
typedef struct CacheUse
{
	bool on;	 /* answers of this call may be used again */
	bool server; /* by other statements, too */
	CacheKey call;
	char prefix[192]; /* of its keys in the server */
} CacheUse;

/* Says how a call uses the cache: not at all where its temperature is above 0. */
extern CacheUse sophia_cache_use(const Call *call);

extern CacheKey sophia_cache_key(const CacheUse *use, TextSpan text);

/* An answer as it is kept, and back; false: it cannot be kept, or is none of the call's kind. */
extern bool sophia_cache_pack(const Call *call, const Outcome *outcome, StringInfo value);
extern bool sophia_cache_unpack(const Call *call, Outcome *outcome, const char *value, Size length);

/* An answer that this statement has had before, NULL = none; and keeps one for it. */
extern const char *sophia_cache_recall(const CacheKey *key, Size *length);
extern void sophia_cache_remember(const CacheKey *key, const StringInfoData *value);

/* Takes what the server has of a key, NULL = nothing. */
typedef void (*CacheTaker)(void *owner, int i, const char *value, Size length);

/* Looks n keys up; `take` is called for those that are there. */
extern void sophia_cache_look_up(const CacheUse *use, const CacheKey *keys, int n, CacheTaker take,
								 void *owner);

/* Writes the message that has the server keep a value. */
extern void sophia_cache_write_store(const CacheUse *use, const CacheKey *key, int ttl,
									 const StringInfoData *value, uint64 number,
									 StringInfo message);

/* Has the server drop the answers of a model and of a function, NULL = of all; returns their number.  Raises 55000. */
extern int64 sophia_cache_purge(const char *model, const char *function);

#endif /* SOPHIA_CACHE_H */
