/*
 * request.c
 *		The life of a request in the gateway: sending, trying again, answering.
 *
 * What is tried again: a connection that could not be made, 429 and 503; the provider has done nothing then.  A refusal for
 * its rate (429) is no failure and does not count; where it says how long to wait (Retry-After), the whole lane waits.
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "ai/lane.h"
#include "ai/snowflake.h"
#include "base/clock.h"

#define RETRY_BASE_MS 250
#define RETRY_CAP_MS  30000
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
		lane->in_flight--;
	else
		lane->queued--;
	if (request->state == REQUEST_QUEUED)
	{
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
	if (request->state != REQUEST_FREE)
		sophia_request_leave(request);
	close_http(request);
	sophia_listing_remove(request);
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
	answer(request, 0, buffer_bytes(body), buffer_size(body));
}

/* ---- trying again ---- */

static bool
may_try_again(const GatewayRequest *request)
{
	return request->http->status == 429 || request->counted < request->header.attempts;
}

/*
 * Has a request tried again after a while; false when its time would be over by then.  Full jitter: any time up to a limit
 * that doubles, so that those who failed together do not come back together.
 */
static bool
try_again_later(GatewayRequest *request)
{
	Lane *lane = request->lane;
	int64 now = sophia_clock_ms();
	int64 limit = Min((int64) RETRY_BASE_MS << Min(request->attempts, 10), RETRY_CAP_MS);
	int64 asked = (int64) request->http->retry_after_s * 1000;
	int64 delay = asked + (int64) pg_prng_uint64_range(&pg_global_prng_state, 1,
													   asked > 0 ? RETRY_BASE_MS : limit);

	if (now + delay >= request->first_sent + request->header.timeout_ms)
		return false;
	if (asked > 0)
		lane->paused_until = Max(lane->paused_until, now + asked);
	if (request->http->status == 429)
		request->counted--;
	lane->told.retries++;
	sophia_request_leave(request);
	close_http(request);
	request->due = now + delay;
	dlist_push_tail(&lane->waiting, &request->of_queue);
	lane->queued++;
	sophia_listing_show(request, REQUEST_WAITING);
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
	sophia_request_leave(request);
	close_http(request);
	request->due = 0;
	dlist_push_tail(&lane->waiting, &request->of_queue);
	lane->queued++;
	sophia_listing_show(request, REQUEST_WAITING);
	return true;
}

static void
finish_failed(GatewayRequest *request)
{
	HttpRequest *http = request->http;

	if (http->timed_out)
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR, "no answer within %d ms",
							request->header.timeout_ms);
	else if (sophia_http_sent(http))
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR,
							"the connection broke before the answer was whole: %s", http->error);
	else if (!may_try_again(request) || !try_again_later(request))
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR, "could not connect: %s", http->error);
}

/* A request whose transfer has ended. */
void
sophia_request_finish(GatewayRequest *request)
{
	HttpRequest *http = request->http;

	if (!http->ok)
	{
		finish_failed(request);
		return;
	}
	request->lane->multiplexed = http->multiplexed;
	if ((http->status == 429 || http->status == 503) && may_try_again(request) &&
		try_again_later(request))
		return;
	if (http->status == 401 && renew_secret(request))
		return;
	answer_with_body(request);
}

/* ---- sending ---- */

/* Reads the secret unless it is at hand; false: there is none, and the request was answered. */
static bool
have_secret(GatewayRequest *request)
{
	Lane *lane = request->lane;
	char error[MESSAGE_BYTES];
	int64 now = sophia_clock_ms();

	if (lane->secret_name[0] == '\0')
		return true;
	if (lane->secret.value != NULL && now - lane->secret_read_at < SECRET_AGE_MS)
		return true;
	if (!read_bearer(lane, &lane->secret, error, sizeof(error)))
	{
		sophia_request_fail(request, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, "%s", error);
		return false;
	}
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

static HttpRequest *
start_http(GatewayRequest *request, char *error, size_t error_size)
{
	Lane *lane = request->lane;
	bool secret = lane->secret.value != NULL;
	char *url = psprintf("%s%s", lane->address, request->texts[TEXT_PATH]);
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
		.method = request->header.post ? "POST" : "GET",
		.url = url,
		.headers = headers,
		.body = request->body,
		.body_length = request->header.body_length,
		.limit = ANSWER_BODY_BYTES,
		.http1 = strncmp(url, "https", 5) != 0,
		.timeout_ms = time_left(request),
		.pool = lane->pool,
		.small = true,
		.any_address = lane->listed,
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

/* Sends a request that is in no list of the lane. */
void
sophia_request_send(GatewayRequest *request)
{
	Lane *lane = request->lane;
	char error[MESSAGE_BYTES];

	request->state = REQUEST_FREE;
	if (lane->problem != NULL)
	{
		sophia_request_fail(request, ERRCODE_INSUFFICIENT_PRIVILEGE,
							"the address is not allowed: %s", lane->problem);
		return;
	}
	if (!have_secret(request))
		return;
	if (request->first_sent == 0)
		request->first_sent = sophia_clock_ms();
	request->http = start_http(request, error, sizeof(error));
	if (request->http == NULL)
	{
		sophia_request_fail(request, ERRCODE_SYSTEM_ERROR, "%s", error);
		return;
	}
	request->attempts++;
	request->counted++;
	lane->in_flight++;
	lane->changed = true;
	dlist_push_tail(&lane->running, &request->of_queue);
	sophia_listing_show(request, REQUEST_RUNNING);
}
