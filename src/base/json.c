/*
 * json.c
 *		Documents as trees: parsing (RFC 8259), looking up and merging.  See json.h.  Pure: no server call.
 *
 * Members and items of the containers that are open wait on one stack; when a container closes, its part of the
 * stack is copied to the arena at its exact size, so a parse costs two allocations a container at most.
 */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/* Members and items that the stack keeps room for from one document to the next. */
#define STACK_KEPT 65536

/* numeric holds 131072 digits before the point and 16383 behind it; a margin keeps the check simple. */
#define NUMBER_MAX_DIGITS	16000
#define NUMBER_MAX_EXPONENT 16000

static bool parse_value(JsonParser *parser, JsonNode *node);

/* Remembers the first problem; those that end the parse are returned as false by the caller. */
static bool
problem(JsonParser *parser, JsonProblem what)
{
	if (parser->problem == JSON_FINE ||
		(what < JSON_BAD_ENCODING && parser->problem >= JSON_BAD_ENCODING))
	{
		parser->problem = what;
		parser->problem_at = parser->next - parser->start;
	}
	return false;
}

static void
skip_space(JsonParser *parser)
{
	while (parser->next < parser->end && (*parser->next == ' ' || *parser->next == '\t' ||
										  *parser->next == '\n' || *parser->next == '\r'))
		parser->next++;
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
				problem(parser, JSON_BAD_ENCODING);
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
		return problem(parser, JSON_SYNTAX);
	parser->next += 4;
	if (code == 0)
		problem(parser, JSON_NUL);
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
			problem(parser, JSON_LONE_SURROGATE);
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
		return problem(parser, JSON_SYNTAX);
	c = *parser->next++;
	if (c == 'u')
		return unescape_unicode(parser, out);
	found = c != '\0' ? strchr(plain, c) : NULL;
	if (found == NULL)
		return problem(parser, JSON_SYNTAX);
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
		return problem(parser, JSON_NO_MEMORY);
	while (true)
	{
		memcpy(out, plain, parser->next - plain);
		out += parser->next - plain;
		if (parser->next >= parser->end || (unsigned char) *parser->next < 0x20)
			return problem(parser, JSON_SYNTAX);
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

/* A string, with `next` at its opening quote. */
static bool
parse_string(JsonParser *parser, const char **text, uint32_t *length)
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
	return problem(parser, JSON_SYNTAX);
}

static const char *
skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* The exponent with `p` at the e; *value is capped far above what is allowed.  NULL: no digits. */
static const char *
parse_exponent(const char *p, const char *end, long *value)
{
	bool negative;
	const char *digits;

	p++;
	negative = p < end && *p == '-';
	if (p < end && (*p == '-' || *p == '+'))
		p++;
	digits = p;
	*value = 0;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
		if (*value < 1000000)
			*value = *value * 10 + (*p - '0');
	if (negative)
		*value = -*value;
	return p > digits ? p : NULL;
}

static bool
parse_number(JsonParser *parser, JsonNode *node)
{
	const char *from = parser->next;
	const char *p = from;
	const char *end = parser->end;
	const char *whole;
	long exponent = 0;

	if (*p == '-')
		p++;
	whole = p;
	p = skip_digits(p, end);
	if (p == whole || (*whole == '0' && p > whole + 1))
		return problem(parser, JSON_SYNTAX);
	if (p < end && *p == '.')
	{
		const char *fraction = ++p;

		p = skip_digits(p, end);
		if (p == fraction)
			return problem(parser, JSON_SYNTAX);
	}
	if (p - whole > NUMBER_MAX_DIGITS)
		problem(parser, JSON_NUMBER_RANGE);
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p = parse_exponent(p, end, &exponent);
		if (p == NULL)
			return problem(parser, JSON_SYNTAX);
	}
	/* numeric's scale is limited too: digits behind the point plus a negative exponent */
	if (exponent > NUMBER_MAX_EXPONENT || (p - whole) - exponent > NUMBER_MAX_DIGITS)
		problem(parser, JSON_NUMBER_RANGE);
	node->kind = JSON_NUMBER;
	node->u.text = from;
	node->length = p - from;
	parser->next = p;
	return true;
}

