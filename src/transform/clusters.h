/*
 * clusters.h
 *		Connected components under constraints: an edge that would break one is refused.
 *
 * Plain closure lets one weak edge join two strong clusters.  So the caller offers edges from the strongest to the
 * weakest, and an edge is refused where the union of its two clusters would hold two nodes that must stay
 * apart, more values of a kind than its limit allows, or, for edges that ask for it, names that exclude one
 * another.  The result depends on the order of the edges only.  The memory is the caller's, as in union_find.h.
 */
#ifndef SOPHIA_CLUSTERS_H
#define SOPHIA_CLUSTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "transform/union_find.h"

/* One end of a pair of nodes that must stay apart, in the list of the other end's cluster. */
typedef struct ClusterFoe
{
	int32_t node;
	int32_t next; /* place in `foes` of the next one in the list, -1 = none */
} ClusterFoe;

/* A name, in the list of its cluster. */
typedef struct ClusterName
{
	uint32_t name;
	int32_t next; /* place in `names` of the next one in the list, -1 = none */
} ClusterName;

typedef struct Clusters
{
	UnionFind sets;
	int32_t *
		first_name; /* a node each, -1 at first: the different names in its cluster, kept at the root */
	int32_t *last_name;	   /* a node each */
	ClusterName *names;	   /* one for every name that is added */
	int32_t name_count;	   /* entries of `names` in use */
	int32_t *counts;	   /* kinds a node, zero at first: values of each kind, kept at the root */
	const int32_t *limits; /* a kind each: values that a cluster may have, 0 = any number */
	int32_t kinds;
	int32_t *first_foe; /* a node each, -1 at first */
	int32_t *last_foe;	/* a node each */
	ClusterFoe *foes;	/* two for every pair kept apart */
	int32_t foe_count;	/* entries of `foes` in use */
} Clusters;

/* Keeps `a` and `b` apart; all pairs are told before the first edge. */
extern void sophia_clusters_keep_apart(Clusters *clusters, int32_t a, int32_t b);

/* Gives a node a name, told by a hash of it; all names are told before the first edge. */
extern void sophia_clusters_add_name(Clusters *clusters, int32_t node, uint32_t name);

/*
 * Offers an edge.  True: its nodes are in one cluster now.  False: it was refused and nothing changed.
 * `compare_names`: refuse also where both clusters have names and share none.
 */
extern bool sophia_clusters_join(Clusters *clusters, int32_t a, int32_t b, bool compare_names);

#endif /* SOPHIA_CLUSTERS_H */
