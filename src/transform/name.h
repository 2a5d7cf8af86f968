/*
 * name.h
 *		Names in the form in which they are compared.  The rules of all of these functions: normalize.h.
 */
#ifndef SOPHIA_NAME_H
#define SOPHIA_NAME_H

#include "base/buffer.h"

/*
 * The form of a name in which two spellings compare equal: lower case, no accents, single spaces, no
 * punctuation but apostrophes and hyphens.  The input
 * has to be decomposed (NFKD) already; the result is to be composed again (NFC).  False for blank values
 * and for the words that stand for "no value".
 */
extern bool sophia_fold_name(const char *in, size_t len, ByteBuffer *out);

#endif /* SOPHIA_NAME_H */
