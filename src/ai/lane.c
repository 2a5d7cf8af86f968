/*
 * lane.c
 *		What the gateway does for one provider: whose turn it is, sending, trying again.
 *
 * Requests wait for their turn in the queues of their sessions, and the sessions take turns, so that one that asks much does
 * not keep the others waiting.  Nothing is handed to the HTTP library before it can be sent, because that would count its
 * waiting against the time that the provider has.
 *
 * What is tried again: a connection that could not be made, 429 and 503; the provider has done nothing then.  A refusal for
 * its rate (429) is no failure and does not count; where it says how long to wait (Retry-After), the whole lane waits.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "ai/address.h"
#include "ai/gateway.h"
#include "base/clock.h"
#include "store/secrets.h"

#define RETRY_BASE_MS 250
#define RETRY_CAP_MS  30000
#define SECRET_AGE_MS 30000 /* a secret is read anew after this time */
#define TELL_EVERY_MS 100	/* figures are told at most so often */
#define MESSAGE_BYTES 512

struct Lane
{
	Oid database;
	char *provider;
	int64 generation;
	char *address;
	char *secret_name; /* "" = none */
	int connections;
	int max_in_flight;
	const char *problem; /* why it is not talked to, NULL = nothing */
	bool listed;		 /* see sophia_provider_address_problem */
	bool multiplexed;	 /* its connections carry many requests at a time */
	Secret secret;
	int64 secret_read_at;
	dlist_head turns; /* sessions that have requests queued for it */
	dlist_head running;
	dlist_head waiting;
	int in_flight;
	int queued;
	int64 paused_until;
	HttpPool *pool; /* lives on when the lane is gone, while connections point to it */
	ProviderState told;
	bool changed; /* since it was told */
	int64 told_at;
	int64 used_at;
};

static Lane *lanes[CHANNEL_PROVIDERS];

/* ---- lanes ---- */

static void
check_address(Lane *lane)
{
	lane->problem = sophia_provider_address_problem(lane->address, &lane->listed);
}

/* Takes the profile that came with a request, where it is newer. */
static void
take_profile(Lane *lane, const GatewayRequest *request)
{
	if (lane->address != NULL && request->header.generation <= lane->generation)
		return;
	if (lane->address != NULL)
	{
		pfree(lane->address);
		pfree(lane->secret_name);
	}
	lane->generation = request->header.generation;
	lane->address = pstrdup(request->texts[TEXT_ADDRESS]);
	lane->secret_name = pstrdup(request->texts[TEXT_SECRET]);
	lane->connections = request->header.connections;
	lane->max_in_flight = request->header.in_flight;
	lane->multiplexed = false;
	sophia_secret_clear(&lane->secret);
	check_address(lane);
}

static bool
lane_idle(const Lane *lane)
{
	return lane->in_flight == 0 && lane->queued == 0;
}

static void
free_lane(int place)
{
	Lane *lane = lanes[place];

	sophia_secret_clear(&lane->secret);
	pfree(lane->address);
	pfree(lane->secret_name);
	pfree(lane->provider);
	if (lane->pool->open == 0)
		pfree(lane->pool);
	pfree(lane);
	lanes[place] = NULL;
}

/* A place for a lane: a free one, else that of the idle lane that was not used for longest; -1 = none. */
static int
lane_place(void)
{
	int oldest = -1;

	for (int i = 0; i < CHANNEL_PROVIDERS; i++)
	{
		if (lanes[i] == NULL)
			return i;
		if (lane_idle(lanes[i]) && (oldest < 0 || lanes[i]->used_at < lanes[oldest]->used_at))
			oldest = i;
	}
	if (oldest >= 0)
		free_lane(oldest);
	return oldest;
}

static Lane *
make_lane(const GatewayRequest *request)
{
	int place = lane_place();
	Lane *lane;

	if (place < 0)
		return NULL;
	lane = palloc0(sizeof(Lane));
	lane->database = request->header.database;
	lane->provider = pstrdup(request->texts[TEXT_PROVIDER]);
	lane->pool = palloc0(sizeof(HttpPool));
	dlist_init(&lane->turns);
	dlist_init(&lane->running);
	dlist_init(&lane->waiting);
	lane->told.database = lane->database;
	strlcpy(lane->told.name, lane->provider, sizeof(lane->told.name));
	lanes[place] = lane;
	return lane;
}

