/*
 * cursor_sql.c
 *		SQL entry points of the exact cursors: what sql/25_capture.sql and sql/55_cursors.sql cannot say in SQL.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/compat.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/statement.h"
#include "transform/capture.h"
#include "transform/cursor.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(sophia_stamp_row);
PG_FUNCTION_INFO_V1(sophia_keep_key);
PG_FUNCTION_INFO_V1(sophia_fill_window);
PG_FUNCTION_INFO_V1(sophia_count_changes);
PG_FUNCTION_INFO_V1(sophia_prune_deleted_keys);

/* Columns of sophia.batch_keys, in order. */
enum BatchColumns
{
	BATCH_CONSUMER,
	BATCH_N,
	BATCH_SOURCE,
	BATCH_KEY,
	BATCH_DELETED,
	BATCH_COLUMNS
};

static TriggerData *
trigger_data(FunctionCallInfo fcinfo, const char *function)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" was not called as a trigger", function)));
	return (TriggerData *) fcinfo->context;
}

/* The columns of the trigger's table, found once a statement. */
static CaptureColumns *
trigger_columns(FunctionCallInfo fcinfo, Relation relation)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		CaptureColumns *columns = palloc(sizeof(CaptureColumns));

		sophia_capture_columns(relation, columns);
		fcinfo->flinfo->fn_extra = columns;
		MemoryContextSwitchTo(old);
	}
	return fcinfo->flinfo->fn_extra;
}

/* stamp_row(): trigger BEFORE INSERT OR UPDATE FOR EACH ROW. */
Datum
sophia_stamp_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo, "stamp_row");
	Relation relation = trigger->tg_relation;
	CaptureColumns *columns;
	HeapTuple row = trigger->tg_trigtuple;

	if (!TRIGGER_FIRED_BEFORE(trigger->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(
			ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("function \"stamp_row\" must be fired before a row is inserted or updated")));
	columns = trigger_columns(fcinfo, relation);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		row = trigger->tg_newtuple;
		if (sophia_capture_key_changed(relation, columns, trigger->tg_trigtuple, row))
			sophia_capture_keep(relation, columns, trigger->tg_trigtuple);
	}
	return PointerGetDatum(sophia_capture_stamp(relation, columns, row));
}

/* keep_key(): trigger AFTER DELETE FOR EACH ROW, and AFTER TRUNCATE. */
Datum
sophia_keep_key(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo, "keep_key");
	Relation relation = trigger->tg_relation;
	bool row = TRIGGER_FIRED_FOR_ROW(trigger->tg_event);

	if (!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!(row ? TRIGGER_FIRED_BY_DELETE(trigger->tg_event)
			  : TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event)))
		ereport(
			ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("function \"keep_key\" must be fired after a row is deleted, or a truncation")));
	sophia_capture_keep(relation, trigger_columns(fcinfo, relation),
						row ? trigger->tg_trigtuple : NULL);
	return PointerGetDatum(NULL);
}

/* The arguments (sources oid[], whole boolean[], past xid8, in_progress xid8[]) from `first` on. */
static CursorWindow
window_argument(FunctionCallInfo fcinfo, int first)
{
	ArrayType *sources = PG_GETARG_ARRAYTYPE_P(first);
	ArrayType *whole = PG_GETARG_ARRAYTYPE_P(first + 1);
	CursorWindow window = {
		.n = ArrayGetNItems(ARR_NDIM(sources), ARR_DIMS(sources)),
		.sources = (const Oid *) ARR_DATA_PTR(sources),
		.whole = (const bool *) ARR_DATA_PTR(whole),
		.sources_array = PointerGetDatum(sources),
		.past = PG_GETARG_DATUM(first + 2),
		.in_progress = PG_GETARG_DATUM(first + 3),
	};

	if (ARR_HASNULL(sources) || ARR_HASNULL(whole) ||
		ArrayGetNItems(ARR_NDIM(whole), ARR_DIMS(whole)) != window.n)
		elog(ERROR, "sources and whole must have as many elements, and no nulls");
	return window;
}

/* Where the rows of a window go. */
typedef struct Fill
{
	int32 consumer;
	int64 n;
	Relation keys;
	CatalogIndexState indexes;
	MemoryContext row_context;
	ArrayBuildState *truncated;
} Fill;

