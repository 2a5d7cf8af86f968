/*
 * phone.c
 *		Phone numbers as E.164: see normalize.h.  Pure: no server call.
 *
 * Knows the calling code and the trunk prefix (what is dialled before a national number, and is no part of
 * it) of every country, and no number lengths: those change often, and a wrong table would lose numbers.
 * Calling codes are prefix-free, so that the first one that fits is the one.  Sources: ITU-T E.164 (list
 * of assigned country codes) and E.129 (national numbering plans).
 */
#include "transform/phone.h"
#include "transform/unicode.h"

#include <string.h>
#include <strings.h>

#define MAX_INPUT	200 /* longer values are no number */
#define MIN_DIGITS	8	/* with the calling code */
#define MAX_DIGITS	15
#define MAX_DIALLED 24 /* what people write in front of these: 00, trunk prefix */
#define NANP_DIGITS 10 /* a national number in the countries of calling code 1 */

typedef struct Country
{
	char iso[3]; /* ISO 3166-1 alpha-2; XK is in use for Kosovo; empty: no country */
	char code[4];
	char trunk[3];
} Country;

/* clang-format off */
static const Country countries[] = {
	{"AC", "247", ""}, {"AD", "376", ""}, {"AE", "971", "0"}, {"AF", "93", "0"},
	{"AG", "1", "1"}, {"AI", "1", "1"}, {"AL", "355", "0"}, {"AM", "374", "0"},
	{"AO", "244", ""}, {"AR", "54", "0"}, {"AS", "1", "1"}, {"AT", "43", "0"},
	{"AU", "61", "0"}, {"AW", "297", ""}, {"AX", "358", "0"}, {"AZ", "994", "0"},
	{"BA", "387", "0"}, {"BB", "1", "1"}, {"BD", "880", "0"}, {"BE", "32", "0"},
	{"BF", "226", ""}, {"BG", "359", "0"}, {"BH", "973", ""}, {"BI", "257", ""},
	{"BJ", "229", ""}, {"BL", "590", "0"}, {"BM", "1", "1"}, {"BN", "673", ""},
	{"BO", "591", "0"}, {"BQ", "599", ""}, {"BR", "55", "0"}, {"BS", "1", "1"},
	{"BT", "975", ""}, {"BW", "267", ""}, {"BY", "375", "80"}, {"BZ", "501", ""},
	{"CA", "1", "1"}, {"CC", "61", "0"}, {"CD", "243", "0"}, {"CF", "236", ""},
	{"CG", "242", ""}, {"CH", "41", "0"}, {"CI", "225", ""}, {"CK", "682", ""},
	{"CL", "56", ""}, {"CM", "237", ""}, {"CN", "86", "0"}, {"CO", "57", ""},
	{"CR", "506", ""}, {"CU", "53", "0"}, {"CV", "238", ""}, {"CW", "599", ""},
	{"CX", "61", "0"}, {"CY", "357", ""}, {"CZ", "420", ""}, {"DE", "49", "0"},
	{"DJ", "253", ""}, {"DK", "45", ""}, {"DM", "1", "1"}, {"DO", "1", "1"},
	{"DZ", "213", "0"}, {"EC", "593", "0"}, {"EE", "372", ""}, {"EG", "20", "0"},
	{"EH", "212", "0"}, {"ER", "291", "0"}, {"ES", "34", ""}, {"ET", "251", "0"},
	{"FI", "358", "0"}, {"FJ", "679", ""}, {"FK", "500", ""}, {"FM", "691", ""},
	{"FO", "298", ""}, {"FR", "33", "0"}, {"GA", "241", ""}, {"GB", "44", "0"},
	{"GD", "1", "1"}, {"GE", "995", "0"}, {"GF", "594", "0"}, {"GG", "44", "0"},
	{"GH", "233", "0"}, {"GI", "350", ""}, {"GL", "299", ""}, {"GM", "220", ""},
	{"GN", "224", ""}, {"GP", "590", "0"}, {"GQ", "240", ""}, {"GR", "30", ""},
	{"GT", "502", ""}, {"GU", "1", "1"}, {"GW", "245", ""}, {"GY", "592", ""},
	{"HK", "852", ""}, {"HN", "504", ""}, {"HR", "385", "0"}, {"HT", "509", ""},
	{"HU", "36", "06"}, {"ID", "62", "0"}, {"IE", "353", "0"}, {"IL", "972", "0"},
	{"IM", "44", "0"}, {"IN", "91", "0"}, {"IO", "246", ""}, {"IQ", "964", "0"},
	{"IR", "98", "0"}, {"IS", "354", ""}, {"IT", "39", ""}, {"JE", "44", "0"},
	{"JM", "1", "1"}, {"JO", "962", "0"}, {"JP", "81", "0"}, {"KE", "254", "0"},
	{"KG", "996", "0"}, {"KH", "855", "0"}, {"KI", "686", ""}, {"KM", "269", ""},
	{"KN", "1", "1"}, {"KP", "850", "0"}, {"KR", "82", "0"}, {"KW", "965", ""},
	{"KY", "1", "1"}, {"KZ", "7", "8"}, {"LA", "856", "0"}, {"LB", "961", "0"},
	{"LC", "1", "1"}, {"LI", "423", ""}, {"LK", "94", "0"}, {"LR", "231", "0"},
	{"LS", "266", ""}, {"LT", "370", "0"}, {"LU", "352", ""}, {"LV", "371", ""},
	{"LY", "218", "0"}, {"MA", "212", "0"}, {"MC", "377", ""}, {"MD", "373", "0"},
	{"ME", "382", "0"}, {"MF", "590", "0"}, {"MG", "261", "0"}, {"MH", "692", ""},
	{"MK", "389", "0"}, {"ML", "223", ""}, {"MM", "95", "0"}, {"MN", "976", "0"},
	{"MO", "853", ""}, {"MP", "1", "1"}, {"MQ", "596", "0"}, {"MR", "222", ""},
	{"MS", "1", "1"}, {"MT", "356", ""}, {"MU", "230", ""}, {"MV", "960", ""},
	{"MW", "265", "0"}, {"MX", "52", ""}, {"MY", "60", "0"}, {"MZ", "258", ""},
	{"NA", "264", "0"}, {"NC", "687", ""}, {"NE", "227", ""}, {"NF", "672", ""},
	{"NG", "234", "0"}, {"NI", "505", ""}, {"NL", "31", "0"}, {"NO", "47", ""},
	{"NP", "977", "0"}, {"NR", "674", ""}, {"NU", "683", ""}, {"NZ", "64", "0"},
	{"OM", "968", ""}, {"PA", "507", ""}, {"PE", "51", "0"}, {"PF", "689", ""},
	{"PG", "675", ""}, {"PH", "63", "0"}, {"PK", "92", "0"}, {"PL", "48", ""},
	{"PM", "508", ""}, {"PR", "1", "1"}, {"PS", "970", "0"}, {"PT", "351", ""},
	{"PW", "680", ""}, {"PY", "595", "0"}, {"QA", "974", ""}, {"RE", "262", "0"},
	{"RO", "40", "0"}, {"RS", "381", "0"}, {"RU", "7", "8"}, {"RW", "250", "0"},
	{"SA", "966", "0"}, {"SB", "677", ""}, {"SC", "248", ""}, {"SD", "249", "0"},
	{"SE", "46", "0"}, {"SG", "65", ""}, {"SH", "290", ""}, {"SI", "386", "0"},
	{"SJ", "47", ""}, {"SK", "421", "0"}, {"SL", "232", "0"}, {"SM", "378", ""},
	{"SN", "221", ""}, {"SO", "252", ""}, {"SR", "597", ""}, {"SS", "211", "0"},
	{"ST", "239", ""}, {"SV", "503", ""}, {"SX", "1", "1"}, {"SY", "963", "0"},
	{"SZ", "268", ""}, {"TA", "290", ""}, {"TC", "1", "1"}, {"TD", "235", ""},
	{"TG", "228", ""}, {"TH", "66", "0"}, {"TJ", "992", ""}, {"TK", "690", ""},
	{"TL", "670", ""}, {"TM", "993", ""}, {"TN", "216", ""}, {"TO", "676", ""},
	{"TR", "90", "0"}, {"TT", "1", "1"}, {"TV", "688", ""}, {"TW", "886", "0"},
	{"TZ", "255", "0"}, {"UA", "380", "0"}, {"UG", "256", "0"}, {"US", "1", "1"},
	{"UY", "598", "0"}, {"UZ", "998", ""}, {"VA", "39", ""}, {"VC", "1", "1"},
	{"VE", "58", "0"}, {"VG", "1", "1"}, {"VI", "1", "1"}, {"VN", "84", "0"},
	{"VU", "678", ""}, {"WF", "681", ""}, {"WS", "685", ""}, {"XK", "383", "0"},
	{"YE", "967", "0"}, {"YT", "262", "0"}, {"ZA", "27", "0"}, {"ZM", "260", "0"},
	{"ZW", "263", "0"}, {"", "800", ""}, {"", "808", ""}, {"", "870", ""},
	{"", "878", ""}, {"", "881", ""}, {"", "882", ""}, {"", "883", ""},
	{"", "888", ""}, {"", "979", ""},
};
/* clang-format on */

