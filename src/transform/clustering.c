/*
 * clustering.c
 *		Constrained clustering: see clustering.h.  Pure: no server call.
 *
 * Members of a cluster form a ring, so that two rings become one by exchanging two links, and the pairs of a node
 * stand together in an array.  Whether two clusters may be joined is read off the pairs of the smaller one.
 */
#include <stdlib.h>

#include "transform/clustering.h"
#include "transform/union_find.h"

#define PAIRS_BETWEEN_PAUSES 1024

typedef struct Clustering
{
	UnionFind sets;
	RecordPair *pairs;
	int32_t count;
	int32_t *ring;	/* next member of the cluster */
	int32_t *first; /* by node: where its pairs begin in pairs_of; one more at the end */
	int32_t *pairs_of;
	const ClusteringHost *host;
	int32_t steps;
} Clustering;

/* Decided pairs come first; then the strongest; equal ones by their nodes. */
static int
compare_pairs(const void *left, const void *right)
{
	const RecordPair *x = left;
	const RecordPair *y = right;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->strength != y->strength)
		return x->strength > y->strength ? -1 : 1;
	if (x->a != y->a)
		return x->a < y->a ? -1 : 1;
	return (x->b > y->b) - (x->b < y->b);
}

static void
pause_now_and_then(Clustering *c)
{
	if (++c->steps % PAIRS_BETWEEN_PAUSES == 0)
		c->host->pause();
}

static void
init_nodes(Clustering *c, int32_t nodes)
{
	c->ring = c->host->alloc(sizeof(int32_t) * ((size_t) nodes + 1));
	for (int32_t i = 0; i < nodes; i++)
		c->ring[i] = i;
	sophia_union_find_init(&c->sets, c->host->alloc(sizeof(int32_t) * ((size_t) nodes + 1)), nodes);
}

/* Gathers the pairs of each node. */
static void
index_pairs(Clustering *c, int32_t nodes)
{
	c->first = c->host->alloc(sizeof(int32_t) * ((size_t) nodes + 2));
	c->pairs_of = c->host->alloc(sizeof(int32_t) * (2 * (size_t) c->count + 1));
	for (int32_t i = 0; i < nodes + 2; i++)
		c->first[i] = 0;
	for (int32_t i = 0; i < c->count; i++)
	{
		c->first[c->pairs[i].a + 2]++;
		c->first[c->pairs[i].b + 2]++;
	}
	for (int32_t i = 2; i < nodes + 2; i++)
		c->first[i] += c->first[i - 1];
	/* first[node + 1] is where the next pair of the node goes, and ends where the next node begins. */
	for (int32_t i = 0; i < c->count; i++)
	{
		c->pairs_of[c->first[c->pairs[i].a + 1]++] = i;
		c->pairs_of[c->first[c->pairs[i].b + 1]++] = i;
	}
}

/*
 * What speaks for one cluster of two: the sum of the strengths between them.  *forbidden where two of their members
 * were decided to be different.  The first root is that of the smaller cluster.
 */
static double
support_between(Clustering *c, int32_t smaller, int32_t larger, bool *forbidden)
{
	double sum = 0;
	int32_t node = smaller;

	*forbidden = false;
	do
	{
		for (int32_t i = c->first[node]; i < c->first[node + 1]; i++)
		{
			const RecordPair *pair = &c->pairs[c->pairs_of[i]];
			int32_t other = pair->a == node ? pair->b : pair->a;

			pause_now_and_then(c);
			if (sophia_union_find_root(&c->sets, other) != larger)
				continue;
			if (pair->kind == PAIR_DIFFERENT)
				*forbidden = true;
			else
				sum += pair->strength;
		}
		node = c->ring[node];
	} while (node != smaller);
	return sum;
}

static PairOutcome
judge_union(Clustering *c, const RecordPair *pair, int32_t a, int32_t b)
{
	double a_size = sophia_union_find_size(&c->sets, a);
	double b_size = sophia_union_find_size(&c->sets, b);
	bool forbidden;
	double support = a_size <= b_size ? support_between(c, a, b, &forbidden)
									  : support_between(c, b, a, &forbidden);

	if (forbidden)
		return PAIR_FORBIDDEN;
	if (pair->kind == PAIR_SAME || (a_size == 1 && b_size == 1))
		return PAIR_JOINED;
	return support >= CLUSTERING_SUPPORT * a_size * b_size ? PAIR_JOINED : PAIR_UNSUPPORTED;
}

/* Tries a union that a pair asks for; true where it was made. */
static bool
try_pair(Clustering *c, RecordPair *pair)
{
	int32_t a = sophia_union_find_root(&c->sets, pair->a);
	int32_t b = sophia_union_find_root(&c->sets, pair->b);
	int32_t swapped;

	pause_now_and_then(c);
	if (a == b)
	{
		pair->outcome = PAIR_JOINED;
		return false;
	}
	pair->outcome = judge_union(c, pair, a, b);
	if (pair->outcome != PAIR_JOINED)
		return false;
	sophia_union_find_join(&c->sets, a, b);
	swapped = c->ring[a];
	c->ring[a] = c->ring[b];
	c->ring[b] = swapped;
	return true;
}

/* A union may give another one the support that it lacked, so rounds go on until one makes none. */
static void
join_pairs(Clustering *c)
{
	bool joined = true;

	while (joined)
	{
		joined = false;
		for (int32_t i = 0; i < c->count; i++)
		{
			RecordPair *pair = &c->pairs[i];

			if ((pair->kind == PAIR_SAME || pair->kind == PAIR_LINK) && pair->outcome != PAIR_JOINED)
				joined |= try_pair(c, pair);
		}
	}
}

/* A cluster is known by its smallest node; walked from above, that is the last to write itself to the root. */
static void
number_clusters(Clustering *c, int32_t *cluster, int32_t nodes)
{
	for (int32_t i = nodes - 1; i >= 0; i--)
		cluster[sophia_union_find_root(&c->sets, i)] = i;
	for (int32_t i = 0; i < nodes; i++)
		cluster[i] = cluster[sophia_union_find_root(&c->sets, i)];
}

void
sophia_cluster_pairs(RecordPair *pairs, int32_t count, int32_t *cluster, int32_t nodes,
					 const ClusteringHost *host)
{
	Clustering c = {.pairs = pairs, .count = count, .host = host};

	qsort(pairs, count, sizeof(RecordPair), compare_pairs);
	for (int32_t i = 0; i < count; i++)
		pairs[i].outcome = PAIR_APART;
	init_nodes(&c, nodes);
	index_pairs(&c, nodes);
	join_pairs(&c);
	number_clusters(&c, cluster, nodes);
}
