/*
 * request.c
 *		The life of a request in the gateway: sending, trying again, answering.
 *
 * What is tried again: a connection that could not be made, 429 and 503; the provider has done nothing then.  A refusal for
 * its rate (429) is no failure and does not count; where it says how long to wait (Retry-After), nothing is sent to that address
 * meanwhile.  Of a request that can be repeated also a connection that broke, and 500, 502 and 504.  It is tried at once at
 * another address that can be used and was not tried yet, else later.
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "ai/lane.h"
#include "ai/openai.h"
#include "ai/snowflake.h"
#include "ai/snowflake_sql.h"
#include "base/clock.h"

#define RETRY_BASE_MS 250
#define RETRY_CAP_MS  30000
#define LOOK_BASE_MS  50 /* between two looks at a statement, doubled each time */
#define LOOK_CAP_MS	  2000
#define SECRET_AGE_MS 30000 /* a secret is read anew after this time */
#define MESSAGE_BYTES 512

/* ---- the end of a request ---- */

static void
note_error(Lane *lane, const char *message)
{
	lane->told.errors++;
	lane->told.last_error_at = GetCurrentTimestamp();
	strlcpy(lane->told.last_error, message, sizeof(lane->told.last_error));
}

/* Takes a request out of the list that it is in. */
void
sophia_request_leave(GatewayRequest *request)
{
	Session *session = request->session;
	Lane *lane = request->lane;

	dlist_delete(&request->of_queue);
	if (request->state == REQUEST_RUNNING)
	{
		lane->in_flight--;
		lane->used_at = request->replica->pool->used_at = sophia_clock_ms();
		sophia_replica_leave(request->replica);
		request->replica = NULL;
	}
	else
		lane->queued--;
	if (request->state == REQUEST_QUEUED)
	{
		lane->queued_bytes -= request->header.body_length;
		session->queued_bytes -= request->header.body_length;
		if (--session->n_queued == 0)
			dlist_delete(&session->turn);
	}
	lane->changed = true;
}

static void
close_http(GatewayRequest *request)
{
	if (request->http != NULL)
		sophia_http_close(request->http);
	request->http = NULL;
}

void
sophia_request_drop(GatewayRequest *request)
{
	if (request->http != NULL && !request->http->finished)
		sophia_breaker_forget(&request->replica->breaker);
	close_http(request);
	sophia_flight_leave(request);
	if (request->statement != NULL)
	{
		sophia_farewell_statement(request->lane->replicas[0], request->statement);
		pfree(request->statement);
	}
	if (request->state != REQUEST_FREE)
		sophia_request_leave(request);
	sophia_listing_remove(request);
	if (request->work != NULL)
		sophia_cache_forget(request->work);
	dlist_delete(&request->of_session);
	pfree(request->message);
	pfree(request);
}

static void
answer(GatewayRequest *request, int sqlstate, const char *body, Size length)
{
	AnswerHeader header = {
		.number = request->header.number,
		.sqlstate = sqlstate,
		.status = request->http != NULL ? (int32) request->http->status : 0,
		.attempts = request->attempts,
		.elapsed_ms =
			request->first_sent != 0 ? (int32) (sophia_clock_ms() - request->first_sent) : 0,
	};

	sophia_session_answer(request->session, &header, body, length);
	sophia_flight_land(request, &header, body, length);
	if (request->lane != NULL)
	{
		request->lane->told.calls++;
		request->lane->changed = true;
	}
	sophia_request_drop(request);
}

