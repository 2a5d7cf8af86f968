/*
 * cluster_edges.c
 *		Numbers the nodes of named edges and offers the edges to constrained clusters.
 */
#include "transform/cluster_edges.h"

#include "base/compat.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "transform/clusters.h"

typedef struct NodeName
{
	int32 kind; /* 0 = record */
	int32 size;
	const char *bytes;
} NodeName;

typedef struct NodeEntry
{
	NodeName name;
	uint32 hash;
	char status;
	int32 node;
} NodeEntry;

static inline uint32
hash_name(NodeName name)
{
	return hash_combine(hash_bytes((const unsigned char *) name.bytes, name.size),
						(uint32) name.kind);
}

static inline bool
equal_names(NodeName a, NodeName b)
{
	return a.kind == b.kind && a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
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

static NodeName
node_name(Datum value, int32 kind)
{
	text *bytes = DatumGetTextPP(value);

	return (NodeName){.kind = kind, .size = VARSIZE_ANY_EXHDR(bytes), .bytes = VARDATA_ANY(bytes)};
}

static int32
number_node(nodes_hash *table, Datum value, int32 kind)
{
	bool found;
	NodeEntry *entry = nodes_insert(table, node_name(value, kind), &found);

	if (!found)
		entry->node = (int32) table->members - 1;
	return entry->node;
}

/* Node of a record; -1 where no edge has it. */
static int32
find_record(nodes_hash *table, Datum record)
{
	NodeEntry *entry = nodes_lookup(table, node_name(record, 0));

	return entry == NULL ? -1 : entry->node;
}

static void *
allocate(int64 count, Size size)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, Max(count, 1) * size,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
init_clusters(Clusters *clusters, const ClusterEdges *edges, int32 nodes)
{
	sophia_union_find_init(&clusters->sets, allocate(nodes, sizeof(int32)), nodes);
	clusters->first_name = allocate(nodes, sizeof(int32));
	memset(clusters->first_name, -1, nodes * sizeof(int32));
	clusters->last_name = allocate(nodes, sizeof(int32));
	clusters->names = allocate(edges->count, sizeof(ClusterName));
	clusters->name_count = 0;
	clusters->kinds = edges->kind_count;
	clusters->counts = allocate((int64) nodes * edges->kind_count, sizeof(int32));
	clusters->limits = edges->limits;
	clusters->first_foe = allocate(nodes, sizeof(int32));
	memset(clusters->first_foe, -1, nodes * sizeof(int32));
	clusters->last_foe = allocate(nodes, sizeof(int32));
	clusters->foes = allocate(2 * (int64) edges->apart_count, sizeof(ClusterFoe));
	clusters->foe_count = 0;
}

void
sophia_cluster_edges(const ClusterEdges *edges, int32 *components, bool *accepted)
{
	nodes_hash *table = nodes_create(CurrentMemoryContext, edges->count, NULL);
	int32 *from = allocate(edges->count, sizeof(int32));
	int32 *to = allocate(edges->count, sizeof(int32));
	Clusters clusters;

	for (int32 i = 0; i < edges->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		from[i] = number_node(table, edges->records[i], 0);
		to[i] = number_node(table, edges->others[i], edges->kinds[i]);
	}
	init_clusters(&clusters, edges, (int32) table->members);
	for (int32 i = 0; i < edges->count; i++)
	{
		if (edges->names[i] >= 0)
			sophia_clusters_add_name(&clusters, from[i], (uint32) edges->names[i]);
		if (edges->kinds[i] > 0)
			clusters.counts[(int64) to[i] * clusters.kinds + edges->kinds[i] - 1] = 1;
	}
	for (int32 i = 0; i < edges->apart_count; i++)
	{
		int32 a = find_record(table, edges->apart_records[i]);
		int32 b = find_record(table, edges->apart_others[i]);

		if (a >= 0 && b >= 0 && a != b)
			sophia_clusters_keep_apart(&clusters, a, b);
	}
	for (int32 i = 0; i < edges->count; i++)
	{
		int32 kind = edges->kinds[i];

		CHECK_FOR_INTERRUPTS();
		accepted[i] = sophia_clusters_join(&clusters, from[i], to[i],
										   kind > 0 && edges->compare_names[kind - 1]);
	}
	for (int32 i = 0; i < edges->count; i++)
		components[i] = sophia_union_find_root(&clusters.sets, from[i]);
}
