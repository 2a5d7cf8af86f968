/*
 * json_schema.c
 *		Whether a JSON value is what a JSON schema asks for: see json_schema.h.
 *
 * A schema is walked beside the value; each keyword of a table looks at what it is about, and the first that is not obeyed
 * says so.
 */
#include "ai/json_schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Schemas within schemas, references included, after which a schema counts as endless. */
#define MAX_DEPTH 500

/* Most schemas that one value is looked at by, since references can make them multiply. */
#define MAX_STEPS 1000000

typedef struct Check
{
	const JsonNode *root; /* the whole schema, for references */
	SchemaMatcher matches;
	char path[200]; /* of the value, for people */
	size_t path_length;
	int depth;
	int steps;
	char *error;
	size_t error_size;
} Check;

typedef bool (*Keyword)(Check *check, const JsonNode *schema, const JsonNode *rule,
						const JsonNode *value);

static bool check_value(Check *check, const JsonNode *schema, const JsonNode *value);

/* ---- values ---- */

static bool
is_text(const JsonNode *node, const char *text)
{
	return node->kind == JSON_STRING && node->length == strlen(text) &&
		   memcmp(node->u.text, text, node->length) == 0;
}

static const JsonNode *
member(const JsonNode *node, const char *name)
{
	return sophia_json_member(node, name, strlen(name));
}

static double
number_of(const JsonNode *node)
{
	char digits[400];
	size_t length = node->length < sizeof(digits) - 1 ? node->length : sizeof(digits) - 1;

	memcpy(digits, node->u.text, length);
	digits[length] = '\0';
	return strtod(digits, NULL);
}

/* Characters of UTF-8. */
static size_t
characters(const JsonNode *text)
{
	size_t n = 0;

	for (uint32_t i = 0; i < text->length; i++)
		n += ((unsigned char) text->u.text[i] & 0xC0) != 0x80;
	return n;
}

static bool
equal(const JsonNode *a, const JsonNode *b)
{
	if (a->kind == JSON_NUMBER && b->kind == JSON_NUMBER)
		return number_of(a) == number_of(b);
	if (a->kind != b->kind)
		return false;
	if (a->kind < JSON_NUMBER)
		return true;
	if (a->length != b->length)
		return false;
	if (a->kind == JSON_STRING)
		return memcmp(a->u.text, b->u.text, a->length) == 0;
	for (uint32_t i = 0; i < a->length; i++)
	{
		if (a->kind == JSON_ARRAY ? !equal(&a->u.items[i], &b->u.items[i])
								  : a->u.members[i].length != b->u.members[i].length ||
										memcmp(a->u.members[i].name, b->u.members[i].name,
											   a->u.members[i].length) != 0 ||
										!equal(&a->u.members[i].value, &b->u.members[i].value))
			return false;
	}
	return true;
}

static bool
has_type(const JsonNode *value, const JsonNode *type)
{
	switch (value->kind)
	{
		case JSON_NULL:
			return is_text(type, "null");
		case JSON_FALSE:
		case JSON_TRUE:
			return is_text(type, "boolean");
		case JSON_STRING:
			return is_text(type, "string");
		case JSON_ARRAY:
			return is_text(type, "array");
		case JSON_OBJECT:
			return is_text(type, "object");
		case JSON_NUMBER:
		case JSON_DECIMAL:
			break;
	}
	return is_text(type, "number") ||
		   (is_text(type, "integer") && floor(number_of(value)) == number_of(value));
}

/* ---- what is wrong ---- */

