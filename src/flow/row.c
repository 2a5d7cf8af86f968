/*
 * row.c
 *		A reduced document as a row of its table: see row.h.
 */
#include "postgres.h"

#include "flow/row.h"

#include "catalog/pg_type.h"
#include "flow/conversion_functions.h"
#include "flow/uuid.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "store/jsonb.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define ROW_MAX_POINTERS 8

/* Gong's extensive form keeps a call's own members below this one. */
#define METADATA		"metaData"
#define METADATA_LENGTH (sizeof(METADATA) - 1)

void
sophia_row_builder_init(RowBuilder *builder, const Shape *shape, const char *journal)
{
	builder->shape = shape;
	builder->journal = journal;
	builder->journal_text = journal != NULL ? CStringGetTextDatum(journal) : (Datum) 0;
	initStringInfo(&builder->doc);
	builder->scratch =
		AllocSetContextCreate(CurrentMemoryContext, "sophia_stack row", ALLOCSET_DEFAULT_SIZES);
}

static bool
below_metadata(const JsonPointer *pointer)
{
	return pointer->steps > 1 && pointer->step[0].length == METADATA_LENGTH &&
		   memcmp(pointer->step[0].name, METADATA, METADATA_LENGTH) == 0;
}

/* The nodes at a column's pointers; those below metaData come first when the newest document has that form. */
static int
find_values(const TargetColumn *column, const JsonNode *root, bool metadata_first,
			const JsonNode **values)
{
	int n = 0;

	for (int pass = metadata_first ? 0 : 1; pass < 2; pass++)
		for (int i = 0; i < column->n_pointers && n < ROW_MAX_POINTERS; i++)
			if (!metadata_first || below_metadata(&column->pointers[i]) == (pass == 0))
				values[n++] = sophia_json_find(root, &column->pointers[i]);
	return n;
}

/* The text of a value as a message shows it: at most 60 bytes, cut between characters. */
static const char *
shown(const JsonNode *const *values, int n)
{
	for (int i = 0; i < n; i++)
		if (values[i] != NULL && values[i]->kind != JSON_NULL)
		{
			size_t length;
			char *text = sophia_json_to_text(values[i], &length);

			if (length > 60)
				memcpy(text + pg_mbcliplen(text, length, 57), "...", 4);
			return text;
		}
	return "";
}

bool
sophia_row_convert(const TargetColumn *column, ConversionContext *context, const JsonNode *root,
				   bool metadata_first, Datum *value, bool *null, Misfit *misfit)
{
	const JsonNode *found[ROW_MAX_POINTERS];
	int n = find_values(column, root, metadata_first, found);

	if (column->conversion->convert(context, found, n, value, null))
		return true;
	misfit->sqlstate = context->misfit_sqlstate;
	snprintf(misfit->reason, MISFIT_REASON, "value \"%s\" of column \"%s\" %s", shown(found, n),
			 column->name, context->misfit_reason);
	misfit->column = column;
	misfit->value = sophia_first_value(found, n);
	return false;
}

/* Converts the table's own columns; false for a misfit. */
static bool
convert_columns(const TargetTable *table, ConversionContext *context, const JsonNode *root,
				bool metadata_first, Datum *values, bool *nulls, Misfit *misfit)
{
	for (int i = 0; i < table->n_columns; i++)
		if (!sophia_row_convert(&table->columns[i], context, root, metadata_first, &values[i],
								&nulls[i], misfit))
			return false;
	return true;
}

/* Fills what stands behind the table's own columns; false when the document is too large for jsonb. */
static bool
put_source(RowBuilder *builder, const KeyGroup *group, const RowState *row, const JsonNode *doc,
		   Datum *values, bool *nulls, Misfit *misfit)
{
	Jsonb *jsonb = sophia_jsonb_encode(&builder->doc, doc);

	if (jsonb == NULL)
	{
		misfit->column = NULL;
		misfit->sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		strlcpy(misfit->reason, "document is too large for jsonb", MISFIT_REASON);
		return false;
	}
	memset(nulls, false, SOURCE_COLUMNS);
	values[SOURCE_DOC] = JsonbPGetDatum(jsonb);
	values[SOURCE_PUBLISHED_AT] = TimestampTzGetDatum(sophia_row_published(row->clock));
	values[SOURCE_IS_DELETED] = BoolGetDatum(row->deleted);
	values[SOURCE_CLOCK] = Int64GetDatum((int64) row->clock);
	/* an older document that only filled members leaves the origin as it was */
	values[SOURCE_JOURNAL] = row->same_journal ? builder->journal_text : group->journal;
	nulls[SOURCE_JOURNAL] = values[SOURCE_JOURNAL] == (Datum) 0;
	values[SOURCE_OFFSET] = Int64GetDatum(row->offset);
	nulls[SOURCE_OFFSET] = nulls[SOURCE_JOURNAL];
	return true;
}

bool
sophia_row_has_metadata(const JsonNode *document)
{
	const JsonNode *metadata =
		document != NULL ? sophia_json_member(document, METADATA, METADATA_LENGTH) : NULL;

	return metadata != NULL && metadata->kind == JSON_OBJECT;
}

bool
sophia_row_is_extensive(const JsonNode *document)
{
	return sophia_row_has_metadata(document) && sophia_json_member(document, "id", 2) == NULL;
}

