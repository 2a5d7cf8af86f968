/*
 * reduce.h
 *		What a document does to its row: the rules of reduction, ordering and deletion in one pure function.
 *
 * Within one journal documents take effect in commit order, whatever their clocks say.  Between journals the larger
 * clock wins: an older document is dropped, or, where documents merge, only fills members that the row lacks.
 */
#ifndef SOPHIA_REDUCE_H
#define SOPHIA_REDUCE_H

#include "base/json.h"

typedef enum ReduceStrategy
{
	REDUCE_LAST_WRITE_WINS,
	REDUCE_MERGE
} ReduceStrategy;

/* A committed document on its way to its row. */
typedef struct Document
{
	JsonNode root;
	uint64_t clock;
	int64_t offset; /* of its first byte in its journal */
	bool tombstone; /* /_meta/op is "d" */
} Document;

/* A row as the documents see it. */
typedef struct RowState
{
	bool exists; /* something is known of the key */
	bool deleted;
	bool ordered;	   /* clock and offset are known: a document made the row what it is */
	bool same_journal; /* ... and it came from the journal now being applied */
	uint64_t clock;
	int64_t offset;
	JsonNode doc;		  /* reduced so far */
	const JsonNode *plan; /* where documents merge: see sophia_json_merge() */
} RowState;

typedef enum ReduceEffect
{
	REDUCE_NO_MEMORY,
	REDUCE_NOTHING, /* older than the row, or already applied */
	REDUCE_FILLED,	/* older; added members that the row lacked */
	REDUCE_APPLIED
} ReduceEffect;

/* Applies one document to its row's state. */
extern ReduceEffect sophia_reduce(RowState *row, const Document *document, ReduceStrategy strategy,
								  Arena *arena);

#endif /* SOPHIA_REDUCE_H */
