/*
 * settings.h
 *		Every setting of the extension, in alphabetical order.  docs: README, "Settings".
 */
#ifndef SOPHIA_SETTINGS_H
#define SOPHIA_SETTINGS_H

#include <stdbool.h>

extern char *sophia_databases;				/* comma separated; whose workers the launcher starts */
extern bool sophia_enabled;					/* false: every worker pauses its work */
extern char *sophia_fragment_directories;	/* comma separated absolute folders; '' = none */
extern int	sophia_ingest_workers;			/* ingest workers per database */
extern int	sophia_max_document_size;		/* kilobytes */
extern char *sophia_secrets_directory;		/* absolute folder; '' = none */

/* Defines the settings; called once by _PG_init.  Those of PGC_POSTMASTER only while preloading. */
extern void sophia_define_settings(void);

#endif							/* SOPHIA_SETTINGS_H */
