/*
 * call_request.c
 *		A call on its way: what is sent, see run.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "ai/run.h"
#include "ai/snowflake.h"

uint64 sophia_run_last_number = 0;

static bool
write_body(const Run *run, const Job *job, ByteBuffer *body)
{
	const Call *call = run->call;
	const Profile *profile = call->profile;
	TextSpan *texts;

	if (call->kind == CALL_MODELS || job->handle != NULL)
		return true;
	if (call->kind == CALL_CHAT && !sophia_call_asks_statement(call))
		return sophia_openai_chat_request(
			body, profile->remote_name, call->prompt != NULL ? call->prompt->instructions : NULL,
			call->inputs[run->order[job->from]], call->messages, profile->options);
	if (call->kind == CALL_TOKENS && !sophia_call_asks_statement(call))
		return sophia_openai_tokens_request(body, profile->remote_name,
											call->inputs[run->order[job->from]]);
	texts = palloc(sizeof(TextSpan) * job->n);
	for (int i = 0; i < job->n; i++)
		texts[i] = call->inputs[run->order[job->from + i]];
	if (sophia_call_asks_statement(call))
		return sophia_snowflake_sql_request(body, call->prompt, profile->remote_name,
											profile->session, profile->timeout_ms, texts, job->n);
	if (sophia_run_is_snowflake(profile))
		return sophia_snowflake_embedding_request(body, profile->remote_name, texts, job->n);
	return sophia_openai_embedding_request(body, profile->remote_name, texts, job->n,
										   profile->options);
}

static void
append_request(StringInfo message, const Run *run, const Job *job, uint64 number, const char *path,
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
		.role = sophia_call_role(run->call),
		.timeout_ms = profile->timeout_ms,
		.attempts = profile->attempts,
		.connections = profile->connections,
		.min_connections = profile->min_connections,
		.idle_ms = profile->idle_ms,
		.in_flight = profile->in_flight,
		.breaker_failures = profile->breaker_failures,
		.breaker_ms = profile->breaker_ms,
		.queue_bytes = profile->queue_bytes,
		.statement = sophia_call_asks_statement(run->call),
		.shareable = run->keys != NULL && !sophia_call_asks_statement(run->call),
		.repeatable = run->call->kind != CALL_CHAT || sophia_call_asks_statement(run->call),
		.post = run->call->kind != CALL_MODELS && job->handle == NULL,
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

/* A statement keeps its id when it is sent again, and says so; thus the account runs it once. */
static bool
write_statement_path(const Job *job, ByteBuffer *path)
{
	char *text = job->handle != NULL
					 ? psprintf("/api/v2/statements/%s?partition=%d", job->handle, job->partition)
					 : psprintf("/api/v2/statements?requestId=%s&async=true&nullable=true%s",
								job->id, job->sent ? SQL_RETRY : "");

	return sophia_buffer_append(path, text, strlen(text) + 1);
}

static bool
write_path(const Call *call, const Job *job, ByteBuffer *path)
{
	static const char *const services[] = {
		[CALL_CHAT] = "chat/completions", [CALL_EMBED] = "embeddings", [CALL_MODELS] = "models"};
	static const char *const cortex[] = {[CALL_CHAT] = "/api/v2/cortex/v1/chat/completions",
										 [CALL_EMBED] = "/api/v2/cortex/inference:embed",
										 [CALL_MODELS] = "/api/v2/cortex/models"};
	const char *address = call->profile->address;

	if (sophia_call_asks_statement(call))
		return write_statement_path(job, path);
	if (sophia_run_is_snowflake(call->profile))
		return sophia_buffer_append(path, cortex[call->kind], strlen(cortex[call->kind]) + 1);
	return sophia_openai_path(path, address,
							  call->kind == CALL_TOKENS ? sophia_openai_tokens_service(address)
														: services[call->kind]);
}

/* A Snowflake account is not checked: what it is asked for is billed. */
static bool
write_health_path(const Call *call, ByteBuffer *path)
{
	if (sophia_run_is_snowflake(call->profile))
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
	if (!write_body(run, &run->jobs[place], &body) ||
		!write_path(run->call, &run->jobs[place], &path) || !write_health_path(run->call, &health))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	append_request(message, run, &run->jobs[place], run->base + place + 1, buffer_bytes(&path),
				   buffer_bytes(&health), &body);
}

/* Ends a call whose own answers have used up the budget; those that are under way are still awaited. */
bool
sophia_run_spends_too_much(Run *run)
{
	MemoryContext old;
	Outcome *outcome;

	if (run->used.cost / 1e12 < run->left)
		return false;
	old = MemoryContextSwitchTo(run->context);
	outcome = palloc0(sizeof(Outcome));
	sophia_run_fail(outcome, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, sophia_budget_problem(run->call));
	outcome->detail = pstrdup("See sophia.budget_status.");
	MemoryContextSwitchTo(old);
	run->fatal = outcome;
	return true;
}

/* Exchange.next */
bool
sophia_run_next(Exchange *exchange, StringInfo message)
{
	Run *run = (Run *) exchange;

	if (sophia_run_next_store(run, message))
		return true;
	while (run->next_job < run->n_jobs && run->jobs[run->next_job].answered)
		run->next_job++;
	if (run->fatal != NULL || run->next_job == run->n_jobs || sophia_run_spends_too_much(run))
		return false;
	CHECK_FOR_INTERRUPTS();
	write_request(run, run->next_job, message);
	run->jobs[run->next_job++].sent = true;
	sophia_run_last_number = Max(sophia_run_last_number, run->base + run->next_job);
	return true;
}

/* Exchange.again: what was not answered is sent once more, under its own number. */
void
sophia_run_send_again(Exchange *exchange)
{
	((Run *) exchange)->next_job = 0;
}
