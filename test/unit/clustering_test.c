/*
 * clustering_test.c
 *		Unit tests of transform/clustering.c.
 */
#include "transform/clustering.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#define MOST 64

static void *allocated[16];
static int allocations;

static void *
keep(size_t bytes)
{
	return allocated[allocations++] = malloc(bytes);
}

static void
no_pause(void)
{
}

static const ClusteringHost host = {keep, no_pause};

/* Clusters `nodes` nodes, and writes the cluster of each as a letter: "aab" is {0, 1}, {2}. */
static const char *
cluster(int nodes, RecordPair *pairs, int count)
{
	static char letters[MOST + 1];
	int32_t result[MOST];

	sophia_cluster_pairs(pairs, count, result, nodes, &host);
	for (int i = 0; i < nodes; i++)
		letters[i] = (char) ('a' + result[i]);
	letters[nodes] = '\0';
	while (allocations > 0)
		free(allocated[--allocations]);
	return letters;
}

static PairOutcome
outcome_of(const RecordPair *pairs, int count, int a, int b)
{
	for (int i = 0; i < count; i++)
		if (pairs[i].a == a && pairs[i].b == b)
			return pairs[i].outcome;
	return PAIR_APART;
}

#define CHECK(name, nodes, expected, ...)                                                          \
	do                                                                                             \
	{                                                                                              \
		RecordPair pairs[] = {__VA_ARGS__};                                                        \
		const char *got = cluster(nodes, pairs, sizeof(pairs) / sizeof(*pairs));                   \
                                                                                                   \
		ok(strcmp(got, expected) == 0, "%s (%s)", name, got);                                      \
	} while (0)

/* Two triangles of strong pairs, and one pair between them. */
static void
check_weak_bridge(void)
{
	RecordPair pairs[] = {{0, 1, 3, PAIR_LINK}, {1, 2, 3, PAIR_LINK},  {0, 2, 3, PAIR_LINK},
						  {3, 4, 3, PAIR_LINK}, {4, 5, 3, PAIR_LINK},  {3, 5, 3, PAIR_LINK},
						  {2, 3, 1, PAIR_LINK}, {2, 6, 1, PAIR_REVIEW}};
	const char *got = cluster(7, pairs, 8);

	ok(strcmp(got, "aaadddg") == 0, "one weak pair does not join two clusters (%s)", got);
	ok(outcome_of(pairs, 8, 2, 3) == PAIR_UNSUPPORTED, "and is known to be refused");
	ok(outcome_of(pairs, 8, 0, 1) == PAIR_JOINED, "others are known to have joined");
	ok(outcome_of(pairs, 8, 2, 6) == PAIR_APART, "a pair for review asks for nothing");
}

/* A chain of any length, in any order, gives the same. */
static void
check_order(void)
{
	RecordPair there[20];
	RecordPair back[20];
	char first[MOST + 1];

	for (int i = 0; i < 20; i++)
	{
		there[i] = (RecordPair){i, i + 1, 1 + (i * 7 % 5) / 10.0, PAIR_LINK, PAIR_APART};
		back[19 - i] = there[i];
	}
	strcpy(first, cluster(21, there, 20));
	ok(strcmp(first, cluster(21, back, 20)) == 0, "the order of the pairs does not matter (%s)",
	   first);
	ok(strcmp(first, "aaaaaaaaaaaaaaaaaaaaa") != 0, "a chain is not closed");
}

int
main(void)
{
	RecordPair none;

	CHECK("a pair joins", 3, "aac", {0, 1, 1, PAIR_LINK});
	CHECK("a pair for review does not", 2, "ab", {0, 1, 0.9, PAIR_REVIEW});
	CHECK("half the strength of every pair carries a third record", 3, "aaa", {0, 1, 2, PAIR_LINK},
		  {1, 2, 1, PAIR_LINK});
	CHECK("but no fourth one", 4, "aaad", {0, 1, 2, PAIR_LINK}, {1, 2, 2, PAIR_LINK},
		  {0, 2, 2, PAIR_LINK}, {2, 3, 1, PAIR_LINK});
	CHECK("unless a pair for review supports it", 4, "aaaa", {0, 1, 2, PAIR_LINK},
		  {1, 2, 2, PAIR_LINK}, {0, 2, 2, PAIR_LINK}, {2, 3, 1, PAIR_LINK},
		  {1, 3, 0.5, PAIR_REVIEW});
	CHECK("what speaks against it counts, too", 3, "aac", {0, 1, 2, PAIR_LINK},
		  {1, 2, 1, PAIR_LINK}, {0, 2, -1, PAIR_REVIEW});
	CHECK("a decision that they are different keeps two apart", 3, "aac", {0, 1, 5, PAIR_LINK},
		  {1, 2, 5, PAIR_LINK}, {0, 2, 0, PAIR_DIFFERENT});
	CHECK("a decision that they are the same needs no support", 6, "aaaaaa", {0, 1, 9, PAIR_LINK},
		  {1, 2, 9, PAIR_LINK}, {3, 4, 9, PAIR_LINK}, {4, 5, 9, PAIR_LINK}, {2, 3, 1, PAIR_SAME});
	CHECK("but does not bring together what is different", 3, "aac", {0, 1, 1, PAIR_SAME},
		  {1, 2, 1, PAIR_SAME}, {0, 2, 0, PAIR_DIFFERENT});
	check_weak_bridge();
	check_order();
	ok(strcmp(cluster(0, &none, 0), "") == 0 && strcmp(cluster(2, &none, 0), "ab") == 0,
	   "there may be no pair, and no record");
	done_testing();
	return exit_status();
}
