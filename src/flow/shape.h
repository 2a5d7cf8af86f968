/*
 * shape.h
 *		How the documents of a stream become rows, and the statements that write them.
 *
 * Read from sophia.shapes and sophia.table_columns when a stream is opened.  A shape writes one row a document (main),
 * one row an element of an array in it (elements), or both.
 */
#ifndef SOPHIA_SHAPE_H
#define SOPHIA_SHAPE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "base/guard.h"
#include "executor/spi.h"
#include "flow/conversion.h"
#include "flow/reduce.h"

#define SHAPE_MAX_KEYS 4

typedef struct TargetColumn
{
	const char *name;
	const Conversion *conversion;
	int n_pointers;
	JsonPointer *pointers;
	bool own_id; /* tells the elements of one array apart */
} TargetColumn;

/* A table that a shape writes.  Batch rows hold its columns, then the SourceColumns. */
typedef struct TargetTable
{
	const char *schema;
	const char *name;
	int n_columns;
	TargetColumn *columns;
	TupleDesc desc;

	/* Prepared on first use, kept until the stream is closed. */
	SPIPlanPtr fetch;		 /* rows of given keys */
	SPIPlanPtr insert;		 /* batch rows into the table, where no row has their keys */
	SPIPlanPtr upsert;		 /* batch rows into the table */
	SPIPlanPtr remove;		 /* rows of given keys */
	SPIPlanPtr mark_deleted; /* elements of given documents */
	SPIPlanPtr surplus;		 /* elements of documents in the batch that are not in it */
} TargetTable;

/* What stands behind a table's own columns in a batch row. */
enum SourceColumns
{
	SOURCE_DOC,
	SOURCE_PUBLISHED_AT,
	SOURCE_IS_DELETED,
	SOURCE_CLOCK,
	SOURCE_JOURNAL,
	SOURCE_OFFSET,
	SOURCE_COLUMNS
};

typedef struct Shape
{
	MemoryContext context; /* everything here; deleted by sophia_shape_free */
	Arena arena;		   /* names of pointers */
	const char *name;
	const char *collection;
	ReduceStrategy strategy;
	bool hard_delete;		 /* option delete = hard */
	bool ignores_tombstones; /* its tombstones are positions of a listing, not rows */
	int n_keys;
	JsonPointer keys[SHAPE_MAX_KEYS];
	const char *key_columns[SHAPE_MAX_KEYS];
	TargetTable *main;	   /* NULL: only elements */
	TargetTable *elements; /* NULL: only main */
	JsonPointer array;
} Shape;

/*
 * Reads a shape in the current transaction; the result lives in a child of `parent`.  Raises 42704 for an unknown one.
 */
extern Shape *sophia_shape_load(MemoryContext parent, const char *name, const char *collection,
								bool hard_delete);
extern void sophia_shape_free(Shape *shape);

/* The table whose owner, locks and existence matter most: main, else elements. */
extern TargetTable *sophia_shape_target(const Shape *shape);

/* The relation of that name now; when there is none, InvalidOid if `missing_ok`, else an error. */
extern Oid sophia_target_relation(const TargetTable *table, bool missing_ok);

/* Acts as the owner of the table until sophia_guard_restore(). */
extern void sophia_target_become_owner(const TargetTable *table, GuardState *state);

/* The statements, prepared within the current SPI connection on first use; see TargetTable. */
extern SPIPlanPtr sophia_shape_fetch(Shape *shape);
extern SPIPlanPtr sophia_shape_remove(Shape *shape, TargetTable *table);
extern SPIPlanPtr sophia_shape_mark_deleted(Shape *shape);
extern SPIPlanPtr sophia_shape_surplus(Shape *shape);
extern SPIPlanPtr sophia_shape_insert(Shape *shape, TargetTable *table);
extern SPIPlanPtr sophia_shape_upsert(Shape *shape, TargetTable *table);

/* Names that the statements use for their batches. */
#define BATCH_ROWS "sophia_batch_rows"

#endif /* SOPHIA_SHAPE_H */