static bool
parse_literal(JsonParser *parser, JsonNode *node, const char *word, JsonKind kind)
{
	size_t length = strlen(word);

	if ((size_t) (parser->end - parser->next) < length || memcmp(parser->next, word, length) != 0)
		return problem(parser, JSON_SYNTAX);
	parser->next += length;
	node->kind = kind;
	node->length = 0;
	return true;
}

/* Room for one more member or item on the stack, or NULL. */
static JsonMember *
push(JsonParser *parser)
{
	if (parser->stack_top == parser->stack_size)
	{
		size_t size = parser->stack_size == 0 ? 256 : parser->stack_size * 2;
		JsonMember *grown = realloc(parser->stack, size * sizeof(JsonMember));

		if (grown == NULL)
		{
			problem(parser, JSON_NO_MEMORY);
			return NULL;
		}
		parser->stack = grown;
		parser->stack_size = size;
	}
	return &parser->stack[parser->stack_top++];
}

int
sophia_json_compare_names(const char *a, uint32_t a_length, const char *b, uint32_t b_length)
{
	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return memcmp(a, b, a_length);
}

static int
compare_members(const void *a, const void *b)
{
	const JsonMember *x = a;
	const JsonMember *y = b;

	return sophia_json_compare_names(x->name, x->length, y->name, y->length);
}

/* Stable, since the last of equal names must win: merge sort halves, insertion sort short runs. */
static void
sort_members(JsonMember *members, size_t n, JsonMember *scratch)
{
	size_t half = n / 2;
	size_t left = 0;
	size_t right = half;

	if (n <= 12)
	{
		for (size_t i = 1; i < n; i++)
		{
			JsonMember moving = members[i];
			size_t j = i;

			for (; j > 0 && compare_members(&members[j - 1], &moving) > 0; j--)
				members[j] = members[j - 1];
			members[j] = moving;
		}
		return;
	}
	sort_members(members, half, scratch);
	sort_members(members + half, n - half, scratch);
	if (compare_members(&members[half - 1], &members[half]) <= 0)
		return;
	memcpy(scratch, members, half * sizeof(JsonMember));
	for (size_t out = 0; left < half; out++)
	{
		if (right < n && compare_members(&members[right], &scratch[left]) < 0)
			members[out] = members[right++];
		else
			members[out] = scratch[left++];
	}
}

/* The members from `from` on the stack become an object in the arena. */
static bool
close_object(JsonParser *parser, JsonNode *node, size_t from)
{
	size_t n = parser->stack_top - from;
	size_t distinct = 0;
	JsonMember *members = sophia_arena_alloc(parser->arena, n * sizeof(JsonMember));

	if (members == NULL)
		return problem(parser, JSON_NO_MEMORY);
	/* The stack's own part serves as scratch space once its content is copied. */
	if (n > 0)
		memcpy(members, parser->stack + from, n * sizeof(JsonMember));
	sort_members(members, n, parser->stack + from);
	for (size_t i = 0; i < n; i++)
	{
		if (i + 1 < n && compare_members(&members[i], &members[i + 1]) == 0)
			continue;
		members[distinct++] = members[i];
	}
	parser->stack_top = from;
	node->kind = JSON_OBJECT;
	node->length = distinct;
	node->u.members = members;
	return true;
}

static bool
close_array(JsonParser *parser, JsonNode *node, size_t from)
{
	size_t n = parser->stack_top - from;
	JsonNode *items = sophia_arena_alloc(parser->arena, n * sizeof(JsonNode));

	if (items == NULL)
		return problem(parser, JSON_NO_MEMORY);
	for (size_t i = 0; i < n; i++)
		items[i] = parser->stack[from + i].value;
	parser->stack_top = from;
	node->kind = JSON_ARRAY;
	node->length = n;
	node->u.items = items;
	return true;
}

