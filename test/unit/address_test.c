/*
 * address_test.c
 *		Unit tests of net/address.c.
 */
#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "tap.h"

static const struct
{
	const char *text;
	bool refused;
} addresses[] = {
	{"169.254.0.0", true},
	{"169.254.169.254", true},
	{"169.254.255.255", true},
	{"100.100.100.200", true},
	{"192.0.0.192", true},
	{"fe80::1", true},
	{"febf::1", true},
	{"fd00:ec2::254", true},
	{"::ffff:169.254.169.254", true},
	{"::169.254.169.254", true},
	{"64:ff9b::169.254.169.254", true},
	{"2002:a9fe:a9fe::1", true},
	{"169.253.255.255", false},
	{"169.255.0.0", false},
	{"127.0.0.1", false},
	{"10.0.0.1", false},
	{"192.168.1.1", false},
	{"0.0.0.0", false},
	{"::1", false},
	{"::", false},
	{"fd00::1", false},
	{"fec0::1", false},
	{"::ffff:127.0.0.1", false},
	{"2002:7f00:1::1", false},
	{"2001:db8::1", false},
};

/* The question asked of the socket address that a text stands for. */
static bool
refused(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return sophia_address_refused((const struct sockaddr *) &v4);
	inet_pton(AF_INET6, text, &v6.sin6_addr);
	return sophia_address_refused((const struct sockaddr *) &v6);
}

int
main(void)
{
	struct sockaddr other = {.sa_family = AF_UNIX};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
		ok(refused(addresses[i].text) == addresses[i].refused, "%s is %s", addresses[i].text,
		   addresses[i].refused ? "refused" : "allowed");
	ok(!sophia_address_refused(&other), "another family is not refused");
	done_testing();
	return exit_status();
}
