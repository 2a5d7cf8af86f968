/*
 * batch_table.c
 *		Rows made in C that a statement reads as a table: see batch_table.h.
 */
#include "postgres.h"

#include "store/batch_table.h"

#include "executor/spi.h"
#include "miscadmin.h"

/*
 * What the planner is told of every batch: its plans are kept, so they must not depend on the first batch's size.  As few
 * as it takes an array of keys to have, so that rows are looked up for each.
 */
#define PLANNED_ROWS 10

/* Rows in memory, in kB, before they go to a file, where work_mem is less: several times what a batch of documents is. */
#define MEMORY_KB (32 * 1024)

BatchTable *
sophia_batch_table_create(const char *name, TupleDesc desc)
{
	BatchTable *table = palloc0(sizeof(BatchTable));

	table->store = tuplestore_begin_heap(false, false, Max(work_mem, MEMORY_KB));
	table->relation.md.name = pstrdup(name);
	table->relation.md.reliddesc = InvalidOid;
	table->relation.md.tupdesc = desc;
	table->relation.md.enrtype = ENR_NAMED_TUPLESTORE;
	table->relation.md.enrtuples = PLANNED_ROWS;
	table->relation.reldata = table->store;
	return table;
}

void
sophia_batch_table_put(BatchTable *table, Datum *values, bool *nulls)
{
	tuplestore_putvalues(table->store, table->relation.md.tupdesc, values, nulls);
	table->rows++;
}

void
sophia_batch_table_register(BatchTable *table)
{
	int rc = SPI_register_relation(&table->relation);

	if (rc != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register batch table \"%s\": %s", table->relation.md.name,
			 SPI_result_code_string(rc));
}

void
sophia_batch_table_free(BatchTable *table)
{
	tuplestore_end(table->store);
	pfree(table->relation.md.name);
	pfree(table);
}
