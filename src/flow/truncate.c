/*
 * truncate.c
 *		Deletes the rows that a backfill did not bring again: see truncate.h.
 */
#include "postgres.h"

#include "flow/truncate.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "flow/notice.h"
#include "lib/stringinfo.h"
#include "store/events.h"
#include "utils/builtins.h"

/* Clocks are unsigned and kept in the bits of a bigint: with the sign turned they are in order. */
#define SIGN "'-9223372036854775808'::pg_catalog.int8"

/* Deletes the rows of one table, as its owner; returns how many. */
static int64
delete_rows(const TargetTable *table, bool hard, const char *journal, uint64 before)
{
	const char *name = quote_qualified_identifier(table->schema, table->name);
	StringInfoData sql;
	GuardState state;
	int rc;

	initStringInfo(&sql);
	if (hard)
		appendStringInfo(&sql, "DELETE FROM %s AS t WHERE true", name);
	else
		appendStringInfo(&sql,
						 "UPDATE %s AS t SET is_deleted = true, ingested_at = pg_catalog.now(),"
						 " changed_xid = pg_catalog.pg_current_xact_id() WHERE NOT t.is_deleted",
						 name);
	appendStringInfoString(&sql, " AND t.source_journal = $1 AND (t.source_clock # " SIGN
								 ") < ($2 # " SIGN ")");
	sophia_target_become_owner(table, &state);
	rc = SPI_execute_with_args(
		sql.data, 2, (Oid[]){TEXTOID, INT8OID},
		(Datum[]){CStringGetTextDatum(journal), Int64GetDatum((int64) before)}, NULL, false, 0);
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", sql.data, SPI_result_code_string(rc));
	sophia_guard_restore(&state);
	return (int64) SPI_processed;
}

void
sophia_truncate(const char *stream, Shape *shape, const Journal *journal,
				const ApplyDocument *given, const ControlDocument *control)
{
	ControlDocument marker = *control;
	int64 rows = 0;

	if (!marker.bounded)
		marker.bounded = sophia_events_last_clock(stream, journal->name, "backfill_begin",
												  given->document.offset, &marker.truncated_at);
	if (!marker.bounded)
		rows = -1; /* nobody knows where it began */
	else
	{
		if (shape->main != NULL)
			rows +=
				delete_rows(shape->main, shape->hard_delete, journal->name, marker.truncated_at);
		if (shape->elements != NULL)
			rows += delete_rows(shape->elements, shape->hard_delete, journal->name,
								marker.truncated_at);
	}
	sophia_notice_marker(stream, journal, given, &marker, rows);
}
