/*
 * call_answer.c
 *		A call on its way: what its answers mean, see run.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "ai/run.h"

/* Whether an error tells of the provider rather than of the text. */
static bool
is_fatal(int sqlstate)
{
	return sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION ||
		   sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE;
}

static void
fail_text(Run *run, Outcome *outcome, const AnswerHeader *answer, int sqlstate, const char *message)
{
	const Profile *profile = run->call->profile;

	outcome->profile = profile;
	outcome->sqlstate = sqlstate;
	outcome->message = profile->model[0] != '\0'
						   ? psprintf("model \"%s\" of provider \"%s\": %s", profile->model,
									  profile->provider, message)
						   : psprintf("provider \"%s\": %s", profile->provider, message);
	outcome->detail = psprintf("Request %d." UINT64_FORMAT ", attempt %d, %d ms.", MyProcPid,
							   answer->number, answer->attempts, answer->elapsed_ms);
	outcome->ms = answer->elapsed_ms;
	if (is_fatal(sqlstate))
		run->fatal = outcome;
}

static void
fail_job(Run *run, const Job *job, const AnswerHeader *answer, int sqlstate, const char *message)
{
	for (int i = 0; i < job->n; i++)
		fail_text(run, &run->call->outcomes[run->order[job->from + i]], answer, sqlstate, message);
}

/* An equal share of the tokens of a pack; the first has what is left over. */
static int64
share_of(int64 tokens, int n, int i)
{
	return tokens < 0 ? -1 : tokens / n + (i == 0 ? tokens % n : 0);
}

static TextSpan
copy_text(TextSpan text)
{
	char *copy = MemoryContextAllocHuge(CurrentMemoryContext, text.length + 1);

	memcpy(copy, text.text, text.length);
	copy[text.length] = '\0';
	return (TextSpan){copy, text.length};
}

/* Lets the call make a value of a text. */
static void
read_text(Run *run, const AnswerHeader *header, Outcome *outcome)
{
	char *wrong = run->call->read != NULL ? run->call->read(run->call, outcome) : NULL;

	if (wrong != NULL)
		fail_text(run, outcome, header, ERRCODE_SYSTEM_ERROR, wrong);
}

static void
store_answer(Run *run, const Job *job, const AnswerHeader *header, const OpenaiAnswer *answer)
{
	for (int i = 0; i < job->n; i++)
	{
		Outcome *outcome = &run->call->outcomes[run->order[job->from + i]];

		outcome->profile = run->call->profile;
		outcome->ms = header->elapsed_ms;
		outcome->cached = header->shared;
		outcome->tokens_in = header->shared ? 0 : share_of(answer->tokens_in, job->n, i);
		outcome->tokens_out = header->shared ? 0 : share_of(answer->tokens_out, job->n, i);
		outcome->count = answer->count;
		if (run->call->kind != CALL_EMBED)
		{
			outcome->text = copy_text(answer->text);
			outcome->cut = answer->cut;
			read_text(run, header, outcome);
			continue;
		}
		outcome->dimensions = answer->dimensions;
		outcome->vector = palloc(sizeof(float) * answer->dimensions);
		memcpy(outcome->vector, answer->vectors[i], sizeof(float) * answer->dimensions);
	}
}

/* Says why the vectors are not those that are wanted, NULL: they are. */
static const char *
dimension_problem(const Call *call, const OpenaiAnswer *answer, int *sqlstate)
{
	if (call->kind != CALL_EMBED)
		return NULL;
	if (call->dimensions != 0 && answer->dimensions != call->dimensions)
	{
		*sqlstate = ERRCODE_INVALID_PARAMETER_VALUE;
		return psprintf("its embeddings have %d dimensions, not %d", answer->dimensions,
						call->dimensions);
	}
	if (call->profile->dimensions != 0 && answer->dimensions != call->profile->dimensions)
	{
		*sqlstate = ERRCODE_SYSTEM_ERROR;
		return psprintf("its embeddings have %d dimensions, but the model is declared with %d",
						answer->dimensions, call->profile->dimensions);
	}
	return NULL;
}

