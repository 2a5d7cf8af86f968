/*
 * snowflake_sql.c
 *		Task functions of a Snowflake account: see snowflake_sql.h.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "ai/snowflake_sql.h"
#include "base/json_write.h"

static bool
append(ByteBuffer *out, const char *text)
{
	return sophia_buffer_append(out, text, strlen(text));
}

void
sophia_snowflake_sql_id(char *id)
{
	uint8 b[16];

	if (!pg_strong_random(b, sizeof(b)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random number")));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(id, SQL_REQUEST_ID_BYTES,
			 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
			 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
			 b[15]);
}

/* ---- requests ---- */

static bool
append_inputs(ByteBuffer *out, const TextSpan *texts, int n)
{
	static ByteBuffer array; /* kept, so that an error leaves nothing behind */
	bool ok;

	sophia_buffer_clear(&array);
	ok = append(&array, "[");
	for (int i = 0; ok && i < n; i++)
		ok = (i == 0 || append(&array, ",")) &&
			 sophia_json_write_string(&array, texts[i].text, texts[i].length);
	return ok && append(&array, "]") &&
		   sophia_json_write_string(out, buffer_bytes(&array), buffer_size(&array));
}

/* Elements of the prompt's array: null stands for the texts, true for the model's name, a string for itself. */
static bool
append_bindings(ByteBuffer *out, const Prompt *prompt, const char *remote_name,
				const TextSpan *texts, int n)
{
	Jsonb *options = DatumGetJsonbP(prompt->options);
	JsonbValue *bindings = getKeyJsonValueFromContainer(&options->root, "bindings", 8, NULL);
	int n_bindings = bindings != NULL ? (int) JsonContainerSize(bindings->val.binary.data) : 0;
	bool ok = append(out, ",\"bindings\":{");

	for (int i = 0; ok && i < n_bindings; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(bindings->val.binary.data, i);

		ok = append(out, i > 0 ? "," : "") &&
			 append(out, psprintf("\"%d\":{\"type\":\"TEXT\",\"value\":", i + 1));
		if (ok && value->type == jbvNull)
			ok = append_inputs(out, texts, n);
		else if (ok && value->type == jbvBool)
			ok = sophia_json_write_string(out, remote_name, strlen(remote_name));
		else if (ok)
			ok = sophia_json_write_string(out, value->val.string.val, value->val.string.len);
		ok = ok && append(out, "}");
	}
	return ok && append(out, "}");
}

bool
sophia_snowflake_sql_request(ByteBuffer *out, const Prompt *prompt, const char *remote_name,
							 const char *session, int timeout_ms, const TextSpan *texts, int n)
{
	const char *statement = prompt->instructions;

	return append(out, "{\"statement\":") &&
		   sophia_json_write_string(out, statement, strlen(statement)) &&
		   append(out, psprintf(",\"timeout\":%d", Max(timeout_ms / 1000, 1))) &&
		   append_bindings(out, prompt, remote_name, texts, n) &&
		   append(out, ",\"parameters\":{\"query_tag\":\"sophia_stack\"}") &&
		   (session[1] == '}' ||
			(append(out, ",") && sophia_buffer_append(out, session + 1, strlen(session) - 2))) &&
		   append(out, "}");
}

/* ---- answers ---- */

static const JsonNode *
member(const JsonNode *node, const char *name)
{
	return node == NULL ? NULL : sophia_json_member(node, name, strlen(name));
}

static TextSpan
string_of(const JsonNode *node)
{
	if (node == NULL || node->kind != JSON_STRING)
		return (TextSpan){NULL, 0};
	return (TextSpan){node->u.text, node->length};
}

static bool
fails(OpenaiProblem *problem, const char *sqlstate, bool too_many, const char *message)
{
	memcpy(problem->sqlstate, sqlstate, sizeof(problem->sqlstate));
	strlcpy(problem->message, message, sizeof(problem->message));
	problem->too_many = too_many;
	return false;
}

/* Whether a statement failed by what it is, and not by one of its texts. */
static bool
is_of_statement(TextSpan state)
{
	return state.length == 5 && strncmp(state.text, "42", 2) == 0;
}

/* Our SQLSTATE of a failure; 391908: the result is too large. */
static const char *
sqlstate_of(int status, TextSpan state, TextSpan code, TextSpan message)
{
	if (status == 413 || (code.length == 6 && strncmp(code.text, "391908", 6) == 0) ||
		sophia_openai_too_large(message.text, message.length))
		return "54000";
	if (status == 401 || status == 403 ||
		(state.length == 5 && strncmp(state.text, "42501", 5) == 0))
		return "28000";
	if (status == 429)
		return "53400";
	if (status == 400 || (state.length == 5 && strncmp(state.text, "22", 2) == 0))
		return "22023";
	return "58000";
}

