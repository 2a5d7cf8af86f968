/*
 * conversion_scalar.c
 *		Conversions to the types of PostgreSQL: text, numbers, times, lists.  See conversion_functions.h.
 */
#include "postgres.h"

#include "flow/conversion_functions.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "flow/timestamp_text.h"
#include "port/pg_bitutils.h"
#include "store/jsonb.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

bool
sophia_misfit(ConversionContext *context, int sqlstate, const char *reason)
{
	context->misfit_sqlstate = sqlstate;
	context->misfit_reason = reason;
	return false;
}

/* The first value that is there and not null, or NULL. */
const JsonNode *
sophia_first_value(const JsonNode *const *values, int n)
{
	for (int i = 0; i < n; i++)
		if (values[i] != NULL && values[i]->kind != JSON_NULL)
			return values[i];
	return NULL;
}

char *
sophia_json_to_text(const JsonNode *node, size_t *length)
{
	char *text;

	switch (node->kind)
	{
		case JSON_STRING:
		case JSON_NUMBER:
			text = pnstrdup(node->u.text, node->length);
			*length = node->length;
			return text;
		case JSON_TRUE:
		case JSON_FALSE:
			text = pstrdup(node->kind == JSON_TRUE ? "true" : "false");
			break;
		case JSON_NULL:
			text = pstrdup("null");
			break;
		case JSON_DECIMAL:
			text = DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(sophia_json_numeric(node))));
			break;
		default:
		{
			StringInfoData encoded;
			Jsonb *jsonb;

			initStringInfo(&encoded);
			jsonb = sophia_jsonb_encode(&encoded, node);
			text = jsonb == NULL ? pstrdup("") : JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
			pfree(encoded.data);
		}
	}
	*length = strlen(text);
	return text;
}

/* Does not copy where that is possible. */
bool
sophia_scalar_text(const JsonNode *const *values, int n, const char **text, size_t *length)
{
	const JsonNode *node = sophia_first_value(values, n);

	if (node == NULL)
		return false;
	if (node->kind == JSON_STRING || node->kind == JSON_NUMBER)
	{
		*text = node->u.text;
		*length = node->length;
	}
	else
		*text = sophia_json_to_text(node, length);
	while (*length > 0 && **text == ' ')
		(*text)++, (*length)--;
	while (*length > 0 && (*text)[*length - 1] == ' ')
		(*length)--;
	return *length > 0;
}

bool
sophia_convert_text(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
					bool *null)
{
	const JsonNode *node = sophia_first_value(values, n);

	*null = node == NULL;
	if (node != NULL && (node->kind == JSON_STRING || node->kind == JSON_NUMBER))
		*value = PointerGetDatum(cstring_to_text_with_len(node->u.text, node->length));
	else if (node != NULL)
	{
		size_t length;
		char *text = sophia_json_to_text(node, &length);

		*value = PointerGetDatum(cstring_to_text_with_len(text, length));
	}
	return true;
}

static bool
all_digits(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] < '0' || text[i] > '9')
			return false;
	return length > 0;
}

bool
sophia_convert_timestamptz(ConversionContext *context, const JsonNode *const *values, int n,
						   Datum *value, bool *null)
{
	const char *text;
	size_t length;
	TimestampTz result;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	if (!(all_digits(text, length) ? sophia_timestamp_from_epoch(text, length, true, &result)
								   : sophia_timestamp_parse(text, length, &result)))
		return sophia_misfit(context, ERRCODE_INVALID_DATETIME_FORMAT, "is no timestamp");
	*value = TimestampTzGetDatum(result);
	return true;
}

