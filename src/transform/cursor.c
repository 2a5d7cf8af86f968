/*
 * cursor.c
 *		Reads what changed in tables between two snapshots: see cursor.h.
 *
 * The statements are made from the catalogs, a few for each table, and kept for the session: looking at a dozen tables in
 * which nothing changed must cost next to nothing.  They are planned for any values, since statistics of stamps say
 * nothing: after a load all rows have the same one.
 */
#include "postgres.h"

#include "transform/cursor.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/guard.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/statement.h"
#include "transform/capture.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#define FETCH_ROWS 1000

/* How many keys of deleted rows of a source are held in memory; where there are more, it is read whole. */
#define MOST_DELETED "1000000"

/* Parameters of every statement on a source. */
enum Parameters
{
	PAST,		 /* $1: first id that the earlier snapshot had not seen */
	END,		 /* $2: first id that this snapshot does not see */
	IN_PROGRESS, /* $3: ids that were in progress in the earlier one */
	OWN,		 /* $4: the current transaction, 0 = it has no id */
	DELETED,	 /* $5: keys of deleted rows, jsonb[] */
	MOST,		 /* $6: how many rows at most */
	PARAMETERS
};

/* What the statements are about. */
typedef struct SourceTable
{
	Oid source;
	bool valid;			 /* false: the relation was altered since */
	char *name;			 /* quoted, with its schema */
	SPIPlanPtr plans[4]; /* by sophia_cursor_read's whole and counting; NULL = not used yet */
} SourceTable;

/* A statement's parts that come from the catalogs. */
typedef struct SourceForm
{
	StringInfoData row;		/* jsonb_build_object('id', t.id), t.is_deleted */
	StringInfoData columns; /* id text */
	StringInfoData match;	/* t.id = k.id */
} SourceForm;

static HTAB *tables; /* of SourceTable */

static void
forget_source(Datum argument, Oid relation)
{
	HASH_SEQ_STATUS scan;
	SourceTable *table;

	hash_seq_init(&scan, tables);
	while ((table = hash_seq_search(&scan)) != NULL)
		if (relation == InvalidOid || table->source == relation)
			table->valid = false;
}

