/*
 * landing_sql.c
 *		SQL entry points of the tables that Estuary writes itself: the trigger that puts each change of a landing table into
 *		the queue, and what sql/47_adoption.sql asks of such a table.
 *
 * The trigger runs inside Estuary's transaction, which must not fail because of us, nor wait.  So it looks up no name that
 * a user could change, checks no right, and calls no SQL: it makes the document (where an error becomes a letter for the
 * operator) and adds one tuple to the queue.  What can still fail fails Estuary's own INSERT as well: no space, no memory,
 * somebody's cancel.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/compat.h"
#include "base/guard.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "flow/landing.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "shared/registry.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(sophia_land_row);
PG_FUNCTION_INFO_V1(sophia_landing_rows);
PG_FUNCTION_INFO_V1(sophia_landing_has);

/* Columns of sophia.landed_rows, in order. */
enum QueueColumns
{
	QUEUE_ADOPTION,
	QUEUE_ID,
	QUEUE_CLOCK,
	QUEUE_DOCUMENT,
	QUEUE_PROBLEM,
	QUEUE_COLUMNS
};

/* The queue as this transaction finds it. */
typedef struct Queue
{
	Oid table;
	Oid sequence;
} Queue;

/*
 * Locks the queue while somebody has the extension for himself: who drops it, but also who only has something depend on it
 * (ALTER TRIGGER ... DEPENDS ON EXTENSION, as adopting another table does), whose change this one must not be lost for.
 * Never waits behind a lock, since whoever drops the extension may wait for this transaction; so what is locked but for a
 * moment, as by a vacuum, is tried for a second, once a transaction.
 */
static bool
lock_queue_beside(const Queue *queue)
{
	static TransactionId tried = InvalidTransactionId;
	TransactionId mine = GetTopTransactionId();

	for (int i = 0;; i++)
	{
		if (ConditionalLockRelationOid(queue->table, RowExclusiveLock) &&
			ConditionalLockRelationOid(queue->sequence, RowExclusiveLock))
			return true;
		if (tried == mine || i == 100)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	tried = mine;
	return false;
}

/* Finds the queue and sees to it that it stays; false where the extension is gone, or goes. */
static bool
find_queue(Queue *queue)
{
	bool guarded = sophia_guard_extension();
	Oid schema = get_namespace_oid("sophia", true);

	if (!OidIsValid(schema))
		return false;
	queue->table = get_relname_relid("landed_rows", schema);
	queue->sequence = get_relname_relid("landed_rows_id_seq", schema);
	return OidIsValid(queue->table) && OidIsValid(queue->sequence) &&
		   (guarded || lock_queue_beside(queue));
}

static void
enqueue(const Queue *queue, int32 adoption, const LandedDocument *landed)
{
	Datum values[QUEUE_COLUMNS];
	bool nulls[QUEUE_COLUMNS] = {false};
	Relation relation;
	HeapTuple tuple;

	values[QUEUE_ADOPTION] = Int32GetDatum(adoption);
	values[QUEUE_ID] = Int64GetDatum(nextval_internal(queue->sequence, false));
	values[QUEUE_CLOCK] = Int64GetDatum((int64) landed->clock);
	values[QUEUE_DOCUMENT] = PointerGetDatum(landed->document);
	values[QUEUE_PROBLEM] =
		landed->problem != NULL ? CStringGetTextDatum(landed->problem) : (Datum) 0;
	nulls[QUEUE_PROBLEM] = landed->problem == NULL;

	relation = table_open(queue->table, RowExclusiveLock);
	tuple = heap_form_tuple(RelationGetDescr(relation), values, nulls);
	CatalogTupleInsert(relation, tuple);
	table_close(relation, NoLock);
}

/* An UPDATE that says nothing new. */
static bool
is_same(const LandedDocument *left, const LandedDocument *right)
{
	return left->problem == NULL && right->problem == NULL && left->clock == right->clock &&
		   VARSIZE_ANY_EXHDR(left->document) == VARSIZE_ANY_EXHDR(right->document) &&
		   memcmp(VARDATA_ANY(left->document), VARDATA_ANY(right->document),
				  VARSIZE_ANY_EXHDR(left->document)) == 0;
}

/* land_row(adoption): trigger AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW; puts the row's document into the queue. */
Datum
sophia_land_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation relation;
	TupleDesc desc;
	HeapTuple before = NULL;
	HeapTuple row;
	bool deleted;
	LandedDocument landed;
	Queue queue;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"land_row\" was not called as sophia.adopt_table() has it")));
	relation = trigger->tg_relation;
	desc = RelationGetDescr(relation);
	deleted = TRIGGER_FIRED_BY_DELETE(trigger->tg_event);
	row = trigger->tg_trigtuple;
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		before = row;
		row = trigger->tg_newtuple;
	}

	/* Whoever drops the extension takes the trigger and the queue along. */
	if (!find_queue(&queue))
		return PointerGetDatum(NULL);
	landed = sophia_landing_document(RelationGetRelid(relation), desc, row, before, deleted);
	if (before != NULL)
	{
		LandedDocument replaced =
			sophia_landing_document(RelationGetRelid(relation), desc, before, NULL, false);

		if (is_same(&landed, &replaced))
			return PointerGetDatum(NULL);
	}
	enqueue(&queue, pg_strtoint32(trigger->tg_trigger->tgargs[0]), &landed);
	sophia_registry_rows_landed_at_commit();
	return PointerGetDatum(NULL);
}