/* Answers with a message of the gateway's own. */
void
sophia_request_fail(GatewayRequest *request, int sqlstate, const char *format, ...)
{
	char message[MESSAGE_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (request->lane != NULL)
		note_error(request->lane, message);
	answer(request, sqlstate, message, strlen(message));
}

/* Blots out the secret where a provider repeats it. */
static void
hide_secret(Lane *lane, char *bytes, Size length)
{
	Size n = lane->secret.length;

	for (Size i = 0; n > 0 && i + n <= length; i++)
	{
		if (memcmp(bytes + i, lane->secret.value, n) == 0)
			memset(bytes + i, '*', n);
	}
}

static void
answer_with_body(GatewayRequest *request)
{
	ByteBuffer *body = &request->http->body;
	char status[64];

	if (request->http->status != 200)
	{
		hide_secret(request->lane, buffer_bytes(body), buffer_size(body));
		snprintf(status, sizeof(status), "HTTP status %ld", request->http->status);
		note_error(request->lane, status);
	}
	if (request->statement != NULL)
		pfree(request->statement);
	request->statement = NULL;
	answer(request, 0, buffer_bytes(body), buffer_size(body));
}

/* ---- what an answer tells of its address ---- */

/* A server may say that a text is too long by a 500. */
static bool
is_server_fault(const HttpRequest *http)
{
	return http->status >= 500 &&
		   !sophia_openai_too_large(buffer_bytes(&http->body), buffer_size(&http->body));
}

/* Why an attempt failed, by its address' fault. */
static void
describe_failure(const HttpRequest *http, char *message, Size size)
{
	if (http->ok)
		snprintf(message, size, "HTTP status %ld", http->status);
	else
		strlcpy(message, http->error, size);
}

static bool
has_failed(const HttpRequest *http)
{
	return !http->ok || is_server_fault(http);
}

/* Notes an attempt that has ended; a failure counts once the request is not tried again at the same address. */
static void
judge_replica(GatewayRequest *request, bool comes_back)
{
	const HttpRequest *http = request->http;
	Replica *replica = request->replica;
	int64 now = sophia_clock_ms();

	if (http->timed_out || (http->ok && (http->status == 429 || http->status == 503)))
		sophia_window_shrink(&replica->window, request->sent, now);
	if (has_failed(http))
	{
		describe_failure(http, replica->failure, sizeof(replica->failure));
		if (!comes_back || replica->breaker.state != BREAKER_CLOSED)
			sophia_breaker_failed(&replica->breaker, now);
		return;
	}
	sophia_breaker_succeeded(&replica->breaker);
	if (http->status != 429)
		sophia_window_grow(&replica->window);
	if (http->status == 200)
		sophia_latencies_add(&request->lane->latencies, GetCurrentTimestamp() - request->sent_at);
}

/* ---- trying again ---- */

/* Whether sending a request again can do no harm, and may help. */
static bool
is_worth_it(const GatewayRequest *request)
{
	const HttpRequest *http = request->http;

	if (!http->ok)
		return !http->untrusted && (request->header.repeatable || !sophia_http_sent(http));
	if (http->status == 429 || http->status == 503)
		return true;
	return request->header.repeatable && is_server_fault(http) &&
		   (http->status == 500 || http->status == 502 || http->status == 504);
}

static bool
may_try_again(const GatewayRequest *request)
{
	bool rate = request->http->ok && request->http->status == 429;

	return is_worth_it(request) && (rate || request->counted < request->header.attempts);
}

/* Has a running request wait until then. */
static void
wait_until(GatewayRequest *request, int64 due)
{
	Lane *lane = request->lane;

	close_http(request);
	sophia_request_leave(request);
	request->due = due;
	dlist_push_tail(&lane->waiting, &request->of_queue);
	lane->queued++;
	sophia_listing_show(request, REQUEST_WAITING);
}

/*
 * How long to wait before the next try.  Full jitter: any time up to a limit that doubles, so that those who failed together
 * do not come back together.
 */
static int64
delay_of(const GatewayRequest *request)
{
	int64 limit = Min((int64) RETRY_BASE_MS << Min(request->attempts, 10), RETRY_CAP_MS);
	int64 asked = (int64) request->http->retry_after_s * 1000;

	return asked + (int64) pg_prng_uint64_range(&pg_global_prng_state, 1,
												asked > 0 ? RETRY_BASE_MS : limit);
}

static int
place_of(const Lane *lane, const Replica *replica)
{
	for (int i = 0; i < lane->n_replicas; i++)
	{
		if (lane->replicas[i] == replica)
			return i;
	}
	return -1;
}

/* Has a request tried again, elsewhere at once or later; false when its time would be over by then. */
static bool
try_again(GatewayRequest *request)
{
	Lane *lane = request->lane;
	Replica *replica = request->replica;
	int64 now = sophia_clock_ms();
	int64 deadline = request->first_sent + request->header.timeout_ms;
	int64 delay = delay_of(request);
	int place = place_of(lane, replica);
	bool elsewhere = now < deadline && sophia_replica_other(request, now);

	if (!elsewhere && now + delay >= deadline)
		return false;
	if (request->http->retry_after_s > 0)
		replica->paused_until =
			Max(replica->paused_until, now + (int64) request->http->retry_after_s * 1000);
	if (request->http->status == 429)
		request->counted--;
	lane->told.retries++;
	judge_replica(request, !elsewhere);
	request->tried = elsewhere && place >= 0 ? request->tried | (uint32) 1 << place : 0;
	wait_until(request, elsewhere ? now : now + delay);
	return true;
}

/* Puts a token that a private key signs in the place of that key. */
static bool
sign_token(const char *auth, Secret *secret, char *error, size_t error_size)
{
	char *account = pstrdup(auth + strlen("KEYPAIR_JWT "));
	char *user = strchr(account, ' ');
	ByteBuffer token = {0};
	const char *problem;
	bool ok;

	*user++ = '\0';
	ok = sophia_snowflake_sign(&token, secret->value, account, user, time(NULL), &problem);
	sophia_secret_clear(secret);
	if (ok)
	{
		secret->value = strdup(buffer_bytes(&token));
		secret->length = secret->value != NULL ? strlen(secret->value) : 0;
		ok = secret->value != NULL;
		problem = "out of memory";
	}
	if (!ok)
		strlcpy(error, problem, error_size);
	sophia_buffer_free(&token);
	pfree(account);
	return ok;
}

/* Reads the secret anew, and signs a token by it where the provider wants that: so a token is renewed long before its end. */
static bool
read_bearer(const Lane *lane, Secret *secret, char *error, size_t error_size)
{
	if (!sophia_secret_read(lane->secret_name, secret, error, error_size))
		return false;
	return strncmp(lane->auth, "KEYPAIR_JWT ", strlen("KEYPAIR_JWT ")) != 0 ||
		   sign_token(lane->auth, secret, error, error_size);
}

/* After 401: whether the secret is another one by now; then the request is sent again at once. */
static bool
renew_secret(GatewayRequest *request)
{
	Lane *lane = request->lane;
	Secret fresh = {0};
	char error[MESSAGE_BYTES];
	bool changed;

	if (request->secret_renewed || lane->secret_name[0] == '\0' ||
		!read_bearer(lane, &fresh, error, sizeof(error)))
		return false;
	changed = lane->secret.value == NULL || strcmp(lane->secret.value, fresh.value) != 0;
	sophia_secret_clear(&lane->secret);
	lane->secret = fresh;
	lane->secret_read_at = sophia_clock_ms();
	if (!changed)
		return false;
	request->secret_renewed = true;
	sophia_breaker_forget(&request->replica->breaker);
	wait_until(request, 0);
	return true;
}

static void
answer_failed(GatewayRequest *request)
{
	const HttpRequest *http = request->http;

	if (!sophia_http_sent(http))
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR, "could not connect: %s", http->error);
	else if (http->timed_out)
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR, "no answer within %d ms",
							request->header.timeout_ms);
	else
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR,
							"the connection broke before the answer was whole: %s", http->error);
}

