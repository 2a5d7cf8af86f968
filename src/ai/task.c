/*
 * task.c
 *		Functions with a task of their own: see task.h.
 *
 * A provider of kind "openai" gets the prompt as the system's message, the text as the user's, and a JSON schema that its
 * answer shall have.  Not every server minds the schema, so the answer is looked at: a fence around it is taken off, and a bare
 * word or number is taken for the member that was meant; what then does not fit is an error.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "ai/json_schema.h"
#include "ai/task.h"
#include "base/json_parse.h"

static const Task tasks[] = {
	{"complete_json", "complete_json", NULL, TASK_JSON, false},
	{"sentiment", "sentiment", "score", TASK_SCORE, false},
	{"classify_sentiment", "classify_sentiment", "sentiment", TASK_LABEL, false},
	{"classify_text", "classify_text", "label", TASK_LABEL, false},
	{"translate", "translate", "translation", TASK_TEXT, false},
	{"extract_answer", "extract_answer", "answer", TASK_ANSWERS, true},
	{"summarize", "summarize", "summary", TASK_TEXT, true},
	{"summarize_detail", "summarize", "summary", TASK_SUMMARY, true},
	{"summarize_agg", "summarize_agg", "summary", TASK_TEXT, true},
	{"ai_filter", "ai_filter", "answer", TASK_TRUTH, false},
};

static const char *const sentiments[] = {"positive", "negative", "neutral", "mixed"};

/* What answers and schemas are parsed into; reset before each use, so that an error leaves nothing behind. */
static Arena answer_arena;
static Arena schema_arena;

const Task *
sophia_task_find(const char *function)
{
	for (size_t i = 0; i < lengthof(tasks); i++)
	{
		if (strcmp(tasks[i].function, function) == 0)
			return &tasks[i];
	}
	return NULL;
}

/* ---- schemas ---- */

/* SchemaMatcher: by the server's regular expressions, whose syntax holds that of ECMA-262 but for rarities. */
static bool
matches(const JsonNode *pattern, const JsonNode *text)
{
	return DatumGetBool(DirectFunctionCall2Coll(
		textregexeq, C_COLLATION_OID,
		PointerGetDatum(cstring_to_text_with_len(text->u.text, text->length)),
		PointerGetDatum(cstring_to_text_with_len(pattern->u.text, pattern->length))));
}

