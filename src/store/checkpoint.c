/*
 * checkpoint.c
 *		The durable state of a stream: see checkpoint.h.
 */
#include "postgres.h"

#include "store/checkpoint.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "store/statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static Datum
bytes_datum(const char *bytes, size_t length)
{
	return PointerGetDatum(cstring_to_text_with_len(bytes, length));
}

bool
sophia_checkpoint_stream_active(const char *stream)
{
	static Statement statement = {
		"SELECT FROM sophia.streams WHERE stream = $1 AND state IN ('starting', 'running')"
		" AND system_identifier = $2 AND database_oid = $3 FOR KEY SHARE NOWAIT",
		3,
		{TEXTOID, INT8OID, OIDOID}};

	return sophia_statement_run(&statement,
								(Datum[]){CStringGetTextDatum(stream),
										  Int64GetDatum((int64) GetSystemIdentifier()),
										  ObjectIdGetDatum(MyDatabaseId)},
								NULL) > 0;
}

bool
sophia_checkpoint_any(const char *stream)
{
	static Statement statement = {
		"SELECT FROM sophia.checkpoints WHERE stream = $1 LIMIT 1", 1, {TEXTOID}};

	return sophia_statement_run(&statement, (Datum[]){CStringGetTextDatum(stream)}, NULL) > 0;
}

int64
sophia_checkpoint_open(const char *stream, const char *journal, int64 start)
{
	static Statement find = {
		"SELECT next_offset FROM sophia.checkpoints WHERE stream = $1 AND journal = $2",
		2,
		{TEXTOID, TEXTOID}};
	static Statement add = {
		"INSERT INTO sophia.checkpoints (stream, journal, next_offset, write_head, begun_offset)"
		" VALUES ($1, $2, $3, $3, $3)"
		" ON CONFLICT (stream, journal) DO NOTHING",
		3,
		{TEXTOID, TEXTOID, INT8OID}};
	Datum values[] = {CStringGetTextDatum(stream), CStringGetTextDatum(journal),
					  Int64GetDatum(start)};
	bool null;

	if (sophia_statement_run(&find, values, NULL) > 0)
		return DatumGetInt64(sophia_result(0, 1, &null));
	/* another worker, which has not heard yet that the stream is not its own, may have been faster */
	if (sophia_statement_run(&add, values, NULL) == 0 &&
		sophia_statement_run(&find, values, NULL) > 0)
		return DatumGetInt64(sophia_result(0, 1, &null));
	return start;
}

void
sophia_checkpoint_rewound(const char *stream, const char *journal, int64 *from, int64 *until)
{
	static Statement statement = {"SELECT rewound_from, rewound_until FROM sophia.checkpoints"
								  " WHERE stream = $1 AND journal = $2",
								  2,
								  {TEXTOID, TEXTOID}};
	bool null;

	*from = *until = 0;
	if (sophia_statement_run(&statement,
							 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal)},
							 NULL) == 0)
		return;
	*from = DatumGetInt64(sophia_result(0, 1, &null));
	*until = DatumGetInt64(sophia_result(0, 2, &null));
}

void
sophia_checkpoint_rewound_from(const char *stream, const char *journal, int64 from)
{
	static Statement statement = {"UPDATE sophia.checkpoints SET rewound_from = $3"
								  " WHERE stream = $1 AND journal = $2",
								  3,
								  {TEXTOID, TEXTOID, INT8OID}};

	sophia_statement_run(
		&statement,
		(Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal), Int64GetDatum(from)},
		NULL);
}

bool
sophia_checkpoint_rewind_begin(const char *stream, TimestampTz rewound_at)
{
	static Statement statement = {"UPDATE sophia.streams SET rewind_to = NULL"
								  " WHERE stream = $1 AND rewound_at = $2",
								  2,
								  {TEXTOID, TIMESTAMPTZOID}};

	return sophia_statement_run(
			   &statement, (Datum[]){CStringGetTextDatum(stream), TimestampTzGetDatum(rewound_at)},
			   NULL) > 0;
}

void
sophia_checkpoint_rewind(const char *stream, const char *journal, int64 offset, bool forward)
{
	static Statement statement = {
		"SELECT sophia.rewind_journal($1, $2, $3, $4)", 4, {TEXTOID, TEXTOID, INT8OID, BOOLOID}};

	sophia_statement_run(&statement,
						 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
								   Int64GetDatum(offset), BoolGetDatum(forward)},
						 NULL);
}

