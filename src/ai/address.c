/*
 * address.c
 *		Which addresses a provider may have: see address.h.
 */
#include "postgres.h"

#include "ai/address.h"
#include "base/settings.h"
#include "net/host.h"

/* Whether one entry of the setting means that host. */
static bool
entry_matches(const char *entry, const char *host)
{
	size_t length = strlen(host);
	size_t suffix;

	if (strcmp(entry, "*") == 0)
		return true;
	if (entry[0] != '*')
		return pg_strcasecmp(entry, host) == 0;
	suffix = strlen(entry + 1); /* with its dot */
	return length > suffix && pg_strcasecmp(host + length - suffix, entry + 1) == 0;
}

const char *
sophia_provider_address_problem(const char *address, bool *listed)
{
	HostAddress parts;
	const char *problem = sophia_host_parse(address, true, &parts);
	bool allowed = false;
	ListCell *cell;

	*listed = false;
	if (problem != NULL)
		return problem;
	foreach(cell, sophia_settings_provider_hosts())
	{
		const char *entry = lfirst(cell);

		allowed |= entry_matches(entry, parts.host);
		*listed |= sophia_host_is_address(&parts) && pg_strcasecmp(entry, parts.host) == 0;
	}
	if (!allowed)
		return "sophia_stack.provider_hosts does not list its host";
	return *listed ? NULL : sophia_host_network_problem(&parts);
}
