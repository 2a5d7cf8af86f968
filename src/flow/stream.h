/*
 * stream.h
 *		One stream as the ingest worker follows it: a source, its journals, and the trouble there is.
 */
#ifndef SOPHIA_STREAM_H
#define SOPHIA_STREAM_H

#include "postgres.h"

#include "flow/batch.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* What sophia.streams and sophia.endpoints say of a stream. */
typedef struct StreamDefinition
{
	const char *stream;
	const char *kind;
	const char *address;
	const char *token; /* NULL: none */
	const char *collection;
	const char *shape;
	const char *options; /* a JSON text */
	bool hard_delete;
	bool from_end;
	TimestampTz created_at; /* tells a stream from an earlier one of its name */
} StreamDefinition;

typedef struct Stream
{
	MemoryContext context; /* everything here; deleted by sophia_stream_close */
	StreamDefinition definition;
	char *state;	  /* as stored: starting or running */
	char *last_error; /* as stored, NULL = none */
	bool ended;		  /* failed or not wanted any more: to be closed */
	bool listed;	  /* its journals were opened after the first listing */
	bool any_before;  /* it had a checkpoint when it was opened */
	Shape *shape;	  /* NULL until it is loaded */
	Source *source;
	uint64 source_number; /* tells this source from those that this and other streams had before */
	List *journals;		  /* of Journal * */
	List *opening;		  /* of Journal *: in a transaction that is not committed yet */
	int64 retry_at;		  /* sophia_clock_ms() before which opening is not tried again */
	Backoff backoff;
	char batch_error[512]; /* the last transient failure of a transaction, '' = none */
} Stream;

/* Starts to follow; nothing is read or written yet. */
extern Stream *sophia_stream_open(MemoryContext parent, const StreamDefinition *definition,
								  const char *state, const char *last_error);
extern void sophia_stream_close(Stream *stream);

/* Takes what is stored of the stream's state, which another session may have changed. */
extern void sophia_stream_stored(Stream *stream, const char *state, const char *last_error);

/* True when an open stream is what the definition says. */
extern bool sophia_stream_matches(const Stream *stream, const StreamDefinition *definition);

/*
 * Does what can be done now: pumps the source, opens new journals, runs at most one batch a journal.  Returns the
 * sophia_clock_ms() at which it wants to be called again at the latest; now or earlier when there is more to do at once.
 * Never raises an error for this stream's own trouble.
 */
extern int64 sophia_stream_turn(Stream *stream);

/* Asks the source to list and to read every head anew; the number that source->refresh_done must reach. */
extern uint64 sophia_stream_refresh(Stream *stream);

#endif /* SOPHIA_STREAM_H */
