/*
 * guard.h
 *		What a worker makes sure of before it touches tables: that the extension is there and stays, and whose rights
 *		it acts with.
 */
#ifndef SOPHIA_GUARD_H
#define SOPHIA_GUARD_H

#include "postgres.h"

/* What sophia_guard_become changed; the caller keeps it. */
typedef struct GuardState
{
	Oid user;
	int security_context;
	int guc_nest_level;
} GuardState;

/*
 * Inside a transaction: whether the extension exists in this database; if so it is locked until the end of the
 * transaction, so that nobody drops or alters it meanwhile.  False also when somebody is about to: the caller then
 * leaves and tries again later.
 */
extern bool sophia_guard_extension(void);

/*
 * Acts as `owner`, with no more rights than the owner has, until sophia_guard_restore: in a security-restricted
 * context, where settings changed by the owner's code end with it, and with a search_path that only finds pg_catalog.
 * An error restores all of it too, with the transaction or subtransaction.
 */
extern void sophia_guard_become(Oid owner, GuardState *state);
extern void sophia_guard_restore(const GuardState *state);

/*
 * The role of the session, as SET ROLE left it, whoever's function runs.  An error where somebody else's code runs on its
 * behalf (an expression of an index, say, in the ANALYZE of a superuser), which must not pass for it.
 */
extern Oid sophia_guard_caller(void);

#endif /* SOPHIA_GUARD_H */
