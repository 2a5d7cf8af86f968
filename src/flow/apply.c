/*
 * apply.c
 *		Committed documents into the rows of a shape: see apply.h.
 *
 * Gather the documents by key, fetch the rows of those keys, reduce in memory, write all rows with one statement for the
 * new ones and one for the others.  A key that somebody else inserts meanwhile fails the call; the careful one that
 * follows does not rely on what was fetched.
 *
 * Memory goes with SPI's procedure context, which also holds the fetched documents until the end; only dead letters outlive
 * the call.
 */
#include "postgres.h"

#include "flow/apply.h"

#include "access/detoast.h"
#include "base/guard.h"
#include "catalog/pg_type.h"
#include "flow/evolution.h"
#include "flow/groups.h"
#include "flow/row.h"
#include "flow/uuid.h"
#include "miscadmin.h"
#include "store/jsonb.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* Rows whose documents are larger than this together are changed a part at a time. */
#define STORED_BYTES ((Size) 32 * 1024 * 1024)

/* What one call works with. */
typedef struct Work
{
	Apply *apply;
	Shape *shape;
	KeyGroups *groups;
	RowBuilder builder;
	BatchTable *fresh;	  /* rows of keys that had none; NULL where the shape has no main table */
	BatchTable *rows;	  /* the others */
	BatchTable *elements; /* NULL where the shape has no such table */
} Work;

