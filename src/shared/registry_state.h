/*
 * registry_state.h
 *		The layout of the shared memory, for the files of this folder only.
 */
#ifndef SOPHIA_REGISTRY_STATE_H
#define SOPHIA_REGISTRY_STATE_H

#include "postgres.h"

#include "storage/dsm.h"
#include "storage/lwlock.h"

#include "shared/registry.h"

#define REQUEST_SLOTS 64
#define HOLD_SLOTS	  32

typedef struct RequestSlot
{
	uint64 id; /* 0 = free */
	Oid database;
	int proc_number; /* of the backend that waits */
	RequestKind kind;
	char name[SOPHIA_REQUEST_NAME];
	dsm_handle segment; /* the backend made it; the text of the answer goes there */
	Size size;			/* bytes of the segment */
	bool answered;
	int sqlstate;
} RequestSlot;

/* A database that workers have to keep off, and the process whose transaction wants so. */
typedef struct Hold
{
	Oid database; /* InvalidOid = free */
	pid_t pid;
} Hold;

typedef struct Registry
{
	LWLock *lock;
	pid_t launcher_pid; /* 0 = none */
	int launcher_proc_number;
	int crashes; /* how often the server has started anew after a crash, each time within a minute */
	uint64 last_generation;
	uint64 last_request;
	WorkerSlot workers[SOPHIA_WORKER_SLOTS];
	RequestSlot requests[REQUEST_SLOTS];
	Hold holds[HOLD_SLOTS];
	Oid jobs_wanted[SOPHIA_WORKER_SLOTS]; /* databases that have AI jobs to be looked at; InvalidOid = free */
} Registry;

extern Registry *sophia_registry;

/* The lock is held when these are called. */

/* Set the latches of the running workers of a database, and of the launcher. */
extern void sophia_registry_wake_workers(Oid database);
extern void sophia_registry_wake_launcher(void);

/* Whether workers have to keep off a database. */
extern bool sophia_registry_is_held(Oid database);

/* Has the jobs worker of a database look for work. */
extern void sophia_registry_want_jobs(Oid database);

#endif /* SOPHIA_REGISTRY_STATE_H */
