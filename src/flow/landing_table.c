/*
 * landing_table.c
 *		The columns of a landing table: see landing_table.h.
 */
#include "postgres.h"

#include "flow/landing_table.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "common/string.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define DOCUMENT_COLUMN	 "flow_document"
#define PUBLISHED_COLUMN "flow_published_at"
#define UUID_POINTER	 "/_meta/uuid"
#define OP_POINTER		 "/_meta/op"

/* What the comment of a column says between these is its pointer, and the types follow. */
#define BEFORE_POINTER "projection of JSON at: "
#define BEFORE_TYPES   " with inferred types: "

static HTAB *tables; /* of LandingTable, by relation */

/* The relation was altered, or (InvalidOid) any may have been; what was read of it is read anew when it is next needed. */
static void
forget_table(Datum argument, Oid relation)
{
	HASH_SEQ_STATUS scan;
	LandingTable *table;

	hash_seq_init(&scan, tables);
	while ((table = hash_seq_search(&scan)) != NULL)
		if (relation == InvalidOid || table->relation == relation)
			table->valid = false;
}

static void
make_cache(void)
{
	HASHCTL control = {
		.keysize = sizeof(Oid), .entrysize = sizeof(LandingTable), .hcxt = CacheMemoryContext};

	tables = hash_create("sophia_stack landing tables", 16, &control,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(forget_table, (Datum) 0);
}

/* The last occurrence of `wanted`, or NULL. */
static char *
find_last(char *text, const char *wanted)
{
	char *found = NULL;

	for (char *at = strstr(text, wanted); at != NULL; at = strstr(at + 1, wanted))
		found = at;
	return found;
}

/*
 * The pointer and the types that a comment names; false where it is no such comment.  What the collection's schema says of
 * a field stands before that, in lines of its own.
 */
static bool
read_comment(char *comment, char **pointer, char **types)
{
	char *start = comment != NULL ? find_last(comment, BEFORE_POINTER) : NULL;

	if (start == NULL)
		return false;
	*pointer = start + strlen(BEFORE_POINTER);
	*types = find_last(*pointer, BEFORE_TYPES);
	if (*types == NULL)
		return false;
	**types = '\0';
	*types += strlen(BEFORE_TYPES);
	return true;
}

static Oid
output_function(Oid type)
{
	Oid output;
	bool varlena;

	getTypeOutputInfo(type, &output, &varlena);
	return output;
}

static bool
is_text(Oid type)
{
	return type == TEXTOID || type == VARCHAROID || type == BPCHAROID;
}

static void
take_column(LandingTable *table, Form_pg_attribute attribute)
{
	const char *name = NameStr(attribute->attname);
	char *comment = GetComment(table->relation, RelationRelationId, attribute->attnum);
	Oid type = getBaseType(attribute->atttypid);
	LandingColumn *column = &table->columns[table->n_columns];
	char *pointer;
	char *types;

	if (!read_comment(comment, &pointer, &types))
	{
		pointer = strcmp(name, DOCUMENT_COLUMN) == 0 ? "" : psprintf("/%s", name);
		types = "";
	}
	if (*pointer == '\0')
	{
		table->document = attribute->attnum;
		table->document_output =
			type == JSONOID || is_text(type) ? InvalidOid : output_function(type);
		return;
	}
	if (strcmp(name, PUBLISHED_COLUMN) == 0)
	{
		table->published = attribute->attnum;
		table->published_type = type;
		table->published_output = output_function(type);
		return;
	}
	/* a column on its way to another type, and the time of publication under another name */
	if (pg_str_endswith(name, "_flowtmp1") || pg_str_endswith(name, "_flowtmp2") ||
		strcmp(pointer, UUID_POINTER) == 0)
		return;
	if (!sophia_json_pointer(&column->pointer, &table->arena, pointer) || column->pointer.steps < 1)
		return;
	column->attribute = attribute->attnum;
	column->type = type;
	column->output = output_function(type);
	if (strcmp(pointer, OP_POINTER) == 0)
	{
		table->operation = attribute->attnum;
		table->operation_output = column->output;
	}
	column->holds_json =
		is_text(type) && (strstr(types, "object") != NULL || strstr(types, "array") != NULL);
	table->n_columns++;
}

static int
compare_columns(const void *a, const void *b)
{
	const JsonPointer *left = &((const LandingColumn *) a)->pointer;
	const JsonPointer *right = &((const LandingColumn *) b)->pointer;

	for (int i = 0; i < left->steps && i < right->steps; i++)
	{
		int order = sophia_json_compare_names(left->step[i].name, left->step[i].length,
											  right->step[i].name, right->step[i].length);

		if (order != 0)
			return order;
	}
	return left->steps - right->steps;
}

/* True where the pointer of `column` is the one given or leads to what holds it. */
static bool
leads_to(const LandingColumn *column, const JsonPointer *pointer)
{
	if (column->pointer.steps > pointer->steps)
		return false;
	for (int i = 0; i < column->pointer.steps; i++)
		if (sophia_json_compare_names(column->pointer.step[i].name, column->pointer.step[i].length,
									  pointer->step[i].name, pointer->step[i].length) != 0)
			return false;
	return true;
}

/* Without a comment a text does not tell what it holds; these fields are objects in the documents of our shapes. */
static void
mark_known_objects(LandingTable *table)
{
	static const char *const objects[] = {"properties", "profile", "metaData", "content"};

	for (int c = 0; c < table->n_columns; c++)
	{
		LandingColumn *column = &table->columns[c];

		for (size_t i = 0; i < lengthof(objects); i++)
			if (is_text(column->type) && column->pointer.steps == 1 &&
				column->pointer.step[0].length == strlen(objects[i]) &&
				memcmp(column->pointer.step[0].name, objects[i], strlen(objects[i])) == 0)
				column->holds_json = true;
	}
}

static void
read_table(LandingTable *table, TupleDesc desc)
{
	MemoryContext old;

	if (table->context == NULL)
		table->context = AllocSetContextCreate(CacheMemoryContext, "sophia_stack landing table",
											   ALLOCSET_SMALL_SIZES);
	MemoryContextReset(table->context);
	sophia_arena_reset(&table->arena);
	table->document = table->published = table->operation = table->n_columns = 0;
	table->columns =
		MemoryContextAlloc(table->context, sizeof(LandingColumn) * Max(desc->natts, 1));
	old = MemoryContextSwitchTo(table->context);
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			take_column(table, TupleDescAttr(desc, i));
	MemoryContextSwitchTo(old);
	qsort(table->columns, table->n_columns, sizeof(LandingColumn), compare_columns);
	mark_known_objects(table);
}

const LandingTable *
sophia_landing_table(Oid relation, TupleDesc desc)
{
	LandingTable *table;
	bool found;

	if (tables == NULL)
		make_cache();
	table = hash_search(tables, &relation, HASH_ENTER, &found);
	if (!found)
	{
		memset(table, 0, sizeof(LandingTable));
		table->relation = relation;
	}
	if (!table->valid)
	{
		/* whatever comes in while this is read makes it invalid again */
		table->valid = true;
		PG_TRY();
		{
			read_table(table, desc);
		}
		PG_CATCH();
		{
			table->valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	return table;
}

bool
sophia_landing_table_has(const LandingTable *table, const char *pointer)
{
	Arena arena = {0};
	JsonPointer wanted;
	bool found = table->document != 0;

	if (sophia_json_pointer(&wanted, &arena, pointer))
		for (int c = 0; c < table->n_columns && !found; c++)
			found = leads_to(&table->columns[c], &wanted);
	sophia_arena_free(&arena);
	return found;
}
