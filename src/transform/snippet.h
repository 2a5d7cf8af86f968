/*
 * snippet.h
 *		The first words of a text in one line.  The rules of all of these functions: normalize.h.
 */
#ifndef SOPHIA_SNIPPET_H
#define SOPHIA_SNIPPET_H

#include "base/buffer.h"

#define SNIPPET_MAX_CHARACTERS 280

/* The first SNIPPET_MAX_CHARACTERS characters, white space collapsed.  False when no text is left. */
extern bool sophia_snippet(const char *in, size_t len, ByteBuffer *out);

#endif /* SOPHIA_SNIPPET_H */
