/*
 * lane.c
 *		What the gateway does for one provider: its limits, and whose turn it is.
 *
 * Requests wait for their turn in the queues of their sessions, and the sessions take turns, so that one that asks much does
 * not keep the others waiting.  Nothing is handed to the HTTP library before it can be sent, because that would count its
 * waiting against the time that the provider has.
 */
#include "postgres.h"

#include "ai/lane.h"
#include "base/clock.h"
#include "base/settings.h"

#define TELL_EVERY_MS 100 /* figures are told at most so often */

static Lane *lanes[CHANNEL_PROVIDERS];

/* ---- lanes ---- */

/* The replica at that address, as long as it is to be reached in the same way. */
static Replica *
same_replica(Replica *const *replicas, int n, const char *address, const Lane *lane)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(replicas[i]->address, address) == 0 &&
			strcmp(replicas[i]->ca_file, lane->ca_file) == 0)
			return replicas[i];
	}
	return NULL;
}

/* Makes the replicas anew; those that stay keep what is known of them, unless the secret is another one. */
static void
take_addresses(Lane *lane, bool same_secret)
{
	Replica *before[LANE_REPLICAS];
	int n_before = lane->n_replicas;
	char *addresses = pstrdup(lane->addresses);
	char *rest = addresses;
	char *address;

	memcpy(before, lane->replicas, sizeof(before));
	lane->n_replicas = 0;
	while ((address = strsep(&rest, "\n")) != NULL && lane->n_replicas < LANE_REPLICAS)
	{
		Replica *kept = same_secret ? same_replica(before, n_before, address, lane) : NULL;

		if (kept != NULL)
			sophia_replica_adjust(kept);
		lane->replicas[lane->n_replicas++] =
			kept != NULL ? kept : sophia_replica_create(lane, address);
	}
	pfree(addresses);
	for (int i = 0; i < n_before; i++)
	{
		bool kept = false;

		for (int k = 0; k < lane->n_replicas; k++)
			kept |= lane->replicas[k] == before[i];
		if (!kept)
			sophia_replica_retire(before[i]);
	}
}

static void
set_text(char **text, const char *value)
{
	if (*text != NULL)
		pfree(*text);
	*text = pstrdup(value);
}

/* Takes the profile that came with a request, where it is newer. */
static void
take_profile(Lane *lane, const GatewayRequest *request)
{
	const RequestHeader *header = &request->header;
	bool first = lane->addresses == NULL;
	bool same_secret;

	if (!first && header->generation <= lane->generation)
		return;
	same_secret = !first && strcmp(lane->secret_name, request->texts[TEXT_SECRET]) == 0;
	lane->generation = header->generation;
	set_text(&lane->addresses, request->texts[TEXT_ADDRESS]);
	set_text(&lane->secret_name, request->texts[TEXT_SECRET]);
	set_text(&lane->auth, request->texts[TEXT_AUTH]);
	set_text(&lane->ca_file, request->texts[TEXT_CA_FILE]);
	set_text(&lane->health_path, request->texts[TEXT_HEALTH]);
	lane->connections = header->connections;
	lane->min_connections = header->min_connections;
	lane->idle_ms = header->idle_ms;
	lane->max_in_flight = header->in_flight;
	lane->breaker_failures = header->breaker_failures;
	lane->breaker_ms = header->breaker_ms;
	lane->queue_bytes = header->queue_bytes;
	sophia_secret_clear(&lane->secret);
	take_addresses(lane, same_secret);
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

	sophia_health_stop(lane);
	for (int i = 0; i < lane->n_replicas; i++)
		sophia_replica_retire(lane->replicas[i]);
	sophia_secret_clear(&lane->secret);
	pfree(lane->addresses);
	pfree(lane->secret_name);
	pfree(lane->ca_file);
	pfree(lane->health_path);
	pfree(lane->auth);
	pfree(lane->provider);
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
	dlist_init(&lane->turns);
	dlist_init(&lane->running);
	dlist_init(&lane->waiting);
	dlist_init(&lane->checks);
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
	int64 now = sophia_clock_ms();

	for (int i = 0; i < CHANNEL_PROVIDERS; i++)
	{
		Lane *lane = lanes[i];

		for (int k = 0; lane != NULL && k < lane->n_replicas; k++)
		{
			Replica *replica = lane->replicas[k];

			sophia_replica_check_address(replica);
			replica->check_due =
				Min(replica->check_due, now + (int64) sophia_health_interval * 1000);
		}
		if (lane != NULL)
			sophia_secret_clear(&lane->secret);
	}
}

/* ---- what is told ---- */

/* Adds up the connections of all addresses; those of a pool that two of them share once only. */
static void
sum_connections(const Lane *lane, HttpPoolFigures *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (int i = 0; i < lane->n_replicas; i++)
	{
		HttpPoolFigures figures = sophia_http_pool_figures(lane->replicas[i]->pool->http);
		bool again = false;

		for (int k = 0; k < i; k++)
			again |= lane->replicas[k]->pool == lane->replicas[i]->pool;
		if (again)
			continue;
		sum->busy += figures.busy;
		sum->idle += figures.idle;
		sum->created += figures.created;
		sum->closed += figures.closed;
	}
}

