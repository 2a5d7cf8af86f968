/*
 * address.h
 *		Which addresses a provider may have.
 *
 * Checked when a provider is created, and again by the gateway before it talks to it: the settings, and the rows of a
 * restored database, may be others by then.
 */
#ifndef SOPHIA_AI_ADDRESS_H
#define SOPHIA_AI_ADDRESS_H

#include "postgres.h"

/*
 * Why nobody may talk to a provider at http[s]://host[:port][/path], or NULL.  sophia_stack.provider_hosts says which hosts
 * are allowed; *listed tells that it lists this very number, which even a link-local one may be.
 */
extern const char *sophia_provider_address_problem(const char *address, bool *listed);

#endif /* SOPHIA_AI_ADDRESS_H */
