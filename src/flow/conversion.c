/*
 * conversion.c
 *		How a JSON value becomes a column's value: see conversion.h.
 */
#include "postgres.h"

#include "flow/conversion_functions.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

static TextNormalizer email_normalizer;
static TextNormalizer phone_normalizer;
static TextNormalizer html_normalizer;
static ByteBuffer normalized;

static bool
convert_normalized(TextNormalizer normalizer, const JsonNode *const *values, int n, Datum *value,
				   bool *null)
{
	*null = true;
	/* The first value that can be normalised: a calculated number may be missing where the typed one is good. */
	for (int i = 0; i < n && *null; i++)
	{
		if (values[i] == NULL || values[i]->kind != JSON_STRING)
			continue;
		sophia_buffer_clear(&normalized);
		if (!normalizer(values[i]->u.text, values[i]->length, &normalized))
			continue;
		*value = PointerGetDatum(
			cstring_to_text_with_len(buffer_bytes(&normalized), buffer_size(&normalized)));
		*null = false;
	}
	return true;
}

static bool
convert_email(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
			  bool *null)
{
	return convert_normalized(email_normalizer, values, n, value, null);
}

static bool
convert_phone(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
			  bool *null)
{
	return convert_normalized(phone_normalizer, values, n, value, null);
}

static bool
convert_html(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
			 bool *null)
{
	return convert_normalized(html_normalizer, values, n, value, null);
}

static bool
convert_exists(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
			   bool *null)
{
	*null = false;
	*value = BoolGetDatum(sophia_first_value(values, n) != NULL);
	return true;
}

/* A reply names the message that its thread starts with, and that is another one. */
static bool
convert_is_reply(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
				 bool *null)
{
	bool reply = false;

	if (n == 2 && values[0] != NULL && values[1] != NULL && values[0]->kind == JSON_STRING &&
		values[1]->kind == JSON_STRING)
		reply = values[0]->length != values[1]->length ||
				memcmp(values[0]->u.text, values[1]->u.text, values[0]->length) != 0;
	*null = false;
	*value = BoolGetDatum(reply);
	return true;
}

static bool
convert_collection(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
				   bool *null)
{
	const char *slash = strrchr(context->collection, '/');

	*null = false;
	*value = CStringGetTextDatum(slash != NULL ? slash + 1 : context->collection);
	return true;
}

static bool
convert_published(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
				  bool *null)
{
	*null = false;
	*value = TimestampTzGetDatum(context->published);
	return true;
}

static bool
convert_parent_key(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
				   bool *null)
{
	*null = false;
	*value = CStringGetTextDatum(context->key);
	return true;
}

static bool
convert_ordinal(ConversionContext *context, const JsonNode *const *values, int n, Datum *value,
				bool *null)
{
	*null = false;
	*value = Int32GetDatum(context->ordinal);
	return true;
}

static const Conversion conversions[] = {
	{"base64", BYTEAOID, sophia_convert_base64},
	{"bigint", INT8OID, sophia_convert_int8},
	{"boolean", BOOLOID, sophia_convert_boolean},
	{"cidr", CIDROID, sophia_convert_cidr},
	{"collection", TEXTOID, convert_collection},
	{"date", DATEOID, sophia_convert_date},
	{"double precision", FLOAT8OID, sophia_convert_float8},
	{"email", TEXTOID, convert_email},
	{"epoch", TIMESTAMPTZOID, sophia_convert_epoch},
	{"exists", BOOLOID, convert_exists},
	{"html", TEXTOID, convert_html},
	{"hubspot_contact", TEXTOID, sophia_convert_hubspot_contact},
	{"inet", INETOID, sophia_convert_inet},
	{SOPHIA_CONVERSION_INPUT, TEXTOID, sophia_convert_text},
	{"integer", INT4OID, sophia_convert_int4},
	{"interval", INTERVALOID, sophia_convert_interval},
	{"is_reply", BOOLOID, convert_is_reply},
	{"jsonb", JSONBOID, sophia_convert_jsonb},
	{"list", TEXTARRAYOID, sophia_convert_list},
	{"numeric", NUMERICOID, sophia_convert_numeric},
	{"ordinal", INT4OID, convert_ordinal},
	{"parent_key", TEXTOID, convert_parent_key},
	{"party_id", TEXTOID, sophia_convert_party_id},
	{"phone", TEXTOID, convert_phone},
	{"published", TIMESTAMPTZOID, convert_published},
	{"real", FLOAT4OID, sophia_convert_float4},
	{"sentences", TEXTOID, sophia_convert_sentences},
	{"sentences_end", INT4OID, sophia_convert_sentences_end},
	{"sentences_start", INT4OID, sophia_convert_sentences_start},
	{"smallint", INT2OID, sophia_convert_int2},
	{"text", TEXTOID, sophia_convert_text},
	{"time", TIMEOID, sophia_convert_time},
	{"timestamp", TIMESTAMPOID, sophia_convert_timestamp},
	{"timestamptz", TIMESTAMPTZOID, sophia_convert_timestamptz},
	{"uuid", UUIDOID, sophia_convert_uuid},
};

const Conversion *
sophia_conversion_find(const char *name)
{
	for (size_t i = 0; i < lengthof(conversions); i++)
		if (strcmp(conversions[i].name, name) == 0)
			return &conversions[i];
	return NULL;
}

const char *
sophia_conversion_of(Oid type)
{
	static const struct
	{
		Oid type;
		const char *conversion;
	} general[] = {
		{BOOLOID, "boolean"},
		{BPCHAROID, "text"},
		{BYTEAOID, "base64"},
		{CIDROID, "cidr"},
		{DATEOID, "date"},
		{FLOAT4OID, "real"},
		{FLOAT8OID, "double precision"},
		{INETOID, "inet"},
		{INT2OID, "smallint"},
		{INT4OID, "integer"},
		{INT8OID, "bigint"},
		{INTERVALOID, "interval"},
		{JSONBOID, "jsonb"},
		{JSONOID, "jsonb"},
		{NAMEOID, "text"},
		{NUMERICOID, "numeric"},
		{TEXTARRAYOID, "list"},
		{TEXTOID, "text"},
		{TIMEOID, "time"},
		{TIMESTAMPOID, "timestamp"},
		{TIMESTAMPTZOID, "timestamptz"},
		{UUIDOID, "uuid"},
		{VARCHAROID, "text"},
	};
	Oid base = getBaseType(type);

	for (size_t i = 0; i < lengthof(general); i++)
		if (general[i].type == base)
			return general[i].conversion;
	return get_typtype(base) == TYPTYPE_PSEUDO ? NULL : SOPHIA_CONVERSION_INPUT;
}

void
sophia_conversion_set_normalizer(const char *name, TextNormalizer normalizer)
{
	if (strcmp(name, "email") == 0)
		email_normalizer = normalizer;
	else if (strcmp(name, "phone") == 0)
		phone_normalizer = normalizer;
	else if (strcmp(name, "html") == 0)
		html_normalizer = normalizer;
}
