/*
 * json.h
 *		Documents as trees: looking up and merging.  base/json_parse.h makes them from text, store/jsonb.h from and to
 *		the server's jsonb.
 *
 * Trees live in an Arena and point into the parsed bytes: both must outlive the tree.  Nodes are never changed once
 * built; merging shares what it can.
 */
#ifndef SOPHIA_JSON_H
#define SOPHIA_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

typedef enum JsonKind
{
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,  /* text: the number as written */
	JSON_DECIMAL, /* data: a number in the server's binary form, from a stored document */
	JSON_STRING,  /* text: unescaped UTF-8 */
	JSON_ARRAY,
	JSON_OBJECT
} JsonKind;

typedef struct JsonNode
{
	JsonKind kind;
	uint32_t length; /* bytes of text or data, number of items or members */
	union
	{
		const char *text;
		const void *data;
		const struct JsonNode *items;
		const struct JsonMember
			*members; /* in the order of sophia_json_compare_names, names distinct */
	} u;
} JsonNode;

typedef struct JsonMember
{
	const char *name;
	uint32_t length;
	JsonNode value;
} JsonMember;

/* Order of the members of an object: shorter names first, then by bytes (the order of PostgreSQL's jsonb). */
extern int sophia_json_compare_names(const char *a, uint32_t a_length, const char *b,
									 uint32_t b_length);

/* Sorts members by name; equal names keep their order.  `scratch` has room for n of them. */
extern void sophia_json_sort_members(JsonMember *members, size_t n, JsonMember *scratch);

/* The member of that name, or NULL (also when the node is no object). */
extern const JsonNode *sophia_json_member(const JsonNode *node, const char *name, uint32_t length);

/* A JSON pointer (RFC 6901), split into the names of its steps; array positions are not followed. */
typedef struct JsonPointer
{
	int steps;
	struct
	{
		const char *name;
		uint32_t length;
	} step[8];
} JsonPointer;

/* Splits `text` ("" or "/a/b"); names live in the arena.  False: no pointer, too many steps, or no memory. */
extern bool sophia_json_pointer(JsonPointer *pointer, Arena *arena, const char *text);

/* The node a pointer names, or NULL when it is absent. */
extern const JsonNode *sophia_json_find(const JsonNode *node, const JsonPointer *pointer);

/*
 * left and right as one document: objects are united at every depth, anything else of `right` replaces what `left` has
 * at that place, an explicit null included.  `whole` (may be NULL) names a member of the root that is not united:
 * right's replaces left's.
 *
 * `plan` (NULL: none) says which objects are united; what it does not name is replaced: {"members": {NAME: PLAN, ...},
 * "others": PLAN}, both of which may be left out, stands for an object that is united and for what becomes of its members.
 * False when there is no memory.
 */
extern bool sophia_json_merge(JsonNode *result, Arena *arena, const JsonNode *left,
							  const JsonNode *right, const char *whole, const JsonNode *plan);

/* `object` with its member `name` taken from `from`, where that has one. */
extern bool sophia_json_replace_member(JsonNode *result, Arena *arena, const JsonNode *object,
									   const char *name, const JsonNode *from);

#endif /* SOPHIA_JSON_H */
