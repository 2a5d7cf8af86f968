/*
 * openai_test.c
 *		Unit tests of ai/openai.c: requests to providers of kind "openai", and their answers.
 */
#include "ai/openai.h"

#include <string.h>

#include "tap.h"

#define SPAN(literal) ((TextSpan){literal, sizeof(literal) - 1})

static bool
buffer_is(ByteBuffer *buffer, const char *expected)
{
	bool same = buffer_size(buffer) == strlen(expected) &&
				memcmp(buffer_bytes(buffer), expected, strlen(expected)) == 0;

	if (!same)
		printf("# got %.*s\n", (int) buffer_size(buffer), buffer_bytes(buffer));
	sophia_buffer_clear(buffer);
	return same;
}

static void
test_requests(void)
{
	ByteBuffer out = {0};
	TextSpan texts[] = {SPAN("a"), SPAN("b\"\n")};

	sophia_openai_chat_request(&out, "tiny", NULL, SPAN("say \"hi\"\\\x01\t\xC3\xA9"), NULL, "{}");
	ok(buffer_is(&out, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":"
					   "\"say \\\"hi\\\"\\\\\\u0001\\t\xC3\xA9\"}]}"),
	   "a prompt becomes the message of a user");
	sophia_openai_chat_request(&out, "tiny", "Be \"short\".", SPAN("hi"), NULL, "{}");
	ok(buffer_is(&out, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"system\",\"content\":\"Be "
					   "\\\"short\\\".\"},{\"role\":\"user\",\"content\":\"hi\"}]}"),
	   "instructions go before it");
	sophia_openai_chat_request(&out, "tiny", NULL, SPAN(""), "[{\"role\": \"system\"}]",
							   "{\"top_p\": 1, \"seed\": 2}");
	ok(buffer_is(&out, "{\"model\":\"tiny\",\"messages\":[{\"role\": \"system\"}],\"top_p\": 1, "
					   "\"seed\": 2}"),
	   "messages and options go in as they are");
	sophia_openai_embedding_request(&out, "e", texts, 2, "{\"encoding_format\": \"base64\"}");
	ok(buffer_is(&out, "{\"model\":\"e\",\"input\":[\"a\",\"b\\\"\\n\"],\"encoding_format\": "
					   "\"base64\"}"),
	   "texts become the input of an embedding");
	sophia_openai_path(&out, "http://127.0.0.1:8000", "models");
	ok(strcmp(buffer_bytes(&out), "/v1/models") == 0, "an address without a path gets /v1");
	sophia_buffer_clear(&out);
	sophia_openai_path(&out, "https://host/api/v2", "models");
	ok(strcmp(buffer_bytes(&out), "/models") == 0, "one with a path keeps it");
	sophia_buffer_free(&out);
}

/* Reads a chat's answer; true when it fails by that SQLSTATE, or gives that text where sqlstate is NULL. */
static bool
chat_gives(int status, const char *body, const char *sqlstate, const char *expected)
{
	Arena arena = {0};
	OpenaiAnswer answer;
	OpenaiProblem problem;
	bool well = sophia_openai_chat_answer(&answer, &problem, &arena, status, body, strlen(body));
	bool same;

	if (sqlstate == NULL)
		same = well && answer.text.length == strlen(expected) &&
			   memcmp(answer.text.text, expected, answer.text.length) == 0;
	else
		same = !well && strcmp(problem.sqlstate, sqlstate) == 0 &&
			   strcmp(problem.message, expected) == 0;
	if (!same && !well)
		printf("# %s %s\n", problem.sqlstate, problem.message);
	sophia_arena_free(&arena);
	return same;
}

#define ANSWER(content) "{\"choices\":[{\"message\":{\"content\":" content "}}]}"

#define EVENT(content) "data: {\"choices\":[{\"delta\":{\"content\":" content "}}]}\n\n"
#define END			   "data: [DONE]\n\n"

