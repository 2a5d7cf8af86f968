/*
 * channels.c
 *		Shared memory between sessions and the gateway: see channels.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "base/compat.h"
#include "shared/channels.h"

#define TRANCHE "sophia_stack gateway"

typedef struct Channels
{
	LWLock *lock;
	uint64 gateway; /* its run; 0 = it is not up */
	uint64 last_gateway;
	uint64 last_id;
	int gateway_proc_number;
	int count;
	pg_atomic_uint64 changes;
	ProviderState providers[CHANNEL_PROVIDERS];
	RequestEntry requests[CHANNEL_REQUESTS];
	CacheState cache;
	ChannelSlot slots[FLEXIBLE_ARRAY_MEMBER]; /* by the number of the session's PGPROC */
} Channels;

static Channels *channels = NULL;
static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

static Size
shared_size(void)
{
	return add_size(offsetof(Channels, slots), mul_size(MaxBackends, sizeof(ChannelSlot)));
}

static void
request_shmem(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(shared_size()));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
startup_shmem(void)
{
	bool found;

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();

	channels = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	channels = ShmemInitStruct(TRANCHE, shared_size(), &found);
	if (!found)
	{
		memset(channels, 0, shared_size());
		channels->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		channels->count = MaxBackends;
		pg_atomic_init_u64(&channels->changes, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
sophia_channels_install(void)
{
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/* ---- the two queues ---- */

Size
sophia_channel_size(void)
{
	return 2 * CHANNEL_QUEUE_BYTES;
}

shm_mq *
sophia_channel_queue(dsm_segment *segment, bool to_gateway)
{
	char *start = dsm_segment_address(segment);

	return (shm_mq *) (to_gateway ? start : start + CHANNEL_QUEUE_BYTES);
}

/* The lock is held. */
static void
wake_gateway(void)
{
	if (channels->gateway != 0)
		SetLatch(&GetPGProcByNumber(channels->gateway_proc_number)->procLatch);
}

/* ---- session side ---- */

uint64
sophia_channels_gateway(void)
{
	uint64 gateway;

	if (channels == NULL)
		return 0;
	LWLockAcquire(channels->lock, LW_SHARED);
	gateway = channels->gateway;
	LWLockRelease(channels->lock);
	return gateway;
}

bool
sophia_channels_announce(uint64 gateway, dsm_segment *segment)
{
	bool up;

	LWLockAcquire(channels->lock, LW_EXCLUSIVE);
	up = channels->gateway == gateway;
	if (up)
	{
		ChannelSlot *slot = &channels->slots[compat_my_proc_number()];

		slot->id = ++channels->last_id;
		slot->gateway = gateway;
		slot->pid = MyProcPid;
		slot->segment = dsm_segment_handle(segment);
		pg_atomic_fetch_add_u64(&channels->changes, 1);
		wake_gateway();
	}
	LWLockRelease(channels->lock);
	return up;
}

void
sophia_channels_withdraw(void)
{
	LWLockAcquire(channels->lock, LW_EXCLUSIVE);
	channels->slots[compat_my_proc_number()].id = 0;
	pg_atomic_fetch_add_u64(&channels->changes, 1);
	wake_gateway();
	LWLockRelease(channels->lock);
}

void
sophia_channels_wake_gateway(void)
{
	LWLockAcquire(channels->lock, LW_SHARED);
	wake_gateway();
	LWLockRelease(channels->lock);
}

void
sophia_channels_copy_providers(ProviderState *providers)
{
	memset(providers, 0, sizeof(channels->providers));
	if (channels == NULL)
		return;
	LWLockAcquire(channels->lock, LW_SHARED);
	memcpy(providers, channels->providers, sizeof(channels->providers));
	LWLockRelease(channels->lock);
}

void
sophia_channels_copy_requests(RequestEntry *requests)
{
	memset(requests, 0, sizeof(channels->requests));
	if (channels == NULL)
		return;
	LWLockAcquire(channels->lock, LW_SHARED);
	memcpy(requests, channels->requests, sizeof(channels->requests));
	LWLockRelease(channels->lock);
}

CacheState
sophia_channels_cache(void)
{
	CacheState state = {0};

	if (channels == NULL)
		return state;
	LWLockAcquire(channels->lock, LW_SHARED);
	state = channels->cache;
	LWLockRelease(channels->lock);
	return state;
}

/* ---- gateway side ---- */

/* before_shmem_exit: whoever waits for this process learns that it is gone. */
static void
detach_gateway(int code, Datum arg)
{
	LWLockAcquire(channels->lock, LW_EXCLUSIVE);
	channels->gateway = 0;
	memset(channels->providers, 0, sizeof(channels->providers));
	memset(channels->requests, 0, sizeof(channels->requests));
	for (int i = 0; i < channels->count; i++)
	{
		if (channels->slots[i].id != 0)
			SetLatch(&GetPGProcByNumber(i)->procLatch);
	}
	LWLockRelease(channels->lock);
}

uint64
sophia_channels_attach_gateway(void)
{
	uint64 gateway;

	before_shmem_exit(detach_gateway, (Datum) 0);
	LWLockAcquire(channels->lock, LW_EXCLUSIVE);
	gateway = channels->gateway = ++channels->last_gateway;
	channels->gateway_proc_number = compat_my_proc_number();
	LWLockRelease(channels->lock);
	return gateway;
}

uint64
sophia_channels_changes(void)
{
	return pg_atomic_read_u64(&channels->changes);
}

int
sophia_channels_count(void)
{
	return channels->count;
}

ChannelSlot
sophia_channels_slot(int place)
{
	ChannelSlot slot;

	LWLockAcquire(channels->lock, LW_SHARED);
	slot = channels->slots[place];
	LWLockRelease(channels->lock);
	return slot;
}

void
sophia_channels_tell_provider(int place, const ProviderState *state)
{
	LWLockAcquire(channels->lock, LW_EXCLUSIVE);
	channels->providers[place] = *state;
	LWLockRelease(channels->lock);
}

void
sophia_channels_tell_request(int place, const RequestEntry *entry)
{
	LWLockAcquire(channels->lock, LW_EXCLUSIVE);
	channels->requests[place] = *entry;
	LWLockRelease(channels->lock);
}

void
sophia_channels_tell_cache(const CacheState *state)
{
	LWLockAcquire(channels->lock, LW_EXCLUSIVE);
	channels->cache = *state;
	LWLockRelease(channels->lock);
}
