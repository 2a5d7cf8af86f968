/*
 * union_find_test.c
 *		Unit tests of transform/union_find.c.
 */
#include "transform/union_find.h"

#include <stdlib.h>

#include "tap.h"

#define NODES 300

static void
test_singles(void)
{
	int32_t links[3];
	UnionFind sets;

	sophia_union_find_init(&sets, links, 3);
	ok(sophia_union_find_root(&sets, 2) == 2 && sophia_union_find_size(&sets, 2) == 1,
	   "at first every node is a set of its own");
	sophia_union_find_join(&sets, 1, 1);
	ok(sophia_union_find_size(&sets, 1) == 1, "a node joined with itself stays alone");
}

static void
test_larger_set_wins(void)
{
	int32_t links[4];
	UnionFind sets;
	int32_t pair;

	sophia_union_find_init(&sets, links, 4);
	ok(sophia_union_find_join(&sets, 2, 1) == 2, "of two equal sets the first gives the root");
	pair = sophia_union_find_root(&sets, 1);
	ok(sophia_union_find_join(&sets, 3, 1) == pair, "the larger set gives the root");
	ok(sophia_union_find_join(&sets, 3, 2) == pair && sophia_union_find_size(&sets, 3) == 3,
	   "joining what is one set changes nothing");
	ok(sophia_union_find_root(&sets, 0) == 0, "other sets stay as they are");
}

static void
test_long_chain(void)
{
	enum
	{
		LENGTH = 1000000
	};
	int32_t *links = malloc(LENGTH * sizeof(int32_t));
	UnionFind sets;

	sophia_union_find_init(&sets, links, LENGTH);
	for (int32_t i = 1; i < LENGTH; i++)
		sophia_union_find_join(&sets, i, i - 1);
	ok(sophia_union_find_size(&sets, 0) == LENGTH &&
		   sophia_union_find_root(&sets, 0) == sophia_union_find_root(&sets, LENGTH - 1),
	   "a chain of a million nodes is one set");
	free(links);
}

/* Joins at random and compares with labels that are rewritten at every join. */
static void
test_against_labels(unsigned seed)
{
	int32_t links[NODES];
	int32_t labels[NODES];
	UnionFind sets;
	bool same = true;

	srand(seed);
	sophia_union_find_init(&sets, links, NODES);
	for (int32_t i = 0; i < NODES; i++)
		labels[i] = i;
	for (int step = 0; step < 200; step++)
	{
		int32_t a = rand() % NODES;
		int32_t b = rand() % NODES;
		int32_t from = labels[b];

		sophia_union_find_join(&sets, a, b);
		for (int32_t i = 0; i < NODES; i++)
			if (labels[i] == from)
				labels[i] = labels[a];
	}
	for (int32_t i = 0; i < NODES; i++)
	{
		int32_t size = 0;

		for (int32_t j = 0; j < NODES; j++)
		{
			size += labels[i] == labels[j];
			same &= (labels[i] == labels[j]) ==
					(sophia_union_find_root(&sets, i) == sophia_union_find_root(&sets, j));
		}
		same &= size == sophia_union_find_size(&sets, i);
	}
	ok(same, "seed %u: the sets and their sizes are those of plain relabelling", seed);
}

int
main(void)
{
	test_singles();
	test_larger_set_wins();
	test_long_chain();
	for (unsigned seed = 1; seed <= 20; seed++)
		test_against_labels(seed);
	done_testing();
	return exit_status();
}
