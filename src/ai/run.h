/*
 * run.h
 *		A call on its way to the provider of its model, for the files call*.c only.
 */
#ifndef SOPHIA_RUN_H
#define SOPHIA_RUN_H

#include "postgres.h"

#include "ai/budget.h"
#include "ai/cache.h"
#include "ai/call.h"
#include "ai/client.h"
#include "ai/snowflake_sql.h"

/* Distinct texts that travel together: places [from, from + n) of Run.order. */
typedef struct Job
{
	int from;
	int n;
	bool answered;
	char id[SQL_REQUEST_ID_BYTES]; /* of a statement; "" = none */
	char *handle;				   /* of a statement whose partition is asked for */
	int partition;				   /* 0 = the first, which comes with the statement's answer */
	int partitions;				   /* of the result; asked for one after the other */
	bool sent;
} Job;

typedef struct Run
{
	Exchange exchange; /* must come first */
	Call *call;
	MemoryContext context; /* of the outcomes */
	int *order;			   /* indexes of the texts that are sent, in their order */
	int n_order;
	Job *jobs; /* those that are answered stay; halves are added */
	int n_jobs;
	int max_jobs;
	int next_job;
	uint64 base;		  /* a job's request has number base + its place + 1 */
	const Outcome *fatal; /* what would meet every other text too */
	double left;		  /* of the budget, before the call */
	UsageCounts used;
	CacheUse cache;
	CacheKey *keys; /* of the texts, by their index; NULL = the call uses no cache */
	bool *found;	/* in it */
	int *stores;	/* indexes of answers that the cache's server is to keep */
	int n_stores;
	int next_store;
} Run;

/* Numbers of requests to store an answer, which nobody waits for but the channel, have this bit. */
#define STORE_BIT (UINT64CONST(1) << 63)

/* Number of the last request of this session. */
extern uint64 sophia_run_last_number;

/* ---- call.c ---- */

extern void sophia_run_fail(Outcome *outcome, int sqlstate, const char *message);
extern bool sophia_run_is_snowflake(const Profile *profile);

/* Tokens of so many bytes by the rule of thumb, and those of a text as its outcome. */
extern size_t sophia_run_tokens_of(size_t bytes);
extern void sophia_run_estimate(Outcome *outcome, TextSpan text);

extern void sophia_run_add_job(Run *run, int from, int n);

/* ---- call_request.c ---- */

/* Exchange.next, and Exchange.again: what was not answered is sent once more, under its own number. */
extern bool sophia_run_next(Exchange *exchange, StringInfo message);
extern void sophia_run_send_again(Exchange *exchange);

/* Ends a call whose own answers have used up the budget; those that are under way are still awaited. */
extern bool sophia_run_spends_too_much(Run *run);

/* ---- call_answer.c ---- */

/* Exchange.take */
extern void sophia_run_take(Exchange *exchange, const AnswerHeader *header, const char *body,
							Size length);

/* ---- call_cache.c ---- */

/* Looks for answers that were given before: in this statement, then in the cache's server. */
extern void sophia_run_use_cache(Run *run);

/* Keeps an answer for this statement, and has the cache's server keep it. */
extern void sophia_run_keep(Run *run, int i);

/* Writes the message that has the next answer kept, where one waits for it. */
extern bool sophia_run_next_store(Run *run, StringInfo message);

#endif /* SOPHIA_RUN_H */
