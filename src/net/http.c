/*
 * http.c
 *		HTTP requests on the event loop: see http.h.  The only file that knows libcurl.
 *
 * The transfers of a pool share one curl multi handle, whose sockets and timer live in the event loop.
 * libcurl watches the socket of a connection while a transfer uses it.  One that it does not watch is
 * idle; then it is watched here for the server's closing it, which libcurl finds out at the next use
 * only.  The handles of transfers that have ended are used again.
 *
 * Rules that hold here:
 * - Inside libcurl's callbacks nothing throws and nothing is palloc'ed: they fill malloc'ed buffers
 *   and plain fields. AcquireExternalFD and ReleaseExternalFD only count, and close files of the
 *   server's own that can be reopened.
 * - libcurl looks names up in threads that inherit the signal mask.  A handler of the server must
 *   never run in one, so every call that may start a thread runs with all signals blocked.
 * - The address is checked when the socket is made, after the name was resolved, so that no name
 *   can lead elsewhere.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "net/address.h"
#include "net/http.h"
#include "net/loop.h"

#define CONNECT_TIMEOUT_MS	 10000L
#define KEEPALIVE_IDLE_S	 60L
#define KEEPALIVE_INTERVAL_S 30L
#define RECEIVE_BUFFER		 (512L * 1024L)
#define SMALL_RECEIVE_BUFFER (16L * 1024L)

/* Connections that the common pool keeps for requests to come. */
#define IDLE_CONNECTIONS 256
#define LONGEST_WAIT_S	 (24L * 3600L)

/* Handles that a pool keeps to use again. */
#define SPARE_TRANSFERS 32

/* The largest body whose memory is kept with them. */
#define SPARE_BODY (64 * 1024)

struct HttpPool
{
	dlist_node node; /* of pools */
	CURLM *multi;	 /* NULL = there is no connection */
	LoopTimer timer;
	int most_idle;
	dlist_head transfers;
	dlist_head spare; /* transfers that have ended */
	int n_spare;
	HttpPoolFigures figures;
};

typedef enum ConnectionState
{
	CONNECTION_BUSY,
	CONNECTION_IDLE,
	CONNECTION_LOST /* the server has closed it */
} ConnectionState;

/* A socket that libcurl has: a connection, or one by which it wakes itself. */
typedef struct HttpSocket
{
	LoopWatch watch;
	HttpPool *pool;
	bool connection;
	ConnectionState state;
} HttpSocket;

typedef struct HttpTransfer
{
	HttpRequest request;
	dlist_node node; /* of the pool's transfers */
	CURL *easy;
	struct curl_slist *headers;
	HttpPool *pool;
	bool any_address;
	bool refused;	/* the address is one that is never talked to */
	bool no_memory; /* an answer found no room */
	char curl_error[CURL_ERROR_SIZE];
} HttpTransfer;

static dlist_head pools = DLIST_STATIC_INIT(pools);
static HttpPool *common_pool = NULL;

/* The sockets of all pools, by descriptor. */
static HttpSocket **sockets = NULL;
static int n_sockets = 0;

/* Blocks every signal but those that tell of a fault of our own. */
static void
block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_BLOCK, &all, before);
}

static void
restore_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* Tells an owner that its transfer ended. */
static void
finish_transfer(HttpTransfer *transfer, CURLcode result)
{
	HttpRequest *request = &transfer->request;
	const char *reason = curl_easy_strerror(result);
	curl_off_t retry_after = 0;
	long version = 0;
	char *redirect = NULL;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &retry_after);
	curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &redirect);
	request->retry_after_s = Min(Max(retry_after, 0), LONGEST_WAIT_S);
	request->redirect = redirect != NULL ? strdup(redirect) : NULL;
	curl_easy_getinfo(transfer->easy, CURLINFO_HTTP_VERSION, &version);
	request->multiplexed = version >= CURL_HTTP_VERSION_2_0;
	request->timed_out = result == CURLE_OPERATION_TIMEDOUT;
	request->untrusted = result == CURLE_PEER_FAILED_VERIFICATION;
	request->finished = true;
	request->ok = result == CURLE_OK;
	if (request->ok)
		return;
	if (transfer->refused)
		reason = "link-local and metadata addresses are refused";
	else if (transfer->no_memory)
		reason = "out of memory";
	else if (transfer->curl_error[0] != '\0')
		reason = transfer->curl_error;
	strlcpy(request->error, reason, sizeof(request->error));
}

