/*
 * guard.c
 *		What a worker makes sure of before it touches tables.
 *
 * The lock is asked for conditionally: a worker that queued behind a DROP EXTENSION would be in the way of whoever
 * comes next, and a DROP that queued behind a worker's long batch would stop it.
 */
#include "postgres.h"

#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/guc.h"

#include "base/guard.h"

bool
sophia_guard_extension(void)
{
	Oid extension = get_extension_oid("sophia_stack", true);

	if (!OidIsValid(extension))
		return false;
	if (!ConditionalLockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock))
		return false;

	/* It may have been dropped, and created anew, before the lock was there. */
	return get_extension_oid("sophia_stack", true) == extension;
}

void
sophia_guard_become(Oid owner, GuardState *state)
{
	GetUserIdAndSecContext(&state->user, &state->security_context);
	SetUserIdAndSecContext(owner, state->security_context | SECURITY_RESTRICTED_OPERATION |
									  SECURITY_LOCAL_USERID_CHANGE);
	state->guc_nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
sophia_guard_restore(const GuardState *state)
{
	AtEOXact_GUC(false, state->guc_nest_level);
	SetUserIdAndSecContext(state->user, state->security_context);
}

Oid
sophia_guard_caller(void)
{
	if (InSecurityRestrictedOperation())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot tell the caller within a security-restricted operation")));
	return GetOuterUserId();
}
