/*
 * redis.c
 *		The gateway's connection to the Redis server of the cache: see redis.h.
 *
 * One connection serves all sessions: commands are written one behind the other, and replies come in their order.  Its socket
 * is watched by the loop of the gateway; connecting does not wait either, but for the look-up of a host's name.  A server that
 * says nothing for two seconds has its connection closed; a new one is made after a time that doubles up to a limit.
 */
#include "postgres.h"

#include <hiredis/async.h>

#include "utils/timestamp.h"

#include "ai/redis.h"
#include "base/clock.h"
#include "base/settings.h"
#include "net/loop.h"
#include "store/secrets.h"

#define SILENCE_MS	  2000 /* longest wait for a reply before the connection is given up */
#define SPARE_MS	  1000 /* how long a server that was too slow is left alone */
#define BACKOFF_MS	  100  /* before the second try to connect; it doubles */
#define MOST_BACKOFF  6	   /* times that it does */
#define MOST_COMMANDS 4096 /* under way */

typedef struct Command
{
	RedisTaker take;
	void *owner;
} Command;

static redisAsyncContext *connection = NULL;
static LoopWatch watch;
static int wanted = 0; /* events of the socket */
static LoopTimer timer = {.due = -1};
static CacheState state;
static char *server; /* the settings that the connection was made by */
static char *secret_name;
static int failures = 0;	/* to connect, in a row */
static int outstanding = 0; /* commands */
static int64 heard_at = 0;	/* the last reply, or the first command after it */
static int64 spared_until = 0;

CacheState *
sophia_redis_state(void)
{
	return &state;
}

void
sophia_redis_note_error(const char *error)
{
	strlcpy(state.last_error, error, sizeof(state.last_error));
	for (char *c = state.last_error; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || (unsigned char) *c > '~')
			*c = '?';
	}
	state.last_error_at = GetCurrentTimestamp();
	state.errors++;
}

/* ---- the loop ---- */

static void
want(int events)
{
	if (events != 0 && !sophia_loop_watch(&watch, events))
		sophia_redis_note_error("the socket cannot be watched");
	if (events == 0)
		sophia_loop_forget(&watch);
	wanted = events;
}

static void
add_read(void *owner)
{
	want(wanted | LOOP_READABLE);
}

static void
del_read(void *owner)
{
	want(wanted & ~LOOP_READABLE);
}

static void
add_write(void *owner)
{
	want(wanted | LOOP_WRITABLE);
}

static void
del_write(void *owner)
{
	want(wanted & ~LOOP_WRITABLE);
}

static void
cleanup(void *owner)
{
	want(0);
}

/* LoopWatch.ready; either call may end the connection. */
static void
ready(LoopWatch *of, int events)
{
	bool failed = (events & LOOP_FAILED) != 0;

	if (connection != NULL && ((events & LOOP_READABLE) != 0 || failed))
		redisAsyncHandleRead(connection);
	if (connection != NULL && (events & LOOP_WRITABLE) != 0)
		redisAsyncHandleWrite(connection);
}

/* ---- coming and going ---- */

static void
connect_later(void)
{
	state.state = CACHE_CONNECTING;
	timer.due = sophia_clock_ms() + ((int64) BACKOFF_MS << Min(failures, MOST_BACKOFF));
	failures++;
}

/* The library has given a connection up, and frees it. */
static void
ended(const redisAsyncContext *of)
{
	if (of != connection)
		return;
	connection = NULL;
	outstanding = 0;
	sophia_redis_note_error(of->errstr != NULL && of->errstr[0] != '\0' ? of->errstr
																		: "connection closed");
	connect_later();
}

static void
connected(const redisAsyncContext *of, int status)
{
	if (status != REDIS_OK)
		ended(of);
}

static void
disconnected(const redisAsyncContext *of, int status)
{
	ended(of);
}

static void
drop_connection(void)
{
	redisAsyncContext *dropped = connection;

	connection = NULL;
	outstanding = 0;
	if (dropped != NULL)
		redisAsyncFree(dropped);
}

static void
give_up(const char *error)
{
	sophia_redis_note_error(error);
	drop_connection();
	connect_later();
}

/* The reply to AUTH. */
static void
take_auth(redisReply *reply, void *owner)
{
	if (reply != NULL && reply->type == REDIS_REPLY_ERROR)
		give_up(psprintf("the password is not accepted: %s", reply->str));
}

/* The reply to the first PING: now the server is there. */
static void
take_ping(redisReply *reply, void *owner)
{
	if (reply == NULL || connection == NULL)
		return;
	if (reply->type == REDIS_REPLY_ERROR)
	{
		give_up(reply->str);
		return;
	}
	failures = 0;
	spared_until = 0;
	state.state = CACHE_UP;
	state.connections++;
}