static bool fail(Check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(Check *check, const char *format, ...)
{
	int n = snprintf(check->error, check->error_size, "%s ",
					 check->path_length == 0 ? "the value" : check->path);
	va_list arguments;

	if (n < 0 || (size_t) n >= check->error_size)
		return false;
	va_start(arguments, format);
	vsnprintf(check->error + n, check->error_size - n, format, arguments);
	va_end(arguments);
	return false;
}

/* Checks a part of a value by a schema. */
static bool
check_part(Check *check, const JsonNode *schema, const JsonNode *value, const char *name,
		   size_t length)
{
	size_t before = check->path_length;
	bool well;

	if (before + length + 2 < sizeof(check->path))
	{
		check->path[before] = '/';
		memcpy(check->path + before + 1, name, length);
		check->path_length = before + 1 + length;
		check->path[check->path_length] = '\0';
	}
	well = check_value(check, schema, value);
	check->path_length = before;
	check->path[before] = '\0';
	return well;
}

static bool
check_item(Check *check, const JsonNode *schema, const JsonNode *array, uint32_t i)
{
	char position[16];
	int length = snprintf(position, sizeof(position), "%u", i);

	return check_part(check, schema, &array->u.items[i], position, length);
}

/* ---- keywords ---- */

static bool
check_type(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	if (rule->kind == JSON_STRING)
		return has_type(value, rule) ||
			   fail(check, "is not of type %.*s", (int) rule->length, rule->u.text);
	for (uint32_t i = 0; i < rule->length; i++)
	{
		if (has_type(value, &rule->u.items[i]))
			return true;
	}
	return fail(check, "is of none of the types");
}

static bool
check_enum(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	for (uint32_t i = 0; i < rule->length; i++)
	{
		if (equal(value, &rule->u.items[i]))
			return true;
	}
	return fail(check, "is none of the values of enum");
}

static bool
check_const(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return equal(value, rule) || fail(check, "is not the value of const");
}

static bool
check_least(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_NUMBER || number_of(value) >= number_of(rule) ||
		   fail(check, "is less than %g", number_of(rule));
}

static bool
check_most(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_NUMBER || number_of(value) <= number_of(rule) ||
		   fail(check, "is more than %g", number_of(rule));
}

static bool
check_above(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_NUMBER || number_of(value) > number_of(rule) ||
		   fail(check, "is not more than %g", number_of(rule));
}

static bool
check_below(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_NUMBER || number_of(value) < number_of(rule) ||
		   fail(check, "is not less than %g", number_of(rule));
}

static bool
check_multiple(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	double times;

	if (value->kind != JSON_NUMBER)
		return true;
	times = number_of(value) / number_of(rule);
	return fabs(times - round(times)) <= 1e-9 * fmax(1, fabs(times)) ||
		   fail(check, "is no multiple of %g", number_of(rule));
}

static bool
check_min_length(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_STRING || (double) characters(value) >= number_of(rule) ||
		   fail(check, "has less than %g characters", number_of(rule));
}

static bool
check_max_length(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_STRING || (double) characters(value) <= number_of(rule) ||
		   fail(check, "has more than %g characters", number_of(rule));
}

static bool
check_pattern(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_STRING || check->matches == NULL || check->matches(rule, value) ||
		   fail(check, "does not match its pattern");
}

static bool
check_items(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	const JsonNode *first = member(schema, "prefixItems");

	if (value->kind != JSON_ARRAY)
		return true;
	for (uint32_t i = first != NULL ? first->length : 0; i < value->length; i++)
	{
		if (!check_item(check, rule, value, i))
			return false;
	}
	return true;
}

static bool
check_prefix_items(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	if (value->kind != JSON_ARRAY)
		return true;
	for (uint32_t i = 0; i < rule->length && i < value->length; i++)
	{
		if (!check_item(check, &rule->u.items[i], value, i))
			return false;
	}
	return true;
}

static bool
check_min_items(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_ARRAY || value->length >= number_of(rule) ||
		   fail(check, "has less than %g items", number_of(rule));
}

static bool
check_max_items(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return value->kind != JSON_ARRAY || value->length <= number_of(rule) ||
		   fail(check, "has more than %g items", number_of(rule));
}

static bool
check_unique(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	if (value->kind != JSON_ARRAY || rule->kind != JSON_TRUE)
		return true;
	for (uint32_t i = 1; i < value->length; i++)
	{
		for (uint32_t j = 0; j < i; j++)
		{
			if (equal(&value->u.items[i], &value->u.items[j]))
				return fail(check, "has an item twice");
		}
	}
	return true;
}

static bool
check_properties(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	for (uint32_t i = 0; i < rule->length; i++)
	{
		const JsonMember *property = &rule->u.members[i];
		const JsonNode *part = sophia_json_member(value, property->name, property->length);

		if (part != NULL &&
			!check_part(check, &property->value, part, property->name, property->length))
			return false;
	}
	return true;
}

static bool
check_additional(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	const JsonNode *properties = member(schema, "properties");

	if (value->kind != JSON_OBJECT)
		return true;
	for (uint32_t i = 0; i < value->length; i++)
	{
		const JsonMember *part = &value->u.members[i];

		if (properties != NULL && sophia_json_member(properties, part->name, part->length) != NULL)
			continue;
		if (rule->kind == JSON_FALSE)
			return fail(check, "has a member \"%.*s\" too many", (int) part->length, part->name);
		if (!check_part(check, rule, &part->value, part->name, part->length))
			return false;
	}
	return true;
}

static bool
check_required(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	if (value->kind != JSON_OBJECT)
		return true;
	for (uint32_t i = 0; i < rule->length; i++)
	{
		const JsonNode *name = &rule->u.items[i];

		if (sophia_json_member(value, name->u.text, name->length) == NULL)
			return fail(check, "lacks \"%.*s\"", (int) name->length, name->u.text);
	}
	return true;
}

static bool
check_min_properties(Check *check, const JsonNode *schema, const JsonNode *rule,
					 const JsonNode *value)
{
	return value->kind != JSON_OBJECT || value->length >= number_of(rule) ||
		   fail(check, "has less than %g members", number_of(rule));
}

static bool
check_max_properties(Check *check, const JsonNode *schema, const JsonNode *rule,
					 const JsonNode *value)
{
	return value->kind != JSON_OBJECT || value->length <= number_of(rule) ||
		   fail(check, "has more than %g members", number_of(rule));
}

static bool
check_all_of(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	for (uint32_t i = 0; i < rule->length; i++)
	{
		if (!check_value(check, &rule->u.items[i], value))
			return false;
	}
	return true;
}

static uint32_t
count_accepting(Check *check, const JsonNode *rule, const JsonNode *value)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rule->length; i++)
		n += check_value(check, &rule->u.items[i], value);
	return n;
}