/* A statement that goes on at the account (202) is looked at again, as long as there is time; else it is over there, too. */
static bool
await_statement(GatewayRequest *request)
{
	const HttpRequest *http = request->http;
	int64 due =
		sophia_clock_ms() + Min((int64) LOOK_BASE_MS << Min(request->looks, 10), LOOK_CAP_MS);

	if (!request->header.statement || !http->ok || http->status != 202)
		return false;
	if (request->statement == NULL)
		request->statement =
			sophia_snowflake_sql_handle(buffer_bytes(&http->body), buffer_size(&http->body));
	judge_replica(request, false);
	if (request->statement == NULL)
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR,
							"the account runs the statement, but does not say as which");
	else if (due >= request->first_sent + request->header.timeout_ms)
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR,
							"no answer within %d ms; the statement is cancelled",
							request->header.timeout_ms);
	else
	{
		request->counted--;
		request->looks++;
		wait_until(request, due);
	}
	return true;
}

/* A request whose transfer has ended. */
void
sophia_request_finish(GatewayRequest *request)
{
	HttpRequest *http = request->http;

	if (http->ok)
		request->replica->multiplexed = http->multiplexed;
	if (await_statement(request))
		return;
	if (may_try_again(request) && try_again(request))
		return;
	if (http->ok && http->status == 401 && renew_secret(request))
		return;
	judge_replica(request, false);
	if (http->ok)
		answer_with_body(request);
	else
		answer_failed(request);
}

void
sophia_request_refuse(GatewayRequest *request)
{
	Lane *lane = request->lane;
	int64 now = sophia_clock_ms();
	int64 until = -1;
	const Replica *open = NULL;

	request->state = REQUEST_FREE;
	for (int i = 0; i < lane->n_replicas; i++)
	{
		const Replica *replica = lane->replicas[i];

		if (replica->problem == NULL && (until < 0 || replica->breaker.open_until < until))
		{
			until = replica->breaker.open_until;
			open = replica;
		}
	}
	if (open == NULL)
		sophia_request_fail(request, ERRCODE_INSUFFICIENT_PRIVILEGE,
							"the address is not allowed: %s", lane->replicas[0]->problem);
	else
		sophia_request_fail(request, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
							"its circuit breaker is open after %d failures in a row, the last: %s;"
							" it is tried again in %d s",
							open->breaker.failures, open->failure,
							(int) ((until - now + 999) / 1000));
}

