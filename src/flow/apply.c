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

#include "access/xact.h"
#include "base/guard.h"
#include "catalog/pg_type.h"
#include "flow/groups.h"
#include "flow/row.h"
#include "flow/uuid.h"
#include "miscadmin.h"
#include "store/jsonb.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

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

bool
sophia_is_data_error(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_WITH_CHECK_OPTION_VIOLATION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_PLPGSQL_ERROR) ||
		   sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/* Becomes the owner of a table until sophia_guard_restore(). */
static void
become_owner(const TargetTable *table, GuardState *state)
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

static void
execute(SPIPlanPtr plan, Datum *values, int expected)
{
	int rc = SPI_execute_plan(plan, values, NULL, false, 0);

	if (rc != expected)
		elog(ERROR, "unexpected result of a statement of the ingest: %s",
			 SPI_result_code_string(rc));
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
	row->same_journal = !null && same_text(DatumGetTextPP(value), work->apply->journal);
	value = SPI_getbinval(tuple, desc, 6, &null);
	row->offset = null ? -1 : DatumGetInt64(value);
	value = SPI_getbinval(tuple, desc, 7, &null);
	group->collection = null ? (Datum) 0 : value;
	value = SPI_getbinval(tuple, desc, 2, &null);
	if (!null && (work->shape->strategy == REDUCE_MERGE || group->tombstones) &&
		!sophia_jsonb_decode(&row->doc, work->apply->arena, DatumGetJsonbP(value)))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

static void
fetch_rows(Work *work)
{
	Datum values[SHAPE_MAX_KEYS];
	SPITupleTable *table;

	for (int i = 0; i < work->shape->n_keys; i++)
		values[i] = key_array(work->groups, i, NULL);
	execute(sophia_shape_fetch(work->shape), values, SPI_OK_SELECT);
	table = SPI_tuptable;
	for (uint64 i = 0; i < SPI_processed; i++)
		take_row(work, table->vals[i], table->tupdesc);
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
	group->row.plan = work->shape->plan;
	for (GroupMember *member = group->first; member != NULL; member = member->next)
		reduce_document(work, group, member->document);
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
			sophia_apply_dead(work->apply, member->document, misfit.sqlstate, misfit.reason);
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
		sophia_apply_dead(apply, member->document, misfit->sqlstate, misfit->reason);
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
	BatchTable *rows = group->stored || work->apply->careful ? work->rows : work->fresh;
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

static void
remove_rows(Work *work, TargetTable *table, bool (*wanted)(const KeyGroup *))
{
	Datum values[SHAPE_MAX_KEYS];

	if (!any_group(work->groups, wanted))
		return;
	for (int i = 0; i < work->shape->n_keys; i++)
		values[i] = key_array(work->groups, i, wanted);
	execute(sophia_shape_remove(work->shape, table), values, SPI_OK_DELETE);
}

/* Runs one of a table's statements that insert a batch. */
static void
write_rows(SPIPlanPtr (*statement)(Shape *, TargetTable *), Shape *shape, TargetTable *table,
		   BatchTable *rows)
{
	if (rows->rows == 0)
		return;
	sophia_batch_table_register(rows);
	execute(statement(shape, table), NULL, SPI_OK_INSERT);
	SPI_unregister_relation(BATCH_ROWS);
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
		sophia_batch_table_put(documents, values, nulls);
	}
	sophia_batch_table_register(documents);
	execute(sophia_shape_mark_deleted(work->shape), NULL, SPI_OK_UPDATE);
	SPI_unregister_relation(BATCH_ROWS);
	sophia_batch_table_free(documents);
}

/* New elements replace those of their documents; tombstones take them along. */
static void
write_elements(Work *work)
{
	Shape *shape = work->shape;
	BatchTable *elements = work->elements;
	GuardState state;

	become_owner(shape->elements, &state);
	if (any_group(work->groups, has_new_array))
	{
		Datum keys = key_array(work->groups, 0, has_new_array);

		write_rows(sophia_shape_upsert, shape, shape->elements, elements);
		sophia_batch_table_register(elements);
		execute(sophia_shape_surplus(shape), &keys, SPI_OK_DELETE);
		SPI_unregister_relation(BATCH_ROWS);
	}
	if (shape->hard_delete)
		remove_rows(work, shape->elements, has_deleted_elements);
	else if (any_group(work->groups, has_deleted_elements))
		mark_elements_deleted(work);
	sophia_guard_restore(&state);
}

/* Everything between SPI_connect() and SPI_finish(). */
static void
apply_groups(Work *work)
{
	Shape *shape = work->shape;
	GuardState state;

	become_owner(sophia_shape_target(shape), &state);
	fetch_rows(work);
	sophia_guard_restore(&state);
	if (shape->main != NULL)
	{
		work->fresh = sophia_batch_table_create(BATCH_ROWS, shape->main->desc);
		work->rows = sophia_batch_table_create(BATCH_ROWS, shape->main->desc);
	}
	if (shape->elements != NULL)
		work->elements = sophia_batch_table_create(BATCH_ROWS, shape->elements->desc);
	reduce_groups(work);
	if (shape->main != NULL)
	{
		become_owner(shape->main, &state);
		write_rows(sophia_shape_insert, shape, shape->main, work->fresh);
		write_rows(sophia_shape_upsert, shape, shape->main, work->rows);
		if (shape->hard_delete)
			remove_rows(work, shape->main, is_stored_and_deleted);
		sophia_guard_restore(&state);
		sophia_batch_table_free(work->fresh);
		sophia_batch_table_free(work->rows);
	}
	if (shape->elements != NULL)
	{
		write_elements(work);
		sophia_batch_table_free(work->elements);
	}
}

void
sophia_apply(Apply *apply, const ApplyDocument *documents, int n)
{
	Work work = {.apply = apply, .shape = apply->shape};

	if (n == 0)
		return;
	SPI_connect();
	work.groups = sophia_groups_gather(apply, documents, n);
	sophia_row_builder_init(&work.builder, apply->shape, apply->journal);
	apply_groups(&work);
	SPI_finish();
}

/* Applies in a subtransaction; false with the error in *refused when it lies in the data. */
static bool
apply_in_subtransaction(Apply *apply, const ApplyDocument *documents, int n, ErrorData **refused)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Apply before = *apply;
	int dead_before = list_length(apply->dead);
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		sophia_apply(apply, documents, n);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*refused = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (!sophia_is_data_error((*refused)->sqlerrcode))
			ReThrowError(*refused);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (!done)
	{
		List *dead = apply->dead;

		*apply = before;
		apply->dead = list_truncate(dead, dead_before);
	}
	return done;
}

void
sophia_apply_carefully(Apply *apply, const ApplyDocument *documents, int n)
{
	ErrorData *refused = NULL;

	check_stack_depth();
	if (n == 0 || apply_in_subtransaction(apply, documents, n, &refused))
		return;
	if (n == 1)
		sophia_apply_dead(apply, documents, refused->sqlerrcode, refused->message);
	else
	{
		sophia_apply_carefully(apply, documents, n / 2);
		sophia_apply_carefully(apply, documents + n / 2, n - n / 2);
	}
	FreeErrorData(refused);
}
