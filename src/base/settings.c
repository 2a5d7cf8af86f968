/*
 * settings.c
 *		Defines the settings and reads the ones that are lists.
 *
 * A list stays the text that the administrator wrote and is split where it is used, which is rare; so nothing
 * has to be kept in step with a reload.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#define MINUTES_PER_DAY (24 * 60)
#define HOST_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:"

#include "base/settings.h"

/* Source: estuary/flow crates/flow-client/src/lib.rs. */
#define CONTROL_PLANE "https://agent-api-1084703453822.us-central1.run.app"

bool sophia_cache = true;
char *sophia_cache_secret = NULL;
char *sophia_cache_server = NULL;
char *sophia_control_plane = NULL;
char *sophia_databases = NULL;
int sophia_dead_letter_limit = 10000;
bool sophia_enabled = true;
char *sophia_fragment_directories = NULL;
int sophia_evolve_limit = 200;
int sophia_ai_queue_retention = 7 * MINUTES_PER_DAY;
int sophia_health_interval = 60;
int sophia_ingest_workers = 1;
int sophia_job_history = 30 * MINUTES_PER_DAY;
int sophia_match_block_limit = 1000;
int sophia_max_document_size = 64 * 1024;
char *sophia_provider_hosts = NULL;
char *sophia_secrets_directory = NULL;
bool sophia_show_prompts = false;
int sophia_staging_limit = 3 * MINUTES_PER_DAY;

static bool
check_databases(char **value, void **extra, GucSource source)
{
	List *names;

	if (!SplitGUCList(pstrdup(*value), ',', &names))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	return true;
}

/* Hosts: names, addresses, and *, which may stand alone or for what a name begins with. */
static bool
check_hosts(char **value, void **extra, GucSource source)
{
	List *hosts;
	ListCell *cell;

	if (!SplitGUCList(pstrdup(*value), ',', &hosts))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach(cell, hosts)
	{
		const char *host = lfirst(cell);

		if (strncmp(host, "*.", 2) == 0)
			host += 2;
		if (strcmp(host, "*") != 0 &&
			(*host == '\0' || strspn(host, HOST_CHARACTERS) != strlen(host)))
		{
			GUC_check_errdetail("\"%s\" is neither a host nor *.domain nor *.",
								(char *) lfirst(cell));
			return false;
		}
	}
	return true;
}

static bool
check_directories(char **value, void **extra, GucSource source)
{
	List *folders;
	ListCell *cell;

	if (!SplitDirectoriesString(pstrdup(*value), ',', &folders))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach(cell, folders)
	{
		if (!is_absolute_path((char *) lfirst(cell)))
		{
			GUC_check_errdetail("\"%s\" is not an absolute path.", (char *) lfirst(cell));
			return false;
		}
	}
	return true;
}

static bool
check_directory(char **value, void **extra, GucSource source)
{
	if (**value != '\0' && !is_absolute_path(*value))
	{
		GUC_check_errdetail("\"%s\" is not an absolute path.", *value);
		return false;
	}
	return true;
}

/* '', unix:/path or host:port; an IPv6 address stands in brackets. */
static bool
check_cache_server(char **value, void **extra, GucSource source)
{
	const char *colon = strrchr(*value, ':');
	char *end;
	long port;

	if (**value == '\0' || strncmp(*value, "unix:/", 6) == 0)
		return true;
	port = colon != NULL ? strtol(colon + 1, &end, 10) : 0;
	if (colon != NULL && colon != *value && port > 0 && port < 65536 && *end == '\0')
		return true;
	GUC_check_errdetail("It is neither unix:/path nor host:port.");
	return false;
}

static bool
check_secret(char **value, void **extra, GucSource source)
{
	if (**value == '\0' || strncmp(*value, "env:", 4) == 0 || strncmp(*value, "file:", 5) == 0)
		return true;
	GUC_check_errdetail("It is neither env:NAME nor file:name.");
	return false;
}

