/*
 * jobs.h
 *		The jobs worker of a database.
 */
#ifndef SOPHIA_JOBS_H
#define SOPHIA_JOBS_H

#include "postgres.h"

/* Entry point of the process. */
extern PGDLLEXPORT void sophia_jobs_main(Datum argument);

/*
 * usage_writer.c: writes what AI calls have used; whether there was something to write.  Without the extension it waits, until
 * it is lost with the server.
 */
extern bool sophia_usage_write(MemoryContext context);

#endif /* SOPHIA_JOBS_H */
