/*
 * large_tables.h
 *		Plans of this process as if every table were large.
 */
#ifndef SOPHIA_LARGE_TABLES_H
#define SOPHIA_LARGE_TABLES_H

/*
 * From now on the planner takes every table and index of this process as large and knows no statistics.  For a process
 * that keeps its plans and finds rows by key only; it still has to switch off what reads whole tables in any case
 * (enable_seqscan, enable_hashjoin, enable_mergejoin).
 */
extern void sophia_large_tables_expect(void);

#endif /* SOPHIA_LARGE_TABLES_H */
