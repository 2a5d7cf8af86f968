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

/* A broker's address in its parts. */
typedef struct BrokerAddress
{
	bool tls;
	char host[256]; /* without the brackets of an IPv6 address */
	bool bracketed;
} BrokerAddress;

static void
refuse_address(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid address of a broker: %s", why),
			 errhint("Write http[s]://host[:port], for example https://broker.example.com:8080.")));
}

/* ---- parts ---- */

static void
check_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	long port = strtol(text, NULL, 10);

	if (digits == 0 || digits > 5 || text[digits] != '\0' || port < 1 || port > 65535)
		refuse_address("the port is no number from 1 to 65535, or something follows it");
}

/* Copies the host and returns what follows it. */
static const char *
take_host(const char *text, BrokerAddress *parts)
{
	static const char name_characters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
	size_t length;

	parts->bracketed = *text == '[';
	if (parts->bracketed)
		text++;
	length = strspn(text, parts->bracketed ? "0123456789abcdefABCDEF:." : name_characters);
	if (length == 0 || length >= sizeof(parts->host))
		refuse_address("the host is missing or too long");
	memcpy(parts->host, text, length);
	parts->host[length] = '\0';
	text += length;
	if (parts->bracketed)
	{
		if (*text != ']')
			refuse_address("the IPv6 address is malformed");
		text++;
	}
	return text;
}

static void
parse_broker(const char *address, BrokerAddress *parts)
{
	const char *rest;

	if (pg_strncasecmp(address, "https://", 8) == 0)
		parts->tls = true;
	else if (pg_strncasecmp(address, "http://", 7) == 0)
		parts->tls = false;
	else
		refuse_address("it starts neither with http:// nor with https://");

	if (strchr(address, '@') != NULL)
		refuse_address("it names a user");
	rest = take_host(address + (parts->tls ? 8 : 7), parts);
	if (*rest == ':')
		check_port(rest + 1);
	else if (*rest != '\0')
		refuse_address("something other than a port follows the host");
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

static void
check_network(const BrokerAddress *parts, bool refused, bool private)
{
	if (refused)
		refuse_address("link-local addresses and metadata services are not allowed");
	if (!parts->tls && !private)
		refuse_address("plain http is allowed on loopback and private networks only");
}

static void
check_ipv4(const BrokerAddress *parts, const struct in_addr *ip)
{
	struct sockaddr_in socket = {.sin_family = AF_INET, .sin_addr = *ip};

	check_network(parts, sophia_address_refused((struct sockaddr *) &socket), ipv4_private(ip));
}

static void
check_ipv6(const BrokerAddress *parts)
{
	struct sockaddr_in6 socket = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET6, parts->host, &socket.sin6_addr) != 1)
		refuse_address("the IPv6 address is malformed");
	check_network(parts, sophia_address_refused((struct sockaddr *) &socket),
				  ipv6_private(&socket.sin6_addr));
}

static void
check_name(BrokerAddress *parts)
{
	size_t length = strlen(parts->host);

	if (parts->host[length - 1] == '.')
		parts->host[length - 1] = '\0';
	check_network(parts, pg_strcasecmp(parts->host, "metadata.google.internal") == 0,
				  name_private(parts->host));
}

/* What a name resolves to is checked when it is connected to: net/http.c. */
void
sophia_check_broker_address(const char *address)
{
	BrokerAddress parts;
	struct in_addr ip;

	parse_broker(address, &parts);
	if (parts.bracketed)
		check_ipv6(&parts);
	else if (inet_aton(parts.host, &ip)) /* every spelling that a resolver takes for an address */
		check_ipv4(&parts, &ip);
	else
		check_name(&parts);
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
