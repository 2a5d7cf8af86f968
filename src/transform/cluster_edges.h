/*
 * cluster_edges.h
 *		Clusters of named nodes: what stands between text arrays of SQL and clusters.h.
 */
#ifndef SOPHIA_CLUSTER_EDGES_H
#define SOPHIA_CLUSTER_EDGES_H

#include "postgres.h"

/* Edges in the order in which they are offered, as parallel arrays of `count` elements. */
typedef struct ClusterEdges
{
	int32 count;
	Datum *records; /* text: the record at one end */
	Datum *others;	/* text: the record or the value at the other end */
	int32 *kinds;	/* 0: the other end is a record; else the kind of its value, from 1 */
	int32 *names;	/* hash of the record's name, -1 = it has none */
	int32 kind_count;
	int32 *limits;		 /* a kind each: values that a cluster may have, 0 = any number */
	bool *compare_names; /* a kind each: whether its edges ask for equal names */
	int32 apart_count;
	Datum *apart_records; /* text: pairs of records that must stay apart */
	Datum *apart_others;
} ClusterEdges;

/*
 * Clusters the edges.  Fills for each the number of its record's cluster, equal numbers meaning one cluster, and
 * whether the edge was accepted.
 */
extern void sophia_cluster_edges(const ClusterEdges *edges, int32 *components, bool *accepted);

#endif /* SOPHIA_CLUSTER_EDGES_H */
