/*
 * address.c
 *		Which network addresses are never talked to: see address.h.  Pure: no server call.
 */
#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* `address` in host byte order. */
static bool
refused_ipv4(uint32_t address)
{
	return address >> 16 == 0xA9FE	 /* 169.254.0.0/16: link-local, most clouds' metadata */
		   || address == 0x646464C8	 /* 100.100.100.200: Alibaba's */
		   || address == 0xC00000C0; /* 192.0.0.192: Oracle's */
}

static uint32_t
ipv4_at(const unsigned char *bytes)
{
	uint32_t address;

	memcpy(&address, bytes, sizeof(address));
	return ntohl(address);
}

static bool
refused_ipv6(const unsigned char *bytes)
{
	static const unsigned char mapped[12] = {[10] = 0xFF, [11] = 0xFF};
	static const unsigned char compatible[12] = {0};
	static const unsigned char translated[12] = {0x00, 0x64, 0xFF, 0x9B};
	static const unsigned char amazon[16] = {0xFD, 0x00, 0x0E, 0xC2, [14] = 0x02, [15] = 0x54};

	if (bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80)
		return true;
	if (memcmp(bytes, amazon, sizeof(amazon)) == 0)
		return true;
	if (memcmp(bytes, mapped, sizeof(mapped)) == 0 ||
		memcmp(bytes, compatible, sizeof(compatible)) == 0 ||
		memcmp(bytes, translated, sizeof(translated)) == 0)
		return refused_ipv4(ipv4_at(bytes + 12));
	if (bytes[0] == 0x20 && bytes[1] == 0x02) /* 6to4 */
		return refused_ipv4(ipv4_at(bytes + 2));
	return false;
}

bool
sophia_address_refused(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return refused_ipv4(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return refused_ipv6(((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr);
	return false;
}
