/*
 * secrets.h
 *		Secrets by reference: `env:NAME`, a variable of the server's environment, or `file:name`, a
 *		file below sophia_stack.secrets_directory.
 *
 * A value lives in malloc'ed memory that is wiped when it is given back, and goes into no message,
 * table or log.
 */
#ifndef SOPHIA_SECRETS_H
#define SOPHIA_SECRETS_H

#include "postgres.h"

typedef struct Secret
{
	char *value; /* ends with a NUL; NULL = none */
	size_t length;
} Secret;

/* True for the form `env:NAME` or `file:name`; whether there is such a secret is another matter. */
extern bool sophia_secret_reference_valid(const char *reference);

/*
 * Reads the value anew (the lines of a PEM joined by spaces), giving back what `secret` held.  False when it cannot be read or holds a
 * control character: then `error` says why in words that do not tell the value, and `secret` holds
 * none.
 */
extern bool sophia_secret_read(const char *reference, Secret *secret, char *error,
							   size_t error_size);

/* Wipes and frees the value. */
extern void sophia_secret_clear(Secret *secret);

#endif /* SOPHIA_SECRETS_H */
