/*
 * openai.c
 *		Providers of kind "openai": see openai.h.
 */
#include "ai/openai.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/json_write.h"

/* Numbers that one embedding may have; pgvector's limit. */
#define MAX_DIMENSIONS 16000

/* ---- requests ---- */

static bool
append(ByteBuffer *out, const char *text)
{
	return sophia_buffer_append(out, text, strlen(text));
}

bool
sophia_openai_path(ByteBuffer *out, const char *address, const char *service)
{
	const char *host = strstr(address, "://");
	bool bare = host == NULL || strchr(host + 3, '/') == NULL;

	return append(out, bare ? "/v1/" : "/") && append(out, service) &&
		   sophia_buffer_append(out, "", 1);
}

/* The members of a JSON object, after those that are there, and the end of the body. */
static bool
finish_with_options(ByteBuffer *out, const char *options)
{
	size_t length = strlen(options);

	/* {} or { } has none */
	if (strchr(options, '"') != NULL)
		return append(out, ",") && sophia_buffer_append(out, options + 1, length - 1);
	return append(out, "}");
}

bool
sophia_openai_chat_request(ByteBuffer *out, const char *model, const char *instructions,
						   TextSpan prompt, const char *messages, const char *options)
{
	bool ok = append(out, "{\"model\":") && sophia_json_write_string(out, model, strlen(model)) &&
			  append(out, ",\"messages\":");

	if (messages != NULL)
		ok = ok && append(out, messages);
	else
	{
		ok = ok && append(out, "[");
		if (instructions != NULL)
			ok = ok && append(out, "{\"role\":\"system\",\"content\":") &&
				 sophia_json_write_string(out, instructions, strlen(instructions)) &&
				 append(out, "},");
		ok = ok && append(out, "{\"role\":\"user\",\"content\":") &&
			 sophia_json_write_string(out, prompt.text, prompt.length) && append(out, "}]");
	}
	return ok && finish_with_options(out, options);
}

bool
sophia_openai_embedding_request(ByteBuffer *out, const char *model, const TextSpan *texts, size_t n,
								const char *options)
{
	bool ok = append(out, "{\"model\":") && sophia_json_write_string(out, model, strlen(model)) &&
			  append(out, ",\"input\":[");

	for (size_t i = 0; ok && i < n; i++)
		ok = (i == 0 || append(out, ",")) &&
			 sophia_json_write_string(out, texts[i].text, texts[i].length);
	return ok && append(out, "]") && finish_with_options(out, options);
}

bool
sophia_openai_tokens_request(ByteBuffer *out, const char *model, TextSpan text)
{
	static const char *const names[] = {"content", "prompt", "inputs"};
	bool ok = append(out, "{\"model\":") && sophia_json_write_string(out, model, strlen(model)) &&
			  append(out, ",\"add_special_tokens\":false");

	for (size_t i = 0; ok && i < sizeof(names) / sizeof(names[0]); i++)
		ok = append(out, ",\"") && append(out, names[i]) && append(out, "\":") &&
			 sophia_json_write_string(out, text.text, text.length);
	return ok && append(out, "}");
}

const char *
sophia_openai_tokens_service(const char *address)
{
	size_t length = strlen(address);
	const char *host = strstr(address, "://");
	bool bare = host == NULL || strchr(host + 3, '/') == NULL;

	if (bare || (length > 3 && strcmp(address + length - 3, "/v1") == 0))
		return "../tokenize";
	return "tokenize";
}

/* ---- problems ---- */

