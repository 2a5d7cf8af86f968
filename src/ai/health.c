/*
 * health.c
 *		Checks the addresses of a provider, and has connections in store: see replica.h.
 *
 * A check asks for something small, which any answer below 500 makes good: it says that the server is there.  It is sent once
 * in sophia_stack.health_interval while the provider is in use, at first with its first request.  Over HTTP/1.1 as many are
 * sent at the same time as there are to be connections at least; so they are the ones that open them, and find out which
 * are broken.  A server that closes idle connections by itself is not chased: each time that it has, twice as many checks
 * pass before the store is filled again.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "ai/lane.h"
#include "base/clock.h"
#include "base/settings.h"

#define CHECK_TIMEOUT_MS   10000
#define CHECK_ANSWER_BYTES (1024 * 1024)
#define LONGEST_PATIENCE   64 /* checks */

typedef struct Check
{
	dlist_node node; /* of the lane's checks */
	Replica *replica;
	HttpRequest *http;
} Check;

/* ---- the end of a check ---- */

static void
end_check(Check *check)
{
	sophia_http_close(check->http);
	dlist_delete(&check->node);
	check->replica->checks--;
	check->replica->in_flight++; /* which leaving takes away */
	sophia_replica_leave(check->replica);
	pfree(check);
}

static void
note_health(Replica *replica, const HttpRequest *http)
{
	Lane *lane = replica->lane;
	bool good = http->ok && http->status < 500;

	if (http->ok)
		replica->multiplexed = http->multiplexed;
	replica->health = good ? HEALTH_GOOD : HEALTH_BAD;
	replica->checked_at = GetCurrentTimestamp();
	if (good && replica->breaker.state == BREAKER_OPEN)
		replica->breaker.open_until = 0; /* it may be probed */
	lane->changed = true;
	if (good)
		return;
	if (http->ok)
		snprintf(lane->told.last_error, sizeof(lane->told.last_error),
				 "health check: HTTP status %ld", http->status);
	else
		snprintf(lane->told.last_error, sizeof(lane->told.last_error), "health check: %s",
				 http->error);
	lane->told.last_error_at = replica->checked_at;
}

static void
collect_checks(Lane *lane)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &lane->checks)
	{
		Check *check = dlist_container(Check, node, iter.cur);

		if (!check->http->finished && !check->http->paused)
			continue;
		if (check->http->finished)
			note_health(check->replica, check->http);
		end_check(check);
	}
}

void
sophia_health_stop(Lane *lane)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &lane->checks)
		end_check(dlist_container(Check, node, iter.cur));
}

/* ---- the begin of checks ---- */

static void
start_check(Replica *replica)
{
	Lane *lane = replica->lane;
	char error[CHANNEL_MESSAGE_BYTES];
	HttpRequest *http =
		sophia_replica_start_http(replica, "GET", lane->health_path, "", 0, CHECK_TIMEOUT_MS,
								  CHECK_ANSWER_BYTES, error, sizeof(error));
	Check *check;

	if (http == NULL)
		return;
	check = palloc0(sizeof(Check));
	check->replica = replica;
	check->http = http;
	dlist_push_tail(&lane->checks, &check->node);
	replica->checks++;
	replica->pool->in_flight++;
}

/* Whether the store is to be filled: not where the server has closed what was in it. */
static bool
wants_store(Replica *replica)
{
	int64 lost = sophia_http_pool_figures(replica->pool->http).lost;

	if (lost > replica->lost)
	{
		replica->fill_after = replica->fill_patience;
		replica->fill_patience = Min(replica->fill_patience * 2, LONGEST_PATIENCE);
	}
	else if (replica->fill_after == 0)
		replica->fill_patience = 1;
	replica->lost = lost;
	return replica->fill_after == 0 || replica->fill_after-- == 0;
}

/* How many checks to send: each of them has a connection of its own. */
static int
checks_to_send(Replica *replica)
{
	const Lane *lane = replica->lane;
	int store = Min(lane->min_connections, lane->connections);

	if (!wants_store(replica) || replica->multiplexed)
		store = 1;
	return Min(Max(store, 1), lane->connections) - replica->pool->in_flight;
}

static void
check_replica(Replica *replica, int64 now)
{
	int n;

	replica->check_due = now + (int64) sophia_health_interval * 1000;
	if (replica->problem != NULL || replica->checks > 0 || !sophia_lane_has_secret(replica->lane))
		return;
	n = checks_to_send(replica);
	for (int i = 0; i < n; i++)
		start_check(replica);
}

int64
sophia_health_turn(Lane *lane, int64 now)
{
	int64 next = -1;

	collect_checks(lane);
	if (sophia_health_interval == 0 || lane->health_path[0] == '\0')
		return -1;
	for (int i = 0; i < lane->n_replicas; i++)
	{
		Replica *replica = lane->replicas[i];
		bool used = lane->in_flight > 0 || now - lane->used_at < lane->idle_ms;

		if (used && replica->check_due <= now)
			check_replica(replica, now);
		if (used && (next < 0 || replica->check_due < next))
			next = replica->check_due;
	}
	return next;
}
