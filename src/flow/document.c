/*
 * document.c
 *		From the bytes of a document to what can be applied: see document.h.
 */
#include "postgres.h"

#include "flow/document.h"

#include "base/settings.h"

bool
sophia_document_too_large(size_t length)
{
	return length > (size_t) sophia_max_document_size * 1024;
}

static bool
is_tombstone(const JsonNode *root)
{
	const JsonNode *meta = sophia_json_member(root, "_meta", 5);
	const JsonNode *op = meta != NULL ? sophia_json_member(meta, "op", 2) : NULL;

	return op != NULL && op->kind == JSON_STRING && op->length == 1 && op->u.text[0] == 'd';
}

static bool
parse(JsonParser *parser, Arena *arena, const char *line, size_t length, bool skim)
{
	bool fine;

	parser->skim = skim;
	fine = sophia_json_parse(parser, arena, line, length);
	if (parser->problem == JSON_NO_MEMORY)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return fine;
}

bool
sophia_document_skim(JsonParser *parser, Arena *arena, const char *line, size_t length)
{
	return parse(parser, arena, line, length, true);
}

bool
sophia_document_parse(JsonParser *parser, Arena *arena, ApplyDocument *given)
{
	bool fine =
		parse(parser, arena, given->line, given->length, sophia_document_too_large(given->length));

	given->document.root = parser->root;
	given->document.tombstone = is_tombstone(&parser->root);
	return fine;
}

/* What a problem of the parser means to who reads the dead letter. */
static int
describe_problem(JsonProblem problem, const char **reason)
{
	switch (problem)
	{
		case JSON_TOO_DEEP:
			*reason = "document is nested too deeply";
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case JSON_TOO_MANY:
			*reason = "document holds too many values";
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case JSON_BAD_ENCODING:
			*reason = "document is not valid UTF-8";
			return ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
		case JSON_NUL:
			*reason = "document holds \\u0000, which text cannot hold";
			return ERRCODE_UNTRANSLATABLE_CHARACTER;
		case JSON_LONE_SURROGATE:
			*reason = "document holds half of a Unicode surrogate pair";
			return ERRCODE_INVALID_TEXT_REPRESENTATION;
		case JSON_NUMBER_RANGE:
			*reason = "document holds a number that is out of range";
			return ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
		default:
			*reason = "document is not valid JSON";
			return ERRCODE_INVALID_TEXT_REPRESENTATION;
	}
}

int
sophia_document_problem(JsonProblem problem, size_t at, const char **reason)
{
	int sqlstate = describe_problem(problem, reason);

	*reason = psprintf("%s (byte %zu)", *reason, at);
	return sqlstate;
}

int
sophia_document_problem_of_size(size_t length, const char **reason)
{
	*reason =
		psprintf("document of %zu bytes is larger than sophia_stack.max_document_size", length);
	return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

int
sophia_document_problem_of_uuid(const char **reason)
{
	*reason = "document has no usable /_meta/uuid";
	return ERRCODE_INVALID_PARAMETER_VALUE;
}