TimestampTz
sophia_row_published(uint64 clock)
{
	return sophia_clock_unix_us(clock) -
		   (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

static ConversionContext
group_context(const RowBuilder *builder, const KeyGroup *group)
{
	bool kept = !group->row.same_journal && group->collection != (Datum) 0;

	return (ConversionContext){.collection = kept ? TextDatumGetCString(group->collection)
												  : builder->shape->collection,
							   .key = text_to_cstring(group->key[0]),
							   .published = sophia_row_published(group->row.clock)};
}

bool
sophia_row_put(RowBuilder *builder, BatchTable *batch, const KeyGroup *group, Misfit *misfit)
{
	const TargetTable *table = builder->shape->main;
	MemoryContext old = MemoryContextSwitchTo(builder->scratch);
	Datum *values = palloc(sizeof(Datum) * table->desc->natts);
	bool *nulls = palloc(sizeof(bool) * table->desc->natts);
	ConversionContext context = group_context(builder, group);
	/* an older document that only fills members is not the one to follow */
	bool metadata_first =
		group->newest != NULL ? sophia_row_has_metadata(group->newest) : group->extensive;
	bool fits =
		convert_columns(table, &context, &group->row.doc, metadata_first, values, nulls, misfit) &&
		put_source(builder, group, &group->row, &group->row.doc, values + table->n_columns,
				   nulls + table->n_columns, misfit);

	if (fits)
		sophia_batch_table_put(batch, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(builder->scratch);
	return fits;
}

/* The array whose elements are rows: NULL with `fits` true when there is none. */
static const JsonNode *
find_array(const Shape *shape, const JsonNode *document, bool *fits, Misfit *misfit)
{
	const JsonNode *array = sophia_json_find(document, &shape->array);

	*fits = true;
	if (array == NULL || array->kind == JSON_NULL)
		return NULL;
	for (uint32 i = 0; array->kind == JSON_ARRAY && i < array->length; i++)
		*fits &= array->u.items[i].kind == JSON_OBJECT;
	*fits &= array->kind == JSON_ARRAY;
	if (*fits)
		return array;
	misfit->column = NULL;
	misfit->sqlstate = ERRCODE_INVALID_TEXT_REPRESENTATION;
	snprintf(misfit->reason, MISFIT_REASON, "member \"%s\" is no array of objects",
			 shape->array.step[0].name);
	return NULL;
}

/* True when an earlier element of the array has the same identifier as element number `at`. */
static bool
id_is_taken(const TargetTable *table, const JsonNode *array, uint32 at)
{
	for (int c = 0; c < table->n_columns; c++)
	{
		const JsonNode *id;

		if (!table->columns[c].own_id || table->columns[c].n_pointers == 0)
			continue;
		id = sophia_json_find(&array->u.items[at], &table->columns[c].pointers[0]);
		for (uint32 i = 0; id != NULL && id->kind == JSON_STRING && i < at; i++)
		{
			const JsonNode *other =
				sophia_json_find(&array->u.items[i], &table->columns[c].pointers[0]);

			if (other != NULL && other->kind == JSON_STRING && other->length == id->length &&
				memcmp(other->u.text, id->u.text, id->length) == 0)
				return true;
		}
	}
	return false;
}

/* The elements of `document`, into `batch` unless that is NULL. */
static bool
put_elements(RowBuilder *builder, BatchTable *batch, const KeyGroup *group,
			 const JsonNode *document, Misfit *misfit)
{
	const TargetTable *table = builder->shape->elements;
	bool fits;
	const JsonNode *array = find_array(builder->shape, document, &fits, misfit);

	for (uint32 i = 0; fits && array != NULL && i < array->length; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(builder->scratch);
		Datum *values = palloc(sizeof(Datum) * table->desc->natts);
		bool *nulls = palloc(sizeof(bool) * table->desc->natts);
		ConversionContext context = group_context(builder, group);

		CHECK_FOR_INTERRUPTS();
		context.ordinal = i + 1;
		context.taken = id_is_taken(table, array, i);
		fits = convert_columns(table, &context, &array->u.items[i], false, values, nulls, misfit) &&
			   put_source(builder, group, &group->elements, &array->u.items[i],
						  values + table->n_columns, nulls + table->n_columns, misfit);
		if (fits && batch != NULL)
			sophia_batch_table_put(batch, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(builder->scratch);
	}
	return fits;
}

bool
sophia_row_put_elements(RowBuilder *builder, BatchTable *batch, const KeyGroup *group,
						Misfit *misfit)
{
	return put_elements(builder, batch, group, &group->elements.doc, misfit);
}

bool
sophia_row_fits(RowBuilder *builder, const JsonNode *document, const KeyGroup *group, Misfit *misfit)
{
	const TargetTable *table = builder->shape->main;
	bool fits = true;

	if (table != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(builder->scratch);
		Datum *values = palloc(sizeof(Datum) * table->desc->natts);
		bool *nulls = palloc(sizeof(bool) * table->desc->natts);
		ConversionContext context = group_context(builder, group);

		fits = convert_columns(table, &context, document, sophia_row_has_metadata(document), values,
							   nulls, misfit);
		MemoryContextSwitchTo(old);
		MemoryContextReset(builder->scratch);
	}
	if (fits && builder->shape->elements != NULL)
		fits = put_elements(builder, NULL, group, document, misfit);
	return fits;
}
