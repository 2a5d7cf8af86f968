/*
 * landing.h
 *		From the row of a landing table to the document that it holds.
 *
 * The document is text: what stands in a column of type json is taken as it is, so that nothing that a json can hold and
 * a jsonb cannot (a NUL, a lone surrogate, a number with many digits) raises an error here.
 */
#ifndef SOPHIA_LANDING_H
#define SOPHIA_LANDING_H

#include "postgres.h"

#include "access/htup.h"
#include "flow/landing_table.h"

typedef struct LandedDocument
{
	bytea *document;
	uint64 clock;  /* as in a document's uuid */
	char *problem; /* why there is no document; NULL = there is one */
} LandedDocument;

/*
 * The document of `row`.  `before` (may be NULL) is the row that it replaces: where the whole document is in no column, a
 * value that is gone since then is an explicit null, and others without a value are left out, because a column cannot tell
 * a null from what is not there.  `deleted` makes it a tombstone.  An error becomes a problem, unless somebody cancelled.
 */
extern LandedDocument sophia_landing_document(Oid relation, TupleDesc desc, HeapTuple row,
											  HeapTuple before, bool deleted);

#endif /* SOPHIA_LANDING_H */
