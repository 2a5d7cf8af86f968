/*
 * database_commands.c
 *		Gets workers out of the way of statements that need a database for themselves.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE DATABASE from a template, fail while anybody else is
 * connected, and PostgreSQL 15 to 18 wait only for autovacuum to leave.  So before such a statement our workers of
 * that database are told to end, and none is started there until the transaction is over.  Who may not run the statement
 * disturbs nobody: the rights are checked first, as the statement itself will again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "base/clock.h"
#include "base/compat.h"
#include "flow/database_commands.h"
#include "shared/registry.h"

#define LEAVE_LIMIT_MS                                                                             \
	5000 /* how long a statement waits for the workers; then it meets them and fails */
#define LEAVE_POLL_MS 20

static ProcessUtility_hook_type previous_ProcessUtility = NULL;

static DefElem *
find_option(List *options, const char *name)
{
	ListCell *cell;

	foreach(cell, options)
	{
		DefElem *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

static bool
is_template(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

static Oid
owned_database(const char *name)
{
	Oid database = get_database_oid(name, true);

	if (OidIsValid(database) && !compat_owns_database(database, GetUserId()))
		return InvalidOid;
	return database;
}

/* As the server itself asks; its own function can be called from 15.19 on. */
static bool
may_create_databases(void)
{
	HeapTuple role;
	bool may;

	if (superuser())
		return true;
	role = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(role))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(role))->rolcreatedb;
	ReleaseSysCache(role);
	return may;
}

static Oid
template_database(CreatedbStmt *statement)
{
	DefElem *option = find_option(statement->options, "template");
	Oid database;

	if (!may_create_databases())
		return InvalidOid;
	database = get_database_oid(option && option->arg ? defGetString(option) : "template1", true);
	if (OidIsValid(database) && !is_template(database) &&
		!compat_owns_database(database, GetUserId()))
		return InvalidOid;
	return database;
}

/* The database that this statement needs for itself, if the user may run it; else InvalidOid. */
static Oid
exclusive_database(Node *statement)
{
	if (IsA(statement, DropdbStmt))
		return owned_database(((DropdbStmt *) statement)->dbname);
	if (IsA(statement, CreatedbStmt))
		return template_database((CreatedbStmt *) statement);
	if (IsA(statement, RenameStmt))
	{
		RenameStmt *rename = (RenameStmt *) statement;

		if (rename->renameType == OBJECT_DATABASE && may_create_databases())
			return owned_database(rename->subname);
	}
	if (IsA(statement, AlterDatabaseStmt))
	{
		AlterDatabaseStmt *alter = (AlterDatabaseStmt *) statement;

		if (find_option(alter->options, "tablespace"))
			return owned_database(alter->dbname);
	}
	return InvalidOid;
}

/* Waits until the workers have ended; when they take too long, the statement finds out by itself. */
static void
wait_for_workers(Oid database)
{
	int64 deadline = sophia_clock_ms() + LEAVE_LIMIT_MS;

	while (sophia_registry_database_busy(database) && sophia_clock_ms() < deadline)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LEAVE_POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
clear_the_way(Node *statement)
{
	Oid database = exclusive_database(statement);

	/* Nobody can do any of this to the own database. */
	if (!OidIsValid(database) || database == MyDatabaseId)
		return;
	sophia_registry_hold_database(database);
	wait_for_workers(database);
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next =
		previous_ProcessUtility ? previous_ProcessUtility : standard_ProcessUtility;
	NodeTag tag = nodeTag(pstmt->utilityStmt);

	if (tag == T_DropdbStmt || tag == T_CreatedbStmt || tag == T_RenameStmt ||
		tag == T_AlterDatabaseStmt)
		clear_the_way(pstmt->utilityStmt);
	next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

void
sophia_database_commands_install(void)
{
	previous_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
