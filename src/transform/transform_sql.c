/*
 * transform_sql.c
 *		SQL entry points of the transforms: argument checks and one call down.
 *
 * The pure functions write to a malloc'd buffer.  One buffer serves all of them and stays with the process, so
 * that an error between filling and copying it leaks nothing; one that grew large is given back.  None of these
 * functions raises an error for any text: what cannot be normalised is NULL.
 */
#include "postgres.h"

#include "base/buffer.h"
#include "base/compat.h"
#include "common/unicode_norm.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "transform/normalize.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#define SCRATCH_KEPT   (64 * 1024) /* bytes of memory the buffer may keep between calls */
#define MAX_NAME_BYTES 1000		   /* longer values are no name */

static ByteBuffer scratch;

/* The bytes in `scratch` as a text, NULL when a text cannot hold them. */
static text *
scratch_text(void)
{
	size_t size = buffer_size(&scratch);
	text *result;

	if (size > MaxAllocSize - VARHDRSZ)
		result = NULL;
	else
		result = cstring_to_text_with_len(buffer_bytes(&scratch), (int) size);
	if (scratch.capacity > SCRATCH_KEPT)
		sophia_buffer_free(&scratch);
	return result;
}

/* Ends a function whose pure part filled `scratch` (true) or could not normalise (false). */
static Datum
scratch_result(FunctionCallInfo fcinfo, bool normalised)
{
	text *result = normalised ? scratch_text() : NULL;

	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}

PG_FUNCTION_INFO_V1(sophia_normalize_email_sql);
PG_FUNCTION_INFO_V1(sophia_email_domain_sql);
PG_FUNCTION_INFO_V1(sophia_normalize_phone_sql);
PG_FUNCTION_INFO_V1(sophia_normalize_name_sql);
PG_FUNCTION_INFO_V1(sophia_strip_html_sql);
PG_FUNCTION_INFO_V1(sophia_slack_text_sql);
PG_FUNCTION_INFO_V1(sophia_snippet_sql);

Datum
sophia_normalize_email_sql(PG_FUNCTION_ARGS)
{
	text *email = PG_GETARG_TEXT_PP(0);

	sophia_buffer_clear(&scratch);
	return scratch_result(
		fcinfo, sophia_normalize_email(VARDATA_ANY(email), VARSIZE_ANY_EXHDR(email), &scratch));
}

Datum
sophia_email_domain_sql(PG_FUNCTION_ARGS)
{
	text *email = PG_GETARG_TEXT_PP(0);

	sophia_buffer_clear(&scratch);
	return scratch_result(
		fcinfo, sophia_email_domain(VARDATA_ANY(email), VARSIZE_ANY_EXHDR(email), &scratch));
}

Datum
sophia_normalize_phone_sql(PG_FUNCTION_ARGS)
{
	text *phone;
	text *region = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	phone = PG_GETARG_TEXT_PP(0);
	sophia_buffer_clear(&scratch);
	return scratch_result(fcinfo, sophia_normalize_phone_in(
									  VARDATA_ANY(phone), VARSIZE_ANY_EXHDR(phone),
									  region == NULL ? NULL : VARDATA_ANY(region),
									  region == NULL ? 0 : VARSIZE_ANY_EXHDR(region), &scratch));
}

/* Brings UTF-8 to a normal form of Unicode; the result ends with a zero byte. */
static char *
unicode_form(UnicodeNormalizationForm form, const char *in, int len, size_t *result_len)
{
	pg_wchar *points = palloc((len + 1) * sizeof(pg_wchar));
	pg_wchar *normal;
	char *result;
	int n;

	points[pg_mb2wchar_with_len(in, points, len)] = 0;
	normal = unicode_normalize(form, points);
	for (n = 0; normal[n] != 0;)
		n++;
	result = palloc((size_t) n * MAX_MULTIBYTE_CHAR_LEN + 1);
	*result_len = pg_wchar2mb_with_len(normal, result, n);
	pfree(points);
	pfree(normal);
	return result;
}

/* True when every byte is ASCII, so that every normal form is the text itself. */
static bool
is_ascii(const char *in, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (IS_HIGHBIT_SET(in[i]))
			return false;
	return true;
}

Datum
sophia_normalize_name_sql(PG_FUNCTION_ARGS)
{
	text *name = PG_GETARG_TEXT_PP(0);
	const char *in = VARDATA_ANY(name);
	size_t len = VARSIZE_ANY_EXHDR(name);

	if (len > MAX_NAME_BYTES)
		PG_RETURN_NULL();
	if (!is_ascii(in, len))
		in = unicode_form(UNICODE_NFKD, in, (int) len, &len);
	sophia_buffer_clear(&scratch);
	if (!sophia_fold_name(in, len, &scratch))
		PG_RETURN_NULL();
	if (!is_ascii(buffer_bytes(&scratch), buffer_size(&scratch)))
	{
		in = unicode_form(UNICODE_NFC, buffer_bytes(&scratch), (int) buffer_size(&scratch), &len);
		PG_RETURN_TEXT_P(cstring_to_text_with_len(in, (int) len));
	}
	return scratch_result(fcinfo, true);
}

Datum
sophia_strip_html_sql(PG_FUNCTION_ARGS)
{
	text *html = PG_GETARG_TEXT_PP(0);

	sophia_buffer_clear(&scratch);
	return scratch_result(fcinfo,
						  sophia_strip_html(VARDATA_ANY(html), VARSIZE_ANY_EXHDR(html), &scratch));
}

/* SlackNameLookup over a jsonb object of id -> name; a value that is no text, or is empty, names nothing. */
static bool
lookup_in_jsonb(void *arg, const char *id, size_t len, ByteBuffer *out)
{
	JsonbValue value;

	if (getKeyJsonValueFromContainer(&((Jsonb *) arg)->root, id, (int) len, &value) == NULL ||
		value.type != jbvString || value.val.string.len == 0)
		return false;
	return sophia_buffer_append(out, value.val.string.val, value.val.string.len);
}

Datum
sophia_slack_text_sql(PG_FUNCTION_ARGS)
{
	text *message;
	Jsonb *names = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	message = PG_GETARG_TEXT_PP(0);
	sophia_buffer_clear(&scratch);
	return scratch_result(
		fcinfo, sophia_slack_text(VARDATA_ANY(message), VARSIZE_ANY_EXHDR(message),
								  names != NULL && JB_ROOT_IS_OBJECT(names) ? lookup_in_jsonb : NULL,
								  names, &scratch));
}

Datum
sophia_snippet_sql(PG_FUNCTION_ARGS)
{
	text *body = PG_GETARG_TEXT_PP(0);

	sophia_buffer_clear(&scratch);
	return scratch_result(fcinfo,
						  sophia_snippet(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), &scratch));
}
