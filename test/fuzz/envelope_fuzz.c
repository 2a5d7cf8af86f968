/*
 * envelope_fuzz.c
 *		Fuzzes the parsing of documents.
 *
 * Skimming sees the same problem and the same uuid as parsing; a text without a problem is one that json-c takes, too;
 * an object united with itself stays what it is.
 */
#include <json-c/json.h>

#include "base/json_parse.h"
#include "flow/uuid.h"
#include "tree.h"

static void
require_json_c_agrees(const char *text, size_t size)
{
	json_tokener *tokener = json_tokener_new_ex(JSON_MAX_DEPTH + 1);
	json_object *object = json_tokener_parse_ex(tokener, text, (int) size);
	enum json_tokener_error error = json_tokener_get_error(tokener);

	/* a number at the very end may go on as far as json-c knows */
	REQUIRE(error == json_tokener_success || error == json_tokener_continue);
	json_object_put(object);
	json_tokener_free(tokener);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static JsonParser parser;
	static Arena arena;
	char *text = exact_copy(data, size);
	DocumentUuid uuid;
	JsonNode found;
	JsonNode merged;
	JsonProblem problem;
	bool fine;

	parser.skim = false;
	fine = sophia_json_parse(&parser, &arena, text, size);
	problem = parser.problem;
	found = parser.uuid;
	REQUIRE(fine == (problem == JSON_FINE));
	REQUIRE(fine || parser.problem_at <= size);
	if (found.kind == JSON_STRING)
		sophia_uuid_parse(found.u.text, found.length, &uuid);
	if (fine)
	{
		JsonNode root = parser.root;

		require_json_c_agrees(text, size);
		REQUIRE(sophia_json_merge(&merged, &arena, &root, &root, NULL, NULL));
		/* any document is some plan */
		REQUIRE(sophia_json_merge(&merged, &arena, &root, &root, NULL, &root));
		REQUIRE(same_node(&merged, &root));
	}
	parser.skim = true;
	REQUIRE(sophia_json_parse(&parser, &arena, text, size) == fine);
	REQUIRE(parser.problem == problem);
	REQUIRE((parser.uuid.kind == JSON_STRING) == (found.kind == JSON_STRING));
	REQUIRE(found.kind != JSON_STRING || same_node(&parser.uuid, &found));
	sophia_arena_reset(&arena);
	free(text);
	return 0;
}
