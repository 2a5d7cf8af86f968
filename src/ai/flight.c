/*
 * flight.c
 *		Single flight: equal requests of several sessions go to a provider once.
 *
 * The first one is sent, and leads; those that come while it is under way follow, and get its answer.  Only what would be
 * cached is shared (messages.h).  When the session of a leader goes, its followers are submitted anew.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "ai/gateway.h"

#define FLIGHTS 1024 /* at first */

typedef struct Flight
{
	uint64 key; /* must come first */
	GatewayRequest *leader;
} Flight;

static HTAB *flights;

static HTAB *
flight_table(void)
{
	HASHCTL control = {
		.keysize = sizeof(uint64), .entrysize = sizeof(Flight), .hcxt = TopMemoryContext};

	if (flights == NULL)
		flights = hash_create("sophia_stack flights", FLIGHTS, &control,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return flights;
}

static uint64
key_of(const GatewayRequest *request)
{
	return hash_bytes_extended((const unsigned char *) request->body, request->header.body_length,
							   (uint64) (uintptr_t) request->lane);
}

static bool
are_equal(const GatewayRequest *a, const GatewayRequest *b)
{
	return a->lane == b->lane && a->header.generation == b->header.generation &&
		   a->header.body_length == b->header.body_length &&
		   strcmp(a->texts[TEXT_PATH], b->texts[TEXT_PATH]) == 0 &&
		   memcmp(a->body, b->body, a->header.body_length) == 0;
}

bool
sophia_flight_join(GatewayRequest *request)
{
	Flight *flight;
	bool found;

	if (!request->header.shareable)
		return false;
	request->flight = key_of(request);
	flight = hash_search(flight_table(), &request->flight, HASH_ENTER, &found);
	if (!found)
	{
		flight->leader = request;
		dlist_init(&request->followers);
		request->leads = true;
	}
	else if (are_equal(flight->leader, request))
	{
		request->leader = flight->leader;
		dlist_push_tail(&flight->leader->followers, &request->of_queue);
	}
	return request->leader != NULL;
}

void
sophia_flight_land(GatewayRequest *leader, const AnswerHeader *answer, const char *body, Size length)
{
	dlist_mutable_iter iter;

	if (!leader->leads)
		return;
	dlist_foreach_modify(iter, &leader->followers)
	{
		GatewayRequest *request = dlist_container(GatewayRequest, of_queue, iter.cur);
		AnswerHeader header = *answer;

		header.number = request->header.number;
		header.shared = true;
		sophia_session_answer(request->session, &header, body, length);
		sophia_request_drop(request);
	}
}

void
sophia_flight_leave(GatewayRequest *request)
{
	if (request->leader != NULL)
		dlist_delete(&request->of_queue);
	request->leader = NULL;
	if (!request->leads)
		return;
	(void) hash_search(flight_table(), &request->flight, HASH_REMOVE, NULL);
	request->leads = false;
	while (!dlist_is_empty(&request->followers))
	{
		GatewayRequest *follower =
			dlist_container(GatewayRequest, of_queue, dlist_pop_head_node(&request->followers));

		follower->leader = NULL;
		sophia_lane_submit(follower);
	}
}