static void
test_chat_answers(void)
{
	ok(chat_gives(200, ANSWER("\"a\\u00e9\\ud83d\\ude00\""), NULL, "a\xC3\xA9\xF0\x9F\x98\x80"),
	   "escapes are resolved");
	ok(chat_gives(200, ANSWER("\"\""), NULL, ""), "an empty text is a text");
	ok(chat_gives(200, ANSWER("null"), "58000", "the answer has no text"), "null is none");
	ok(chat_gives(200, "{\"choices\":[]}", "58000", "the answer has no choices"), "no choice");
	ok(chat_gives(200, "[]", "58000", "the answer has no choices"), "an array is no answer");
	ok(chat_gives(200, EVENT("\"a\\u00e9\"") ": ping\n\n" EVENT("\"b\"") END, NULL,
				  "a\xC3\xA9"
				  "b"),
	   "a stream of events gives its parts");
	ok(chat_gives(200,
				  "event: message\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"c\"}}],"
				  "\"finish_reason\":\"stop\"}\r\n\r\n",
				  NULL, "c"),
	   "its end may be told beside the choices");
	ok(chat_gives(200, EVENT("\"a\""), "58000", "the answer broke off before it was whole"),
	   "a stream without its end is no answer");
	ok(chat_gives(200, EVENT("\"a\"") "data: {\"error\":{\"message\":\"no\"}}\n\n" END, "58000",
				  "HTTP status 200: no"),
	   "a stream may tell an error");
	ok(chat_gives(200, "data: {\"choices\":[\n\n" END, "58000", "the answer is no JSON"),
	   "an event is JSON");
	ok(chat_gives(200, "", "58000", "the answer is no JSON"), "an empty body is no JSON");
	ok(chat_gives(200, ANSWER("\"a"), "58000", "the answer is no JSON"), "half an answer is none");
	ok(chat_gives(200, ANSWER("\"\\u0000\""), "22021",
				  "the answer holds bytes or characters that are no text") &&
		   chat_gives(200, ANSWER("\"\\ud800\""), "22021",
					  "the answer holds bytes or characters that are no text") &&
		   chat_gives(200, ANSWER("\"\xFF\""), "22021",
					  "the answer holds bytes or characters that are no text"),
	   "NUL, a lone surrogate and bytes that are no UTF-8 are no text");
}

