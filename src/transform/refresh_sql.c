/*
 * refresh_sql.c
 *		SQL entry points of refresh: small rules that it applies to many values of each row.
 *
 * They are C for their number alone: a full refresh calls them some ten times for each of a million rows.
 */
#include "postgres.h"

#include "base/compat.h"
#include "fmgr.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(sophia_value_or_null_sql);
PG_FUNCTION_INFO_V1(sophia_document_hash_sql);

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Whether a trimmed value is what systems write where there is no value. */
static bool
means_nothing(const char *value, size_t len)
{
	static const char *const words[] = {"", "n/a", "null", "unknown"};

	for (size_t i = 0; i < lengthof(words); i++)
		if (len == strlen(words[i]) && pg_strncasecmp(value, words[i], len) == 0)
			return true;
	return false;
}

Datum
sophia_value_or_null_sql(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	const char *from = VARDATA_ANY(value);
	const char *to = from + VARSIZE_ANY_EXHDR(value);
	size_t size = to - from;

	while (from < to && is_blank(*from))
		from++;
	while (from < to && is_blank(to[-1]))
		to--;
	if (means_nothing(from, to - from))
		PG_RETURN_NULL();
	if ((size_t) (to - from) == size)
		PG_RETURN_TEXT_P(value);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(from, (int) (to - from)));
}

/* Adds a piece of a document to its hash; the brackets count, so that nesting does. */
static void
hash_piece(JsonbIteratorToken token, const JsonbValue *value, uint64 *hash)
{
	if (token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM)
		JsonbHashScalarValueExtended(value, hash, 0);
	else
	{
		JsonbValue bracket = {.type = jbvString};

		bracket.val.string.val = token == WJB_BEGIN_ARRAY	 ? "["
								 : token == WJB_END_ARRAY	 ? "]"
								 : token == WJB_BEGIN_OBJECT ? "{"
															 : "}";
		bracket.val.string.len = 1;
		JsonbHashScalarValueExtended(&bracket, hash, 0);
	}
}

Datum
sophia_document_hash_sql(PG_FUNCTION_ARGS)
{
	Jsonb *doc = PG_GETARG_JSONB_P(0);
	JsonbIterator *it = JsonbIteratorInit(&doc->root);
	JsonbIteratorToken token;
	JsonbValue value;
	uint64 hash = 0;
	int depth = 0;
	bytea *result = palloc(VARHDRSZ + sizeof(hash));

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY)
			depth++;
		else if (token == WJB_END_OBJECT || token == WJB_END_ARRAY)
			depth--;
		else if (token == WJB_KEY && depth == 1 && value.val.string.len == strlen("_meta") &&
				 memcmp(value.val.string.val, "_meta", strlen("_meta")) == 0)
		{
			/* Its value, passed over as a whole. */
			(void) JsonbIteratorNext(&it, &value, true);
			continue;
		}
		hash_piece(token, &value, &hash);
	}
	hash = pg_hton64(hash);
	SET_VARSIZE(result, VARHDRSZ + sizeof(hash));
	memcpy(VARDATA(result), &hash, sizeof(hash));
	PG_RETURN_BYTEA_P(result);
}
