/*
 * capture.h
 *		What a raw table's triggers note for the exact cursors: stamps of rows, keys of rows that are gone.
 */
#ifndef SOPHIA_CAPTURE_H
#define SOPHIA_CAPTURE_H

#include "postgres.h"

#include "access/htup.h"
#include "nodes/bitmapset.h"
#include "utils/rel.h"

/* The column that holds the stamp: the transaction that last wrote the row, xid8. */
#define STAMP_COLUMN "changed_xid"

/* Where a relation has its stamp and its key. */
typedef struct CaptureColumns
{
	AttrNumber stamp;
	Bitmapset *key; /* as RelationGetIndexAttrBitmap has it; empty where there is no primary key */
	enum
	{
		CONSUMER_NOT_LOOKED_FOR,
		CONSUMER_NONE,
		CONSUMER_SOME
	} consumer; /* whether anybody reads the changes of the relation */
} CaptureColumns;

/* Reads them into `columns`; an error where there is no column of that name and type. */
extern void sophia_capture_columns(Relation relation, CaptureColumns *columns);

/* `row` with the stamp of the current transaction; the same tuple where it has it already. */
extern HeapTuple sophia_capture_stamp(Relation relation, const CaptureColumns *columns,
									  HeapTuple row);

/* Whether the key of a row changed. */
extern bool sophia_capture_key_changed(Relation relation, const CaptureColumns *columns,
									   HeapTuple before, HeapTuple after);

/*
 * Leaves the key of a row that is gone, or (NULL) the note that all rows are, for the consumers of the relation; nothing
 * where it has none, which is looked for once for `columns`.
 */
extern void sophia_capture_keep(Relation relation, CaptureColumns *columns, HeapTuple row);

#endif /* SOPHIA_CAPTURE_H */
