/*
 * sophia_stack.c
 *		Module init.  Knows everybody; nobody knows it.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
}
