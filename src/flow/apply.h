/*
 * apply.h
 *		Committed documents into the rows of a shape.
 *
 * Runs inside the caller's transaction.  Documents of one key are combined before their row is written, in the order given.
 */
#ifndef SOPHIA_APPLY_H
#define SOPHIA_APPLY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "flow/shape.h"

/* A document that could not be applied. */
typedef struct DeadLetter
{
	const char *line;
	size_t length;
	int64 offset;
	int sqlstate;
	const char *reason;
} DeadLetter;

/* A committed document with the bytes it was parsed from. */
typedef struct ApplyDocument
{
	Document document;
	const char *line;
	size_t length;
	int entry; /* its position in the page that the bytes are, from 1; 0 = no page */
} ApplyDocument;

typedef struct Apply
{
	Shape *shape;
	const char *journal;   /* where all the documents come from; NULL: from no journal */
	Arena *arena;		   /* for reduced documents; reset by each call */
	MemoryContext context; /* of the results */
	bool careful;		   /* a call before this one failed: see sophia_apply_carefully() */
	bool by_clock;		   /* the larger clock wins within the journal, too: see RowState */

	/* Results, added up over calls. */
	int64 applied;
	int64 reduced;
	int64 deleted;
	int64 rows_inserted;
	int64 rows_updated;
	int64 rows_removed;
	int64 elements_written; /* inserted, updated or marked as deleted */
	int64 elements_removed;
	TimestampTz last_document_at; /* publication time of the newest document; 0 = none */
	List *dead;					  /* of DeadLetter * */
} Apply;

/*
 * Writes documents[0..n), without pages (sophia_groups_open_pages), into the tables of the shape, as the owner of each.  A document without a key or with a value that
 * fits no column is added to `dead`.  Raises what the statements raise: then nothing of the call must be kept.
 */
extern void sophia_apply(Apply *apply, const ApplyDocument *documents, int n);

/*
 * The same where sophia_apply() raised an error that lies in the documents: halves the documents, each half in its own
 * subtransaction, until what is refused stands alone and becomes a dead letter with the error's message and SQLSTATE.
 * Other errors are raised again.
 */
extern void sophia_apply_carefully(Apply *apply, const ApplyDocument *documents, int n);

/* True for an SQLSTATE that says something of the data rather than of the server or the configuration. */
extern bool sophia_is_data_error(int sqlstate);

#endif /* SOPHIA_APPLY_H */
