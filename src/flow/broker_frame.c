/*
 * broker_frame.c
 *		Cuts the answer of a broker's read into frames: see broker_frame.h.  Pure: no server call.
 *
 * Nearly every byte of an answer is the base64 of a content frame (lines of up to 44 kB, 100 bytes
 * of them envelope), so the scanner below walks the envelope member by member in place, allocates
 * nothing, and leaves the content where it is, for the reader to decode (base/base64.h).
 */
#include "flow/broker_frame.h"

#include <stdio.h>
#include <string.h>

/* Objects and arrays in one another that skip_value follows; the real depth is below 10. */
#define MAX_DEPTH 64

typedef struct Cursor
{
	const char *at;
	const char *end;
	const char *error; /* what is wrong at `at`, NULL = nothing */
} Cursor;

typedef struct Slice
{
	const char *start;
	size_t length;
	bool escaped; /* holds backslashes */
} Slice;

static bool
fail(Cursor *c, const char *error)
{
	if (c->error == NULL)
		c->error = error;
	return false;
}

/* The next character that is not white space, or NUL at the end. */
static char
peek(Cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r' || *c->at == '\n'))
		c->at++;
	return c->at < c->end ? *c->at : '\0';
}

static bool
scan_char(Cursor *c, char wanted)
{
	if (peek(c) != wanted)
		return fail(c, "unexpected character");
	c->at++;
	return true;
}

/* A string; the slice is what stands between its quotes. */
static bool
scan_string(Cursor *c, Slice *string)
{
	if (!scan_char(c, '"'))
		return false;
	string->start = c->at;
	for (;;)
	{
		const char *quote = memchr(c->at, '"', c->end - c->at);
		const char *backslash;

		if (quote == NULL)
			return fail(c, "unfinished string");
		backslash = memchr(c->at, '\\', quote - c->at);
		if (backslash == NULL)
		{
			string->length = quote - string->start;
			string->escaped = memchr(string->start, '\\', c->at - string->start) != NULL;
			c->at = quote + 1;
			return true;
		}
		if (c->end - backslash < 2)
			return fail(c, "unfinished string");
		c->at = backslash + 2;
	}
}

/* A number or literal. */
static bool
scan_word(Cursor *c, Slice *word)
{
	peek(c);
	word->start = c->at;
	word->escaped = false;
	while (c->at < c->end && strchr(",]} \t\r\n", *c->at) == NULL)
		c->at++;
	word->length = c->at - word->start;
	return word->length > 0 || fail(c, "unexpected character");
}

static bool
slice_is(const Slice *slice, const char *text)
{
	return slice->length == strlen(text) && memcmp(slice->start, text, slice->length) == 0;
}

/*
 * Moves to the value of the next member of an object; false at the object's end and on an error.
 * `first` is true before the first call.
 */
static bool
next_member(Cursor *c, bool *first, Slice *key)
{
	if (*first ? !scan_char(c, '{') : (peek(c) != '}' && !scan_char(c, ',')))
		return false;
	if (peek(c) == '}')
	{
		c->at++;
		return false;
	}
	*first = false;
	return scan_string(c, key) && scan_char(c, ':');
}

/* Passes over any value, checking no more than where it ends. */
static bool
skip_value(Cursor *c)
{
	int depth = 0;
	Slice ignored;

	do
	{
		char ch = peek(c);

		if (ch == '"')
		{
			if (!scan_string(c, &ignored))
				return false;
		}
		else if (ch == '{' || ch == '[')
		{
			if (++depth > MAX_DEPTH)
				return fail(c, "too deep");
			c->at++;
		}
		else if (depth > 0 && (ch == '}' || ch == ']'))
		{
			depth--;
			c->at++;
		}
		else if (depth > 0 && (ch == ',' || ch == ':'))
			c->at++;
		else if (!scan_word(c, &ignored))
			return false;
	} while (depth > 0);
	return true;
}

/* A scalar: a string, or a word. */
static bool
scan_scalar(Cursor *c, Slice *value)
{
	return peek(c) == '"' ? scan_string(c, value) : scan_word(c, value);
}

/* The digits of a slice from `at` on, as a number up to `max`. */
static bool
read_digits(Cursor *c, const Slice *text, size_t at, uint64_t max, uint64_t *value)
{
	uint64_t sum = 0;

	if (at == text->length)
		return fail(c, "not an integer");
	for (; at < text->length; at++)
	{
		unsigned digit = (unsigned char) text->start[at] - '0';

		if (digit > 9 || sum > (max - digit) / 10)
			return fail(c, "not an integer");
		sum = sum * 10 + digit;
	}
	*value = sum;
	return true;
}

/* An integer, written as a number or as a string; null is 0. */
static bool
scan_integer(Cursor *c, int64_t *value)
{
	Slice text;
	uint64_t sum;
	bool negative;

	*value = 0;
	if (!scan_scalar(c, &text))
		return false;
	if (slice_is(&text, "null"))
		return true;
	negative = text.length > 0 && text.start[0] == '-';
	if (!read_digits(c, &text, negative, INT64_MAX, &sum))
		return false;
	*value = negative ? -(int64_t) sum : (int64_t) sum;
	return true;
}

