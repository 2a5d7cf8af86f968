/*
 * batch_table.h
 *		Rows made in C that a statement reads as a table: a tuplestore under a name of its own.
 *
 * A set-based INSERT ... SELECT from such a table costs one copy of a row and no parsing, and is planned once.
 */
#ifndef SOPHIA_BATCH_TABLE_H
#define SOPHIA_BATCH_TABLE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

typedef struct BatchTable
{
	int64 rows;
	Tuplestorestate *store;
	EphemeralNamedRelationData relation;
} BatchTable;

/* An empty table of that name; `desc` must outlive it.  Spills to disk beyond work_mem. */
extern BatchTable *sophia_batch_table_create(const char *name, TupleDesc desc);
extern void sophia_batch_table_put(BatchTable *table, Datum *values, bool *nulls);

/* Makes the table known to the statements of the current SPI connection. */
extern void sophia_batch_table_register(BatchTable *table);
extern void sophia_batch_table_free(BatchTable *table);

#endif /* SOPHIA_BATCH_TABLE_H */
