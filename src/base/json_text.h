/*
 * json_text.h
 *		The strings of a JSON text; for json_parse.c alone.
 */
#ifndef SOPHIA_JSON_TEXT_H
#define SOPHIA_JSON_TEXT_H

#include "base/json_parse.h"

/*
 * Reads the string whose opening quote is at parser->next.  What only spoils it is noted as the parser's problem; false
 * where the parse must end.
 */
extern bool sophia_json_parse_string(JsonParser *parser, const char **text, uint32_t *length);

/* Notes a problem unless a worse one is known, and returns false. */
extern bool sophia_json_problem(JsonParser *parser, JsonProblem what);

#endif /* SOPHIA_JSON_TEXT_H */
