/*
 * forget_sql.c
 *		What in a document or row may name a person: see sql/78_forget.sql.
 *
 * The guard sees every row that is written, and forgetting reads every row there is: each is one pass over the bytes.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "port.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(sophia_person_tokens);
PG_FUNCTION_INFO_V1(sophia_document_text);
PG_FUNCTION_INFO_V1(sophia_may_name);

/* No part of an e-mail address or of a user's id as they stand in JSON and in prose. */
static bool
is_delimiter(unsigned char c)
{
	return c <= ' ' || strchr("\"<>(),;:\\[]|", c) != NULL;
}

/* A user of Slack as it stands there, with or without the @ of a mention. */
static bool
is_slack_user(const char *token, size_t length)
{
	if (length > 0 && *token == '@')
		token++, length--;
	if (length < 2 || (*token != 'U' && *token != 'W'))
		return false;
	for (size_t i = 1; i < length; i++)
	{
		if (!(token[i] >= 'A' && token[i] <= 'Z') && !(token[i] >= '0' && token[i] <= '9'))
			return false;
	}
	return true;
}

static bool
may_name_person(const char *token, size_t length)
{
	const char *at = length > 2 ? memchr(token + 1, '@', length - 2) : NULL;

	return at != NULL || is_slack_user(token, length);
}

/* person_tokens(document text): its e-mail addresses and users of Slack, as text[]; once for each time that they occur. */
Datum
sophia_person_tokens(PG_FUNCTION_ARGS)
{
	text *document = PG_GETARG_TEXT_PP(0);
	const char *at = VARDATA_ANY(document);
	const char *end = at + VARSIZE_ANY_EXHDR(document);
	ArrayBuildState *tokens = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	while (at < end)
	{
		const char *start = at;

		while (at < end && !is_delimiter((unsigned char) *at))
			at++;
		if (may_name_person(start, at - start))
			tokens = accumArrayResult(tokens,
									  PointerGetDatum(cstring_to_text_with_len(start, at - start)),
									  false, TEXTOID, CurrentMemoryContext);
		at++;
	}
	PG_RETURN_DATUM(makeArrayResult(tokens, CurrentMemoryContext));
}

/* The value of four hexadecimal digits; -1 where there are not so many. */
static int
read_hex4(const char *at, const char *end)
{
	int value = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char c = at[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + (c | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

/* The character of a \u escape of JSON (RFC 8259, 7) at the u, whose length goes to *length; 0 where it is none. */
static pg_wchar
read_escape(const char *at, const char *end, int *length)
{
	int unit = read_hex4(at + 1, end);

	*length = 5;
	if (unit >= 0xD800 && unit < 0xDC00 && end - at >= 11 && at[5] == '\\' && at[6] == 'u')
	{
		int low = read_hex4(at + 7, end);

		if (low < 0xDC00 || low >= 0xE000)
			return 0;
		*length = 11;
		return surrogate_pair_to_codepoint(unit, low);
	}
	return unit < 0 || (unit >= 0xD800 && unit < 0xE000) ? 0 : unit;
}

/*
 * document_text(document bytea): the document as text to search in, \u escapes resolved, even where it is no JSON or no
 * UTF-8: what is no character becomes a question mark.
 */
Datum
sophia_document_text(PG_FUNCTION_ARGS)
{
	bytea *document = PG_GETARG_BYTEA_PP(0);
	const char *at = VARDATA_ANY(document);
	const char *end = at + VARSIZE_ANY_EXHDR(document);
	StringInfoData out;

	initStringInfo(&out);
	while (at < end)
	{
		int length;
		pg_wchar character;
		unsigned char bytes[4];

		if (*at == '\\' && end - at > 1 && at[1] == 'u' &&
			(character = read_escape(at + 1, end, &length)) != 0)
		{
			unicode_to_utf8(character, bytes);
			appendBinaryStringInfo(&out, (char *) bytes, pg_utf_mblen(bytes));
			at += length + 1;
			continue;
		}
		/* A backslash that is escaped itself begins no escape. */
		if (*at == '\\' && end - at > 1 && at[1] == '\\')
			length = 2;
		else
			length = pg_utf_mblen((const unsigned char *) at);
		if (*at == '\0' || length > end - at ||
			(IS_HIGHBIT_SET(*at) && !pg_utf8_islegal((const unsigned char *) at, length)))
		{
			appendStringInfoChar(&out, '?');
			length = 1;
		}
		else
			appendBinaryStringInfo(&out, at, length);
		at += length;
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* Whether a needle begins here, letters of ASCII in either case. */
static bool
begins_with(const char *at, const char *end, const char *needle, size_t length)
{
	if ((size_t) (end - at) < length)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (pg_ascii_tolower((unsigned char) at[i]) != pg_ascii_tolower((unsigned char) needle[i]))
			return false;
	}
	return true;
}

/* may_name(line text, needles text): whether the line has one of the needles, a line each; an empty one is in every line. */
Datum
sophia_may_name(PG_FUNCTION_ARGS)
{
	text *line = PG_GETARG_TEXT_PP(0);
	text *needles = PG_GETARG_TEXT_PP(1);
	const char *end = VARDATA_ANY(line) + VARSIZE_ANY_EXHDR(line);
	const char *needles_end = VARDATA_ANY(needles) + VARSIZE_ANY_EXHDR(needles);
	const char *next;
	bool begins[256] = {false};

	for (const char *needle = VARDATA_ANY(needles); needle <= needles_end; needle = next + 1)
	{
		next = memchr(needle, '\n', needles_end - needle);
		if (next == NULL)
			next = needles_end;
		if (next == needle)
			PG_RETURN_BOOL(true);
		begins[pg_ascii_tolower((unsigned char) *needle)] = true;
		begins[pg_ascii_toupper((unsigned char) *needle)] = true;
	}
	for (const char *at = VARDATA_ANY(line); at < end; at++)
	{
		if (!begins[(unsigned char) *at])
			continue;
		for (const char *needle = VARDATA_ANY(needles); needle < needles_end; needle = next + 1)
		{
			next = memchr(needle, '\n', needles_end - needle);
			if (next == NULL)
				next = needles_end;
			if (begins_with(at, end, needle, next - needle))
				PG_RETURN_BOOL(true);
		}
	}
	PG_RETURN_BOOL(false);
}