/* Seconds or milliseconds since the epoch, or a timestamp. */
bool
sophia_convert_epoch(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
					 bool *null)
{
	const char *text;
	size_t length;
	size_t whole;
	TimestampTz result;

	*null = !sophia_scalar_text(values, n, &text, &length) || (length == 1 && *text == '0');
	if (*null)
		return true;
	/* 10^11 seconds is the year 5138: as many digits as that are milliseconds */
	for (whole = 0; whole < length && text[whole] >= '0' && text[whole] <= '9';)
		whole++;
	if (whole < length && text[whole] != '.' && *text != '-')
		return sophia_convert_timestamptz(context, values, n, value, null);
	if (!sophia_timestamp_from_epoch(text, length, whole >= 12, &result))
		return sophia_misfit(context, ERRCODE_INVALID_DATETIME_FORMAT, "is no time since the epoch");
	*value = TimestampTzGetDatum(result);
	return true;
}

bool
sophia_convert_boolean(ConversionContext *context, const JsonNode *const *values, int n,
					   Datum *value, bool *null)
{
	const char *text;
	size_t length;
	bool result;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	if (!parse_bool_with_len(text, length, &result))
		return sophia_misfit(context, ERRCODE_INVALID_TEXT_REPRESENTATION, "is no boolean");
	*value = BoolGetDatum(result);
	return true;
}

/* True for [+-]digits[.digits][e[+-]digits] with at least one digit and a sane size. */
static bool
is_number(const char *p, size_t length, bool *integral)
{
	const char *end = p + length;
	int n = 0;

	*integral = true;
	if (length > 1000)
		return false;
	if (p < end && (*p == '-' || *p == '+'))
		p++;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
		n++;
	if (p < end && *p == '.')
		for (p++; p < end && *p >= '0' && *p <= '9'; p++, n++)
			*integral &= *p == '0';
	if (n > 0 && p < end && (*p == 'e' || *p == 'E'))
	{
		const char *exponent;

		*integral = false;
		p++;
		if (p < end && (*p == '-' || *p == '+'))
			p++;
		for (exponent = p; p < end && *p >= '0' && *p <= '9';)
			p++;
		if (p == exponent || p - exponent > 4)
			return false;
	}
	return n > 0 && p == end;
}

/* What has no digits and is a value of numeric and double precision all the same. */
static bool
is_special_number(const char *text, size_t length)
{
	static const char *const special[] = {"NaN", "Infinity", "-Infinity"};

	for (size_t i = 0; i < lengthof(special); i++)
		if (strlen(special[i]) == length && memcmp(special[i], text, length) == 0)
			return true;
	return false;
}

