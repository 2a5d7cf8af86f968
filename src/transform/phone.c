/*
 * phone.c
 *		Phone numbers as E.164: see normalize.h.  Pure: no server call.
 *
 * Reads the digits out of what people write around them; what they mean, phone_plan.c knows.  The number is looked for
 * from the first digit or plus sign on ("Tel. 089 …"); after it an extension may follow, which is dropped, and nothing
 * else: two numbers in one value are none.
 * The signs and the ways to write an extension are those that libphonenumber reads.
 */
#include "transform/phone.h"
#include "transform/phone_plan.h"
#include "transform/unicode.h"

#include <string.h>

#define MAX_INPUT 250 /* bytes; longer values are no number */

/* What was dialled: digits, and whether a plus sign stood before them. */
typedef struct Dialled
{
	bool plus;
	size_t n;
	char digits[PHONE_MAX_DIALLED + 1];
} Dialled;

/* The value of a digit in one of the scripts that phones type, or -1. */
static int
digit_value(uint32_t c)
{
	static const uint32_t zeros[] = {0x660, 0x6F0, 0xFF10};

	if (c < 0x80)
		return c >= '0' && c <= '9' ? (int) (c - '0') : -1;
	for (size_t i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++)
		if (c >= zeros[i] && c <= zeros[i] + 9)
			return (int) (c - zeros[i]);
	return -1;
}

static bool
is_plus(uint32_t c)
{
	return c == '+' || c == 0xFF0B;
}

static bool
is_punctuation(uint32_t c)
{
	if (c < 0x80)
		return c == ' ' || (c > 0 && strchr("-.()/~[]\t\r\n", (int) c) != NULL);
	return sophia_unicode_is_space(c) || sophia_unicode_is_invisible(c) || c == 0xB7 ||
		   (c >= 0x2010 && c <= 0x2015) || c == 0x2022 || c == 0x2053 || c == 0x2212 ||
		   c == 0x223C || c == 0x30FC || c == 0xFF08 || c == 0xFF09 ||
		   (c >= 0xFF0D && c <= 0xFF0F) || c == 0xFF3B || c == 0xFF3D || c == 0xFF5E;
}

/* Moves past the code points of a word, in lower case there, if they come next in any case. */
static bool
skip_word(const char **at, const char *end, const char *word)
{
	const char *p = *at;
	const char *word_end = word + strlen(word);

	while (word < word_end)
		if (p == end ||
			sophia_unicode_lower(sophia_utf8_next(&p, end)) != sophia_utf8_next(&word, word_end))
			return false;
	*at = p;
	return true;
}

/* Moves past any of the ASCII signs and no-break spaces. */
static void
skip_signs(const char **at, const char *end, const char *signs)
{
	const char *p = *at;

	while (p < end)
	{
		uint32_t c = sophia_utf8_next(&p, end);

		if (c != 0xA0 && (c == 0 || c >= 0x80 || strchr(signs, (int) c) == NULL))
			return;
		*at = p;
	}
}

/* Moves past the word that announces an extension; returns how many digits may follow it, 0 = there is no such word. */
static int
skip_label(const char **at, const char *end)
{
	static const char *const clear[] = {"extensi\xC3\xB3n",
										"extensio\xCC\x81n",
										"extension",
										"extn",
										"ext",
										"xtn",
										"xt",
										"\xEF\xBD\x85\xEF\xBD\x98\xEF\xBD\x94\xEF\xBD\x8E",
										"\xD0\xB4\xD0\xBE\xD0\xB1",
										"anexo"};
	static const char *const vague[] = {"int",			"x",		   "#", "~", "\xEF\xBD\x98",
										"\xEF\xBC\x83", "\xEF\xBD\x9E"};

	for (size_t i = 0; i < sizeof(clear) / sizeof(clear[0]); i++)
		if (skip_word(at, end, clear[i]))
			return 20;
	for (size_t i = 0; i < sizeof(vague) / sizeof(vague[0]); i++)
		if (skip_word(at, end, vague[i]))
			return 9;
	return 0;
}

