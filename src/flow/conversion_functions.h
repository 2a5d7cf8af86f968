/*
 * conversion_functions.h
 *		The conversions one by one; conversion.c gives them their names.
 */
#ifndef SOPHIA_CONVERSION_FUNCTIONS_H
#define SOPHIA_CONVERSION_FUNCTIONS_H

#include "flow/conversion.h"

/* The first value that is there and not null, or NULL. */
extern const JsonNode *sophia_first_value(const JsonNode *const *values, int n);

/* Refuses a value; returns false. */
extern bool sophia_misfit(ConversionContext *context, int sqlstate, const char *reason);

/* The text of a scalar without surrounding blanks; false for NULL (absent, or blank text). */
extern bool sophia_scalar_text(const JsonNode *const *values, int n, const char **text,
							   size_t *length);

/* Each is a ConversionFunction. */
#define CONVERSION_ARGUMENTS                                                                       \
	ConversionContext *context, const JsonNode *const *values, int n, Datum *value, bool *null

extern bool sophia_convert_base64(CONVERSION_ARGUMENTS);
extern bool sophia_convert_boolean(CONVERSION_ARGUMENTS);
extern bool sophia_convert_cidr(CONVERSION_ARGUMENTS);
extern bool sophia_convert_date(CONVERSION_ARGUMENTS);
extern bool sophia_convert_epoch(CONVERSION_ARGUMENTS);
extern bool sophia_convert_float4(CONVERSION_ARGUMENTS);
extern bool sophia_convert_float8(CONVERSION_ARGUMENTS);
extern bool sophia_convert_hubspot_contact(CONVERSION_ARGUMENTS);
extern bool sophia_convert_inet(CONVERSION_ARGUMENTS);
extern bool sophia_convert_int2(CONVERSION_ARGUMENTS);
extern bool sophia_convert_int4(CONVERSION_ARGUMENTS);
extern bool sophia_convert_int8(CONVERSION_ARGUMENTS);
extern bool sophia_convert_interval(CONVERSION_ARGUMENTS);
extern bool sophia_convert_jsonb(CONVERSION_ARGUMENTS);
extern bool sophia_convert_list(CONVERSION_ARGUMENTS);
extern bool sophia_convert_numeric(CONVERSION_ARGUMENTS);
extern bool sophia_convert_party_id(CONVERSION_ARGUMENTS);
extern bool sophia_convert_sentences(CONVERSION_ARGUMENTS);
extern bool sophia_convert_sentences_end(CONVERSION_ARGUMENTS);
extern bool sophia_convert_sentences_start(CONVERSION_ARGUMENTS);
extern bool sophia_convert_text(CONVERSION_ARGUMENTS);
extern bool sophia_convert_time(CONVERSION_ARGUMENTS);
extern bool sophia_convert_timestamp(CONVERSION_ARGUMENTS);
extern bool sophia_convert_timestamptz(CONVERSION_ARGUMENTS);
extern bool sophia_convert_uuid(CONVERSION_ARGUMENTS);

#endif /* SOPHIA_CONVERSION_FUNCTIONS_H */
