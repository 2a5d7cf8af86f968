/*
 * budget.h
 *		What the calling role may still spend, and what a call has used.
 */
#ifndef SOPHIA_BUDGET_H
#define SOPHIA_BUDGET_H

#include "postgres.h"

#include "ai/call.h"
#include "shared/usage.h"

/* What is left of the tightest budget of a role, in the currency of prices; infinity where it has none. */
extern double sophia_budget_left(Oid role);

/* The message of a call that ends because its budget does; palloc'ed. */
extern char *sophia_budget_problem(const Call *call);

/* Counts what an outcome that came from the provider has used. */
extern void sophia_budget_count(UsageCounts *counts, const Profile *profile, const Outcome *outcome);

/* Keeps what a call has used, for sophia.ai_usage.  Raises no error. */
extern void sophia_budget_keep(const Call *call, const UsageCounts *counts);

#endif /* SOPHIA_BUDGET_H */