/* Key number `i` of the groups that `wanted` chooses (NULL: all), as text[]. */
static Datum
key_array(const KeyGroups *groups, int i, bool (*wanted)(const KeyGroup *))
{
	Datum *items = palloc(sizeof(Datum) * Max(groups->n, 1));
	int n = 0;

	for (int g = 0; g < groups->n; g++)
		if (wanted == NULL || wanted(&groups->groups[g]))
			items[n++] = PointerGetDatum(groups->groups[g].key[i]);
	return PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Runs a statement; returns the rows processed. */
static int64
execute(SPIPlanPtr plan, Datum *values, int expected)
{
	int rc = SPI_execute_plan(plan, values, NULL, false, 0);

	if (rc != expected)
		elog(ERROR, "unexpected result of a statement of the ingest: %s",
			 SPI_result_code_string(rc));
	return (int64) SPI_processed;
}

static bool
same_text(const text *a, const char *b)
{
	return VARSIZE_ANY_EXHDR(a) == strlen(b) && memcmp(VARDATA_ANY(a), b, strlen(b)) == 0;
}

/* Takes one fetched row into its group's state. */
static void
take_row(Work *work, HeapTuple tuple, TupleDesc desc)
{
	bool null;
	KeyGroup *group = &work->groups->groups[DatumGetInt32(SPI_getbinval(tuple, desc, 1, &null))];
	RowState *row = &group->row;
	Datum value;

	group->stored = true;
	row->exists = true;
	row->deleted = DatumGetBool(SPI_getbinval(tuple, desc, 3, &null));
	row->clock = (uint64) DatumGetInt64(SPI_getbinval(tuple, desc, 4, &null));
	row->ordered = !null;
	value = SPI_getbinval(tuple, desc, 5, &null);
	group->journal = null ? (Datum) 0 : value;
	row->same_journal = !null && work->apply->journal != NULL &&
						same_text(DatumGetTextPP(value), work->apply->journal);
	value = SPI_getbinval(tuple, desc, 6, &null);
	row->offset = null ? -1 : DatumGetInt64(value);
	value = SPI_getbinval(tuple, desc, 7, &null);
	group->collection = null ? (Datum) 0 : value;
	value = SPI_getbinval(tuple, desc, 2, &null);
	if (!null && (work->shape->strategy == REDUCE_MERGE || group->tombstones) &&
		!sophia_jsonb_decode(&row->doc, work->apply->arena, DatumGetJsonbP(value)))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	group->extensive = sophia_row_is_extensive(&row->doc);
}

/* Bytes of the documents of the fetched rows, which are not read yet. */
static Size
stored_bytes(SPITupleTable *table, uint64 rows)
{
	Size bytes = 0;

	for (uint64 i = 0; i < rows; i++)
	{
		bool null;
		Datum doc = SPI_getbinval(table->vals[i], table->tupdesc, 2, &null);

		if (!null)
			bytes += toast_raw_datum_size(doc);
	}
	return bytes;
}

/* Takes the stored rows of all keys; false when their documents are too large to be held together. */
static bool
fetch_rows(Work *work)
{
	Datum values[SHAPE_MAX_KEYS];
	SPITupleTable *table;

	for (int i = 0; i < work->shape->n_keys; i++)
		values[i] = key_array(work->groups, i, NULL);
	execute(sophia_shape_fetch(work->shape), values, SPI_OK_SELECT);
	table = SPI_tuptable;
	if (work->groups->n > 1 && stored_bytes(table, SPI_processed) > STORED_BYTES)
		return false;
	for (uint64 i = 0; i < SPI_processed; i++)
		take_row(work, table->vals[i], table->tupdesc);
	return true;
}

/*
 * What a document that took effect means to the elements.  It must not depend on where batches end: a tombstone marks the
 * elements that were there before it, whatever comes after it.
 */
static void
note_elements(Work *work, KeyGroup *group, const Document *document)
{
	const Shape *shape = work->shape;

	if (document->tombstone)
	{
		JsonNode doc = group->elements.doc;

		group->elements = group->row;
		group->elements.doc = doc;
		group->elements_deleted = true;
		group->array_given &= !shape->hard_delete;
	}
	/* an element table of its own takes every document; a side table only those that bring the array */
	else if (shape->main == NULL || sophia_json_find(&document->root, &shape->array) != NULL)
	{
		group->elements = group->row;
		group->elements_deleted = false;
		group->array_given = true;
	}
}

/* One document into its group. */
static void
reduce_document(Work *work, KeyGroup *group, const ApplyDocument *given)
{
	Apply *apply = work->apply;
	const Shape *shape = work->shape;
	bool met = group->row.exists;
	ReduceEffect effect =
		sophia_reduce(&group->row, &given->document, shape->strategy, apply->arena);
	TimestampTz published;

	if (effect == REDUCE_NO_MEMORY)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	apply->applied++;
	apply->reduced += met;
	apply->deleted += given->document.tombstone;
	published = sophia_row_published(given->document.clock);
	apply->last_document_at = Max(apply->last_document_at, published);
	if (effect == REDUCE_NOTHING)
		return;
	group->changed = true;
	if (effect == REDUCE_APPLIED)
		group->newest = &given->document.root;
	if (shape->elements != NULL)
		note_elements(work, group, &given->document);
}

/* All documents of a group, in order. */
static void
reduce_group(Work *work, KeyGroup *group)
{
	group->row.by_clock = work->apply->by_clock;
	group->row.plan = work->shape->plan;
	for (GroupMember *member = group->first; member != NULL; member = member->next)
		reduce_document(work, group, member->document);
}

/* A document that fits no row asks for a wider column, where its stream lets it, or becomes a dead letter. */
static void
refuse(Work *work, const ApplyDocument *document, const Misfit *misfit)
{
	if (!sophia_evolution_widens(work->shape, misfit, work->apply->journal,
								 document->document.offset))
		sophia_apply_dead(work->apply, document, misfit->sqlstate, misfit->reason);
}

/*
 * Documents that fit no row become dead letters and the others are reduced without them, whether they meet in one batch
 * or not.  A single document needs no look of its own: its row tells.
 */
static void
drop_misfits(Work *work, KeyGroup *group)
{
	GroupMember **link = &group->first;
	Misfit misfit;

	if (group->members < 2)
		return;
	for (GroupMember *member = group->first; member != NULL; member = member->next)
	{
		if (sophia_row_fits(&work->builder, &member->document->document.root, group, &misfit))
		{
			*link = member;
			link = &member->next;
		}
		else
			refuse(work, member->document, &misfit);
	}
	*link = NULL;
}

/* The reduced document fits no row although each of its documents might: all of them become dead letters. */
static void
drop_group(Work *work, KeyGroup *group, bool existed, const Misfit *misfit)
{
	Apply *apply = work->apply;

	for (GroupMember *member = group->first; member != NULL; member = member->next)
	{
		apply->applied--;
		apply->reduced -= existed || member != group->first;
		apply->deleted -= member->document->document.tombstone;
		refuse(work, member->document, misfit);
	}
	group->changed = false;
}

static bool
is_live(const Shape *shape, const KeyGroup *group)
{
	return group->changed && !(group->row.deleted && shape->hard_delete);
}

static bool
has_new_array(const KeyGroup *group)
{
	return group->changed && group->array_given;
}

static bool
has_deleted_elements(const KeyGroup *group)
{
	return group->changed && group->elements_deleted;
}

static bool
is_stored_and_deleted(const KeyGroup *group)
{
	return group->changed && group->row.deleted && group->stored;
}

/* Puts what a reduced group becomes into the batches; false for a misfit. */
static bool
put_group(Work *work, const KeyGroup *group, Misfit *misfit)
{
	BatchTable *rows = group->stored ? work->rows : work->fresh;
	BatchTable *elements = work->elements;
	bool array = elements != NULL && has_new_array(group);

	if (array && !sophia_row_put_elements(&work->builder, NULL, group, misfit))
		return false;
	if (rows != NULL && is_live(work->shape, group) &&
		!sophia_row_put(&work->builder, rows, group, misfit))
		return false;
	return !array || sophia_row_put_elements(&work->builder, elements, group, misfit);
}

/* Reduces every group and puts what it becomes into the batches. */
static void
reduce_groups(Work *work)
{
	for (int g = 0; g < work->groups->n; g++)
	{
		KeyGroup *group = &work->groups->groups[g];
		bool existed = group->row.exists;
		Misfit misfit;

		CHECK_FOR_INTERRUPTS();
		drop_misfits(work, group);
		reduce_group(work, group);
		if (!put_group(work, group, &misfit))
			drop_group(work, group, existed, &misfit);
	}
}

static bool
any_group(const KeyGroups *groups, bool (*wanted)(const KeyGroup *))
{
	for (int g = 0; g < groups->n; g++)
		if (wanted(&groups->groups[g]))
			return true;
	return false;
}

/* Deletes the rows of the groups that `wanted` chooses; returns how many. */
static int64
remove_rows(Work *work, TargetTable *table, bool (*wanted)(const KeyGroup *))
{
	Datum values[SHAPE_MAX_KEYS];

	if (!any_group(work->groups, wanted))
		return 0;
	for (int i = 0; i < work->shape->n_keys; i++)
		values[i] = key_array(work->groups, i, wanted);
	return execute(sophia_shape_remove(work->shape, table), values, SPI_OK_DELETE);
}

/* Runs one of a table's statements that insert a batch; returns the rows written. */
static int64
write_rows(SPIPlanPtr (*statement)(Shape *, TargetTable *), Shape *shape, TargetTable *table,
		   BatchTable *rows)
{
	int64 written;

	if (rows->rows == 0)
		return 0;
	sophia_batch_table_register(rows);
	written = execute(statement(shape, table), NULL, SPI_OK_INSERT);
	SPI_unregister_relation(BATCH_ROWS);
	return written;
}

/* Soft deletion of elements: a batch of one row a deleted document, of which only key and source columns matter. */
static void
mark_elements_deleted(Work *work)
{
	TargetTable *table = work->shape->elements;
	BatchTable *documents = sophia_batch_table_create(BATCH_ROWS, table->desc);
	Datum *values = palloc0(sizeof(Datum) * table->desc->natts);
	bool *nulls = palloc(sizeof(bool) * table->desc->natts);
	Datum *source = values + table->n_columns;

	for (int g = 0; g < work->groups->n; g++)
	{
		KeyGroup *group = &work->groups->groups[g];

		if (!has_deleted_elements(group))
			continue;
		memset(nulls, true, table->desc->natts);
		values[0] = PointerGetDatum(group->key[0]);
		nulls[0] = false;
		memset(nulls + table->n_columns + SOURCE_PUBLISHED_AT, false,
			   SOURCE_COLUMNS - SOURCE_PUBLISHED_AT);
		source[SOURCE_PUBLISHED_AT] =
			TimestampTzGetDatum(sophia_row_published(group->elements.clock));
		source[SOURCE_IS_DELETED] = BoolGetDatum(true);
		source[SOURCE_CLOCK] = Int64GetDatum((int64) group->elements.clock);
		source[SOURCE_JOURNAL] = work->builder.journal_text;
		source[SOURCE_OFFSET] = Int64GetDatum(group->elements.offset);
		nulls[table->n_columns + SOURCE_JOURNAL] = work->apply->journal == NULL;
		nulls[table->n_columns + SOURCE_OFFSET] = work->apply->journal == NULL;
		sophia_batch_table_put(documents, values, nulls);
	}
	sophia_batch_table_register(documents);
	work->apply->elements_written +=
		execute(sophia_shape_mark_deleted(work->shape), NULL, SPI_OK_UPDATE);
	SPI_unregister_relation(BATCH_ROWS);
	sophia_batch_table_free(documents);
}

/* New elements replace those of their documents; tombstones take them along. */
static void
write_elements(Work *work)
{
	Apply *apply = work->apply;
	Shape *shape = work->shape;
	BatchTable *elements = work->elements;
	GuardState state;

	sophia_target_become_owner(shape->elements, &state);
	if (any_group(work->groups, has_new_array))
	{
		Datum keys = key_array(work->groups, 0, has_new_array);

		apply->elements_written +=
			write_rows(sophia_shape_upsert, shape, shape->elements, elements);
		sophia_batch_table_register(elements);
		apply->elements_removed += execute(sophia_shape_surplus(shape), &keys, SPI_OK_DELETE);
		SPI_unregister_relation(BATCH_ROWS);
	}
	if (shape->hard_delete)
		apply->elements_removed += remove_rows(work, shape->elements, has_deleted_elements);
	else if (any_group(work->groups, has_deleted_elements))
		mark_elements_deleted(work);
	sophia_guard_restore(&state);
}

/* A careful call takes the statement that a key which somebody else inserted meanwhile does not make fail. */
static void
write_main(Work *work)
{
	Apply *apply = work->apply;
	Shape *shape = work->shape;
	GuardState state;

	sophia_target_become_owner(shape->main, &state);
	apply->rows_inserted += write_rows(apply->careful ? sophia_shape_upsert : sophia_shape_insert,
									   shape, shape->main, work->fresh);
	apply->rows_updated += write_rows(sophia_shape_upsert, shape, shape->main, work->rows);
	if (shape->hard_delete)
		apply->rows_removed += remove_rows(work, shape->main, is_stored_and_deleted);
	sophia_guard_restore(&state);
	sophia_batch_table_free(work->fresh);
	sophia_batch_table_free(work->rows);
}

/* Everything between SPI_connect() and SPI_finish(); false when there are too many documents for the memory. */
static bool
apply_groups(Work *work)
{
	Shape *shape = work->shape;
	GuardState state;
	bool fetched;

	sophia_target_become_owner(sophia_shape_target(shape), &state);
	fetched = fetch_rows(work);
	sophia_guard_restore(&state);
	if (!fetched)
		return false;
	if (shape->main != NULL)
	{
		work->fresh = sophia_batch_table_create(BATCH_ROWS, shape->main->desc);
		work->rows = sophia_batch_table_create(BATCH_ROWS, shape->main->desc);
	}
	if (shape->elements != NULL)
		work->elements = sophia_batch_table_create(BATCH_ROWS, shape->elements->desc);
	reduce_groups(work);
	if (shape->main != NULL)
		write_main(work);
	if (shape->elements != NULL)
	{
		write_elements(work);
		sophia_batch_table_free(work->elements);
	}
	return true;
}

void
sophia_apply(Apply *apply, const ApplyDocument *documents, int n)
{
	Work work = {.apply = apply, .shape = apply->shape};
	int dead = list_length(apply->dead);
	bool applied;

	if (n == 0)
		return;
	sophia_arena_reset(apply->arena);
	SPI_connect();
	work.groups = sophia_groups_gather(apply, documents, n);
	sophia_row_builder_init(&work.builder, apply->shape, apply->journal);
	applied = apply_groups(&work);
	SPI_finish();
	if (applied)
		return;
	apply->dead = list_truncate(apply->dead, dead);
	sophia_apply(apply, documents, n / 2);
	sophia_apply(apply, documents + n / 2, n - n / 2);
}
