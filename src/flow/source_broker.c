/*
 * source_broker.c
 *		Collections in a Gazette broker: the kind `broker` of source.h, and its readers.
 *
 * A reader keeps one long request open, POST /v1/journals/read with block=true, and opens the next one where it
 * stands when that ends, for whatever reason: a read may end at any byte, and only bytes of whole frames count.
 *
 * Bytes are never spliced.  The broker may skip a hole in the journal ("offset jump"), always from one line's end to
 * another's begin.  The worker then takes what stands before the hole first, and the reader moves behind it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "flow/broker.h"
#include "net/address.h"

/* A read that brings nothing for so long is opened anew: the connection may be dead without a trace. */
#define IDLE_MS (5 * 60 * 1000)

/* A broker says nothing while there is nothing to read; one that is silent for so long took the request well. */
#define SILENCE_IS_HEALTH_MS 1000

/* Tries before a failure is told that ends by itself as a rule. */
#define QUIET_TRIES 4

typedef struct BrokerReader
{
	BrokerCall call;
	Backoff backoff;
	int64 retry_at;   /* no request before this, by sophia_clock_ms() */
	int64 started_at; /* when the request was sent */
	int64 active_at;  /* when it brought something last */
	int64 best;       /* the largest offset ever reached; beyond it there is progress */
	bool progress;    /* the request brought bytes */
	int64 jump_to;    /* where to go on when content is empty; -1 = no jump */
	int not_found;    /* times in a row that the journal was unknown */
} BrokerReader;

/* The journal offset of the byte that comes next. */
static int64
reader_position(const Reader *reader)
{
	const BrokerReader *state = reader->private;

	return state->jump_to >= 0 ? state->jump_to
	                           : reader->offset + (int64) buffer_size(&reader->content);
}

/* Ends the request; the next one is due in wait_ms. */
static void
restart_reader(Reader *reader, int64 wait_ms)
{
	BrokerReader *state = reader->private;

	sophia_broker_end(&state->call);
	state->retry_at = sophia_clock_ms() + wait_ms;
}

static void
back_off(Reader *reader)
{
	BrokerReader *state = reader->private;

	restart_reader(reader, sophia_backoff_next(&state->backoff));
}

static void
fail_call(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;
	char *doing = psprintf("could not read journal \"%s\"", reader->journal);

	if (sophia_broker_retry(broker, &state->call, reader, doing))
		restart_reader(reader, 0);
	else
		back_off(reader);
	pfree(doing);
}

/* True while there is nothing to read, until a listing tells otherwise. */
static bool
nothing_to_read(Broker *broker, const Reader *reader)
{
	BrokerJournal *journal = sophia_broker_journal(broker, reader->journal);

	return journal != NULL && (journal->entry->removed || journal->suspended_at >= 0);
}

/* Sends the request; false when that failed. */
static bool
start_reading(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;
	BrokerJournal *journal = sophia_broker_journal(broker, reader->journal);
	StringInfoData body;
	bool sent;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"journal\":");
	escape_json(&body, reader->journal);
	appendStringInfo(&body,
	                 ",\"offset\":\"" INT64_FORMAT
	                 "\",\"block\":true,\"minEtcdRevision\":\"" INT64_FORMAT "\"}",
	                 reader_position(reader), journal != NULL ? journal->create_revision : 0);
	sent = sophia_broker_post(broker, &state->call, "/v1/journals/read", &body, 0);
	pfree(body.data);
	if (!sent)
		fail_call(broker, reader);
	state->started_at = state->active_at = sophia_clock_ms();
	state->progress = false;
	return sent;
}

/* Forgets the last line of content, which has no end. */
static void
drop_partial_line(ByteBuffer *content)
{
	while (buffer_size(content) > 0 && content->data[content->end - 1] != '\n')
		content->end--;
}

/*
 * Deals with a frame that does not stand where the last one ended.  The frame is not taken: when this has set
 * things right, it comes again and fits.
 */
static void
jump(Broker *broker, Reader *reader, int64 to)
{
	BrokerReader *state = reader->private;
	ByteBuffer *content = &reader->content;
	int64 from = reader_position(reader);

	if (to < from)
	{
		sophia_broker_failed(&state->call, ERRCODE_PROTOCOL_VIOLATION,
		                     "the broker went back to a smaller offset");
		fail_call(broker, reader);
	}
	else if (buffer_size(content) > 0 && content->data[content->end - 1] != '\n')
	{
		drop_partial_line(content);
		sophia_broker_fail(broker, reader, ERRCODE_DATA_CORRUPTED, false,
		                   "journal \"%s\" has a hole inside a line: bytes " INT64_FORMAT
		                   " to " INT64_FORMAT " are missing",
		                   reader->journal, from, to);
		back_off(reader);
	}
	else
	{
		ereport(LOG, (errmsg("journal \"%s\" has a hole: bytes " INT64_FORMAT " to " INT64_FORMAT
		                     " are gone",
		                     reader->journal, from, to)));
		state->jump_to = to;
	}
}

