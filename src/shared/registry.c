/*
 * registry.c
 *		The shared memory and the places of the workers in it.
 *
 * A place belongs to one worker (database, index) from when the launcher first wants it until the database is no longer
 * listed; so what is known about its failures outlives its processes, and the launcher's.  Signals are sent
 * under the lock: a process gives up its place under the same lock before it ends, so the pid is still its own.
 */
#include "postgres.h"

#include <signal.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "shared/registry_state.h"

#define HEALTHY_MS		 60000 /* a worker that ran this long has not failed at its start */
#define RESTART_DELAY_MS 100 /* after an end that was asked for: until the postmaster has seen it */
#define FIRST_DELAY_MS	 1000
#define LONGEST_DELAY_MS 60000

/* So many crashes of the server in a row are borne before workers wait longer after each. */
#define CRASHES_BORNE 3

Registry *sophia_registry = NULL;

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

/* This process' place, while it is a worker; and the configuration that it has been told of. */
static int my_slot = -1;
static uint64 my_generation = 0;
static uint64 my_config_generation = 0;
static uint64 my_rows_generation = 0;
static volatile sig_atomic_t told_to_end = false;

static void
request_shmem(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Registry)));
	RequestNamedLWLockTranche("sophia_stack", 1);
}

/*
 * How often the shared memory was made anew in a row.  The postmaster outlives it, so this is what tells that a
 * worker might be the cause; without waiting, one that crashes at once would keep everybody from connecting.
 */
static int
count_crashes(void)
{
	static int crashes = 0;
	static int64 last_start = 0;
	int64 now = sophia_clock_ms();

	crashes = last_start != 0 && now - last_start < HEALTHY_MS ? crashes + 1 : 0;
	last_start = now;
	return crashes;
}

static void
startup_shmem(void)
{
	bool found;

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();

	sophia_registry = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	sophia_registry = ShmemInitStruct("sophia_stack", sizeof(Registry), &found);
	if (!found)
	{
		memset(sophia_registry, 0, sizeof(Registry));
		sophia_registry->lock = &GetNamedLWLockTranche("sophia_stack")->lock;
		sophia_registry->crashes = count_crashes();
	}
	LWLockRelease(AddinShmemInitLock);
}

void
sophia_registry_install(void)
{
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

bool
sophia_registry_available(void)
{
	return sophia_registry != NULL;
}

/* ---- waking; the lock is held ---- */

static void
wake_process(int proc_number)
{
	SetLatch(&GetPGProcByNumber(proc_number)->procLatch);
}

void
sophia_registry_wake_launcher(void)
{
	if (sophia_registry->launcher_pid != 0)
		wake_process(sophia_registry->launcher_proc_number);
}

void
sophia_registry_wake_workers(Oid database)
{
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (worker->database == database && worker->pid != 0)
			wake_process(worker->proc_number);
	}
}

bool
sophia_registry_is_held(Oid database)
{
	for (int i = 0; OidIsValid(database) && i < HOLD_SLOTS; i++)
	{
		if (sophia_registry->holds[i].database == database)
			return true;
	}
	return false;
}

/* ---- worker side ---- */

/* The lock is held. */
static void
tell_others(void)
{
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (i == my_slot || worker->database != sophia_registry->workers[my_slot].database)
			continue;
		worker->config_generation++;
		if (worker->pid != 0)
			wake_process(worker->proc_number);
	}
}

/* Counts a failure; the next start waits exponentially longer, with jitter, while the worker keeps failing. */
static void
count_failure(WorkerSlot *worker, int64 now)
{
	int64 delay;

	worker->failures++;
	delay = FIRST_DELAY_MS << Min(worker->failures - 1, 6);
	delay = (int64) (delay * (0.75 + 0.5 * pg_prng_double(&pg_global_prng_state)));
	worker->next_start = now + Min(delay, LONGEST_DELAY_MS);
}

static void
release_worker(int code, Datum arg)
{
	WorkerSlot *worker = &sophia_registry->workers[my_slot];
	int64 now = sophia_clock_ms();

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	if (worker->pid == MyProcPid && worker->generation == my_generation)
	{
		bool healthy = now - worker->changed >= HEALTHY_MS;

		worker->pid = 0;
		worker->state = WORKER_IDLE;
		worker->changed = now;
		if (worker->ending || healthy)
			worker->failures = 0;
		if (worker->ending || told_to_end)
			worker->next_start = now + RESTART_DELAY_MS;
		else
			count_failure(worker, now);
		sophia_registry_wake_launcher();
		tell_others();
	}
	LWLockRelease(sophia_registry->lock);
}