void
sophia_settings_define(void)
{
	DefineCustomIntVariable("sophia_stack.ai_queue_retention",
							"How long a finished job of the AI queue is kept with its result.",
							NULL, &sophia_ai_queue_retention, 7 * MINUTES_PER_DAY, 1,
							100 * 366 * MINUTES_PER_DAY, PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL,
							NULL);

	DefineCustomBoolVariable(
		"sophia_stack.cache", "Has AI calls use answers that were given before.",
		"Off: neither those of the same statement nor those in the cache's server.", &sophia_cache,
		true, PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("sophia_stack.cache_secret",
							   "Password of the cache's server: env:NAME or file:name.",
							   "Empty: it wants none.", &sophia_cache_secret, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, check_secret, NULL, NULL);

	DefineCustomStringVariable("sophia_stack.cache_server",
							   "Redis server that keeps AI answers: unix:/path or host:port.",
							   "Empty: none are kept.", &sophia_cache_server, "", PGC_SIGHUP, 0,
							   check_cache_server, NULL, NULL);

	DefineCustomStringVariable(
		"sophia_stack.control_plane", "Estuary's control plane: http[s]://host[:port].",
		"Asked by endpoints of kind estuary whose address is empty.", &sophia_control_plane,
		CONTROL_PLANE, PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"sophia_stack.databases", "Databases whose collections are ingested.",
		"Each gets sophia_stack.ingest_workers background workers.", &sophia_databases, "postgres",
		PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);

	DefineCustomIntVariable("sophia_stack.dead_letter_limit",
							"Most dead letters that a stream may have; it fails with more.",
							"-1: no limit.", &sophia_dead_letter_limit, 10000, -1, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("sophia_stack.enabled",
							 "Lets the workers work; off pauses them, as for a restore.", NULL,
							 &sophia_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("sophia_stack.evolve_limit",
							"Columns that option evolve may add to one table.",
							"Fields beyond them stay in doc.", &sophia_evolve_limit, 200, 0, 1000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("sophia_stack.fragment_directories",
							   "Folders below which an endpoint of kind fragments may lie.",
							   "Empty: there can be no such endpoint.",
							   &sophia_fragment_directories, "", PGC_SIGHUP,
							   GUC_LIST_INPUT | GUC_SUPERUSER_ONLY, check_directories, NULL, NULL);

	DefineCustomIntVariable("sophia_stack.health_interval",
							"Time between two health checks of an AI provider that is in use.",
							"0: none are made.", &sophia_health_interval, 60, 0, 24 * 60 * 60,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("sophia_stack.ingest_workers",
							"Number of ingest workers of each database.", NULL,
							&sophia_ingest_workers, 1, 1, 8, PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"sophia_stack.job_history", "How long the record of a run of a scheduled job is kept.",
		NULL, &sophia_job_history, 30 * MINUTES_PER_DAY, 1, 100 * 366 * MINUTES_PER_DAY, PGC_SIGHUP,
		GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"sophia_stack.match_block_limit", "Most records of one block that match_records compares.",
		"Larger blocks are left out and listed in sophia.skipped_blocks.",
		&sophia_match_block_limit, 1000, 2, 100000, PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("sophia_stack.max_document_size",
							"Largest document that is applied; a larger one becomes a dead letter.",
							NULL, &sophia_max_document_size, 64 * 1024, 1, 512 * 1024, PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"sophia_stack.provider_hosts", "Hosts that AI providers may be at.",
		"Names, addresses, *.domain, or * for all but link-local and metadata addresses, which must be listed.",
		&sophia_provider_hosts, "*", PGC_SIGHUP, GUC_LIST_INPUT, check_hosts, NULL, NULL);

	DefineCustomStringVariable(
		"sophia_stack.secrets_directory", "Folder that holds the files of secrets named file:name.",
		"Empty: only secrets named env:NAME can be used.", &sophia_secrets_directory, "",
		PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_directory, NULL, NULL);

	DefineCustomBoolVariable("sophia_stack.show_prompts",
							 "Has sophia.gateway_requests show what is sent to AI providers.", NULL,
							 &sophia_show_prompts, false, PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL,
							 NULL, NULL);

	DefineCustomIntVariable(
		"sophia_stack.staging_limit",
		"How long documents of an open transaction stay staged while their producer is silent.",
		"By the clocks of the journal. Should they be acknowledged later, they are read again.",
		&sophia_staging_limit, 3 * MINUTES_PER_DAY, 1, 100 * 366 * MINUTES_PER_DAY, PGC_SIGHUP,
		GUC_UNIT_MIN, NULL, NULL, NULL);
}

List *
sophia_settings_databases(void)
{
	List *names;

	if (!SplitGUCList(pstrdup(sophia_databases), ',', &names))
		return NIL;
	return names;
}

bool
sophia_settings_list_database(const char *name)
{
	ListCell *cell;

	foreach(cell, sophia_settings_databases())
	{
		if (strcmp((char *) lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

List *
sophia_settings_fragment_directories(void)
{
	List *folders;

	if (!SplitDirectoriesString(pstrdup(sophia_fragment_directories), ',', &folders))
		return NIL;
	return folders;
}

List *
sophia_settings_provider_hosts(void)
{
	List *hosts;

	if (!SplitGUCList(pstrdup(sophia_provider_hosts), ',', &hosts))
		return NIL;
	return hosts;
}
