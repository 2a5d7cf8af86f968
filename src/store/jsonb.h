/*
 * jsonb.h
 *		Between document trees (base/json.h) and the server's jsonb.
 */
#ifndef SOPHIA_JSONB_H
#define SOPHIA_JSONB_H

#include "postgres.h"

#include "base/json.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/*
 * Writes a tree as a jsonb datum into `out`, which is emptied first, and returns it; valid until `out` changes.
 * NULL: larger than jsonb holds (256 MB of one container's content).
 */
extern Jsonb *sophia_jsonb_encode(StringInfo out, const JsonNode *node);

/* The tree of a detoasted jsonb, which it points into.  False: no memory. */
extern bool sophia_jsonb_decode(JsonNode *node, Arena *arena, const Jsonb *jsonb);

/* A number node as numeric, in the current memory context; sophia_json_parse has checked its range. */
extern Numeric sophia_json_numeric(const JsonNode *node);

#endif /* SOPHIA_JSONB_H */