void
sophia_registry_attach_worker(int slot, uint64 generation)
{
	WorkerSlot *worker = &sophia_registry->workers[slot];
	bool wanted;

	my_slot = slot;
	my_generation = generation;
	before_shmem_exit(release_worker, (Datum) 0);

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	wanted = worker->generation == generation && worker->state == WORKER_STARTING;
	if (wanted && (worker->ending || sophia_registry_is_held(worker->database)))
	{
		worker->state = WORKER_IDLE;
		worker->next_start = 0;
		wanted = false;
	}
	if (wanted)
	{
		worker->state = WORKER_RUNNING;
		worker->pid = MyProcPid;
		worker->proc_number = compat_my_proc_number();
		worker->changed = sophia_clock_ms();
		worker->started_at = GetCurrentTimestamp();
		my_config_generation = worker->config_generation;
		my_rows_generation = worker->rows_generation;
		tell_others();
	}
	LWLockRelease(sophia_registry->lock);

	if (!wanted)
		proc_exit(0);
}

void
sophia_registry_told_to_end(void)
{
	told_to_end = true;
}

Oid
sophia_registry_worker_database(void)
{
	return sophia_registry->workers[my_slot].database;
}

int
sophia_registry_worker_index(void)
{
	return sophia_registry->workers[my_slot].index;
}

/* Takes what this worker's slot says now into *mine; true when that is something else. */
static bool
take_generation(uint64 *mine, const uint64 *shared)
{
	uint64 seen = *mine;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	*mine = *shared;
	LWLockRelease(sophia_registry->lock);
	return seen != *mine;
}

bool
sophia_registry_config_changed(void)
{
	return take_generation(&my_config_generation,
						   &sophia_registry->workers[my_slot].config_generation);
}

void
sophia_registry_want_jobs(Oid database)
{
	int place = -1;

	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		Oid wanted = sophia_registry->jobs_wanted[i];

		if (wanted == database || (place < 0 && !OidIsValid(wanted)))
			place = i;
		if (wanted == database)
			break;
	}
	if (place >= 0)
		sophia_registry->jobs_wanted[place] = database;
	sophia_registry_wake_workers(database);
	sophia_registry_wake_launcher();
}

void
sophia_registry_look_for_jobs(Oid database)
{
	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	sophia_registry_want_jobs(database);
	LWLockRelease(sophia_registry->lock);
}

bool
sophia_registry_jobs_wanted(Oid database)
{
	bool wanted = false;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	for (int i = 0; !wanted && i < SOPHIA_WORKER_SLOTS; i++)
		wanted = sophia_registry->jobs_wanted[i] == database;
	LWLockRelease(sophia_registry->lock);
	return wanted;
}

void
sophia_registry_forget_jobs(const List *databases)
{
	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		if (!list_member_oid(databases, sophia_registry->jobs_wanted[i]))
			sophia_registry->jobs_wanted[i] = InvalidOid;
	}
	LWLockRelease(sophia_registry->lock);
}

void
sophia_registry_take_jobs_wanted(void)
{
	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		if (sophia_registry->jobs_wanted[i] == MyDatabaseId)
			sophia_registry->jobs_wanted[i] = InvalidOid;
	}
	LWLockRelease(sophia_registry->lock);
}

bool
sophia_registry_rows_landed(void)
{
	return take_generation(&my_rows_generation, &sophia_registry->workers[my_slot].rows_generation);
}

uint32
sophia_registry_living_workers(void)
{
	uint32 living = 0;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (worker->kind == WORKER_INGEST &&
			worker->database == sophia_registry->workers[my_slot].database && worker->pid != 0 &&
			!worker->ending)
			living |= (uint32) 1 << worker->index;
	}
	LWLockRelease(sophia_registry->lock);
	return living;
}

void
sophia_registry_tell_others(void)
{
	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	tell_others();
	LWLockRelease(sophia_registry->lock);
}