/* Moves behind a hole once all before it was taken; false while it was not. */
static bool
finish_jump(Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->jump_to < 0)
		return true;
	if (buffer_size(&reader->content) > 0)
		return false;
	reader->offset = state->jump_to;
	state->jump_to = -1;
	return true;
}

/* Appends what a content frame brings; false when that failed and the request is gone. */
static bool
take_content(Broker *broker, Reader *reader, const Frame *frame)
{
	BrokerReader *state = reader->private;
	BrokerJournal *journal = sophia_broker_journal(broker, reader->journal);
	int64 position;

	if (!sophia_base64_append(&reader->content, frame->content, frame->content_length))
	{
		sophia_broker_failed(&state->call, ERRCODE_PROTOCOL_VIOLATION,
		                     "the broker sent content that is not base64, or memory is short");
		fail_call(broker, reader);
		return false;
	}
	position = reader_position(reader);
	state->progress = true;
	if (position > state->best)
	{
		state->best = position;
		sophia_backoff_reset(&state->backoff);
	}
	reader->write_head = Max(reader->write_head, position);
	if (journal != NULL)
		journal->entry->write_head = Max(journal->entry->write_head, position);
	return true;
}

/* Acts on a status that ends the answer. */
static void
take_status(Broker *broker, Reader *reader, const Frame *frame)
{
	BrokerReader *state = reader->private;
	BrokerJournal *journal = sophia_broker_journal(broker, reader->journal);

	switch (frame->status)
	{
		case BROKER_OK:
			return;
		case BROKER_OFFSET_NOT_YET_AVAILABLE:
			sophia_broker_works(broker, reader);
			break;
		case BROKER_SUSPENDED:
			if (journal != NULL)
				journal->suspended_at = Max(frame->offset, 0);
			broker->relist = true;
			sophia_broker_works(broker, reader);
			break;
		case BROKER_JOURNAL_NOT_FOUND:
			broker->relist = true;
			if (++state->not_found >= QUIET_TRIES)
				sophia_broker_fail(broker, reader, ERRCODE_UNDEFINED_OBJECT, false,
				                   "journal \"%s\" is unknown to the broker, or the token does not "
				                   "cover it",
				                   reader->journal);
			break;
		case BROKER_NOT_ALLOWED:
			sophia_broker_fail(broker, reader, ERRCODE_INSUFFICIENT_PRIVILEGE, true,
			                   "journal \"%s\" cannot be read: it is write-only", reader->journal);
			break;
		case BROKER_OTHER:
			sophia_broker_fail(broker, reader, ERRCODE_CONNECTION_EXCEPTION, false,
			                   "journal \"%s\" cannot be read now: the broker answers %s",
			                   reader->journal, frame->message);
			break;
	}
	back_off(reader);
}

/* Takes one frame; false when no other should be looked for now. */
static bool
take_frame(Broker *broker, Reader *reader, const Frame *frame)
{
	BrokerReader *state = reader->private;

	state->active_at = sophia_clock_ms();
	if (frame->write_head > 0)
		reader->write_head = frame->write_head;
	if (frame->kind == FRAME_STATUS && frame->status != BROKER_OK)
	{
		take_status(broker, reader, frame);
		return false;
	}
	if (frame->kind != FRAME_STATUS && frame->offset != reader_position(reader))
	{
		jump(broker, reader, frame->offset);
		return state->call.request != NULL;
	}
	state->not_found = 0;
	sophia_broker_works(broker, reader);
	if (frame->kind == FRAME_CONTENT && !take_content(broker, reader, frame))
		return false;
	sophia_broker_took(&state->call, frame);
	return true;
}

/* The answer ended well: a hand-off, a token's end, or a broker that shuts down. */
static void
answer_ended(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->progress)
		restart_reader(reader, 0);
	else
	{
		if (state->backoff.failures >= QUIET_TRIES)
			sophia_broker_fail(broker, reader, ERRCODE_CONNECTION_EXCEPTION, false,
			                   "the broker ends each read of journal \"%s\" without an answer",
			                   reader->journal);
		back_off(reader);
	}
}

/* The answer broke off.  One that had brought bytes is simply gone on with. */
static void
answer_failed(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->progress && state->call.failure_sqlstate == ERRCODE_CONNECTION_FAILURE)
		restart_reader(reader, 0);
	else
		fail_call(broker, reader);
}

/* Takes what the answer has brought, as far as content has room. */
static void
take_frames(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;
	Frame frame;

	for (;;)
	{
		reader->paused = !finish_jump(reader) || buffer_size(&reader->content) >= reader->limit;
		if (reader->paused)
			return;
		switch (sophia_broker_next(&state->call, &frame))
		{
			case ANSWER_FRAME:
				if (!take_frame(broker, reader, &frame))
					return;
				break;
			case ANSWER_ENDED:
				answer_ended(broker, reader);
				return;
			case ANSWER_FAILED:
				answer_failed(broker, reader);
				return;
			case ANSWER_WAITING:
				return;
		}
	}
}

