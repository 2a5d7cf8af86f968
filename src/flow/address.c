/*
 * address.c
 *		Which addresses an endpoint may have, and how it may name its secret.
 *
 * Endpoints are written by administrators, so brokers on loopback and private networks are fine.  What is refused
 * serves no broker and gives away credentials of the machine: link-local addresses and the metadata services of
 * clouds.  Plain http is for networks of one's own: private addresses, and names that only those resolve.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/settings.h"
#include "flow/address.h"
#include "net/address.h"
#include "store/secrets.h"

/* The address of a broker or a control plane in its parts. */
typedef struct HostAddress
{
	bool tls;
	char host[256]; /* without the brackets of an IPv6 address */
	bool bracketed;
} HostAddress;

/* ---- parts; each function returns what is wrong, or NULL ---- */

static const char *
port_problem(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	long port = strtol(text, NULL, 10);

	if (digits == 0 || digits > 5 || text[digits] != '\0' || port < 1 || port > 65535)
		return "the port is no number from 1 to 65535, or something follows it";
	return NULL;
}

/* Copies the host; *rest is what follows it. */
static const char *
take_host(const char *text, HostAddress *parts, const char **rest)
{
	static const char name_characters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
	size_t length;

	parts->bracketed = *text == '[';
	if (parts->bracketed)
		text++;
	length = strspn(text, parts->bracketed ? "0123456789abcdefABCDEF:." : name_characters);
	if (length == 0 || length >= sizeof(parts->host))
		return "the host is missing or too long";
	memcpy(parts->host, text, length);
	parts->host[length] = '\0';
	text += length;
	if (parts->bracketed)
	{
		if (*text != ']')
			return "the IPv6 address is malformed";
		text++;
	}
	*rest = text;
	return NULL;
}

static const char *
parse_address(const char *address, HostAddress *parts)
{
	const char *problem;
	const char *rest;

	if (pg_strncasecmp(address, "https://", 8) == 0)
		parts->tls = true;
	else if (pg_strncasecmp(address, "http://", 7) == 0)
		parts->tls = false;
	else
		return "it starts neither with http:// nor with https://";

	if (strchr(address, '@') != NULL)
		return "it names a user";
	problem = take_host(address + (parts->tls ? 8 : 7), parts, &rest);
	if (problem != NULL)
		return problem;
	if (*rest == ':')
		return port_problem(rest + 1);
	return *rest == '\0' ? NULL : "something other than a port follows the host";
}

/* ---- networks ---- */

static bool
ipv4_private(const struct in_addr *address)
{
	uint32 ip = ntohl(address->s_addr);

	return ip >> 24 == 127 || ip >> 24 == 10 || ip >> 20 == 0xac1 || ip >> 16 == 0xc0a8 ||
		   ip >> 22 == 0x191; /* 100.64.0.0/10, the carriers' and Tailscale's */
}

static bool
ipv6_private(const struct in6_addr *ip)
{
	if (IN6_IS_ADDR_V4MAPPED(ip))
	{
		struct in_addr mapped;

		memcpy(&mapped, ip->s6_addr + 12, sizeof(mapped));
		return ipv4_private(&mapped);
	}
	return IN6_IS_ADDR_LOOPBACK(ip) || (ip->s6_addr[0] & 0xfe) == 0xfc;
}

static bool
ends_with(const char *text, const char *end)
{
	size_t length = strlen(text);

	return length >= strlen(end) && pg_strcasecmp(text + length - strlen(end), end) == 0;
}

/* A name that only a network of one's own resolves. */
static bool
name_private(const char *name)
{
	return strchr(name, '.') == NULL || ends_with(name, ".localhost") ||
		   ends_with(name, ".local") || ends_with(name, ".internal") || ends_with(name, ".lan") ||
		   ends_with(name, ".home.arpa");
}

static const char *
network_problem(const HostAddress *parts, bool refused, bool private)
{
	if (refused)
		return "link-local addresses and metadata services are not allowed";
	if (!parts->tls && !private)
		return "plain http is allowed on loopback and private networks only";
	return NULL;
}

static const char *
ipv4_problem(const HostAddress *parts, const struct in_addr *ip)
{
	struct sockaddr_in socket = {.sin_family = AF_INET, .sin_addr = *ip};

	return network_problem(parts, sophia_address_refused((struct sockaddr *) &socket),
						   ipv4_private(ip));
}

static const char *
ipv6_problem(const HostAddress *parts)
{
	struct sockaddr_in6 socket = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET6, parts->host, &socket.sin6_addr) != 1)
		return "the IPv6 address is malformed";
	return network_problem(parts, sophia_address_refused((struct sockaddr *) &socket),
						   ipv6_private(&socket.sin6_addr));
}

static const char *
name_problem(HostAddress *parts)
{
	size_t length = strlen(parts->host);

	if (parts->host[length - 1] == '.')
		parts->host[length - 1] = '\0';
	return network_problem(parts, pg_strcasecmp(parts->host, "metadata.google.internal") == 0,
						   name_private(parts->host));
}

/* What a name resolves to is checked when it is connected to: net/http.c. */
const char *
sophia_host_address_problem(const char *address)
{
	HostAddress parts;
	struct in_addr ip;
	const char *problem = parse_address(address, &parts);

	if (problem != NULL)
		return problem;
	if (parts.bracketed)
		return ipv6_problem(&parts);
	if (inet_aton(parts.host, &ip)) /* every spelling that a resolver takes for an address */
		return ipv4_problem(&parts, &ip);
	return name_problem(&parts);
}

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
sophia_check_secret_reference(const char *reference)
{
	if (!sophia_secret_reference_valid(reference))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"token\" must name a secret as env:NAME or file:name"),
						errdetail("A secret itself is never stored in the database."),
						errhidestmt(true), errhidecontext(true)));
}
