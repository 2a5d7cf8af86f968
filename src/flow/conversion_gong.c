/*
 * conversion_gong.c
 *		Conversions that know the parties and monologues of Gong's calls.  See conversion_functions.h.
 */
#include "postgres.h"

#include "flow/conversion_functions.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

/* A party without an identifier of its own, or with one that is taken, is known by its position. */
bool
sophia_convert_party_id(ConversionContext *context, const JsonNode *const *values, int n,
						Datum *value, bool *null)
{
	if (!context->taken)
		sophia_convert_text(context, values, n, value, null);
	if (context->taken || *null)
		*value = CStringGetTextDatum(psprintf("#%d", context->ordinal));
	*null = false;
	return true;
}

static bool
text_equals(const JsonNode *object, const char *name, const char *wanted)
{
	const JsonNode *value = sophia_json_member(object, name, strlen(name));

	return value != NULL && value->kind == JSON_STRING && value->length == strlen(wanted) &&
		   pg_strncasecmp(value->u.text, wanted, value->length) == 0;
}

/* objectId of the Contact among the objects that the party is linked to in HubSpot. */
bool
sophia_convert_hubspot_contact(ConversionContext *context, const JsonNode *const *values, int n,
							   Datum *value, bool *null)
{
	const JsonNode *systems = sophia_first_value(values, n);

	*null = true;
	if (systems == NULL || systems->kind != JSON_ARRAY)
		return true;
	for (uint32 i = 0; i < systems->length; i++)
	{
		const JsonNode *objects = sophia_json_member(&systems->u.items[i], "objects", 7);

		if (objects == NULL || objects->kind != JSON_ARRAY ||
			!text_equals(&systems->u.items[i], "system", "HubSpot"))
			continue;
		for (uint32 j = 0; j < objects->length; j++)
		{
			const JsonNode *id = sophia_json_member(&objects->u.items[j], "objectId", 8);

			if (id != NULL && text_equals(&objects->u.items[j], "objectType", "Contact"))
				return sophia_convert_text(context, &id, 1, value, null);
		}
	}
	return true;
}

/* The sentences' texts as one. */
bool
sophia_convert_sentences(ConversionContext *context, const JsonNode *const *values, int n,
						 Datum *value, bool *null)
{
	const JsonNode *sentences = sophia_first_value(values, n);
	StringInfoData joined;

	*null = sentences == NULL || sentences->kind != JSON_ARRAY;
	if (*null)
		return true;
	initStringInfo(&joined);
	for (uint32 i = 0; i < sentences->length; i++)
	{
		const JsonNode *text = sophia_json_member(&sentences->u.items[i], "text", 4);

		if (text == NULL || text->kind != JSON_STRING)
			continue;
		if (joined.len > 0)
			appendStringInfoChar(&joined, ' ');
		appendBinaryStringInfo(&joined, text->u.text, text->length);
	}
	*value = PointerGetDatum(cstring_to_text_with_len(joined.data, joined.len));
	return true;
}

/* `name` of the first (step 1) or last (step -1) sentence, an integer. */
static bool
convert_sentence_time(ConversionContext *context, const JsonNode *const *values, int n, bool last,
					  const char *name, Datum *value, bool *null)
{
	const JsonNode *sentences = sophia_first_value(values, n);
	const JsonNode *time;

	*null = sentences == NULL || sentences->kind != JSON_ARRAY || sentences->length == 0;
	if (*null)
		return true;
	time = sophia_json_member(&sentences->u.items[last ? sentences->length - 1 : 0], name,
							  strlen(name));
	return sophia_convert_int4(context, &time, 1, value, null);
}

bool
sophia_convert_sentences_start(ConversionContext *context, const JsonNode *const *values, int n,
							   Datum *value, bool *null)
{
	return convert_sentence_time(context, values, n, false, "start", value, null);
}

bool
sophia_convert_sentences_end(ConversionContext *context, const JsonNode *const *values, int n,
							 Datum *value, bool *null)
{
	return convert_sentence_time(context, values, n, true, "end", value, null);
}
