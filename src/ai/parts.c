/*
 * parts.c
 *		Tasks over texts that are too long for their model: see task.h.
 *
 * A text is cut where its model's limit says so, or else in halves when the provider refuses it; its parts are asked about at
 * the same time, with those of all other texts.  Summaries of parts are put together and summarized again, until there is one;
 * of answers to a question the surest is taken.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "ai/messages.h"
#include "ai/task.h"

/* A refused part of fewer bytes is not cut any more: the refusal must have another reason. */
#define LEAST_BYTES 400

/* A part of a text; those of one text are together, in their order. */
typedef struct Part
{
	int text;
	TextSpan span;
	bool done;
	Outcome outcome;
} Part;

typedef struct PartList
{
	Part *parts;
	int n;
	int size;
} PartList;

static void
add_part(PartList *list, Part part)
{
	if (list->n == list->size)
	{
		list->size = Max(16, list->size * 2);
		list->parts = list->parts == NULL ? palloc(sizeof(Part) * list->size)
										  : repalloc_huge(list->parts, sizeof(Part) * list->size);
	}
	list->parts[list->n++] = part;
}

/* How much of a text from its beginning makes a part of at most `most` bytes: up to white space, or else a character. */
static size_t
cut(TextSpan text, size_t most)
{
	size_t at = most;

	if (text.length <= most)
		return text.length;
	while (at > most / 2 && strchr(" \t\r\n", text.text[at]) == NULL)
		at--;
	if (at > most / 2)
		return at;
	for (at = most; at > 1 && ((unsigned char) text.text[at] & 0xC0) == 0x80;)
		at--;
	return at;
}

static bool
is_blank(TextSpan text)
{
	while (text.length > 0 && strchr(" \t\n\r\f\v", text.text[0]) != NULL)
		text.text++, text.length--;
	return text.length == 0;
}

/* Adds a text as parts of at most `most` bytes. */
static void
add_text(PartList *list, int text, TextSpan span, size_t most)
{
	/* one that is NULL or blank stays whole, for what is said of it */
	while (span.text != NULL && span.length > most && !is_blank(span))
	{
		size_t length = cut(span, most);

		CHECK_FOR_INTERRUPTS();
		add_part(list, (Part){.text = text, .span = {span.text, length}});
		span.text += length, span.length -= length;
		if (is_blank(span))
			return;
	}
	add_part(list, (Part){.text = text, .span = span});
}

/* Asks about the parts that are not done. */
static void
run_parts(const Call *call, PartList *list)
{
	Call of_parts = *call;
	int *places = palloc(sizeof(int) * list->n);

	of_parts.n = 0;
	of_parts.inputs = palloc_extended(sizeof(TextSpan) * list->n, MCXT_ALLOC_HUGE);
	for (int i = 0; i < list->n; i++)
	{
		if (list->parts[i].done)
			continue;
		places[of_parts.n] = i;
		of_parts.inputs[of_parts.n++] = list->parts[i].span;
	}
	sophia_call_send(&of_parts);
	for (int i = 0; i < of_parts.n; i++)
	{
		list->parts[places[i]].outcome = of_parts.outcomes[i];
		list->parts[places[i]].done = true;
	}
	pfree(of_parts.inputs);
	pfree(places);
}

/* Halves the parts that were too large; whether there were any. */
static bool
halve(PartList *list)
{
	PartList halves = {0};
	bool any = false;

	for (int i = 0; i < list->n; i++)
	{
		const Part *part = &list->parts[i];
		size_t length;

		if (!part->done || part->outcome.sqlstate != ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
			part->span.length < 2 * LEAST_BYTES)
		{
			add_part(&halves, *part);
			continue;
		}
		any = true;
		length = cut(part->span, part->span.length / 2);
		add_part(&halves, (Part){.text = part->text, .span = {part->span.text, length}});
		add_part(&halves, (Part){.text = part->text,
								 .span = {part->span.text + length, part->span.length - length}});
	}
	*list = halves;
	return any;
}

/* Bytes of a part, by the limit of the model; room is left for prompt and answer.  3 bytes a token are few. */
static size_t
part_bytes(const Call *call)
{
	int64 context = call->profile->context_tokens;
	int64 tokens = context - Min(1024, context / 3);

	if (context == 0)
		return REQUEST_BODY_BYTES / 2;
	tokens -= strlen(call->prompt->instructions) / 4;
	return Min(Max(tokens, 1) * 3 + LEAST_BYTES, REQUEST_BODY_BYTES / 2);
}