/* Name, colon and value of one member. */
static bool
parse_member(JsonParser *parser)
{
	const char *name;
	uint32_t length;
	JsonNode value;
	JsonMember *member;
	bool in_meta = parser->in_meta;

	skip_space(parser);
	if (parser->next >= parser->end || *parser->next != '"')
		return problem(parser, JSON_SYNTAX);
	if (!parse_string(parser, &name, &length))
		return false;
	skip_space(parser);
	if (parser->next >= parser->end || *parser->next != ':')
		return problem(parser, JSON_SYNTAX);
	parser->next++;
	parser->in_meta = parser->depth == 1 && length == 5 && memcmp(name, "_meta", 5) == 0;
	if (!parse_value(parser, &value))
		return false;
	parser->in_meta = in_meta;
	if (in_meta && parser->depth == 2 && length == 4 && memcmp(name, "uuid", 4) == 0)
		parser->uuid = value;
	member = push(parser);
	if (member == NULL)
		return false;
	member->name = name;
	member->length = length;
	member->value = value;
	return true;
}

static bool
parse_item(JsonParser *parser)
{
	JsonNode value;
	JsonMember *member;

	if (!parse_value(parser, &value))
		return false;
	member = push(parser);
	if (member == NULL)
		return false;
	member->value = value;
	return true;
}

/* An object or an array, with `next` at its opening bracket. */
static bool
parse_container(JsonParser *parser, JsonNode *node, char close)
{
	size_t from = parser->stack_top;

	if (++parser->depth > JSON_MAX_DEPTH)
		return problem(parser, JSON_TOO_DEEP);
	parser->next++;
	skip_space(parser);
	if (parser->next < parser->end && *parser->next == close)
		parser->next++;
	else
	{
		while (true)
		{
			if (!(close == '}' ? parse_member(parser) : parse_item(parser)))
				return false;
			if (parser->skim)
				parser->stack_top = from;
			skip_space(parser);
			if (parser->next >= parser->end || (*parser->next != ',' && *parser->next != close))
				return problem(parser, JSON_SYNTAX);
			if (*parser->next++ == close)
				break;
		}
	}
	parser->depth--;
	return close == '}' ? close_object(parser, node, from) : close_array(parser, node, from);
}

static bool
parse_value(JsonParser *parser, JsonNode *node)
{
	skip_space(parser);
	if (parser->next >= parser->end)
		return problem(parser, JSON_SYNTAX);
	switch (*parser->next)
	{
		case '{':
			return parse_container(parser, node, '}');
		case '[':
			parser->in_meta = false;
			return parse_container(parser, node, ']');
		case '"':
			node->kind = JSON_STRING;
			return parse_string(parser, &node->u.text, &node->length);
		case 't':
			return parse_literal(parser, node, "true", JSON_TRUE);
		case 'f':
			return parse_literal(parser, node, "false", JSON_FALSE);
		case 'n':
			return parse_literal(parser, node, "null", JSON_NULL);
		default:
			return parse_number(parser, node);
	}
}

bool
sophia_json_parse(JsonParser *parser, Arena *arena, const char *text, size_t length)
{
	parser->problem = JSON_FINE;
	parser->problem_at = 0;
	parser->root.kind = JSON_NULL;
	parser->uuid.kind = JSON_NULL;
	parser->arena = arena;
	parser->start = parser->next = text;
	parser->end = text + length;
	parser->depth = 0;
	parser->in_meta = false;
	parser->stack_top = 0;
	if (parse_value(parser, &parser->root))
	{
		skip_space(parser);
		if (parser->next < parser->end)
			problem(parser, JSON_SYNTAX);
	}
	if (parser->stack_size > STACK_KEPT)
	{
		free(parser->stack);
		parser->stack = NULL;
		parser->stack_size = 0;
	}
	return parser->problem == JSON_FINE;
}

void
sophia_json_parser_free(JsonParser *parser)
{
	free(parser->stack);
	memset(parser, 0, sizeof(*parser));
}

