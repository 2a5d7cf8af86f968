/*
 * identity_graph.h
 *		The graph of records and the identifiers that they hold, and the clusters in it.
 *
 * Identifiers come in any order, a row each.  Values that one record alone holds, which most are, cost a hash entry and
 * are left out of what follows: only edges that can join something, or that have to be remembered, are sorted from the
 * strongest to the weakest and offered to constrained clusters (clusters.h).
 */
#ifndef SOPHIA_IDENTITY_GRAPH_H
#define SOPHIA_IDENTITY_GRAPH_H

#include "postgres.h"

#include "transform/clusters.h"

typedef struct GraphText
{
	const char *bytes;
	int32 size;
} GraphText;

/* A kind of identifier, and what it allows. */
typedef struct IdentityKind
{
	GraphText name;
	int32 priority; /* of its edges */
	float4 confidence;
	int32 max_records; /* records that may share a value; one that more share is blocked */
	int32 max_values;  /* values that a cluster may have, 0 = any number */
	bool compare_names;
} IdentityKind;

/* When an edge is kept. */
typedef enum IdentityKeep
{
	KEEP_OF_MEMBER, /* where its record shares a value with another, this one or not */
	KEEP_SHARED,	/* where another record has its value, too */
	KEEP_ALWAYS
} IdentityKeep;

/* A record and an identifier that it holds, or another record that it is linked with. */
typedef struct IdentityRow
{
	GraphText record;
	GraphText value; /* or the other record */
	GraphText qualifier;
	GraphText rule;
	int32 number;	   /* kind of the value, from 1; 0: it is a record */
	int32 name;		   /* hash of the record's name, -1 = not known */
	int32 priority;	   /* edges are taken in the order of priority, */
	int32 place;	   /* of place, */
	float4 confidence; /* of confidence, the largest first, of value and of record */
	IdentityKeep keep;
	bool contested; /* joins nothing, unless a list exempts the value */
	int64 identity; /* of the record; 0 = none */
} IdentityRow;

typedef struct IdentityEdge
{
	int32 record; /* nodes */
	int32 value;
	int32 qualifier; /* -1 = none */
	int32 rule;		 /* place in graph->rules */
	int32 name;
	int32 priority;
	int32 place;
	float4 confidence;
	int8 number;
	int8 keep;		/* IdentityKeep */
	bool contested; /* several colleagues have the alias */
	bool blocked;	/* too many records share the value */
	bool accepted;	/* its ends are in one cluster */
} IdentityEdge;

typedef struct IdentityNode
{
	GraphText name;
	int64 identity; /* of a record, as it was given; 0 = none */
	int64 owner;	/* of the root of a cluster: the smallest identity in it */
	int32 holders;	/* of a value: identifiers that have it */
	int8 number;
	bool is_kept;	/* of a value: one of its edges always is */
	bool is_wanted; /* of a value: lists are to be asked about it */
	bool is_listed; /* of a value: it tells nothing, as a list says */
	bool is_hot;	/* of a value: blocked, whatever its number of holders */
	bool is_exempt; /* of a value: not blocked, however many records share it */
	bool is_member; /* of a record: it shares a value with another */
} IdentityNode;

typedef struct IdentityGraph
{
	MemoryContext context; /* everything lies in it */
	struct nodes_hash *table;
	IdentityNode *nodes;
	int32 node_count;
	int32 node_room;
	IdentityEdge *edges;
	int32 edge_count;
	int32 edge_room;
	GraphText *rules;
	int32 rule_count;
	int32 rule_room;
	const IdentityKind *kinds;
	int32 kind_count;
	char *chunk; /* bytes of names: what is left of the last piece */
	Size chunk_left;
	Clusters clusters;
} IdentityGraph;

/* An empty graph within the current memory context; `kinds` is kept. */
extern IdentityGraph *sophia_identity_graph_create(const IdentityKind *kinds, int32 kind_count);

/* Adds an identifier. */
extern void sophia_identity_graph_add(IdentityGraph *graph, const IdentityRow *row);

/* Node of a value; NULL where nothing has it. */
extern IdentityNode *sophia_identity_graph_find(IdentityGraph *graph, int32 number, GraphText value);

/*
 * Make those values wanted about which lists are to be asked (is_listed, is_exempt): first all that records share or that
 * are kept anyway, then, when these are known, all others of records that share one.
 */
extern void sophia_identity_graph_want_shared(IdentityGraph *graph);
extern void sophia_identity_graph_want_others(IdentityGraph *graph);

/*
 * Clusters what was added.  Afterwards `edges` are those that were kept, in the order in which they were taken.  The
 * `pair_count` pairs of records, where both are in the graph, stay apart.
 */
extern void sophia_identity_graph_cluster(IdentityGraph *graph, const GraphText *apart,
										  const GraphText *from, int32 pair_count);

/* Number of the cluster of an edge's record, equal numbers meaning one cluster: a place in `nodes`. */
extern int32 sophia_identity_graph_component(IdentityGraph *graph, const IdentityEdge *edge);

#endif /* SOPHIA_IDENTITY_GRAPH_H */