#define COUNTRY_COUNT (sizeof(countries) / sizeof(countries[0]))

/* What was dialled: digits, and whether a plus sign stood before them. */
typedef struct Dialled
{
	bool plus;
	size_t n;
	char digits[MAX_DIALLED + 1];
} Dialled;

static const Country *
country_by_iso(const char *iso, size_t len)
{
	for (size_t i = 0; iso != NULL && len == 2 && i < COUNTRY_COUNT; i++)
		if (strncasecmp(countries[i].iso, iso, 2) == 0)
			return &countries[i];
	return NULL;
}

/* The first country whose calling code starts the digits; those that share a code share the trunk prefix. */
static const Country *
country_by_code(const char *digits)
{
	for (size_t i = 0; i < COUNTRY_COUNT; i++)
		if (strncmp(countries[i].code, digits, strlen(countries[i].code)) == 0)
			return &countries[i];
	return NULL;
}

/* The value of a digit in one of the scripts that phones type, or -1. */
static int
digit_value(uint32_t c)
{
	static const uint32_t zeros[] = {'0', 0x660, 0x6F0, 0x966, 0xFF10};

	for (size_t i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++)
		if (c >= zeros[i] && c <= zeros[i] + 9)
			return (int) (c - zeros[i]);
	return -1;
}

