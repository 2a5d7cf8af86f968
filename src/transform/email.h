/*
 * email.h
 *		E-mail addresses in one form.  The rules of all of these functions: normalize.h.
 */
#ifndef SOPHIA_EMAIL_H
#define SOPHIA_EMAIL_H

#include "base/buffer.h"

/*
 * An e-mail address in lower case, without mailto:, display name and angle brackets; a domain that is not
 * ASCII becomes its A-labels (RFC 3492).  False without exactly one @ or with bytes no address has.
 */
extern bool sophia_normalize_email(const char *in, size_t len, ByteBuffer *out);

#endif /* SOPHIA_EMAIL_H */
