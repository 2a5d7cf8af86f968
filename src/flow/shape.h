/*
 * shape.h
 *		How the documents of a stream become rows, and the statements that write them.
 *
 * Read by sophia.shape_definition(), from sophia.table_columns and from sophia.fields when a stream is opened.  A shape writes one row a document (main),
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
#include "lib/ilist.h"

#define SHAPE_MAX_KEYS 8

struct Evolution;

typedef struct TargetColumn
{
	const char *name;
	const Conversion *conversion;
	const char *cast; /* type whose input function reads the converted text; NULL = none needed */
	int n_pointers;
	JsonPointer *pointers;
	bool own_id;	/* tells the elements of one array apart */
	bool may_widen; /* its type may follow the values that come */
	bool evolved;	/* option evolve added it */
} TargetColumn;

/* A table that a shape writes.  Batch rows hold its columns, then the SourceColumns. */
typedef struct TargetTable
{
	const char *schema;
	const char *name;
	Oid relid; /* when the shape was read; InvalidOid: there was none */
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

/* How the text of a key is made where the column that holds it is no text: equal values must have equal texts. */
typedef struct KeyType
{
	const Conversion *conversion; /* NULL: the text is taken as it stands */
	FmgrInfo output;
	const char *cast; /* type of the column, NULL = text */
} KeyType;

typedef struct Shape
{
	MemoryContext context;		 /* everything here; deleted by sophia_shape_free */
	dlist_node loaded;			 /* among the shapes of this process */
	bool outdated;				 /* a table of it changed since it was read */
	struct Evolution *evolution; /* what documents may change in the tables; NULL: nothing */
	Arena arena;				 /* names of pointers */
	const char *name;
	const char *collection;
	ReduceStrategy strategy;
	const JsonNode *plan;	 /* where documents merge: see RowState */
	bool generic;			 /* its table is the user's */
	bool append;			 /* every document has a row, keyed by journal and offset */
	bool hard_delete;		 /* option delete = hard */
	bool skips_unchanged;	 /* rows are written only where something but /_meta differs */
	bool ignores_tombstones; /* its tombstones are positions of a listing, not rows */
	int n_keys;
	JsonPointer keys[SHAPE_MAX_KEYS];
	const char *key_columns[SHAPE_MAX_KEYS];
	KeyType key_types[SHAPE_MAX_KEYS];
	TargetTable *main;	   /* NULL: only elements */
	TargetTable *elements; /* NULL: only main */
	JsonPointer array;
	bool has_pages; /* a document without a key may hold others in the array at `page` */
	JsonPointer page;
	/* Columns of elements that a new array takes over from rows that agree in those of kept_while. */
	int n_kept;
	char **kept;
	int n_kept_while;
	char **kept_while;
} Shape;

/*
 * Reads a shape in the current transaction; the result lives in a child of `parent`.  `options` are those of the stream, a
 * JSON text: of the shape "generic" they say everything.  Raises 42704 for an unknown shape, and what
 * sophia.shape_definition() raises.
 * From then on `outdated` tells when one of its tables was altered: as its lock is taken, at the latest, so that who
 * holds one knows the columns.
 */
extern Shape *sophia_shape_load(MemoryContext parent, const char *name, const char *options,
								const char *collection, bool hard_delete);
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