/* One row (document, clock, problem) of the result for a row of the table. */
static void
put_row(ReturnSetInfo *result, Relation relation, TupleTableSlot *slot)
{
	bool owned;
	HeapTuple row = ExecFetchSlotHeapTuple(slot, false, &owned);
	LandedDocument landed = sophia_landing_document(RelationGetRelid(relation),
													RelationGetDescr(relation), row, NULL, false);
	Datum values[3] = {PointerGetDatum(landed.document), Int64GetDatum((int64) landed.clock)};
	bool nulls[3] = {false, false, landed.problem == NULL};

	if (landed.problem != NULL)
		values[2] = CStringGetTextDatum(landed.problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * landing_rows(landing oid, first bigint, blocks bigint): the documents of the rows in these blocks.
 *
 * Scans the table itself, because planning a query on it may run functions of its owner (constants in expressions of
 * indexes), with the rights of whoever feeds.
 */
Datum
sophia_landing_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation relation = table_open(PG_GETARG_OID(0), AccessShareLock);
	int64 first = PG_GETARG_INT64(1);
	MemoryContext row_context;
	MemoryContext before;
	ItemPointerData least;
	ItemPointerData most;
	TupleTableSlot *slot;
	TableScanDesc scan;

	InitMaterializedSRF(fcinfo, 0);
	if (relation->rd_rel->relkind != RELKIND_RELATION ||
		relation->rd_tableam->scan_set_tidrange == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not an ordinary table", RelationGetRelationName(relation))));
	ItemPointerSet(&least, (BlockNumber) first, FirstOffsetNumber);
	ItemPointerSet(&most, (BlockNumber) (first + PG_GETARG_INT64(2) - 1), MaxOffsetNumber);
	slot = table_slot_create(relation, NULL);
	scan = table_beginscan_tidrange(relation, GetActiveSnapshot(), &least, &most);
	row_context = AllocSetContextCreate(CurrentMemoryContext, "landed row", ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(row_context);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		put_row(result, relation, slot);
		MemoryContextReset(row_context);
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(row_context);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(relation, NoLock);
	return (Datum) 0;
}

/* landing_has(landing regclass, pointer text): whether rows of that table tell what stands at the pointer. */
Datum
sophia_landing_has(PG_FUNCTION_ARGS)
{
	Relation relation = table_open(PG_GETARG_OID(0), AccessShareLock);
	const LandingTable *table =
		sophia_landing_table(RelationGetRelid(relation), RelationGetDescr(relation));
	bool has = sophia_landing_table_has(table, text_to_cstring(PG_GETARG_TEXT_PP(1)));

	table_close(relation, AccessShareLock);
	PG_RETURN_BOOL(has);
}
