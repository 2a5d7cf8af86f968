/*
 * Unit tests of base/json_parse.c and base/json.c: what is accepted, what is named as wrong, what merging makes of two documents.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json_parse.h"
#include "tap.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static JsonParser parser;
static Arena arena;
static char printed[1 << 16];
static size_t printed_length;

static void
put(const char *bytes, size_t n)
{
	if (printed_length + n < sizeof(printed))
	{
		memcpy(printed + printed_length, bytes, n);
		printed_length += n;
	}
}

/* Writes a tree in a form that tests can spell: members sorted as they are, strings without escapes. */
static void
print_node(const JsonNode *node)
{
	switch (node->kind)
	{
		case JSON_NULL:
			put("null", 4);
			break;
		case JSON_FALSE:
			put("false", 5);
			break;
		case JSON_TRUE:
			put("true", 4);
			break;
		case JSON_NUMBER:
			put(node->u.text, node->length);
			break;
		case JSON_DECIMAL:
			put("?", 1);
			break;
		case JSON_STRING:
			put("\"", 1);
			put(node->u.text, node->length);
			put("\"", 1);
			break;
		case JSON_ARRAY:
			put("[", 1);
			for (uint32_t i = 0; i < node->length; i++)
			{
				if (i > 0)
					put(",", 1);
				print_node(&node->u.items[i]);
			}
			put("]", 1);
			break;
		case JSON_OBJECT:
			put("{", 1);
			for (uint32_t i = 0; i < node->length; i++)
			{
				if (i > 0)
					put(",", 1);
				put(node->u.members[i].name, node->u.members[i].length);
				put(":", 1);
				print_node(&node->u.members[i].value);
			}
			put("}", 1);
			break;
	}
}

static const char *
text_of(const JsonNode *node)
{
	printed_length = 0;
	print_node(node);
	printed[printed_length] = '\0';
	return printed;
}

/* Parses a copy at the exact size, so that reading past the end is found out. */
static bool
parse(const char *text, size_t length)
{
	static char *copy;

	free(copy);
	copy = malloc(length > 0 ? length : 1);
	memcpy(copy, text, length);
	sophia_arena_reset(&arena);
	return sophia_json_parse(&parser, &arena, copy, length);
}

