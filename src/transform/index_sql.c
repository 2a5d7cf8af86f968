/*
 * index_sql.c
 *		Indexes that rest while an empty table is filled, and are built from its rows afterwards.
 *
 * Building an index from a million rows takes a third of the time that inserting them one by one does, and rows that are
 * written twice on the way count once.  PostgreSQL has both halves of it: an index that is not ready (pg_index.indisready)
 * is passed over by writers, one that is not valid by the planner, and reindex_index() sets both again.  The name, the
 * comment and everything else that depends on the index stays, and a rollback brings it back as it was.
 *
 * Other sessions do not see the flags before the commit: locks keep them from writing the table and from opening the
 * index.  Where a lock is not to be had at once, an index stays as it is.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "base/compat.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(sophia_suspend_indexes_sql);
PG_FUNCTION_INFO_V1(sophia_rebuild_indexes_sql);

/*
 * Whether the indexes of a table may rest: rebuilding takes its owner, and that no query of this session has it open; a
 * trigger, such as that of a foreign key, may need them on the way.
 */
static bool
may_rest(Relation table)
{
	return table->rd_rel->relkind == RELKIND_RELATION &&
		   table->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT && table->trigdesc == NULL &&
		   table->rd_refcnt == 1 && compat_owns_table(RelationGetRelid(table), GetUserId());
}

/* Marks an index as one that nobody writes or reads.  False where it is not in use anyway, or is needed to tell rows apart. */
static bool
suspend_index(Relation table, Oid index)
{
	Relation catalog;
	HeapTuple tuple;
	Form_pg_index form;
	bool rests;

	if (!ConditionalLockRelationOid(index, AccessExclusiveLock))
		return false;
	catalog = table_open(IndexRelationId, RowExclusiveLock);
	tuple = SearchSysCacheCopy1(INDEXRELID, ObjectIdGetDatum(index));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", index);
	form = (Form_pg_index) GETSTRUCT(tuple);
	rests = form->indisvalid && form->indisready && form->indislive &&
			!(RelationIsLogicallyLogged(table) && (form->indisprimary || form->indisreplident));
	if (rests)
	{
		form->indisvalid = false;
		form->indisready = false;
		CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
		CacheInvalidateRelcache(table);
	}
	heap_freetuple(tuple);
	table_close(catalog, RowExclusiveLock);
	return rests;
}

/*
 * suspend_indexes(target regclass) returns regclass[]: has the indexes of a table rest until rebuild_indexes(), which the
 * same transaction has to call; those that rest now.  Locks the table against writers, and these indexes against everybody.
 */
Datum
sophia_suspend_indexes_sql(PG_FUNCTION_ARGS)
{
	Oid target = PG_GETARG_OID(0);
	ArrayBuildState *resting = initArrayResult(REGCLASSOID, CurrentMemoryContext, false);

	if (ConditionalLockRelationOid(target, ShareRowExclusiveLock))
	{
		Relation table = table_open(target, NoLock);

		if (may_rest(table))
		{
			List *indexes = RelationGetIndexList(table);
			ListCell *cell;

			foreach(cell, indexes)
				if (suspend_index(table, lfirst_oid(cell)))
					accumArrayResult(resting, ObjectIdGetDatum(lfirst_oid(cell)), false,
									 REGCLASSOID, CurrentMemoryContext);
			list_free(indexes);
		}
		table_close(table, NoLock);
		CommandCounterIncrement();
	}
	PG_RETURN_DATUM(makeArrayResult(resting, CurrentMemoryContext));
}

/* rebuild_indexes(indexes regclass[]): builds the indexes that suspend_indexes() returned from the rows of their tables. */
Datum
sophia_rebuild_indexes_sql(PG_FUNCTION_ARGS)
{
	Datum *indexes;
	int count;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT,
					  &indexes, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		compat_reindex_index(DatumGetObjectId(indexes[i]));
		CommandCounterIncrement();
	}
	PG_RETURN_VOID();
}