static bool
check_any_of(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return count_accepting(check, rule, value) > 0 || fail(check, "fits nothing of anyOf");
}

static bool
check_one_of(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return count_accepting(check, rule, value) == 1 || fail(check, "fits not just one of oneOf");
}

static bool
check_not(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	return !check_value(check, rule, value) || fail(check, "is what not forbids");
}

/* The schema that a reference within this one names, or NULL. */
static const JsonNode *
follow(const JsonNode *root, const JsonNode *reference, Arena *arena)
{
	JsonPointer pointer;
	char text[200];

	if (reference->kind != JSON_STRING || reference->length < 1 ||
		reference->length > sizeof(text) || reference->u.text[0] != '#')
		return NULL;
	memcpy(text, reference->u.text + 1, reference->length - 1);
	text[reference->length - 1] = '\0';
	return sophia_json_pointer(&pointer, arena, text) ? sophia_json_find(root, &pointer) : NULL;
}

static bool
check_reference(Check *check, const JsonNode *schema, const JsonNode *rule, const JsonNode *value)
{
	Arena arena = {0};
	const JsonNode *named = follow(check->root, rule, &arena);

	sophia_arena_free(&arena);
	return named != NULL ? check_value(check, named, value) : fail(check, "has a broken $ref");
}

/* What the value of a keyword must be, in a schema. */
typedef enum RuleForm
{
	RULE_ANY,
	RULE_NUMBER,
	RULE_COUNT,
	RULE_BOOLEAN,
	RULE_STRING,
	RULE_TYPES,
	RULE_VALUES, /* an array */
	RULE_NAMES,	 /* an array of strings */
	RULE_REFERENCE,
	RULE_SCHEMA,
	RULE_SCHEMAS,		/* an array of them */
	RULE_NAMED_SCHEMAS, /* an object of them */
} RuleForm;