/* Judges a request that is silent: well, or to be opened anew.  Returns when to look again. */
static int64
watch_silence(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;
	int64 now = sophia_clock_ms();
	int64 healthy_at = state->started_at + SILENCE_IS_HEALTH_MS;

	if (reader->paused)
		return PG_INT64_MAX;
	if (now - state->active_at >= IDLE_MS)
	{
		restart_reader(reader, 0);
		return now;
	}
	if (state->backoff.failures == 0 && broker->failing != reader)
		return state->active_at + IDLE_MS;
	if (now < healthy_at)
		return healthy_at;
	if (!sophia_http_sent(state->call.request))
		return now + SILENCE_IS_HEALTH_MS;
	sophia_backoff_reset(&state->backoff);
	sophia_broker_works(broker, reader);
	return state->active_at + IDLE_MS;
}

/* Moves one reader on; returns when it wants to be looked at again. */
static int64
pump_reader(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->call.request == NULL)
	{
		if (nothing_to_read(broker, reader))
		{
			sophia_broker_works(broker, reader);
			return PG_INT64_MAX;
		}
		if (sophia_clock_ms() < state->retry_at || !start_reading(broker, reader))
			return state->retry_at;
	}
	take_frames(broker, reader);
	return state->call.request != NULL ? watch_silence(broker, reader) : state->retry_at;
}

static void
broker_pump(Source *source)
{
	Broker *broker = source->private;
	int64 next = sophia_broker_refresh(broker);
	ListCell *cell;

	foreach (cell, source->readers)
		next = Min(next, pump_reader(broker, lfirst(cell)));
	source->wake_at =
	    next == PG_INT64_MAX
	        ? 0
	        : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(next - sophia_clock_ms(), 0));
}

static void
broker_open_reader(Reader *reader)
{
	BrokerReader *state = palloc0(sizeof(BrokerReader));

	state->best = reader->offset;
	state->jump_to = -1;
	sophia_backoff_init(&state->backoff, (uint64) (uintptr_t) state ^ (uint64) MyProcPid << 32);
	reader->private = state;
}

static void
broker_close_reader(Reader *reader)
{
	Broker *broker = reader->source->private;
	BrokerReader *state = reader->private;

	sophia_broker_end(&state->call);
	sophia_broker_works(broker, reader);
	pfree(state);
}

static void
broker_open(Source *source)
{
	Broker *broker = palloc0(sizeof(Broker));
	size_t length = strlen(source->address);

	if (length > 0 && source->address[length - 1] == '/')
		source->address[length - 1] = '\0';
	broker->source = source;
	sophia_backoff_init(&broker->refresh_backoff,
	                    (uint64) (uintptr_t) broker ^ (uint64) MyProcPid << 32);
	source->private = broker;
}

static void
broker_close(Source *source)
{
	Broker *broker = source->private;
	ListCell *cell;

	foreach (cell, broker->journals)
		sophia_broker_end(&((BrokerJournal *) lfirst(cell))->head);
	sophia_broker_end(&broker->list);
	sophia_secret_clear(&broker->token);
}

/* What follows the scheme of an address, NULL when it is not http or https. */
static const char *
after_scheme(const char *address)
{
	if (pg_strncasecmp(address, "http://", 7) == 0)
		return address + 7;
	if (pg_strncasecmp(address, "https://", 8) == 0)
		return address + 8;
	return NULL;
}

/* True for `host`, `host:port` or `[address]:port`, with an optional '/' at the end; copies the host. */
static bool
split_authority(const char *authority, char *host, size_t host_size)
{
	bool bracketed = authority[0] == '[';
	const char *start = authority + bracketed;
	size_t length = strspn(start, bracketed ? "0123456789abcdefABCDEF:."
	                                        : "0123456789abcdefghijklmnopqrstuvwxyz"
	                                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-_");
	const char *rest = start + length;

	if (length == 0 || length >= host_size || (bracketed && *rest++ != ']'))
		return false;
	memcpy(host, start, length);
	host[length] = '\0';
	if (*rest == ':')
	{
		size_t digits = strspn(++rest, "0123456789");

		if (digits == 0 || digits > 5 || strtol(rest, NULL, 10) > 65535)
			return false;
		rest += digits;
	}
	return strcmp(rest, "") == 0 || strcmp(rest, "/") == 0;
}

static void
broker_check_address(const char *address)
{
	const char *authority = after_scheme(address);
	char host[256];

	if (authority == NULL || !split_authority(authority, host, sizeof(host)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("invalid broker address \"%s\"", address),
		                errhint("Use http://host:port or https://host:port.")));
	if (sophia_address_refused_text(host))
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("invalid broker address \"%s\"", address),
		         errdetail("Link-local addresses and those of cloud metadata are refused.")));
}

const SourceKind sophia_source_broker = {
    .name = "broker",
    .check_address = broker_check_address,
    .open = broker_open,
    .pump = broker_pump,
    .open_reader = broker_open_reader,
    .close_reader = broker_close_reader,
    .close = broker_close,
};
