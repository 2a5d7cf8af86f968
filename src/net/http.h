/*
 * http.h
 *		HTTP requests that run on the event loop (net/loop.h), on libcurl.
 *
 * A request is started, makes progress inside sophia_loop_wait(), and is looked at by its owner,
 * who polls the fields of HttpRequest: there are no callbacks.  Its memory is malloc'ed.  Requests
 * that an error left open are closed when the process ends; an owner that can end earlier closes
 * its own.
 */
#ifndef SOPHIA_HTTP_H
#define SOPHIA_HTTP_H

#include "postgres.h"

#include "base/buffer.h"

/* Connections of their own for requests that belong together; other requests of the process share one pool. */
typedef struct HttpPool HttpPool;

/* What became of a pool's connections. */
typedef struct HttpPoolFigures
{
	int busy; /* open ones that carry a request, or are being made */
	int idle; /* open ones that wait for the next request */
	int64 created;
	int64 closed;
	int64 lost; /* of them, idle ones that the server closed */
} HttpPoolFigures;

typedef struct HttpOptions
{
	const char *method;			/* GET or POST */
	const char *url;			/* http or https; redirects are not followed */
	const char *const *headers; /* "Name: value" each, ended by NULL; or NULL */
	const char *body;			/* of a POST; copied */
	size_t body_length;
	size_t limit;	  /* bytes of answer held before the transfer pauses; 0 = no limit */
	bool http1;		  /* HTTP/1.1 only: one connection a request */
	long timeout_ms;  /* for the whole request; 0 = none */
	long low_speed_s; /* give up when nothing arrives for so many seconds; 0 = never */
	HttpPool *pool;	  /* NULL = the one that all others share */
	long idle_s;	  /* a connection that was idle for longer is not used, but closed; 0 = any */
	const char *ca_file; /* the authorities that are trusted, in PEM; NULL = the system's */
	bool small;			 /* answers are short: a small buffer will do; the same for all of a pool */
	bool any_address;	 /* also one that is refused otherwise: an administrator listed it */
} HttpOptions;

typedef struct HttpRequest
{
	ByteBuffer body;	/* of the answer; the owner consumes it */
	size_t limit;		/* see HttpOptions; may be changed */
	bool paused;		/* holds back because body reached limit; see sophia_http_resume */
	bool finished;		/* nothing more will come; see ok, status and error */
	bool ok;			/* finished, and the answer is whole */
	long status;		/* HTTP status; 0 while no answer has come */
	char error[256];	/* why it is not ok */
	char *redirect;		/* once finished: the URL that an answer 3xx names, or NULL */
	long retry_after_s; /* once finished: seconds that the answer asks to wait; 0 = none */
	bool timed_out;		/* finished, because timeout_ms was over */
	bool untrusted;		/* finished, because the server's certificate is not good */
	bool multiplexed;	/* finished, over a connection that carries many requests at a time */
	struct HttpTransfer *transfer;
} HttpRequest;

/* Makes a pool that keeps so many connections at most while they are idle. */
extern HttpPool *sophia_http_pool_create(int most_idle);

/* Closes all connections.  No request may be left.  The figures stay, and it can go on being used. */
extern void sophia_http_pool_empty(HttpPool *pool);

/* Closes all connections and frees it.  No request may be left. */
extern void sophia_http_pool_free(HttpPool *pool);

extern HttpPoolFigures sophia_http_pool_figures(const HttpPool *pool);

/*
 * Starts a request.  NULL when it cannot be sent, with the reason in `error`: a header holds a
 * control character, or no memory is left.  Raises 53000 when the event loop cannot be made, and 53200.
 */
extern HttpRequest *sophia_http_start(const HttpOptions *options, char *error, size_t error_size);

/* Lets a paused request go on when its body is below its limit again. */
extern void sophia_http_resume(HttpRequest *request);

/*
 * True once the request is sent to a server that took the connection, whether it has answered or
 * not.
 */
extern bool sophia_http_sent(const HttpRequest *request);

/* Ends a request, finished or not, and frees it. */
extern void sophia_http_close(HttpRequest *request);

#endif /* SOPHIA_HTTP_H */
