/*
 * json_parse.c
 *		From a JSON text (RFC 8259) to a tree: see json_parse.h.  Pure: no server call.
 *
 * Members and items of the containers that are open wait on one stack; when a container closes, its part of the
 * stack is copied to the arena at its exact size, so a parse costs two allocations a container at most.
 */
#include "base/json_parse.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"

/* Members and items that the stack keeps room for from one document to the next. */
#define STACK_KEPT 65536

/* numeric holds 131072 digits before the point and 16383 behind it; a margin keeps the check simple. */
#define NUMBER_MAX_DIGITS	16000
#define NUMBER_MAX_EXPONENT 16000

static bool parse_value(JsonParser *parser, JsonNode *node);

static void
skip_space(JsonParser *parser)
{
	while (parser->next < parser->end && (*parser->next == ' ' || *parser->next == '\t' ||
										  *parser->next == '\n' || *parser->next == '\r'))
		parser->next++;
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
		return sophia_json_problem(parser, JSON_SYNTAX);
	if (p < end && *p == '.')
	{
		const char *fraction = ++p;

		p = skip_digits(p, end);
		if (p == fraction)
			return sophia_json_problem(parser, JSON_SYNTAX);
	}
	if (p - whole > NUMBER_MAX_DIGITS)
		sophia_json_problem(parser, JSON_NUMBER_RANGE);
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p = parse_exponent(p, end, &exponent);
		if (p == NULL)
			return sophia_json_problem(parser, JSON_SYNTAX);
	}
	/* numeric's scale is limited too: digits behind the point plus a negative exponent */
	if (exponent > NUMBER_MAX_EXPONENT || (p - whole) - exponent > NUMBER_MAX_DIGITS)
		sophia_json_problem(parser, JSON_NUMBER_RANGE);
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
		return sophia_json_problem(parser, JSON_SYNTAX);
	parser->next += length;
	node->kind = kind;
	node->length = 0;
	return true;
}

/* Room for one more member or item on the stack, or NULL. */
static JsonMember *
push(JsonParser *parser)
{
	if (++parser->values > JSON_MAX_VALUES && !parser->skims)
	{
		sophia_json_problem(parser, JSON_TOO_MANY);
		parser->skims = true;
	}
	if (parser->stack_top == parser->stack_size)
	{
		size_t size = parser->stack_size == 0 ? 256 : parser->stack_size * 2;
		JsonMember *grown = realloc(parser->stack, size * sizeof(JsonMember));

		if (grown == NULL)
		{
			sophia_json_problem(parser, JSON_NO_MEMORY);
			return NULL;
		}
		parser->stack = grown;
		parser->stack_size = size;
	}
	return &parser->stack[parser->stack_top++];
}

/* The members from `from` on the stack become an object in the arena. */
static bool
close_object(JsonParser *parser, JsonNode *node, size_t from)
{
	size_t n = parser->stack_top - from;
	size_t distinct = 0;
	JsonMember *members = sophia_arena_alloc(parser->arena, n * sizeof(JsonMember));

	if (members == NULL)
		return sophia_json_problem(parser, JSON_NO_MEMORY);
	/* The stack's own part serves as scratch space once its content is copied; there may be no stack yet. */
	if (n > 0)
	{
		memcpy(members, parser->stack + from, n * sizeof(JsonMember));
		sophia_json_sort_members(members, n, parser->stack + from);
	}
	for (size_t i = 0; i < n; i++)
	{
		if (i + 1 < n && sophia_json_compare_names(members[i].name, members[i].length,
												   members[i + 1].name, members[i + 1].length) == 0)
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
		return sophia_json_problem(parser, JSON_NO_MEMORY);
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
		return sophia_json_problem(parser, JSON_SYNTAX);
	if (!sophia_json_parse_string(parser, &name, &length))
		return false;
	skip_space(parser);
	if (parser->next >= parser->end || *parser->next != ':')
		return sophia_json_problem(parser, JSON_SYNTAX);
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
		return sophia_json_problem(parser, JSON_TOO_DEEP);
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
			if (parser->skims)
				parser->stack_top = from;
			skip_space(parser);
			if (parser->next >= parser->end || (*parser->next != ',' && *parser->next != close))
				return sophia_json_problem(parser, JSON_SYNTAX);
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
		return sophia_json_problem(parser, JSON_SYNTAX);
	switch (*parser->next)
	{
		case '{':
			return parse_container(parser, node, '}');
		case '[':
			parser->in_meta = false;
			return parse_container(parser, node, ']');
		case '"':
			node->kind = JSON_STRING;
			return sophia_json_parse_string(parser, &node->u.text, &node->length);
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
	parser->skims = parser->skim;
	parser->values = 0;
	parser->stack_top = 0;
	if (parse_value(parser, &parser->root))
	{
		skip_space(parser);
		if (parser->next < parser->end)
			sophia_json_problem(parser, JSON_SYNTAX);
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