static const struct
{
	const char *name;
	RuleForm form;
	Keyword check; /* NULL: it asks for nothing */
} keywords[] = {
	{"type", RULE_TYPES, check_type},
	{"enum", RULE_VALUES, check_enum},
	{"const", RULE_ANY, check_const},
	{"minimum", RULE_NUMBER, check_least},
	{"maximum", RULE_NUMBER, check_most},
	{"exclusiveMinimum", RULE_NUMBER, check_above},
	{"exclusiveMaximum", RULE_NUMBER, check_below},
	{"multipleOf", RULE_NUMBER, check_multiple},
	{"minLength", RULE_COUNT, check_min_length},
	{"maxLength", RULE_COUNT, check_max_length},
	{"pattern", RULE_STRING, check_pattern},
	{"prefixItems", RULE_SCHEMAS, check_prefix_items},
	{"items", RULE_SCHEMA, check_items},
	{"minItems", RULE_COUNT, check_min_items},
	{"maxItems", RULE_COUNT, check_max_items},
	{"uniqueItems", RULE_BOOLEAN, check_unique},
	{"properties", RULE_NAMED_SCHEMAS, check_properties},
	{"additionalProperties", RULE_SCHEMA, check_additional},
	{"required", RULE_NAMES, check_required},
	{"minProperties", RULE_COUNT, check_min_properties},
	{"maxProperties", RULE_COUNT, check_max_properties},
	{"allOf", RULE_SCHEMAS, check_all_of},
	{"anyOf", RULE_SCHEMAS, check_any_of},
	{"oneOf", RULE_SCHEMAS, check_one_of},
	{"not", RULE_SCHEMA, check_not},
	{"$ref", RULE_REFERENCE, check_reference},
	{"$defs", RULE_NAMED_SCHEMAS, NULL},
	{"definitions", RULE_NAMED_SCHEMAS, NULL},
	{"title", RULE_ANY, NULL},
	{"description", RULE_ANY, NULL},
	{"default", RULE_ANY, NULL},
	{"examples", RULE_ANY, NULL},
	{"format", RULE_ANY, NULL},
	{"deprecated", RULE_ANY, NULL},
	{"readOnly", RULE_ANY, NULL},
	{"writeOnly", RULE_ANY, NULL},
	{"$schema", RULE_ANY, NULL},
	{"$id", RULE_ANY, NULL},
	{"$comment", RULE_ANY, NULL},
};

#define N_KEYWORDS (sizeof(keywords) / sizeof(keywords[0]))

static bool
check_keywords(Check *check, const JsonNode *schema, const JsonNode *value)
{
	for (size_t i = 0; i < N_KEYWORDS; i++)
	{
		const JsonNode *rule = keywords[i].check != NULL ? member(schema, keywords[i].name) : NULL;

		if (rule != NULL && !keywords[i].check(check, schema, rule, value))
			return false;
	}
	return true;
}

static bool
check_value(Check *check, const JsonNode *schema, const JsonNode *value)
{
	bool well;

	if (schema->kind == JSON_TRUE)
		return true;
	if (schema->kind == JSON_FALSE)
		return fail(check, "must not be there");
	if (check->depth == MAX_DEPTH || check->steps == MAX_STEPS)
		return fail(check, "is nested too deeply");
	check->steps++;
	check->depth++;
	well = check_keywords(check, schema, value);
	check->depth--;
	return well;
}

bool
sophia_json_schema_accepts(const JsonNode *schema, const JsonNode *value, SchemaMatcher matches,
						   char *error, size_t error_size)
{
	Check check = {.root = schema, .matches = matches, .error = error, .error_size = error_size};

	return check_value(&check, schema, value);
}

/* ---- schemas ---- */

typedef struct Review
{
	const JsonNode *root;
	SchemaMatcher matches;
	int depth;
	char *error;
	size_t error_size;
} Review;

