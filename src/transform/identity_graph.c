/*
 * identity_graph.c
 *		The graph of records and identifiers: see identity_graph.h.
 *
 * Records, values and qualifiers are nodes, told apart by a number: a record has 0, a value the number of its kind, a
 * qualifier QUALIFIER.  A value with a qualifier joins by a node of its own, whose number is the negative one of the kind
 * and whose name are the numbers of the two.
 */
#include "transform/identity_graph.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define QUALIFIER  127
#define CHUNK_SIZE (256 * 1024)

typedef struct NodeName
{
	GraphText text;
	int32 number;
} NodeName;

typedef struct NodeEntry
{
	NodeName name;
	uint32 hash;
	int32 node;
	char status;
} NodeEntry;

static inline uint32
hash_name(NodeName name)
{
	return hash_combine(hash_bytes((const unsigned char *) name.text.bytes, name.text.size),
						(uint32) name.number);
}

static inline bool
equal_texts(GraphText a, GraphText b)
{
	return a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
}

static inline bool
equal_names(NodeName a, NodeName b)
{
	return a.number == b.number && equal_texts(a.text, b.text);
}

#define SH_PREFIX		  nodes
#define SH_ELEMENT_TYPE	  NodeEntry
#define SH_KEY_TYPE		  NodeName
#define SH_KEY			  name
#define SH_HASH_KEY(t, k) hash_name(k)
#define SH_EQUAL(t, a, b) equal_names(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(t, a) (a)->hash
#define SH_SCOPE		  static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

