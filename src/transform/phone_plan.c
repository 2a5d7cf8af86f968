/*
 * phone_plan.c
 *		What a run of dialled digits means: see phone_plan.h.  Pure: no server call.
 *
 * The plans are facts of phone_regions.h; the rules here are the same for all of them: a prefix to dial abroad and a
 * calling code, or a trunk prefix that is dialled inside the country only, or neither.  A prefix is taken off only where
 * a possible number remains, because a number may begin with the same digits.
 *
 * An edge of the automaton has the digits that take it (bits 0-9), whether it is the last one of its node (bit 10),
 * whether a string may end after it (bit 11), and the first edge of the node that it leads to (bits 12-31).
 */
#include "transform/phone_plan.h"
#include "transform/phone_regions.h"

#include <string.h>

#define EDGE_LAST	 (1u << 10)
#define EDGE_ACCEPTS (1u << 11)
#define EDGE_TO(e)	 ((e) >> 12)

#define CODE_COUNT (sizeof(phone_codes) / sizeof(phone_codes[0]))

/* The length of the longest beginning of the digits that is in the set; 0 = none is. */
static size_t
longest_prefix(uint32_t set, const char *digits, size_t n)
{
	size_t longest = 0;

	for (size_t i = 0; i < n && set != 0; i++)
	{
		uint32_t bit = 1u << (digits[i] - '0');

		while (!(phone_edges[set] & (bit | EDGE_LAST)))
			set++;
		if (!(phone_edges[set] & bit))
			break;
		if (phone_edges[set] & EDGE_ACCEPTS)
			longest = i + 1;
		set = EDGE_TO(phone_edges[set]);
	}
	return longest;
}

static bool
in_set(uint32_t set, const char *digits, size_t n)
{
	return n > 0 && longest_prefix(set, digits, n) == n;
}

static bool
too_long(const PhoneRegion *region, size_t n)
{
	return region->lengths != 0 && (n > 31 || region->lengths >> n == 0);
}

/* True for a length that numbers of the plan have, or one that is longer than all of them. */
static bool
long_enough(const PhoneRegion *region, size_t n)
{
	return region->lengths == 0 || too_long(region, n) || (region->lengths >> n & 1) != 0;
}

/* A mobile number of Argentina as written there, [0] area 15 rest, with the 9 that E.164 has instead; 0: it is none. */
static size_t
rewrite_mobile(const PhoneRegion *region, const char *digits, size_t n, char *out)
{
	size_t trunk = n > 0 && digits[0] == '0';

	for (size_t area = longest_prefix(region->mobile, digits + trunk, n - trunk); area > 0;)
	{
		const char *after = digits + trunk + area;
		size_t rest = n - trunk - area;

		if (rest >= 2 && memcmp(after, "15", 2) == 0)
		{
			out[0] = '9';
			memcpy(out + 1, digits + trunk, area);
			memcpy(out + 1 + area, after + 2, rest - 2);
			return n - trunk - 1;
		}
		area = longest_prefix(region->mobile, digits + trunk, area - 1);
	}
	return 0;
}

/* What remains of a number without what is dialled in the country only, whether or not it makes sense. */
static size_t
strip_trunk(const PhoneRegion *region, const char *digits, size_t n, char *out)
{
	size_t area = strlen(region->local_area);
	size_t stripped;

	if (n == region->local_length && (region->local_first >> (digits[0] - '0') & 1) != 0)
	{
		memcpy(out, region->local_area, area);
		memcpy(out + area, digits, n);
		return area + n;
	}
	stripped = rewrite_mobile(region, digits, n, out);
	if (stripped > 0)
		return stripped;
	stripped = longest_prefix(region->strip, digits, n);
	if (stripped > 2 && n - stripped < region->carrier_rest)
		stripped -= 2; /* Brazil's carrier codes have two digits */
	memcpy(out, digits + stripped, n - stripped);
	return n - stripped;
}

/* Writes the national number that the digits are and returns its length; `out` gets a zero byte, too. */
static size_t
national_number(const PhoneRegion *region, const char *digits, size_t n, char *out)
{
	size_t length = n == 0 ? 0 : strip_trunk(region, digits, n, out);

	if ((in_set(region->general, digits, n) && !in_set(region->general, out, length)) ||
		!long_enough(region, length))
	{
		memcpy(out, digits, n);
		length = n;
	}
	out[length] = '\0';
	return length;
}

/* The calling code that the digits begin with, or NULL; no code begins with another. */
static const PhoneCode *
code_of(const char *digits)
{
	size_t low = 0;
	size_t high = CODE_COUNT;

	while (low < high)
	{
		size_t middle = (low + high) / 2;
		int order = strncmp(digits, phone_codes[middle].code, strlen(phone_codes[middle].code));

		if (order == 0)
			return &phone_codes[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* True when digits dialled at home begin with its calling code, only the plus sign being forgotten. */
static bool
lacks_plus(const PhoneRegion *home, const char *digits, size_t n)
{
	size_t code = strlen(home->code);
	char whole[PHONE_MAX_DIALLED + 8];
	char shorter[PHONE_MAX_DIALLED + 8];
	size_t whole_length;
	size_t shorter_length;

	if (n < code || memcmp(digits, home->code, code) != 0)
		return false;
	whole_length = national_number(home, digits, n, whole);
	if (too_long(home, whole_length))
		return true;
	shorter_length = national_number(home, digits + code, n - code, shorter);
	return !in_set(home->general, whole, whole_length) &&
		   in_set(home->general, shorter, shorter_length);
}

const PhoneRegion *
sophia_phone_region(const char *iso, size_t len)
{
	char wanted[2];
	size_t low = 0;
	size_t high = NAMED_REGIONS;

	if (iso == NULL || len != 2)
		return NULL;
	for (int i = 0; i < 2; i++)
		wanted[i] = iso[i] >= 'a' && iso[i] <= 'z' ? (char) (iso[i] - ('a' - 'A')) : iso[i];
	while (low < high)
	{
		size_t middle = (low + high) / 2;
		int order = memcmp(wanted, phone_regions[middle].iso, 2);

		if (order == 0)
			return &phone_regions[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

bool
sophia_phone_plan_read(const char *digits, size_t n, bool plus, const PhoneRegion *home,
					   PhoneNumber *number)
{
	const PhoneCode *code;
	size_t length;

	if (!plus)
	{
		size_t idd;

		if (home == NULL)
			return false;
		idd = longest_prefix(home->idd, digits, n);
		plus = idd > 0 && digits[idd] != '0';
		if (plus)
		{
			digits += idd;
			n -= idd;
		}
		else
			plus = lacks_plus(home, digits, n);
	}
	code = code_of(plus ? digits : home->code);
	if (code == NULL)
		return false;
	if (plus)
	{
		home = NULL;
		digits += strlen(code->code);
		n -= strlen(code->code);
	}
	length = national_number(home == NULL ? &phone_regions[code->main] : home, digits, n,
							 number->national);
	number->code = code->code;
	return length >= 2 && length <= PHONE_MAX_NATIONAL &&
		   (in_set(code->numbers, number->national, length) ||
			(home != NULL && !home->typed && in_set(home->general, number->national, length)));
}
