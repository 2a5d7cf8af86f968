/*
 * compat.h
 *		The only file that looks at PG_VERSION_NUM: what differs between PostgreSQL 15 and 18 gets one
 *		name here, and the rest of the tree uses that name.
 */
#ifndef SOPHIA_COMPAT_H
#define SOPHIA_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "sophia_stack needs PostgreSQL 15 or later"
#endif

#endif							/* SOPHIA_COMPAT_H */
