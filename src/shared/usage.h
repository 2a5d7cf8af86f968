/*
 * usage.h
 *		Shared memory: what AI calls have used, until a jobs worker has written it to its database.
 *
 * It is kept apart from transactions, since a provider bills also what was rolled back, and what a read-only transaction
 * asked for.  Lost at a restart that is no clean one.
 */
#ifndef SOPHIA_USAGE_H
#define SOPHIA_USAGE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define USAGE_NAME_BYTES 256 /* longest name of a model, with its NUL; a longer one is cut */

/* Whose use it is; every byte counts, so set it to zeros first. */
typedef struct UsageKey
{
	TimestampTz hour; /* its beginning */
	Oid database;
	Oid role;
	char function[64];
	char model[USAGE_NAME_BYTES];
} UsageKey;

typedef struct UsageCounts
{
	int64 calls; /* texts that were sent, or found in a cache */
	int64 cache_hits;
	int64 tokens_in;
	int64 tokens_out;
	int64 errors;
	int64 cost; /* in 1e-12 of the currency of the model's price */
	int64 ms;
} UsageCounts;

typedef struct UsageEntry
{
	UsageKey key; /* must come first */
	UsageCounts counts;
} UsageEntry;

/* Installs the hooks that reserve and prepare the shared memory; for _PG_init while preloading. */
extern void sophia_usage_install(void);

/*
 * Adds to what is kept, and has a jobs worker come for it.  Raises no error; what finds no room is not counted, which the
 * log says.
 */
extern void sophia_usage_add(const UsageKey *key, const UsageCounts *counts);

/* What is kept of a database: *entries is palloc'ed; the number of them. */
extern int sophia_usage_copy(Oid database, UsageEntry **entries);

/* Whether something is kept of a database. */
extern bool sophia_usage_waits(Oid database);

/* Takes away what was written; raises no error. */
extern void sophia_usage_written(const UsageEntry *entries, int n);

#endif /* SOPHIA_USAGE_H */