static Lane *
find_lane(const GatewayRequest *request)
{
	for (int i = 0; i < CHANNEL_PROVIDERS; i++)
	{
		if (lanes[i] != NULL && lanes[i]->database == request->header.database &&
			strcmp(lanes[i]->provider, request->texts[TEXT_PROVIDER]) == 0)
			return lanes[i];
	}
	return make_lane(request);
}

void
sophia_lanes_reload(void)
{
	for (int i = 0; i < CHANNEL_PROVIDERS; i++)
	{
		if (lanes[i] == NULL)
			continue;
		check_address(lanes[i]);
		sophia_secret_clear(&lanes[i]->secret);
	}
}

static void
note_error(Lane *lane, const char *message)
{
	lane->told.errors++;
	lane->told.last_error_at = GetCurrentTimestamp();
	strlcpy(lane->told.last_error, message, sizeof(lane->told.last_error));
}

static void
tell(int place, int64 now)
{
	Lane *lane = lanes[place];
	ProviderState *told = &lane->told;

	if (told->connections != lane->pool->open)
		lane->changed = true;
	if (!lane->changed || (!lane_idle(lane) && now - lane->told_at < TELL_EVERY_MS))
		return;
	told->in_flight = lane->in_flight;
	told->queued = lane->queued;
	told->connections = lane->pool->open;
	told->connections_created = lane->pool->created;
	told->connections_closed = lane->pool->closed;
	sophia_channels_tell_provider(place, told);
	lane->changed = false;
	lane->told_at = now;
}

/* ---- the end of a request ---- */

/* Takes a request out of the list that it is in. */
static void
leave_list(GatewayRequest *request)
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
sophia_lane_drop(GatewayRequest *request)
{
	if (request->state != REQUEST_FREE)
		leave_list(request);
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
	sophia_lane_drop(request);
}

static void fail(GatewayRequest *request, int sqlstate, const char *format, ...)
	pg_attribute_printf(3, 4);

/* Answers with a message of the gateway's own. */
static void
fail(GatewayRequest *request, int sqlstate, const char *format, ...)
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
	lane->told.retries++;
	leave_list(request);
	close_http(request);
	request->due = now + delay;
	dlist_push_tail(&lane->waiting, &request->of_queue);
	lane->queued++;
	sophia_listing_show(request, REQUEST_WAITING);
	return true;
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
		!sophia_secret_read(lane->secret_name, &fresh, error, sizeof(error)))
		return false;
	changed = lane->secret.value == NULL || strcmp(lane->secret.value, fresh.value) != 0;
	sophia_secret_clear(&lane->secret);
	lane->secret = fresh;
	lane->secret_read_at = sophia_clock_ms();
	if (!changed)
		return false;
	request->secret_renewed = true;
	leave_list(request);
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
		fail(request, ERRCODE_SYSTEM_ERROR, "no answer within %d ms", request->header.timeout_ms);
	else if (sophia_http_sent(http))
		fail(request, ERRCODE_SYSTEM_ERROR, "the connection broke before the answer was whole: %s",
			 http->error);
	else if (!may_try_again(request) || !try_again_later(request))
		fail(request, ERRCODE_SYSTEM_ERROR, "could not connect: %s", http->error);
}

/* A request whose transfer has ended. */
static void
finish(GatewayRequest *request)
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
	if (!sophia_secret_read(lane->secret_name, &lane->secret, error, sizeof(error)))
	{
		fail(request, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, "%s", error);
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
	const char *headers[] = {"Accept: application/json",
							 "Expect:", "Content-Type: application/json", authorization, NULL};
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
	pfree(url);
	return http;
}

/* Sends a request that is in no list of the lane. */
static void
send_request(GatewayRequest *request)
{
	Lane *lane = request->lane;
	char error[MESSAGE_BYTES];

	request->state = REQUEST_FREE;
	if (lane->problem != NULL)
	{
		fail(request, ERRCODE_INSUFFICIENT_PRIVILEGE, "the address is not allowed: %s",
			 lane->problem);
		return;
	}
	if (!have_secret(request))
		return;
	if (request->first_sent == 0)
		request->first_sent = sophia_clock_ms();
	request->http = start_http(request, error, sizeof(error));
	if (request->http == NULL)
	{
		fail(request, ERRCODE_SYSTEM_ERROR, "%s", error);
		return;
	}
	request->attempts++;
	request->counted++;
	lane->in_flight++;
	lane->changed = true;
	dlist_push_tail(&lane->running, &request->of_queue);
	sophia_listing_show(request, REQUEST_RUNNING);
}

