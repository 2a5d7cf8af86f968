/*
 * stream_fields.h
 *		The table of a stream as its columns change: reading the shape anew, columns for new fields, wider types, fills.
 */
#ifndef SOPHIA_STREAM_FIELDS_H
#define SOPHIA_STREAM_FIELDS_H

#include "flow/attempt.h"
#include "flow/stream.h"

/* Reads the shape of a stream, in the current transaction, in place of the one that it had. */
extern void sophia_stream_load_shape(Stream *stream);

/* The same where a table changed since, in a transaction of its own; false when that failed. */
extern bool sophia_stream_refresh_shape(Stream *stream, Failure *failure);

/*
 * Widens the columns that a batch or a fill asked for.  False: it is to be tried again later, *failure says why; else they
 * are wider now, or that was refused for good.
 */
extern bool sophia_stream_widen(Stream *stream, Failure *failure);

/* Between batches: adds at most one column, fills some rows.  Returns when to come again. */
extern int64 sophia_stream_turn_fields(Stream *stream, int64 now);

#endif /* SOPHIA_STREAM_FIELDS_H */
