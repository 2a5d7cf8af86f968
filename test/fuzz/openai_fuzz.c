/*
 * openai_fuzz.c
 *		Fuzzes the answers of AI providers, and what is sent to them.
 *
 * The first byte chooses what was asked, the second the status and the number of texts.  A result is text that the server
 * takes, or as many vectors of finite numbers as there were texts; a problem is short and printable.  A request is JSON that
 * holds the text it was given.
 */
#include "ai/openai.h"
#include "base/json_parse.h"
#include "base/json_write.h"
#include "fuzz.h"

static const int statuses[] = {200, 201, 400, 401, 413, 422, 429, 500};

/* Whether a text needs no escapes and no repair: the parser says so of the string that it would be. */
static bool
is_text(const char *text, size_t length)
{
	ByteBuffer json = {0};
	JsonParser parser = {0};
	Arena arena = {0};
	bool fine;

	REQUIRE(sophia_json_write_string(&json, text, length));
	fine = sophia_json_parse(&parser, &arena, buffer_bytes(&json), buffer_size(&json));
	if (fine)
		REQUIRE(parser.root.kind == JSON_STRING && parser.root.length == length &&
				memcmp(parser.root.u.text, text, length) == 0);
	sophia_json_parser_free(&parser);
	sophia_arena_free(&arena);
	sophia_buffer_free(&json);
	return fine;
}

static void
check_problem(const OpenaiProblem *problem)
{
	size_t length = strnlen(problem->message, sizeof(problem->message));

	REQUIRE(length > 0 && length < sizeof(problem->message));
	REQUIRE(strnlen(problem->sqlstate, sizeof(problem->sqlstate)) == 5);
	REQUIRE(is_text(problem->message, length));
	for (size_t i = 0; i < length; i++)
		REQUIRE((unsigned char) problem->message[i] >= 0x20 && problem->message[i] != 0x7F);
}

static void
check_vectors(const OpenaiAnswer *answer, size_t n)
{
	REQUIRE(n == 0 || answer->dimensions > 0);
	for (size_t i = 0; i < n; i++)
	{
		REQUIRE(answer->vectors[i] != NULL);
		for (int d = 0; d < answer->dimensions; d++)
			REQUIRE(answer->vectors[i][d] - answer->vectors[i][d] == 0);
	}
}

static void
read_answer(int kind, int choice, const char *body, size_t length)
{
	Arena arena = {0};
	OpenaiAnswer answer;
	OpenaiProblem problem;
	int status = statuses[choice % 8];
	size_t n = choice / 8 % 4;
	bool well;

	if (kind == 0)
		well = sophia_openai_chat_answer(&answer, &problem, &arena, status, body, length);
	else if (kind == 1)
		well = sophia_openai_embedding_answer(&answer, &problem, &arena, status, body, length, n);
	else
		well = sophia_openai_models_answer(&answer, &problem, &arena, status, body, length);
	if (!well)
		check_problem(&problem);
	else
	{
		REQUIRE(status < 300);
		REQUIRE(answer.tokens_in >= -1 && answer.tokens_out >= -1);
		if (kind == 1)
			check_vectors(&answer, n);
		else
			REQUIRE(is_text(answer.text.text, answer.text.length));
	}
	sophia_arena_free(&arena);
}

static void
write_request(const char *text, size_t length)
{
	ByteBuffer out = {0};
	JsonParser parser = {0};
	Arena arena = {0};
	JsonPointer pointer;
	const JsonNode *input;

	REQUIRE(sophia_openai_chat_request(&out, "m", (TextSpan){text, length}, NULL, "{\"seed\":1}"));
	REQUIRE(sophia_json_parse(&parser, &arena, buffer_bytes(&out), buffer_size(&out)));
	sophia_buffer_clear(&out);
	REQUIRE(sophia_openai_embedding_request(&out, "m", &(TextSpan){text, length}, 1, "{ }"));
	REQUIRE(sophia_json_parse(&parser, &arena, buffer_bytes(&out), buffer_size(&out)));
	REQUIRE(sophia_json_pointer(&pointer, &arena, "/input"));
	input = sophia_json_find(&parser.root, &pointer);
	REQUIRE(input != NULL && input->kind == JSON_ARRAY && input->length == 1);
	REQUIRE(input->u.items[0].length == length &&
			memcmp(input->u.items[0].u.text, text, length) == 0);
	sophia_json_parser_free(&parser);
	sophia_arena_free(&arena);
	sophia_buffer_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *body;
	int kind;

	if (size < 2)
		return 0;
	kind = data[0] % 4;
	body = exact_copy(data + 2, size - 2);
	if (kind < 3)
		read_answer(kind, data[1], body, size - 2);
	else if (is_text(body, size - 2))
		write_request(body, size - 2);
	free(body);
	return 0;
}
