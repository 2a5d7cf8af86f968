/*
 * name.c
 *		Names in the form in which they are compared: see normalize.h.  Pure: no server call.
 *
 * The caller decomposes first (NFKD), so that an accent is a code point of its own and can be left out here;
 * letters that Unicode does not decompose (ø, ł, ß) are spelled out as people type them without the key.  Titles and
 * generational suffixes stay: "Dr" and "Jr" are also names, and whose they are no list can say.
 */
#include "transform/name.h"
#include "transform/unicode.h"

#include <string.h>

/* True for the marks that accents decompose into. */
static bool
is_accent(uint32_t c)
{
	return (c >= 0x300 && c <= 0x36F) || (c >= 0x1AB0 && c <= 0x1AFF) ||
		   (c >= 0x1DC0 && c <= 0x1DFF) || (c >= 0x20D0 && c <= 0x20FF) ||
		   (c >= 0xFE20 && c <= 0xFE2F);
}

/* What is written for a lower-case letter or punctuation mark that does not decompose, or NULL for itself. */
static const char *
spelling_of(uint32_t c)
{
	switch (c)
	{
		case 0xDF: /* sharp s */
			return "ss";
		case 0xE6:
			return "ae";
		case 0xF8:
			return "o";
		case 0xF0: /* eth */
		case 0x111:
			return "d";
		case 0xFE: /* thorn */
			return "th";
		case 0x127:
			return "h";
		case 0x131: /* dotless i */
			return "i";
		case 0x142:
			return "l";
		case 0x14B: /* eng */
			return "n";
		case 0x153:
			return "oe";
		case 0x167:
			return "t";
		case 0x60: /* the signs typed for an apostrophe */
		case 0xB4:
		case 0x2BB:
		case 0x2BC:
		case 0x2018:
		case 0x2019:
			return "'";
		case 0x2010: /* the dashes typed for a hyphen */
		case 0x2011:
		case 0x2012:
		case 0x2013:
		case 0x2014:
			return "-";
		case 0x3C2: /* final sigma */
			return "\xCF\x83";
		default:
			return NULL;
	}
}

/* True for the signs that part words and carry no meaning in a name: "Lee, Ann (Acme)", "J.R. Smith". */
static bool
is_separator(uint32_t c)
{
	if (c < 0x80)
		return c == ' ' || (c >= '\t' && c <= '\r') ||
			   (c > ' ' && strchr(",.;:()[]{}\"!?*|_", (int) c));
	return sophia_unicode_is_space(c) || (c >= 0x201C && c <= 0x201F) || c == 0xAB || c == 0xBB ||
		   c == 0x2022 || c == 0xB7 || c == 0x3001 || c == 0x3002 || c == 0x30FB;
}

/* True when the n bytes are a word, or only signs, that people and systems write where there is no value. */
static bool
stands_for_nothing(const char *name, size_t n)
{
	size_t signs = 0;

	static const char *const words[] = {"null", "unknown", "n/a"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i]) == n && memcmp(words[i], name, n) == 0)
			return true;
	while (signs < n && strchr(" -'/&+", name[signs]) != NULL)
		signs++;
	return signs == n;
}

bool
sophia_fold_name(const char *in, size_t len, ByteBuffer *out)
{
	size_t before = buffer_size(out);
	const char *end = in + len;
	bool space = false;
	bool fits = true;

	while (in < end && fits)
	{
		uint32_t c = sophia_unicode_lower(sophia_utf8_next(&in, end));
		const char *spelling = c < 0x80 && c != '`' ? NULL : spelling_of(c);

		if (is_separator(c))
		{
			space = buffer_size(out) > before;
			continue;
		}
		if ((c < 0x80 && c > ' ' && c != 0x7F && spelling == NULL && !space))
		{
			char letter = (char) c;

			fits = sophia_buffer_append(out, &letter, 1);
			continue;
		}
		if (is_accent(c) || sophia_unicode_is_invisible(c) || c < ' ' || (c >= 0x7F && c < 0xA0))
			continue;
		if (space)
			fits = sophia_buffer_append(out, " ", 1);
		space = false;
		if (spelling != NULL)
			fits = fits && sophia_buffer_append(out, spelling, strlen(spelling));
		else
			fits = fits && sophia_utf8_append(out, c);
	}
	if (fits && buffer_size(out) > before &&
		!stands_for_nothing(buffer_bytes(out) + before, buffer_size(out) - before))
		return true;
	buffer_truncate(out, before);
	return false;
}