const JsonNode *
sophia_json_member(const JsonNode *node, const char *name, uint32_t length)
{
	uint32_t low = 0;
	uint32_t high;

	if (node->kind != JSON_OBJECT)
		return NULL;
	high = node->length;
	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;
		const JsonMember *member = &node->u.members[middle];
		int order = sophia_json_compare_names(member->name, member->length, name, length);

		if (order == 0)
			return &member->value;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* One step of a pointer: ~1 stands for /, ~0 for ~ (RFC 6901). */
static char *
unescape_step(Arena *arena, const char *from, const char *to, uint32_t *length)
{
	char *name = sophia_arena_alloc(arena, to - from + 1);
	char *out = name;

	if (name == NULL)
		return NULL;
	for (const char *p = from; p < to; p++)
	{
		if (*p == '~' && p + 1 < to && (p[1] == '0' || p[1] == '1'))
			*out++ = *++p == '0' ? '~' : '/';
		else
			*out++ = *p;
	}
	*out = '\0';
	*length = out - name;
	return name;
}

bool
sophia_json_pointer(JsonPointer *pointer, Arena *arena, const char *text)
{
	pointer->steps = 0;
	while (*text != '\0')
	{
		const char *to;

		if (*text++ != '/' ||
			pointer->steps == (int) (sizeof(pointer->step) / sizeof(pointer->step[0])))
			return false;
		to = text + strcspn(text, "/");
		pointer->step[pointer->steps].name =
			unescape_step(arena, text, to, &pointer->step[pointer->steps].length);
		if (pointer->step[pointer->steps].name == NULL)
			return false;
		pointer->steps++;
		text = to;
	}
	return true;
}

const JsonNode *
sophia_json_find(const JsonNode *node, const JsonPointer *pointer)
{
	for (int i = 0; node != NULL && i < pointer->steps; i++)
		node = sophia_json_member(node, pointer->step[i].name, pointer->step[i].length);
	return node;
}

static bool
merge_objects(JsonNode *result, Arena *arena, const JsonNode *left, const JsonNode *right,
			  const char *whole)
{
	const JsonMember *l = left->u.members;
	const JsonMember *r = right->u.members;
	const JsonMember *l_end = l + left->length;
	const JsonMember *r_end = r + right->length;
	size_t whole_length = whole != NULL ? strlen(whole) : 0;
	JsonMember *members =
		sophia_arena_alloc(arena, ((size_t) left->length + right->length) * sizeof(JsonMember));
	JsonMember *out = members;

	if (members == NULL)
		return false;
	while (l < l_end || r < r_end)
	{
		int order = l == l_end ? 1 : r == r_end ? -1 : compare_members(l, r);

		if (order < 0)
			*out++ = *l++;
		else if (order > 0)
			*out++ = *r++;
		else
		{
			*out = *r;
			if (whole == NULL || r->length != whole_length ||
				memcmp(r->name, whole, whole_length) != 0)
				if (!sophia_json_merge(&out->value, arena, &l->value, &r->value, NULL))
					return false;
			out++;
			l++;
			r++;
		}
	}
	result->kind = JSON_OBJECT;
	result->length = out - members;
	result->u.members = members;
	return true;
}

bool
sophia_json_merge(JsonNode *result, Arena *arena, const JsonNode *left, const JsonNode *right,
				  const char *whole)
{
	if (left->kind == JSON_OBJECT && right->kind == JSON_OBJECT)
		return merge_objects(result, arena, left, right, whole);
	*result = *right;
	return true;
}

bool
sophia_json_replace_member(JsonNode *result, Arena *arena, const JsonNode *object, const char *name,
						   const JsonNode *from)
{
	uint32_t length = strlen(name);
	const JsonNode *value = sophia_json_member(from, name, length);
	JsonMember *member;
	JsonNode single = {.kind = JSON_OBJECT, .length = 1};

	if (value == NULL)
	{
		*result = *object;
		return true;
	}
	member = sophia_arena_alloc(arena, sizeof(JsonMember));
	if (member == NULL)
		return false;
	member->name = name;
	member->length = length;
	member->value = *value;
	single.u.members = member;
	return sophia_json_merge(result, arena, object, &single, name);
}
