/*
 * task.h
 *		Functions with a task of their own: what they ask a provider, and what its answer means.
 */
#ifndef SOPHIA_TASK_H
#define SOPHIA_TASK_H

#include "postgres.h"

#include "ai/call.h"
#include "utils/jsonb.h"

/* What a task gives. */
typedef enum TaskValue
{
	TASK_SCORE,	  /* float8 from -1 to 1 */
	TASK_TEXT,	  /* text */
	TASK_LABEL,	  /* text, one of those that are allowed */
	TASK_TRUTH,	  /* boolean, NULL = undecided */
	TASK_ANSWERS, /* jsonb, [{answer, score}] */
	TASK_SUMMARY, /* sophia.summary_detail */
	TASK_JSON	  /* jsonb, by the schema of the call */
} TaskValue;

typedef struct Task
{
	const char *function; /* its name in SQL */
	const char *prompt;	  /* what its prompts are kept under */
	const char *member;	  /* of the answer's object */
	TaskValue value;
	bool splits; /* a text that is too long is worked on in parts */
} Task;

/* A task, and what is fixed for all texts of a call. */
typedef struct TaskCall
{
	const Task *task;
	Datum arguments; /* jsonb: an object of those other than text, model and options */
	Jsonb *schema;	 /* of the answer, TASK_JSON only */
	const char *const *labels;
	int n_labels;
} TaskCall;

/* The task of a function, or NULL. */
extern const Task *sophia_task_find(const char *function);

/*
 * Makes a call of a task for its texts, whose n and inputs are set: finds prompt and profile.
 * `options` is jsonb, 0 = none.  Raises errors that meet the whole call: an unknown model, a schema that cannot be used.
 */
extern void sophia_task_make(Call *call, TaskCall *task, const char *model, Datum options);

/* Raises 22023 where values cannot be checked against a schema. */
extern void sophia_task_check_schema(Jsonb *schema);

/* ---- parts.c ---- */

/* The same as sophia_call_send(), where a text that is too long for its model is worked on in parts. */
extern void sophia_parts_run(Call *call);

#endif /* SOPHIA_TASK_H */