/* ---- putting together ---- */

static void
add_count(int64 *sum, int64 count)
{
	*sum = *sum < 0 || count < 0 ? -1 : *sum + count;
}

/* What the parts have used counts for their text. */
static void
add_use(Outcome *sum, const Outcome *part)
{
	add_count(&sum->tokens_in, part->tokens_in);
	add_count(&sum->tokens_out, part->tokens_out);
	sum->ms += part->ms;
}

/* The string that a value is. */
static TextSpan
string_of(Datum value)
{
	JsonbValue scalar;

	(void) JsonbExtractScalar(&DatumGetJsonbP(value)->root, &scalar);
	return (TextSpan){scalar.val.string.val, scalar.val.string.len};
}

/* The score of [{answer, score}]; one that is not told is below all others. */
static double
score_of(Datum value)
{
	JsonbValue *answer = getIthJsonbValueFromContainer(&DatumGetJsonbP(value)->root, 0);
	JsonbValue score;

	if (getKeyJsonValueFromContainer(answer->val.binary.data, "score", 5, &score) == NULL ||
		score.type != jbvNumeric)
		return -1;
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(score.val.numeric)));
}

/* The part that says what becomes of the whole: one that failed, or the surest answer; NULL: all of them do. */
static const Part *
deciding(const Part *parts, int n, bool answers)
{
	const Part *best = n == 1 ? &parts[0] : NULL;

	for (int i = 0; i < n; i++)
	{
		if (parts[i].outcome.sqlstate != 0)
			return &parts[i];
	}
	for (int i = 0; answers && i < n; i++)
	{
		if (best == NULL || score_of(parts[i].outcome.value) > score_of(best->outcome.value))
			best = &parts[i];
	}
	return best;
}

/* The summaries of the parts as the text of the next round; false where they are no shorter than the parts. */
static bool
join(PartList *next, const Part *parts, int n, size_t most)
{
	StringInfoData joined;
	size_t before = 0;

	initStringInfo(&joined);
	for (int i = 0; i < n; i++)
	{
		TextSpan summary = string_of(parts[i].outcome.value);

		before += parts[i].span.length;
		if (i > 0)
			appendStringInfoString(&joined, "\n\n");
		appendBinaryStringInfo(&joined, summary.text, summary.length);
	}
	if ((size_t) joined.len >= before)
		return false;
	add_text(next, parts[0].text, (TextSpan){joined.data, joined.len}, most);
	return true;
}

/* Makes of the parts of one text its outcome, or the text of the next round. */
static void
put_together(const Call *call, PartList *next, const Part *parts, int n, size_t most)
{
	Outcome *whole = &call->outcomes[parts[0].text];
	const Part *one = deciding(parts, n, call->task->task->value == TASK_ANSWERS);
	Outcome used = *whole;

	for (int i = 0; i < n; i++)
		add_use(&used, &parts[i].outcome);
	if (one != NULL)
		*whole = one->outcome;
	else if (!join(next, parts, n, most))
	{
		whole->sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		whole->message = psprintf("model \"%s\" of provider \"%s\": the summaries of the parts of"
								  " the text are longer than the text",
								  call->profile->model, call->profile->provider);
	}
	whole->tokens_in = used.tokens_in;
	whole->tokens_out = used.tokens_out;
	whole->ms = used.ms;
}

/* The texts of the next round. */
static PartList
gather(const Call *call, const PartList *list, size_t most)
{
	PartList next = {0};

	for (int from = 0, n; from < list->n; from += n)
	{
		for (n = 1; from + n < list->n && list->parts[from + n].text == list->parts[from].text;)
			n++;
		put_together(call, &next, &list->parts[from], n, most);
	}
	return next;
}

void
sophia_parts_run(Call *call)
{
	PartList list = {0};
	size_t most = part_bytes(call);

	call->outcomes = palloc0(sizeof(Outcome) * call->n);
	for (int i = 0; i < call->n; i++)
		add_text(&list, i, call->inputs[i], most);
	while (list.n > 0)
	{
		do
			run_parts(call, &list);
		while (halve(&list));
		list = gather(call, &list, most);
	}
}
