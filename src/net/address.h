/*
 * address.h
 *		Which network addresses are never talked to.
 */
#ifndef SOPHIA_ADDRESS_H
#define SOPHIA_ADDRESS_H

#include <stdbool.h>

struct sockaddr;

/*
 * True for link-local addresses and those where clouds serve credentials to whoever asks
 * (169.254.169.254 and its kin), also when mapped into IPv6.  Loopback and private addresses are
 * not refused: administrators write them.
 */
extern bool sophia_address_refused(const struct sockaddr *address);

#endif /* SOPHIA_ADDRESS_H */
