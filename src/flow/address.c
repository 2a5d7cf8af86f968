/*
 * address.c
 *		Which addresses an endpoint may have, and how it may name its secret.
 */
#include "postgres.h"

#include <stdlib.h>

#include "base/settings.h"
#include "flow/address.h"
#include "net/host.h"
#include "store/secrets.h"

void
sophia_check_broker_address(const char *address)
{
	const char *problem = sophia_host_address_problem(address);

	if (problem != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid address of a broker: %s", problem),
			 errhint("Write http[s]://host[:port], for example https://broker.example.com:8080.")));
}

void
sophia_check_estuary_address(const char *address)
{
	const char *problem = *address != '\0' ? sophia_host_address_problem(address) : NULL;

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid address of a control plane: %s", problem),
						errhint("Write http[s]://host[:port], or '' for the one that "
								"sophia_stack.control_plane names.")));
}

/* ---- folders ---- */

static bool
has_parent_step(const char *path)
{
	for (const char *step = path; (step = strstr(step, "/..")) != NULL; step += 3)
	{
		if (step[3] == '/' || step[3] == '\0')
			return true;
	}
	return false;
}

/*
 * The path without symbolic links; steps that do not exist yet, or cannot be looked at, are taken as written.
 */
static char *
resolve_folder(const char *path)
{
	char *written = pstrdup(path);
	char *existing;
	char *resolved;
	char *result;

	canonicalize_path(written);
	existing = pstrdup(written);
	while ((resolved = realpath(existing, NULL)) == NULL)
	{
		char *slash = strrchr(existing, '/');

		if (slash == existing)
			return written;
		*slash = '\0';
	}
	result = psprintf("%s/%s", resolved, written + strlen(existing));
	free(resolved);
	canonicalize_path(result);
	return result;
}

static bool
is_below(const char *folder, const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(folder, directory, length) == 0 &&
		   (folder[length] == '/' || folder[length] == '\0' || strcmp(directory, "/") == 0);
}

void
sophia_check_fragments_address(const char *address)
{
	char *folder;
	ListCell *cell;

	if (!is_absolute_path(address) || has_parent_step(address) || strlen(address) >= MAXPGPATH)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid address of fragments: it must be an absolute path without \"..\"")));

	folder = resolve_folder(address);
	foreach(cell, sophia_settings_fragment_directories())
	{
		if (is_below(folder, resolve_folder(lfirst(cell))))
			return;
	}
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("the folder is not below one that sophia_stack.fragment_directories allows"),
		 errhint(
			 "Add the folder, or one above it, to sophia_stack.fragment_directories and reload.")));
}

/* ---- secrets ---- */

void
sophia_check_secret_reference(const char *reference, const char *what)
{
	if (!sophia_secret_reference_valid(reference))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must name a secret as env:NAME or file:name", what),
						errdetail("A secret itself is never stored in the database."),
						errhidestmt(true), errhidecontext(true)));
}