static void
keep_row(void *context, Oid source, Datum key, Datum deleted)
{
	Fill *fill = context;
	MemoryContext old = MemoryContextSwitchTo(fill->row_context);
	Datum values[BATCH_COLUMNS];
	bool nulls[BATCH_COLUMNS] = {false};

	values[BATCH_CONSUMER] = Int32GetDatum(fill->consumer);
	values[BATCH_N] = Int64GetDatum(++fill->n);
	values[BATCH_SOURCE] = ObjectIdGetDatum(source);
	values[BATCH_KEY] = key;
	values[BATCH_DELETED] = deleted;
	CatalogTupleInsertWithInfo(
		fill->keys, heap_form_tuple(RelationGetDescr(fill->keys), values, nulls), fill->indexes);
	MemoryContextSwitchTo(old);
	MemoryContextReset(fill->row_context);
}

static void
note_source(void *context, Oid source, int64 rows, bool truncated)
{
	Fill *fill = context;

	if (truncated)
		fill->truncated = accumArrayResult(fill->truncated, ObjectIdGetDatum(source), false, OIDOID,
										   TopTransactionContext);
}

/*
 * fill_window(consumer integer, sources oid[], whole boolean[], past xid8, in_progress xid8[]): keeps the keys of what changed
 * in sophia.batch_keys, from 1 on; returns (snapshot, keys, truncated): in which snapshot, how many, and which sources were
 * truncated.
 */
Datum
sophia_fill_window(PG_FUNCTION_ARGS)
{
	CursorWindow window = window_argument(fcinfo, 1);
	Fill fill = {.consumer = PG_GETARG_INT32(0)};
	TupleDesc descriptor;
	Datum values[3];
	bool nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PushActiveSnapshot(GetTransactionSnapshot());
	values[0] = pg_current_snapshot(NULL);
	fill.keys = table_open(get_relname_relid("batch_keys", get_namespace_oid("sophia", false)),
						   RowExclusiveLock);
	fill.indexes = CatalogOpenIndexes(fill.keys);
	fill.row_context =
		AllocSetContextCreate(CurrentMemoryContext, "batch key", ALLOCSET_DEFAULT_SIZES);
	SPI_connect();
	sophia_cursor_read(&window, 0, keep_row, note_source, &fill);
	SPI_finish();
	CatalogCloseIndexes(fill.indexes);
	table_close(fill.keys, NoLock);
	PopActiveSnapshot();
	values[1] = Int64GetDatum(fill.n);
	values[2] = fill.truncated != NULL ? makeArrayResult(fill.truncated, CurrentMemoryContext)
									   : PointerGetDatum(construct_empty_array(OIDOID));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

static void
put_count(void *context, Oid source, int64 rows, bool truncated)
{
	ReturnSetInfo *result = context;
	Datum values[] = {ObjectIdGetDatum(source), Int64GetDatum(rows), BoolGetDatum(truncated)};
	bool nulls[] = {false, false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * count_changes(sources oid[], whole boolean[], past xid8, in_progress xid8[], most bigint): how many rows fill_window would
 * keep, counted up to `most` for each source, and whether it was truncated.
 */
Datum
sophia_count_changes(PG_FUNCTION_ARGS)
{
	CursorWindow window = window_argument(fcinfo, 0);

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	sophia_cursor_read(&window, PG_GETARG_INT64(4), NULL, put_count, fcinfo->resultinfo);
	SPI_finish();
	return (Datum) 0;
}

/*
 * prune_deleted_keys(sources oid[]): deletes the keys that every consumer of their source has read.  Sees what is committed now,
 * whatever the transaction's snapshot; the caller sees to it that nobody else prunes, so this meets no newer version of a row.
 */
Datum
sophia_prune_deleted_keys(PG_FUNCTION_ARGS)
{
	static Statement statement = {
		"DELETE FROM sophia.deleted_keys AS d USING sophia.source_horizons AS h"
		" WHERE h.source OPERATOR(pg_catalog.=) ANY ($1) AND d.source OPERATOR(pg_catalog.=) h.source"
		" AND d.xid OPERATOR(pg_catalog.<) h.horizon",
		1,
		{OIDARRAYOID}};

	SPI_connect();
	if (statement.plan == NULL)
	{
		statement.plan = SPI_prepare(statement.sql, statement.n, statement.types);
		if (statement.plan == NULL || SPI_keepplan(statement.plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", statement.sql);
	}
	SPI_execute_snapshot(statement.plan, (Datum[]){PG_GETARG_DATUM(0)}, NULL, GetLatestSnapshot(),
						 InvalidSnapshot, false, false, 0);
	SPI_finish();
	PG_RETURN_VOID();
}
