/*
 * union_find.h
 *		Disjoint sets of nodes 0 .. n-1, as clustering needs them.
 *
 * Union by size with path halving: a sequence of m operations takes O(m α(n)).  The memory is the caller's, so
 * that the code is the same in a backend and in a unit test, and an error in between leaks nothing.
 * Source: Tarjan and van Leeuwen, Worst-case analysis of set union algorithms, JACM 31 (1984).
 */
#ifndef SOPHIA_UNION_FIND_H
#define SOPHIA_UNION_FIND_H

#include <stdint.h>

typedef struct UnionFind
{
	int32_t *
		links; /* of a root: minus the size of its set; of any other node: a node nearer to the root */
	int32_t count; /* number of nodes */
} UnionFind;

/* Makes every node a set of its own.  `links` has room for `count` numbers and must outlive the sets. */
extern void sophia_union_find_init(UnionFind *sets, int32_t *links, int32_t count);

/* The node that stands for the set of `node`: the same one for all members, until a union. */
extern int32_t sophia_union_find_root(UnionFind *sets, int32_t node);

/*
 * Makes one set of the sets of `a` and `b` and returns its root, which is the root of the larger one, or of
 * `a` where both are as large.  Where it is one set already nothing changes.
 */
extern int32_t sophia_union_find_join(UnionFind *sets, int32_t a, int32_t b);

/* Number of nodes in the set of `node`. */
extern int32_t sophia_union_find_size(UnionFind *sets, int32_t node);

#endif /* SOPHIA_UNION_FIND_H */
