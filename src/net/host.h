/*
 * host.h
 *		What is written where an address of a server is asked for: its parts, and whether it may be talked to.
 *
 * Addresses are written by administrators, so loopback and private networks are fine.  What is refused serves nobody's
 * data and gives away credentials of the machine: link-local addresses and the metadata services of clouds.  Plain http is
 * for networks of one's own: private addresses, and names that only those resolve.  What a name resolves to is checked when
 * it is connected to: net/http.c.
 */
#ifndef SOPHIA_HOST_H
#define SOPHIA_HOST_H

#include "postgres.h"

/* http[s]://host[:port][/path] in its parts. */
typedef struct HostAddress
{
	bool tls;
	char host[256]; /* without the brackets of an IPv6 address */
	bool bracketed;
	const char *path; /* what follows host and port, in the address itself; "" = nothing */
} HostAddress;

/* Takes an address apart.  Returns what is wrong with its form, or NULL. */
extern const char *sophia_host_parse(const char *address, bool path_allowed, HostAddress *parts);

/* Why nobody may talk to that host, NULL where one may. */
extern const char *sophia_host_network_problem(const HostAddress *parts);

/* Whether the host is written as a number, not by a name. */
extern bool sophia_host_is_address(const HostAddress *parts);

/* Why that is no http[s]://host[:port] to talk to, NULL when it is one. */
extern const char *sophia_host_address_problem(const char *address);

#endif /* SOPHIA_HOST_H */
