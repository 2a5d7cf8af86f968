/*
 * registry.h
 *		Shared memory: who works on which database, and requests that backends ask of a worker.
 *
 * All of it is lost at a restart and rebuilt: durable state lives in tables only.  One LWLock protects everything here;
 * it is held for copying and signalling only, never while waiting, starting a process or raising an error.
 * No process-local pointer is stored; a process is known by pid and PGPROC number.
 */
#ifndef SOPHIA_REGISTRY_H
#define SOPHIA_REGISTRY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#define SOPHIA_WORKER_SLOTS 32	/* places for workers, over all databases */
#define SOPHIA_REQUEST_NAME 512 /* longest stream or endpoint name in a request, with its NUL */

typedef enum RequestKind
{
	REQUEST_AWAIT_STREAM,	/* name = stream; answered without text once it has caught up */
	REQUEST_CHECK_ENDPOINT, /* name = endpoint; text of the answer = what was found, for people */
	REQUEST_COLLECTIONS		/* name = endpoint; JSON array of {"collection", "journals", "bytes"} */
} RequestKind;

/* A request as the worker sees it: a copy out of shared memory. */
typedef struct Request
{
	uint64 id; /* unique while the server runs */
	RequestKind kind;
	char name[SOPHIA_REQUEST_NAME];
} Request;

/*
 * Life of a worker's place.  The launcher takes an idle place to starting and registers the process; the process
 * takes it to running; its end takes it to idle again, with the moment from which it may be started next.
 */
typedef enum WorkerState
{
	WORKER_IDLE,
	WORKER_STARTING,
	WORKER_RUNNING
} WorkerState;

/* What a process does. */
typedef enum WorkerKind
{
	WORKER_NONE,	/* the place is free */
	WORKER_INGEST,	/* follows streams of a database */
	WORKER_GATEWAY, /* talks to AI providers for the whole cluster */
	WORKER_JOBS,	/* AI work of a database: queue, enrichments, usage; there while it is needed */
	WORKER_KINDS
} WorkerKind;

typedef struct WorkerSlot
{
	WorkerKind kind;
	Oid database; /* InvalidOid: works on none */
	int index;	  /* among those of its kind and database; 0 .. sophia_stack.ingest_workers - 1 */
	WorkerState state;
	uint64 generation; /* of the last start; a process of another generation is not the one meant */
	pid_t pid;		   /* while running, else 0 */
	int proc_number;   /* of its PGPROC, while running */
	bool ending;	   /* the launcher told it to end, so its end is no failure */
	int failures;	   /* ends by an error in a row, each within a minute of its start */
	int64 next_start;  /* sophia_clock_ms() from which it may start */
	int64 changed;	   /* sophia_clock_ms() of the last change of state */
	TimestampTz started_at;
	uint64 config_generation; /* number of changes to the configuration that were committed */
	uint64 rows_generation;	  /* number of transactions that committed rows to be fed */
} WorkerSlot;

/* Installs the hooks that reserve and prepare the shared memory; for _PG_init while preloading. */
extern void sophia_registry_install(void);

/* True when the library was preloaded, so that shared memory and a launcher exist. */
extern bool sophia_registry_available(void);

/* ---- worker side ---- */

/* What the launcher hands a worker: its slot and the generation of this start, in one by-value argument. */
#define SOPHIA_WORKER_ARG(slot, generation)                                                        \
	Int64GetDatum((int64) ((generation) << 8 | (uint64) (slot)))
#define SOPHIA_WORKER_ARG_SLOT(arg)		  ((int) (DatumGetInt64(arg) & 0xff))
#define SOPHIA_WORKER_ARG_GENERATION(arg) ((uint64) DatumGetInt64(arg) >> 8)

/*
 * Takes this process' place (launcher reserved it); released by before_shmem_exit, registered first.  Ends the
 * process (exit code 0) when the place is not meant for it any more.  Call it after BackgroundWorkerUnblockSignals
 * and before connecting.
 */
extern void sophia_registry_attach_worker(int slot, uint64 generation);

/*
 * Somebody told this process to end (SIGTERM), so its end is no failure and another may start at once.  May be called by
 * a signal handler.
 */
