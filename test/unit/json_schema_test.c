/*
 * json_schema_test.c
 *		Unit tests of ai/json_schema.c: which values a JSON schema accepts.
 */
#include "ai/json_schema.h"

#include <string.h>

#include "base/json_parse.h"
#include "tap.h"

static char error[256];

static JsonNode
parse(Arena *arena, const char *text)
{
	JsonParser parser = {0};
	JsonNode root;

	if (!sophia_json_parse(&parser, arena, text, strlen(text)))
		printf("# no JSON: %s\n", text);
	root = parser.root;
	sophia_json_parser_free(&parser);
	return root;
}

/* SchemaMatcher: the pattern is a prefix. */
static bool
begins(const JsonNode *pattern, const JsonNode *text)
{
	return text->length >= pattern->length &&
		   memcmp(text->u.text, pattern->u.text, pattern->length) == 0;
}

static bool
accepts(const char *schema, const char *value)
{
	Arena arena = {0};
	JsonNode wanted = parse(&arena, schema);
	JsonNode got = parse(&arena, value);
	bool well;

	error[0] = '\0';
	well = sophia_json_schema_usable(&wanted, begins, error, sizeof(error)) &&
		   sophia_json_schema_accepts(&wanted, &got, begins, error, sizeof(error));
	sophia_arena_free(&arena);
	return well;
}

static void
test_values(void)
{
	static const struct
	{
		const char *schema;
		const char *good;
		const char *bad;
	} cases[] = {
		{"{\"type\":\"string\"}", "\"a\"", "1"},
		{"{\"type\":\"integer\"}", "2.0", "2.5"},
		{"{\"type\":\"number\"}", "-2.5e3", "\"2\""},
		{"{\"type\":\"boolean\"}", "false", "0"},
		{"{\"type\":\"null\"}", "null", "false"},
		{"{\"type\":[\"string\",\"null\"]}", "null", "[]"},
		{"{\"enum\":[1,\"a\",{\"b\":[null]}]}", "{\"b\":[null]}", "{\"b\":[]}"},
		{"{\"enum\":[0.5]}", "5e-1", "0.51"},
		{"{\"const\":{\"a\":1,\"b\":2}}", "{\"b\":2,\"a\":1}", "{\"a\":1,\"c\":2}"},
		{"{\"minimum\":-1,\"maximum\":1}", "1", "1.01"},
		{"{\"exclusiveMinimum\":0,\"exclusiveMaximum\":2}", "1", "2"},
		{"{\"multipleOf\":0.01}", "19.99", "0.005"},
		{"{\"minLength\":2,\"maxLength\":3}", "\"\xC3\xA9\xC3\xA9\xC3\xA9\"", "\"\xC3\xA9\""},
		{"{\"pattern\":\"ab\"}", "\"abc\"", "\"ba\""},
		{"{\"items\":{\"type\":\"number\"},\"minItems\":1,\"maxItems\":2}", "[1,2]", "[1,\"2\"]"},
		{"{\"items\":{\"type\":\"number\"},\"minItems\":1,\"maxItems\":2}", "[1]", "[]"},
		{"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":false}", "[\"a\"]", "[\"a\",1]"},
		{"{\"uniqueItems\":true}", "[1,\"1\"]", "[1,1.0]"},
		{"{\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}",
		 "{\"a\":\"x\",\"b\":1}", "{\"b\":1}"},
		{"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"a\":1}", "{\"b\":1}"},
		{"{\"additionalProperties\":{\"type\":\"number\"}}", "{\"a\":1}", "{\"a\":\"1\"}"},
		{"{\"minProperties\":1,\"maxProperties\":1}", "{\"a\":1}", "{}"},
		{"{\"allOf\":[{\"minimum\":1},{\"maximum\":2}]}", "1", "3"},
		{"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "null", "1"},
		{"{\"oneOf\":[{\"minimum\":1},{\"minimum\":2}]}", "1", "2"},
		{"{\"not\":{\"type\":\"null\"}}", "1", "null"},
		{"{\"$defs\":{\"n\":{\"type\":\"number\"}},\"items\":{\"$ref\":\"#/$defs/n\"}}", "[1]",
		 "[null]"},
		{"{\"properties\":{\"next\":{\"$ref\":\"#\"}},\"required\":[\"v\"]}",
		 "{\"v\":1,\"next\":{\"v\":2}}", "{\"v\":1,\"next\":{}}"},
		{"{\"title\":\"t\",\"description\":\"d\",\"format\":\"date\",\"type\":\"string\"}", "\"a\"",
		 "1"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		ok(accepts(cases[i].schema, cases[i].good), "%s accepts %s", cases[i].schema, cases[i].good);
		ok(!accepts(cases[i].schema, cases[i].bad) && error[0] != '\0', "%s: %s, %s",
		   cases[i].schema, cases[i].bad, error);
	}
	ok(accepts("true", "1") && !accepts("false", "1"), "a schema may be a boolean");
	ok(accepts("{\"maximum\":1,\"maxLength\":1,\"required\":[\"a\"],\"items\":false}", "true"),
	   "what is about other types does not matter");
}

static void
test_messages(void)
{
	ok(!accepts("{\"properties\":{\"a\":{\"items\":{\"type\":\"string\"}}}}", "{\"a\":[\"x\",2]}") &&
		   strcmp(error, "/a/1 is not of type string") == 0,
	   "an error says where: %s", error);
	ok(!accepts("{\"if\":true}", "1") &&
		   strcmp(error, "the keyword \"if\" of JSON schemas is not supported") == 0,
	   "what is not known is told");
	ok(!accepts("{\"items\":{\"required\":\"a\"}}", "1") &&
		   strcmp(error, "invalid value of keyword \"required\"") == 0,
	   "and what is malformed");
	ok(!accepts("{\"$ref\":\"http://elsewhere/\"}", "1") &&
		   strcmp(error, "invalid value of keyword \"$ref\"") == 0,
	   "nothing is fetched");
	ok(!accepts("[]", "1") && strcmp(error, "a schema must be a JSON object or a boolean") == 0,
	   "an array is no schema");
	ok(!accepts("{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}", "1"),
	   "an endless schema accepts nothing");
}

int
main(void)
{
	test_values();
	test_messages();
	done_testing();
	return exit_status();
}
