/*
 * email.c
 *		E-mail addresses in one form: see normalize.h.  Pure: no server call.
 *
 * The local part is folded to lower case although the standard lets it differ by case: no mail system in
 * use tells "Ann@" and "ann@" apart.  Plus tags and dots stay, because only some hosts ignore them.  A quoted local
 * part that needs no quotes loses them (RFC 5321 section 4.1.2: they are the same address).
 *
 * A domain that is not ASCII is mapped by libidn2 (UTS 46, non-transitional).  The registrable domain is what libpsl's
 * own copy of the public suffix list says: it is part of the library, so nothing is read from a file.
 */
#include "transform/email.h"
#include "transform/unicode.h"

#include <idn2.h>
#include <libpsl.h>
#include <string.h>
#include <strings.h>

#define MAX_INPUT	1000 /* longer values are no address, whatever surrounds it */
#define MAX_LOCAL	64 /* bytes; these limits are those of RFC 5321 section 4.5.3.1 and RFC 1035 */
#define MAX_DOMAIN	253
#define MAX_ADDRESS 254
#define MAX_LABEL	63

#define KNOWN_HOSTS	   8192 /* 512 kB at most in a process that asks for so many */
#define KNOWN_HOST_MAX 62

/* A host name whose registrable domain was asked for, and where that begins in it; at its end: it has none. */
typedef struct KnownHost
{
	char host[KNOWN_HOST_MAX + 1];
	uint8_t part;
} KnownHost;

static bool
is_blank(uint32_t c)
{
	return sophia_unicode_is_space(c) || sophia_unicode_is_invisible(c);
}

/* Moves both ends inwards past white space and invisible code points. */
static void
trim(const char **from, const char **to)
{
	while (*from < *to)
	{
		const char *p = *from;

		if (!is_blank(sophia_utf8_next(&p, *to)))
			break;
		*from = p;
	}
	while (*from < *to)
	{
		const char *last = *to - 1;
		const char *p;

		while (last > *from && (*last & 0xC0) == 0x80)
			last--;
		p = last;
		if (!is_blank(sophia_utf8_next(&p, *to)) || p != *to)
			break;
		*to = last;
	}
}

/* Narrows the range to the address inside "Ann <mailto:ann@x.org?subject=…>". */
static void
strip_surroundings(const char **from, const char **to)
{
	trim(from, to);
	if (*to - *from >= 2 && (*to)[-1] == '>')
	{
		const char *open = *to - 1;

		while (open > *from && *open != '<')
			open--;
		if (*open == '<')
		{
			*from = open + 1;
			*to -= 1;
			trim(from, to);
		}
	}
	if (*to - *from >= 7 && strncasecmp(*from, "mailto:", 7) == 0)
	{
		const char *query = memchr(*from, '?', *to - *from);

		*from += 7;
		if (query != NULL)
			*to = query;
		trim(from, to);
	}
}

/* True for a code point that a local part or a domain may have without quotes. */
static bool
acceptable(uint32_t c)
{
	if (c < 0x80)
		return c > ' ' && c != 0x7F && strchr("\"(),:;<>[\\]", (int) c) == NULL;
	return c >= 0xA0 && c != UNICODE_REPLACEMENT && !sophia_unicode_is_space(c) &&
		   !sophia_unicode_is_invisible(c);
}

/* True when a quoted string, of which from … to is the inside, is well-formed; `plain`: it needs no quotes. */
static bool
check_quoted(const char *from, const char *to, bool *plain)
{
	*plain = from < to;
	while (from < to)
	{
		uint32_t c = sophia_utf8_next(&from, to);

		*plain = *plain && acceptable(c);
		if (c == '"' || c < ' ' || c == 0x7F || c == UNICODE_REPLACEMENT)
			return false;
		if (c == '\\' && (from == to || (unsigned char) *from < ' ' || *from++ == 0x7F))
			return false;
	}
	return true;
}

static bool
append_local_part(const char *from, const char *to, ByteBuffer *out)
{
	size_t before = buffer_size(out);
	bool quoted = to - from >= 2 && *from == '"' && to[-1] == '"';
	bool plain;

	if (quoted && !check_quoted(from + 1, to - 1, &plain))
		return false;
	if (quoted && plain)
	{
		from++;
		to--;
		quoted = false;
	}
	if (from == to || to - from > MAX_LOCAL + 2)
		return false;
	while (from < to)
	{
		uint32_t c = sophia_utf8_next(&from, to);

		if ((!quoted && !acceptable(c)) || !sophia_utf8_append(out, sophia_unicode_lower(c)))
			return false;
	}
	return buffer_size(out) - before <= MAX_LOCAL;
}

