/*
 * shape.c
 *		How the documents of a stream become rows: reading the definition.  See shape.h; the statements
 *		are in shape_statements.c.
 */
#include "postgres.h"

#include "flow/shape.h"

#include "base/json_parse.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
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

/* The name of a column's type for use in a statement, in the shape's context. */
static const char *
type_name(Shape *shape, const char *name)
{
	Oid type = DatumGetObjectId(DirectFunctionCall1(regtypein, CStringGetDatum(name)));

	return MemoryContextStrdup(shape->context,
							   format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY));
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
	if (strcmp(conversion, SOPHIA_CONVERSION_INPUT) == 0)
		column->cast = type_name(shape, row_text(row, 4));
	column->own_id = strcmp(conversion, "party_id") == 0;
	column->may_widen = strcmp(row_text(row, 5), "t") == 0;
	for (int i = 0; i < shape->n_keys; i++)
		column->may_widen &= strcmp(shape->key_columns[i], column->name) != 0;
	column->evolved = strcmp(row_text(row, 6), "evolve") == 0;
	column->n_pointers = row_texts(shape, row, 2, &pointers);
	column->pointers =
		MemoryContextAlloc(shape->context, sizeof(JsonPointer) * Max(column->n_pointers, 1));
	for (int i = 0; i < column->n_pointers; i++)
		read_pointer(shape, &column->pointers[i], pointers[i]);
}

