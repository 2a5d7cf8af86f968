/*
 * unicode.h
 *		UTF-8 and letter case without the server and without a locale.
 *
 * A locale's case rules change with the machine; functions that indexes may use need rules that do not.
 */
#ifndef SOPHIA_UNICODE_H
#define SOPHIA_UNICODE_H

#include "base/buffer.h"

#include <stdint.h>

#define UNICODE_REPLACEMENT 0xFFFD

/* The code point at *at, which moves past it; a malformed byte is skipped and gives U+FFFD.  *at < end. */
extern uint32_t sophia_utf8_next(const char **at, const char *end);

/* Appends a code point (not a surrogate, at most 0x10FFFF) as UTF-8; false when there is no memory. */
extern bool sophia_utf8_append(ByteBuffer *out, uint32_t c);

/* The lower-case letter of a code point, or itself. */
extern uint32_t sophia_unicode_lower(uint32_t c);

/* True for white space, line ends and the no-break and fixed-width spaces. */
extern bool sophia_unicode_is_space(uint32_t c);

/* True for code points that are not seen: soft hyphen, zero-width space, direction marks, BOM. */
extern bool sophia_unicode_is_invisible(uint32_t c);

/* Takes back what was appended to a buffer since it held `size` bytes. */
static inline void
buffer_truncate(ByteBuffer *b, size_t size)
{
	b->end = b->start + size;
}

#endif /* SOPHIA_UNICODE_H */