static void *
allocate(IdentityGraph *graph, int64 count, Size size)
{
	return MemoryContextAllocExtended(graph->context, Max(count, 1) * size,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* Makes room for one more element of an array. */
static void *
grow(IdentityGraph *graph, void *array, int32 count, int32 *room, Size size)
{
	if (count < *room)
		return array;
	*room = Max(64, *room + *room / 2);
	return array == NULL ? allocate(graph, *room, size) : repalloc_huge(array, *room * size);
}

/* A copy of a text that lasts as long as the graph. */
static GraphText
keep_text(IdentityGraph *graph, GraphText text)
{
	char *bytes;

	if ((Size) text.size > graph->chunk_left)
	{
		graph->chunk_left = Max(CHUNK_SIZE, text.size);
		graph->chunk = MemoryContextAlloc(graph->context, graph->chunk_left);
	}
	bytes = graph->chunk;
	memcpy(bytes, text.bytes, text.size);
	graph->chunk += text.size;
	graph->chunk_left -= text.size;
	return (GraphText){bytes, text.size};
}

static int32
number_node(IdentityGraph *graph, int32 number, GraphText text)
{
	bool found;
	NodeEntry *entry = nodes_insert(graph->table, (NodeName){text, number}, &found);
	IdentityNode *node;

	if (found)
		return entry->node;
	graph->nodes =
		grow(graph, graph->nodes, graph->node_count, &graph->node_room, sizeof(IdentityNode));
	node = &graph->nodes[graph->node_count];
	*node = (IdentityNode){.name = keep_text(graph, text), .number = (int8) number};
	entry->name.text = node->name;
	entry->node = graph->node_count;
	return graph->node_count++;
}

/* There are few rules: they are looked for one by one. */
static int32
number_rule(IdentityGraph *graph, GraphText rule)
{
	for (int32 i = 0; i < graph->rule_count; i++)
		if (equal_texts(graph->rules[i], rule))
			return i;
	graph->rules =
		grow(graph, graph->rules, graph->rule_count, &graph->rule_room, sizeof(GraphText));
	graph->rules[graph->rule_count] = keep_text(graph, rule);
	return graph->rule_count++;
}

IdentityGraph *
sophia_identity_graph_create(const IdentityKind *kinds, int32 kind_count)
{
	IdentityGraph *graph = palloc0(sizeof(IdentityGraph));

	graph->context = CurrentMemoryContext;
	graph->table = nodes_create(graph->context, 1024, NULL);
	graph->kinds = kinds;
	graph->kind_count = kind_count;
	return graph;
}

void
sophia_identity_graph_add(IdentityGraph *graph, const IdentityRow *row)
{
	IdentityEdge edge = {.name = row->name,
						 .priority = row->priority,
						 .place = row->place,
						 .confidence = row->confidence,
						 .number = (int8) row->number,
						 .keep = (int8) row->keep,
						 .contested = row->contested,
						 .qualifier = -1};

	edge.record = number_node(graph, 0, row->record);
	edge.value = number_node(graph, row->number, row->value);
	if (row->qualifier.size > 0)
		edge.qualifier = number_node(graph, QUALIFIER, row->qualifier);
	edge.rule = number_rule(graph, row->rule);
	graph->nodes[edge.record].identity = row->identity;
	graph->nodes[edge.value].holders++;
	graph->nodes[edge.value].is_kept |= row->keep == KEEP_ALWAYS;
	graph->edges =
		grow(graph, graph->edges, graph->edge_count, &graph->edge_room, sizeof(IdentityEdge));
	graph->edges[graph->edge_count++] = edge;
}

IdentityNode *
sophia_identity_graph_find(IdentityGraph *graph, int32 number, GraphText value)
{
	NodeEntry *entry = nodes_lookup(graph->table, (NodeName){value, number});

	return entry == NULL ? NULL : &graph->nodes[entry->node];
}

static bool
is_shared(const IdentityNode *value)
{
	return value->holders > 1 || value->is_hot;
}

static bool
is_of_use(const IdentityNode *value)
{
	return is_shared(value) || value->is_kept;
}

void
sophia_identity_graph_want_shared(IdentityGraph *graph)
{
	for (int32 i = 0; i < graph->node_count; i++)
	{
		IdentityNode *node = &graph->nodes[i];

		node->is_wanted = node->number > 0 && node->number != QUALIFIER && is_of_use(node);
	}
}

void
sophia_identity_graph_want_others(IdentityGraph *graph)
{
	for (int32 i = 0; i < graph->edge_count; i++)
	{
		IdentityEdge *edge = &graph->edges[i];
		const IdentityNode *value = &graph->nodes[edge->value];

		if (edge->number == 0 || value->is_listed)
			continue;
		edge->blocked =
			value->is_hot ||
			(!value->is_exempt && value->holders > graph->kinds[edge->number - 1].max_records);
		edge->contested &= !value->is_exempt;
		if (is_shared(value))
			graph->nodes[edge->record].is_member = true;
	}
	for (int32 i = 0; i < graph->edge_count; i++)
	{
		const IdentityEdge *edge = &graph->edges[i];
		IdentityNode *value = &graph->nodes[edge->value];

		if (edge->number > 0 && edge->keep == KEEP_OF_MEMBER &&
			graph->nodes[edge->record].is_member && !is_of_use(value))
			value->is_wanted = true;
	}
}

static bool
is_kept(const IdentityGraph *graph, const IdentityEdge *edge)
{
	const IdentityNode *value = &graph->nodes[edge->value];

	if (value->is_listed)
		return false;
	if (edge->keep == KEEP_SHARED)
		return is_shared(value);
	return edge->keep == KEEP_ALWAYS || graph->nodes[edge->record].is_member;
}

/* Keeps the edges that can join something, or that are asked for. */
static void
select_edges(IdentityGraph *graph)
{
	int32 kept = 0;

	for (int32 i = 0; i < graph->edge_count; i++)
	{
		const IdentityEdge *edge = &graph->edges[i];

		if (is_kept(graph, edge))
			graph->edges[kept++] = *edge;
	}
	graph->edge_count = kept;
}

static int
compare_texts(GraphText a, GraphText b)
{
	int order = memcmp(a.bytes, b.bytes, Min(a.size, b.size));

	return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int
compare_edges(const void *left, const void *right, void *arg)
{
	const IdentityNode *nodes = ((IdentityGraph *) arg)->nodes;
	const IdentityEdge *a = left;
	const IdentityEdge *b = right;
	int order;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->place != b->place)
		return a->place < b->place ? -1 : 1;
	if (a->confidence != b->confidence)
		return a->confidence > b->confidence ? -1 : 1;
	order = a->value == b->value ? 0 : compare_texts(nodes[a->value].name, nodes[b->value].name);
	return order != 0 ? order : compare_texts(nodes[a->record].name, nodes[b->record].name);
}

static bool
is_barred(const IdentityEdge *edge)
{
	return edge->blocked || edge->contested;
}

/* The node by which an edge joins its record with others. */
static int32
joining_node(IdentityGraph *graph, const IdentityEdge *edge)
{
	int32 pair[2] = {edge->value, edge->qualifier};

	if (is_barred(edge))
		return edge->record;
	if (edge->qualifier < 0)
		return edge->value;
	return number_node(graph, -edge->number, (GraphText){(const char *) pair, sizeof(pair)});
}

static void
init_clusters(IdentityGraph *graph, int32 pair_count)
{
	Clusters *clusters = &graph->clusters;
	int32 nodes = graph->node_count;

	sophia_union_find_init(&clusters->sets, allocate(graph, nodes, sizeof(int32)), nodes);
	clusters->first_name = allocate(graph, nodes, sizeof(int32));
	memset(clusters->first_name, -1, nodes * sizeof(int32));
	clusters->last_name = allocate(graph, nodes, sizeof(int32));
	clusters->names = allocate(graph, graph->edge_count, sizeof(ClusterName));
	clusters->kinds = graph->kind_count;
	clusters->counts = allocate(graph, (int64) nodes * graph->kind_count, sizeof(int32));
	clusters->first_foe = allocate(graph, nodes, sizeof(int32));
	memset(clusters->first_foe, -1, nodes * sizeof(int32));
	clusters->last_foe = allocate(graph, nodes, sizeof(int32));
	clusters->foes = allocate(graph, 2 * (int64) pair_count, sizeof(ClusterFoe));
}

static void
keep_apart(IdentityGraph *graph, const GraphText *apart, const GraphText *from, int32 pair_count)
{
	for (int32 i = 0; i < pair_count; i++)
	{
		NodeEntry *a = nodes_lookup(graph->table, (NodeName){apart[i], 0});
		NodeEntry *b = nodes_lookup(graph->table, (NodeName){from[i], 0});

		if (a != NULL && b != NULL && a->node != b->node)
			sophia_clusters_keep_apart(&graph->clusters, a->node, b->node);
	}
}

static void
join_edges(IdentityGraph *graph, const int32 *joining)
{
	Clusters *clusters = &graph->clusters;

	for (int32 i = 0; i < graph->edge_count; i++)
	{
		const IdentityEdge *edge = &graph->edges[i];

		if (edge->name >= 0)
			sophia_clusters_add_name(clusters, edge->record, (uint32) edge->name);
		if (edge->number > 0 && !is_barred(edge))
			clusters->counts[(int64) joining[i] * clusters->kinds + edge->number - 1] = 1;
	}
	for (int32 i = 0; i < graph->edge_count; i++)
	{
		IdentityEdge *edge = &graph->edges[i];

		CHECK_FOR_INTERRUPTS();
		edge->accepted = sophia_clusters_join(clusters, edge->record, joining[i],
											  edge->number > 0 && !is_barred(edge) &&
												  graph->kinds[edge->number - 1].compare_names);
	}
}

/* Gives the root of each cluster the smallest identity in it. */
static void
gather_identities(IdentityGraph *graph)
{
	int32 nodes = graph->clusters.sets.count;
	int64 *least = allocate(graph, nodes, sizeof(int64));

	for (int32 i = 0; i < nodes; i++)
	{
		int32 root = sophia_union_find_root(&graph->clusters.sets, i);
		int64 identity = graph->nodes[i].identity;

		if (identity != 0 && (least[root] == 0 || identity < least[root]))
			least[root] = identity;
	}
	for (int32 i = 0; i < nodes; i++)
		graph->nodes[i].owner = least[i];
	pfree(least);
}

void
sophia_identity_graph_cluster(IdentityGraph *graph, const GraphText *apart, const GraphText *from,
							  int32 pair_count)
{
	int32 *joining;
	int32 *limits = allocate(graph, graph->kind_count, sizeof(int32));

	select_edges(graph);
	qsort_arg(graph->edges, graph->edge_count, sizeof(IdentityEdge), compare_edges, graph);
	joining = allocate(graph, graph->edge_count, sizeof(int32));
	for (int32 i = 0; i < graph->edge_count; i++)
		joining[i] = joining_node(graph, &graph->edges[i]);
	init_clusters(graph, pair_count);
	for (int32 i = 0; i < graph->kind_count; i++)
		limits[i] = graph->kinds[i].max_values;
	graph->clusters.limits = limits;
	keep_apart(graph, apart, from, pair_count);
	join_edges(graph, joining);
	gather_identities(graph);
	pfree(joining);
}

int32
sophia_identity_graph_component(IdentityGraph *graph, const IdentityEdge *edge)
{
	return sophia_union_find_root(&graph->clusters.sets, edge->record);
}
