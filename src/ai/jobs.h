/*
 * jobs.h
 *		The jobs worker of a database.
 */
#ifndef SOPHIA_JOBS_H
#define SOPHIA_JOBS_H

#include "postgres.h"

/* Entry point of the process. */
extern PGDLLEXPORT void sophia_jobs_main(Datum argument);

#endif /* SOPHIA_JOBS_H */
