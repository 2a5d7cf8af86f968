/*
 * clustering.h
 *		Clusters of records from weighted pairs, such that one weak pair never joins two strong clusters.
 *
 * Pure: no server call.  Plain closure over fuzzy pairs chains people together: one wrong pair of a thousand joins two
 * clusters, and all their members with them.  So pairs are taken in descending order of their strength, as in
 * Kruskal's algorithm (Proceedings of the AMS 7, 1956), and the union of two clusters is refused unless the mean
 * strength over all pairs between their members is at least CLUSTERING_SUPPORT; a pair that was never found counts 0.
 * Between two records the pair itself is all there is; the larger the clusters, the more of their members must agree.
 */
#ifndef SOPHIA_CLUSTERING_H
#define SOPHIA_CLUSTERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLUSTERING_SUPPORT 0.5

typedef enum PairKind
{
	PAIR_DIFFERENT, /* decided: the two are never in one cluster */
	PAIR_SAME,		/* decided: joined without asking for support */
	PAIR_LINK,		/* strong enough to join */
	PAIR_REVIEW		/* supports a union, but asks for none */
} PairKind;

typedef enum PairOutcome
{
	PAIR_APART,		  /* no union was asked for */
	PAIR_JOINED,	  /* both records are in one cluster */
	PAIR_UNSUPPORTED, /* refused: too little speaks for it between the other members */
	PAIR_FORBIDDEN	  /* refused: records would meet that were decided to be different */
} PairOutcome;

typedef struct RecordPair
{
	int32_t a, b;	 /* nodes, 0 .. nodes - 1 */
	double strength; /* 1 = just enough to link */
	PairKind kind;
	PairOutcome outcome; /* result */
} RecordPair;

/* Memory and time of the caller. */
typedef struct ClusteringHost
{
	void *(*alloc)(size_t bytes); /* never NULL; kept until the call is over */
	void (*pause)(void);		  /* called now and then */
} ClusteringHost;

/*
 * Sorts the pairs into the order in which they were taken, sets their outcomes, and writes the smallest node of its
 * cluster for each node.  The same pairs give the same clusters, in whatever order they come.
 */
extern void sophia_cluster_pairs(RecordPair *pairs, int32_t count, int32_t *cluster, int32_t nodes,
								 const ClusteringHost *host);

#endif /* SOPHIA_CLUSTERING_H */