void
sophia_openai_clip(char *out, size_t size, const char *text, size_t length)
{
	size_t n = length < size ? length : size - 1;

	while (n < length && n > 0 && ((unsigned char) text[n] & 0xC0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char) text[i] < 0x20 || text[i] == 0x7F ? ' ' : text[i];
	out[n] = '\0';
}

static bool
set_problem(OpenaiProblem *problem, const char *sqlstate, const char *message)
{
	memcpy(problem->sqlstate, sqlstate, sizeof(problem->sqlstate));
	sophia_openai_clip(problem->message, sizeof(problem->message), message, strlen(message));
	return false;
}

static const JsonNode *
member(const JsonNode *node, const char *name)
{
	return node != NULL ? sophia_json_member(node, name, strlen(name)) : NULL;
}

static bool
is_string(const JsonNode *node)
{
	return node != NULL && node->kind == JSON_STRING;
}

/*
 * What a provider says of its error: {"error": {"message": …}}, {"error": "…"}, or the members of the error at the top level,
 * as older servers have it.
 */
static const JsonNode *
error_message(const JsonNode *root)
{
	const JsonNode *error = member(root, "error");

	if (is_string(error))
		return error;
	if (is_string(member(error, "message")))
		return member(error, "message");
	return is_string(member(root, "message")) ? member(root, "message") : NULL;
}

static bool
contains(const char *text, const char *word)
{
	size_t length = strlen(word);

	for (; *text != '\0'; text++)
	{
		if (strncasecmp(text, word, length) == 0)
			return true;
	}
	return false;
}

/* Servers say in words that a text was too long; these are theirs: vLLM, llama.cpp, OpenAI, TEI, Ollama, Cortex. */
static bool
says_too_large(const char *message)
{
	static const char *const words[] = {
		"context length",	   "context size",	"context window",
		"too large",		   "too long",		"maximum context",
		"too many tokens",	   "max_model_len", "input length exceeds",
		"must have less than", "max tokens of"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		if (contains(message, words[i]))
			return true;
	}
	return false;
}

bool
sophia_openai_too_large(const char *body, size_t length)
{
	char start[1024];
	size_t n = length < sizeof(start) ? length : sizeof(start) - 1;

	if (n > 0)
		memcpy(start, body, n);
	start[n] = '\0';
	return says_too_large(start);
}

static const char *
sqlstate_of(int status, const char *message)
{
	if (status == 413)
		return "54000";
	if ((status == 400 || status == 422 || status == 500) && says_too_large(message))
		return "54000";
	if (status == 401 || status == 403)
		return "28000";
	if (status == 429)
		return "53400";
	if (status == 400 || status == 422)
		return "22023";
	return "58000";
}

/* The problem of an answer that is no success. */
static bool
refuse(OpenaiProblem *problem, int status, const JsonNode *root, const char *body, size_t length)
{
	const JsonNode *said = root != NULL ? error_message(root) : NULL;
	char text[200];

	if (said != NULL)
		sophia_openai_clip(text, sizeof(text), said->u.text, said->length);
	else
		sophia_openai_clip(text, sizeof(text), body, length);
	snprintf(problem->message, sizeof(problem->message), "HTTP status %d%s%s", status,
			 text[0] != '\0' ? ": " : "", text);
	memcpy(problem->sqlstate, sqlstate_of(status, text), sizeof(problem->sqlstate));
	problem->too_many =
		status == 400 || status == 413 || status == 422 || strcmp(problem->sqlstate, "54000") == 0;
	return false;
}

static bool
encoding_problem(JsonProblem problem)
{
	return problem == JSON_BAD_ENCODING || problem == JSON_NUL || problem == JSON_LONE_SURROGATE;
}

/* Bytes of a body that may be quoted: those before the first that is no UTF-8, as far as the parser came. */
static size_t
quotable(const JsonParser *parser, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if ((unsigned char) parser->start[i] >= 0x80)
			return i;
	}
	return length;
}

/* Parses a body; false where it is no successful answer. */
static bool
parse_body(JsonNode *root, OpenaiProblem *problem, Arena *arena, int status, const char *body,
		   size_t length)
{
	JsonParser parser = {0};
	bool whole = sophia_json_parse(&parser, arena, body, length);
	JsonProblem found = parser.problem;
	size_t plain = quotable(&parser, length);

	*root = parser.root;
	sophia_json_parser_free(&parser);
	problem->too_many = false;
	if (status < 200 || status > 299)
		return refuse(problem, status, whole ? root : NULL, body, plain);
	if (found == JSON_NO_MEMORY)
		return set_problem(problem, "53200", "out of memory");
	if (encoding_problem(found))
		return set_problem(problem, "22021",
						   "the answer holds bytes or characters that are no text");
	if (!whole)
		return set_problem(problem, "58000", "the answer is no JSON");
	if (error_message(root) != NULL && member(root, "error") != NULL)
		return refuse(problem, status, root, body, plain);
	return true;
}

