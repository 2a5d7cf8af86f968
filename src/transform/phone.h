/*
 * phone.h
 *		Phone numbers as E.164.  The rules of all of these functions: normalize.h.
 */
#ifndef SOPHIA_PHONE_H
#define SOPHIA_PHONE_H

#include "base/buffer.h"

/* An international phone number ('+' or 00 in front) as E.164; the extension is dropped. */
extern bool sophia_normalize_phone(const char *in, size_t len, ByteBuffer *out);

/* The same; a national number is read as one of `country` (ISO 3166-1 alpha-2, any case; NULL = none). */
extern bool sophia_normalize_phone_in(const char *in, size_t len, const char *country,
									  size_t country_len, ByteBuffer *out);

#endif /* SOPHIA_PHONE_H */
