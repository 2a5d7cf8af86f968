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
sophia_checkpoint_stream_active(const char *stream, TimestampTz created_at)
{
	static Statement statement = {
		"SELECT FROM sophia.streams WHERE stream = $1 AND state IN ('starting', 'running')"
		" AND system_identifier = $2 AND database_oid = $3 AND created_at = $4 FOR KEY SHARE NOWAIT",
		4,
		{TEXTOID, INT8OID, OIDOID, TIMESTAMPTZOID}};

	return sophia_statement_run(
			   &statement,
			   (Datum[]){CStringGetTextDatum(stream), Int64GetDatum((int64) GetSystemIdentifier()),
						 ObjectIdGetDatum(MyDatabaseId), TimestampTzGetDatum(created_at)},
			   NULL) > 0;
}

bool
sophia_checkpoint_any(const char *stream)
{
	static Statement statement = {
		"SELECT FROM sophia.checkpoints WHERE stream = $1 LIMIT 1", 1, {TEXTOID}};

	return sophia_statement_run(&statement, (Datum[]){CStringGetTextDatum(stream)}, NULL) > 0;
}

/* Forgets where a journal stood that is gone, and what its producers had not finished. */
static void
begin_anew(const char *stream, const char *journal, int64 revision)
{
	static Statement statement = {
		"WITH producers AS (DELETE FROM sophia.producers WHERE stream = $1 AND journal = $2),"
		" staged AS (DELETE FROM sophia.staged_documents WHERE stream = $1 AND journal = $2),"
		" event AS (INSERT INTO sophia.stream_events"
		" (stream, journal, begin_offset, event, clock, published_at, detail)"
		" VALUES ($1, $2, $4, 'made_again', 0, pg_catalog.now(),"
		" pg_catalog.jsonb_build_object('read', $4)) ON CONFLICT DO NOTHING)"
		" UPDATE sophia.checkpoints SET next_offset = 0, write_head = 0, revision = $3,"
		" rewound_from = 0, rewound_until = 0, caught_up_at = NULL, begun_offset = 0,"
		" begun_at = pg_catalog.clock_timestamp(), begun_documents = documents_applied"
		" WHERE stream = $1 AND journal = $2",
		4,
		{TEXTOID, TEXTOID, INT8OID, INT8OID}};
	int64 offset = sophia_checkpoint_lock(stream, journal);

	sophia_statement_run(&statement,
						 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
								   Int64GetDatum(revision), Int64GetDatum(offset)},
						 NULL);
	ereport(LOG,
			(errmsg("stream \"%s\" reads journal \"%s\" from its beginning", stream, journal),
			 errdetail("It was deleted and made again; of the earlier one it had read " INT64_FORMAT
					   " bytes.",
					   offset)));
}

/* The offset of a checkpoint that is there, -1 when it is not. */
static int64
find_checkpoint(const char *stream, const char *journal, int64 revision)
{
	static Statement find = {"SELECT next_offset, revision FROM sophia.checkpoints"
							 " WHERE stream = $1 AND journal = $2",
							 2,
							 {TEXTOID, TEXTOID}};
	static Statement learn = {
		"UPDATE sophia.checkpoints SET revision = $3 WHERE stream = $1 AND journal = $2",
		3,
		{TEXTOID, TEXTOID, INT8OID}};
	Datum values[] = {CStringGetTextDatum(stream), CStringGetTextDatum(journal),
					  Int64GetDatum(revision)};
	int64 offset;
	int64 known;
	bool null;

	if (sophia_statement_run(&find, values, NULL) == 0)
		return -1;
	offset = DatumGetInt64(sophia_result(0, 1, &null));
	known = DatumGetInt64(sophia_result(0, 2, &null));
	if (revision == 0 || known == revision)
		return offset;
	if (known == 0)
		sophia_statement_run(&learn, values, NULL);
	else
		begin_anew(stream, journal, revision);
	return known == 0 ? offset : 0;
}

int64
sophia_checkpoint_open(const char *stream, const char *journal, int64 revision, int64 start)
{
	static Statement add = {
		"INSERT INTO sophia.checkpoints (stream, journal, revision, next_offset, write_head,"
		" begun_offset) VALUES ($1, $2, $3, $4, $4, $4) ON CONFLICT (stream, journal) DO NOTHING",
		4,
		{TEXTOID, TEXTOID, INT8OID, INT8OID}};
	int64 offset = find_checkpoint(stream, journal, revision);

	if (offset >= 0)
		return offset;
	/* another worker, which has not heard yet that the stream is not its own, may have been faster */
	if (sophia_statement_run(&add,
							 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
									   Int64GetDatum(revision), Int64GetDatum(start)},
							 NULL) == 0)
		offset = find_checkpoint(stream, journal, revision);
	return offset >= 0 ? offset : start;
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
sophia_checkpoint_stream_state(const char *stream, TimestampTz created_at, const char *state,
							   const char *error)
{
	static Statement statement = {"UPDATE sophia.streams SET state = $2, last_error = $3"
								  " WHERE stream = $1 AND state IN ('starting', 'running')"
								  " AND created_at = $4"
								  " AND (state, last_error) IS DISTINCT FROM ($2, $3)",
								  4,
								  {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(stream), CStringGetTextDatum(state),
					  error != NULL ? CStringGetTextDatum(error) : (Datum) 0,
					  TimestampTzGetDatum(created_at)};

	sophia_statement_run(&statement, values, error != NULL ? NULL : "  n ");
}
