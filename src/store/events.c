/*
 * events.c
 *		Rows of sophia.stream_events: see events.h.
 */
#include "postgres.h"

#include "store/events.h"

#include "catalog/pg_type.h"
#include "store/statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

void
sophia_events_add(const char *stream, const char *journal, const StreamEvent *event)
{
	static Statement statement = {
		"INSERT INTO sophia.stream_events (stream, journal, begin_offset, event, clock, published_at,"
		" detail, document) VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8)"
		" ON CONFLICT (stream, journal, begin_offset, event) DO NOTHING",
		8,
		{TEXTOID, TEXTOID, INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID, BYTEAOID}};
	bool kept = event->document != NULL;
	Datum values[] = {
		CStringGetTextDatum(stream),
		CStringGetTextDatum(journal),
		Int64GetDatum(event->offset),
		CStringGetTextDatum(event->name),
		Int64GetDatum((int64) event->clock),
		TimestampTzGetDatum(event->published_at),
		CStringGetTextDatum(event->detail),
		kept ? PointerGetDatum(cstring_to_text_with_len(event->document, event->length))
			 : (Datum) 0};

	sophia_statement_run(&statement, values, kept ? NULL : "       n");
}

bool
sophia_events_last_clock(const char *stream, const char *journal, const char *name, int64 before,
						 uint64 *clock)
{
	static Statement statement = {
		"SELECT clock FROM sophia.stream_events WHERE stream = $1 AND journal = $2 AND event = $3"
		" AND begin_offset < $4 ORDER BY begin_offset DESC LIMIT 1",
		4,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID}};
	bool null;

	if (sophia_statement_run(&statement,
							 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
									   CStringGetTextDatum(name), Int64GetDatum(before)},
							 NULL) == 0)
		return false;
	*clock = (uint64) DatumGetInt64(sophia_result(0, 1, &null));
	return true;
}
