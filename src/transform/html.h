/*
 * html.h
 *		The text of an HTML document or fragment.  The rules of all of these functions: normalize.h.
 */
#ifndef SOPHIA_HTML_H
#define SOPHIA_HTML_H

#include "base/buffer.h"

/* The text of an HTML document or fragment; see html.c for the rules.  False when no text is left. */
extern bool sophia_strip_html(const char *in, size_t len, ByteBuffer *out);

#endif /* SOPHIA_HTML_H */