/* ---- backend side ---- */

int
sophia_registry_worker_pid(Oid database, int index)
{
	int pid = 0;
	int first = SOPHIA_WORKER_SLOTS;

	if (!sophia_registry_available())
		return 0;
	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (worker->kind == WORKER_INGEST && worker->database == database && worker->pid != 0 &&
			worker->index < first && (index < 0 || index == worker->index))
		{
			pid = worker->pid;
			first = worker->index;
		}
	}
	LWLockRelease(sophia_registry->lock);
	return pid;
}

bool
sophia_registry_database_busy(Oid database)
{
	bool busy = false;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (worker->database == database && worker->state != WORKER_IDLE)
			busy = true;
	}
	LWLockRelease(sophia_registry->lock);
	return busy;
}

/* ---- launcher side ---- */

static void
release_launcher(int code, Datum arg)
{
	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	if (sophia_registry->launcher_pid == MyProcPid)
		sophia_registry->launcher_pid = 0;
	LWLockRelease(sophia_registry->lock);
}

void
sophia_registry_attach_launcher(void)
{
	before_shmem_exit(release_launcher, (Datum) 0);
	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	sophia_registry->launcher_pid = MyProcPid;
	sophia_registry->launcher_proc_number = compat_my_proc_number();
	LWLockRelease(sophia_registry->lock);
}

int
sophia_registry_launcher_pid(void)
{
	int pid;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	pid = sophia_registry->launcher_pid;
	LWLockRelease(sophia_registry->lock);
	return pid;
}

void
sophia_registry_copy_workers(WorkerSlot *workers)
{
	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	memcpy(workers, sophia_registry->workers, sizeof(sophia_registry->workers));
	LWLockRelease(sophia_registry->lock);
}

int
sophia_registry_place_worker(WorkerKind kind, Oid database, int index)
{
	int place = -1;

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SOPHIA_WORKER_SLOTS; i++)
	{
		WorkerSlot *worker = &sophia_registry->workers[i];

		if (worker->kind == kind && worker->database == database && worker->index == index)
		{
			place = i;
			break;
		}
		if (place < 0 && worker->kind == WORKER_NONE)
			place = i;
	}
	if (place >= 0 && sophia_registry->workers[place].kind == WORKER_NONE)
	{
		WorkerSlot *worker = &sophia_registry->workers[place];

		memset(worker, 0, sizeof(WorkerSlot));
		worker->kind = kind;
		worker->database = database;
		worker->index = index;
		if (sophia_registry->crashes > CRASHES_BORNE)
		{
			worker->failures = sophia_registry->crashes - CRASHES_BORNE - 1;
			count_failure(worker, sophia_clock_ms());
		}
	}
	LWLockRelease(sophia_registry->lock);
	return place;
}

bool
sophia_registry_reserve_worker(int slot, uint64 *generation)
{
	WorkerSlot *worker = &sophia_registry->workers[slot];
	int64 now = sophia_clock_ms();
	bool reserved;

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	reserved = worker->state == WORKER_IDLE && worker->next_start <= now &&
			   !sophia_registry_is_held(worker->database);
	if (reserved)
	{
		worker->state = WORKER_STARTING;
		worker->generation = ++sophia_registry->last_generation;
		worker->ending = false;
		worker->changed = now;
	}
	*generation = worker->generation;
	LWLockRelease(sophia_registry->lock);
	return reserved;
}

void
sophia_registry_start_failed(int slot, uint64 generation)
{
	WorkerSlot *worker = &sophia_registry->workers[slot];
	int64 now = sophia_clock_ms();

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	if (worker->state == WORKER_STARTING && worker->generation == generation)
	{
		worker->state = WORKER_IDLE;
		worker->changed = now;
		count_failure(worker, now);
	}
	LWLockRelease(sophia_registry->lock);
}

void
sophia_registry_end_worker(int slot, uint64 generation)
{
	WorkerSlot *worker = &sophia_registry->workers[slot];

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	if (worker->generation == generation)
	{
		worker->ending = true;
		if (worker->pid != 0)
			kill(worker->pid, SIGTERM);
		else if (worker->state == WORKER_IDLE)
			memset(worker, 0, sizeof(WorkerSlot));
	}
	LWLockRelease(sophia_registry->lock);
}
