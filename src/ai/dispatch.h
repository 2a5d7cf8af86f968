/*
 * dispatch.h
 *		AI functions by name, with their arguments as a JSON array: for the queue, for enrichments and for ai_map.
 *
 * Texts that share function and all other arguments become one call.  It is made in a transaction and may run without one, so
 * that none is open while a provider works.
 */
#ifndef SOPHIA_DISPATCH_H
#define SOPHIA_DISPATCH_H

#include "postgres.h"

#include "ai/call.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/*
 * Place of the text among the arguments of such a call, from 0.  Raises 42883 where there is no function of that name and these
 * arguments, 42501 where `role` must not call it, 22023 where `arguments` is no array.
 */
extern int sophia_dispatch_check(const char *function, Jsonb *arguments, Oid role);

/*
 * Makes the call of a function for many texts, which stand for the argument at `place`; that of `arguments` itself only tells
 * what it is like.  False where its result is NULL for each.  What the call needs is palloc'ed in the current memory
 * context.
 */
extern bool sophia_dispatch_make(Call *call, const char *function, Jsonb *arguments, Oid role,
								 ArrayType *inputs);

/*
 * Runs a call that was set apart, without a transaction.  Errors become outcomes; where it was cut short, those of its texts
 * that have none stay open.
 */
extern void sophia_dispatch_run(Call *call);

/* Whether a text has no outcome. */
extern bool sophia_dispatch_is_open(const Outcome *outcome);

/* sophia.ai_result[] of the first n outcomes, NULL for those that are open, and its type. */
extern Datum sophia_dispatch_results(const Call *call, int n);
extern Oid sophia_dispatch_results_type(void);

#endif /* SOPHIA_DISPATCH_H */
