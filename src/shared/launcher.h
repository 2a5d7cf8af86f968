/*
 * launcher.h
 *		The launcher: starts the gateway and the workers of every listed database, and starts them again when they end.
 */
#ifndef SOPHIA_LAUNCHER_H
#define SOPHIA_LAUNCHER_H

#include "postgres.h"

/* Registers the launcher with the postmaster; for _PG_init while preloading. */
extern void sophia_launcher_register(void);

/* Entry point of the process; the postmaster finds it by name. */
extern PGDLLEXPORT void sophia_launcher_main(Datum arg);

#endif /* SOPHIA_LAUNCHER_H */
