/*
 * email.h
 *		E-mail addresses in one form.  The rules of all of these functions: normalize.h.
 */
#ifndef SOPHIA_EMAIL_H
#define SOPHIA_EMAIL_H

#include "base/buffer.h"

/*
 * An e-mail address in lower case, without mailto:, display name and angle brackets; a domain that is not
 * ASCII becomes its A-labels (UTS 46).  False without exactly one @, with bytes no address has, and beyond the lengths of
 * RFC 5321.
 */
extern bool sophia_normalize_email(const char *in, size_t len, ByteBuffer *out);

/*
 * The registrable domain (public suffix and one label) of an e-mail address or a host name, as A-labels.  False for what
 * is neither, for a public suffix itself and for an IP address.
 */
extern bool sophia_email_domain(const char *in, size_t len, ByteBuffer *out);

#endif /* SOPHIA_EMAIL_H */