/* Puts the table at its place in the shape at once, so that a change while it is read is noted there. */
static void
load_table(Shape *shape, TargetTable **place, const char *schema, const char *name)
{
	static const char *const sql =
		"SELECT c.column_name, c.pointers, c.conversion, c.column_type, c.may_widen, c.origin FROM ("
		"SELECT w.ordinal, w.column_name, w.pointers, coalesce(f.conversion, w.conversion) AS conversion,"
		" coalesce(f.column_type, w.column_type) AS column_type, w.may_widen, coalesce(f.origin, '') AS origin FROM sophia.table_columns AS w"
		" LEFT JOIN sophia.fields AS f USING (table_schema, table_name, column_name)"
		" WHERE w.table_schema = $1 AND w.table_name = $2 AND w.conversion IS NOT NULL UNION ALL"
		/* a column that the user dropped is not missed */
		" SELECT 1000, f.column_name, f.pointers, f.conversion, f.column_type, true, f.origin"
		" FROM sophia.fields AS f"
		" JOIN pg_catalog.pg_attribute AS a ON a.attrelid = $3 AND a.attname = f.column_name::name"
		" AND NOT a.attisdropped WHERE f.table_schema = $1 AND f.table_name = $2 AND NOT EXISTS ("
		"SELECT FROM sophia.table_columns AS w WHERE w.table_schema = $1 AND w.table_name = $2"
		" AND w.column_name = f.column_name)) AS c ORDER BY c.ordinal, c.column_name";
	TargetTable *table = MemoryContextAllocZero(shape->context, sizeof(TargetTable));
	MemoryContext old;

	table->schema = MemoryContextStrdup(shape->context, schema);
	table->name = MemoryContextStrdup(shape->context, name);
	table->relid = sophia_target_relation(table, true);
	*place = table;
	if (SPI_execute_with_args(sql, 3, (Oid[]){TEXTOID, TEXTOID, OIDOID},
							  (Datum[]){CStringGetTextDatum(schema), CStringGetTextDatum(name),
										ObjectIdGetDatum(table->relid)},
							  NULL, false, 0) != SPI_OK_SELECT ||
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
}

/* The shapes that are loaded in this process. */
static dlist_head loaded_shapes = DLIST_STATIC_INIT(loaded_shapes);

/* A relation was altered, or any (InvalidOid). */
static void
note_change(Datum argument, Oid relid)
{
	dlist_iter iter;

	dlist_foreach(iter, &loaded_shapes)
	{
		Shape *shape = dlist_container(Shape, loaded, iter.cur);

		if (!OidIsValid(relid) || (shape->main != NULL && shape->main->relid == relid) ||
			(shape->elements != NULL && shape->elements->relid == relid))
			shape->outdated = true;
	}
}

/* The memory of a shape goes. */
static void
forget_shape(void *argument)
{
	Shape *shape = argument;

	dlist_delete(&shape->loaded);
	sophia_arena_free(&shape->arena);
}

static Shape *
make_shape(MemoryContext context)
{
	static bool listening = false;
	Shape *shape = MemoryContextAllocZero(context, sizeof(Shape));
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	if (!listening)
		CacheRegisterRelcacheCallback(note_change, (Datum) 0);
	listening = true;
	shape->context = context;
	dlist_push_tail(&loaded_shapes, &shape->loaded);
	callback->func = forget_shape;
	callback->arg = shape;
	MemoryContextRegisterResetCallback(context, callback);
	return shape;
}

/* What SQL says of where documents merge, as a tree in the shape's arena. */
static const JsonNode *
read_plan(Shape *shape, const char *text)
{
	JsonParser parser = {0};
	JsonNode *plan = sophia_arena_alloc(&shape->arena, sizeof(JsonNode));
	char *copy = MemoryContextStrdup(shape->context, text);

	bool read = plan != NULL && sophia_json_parse(&parser, &shape->arena, copy, strlen(copy));

	if (read)
		*plan = parser.root;
	sophia_json_parser_free(&parser);
	if (!read)
		elog(ERROR, "reduction of shape \"%s\" cannot be read", shape->name);
	return plan;
}

/* A key in a column that is no text. */
static void
read_key_type(Shape *shape, KeyType *type, const char *name)
{
	const TargetTable *table = shape->main;
	Oid output;
	bool varlena;

	if (strcmp(name, "source_offset") == 0 && shape->append)
		type->cast = "pg_catalog.int8";
	for (int i = 0; i < table->n_columns; i++)
	{
		const TargetColumn *column = &table->columns[i];

		if (strcmp(column->name, name) != 0 || column->conversion->type == TEXTOID)
			continue;
		type->conversion = column->conversion;
		type->cast =
			MemoryContextStrdup(shape->context, format_type_extended(column->conversion->type, -1,
																	 FORMAT_TYPE_FORCE_QUALIFY));
		getTypeOutputInfo(column->conversion->type, &output, &varlena);
		fmgr_info_cxt(output, &type->output, shape->context);
	}
}

/* Takes the row of sophia.shape_definition() that SPI holds, then reads the tables' columns. */
static void
load_definition(Shape *shape)
{
	char **keys;
	char **key_columns;
	char *schema = row_text(0, 1);
	char *target = row_text(0, 2);
	char *array = row_text(0, 6);
	char *array_table = row_text(0, 7);
	char *reduce = row_text(0, 5);
	char *plan = row_text(0, 11);
	char *page = row_text(0, 12);

	shape->n_keys = row_texts(shape, 0, 3, &keys);
	if (shape->n_keys < 1 || shape->n_keys > SHAPE_MAX_KEYS)
		elog(ERROR, "shape \"%s\" has %d keys", shape->name, shape->n_keys);
	row_texts(shape, 0, 4, &key_columns);
	for (int i = 0; i < shape->n_keys; i++)
	{
		read_pointer(shape, &shape->keys[i], keys[i]);
		shape->key_columns[i] = key_columns[i];
	}
	shape->ignores_tombstones = strcmp(row_text(0, 8), "t") == 0;
	shape->n_kept = row_texts(shape, 0, 9, &shape->kept);
	shape->n_kept_while = row_texts(shape, 0, 10, &shape->kept_while);
	shape->strategy = strcmp(reduce, "merge") == 0 ? REDUCE_MERGE : REDUCE_LAST_WRITE_WINS;
	shape->append = strcmp(reduce, "none") == 0;
	if (plan != NULL)
		shape->plan = read_plan(shape, plan);
	if (array != NULL)
		read_pointer(shape, &shape->array, array);
	shape->has_pages = page != NULL;
	if (page != NULL)
		read_pointer(shape, &shape->page, page);
	if (array_table == NULL || strcmp(array_table, target) != 0)
		load_table(shape, &shape->main, schema, target);
	if (array_table != NULL)
		load_table(shape, &shape->elements, schema, array_table);
	for (int i = 0; shape->generic && i < shape->n_keys; i++)
		read_key_type(shape, &shape->key_types[i], shape->key_columns[i]);
}

Shape *
sophia_shape_load(MemoryContext parent, const char *name, const char *options,
				  const char *collection, bool hard_delete)
{
	static const char *const sql =
		"SELECT target_schema, target_table, key, key_columns, reduce, array_pointer, array_table,"
		" ignores_tombstones, kept_columns, kept_while, plan, page_pointer"
		" FROM sophia.shape_definition($1, $2::pg_catalog.jsonb)";
	/* moved to `parent` at the end: a failure leaves nothing behind */
	MemoryContext context =
		AllocSetContextCreate(CurTransactionContext, "sophia_stack shape", ALLOCSET_SMALL_SIZES);
	Shape *shape = make_shape(context);

	shape->name = MemoryContextStrdup(context, name);
	shape->collection = MemoryContextStrdup(context, collection);
	shape->generic = strcmp(name, "generic") == 0;
	shape->hard_delete = hard_delete;
	SPI_connect();
	if (SPI_execute_with_args(sql, 2, (Oid[]){TEXTOID, TEXTOID},
							  (Datum[]){CStringGetTextDatum(name), CStringGetTextDatum(options)},
							  NULL, true, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("shape \"%s\" does not exist", name)));
	load_definition(shape);
	SPI_finish();
	MemoryContextSetParent(context, parent);
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