static const struct
{
	const char *text;
	const char *expected;
} accepted[] = {
	{"{}", "{}"},
	{" [ ] ", "[]"},
	{"null", "null"},
	{"{\"a\":1,\"b\":[true,false,null]}", "{a:1,b:[true,false,null]}"},
	{"{\"bb\":1,\"a\":2,\"ab\":3}", "{a:2,ab:3,bb:1}"},
	{"{\"a\":1,\"a\":2,\"b\":0,\"a\":3}", "{a:3,b:0}"},
	{"\"\\u00e4\\n\\\"\\\\\\/\\b\\f\\r\\t\"", "\"\xc3\xa4\n\"\\/\b\f\r\t\""},
	{"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
	{"\"\xf0\x9f\x98\x80 \xe2\x82\xac\"", "\"\xf0\x9f\x98\x80 \xe2\x82\xac\""},
	{"[-0,0.50,1e3,1E-2,12345678901234567890.123]", "[-0,0.50,1e3,1E-2,12345678901234567890.123]"},
	{"{\"\":{\"\":\"\"}}", "{:{:\"\"}}"},
};

static const struct
{
	const char *text;
	JsonProblem problem;
} refused[] = {
	{"", JSON_SYNTAX},
	{"{", JSON_SYNTAX},
	{"{\"a\"}", JSON_SYNTAX},
	{"{\"a\":}", JSON_SYNTAX},
	{"{\"a\":1,}", JSON_SYNTAX},
	{"{a:1}", JSON_SYNTAX},
	{"[1,]", JSON_SYNTAX},
	{"[1 2]", JSON_SYNTAX},
	{"{} {}", JSON_SYNTAX},
	{"01", JSON_SYNTAX},
	{"-", JSON_SYNTAX},
	{"1.", JSON_SYNTAX},
	{".5", JSON_SYNTAX},
	{"1e", JSON_SYNTAX},
	{"+1", JSON_SYNTAX},
	{"tru", JSON_SYNTAX},
	{"NaN", JSON_SYNTAX},
	{"\"abc", JSON_SYNTAX},
	{"\"a\nb\"", JSON_SYNTAX},
	{"\"\\x\"", JSON_SYNTAX},
	{"\"\\u12g4\"", JSON_SYNTAX},
	{"\"\\", JSON_SYNTAX},
	{"\"\\u0000\"", JSON_NUL},
	{"\"\\ud800\"", JSON_LONE_SURROGATE},
	{"\"\\udc00\"", JSON_LONE_SURROGATE},
	{"\"\\ud800\\u0041\"", JSON_LONE_SURROGATE},
	{"\"\xff\"", JSON_BAD_ENCODING},
	{"\"\xc0\xaf\"", JSON_BAD_ENCODING},
	{"\"\xed\xa0\x80\"", JSON_BAD_ENCODING},
	{"\"\xf4\x90\x80\x80\"", JSON_BAD_ENCODING},
	{"\"\xe2\x82\"", JSON_BAD_ENCODING},
	{"1e99999", JSON_NUMBER_RANGE},
	{"1e-99999", JSON_NUMBER_RANGE},
	{"[\"\\u0000\"", JSON_SYNTAX},
};

static const struct
{
	const char *text;
	const char *uuid; /* NULL: none */
} uuids[] = {
	{"{\"_meta\":{\"uuid\":\"x\"}}", "\"x\""},
	{"{\"id\":1,\"_meta\":{\"op\":\"c\",\"uuid\":\"y\"}}", "\"y\""},
	{"{\"_meta\":{\"uuid\":\"z\"},\"id\":", "\"z\""},
	{"{\"_meta\":{\"uuid\":\"z\"},\"id\":\"\\u0000\"}", "\"z\""},
	{"{\"_meta\":{\"uuid\":\"z\", broken", "\"z\""},
	{"{\"_meta\":{\"source\":{\"uuid\":\"no\"}}}", NULL},
	{"{\"x\":{\"uuid\":\"no\"},\"uuid\":\"no\"}", NULL},
	{"{\"x\":{\"_meta\":{\"uuid\":\"no\"}}}", NULL},
	{"[{\"_meta\":{\"uuid\":\"no\"}}]", NULL},
	{"{\"_meta\":[{\"uuid\":\"no\"}]}", NULL},
};

static const struct
{
	const char *left;
	const char *right;
	const char *whole;
	const char *expected;
} merges[] = {
	{"{\"a\":1}", "{\"b\":2}", NULL, "{a:1,b:2}"},
	{"{\"a\":1,\"b\":1}", "{\"b\":null}", NULL, "{a:1,b:null}"},
	{"{\"a\":{\"x\":1,\"y\":{\"z\":1}}}", "{\"a\":{\"y\":{\"w\":2}}}", NULL,
	 "{a:{x:1,y:{w:2,z:1}}}"},
	{"{\"a\":[1,2,3]}", "{\"a\":[4]}", NULL, "{a:[4]}"},
	{"{\"a\":{\"x\":1}}", "{\"a\":5}", NULL, "{a:5}"},
	{"{\"a\":5}", "{\"a\":{\"x\":1}}", NULL, "{a:{x:1}}"},
	{"{\"m\":{\"x\":1},\"n\":{\"x\":1}}", "{\"m\":{\"y\":2},\"n\":{\"y\":2}}", "m",
	 "{m:{y:2},n:{x:1,y:2}}"},
	{"{\"n\":{\"m\":{\"x\":1}}}", "{\"n\":{\"m\":{\"y\":2}}}", "m", "{n:{m:{x:1,y:2}}}"},
};

/* The same by a plan. */
static const struct
{
	const char *plan;
	const char *left;
	const char *right;
	const char *expected;
} planned[] = {
	{"{}", "{\"a\":{\"x\":1},\"b\":1}", "{\"a\":{\"y\":2}}", "{a:{y:2},b:1}"},
	{"{\"members\":{\"a\":{}}}", "{\"a\":{\"x\":{\"p\":1}},\"b\":{\"x\":1}}",
	 "{\"a\":{\"x\":{\"q\":2},\"y\":2},\"b\":{\"y\":2}}", "{a:{x:{q:2},y:2},b:{y:2}}"},
	{"{\"members\":{\"a\":{\"members\":{\"x\":{}}}}}", "{\"a\":{\"x\":{\"p\":1}}}",
	 "{\"a\":{\"x\":{\"q\":2}}}", "{a:{x:{p:1,q:2}}}"},
	{"{\"others\":{},\"members\":{\"b\":false}}", "{\"a\":{\"x\":1},\"b\":{\"x\":1}}",
	 "{\"a\":{\"y\":2},\"b\":{\"y\":2}}", "{a:{x:1,y:2},b:{y:2}}"},
	{"{\"members\":{\"a\":{}}}", "{\"a\":{\"x\":1}}", "{\"a\":null}", "{a:null}"},
};

static void
test_plans(void)
{
	for (size_t i = 0; i < COUNT(planned); i++)
	{
		JsonNode plan;
		JsonNode left;
		JsonNode result;

		sophia_arena_reset(&arena);
		sophia_json_parse(&parser, &arena, planned[i].plan, strlen(planned[i].plan));
		plan = parser.root;
		sophia_json_parse(&parser, &arena, planned[i].left, strlen(planned[i].left));
		left = parser.root;
		sophia_json_parse(&parser, &arena, planned[i].right, strlen(planned[i].right));
		ok(sophia_json_merge(&result, &arena, &left, &parser.root, NULL, &plan) &&
			   strcmp(text_of(&result), planned[i].expected) == 0,
		   "merges %s with %s by %s", planned[i].left, planned[i].right, planned[i].plan);
	}
}

static void
test_parsing(void)
{
	for (size_t i = 0; i < COUNT(accepted); i++)
	{
		bool fine = parse(accepted[i].text, strlen(accepted[i].text));

		ok(fine && strcmp(text_of(&parser.root), accepted[i].expected) == 0, "accepts %s",
		   accepted[i].text);
	}
	for (size_t i = 0; i < COUNT(refused); i++)
		ok(!parse(refused[i].text, strlen(refused[i].text)) && parser.problem == refused[i].problem,
		   "refuses text %zu for the right reason", i);
	for (size_t i = 0; i < COUNT(uuids); i++)
	{
		parse(uuids[i].text, strlen(uuids[i].text));
		ok(uuids[i].uuid == NULL ? parser.uuid.kind == JSON_NULL
								 : parser.uuid.kind == JSON_STRING &&
									   strcmp(text_of(&parser.uuid), uuids[i].uuid) == 0,
		   "uuid of text %zu", i);
	}
}

/* Skimming finds the same uuids and problems, and gives back what an earlier document took. */
static void
test_skimming(void)
{
	for (size_t i = 0; i < COUNT(uuids); i++)
	{
		JsonProblem problem;

		parse(uuids[i].text, strlen(uuids[i].text));
		problem = parser.problem;
		parser.skim = true;
		parse(uuids[i].text, strlen(uuids[i].text));
		parser.skim = false;
		ok(parser.problem == problem &&
			   (uuids[i].uuid == NULL ? parser.uuid.kind == JSON_NULL
									  : parser.uuid.kind == JSON_STRING &&
											strcmp(text_of(&parser.uuid), uuids[i].uuid) == 0),
		   "uuid of skimmed text %zu", i);
	}
}

static void
test_large_array(void)
{
	size_t length = 400001;
	char *text = malloc(length);

	for (size_t i = 0; i < length; i++)
		text[i] = i % 2 == 0 ? ',' : '1';
	text[0] = '[';
	text[length - 1] = ']';
	ok(parse(text, length) && parser.root.length > 190000, "an array of many items is parsed");
	ok(parser.stack_size <= 65536, "and the stack that it needed is given back");
	parser.skim = true;
	ok(parse(text, length) && parser.root.length == 0 && parser.stack_size <= 256,
	   "skimmed, it takes no memory");
	parser.skim = false;
	free(text);
}

static void
test_depth(void)
{
	size_t n = JSON_MAX_DEPTH;
	char *text = malloc(2 * n + 2);

	memset(text, '[', n);
	memset(text + n, ']', n);
	ok(parse(text, 2 * n), "the deepest document that is allowed");
	memset(text, '[', n + 1);
	memset(text + n + 1, ']', n + 1);
	ok(!parse(text, 2 * n + 2) && parser.problem == JSON_TOO_DEEP, "one level too deep");
	free(text);
}

/* Many members, given in an order that the sort has to undo; every name twice, the last one counts. */
static void
test_many_members(void)
{
	char *text = malloc(1 << 20);
	size_t length = 0;
	bool sorted = true;
	bool last = true;

	text[length++] = '{';
	for (int i = 0; i < 6000; i++)
		length +=
			snprintf(text + length, 32, "%s\"k%d\":%d", i > 0 ? "," : "", (i * 7919) % 3000, i);
	text[length++] = '}';
	ok(parse(text, length) && parser.root.length == 3000, "equal names count once");
	for (uint32_t i = 0; i < parser.root.length; i++)
	{
		const JsonMember *member = &parser.root.u.members[i];

		sorted &= i == 0 || sophia_json_compare_names(member[-1].name, member[-1].length,
													  member->name, member->length) < 0;
		last &= strtol(member->value.u.text, NULL, 10) >= 3000;
	}
	ok(sorted, "members are in order");
	ok(last, "the last of equal names wins");
	ok(sophia_json_member(&parser.root, "k1234", 5) != NULL, "a member is found");
	ok(sophia_json_member(&parser.root, "k3000", 5) == NULL, "an absent member is not found");
	free(text);
}

static void
test_pointers(void)
{
	JsonPointer pointer;
	const JsonNode *node;
	const char *text = "{\"a\":{\"b/c\":{\"~d\":7}},\"e\":[1]}";

	parse(text, strlen(text));
	ok(sophia_json_pointer(&pointer, &arena, "/a/b~1c/~0d") && pointer.steps == 3 &&
		   (node = sophia_json_find(&parser.root, &pointer)) != NULL &&
		   strcmp(text_of(node), "7") == 0,
	   "a pointer with escapes");
	ok(sophia_json_pointer(&pointer, &arena, "") &&
		   sophia_json_find(&parser.root, &pointer) == &parser.root,
	   "the empty pointer is the root");
	ok(sophia_json_pointer(&pointer, &arena, "/e/0") &&
		   sophia_json_find(&parser.root, &pointer) == NULL,
	   "array positions are not followed");
	ok(!sophia_json_pointer(&pointer, &arena, "a"), "a pointer starts with a slash");
	ok(!sophia_json_pointer(&pointer, &arena, "/1/2/3/4/5/6/7/8/9"),
	   "a pointer has at most eight steps");
}

static void
test_merging(void)
{
	for (size_t i = 0; i < COUNT(merges); i++)
	{
		JsonNode left;
		JsonNode result;

		sophia_arena_reset(&arena);
		sophia_json_parse(&parser, &arena, merges[i].left, strlen(merges[i].left));
		left = parser.root;
		sophia_json_parse(&parser, &arena, merges[i].right, strlen(merges[i].right));
		ok(sophia_json_merge(&result, &arena, &left, &parser.root, merges[i].whole, NULL) &&
			   strcmp(text_of(&result), merges[i].expected) == 0,
		   "merges %s with %s", merges[i].left, merges[i].right);
		ok(sophia_json_adds(&left, &parser.root, merges[i].whole) ==
			   (strcmp(text_of(&parser.root), merges[i].expected) != 0),
		   "and knows whether that adds anything");
	}
}

/* Bytes by chance, and documents cut and flipped: nothing may be read that is not there (the sanitizers tell). */
static void
test_noise(void)
{
	static const char pool[] = "{}[]\",:\\u0dtrefalsn1.-+eE \xc3\xa4\xf0\x9f\x98\x80\xff\x01";
	const char *sample =
		"{\"_meta\":{\"uuid\":\"a\"},\"x\":[1,2.5e3,\"\\ud83d\\ude00\",{\"y\":null}]}";
	char text[128];
	int fine = 0;

	srand(42);
	for (int i = 0; i < 200000; i++)
	{
		size_t length = rand() % 40;

		for (size_t j = 0; j < length; j++)
			text[j] = pool[rand() % (sizeof(pool) - 1)];
		fine += parse(text, length);
	}
	ok(fine > 0, "some noise is JSON (%d texts)", fine);
	for (size_t cut = 0; cut < strlen(sample); cut++)
		fine -= parse(sample, cut);
	for (int i = 0; i < 100000; i++)
	{
		size_t length = strlen(sample);

		memcpy(text, sample, length);
		text[rand() % length] = (char) rand();
		fine += parse(text, length);
	}
	ok(fine > 0, "a document with one changed byte is parsed or refused");
}

/* A parser that has parsed nothing yet has no memory of its own, and an empty container needs none. */
static void
test_fresh_parser(void)
{
	Arena memory = {0};

	for (int i = 0; i < 2; i++)
	{
		JsonParser fresh = {0};

		ok(sophia_json_parse(&fresh, &memory, i == 0 ? "{}" : "[]", 2) && fresh.root.length == 0,
		   "an empty %s, first of all", i == 0 ? "object" : "array");
		sophia_json_parser_free(&fresh);
	}
	sophia_arena_free(&memory);
}

int
main(void)
{
	test_fresh_parser();
	test_parsing();
	test_skimming();
	test_large_array();
	test_depth();
	test_many_members();
	test_pointers();
	test_merging();
	test_plans();
	test_noise();
	sophia_json_parser_free(&parser);
	sophia_arena_free(&arena);
	done_testing();
	return exit_status();
}
