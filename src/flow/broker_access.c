/*
 * broker_access.c
 *		How a broker is reached whose address and token the endpoint names: see broker_access.h.
 *
 * The token is read again with each listing, since it may have been replaced while the old one was
 * still good, and when the broker refuses it.
 */
#include "postgres.h"

#include "flow/broker.h"

bool
sophia_access_believes_absence(BrokerAccess *access)
{
	if (access->kind->suspect == NULL)
		return true;
	if (access->absence == 0)
		access->absence = access->number;
	/* also later: what nobody else would ask for again may be hidden still */
	access->kind->suspect(access);
	return access->absence != access->number;
}

void
sophia_access_lacks_nothing(BrokerAccess *access)
{
	access->absence = 0;
}

/* ---- the kind ---- */

static int64
fixed_pump(BrokerAccess *access)
{
	return PG_INT64_MAX;
}

static bool
fixed_ready(const BrokerAccess *access)
{
	return true;
}

/* private: not NULL when the token is to be read anew */
static void
fixed_doubt(BrokerAccess *access)
{
	access->private = access;
}

static bool
same_secret(const Secret *a, const Secret *b)
{
	return a->value != NULL && a->length == b->length && memcmp(a->value, b->value, a->length) == 0;
}

static bool
read_token(BrokerAccess *access, char *error, size_t error_size)
{
	Secret token = {NULL, 0};
	bool done = sophia_secret_read(access->source->token, &token, error, error_size);

	access->private = NULL;
	if (!done || !same_secret(&access->token, &token))
		access->number++;
	sophia_secret_clear(&access->token);
	access->token = token;
	return done;
}

static bool
fixed_prepare(BrokerAccess *access, char *error, size_t error_size)
{
	access->address = access->source->address;
	if (access->source->token == NULL || (access->token.value != NULL && access->private == NULL))
		return true;
	return read_token(access, error, error_size);
}

static bool
fixed_refused(BrokerAccess *access, BrokerCall *call)
{
	char error[256];

	if (access->source->token == NULL)
		return false;
	if (call->token_retried)
	{
		/* The next try takes the token that may be there by then. */
		fixed_doubt(access);
		return false;
	}
	call->token_retried = true;
	if (read_token(access, error, sizeof(error)))
		return true;
	sophia_broker_failed(call, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, error);
	return false;
}

static void
fixed_close(BrokerAccess *access)
{
	sophia_secret_clear(&access->token);
}

const BrokerAccessKind sophia_access_fixed = {
	.pump = fixed_pump,
	.ready = fixed_ready,
	.prepare = fixed_prepare,
	.refused = fixed_refused,
	.doubt = fixed_doubt,
	.suspect = NULL,
	.close = fixed_close,
};