static bool
read_answer(const Run *run, const Job *job, const AnswerHeader *header, const char *body,
			Size length, Arena *arena, OpenaiAnswer *answer, OpenaiProblem *problem)
{
	switch (run->call->kind)
	{
		case CALL_CHAT:
			return sophia_openai_chat_answer(answer, problem, arena, header->status, body, length);
		case CALL_EMBED:
			return sophia_openai_embedding_answer(answer, problem, arena, header->status, body,
												  length, job->n);
		case CALL_TOKENS:
			return sophia_openai_tokens_answer(answer, problem, arena, header->status, body, length);
		case CALL_MODELS:
			break;
	}
	return sophia_openai_models_answer(answer, problem, arena, header->status, body, length);
}

/* ---- answers of statements ---- */

static int
sqlstate_of(const OpenaiProblem *problem)
{
	return MAKE_SQLSTATE(problem->sqlstate[0], problem->sqlstate[1], problem->sqlstate[2],
						 problem->sqlstate[3], problem->sqlstate[4]);
}

static void
halve_job(Run *run, const Job *job)
{
	sophia_run_add_job(run, job->from, job->n / 2);
	sophia_run_add_job(run, job->from + job->n / 2, job->n - job->n / 2);
}

/* Whether a row has told of a text, or it has failed. */
static bool
is_settled(const Outcome *outcome)
{
	return outcome->sqlstate != 0 || outcome->text.text != NULL;
}

static void
fail_row(Run *run, Outcome *outcome, const AnswerHeader *header, TextSpan error)
{
	char text[251] = "it gives no value for the text, and does not say why";
	bool too_large = error.text != NULL && sophia_openai_too_large(error.text, error.length);

	if (error.text != NULL)
		sophia_openai_clip(text, sizeof(text), error.text, error.length);
	fail_text(run, outcome, header,
			  too_large ? ERRCODE_PROGRAM_LIMIT_EXCEEDED : ERRCODE_SYSTEM_ERROR, text);
}

/* What a row says of its text.  The account tells no tokens, so they are estimated. */
static void
take_row(Run *run, const Job *job, const AnswerHeader *header, const SqlRow *row)
{
	int place = run->order[job->from + row->index];
	Outcome *outcome = &run->call->outcomes[place];

	if (is_settled(outcome))
		return;
	outcome->profile = run->call->profile;
	outcome->ms = header->elapsed_ms;
	outcome->tokens_in = sophia_run_tokens_of(run->call->inputs[place].length + 3);
	outcome->tokens_out = 0;
	if (row->value.text == NULL)
		fail_row(run, outcome, header, row->error);
	else
	{
		outcome->text = copy_text(row->value);
		outcome->tokens_out = sophia_run_tokens_of(row->value.length + 3);
		if (run->call->kind == CALL_TOKENS)
			outcome->count = strtoll(outcome->text.text, NULL, 10);
		read_text(run, header, outcome);
	}
	sophia_budget_count(&run->used, run->call->profile, outcome);
	sophia_run_keep(run, place);
}

/* Fails those texts of a statement that no row told of. */
static void
fail_missing(Run *run, const Job *job, const AnswerHeader *header, int sqlstate, const char *message)
{
	for (int i = 0; i < job->n; i++)
	{
		Outcome *outcome = &run->call->outcomes[run->order[job->from + i]];

		if (is_settled(outcome))
			continue;
		fail_text(run, outcome, header, sqlstate, message);
		sophia_budget_count(&run->used, run->call->profile, outcome);
	}
}