bool
sophia_convert_numeric(ConversionContext *context, const JsonNode *const *values, int n,
					   Datum *value, bool *null)
{
	const char *text;
	size_t length;
	bool integral;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	if (!is_number(text, length, &integral) && !is_special_number(text, length))
		return sophia_misfit(context, ERRCODE_INVALID_TEXT_REPRESENTATION, "is no number");
	*value = DirectFunctionCall3(numeric_in, CStringGetDatum(pnstrdup(text, length)),
								 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	return true;
}

/* An integer between the limits; a fraction must be zero. */
static bool
convert_integer(ConversionContext *context, const JsonNode *const *values, int n, int64 minimum,
				int64 maximum, int64 *result, bool *null)
{
	const char *text;
	size_t length;
	bool integral;
	const char *p;
	uint64 magnitude = 0;
	bool negative;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	if (!is_number(text, length, &integral) || !integral)
		return sophia_misfit(context, ERRCODE_INVALID_TEXT_REPRESENTATION, "is no integer");
	negative = *text == '-';
	for (p = text + (negative || *text == '+'); p < text + length && *p != '.'; p++)
	{
		if (magnitude > PG_UINT64_MAX / 10 - 1)
			return sophia_misfit(context, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is out of range");
		magnitude = magnitude * 10 + (*p - '0');
	}
	if (magnitude > (negative ? (uint64) maximum + 1 : (uint64) maximum))
		return sophia_misfit(context, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is out of range");
	*result = negative ? (int64) (0 - magnitude) : (int64) magnitude;
	Assert(*result >= minimum);
	return true;
}

bool
sophia_convert_int2(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
					bool *null)
{
	int64 result = 0;

	if (!convert_integer(context, values, n, PG_INT16_MIN, PG_INT16_MAX, &result, null))
		return false;
	*value = Int16GetDatum((int16) result);
	return true;
}

bool
sophia_convert_int4(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
					bool *null)
{
	int64 result = 0;

	if (!convert_integer(context, values, n, PG_INT32_MIN, PG_INT32_MAX, &result, null))
		return false;
	*value = Int32GetDatum((int32) result);
	return true;
}

bool
sophia_convert_int8(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
					bool *null)
{
	int64 result = 0;

	if (!convert_integer(context, values, n, PG_INT64_MIN, PG_INT64_MAX, &result, null))
		return false;
	*value = Int64GetDatum(result);
	return true;
}

bool
sophia_convert_jsonb(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
					 bool *null)
{
	const JsonNode *node = sophia_first_value(values, n);
	StringInfoData encoded;

	*null = node == NULL;
	if (node == NULL)
		return true;
	initStringInfo(&encoded);
	if (sophia_jsonb_encode(&encoded, node) == NULL)
		return sophia_misfit(context, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "is too large for jsonb");
	*value = PointerGetDatum(encoded.data);
	return true;
}

/* Texts in the order of their first appearance, each once. */
typedef struct DistinctTexts
{
	Datum *items;
	int count;
	int *slots; /* open addressing: 1 + position in items, 0 = free */
	uint32 mask;
} DistinctTexts;

static DistinctTexts
distinct_texts(size_t at_most)
{
	uint32 slots = pg_nextpower2_32(Max(at_most * 2, 8));

	return (DistinctTexts){.items = palloc(sizeof(Datum) * (at_most + 1)),
						   .slots = palloc0(sizeof(int) * slots),
						   .mask = slots - 1};
}

/* Adds the text [p, end) without surrounding blanks, unless it is blank or there already. */
static void
add_distinct(DistinctTexts *texts, const char *p, const char *end)
{
	uint32 slot;

	while (p < end && *p == ' ')
		p++;
	while (end > p && end[-1] == ' ')
		end--;
	if (p == end)
		return;
	slot = hash_bytes((const unsigned char *) p, end - p) & texts->mask;
	for (; texts->slots[slot] != 0; slot = (slot + 1) & texts->mask)
	{
		text *other = DatumGetTextPP(texts->items[texts->slots[slot] - 1]);

		if (VARSIZE_ANY_EXHDR(other) == end - p && memcmp(VARDATA_ANY(other), p, end - p) == 0)
			return;
	}
	texts->items[texts->count++] = PointerGetDatum(cstring_to_text_with_len(p, end - p));
	texts->slots[slot] = texts->count;
}

bool
sophia_convert_list(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
					bool *null)
{
	const JsonNode *node = sophia_first_value(values, n);
	DistinctTexts texts;
	size_t length;
	char *text;

	*null = node == NULL;
	if (node == NULL)
		return true;
	if (node->kind == JSON_ARRAY)
	{
		texts = distinct_texts(node->length);
		for (uint32 i = 0; i < node->length; i++)
		{
			if (node->u.items[i].kind == JSON_NULL)
				continue;
			text = sophia_json_to_text(&node->u.items[i], &length);
			add_distinct(&texts, text, text + length);
		}
	}
	else
	{
		char *end;

		text = sophia_json_to_text(node, &length);
		end = text + length;
		texts = distinct_texts(length / 2 + 1);
		for (char *p = text; p <= end;)
		{
			char *separator = memchr(p, ';', end - p);
			char *to = separator != NULL ? separator : end;

			add_distinct(&texts, p, to);
			p = to + 1;
		}
	}
	*value = PointerGetDatum(
		construct_array(texts.items, texts.count, TEXTOID, -1, false, TYPALIGN_INT));
	return true;
}
