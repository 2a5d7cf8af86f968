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

#define PRODUCER_BYTES 6

/* A producer's six bytes, the most significant first. */
static Datum
producer_datum(uint64 producer)
{
	bytea *bytes = palloc(VARHDRSZ + PRODUCER_BYTES);

	SET_VARSIZE(bytes, VARHDRSZ + PRODUCER_BYTES);
	for (int i = 0; i < PRODUCER_BYTES; i++)
		VARDATA(bytes)[i] = (char) (producer >> (8 * (PRODUCER_BYTES - 1 - i)));
	return PointerGetDatum(bytes);
}

static uint64
producer_from_datum(Datum value)
{
	bytea *bytes = DatumGetByteaPP(value);
	uint64 producer = 0;

	for (int i = 0; i < PRODUCER_BYTES; i++)
		producer = producer << 8 | (unsigned char) VARDATA_ANY(bytes)[i];
	return producer;
}

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

/* Forgets where a journal stood that is gone, and what its producers had not finished. */
static void
begin_anew(const char *stream, const char *journal, int64 revision)
{
	static Statement statement = {
		"WITH producers AS (DELETE FROM sophia.producers WHERE stream = $1 AND journal = $2),"
		" staged AS (DELETE FROM sophia.staged_documents WHERE stream = $1 AND journal = $2)"
		" UPDATE sophia.checkpoints SET next_offset = 0, write_head = 0, revision = $3"
		" WHERE stream = $1 AND journal = $2",
		3,
		{TEXTOID, TEXTOID, INT8OID}};
	int64 offset = sophia_checkpoint_lock(stream, journal);

	sophia_statement_run(&statement,
						 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
								   Int64GetDatum(revision)},
						 NULL);
	ereport(LOG, (errmsg("stream \"%s\" reads journal \"%s\" from its beginning", stream, journal),
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
		"INSERT INTO sophia.checkpoints (stream, journal, revision, next_offset, write_head)"
		" VALUES ($1, $2, $3, $4, $4) ON CONFLICT (stream, journal) DO NOTHING",
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

void
sophia_checkpoint_save(const char *stream, const char *journal, const CheckpointChange *change)
{
	static Statement statement = {
		"UPDATE sophia.checkpoints SET next_offset = $3, write_head = $4,"
		" documents_applied = documents_applied + $5, documents_reduced = documents_reduced + $6,"
		" documents_deleted = documents_deleted + $7, documents_dead = documents_dead + $8,"
		" last_document_at = coalesce($9, last_document_at)"
		" WHERE stream = $1 AND journal = $2",
		9,
		{TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(stream),
					  CStringGetTextDatum(journal),
					  Int64GetDatum(change->next_offset),
					  Int64GetDatum(change->write_head),
					  Int64GetDatum(change->applied),
					  Int64GetDatum(change->reduced),
					  Int64GetDatum(change->deleted),
					  Int64GetDatum(change->dead),
					  TimestampTzGetDatum(change->last_document_at)};

	sophia_statement_run(&statement, values, change->last_document_at == 0 ? "        n" : NULL);
}

void
sophia_checkpoint_producers(const char *stream, const char *journal,
							void (*take)(void *owner, const StoredProducer *producer), void *owner)
{
	static Statement statement = {
		"SELECT producer, last_ack, max_clock, begin_offset FROM sophia.producers"
		" WHERE stream = $1 AND journal = $2",
		2,
		{TEXTOID, TEXTOID}};
	uint64 n = sophia_statement_run(
		&statement, (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal)}, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		bool null;
		StoredProducer producer = {
			.producer = producer_from_datum(sophia_result(i, 1, &null)),
			.last_ack = (uint64) DatumGetInt64(sophia_result(i, 2, &null)),
			.max_clock = (uint64) DatumGetInt64(sophia_result(i, 3, &null)),
			.begin_offset = DatumGetInt64(sophia_result(i, 4, &null)),
		};

		take(owner, &producer);
	}
}

void
sophia_checkpoint_save_producer(const char *stream, const char *journal,
								const StoredProducer *producer)
{
	static Statement statement = {
		"INSERT INTO sophia.producers (stream, journal, producer, last_ack, max_clock, begin_offset)"
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (stream, journal, producer) DO UPDATE"
		" SET last_ack = EXCLUDED.last_ack, max_clock = EXCLUDED.max_clock,"
		" begin_offset = EXCLUDED.begin_offset",
		6,
		{TEXTOID, TEXTOID, BYTEAOID, INT8OID, INT8OID, INT8OID}};

	sophia_statement_run(&statement,
						 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
								   producer_datum(producer->producer),
								   Int64GetDatum((int64) producer->last_ack),
								   Int64GetDatum((int64) producer->max_clock),
								   Int64GetDatum(producer->begin_offset)},
						 NULL);
}

void
sophia_checkpoint_stage(const char *stream, const char *journal, uint64 producer, int64 offset,
						uint64 clock, const char *document, size_t length)
{
	static Statement statement = {
		"INSERT INTO sophia.staged_documents (stream, journal, producer, begin_offset, clock, document)"
		" VALUES ($1, $2, $3, $4, $5, $6)",
		6,
		{TEXTOID, TEXTOID, BYTEAOID, INT8OID, INT8OID, BYTEAOID}};

	sophia_statement_run(&statement,
						 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
								   producer_datum(producer), Int64GetDatum(offset),
								   Int64GetDatum((int64) clock), bytes_datum(document, length)},
						 NULL);
}

void
sophia_checkpoint_unstage(const char *stream, const char *journal, uint64 producer)
{
	static Statement statement = {
		"DELETE FROM sophia.staged_documents WHERE stream = $1 AND journal = $2 AND producer = $3",
		3,
		{TEXTOID, TEXTOID, BYTEAOID}};

	sophia_statement_run(&statement,
						 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
								   producer_datum(producer)},
						 NULL);
}

struct PortalData *
sophia_checkpoint_staged(const char *stream, const char *journal, uint64 producer)
{
	return SPI_cursor_open_with_args(
		NULL,
		"SELECT begin_offset, clock, document FROM sophia.staged_documents"
		" WHERE stream = $1 AND journal = $2 AND producer = $3"
		" ORDER BY begin_offset",
		3, (Oid[]){TEXTOID, TEXTOID, BYTEAOID},
		(Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
				  producer_datum(producer)},
		NULL, true, 0);
}

bool
sophia_checkpoint_dead_letter(const char *stream, const char *journal, int64 offset,
							  const char *document, size_t length, const char *reason, int sqlstate)
{
	static Statement statement = {
		"INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate)"
		" SELECT $1, $2, $3, $4, $5, $6 WHERE NOT EXISTS (SELECT FROM sophia.dead_letters AS d"
		" WHERE d.stream = $1 AND d.journal = $2 AND d.begin_offset = $3 AND d.document = $4)",
		6,
		{TEXTOID, TEXTOID, INT8OID, BYTEAOID, TEXTOID, TEXTOID}};

	return sophia_statement_run(&statement,
								(Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
										  Int64GetDatum(offset), bytes_datum(document, length),
										  CStringGetTextDatum(reason),
										  CStringGetTextDatum(unpack_sql_state(sqlstate))},
								NULL) > 0;
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
