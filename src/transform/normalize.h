/*
 * normalize.h
 *		E-mail addresses, phone numbers, names, HTML and Slack markup brought to one form.
 *
 * Pure: no server call, so that the same code runs in the backend, in the ingest worker and in unit
 * tests.  Every function takes UTF-8 of any content and appends its result to `out`.  False means that the
 * value cannot be normalised (or, never seen in practice, that there is no memory); `out` is then as before.
 */
#ifndef SOPHIA_NORMALIZE_H
#define SOPHIA_NORMALIZE_H

#include "base/buffer.h"

/*
 * An e-mail address in lower case, without mailto:, display name and angle brackets; a domain that is not
 * ASCII becomes its A-labels (RFC 3492).  False without exactly one @ or with bytes no address has.
 */
extern bool sophia_normalize_email(const char *in, size_t len, ByteBuffer *out);

/* An international phone number ('+' or 00 in front) as E.164; the extension is dropped. */
extern bool sophia_normalize_phone(const char *in, size_t len, ByteBuffer *out);

/* The same; a national number is read as one of `country` (ISO 3166-1 alpha-2, any case; NULL = none). */
extern bool sophia_normalize_phone_in(const char *in, size_t len, const char *country,
									  size_t country_len, ByteBuffer *out);

/*
 * The form of a name in which two spellings compare equal: lower case, no accents, single spaces.  The input
 * has to be decomposed (NFKD) already; the result is to be composed again (NFC).  False for blank values
 * and for the words that stand for "no value".
 */
extern bool sophia_fold_name(const char *in, size_t len, ByteBuffer *out);

/* The text of an HTML document or fragment; see html.c for the rules.  False when no text is left. */
extern bool sophia_html_to_text(const char *in, size_t len, ByteBuffer *out);

/* Appends the name of a Slack id to out; false (and out unchanged) when it is unknown. */
typedef bool (*SlackNameLookup)(void *arg, const char *id, size_t len, ByteBuffer *out);

/* The text of a Slack message as people read it; lookup may be NULL.  False when no text is left. */
extern bool sophia_slack_text(const char *in, size_t len, SlackNameLookup lookup, void *arg,
							  ByteBuffer *out);

/* Takes back what was appended to a buffer since it held `size` bytes. */
static inline void
buffer_truncate(ByteBuffer *b, size_t size)
{
	b->end = b->start + size;
}

#endif							/* SOPHIA_NORMALIZE_H */
