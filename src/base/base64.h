/*
 * base64.h
 *		Decoding of base64 (RFC 4648, section 4), fast enough not to be noticed beside the network.
 */
#ifndef SOPHIA_BASE64_H
#define SOPHIA_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

/*
 * Appends the bytes that `length` characters of padded standard base64 stand for.  False, and
 * nothing appended, when they are no base64 or there is no memory.
 */
extern bool sophia_base64_append(ByteBuffer *out, const char *base64, size_t length);

#endif /* SOPHIA_BASE64_H */
