/*
 * clusters.c
 *		Connected components under constraints.
 *
 * What the constraints need to know of a cluster is kept at its root: sums, the list of its names, and the list of nodes
 * that must stay out of it, to whose end the list of the other cluster is hung at a union.
 */
#include "transform/clusters.h"

static void
add_foe(Clusters *clusters, int32_t node, int32_t foe)
{
	int32_t entry = clusters->foe_count++;

	clusters->foes[entry].node = foe;
	clusters->foes[entry].next = -1;
	if (clusters->first_foe[node] < 0)
		clusters->first_foe[node] = entry;
	else
		clusters->foes[clusters->last_foe[node]].next = entry;
	clusters->last_foe[node] = entry;
}

void
sophia_clusters_keep_apart(Clusters *clusters, int32_t a, int32_t b)
{
	add_foe(clusters, a, b);
	add_foe(clusters, b, a);
}

/*
 * Whether a node of the cluster of root `b` must stay out of that of root `a`.  Every pair stands in both
 * lists; they are walked side by side, so that the shorter one decides how long it takes.
 */
static bool
are_foes(Clusters *clusters, int32_t a, int32_t b)
{
	int32_t of_a = clusters->first_foe[a];
	int32_t of_b = clusters->first_foe[b];

	while (of_a >= 0 && of_b >= 0)
	{
		if (sophia_union_find_root(&clusters->sets, clusters->foes[of_a].node) == b ||
			sophia_union_find_root(&clusters->sets, clusters->foes[of_b].node) == a)
			return true;
		of_a = clusters->foes[of_a].next;
		of_b = clusters->foes[of_b].next;
	}
	return false;
}

static bool
exceeds_limit(const Clusters *clusters, int32_t a, int32_t b)
{
	const int32_t *of_a = clusters->counts + (int64_t) a * clusters->kinds;
	const int32_t *of_b = clusters->counts + (int64_t) b * clusters->kinds;

	for (int32_t kind = 0; kind < clusters->kinds; kind++)
		if (clusters->limits[kind] > 0 && of_b[kind] > 0 && of_a[kind] > 0 &&
			of_a[kind] + of_b[kind] > clusters->limits[kind])
			return true;
	return false;
}

static bool
has_name(const Clusters *clusters, int32_t root, uint32_t name)
{
	for (int32_t i = clusters->first_name[root]; i >= 0; i = clusters->names[i].next)
		if (clusters->names[i].name == name)
			return true;
	return false;
}

static void
append_name(Clusters *clusters, int32_t root, int32_t entry)
{
	clusters->names[entry].next = -1;
	if (clusters->first_name[root] < 0)
		clusters->first_name[root] = entry;
	else
		clusters->names[clusters->last_name[root]].next = entry;
	clusters->last_name[root] = entry;
}

void
sophia_clusters_add_name(Clusters *clusters, int32_t node, uint32_t name)
{
	if (has_name(clusters, node, name))
		return;
	clusters->names[clusters->name_count].name = name;
	append_name(clusters, node, clusters->name_count++);
}

/* The lists hold different names only and, for people, few of them. */
static bool
exclude_names(const Clusters *clusters, int32_t a, int32_t b)
{
	if (clusters->first_name[a] < 0 || clusters->first_name[b] < 0)
		return false;
	for (int32_t i = clusters->first_name[a]; i >= 0; i = clusters->names[i].next)
		if (has_name(clusters, b, clusters->names[i].name))
			return false;
	return true;
}

static void
take_over_names(Clusters *clusters, int32_t root, int32_t absorbed)
{
	int32_t next;

	for (int32_t i = clusters->first_name[absorbed]; i >= 0; i = next)
	{
		next = clusters->names[i].next;
		if (!has_name(clusters, root, clusters->names[i].name))
			append_name(clusters, root, i);
	}
}

static void
take_over(Clusters *clusters, int32_t root, int32_t absorbed)
{
	int32_t *of_root = clusters->counts + (int64_t) root * clusters->kinds;
	const int32_t *of_absorbed = clusters->counts + (int64_t) absorbed * clusters->kinds;

	take_over_names(clusters, root, absorbed);
	for (int32_t kind = 0; kind < clusters->kinds; kind++)
		of_root[kind] += of_absorbed[kind];
	if (clusters->first_foe[absorbed] < 0)
		return;
	if (clusters->first_foe[root] < 0)
		clusters->first_foe[root] = clusters->first_foe[absorbed];
	else
		clusters->foes[clusters->last_foe[root]].next = clusters->first_foe[absorbed];
	clusters->last_foe[root] = clusters->last_foe[absorbed];
}

bool
sophia_clusters_join(Clusters *clusters, int32_t a, int32_t b, bool compare_names)
{
	int32_t root;

	a = sophia_union_find_root(&clusters->sets, a);
	b = sophia_union_find_root(&clusters->sets, b);
	if (a == b)
		return true;
	if (are_foes(clusters, a, b) || exceeds_limit(clusters, a, b) ||
		(compare_names && exclude_names(clusters, a, b)))
		return false;
	root = sophia_union_find_join(&clusters->sets, a, b);
	take_over(clusters, root, root == a ? b : a);
	return true;
}
