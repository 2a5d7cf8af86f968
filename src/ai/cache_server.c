/*
 * cache_server.c
 *		The gateway's side of the cache: looks up, stores and purges what sessions ask for.
 *
 * A lookup may take five milliseconds.  Then, or where the server is away, its answer is empty and the session asks the provider:
 * the cache can only save time.  A server that was too slow once is left alone for a moment, so that it does not cost every
 * call its five milliseconds.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "ai/gateway.h"
#include "ai/redis.h"
#include "base/clock.h"
#include "net/loop.h"

#define LOOKUP_MS  5
#define SCAN_COUNT "1000"

/* What a request of the cache waits for. */
typedef struct Work
{
	dlist_node node;		 /* in lookups, while its request waits */
	GatewayRequest *request; /* NULL = it waits no more */
	int n;					 /* keys of a lookup */
	int64 deadline;
	int64 purged;
} Work;

static dlist_head lookups = DLIST_STATIC_INIT(lookups);
static LoopTimer timer = {.due = -1};

/* ---- answers ---- */

static void
answer(GatewayRequest *request, int sqlstate, const char *body, Size length)
{
	AnswerHeader header = {.number = request->header.number, .sqlstate = sqlstate};

	sophia_session_answer(request->session, &header, body, length);
	sophia_request_drop(request);
}

static Work *
make_work(GatewayRequest *request)
{
	Work *work = palloc0(sizeof(Work));

	work->request = request;
	request->work = work;
	return work;
}

void
sophia_cache_forget(void *of)
{
	Work *work = of;

	if (work->deadline != 0)
		dlist_delete(&work->node);
	work->deadline = 0;
	work->request = NULL;
}

void
sophia_cache_tell(void)
{
	static CacheState told = {.state = -1};

	if (memcmp(&told, sophia_redis_state(), sizeof(told)) == 0)
		return;
	told = *sophia_redis_state();
	sophia_channels_tell_cache(&told);
}

/* The next item of a body: its length, and it; false at the end, or where it is not whole. */
static bool
next_item(const char **at, const char *end, const char **item, size_t *length)
{
	uint32 n;

	if (end - *at < (ptrdiff_t) sizeof(n))
		return false;
	memcpy(&n, *at, sizeof(n));
	if (n > (size_t) (end - *at) - sizeof(n))
		return false;
	*item = *at + sizeof(n);
	*length = n;
	*at = *item + n;
	return true;
}

/* ---- lookups ---- */

/* LoopTimer.ring: lookups whose time is over end empty. */
static void
ring(LoopTimer *of)
{
	int64 now = sophia_clock_ms();

	while (!dlist_is_empty(&lookups))
	{
		Work *work = dlist_head_element(Work, node, &lookups);

		if (work->deadline > now)
		{
			timer.due = work->deadline;
			return;
		}
		sophia_redis_state()->unanswered += work->n;
		sophia_redis_note_error("a lookup took more than 5 ms");
		sophia_redis_spare();
		answer(work->request, 0, "", 0);
	}
}

static void
put_values(StringInfo body, const redisReply *reply)
{
	for (size_t i = 0; i < reply->elements; i++)
	{
		const redisReply *value = reply->element[i];
		bool there = value->type == REDIS_REPLY_STRING;
		uint32 length = there ? (uint32) value->len : CACHE_NO_VALUE;

		appendBinaryStringInfo(body, (char *) &length, sizeof(length));
		if (there)
			appendBinaryStringInfo(body, value->str, (int) value->len);
		*(there ? &sophia_redis_state()->hits : &sophia_redis_state()->misses) += 1;
	}
}

/* RedisTaker */
static void
take_values(redisReply *reply, void *owner)
{
	Work *work = owner;
	StringInfoData body;

	if (work->request == NULL)
	{
		pfree(work);
		return;
	}
	initStringInfo(&body);
	if (reply != NULL && reply->type == REDIS_REPLY_ARRAY)
		put_values(&body, reply);
	else
		sophia_redis_state()->unanswered += work->n;
	if (reply != NULL && reply->type == REDIS_REPLY_ERROR)
		sophia_redis_note_error(reply->str);
	answer(work->request, 0, body.data, body.len);
	pfree(body.data);
	pfree(work);
}

