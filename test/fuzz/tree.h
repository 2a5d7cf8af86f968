/*
 * tree.h
 *		Trees of documents side by side, for the fuzz targets.
 */
#ifndef SOPHIA_FUZZ_TREE_H
#define SOPHIA_FUZZ_TREE_H

#include "base/json.h"
#include "fuzz.h"

/* True for equal trees; the members of every object must stand in their order, each once. */
static inline bool
same_node(const JsonNode *a, const JsonNode *b)
{
	if (a->kind != b->kind || (a->kind != JSON_NULL && a->kind != JSON_TRUE &&
							   a->kind != JSON_FALSE && a->length != b->length))
		return false;
	switch (a->kind)
	{
		case JSON_NUMBER:
		case JSON_STRING:
			return memcmp(a->u.text, b->u.text, a->length) == 0;
		case JSON_ARRAY:
			for (uint32_t i = 0; i < a->length; i++)
				if (!same_node(&a->u.items[i], &b->u.items[i]))
					return false;
			return true;
		case JSON_OBJECT:
			for (uint32_t i = 0; i < a->length; i++)
			{
				const JsonMember *one = &a->u.members[i];
				const JsonMember *other = &b->u.members[i];

				REQUIRE(i == 0 || sophia_json_compare_names(one[-1].name, one[-1].length, one->name,
															one->length) < 0);
				if (one->length != other->length ||
					memcmp(one->name, other->name, one->length) != 0 ||
					!same_node(&one->value, &other->value))
					return false;
			}
			return true;
		default:
			return true;
	}
}

#endif /* SOPHIA_FUZZ_TREE_H */