extern void sophia_registry_told_to_end(void);

/* The database that this worker works on, to connect by, and its number among the workers of that database. */
extern Oid sophia_registry_worker_database(void);
extern int sophia_registry_worker_index(void);

/*
 * True once after each change that a backend committed to endpoints or streams of this worker's database, and after a
 * worker of that database has come or gone.
 */
extern bool sophia_registry_config_changed(void);

/* True once after each transaction that committed rows to be fed in this worker's database. */
extern bool sophia_registry_rows_landed(void);

/* For the jobs worker, before it looks for work: what is told from now on is new. */
extern void sophia_registry_take_jobs_wanted(void);

/* Which workers of this worker's database run: bit i for the one of index i. */
extern uint32 sophia_registry_living_workers(void);

/* Has the other workers of this worker's database read their configuration anew. */
extern void sophia_registry_tell_others(void);

/* The oldest request for this worker's database with id > after; false when there is none. */
extern bool sophia_registry_next_request(uint64 after, Request *request);

/* True while somebody still waits for that request. */
extern bool sophia_registry_request_alive(uint64 id);

/*
 * Answers a request and wakes who waits.  sqlstate 0 = success, then `text` is the answer ("" for none);
 * otherwise `text` is the error message.  Answering a request nobody waits for any more does nothing.  An answer
 * that does not fit (1 MB for collections) becomes error 54000, a message that does not fit is cut.
 */
extern void sophia_registry_answer(uint64 id, int sqlstate, const char *text);

/* ---- backend side ---- */

/* Wakes the workers of this database when the current transaction commits, and tells them to re-read their configuration. */
extern void sophia_registry_notify_at_commit(void);

/* The same for rows of landing tables; never raises an error, and a prepared transaction is found later. */
extern void sophia_registry_rows_landed_at_commit(void);

/* Has the jobs worker of this database look for work once the current transaction has committed. */
extern void sophia_registry_want_jobs_at_commit(void);

/* pid of an ingest worker of a database by its number, or of the first one (index -1); 0 = it does not run. */
extern int sophia_registry_worker_pid(Oid database, int index);

/*
 * Asks the workers of this database and waits for the answer; false when the time is up.  A worker that ends
 * meanwhile leaves the request to its successor.  The answer is palloc'ed.  Raises 53400 when too many wait.
 */
extern bool sophia_registry_ask(RequestKind kind, const char *name, int64 timeout_ms, int *sqlstate,
								char **text);

/*
 * Keeps workers off a database until the end of the current transaction, because it needs the database for itself, and
 * tells those that it has to end.  The launcher then looks at the databases anew.
 */
extern void sophia_registry_hold_database(Oid database);

/* True while a worker of that database runs or is about to. */
extern bool sophia_registry_database_busy(Oid database);

/* ---- launcher side ---- */

/* Makes this process the one that is woken as the launcher. */
extern void sophia_registry_attach_launcher(void);

/* pid of the launcher, 0 = none. */
extern int sophia_registry_launcher_pid(void);

/* Copies all places, SOPHIA_WORKER_SLOTS of them. */
extern void sophia_registry_copy_workers(WorkerSlot *workers);

/* The place for that worker, taken from the free ones where it has none yet; -1 = all are taken. */
extern int sophia_registry_place_worker(WorkerKind kind, Oid database, int index);

/* Takes an idle place to starting and gives it a new generation; false when it may not start now. */
extern bool sophia_registry_reserve_worker(int slot, uint64 *generation);

/* Takes a starting place back to idle because its process never came; counts as a failure. */
extern void sophia_registry_start_failed(int slot, uint64 generation);

/* True while the jobs worker of a database should look for work. */
extern bool sophia_registry_jobs_wanted(Oid database);

/* The same from now on, for a database that may have work that nobody told of. */
extern void sophia_registry_look_for_jobs(Oid database);

/* Forgets the work of all databases but these. */
extern void sophia_registry_forget_jobs(const List *databases);

/* Tells a running worker to end; frees the place when no process has it. */
extern void sophia_registry_end_worker(int slot, uint64 generation);

#endif /* SOPHIA_REGISTRY_H */
