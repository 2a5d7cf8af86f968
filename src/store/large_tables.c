/*
 * large_tables.c
 *		Plans of this process as if every table were large: see large_tables.h.
 *
 * A kept plan that was made while a table was small, or for statistics that an ANALYZE took then, may well read the whole
 * table: from its primary key, or as the outer side of a join with the keys that are looked for.  It is kept while
 * the table grows, and then each batch costs as much as the table is large.  With these numbers in place of the
 * real ones the rows of a few keys are always cheapest to look up one by one.
 */
#include "postgres.h"

#include "store/large_tables.h"

#include "optimizer/plancat.h"
#include "utils/selfuncs.h"

#define LARGE_ROWS		  1e6
#define LARGE_PAGES		  100000
#define LARGE_INDEX_PAGES 5000
#define LARGE_TREE_HEIGHT 2

static get_relation_info_hook_type next_relation_info;

static void
enlarge(PlannerInfo *root, Oid relation, bool inherits, RelOptInfo *rel)
{
	ListCell *cell;

	if (next_relation_info != NULL)
		next_relation_info(root, relation, inherits, rel);
	rel->pages = Max(rel->pages, LARGE_PAGES);
	rel->tuples = Max(rel->tuples, LARGE_ROWS);
	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(cell);

		index->pages = Max(index->pages, LARGE_INDEX_PAGES);
		index->tuples = Max(index->tuples, LARGE_ROWS);
		index->tree_height = Max(index->tree_height, LARGE_TREE_HEIGHT);
	}
}

/* True: the statistics of a column are these, that is none. */
static bool
hide_statistics(PlannerInfo *root, RangeTblEntry *table, AttrNumber column, VariableStatData *data)
{
	return true;
}

void
sophia_large_tables_expect(void)
{
	next_relation_info = get_relation_info_hook;
	get_relation_info_hook = enlarge;
	get_relation_stats_hook = hide_statistics;
}
