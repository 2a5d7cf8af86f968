/*
 * groups.h
 *		The documents of one call of sophia_apply(), gathered by the key of their row.
 */
#ifndef SOPHIA_GROUPS_H
#define SOPHIA_GROUPS_H

#include "postgres.h"

#include "flow/apply.h"

/* A document in its group, in commit order. */
typedef struct GroupMember
{
	const ApplyDocument *document;
	struct GroupMember *next;
} GroupMember;

typedef struct KeyGroup
{
	text *key[SHAPE_MAX_KEYS];
	uint32 hash;
	GroupMember *first;
	GroupMember *last;
	int members;
	bool tombstones; /* some member is one */
	bool extensive;	 /* the stored document has the extensive form of a call only: see row.c */
	RowState row;
	const JsonNode *newest; /* the last document applied, NULL = none */
	bool stored;			/* a row of that key was in the table */
	bool changed;			/* the row must be written */
	Datum journal;			/* of the last document applied to the stored row, 0 = unknown */
	Datum collection;		/* what the stored row says of its collection, 0 = nothing */

	/* What becomes of the elements, which a document without their array leaves as they are. */
	bool array_given;	   /* a document that took effect brought their array */
	bool elements_deleted; /* a tombstone took effect after it */
	RowState elements;	   /* the row as it was when either happened last */
} KeyGroup;

typedef struct KeyGroups
{
	int n;
	KeyGroup *groups;
	/* Internal: open addressing, 1 + position in groups, 0 = free. */
	int *slots;
	uint32 mask;
} KeyGroups;

/* Gathers; documents without a usable key become dead letters of `apply`.  In the current memory context. */
extern KeyGroups *sophia_groups_gather(Apply *apply, const ApplyDocument *documents, int n);

/*
 * Replaces each page among documents[0..n) by the entries that it holds, each with the page's /_meta, whose trees go to
 * `arena`.  The result is `documents` itself where there is no page, else in the current memory context.
 */
extern const ApplyDocument *sophia_groups_open_pages(const Shape *shape, Arena *arena,
													 const ApplyDocument *documents, int *n);

/* Adds a dead letter; `reason` is copied.  A page is added once, with the first reason. */
extern void sophia_apply_dead(Apply *apply, const ApplyDocument *document, int sqlstate,
							  const char *reason);

#endif /* SOPHIA_GROUPS_H */