static void
finish_transfers(HttpPool *pool)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(pool->multi, &left)) != NULL)
	{
		char *private = NULL;
		CURLcode result = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		finish_transfer((HttpTransfer *) private, result);
	}
}

/* Lets libcurl act on a socket, or on its timer (CURL_SOCKET_TIMEOUT). */
static void
act(HttpPool *pool, curl_socket_t socket, int actions)
{
	sigset_t before;
	int running;

	block_signals(&before);
	curl_multi_socket_action(pool->multi, socket, actions, &running);
	finish_transfers(pool);
	restore_signals(&before);
}

/* ---- sockets ---- */

static void
count_socket(HttpSocket *socket, int n)
{
	HttpPoolFigures *figures = &socket->pool->figures;

	if (!socket->connection)
		return;
	if (socket->state == CONNECTION_BUSY)
		figures->busy += n;
	else if (socket->state == CONNECTION_IDLE)
		figures->idle += n;
}

static void
set_state(HttpSocket *socket, ConnectionState state)
{
	count_socket(socket, -1);
	socket->state = state;
	count_socket(socket, 1);
}

static void
lose_connection(HttpSocket *socket)
{
	sophia_loop_forget(&socket->watch);
	if (!socket->connection)
		return;
	set_state(socket, CONNECTION_LOST);
	socket->pool->figures.closed++;
	socket->pool->figures.lost++;
}

static void
socket_ready(LoopWatch *watch, int events)
{
	HttpSocket *socket = watch->owner;
	int actions = 0;

	if (socket->state == CONNECTION_IDLE)
	{
		lose_connection(socket);
		return;
	}
	if ((events & LOOP_READABLE) != 0)
		actions |= CURL_CSELECT_IN;
	if ((events & LOOP_WRITABLE) != 0)
		actions |= CURL_CSELECT_OUT;
	if ((events & LOOP_FAILED) != 0)
		actions |= CURL_CSELECT_ERR;
	act(socket->pool, watch->fd, actions);
}

static void
timer_rings(LoopTimer *timer)
{
	act((HttpPool *) ((char *) timer - offsetof(HttpPool, timer)), CURL_SOCKET_TIMEOUT, 0);
}

static void
remove_socket(HttpSocket *socket)
{
	sophia_loop_forget(&socket->watch);
	count_socket(socket, -1);
	sockets[socket->watch.fd] = NULL;
	free(socket);
}

/* Remembers a socket; NULL without memory. */
static HttpSocket *
add_socket(HttpPool *pool, int fd, bool connection)
{
	HttpSocket *socket;

	if (fd >= n_sockets)
	{
		int n = Max(fd + 1, 2 * n_sockets);
		HttpSocket **more = realloc(sockets, sizeof(HttpSocket *) * n);

		if (more == NULL)
			return NULL;
		memset(more + n_sockets, 0, sizeof(HttpSocket *) * (n - n_sockets));
		sockets = more;
		n_sockets = n;
	}
	if (sockets[fd] != NULL) /* its number was given away again */
		remove_socket(sockets[fd]);
	socket = calloc(1, sizeof(HttpSocket));
	if (socket == NULL)
		return NULL;
	socket->watch.fd = fd;
	socket->watch.ready = socket_ready;
	socket->watch.owner = socket;
	socket->pool = pool;
	socket->connection = connection;
	sockets[fd] = socket;
	count_socket(socket, 1);
	return socket;
}

/* No transfer uses it any more. */
static void
release_socket(HttpSocket *socket)
{
	if (!socket->connection)
		remove_socket(socket);
	else if (socket->state == CONNECTION_BUSY)
	{
		set_state(socket, CONNECTION_IDLE);
		(void) sophia_loop_watch(&socket->watch, LOOP_CLOSED);
	}
}

