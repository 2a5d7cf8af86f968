/*
 * settings.h
 *		Every setting of the extension, in alphabetical order.  docs: README, "Settings".
 */
#ifndef SOPHIA_SETTINGS_H
#define SOPHIA_SETTINGS_H

#include "postgres.h"

#include "nodes/pg_list.h"

extern int sophia_ai_queue_retention;	  /* minutes that finished AI jobs are kept */
extern bool sophia_cache;				  /* this session looks answers up in the cache */
extern char *sophia_cache_secret;		  /* of the cache's server; '' = none */
extern char *sophia_cache_server;		  /* unix:/path or host:port; '' = no cache */
extern char *sophia_control_plane;		  /* http[s]://host[:port] of Estuary's control plane */
extern char *sophia_databases;			  /* comma separated; whose workers the launcher starts */
extern int sophia_dead_letter_limit;	  /* of a stream; -1 = none */
extern bool sophia_enabled;				  /* false: every worker pauses its work */
extern char *sophia_fragment_directories; /* comma separated absolute folders; '' = none */
extern int sophia_evolve_limit;			  /* columns that option evolve may add to one table */
extern int sophia_health_interval;		  /* seconds between two checks of a provider; 0 = none */
extern int sophia_ingest_workers;		  /* ingest workers per database */
extern int sophia_job_history;			  /* minutes that the record of a run is kept */
extern int sophia_match_block_limit;	  /* records */
extern int sophia_max_document_size;	  /* kilobytes */
extern char *sophia_provider_hosts; /* comma separated; whom the gateway may talk to; * = anybody */
extern char *sophia_secrets_directory; /* absolute folder; '' = none */
extern bool sophia_show_prompts;	   /* sophia.gateway_requests shows what is sent */
extern int sophia_staging_limit;	   /* minutes */

/* Defines the settings; called once by _PG_init. */
extern void sophia_settings_define(void);

/* The names that sophia_stack.databases lists: palloc'ed strings, case kept. */
extern List *sophia_settings_databases(void);

/* Whether sophia_stack.databases lists that name. */
extern bool sophia_settings_list_database(const char *name);

/* The entries of sophia_stack.provider_hosts: palloc'ed strings. */
extern List *sophia_settings_provider_hosts(void);

/* The folders that sophia_stack.fragment_directories lists: palloc'ed canonical absolute paths. */
extern List *sophia_settings_fragment_directories(void);

#endif /* SOPHIA_SETTINGS_H */
