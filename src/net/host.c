/*
 * host.c
 *		What is written where an address of a server is asked for: see host.h.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "net/address.h"
#include "net/host.h"

/* ---- parts; each function returns what is wrong, or NULL ---- */

static const char *
take_port(const char *text, const char **rest)
{
	size_t digits = strspn(text, "0123456789");
	long port = strtol(text, NULL, 10);

	*rest = text + digits;
	if (digits == 0 || digits > 5 || port < 1 || port > 65535 || (**rest != '\0' && **rest != '/'))
		return "the port is no number from 1 to 65535, or something follows it";
	return NULL;
}

/* Of what follows host and port. */
static const char *
path_problem(const char *path)
{
	size_t length =
		strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/");

	if (*path != '/' || path[length] != '\0' || strstr(path, "/..") != NULL)
		return "what follows the host is no plain path";
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

const char *
sophia_host_parse(const char *address, bool path_allowed, HostAddress *parts)
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
		problem = take_port(rest + 1, &rest);
	if (problem != NULL)
		return problem;
	parts->path = rest;
	if (*rest == '\0')
		return NULL;
	return path_allowed ? path_problem(rest) : "something other than a port follows the host";
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

const char *
sophia_host_network_problem(const HostAddress *parts)
{
	HostAddress copy = *parts;
	struct in_addr ip;

	if (parts->bracketed)
		return ipv6_problem(parts);
	if (inet_aton(parts->host, &ip)) /* every spelling that a resolver takes for an address */
		return ipv4_problem(parts, &ip);
	return name_problem(&copy);
}

bool
sophia_host_is_address(const HostAddress *parts)
{
	struct in_addr ip;

	return parts->bracketed || inet_aton(parts->host, &ip) != 0;
}

const char *
sophia_host_address_problem(const char *address)
{
	HostAddress parts;
	const char *problem = sophia_host_parse(address, false, &parts);

	return problem != NULL ? problem : sophia_host_network_problem(&parts);
}