/* Asks for the next partition of a result; false where there is none. */
static bool
ask_partition(Run *run, const Job *job, const SqlAnswer *answer)
{
	int partitions = job->handle != NULL ? job->partitions : answer->partitions;
	Job *next;

	if (job->partition + 1 >= partitions || (job->handle == NULL && answer->handle.text == NULL))
		return false;
	sophia_run_add_job(run, job->from, job->n);
	next = &run->jobs[run->n_jobs - 1];
	next->handle =
		job->handle != NULL ? job->handle : pnstrdup(answer->handle.text, answer->handle.length);
	next->partition = job->partition + 1;
	next->partitions = partitions;
	return true;
}

/* Counts what it settles. */
static void
take_statement(Run *run, const Job *job, const AnswerHeader *header, const char *body, Size length)
{
	static Arena arena; /* reset before each use, so that an error leaves nothing behind */
	SqlAnswer answer;
	OpenaiProblem problem;

	sophia_arena_reset(&arena);
	if (!sophia_snowflake_sql_answer(&answer, &problem, &arena, header->status, body, length))
	{
		if (problem.too_many && job->n > 1 && job->handle == NULL)
			halve_job(run, job);
		else
			fail_missing(run, job, header, sqlstate_of(&problem), problem.message);
		return;
	}
	for (int i = 0; i < answer.n_rows; i++)
	{
		if (answer.rows[i].index >= 0 && answer.rows[i].index < job->n)
			take_row(run, job, header, &answer.rows[i]);
	}
	if (!ask_partition(run, job, &answer))
		fail_missing(run, job, header, ERRCODE_SYSTEM_ERROR, "the answer lacks the row of the text");
}

/* Whether a status says that there is no such service. */
static bool
lacks_service(int status)
{
	return status == 404 || status == 405 || status == 501;
}

/* False where the texts of the job are sent again, in halves. */
static bool
take_body(Run *run, const Job *job, const AnswerHeader *header, const char *body, Size length)
{
	static Arena arena; /* reset before each use, so that an error leaves nothing behind */
	OpenaiAnswer answer;
	OpenaiProblem problem;
	const char *wrong;
	int sqlstate;

	sophia_arena_reset(&arena);
	if (run->call->kind == CALL_TOKENS && lacks_service(header->status))
	{
		sophia_run_estimate(&run->call->outcomes[run->order[job->from]],
							run->call->inputs[run->order[job->from]]);
		return true;
	}
	if (!read_answer(run, job, header, body, length, &arena, &answer, &problem))
	{
		if (problem.too_many && job->n > 1)
		{
			halve_job(run, job);
			return false;
		}
		fail_job(run, job, header, sqlstate_of(&problem), problem.message);
		return true;
	}
	wrong = dimension_problem(run->call, &answer, &sqlstate);
	if (wrong != NULL)
		fail_job(run, job, header, sqlstate, wrong);
	else
		store_answer(run, job, header, &answer);
	return true;
}

static void
count_job(Run *run, const Job *job)
{
	for (int i = 0; i < job->n; i++)
		sophia_budget_count(&run->used, run->call->profile,
							&run->call->outcomes[run->order[job->from + i]]);
}

/* Exchange.take */
void
sophia_run_take(Exchange *exchange, const AnswerHeader *header, const char *body, Size length)
{
	Run *run = (Run *) exchange;
	Job job;
	MemoryContext old;
	bool done = true;

	if ((header->number & STORE_BIT) != 0)
		return;
	job = run->jobs[header->number - run->base - 1];
	old = MemoryContextSwitchTo(run->context);
	run->jobs[header->number - run->base - 1].answered = true;
	if (sophia_call_asks_statement(run->call))
	{
		if (header->sqlstate != 0)
			fail_missing(run, &job, header, header->sqlstate, pnstrdup(body, length));
		else
			take_statement(run, &job, header, body, length);
		done = false;
	}
	else if (header->sqlstate != 0)
		fail_job(run, &job, header, header->sqlstate, pnstrdup(body, length));
	else
		done = take_body(run, &job, header, body, length);
	if (done)
		count_job(run, &job);
	for (int i = 0; done && i < job.n; i++)
		sophia_run_keep(run, run->order[job.from + i]);
	MemoryContextSwitchTo(old);
}