/* Appends a host name of ASCII in lower case; false when its labels are not ones. */
static bool
append_ascii_domain(const char *from, size_t len, ByteBuffer *out)
{
	char *to = sophia_buffer_reserve(out, len);
	size_t label = 0;

	if (len == 0 || len > MAX_DOMAIN || to == NULL)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char c = from[i] >= 'A' && from[i] <= 'Z' ? (char) (from[i] + ('a' - 'A')) : from[i];

		to[i] = c;
		if (c == '.')
		{
			if (label == 0 || to[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if ((c == '-' && label == 0) || ++label > MAX_LABEL ||
			!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
			return false;
	}
	if (label == 0 || to[len - 1] == '-')
		return false;
	out->end += len;
	return true;
}

/* Appends a host name; one that is not ASCII as A-labels. */
static bool
append_domain(const char *from, const char *to, ByteBuffer *out)
{
	char domain[MAX_INPUT + 1];
	uint8_t *ascii = NULL;
	size_t len = 0;
	bool is_ascii = true;
	bool fine;

	if (to > from && to[-1] == '.')
		to--;
	for (const char *p = from; p < to; p++)
		is_ascii = is_ascii && (unsigned char) *p < 0x80;
	if (is_ascii)
		return append_ascii_domain(from, to - from, out);
	for (const char *p = from; p < to;)
		if (!acceptable(sophia_utf8_next(&p, to)))
			return false;
	len = (size_t) (to - from);
	memcpy(domain, from, len);
	domain[len] = '\0';
	if (idn2_lookup_u8((uint8_t *) domain, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return false;
	fine = append_ascii_domain((char *) ascii, strlen((char *) ascii), out);
	idn2_free(ascii);
	return fine;
}

/* The @ between local part and domain: the only one.  NULL when there is none, or more. */
static const char *
find_at(const char *from, const char *to)
{
	const char *at = memchr(from, '@', to - from);

	return at == NULL || memchr(at + 1, '@', to - at - 1) != NULL ? NULL : at;
}

bool
sophia_normalize_email(const char *in, size_t len, ByteBuffer *out)
{
	size_t before = buffer_size(out);
	const char *from = in;
	const char *to = in + len;
	const char *at;

	if (len > MAX_INPUT)
		return false;
	strip_surroundings(&from, &to);
	at = find_at(from, to);
	if (at != NULL && append_local_part(from, at, out) && sophia_buffer_append(out, "@", 1) &&
		append_domain(at + 1, to, out) && buffer_size(out) - before <= MAX_ADDRESS)
		return true;
	buffer_truncate(out, before);
	return false;
}

/* The part of a host name in lower case from the registrable domain on, or NULL; an IP address has none. */
static const char *
find_registrable(const char *host)
{
	static const psl_ctx_t *suffixes;
	const char *last = strrchr(host, '.');

	if (last == NULL || last[strspn(last, ".0123456789")] == '\0')
		return NULL;
	if (suffixes == NULL)
		suffixes = psl_builtin();
	return suffixes == NULL ? NULL : psl_registrable_domain(suffixes, host);
}

/* The same, remembered: a table of people has few hosts, and asking the list takes longer than the rest. */
static const char *
registrable_part(const char *host)
{
	static KnownHost known[KNOWN_HOSTS];
	size_t len = strlen(host);
	uint32_t hash = 2166136261u; /* FNV-1a */
	const char *part;
	KnownHost *entry;

	if (len > KNOWN_HOST_MAX)
		return find_registrable(host);
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) host[i]) * 16777619u;
	entry = &known[(hash ^ hash >> 16) % KNOWN_HOSTS];
	if (len == 0 || memcmp(entry->host, host, len + 1) != 0)
	{
		part = find_registrable(host);
		memcpy(entry->host, host, len + 1);
		entry->part = (uint8_t) (part == NULL ? len : (size_t) (part - host));
	}
	return entry->part == len ? NULL : host + entry->part;
}

bool
sophia_email_domain(const char *in, size_t len, ByteBuffer *out)
{
	size_t before = buffer_size(out);
	const char *from = in;
	const char *to = in + len;
	const char *part = NULL;
	const char *host;
	const char *at;

	if (len > MAX_INPUT)
		return false;
	strip_surroundings(&from, &to);
	at = memchr(from, '@', to - from);
	if ((at == NULL ? append_domain(from, to, out) : sophia_normalize_email(from, to - from, out)) &&
		sophia_buffer_append(out, "", 1))
	{
		host = buffer_bytes(out) + before;
		part = registrable_part(at == NULL ? host : strchr(host, '@') + 1);
	}
	if (part != NULL)
	{
		size_t n = strlen(part);

		memmove(buffer_bytes(out) + before, part, n);
		buffer_truncate(out, before + n);
		return true;
	}
	buffer_truncate(out, before);
	return false;
}