void
sophia_lane_submit(GatewayRequest *request)
{
	Session *session = request->session;
	Lane *lane = find_lane(request);

	request->lane = lane;
	if (lane == NULL)
	{
		fail(request, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
			 "the gateway serves %d providers at a time", CHANNEL_PROVIDERS);
		return;
	}
	lane->used_at = sophia_clock_ms();
	take_profile(lane, request);
	if (session->n_queued > 0 && session->lane != lane)
	{
		request->lane = NULL;
		fail(request, ERRCODE_PROTOCOL_VIOLATION, "a session asks one provider at a time");
		return;
	}
	dlist_push_tail(&session->queued, &request->of_queue);
	session->queued_bytes += request->header.body_length;
	session->lane = lane;
	if (session->n_queued++ == 0)
		dlist_push_tail(&lane->turns, &session->turn);
	lane->queued++;
	lane->changed = true;
	sophia_listing_show(request, REQUEST_QUEUED);
}

/* ---- turns ---- */

static void
collect_finished(Lane *lane)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &lane->running)
	{
		GatewayRequest *request = dlist_container(GatewayRequest, of_queue, iter.cur);

		if (request->http->finished)
			finish(request);
		else if (request->http->paused)
			fail(request, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the answer is larger than %d MB",
				 ANSWER_BODY_BYTES / (1024 * 1024));
	}
}

static bool
has_room(const Lane *lane)
{
	int most = lane->max_in_flight;

	if (!lane->multiplexed)
		most = Min(most, lane->connections);
	return lane->in_flight < most;
}

/* The next request whose turn it is: one that is due again, else one of the session that has waited longest. */
static GatewayRequest *
next_request(Lane *lane, int64 now)
{
	dlist_iter iter;
	Session *session;
	GatewayRequest *request;

	dlist_foreach(iter, &lane->waiting)
	{
		request = dlist_container(GatewayRequest, of_queue, iter.cur);
		if (request->due <= now)
			return request;
	}
	if (dlist_is_empty(&lane->turns))
		return NULL;
	session = dlist_head_element(Session, turn, &lane->turns);
	/* It comes last in the next round; leave_list takes it off where this is its last request. */
	dlist_delete(&session->turn);
	dlist_push_tail(&lane->turns, &session->turn);
	return dlist_head_element(GatewayRequest, of_queue, &session->queued);
}

/* When something is to be done here at the latest; -1 = nothing. */
static int64
lane_due(Lane *lane, int64 now)
{
	int64 due = -1;
	dlist_iter iter;

	dlist_foreach(iter, &lane->waiting)
	{
		GatewayRequest *request = dlist_container(GatewayRequest, of_queue, iter.cur);

		if (due < 0 || request->due < due)
			due = request->due;
	}
	if (!dlist_is_empty(&lane->turns) && lane->paused_until > now)
		due = due < 0 ? lane->paused_until : Min(due, lane->paused_until);
	if (due >= 0 && !has_room(lane))
		due = -1; /* the end of a running one wakes us */
	else if (due >= 0)
		due = Max(due, lane->paused_until);
	if (lane->changed && (due < 0 || lane->told_at + TELL_EVERY_MS < due))
		due = lane->told_at + TELL_EVERY_MS;
	return due;
}

int64
sophia_lanes_turn(void)
{
	int64 next = -1;

	for (int i = 0; i < CHANNEL_PROVIDERS; i++)
	{
		Lane *lane = lanes[i];
		GatewayRequest *request;
		int64 now;
		int64 due;

		if (lane == NULL)
			continue;
		collect_finished(lane);
		now = sophia_clock_ms();
		while (now >= lane->paused_until && has_room(lane) &&
			   (request = next_request(lane, now)) != NULL)
		{
			leave_list(request);
			send_request(request);
		}
		tell(i, now);
		due = lane_due(lane, now);
		if (due >= 0 && (next < 0 || due < next))
			next = due;
	}
	return next;
}
