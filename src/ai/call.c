/*
 * call.c
 *		A call of a provider for one text or many: see call.h.
 *
 * Its texts become jobs, one request each: for a chat each distinct text, for embeddings packs of them.  A pack that the
 * provider refuses is halved until the text is found that it does not take; the others get their vectors.  A statement of a
 * Snowflake account is a pack, too.  What is sent stands in call_request.c, what comes back in call_answer.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "ai/run.h"

/* Requests that a session has under way beyond those that may be at the provider. */
#define WINDOW 32

/* ---- which texts are sent ---- */

void
sophia_run_fail(Outcome *outcome, int sqlstate, const char *message)
{
	outcome->sqlstate = sqlstate;
	outcome->message = pstrdup(message);
}

static bool
is_blank(TextSpan text)
{
	for (size_t i = 0; i < text.length; i++)
	{
		if (strchr(" \t\n\r\f\v", text.text[i]) == NULL)
			return false;
	}
	return true;
}

/* Tokens of a text by the rule of thumb, 4 bytes each. */
size_t
sophia_run_tokens_of(size_t bytes)
{
	return bytes / 4;
}

/* Whether a text is surely more than the model takes, by its limit. */
static bool
exceeds_context(const Call *call, TextSpan text)
{
	size_t before = call->prompt != NULL ? strlen(call->prompt->instructions) : 0;

	return call->kind != CALL_TOKENS && call->profile->context_tokens != 0 &&
		   sophia_run_tokens_of(before + text.length) > (size_t) call->profile->context_tokens;
}

void
sophia_run_estimate(Outcome *outcome, TextSpan text)
{
	outcome->count = sophia_run_tokens_of(text.length + 3);
	outcome->estimated = true;
}

bool
sophia_run_is_snowflake(const Profile *profile)
{
	return strcmp(profile->kind, "snowflake") == 0;
}

bool
sophia_call_asks_statement(const Call *call)
{
	return call->prompt != NULL && strcmp(call->prompt->kind, "snowflake") == 0;
}

/* Settles what needs no provider; false where the text is to be sent. */
static bool
settle_early(const Call *call, Outcome *outcome, TextSpan text)
{
	outcome->tokens_in = outcome->tokens_out = -1;
	if (text.text == NULL)
		outcome->skipped = true;
	else if (is_blank(text))
		sophia_run_fail(outcome, ERRCODE_INVALID_PARAMETER_VALUE, "the text is empty");
	else if (text.length > REQUEST_BODY_BYTES / 2)
		sophia_run_fail(
			outcome, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			psprintf("the text has %zu bytes, more than %d", text.length, REQUEST_BODY_BYTES / 2));
	else if (exceeds_context(call, text))
		sophia_run_fail(
			outcome, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			psprintf("the text has about %zu tokens, too many for the %d of model \"%s\"",
					 sophia_run_tokens_of(text.length), call->profile->context_tokens,
					 call->profile->model));
	else if (call->kind == CALL_TOKENS && call->profile->estimates_tokens)
		sophia_run_estimate(outcome, text);
	else
		return false;
	return true;
}

static int
compare_texts(const void *a, const void *b, void *arg)
{
	const TextSpan *inputs = arg;
	int i = *(const int *) a;
	int j = *(const int *) b;
	int order;

	if (inputs[i].length != inputs[j].length)
		return inputs[i].length < inputs[j].length ? -1 : 1;
	order = memcmp(inputs[i].text, inputs[j].text, inputs[i].length);
	return order != 0 ? order : i - j;
}

