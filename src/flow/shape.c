/*
 * shape.c
 *		How the documents of a stream become rows: reading the definition.  See shape.h; the statements
 *		are in shape_statements.c.
 */
#include "postgres.h"

#include "flow/shape.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* A text column of the current SPI row in the current context, NULL for null. */
static char *
row_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

/* The texts of an array column, in the shape's context. */
static int
row_texts(Shape *shape, int row, int column, char ***texts)
{
	bool null;
	Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null);
	Datum *items;
	int n;

	*texts = NULL;
	if (null)
		return 0;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &items, NULL, &n);
	*texts = MemoryContextAlloc(shape->context, sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*texts)[i] = MemoryContextStrdup(shape->context, TextDatumGetCString(items[i]));
	return n;
}

static void
read_pointer(Shape *shape, JsonPointer *pointer, const char *text)
{
	if (!sophia_json_pointer(pointer, &shape->arena, text))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a usable JSON pointer", text)));
}

/* The descriptor of a table's batch rows: its columns, then the SourceColumns. */
static TupleDesc
batch_descriptor(const TargetTable *table)
{
	static const struct
	{
		const char *name;
		Oid type;
	} source[SOURCE_COLUMNS] = {
		{"doc", JSONBOID},			 {"source_published_at", TIMESTAMPTZOID},
		{"is_deleted", BOOLOID},	 {"source_clock", INT8OID},
		{"source_journal", TEXTOID}, {"source_offset", INT8OID},
	};
	TupleDesc desc = CreateTemplateTupleDesc(table->n_columns + SOURCE_COLUMNS);

	for (int i = 0; i < table->n_columns; i++)
		TupleDescInitEntry(desc, i + 1, table->columns[i].name, table->columns[i].conversion->type,
						   -1, 0);
	for (int i = 0; i < SOURCE_COLUMNS; i++)
		TupleDescInitEntry(desc, table->n_columns + i + 1, source[i].name, source[i].type, -1, 0);
	return desc;
}

static void
read_column(Shape *shape, TargetColumn *column, int row)
{
	char **pointers;
	char *conversion = row_text(row, 3);

	column->name = MemoryContextStrdup(shape->context, row_text(row, 1));
	column->conversion = sophia_conversion_find(conversion);
	if (column->conversion == NULL)
		elog(ERROR, "unknown conversion \"%s\" of column \"%s\"", conversion, column->name);
	column->own_id = strcmp(conversion, "party_id") == 0;
	column->n_pointers = row_texts(shape, row, 2, &pointers);
	column->pointers =
		MemoryContextAlloc(shape->context, sizeof(JsonPointer) * Max(column->n_pointers, 1));
	for (int i = 0; i < column->n_pointers; i++)
		read_pointer(shape, &column->pointers[i], pointers[i]);
}

static TargetTable *
load_table(Shape *shape, const char *schema, const char *name)
{
	static const char *const sql =
		"SELECT c.column_name, c.pointers, c.conversion FROM ("
		"SELECT ordinal, column_name, pointers, conversion FROM sophia.table_columns"
		" WHERE table_schema = $1 AND table_name = $2 AND conversion IS NOT NULL UNION ALL"
		" SELECT 1000, column_name, pointers, conversion FROM sophia.fields"
		" WHERE table_schema = $1 AND table_name = $2) AS c ORDER BY c.ordinal, c.column_name";
	TargetTable *table = MemoryContextAllocZero(shape->context, sizeof(TargetTable));
	MemoryContext old;

	table->schema = MemoryContextStrdup(shape->context, schema);
	table->name = MemoryContextStrdup(shape->context, name);
	if (SPI_execute_with_args(sql, 2, (Oid[]){TEXTOID, TEXTOID},
							  (Datum[]){CStringGetTextDatum(schema), CStringGetTextDatum(name)},
							  NULL, true, 0) != SPI_OK_SELECT ||
		SPI_processed == 0)
		elog(ERROR, "no columns are defined for table \"%s.%s\"", schema, name);
	table->n_columns = SPI_processed;
	table->columns =
		MemoryContextAllocZero(shape->context, sizeof(TargetColumn) * table->n_columns);
	for (int i = 0; i < table->n_columns; i++)
		read_column(shape, &table->columns[i], i);
	old = MemoryContextSwitchTo(shape->context);
	table->desc = batch_descriptor(table);
	MemoryContextSwitchTo(old);
	return table;
}

