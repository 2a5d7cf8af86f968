/*
 * producers.c
 *		States of producers and staged documents: see producers.h.
 */
#include "postgres.h"

#include "store/producers.h"

#include "catalog/pg_type.h"
#include "store/statement.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define PRODUCER_BYTES 6

/* Names that the statements use for their batches. */
#define STATE_ROWS	  "sophia_producer_rows"
#define DOCUMENT_ROWS "sophia_staged_rows"

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

void
sophia_producers_load(const char *stream, const char *journal,
					  void (*take)(void *owner, const StoredProducer *producer), void *owner)
{
	static Statement statement = {
		"SELECT producer, last_ack, max_clock, begin_offset, gap_end FROM sophia.producers"
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
			.gap_end = DatumGetInt64(sophia_result(i, 5, &null)),
		};

		take(owner, &producer);
	}
}

/* A batch table with a producer and `n` numbers, and a document behind them if it is one of documents. */
static BatchTable *
create_rows(const char *name, const char *const *numbers, int n, bool document)
{
	TupleDesc desc = CreateTemplateTupleDesc(1 + n + (document ? 1 : 0));

	TupleDescInitEntry(desc, 1, "producer", BYTEAOID, -1, 0);
	for (int i = 0; i < n; i++)
		TupleDescInitEntry(desc, (AttrNumber) (2 + i), numbers[i], INT8OID, -1, 0);
	if (document)
		TupleDescInitEntry(desc, (AttrNumber) (2 + n), "document", BYTEAOID, -1, 0);
	return sophia_batch_table_create(name, desc);
}

ProducerRows *
sophia_producers_rows(void)
{
	static const char *const state[] = {"last_ack", "max_clock", "begin_offset", "gap_end"};
	static const char *const document[] = {"begin_offset", "clock"};
	ProducerRows *rows = palloc(sizeof(ProducerRows));

	rows->states = create_rows(STATE_ROWS, state, lengthof(state), false);
	rows->documents = create_rows(DOCUMENT_ROWS, document, lengthof(document), true);
	return rows;
}

void
sophia_producers_put(ProducerRows *rows, const StoredProducer *producer)
{
	Datum values[] = {producer_datum(producer->producer), Int64GetDatum((int64) producer->last_ack),
					  Int64GetDatum((int64) producer->max_clock),
					  Int64GetDatum(producer->begin_offset), Int64GetDatum(producer->gap_end)};
	bool nulls[lengthof(values)] = {false};

	sophia_batch_table_put(rows->states, values, nulls);
	pfree(DatumGetPointer(values[0]));
}

void
sophia_producers_stage(ProducerRows *rows, uint64 producer, int64 offset, uint64 clock,
					   const char *document, size_t length)
{
	Datum values[] = {producer_datum(producer), Int64GetDatum(offset), Int64GetDatum((int64) clock),
					  PointerGetDatum(cstring_to_text_with_len(document, length))};
	bool nulls[lengthof(values)] = {false};

	sophia_batch_table_put(rows->documents, values, nulls);
	pfree(DatumGetPointer(values[0]));
	pfree(DatumGetPointer(values[3]));
}

/* Runs the statement that writes a batch, if there is anything to write, and frees the batch. */
static void
write_rows(BatchTable *rows, Statement *statement, Datum *values)
{
	if (rows->rows > 0)
	{
		sophia_batch_table_register(rows);
		sophia_statement_run(statement, values, NULL);
		SPI_unregister_relation(rows->relation.md.name);
	}
	sophia_batch_table_free(rows);
}

void
sophia_producers_save(ProducerRows *rows, const char *stream, const char *journal)
{
	static Statement documents = {
		"INSERT INTO sophia.staged_documents (stream, journal, producer, begin_offset, clock, document)"
		" SELECT $1, $2, b.producer, b.begin_offset, b.clock, b.document FROM " DOCUMENT_ROWS
		" AS b",
		2,
		{TEXTOID, TEXTOID}};
	static Statement states = {
		"INSERT INTO sophia.producers (stream, journal, producer, last_ack, max_clock, begin_offset,"
		" gap_end) SELECT $1, $2, b.producer, b.last_ack, b.max_clock, b.begin_offset, b.gap_end"
		" FROM " STATE_ROWS " AS b ON CONFLICT (stream, journal, producer) DO UPDATE"
		" SET last_ack = EXCLUDED.last_ack, max_clock = EXCLUDED.max_clock,"
		" begin_offset = EXCLUDED.begin_offset, gap_end = EXCLUDED.gap_end",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(stream), CStringGetTextDatum(journal)};

	write_rows(rows->documents, &documents, values);
	write_rows(rows->states, &states, values);
	pfree(rows);
}

uint64
sophia_producers_unstage(const char *stream, const char *journal, uint64 producer)
{
	return sophia_producers_unstage_before(stream, journal, producer, PG_INT64_MAX);
}

uint64
sophia_producers_unstage_before(const char *stream, const char *journal, uint64 producer,
								int64 offset)
{
	static Statement statement = {"DELETE FROM sophia.staged_documents WHERE stream = $1"
								  " AND journal = $2 AND producer = $3 AND begin_offset < $4",
								  4,
								  {TEXTOID, TEXTOID, BYTEAOID, INT8OID}};

	return sophia_statement_run(&statement,
								(Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
										  producer_datum(producer), Int64GetDatum(offset)},
								NULL);
}

int64
sophia_producers_last_staged(const char *stream, const char *journal, uint64 producer)
{
	static Statement statement = {
		"SELECT begin_offset FROM sophia.staged_documents WHERE stream = $1"
		" AND journal = $2 AND producer = $3"
		" ORDER BY begin_offset DESC LIMIT 1",
		3,
		{TEXTOID, TEXTOID, BYTEAOID}};
	bool null;

	if (sophia_statement_run(&statement,
							 (Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
									   producer_datum(producer)},
							 NULL) == 0)
		return -1;
	return DatumGetInt64(sophia_result(0, 1, &null));
}

struct PortalData *
sophia_producers_staged(const char *stream, const char *journal, uint64 producer)
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

void
sophia_producers_forget(const char *stream, const char *journal, const uint64 *producers, int n)
{
	static Statement statement = {"DELETE FROM sophia.producers WHERE stream = $1 AND journal = $2"
								  " AND producer = ANY ($3)",
								  3,
								  {TEXTOID, TEXTOID, BYTEAARRAYOID}};
	Datum *items = palloc(sizeof(Datum) * Max(n, 1));

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		items[i] = producer_datum(producers[i]);
	sophia_statement_run(
		&statement,
		(Datum[]){CStringGetTextDatum(stream), CStringGetTextDatum(journal),
				  PointerGetDatum(construct_array(items, n, BYTEAOID, -1, false, TYPALIGN_INT))},
		NULL);
}
