/*
 * email.c
 *		E-mail addresses in one form: see normalize.h.  Pure: no server call.
 *
 * The local part is folded to lower case although the standard lets it differ by case: no mail system in
 * use tells "Ann@" and "ann@" apart.  Plus tags and dots stay, because only some hosts ignore them.
 */
#include "transform/email.h"
#include "transform/unicode.h"

#include <string.h>
#include <strings.h>

#define MAX_INPUT	1000 /* longer values are no address, whatever surrounds it */
#define MAX_ADDRESS 320	 /* local part 64, @, domain 255 */
#define MAX_LABEL	63	 /* code points or bytes of one part of a domain */

/* Moves both ends inwards past white space and invisible code points. */
static void
trim(const char **from, const char **to)
{
	const char *first = NULL;
	const char *last = *from;

	for (const char *p = *from; p < *to;)
	{
		const char *start = p;
		uint32_t c = sophia_utf8_next(&p, *to);

		if (sophia_unicode_is_space(c) || sophia_unicode_is_invisible(c))
			continue;
		if (first == NULL)
			first = start;
		last = p;
	}
	*from = first == NULL ? *to : first;
	*to = first == NULL ? *to : last;
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

/* True for what stands in an address in use; quoted local parts and address literals are refused. */
static bool
acceptable(uint32_t c)
{
	return c > ' ' && c != 0x7F && c != UNICODE_REPLACEMENT && !sophia_unicode_is_space(c) &&
		   !sophia_unicode_is_invisible(c) && !(c >= 0x80 && c < 0xA0) &&
		   (c >= 0x80 || strchr("\"(),:;<>[\\]", (int) c) == NULL);
}

static bool
append_local_part(const char *from, const char *to, ByteBuffer *out)
{
	if (from == to)
		return false;
	while (from < to)
	{
		uint32_t c = sophia_utf8_next(&from, to);

		if (!acceptable(c) || !sophia_utf8_append(out, sophia_unicode_lower(c)))
			return false;
	}
	return true;
}

/* Bias adaptation of Punycode, RFC 3492 section 6.1. */
static uint32_t
punycode_bias(uint32_t delta, uint32_t points, bool first)
{
	uint32_t k = 0;

	delta = first ? delta / 700 : delta / 2;
	delta += delta / points;
	for (; delta > 455; k += 36)
		delta /= 35;
	return k + 36 * delta / (delta + 38);
}

/* One number of Punycode as digits of varying base, RFC 3492 section 6.3. */
static bool
append_punycode_number(uint32_t number, uint32_t bias, ByteBuffer *out)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";

	for (uint32_t k = 36;; k += 36)
	{
		uint32_t threshold = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;

		if (number < threshold)
			return sophia_buffer_append(out, &digits[number], 1);
		if (!sophia_buffer_append(out, &digits[threshold + (number - threshold) % (36 - threshold)],
								  1))
			return false;
		number = (number - threshold) / (36 - threshold);
	}
}

/* Appends a label as "xn--…", RFC 3492 section 6.3; `label` has n code points, some of them not ASCII. */
static bool
append_punycode(const uint32_t *label, uint32_t n, ByteBuffer *out)
{
	uint32_t next = 0x80;
	uint32_t delta = 0;
	uint32_t bias = 72;
	uint32_t basic = 0;
	uint32_t done;

	if (!sophia_buffer_append(out, "xn--", 4))
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (label[i] < 0x80)
		{
			if (!sophia_utf8_append(out, label[i]))
				return false;
			basic++;
		}
	if (basic > 0 && !sophia_buffer_append(out, "-", 1))
		return false;
	for (done = basic; done < n; delta++, next++)
	{
		uint32_t smallest = UINT32_MAX;

		for (uint32_t i = 0; i < n; i++)
			if (label[i] >= next && label[i] < smallest)
				smallest = label[i];
		delta += (smallest - next) * (done + 1);
		next = smallest;
		for (uint32_t i = 0; i < n; i++)
		{
			delta += label[i] < next;
			if (label[i] != next)
				continue;
			if (!append_punycode_number(delta, bias, out))
				return false;
			bias = punycode_bias(delta, done + 1, done == basic);
			delta = 0;
			done++;
		}
	}
	return true;
}

static bool
append_label(const uint32_t *label, uint32_t n, bool ascii, ByteBuffer *out)
{
	size_t before = buffer_size(out);

	if (n == 0 || label[0] == '-' || label[n - 1] == '-')
		return false;
	if (!ascii)
		return append_punycode(label, n, out) && buffer_size(out) - before <= MAX_LABEL;
	for (uint32_t i = 0; i < n; i++)
		if (!sophia_utf8_append(out, label[i]))
			return false;
	return true;
}

static bool
append_domain(const char *from, const char *to, ByteBuffer *out)
{
	uint32_t label[MAX_LABEL];
	uint32_t n = 0;
	bool ascii = true;

	if (to > from && to[-1] == '.')
		to--;
	while (from < to)
	{
		uint32_t c = sophia_unicode_lower(sophia_utf8_next(&from, to));

		if (c == '.')
		{
			if (!append_label(label, n, ascii, out) || !sophia_buffer_append(out, ".", 1))
				return false;
			n = 0;
			ascii = true;
			continue;
		}
		if (n == MAX_LABEL || !acceptable(c) ||
			(c < 0x80 && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_'))
			return false;
		ascii = ascii && c < 0x80;
		label[n++] = c;
	}
	return append_label(label, n, ascii, out);
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
	at = memchr(from, '@', to - from);
	if (at != NULL && memchr(at + 1, '@', to - at - 1) == NULL &&
		append_local_part(from, at, out) && sophia_buffer_append(out, "@", 1) &&
		append_domain(at + 1, to, out) && buffer_size(out) - before <= MAX_ADDRESS)
		return true;
	buffer_truncate(out, before);
	return false;
}
