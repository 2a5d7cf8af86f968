/*
 * compat.h
 *		The only file that looks at PG_VERSION_NUM: what differs between PostgreSQL 15 and 18 gets one
 *		name here, and the rest of the tree uses that name.
 */
#ifndef SOPHIA_COMPAT_H
#define SOPHIA_COMPAT_H

#include "postgres.h"

#include "fmgr.h"

#if PG_VERSION_NUM < 150000
#error "sophia_stack needs PostgreSQL 15 or later"
#endif

/* VARSIZE and the like, which postgres.h has until 15. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * Symbols are hidden unless marked, on every version; before 16 the macro marks only the function's description.
 * So a file with SQL entry points includes this one.
 */
#if PG_VERSION_NUM < 160000
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(name)                                                                  \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                                               \
	extern PGDLLEXPORT const Pg_finfo_record *CppConcat(pg_finfo_, name)(void);                    \
	const Pg_finfo_record *CppConcat(pg_finfo_, name)(void)                                        \
	{                                                                                              \
		static const Pg_finfo_record finfo = {1};                                                  \
		return &finfo;                                                                             \
	}                                                                                              \
	extern int no_such_variable
#endif

/* The number of this process' PGPROC (storage/proc.h); GetPGProcByNumber finds the entry again. */
#if PG_VERSION_NUM >= 170000
#define compat_my_proc_number() MyProcNumber
#else
#define compat_my_proc_number() (MyProc->pgprocno)
#endif

/* Whether a role owns a database or is a superuser (utils/acl.h, catalog/pg_database.h). */
#if PG_VERSION_NUM >= 160000
#define compat_owns_database(database, role) object_ownercheck(DatabaseRelationId, database, role)
#else
#define compat_owns_database(database, role) pg_database_ownercheck(database, role)
#endif

/* Whether a role owns a table or is a superuser (utils/acl.h, catalog/pg_class.h). */
#if PG_VERSION_NUM >= 160000
#define compat_owns_table(table, role) object_ownercheck(RelationRelationId, table, role)
#else
#define compat_owns_table(table, role) pg_class_ownercheck(table, role)
#endif

/* Whether a role may execute a function (utils/acl.h, catalog/pg_proc.h). */
#if PG_VERSION_NUM >= 160000
#define compat_function_aclcheck(function, role)                                                   \
	object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE)
#else
#define compat_function_aclcheck(function, role) pg_proc_aclcheck(function, role, ACL_EXECUTE)
#endif

/* Builds a permanent index anew, with its constraint checked (catalog/index.h). */
#if PG_VERSION_NUM >= 170000
#define compat_reindex_index(index)                                                                \
	reindex_index(NULL, index, false, RELPERSISTENCE_PERMANENT, &(ReindexParams){0})
#else
#define compat_reindex_index(index)                                                                \
	reindex_index(index, false, RELPERSISTENCE_PERMANENT, &(ReindexParams){0})
#endif

/* A set of events to wait for that lives as long as the process (storage/latch.h, utils/memutils.h). */
#if PG_VERSION_NUM >= 170000
#define compat_create_wait_event_set(n) CreateWaitEventSet(NULL, n)
#else
#define compat_create_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

/* Decodes what ParseDateTime() gave (utils/datetime.h); 0, or a negative number where it is no time. */
#if PG_VERSION_NUM >= 160000
#define compat_decode_datetime(field, types, n, kind, tm, fsec, zone)                              \
	DecodeDateTime(field, types, n, kind, tm, fsec, zone, &(DateTimeErrorExtra){0})
#else
#define compat_decode_datetime(field, types, n, kind, tm, fsec, zone)                              \
	DecodeDateTime(field, types, n, kind, tm, fsec, zone)
#endif

/* Runs all of a portal at the top level and drops its rows (tcop/pquery.h). */
#if PG_VERSION_NUM >= 180000
#define compat_portal_run(portal, completion)                                                      \
	PortalRun(portal, FETCH_ALL, true, None_Receiver, None_Receiver, completion)
#else
#define compat_portal_run(portal, completion)                                                      \
	PortalRun(portal, FETCH_ALL, true, true, None_Receiver, None_Receiver, completion)
#endif

/* Reads a float8 (utils/float.h); *error, false before, tells that the text is none. */
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"

extern double float8in_internal(char *num, char **end, const char *type_name, const char *original,
								struct Node *context);

static inline double
compat_read_float8(char *text, bool *error)
{
	ErrorSaveContext context = {T_ErrorSaveContext};
	double result =
		float8in_internal(text, NULL, "double precision", text, (struct Node *) &context);

	*error = context.error_occurred;
	return result;
}
#else
#define compat_read_float8(text, error)                                                            \
	float8in_internal_opt_error(text, NULL, "double precision", text, error)
#endif

/*
 * What a session waits for its client with (libpq/libpq.h, which needs headers of every library that the server was built
 * with); NULL in a process that has no client.  The places of socket and latch in it are the same from 15 to 18.
 */
struct WaitEventSet;
extern PGDLLIMPORT struct WaitEventSet *FeBeWaitSet;
#define COMPAT_CLIENT_SOCKET_POSITION 0

#endif /* SOPHIA_COMPAT_H */
