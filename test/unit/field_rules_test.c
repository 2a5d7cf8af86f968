/*
 * Unit tests of flow/field_rules.c: names and types of the columns of new fields.
 */
#include <string.h>

#include "flow/field_rules.h"
#include "tap.h"

static Arena arena;

static bool
named(const char *text, int attempt, const char *expected)
{
	JsonPointer pointer;
	char name[FIELD_NAME];

	if (!sophia_json_pointer(&pointer, &arena, text))
		return false;
	sophia_field_name(name, &pointer, attempt);
	if (strcmp(name, expected) != 0)
		printf("# %s, try %d: \"%s\"\n", text, attempt, name);
	return strcmp(name, expected) == 0;
}

static void
test_names(void)
{
	const char *sixty = "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij";
	char pointer[256];
	char expected[256];

	ok(named("/colour", 0, "colour"), "the last step names the column");
	ok(named("/properties/colour", 0, "colour"), "whatever stands before it");
	ok(named("/properties/colour", 1, "properties_colour"), "a second try names all steps");
	ok(named("/properties/colour", 2, "properties_colour_2"), "a third one is numbered");
	ok(named("/colour", 1, "colour") && named("/colour", 3, "colour_3"), "also of one step");
	ok(named("/jobTitle", 0, "jobtitle"), "upper case becomes lower case");
	ok(named("/Favourite Colour!", 0, "favourite_colour"),
	   "what is no letter becomes \"_\" between letters");
	ok(named("/a - b", 0, "a_b"), "a run of them becomes one");
	ok(named("/a__b_", 0, "a__b_"), "one that is there stays");
	ok(named("/a~1b", 0, "a_b"), "a slash in a name is one of them");
	ok(named("/2nd", 0, "_2nd"), "no name begins with a digit");
	ok(named("/p/2nd", 1, "p_2nd"), "within a name they may");
	ok(named("/%%", 0, "field"), "nothing is left: a name for it");
	ok(named("/gr\xc3\xb6\xc3\x9f"
			 "e",
			 0,
			 "gr\xc3\xb6\xc3\x9f"
			 "e"),
	   "other letters stay");

	snprintf(pointer, sizeof(pointer), "/%sxyz", sixty);
	snprintf(expected, sizeof(expected), "%sxyz", sixty);
	ok(named(pointer, 0, expected), "63 bytes stay");
	snprintf(pointer, sizeof(pointer), "/%sxyzz", sixty);
	ok(named(pointer, 0, expected), "more are cut");
	snprintf(expected, sizeof(expected), "%sx_2", sixty);
	ok(named(pointer, 2, expected), "and make room for a number");
	snprintf(pointer, sizeof(pointer), "/%sxy\xc3\xb6", sixty);
	snprintf(expected, sizeof(expected), "%sxy", sixty);
	ok(named(pointer, 0, expected), "no character is cut in two");
	snprintf(pointer, sizeof(pointer), "/%sx\xc3\xb6", sixty);
	snprintf(expected, sizeof(expected), "%sx\xc3\xb6", sixty);
	ok(named(pointer, 0, expected), "one that fits stays whole");
	snprintf(expected, sizeof(expected), "%sx_2", sixty);
	ok(named(pointer, 2, expected), "one that a number has no room for goes whole");
}

static void
test_reserved(void)
{
	ok(sophia_field_name_reserved("ctid") && sophia_field_name_reserved("xmin"),
	   "system columns are reserved");
	ok(sophia_field_name_reserved("flow_published_at"), "and what marks a table of Estuary");
	ok(!sophia_field_name_reserved("order") && !sophia_field_name_reserved("colour"),
	   "words of SQL are not");
}

static bool
wider(const char *from, const char *to)
{
	const char *next = sophia_field_wider(from);

	return to == NULL ? next == NULL : next != NULL && strcmp(next, to) == 0;
}

static void
test_types(void)
{
	ok(wider("smallint", "integer") && wider("integer", "bigint") && wider("bigint", "numeric"),
	   "integers grow to numeric");
	ok(wider("real", "double precision") && wider("double precision", "numeric"),
	   "so do binary fractions");
	ok(wider("numeric", "text"), "numeric becomes text");
	ok(wider("boolean", "text") && wider("timestamptz", "text") && wider("epoch", "text"),
	   "anything else becomes text");
	ok(wider("text", NULL) && wider("jsonb", NULL) && wider("list", NULL),
	   "text, jsonb and lists are the end");
	ok(strcmp(sophia_field_common("bigint", "bigint"), "bigint") == 0, "a type with itself");
	ok(strcmp(sophia_field_common("bigint", "numeric"), "numeric") == 0, "bigint and numeric");
	ok(strcmp(sophia_field_common("numeric", "bigint"), "numeric") == 0, "in either order");
	ok(strcmp(sophia_field_common("boolean", "bigint"), "text") == 0, "boolean and a number");
	ok(strcmp(sophia_field_common("text", "bigint"), "text") == 0, "text and a number");
}

static bool
written(const char *text)
{
	JsonPointer pointer;
	char out[64];

	return sophia_json_pointer(&pointer, &arena, text) &&
		   sophia_field_pointer(out, sizeof(out), &pointer) && strcmp(out, text) == 0;
}

static void
test_pointers(void)
{
	JsonPointer pointer;
	char out[8];

	ok(written("/a") && written("/properties/b c"), "pointers are written as they are read");
	ok(written("/a~1b/c~0d"), "with what they escape");
	ok(sophia_json_pointer(&pointer, &arena, "/abcdefgh") &&
		   !sophia_field_pointer(out, sizeof(out), &pointer),
	   "too long a one is refused");
}

int
main(void)
{
	test_names();
	test_reserved();
	test_types();
	test_pointers();
	sophia_arena_free(&arena);
	done_testing();
	return exit_status();
}