/* Adds what the account calls a part of its error, where it tells that. */
static void
add_detail(char *details, size_t size, const char *name, TextSpan value)
{
	size_t length = strlen(details);
	char text[41];

	if (value.length == 0)
		return;
	sophia_openai_clip(text, sizeof(text), value.text, value.length);
	snprintf(details + length, size - length, "%s%s %s", length > 0 ? ", " : "", name, text);
}

/* What the account says of a statement that failed. */
static bool
refuse(OpenaiProblem *problem, const JsonNode *root, int status)
{
	TextSpan message = string_of(member(root, "message"));
	TextSpan state = string_of(member(root, "sqlState"));
	TextSpan code = string_of(member(root, "code"));
	char text[121] = "";
	char details[128] = "";

	if (message.length > 0)
		sophia_openai_clip(text, sizeof(text), message.text, message.length);
	add_detail(details, sizeof(details), "SQLSTATE", state);
	add_detail(details, sizeof(details), "code", code);
	add_detail(details, sizeof(details), "statement", string_of(member(root, "statementHandle")));
	snprintf(problem->message, sizeof(problem->message), "HTTP status %d%s%s%s%s%s", status,
			 text[0] != '\0' ? ": " : "", text, details[0] != '\0' ? " (" : "", details,
			 details[0] != '\0' ? ")" : "");
	memcpy(problem->sqlstate, sqlstate_of(status, state, code, message), sizeof(problem->sqlstate));
	problem->too_many = (status == 400 || status == 408 || status == 413 || status == 422) &&
						!is_of_statement(state);
	return false;
}

static bool
read_row(SqlRow *row, const JsonNode *node)
{
	TextSpan index;

	if (node->kind != JSON_ARRAY || node->length < 2)
		return false;
	index = string_of(&node->u.items[0]);
	if (index.text == NULL || index.length == 0 || index.length > 9)
		return false;
	row->index = strtoll(pnstrdup(index.text, index.length), NULL, 10);
	row->value = string_of(&node->u.items[1]);
	row->error = node->length > 2 ? string_of(&node->u.items[2]) : (TextSpan){NULL, 0};
	return true;
}

static bool
read_rows(SqlAnswer *answer, const JsonNode *root)
{
	const JsonNode *data = member(root, "data");
	const JsonNode *parts = member(member(root, "resultSetMetaData"), "partitionInfo");

	if (data == NULL || data->kind != JSON_ARRAY)
		return false;
	answer->partitions =
		parts != NULL && parts->kind == JSON_ARRAY ? Max(1, (int) parts->length) : 1;
	answer->handle = string_of(member(root, "statementHandle"));
	answer->rows = palloc0(sizeof(SqlRow) * Max(1, data->length));
	for (uint32 i = 0; i < data->length; i++)
	{
		if (!read_row(&answer->rows[answer->n_rows++], &data->u.items[i]))
			return false;
	}
	return true;
}

bool
sophia_snowflake_sql_answer(SqlAnswer *answer, OpenaiProblem *problem, Arena *arena, int status,
							const char *body, size_t length)
{
	JsonParser parser = {0};
	bool whole = sophia_json_parse(&parser, arena, body, length);
	JsonNode root = parser.root;
	JsonProblem found = parser.problem;

	memset(answer, 0, sizeof(SqlAnswer));
	sophia_json_parser_free(&parser);
	if (found == JSON_NO_MEMORY)
		return fails(problem, "53200", false, "out of memory");
	if (found == JSON_BAD_ENCODING || found == JSON_NUL || found == JSON_LONE_SURROGATE)
		return fails(problem, "22021", true, "the answer holds what is no text");
	if (status != 200)
		return refuse(problem, whole ? &root : NULL, status);
	if (!whole)
		return fails(problem, "58000", false, "the answer is no JSON");
	if (!read_rows(answer, &root))
		return fails(problem, "58000", false, "the answer has no rows of an index and a value");
	return true;
}

char *
sophia_snowflake_sql_handle(const char *body, size_t length)
{
	static Arena arena; /* reset before each use */
	JsonParser parser = {0};
	TextSpan handle = {NULL, 0};

	sophia_arena_reset(&arena);
	if (sophia_json_parse(&parser, &arena, body, length))
		handle = string_of(member(&parser.root, "statementHandle"));
	sophia_json_parser_free(&parser);
	for (size_t i = 0; i < handle.length; i++)
	{
		if (strchr("0123456789abcdefABCDEF-", handle.text[i]) == NULL)
			return NULL;
	}
	return handle.length == 0 || handle.length > 64 ? NULL : pnstrdup(handle.text, handle.length);
}
