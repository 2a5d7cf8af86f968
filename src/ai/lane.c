/*
 * lane.c
 *		What the gateway does for one provider: its limits, and whose turn it is.
 *
 * Requests wait for their turn in the queues of their sessions, and the sessions take turns, so that one that asks much does
 * not keep the others waiting.  Nothing is handed to the HTTP library before it can be sent, because that would count its
 * waiting against the time that the provider has.
 */
#include "postgres.h"

#include "ai/address.h"
#include "ai/lane.h"
#include "base/clock.h"

#define TELL_EVERY_MS 100 /* figures are told at most so often */

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
		pfree(lane->auth);
	}
	lane->generation = request->header.generation;
	lane->address = pstrdup(request->texts[TEXT_ADDRESS]);
	lane->secret_name = pstrdup(request->texts[TEXT_SECRET]);
	lane->auth = pstrdup(request->texts[TEXT_AUTH]);
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
	pfree(lane->auth);
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

void
sophia_lane_submit(GatewayRequest *request)
{
	Session *session = request->session;
	Lane *lane = find_lane(request);

	request->lane = lane;
	if (lane == NULL)
	{
		sophia_request_fail(request, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
							"the gateway serves %d providers at a time", CHANNEL_PROVIDERS);
		return;
	}
	lane->used_at = sophia_clock_ms();
	take_profile(lane, request);
	if (session->n_queued > 0 && session->lane != lane)
	{
		request->lane = NULL;
		sophia_request_fail(request, ERRCODE_PROTOCOL_VIOLATION,
							"a session asks one provider at a time");
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
			sophia_request_finish(request);
		else if (request->http->paused)
			sophia_request_fail(request, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
								"the answer is larger than %d MB",
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
	/* It comes last in the next round; sophia_request_leave takes it off where this is its last request. */
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
			sophia_request_leave(request);
			sophia_request_send(request);
		}
		tell(i, now);
		due = lane_due(lane, now);
		if (due >= 0 && (next < 0 || due < next))
			next = due;
	}
	return next;
}
