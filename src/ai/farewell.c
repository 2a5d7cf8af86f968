/*
 * farewell.c
 *		Statements at a Snowflake account that nobody waits for any more: they are cancelled there, since they are billed.
 *
 * Nobody waits for that to be answered either; the requests are kept only to be closed.
 */
#include "postgres.h"

#include "ai/lane.h"
#include "base/clock.h"

#define FAREWELLS			16
#define FAREWELL_TIMEOUT_MS 5000

typedef struct Farewell
{
	HttpRequest *http; /* NULL = free */
	Pool *pool;
} Farewell;

static Farewell farewells[FAREWELLS];

void
sophia_farewell_statement(Replica *replica, const char *handle)
{
	char *path = psprintf("/api/v2/statements/%s/cancel", handle);
	char error[256];

	for (int i = 0; i < FAREWELLS; i++)
	{
		Farewell *farewell = &farewells[i];

		if (farewell->http != NULL)
			continue;
		farewell->http = sophia_replica_start_http(
			replica, "POST", path, "{}", 2, FAREWELL_TIMEOUT_MS, 65536, error, sizeof(error));
		farewell->pool = replica->pool;
		if (farewell->http != NULL)
			farewell->pool->in_flight++;
		break;
	}
	pfree(path);
}

void
sophia_farewells_turn(void)
{
	for (int i = 0; i < FAREWELLS; i++)
	{
		Farewell *farewell = &farewells[i];

		if (farewell->http == NULL || !(farewell->http->finished || farewell->http->paused))
			continue;
		sophia_http_close(farewell->http);
		farewell->http = NULL;
		farewell->pool->in_flight--;
		farewell->pool->used_at = sophia_clock_ms();
	}
}