int64
sophia_checkpoint_lock(const char *stream, const char *journal)
{
	static Statement statement = {"SELECT next_offset FROM sophia.checkpoints"
								  " WHERE stream = $1 AND journal = $2 FOR UPDATE NOWAIT",
								  2,
								  {TEXTOID, TEXTOID}};
	bool null;

	if (sophia_statement_run(&statement,
							 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal)},
							 NULL) == 0)
		return -1;
	return DatumGetInt64(sophia_result(0, 1, &null));
}

/* Seconds since the last save; and an average over them in which what is old counts less by a factor of e each ten seconds. */
#define SECONDS "greatest(extract(epoch FROM $11 - updated_at)::float8, 0.001)"
#define MOVING_AVERAGE(column, amount)                                                             \
	", " column " = " column " * exp(-" SECONDS " / 10) + (1 - exp(-" SECONDS " / 10)) * " amount  \
	" / " SECONDS

void
sophia_checkpoint_save(const char *stream, const char *journal, const CheckpointChange *change)
{
	static Statement statement = {
		"UPDATE sophia.checkpoints SET next_offset = $3, write_head = $4,"
		" documents_applied = documents_applied + $5, documents_reduced = documents_reduced + $6,"
		" documents_deleted = documents_deleted + $7, documents_dead = documents_dead + $8,"
		" last_document_at = coalesce($9, last_document_at), anomalies = anomalies + $10,"
		" updated_at = $11,"
		" caught_up_at = CASE WHEN $3 >= $4 THEN coalesce(caught_up_at, $11) ELSE caught_up_at END" MOVING_AVERAGE(
			"bytes_per_second", "($3 - next_offset)")
			MOVING_AVERAGE("documents_per_second", "$5") " WHERE stream = $1 AND journal = $2",
		11,
		{TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID,
		 INT8OID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(stream),
					  CStringGetTextDatum(journal),
					  Int64GetDatum(change->next_offset),
					  Int64GetDatum(change->write_head),
					  Int64GetDatum(change->applied),
					  Int64GetDatum(change->reduced),
					  Int64GetDatum(change->deleted),
					  Int64GetDatum(change->dead),
					  TimestampTzGetDatum(change->last_document_at),
					  Int64GetDatum(change->anomalies),
					  TimestampTzGetDatum(GetCurrentTimestamp())};

	sophia_statement_run(&statement, values, change->last_document_at == 0 ? "        n  " : NULL);
}

bool
sophia_checkpoint_dead_letter(const char *stream, const char *journal, int64 offset,
							  const char *document, size_t length, const char *reason, int sqlstate)
{
	static Statement statement = {
		"WITH kept AS ("
		"INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate)"
		" SELECT $1, $2, $3, $4, $5, $6 WHERE NOT EXISTS (SELECT FROM sophia.dead_letters AS d"
		" WHERE d.stream = $1 AND d.journal = $2 AND d.begin_offset = $3 AND d.document = $4)"
		" RETURNING id) SELECT CASE WHEN NOT EXISTS (SELECT FROM sophia.dead_letters AS d"
		" WHERE d.stream = $1 AND d.sqlstate = $6"
		" AND sophia.dead_letter_kind(d.reason) = sophia.dead_letter_kind($5))"
		" THEN pg_notify('sophia_dead_letter', json_build_object('stream', $1, 'sqlstate', $6,"
		" 'reason', left($5, 500), 'id', id)::text) END FROM kept",
		6,
		{TEXTOID, TEXTOID, INT8OID, BYTEAOID, TEXTOID, TEXTOID}};

	return sophia_statement_run(&statement,
								(Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
										  Int64GetDatum(offset), bytes_datum(document, length),
										  CStringGetTextDatum(reason),
										  CStringGetTextDatum(unpack_sql_state(sqlstate))},
								NULL) > 0;
}

bool
sophia_checkpoint_many_dead_letters(const char *stream, int64 limit)
{
	static Statement statement = {
		"SELECT FROM sophia.dead_letters WHERE stream = $1 OFFSET $2 LIMIT 1",
		2,
		{TEXTOID, INT8OID}};

	return sophia_statement_run(
			   &statement, (Datum[]){CStringGetTextDatum(stream), Int64GetDatum(limit)}, NULL) > 0;
}

void
sophia_checkpoint_stream_state(const char *stream, const char *state, const char *error)
{
	static Statement statement = {"UPDATE sophia.streams SET state = $2, last_error = $3"
								  " WHERE stream = $1 AND state IN ('starting', 'running')"
								  " AND (state, last_error) IS DISTINCT FROM ($2, $3)",
								  3,
								  {TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(stream), CStringGetTextDatum(state),
					  error != NULL ? CStringGetTextDatum(error) : (Datum) 0};

	sophia_statement_run(&statement, values, error != NULL ? NULL : "  n");
}