/* The same for one that has no sign and may have all 64 bits. */
static bool
scan_unsigned(Cursor *c, uint64_t *value)
{
	Slice text;

	*value = 0;
	if (!scan_scalar(c, &text))
		return false;
	return slice_is(&text, "null") || read_digits(c, &text, 0, UINT64_MAX, value);
}

/* Keeps a text for people: ASCII only, one line, cut to fit. */
static void
copy_message(char *to, size_t size, const Slice *from)
{
	size_t used = 0;

	for (size_t i = 0; i < from->length && used + 1 < size; i++)
	{
		unsigned char ch = from->start[i];

		if (ch == '\\' && i + 1 < from->length)
		{
			ch = from->start[++i];
			if (ch == 'u' && from->length - i > 4)
			{
				i += 4;
				ch = '?';
			}
			else if (strchr("nrtbf", ch) != NULL)
				ch = ' ';
		}
		to[used++] = ch < 0x20 ? ' ' : ch > 0x7E ? '?' : ch;
	}
	to[used] = '\0';
}

static bool
scan_message(Cursor *c, Frame *frame)
{
	Slice text;

	if (!scan_scalar(c, &text))
		return false;
	copy_message(frame->message, sizeof(frame->message), &text);
	return true;
}

static bool
scan_status(Cursor *c, Frame *frame)
{
	static const struct
	{
		const char *name;
		FrameStatus status;
	} known[] = {
		{"OK", BROKER_OK},
		{"JOURNAL_NOT_FOUND", BROKER_JOURNAL_NOT_FOUND},
		{"OFFSET_NOT_YET_AVAILABLE", BROKER_OFFSET_NOT_YET_AVAILABLE},
		{"NOT_ALLOWED", BROKER_NOT_ALLOWED},
		{"SUSPENDED", BROKER_SUSPENDED},
	};

	if (!scan_message(c, frame))
		return false;
	frame->status = BROKER_OTHER;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (strcmp(frame->message, known[i].name) == 0)
			frame->status = known[i].status;
	}
	return true;
}

/* The parts of a SHA-1. */
static bool
scan_sum(Cursor *c, Frame *frame)
{
	bool first = true;
	Slice key;

	if (peek(c) != '{')
		return skip_value(c);
	while (next_member(c, &first, &key))
	{
		bool part = key.length == 5 && memcmp(key.start, "part", 4) == 0 && key.start[4] >= '1' &&
					key.start[4] <= '3';

		if (!(part ? scan_unsigned(c, &frame->sum[key.start[4] - '1']) : skip_value(c)))
			return false;
	}
	return c->error == NULL;
}

/* protocol.proto CompressionCodec, as the extension that a file of that codec has. */
static bool
scan_codec(Cursor *c, Frame *frame)
{
	static const struct
	{
		const char *name;
		const char *extension;
	} known[] = {
		{"NONE", ".raw"},
		{"GZIP", ".gz"},
		{"GZIP_OFFLOAD_DECOMPRESSION", ".gzod"},
	};
	Slice text;

	if (!scan_scalar(c, &text))
		return false;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (slice_is(&text, known[i].name))
			frame->extension = known[i].extension;
	}
	return true;
}

/* The fragment of a metadata frame; null leaves the kind as it is. */
static bool
scan_fragment(Cursor *c, Frame *frame)
{
	bool first = true;
	Slice key;

	if (peek(c) != '{')
		return skip_value(c);
	if (frame->kind == FRAME_STATUS)
		frame->kind = FRAME_METADATA;
	while (next_member(c, &first, &key))
	{
		if (slice_is(&key, "begin"))
			scan_integer(c, &frame->fragment_begin);
		else if (slice_is(&key, "end"))
			scan_integer(c, &frame->fragment_end);
		else if (slice_is(&key, "modTime"))
			scan_integer(c, &frame->mod_time);
		else if (slice_is(&key, "sum"))
			scan_sum(c, frame);
		else if (slice_is(&key, "compressionCodec"))
			scan_codec(c, frame);
		else
			skip_value(c);
		if (c->error != NULL)
			return false;
	}
	return c->error == NULL;
}

/* The content of a content frame; null leaves the kind as it is. */
static bool
scan_content(Cursor *c, Frame *frame)
{
	Slice text;

	if (peek(c) != '"')
		return skip_value(c);
	if (!scan_string(c, &text))
		return false;
	if (text.escaped)
		return fail(c, "content is not base64");
	frame->kind = FRAME_CONTENT;
	frame->content = text.start;
	frame->content_length = text.length;
	return true;
}

static bool
scan_url(Cursor *c, Frame *frame)
{
	Slice text;

	if (peek(c) != '"')
		return skip_value(c);
	if (!scan_string(c, &text))
		return false;
	frame->has_url = text.length > 0;
	frame->url = text.start;
	frame->url_length = text.length;
	return true;
}

