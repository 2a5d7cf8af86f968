/*
 * json_text.c
 *		The strings of a JSON text: UTF-8 (RFC 3629) and escapes (RFC 8259, section 7).  Pure: no server call.
 *
 * A string without escapes stays where it is in the input; eight bytes are looked at together.
 */
#include "base/json_text.h"

#include <string.h>

bool
sophia_json_problem(JsonParser *parser, JsonProblem what)
{
	if (parser->problem == JSON_FINE ||
		(what < JSON_BAD_ENCODING && parser->problem >= JSON_BAD_ENCODING))
	{
		parser->problem = what;
		parser->problem_at = parser->next - parser->start;
	}
	return false;
}

/* Bytes of the well-formed UTF-8 sequence at p (RFC 3629), 0 when it is none. */
static int
utf8_sequence(const unsigned char *p, const unsigned char *end)
{
	size_t room = end - p;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xC2 && p[0] <= 0xDF)
		return room >= 2 && (p[1] & 0xC0) == 0x80 ? 2 : 0;
	if (p[0] >= 0xE0 && p[0] <= 0xEF)
	{
		if (room < 3 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80)
			return 0;
		if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F))
			return 0;
		return 3;
	}
	if (p[0] >= 0xF0 && p[0] <= 0xF4)
	{
		if (room < 4 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80 || (p[3] & 0xC0) != 0x80)
			return 0;
		if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
			return 0;
		return 4;
	}
	return 0;
}

/* True when one of the eight bytes is a quote, a backslash, a control character or not ASCII. */
static inline bool
needs_attention(uint64_t word)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	const uint64_t high = UINT64_C(0x8080808080808080);
	uint64_t quote = word ^ (ones * '"');
	uint64_t backslash = word ^ (ones * '\\');

	return ((word | (word - ones * 0x20) | (quote - ones) | (backslash - ones)) & high) != 0;
}

/* Moves over the plain part of a string: up to a quote, a backslash or a control character. */
static const char *
skip_plain(JsonParser *parser, const char *p)
{
	while (true)
	{
		while (parser->end - p >= 8)
		{
			uint64_t word;

			memcpy(&word, p, 8);
			if (needs_attention(word))
				break;
			p += 8;
		}
		if (p >= parser->end)
			return p;
		if (*p == '"' || *p == '\\' || (unsigned char) *p < 0x20)
			return p;
		if ((unsigned char) *p < 0x80)
			p++;
		else
		{
			int bytes =
				utf8_sequence((const unsigned char *) p, (const unsigned char *) parser->end);

			if (bytes == 0)
			{
				parser->next = p;
				sophia_json_problem(parser, JSON_BAD_ENCODING);
				bytes = 1;
			}
			p += bytes;
		}
	}
}

/* The four hexadecimal digits of \uXXXX, -1 when they are none. */
static int
hex4(const char *p, const char *end)
{
	int value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char c = p[i];
		int digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			digit = c - 'A' + 10;
		else
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

static char *
put_utf8(char *out, uint32_t code)
{
	if (code < 0x80)
		*out++ = (char) code;
	else if (code < 0x800)
	{
		*out++ = (char) (0xC0 | code >> 6);
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else if (code < 0x10000)
	{
		*out++ = (char) (0xE0 | code >> 12);
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else
	{
		*out++ = (char) (0xF0 | code >> 18);
		*out++ = (char) (0x80 | (code >> 12 & 0x3F));
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	return out;
}

/* Decodes \uXXXX with `next` behind the u; a surrogate pair takes both.  False: no hexadecimal digits. */
static bool
unescape_unicode(JsonParser *parser, char **out)
{
	int code = hex4(parser->next, parser->end);

	if (code < 0)
		return sophia_json_problem(parser, JSON_SYNTAX);
	parser->next += 4;
	if (code == 0)
		sophia_json_problem(parser, JSON_NUL);
	else if (code >= 0xD800 && code <= 0xDFFF)
	{
		int low = -1;

		if (code <= 0xDBFF && parser->end - parser->next >= 2 && parser->next[0] == '\\' &&
			parser->next[1] == 'u')
			low = hex4(parser->next + 2, parser->end);
		if (low >= 0xDC00 && low <= 0xDFFF)
		{
			parser->next += 6;
			*out = put_utf8(*out, 0x10000 + ((uint32_t) (code - 0xD800) << 10) + (low - 0xDC00));
		}
		else
			sophia_json_problem(parser, JSON_LONE_SURROGATE);
	}
	else
		*out = put_utf8(*out, code);
	return true;
}

/* One escape, with `next` behind the backslash. */
static bool
unescape(JsonParser *parser, char **out)
{
	static const char plain[] = "\"\\/bfnrt";
	static const char meaning[] = "\"\\/\b\f\n\r\t";
	const char *found;
	char c;

	if (parser->next >= parser->end)
		return sophia_json_problem(parser, JSON_SYNTAX);
	c = *parser->next++;
	if (c == 'u')
		return unescape_unicode(parser, out);
	found = c != '\0' ? strchr(plain, c) : NULL;
	if (found == NULL)
		return sophia_json_problem(parser, JSON_SYNTAX);
	*(*out)++ = meaning[found - plain];
	return true;
}

/* The closing quote of a string that holds escapes, or where the input ends. */
static const char *
find_close(const char *p, const char *end)
{
	while (p < end && *p != '"')
		p += *p == '\\' ? 2 : 1;
	return p < end ? p : end;
}

/* A string with escapes: `from` is its first byte, `next` its first backslash. */
static bool
parse_escaped(JsonParser *parser, const char *from, const char **text, uint32_t *length)
{
	/* Unescaping never makes a text longer, so the raw length bounds the room. */
	const char *close = find_close(parser->next, parser->end);
	char *room = sophia_arena_alloc(parser->arena, close - from + 1);
	char *out = room;
	const char *plain = from;

	if (room == NULL)
		return sophia_json_problem(parser, JSON_NO_MEMORY);
	while (true)
	{
		memcpy(out, plain, parser->next - plain);
		out += parser->next - plain;
		if (parser->next >= parser->end || (unsigned char) *parser->next < 0x20)
			return sophia_json_problem(parser, JSON_SYNTAX);
		if (*parser->next == '"')
			break;
		parser->next++;
		if (!unescape(parser, &out))
			return false;
		plain = parser->next;
		parser->next = skip_plain(parser, plain);
	}
	parser->next++;
	*text = room;
	*length = out - room;
	return true;
}

bool
sophia_json_parse_string(JsonParser *parser, const char **text, uint32_t *length)
{
	const char *from = parser->next + 1;
	const char *p = skip_plain(parser, from);

	parser->next = p;
	if (p < parser->end && *p == '"')
	{
		*text = from;
		*length = p - from;
		parser->next = p + 1;
		return true;
	}
	if (p < parser->end && *p == '\\')
		return parse_escaped(parser, from, text, length);
	return sophia_json_problem(parser, JSON_SYNTAX);
}
