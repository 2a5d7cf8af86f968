/*
 * fill.c
 *		Filling a new column from doc: see fill.h.
 *
 * The values are made by the code that the ingest uses, so a column says the same whoever filled it.  Columns that were
 * added together are at the same row and are filled together.
 */
#include "postgres.h"

#include "flow/fill.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "base/clock.h"
#include "base/guard.h"
#include "catalog/pg_type.h"
#include "flow/evolution.h"
#include "flow/row.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "store/batch_table.h"
#include "store/jsonb.h"
#include "store/statement.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* A batch ends at the first of these, so that a stream never waits long for its turn. */
#define FILL_ROWS  1000
#define FILL_BYTES (4 * 1024 * 1024)
#define FILL_MS	   20
#define FILL_FETCH 32

/* Columns that are filled together. */
#define FILL_COLUMNS 32

typedef struct FillColumn
{
	const TargetColumn *column;
	const char *type;
	int64 misfits;
	const char *reason; /* of the first of them, NULL = none */
} FillColumn;

typedef struct Fill
{
	const Shape *shape;
	const TargetTable *table;
	int n;
	FillColumn columns[FILL_COLUMNS];
	int n_keys;
	char **keys;		 /* columns of the primary key */
	char **types;		 /* and their types */
	ArrayType *position; /* NULL: the first row */
	bool stamped;		 /* the table has the stamp of the exact cursor */
	int64 rows;
	bool ended;
	bool widen;
} Fill;

static Arena arena;

static Datum
schema_of(const Fill *fill)
{
	return CStringGetTextDatum(fill->table->schema);
}

static Datum
name_of(const Fill *fill)
{
	return CStringGetTextDatum(fill->table->name);
}

static const TargetColumn *
find_column(const TargetTable *table, const char *name)
{
	for (int i = 0; i < table->n_columns; i++)
		if (strcmp(table->columns[i].name, name) == 0)
			return &table->columns[i];
	return NULL;
}

static void
store_end(const Fill *fill, const char *column, const char *error)
{
	static Statement statement = {
		"UPDATE sophia.field_fills SET state = 'failed', error = $4, updated_at = clock_timestamp(),"
		" finished_at = clock_timestamp()"
		" WHERE table_schema = $1 AND table_name = $2 AND state = 'filling'"
		" AND column_name = coalesce($3, column_name)",
		4,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

	sophia_statement_run(&statement,
						 (Datum[]){schema_of(fill), name_of(fill),
								   column != NULL ? CStringGetTextDatum(column) : (Datum) 0,
								   CStringGetTextDatum(error)},
						 column != NULL ? "    " : "  n ");
}

/* Takes the columns that are at the row of the oldest fill; false when there is none. */
static bool
take_columns(Fill *fill)
{
	static Statement statement = {
		"SELECT f.column_name, f.position FROM sophia.field_fills AS f"
		" WHERE f.table_schema = $1 AND f.table_name = $2 AND f.state = 'filling'"
		" AND f.position IS NOT DISTINCT FROM (SELECT g.position FROM sophia.field_fills AS g"
		" WHERE g.table_schema = $1 AND g.table_name = $2 AND g.state = 'filling'"
		" ORDER BY g.started_at, g.column_name LIMIT 1)"
		" ORDER BY f.column_name LIMIT 32 FOR UPDATE SKIP LOCKED",
		2,
		{TEXTOID, TEXTOID}};
	uint64 n = sophia_statement_run(&statement, (Datum[]){schema_of(fill), name_of(fill)}, NULL);
	char *names[FILL_COLUMNS];
	bool null = true;

	for (uint64 i = 0; i < n; i++)
		names[i] = sophia_result_text(i, 1);
	if (n > 0)
	{
		Datum position = sophia_result(0, 2, &null);

		fill->position = null ? NULL : DatumGetArrayTypePCopy(position);
	}
	for (uint64 i = 0; i < n; i++)
	{
		const TargetColumn *column = find_column(fill->table, names[i]);
		AttrNumber number = get_attnum(fill->table->relid, names[i]);

		if (column == NULL || number == InvalidAttrNumber)
			store_end(fill, names[i], "the column is gone");
		else
			fill->columns[fill->n++] = (FillColumn){
				.column = column,
				.type = format_type_be_qualified(get_atttype(fill->table->relid, number))};
	}
	return n > 0;
}

/* The columns by which the rows are gone through: the primary key, or the key of the shape where the table has none. */
static void
take_keys(Fill *fill)
{
	static Statement statement = {
		"SELECT a.attname::text, pg_catalog.format_type(a.atttypid, NULL)"
		" FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_index AS i"
		" ON i.indrelid = a.attrelid AND i.indisprimary AND i.indisvalid"
		" CROSS JOIN LATERAL (SELECT CASE WHEN i.indrelid IS NULL"
		" THEN pg_catalog.array_position($2, a.attname::text)"
		" ELSE pg_catalog.array_position(i.indkey::smallint[], a.attnum) END AS place) AS k"
		" WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND k.place IS NOT NULL"
		" ORDER BY k.place",
		2,
		{OIDOID, TEXTARRAYOID}};
	const Shape *shape = fill->shape;
	Datum *own = palloc(sizeof(Datum) * Max(shape->n_keys, 1));

	for (int i = 0; i < shape->n_keys; i++)
		own[i] = CStringGetTextDatum(shape->key_columns[i]);
	fill->n_keys =
		sophia_statement_run(&statement,
							 (Datum[]){ObjectIdGetDatum(fill->table->relid),
									   PointerGetDatum(construct_array(own, shape->n_keys, TEXTOID,
																	   -1, false, TYPALIGN_INT))},
							 NULL);
	if (fill->n_keys == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s.%s\" has no key to fill it by", fill->table->schema,
							   fill->table->name)));
	fill->keys = palloc(sizeof(char *) * fill->n_keys);
	fill->types = palloc(sizeof(char *) * fill->n_keys);
	for (int i = 0; i < fill->n_keys; i++)
	{
		fill->keys[i] = pstrdup(quote_identifier(sophia_result_text(i, 1)));
		fill->types[i] = sophia_result_text(i, 2);
	}
}

