/*
 * errand_worker.c
 *		The process of an errand: see errand.h.
 *
 * The command of a job runs as a client's would who sent it as one string: at top level, so that a procedure may commit, and
 * several statements as one transaction.  The session is the owner's, so neither the command nor what it calls
 * can get at other rights; the record of the run is written as the superuser, before and after the command.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "base/compat.h"
#include "base/guard.h"
#include "store/errand.h"
#include "store/statement.h"

static void
answer(Errand *errand, int sqlstate, const char *text)
{
	if (strlen(text) >= ERRAND_ANSWER_SIZE && sqlstate == 0)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("answer of a background worker is too long")));
	strlcpy(errand->answer, text, ERRAND_ANSWER_SIZE);
	errand->sqlstate = sqlstate;
	errand->answered = true;
}

/* Ends the transaction of the error that is being handled, logs it and returns a copy in this context. */
static ErrorData *
take_error(MemoryContext context)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	EmitErrorReport();
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(context);
	FlushErrorState();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
	return error;
}

/* ---- a statement in another database ---- */

static void
run_statement(Errand *errand)
{
	char *value = NULL;

	sophia_transaction_begin("sophia_stack errand");
	if (SPI_execute(errand->text, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", errand->text);
	if (SPI_tuptable != NULL && SPI_processed > 0)
		value = sophia_result_text(0, 1);
	answer(errand, 0, value ? value : "");
	if (errand->kind == ERRAND_TRIAL)
		AbortCurrentTransaction();
	else
		sophia_transaction_commit(TopMemoryContext);
}

/* ---- the run of a job ---- */

static void
start_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
}

static void
commit_transaction(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	CommitTransactionCommand();
}

static List *
plan_statement(RawStmt *tree, const char *command)
{
	bool snapshot = analyze_requires_snapshot(tree);
	List *plans;

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	plans = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(tree, command, NULL, 0, NULL),
							command, CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();
	return plans;
}

static void
run_portal(RawStmt *tree, const char *command)
{
	Portal portal = CreatePortal("", true, true);
	QueryCompletion completion;

	portal->visible = false;
	PortalDefineQuery(portal, NULL, command, CreateCommandTag(tree->stmt),
					  plan_statement(tree, command), NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	(void) compat_portal_run(portal, &completion);
	PortalDrop(portal, false);
}

/* As exec_simple_query of the server does it. */
static void
run_command(const char *command, MemoryContext context)
{
	List *trees;
	ListCell *cell;
	bool several;
	bool started = true;

	start_transaction();
	MemoryContextSwitchTo(context);
	trees = pg_parse_query(command);
	several = list_length(trees) > 1;
	foreach(cell, trees)
	{
		RawStmt *tree = lfirst_node(RawStmt, cell);

		if (!started)
			start_transaction();
		started = true;
		MemoryContextSwitchTo(context);
		if (several)
			BeginImplicitTransactionBlock();
		CHECK_FOR_INTERRUPTS();
		run_portal(tree, command);
		if (lnext(trees, cell) == NULL && several)
			EndImplicitTransactionBlock();
		if (lnext(trees, cell) == NULL || IsA(tree->stmt, TransactionStmt))
		{
			commit_transaction();
			started = false;
		}
		else
			CommandCounterIncrement();
	}
	if (started)
		commit_transaction();
	if (IsTransactionOrTransactionBlock())
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("the command left a transaction open")));
}

/* Calls a function of the extension as the superuser; its columns in this context. */
static void
call_as_superuser(const char *sql, int n, Oid *types, Datum *values, const char *nulls,
				  char **columns, int n_columns, MemoryContext context)
{
	GuardState state;

	sophia_transaction_begin("sophia_stack job");
	sophia_guard_become(BOOTSTRAP_SUPERUSERID, &state);
	if (SPI_execute_with_args(sql, n, types, values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", sql);
	for (int i = 0; i < n_columns; i++)
	{
		char *value = sophia_result_text(0, i + 1);

		columns[i] = value ? MemoryContextStrdup(context, value) : NULL;
	}
	sophia_guard_restore(&state);
	sophia_transaction_commit(context);
}

/* columns: number of the run, its command; the command is NULL for a run that is skipped. */
static void
begin_run(Errand *errand, char **columns, MemoryContext context)
{
	Oid types[] = {TEXTOID, BOOLOID, INT4OID};
	Datum values[] = {CStringGetTextDatum(errand->text),
					  BoolGetDatum(errand->kind == ERRAND_JOB_NOW), Int32GetDatum(MyProcPid)};

	call_as_superuser("SELECT b.run, b.command FROM sophia.begin_job_run($1, $2, $3) AS b", 3,
					  types, values, NULL, columns, 2, context);
}

static void
end_run(Errand *errand, const char *run, const ErrorData *error, MemoryContext context)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID};
	Datum values[] = {DirectFunctionCall1(int8in, CStringGetDatum(run)), 0, 0};
	char *result;

	if (error)
	{
		values[1] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
		values[2] = CStringGetTextDatum(error->message);
	}
	call_as_superuser("SELECT sophia.end_job_run($1, $2, $3)::pg_catalog.text", 3, types, values,
					  error ? "   " : " nn", &result, 1, context);
	answer(errand, 0, result);
}

static void
run_job(Errand *errand, MemoryContext context)
{
	MemoryContext command_context =
		AllocSetContextCreate(context, "sophia_stack job command", ALLOCSET_DEFAULT_SIZES);
	ErrorData *volatile error = NULL;
	char *columns[2];

	begin_run(errand, columns, context);
	if (columns[1] != NULL)
	{
		PG_TRY();
		{
			debug_query_string = columns[1];
			pgstat_report_activity(STATE_RUNNING, columns[1]);
			run_command(columns[1], command_context);
		}
		PG_CATCH();
		{
			error = take_error(context);
		}
		PG_END_TRY();
		debug_query_string = NULL;
		MemoryContextSwitchTo(context);
	}
	end_run(errand, columns[0], error, context);
}

/* ---- the process ---- */

static void
run_errand(Errand *errand, MemoryContext context)
{
	PG_TRY();
	{
		if (errand->kind == ERRAND_JOB || errand->kind == ERRAND_JOB_NOW)
			run_job(errand, context);
		else
		{
			SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
			run_statement(errand);
		}
	}
	PG_CATCH();
	{
		ErrorData *error = take_error(context);

		answer(errand, error->sqlerrcode, error->message);
	}
	PG_END_TRY();
}

void
sophia_errand_main(Datum arg)
{
	dsm_handle handle = DatumGetUInt32(arg);
	dsm_segment *segment;
	Errand *errand;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	segment = dsm_attach(handle);
	if (segment == NULL)
		proc_exit(0); /* who asked is gone */
	errand = dsm_segment_address(segment);
	if (errand->pinned)
		dsm_unpin_segment(handle);

	BackgroundWorkerInitializeConnectionByOid(errand->database, errand->role, 0);
	pgstat_report_appname(MyBgworkerEntry->bgw_type);
	run_errand(errand, TopMemoryContext);
	proc_exit(0);
}
