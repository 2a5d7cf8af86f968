/*
 * broker_fragment.h
 *		One fragment of a journal, fetched from its store by the signed URL that a broker handed out.
 *
 * A fragment is half a gigabyte as a rule and counts only as a whole, once its length and SHA-1 are
 * those that the broker named.  So it is spooled, compressed, to a temporary file of the server
 * (which vanishes with the process, and which temp_file_limit bounds), and proved and read from
 * there by the code that reads the files of fragment stores.  Memory stays at a few buffers.
 *
 * Goes in turns and waits for nothing.  Nothing is thrown for what the outside world did.
 */
#ifndef SOPHIA_BROKER_FRAGMENT_H
#define SOPHIA_BROKER_FRAGMENT_H

#include "postgres.h"

#include "base/buffer.h"
#include "flow/fragment_name.h"

typedef enum FetchStatus
{
	FETCH_WAITING, /* until a socket is ready, or there is room */
	FETCH_MORE,	   /* more can be done at once; content may have been appended */
	FETCH_DONE,	   /* all was appended */
	FETCH_AGAIN,   /* it did not arrive; another try may help, with another URL */
	FETCH_USELESS  /* what arrived is not the fragment, or cannot be kept */
} FetchStatus;

typedef struct BrokerFragment BrokerFragment;

/*
 * Starts to fetch the fragment `name` from `url`, an http or https URL; content will be appended
 * from the journal's offset `from` on, which lies in it.  Allocates in the current memory context.
 * NULL when that is not possible, with the reason in `error`.
 */
extern BrokerFragment *sophia_broker_fetch(const char *url, const FragmentName *name, int64 from,
										   char *error, size_t error_size);

/* One turn, which appends up to `room` bytes to content. */
extern FetchStatus sophia_broker_fetch_turn(BrokerFragment *fragment, ByteBuffer *content,
											size_t room);

/* Which fragment it is. */
extern const FragmentName *sophia_broker_fetch_name(const BrokerFragment *fragment);

/* Why the last turn was FETCH_AGAIN or FETCH_USELESS; holds nothing of the URL. */
extern const char *sophia_broker_fetch_error(const BrokerFragment *fragment);

extern void sophia_broker_fetch_end(BrokerFragment *fragment);

#endif /* SOPHIA_BROKER_FRAGMENT_H */
