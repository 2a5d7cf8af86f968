/*
 * slack.c
 *		Slack's message markup as people read it: see normalize.h.  Pure: no server call.
 *
 * Slack escapes & < > in what people type, so every "<…>" is markup: a mention, a link or a command.  One pass
 * decodes both, so that an escaped "&lt;@U1&gt;" stays the text it was.  A reference that nothing names stays
 * as written: an id is worth more than a gap.
 * Source of the forms: Slack's public reference "Formatting text for app surfaces".
 */
#include "transform/slack.h"
#include "transform/unicode.h"

#include <string.h>

/* A run of bytes inside the message. */
typedef struct Span
{
	const char *at;
	size_t n;
} Span;

typedef struct Slack
{
	ByteBuffer *out;
	SlackNameLookup lookup;
	void *arg;
} Slack;

static bool
span_equals(Span span, const char *word)
{
	return span.n == strlen(word) && memcmp(span.at, word, span.n) == 0;
}

static bool
span_starts(Span span, const char *word)
{
	return span.n >= strlen(word) && memcmp(span.at, word, strlen(word)) == 0;
}

static Span
span_from(Span span, size_t n)
{
	return (Span){span.at + n, span.n - n};
}

/* The part of span before the first `mark`; `rest` is what follows it, empty without one. */
static Span
cut(Span span, char mark, Span *rest)
{
	const char *found = span.n == 0 ? NULL : memchr(span.at, mark, span.n);
	size_t n = found == NULL ? span.n : (size_t) (found - span.at);

	*rest = span_from(span, found == NULL ? n : n + 1);
	return (Span){span.at, n};
}

/* Appends text with &amp; &lt; &gt; decoded. */
static bool
append_text(ByteBuffer *out, Span text)
{
	while (text.n > 0)
	{
		const char *found = memchr(text.at, '&', text.n);
		size_t plain = found == NULL ? text.n : (size_t) (found - text.at);
		size_t skip = 1;
		char c = '&';

		if (plain > 0 && !sophia_buffer_append(out, text.at, plain))
			return false;
		text = span_from(text, plain);
		if (text.n == 0)
			return true;
		if (span_starts(text, "&amp;"))
			skip = 5;
		else if (span_starts(text, "&lt;"))
		{
			c = '<';
			skip = 4;
		}
		else if (span_starts(text, "&gt;"))
		{
			c = '>';
			skip = 4;
		}
		if (!sophia_buffer_append(out, &c, 1))
			return false;
		text = span_from(text, skip);
	}
	return true;
}

/* Appends the sign and the name of an id, its label where there is no name; false when there is neither. */
static bool
append_reference(Slack *slack, char sign, Span id, Span label)
{
	size_t before = buffer_size(slack->out);

	if (sophia_buffer_append(slack->out, &sign, 1))
	{
		if (slack->lookup != NULL && slack->lookup(slack->arg, id.at, id.n, slack->out))
			return true;
		if (label.n > 0 && label.at[0] == sign)
			label = span_from(label, 1);
		if (label.n > 0 && append_text(slack->out, label))
			return true;
	}
	buffer_truncate(slack->out, before);
	return false;
}

/* "!here", "!subteam^S1|@team", "!date^…|fallback" and other commands, without the exclamation mark. */
static bool
append_command(Slack *slack, Span command, Span label)
{
	Span argument;
	Span word = cut(command, '^', &argument);

	if (span_equals(word, "subteam"))
		return append_reference(slack, '@', cut(argument, '^', &argument), label);
	if (span_equals(word, "here") || span_equals(word, "channel") ||
		span_equals(word, "everyone") || span_equals(word, "group"))
		return append_reference(slack, '@', word, word);
	return label.n > 0 && append_text(slack->out, label);
}

static bool
append_link(Slack *slack, Span address, Span label)
{
	if (label.n > 0)
		return append_text(slack->out, label);
	if (span_starts(address, "mailto:"))
		return append_text(slack->out, span_from(address, 7));
	if (span_starts(address, "tel:"))
		return append_text(slack->out, span_from(address, 4));
	for (size_t i = 0; i + 3 <= address.n; i++)
		if (memcmp(address.at + i, "://", 3) == 0)
			return append_text(slack->out, address);
	return false;
}

/* Appends what a "<…>" means; false (and nothing is appended) when it has to stay as written. */
static bool
append_markup(Slack *slack, Span inside)
{
	Span label;
	Span head = cut(inside, '|', &label);

	if (head.n == 0)
		return false;
	switch (head.at[0])
	{
		case '@':
			return append_reference(slack, '@', span_from(head, 1), label);
		case '#':
			return append_reference(slack, '#', span_from(head, 1), label);
		case '!':
			return append_command(slack, span_from(head, 1), label);
		default:
			return append_link(slack, head, label);
	}
}

bool
sophia_slack_text(const char *in, size_t len, SlackNameLookup lookup, void *arg, ByteBuffer *out)
{
	Slack slack = {out, lookup, arg};
	Span text = {in, len};
	size_t before = buffer_size(out);
	bool fits = true;

	while (text.n > 0 && fits)
	{
		Span rest;
		Span plain = cut(text, '<', &rest);
		const char *close;

		fits = append_text(out, plain);
		text = span_from(text, plain.n);
		if (text.n == 0)
			break;
		close = memchr(text.at, '>', text.n);
		if (close == NULL)
		{
			fits = fits && append_text(out, text);
			break;
		}
		rest = (Span){text.at + 1, (size_t) (close - text.at) - 1};
		if (!append_markup(&slack, rest))
			fits = fits && sophia_buffer_append(out, "<", 1) && append_text(out, rest) &&
				   sophia_buffer_append(out, ">", 1);
		text = span_from(text, rest.n + 2);
	}
	if (fits && buffer_size(out) > before)
		return true;
	buffer_truncate(out, before);
	return false;
}