/* "SELECT t.tableoid, t.ctid, t.doc, t.a::text FROM t WHERE (t.a) > (CAST($1[1] AS type)) ORDER BY t.a LIMIT n FOR NO KEY UPDATE OF t" */
static char *
page_statement(const Fill *fill)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT t.tableoid, t.ctid, t.doc");
	for (int i = 0; i < fill->n_keys; i++)
		appendStringInfo(&sql, ", t.%s::text", fill->keys[i]);
	appendStringInfo(&sql, " FROM %s AS t",
					 quote_qualified_identifier(fill->table->schema, fill->table->name));
	for (int i = 0; fill->position != NULL && i < fill->n_keys; i++)
		appendStringInfo(&sql, "%st.%s", i == 0 ? " WHERE (" : ", ", fill->keys[i]);
	for (int i = 0; fill->position != NULL && i < fill->n_keys; i++)
		appendStringInfo(&sql, "%sCAST($1[%d] AS %s)", i == 0 ? ") > (" : ", ", i + 1,
						 fill->types[i]);
	for (int i = 0; i < fill->n_keys; i++)
		appendStringInfo(&sql, "%st.%s",
						 i > 0					  ? ", "
						 : fill->position != NULL ? ") ORDER BY "
												  : " ORDER BY ",
						 fill->keys[i]);
	appendStringInfo(&sql, " LIMIT %d FOR NO KEY UPDATE OF t", FILL_ROWS);
	return sql.data;
}

/* "UPDATE t SET a = b.a, ... FROM batch AS b WHERE t.tableoid = b.row_table AND t.ctid = b.row_id AND (t.a, ...) IS DISTINCT FROM (b.a, ...)" */
static char *
update_statement(const Fill *fill)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s AS t SET ",
					 quote_qualified_identifier(fill->table->schema, fill->table->name));
	for (int i = 0; i < fill->n; i++)
		appendStringInfo(&sql, "%s%s = CAST(b.v%d AS %s)", i > 0 ? ", " : "",
						 quote_identifier(fill->columns[i].column->name), i, fill->columns[i].type);
	if (fill->stamped)
		appendStringInfoString(&sql, ", changed_xid = pg_catalog.pg_current_xact_id()");
	appendStringInfoString(&sql, " FROM " BATCH_ROWS " AS b WHERE t.tableoid = b.row_table"
								 " AND t.ctid = b.row_id AND (");
	for (int i = 0; i < fill->n; i++)
		appendStringInfo(&sql, "%st.%s IS DISTINCT FROM CAST(b.v%d AS %s)", i > 0 ? " OR " : "",
						 quote_identifier(fill->columns[i].column->name), i, fill->columns[i].type);
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

