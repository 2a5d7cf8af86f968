/*
 * evolution.h
 *		What the documents of a stream ask of its table: columns for new fields, and wider types.
 *
 * A batch only notes what it meets.  New fields are stored with it, and get their columns between batches (stream_fields.c):
 * nothing waits for that, because their values are in doc.  A batch that holds a value for which a column is to be
 * widened is given up, and run again when the column is wider.
 */
#ifndef SOPHIA_EVOLUTION_H
#define SOPHIA_EVOLUTION_H

#include "postgres.h"

#include "flow/apply.h"
#include "flow/row.h"

/* A column that a value asks to be wider. */
typedef struct Widening
{
	const TargetTable *table;
	const TargetColumn *column;
	const char *to;		 /* name of the conversion, and of the type */
	const char *journal; /* NULL = a row met while its column is filled */
	int64 offset;
	char reason[MISFIT_REASON];
} Widening;

typedef struct Evolution Evolution;

/*
 * What a stream allows: `adds` columns for new fields; `misfit` is its option, NULL where it has none.  Lives in a child of
 * `parent`, and survives the shape.
 */
extern Evolution *sophia_evolution_create(MemoryContext parent, const char *stream, bool adds,
										  const char *misfit);

/* Takes a shape that was loaded in this transaction, in place of an earlier one. */
extern void sophia_evolution_bind(Evolution *evolution, Shape *shape);

/*
 * Around a batch; all of them also take NULL.  begin: forgets what a batch that was given up has noted.  look: notes the
 * new fields of documents.  save: stores them, in the batch's transaction.  committed: they will not be noted again.
 */
extern void sophia_evolution_begin(Evolution *evolution);
extern void sophia_evolution_look(Evolution *evolution, const char *journal,
								  const ApplyDocument *documents, int n);
extern void sophia_evolution_save(Evolution *evolution);
extern void sophia_evolution_committed(Evolution *evolution);

/*
 * Notes a value that does not fit; false when nothing can be widened for it, so that its document is a dead letter.
 * `journal` is NULL for a value of a row.
 */
extern bool sophia_evolution_widens(const Shape *shape, const Misfit *misfit, const char *journal,
									int64 offset);

/* The first column to be widened, NULL = none. */
extern const Widening *sophia_evolution_widening(const Evolution *evolution);

/* Widens it, in a transaction of its own; raises what stands in the way. */
extern void sophia_evolution_widen(Evolution *evolution);

/* Something that will not pass stood in the way: records that, and never asks for it again. */
extern void sophia_evolution_refuse_widening(Evolution *evolution, const char *error);

/* True while a new field may be stored that has no column yet. */
extern bool sophia_evolution_has_new_fields(const Evolution *evolution);

/* Gives one new field its column, in a transaction of its own; raises what stands in the way. */
extern void sophia_evolution_add_column(Evolution *evolution, const Shape *shape);

/* Something that will not pass stood in the way: records that, and forgets the field. */
extern void sophia_evolution_refuse_column(Evolution *evolution, const Shape *shape,
										   const char *error);

#endif /* SOPHIA_EVOLUTION_H */