/* ---- answers ---- */

/* -1 where there is none. */
static int64_t
count_of(const JsonNode *usage, const char *name)
{
	const JsonNode *count = member(usage, name);
	int64_t n;

	if (count == NULL || count->kind != JSON_NUMBER)
		return -1;
	n = strtoll(count->u.text, NULL, 10);
	return n >= 0 ? n : -1;
}

static void
read_usage(OpenaiAnswer *answer, const JsonNode *root)
{
	const JsonNode *usage = member(root, "usage");

	memset(answer, 0, sizeof(*answer));
	answer->tokens_in = count_of(usage, "prompt_tokens");
	answer->tokens_out = count_of(usage, "completion_tokens");
}

/* Reads why a text ends, which Cortex also tells beside its choices; false where that is not told. */
static bool
read_end(OpenaiAnswer *answer, const JsonNode *root, const JsonNode *choice)
{
	const JsonNode *reason = member(choice, "finish_reason");

	if (!is_string(reason))
		reason = member(root, "finish_reason");
	if (!is_string(reason))
		return false;
	answer->cut = reason->length == 6 && memcmp(reason->u.text, "length", 6) == 0;
	return true;
}

/* The first choice, NULL where there is none. */
static const JsonNode *
choice_of(const JsonNode *root)
{
	const JsonNode *choices = member(root, "choices");

	return choices != NULL && choices->kind == JSON_ARRAY && choices->length > 0
			   ? &choices->u.items[0]
			   : NULL;
}

/* ---- chats that come as a stream of events ---- */

static bool
begins_with(const char *text, size_t length, const char *word)
{
	return length >= strlen(word) && memcmp(text, word, strlen(word)) == 0;
}

/*
 * Whether a body is a stream of events (text/event-stream), which some servers send although none was asked for.  No JSON
 * text begins like that, so the media type need not be known.
 */
static bool
is_stream(const char *body, size_t length)
{
	return begins_with(body, length, "data:") || begins_with(body, length, "event:") ||
		   begins_with(body, length, "id:") || begins_with(body, length, ":");
}

/* Takes the next line of data off a stream; false at its end. */
static bool
next_data(TextSpan *stream, TextSpan *data)
{
	while (stream->length > 0)
	{
		const char *line = stream->text;
		const char *end = memchr(line, '\n', stream->length);
		size_t length = end != NULL ? (size_t) (end - line) : stream->length;

		stream->text += length + (end != NULL);
		stream->length -= length + (end != NULL);
		if (!begins_with(line, length, "data:"))
			continue;
		*data = (TextSpan){line + strlen("data:"), length - strlen("data:")};
		return true;
	}
	return false;
}

static bool
is_done(TextSpan data)
{
	while (data.length > 0 && data.text[0] == ' ')
		data.text++, data.length--;
	return begins_with(data.text, data.length, "[DONE]");
}

/* Adds what an event brings to the text; `ended` becomes true with the last of it. */
static bool
read_event(OpenaiAnswer *answer, ByteBuffer *text, bool *ended, OpenaiProblem *problem,
		   Arena *arena, TextSpan data)
{
	JsonNode root;
	OpenaiAnswer told;
	const JsonNode *choice;
	const JsonNode *content;

	if (!parse_body(&root, problem, arena, 200, data.text, data.length))
		return false;
	read_usage(&told, &root);
	if (told.tokens_in >= 0)
		answer->tokens_in = told.tokens_in;
	if (told.tokens_out >= 0)
		answer->tokens_out = told.tokens_out;
	choice = choice_of(&root);
	content = member(member(choice, "delta"), "content");
	if (is_string(content) && !sophia_buffer_append(text, content->u.text, content->length))
		return set_problem(problem, "53200", "out of memory");
	*ended |= read_end(answer, &root, choice);
	return true;
}

