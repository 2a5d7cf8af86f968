/*
 * json_schema.h
 *		Whether a JSON value is what a JSON schema asks for.
 *
 * Source: JSON Schema 2020-12, "Core" and "Validation", with `definitions` of the older drafts.  Keywords that would have to be
 * obeyed and are not known here make a schema unusable, so that nothing counts as valid that was not looked at.  Pure: no
 * server call.
 */
#ifndef SOPHIA_JSON_SCHEMA_H
#define SOPHIA_JSON_SCHEMA_H

#include "base/json.h"

/*
 * Whether a text has a match of a pattern, both strings.  The caller's, since regular expressions are the server's; it may raise
 * an error for a pattern that is none.
 */
typedef bool (*SchemaMatcher)(const JsonNode *pattern, const JsonNode *text);

/* Whether values can be checked against a schema.  False: `error` says why not. */
extern bool sophia_json_schema_usable(const JsonNode *schema, SchemaMatcher matches, char *error,
									  size_t error_size);

/* Whether a value is what a usable schema asks for.  False: `error` says where and why not. */
extern bool sophia_json_schema_accepts(const JsonNode *schema, const JsonNode *value,
									   SchemaMatcher matches, char *error, size_t error_size);

#endif /* SOPHIA_JSON_SCHEMA_H */