/* CURLMOPT_SOCKETFUNCTION: libcurl wants a socket watched, for other events, or no more. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *unused)
{
	HttpSocket *socket = fd < n_sockets ? sockets[fd] : NULL;
	int events = 0;

	if (what == CURL_POLL_REMOVE)
	{
		if (socket != NULL)
			release_socket(socket);
		return 0;
	}
	if (socket == NULL)
		socket = add_socket(data, fd, false);
	if (socket == NULL)
		return -1;
	if (socket->state == CONNECTION_LOST)
	{
		socket->pool->figures.closed--;
		socket->pool->figures.lost--;
	}
	if (socket->state != CONNECTION_BUSY)
		set_state(socket, CONNECTION_BUSY);
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= LOOP_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= LOOP_WRITABLE;
	return sophia_loop_watch(&socket->watch, events) ? 0 : -1;
}

/* CURLMOPT_TIMERFUNCTION */
static int
on_timer(CURLM *unused, long timeout_ms, void *data)
{
	HttpPool *pool = data;

	pool->timer.due = timeout_ms < 0 ? -1 : sophia_clock_ms() + timeout_ms;
	return 0;
}

/* CURLOPT_OPENSOCKETFUNCTION */
static curl_socket_t
on_open(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpTransfer *transfer = data;
	int fd;

	if (!transfer->any_address && sophia_address_refused(&address->addr))
	{
		transfer->refused = true;
		return CURL_SOCKET_BAD;
	}
	if (!AcquireExternalFD())
		return CURL_SOCKET_BAD;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0 || add_socket(transfer->pool, fd, true) == NULL)
	{
		if (fd >= 0)
			close(fd);
		ReleaseExternalFD();
		return CURL_SOCKET_BAD;
	}
	transfer->pool->figures.created++;
	return fd;
}

/* CURLOPT_CLOSESOCKETFUNCTION; a connection outlives the transfer that made it. */
static int
on_close(void *unused, curl_socket_t fd)
{
	HttpSocket *socket = fd < n_sockets ? sockets[fd] : NULL;

	if (socket != NULL)
	{
		if (socket->state != CONNECTION_LOST)
			socket->pool->figures.closed++;
		remove_socket(socket);
	}
	ReleaseExternalFD();
	return close(fd);
}

