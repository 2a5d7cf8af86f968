/*
 * union_find.c
 *		Disjoint sets: union by size, path halving.
 *
 * One number a node: the size of a set is kept, negated, where a root would have its parent.
 */
#include "transform/union_find.h"

void
sophia_union_find_init(UnionFind *sets, int32_t *links, int32_t count)
{
	sets->links = links;
	sets->count = count;
	for (int32_t i = 0; i < count; i++)
		links[i] = -1;
}

int32_t
sophia_union_find_root(UnionFind *sets, int32_t node)
{
	int32_t *links = sets->links;

	while (links[node] >= 0)
	{
		int32_t parent = links[node];

		if (links[parent] < 0)
			return parent;
		links[node] = links[parent];
		node = links[parent];
	}
	return node;
}

int32_t
sophia_union_find_join(UnionFind *sets, int32_t a, int32_t b)
{
	int32_t larger = sophia_union_find_root(sets, a);
	int32_t smaller = sophia_union_find_root(sets, b);

	if (larger == smaller)
		return larger;
	if (sets->links[larger] > sets->links[smaller])
	{
		int32_t swap = larger;

		larger = smaller;
		smaller = swap;
	}
	sets->links[larger] += sets->links[smaller];
	sets->links[smaller] = larger;
	return larger;
}

int32_t
sophia_union_find_size(UnionFind *sets, int32_t node)
{
	return -sets->links[sophia_union_find_root(sets, node)];
}
