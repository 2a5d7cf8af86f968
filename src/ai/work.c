/*
 * work.c
 *		The jobs worker's calls: see work.h.
 *
 * A batch is texts that make one call.  One short transaction takes it, another makes the call, no transaction is open while
 * it runs, and a last one hands the results in.  What a batch is of, only SQL knows (sql/69_queue.sql, 69_enrichment.sql): here
 * it is a handle that is given back with the results.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "ai/dispatch.h"
#include "ai/result.h"
#include "ai/work.h"
#include "base/guard.h"
#include "store/statement.h"

/* Where batches come from. */
typedef struct Source
{
	const char *activity;
	Statement take; /* gives handle, role, function, arguments, inputs; whether more is expected */
	const char *finish; /* takes the handle, and sophia.ai_result[], NULL = no outcome */
} Source;

typedef struct Batch
{
	Jsonb *handle; /* NULL = there is none */
	Oid role;
	char *function;
	Jsonb *arguments;
	ArrayType *inputs;
	int n;
} Batch;

static Source sources[] = {
	{"running AI jobs",
	 {"SELECT t.handle, t.role, t.function, t.arguments, t.inputs, t.expects FROM sophia.take_jobs() AS t",
	  0,
	  {0}},
	 "SELECT sophia.finish_jobs($1, $2)"},
	{"running enrichments",
	 {"SELECT t.handle, t.role, t.function, t.arguments, t.inputs, t.expects FROM sophia.take_enrichment() AS t",
	  0,
	  {0}},
	 "SELECT sophia.finish_enrichment($1, $2)"},
};

#define HAND_IN_MS 200 /* between two tries */

static volatile bool calling = false;

bool
sophia_work_is_calling(void)
{
	return calling;
}

/* Whether the extension is there, and stays until the end of the transaction that it begins. */
static bool
begin(const char *activity)
{
	sophia_transaction_begin(activity);
	return sophia_guard_extension();
}

/* ---- taking ---- */

/* A copy of a column of the only row in the given context; NULL where it is null. */
static void *
copy_column(int column, MemoryContext context)
{
	bool null;
	Datum value = sophia_result(0, column, &null);
	MemoryContext old = MemoryContextSwitchTo(context);
	void *copy = null ? NULL : PG_DETOAST_DATUM_COPY(value);

	MemoryContextSwitchTo(old);
	return copy;
}

static bool
result_bool(int column)
{
	bool null;
	Datum value = sophia_result(0, column, &null);

	return !null && DatumGetBool(value);
}

/* Takes a batch, committed as taken. */
static Batch
take_batch(Source *source, MemoryContext context, bool *expects)
{
	Batch batch = {0};
	bool null;

	if (begin(source->activity) && sophia_statement_run(&source->take, NULL, NULL) > 0)
	{
		*expects |= result_bool(6);
		batch.handle = copy_column(1, context);
		batch.role = DatumGetObjectId(sophia_result(0, 2, &null));
		batch.arguments = copy_column(4, context);
		batch.inputs = copy_column(5, context);
		if (batch.handle != NULL)
		{
			batch.function = MemoryContextStrdup(context, sophia_result_text(0, 3));
			batch.n = ArrayGetNItems(ARR_NDIM(batch.inputs), ARR_DIMS(batch.inputs));
		}
	}
	sophia_transaction_commit(context);
	return batch;
}

/* ---- calling ---- */

/* Every text of a batch whose result is NULL, by its other arguments. */
static void
skip_all(Call *call, int n)
{
	call->n = n;
	call->outcomes = palloc0(sizeof(Outcome) * n);
	for (int i = 0; i < n; i++)
		call->outcomes[i].skipped = true;
}

/* Makes the call of a batch; false where there is nothing to run, because all its outcomes are known. */
static bool
make_call(const Batch *batch, Call *call, MemoryContext context)
{
	volatile bool any = false;

	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		any = sophia_dispatch_make(call, batch->function, batch->arguments, batch->role,
								   batch->inputs);
		if (any)
			sophia_call_set_apart(call, batch->role);
		else
			skip_all(call, batch->n);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		call->n = batch->n;
		call->n_others = 0;
		call->inputs = palloc0(sizeof(TextSpan) * call->n);
		for (int i = 0; i < call->n; i++)
			call->inputs[i].text = "";
		if (!sophia_result_fail(call, error))
			PG_RE_THROW();
		FlushErrorState();
		any = false;
	}
	PG_END_TRY();
	return any;
}

/* Runs a call; a cancel, such as by the end of this process, leaves texts without outcome. */
static void
run_call(Call *call)
{
	pgstat_report_activity(STATE_RUNNING, "waiting for an AI provider");
	calling = true;
	sophia_dispatch_run(call);
	calling = false;
	LWLockReleaseAll();
	pgstat_report_wait_end();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* ---- results ---- */

static void
finish_batch(const Source *source, const Batch *batch, const Call *call)
{
	Oid types[] = {JSONBOID, sophia_dispatch_results_type()};
	Datum values[] = {JsonbPGetDatum(batch->handle), sophia_dispatch_results(call, batch->n)};

	if (SPI_execute_with_args(source->finish, 2, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not hand in the results of AI calls");
}

/* False where somebody is about to alter or drop the extension: it is tried again. */
static bool
hand_in(const Source *source, const Batch *batch, const Call *call, MemoryContext context)
{
	bool done = begin(source->activity);

	if (done)
		finish_batch(source, batch, call);
	else
		done = !OidIsValid(get_extension_oid("sophia_stack", true));
	sophia_transaction_commit(context);
	return done;
}

static bool
run_source(Source *source, MemoryContext context, bool *expects)
{
	Batch batch = take_batch(source, context, expects);
	Call call = {0};

	if (batch.handle == NULL)
		return false;
	if (begin(source->activity) && make_call(&batch, &call, context))
	{
		sophia_transaction_commit(context);
		run_call(&call);
	}
	else
		sophia_transaction_commit(context);
	while (!hand_in(source, &batch, &call, context))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, HAND_IN_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (ShutdownRequestPending)
			break;
	}
	MemoryContextReset(context);
	return true;
}

bool
sophia_work_turn(MemoryContext context, bool *expects)
{
	bool worked = false;

	for (size_t i = 0; i < lengthof(sources); i++)
		worked |= run_source(&sources[i], context, expects);
	return worked;
}

void
sophia_work_recover(MemoryContext context)
{
	static Statement recover = {"SELECT sophia.recover_jobs()", 0, {0}};

	if (begin("taking up AI jobs"))
		(void) sophia_statement_run(&recover, NULL, NULL);
	sophia_transaction_commit(context);
}
