/*
 * http.c
 *		HTTP requests on the event loop: see http.h.  The only file that knows libcurl.
 *
 * All transfers of a process share one curl multi handle, whose sockets and timer live in the event
 * loop.
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

#include "base/clock.h"
#include "net/address.h"
#include "net/http.h"
#include "net/loop.h"

#define CONNECT_TIMEOUT_MS	 10000L
#define KEEPALIVE_IDLE_S	 60L
#define KEEPALIVE_INTERVAL_S 30L
#define RECEIVE_BUFFER		 (512L * 1024L)
#define SMALL_RECEIVE_BUFFER (16L * 1024L)

/* Connections that are kept for requests to come, of all hosts together. */
#define IDLE_CONNECTIONS 256L
#define LONGEST_WAIT_S	 (24L * 3600L)

typedef struct HttpTransfer
{
	HttpRequest request;
	dlist_node node; /* of transfers */
	CURL *easy;
	struct curl_slist *headers;
	HttpPool *pool; /* NULL = nobody counts */
	bool any_address;
	bool refused;	/* the address is one that is never talked to */
	bool no_memory; /* an answer found no room */
	char curl_error[CURL_ERROR_SIZE];
} HttpTransfer;

static CURLM *multi = NULL;
static LoopTimer multi_timer;
static dlist_head transfers = DLIST_STATIC_INIT(transfers);

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
finish_transfers(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
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
act(curl_socket_t socket, int actions)
{
	sigset_t before;
	int running;

	block_signals(&before);
	curl_multi_socket_action(multi, socket, actions, &running);
	finish_transfers();
	restore_signals(&before);
}

static void
socket_ready(LoopWatch *watch, int events)
{
	int actions = 0;

	if ((events & LOOP_READABLE) != 0)
		actions |= CURL_CSELECT_IN;
	if ((events & LOOP_WRITABLE) != 0)
		actions |= CURL_CSELECT_OUT;
	if ((events & LOOP_FAILED) != 0)
		actions |= CURL_CSELECT_ERR;
	act(watch->fd, actions);
}

static void
timer_rings(LoopTimer *timer)
{
	act(CURL_SOCKET_TIMEOUT, 0);
}

/* CURLMOPT_SOCKETFUNCTION: libcurl wants a socket watched, for other events, or no more. */
static int
on_socket(CURL *easy, curl_socket_t socket, int what, void *unused, void *assigned)
{
	LoopWatch *watch = assigned;
	int events = 0;

	if (what == CURL_POLL_REMOVE)
	{
		if (watch != NULL)
			sophia_loop_forget(watch);
		free(watch);
		curl_multi_assign(multi, socket, NULL);
		return 0;
	}
	if (watch == NULL)
	{
		watch = calloc(1, sizeof(*watch));
		if (watch == NULL)
			return -1;
		watch->fd = socket;
		watch->ready = socket_ready;
		curl_multi_assign(multi, socket, watch);
	}
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= LOOP_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= LOOP_WRITABLE;
	return sophia_loop_watch(watch, events) ? 0 : -1;
}

/* CURLMOPT_TIMERFUNCTION */
static int
on_timer(CURLM *unused, long timeout_ms, void *data)
{
	multi_timer.due = timeout_ms < 0 ? -1 : sophia_clock_ms() + timeout_ms;
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
	if (fd < 0)
	{
		ReleaseExternalFD();
		return CURL_SOCKET_BAD;
	}
	if (transfer->pool != NULL)
	{
		transfer->pool->open++;
		transfer->pool->created++;
	}
	return fd;
}

/* CURLOPT_CLOSESOCKETFUNCTION; a connection outlives the transfer that made it, so this gets the pool alone. */
static int
on_close(void *data, curl_socket_t socket)
{
	HttpPool *pool = data;

	if (pool != NULL)
	{
		pool->open--;
		pool->closed++;
	}
	ReleaseExternalFD();
	return close(socket);
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

/* Frees what a transfer holds; signals are blocked. */
static void
free_transfer(HttpTransfer *transfer)
{
	dlist_delete(&transfer->node);
	if (transfer->easy != NULL)
	{
		curl_multi_remove_handle(multi, transfer->easy);
		curl_easy_cleanup(transfer->easy);
	}
	/* A header may hold a credential. */
	for (struct curl_slist *header = transfer->headers; header != NULL; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	sophia_buffer_free(&transfer->request.body);
	free(transfer->request.redirect);
	free(transfer);
}

/*
 * before_shmem_exit: closes what is open, without waiting for a name that is still being looked
 * up.
 */
static void
close_all(int code, Datum argument)
{
	sigset_t before;

	block_signals(&before);
	while (!dlist_is_empty(&transfers))
	{
		HttpTransfer *transfer = dlist_head_element(HttpTransfer, node, &transfers);

		if (transfer->easy != NULL)
			curl_easy_setopt(transfer->easy, CURLOPT_QUICK_EXIT, 1L);
		free_transfer(transfer);
	}
	curl_multi_cleanup(multi);
	multi = NULL;
	restore_signals(&before);
}

static void
prepare_multi(void)
{
	sigset_t before;

	if (multi != NULL)
		return;
	sophia_loop_init();
	block_signals(&before);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		multi = curl_multi_init();
	if (multi != NULL)
	{
		curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS);
	}
	restore_signals(&before);
	if (multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not initialize the HTTP library")));
	multi_timer.due = -1;
	multi_timer.ring = timer_rings;
	sophia_loop_add_timer(&multi_timer);
	before_shmem_exit(close_all, (Datum) 0);
}

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

/* How every connection is made. */
static bool
configure_connection(HttpTransfer *transfer, CURL *easy)
{
	bool ok = true;

	SET(CURLOPT_NOSIGNAL, 1L);
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
	SET(CURLOPT_CLOSESOCKETDATA, transfer->pool);
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
	SET(CURLOPT_TIMEOUT_MS, options->timeout_ms);
	SET(CURLOPT_BUFFERSIZE, options->small ? SMALL_RECEIVE_BUFFER : RECEIVE_BUFFER);
	if (options->low_speed_s > 0)
	{
		SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
		SET(CURLOPT_LOW_SPEED_TIME, options->low_speed_s);
	}
	if (strcmp(options->method, "POST") == 0)
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) options->body_length);
		SET(CURLOPT_COPYPOSTFIELDS, options->body);
	}
	return ok;
}

/* Builds a transfer and hands it to libcurl; on failure it is left for the caller to free. */
static const char *
launch(HttpTransfer *transfer, const HttpOptions *options)
{
	if (!add_headers(transfer, options->headers))
		return "a request header holds a control character";
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL || !configure_connection(transfer, transfer->easy) ||
		!configure_request(transfer, transfer->easy, options) ||
		curl_multi_add_handle(multi, transfer->easy) != CURLM_OK)
		return "the HTTP library refused the request";
	return NULL;
}

HttpRequest *
sophia_http_start(const HttpOptions *options, char *error, size_t error_size)
{
	HttpTransfer *transfer;
	const char *failure;
	sigset_t before;

	prepare_multi();
	transfer = calloc(1, sizeof(*transfer));
	if (transfer == NULL)
	{
		strlcpy(error, "out of memory", error_size);
		return NULL;
	}
	transfer->request.transfer = transfer;
	transfer->request.limit = options->limit;
	transfer->pool = options->pool;
	transfer->any_address = options->any_address;
	dlist_push_tail(&transfers, &transfer->node);
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
	free_transfer(request->transfer);
	restore_signals(&before);
}