static bool
read_stream(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena, TextSpan stream)
{
	ByteBuffer text = {0};
	TextSpan data;
	bool ended = false;
	bool ok = true;
	char *copy;

	*answer = (OpenaiAnswer){.tokens_in = -1, .tokens_out = -1};
	problem->too_many = false;
	while (ok && next_data(&stream, &data))
	{
		if (is_done(data))
			ended = true;
		else
			ok = read_event(answer, &text, &ended, problem, arena, data);
	}
	if (ok && !ended)
		ok = set_problem(problem, "58000", "the answer broke off before it was whole");
	copy = ok ? sophia_arena_alloc(arena, buffer_size(&text) + 1) : NULL;
	if (ok && copy == NULL)
		ok = set_problem(problem, "53200", "out of memory");
	if (ok && buffer_size(&text) > 0)
		memcpy(copy, buffer_bytes(&text), buffer_size(&text));
	answer->text = (TextSpan){copy, buffer_size(&text)};
	sophia_buffer_free(&text);
	return ok;
}

bool
sophia_openai_chat_answer(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena, int status,
						  const char *body, size_t length)
{
	JsonNode root;
	const JsonNode *choice;
	const JsonNode *content;

	if (status == 200 && is_stream(body, length))
		return read_stream(answer, problem, arena, (TextSpan){body, length});
	if (!parse_body(&root, problem, arena, status, body, length))
		return false;
	read_usage(answer, &root);
	choice = choice_of(&root);
	if (choice == NULL)
		return set_problem(problem, "58000", "the answer has no choices");
	content = member(member(choice, "message"), "content");
	if (!is_string(content))
		return set_problem(problem, "58000", "the answer has no text");
	answer->text = (TextSpan){content->u.text, content->length};
	(void) read_end(answer, &root, choice);
	return true;
}

/* One embedding from base64 of 32-bit floats, the smallest byte first. */
static bool
decode_base64(float **vector, int *dimensions, Arena *arena, const JsonNode *node)
{
	ByteBuffer bytes = {0};
	bool ok = sophia_base64_append(&bytes, node->u.text, node->length) &&
			  buffer_size(&bytes) % sizeof(float) == 0 &&
			  buffer_size(&bytes) / sizeof(float) <= MAX_DIMENSIONS;

	*dimensions = ok ? (int) (buffer_size(&bytes) / sizeof(float)) : 0;
	*vector = ok ? sophia_arena_alloc(arena, buffer_size(&bytes) + 1) : NULL;
	ok = *vector != NULL;
	for (int i = 0; i < *dimensions && ok; i++)
	{
		const unsigned char *b = (unsigned char *) buffer_bytes(&bytes) + i * sizeof(float);
		uint32_t bits =
			(uint32_t) b[0] | (uint32_t) b[1] << 8 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 24;

		memcpy(&(*vector)[i], &bits, sizeof(bits));
	}
	sophia_buffer_free(&bytes);
	return ok;
}

/* One embedding from an array of numbers. */
static bool
decode_array(float **vector, int *dimensions, Arena *arena, const JsonNode *node)
{
	*dimensions = (int) node->length;
	if (node->length > MAX_DIMENSIONS)
		return false;
	*vector = sophia_arena_alloc(arena, node->length * sizeof(float) + 1);
	if (*vector == NULL)
		return false;
	for (uint32_t i = 0; i < node->length; i++)
	{
		const JsonNode *item = &node->u.items[i];

		if (item->kind != JSON_NUMBER)
			return false;
		/* the number ends with a comma or a bracket, which strtof does not read */
		(*vector)[i] = strtof(item->u.text, NULL);
	}
	return true;
}

static bool
decode_vector(float **vector, int *dimensions, Arena *arena, const JsonNode *node)
{
	bool ok = false;

	/* Cortex puts each into an array of its own */
	if (node != NULL && node->kind == JSON_ARRAY && node->length == 1 &&
		node->u.items[0].kind == JSON_ARRAY)
		node = &node->u.items[0];
	if (is_string(node))
		ok = decode_base64(vector, dimensions, arena, node);
	else if (node != NULL && node->kind == JSON_ARRAY)
		ok = decode_array(vector, dimensions, arena, node);
	if (!ok || *dimensions == 0)
		return false;
	for (int i = 0; i < *dimensions; i++)
	{
		if (!isfinite((*vector)[i]))
			return false;
	}
	return true;
}

