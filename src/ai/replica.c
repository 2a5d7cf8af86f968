/*
 * replica.c
 *		One address of a provider: see replica.h.
 */
#include "postgres.h"

#include "ai/address.h"
#include "ai/lane.h"
#include "base/clock.h"

void
sophia_replica_check_address(Replica *replica)
{
	replica->problem = sophia_provider_address_problem(replica->address, &replica->listed);
}

Replica *
sophia_replica_create(Lane *lane, const char *address)
{
	Replica *replica = palloc0(sizeof(Replica));

	replica->lane = lane;
	replica->address = pstrdup(address);
	replica->ca_file = pstrdup(lane->ca_file);
	replica->pool = sophia_pool_take(address, lane->ca_file, lane->secret_name);
	replica->pool->used_at = sophia_clock_ms();
	replica->fill_patience = 1;
	sophia_window_init(&replica->window, lane->max_in_flight);
	sophia_replica_adjust(replica);
	sophia_replica_check_address(replica);
	return replica;
}

void
sophia_replica_adjust(Replica *replica)
{
	const Lane *lane = replica->lane;

	if (replica->window.most != lane->max_in_flight)
		sophia_window_init(&replica->window, lane->max_in_flight);
	replica->breaker.most_failures = lane->breaker_failures;
	replica->breaker.base_ms = lane->breaker_ms;
	replica->pool->idle_ms = lane->idle_ms;
}

static void
free_retired(Replica *replica)
{
	if (!replica->retired || replica->in_flight > 0 || replica->checks > 0)
		return;
	sophia_pool_release(replica->pool);
	pfree(replica->address);
	pfree(replica->ca_file);
	pfree(replica);
}

void
sophia_replica_retire(Replica *replica)
{
	replica->retired = true;
	free_retired(replica);
}

void
sophia_replica_leave(Replica *replica)
{
	replica->in_flight--;
	replica->pool->in_flight--;
	free_retired(replica);
}

/* Over HTTP/1.1 each request that runs has a connection of its own. */
static bool
has_room(const Replica *replica)
{
	const Lane *lane = replica->lane;

	return lane->in_flight < lane->max_in_flight &&
		   replica->in_flight < (int) replica->window.size &&
		   (replica->multiplexed || replica->pool->in_flight < lane->connections);
}

static bool
was_tried(const GatewayRequest *request, int place)
{
	return (request->tried & ((uint32) 1 << place)) != 0;
}

static ReplicaChoice
choose(Lane *lane, const GatewayRequest *request, bool again, int64 now, Replica **found)
{
	ReplicaChoice choice = REPLICA_NONE;

	for (int i = 0; i < lane->n_replicas; i++)
	{
		Replica *replica = lane->replicas[i];

		if (replica->problem != NULL || (!again && was_tried(request, i)))
			continue;
		if (!sophia_breaker_allows(&replica->breaker, now))
		{
			if (replica->breaker.state == BREAKER_HALF_OPEN)
				choice = REPLICA_LATER;
			continue;
		}
		if (replica->paused_until > now)
		{
			choice = REPLICA_LATER;
			continue;
		}
		*found = replica;
		return has_room(replica) ? REPLICA_FOUND : REPLICA_LATER;
	}
	return choice;
}

ReplicaChoice
sophia_replica_choose(Lane *lane, const GatewayRequest *request, int64 now, Replica **found)
{
	ReplicaChoice choice = choose(lane, request, false, now, found);

	return choice == REPLICA_NONE && request->tried != 0 ? choose(lane, request, true, now, found)
														 : choice;
}

bool
sophia_replica_other(const GatewayRequest *request, int64 now)
{
	Lane *lane = request->lane;

	for (int i = 0; i < lane->n_replicas; i++)
	{
		Replica *replica = lane->replicas[i];

		if (replica != request->replica && replica->problem == NULL && !was_tried(request, i) &&
			replica->paused_until <= now && sophia_breaker_allows(&replica->breaker, now))
			return true;
	}
	return false;
}
