/*
 * forget_sql.c
 *		What in a document may name a person, for the guard that keeps forgotten people out: see sql/78_forget.sql.
 *
 * The guard sees every row that is written, so this is one pass over the bytes.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(sophia_person_tokens);

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