/* Takes the row of sophia.shapes that SPI holds, then reads the tables' columns. */
static void
load_definition(Shape *shape)
{
	char **keys;
	char **key_columns;
	char *schema = row_text(0, 1);
	char *target = row_text(0, 2);
	char *array = row_text(0, 6);
	char *array_table = row_text(0, 7);

	shape->n_keys = row_texts(shape, 0, 3, &keys);
	if (shape->n_keys < 1 || shape->n_keys > SHAPE_MAX_KEYS)
		elog(ERROR, "shape \"%s\" has %d keys", shape->name, shape->n_keys);
	row_texts(shape, 0, 4, &key_columns);
	for (int i = 0; i < shape->n_keys; i++)
	{
		read_pointer(shape, &shape->keys[i], keys[i]);
		shape->key_columns[i] = key_columns[i];
	}
	shape->strategy = strcmp(row_text(0, 5), "merge") == 0 ? REDUCE_MERGE : REDUCE_LAST_WRITE_WINS;
	if (array != NULL)
		read_pointer(shape, &shape->array, array);
	if (array_table == NULL || strcmp(array_table, target) != 0)
		shape->main = load_table(shape, schema, target);
	if (array_table != NULL)
		shape->elements = load_table(shape, schema, array_table);
}

Shape *
sophia_shape_load(MemoryContext parent, const char *name, const char *collection, bool hard_delete)
{
	static const char *const sql =
		"SELECT target_schema, target_table, key, key_columns, reduce, array_pointer, array_table"
		" FROM sophia.shapes WHERE shape = $1";
	MemoryContext context =
		AllocSetContextCreate(parent, "sophia_stack shape", ALLOCSET_SMALL_SIZES);
	Shape *shape = MemoryContextAllocZero(context, sizeof(Shape));

	shape->context = context;
	shape->name = MemoryContextStrdup(context, name);
	shape->collection = MemoryContextStrdup(context, collection);
	shape->hard_delete = hard_delete;
	shape->ignores_tombstones = strcmp(name, "hubspot.owners") == 0;
	SPI_connect();
	if (SPI_execute_with_args(sql, 1, (Oid[]){TEXTOID}, (Datum[]){CStringGetTextDatum(name)}, NULL,
							  true, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("shape \"%s\" does not exist", name)));
	load_definition(shape);
	SPI_finish();
	return shape;
}

static void
free_plans(TargetTable *table)
{
	SPIPlanPtr plans[] = {table->fetch,	 table->insert,		  table->upsert,
						  table->remove, table->mark_deleted, table->surplus};

	for (size_t i = 0; i < lengthof(plans); i++)
		if (plans[i] != NULL)
			SPI_freeplan(plans[i]);
}

void
sophia_shape_free(Shape *shape)
{
	if (shape->main != NULL)
		free_plans(shape->main);
	if (shape->elements != NULL)
		free_plans(shape->elements);
	sophia_arena_free(&shape->arena);
	MemoryContextDelete(shape->context);
}

TargetTable *
sophia_shape_target(const Shape *shape)
{
	return shape->main != NULL ? shape->main : shape->elements;
}

Oid
sophia_target_relation(const TargetTable *table, bool missing_ok)
{
	RangeVar name = {.type = T_RangeVar,
					 .schemaname = (char *) table->schema,
					 .relname = (char *) table->name,
					 .relpersistence = RELPERSISTENCE_PERMANENT};

	return RangeVarGetRelid(&name, NoLock, missing_ok);
}

void
sophia_target_become_owner(const TargetTable *table, GuardState *state)
{
	Oid relid = sophia_target_relation(table, false);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation \"%s.%s\" does not exist", table->schema, table->name)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	sophia_guard_become(owner, state);
}