static void
test_errors(void)
{
	char longer[2000];
	static const struct
	{
		int status;
		const char *body;
		const char *sqlstate;
		const char *message;
	} cases[] = {
		{400, "{\"error\":{\"message\":\"bad\",\"code\":400}}", "22023", "HTTP status 400: bad"},
		{400, "{\"object\":\"error\",\"message\":\"old vLLM\"}", "22023",
		 "HTTP status 400: old vLLM"},
		{422, "{\"error\":\"Input validation\"}", "22023", "HTTP status 422: Input validation"},
		{400, "{\"error\":{\"message\":\"This model's maximum context length is 8\"}}", "54000",
		 "HTTP status 400: This model's maximum context length is 8"},
		{500, "{\"error\":{\"message\":\"input is too large to process\"}}", "54000",
		 "HTTP status 500: input is too large to process"},
		{413, "no", "54000", "HTTP status 413: no"},
		{401, "", "28000", "HTTP status 401"},
		{403, "{}", "28000", "HTTP status 403: {}"},
		{429, "slow\r\ndown", "53400", "HTTP status 429: slow  down"},
		{503, "<html>", "58000", "HTTP status 503: <html>"},
		{502, "a\xFF", "58000", "HTTP status 502: a"},
		{302, "", "58000", "HTTP status 302"},
		{200, "{\"error\":{\"message\":\"late\"}}", "58000", "HTTP status 200: late"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(chat_gives(cases[i].status, cases[i].body, cases[i].sqlstate, cases[i].message), "%s",
		   cases[i].message);
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, "{\"error\":\"", 10);
	memcpy(longer + 10 + 198, "\xC3\xA9", 2);
	memcpy(longer + sizeof(longer) - 3, "\"}", 3);
	{
		Arena arena = {0};
		OpenaiAnswer answer;
		OpenaiProblem problem;

		sophia_openai_chat_answer(&answer, &problem, &arena, 500, longer, strlen(longer));
		ok(strlen(problem.message) == strlen("HTTP status 500: ") + 198,
		   "a message is clipped between two characters");
		sophia_arena_free(&arena);
	}
}

#define ITEM(index, embedding) "{\"index\":" index ",\"embedding\":" embedding "}"
#define DATA(items)			   "{\"data\":[" items "],\"usage\":{\"prompt_tokens\":9}}"

/* Reads the answer for n texts; true when it fails with that message, or is well where that is NULL. */
static bool
embedding_gives(OpenaiAnswer *answer, Arena *arena, size_t n, const char *body, const char *message)
{
	OpenaiProblem problem = {""};
	bool well = sophia_openai_embedding_answer(answer, &problem, arena, 200, body, strlen(body), n);

	return message == NULL ? well : !well && strcmp(problem.message, message) == 0;
}

static void
test_embedding_answers(void)
{
	Arena arena = {0};
	OpenaiAnswer answer;

	/* 1, -2 as two floats, the smallest byte first */
	ok(embedding_gives(&answer, &arena, 2,
					   DATA(ITEM("1", "[0.5, 3e0]") "," ITEM("0", "\"AACAPwAAAMA=\"")), NULL) &&
		   answer.dimensions == 2 && answer.vectors[0][0] == 1 && answer.vectors[0][1] == -2 &&
		   answer.vectors[1][0] == 0.5f && answer.vectors[1][1] == 3 && answer.tokens_in == 9 &&
		   answer.tokens_out == -1,
	   "base64 and numbers, in the order of the indexes");
	ok(embedding_gives(&answer, &arena, 1,
					   "{\"data\":[{\"embedding\":[1]}],\"usage\":{\"prompt_tokens\":-5}}", NULL) &&
		   answer.tokens_in == -1,
	   "a negative number of tokens is none");
	ok(embedding_gives(&answer, &arena, 1, DATA(ITEM("0", "[1]") "," ITEM("1", "[1]")),
					   "the answer has not one embedding for each text"),
	   "too many are refused");
	ok(embedding_gives(&answer, &arena, 2, DATA(ITEM("0", "[1]") "," ITEM("0", "[1]")),
					   "the indexes of the answer's embeddings are wrong") &&
		   embedding_gives(&answer, &arena, 2, DATA(ITEM("0", "[1]") "," ITEM("2", "[1]")),
						   "the indexes of the answer's embeddings are wrong"),
	   "so are an index twice and one that is too large");
	ok(embedding_gives(&answer, &arena, 2, DATA(ITEM("0", "[1]") "," ITEM("1", "[1, 2]")),
					   "the answer's embeddings differ in length"),
	   "lengths that differ are refused");
	for (const char *const *bad = (const char *const[]){"[]", "\"\"", "\"AAA\"", "[\"1\"]", "null",
														"[1e99]", "\"AACAfw==\"", NULL};
		 *bad != NULL; bad++)
	{
		char body[200];

		snprintf(body, sizeof(body), "{\"data\":[{\"embedding\":%s}]}", *bad);
		ok(embedding_gives(&answer, &arena, 1, body,
						   "the answer holds an embedding that cannot be read"),
		   "no embedding: %s", *bad);
	}
	sophia_arena_free(&arena);
}

static void
test_models(void)
{
	const char *body = "{\"data\":[{\"id\":\"a\"},{\"x\":1},{\"id\":\"b\"}]}";
	Arena arena = {0};
	OpenaiAnswer answer;
	OpenaiProblem problem;

	ok(sophia_openai_models_answer(&answer, &problem, &arena, 200, body, strlen(body)) &&
		   answer.text.length == 4 && memcmp(answer.text.text, "a, b", 4) == 0,
	   "the models are listed");
	sophia_arena_free(&arena);
}

int
main(void)
{
	test_requests();
	test_chat_answers();
	test_errors();
	test_embedding_answers();
	test_models();
	done_testing();
	return exit_status();
}
