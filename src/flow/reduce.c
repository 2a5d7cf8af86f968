/*
 * reduce.c
 *		What a document does to its row: see reduce.h.  Pure: no server call.
 */
#include "flow/reduce.h"

/* The member that says how a document came to be; a row's is that of the last document applied. */
#define META "_meta"

/* The document is older than what the row was made from, and the clock decides between them. */
static ReduceEffect
fill(RowState *row, const Document *document, ReduceStrategy strategy, Arena *arena)
{
	if (strategy == REDUCE_LAST_WRITE_WINS || document->tombstone || row->deleted ||
		(row->plan == NULL && !sophia_json_adds(&document->root, &row->doc, META)))
		return REDUCE_NOTHING;
	if (!sophia_json_merge(&row->doc, arena, &document->root, &row->doc, META, row->plan))
		return REDUCE_NO_MEMORY;
	return REDUCE_FILLED;
}

/* The reduced document after one that is newer; false when there is no memory. */
static bool
reduce_newer(RowState *row, const Document *document, ReduceStrategy strategy, Arena *arena)
{
	bool first = !row->exists || (row->deleted && !document->tombstone);

	if (first)
		row->doc = document->root;
	else if (strategy == REDUCE_MERGE)
		return sophia_json_merge(&row->doc, arena, &row->doc, &document->root, META, row->plan);
	else if (document->tombstone)
		return sophia_json_replace_member(&row->doc, arena, &row->doc, META, &document->root);
	else
		row->doc = document->root;
	return true;
}

ReduceEffect
sophia_reduce(RowState *row, const Document *document, ReduceStrategy strategy, Arena *arena)
{
	if (row->ordered)
	{
		if (row->same_journal && row->offset == document->offset && row->clock == document->clock)
			return REDUCE_NOTHING;
		/* an offset below zero is none: the document came by no journal */
		if (row->same_journal && row->offset >= 0 && row->offset < document->rewound_from)
			return REDUCE_NOTHING;
		if ((!row->same_journal || row->by_clock) && document->clock < row->clock)
			return fill(row, document, strategy, arena);
	}
	if (!reduce_newer(row, document, strategy, arena))
		return REDUCE_NO_MEMORY;
	row->exists = true;
	row->deleted = document->tombstone;
	row->ordered = true;
	row->same_journal = true;
	row->clock = document->clock;
	row->offset = document->offset;
	return REDUCE_APPLIED;
}