static void
make_cache(void)
{
	HASHCTL control = {
		.keysize = sizeof(Oid), .entrysize = sizeof(SourceTable), .hcxt = CacheMemoryContext};

	tables = hash_create("sophia_stack cursor sources", 32, &control,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(forget_source, (Datum) 0);
}

static void
append_key_column(SourceForm *form, Form_pg_attribute attribute)
{
	const char *name = quote_identifier(NameStr(attribute->attname));
	const char *comma = form->columns.len > 0 ? ", " : "";

	appendStringInfo(&form->row, "%s%s, t.%s", comma,
					 quote_literal_cstr(NameStr(attribute->attname)), name);
	appendStringInfo(&form->columns, "%s%s %s", comma, name,
					 format_type_extended(attribute->atttypid, attribute->atttypmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	appendStringInfo(&form->match, "%st.%s = k.%s", form->match.len > 0 ? " AND " : "", name, name);
}

static void
describe_source(SourceForm *form, Relation relation)
{
	TupleDesc desc = RelationGetDescr(relation);
	CaptureColumns columns;
	int deleted = SPI_fnumber(desc, "is_deleted");
	int member = -1;

	initStringInfo(&form->row);
	initStringInfo(&form->columns);
	initStringInfo(&form->match);
	sophia_capture_columns(relation, &columns);
	if (bms_is_empty(columns.key))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has lost its primary key", RelationGetRelationName(relation)),
				 errhint("Give it one, or drop the consumer.")));
	appendStringInfoString(&form->row, "pg_catalog.jsonb_build_object(");
	while ((member = bms_next_member(columns.key, member)) >= 0)
		append_key_column(form,
						  TupleDescAttr(desc, member + FirstLowInvalidHeapAttributeNumber - 1));
	appendStringInfoString(&form->row,
						   deleted > 0 && TupleDescAttr(desc, deleted - 1)->atttypid == BOOLOID
							   ? "), coalesce(t.is_deleted, false)"
							   : "), false");
}

/* "SELECT row FROM ONLY t WHERE condition", and the current transaction's own rows left out. */
static void
append_select(StringInfo sql, const char *row, const char *name, const char *condition)
{
	appendStringInfo(sql, "SELECT %s FROM ONLY %s AS t WHERE %st." STAMP_COLUMN " <> $4", row, name,
					 condition);
}

static char *
statement_on(const char *name, const SourceForm *form, bool whole, bool counting)
{
	const char *row = counting ? "" : form->row.data;
	StringInfoData sql;

	initStringInfo(&sql);
	if (counting)
		appendStringInfoString(&sql, "SELECT pg_catalog.count(*) FROM (");
	if (whole)
		append_select(&sql, row, name, "");
	else
	{
		append_select(&sql, row, name, "t." STAMP_COLUMN " >= $1 AND t." STAMP_COLUMN " < $2 AND ");
		appendStringInfoString(&sql, " UNION ALL ");
		append_select(&sql, row, name, "t." STAMP_COLUMN " = ANY ($3) AND ");
		appendStringInfo(&sql,
						 " UNION ALL SELECT %s FROM pg_catalog.unnest($5) AS d(key)"
						 " CROSS JOIN LATERAL pg_catalog.jsonb_to_record(d.key) AS k(%s)"
						 " WHERE NOT EXISTS (SELECT FROM ONLY %s AS t WHERE %s)",
						 counting ? "" : "d.key, true", form->columns.data, name, form->match.data);
	}
	if (counting)
		appendStringInfoString(&sql, " LIMIT $6) AS c");
	return sql.data;
}

static const Oid parameter_types[PARAMETERS] = {XID8OID, XID8OID,		XID8ARRAYOID,
												XID8OID, JSONBARRAYOID, INT8OID};

static SPIPlanPtr
prepare_kept(const char *sql, int n, const Oid *types)
{
	SPIPlanPtr plan = SPI_prepare_cursor(sql, n, unconstify(Oid *, types), CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static void
free_plans(SourceTable *table)
{
	for (int i = 0; i < lengthof(table->plans); i++)
	{
		if (table->plans[i] != NULL)
			SPI_freeplan(table->plans[i]);
		table->plans[i] = NULL;
	}
}

/* What is known of the open relation, read anew where it was altered or has another name. */
static SourceTable *
find_source(Relation relation)
{
	Oid source = RelationGetRelid(relation);
	const char *name = quote_qualified_identifier(
		get_namespace_name(RelationGetNamespace(relation)), RelationGetRelationName(relation));
	SourceTable *table;
	bool found;

	if (tables == NULL)
		make_cache();
	table = hash_search(tables, &source, HASH_ENTER, &found);
	if (!found)
		memset((char *) table + sizeof(Oid), 0, sizeof(SourceTable) - sizeof(Oid));
	if (table->valid && strcmp(table->name, name) == 0)
		return table;
	table->valid = true;
	free_plans(table);
	if (table->name != NULL)
		pfree(table->name);
	table->name = NULL;
	table->name = MemoryContextStrdup(CacheMemoryContext, name);
	return table;
}

static SPIPlanPtr
source_plan(Relation relation, bool whole, bool counting)
{
	SourceTable *table = find_source(relation);
	SPIPlanPtr *plan = &table->plans[(whole ? 2 : 0) + (counting ? 1 : 0)];
	SourceForm form;

	if (*plan != NULL)
		return *plan;
	describe_source(&form, relation);
	*plan = prepare_kept(statement_on(table->name, &form, whole, counting), PARAMETERS,
						 parameter_types);
	return *plan;
}

static int64
count_rows(SPIPlanPtr plan, Datum *values)
{
	bool null;
	int rc = SPI_execute_plan(plan, values, NULL, true, 1);

	if (rc != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not count changes: %s", SPI_result_code_string(rc));
	return DatumGetInt64(sophia_result(0, 1, &null));
}

static int64
give_rows(SPIPlanPtr plan, Datum *values, Oid source, CursorRow row, void *context)
{
	Portal portal = SPI_cursor_open(NULL, plan, values, NULL, true);
	int64 rows = 0;

	do
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool null;

			row(context, source, sophia_result(i, 1, &null), sophia_result(i, 2, &null));
		}
		rows += SPI_processed;
		CHECK_FOR_INTERRUPTS();
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(portal);
	return rows;
}

/* What sophia.deleted_keys says of one source. */
typedef struct DeletedKeys
{
	Oid source;
	Datum keys; /* jsonb[] */
	bool truncated;
} DeletedKeys;

/* Reads it for all sources, in the active snapshot; returns how many of them have any. */
static int
read_deleted(const CursorWindow *window, Datum end, Datum own, DeletedKeys *deleted)
{
	static const Oid types[] = {XID8OID, XID8OID, XID8ARRAYOID, XID8OID, OIDARRAYOID};
	static SPIPlanPtr plan;
	Datum values[] = {window->past, end, window->in_progress, own, window->sources_array};
	int rc;

	if (plan == NULL)
		plan = prepare_kept(
			"SELECT s.source, k.keys, k.truncated FROM pg_catalog.unnest($5) AS s(source) CROSS JOIN LATERAL"
			" (SELECT coalesce(pg_catalog.array_agg(DISTINCT l.key) FILTER (WHERE l.key IS NOT NULL), '{}') AS keys,"
			" pg_catalog.bool_or(l.key IS NULL) OR pg_catalog.count(*) OPERATOR(pg_catalog.>) " MOST_DELETED
			" AS truncated FROM (SELECT d.key FROM sophia.deleted_keys AS d"
			" WHERE d.source OPERATOR(pg_catalog.=) s.source AND d.xid OPERATOR(pg_catalog.<>) $4"
			" AND (d.xid OPERATOR(pg_catalog.>=) $1 AND d.xid OPERATOR(pg_catalog.<) $2"
			" OR d.xid OPERATOR(pg_catalog.=) ANY ($3)) LIMIT " MOST_DELETED " + 1) AS l) AS k"
			" WHERE k.truncated IS NOT NULL",
			lengthof(types), types);
	rc = SPI_execute_plan(plan, values, NULL, true, 0);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "could not read deleted keys: %s", SPI_result_code_string(rc));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool null;

		deleted[i].source = DatumGetObjectId(sophia_result(i, 1, &null));
		deleted[i].keys = sophia_result(i, 2, &null);
		deleted[i].truncated = DatumGetBool(sophia_result(i, 3, &null));
	}
	return SPI_processed;
}

static const DeletedKeys *
deleted_of(const DeletedKeys *deleted, int n, Oid source)
{
	for (int i = 0; i < n; i++)
		if (deleted[i].source == source)
			return &deleted[i];
	return NULL;
}

void
sophia_cursor_read(const CursorWindow *window, int64 most, CursorRow row, CursorSource source,
				   void *context)
{
	DeletedKeys *deleted = palloc(sizeof(DeletedKeys) * Max(window->n, 1));
	Datum end = DirectFunctionCall1(pg_snapshot_xmax, pg_current_snapshot(NULL));
	Datum own = FullTransactionIdGetDatum(GetTopFullTransactionIdIfAny());
	Datum none = PointerGetDatum(construct_empty_array(JSONBOID));
	Datum values[PARAMETERS] = {window->past, end,	window->in_progress,
								own,		  none, Int64GetDatum(most)};
	int n_deleted = read_deleted(window, end, own, deleted);
	GuardState state;

	sophia_guard_become(sophia_guard_caller(), &state);
	sophia_statement_pin_settings(false);
	for (int i = 0; i < window->n; i++)
	{
		const DeletedKeys *gone = deleted_of(deleted, n_deleted, window->sources[i]);
		bool truncated = gone != NULL && gone->truncated;
		Relation relation = try_table_open(window->sources[i], AccessShareLock);
		SPIPlanPtr plan;

		/* dropped a moment ago: it is read whole when it is made again */
		if (relation == NULL)
			continue;
		plan = source_plan(relation, window->whole[i] || truncated, row == NULL);
		table_close(relation, NoLock);
		values[DELETED] = gone != NULL ? gone->keys : none;
		source(context, window->sources[i],
			   row == NULL ? count_rows(plan, values)
						   : give_rows(plan, values, window->sources[i], row, context),
			   truncated);
	}
	sophia_guard_restore(&state);
}
