/*
 * broker.h
 *		What the parts of the broker source share: source_broker.c (the kind), broker_reader.c
 *		(reading, with broker_fragment.c), broker_refresh.c (journals and their heads), broker_call.c (requests and their
 *		failures).
 */
#ifndef SOPHIA_BROKER_H
#define SOPHIA_BROKER_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/clock.h"
#include "flow/broker_frame.h"
#include "flow/source.h"
#include "net/http.h"
#include "store/secrets.h"

/* How a call stands after sophia_broker_next. */
typedef enum BrokerAnswer
{
	ANSWER_WAITING, /* nothing new */
	ANSWER_FRAME,	/* a frame; consume it with sophia_broker_took */
	ANSWER_ENDED,	/* the answer is complete and every frame was taken */
	ANSWER_FAILED	/* see failure, failure_sqlstate and unauthorized */
} BrokerAnswer;

/* One request to the broker and its answer; zero = none. */
typedef struct BrokerCall
{
	HttpRequest *request;
	FrameScanner scanner;
	bool unauthorized;	/* the broker refused the token, or wants one */
	bool token_retried; /* the token was read anew for that; until an answer is good */
	int failure_sqlstate;
	char failure[400];
} BrokerCall;

/* What is known of a journal beyond its SourceJournal. */
typedef struct BrokerJournal
{
	SourceJournal *entry;
	int64 suspended_at;	   /* head of a journal that is fully suspended; -1 = it is not */
	uint64 listed;		   /* the last snapshot that listed it */
	bool head_wanted;	   /* its head is still to be asked in this refresh */
	int heads_behind;	   /* refreshes in a row that found its head before what was read */
	BrokerCall head;
} BrokerJournal;

typedef enum RefreshPhase
{
	REFRESH_IDLE,
	REFRESH_LISTING,
	REFRESH_HEADS
} RefreshPhase;

typedef struct Broker
{
	Source *source;
	Secret token;
	List *journals;		 /* of BrokerJournal * */
	const void *failing; /* whose failure the source's error is; NULL = nobody's */

	RefreshPhase phase;
	bool refreshing;	/* until every head is known that the last refresh asks for */
	uint64 wanted_seen; /* refresh_wanted when it started */
	bool refresh_failed;
	bool relist;	  /* a reader saw what only a listing explains */
	int64 refresh_at; /* when the next one is due, by sophia_clock_ms() */
	Backoff refresh_backoff;

	/* The watch of the list of journals: each refresh begins one, which goes on until the next. */
	BrokerCall list;
	uint64 snapshot;	 /* number of the snapshot that is being taken, or the last one */
	uint64 snapshots;	 /* how many were whole */
	bool in_snapshot;	 /* its end has not come yet */
	char *list_header;	 /* of the last message that began a snapshot, as JSON; NULL = none */
	char *resume_header; /* of the last whole snapshot */
	int64 list_at;		 /* when the listing began, or when an ended watch is due again */
	Backoff list_backoff;
} Broker;

/* ---- broker_call.c ---- */

/*
 * Posts `body` to a path of the broker.  False when it cannot be sent; then the call has failed as
 * by ANSWER_FAILED.  `timeout_ms` 0 = the answer may take as long as it likes.
 */
extern bool sophia_broker_post(Broker *broker, BrokerCall *call, const char *path,
							   const StringInfo body, long timeout_ms);

/* The next frame of the answer. */
extern BrokerAnswer sophia_broker_next(BrokerCall *call, Frame *frame);

/* Goes on behind a frame. */
extern void sophia_broker_took(BrokerCall *call, const Frame *frame);

/* Records why a call failed, for who found out by itself. */
extern BrokerAnswer sophia_broker_failed(BrokerCall *call, int sqlstate, const char *reason);

/* Ends a call; keeps what is to be known about its failure. */
extern void sophia_broker_end(BrokerCall *call);

/*
 * Reads the token anew; false with the call failed when there should be one and it cannot be read.
 */
extern bool sophia_broker_read_token(Broker *broker, BrokerCall *call);

/*
 * Deals with a failed call of `who`: true when the token was refused, has been read anew, and the
 * call may be tried again at once.  Otherwise the failure becomes the source's error.
 */
extern bool sophia_broker_retry(Broker *broker, BrokerCall *call, const void *who,
								const char *doing);

/* Makes a failure of `who` the source's error, until `who` works again. */
extern void sophia_broker_fail(Broker *broker, const void *who, int sqlstate, bool permanent,
							   const char *format, ...) pg_attribute_printf(5, 6);
extern void sophia_broker_works(Broker *broker, const void *who);

/* ---- broker_refresh.c ---- */

/* Refreshes when it is due or wanted; see source.h.  Returns when it wants to be called again. */
extern int64 sophia_broker_refresh(Broker *broker);

/* What is known of a journal, or NULL. */
extern BrokerJournal *sophia_broker_journal(Broker *broker, const char *name);

/* ---- broker_reader.c ---- */

/* open_reader and close_reader of the kind. */
extern void sophia_broker_open_reader(Reader *reader);
extern void sophia_broker_close_reader(Reader *reader);

/* Moves a reader on as far as is possible now; returns when it wants to be called again. */
extern int64 sophia_broker_pump_reader(Reader *reader);

/* The journal may have been written anew: checks that what comes next continues what was read. */
extern void sophia_broker_doubt(Reader *reader);

#endif /* SOPHIA_BROKER_H */
