/*
 * usage.c
 *		Shared memory of what AI calls have used: see usage.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "shared/registry_state.h"
#include "shared/usage.h"

#define TRANCHE "sophia_stack usage"
#define ENTRIES 2048 /* hour, database, role, function and model, in any combination */

static LWLock *lock = NULL;
static HTAB *usage = NULL; /* of UsageEntry; NULL without preload */
static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

static void
request_shmem(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(hash_estimate_size(ENTRIES, sizeof(UsageEntry)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
startup_shmem(void)
{
	HASHCTL control = {.keysize = sizeof(UsageKey), .entrysize = sizeof(UsageEntry)};

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	usage = ShmemInitHash(TRANCHE, ENTRIES, ENTRIES, &control, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

void
sophia_usage_install(void)
{
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

static void
add_counts(UsageCounts *sum, const UsageCounts *counts, int sign)
{
	sum->calls += sign * counts->calls;
	sum->cache_hits += sign * counts->cache_hits;
	sum->tokens_in += sign * counts->tokens_in;
	sum->tokens_out += sign * counts->tokens_out;
	sum->errors += sign * counts->errors;
	sum->cost += sign * counts->cost;
	sum->ms += sign * counts->ms;
}

static void
wake_launcher(void)
{
	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	sophia_registry_wake_launcher();
	LWLockRelease(sophia_registry->lock);
}

void
sophia_usage_add(const UsageKey *key, const UsageCounts *counts)
{
	UsageEntry *entry;
	bool found = true;

	if (usage == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search(usage, key, HASH_ENTER_NULL, &found);
	if (entry != NULL && !found)
		memset(&entry->counts, 0, sizeof(UsageCounts));
	if (entry != NULL)
		add_counts(&entry->counts, counts, 1);
	LWLockRelease(lock);
	if (entry == NULL)
		ereport(LOG, (errmsg("%lld AI calls are not counted, because there is no room for them",
							 (long long) counts->calls),
					  errhint("List the database in sophia_stack.databases, so that what was used "
							  "is written to it.")));
	else if (!found)
		wake_launcher();
}

int
sophia_usage_copy(Oid database, UsageEntry **entries)
{
	HASH_SEQ_STATUS scan;
	UsageEntry *entry;
	int n = 0;

	*entries = NULL;
	if (usage == NULL)
		return 0;
	*entries = palloc(sizeof(UsageEntry) * ENTRIES);
	LWLockAcquire(lock, LW_SHARED);
	hash_seq_init(&scan, usage);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database == database)
			(*entries)[n++] = *entry;
	}
	LWLockRelease(lock);
	return n;
}

bool
sophia_usage_waits(Oid database)
{
	HASH_SEQ_STATUS scan;
	UsageEntry *entry;
	bool waits = false;

	if (usage == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	hash_seq_init(&scan, usage);
	while (!waits && (entry = hash_seq_search(&scan)) != NULL)
		waits = entry->key.database == database;
	if (waits)
		hash_seq_term(&scan);
	LWLockRelease(lock);
	return waits;
}

void
sophia_usage_written(const UsageEntry *entries, int n)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		UsageEntry *entry = hash_search(usage, &entries[i].key, HASH_FIND, NULL);

		if (entry == NULL)
			continue;
		add_counts(&entry->counts, &entries[i].counts, -1);
		if (entry->counts.calls == 0)
			(void) hash_search(usage, &entries[i].key, HASH_REMOVE, NULL);
	}
	LWLockRelease(lock);
}
