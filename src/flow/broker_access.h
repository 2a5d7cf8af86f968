/*
 * broker_access.h
 *		How a broker is reached: its address, the token that opens it, and which journals to list.
 *
 * An endpoint of kind `broker` has one address and names its token (broker_access.c).  Estuary's
 * control plane hands out both for a time, and may hand out others at any time.  So a call knows
 * the access that it was sent with by its number, and long ones are sent anew when that has
 * changed.
 */
#ifndef SOPHIA_BROKER_ACCESS_H
#define SOPHIA_BROKER_ACCESS_H

#include "postgres.h"

#include "store/secrets.h"

struct BrokerCall;
struct Source;

typedef struct BrokerAccess
{
	const struct BrokerAccessKind *kind;
	struct Source *source;
	char *address;	/* of the broker, without a slash at its end; NULL = none yet */
	char *prefix;	/* listed are journals whose names begin so; NULL = with any name */
	Secret token;	/* value NULL: none */
	uint64 number;	/* grows with each other address or token */
	uint64 proved;	/* the last one that the broker took */
	uint64 absence; /* the one that a listing first lacked something with; 0 = it lacks nothing */
	void *private;	/* of the kind */
} BrokerAccess;

typedef struct BrokerAccessKind
{
	/* Does what can be done now; returns when it wants to be called again, by sophia_clock_ms(). */
	int64 (*pump)(BrokerAccess *access);

	/* Whether requests may be sent; while not, pump() works on it or waits for its time. */
	bool (*ready)(const BrokerAccess *access);

	/* Before each request: false when there should be a token and it cannot be read. */
	bool (*prepare)(BrokerAccess *access, char *error, size_t error_size);

	/*
	 * The broker refused a call's token.  True: a new try makes sense as soon as access is ready.
	 */
	bool (*refused)(BrokerAccess *access, struct BrokerCall *call);

	/* The token may be outdated, for all that is known. */
	void (*doubt)(BrokerAccess *access);

	/*
	 * The token may be too narrow: another one is wanted.  NULL: it is known not to be outdated
	 * when journals are listed.
	 */
	void (*suspect)(BrokerAccess *access);

	/* Wipes what must be wiped. */
	void (*close)(BrokerAccess *access);
} BrokerAccessKind;

/* The access of kind `broker`: the source's address, and the token that it names. */
extern const BrokerAccessKind sophia_access_fixed;

/*
 * Whether journals that a listing lacks are gone.  A token hides journals without a word when its
 * scope is too narrow, so what is missing counts once a newer token shows it, too.  Until that is
 * there the listing is to be done again.
 */
extern bool sophia_access_believes_absence(BrokerAccess *access);

/* A listing lacked nothing. */
extern void sophia_access_lacks_nothing(BrokerAccess *access);

#endif /* SOPHIA_BROKER_ACCESS_H */
