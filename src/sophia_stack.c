/*
 * sophia_stack.c
 *		Module init: settings, then hooks, then workers.  Knows everybody; nobody knows it.
 *
 * The library also loads without shared_preload_libraries: then there are settings and functions, and what needs
 * shared memory or a worker says so.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "base/settings.h"
#include "flow/conversion.h"
#include "flow/database_commands.h"
#include "shared/channels.h"
#include "shared/launcher.h"
#include "shared/registry.h"
#include "shared/usage.h"
#include "transform/normalize.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	sophia_settings_define();
	sophia_conversion_set_normalizer("email", sophia_normalize_email);
	sophia_conversion_set_normalizer("phone", sophia_normalize_phone);
	sophia_conversion_set_normalizer("html", sophia_strip_html);

	if (!process_shared_preload_libraries_in_progress)
		return;

	MarkGUCPrefixReserved("sophia_stack");

	/* pg_upgrade starts this server; nothing may work on its databases meanwhile. */
	if (IsBinaryUpgrade)
		return;

	sophia_registry_install();
	sophia_channels_install();
	sophia_usage_install();
	sophia_database_commands_install();
	sophia_launcher_register();
}
