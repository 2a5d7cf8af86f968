/*
 * fields.c
 *		Columns that are added to the table of a stream, or get a wider type: see fields.h.
 *
 * The row in sophia.fields and the DDL are one transaction that holds the table's lock, and who writes the table reads
 * its shape anew when it has the lock next (shape.c): no row is ever written without knowing the column.  So the rows
 * that lack its value are those that were there, and they are filled from doc (fill.c).
 */
#include "postgres.h"

#include "flow/fields.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "shared/registry.h"
#include "store/statement.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

/* Comment of a column that we added; %s is the pointer of the field.  Tells it again when the extension was dropped. */
#define FIELD_COMMENT "filled by sophia_stack from %s"

Oid
sophia_field_lock(const TargetTable *table)
{
	RangeVar name = {.type = T_RangeVar,
					 .schemaname = (char *) table->schema,
					 .relname = (char *) table->name,
					 .relpersistence = RELPERSISTENCE_PERMANENT};

	return RangeVarGetRelid(&name, AccessExclusiveLock, false);
}

/* Name of a type as a definition or the user reads it. */
static const char *
type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_ALLOW_INVALID);
}

static bool
is_registered(const TargetTable *table, const char *column, const char *pointer)
{
	static Statement statement = {
		"SELECT FROM sophia.fields WHERE table_schema = $1 AND table_name = $2"
		" AND column_name = $3 AND pointers = ARRAY[$4] AND origin <> 'misfit'",
		4,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

	return sophia_statement_run(
			   &statement,
			   (Datum[]){CStringGetTextDatum(table->schema), CStringGetTextDatum(table->name),
						 CStringGetTextDatum(column), CStringGetTextDatum(pointer)},
			   NULL) > 0;
}

/* True for a name that the definition of a table claims, whether the column is there or not. */
static bool
is_claimed(const TargetTable *table, const char *column)
{
	static Statement statement = {
		"SELECT FROM sophia.table_columns WHERE table_schema = $1 AND table_name = $2"
		" AND column_name = $3 UNION ALL SELECT FROM sophia.fields WHERE table_schema = $1"
		" AND table_name = $2 AND column_name = $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};

	return sophia_statement_run(&statement,
								(Datum[]){CStringGetTextDatum(table->schema),
										  CStringGetTextDatum(table->name),
										  CStringGetTextDatum(column)},
								NULL) > 0;
}

FieldPlace
sophia_field_place(const TargetTable *table, const char *column, const char *pointer, Oid *type)
{
	Oid relid = sophia_target_relation(table, false);
	AttrNumber number = get_attnum(relid, column);
	char *comment;

	*type = InvalidOid;
	if (number != InvalidAttrNumber)
		*type = get_atttype(relid, number);
	if (is_registered(table, column, pointer))
		return number != InvalidAttrNumber ? FIELD_REGISTERED : FIELD_FREE;
	if (is_claimed(table, column) ||
		(number != InvalidAttrNumber && get_attgenerated(relid, number) != '\0'))
		return FIELD_TAKEN;
	if (number == InvalidAttrNumber)
		return FIELD_FREE;
	comment = GetComment(relid, RelationRelationId, number);
	return comment != NULL && strcmp(comment, psprintf(FIELD_COMMENT, pointer)) == 0
			   ? FIELD_LEFT
			   : FIELD_UNKNOWN;
}

bool
sophia_field_empty(const TargetTable *table, const char *column)
{
	GuardState state;
	char *sql =
		psprintf("SELECT FROM %s WHERE %s IS NOT NULL LIMIT 1",
				 quote_qualified_identifier(table->schema, table->name), quote_identifier(column));
	bool empty;

	sophia_target_become_owner(table, &state);
	empty = SPI_execute(sql, false, 1) == SPI_OK_SELECT && SPI_processed == 0;
	sophia_guard_restore(&state);
	return empty;
}

/* Runs DDL as the owner of the table. */
static void
run_ddl(const TargetTable *table, const char *sql)
{
	GuardState state;
	int rc;

	sophia_target_become_owner(table, &state);
	rc = SPI_execute(sql, false, 0);
	if (rc != SPI_OK_UTILITY)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(rc));
	sophia_guard_restore(&state);
}

static Datum
text_or_null(const char *text, char *null)
{
	*null = text != NULL ? ' ' : 'n';
	return text != NULL ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
register_field(const TargetTable *table, const char *column, const char *type,
			   const char *conversion, const FieldChange *change)
{
	/* of a column of the shape only type and conversion count */
	static Statement statement = {
		"INSERT INTO sophia.fields"
		" (table_schema, table_name, column_name, column_type, pointers, conversion, origin)"
		" VALUES ($1, $2, $3, $4, coalesce((SELECT w.pointers FROM sophia.table_columns AS w"
		" WHERE w.table_schema = $1 AND w.table_name = $2 AND w.column_name = $3), ARRAY[$5]), $6, $7)"
		" ON CONFLICT (table_schema, table_name, column_name) DO UPDATE"
		" SET column_type = EXCLUDED.column_type, conversion = EXCLUDED.conversion",
		7,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
	char nulls[8] = "       ";
	Datum values[] = {CStringGetTextDatum(table->schema),
					  CStringGetTextDatum(table->name),
					  CStringGetTextDatum(column),
					  CStringGetTextDatum(type),
					  text_or_null(change->pointer, &nulls[4]),
					  CStringGetTextDatum(conversion),
					  CStringGetTextDatum(change->origin)};

	sophia_statement_run(&statement, values, nulls);
}

/* Has a column filled from the first row on. */
static void
start_fill(const TargetTable *table, Oid relid, const char *column, const char *stream)
{
	static Statement statement = {
		"INSERT INTO sophia.field_fills AS f (table_schema, table_name, column_name, stream, rows_total)"
		" SELECT $1, $2, $3, $4, nullif(c.reltuples, -1)::bigint FROM pg_catalog.pg_class AS c"
		" WHERE c.oid = $5 ON CONFLICT (table_schema, table_name, column_name) DO UPDATE"
		" SET stream = EXCLUDED.stream, state = 'filling', position = NULL, rows_done = 0,"
		" rows_total = EXCLUDED.rows_total, rows_misfit = 0, error = NULL,"
		" started_at = EXCLUDED.started_at, updated_at = EXCLUDED.updated_at, finished_at = NULL",
		5,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, OIDOID}};

	sophia_statement_run(&statement,
						 (Datum[]){CStringGetTextDatum(table->schema),
								   CStringGetTextDatum(table->name), CStringGetTextDatum(column),
								   CStringGetTextDatum(stream), ObjectIdGetDatum(relid)},
						 NULL);
}

static void
record(const TargetTable *table, const char *column, const char *what, const char *old_type,
	   const char *new_type, const FieldChange *change, const char *error)
{
	/* what is refused again for the same reason is no news */
	static Statement statement = {
		"INSERT INTO sophia.schema_changes (stream, table_schema, table_name, column_name, change,"
		" old_type, new_type, pointer, reason, journal, begin_offset, error)"
		" SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 WHERE $12 IS NULL OR NOT EXISTS ("
		"SELECT FROM sophia.schema_changes AS s WHERE (s.table_schema, s.table_name, s.change, s.error)"
		" = ($2, $3, $5, $12) AND s.column_name IS NOT DISTINCT FROM $4"
		" AND s.pointer IS NOT DISTINCT FROM $8 AND s.new_type IS NOT DISTINCT FROM $7)",
		12,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		 INT8OID, TEXTOID}};
	char nulls[13] = "            ";
	Datum values[12] = {CStringGetTextDatum(change->stream), CStringGetTextDatum(table->schema),
						CStringGetTextDatum(table->name)};

	values[3] = text_or_null(column, &nulls[3]);
	values[4] = CStringGetTextDatum(what);
	values[5] = text_or_null(old_type, &nulls[5]);
	values[6] = text_or_null(new_type, &nulls[6]);
	values[7] = text_or_null(change->pointer, &nulls[7]);
	values[8] = CStringGetTextDatum(change->reason);
	values[9] = text_or_null(change->journal, &nulls[9]);
	values[10] = Int64GetDatum(change->offset);
	nulls[10] = nulls[9];
	values[11] = text_or_null(error, &nulls[11]);
	sophia_statement_run(&statement, values, nulls);
}

/* Workers read the shape anew, also where no DDL tells them. */
static void
announce(Oid relid)
{
	CacheInvalidateRelcacheByRelid(relid);
	sophia_registry_notify_at_commit();
}

void
sophia_field_add(const TargetTable *table, Oid relid, const char *column, Oid type,
				 FieldPlace place, const FieldChange *change)
{
	const char *relation = quote_qualified_identifier(table->schema, table->name);
	const char *name = quote_identifier(column);

	if (place == FIELD_FREE)
		run_ddl(table, psprintf("ALTER TABLE %s ADD COLUMN %s %s", relation, name,
								format_type_be_qualified(type)));
	run_ddl(table, psprintf("COMMENT ON COLUMN %s.%s IS %s", relation, name,
							quote_literal_cstr(psprintf(FIELD_COMMENT, change->pointer))));
	register_field(table, column, type_name(type), sophia_conversion_of(type), change);
	start_fill(table, relid, column, change->stream);
	record(table, column, "column added", NULL, type_name(type), change, NULL);
	announce(relid);
}

void
sophia_field_widen(const TargetTable *table, const TargetColumn *column, const Conversion *to,
				   const FieldChange *change)
{
	Oid relid = sophia_field_lock(table);
	const char *name = quote_identifier(column->name);
	const char *type = format_type_be_qualified(to->type);
	AttrNumber number = get_attnum(relid, column->name);
	Oid old = number != InvalidAttrNumber ? get_atttype(relid, number) : InvalidOid;

	run_ddl(table, psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s USING CAST(%s AS %s)",
							quote_qualified_identifier(table->schema, table->name), name, type,
							name, type));
	register_field(table, column->name, type_name(to->type), to->name, change);
	if (to->type == TEXTOID)
		start_fill(table, relid, column->name, change->stream);
	record(table, column->name, "column widened", type_name(old), type_name(to->type), change, NULL);
	announce(relid);
}

void
sophia_field_refuse(const TargetTable *table, const char *column, const char *what,
					const char *type, const FieldChange *change, const char *error)
{
	record(table, column, what, NULL, type, change, error);
}

int64
sophia_field_evolved(const TargetTable *table)
{
	static Statement statement = {
		"SELECT count(*) FROM sophia.fields WHERE table_schema = $1 AND table_name = $2"
		" AND origin = 'evolve'",
		2,
		{TEXTOID, TEXTOID}};
	bool null;

	sophia_statement_run(
		&statement, (Datum[]){CStringGetTextDatum(table->schema), CStringGetTextDatum(table->name)},
		NULL);
	return DatumGetInt64(sophia_result(0, 1, &null));
}
