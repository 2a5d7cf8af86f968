/*
 * fields_sql.c
 *		SQL entry point of the columns for fields: sophia.add_field().
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "flow/field_rules.h"
#include "flow/fields.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(sophia_add_field);

/* The table that rows of a stream's documents go to; the stream cannot be dropped until the end of the transaction. */
static const TargetTable *
table_of_stream(const char *stream)
{
	static const char *const sql = "SELECT shape, options, collection FROM sophia.streams"
								   " WHERE stream = $1 FOR KEY SHARE";
	char *columns[3];

	if (SPI_execute_with_args(sql, 1, (Oid[]){TEXTOID}, (Datum[]){CStringGetTextDatum(stream)},
							  NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("stream \"%s\" does not exist", stream)));
	for (int i = 0; i < 3; i++)
		columns[i] = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1);
	return sophia_shape_target(
		sophia_shape_load(CurrentMemoryContext, columns[0], columns[1], columns[2], false));
}

static void
check_pointer(const char *text)
{
	Arena arena = {0};
	JsonPointer pointer;
	bool usable = sophia_json_pointer(&pointer, &arena, text) && pointer.steps > 0;

	sophia_arena_free(&arena);
	if (!usable)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a usable JSON pointer", text),
						errhint("A pointer has one to eight steps, each behind a slash, for"
								" example /properties/colour.")));
}

static void
check_column(const char *name)
{
	if (name[0] == '\0' || strlen(name) >= FIELD_NAME)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid name of column: it must have 1 to 63 bytes")));
	if (sophia_field_name_reserved(name))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("column name \"%s\" is reserved", name),
						errhint("Names of system columns and flow_published_at are.")));
}

static void
check_type(Oid type)
{
	if (sophia_conversion_of(type) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("type %s cannot hold a value of a document", format_type_be(type)),
						errhint("Use a type such as boolean, bigint, numeric, text, timestamptz or"
								" jsonb.")));
}

/* A type may run what its owner wrote (the check of a domain), and does so with the rights of the table's owner. */
static void
check_type_owner(Oid type, Oid relid)
{
	HeapTuple type_row = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	HeapTuple class_row = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool trusted = HeapTupleIsValid(type_row) && HeapTupleIsValid(class_row) &&
				   has_privs_of_role(((Form_pg_type) GETSTRUCT(type_row))->typowner,
									 ((Form_pg_class) GETSTRUCT(class_row))->relowner);

	if (!trusted)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("type %s belongs to a role that has not the rights of the table's"
							   " owner",
							   format_type_be(type)),
						errhint("Use a built-in type, or one of the table's owner.")));
	ReleaseSysCache(type_row);
	ReleaseSysCache(class_row);
}

/* Raises an error unless the column is free for the field, or its own. */
static void
check_place(const TargetTable *table, const char *column, FieldPlace place, Oid there, Oid type)
{
	if (place == FIELD_TAKEN ||
		(place == FIELD_UNKNOWN && there == type && !sophia_field_empty(table, column)))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
						errmsg("column \"%s\" of table \"%s.%s\" exists already, but not for this"
							   " field",
							   column, table->schema, table->name),
						errhint("Give the field a column of another name.")));
	if (place != FIELD_FREE && there != type)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("column \"%s\" of table \"%s.%s\" exists already, and has type %s", column,
						table->schema, table->name, format_type_be(there)),
				 errhint("A type is never narrowed. Name the type that it has; sophia.schema_changes"
						 " tells why it has it.")));
}

static void
require_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name)));
}

/* add_field(stream text, pointer text, column_name text, column_type regtype) */
Datum
sophia_add_field(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"stream", "pointer", "column_name", "column_type"};
	FieldChange change = {.origin = "add_field", .reason = "add_field"};
	const TargetTable *table;
	FieldPlace place;
	char *column;
	Oid type;
	Oid relid;
	Oid there;

	for (int i = 0; i < 4; i++)
		require_argument(fcinfo, i, names[i]);
	change.stream = text_to_cstring(PG_GETARG_TEXT_PP(0));
	change.pointer = text_to_cstring(PG_GETARG_TEXT_PP(1));
	column = text_to_cstring(PG_GETARG_TEXT_PP(2));
	type = PG_GETARG_OID(3);
	check_pointer(change.pointer);
	check_column(column);
	check_type(type);

	SPI_connect();
	table = table_of_stream(change.stream);
	place = sophia_field_place(table, column, change.pointer, &there);
	if (place != FIELD_REGISTERED)
	{
		/* what is there may be another thing when nobody can change it any more */
		relid = sophia_field_lock(table);
		place = sophia_field_place(table, column, change.pointer, &there);
	}
	check_place(table, column, place, there, type);
	if (place != FIELD_REGISTERED)
	{
		check_type_owner(type, relid);
		sophia_field_add(table, relid, column, type, place, &change);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
