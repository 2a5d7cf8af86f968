/*
 * statement.h
 *		SQL from C: transactions of a worker, and statements that are prepared once a process.
 */
#ifndef SOPHIA_STATEMENT_H
#define SOPHIA_STATEMENT_H

#include "postgres.h"

#include "executor/spi.h"

#define STATEMENT_MAX_PARAMETERS 12

/* A static one is prepared when it first runs, and kept. */
typedef struct Statement
{
	const char *sql;
	int n;
	Oid types[STATEMENT_MAX_PARAMETERS];
	SPIPlanPtr plan;
} Statement;

/*
 * Runs within an SPI connection; `nulls` as for SPI_execute_plan (may be NULL).  Returns the rows processed; raises an
 * error when the statement fails.
 */
extern uint64 sophia_statement_run(Statement *statement, Datum *values, const char *nulls);

/* Column `column` (from 1) of row `row` (from 0) of the last result, and whether it is null. */
extern Datum sophia_result(uint64 row, int column, bool *null);

/* The same as text in the current memory context, NULL for null. */
extern char *sophia_result_text(uint64 row, int column);

/* Starts a transaction with a snapshot and an SPI connection; `activity` shows in pg_stat_activity. */
extern void sophia_transaction_begin(const char *activity);

/* Ends it; the memory context is then the one given. */
extern void sophia_transaction_commit(MemoryContext context);

/*
 * Whatever the database, the role or the session has set: what the plans of the ingest and the texts of keys rely on.  For the
 * process, or else until the GUC nest level ends.
 */
extern void sophia_statement_pin_settings(bool for_process);

#endif /* SOPHIA_STATEMENT_H */
