/*
 * capture.c
 *		Stamps rows and keeps the keys of rows that are gone: see capture.h.
 *
 * Runs inside the transactions of whoever writes a raw table, so it runs no SQL and needs no right: nothing that a
 * session or a role can set makes it fail.
 */
#include "postgres.h"

#include "transform/capture.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/xid8.h"

/* Columns of sophia.deleted_keys, in order. */
enum DeletedColumns
{
	DELETED_SOURCE,
	DELETED_KEY,
	DELETED_XID,
	DELETED_COLUMNS
};

/* Columns of sophia.consumer_sources, from 1. */
enum SourcesColumns
{
	SOURCES_OID = 1,
	SOURCES_SCHEMA,
	SOURCES_NAME
};

void
sophia_capture_columns(Relation relation, CaptureColumns *columns)
{
	int stamp = SPI_fnumber(RelationGetDescr(relation), STAMP_COLUMN);

	if (stamp <= 0 || TupleDescAttr(RelationGetDescr(relation), stamp - 1)->atttypid != XID8OID)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("table \"%s\" has no column \"%s\" of type xid8",
							   RelationGetRelationName(relation), STAMP_COLUMN)));
	columns->stamp = stamp;
	columns->consumer = CONSUMER_NOT_LOOKED_FOR;
	columns->key = RelationGetIndexAttrBitmap(relation, INDEX_ATTR_BITMAP_PRIMARY_KEY);
}

HeapTuple
sophia_capture_stamp(Relation relation, const CaptureColumns *columns, HeapTuple row)
{
	FullTransactionId current = GetTopFullTransactionId();
	int stamp = columns->stamp;
	bool null;
	Datum value = heap_getattr(row, stamp, RelationGetDescr(relation), &null);

	if (!null && FullTransactionIdEquals(DatumGetFullTransactionId(value), current))
		return row;
	value = FullTransactionIdGetDatum(current);
	null = false;
	return heap_modify_tuple_by_cols(row, RelationGetDescr(relation), 1, &stamp, &value, &null);
}

bool
sophia_capture_key_changed(Relation relation, const CaptureColumns *columns, HeapTuple before,
						   HeapTuple after)
{
	TupleDesc desc = RelationGetDescr(relation);
	int member = -1;

	while ((member = bms_next_member(columns->key, member)) >= 0)
	{
		AttrNumber number = member + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute attribute = TupleDescAttr(desc, number - 1);
		bool null; /* never: it is a primary key */
		Datum old = heap_getattr(before, number, desc, &null);
		Datum new = heap_getattr(after, number, desc, &null);

		if (!datum_image_eq(old, new, attribute->attbyval, attribute->attlen))
			return true;
	}
	return false;
}

/* {"column": value, ...} over the primary key, as jsonb_build_object writes it. */
static Datum
key_of(Relation relation, const CaptureColumns *columns, HeapTuple row)
{
	TupleDesc desc = RelationGetDescr(relation);
	TupleDesc key_desc = CreateTemplateTupleDesc(bms_num_members(columns->key));
	Datum *values = palloc(sizeof(Datum) * key_desc->natts);
	bool *nulls = palloc(sizeof(bool) * key_desc->natts);
	int member = -1;
	int n = 0;
	Datum json;

	while ((member = bms_next_member(columns->key, member)) >= 0)
	{
		AttrNumber number = member + FirstLowInvalidHeapAttributeNumber;

		values[n] = heap_getattr(row, number, desc, &nulls[n]);
		TupleDescCopyEntry(key_desc, ++n, desc, number);
	}
	key_desc = BlessTupleDesc(key_desc);
	json = DirectFunctionCall1(row_to_json,
							   HeapTupleGetDatum(heap_form_tuple(key_desc, values, nulls)));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json)));
}

static bool
column_is(HeapTuple row, TupleDesc desc, int column, const char *wanted)
{
	bool null;
	Datum value = heap_getattr(row, column, desc, &null);

	return !null && strcmp(TextDatumGetCString(value), wanted) == 0;
}

/*
 * By what is committed now, whatever the transaction's snapshot: consumers are made while nobody writes their sources.  A
 * source is known by its oid or by its name, since a consumer that was restored, or whose table was made anew, has still the
 * earlier oid.
 */
static bool
has_consumer(Oid schema, Relation relation)
{
	Oid sources = get_relname_relid("consumer_sources", schema);
	Relation catalog = OidIsValid(sources) ? try_table_open(sources, AccessShareLock) : NULL;
	SysScanDesc scan;
	HeapTuple row;
	bool found = false;

	if (catalog == NULL)
		return false;
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (!found && HeapTupleIsValid(row = systable_getnext(scan)))
	{
		TupleDesc desc = RelationGetDescr(catalog);
		bool null;

		found = DatumGetObjectId(heap_getattr(row, SOURCES_OID, desc, &null)) ==
					RelationGetRelid(relation) ||
				(column_is(row, desc, SOURCES_NAME, RelationGetRelationName(relation)) &&
				 column_is(row, desc, SOURCES_SCHEMA,
						   get_namespace_name(RelationGetNamespace(relation))));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

void
sophia_capture_keep(Relation relation, CaptureColumns *columns, HeapTuple row)
{
	Oid schema = get_namespace_oid("sophia", true);
	Oid deleted = get_relname_relid("deleted_keys", schema);
	Datum values[DELETED_COLUMNS] = {0};
	bool nulls[DELETED_COLUMNS] = {false};
	Relation keys;

	if (columns->consumer == CONSUMER_NOT_LOOKED_FOR)
		columns->consumer = has_consumer(schema, relation) ? CONSUMER_SOME : CONSUMER_NONE;
	if (columns->consumer == CONSUMER_NONE)
		return;
	/* NULL where somebody has just dropped the extension, and the consumers with it */
	keys = try_table_open(deleted, RowExclusiveLock);
	if (keys == NULL)
		return;
	values[DELETED_SOURCE] = ObjectIdGetDatum(RelationGetRelid(relation));
	nulls[DELETED_KEY] = row == NULL || bms_is_empty(columns->key);
	if (!nulls[DELETED_KEY])
		values[DELETED_KEY] = key_of(relation, columns, row);
	values[DELETED_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	CatalogTupleInsert(keys, heap_form_tuple(RelationGetDescr(keys), values, nulls));
	table_close(keys, NoLock);
}