/* ---- sending ---- */

static char secret_error[MESSAGE_BYTES];

const char *
sophia_lane_secret_error(void)
{
	return secret_error;
}

bool
sophia_lane_has_secret(Lane *lane)
{
	int64 now = sophia_clock_ms();

	if (lane->secret_name[0] == '\0')
		return true;
	if (lane->secret.value != NULL && now - lane->secret_read_at < SECRET_AGE_MS)
		return true;
	if (!read_bearer(lane, &lane->secret, secret_error, sizeof(secret_error)))
		return false;
	lane->secret_read_at = now;
	return true;
}

/* How long the provider may still take. */
static long
time_left(const GatewayRequest *request)
{
	int64 left = request->first_sent + request->header.timeout_ms - sophia_clock_ms();

	return (long) Max(left, 1);
}

HttpRequest *
sophia_replica_start_http(Replica *replica, const char *method, const char *path, const char *body,
						  Size body_length, long timeout_ms, Size limit, char *error,
						  Size error_size)
{
	Lane *lane = replica->lane;
	bool secret = lane->secret.value != NULL;
	char *url = psprintf("%s%s", replica->address, path);
	char *authorization = secret ? psprintf("Authorization: Bearer %s", lane->secret.value) : NULL;
	char *type = secret && lane->auth[0] != '\0'
					 ? psprintf("X-Snowflake-Authorization-Token-Type: %.*s",
								(int) strcspn(lane->auth, " "), lane->auth)
					 : NULL;
	const char *headers[] = {"Accept: application/json",
							 "Expect:",
							 "Content-Type: application/json",
							 authorization,
							 type,
							 NULL};
	HttpOptions options = {
		.method = method,
		.url = url,
		.headers = headers,
		.body = body,
		.body_length = body_length,
		.limit = limit,
		.http1 = strncmp(url, "https", 5) != 0,
		.timeout_ms = timeout_ms,
		.pool = replica->pool->http,
		.idle_s = Max(lane->idle_ms / 1000, 1),
		.ca_file = lane->ca_file[0] != '\0' ? lane->ca_file : NULL,
		.small = true,
		.any_address = replica->listed,
	};
	HttpRequest *http = sophia_http_start(&options, error, error_size);

	if (secret)
	{
		explicit_bzero(authorization, strlen(authorization));
		pfree(authorization);
	}
	if (type != NULL)
		pfree(type);
	pfree(url);
	return http;
}

/* Where a request goes: a statement that goes on is looked at, one that is sent again says so. */
static char *
path_of(const GatewayRequest *request)
{
	const char *path = request->texts[TEXT_PATH];
	bool again = request->header.statement && request->header.post && request->attempts > 0;

	if (request->statement != NULL)
		return psprintf("/api/v2/statements/%s", request->statement);
	/* the session says so itself where it sends a statement to another gateway */
	return psprintf("%s%s", path, again && strstr(path, SQL_RETRY) == NULL ? SQL_RETRY : "");
}

/* Sends a request that is in no list of the lane. */
void
sophia_request_send(GatewayRequest *request, Replica *replica)
{
	Lane *lane = request->lane;
	bool looks = request->statement != NULL;
	char error[MESSAGE_BYTES];
	char *path;

	request->state = REQUEST_FREE;
	if (!sophia_lane_has_secret(lane))
	{
		sophia_request_fail(request, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, "%s",
							sophia_lane_secret_error());
		return;
	}
	request->sent = sophia_clock_ms();
	request->sent_at = GetCurrentTimestamp();
	if (request->first_sent == 0)
		request->first_sent = request->sent;
	path = path_of(request);
	request->http = sophia_replica_start_http(
		replica, request->header.post && !looks ? "POST" : "GET", path, looks ? "" : request->body,
		looks ? 0 : request->header.body_length, time_left(request), ANSWER_BODY_BYTES, error,
		sizeof(error));
	pfree(path);
	if (request->http == NULL)
	{
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR, "%s", error);
		return;
	}
	sophia_breaker_sent(&replica->breaker);
	request->replica = replica;
	request->attempts++;
	request->counted++;
	lane->in_flight++;
	lane->changed = true;
	replica->in_flight++;
	replica->pool->in_flight++;
	replica->pool->used_at = request->sent;
	dlist_push_tail(&lane->running, &request->of_queue);
	sophia_listing_show(request, REQUEST_RUNNING);
}