/* True when 1 … most digits, and then perhaps (`hash`: certainly) a hash sign, are all that follows. */
static bool
ends_with_digits(const char *at, const char *end, int most, bool hash)
{
	int n = 0;

	for (; at < end && n <= most; n++)
	{
		const char *p = at;

		if (digit_value(sophia_utf8_next(&p, end)) < 0)
			break;
		at = p;
	}
	if (n == 0 || n > most)
		return false;
	return at == end ? !hash : end - at == 1 && *at == '#';
}

/* True when what stands here, to the end, is an extension. */
static bool
is_extension(const char *at, const char *end)
{
	const char *start = at;
	int most;

	if (skip_word(&at, end, ";ext=") && ends_with_digits(at, end, 20, false))
		return true;
	at = start;
	skip_signs(&at, end, " \t,");
	most = skip_label(&at, end);
	if (most == 0 && (skip_word(&at, end, ";") || (at - start >= 2 && memcmp(start, ",,", 2) == 0)))
		most = 15;
	else if (most == 0 && *start == ',')
		most = 9;
	if (most == 0)
		return false;
	if (!skip_word(&at, end, ":") && !skip_word(&at, end, "."))
		skip_word(&at, end, "\xEF\xBC\x8E");
	skip_signs(&at, end, " \t,-");
	return ends_with_digits(at, end, most, false);
}

/* Narrows the value to what is from the first digit or plus sign to the last digit or hash sign. */
static void
narrow(const char **from, const char **to)
{
	const char *first = NULL;
	const char *last = *from;

	for (const char *p = *from; p < *to;)
	{
		const char *start = p;
		uint32_t c = sophia_utf8_next(&p, *to);
		bool digit = digit_value(c) >= 0;

		if (first == NULL && (digit || is_plus(c)))
			first = start;
		if (digit || c == '#')
			last = p;
	}
	*to = last;
	*from = first == NULL || first > last ? last : first;
}

/* Reads digits up to the extension; false for anything that is no number. */
static bool
read_dialled(const char *in, const char *end, Dialled *dialled)
{
	bool hash;

	narrow(&in, &end);
	hash = in < end && end[-1] == '#';
	while (in < end)
	{
		const char *start = in;
		uint32_t c = sophia_utf8_next(&in, end);
		int digit = digit_value(c);

		if (digit >= 0)
		{
			if (dialled->n == PHONE_MAX_DIALLED)
				return false;
			dialled->digits[dialled->n++] = (char) ('0' + digit);
			continue;
		}
		if (is_plus(c) && dialled->n == 0 && !dialled->plus)
		{
			dialled->plus = true;
			continue;
		}
		if (hash && (c == ' ' || c == '-') && ends_with_digits(in, end, 6, true))
			break;
		if (is_punctuation(c) && (c != '~' || !is_extension(start, end)))
			continue;
		if (!is_extension(start, end))
			return false;
		break;
	}
	dialled->digits[dialled->n] = '\0';
	return dialled->n > 0;
}

bool
sophia_normalize_phone_in(const char *in, size_t len, const char *country, size_t country_len,
						  ByteBuffer *out)
{
	size_t before = buffer_size(out);
	Dialled dialled;
	PhoneNumber number;

	dialled.plus = false;
	dialled.n = 0;
	if (len > MAX_INPUT || !read_dialled(in, in + len, &dialled) ||
		!sophia_phone_plan_read(dialled.digits, dialled.n, dialled.plus,
								sophia_phone_region(country, country_len), &number))
		return false;
	if (sophia_buffer_append(out, "+", 1) &&
		sophia_buffer_append(out, number.code, strlen(number.code)) &&
		sophia_buffer_append(out, number.national, strlen(number.national)))
		return true;
	buffer_truncate(out, before);
	return false;
}

bool
sophia_normalize_phone(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, NULL, 0, out);
}
