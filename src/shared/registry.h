/*
 * registry.h
 *		Shared memory: who works on which database, and requests that backends ask of a worker.
 *
 * All of it is lost at a restart and rebuilt: durable state lives in tables only.  One LWLock protects everything here;
 * it is held for copying only, never while waiting, starting a process or raising an error.
 * No process-local pointer is stored; a process is known by pid and PGPROC number.
 */
#ifndef SOPHIA_REGISTRY_H
#define SOPHIA_REGISTRY_H

#include "postgres.h"

#include "storage/dsm.h"

#define SOPHIA_REQUEST_NAME 512 /* longest stream or endpoint name in a request, with its NUL */

typedef enum RequestKind
{
	REQUEST_AWAIT_STREAM,		/* name = stream */
	REQUEST_CHECK_ENDPOINT,		/* name = endpoint */
	REQUEST_COLLECTIONS			/* name = endpoint */
} RequestKind;

/* A request as the worker sees it: a copy out of shared memory. */
typedef struct Request
{
	uint64		id;				/* unique while the server runs */
	RequestKind kind;
	char		name[SOPHIA_REQUEST_NAME];
} Request;

/* True when the library was preloaded, so that shared memory and a launcher exist. */
extern bool sophia_registry_available(void);

/* ---- worker side ---- */

/* Takes this process' place (launcher reserved it); released by before_shmem_exit, registered first. */
extern void sophia_registry_attach_worker(int slot, uint64 generation);

/* True once after each change that a backend committed to endpoints or streams of this worker's database. */
extern bool sophia_registry_config_changed(void);

/* The oldest request for this worker's database with id > after; false when there is none. */
extern bool sophia_registry_next_request(uint64 after, Request *request);

/* True while somebody still waits for that request. */
extern bool sophia_registry_request_alive(uint64 id);

/*
 * Answers a request and wakes who waits.  sqlstate 0 = success, then `text` is the answer (JSON; "" for none);
 * otherwise `text` is the error message.  Answering a request nobody waits for any more does nothing.
 */
extern void sophia_registry_answer(uint64 id, int sqlstate, const char *text);

/* ---- backend side ---- */

/* Wakes the workers of this database when the current transaction commits, and tells them to re-read their configuration. */
extern void sophia_registry_notify_at_commit(void);

/* pid of the ingest worker of a database, 0 = none. */
extern int	sophia_registry_worker_pid(Oid database);

#endif							/* SOPHIA_REGISTRY_H */