/* The first address that can be used, else the first. */
static const Replica *
preferred_replica(const Lane *lane)
{
	for (int i = 0; i < lane->n_replicas; i++)
	{
		const Replica *replica = lane->replicas[i];

		if (replica->problem == NULL && replica->breaker.state == BREAKER_CLOSED)
			return replica;
	}
	return lane->replicas[0];
}

static void
fill_state(const Lane *lane, const HttpPoolFigures *connections, ProviderState *told)
{
	static const double parts[] = {0.5, 0.95, 0.99};
	const Replica *replica = preferred_replica(lane);

	told->in_flight = lane->in_flight;
	told->queued = lane->queued;
	told->queued_bytes = lane->queued_bytes;
	told->window = (int) replica->window.size;
	told->busy = connections->busy;
	told->idle = connections->idle;
	told->connections_created = connections->created;
	told->connections_closed = connections->closed;
	told->health = replica->health;
	told->checked_at = replica->checked_at;
	told->breaker = replica->breaker.state;
	strlcpy(told->address, replica->address, sizeof(told->address));
	told->has_latencies = sophia_latencies_percentiles(&lane->latencies, parts, told->latencies);
}

static void
tell(int place, int64 now)
{
	Lane *lane = lanes[place];
	ProviderState *told = &lane->told;
	HttpPoolFigures connections;

	sum_connections(lane, &connections);
	if (told->busy != connections.busy || told->idle != connections.idle ||
		told->breaker != preferred_replica(lane)->breaker.state)
		lane->changed = true;
	if (!lane->changed || (!lane_idle(lane) && now - lane->told_at < TELL_EVERY_MS))
		return;
	fill_state(lane, &connections, told);
	sophia_channels_tell_provider(place, told);
	lane->changed = false;
	lane->told_at = now;
}

bool
sophia_lane_full(const Lane *lane)
{
	return lane->queued_bytes >= (Size) lane->queue_bytes;
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
	if (sophia_flight_join(request))
		return;
	if (session->n_queued > 0 && session->lane != lane)
	{
		request->lane = NULL;
		sophia_request_fail(request, ERRCODE_PROTOCOL_VIOLATION,
							"a session asks one provider at a time");
		return;
	}
	dlist_push_tail(&session->queued, &request->of_queue);
	session->queued_bytes += request->header.body_length;
	lane->queued_bytes += request->header.body_length;
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

/* The next request whose turn it is: one that is due again, else one of the session that has waited longest. */
static GatewayRequest *
next_request(Lane *lane, int64 now)
{
	dlist_iter iter;
	Session *session;

	dlist_foreach(iter, &lane->waiting)
	{
		GatewayRequest *request = dlist_container(GatewayRequest, of_queue, iter.cur);

		if (request->due <= now)
			return request;
	}
	if (dlist_is_empty(&lane->turns))
		return NULL;
	session = dlist_head_element(Session, turn, &lane->turns);
	return dlist_head_element(GatewayRequest, of_queue, &session->queued);
}

/* The session comes last in the next round; sophia_request_leave takes it off where this is its last request. */
static void
end_turn(Lane *lane, GatewayRequest *request)
{
	if (request->state != REQUEST_QUEUED)
		return;
	dlist_delete(&request->session->turn);
	dlist_push_tail(&lane->turns, &request->session->turn);
}

/* Sends what can be sent now. */
static void
send_requests(Lane *lane, int64 now)
{
	GatewayRequest *request;

	lane->blocked = false;
	while ((request = next_request(lane, now)) != NULL)
	{
		Replica *replica = NULL;
		ReplicaChoice choice = sophia_replica_choose(lane, request, now, &replica);

		lane->blocked = choice == REPLICA_LATER;
		if (lane->blocked)
			return;
		end_turn(lane, request);
		sophia_request_leave(request);
		if (choice == REPLICA_FOUND)
			sophia_request_send(request, replica);
		else
			sophia_request_refuse(request);
	}
}

static int64
earlier(int64 a, int64 b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* When something is to be sent here at the latest; -1 = the end of a running request says so. */
static int64
lane_due(Lane *lane, int64 now)
{
	int64 due = -1;
	dlist_iter iter;

	if (lane->changed)
		due = lane->told_at + TELL_EVERY_MS;
	if (lane->blocked)
	{
		for (int i = 0; i < lane->n_replicas; i++)
		{
			if (lane->replicas[i]->paused_until > now)
				due = earlier(due, lane->replicas[i]->paused_until);
		}
		return due;
	}
	dlist_foreach(iter, &lane->waiting)
		due = earlier(due, dlist_container(GatewayRequest, of_queue, iter.cur)->due);
	return due;
}

int64
sophia_lanes_turn(void)
{
	int64 now = sophia_clock_ms();
	int64 next = sophia_pools_turn(now);

	sophia_farewells_turn();

	for (int i = 0; i < CHANNEL_PROVIDERS; i++)
	{
		Lane *lane = lanes[i];

		if (lane == NULL)
			continue;
		collect_finished(lane);
		send_requests(lane, now);
		next = earlier(next, sophia_health_turn(lane, now));
		tell(i, now);
		next = earlier(next, lane_due(lane, now));
	}
	return next;
}