/* CURLOPT_WRITEFUNCTION */
static size_t
on_body(char *bytes, size_t size, size_t count, void *data)
{
	HttpTransfer *transfer = data;
	HttpRequest *request = &transfer->request;

	if (request->status == 0)
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	if (request->limit > 0 && buffer_size(&request->body) >= request->limit)
	{
		request->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (!sophia_buffer_append(&request->body, bytes, size * count))
	{
		transfer->no_memory = true;
		return 0;
	}
	return size * count;
}

/* ---- transfers and pools; signals are blocked ---- */

/* Ends a transfer, whatever its state. */
static void
end_transfer(HttpTransfer *transfer)
{
	if (transfer->easy != NULL && transfer->pool->multi != NULL)
		curl_multi_remove_handle(transfer->pool->multi, transfer->easy);
	/* A header may hold a credential. */
	for (struct curl_slist *header = transfer->headers; header != NULL; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	free(transfer->request.redirect);
	transfer->request.redirect = NULL;
}

static void
free_transfer(HttpTransfer *transfer)
{
	dlist_delete(&transfer->node);
	end_transfer(transfer);
	if (transfer->easy != NULL)
		curl_easy_cleanup(transfer->easy);
	sophia_buffer_free(&transfer->request.body);
	free(transfer);
}

/* Keeps a transfer that has ended, so that the next one needs no new handle. */
static void
keep_transfer(HttpTransfer *transfer)
{
	ByteBuffer body = transfer->request.body;

	end_transfer(transfer);
	dlist_delete(&transfer->node);
	dlist_push_head(&transfer->pool->spare, &transfer->node);
	transfer->pool->n_spare++;
	if (body.capacity > SPARE_BODY)
		sophia_buffer_free(&body);
	else
		sophia_buffer_clear(&body);
	memset(&transfer->request, 0, sizeof(transfer->request));
	transfer->request.transfer = transfer;
	transfer->request.body = body;
	transfer->refused = transfer->no_memory = false;
	transfer->curl_error[0] = '\0';
}

static void
free_spare(HttpPool *pool)
{
	while (!dlist_is_empty(&pool->spare))
		free_transfer(dlist_head_element(HttpTransfer, node, &pool->spare));
	pool->n_spare = 0;
}

static void
close_connections(HttpPool *pool)
{
	free_spare(pool);
	curl_multi_cleanup(pool->multi);
	pool->multi = NULL;
	pool->timer.due = -1;
}

/*
 * before_shmem_exit: closes what is open, without waiting for a name that is still being looked
 * up.
 */
static void
close_all(int code, Datum argument)
{
	sigset_t before;
	dlist_iter iter;

	block_signals(&before);
	dlist_foreach(iter, &pools)
	{
		HttpPool *pool = dlist_container(HttpPool, node, iter.cur);

		while (!dlist_is_empty(&pool->transfers))
		{
			HttpTransfer *transfer = dlist_head_element(HttpTransfer, node, &pool->transfers);

			if (transfer->easy != NULL)
				curl_easy_setopt(transfer->easy, CURLOPT_QUICK_EXIT, 1L);
			free_transfer(transfer);
		}
		close_connections(pool);
	}
	restore_signals(&before);
}

/* Has a pool ready for connections; raises what is in the way. */
static void
prepare_multi(HttpPool *pool)
{
	static bool initialized = false;
	sigset_t before;

	if (pool->multi != NULL)
		return;
	sophia_loop_init();
	block_signals(&before);
	if (initialized || curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		pool->multi = curl_multi_init();
	if (pool->multi != NULL)
	{
		curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
		curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
		curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer);
		curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
		curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long) pool->most_idle);
	}
	restore_signals(&before);
	if (pool->multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not initialize the HTTP library")));
	if (!initialized)
		before_shmem_exit(close_all, (Datum) 0);
	initialized = true;
}

HttpPool *
sophia_http_pool_create(int most_idle)
{
	HttpPool *pool = MemoryContextAllocZero(TopMemoryContext, sizeof(HttpPool));

	pool->most_idle = most_idle;
	pool->timer.due = -1;
	pool->timer.ring = timer_rings;
	dlist_init(&pool->transfers);
	dlist_init(&pool->spare);
	sophia_loop_add_timer(&pool->timer);
	dlist_push_tail(&pools, &pool->node);
	return pool;
}

void
sophia_http_pool_empty(HttpPool *pool)
{
	sigset_t before;

	block_signals(&before);
	close_connections(pool);
	restore_signals(&before);
}

void
sophia_http_pool_free(HttpPool *pool)
{
	sophia_http_pool_empty(pool);
	sophia_loop_remove_timer(&pool->timer);
	dlist_delete(&pool->node);
	pfree(pool);
}

HttpPoolFigures
sophia_http_pool_figures(const HttpPool *pool)
{
	return pool->figures;
}

/* ---- starting ---- */

/* Copies the headers; false when one holds a control character, or without memory. */
static bool
add_headers(HttpTransfer *transfer, const char *const *headers)
{
	for (; headers != NULL && *headers != NULL; headers++)
	{
		struct curl_slist *longer;

		for (const unsigned char *ch = (const unsigned char *) *headers; *ch != '\0'; ch++)
		{
			if (*ch < 0x20 || *ch == 0x7F)
				return false;
		}
		longer = curl_slist_append(transfer->headers, *headers);
		if (longer == NULL)
			return false;
		transfer->headers = longer;
	}
	return true;
}

#define SET(option, value) (ok &= curl_easy_setopt(easy, option, value) == CURLE_OK)

/* How every connection is made, and what a handle keeps: libcurl refuses another size of a buffer that it has. */
static bool
configure_handle(HttpTransfer *transfer, CURL *easy, bool small)
{
	bool ok = true;

	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_BUFFERSIZE, small ? SMALL_RECEIVE_BUFFER : RECEIVE_BUFFER);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->curl_error);
	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_USERAGENT, "sophia_stack/" SOPHIA_STACK_VERSION);
	return ok;
}