/* The tree of a schema; its strings point into a text in the current context. */
static JsonNode
parse_schema(Jsonb *schema)
{
	JsonParser parser = {0};
	char *text = JsonbToCString(NULL, &schema->root, VARSIZE(schema));
	JsonNode root;

	sophia_arena_reset(&schema_arena);
	(void) sophia_json_parse(&parser, &schema_arena, text, strlen(text));
	root = parser.root;
	sophia_json_parser_free(&parser);
	if (parser.problem == JSON_NO_MEMORY)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (parser.problem != JSON_FINE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the schema is too large or nested too deeply")));
	return root;
}

/* A text of ours that may have been cut within a character. */
static char *
whole_characters(const char *text)
{
	return pnstrdup(text, pg_mbcliplen(text, strlen(text), strlen(text)));
}

void
sophia_task_check_schema(Jsonb *schema)
{
	JsonNode root = parse_schema(schema);
	char error[256];

	if (!sophia_json_schema_usable(&root, matches, error, sizeof(error)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid schema: %s", whole_characters(error))));
}

/* ---- answers ---- */

/* Takes white space off both ends, and a fence of three backquotes with the word behind it. */
static TextSpan
bare(TextSpan text)
{
	while (text.length > 0 && strchr(" \t\r\n", text.text[text.length - 1]) != NULL)
		text.length--;
	while (text.length > 0 && strchr(" \t\r\n", text.text[0]) != NULL)
		text.text++, text.length--;
	if (text.length < 6 || strncmp(text.text, "```", 3) != 0 ||
		strncmp(text.text + text.length - 3, "```", 3) != 0)
		return text;
	text.text += 3, text.length -= 6;
	while (text.length > 0 && isalpha((unsigned char) text.text[0]))
		text.text++, text.length--;
	return bare(text);
}

/* The answer as a tree; one that is no JSON counts as a string, unless it looks as if it had meant to be more. */
static char *
parse_answer(const Call *call, const Outcome *outcome, TextSpan text, JsonNode *root)
{
	JsonParser parser = {0};
	bool well;

	sophia_arena_reset(&answer_arena);
	well = sophia_json_parse(&parser, &answer_arena, text.text, text.length);
	*root = parser.root;
	sophia_json_parser_free(&parser);
	if (well)
		return NULL;
	if (text.length > 0 && strchr("{[\"", text.text[0]) == NULL &&
		call->task->task->value != TASK_JSON)
	{
		*root = (JsonNode){.kind = JSON_STRING, .length = text.length, .u.text = text.text};
		return NULL;
	}
	return outcome->cut ? "the answer reached the limit of its tokens before it was whole"
						: "the answer is no JSON";
}

/* The value of a row, as a tree of what stands in it: JSON, a number, or text. */
static char *
parse_cell(const TaskCall *task, TextSpan text, JsonNode *root)
{
	JsonParser parser = {0};

	*root = (JsonNode){.kind = JSON_STRING, .length = text.length, .u.text = text.text};
	if (task->task->value != TASK_SCORE && task->task->value != TASK_ANSWERS)
		return NULL;
	sophia_arena_reset(&answer_arena);
	if (!sophia_json_parse(&parser, &answer_arena, text.text, text.length))
		root->kind = JSON_NULL;
	else
		*root = parser.root;
	sophia_json_parser_free(&parser);
	/* an answer may also stand there alone */
	if (task->task->value == TASK_ANSWERS && root->kind != JSON_ARRAY && root->kind != JSON_OBJECT)
		*root = (JsonNode){.kind = JSON_STRING, .length = text.length, .u.text = text.text};
	/* of several answers the first is the surest */
	if (root->kind == JSON_ARRAY && root->length > 0)
		*root = root->u.items[0];
	return NULL;
}

/* What is meant: a member of an object, its only one, or what stands there alone. */
static const JsonNode *
meant(const JsonNode *root, const char *name)
{
	const JsonNode *member;

	if (root->kind != JSON_OBJECT)
		return root;
	member = sophia_json_member(root, name, strlen(name));
	return member == NULL && root->length == 1 ? &root->u.members[0].value : member;
}

static Datum
jsonb_of(JsonbValue value)
{
	return JsonbPGetDatum(JsonbValueToJsonb(&value));
}

static JsonbValue
string_value(const char *text, size_t length)
{
	return (JsonbValue){.type = jbvString,
						.val.string = {.val = unconstify(char *, text), .len = length}};
}

static JsonbValue
number_value(const JsonNode *node)
{
	Datum digits = CStringGetDatum(pnstrdup(node->u.text, node->length));

	return (JsonbValue){.type = jbvNumeric,
						.val.numeric = DatumGetNumeric(DirectFunctionCall3(
							numeric_in, digits, ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)))};
}

static bool
is_between(const JsonNode *node, double least, double most)
{
	double number;

	if (node == NULL || node->kind != JSON_NUMBER)
		return false;
	number = strtod(pnstrdup(node->u.text, node->length), NULL);
	return number >= least && number <= most;
}

static char *
read_score(const JsonNode *node, Outcome *outcome)
{
	if (!is_between(node, -1, 1))
		return "the answer is no number from -1 to 1";
	outcome->value = jsonb_of(number_value(node));
	return NULL;
}

static char *
read_string(const JsonNode *node, Outcome *outcome)
{
	if (node == NULL || node->kind != JSON_STRING)
		return "the answer holds no text";
	outcome->value = jsonb_of(string_value(node->u.text, node->length));
	return NULL;
}

/* Whether a string is a word; the case does not matter. */
static bool
is_word(const JsonNode *node, const char *word)
{
	return node->length == strlen(word) && pg_strncasecmp(node->u.text, word, node->length) == 0;
}

static char *
read_label(const TaskCall *task, const JsonNode *node, Outcome *outcome)
{
	for (int i = 0; node != NULL && node->kind == JSON_STRING && i < task->n_labels; i++)
	{
		if (!is_word(node, task->labels[i]))
			continue;
		outcome->value = jsonb_of(string_value(task->labels[i], strlen(task->labels[i])));
		return NULL;
	}
	return "the answer is none of the labels";
}

static char *
read_truth(const JsonNode *node, Outcome *outcome)
{
	JsonbValue value = {.type = jbvNull};

	if (node == NULL)
		return "the answer is neither yes nor no";
	if (node->kind == JSON_TRUE || node->kind == JSON_FALSE)
		value = (JsonbValue){.type = jbvBool, .val.boolean = node->kind == JSON_TRUE};
	else if (node->kind == JSON_STRING && (is_word(node, "yes") || is_word(node, "true")))
		value = (JsonbValue){.type = jbvBool, .val.boolean = true};
	else if (node->kind == JSON_STRING && (is_word(node, "no") || is_word(node, "false")))
		value = (JsonbValue){.type = jbvBool, .val.boolean = false};
	else if (node->kind != JSON_NULL && !(node->kind == JSON_STRING && is_word(node, "unknown")))
		return "the answer is neither yes nor no";
	outcome->value = jsonb_of(value);
	return NULL;
}

/* [{"answer": TEXT, "score": NUMBER}] */
static char *
read_answers(const JsonNode *root, const char *name, Outcome *outcome)
{
	const JsonNode *answer = meant(root, name);
	const JsonNode *score = sophia_json_member(root, "score", strlen("score"));
	JsonbParseState *state = NULL;
	JsonbValue value;

	if (answer == NULL || answer->kind != JSON_STRING)
		return "the answer holds no text";
	if (score != NULL && !is_between(score, 0, 1))
		return "the score of the answer is no number from 0 to 1";
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	value = string_value(name, strlen(name));
	pushJsonbValue(&state, WJB_KEY, &value);
	value = string_value(answer->u.text, answer->length);
	pushJsonbValue(&state, WJB_VALUE, &value);
	value = string_value("score", strlen("score"));
	pushJsonbValue(&state, WJB_KEY, &value);
	value = score != NULL ? number_value(score) : (JsonbValue){.type = jbvNull};
	pushJsonbValue(&state, WJB_VALUE, &value);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	outcome->value = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
	return NULL;
}

static char *
read_json(const TaskCall *task, const JsonNode *root, TextSpan text, Outcome *outcome)
{
	JsonNode schema = parse_schema(task->schema);
	char error[256];

	if (!sophia_json_schema_accepts(&schema, root, matches, error, sizeof(error)))
		return psprintf("the answer does not fit the schema: %s", whole_characters(error));
	outcome->value =
		DirectFunctionCall1(jsonb_in, CStringGetDatum(pnstrdup(text.text, text.length)));
	return NULL;
}

/* Call.read */
static char *
read_answer(const Call *call, Outcome *outcome)
{
	const TaskCall *task = call->task;
	const char *name = task->task->member;
	TextSpan text = bare(outcome->text);
	JsonNode root;
	char *wrong = sophia_call_asks_statement(call) ? parse_cell(task, outcome->text, &root)
												   : parse_answer(call, outcome, text, &root);

	if (wrong != NULL)
		return wrong;
	switch (task->task->value)
	{
		case TASK_SCORE:
			return read_score(meant(&root, name), outcome);
		case TASK_TEXT:
		case TASK_SUMMARY:
			return read_string(meant(&root, name), outcome);
		case TASK_LABEL:
			return read_label(task, meant(&root, name), outcome);
		case TASK_TRUTH:
			return read_truth(meant(&root, name), outcome);
		case TASK_ANSWERS:
			return read_answers(&root, name, outcome);
		case TASK_JSON:
			break;
	}
	return read_json(task, &root, text, outcome);
}

/* ---- calls ---- */

void
sophia_task_make(Call *call, TaskCall *task, const char *model, Datum options)
{
	if (task->schema != NULL)
		sophia_task_check_schema(task->schema);
	if (task->task->value == TASK_LABEL && task->labels == NULL)
	{
		task->labels = sentiments;
		task->n_labels = lengthof(sentiments);
	}
	call->kind = CALL_CHAT;
	call->function = task->task->prompt;
	call->task = task;
	call->read = read_answer;
	call->prompt =
		sophia_prompt_for(call->function, model, task->arguments,
						  task->schema != NULL ? JsonbPGetDatum(task->schema) : 0, options);
	if (call->prompt != NULL && !sophia_call_asks_statement(call))
		options = call->prompt->options;
	call->profile = sophia_profile_of_model(model, call->function, options, options != 0, false);
	call->send = task->task->splits ? sophia_parts_run : NULL;
}
