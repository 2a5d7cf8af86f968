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
} ApplyDocument;

typedef struct Apply
{
	Shape *shape;
	const char *journal;   /* where all the documents come from */
	Arena *arena;		   /* of the running call, for reduced documents */
	MemoryContext context; /* of the results */
	bool careful;		   /* a call before this one failed: see sophia_apply_carefully() */

	/* Results, added up over calls. */
	int64 applied;
	int64 reduced;
	int64 deleted;
	TimestampTz last_document_at; /* publication time of the newest document; 0 = none */
	List *dead;					  /* of DeadLetter * */
} Apply;

/*
 * Writes documents[0..n) into the tables of the shape, as the owner of each.  A document without a key or with a value that
 * fits no column is added to `dead`.  Raises what the statements raise: then nothing of the call must be kept.
 */
extern void sophia_apply(Apply *apply, const ApplyDocument *documents, int n);

/*
 * The same where sophia_apply() raised an error that lies in the documents: halves the documents, each half in its own
 * subtransaction, until what is refused stands alone and becomes a dead letter with the error's message and SQLSTATE.
 * Other errors are raised again.
 */
extern void sophia_apply_carefully(Apply *apply, const ApplyDocument *documents, int n);

/* Gives the memory back that calls keep for the next one. */
extern void sophia_apply_give_back(void);

/* True for an SQLSTATE that says something of the data rather than of the server or the configuration. */
extern bool sophia_is_data_error(int sqlstate);

#endif /* SOPHIA_APPLY_H */
