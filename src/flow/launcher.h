/*
 * launcher.h
 *		The launcher: starts the workers of every listed database and starts them again when they end.
 */
#ifndef SOPHIA_LAUNCHER_H
#define SOPHIA_LAUNCHER_H

#include "postgres.h"

/* Registers the launcher with the postmaster; for _PG_init while preloading. */
extern void sophia_launcher_register(void);

/* Entry points of the processes; the postmaster finds them by name. */
extern PGDLLEXPORT void sophia_launcher_main(Datum arg);
extern PGDLLEXPORT void
sophia_ingest_main(Datum arg); /* arg: SOPHIA_WORKER_ARG of shared/registry.h */

#endif /* SOPHIA_LAUNCHER_H */
