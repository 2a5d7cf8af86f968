/*
 * call.c
 *		A call of a provider for one text or many: see call.h.
 *
 * Its texts become jobs, one request each: for a chat each distinct text, for embeddings packs of them.  A pack that the
 * provider refuses is halved until the text is found that it does not take; the others get their vectors.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "ai/budget.h"
#include "ai/cache.h"
#include "ai/call.h"
#include "ai/client.h"
#include "ai/snowflake.h"

/* Distinct texts that travel together: places [from, from + n) of Run.order. */
typedef struct Job
{
	int from;
	int n;
	bool answered;
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

/* Requests that a session has under way beyond those that may be at the provider. */
#define WINDOW 32

/* Number of the last request of this session. */
static uint64 last_number = 0;

/* ---- which texts are sent ---- */

static void
fail(Outcome *outcome, int sqlstate, const char *message)
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
static size_t
estimated_tokens(size_t bytes)
{
	return bytes / 4;
}

/* Whether a text is surely more than the model takes, by its limit. */
static bool
exceeds_context(const Call *call, TextSpan text)
{
	size_t before = call->prompt != NULL ? strlen(call->prompt->instructions) : 0;

	return call->kind != CALL_TOKENS && call->profile->context_tokens != 0 &&
		   estimated_tokens(before + text.length) > (size_t) call->profile->context_tokens;
}

static void
estimate(Outcome *outcome, TextSpan text)
{
	outcome->count = estimated_tokens(text.length + 3);
	outcome->estimated = true;
}

static bool
is_snowflake(const Profile *profile)
{
	return strcmp(profile->kind, "snowflake") == 0;
}

/* Settles what needs no provider; false where the text is to be sent. */
static bool
settle_early(const Call *call, Outcome *outcome, TextSpan text)
{
	outcome->tokens_in = outcome->tokens_out = -1;
	if (text.text == NULL)
		outcome->skipped = true;
	else if (is_blank(text))
		fail(outcome, ERRCODE_INVALID_PARAMETER_VALUE, "the text is empty");
	else if (text.length > REQUEST_BODY_BYTES / 2)
		fail(outcome, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			 psprintf("the text has %zu bytes, more than %d", text.length, REQUEST_BODY_BYTES / 2));
	else if (exceeds_context(call, text))
		fail(outcome, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			 psprintf("the text has about %zu tokens, too many for the %d of model \"%s\"",
					  estimated_tokens(text.length), call->profile->context_tokens,
					  call->profile->model));
	else if (call->kind == CALL_TOKENS && call->profile->estimates_tokens)
		estimate(outcome, text);
	else if (call->kind == CALL_TOKENS && is_snowflake(call->profile))
		estimate(outcome, text);
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

static void
add_job(Run *run, int from, int n)
{
	if (run->n_jobs == run->max_jobs)
	{
		run->max_jobs = Max(64, run->max_jobs * 2);
		run->jobs = run->jobs == NULL ? palloc(sizeof(Job) * run->max_jobs)
									  : repalloc(run->jobs, sizeof(Job) * run->max_jobs);
	}
	run->jobs[run->n_jobs++] = (Job){.from = from, .n = n};
}

/* Packs the texts in their order, within the limits of the model. */
static void
make_jobs(Run *run)
{
	const Call *call = run->call;
	int most = call->kind == CALL_EMBED ? call->profile->pack_items : 1;

	for (int from = 0, n; from < run->n_order; from += n)
	{
		size_t bytes = call->inputs[run->order[from]].length;

		for (n = 1; n < most && from + n < run->n_order; n++)
		{
			bytes += call->inputs[run->order[from + n]].length;
			if (bytes > (size_t) call->profile->pack_bytes)
				break;
		}
		add_job(run, from, n);
	}
}

/* ---- requests ---- */

static bool
write_body(const Run *run, const Job *job, ByteBuffer *body)
{
	const Call *call = run->call;
	const Profile *profile = call->profile;
	TextSpan *texts;

	if (call->kind == CALL_MODELS)
		return true;
	if (call->kind == CALL_CHAT)
		return sophia_openai_chat_request(
			body, profile->remote_name, call->prompt != NULL ? call->prompt->instructions : NULL,
			call->inputs[run->order[job->from]], call->messages, profile->options);
	if (call->kind == CALL_TOKENS)
		return sophia_openai_tokens_request(body, profile->remote_name,
											call->inputs[run->order[job->from]]);
	texts = palloc(sizeof(TextSpan) * job->n);
	for (int i = 0; i < job->n; i++)
		texts[i] = call->inputs[run->order[job->from + i]];
	if (is_snowflake(profile))
		return sophia_snowflake_embedding_request(body, profile->remote_name, texts, job->n);
	return sophia_openai_embedding_request(body, profile->remote_name, texts, job->n,
										   profile->options);
}

static void
append_request(StringInfo message, const Run *run, uint64 number, const char *path,
			   const char *health, const ByteBuffer *body)
{
	const Profile *profile = run->call->profile;
	const char *texts[REQUEST_TEXTS] = {
		[TEXT_PROVIDER] = profile->provider,
		[TEXT_ADDRESS] = profile->addresses,
		[TEXT_SECRET] = profile->secret,
		[TEXT_CA_FILE] = profile->ca_file,
		[TEXT_HEALTH] = health,
		[TEXT_AUTH] = profile->auth,
		[TEXT_PATH] = path,
		[TEXT_MODEL] = profile->model,
		[TEXT_FUNCTION] = run->call->function,
	};
	RequestHeader header = {
		.number = number,
		.generation = profile->generation,
		.database = MyDatabaseId,
		.role = GetOuterUserId(),
		.timeout_ms = profile->timeout_ms,
		.attempts = profile->attempts,
		.connections = profile->connections,
		.min_connections = profile->min_connections,
		.idle_ms = profile->idle_ms,
		.in_flight = profile->in_flight,
		.breaker_failures = profile->breaker_failures,
		.breaker_ms = profile->breaker_ms,
		.queue_bytes = profile->queue_bytes,
		.repeatable = run->call->kind != CALL_CHAT,
		.post = run->call->kind != CALL_MODELS,
		.body_length = buffer_size(body),
	};

	for (int i = 0; i < REQUEST_TEXTS; i++)
		header.lengths[i] = strlen(texts[i]);
	appendBinaryStringInfo(message, (char *) &header, sizeof(header));
	for (int i = 0; i < REQUEST_TEXTS; i++)
		appendBinaryStringInfo(message, texts[i], header.lengths[i] + 1);
	if (header.body_length > 0)
		appendBinaryStringInfo(message, buffer_bytes(body), header.body_length);
}

static bool
write_path(const Call *call, ByteBuffer *path)
{
	static const char *const services[] = {
		[CALL_CHAT] = "chat/completions", [CALL_EMBED] = "embeddings", [CALL_MODELS] = "models"};
	static const char *const cortex[] = {[CALL_CHAT] = "/api/v2/cortex/v1/chat/completions",
										 [CALL_EMBED] = "/api/v2/cortex/inference:embed",
										 [CALL_MODELS] = "/api/v2/cortex/models"};
	const char *address = call->profile->address;

	if (is_snowflake(call->profile))
		return sophia_buffer_append(path, cortex[call->kind], strlen(cortex[call->kind]) + 1);
	return sophia_openai_path(path, address,
							  call->kind == CALL_TOKENS ? sophia_openai_tokens_service(address)
														: services[call->kind]);
}

/* A Snowflake account is not checked: what it is asked for is billed. */
static bool
write_health_path(const Call *call, ByteBuffer *path)
{
	if (is_snowflake(call->profile))
		return sophia_buffer_append(path, "", 1);
	return sophia_openai_path(path, call->profile->address, "models");
}

static void
write_request(const Run *run, int place, StringInfo message)
{
	static ByteBuffer body; /* kept, so that an error leaves nothing behind */
	static ByteBuffer path;
	static ByteBuffer health;

	sophia_buffer_clear(&body);
	sophia_buffer_clear(&path);
	sophia_buffer_clear(&health);
	if (!write_body(run, &run->jobs[place], &body) || !write_path(run->call, &path) ||
		!write_health_path(run->call, &health))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	append_request(message, run, run->base + place + 1, buffer_bytes(&path), buffer_bytes(&health),
				   &body);
}

/* Ends a call whose own answers have used up the budget; those that are under way are still awaited. */
static bool
spends_too_much(Run *run)
{
	MemoryContext old;
	Outcome *outcome;

	if (run->used.cost / 1e12 < run->left)
		return false;
	old = MemoryContextSwitchTo(run->context);
	outcome = palloc0(sizeof(Outcome));
	fail(outcome, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, sophia_budget_problem());
	outcome->detail = pstrdup("See sophia.budget_status.");
	MemoryContextSwitchTo(old);
	run->fatal = outcome;
	return true;
}

/* Has the next answer kept, where one waits for it. */
static bool
next_store(Run *run, StringInfo message)
{
	StringInfoData value;
	int i;
	bool packed;

	if (run->next_store == run->n_stores)
		return false;
	i = run->stores[run->next_store++];
	initStringInfo(&value);
	packed = sophia_cache_pack(run->call, &run->call->outcomes[i], &value);
	if (packed)
		sophia_cache_write_store(&run->cache, &run->keys[i], run->call->profile->cache_ttl, &value,
								 STORE_BIT | run->next_store, message);
	pfree(value.data);
	return packed;
}

/* Exchange.next */
static bool
next_request(Exchange *exchange, StringInfo message)
{
	Run *run = (Run *) exchange;

	if (next_store(run, message))
		return true;
	while (run->next_job < run->n_jobs && run->jobs[run->next_job].answered)
		run->next_job++;
	if (run->fatal != NULL || run->next_job == run->n_jobs || spends_too_much(run))
		return false;
	CHECK_FOR_INTERRUPTS();
	write_request(run, run->next_job++, message);
	last_number = Max(last_number, run->base + run->next_job);
	return true;
}

/* Exchange.again: what was not answered is sent once more, under its own number. */
static void
send_again(Exchange *exchange)
{
	((Run *) exchange)->next_job = 0;
}

/* ---- answers ---- */

/* Whether an error tells of the provider rather than of the text. */
static bool
is_fatal(int sqlstate)
{
	return sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION ||
		   sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE;
}

static void
fail_job(Run *run, const Job *job, const AnswerHeader *answer, int sqlstate, const char *message)
{
	const Profile *profile = run->call->profile;

	for (int i = 0; i < job->n; i++)
	{
		Outcome *outcome = &run->call->outcomes[run->order[job->from + i]];

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
read_text(Run *run, const Job *job, const AnswerHeader *header, Outcome *outcome)
{
	char *wrong = run->call->read != NULL ? run->call->read(run->call, outcome) : NULL;

	if (wrong != NULL)
		fail_job(run, job, header, ERRCODE_SYSTEM_ERROR, wrong);
}

static void
store_answer(Run *run, const Job *job, const AnswerHeader *header, const OpenaiAnswer *answer)
{
	for (int i = 0; i < job->n; i++)
	{
		Outcome *outcome = &run->call->outcomes[run->order[job->from + i]];

		outcome->profile = run->call->profile;
		outcome->ms = header->elapsed_ms;
		outcome->tokens_in = share_of(answer->tokens_in, job->n, i);
		outcome->tokens_out = share_of(answer->tokens_out, job->n, i);
		outcome->count = answer->count;
		if (run->call->kind != CALL_EMBED)
		{
			outcome->text = copy_text(answer->text);
			outcome->cut = answer->cut;
			read_text(run, job, header, outcome);
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
		estimate(&run->call->outcomes[run->order[job->from]],
				 run->call->inputs[run->order[job->from]]);
		return true;
	}
	if (!read_answer(run, job, header, body, length, &arena, &answer, &problem))
	{
		if (problem.too_many && job->n > 1)
		{
			add_job(run, job->from, job->n / 2);
			add_job(run, job->from + job->n / 2, job->n - job->n / 2);
			return false;
		}
		fail_job(run, job, header,
				 MAKE_SQLSTATE(problem.sqlstate[0], problem.sqlstate[1], problem.sqlstate[2],
							   problem.sqlstate[3], problem.sqlstate[4]),
				 problem.message);
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

/* Keeps an answer for this statement, and has the cache's server keep it. */
static void
keep_answer(Run *run, int i)
{
	StringInfoData value;

	if (run->keys == NULL)
		return;
	initStringInfo(&value);
	if (sophia_cache_pack(run->call, &run->call->outcomes[i], &value))
	{
		sophia_cache_remember(&run->keys[i], &value);
		if (run->cache.server)
			run->stores[run->n_stores++] = i;
	}
	pfree(value.data);
}

/* Exchange.take */
static void
take_answer(Exchange *exchange, const AnswerHeader *header, const char *body, Size length)
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
	if (header->sqlstate != 0)
		fail_job(run, &job, header, header->sqlstate, pnstrdup(body, length));
	else
		done = take_body(run, &job, header, body, length);
	if (done)
		count_job(run, &job);
	for (int i = 0; done && i < job.n; i++)
		keep_answer(run, run->order[job.from + i]);
	MemoryContextSwitchTo(old);
}

/* ---- the cache ---- */

/* Takes an answer from the cache; one that does not fit any more counts as not there. */
static void
take_kept(Run *run, int i, const char *value, Size length)
{
	Call *call = run->call;
	Outcome *outcome = &call->outcomes[i];
	Outcome kept = {.profile = call->profile, .cached = true};
	MemoryContext old = MemoryContextSwitchTo(run->context);

	if (!run->found[i] && sophia_cache_unpack(call, &kept, value, length) &&
		(call->kind != CALL_EMBED || call->profile->dimensions == 0 ||
		 kept.dimensions == call->profile->dimensions) &&
		(call->read == NULL || call->read(call, &kept) == NULL))
	{
		*outcome = kept;
		run->found[i] = true;
	}
	MemoryContextSwitchTo(old);
}

/* CacheTaker: i is a place of run->order. */
static void
take_from_server(void *owner, int i, const char *value, Size length)
{
	Run *run = owner;
	int text = run->order[i];
	StringInfoData copy = {.data = unconstify(char *, value), .len = (int) length};

	take_kept(run, text, value, length);
	if (run->found[text])
		sophia_cache_remember(&run->keys[text], &copy);
}

/* Takes what was found out of the texts that are sent. */
static void
drop_found(Run *run)
{
	int n = 0;

	for (int k = 0; k < run->n_order; k++)
	{
		int i = run->order[k];

		if (!run->found[i])
			run->order[n++] = i;
	}
	run->n_order = n;
}

/* Looks for answers that were given before: in this statement, then in the cache's server. */
static void
use_cache(Run *run)
{
	Call *call = run->call;
	int64 begin = GetCurrentTimestamp();
	CacheKey *asked;

	run->cache = sophia_cache_use(call);
	if (!run->cache.on || run->n_order == 0)
		return;
	run->keys = palloc_extended(sizeof(CacheKey) * call->n, MCXT_ALLOC_HUGE);
	run->found = palloc0(sizeof(bool) * call->n);
	run->stores = palloc(sizeof(int) * call->n);
	for (int k = 0; k < run->n_order; k++)
	{
		int i = run->order[k];
		Size length;
		const char *value;

		run->keys[i] = sophia_cache_key(&run->cache, call->inputs[i]);
		value = sophia_cache_recall(&run->keys[i], &length);
		if (value != NULL)
			take_kept(run, i, value, length);
	}
	drop_found(run);
	if (run->cache.server && run->n_order > 0)
	{
		asked = palloc_extended(sizeof(CacheKey) * run->n_order, MCXT_ALLOC_HUGE);
		for (int k = 0; k < run->n_order; k++)
			asked[k] = run->keys[run->order[k]];
		sophia_cache_look_up(&run->cache, asked, run->n_order, take_from_server, run);
		drop_found(run);
	}
	for (int i = 0; i < call->n; i++)
	{
		if (!run->found[i])
			continue;
		call->outcomes[i].ms = (GetCurrentTimestamp() - begin) / 1000.0;
		sophia_budget_count(&run->used, call->profile, &call->outcomes[i]);
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
			run->call->outcomes[run->order[run->jobs[place].from + i]] = *run->fatal;
	}
}

/* Whether a provider bills such a call. */
static bool
is_billed(const Call *call)
{
	return call->kind == CALL_CHAT || call->kind == CALL_EMBED;
}

/* Asks the model of the call's profile. */
static void
ask_model(Call *call)
{
	Run run = {.exchange = {.next = next_request, .take = take_answer}, .call = call};
	int *first_of = palloc(sizeof(int) * call->n);

	run.context = CurrentMemoryContext;
	run.exchange.window = WINDOW + 2 * call->profile->in_flight;
	/* Embeddings cost little, and do nothing; of a chat it is not known whether it was paid for. */
	run.exchange.again = call->kind == CALL_CHAT ? NULL : send_again;
	run.base = last_number;
	run.left = is_billed(call) ? sophia_budget_left() : get_float8_infinity();
	call->outcomes = palloc0(sizeof(Outcome) * call->n);
	for (int i = 0; i < call->n; i++)
		call->outcomes[i].profile = call->profile;
	find_distinct(&run, first_of);
	PG_TRY();
	{
		use_cache(&run);
		make_jobs(&run);
		if (run.n_jobs > 0 && !spends_too_much(&run))
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

/* Asks another model for what has failed; its answer, or error, takes the place of the first one. */
static bool
fall_back(Call *call, const char *model)
{
	Call other = *call;
	int *places = palloc(sizeof(int) * call->n);
	Profile *first = call->profile;

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
	other.profile = sophia_profile_of_model(model, call->function, first->call_options,
											first->has_call_options, false);
	ask_model(&other);
	for (int i = 0; i < other.n; i++)
		call->outcomes[places[i]] = other.outcomes[i];
	return true;
}

void
sophia_call_run(Call *call)
{
	char *rest = pstrdup(call->profile->fallback);
	char *model;

	ask_model(call);
	while (call->kind == CALL_CHAT && (model = strsep(&rest, "\n")) != NULL && model[0] != '\0')
	{
		if (!fall_back(call, model))
			break;
	}
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
