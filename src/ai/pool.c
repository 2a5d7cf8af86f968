/*
 * pool.c
 *		The pools of connections that the gateway has: see pool.h.
 */
#include "postgres.h"

#include "ai/pool.h"
#include "base/clock.h"

/* More connections than a provider may have (sophia.check_provider_options) are never idle. */
#define MOST_IDLE 200

static dlist_head pools = DLIST_STATIC_INIT(pools);

/* What connections are equal by: scheme, host and port, the authority, and whose they are. */
static char *
make_key(const char *address, const char *ca_file, const char *secret_name)
{
	size_t host = strcspn(address, "/") + 2;
	int length = (int) (host + strcspn(address + host, "/"));

	return psprintf("%.*s\n%s\n%s", length, address, ca_file, secret_name);
}

Pool *
sophia_pool_take(const char *address, const char *ca_file, const char *secret_name)
{
	char *key = make_key(address, ca_file, secret_name);
	dlist_iter iter;
	Pool *pool;

	dlist_foreach(iter, &pools)
	{
		pool = dlist_container(Pool, node, iter.cur);
		if (strcmp(pool->key, key) == 0)
		{
			pfree(key);
			pool->users++;
			return pool;
		}
	}
	pool = palloc0(sizeof(Pool));
	pool->key = key;
	pool->users = 1;
	pool->http = sophia_http_pool_create(MOST_IDLE);
	dlist_push_tail(&pools, &pool->node);
	return pool;
}

void
sophia_pool_release(Pool *pool)
{
	if (--pool->users > 0)
		return;
	dlist_delete(&pool->node);
	sophia_http_pool_free(pool->http);
	pfree(pool->key);
	pfree(pool);
}

int64
sophia_pools_turn(int64 now)
{
	int64 next = -1;
	dlist_iter iter;

	dlist_foreach(iter, &pools)
	{
		Pool *pool = dlist_container(Pool, node, iter.cur);
		int64 due = pool->used_at + pool->idle_ms;

		if (pool->in_flight > 0 || sophia_http_pool_figures(pool->http).idle == 0)
			continue;
		if (due <= now)
			sophia_http_pool_empty(pool->http);
		else if (next < 0 || due < next)
			next = due;
	}
	return next;
}
