/*
 * clusters_test.c
 *		Unit tests of transform/clusters.c.
 */
#include "transform/clusters.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define NODES 60
#define KINDS 2
#define PAIRS 40

typedef struct World
{
	Clusters clusters;
	int32_t links[NODES];
	int32_t first_name[NODES];
	int32_t last_name[NODES];
	ClusterName names[NODES];
	int32_t counts[NODES * KINDS];
	int32_t limits[KINDS];
	int32_t first_foe[NODES];
	int32_t last_foe[NODES];
	ClusterFoe foes[2 * PAIRS];
} World;

static Clusters *
make_world(World *world)
{
	Clusters *clusters = &world->clusters;

	memset(world, 0, sizeof(*world));
	memset(world->first_foe, -1, sizeof(world->first_foe));
	memset(world->first_name, -1, sizeof(world->first_name));
	sophia_union_find_init(&clusters->sets, world->links, NODES);
	clusters->first_name = world->first_name;
	clusters->last_name = world->last_name;
	clusters->names = world->names;
	clusters->counts = world->counts;
	clusters->limits = world->limits;
	clusters->kinds = KINDS;
	clusters->first_foe = world->first_foe;
	clusters->last_foe = world->last_foe;
	clusters->foes = world->foes;
	return clusters;
}

static bool
together(Clusters *clusters, int32_t a, int32_t b)
{
	return sophia_union_find_root(&clusters->sets, a) == sophia_union_find_root(&clusters->sets, b);
}

static void
test_apart(void)
{
	World world;
	Clusters *clusters = make_world(&world);

	sophia_clusters_keep_apart(clusters, 1, 4);
	ok(sophia_clusters_join(clusters, 1, 2, false) && sophia_clusters_join(clusters, 3, 4, false),
	   "edges between others are accepted");
	ok(!sophia_clusters_join(clusters, 2, 3, false) && !together(clusters, 1, 4),
	   "an edge that would bring together what is kept apart is refused");
	ok(sophia_clusters_join(clusters, 4, 3, false), "what is together may be joined again");
	ok(sophia_clusters_join(clusters, 2, 5, false) && !sophia_clusters_join(clusters, 5, 3, false),
	   "a later member of the cluster is kept apart as well");
}

static void
test_limits(void)
{
	World world;
	Clusters *clusters = make_world(&world);

	world.limits[1] = 2;
	for (int32_t i = 10; i < 14; i++)
		world.counts[i * KINDS + 1] = 1;
	world.counts[20 * KINDS + 1] = 5;
	ok(sophia_clusters_join(clusters, 0, 10, false) && sophia_clusters_join(clusters, 0, 11, false),
	   "as many values as the limit allows are joined");
	ok(!sophia_clusters_join(clusters, 12, 0, false), "one more is refused");
	ok(sophia_clusters_join(clusters, 0, 1, false), "nodes without a value do not count");
	ok(sophia_clusters_join(clusters, 20, 2, false),
	   "what is over the limit by itself takes in nodes without a value");
	ok(!sophia_clusters_join(clusters, 20, 13, false), "and no further value");
}

static void
test_names(void)
{
	World world;
	Clusters *clusters = make_world(&world);

	sophia_clusters_add_name(clusters, 0, 1);
	sophia_clusters_add_name(clusters, 1, 65);
	sophia_clusters_add_name(clusters, 2, 1);
	sophia_clusters_add_name(clusters, 4, 65);
	sophia_clusters_add_name(clusters, 4, 65);
	sophia_clusters_add_name(clusters, 5, 7);
	sophia_clusters_add_name(clusters, 6, 65);
	ok(!sophia_clusters_join(clusters, 0, 1, true), "names that differ are refused");
	ok(sophia_clusters_join(clusters, 0, 2, true) && sophia_clusters_join(clusters, 2, 3, true),
	   "equal names and none are accepted");
	ok(sophia_clusters_join(clusters, 3, 1, false), "an edge that does not ask is not refused");
	ok(sophia_clusters_join(clusters, 0, 4, true), "one name in common is enough");
	ok(!sophia_clusters_join(clusters, 5, 0, true) && sophia_clusters_join(clusters, 6, 4, true) &&
		   sophia_clusters_join(clusters, 5, 0, false) && clusters->name_count == 6,
	   "what a cluster takes over is compared as well");
}

/* Random edges and pairs: every refusal has a reason, and no pair ever comes together. */
static void
test_random(unsigned seed)
{
	World world;
	Clusters *clusters = make_world(&world);
	int32_t pairs[PAIRS][2];
	bool right = true;

	srand(seed);
	for (int i = 0; i < PAIRS; i++)
	{
		pairs[i][0] = rand() % NODES;
		pairs[i][1] = (pairs[i][0] + 1 + rand() % (NODES - 1)) % NODES;
		sophia_clusters_keep_apart(clusters, pairs[i][0], pairs[i][1]);
	}
	for (int step = 0; step < 200; step++)
	{
		int32_t a = rand() % NODES;
		int32_t b = rand() % NODES;
		bool expected = true;

		for (int i = 0; i < PAIRS; i++)
			expected &=
				!(together(clusters, a, pairs[i][0]) && together(clusters, b, pairs[i][1])) &&
				!(together(clusters, b, pairs[i][0]) && together(clusters, a, pairs[i][1]));
		right &= sophia_clusters_join(clusters, a, b, false) == expected;
	}
	ok(right, "seed %u: an edge is refused where a pair kept apart would meet, and only there",
	   seed);
}

int
main(void)
{
	test_apart();
	test_limits();
	test_names();
	for (unsigned seed = 1; seed <= 20; seed++)
		test_random(seed);
	done_testing();
	return exit_status();
}
