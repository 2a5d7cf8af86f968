/*
 * cursor.h
 *		Reads what changed in tables between two snapshots.
 *
 * Each row holds the transaction that wrote it last (capture.h), so what became visible since an earlier snapshot is what
 * an index finds: rows whose stamp is at or past that snapshot's end, or was in progress in it.
 */
#ifndef SOPHIA_CURSOR_H
#define SOPHIA_CURSOR_H

#include "postgres.h"

#include "utils/snapshot.h"

/* What to read: the tables, which of them whole, and where the earlier snapshot ended. */
typedef struct CursorWindow
{
	int n;
	const Oid *sources;
	const bool *whole;
	Datum sources_array; /* the same as oid[] */
	Datum past;			 /* xid8: first transaction id that the earlier snapshot had not seen */
	Datum in_progress;	 /* xid8[]: those that it saw in progress */
} CursorWindow;

/* Told of each changed row. */
typedef void (*CursorRow)(void *context, Oid source, Datum key, Datum deleted);

/* Told of each source, and whether it was read whole because all its rows went by TRUNCATE meanwhile, or very many. */
typedef void (*CursorSource)(void *context, Oid source, int64 rows, bool truncated);

/*
 * Reads in the active snapshot, with the rights of the session's role for the sources, within an SPI connection.  What the
 * current transaction wrote itself is left out: its id counts as visible in its own snapshot, but there may be more of it.
 * With `row` NULL the rows are counted only, up to `most` a source.
 */
extern void sophia_cursor_read(const CursorWindow *window, int64 most, CursorRow row,
							   CursorSource source, void *context);

#endif /* SOPHIA_CURSOR_H */