static TupleDesc
row_descriptor(const Fill *fill)
{
	TupleDesc desc = CreateTemplateTupleDesc(fill->n + 2);

	TupleDescInitEntry(desc, 1, "row_table", OIDOID, -1, 0);
	TupleDescInitEntry(desc, 2, "row_id", TIDOID, -1, 0);
	for (int i = 0; i < fill->n; i++)
		TupleDescInitEntry(desc, i + 3, psprintf("v%d", i),
						   fill->columns[i].column->conversion->type, -1, 0);
	return desc;
}

/* The values of one row; false when a column must be wider first. */
static bool
put_row(Fill *fill, BatchTable *batch, HeapTuple tuple, TupleDesc desc, const JsonNode *doc)
{
	Datum values[FILL_COLUMNS + 2];
	bool nulls[FILL_COLUMNS + 2];
	const char *key = SPI_getvalue(tuple, desc, 4);

	values[0] = SPI_getbinval(tuple, desc, 1, &nulls[0]);
	values[1] = SPI_getbinval(tuple, desc, 2, &nulls[1]);
	for (int i = 0; i < fill->n; i++)
	{
		ConversionContext context = {.collection = fill->shape->collection, .key = key};
		FillColumn *filled = &fill->columns[i];
		Misfit misfit;

		if (sophia_row_convert(filled->column, &context, doc, sophia_row_has_metadata(doc),
							   &values[i + 2], &nulls[i + 2], &misfit))
			continue;
		if (sophia_evolution_widens(fill->shape, &misfit, NULL, 0))
			return false;
		nulls[i + 2] = true;
		filled->misfits++;
		if (filled->reason == NULL)
			filled->reason = psprintf("%s (row %s)", misfit.reason, key);
	}
	sophia_batch_table_put(batch, values, nulls);
	return true;
}

/* The key of a fetched row, as the place to go on from. */
static ArrayType *
key_of(const Fill *fill, HeapTuple tuple, TupleDesc desc)
{
	Datum *items = palloc(sizeof(Datum) * fill->n_keys);

	for (int i = 0; i < fill->n_keys; i++)
		items[i] = CStringGetTextDatum(SPI_getvalue(tuple, desc, 4 + i));
	return construct_array(items, fill->n_keys, TEXTOID, -1, false, TYPALIGN_INT);
}

/* Takes the rows of one fetch; returns the bytes of their documents. */
static size_t
take_rows(Fill *fill, BatchTable *batch)
{
	SPITupleTable *table = SPI_tuptable;
	size_t bytes = 0;

	for (uint64 i = 0; i < table->numvals && !fill->widen; i++)
	{
		HeapTuple tuple = table->vals[i];
		JsonNode doc = {.kind = JSON_NULL};
		bool null;
		Datum value = SPI_getbinval(tuple, table->tupdesc, 3, &null);
		Jsonb *jsonb = null ? NULL : DatumGetJsonbP(value);

		CHECK_FOR_INTERRUPTS();
		sophia_arena_reset(&arena);
		if (jsonb != NULL && !sophia_jsonb_decode(&doc, &arena, jsonb))
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		fill->widen = !put_row(fill, batch, tuple, table->tupdesc, &doc);
		bytes += jsonb != NULL ? VARSIZE(jsonb) : 0;
		fill->position = key_of(fill, tuple, table->tupdesc);
		fill->rows++;
	}
	return bytes;
}

/* Reads and locks the next rows, as the owner of the table. */
static void
read_page(Fill *fill, BatchTable *batch)
{
	int64 until = sophia_clock_ms() + FILL_MS;
	size_t bytes = 0;
	Datum position = PointerGetDatum(fill->position);
	Portal cursor = SPI_cursor_open_with_args(NULL, page_statement(fill),
											  fill->position != NULL ? 1 : 0, (Oid[]){TEXTARRAYOID},
											  &position, NULL, false, CURSOR_OPT_NO_SCROLL);

	do
	{
		SPI_cursor_fetch(cursor, true, FILL_FETCH);
		fill->ended = SPI_processed < FILL_FETCH && fill->rows + SPI_processed < FILL_ROWS;
		bytes += take_rows(fill, batch);
		SPI_freetuptable(SPI_tuptable);
	} while (!fill->ended && !fill->widen && fill->rows < FILL_ROWS && bytes < FILL_BYTES &&
			 sophia_clock_ms() < until);
	SPI_cursor_close(cursor);
}