static bool
send_password(void)
{
	Secret secret = {0};
	char error[CHANNEL_MESSAGE_BYTES];
	const char *arguments[] = {"AUTH", NULL};
	size_t lengths[] = {4, 0};
	bool ok;

	if (secret_name[0] == '\0')
		return true;
	if (!sophia_secret_read(secret_name, &secret, error, sizeof(error)))
	{
		give_up(error);
		return false;
	}
	arguments[1] = secret.value;
	lengths[1] = secret.length;
	ok = sophia_redis_send(take_auth, NULL, 2, arguments, lengths);
	sophia_secret_clear(&secret);
	return ok;
}

/* Host and port of a setting that was checked; brackets of an IPv6 address are taken off. */
static redisAsyncContext *
open_connection(void)
{
	const char *colon = strrchr(server, ':');
	redisAsyncContext *made;
	char *host;

	if (strncmp(server, "unix:", 5) == 0)
		return redisAsyncConnectUnix(server + 5);
	host = server[0] == '[' ? pnstrdup(server + 1, colon - server - 2)
							: pnstrdup(server, colon - server);
	made = redisAsyncConnect(host, (int) strtol(colon + 1, NULL, 10));
	pfree(host);
	return made;
}

static void
connect_now(void)
{
	const char *arguments[] = {"PING"};
	const size_t lengths[] = {4};

	state.state = CACHE_CONNECTING;
	connection = open_connection();
	if (connection == NULL || connection->err != 0)
	{
		sophia_redis_note_error(connection != NULL ? connection->errstr : "out of memory");
		drop_connection();
		connect_later();
		return;
	}
	watch = (LoopWatch){.fd = connection->c.fd, .ready = ready};
	wanted = 0;
	connection->ev.addRead = add_read;
	connection->ev.delRead = del_read;
	connection->ev.addWrite = add_write;
	connection->ev.delWrite = del_write;
	connection->ev.cleanup = cleanup;
	redisAsyncSetConnectCallback(connection, connected);
	redisAsyncSetDisconnectCallback(connection, disconnected);
	if (send_password())
		(void) sophia_redis_send(take_ping, NULL, 1, arguments, lengths);
}

/* LoopTimer.ring: it is time to connect, or to see whether the server still says anything. */
static void
ring(LoopTimer *of)
{
	int64 now = sophia_clock_ms();

	if (state.state == CACHE_OFF)
		return;
	if (connection == NULL)
		connect_now();
	else if (outstanding > 0 && now - heard_at >= SILENCE_MS)
		give_up("no answer within 2 s");
	else if (outstanding > 0)
		timer.due = heard_at + SILENCE_MS;
}

void
sophia_redis_reload(void)
{
	if (strcmp(server, sophia_cache_server) == 0 && strcmp(secret_name, sophia_cache_secret) == 0)
		return;
	pfree(server);
	pfree(secret_name);
	server = pstrdup(sophia_cache_server);
	secret_name = pstrdup(sophia_cache_secret);
	drop_connection();
	failures = 0;
	timer.due = -1;
	state.state = CACHE_OFF;
	if (server[0] != '\0')
		connect_now();
}

void
sophia_redis_start(void)
{
	timer.ring = ring;
	sophia_loop_add_timer(&timer);
	server = pstrdup("");
	secret_name = pstrdup("");
	sophia_redis_reload();
}

/* ---- commands ---- */

bool
sophia_redis_ready(void)
{
	return state.state == CACHE_UP && outstanding < MOST_COMMANDS &&
		   sophia_clock_ms() >= spared_until;
}

void
sophia_redis_spare(void)
{
	spared_until = sophia_clock_ms() + SPARE_MS;
}

/* redisCallbackFn */
static void
take_reply(redisAsyncContext *of, void *data, void *owner)
{
	Command command = *(Command *) owner;

	pfree(owner);
	if (of == connection)
	{
		outstanding--;
		heard_at = sophia_clock_ms();
	}
	command.take(data, command.owner);
}

bool
sophia_redis_send(RedisTaker take, void *owner, int n, const char **arguments, const size_t *lengths)
{
	Command *command;

	if (connection == NULL)
		return false;
	command = palloc(sizeof(Command));
	*command = (Command){take, owner};
	if (redisAsyncCommandArgv(connection, take_reply, command, n, arguments, lengths) != REDIS_OK)
	{
		pfree(command);
		return false;
	}
	if (outstanding++ == 0)
		heard_at = sophia_clock_ms();
	if (timer.due < 0)
		timer.due = heard_at + SILENCE_MS;
	return true;
}
