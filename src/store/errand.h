/*
 * errand.h
 *		A short background worker that does one thing and ends: a statement in another database, or a run of a job.
 *
 * Both need a session of their own: only a session of the other database sees its tables, and only a fresh session of
 * the job's owner runs whatever the owner wrote at top level, with the owner's rights and no others.  What is asked and what was
 * answered pass through a segment of dynamic shared memory, so it works without preload too.
 */
#ifndef SOPHIA_ERRAND_H
#define SOPHIA_ERRAND_H

#include "postgres.h"

#include "storage/dsm.h"

#define ERRAND_ANSWER_SIZE (256 * 1024)

typedef enum ErrandKind
{
	ERRAND_STATEMENT, /* text = a statement, run as the superuser of the cluster; answers its first value as text */
	ERRAND_TRIAL,  /* the same, and rolled back */
	ERRAND_JOB,	   /* text = name of a job; answers what sophia.end_job_run says of its run */
	ERRAND_JOB_NOW /* the same, whatever its backoff says */
} ErrandKind;

/* What a segment holds. */
typedef struct Errand
{
	ErrandKind kind;
	Oid database;
	Oid role;	   /* of the session that runs a job */
	bool pinned;   /* the segment outlives who asked; the worker takes it over */
	bool answered; /* false when the worker ended before it could say anything */
	int sqlstate;  /* 0 = success, then `answer` is the answer, else the message of an error */
	char answer[ERRAND_ANSWER_SIZE];
	char text[FLEXIBLE_ARRAY_MEMBER];
} Errand;

/*
 * Runs an errand and waits for its end; the answer is palloc'ed.  The worker is ended when the wait is.  Raises the error that
 * it answered, 53400 when no worker can be started, 55000 when it ended without an answer.
 */
extern char *sophia_errand_run(ErrandKind kind, Oid database, Oid role, const char *text);

/* Starts one of kind ERRAND_STATEMENT when the current transaction commits; nobody waits for it. */
extern void sophia_errand_at_commit(Oid database, const char *statement);

/* Entry point of the worker; the postmaster finds it by name. */
extern PGDLLEXPORT void sophia_errand_main(Datum arg);

#endif /* SOPHIA_ERRAND_H */