static bool
scan_result(Cursor *c, Frame *frame)
{
	bool first = true;
	Slice key;

	frame->kind = FRAME_STATUS;
	while (next_member(c, &first, &key))
	{
		if (slice_is(&key, "content"))
			scan_content(c, frame);
		else if (slice_is(&key, "offset"))
			scan_integer(c, &frame->offset);
		else if (slice_is(&key, "writeHead"))
			scan_integer(c, &frame->write_head);
		else if (slice_is(&key, "status"))
			scan_status(c, frame);
		else if (slice_is(&key, "fragment"))
			scan_fragment(c, frame);
		else if (slice_is(&key, "fragmentUrl"))
			scan_url(c, frame);
		else
			skip_value(c);
		if (c->error != NULL)
			return false;
	}
	return c->error == NULL;
}

/*
 * One member of an error, which grpc-gateway also sends without the wrapper; `code` is that
 * form's.
 */
static bool
scan_error_member(Cursor *c, const Slice *key, Frame *frame)
{
	int64_t number;

	if (slice_is(key, "message"))
		return scan_message(c, frame);
	if (slice_is(key, "grpcCode") || slice_is(key, "code"))
	{
		if (!scan_integer(c, &number))
			return false;
		frame->grpc_code = (int) number;
		return true;
	}
	if (slice_is(key, "httpCode"))
	{
		if (!scan_integer(c, &number))
			return false;
		frame->http_code = (int) number;
		return true;
	}
	return skip_value(c);
}

static bool
scan_error(Cursor *c, Frame *frame)
{
	bool first = true;
	Slice key;

	frame->kind = FRAME_ERROR;
	if (peek(c) != '{')
		return scan_message(c, frame);
	while (next_member(c, &first, &key))
	{
		if (!scan_error_member(c, &key, frame))
			return false;
	}
	return c->error == NULL;
}

static bool
scan_line(Cursor *c, Frame *frame)
{
	bool first = true;
	Slice key;

	while (next_member(c, &first, &key))
	{
		if (slice_is(&key, "result"))
			scan_result(c, frame);
		else if (slice_is(&key, "error"))
			scan_error(c, frame);
		else if (slice_is(&key, "code") || slice_is(&key, "message"))
		{
			frame->kind = FRAME_ERROR;
			scan_error_member(c, &key, frame);
		}
		else
			skip_value(c);
		if (c->error != NULL)
			return false;
	}
	if (c->error == NULL && peek(c) != '\0')
		return fail(c, "unexpected character");
	if (c->error == NULL && frame->kind == FRAME_NONE)
		return fail(c, "neither result nor error");
	return c->error == NULL;
}

/* Finds the end of the line that the input begins with; false while it is not there. */
static bool
find_line(FrameScanner *scanner, const ByteBuffer *input, bool complete, size_t *length)
{
	size_t size = buffer_size(input);
	const char *newline = NULL;

	if (scanner->searched < size)
		newline = memchr(buffer_bytes(input) + scanner->searched, '\n', size - scanner->searched);
	if (newline == NULL && (!complete || size == 0))
	{
		scanner->searched = size;
		return false;
	}
	*length = newline != NULL ? (size_t) (newline - buffer_bytes(input)) + 1 : size;
	scanner->searched = 0;
	return true;
}

FrameKind
sophia_frame_next(FrameScanner *scanner, const ByteBuffer *input, bool complete, Frame *frame)
{
	Cursor c = {0};
	size_t length;

	memset(frame, 0, offsetof(Frame, message));
	frame->message[0] = '\0';
	frame->length = 0;
	if (!find_line(scanner, input, complete, &length))
		return frame->kind;
	c.at = buffer_bytes(input);
	c.end = c.at + length;
	if (!scan_line(&c, frame))
	{
		frame->kind = FRAME_INVALID;
		snprintf(frame->message, sizeof(frame->message), "malformed answer: %s at byte %zu of %zu",
				 c.error, (size_t) (c.at - buffer_bytes(input)), length);
	}
	frame->length = length;
	return frame->kind;
}

/* The value of four hexadecimal digits, -1 when they are none. */
static int
hex_value(const char *digits)
{
	int value = 0;

	for (int i = 0; i < 4; i++)
	{
		static const char known[] = "0123456789abcdef";
		const char *found = digits[i] != '\0' ? strchr(known, digits[i] | 0x20) : NULL;

		if (found == NULL)
			return -1;
		value = value * 16 + (int) (found - known);
	}
	return value;
}

bool
sophia_frame_url(const Frame *frame, char *url, size_t size)
{
	size_t used = 0;

	if (!frame->has_url)
		return false;
	for (size_t i = 0; i < frame->url_length; i++)
	{
		int ch = (unsigned char) frame->url[i];

		/* what HTML might misread is written so: \u0026 */
		if (ch == '\\' && frame->url_length - i >= 6 && frame->url[i + 1] == 'u')
		{
			ch = hex_value(frame->url + i + 2);
			i += 5;
		}
		else if (ch == '\\' && i + 1 < frame->url_length)
			ch = (unsigned char) frame->url[++i];
		if (ch <= 0x20 || ch > 0x7E || used + 1 >= size)
			return false;
		url[used++] = (char) ch;
	}
	url[used] = '\0';
	return true;
}