static void
write_page(Fill *fill, BatchTable *batch)
{
	int rc;

	if (batch->rows == 0)
		return;
	sophia_batch_table_register(batch);
	rc = SPI_execute(update_statement(fill), false, 0);
	if (rc != SPI_OK_UPDATE)
		elog(ERROR, "could not fill columns: %s", SPI_result_code_string(rc));
	SPI_unregister_relation(BATCH_ROWS);
}

static void
store_progress(const Fill *fill)
{
	static Statement statement = {
		"UPDATE sophia.field_fills SET position = $4, rows_done = rows_done + $5,"
		" rows_misfit = rows_misfit + $6, error = coalesce(error, $7), updated_at = clock_timestamp(),"
		" state = CASE WHEN $8 THEN 'done' ELSE 'filling' END,"
		" rows_total = CASE WHEN $8 THEN rows_done + $5 ELSE greatest(rows_total, rows_done + $5) END,"
		" finished_at = CASE WHEN $8 THEN clock_timestamp() END"
		" WHERE table_schema = $1 AND table_name = $2 AND column_name = $3",
		8,
		{TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, INT8OID, INT8OID, TEXTOID, BOOLOID}};

	for (int i = 0; i < fill->n; i++)
	{
		const FillColumn *filled = &fill->columns[i];
		char nulls[9] = "        ";
		Datum values[] = {schema_of(fill),
						  name_of(fill),
						  CStringGetTextDatum(filled->column->name),
						  PointerGetDatum(fill->position),
						  Int64GetDatum(fill->rows),
						  Int64GetDatum(filled->misfits),
						  (Datum) 0,
						  BoolGetDatum(fill->ended)};

		if (fill->position == NULL)
			nulls[3] = 'n';
		if (filled->reason != NULL)
			values[6] = CStringGetTextDatum(filled->reason);
		else
			nulls[6] = 'n';
		sophia_statement_run(&statement, values, nulls);
	}
}

/* The part inside the transaction. */
static FillResult
run_locked(Fill *fill)
{
	Oid relid;
	BatchTable *batch;
	GuardState state;

	if (!sophia_guard_extension())
		return FILL_AGAIN;
	relid = sophia_target_relation(fill->table, true);
	if (!OidIsValid(relid))
		return FILL_NONE;
	if (!ConditionalLockRelationOid(relid, RowExclusiveLock) || fill->shape->outdated ||
		relid != fill->table->relid)
		return FILL_AGAIN;
	if (!take_columns(fill))
		return FILL_NONE;
	if (fill->n == 0)
		return FILL_MORE;
	fill->stamped = get_attnum(relid, "changed_xid") != InvalidAttrNumber;
	take_keys(fill);
	batch = sophia_batch_table_create(BATCH_ROWS, row_descriptor(fill));
	sophia_target_become_owner(fill->table, &state);
	read_page(fill, batch);
	if (!fill->widen)
		write_page(fill, batch);
	sophia_guard_restore(&state);
	if (fill->widen)
		return FILL_WIDEN;
	store_progress(fill);
	return FILL_MORE;
}

FillResult
sophia_fill_run(const Shape *shape)
{
	MemoryContext caller = CurrentMemoryContext;
	Fill fill = {.shape = shape, .table = sophia_shape_target(shape)};
	FillResult result;

	sophia_transaction_begin("filling columns");
	sophia_evolution_begin(shape->evolution);
	result = run_locked(&fill);
	if (result == FILL_MORE)
		sophia_transaction_commit(caller);
	else
	{
		SPI_finish();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller);
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	return result;
}

void
sophia_fill_fail(const Shape *shape, const char *error)
{
	Fill fill = {.shape = shape, .table = sophia_shape_target(shape)};
	MemoryContext caller = CurrentMemoryContext;

	sophia_transaction_begin("recording the end of a fill");
	if (sophia_guard_extension())
		store_end(&fill, NULL, error);
	sophia_transaction_commit(caller);
}
