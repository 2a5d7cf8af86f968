/*
 * fill.h
 *		Filling a new column from doc, in the rows that were there before it.
 *
 * In batches, each a short transaction of its own that also stores how far it came, in the order of the primary key.  Rows
 * are locked while they are read, so that what the ingest writes meanwhile is never overwritten by something older.
 */
#ifndef SOPHIA_FILL_H
#define SOPHIA_FILL_H

#include "postgres.h"

#include "flow/shape.h"

typedef enum FillResult
{
	FILL_NONE,	/* nothing is to be filled, or somebody else is at it */
	FILL_MORE,	/* a batch was done */
	FILL_AGAIN, /* the table is locked, or another one than when the shape was read */
	FILL_WIDEN, /* a column must be wider first: sophia_evolution_widening() */
} FillResult;

/* Fills some rows of the columns that lag behind most. */
extern FillResult sophia_fill_run(const Shape *shape);

/* A fill failed for good: stores why. */
extern void sophia_fill_fail(const Shape *shape, const char *error);

#endif /* SOPHIA_FILL_H */