static void
look_up(GatewayRequest *request)
{
	const char *at = request->body;
	const char *end = at + request->header.body_length;
	int most = request->header.body_length / sizeof(uint32) + 1;
	const char **arguments = palloc(sizeof(char *) * (most + 1));
	size_t *lengths = palloc(sizeof(size_t) * (most + 1));
	Work *work = make_work(request);
	int n = 1;

	arguments[0] = "MGET";
	lengths[0] = 4;
	while (next_item(&at, end, &arguments[n], &lengths[n]))
		n++;
	work->n = n - 1;
	if (n > 1 && sophia_redis_ready() && sophia_redis_send(take_values, work, n, arguments, lengths))
	{
		work->deadline = sophia_clock_ms() + LOOKUP_MS;
		dlist_push_tail(&lookups, &work->node);
		if (timer.ring == NULL)
		{
			timer.ring = ring;
			sophia_loop_add_timer(&timer);
		}
		if (timer.due < 0)
			timer.due = work->deadline;
	}
	else
	{
		sophia_redis_state()->unanswered += work->n;
		answer(request, 0, "", 0);
		pfree(work);
	}
	pfree(arguments);
	pfree(lengths);
}

/* ---- storing ---- */

/* RedisTaker */
static void
take_stored(redisReply *reply, void *owner)
{
	if (reply != NULL && reply->type == REDIS_REPLY_ERROR)
		sophia_redis_note_error(reply->str);
	else if (reply != NULL)
		sophia_redis_state()->stores++;
}

static void
store(GatewayRequest *request)
{
	const char *at = request->body;
	const char *end = at + request->header.body_length;
	const char *arguments[5] = {"SET", [3] = "EX"};
	size_t lengths[5] = {3, [3] = 2};

	if (sophia_redis_ready() && next_item(&at, end, &arguments[4], &lengths[4]) &&
		next_item(&at, end, &arguments[1], &lengths[1]) &&
		next_item(&at, end, &arguments[2], &lengths[2]))
		(void) sophia_redis_send(take_stored, NULL, 5, arguments, lengths);
	answer(request, 0, "", 0);
}

/* ---- purging ---- */

static void scan(Work *work, const char *cursor);

static void
end_purge(Work *work, bool well)
{
	const char *message = sophia_redis_state()->last_error;

	if (work->request != NULL && well)
		answer(work->request, 0, (char *) &work->purged, sizeof(work->purged));
	else if (work->request != NULL)
		answer(work->request, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message, strlen(message));
	pfree(work);
}

/* RedisTaker */
static void
take_unlinked(redisReply *reply, void *owner)
{
	if (reply != NULL && reply->type == REDIS_REPLY_INTEGER)
		((Work *) owner)->purged += reply->integer;
}

/* RedisTaker: unlinks the keys of one step, and goes on from its cursor. */
static void
take_scanned(redisReply *reply, void *owner)
{
	Work *work = owner;
	const redisReply *keys;

	if (work->request == NULL || reply == NULL || reply->type != REDIS_REPLY_ARRAY ||
		reply->elements != 2)
	{
		end_purge(work, false);
		return;
	}
	keys = reply->element[1];
	if (keys->elements > 0)
	{
		const char **arguments = palloc(sizeof(char *) * (keys->elements + 1));
		size_t *lengths = palloc(sizeof(size_t) * (keys->elements + 1));

		arguments[0] = "UNLINK";
		lengths[0] = 6;
		for (size_t i = 0; i < keys->elements; i++)
		{
			arguments[i + 1] = keys->element[i]->str;
			lengths[i + 1] = keys->element[i]->len;
		}
		(void) sophia_redis_send(take_unlinked, work, (int) keys->elements + 1, arguments, lengths);
		pfree(arguments);
		pfree(lengths);
	}
	scan(work, reply->element[0]->str);
}

/* RedisTaker: a last reply, behind those of the keys that were unlinked. */
static void
take_last(redisReply *reply, void *owner)
{
	end_purge(owner, reply != NULL);
}

/* The next step from a cursor, which the first and the last one have as 0. */
static void
scan(Work *work, const char *cursor)
{
	const char *arguments[] = {"SCAN", cursor, "MATCH", work->request->body, "COUNT", SCAN_COUNT};
	size_t lengths[] = {4, strlen(cursor), 5, strlen(work->request->body), 5, strlen(SCAN_COUNT)};
	const char *ping[] = {"PING"};
	const size_t ping_length[] = {4};
	bool last = strcmp(cursor, "0") == 0;
	bool sent = last ? sophia_redis_send(take_last, work, 1, ping, ping_length)
					 : sophia_redis_send(take_scanned, work, 6, arguments, lengths);

	if (!sent)
		end_purge(work, false);
}

static void
purge(GatewayRequest *request)
{
	const char *off = "sophia_stack.cache_server names no server";
	const char *away = sophia_redis_state()->last_error;

	if (sophia_redis_state()->state == CACHE_UP)
		scan(make_work(request), "00");
	else if (sophia_redis_state()->state == CACHE_OFF)
		answer(request, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, off, strlen(off));
	else
		answer(request, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, away, strlen(away));
}

void
sophia_cache_submit(GatewayRequest *request)
{
	if (request->header.kind == REQUEST_LOOKUP)
		look_up(request);
	else if (request->header.kind == REQUEST_STORE)
		store(request);
	else
		purge(request);
}
