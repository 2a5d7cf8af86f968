/*
 * listing.c
 *		Lists requests where sophia.gateway_requests finds them.
 *
 * There are so many places; a request that finds none is not listed, and misses nothing else.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "ai/gateway.h"

static RequestEntry entries[CHANNEL_REQUESTS];
static int place_after; /* where the last one went */

static int
free_place(void)
{
	for (int i = 1; i <= CHANNEL_REQUESTS; i++)
	{
		int place = (place_after + i) % CHANNEL_REQUESTS;

		if (entries[place].state == REQUEST_FREE)
			return place_after = place;
	}
	return -1;
}

static void
fill(RequestEntry *entry, const GatewayRequest *request)
{
	entry->number = request->header.number;
	entry->pid = request->session->pid;
	entry->database = request->header.database;
	entry->role = request->header.role;
	entry->received_at = GetCurrentTimestamp();
	strlcpy(entry->provider, request->texts[TEXT_PROVIDER], sizeof(entry->provider));
	strlcpy(entry->model, request->texts[TEXT_MODEL], sizeof(entry->model));
	strlcpy(entry->function, request->texts[TEXT_FUNCTION], sizeof(entry->function));
}

void
sophia_listing_show(GatewayRequest *request, RequestState state)
{
	RequestEntry *entry;

	request->state = state;
	if (request->place < 0)
	{
		request->place = free_place();
		if (request->place < 0)
			return;
		fill(&entries[request->place], request);
	}
	entry = &entries[request->place];
	entry->state = state;
	entry->attempts = request->attempts;
	sophia_channels_tell_request(request->place, entry);
}

void
sophia_listing_remove(GatewayRequest *request)
{
	if (request->place < 0)
		return;
	memset(&entries[request->place], 0, sizeof(RequestEntry));
	sophia_channels_tell_request(request->place, &entries[request->place]);
	request->place = -1;
}