static bool review_schema(Review *review, const JsonNode *schema);

static bool
review_schemas(Review *review, const JsonNode *rule)
{
	for (uint32_t i = 0; i < rule->length; i++)
	{
		if (!review_schema(review, rule->kind == JSON_ARRAY ? &rule->u.items[i]
															: &rule->u.members[i].value))
			return false;
	}
	return true;
}

static bool
all_strings(const JsonNode *rule)
{
	for (uint32_t i = 0; i < rule->length; i++)
	{
		if (rule->u.items[i].kind != JSON_STRING)
			return false;
	}
	return true;
}

/* Whether the value of a keyword has its form; schemas within it are looked at by themselves. */
static bool
fits_form(const Review *review, RuleForm form, const JsonNode *rule)
{
	Arena arena = {0};
	bool found;

	switch (form)
	{
		case RULE_ANY:
			return true;
		case RULE_NUMBER:
			return rule->kind == JSON_NUMBER;
		case RULE_COUNT:
			return rule->kind == JSON_NUMBER && number_of(rule) >= 0;
		case RULE_BOOLEAN:
			return rule->kind == JSON_TRUE || rule->kind == JSON_FALSE;
		case RULE_STRING:
			return rule->kind == JSON_STRING;
		case RULE_TYPES:
			return rule->kind == JSON_STRING || (rule->kind == JSON_ARRAY && all_strings(rule));
		case RULE_VALUES:
		case RULE_SCHEMAS:
			return rule->kind == JSON_ARRAY;
		case RULE_NAMES:
			return rule->kind == JSON_ARRAY && all_strings(rule);
		case RULE_NAMED_SCHEMAS:
			return rule->kind == JSON_OBJECT;
		case RULE_SCHEMA:
			return true;
		case RULE_REFERENCE:
			break;
	}
	found = follow(review->root, rule, &arena) != NULL;
	sophia_arena_free(&arena);
	return found;
}

static bool
review_keyword(Review *review, const JsonMember *keyword)
{
	size_t i = 0;

	while (i < N_KEYWORDS && (strlen(keywords[i].name) != keyword->length ||
							  memcmp(keywords[i].name, keyword->name, keyword->length) != 0))
		i++;
	if (i == N_KEYWORDS)
	{
		snprintf(review->error, review->error_size,
				 "the keyword \"%.*s\" of JSON schemas is not supported", (int) keyword->length,
				 keyword->name);
		return false;
	}
	if (!fits_form(review, keywords[i].form, &keyword->value))
	{
		snprintf(review->error, review->error_size, "invalid value of keyword \"%s\"",
				 keywords[i].name);
		return false;
	}
	if (keywords[i].check == check_pattern && review->matches != NULL)
		(void) review->matches(&keyword->value, &keyword->value);
	if (keywords[i].form == RULE_SCHEMA)
		return review_schema(review, &keyword->value);
	if (keywords[i].form == RULE_SCHEMAS || keywords[i].form == RULE_NAMED_SCHEMAS)
		return review_schemas(review, &keyword->value);
	return true;
}

static bool
review_schema(Review *review, const JsonNode *schema)
{
	if (schema->kind == JSON_TRUE || schema->kind == JSON_FALSE)
		return true;
	if (schema->kind != JSON_OBJECT || review->depth == MAX_DEPTH)
	{
		snprintf(review->error, review->error_size,
				 schema->kind != JSON_OBJECT ? "a schema must be a JSON object or a boolean"
											 : "schemas are nested too deeply");
		return false;
	}
	review->depth++;
	for (uint32_t i = 0; i < schema->length; i++)
	{
		if (!review_keyword(review, &schema->u.members[i]))
			return false;
	}
	review->depth--;
	return true;
}

bool
sophia_json_schema_usable(const JsonNode *schema, SchemaMatcher matches, char *error,
						  size_t error_size)
{
	Review review = {.root = schema, .matches = matches, .error = error, .error_size = error_size};

	return review_schema(&review, schema);
}