/* What this request asks. */
static bool
configure_request(HttpTransfer *transfer, CURL *easy, const HttpOptions *options)
{
	bool ok = true;

	SET(CURLOPT_URL, options->url);
	SET(CURLOPT_HTTPHEADER, transfer->headers);
	SET(CURLOPT_HTTP_VERSION,
		(long) (options->http1 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
	SET(CURLOPT_PIPEWAIT, options->pool != NULL ? 1L : 0L);
	SET(CURLOPT_MAXAGE_CONN, options->idle_s);
	SET(CURLOPT_TIMEOUT_MS, options->timeout_ms);
	if (options->ca_file != NULL)
		SET(CURLOPT_CAINFO, options->ca_file);
	SET(CURLOPT_LOW_SPEED_LIMIT, options->low_speed_s > 0 ? 1L : 0L);
	SET(CURLOPT_LOW_SPEED_TIME, options->low_speed_s);
	if (strcmp(options->method, "POST") == 0)
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) options->body_length);
		SET(CURLOPT_COPYPOSTFIELDS, options->body);
	}
	else
		SET(CURLOPT_HTTPGET, 1L);
	return ok;
}

/* Hands a transfer to libcurl; on failure it is left for the caller to free. */
static const char *
launch(HttpTransfer *transfer, const HttpOptions *options)
{
	bool fresh = transfer->easy == NULL;

	if (!add_headers(transfer, options->headers))
		return "a request header holds a control character";
	if (fresh)
		transfer->easy = curl_easy_init();
	if (transfer->easy == NULL ||
		(fresh && !configure_handle(transfer, transfer->easy, options->small)) ||
		!configure_request(transfer, transfer->easy, options) ||
		curl_multi_add_handle(transfer->pool->multi, transfer->easy) != CURLM_OK)
		return "the HTTP library refused the request";
	return NULL;
}

/* A transfer that is none yet; NULL without memory. */
static HttpTransfer *
take_transfer(HttpPool *pool)
{
	HttpTransfer *transfer;

	if (pool->n_spare > 0)
	{
		transfer = dlist_container(HttpTransfer, node, dlist_pop_head_node(&pool->spare));
		pool->n_spare--;
	}
	else
		transfer = calloc(1, sizeof(*transfer));
	if (transfer == NULL)
		return NULL;
	transfer->request.transfer = transfer;
	transfer->pool = pool;
	dlist_push_tail(&pool->transfers, &transfer->node);
	return transfer;
}

HttpRequest *
sophia_http_start(const HttpOptions *options, char *error, size_t error_size)
{
	HttpTransfer *transfer;
	const char *failure;
	sigset_t before;

	if (options->pool == NULL && common_pool == NULL)
		common_pool = sophia_http_pool_create(IDLE_CONNECTIONS);
	prepare_multi(options->pool != NULL ? options->pool : common_pool);
	transfer = take_transfer(options->pool != NULL ? options->pool : common_pool);
	if (transfer == NULL)
	{
		strlcpy(error, "out of memory", error_size);
		return NULL;
	}
	transfer->request.limit = options->limit;
	transfer->any_address = options->any_address;
	block_signals(&before);
	failure = launch(transfer, options);
	if (failure != NULL)
		free_transfer(transfer);
	restore_signals(&before);
	if (failure != NULL)
	{
		strlcpy(error, failure, error_size);
		return NULL;
	}
	/* what can be sent now need not wait for the loop */
	act(transfer->pool, CURL_SOCKET_TIMEOUT, 0);
	if (transfer->request.finished) /* its owner looks at it after the next turn of the loop */
		transfer->pool->timer.due = sophia_clock_ms();
	return &transfer->request;
}

void
sophia_http_resume(HttpRequest *request)
{
	sigset_t before;

	if (!request->paused || buffer_size(&request->body) >= request->limit)
		return;
	request->paused = false;
	block_signals(&before);
	curl_easy_pause(request->transfer->easy, CURLPAUSE_CONT);
	restore_signals(&before);
}

bool
sophia_http_sent(const HttpRequest *request)
{
	curl_off_t microseconds = 0;

	curl_easy_getinfo(request->transfer->easy, CURLINFO_PRETRANSFER_TIME_T, &microseconds);
	return microseconds > 0;
}

void
sophia_http_close(HttpRequest *request)
{
	sigset_t before;

	block_signals(&before);
	if (request->transfer->pool->n_spare < SPARE_TRANSFERS)
		keep_transfer(request->transfer);
	else
		free_transfer(request->transfer);
	restore_signals(&before);
}