/* Which text an element of the data is of: its index, or its position where it has none. */
static int64_t
place_of(const JsonNode *item, uint32_t position)
{
	int64_t index = count_of(item, "index");

	return index >= 0 ? index : position;
}

bool
sophia_openai_embedding_answer(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena,
							   int status, const char *body, size_t length, size_t n)
{
	JsonNode root;
	const JsonNode *data;

	if (!parse_body(&root, problem, arena, status, body, length))
		return false;
	read_usage(answer, &root);
	if (answer->tokens_in < 0) /* as of Cortex */
		answer->tokens_in = count_of(member(&root, "usage"), "total_tokens");
	data = member(&root, "data");
	if (data == NULL || data->kind != JSON_ARRAY || data->length != n)
		return set_problem(problem, "58000", "the answer has not one embedding for each text");
	answer->vectors = sophia_arena_alloc(arena, (n + 1) * sizeof(float *));
	if (answer->vectors == NULL)
		return set_problem(problem, "53200", "out of memory");
	memset(answer->vectors, 0, (n + 1) * sizeof(float *));
	for (uint32_t i = 0; i < data->length; i++)
	{
		const JsonNode *item = &data->u.items[i];
		int64_t place = place_of(item, i);
		int dimensions = 0;

		if (place >= (int64_t) n || answer->vectors[place] != NULL)
			return set_problem(problem, "58000", "the indexes of the answer's embeddings are wrong");
		if (!decode_vector(&answer->vectors[place], &dimensions, arena, member(item, "embedding")))
			return set_problem(problem, "58000",
							   "the answer holds an embedding that cannot be read");
		if (answer->dimensions != 0 && dimensions != answer->dimensions)
			return set_problem(problem, "58000", "the answer's embeddings differ in length");
		answer->dimensions = dimensions;
	}
	return true;
}

bool
sophia_openai_models_answer(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena, int status,
							const char *body, size_t length)
{
	JsonNode root;
	const JsonNode *data;
	char *names;
	size_t used = 0;

	if (!parse_body(&root, problem, arena, status, body, length))
		return false;
	read_usage(answer, &root);
	data = member(&root, "data");
	if (data == NULL)
		data = member(&root, "models");
	if (data == NULL || data->kind != JSON_ARRAY)
		return set_problem(problem, "58000", "the answer lists no models");
	names = sophia_arena_alloc(arena, length + 2 * data->length + 1);
	if (names == NULL)
		return set_problem(problem, "53200", "out of memory");
	for (uint32_t i = 0; i < data->length; i++)
	{
		const JsonNode *id = member(&data->u.items[i], "id");

		if (id == NULL)
			id = member(&data->u.items[i], "name");
		if (!is_string(id))
			continue;
		if (used > 0)
		{
			memcpy(names + used, ", ", 2);
			used += 2;
		}
		memcpy(names + used, id->u.text, id->length);
		used += id->length;
	}
	answer->text = (TextSpan){names, used};
	return true;
}

bool
sophia_openai_tokens_answer(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena, int status,
							const char *body, size_t length)
{
	JsonNode root;
	const JsonNode *tokens;

	if (!parse_body(&root, problem, arena, status, body, length))
		return false;
	read_usage(answer, &root);
	answer->count = count_of(&root, "count");
	if (answer->count >= 0)
		return true;
	/* llama.cpp: {"tokens": [...]}; TEI: a list for each text */
	tokens = member(&root, "tokens");
	if (root.kind == JSON_ARRAY && root.length == 1)
		tokens = &root.u.items[0];
	if (tokens == NULL || tokens->kind != JSON_ARRAY)
		return set_problem(problem, "58000", "the answer tells no tokens");
	answer->count = tokens->length;
	return true;
}