static bool
equal_texts(TextSpan a, TextSpan b)
{
	return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

/*
 * first_of[i] becomes the index of the first text that equals text i, -1 for one that is not sent.  The texts that are their
 * own first become run->order.
 */
static void
find_distinct(Run *run, int *first_of)
{
	Call *call = run->call;
	int *sorted = palloc(sizeof(int) * call->n);
	int n = 0;

	for (int i = 0; i < call->n; i++)
	{
		first_of[i] = -1;
		if (!settle_early(call, &call->outcomes[i], call->inputs[i]))
			sorted[n++] = i;
	}
	qsort_arg(sorted, n, sizeof(int), compare_texts, call->inputs);
	for (int k = 0; k < n; k++)
	{
		bool same = k > 0 && equal_texts(call->inputs[sorted[k]], call->inputs[sorted[k - 1]]);

		first_of[sorted[k]] = same ? first_of[sorted[k - 1]] : sorted[k];
	}
	run->order = sorted; /* its content is no longer needed */
	for (int i = 0; i < call->n; i++)
	{
		if (first_of[i] == i)
			run->order[run->n_order++] = i;
	}
}

void
sophia_run_add_job(Run *run, int from, int n)
{
	if (run->n_jobs == run->max_jobs)
	{
		run->max_jobs = Max(64, run->max_jobs * 2);
		run->jobs = run->jobs == NULL ? palloc(sizeof(Job) * run->max_jobs)
									  : repalloc(run->jobs, sizeof(Job) * run->max_jobs);
	}
	run->jobs[run->n_jobs] = (Job){.from = from, .n = n};
	if (sophia_call_asks_statement(run->call))
		sophia_snowflake_sql_id(run->jobs[run->n_jobs].id);
	run->n_jobs++;
}

/* Packs the texts in their order, within the limits of the model. */
static void
make_jobs(Run *run)
{
	const Call *call = run->call;
	bool packs = call->kind == CALL_EMBED || sophia_call_asks_statement(call);
	int most = packs ? call->profile->pack_items : 1;

	for (int from = 0, n; from < run->n_order; from += n)
	{
		size_t bytes = call->inputs[run->order[from]].length;

		for (n = 1; n < most && from + n < run->n_order; n++)
		{
			bytes += call->inputs[run->order[from + n]].length;
			if (bytes > (size_t) call->profile->pack_bytes)
				break;
		}
		sophia_run_add_job(run, from, n);
	}
}

/* ---- the whole ---- */

/* What was not sent any more fails as the one did that everything would fail by. */
static void
fail_unsent(Run *run)
{
	for (int place = run->next_job; place < run->n_jobs; place++)
	{
		for (int i = 0; i < run->jobs[place].n && !run->jobs[place].answered; i++)
		{
			Outcome *outcome = &run->call->outcomes[run->order[run->jobs[place].from + i]];

			/* an earlier partition may have told of it */
			if (outcome->sqlstate == 0 && outcome->text.text == NULL)
				*outcome = *run->fatal;
		}
	}
}

/* Whether a provider bills such a call. */
static bool
is_billed(const Call *call)
{
	return call->kind == CALL_CHAT || call->kind == CALL_EMBED;
}

static double
budget_of(const Call *call)
{
	return call->apart != NULL ? call->apart->budget : sophia_budget_left(sophia_call_role(call));
}

/* Asks the model of the call's profile. */
static void
ask_model(Call *call)
{
	Run run = {.exchange = {.next = sophia_run_next, .take = sophia_run_take}, .call = call};
	int *first_of = palloc(sizeof(int) * call->n);

	run.context = CurrentMemoryContext;
	run.exchange.window = WINDOW + 2 * call->profile->in_flight;
	/* Embeddings cost little, and do nothing; of a chat it is not known whether it was paid for. */
	run.exchange.again =
		call->kind == CALL_CHAT && !sophia_call_asks_statement(call) ? NULL : sophia_run_send_again;
	run.base = sophia_run_last_number;
	run.left = is_billed(call) ? budget_of(call) : get_float8_infinity();
	call->outcomes = palloc0(sizeof(Outcome) * call->n);
	for (int i = 0; i < call->n; i++)
		call->outcomes[i].profile = call->profile;
	find_distinct(&run, first_of);
	PG_TRY();
	{
		sophia_run_use_cache(&run);
		make_jobs(&run);
		if (run.n_jobs > 0 && !sophia_run_spends_too_much(&run))
			sophia_client_exchange(&run.exchange);
	}
	PG_FINALLY();
	{
		/* what was answered is billed, also where the call is cancelled meanwhile */
		if (is_billed(call))
			sophia_budget_keep(call, &run.used);
	}
	PG_END_TRY();
	fail_unsent(&run);
	for (int i = 0; i < call->n; i++)
	{
		if (first_of[i] >= 0 && first_of[i] != i)
			call->outcomes[i] = call->outcomes[first_of[i]];
	}
}

/* ---- fallback ---- */

/* Whether another model may do better: the provider has failed, refuses for its rate, or is not asked any more. */
static bool
wants_fallback(const Outcome *outcome)
{
	return outcome->sqlstate == ERRCODE_SYSTEM_ERROR ||
		   outcome->sqlstate == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED ||
		   outcome->sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

static Profile *
profile_of_fallback(const Call *call, const char *model)
{
	return sophia_profile_of_model(model, call->function, call->profile->call_options,
								   call->profile->has_call_options, false);
}

/* Asks another model for what has failed; its answer, or error, takes the place of the first one. */
static bool
fall_back(Call *call, int number, const char *model)
{
	Call other = *call;
	int *places = palloc(sizeof(int) * call->n);

	other.n = 0;
	other.inputs = palloc(sizeof(TextSpan) * call->n);
	for (int i = 0; i < call->n; i++)
	{
		if (!wants_fallback(&call->outcomes[i]))
			continue;
		places[other.n] = i;
		other.inputs[other.n++] = call->inputs[i];
	}
	if (other.n == 0)
		return false;
	other.profile = call->apart != NULL ? list_nth(call->apart->fallbacks, number)
										: profile_of_fallback(call, model);
	ask_model(&other);
	for (int i = 0; i < other.n; i++)
		call->outcomes[places[i]] = other.outcomes[i];
	return true;
}

void
sophia_call_send(Call *call)
{
	char *rest = pstrdup(call->profile->fallback);
	char *model;

	ask_model(call);
	/* a statement is no prompt for another kind of provider */
	for (int i = 0; call->kind == CALL_CHAT && !sophia_call_asks_statement(call) &&
					(model = strsep(&rest, "\n")) != NULL;
		 i++)
	{
		if (model[0] == '\0' || !fall_back(call, i, model))
			break;
	}
}

void
sophia_call_run(Call *call)
{
	if (call->send != NULL)
		call->send(call);
	else
		sophia_call_send(call);
	if (call->finish != NULL)
		call->finish(call);
}

Oid
sophia_call_role(const Call *call)
{
	return call->apart != NULL ? call->apart->role : GetOuterUserId();
}

void
sophia_call_set_apart(Call *call, Oid role)
{
	Apart *apart = palloc0(sizeof(Apart));
	char *rest = pstrdup(call->profile->fallback);
	char *model;

	apart->role = role;
	apart->role_name = GetUserNameFromId(role, true);
	if (apart->role_name == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role %u does not exist", role)));
	apart->budget = sophia_budget_left(role);
	while ((model = strsep(&rest, "\n")) != NULL && model[0] != '\0')
		apart->fallbacks = lappend(apart->fallbacks, profile_of_fallback(call, model));
	call->apart = apart;
}

void
sophia_call_raise(const Outcome *outcome)
{
	ereport(ERROR, (errcode(outcome->sqlstate), errmsg_internal("%s", outcome->message),
					outcome->detail != NULL ? errdetail_internal("%s", outcome->detail) : 0));
}

bool
sophia_call_cost(const Profile *profile, const Outcome *outcome, Datum *cost)
{
	Datum in = DirectFunctionCall1(int8_numeric, Int64GetDatum(Max(outcome->tokens_in, 0)));
	Datum out = DirectFunctionCall1(int8_numeric, Int64GetDatum(Max(outcome->tokens_out, 0)));
	Datum million = DirectFunctionCall1(int8_numeric, Int64GetDatum(1000000));
	Datum sum;

	if (!profile->has_price || outcome->tokens_in < 0)
		return false;
	sum = DirectFunctionCall2(numeric_add, DirectFunctionCall2(numeric_mul, in, profile->price_in),
							  DirectFunctionCall2(numeric_mul, out, profile->price_out));
	*cost = DirectFunctionCall1(numeric_trim_scale, DirectFunctionCall2(numeric_div, sum, million));
	return true;
}