static bool
is_separator(uint32_t c)
{
	return sophia_unicode_is_space(c) || sophia_unicode_is_invisible(c) ||
		   (c < 0x80 && c > 0 && strchr("-.()/~", (int) c) != NULL) || c == 0xB7 ||
		   (c >= 0x2010 && c <= 0x2015) || c == 0x2022 || c == 0x2212;
}

/* True when an extension, or another number, starts at `at`. */
static bool
starts_extension(const char *at, const char *end)
{
	return strchr("xX#,;", *at) != NULL || (end - at >= 3 && strncasecmp(at, "ext", 3) == 0);
}

/* Reads digits up to the extension; false for anything that is no number. */
static bool
read_dialled(const char *in, const char *end, Dialled *dialled)
{
	while (in < end)
	{
		const char *start = in;
		uint32_t c = sophia_utf8_next(&in, end);
		int digit = digit_value(c);

		if (digit >= 0)
		{
			if (dialled->n == MAX_DIALLED)
				return false;
			dialled->digits[dialled->n++] = (char) ('0' + digit);
		}
		else if ((c == '+' || c == 0xFF0B) && dialled->n == 0 && !dialled->plus)
			dialled->plus = true;
		else if (c == 0)
			return false;
		else if (dialled->n > 0 && starts_extension(start, end))
			break;
		else if (!is_separator(c))
			return false;
	}
	dialled->digits[dialled->n] = '\0';
	return dialled->n > 0;
}

/* The part of a national number that is dialled from abroad too; NULL when it is no whole number. */
static const char *
without_trunk(const Country *country, const char *number)
{
	size_t n = strlen(number);
	size_t trunk = strlen(country->trunk);

	if (trunk > 0 && strncmp(number, country->trunk, trunk) == 0 &&
		(country->trunk[0] == '0' || n == NANP_DIGITS + 1))
		number += trunk;
	if (strcmp(country->code, "1") == 0 && strlen(number) != NANP_DIGITS)
		return NULL;
	return number;
}

static bool
append_e164(const Country *country, const char *national, ByteBuffer *out)
{
	size_t before = buffer_size(out);
	size_t n = strlen(country->code) + strlen(national);

	if (n >= MIN_DIGITS && n <= MAX_DIGITS && sophia_buffer_append(out, "+", 1) &&
		sophia_buffer_append(out, country->code, strlen(country->code)) &&
		sophia_buffer_append(out, national, strlen(national)))
		return true;
	buffer_truncate(out, before);
	return false;
}

bool
sophia_normalize_phone_in(const char *in, size_t len, const char *country, size_t country_len,
						  ByteBuffer *out)
{
	Dialled dialled = {0};
	const char *end = in + len;
	const char *digits = dialled.digits;
	const Country *home = country_by_iso(country, country_len);
	const Country *called;
	const char *national;

	if (len > MAX_INPUT)
		return false;
	if (len > 4 && strncasecmp(in, "tel:", 4) == 0)
		in += 4;
	if (!read_dialled(in, end, &dialled))
		return false;
	if (!dialled.plus)
	{
		if (home != NULL && strcmp(home->code, "1") == 0 && strncmp(digits, "011", 3) == 0)
			digits += 3;
		else if (strncmp(digits, "00", 2) == 0)
			digits += 2;
		else
		{
			national = home == NULL ? NULL : without_trunk(home, digits);
			return national != NULL && append_e164(home, national, out);
		}
	}
	called = country_by_code(digits);
	if (called == NULL)
		return false;
	national = digits + strlen(called->code);
	/* "+49 (0)89": the zero is dialled inside the country only. */
	if (called->trunk[0] == '0' && strncmp(national, called->trunk, strlen(called->trunk)) == 0)
		national += strlen(called->trunk);
	return append_e164(called, national, out);
}

bool
sophia_normalize_phone(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, NULL, 0, out);
}
