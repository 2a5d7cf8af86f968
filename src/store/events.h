/*
 * events.h
 *		What happened to a stream beside data: rows of sophia.stream_events.
 */
#ifndef SOPHIA_EVENTS_H
#define SOPHIA_EVENTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct StreamEvent
{
	const char *name;
	int64 offset; /* of the document that it is about */
	uint64 clock;
	TimestampTz published_at;
	const char *detail;	  /* a JSON object */
	const char *document; /* NULL: not kept */
	size_t length;
} StreamEvent;

/* Records an event inside the caller's transaction; the same one of the same document again does nothing. */
extern void sophia_events_add(const char *stream, const char *journal, const StreamEvent *event);

/* Finds the clock of the last event of that name in a journal before an offset; false when there is none. */
extern bool sophia_events_last_clock(const char *stream, const char *journal, const char *name,
									 int64 before, uint64 *clock);

#endif /* SOPHIA_EVENTS_H */
