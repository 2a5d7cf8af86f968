/*
 * worker.h
 *		The ingest worker: one process that follows many streams on one event loop.
 */
#ifndef SOPHIA_WORKER_H
#define SOPHIA_WORKER_H

#include "postgres.h"

/* Entry point of the process; the postmaster finds it by name.  arg: SOPHIA_WORKER_ARG of shared/registry.h. */
extern PGDLLEXPORT void sophia_ingest_main(Datum arg);

#endif /* SOPHIA_WORKER_H */
