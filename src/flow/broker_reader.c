/*
 * broker_reader.c
 *		Reads a journal from a Gazette broker: see broker.h.
 *
 * A reader keeps one long request open, POST /v1/journals/read with block=true, and opens the next
 * one where it stands when that ends, for whatever reason: a read may end at any byte, and only
 * bytes of whole frames count.  While there is much to catch up with, it asks for the metadata of
 * the next fragment first, and fetches it from its store when the broker says where
 * (flow/broker_fragment.h).
 *
 * Bytes are never spliced.  The broker may skip a hole in the journal ("offset jump"), always from
 * one line's end to another's begin.  The worker then takes what stands before the hole first, and
 * the reader moves behind it.  A journal whose brokers lost its end may be written anew; so after
 * whatever may have hidden that, the next read begins a few bytes before, with bytes that are known.
 * Source: Gazette broker/protocol/protocol.proto ReadRequest, ReadResponse.
 */
#include "postgres.h"

#include <inttypes.h>

#include "miscadmin.h"
#include "utils/json.h"

#include "base/base64.h"
#include "flow/broker.h"
#include "flow/broker_fragment.h"

/* A read that brings nothing for so long is opened anew: its connection may be dead. */
#define IDLE_MS (5 * 60 * 1000)

/*
 * A broker says nothing while there is nothing to read; one that is silent for so long took the
 * request well.
 */
#define SILENCE_IS_HEALTH_MS 1000

/* How long a read waits for the bytes before its place, at first and at most. */
#define FIRST_WAIT_MS	1000
#define LONGEST_WAIT_MS 32000

/* Tries before a failure is told that ends by itself as a rule. */
#define QUIET_TRIES 4

/* Times that a fragment is fetched from its store before it is read through the broker. */
#define FETCH_TRIES 3

/* A store that is of no use is left alone for so long. */
#define STORE_REST_MS (60 * 1000)

/* Room for a signed URL. */
#define URL_SIZE 8192

/* Content of a fragment that one turn takes. */
#define FETCH_SLICE ((size_t) 4 * 1024 * 1024)

/* Bytes that are read twice and compared where a journal may have been written anew. */
#define OVERLAP 64

typedef struct BrokerReader
{
	BrokerCall call;
	bool probing; /* the call asks for metadata only */
	bool probed;  /* it told that the broker is to be read from */
	bool resting; /* there was nothing to read, so that the next request asks for metadata first */
	Backoff backoff;
	int64 retry_at;	  /* no request before this, by sophia_clock_ms() */
	int64 started_at; /* when the request was sent */
	int64 active_at;  /* when it brought something last */
	int64 best;		  /* the largest offset ever reached; beyond it there is progress */
	bool progress;	  /* the request brought bytes */
	int64 jump_to;	  /* where to go on when content is empty; -1 = no jump */
	int not_found;	  /* times in a row that the journal was unknown */

	BrokerFragment *fragment; /* being fetched from its store; NULL = none */
	int64 fetched;			  /* begin of the fragment that was fetched last, -1 = none */
	int fetch_failures;		  /* of that one */
	int64 fetch_at;			  /* no store is asked before this, by sophia_clock_ms() */

	bool doubted;		   /* the journal may be written anew: the next read begins before */
	char overlap[OVERLAP]; /* what stands before, as far as it is read twice */
	int overlap_size;	   /* 0 = nothing is */
	int overlap_seen;	   /* how much of it came again */
	int64 overlap_wait;	   /* how long the last silent read waited for it, in milliseconds */
	uint64 mismatched_at;  /* Broker.snapshots + 1 when other bytes came; 0 = they did not */
} BrokerReader;

/* The journal offset of the byte that comes next. */
static int64
reader_position(const Reader *reader)
{
	const BrokerReader *state = reader->private;

	return state->jump_to >= 0 ? state->jump_to
							   : reader->offset + (int64) buffer_size(&reader->content);
}

/* The journal may be written anew before the next read begins. */
static void
doubt(Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->jump_to < 0 && reader_position(reader) > 0)
		state->doubted = true;
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

	doubt(reader);
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

/* Where the next byte of the running request stands. */
static int64
request_offset(const Reader *reader)
{
	const BrokerReader *state = reader->private;

	return reader_position(reader) - (state->overlap_size - state->overlap_seen);
}

/*
 * Decides what the next request reads twice: of a line that is not complete the bytes at hand, else
 * the end of the line before, which is known without them.
 */
static void
prepare_overlap(Reader *reader)
{
	BrokerReader *state = reader->private;
	ByteBuffer *content = &reader->content;
	size_t size = Min(buffer_size(content), OVERLAP);

	state->overlap_size = state->overlap_seen = 0;
	if (!state->doubted)
		return;
	state->doubted = false;
	if (size > 0)
		memcpy(state->overlap, content->data + content->end - size, size);
	else
		state->overlap[size++] = '\n';
	state->overlap_size = (int) size;
}

/* True when there is so much to read that metadata is asked for first. */
static bool
is_behind(const Reader *reader, const BrokerJournal *journal)
{
	int64 head = Max(reader->write_head, journal != NULL ? journal->entry->write_head : -1);

	return head > reader_position(reader);
}

/* Sends the request; false when that failed. */
static bool
start_reading(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;
	BrokerJournal *journal = sophia_broker_journal(broker, reader->journal);
	StringInfoData body;
	bool sent;

	prepare_overlap(reader);
	state->probing =
		!state->probed && (state->resting || state->overlap_size > 0 || is_behind(reader, journal));
	state->probed = state->resting = false;
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"journal\":");
	escape_json(&body, reader->journal);
	appendStringInfo(&body,
					 ",\"offset\":\"" INT64_FORMAT
					 "\",\"%s\":true,\"minEtcdRevision\":\"" INT64_FORMAT "\"}",
					 request_offset(reader), state->probing ? "metadataOnly" : "block",
					 journal != NULL ? journal->entry->revision : 0);
	sent = sophia_broker_post(broker, &state->call, "/v1/journals/read", &body,
							  state->probing ? BROKER_PROBE_TIMEOUT_MS : 0);
	pfree(body.data);
	if (sent)
		state->call.request->limit = Min(state->call.request->limit, sophia_reader_share());
	else
		fail_call(broker, reader);
	state->started_at = state->active_at = sophia_clock_ms();
	state->progress = false;
	return sent;
}

/* Ends a request that is well, to send another one where it stands. */
static void
send_anew(Reader *reader)
{
	BrokerReader *state = reader->private;

	state->doubted |= state->overlap_seen < state->overlap_size;
	restart_reader(reader, 0);
}

/* The metadata led nowhere else: the next request reads from the broker. */
static void
read_from_broker(Reader *reader)
{
	BrokerReader *state = reader->private;

	state->probed = true;
	send_anew(reader);
}

/* True when content holds whole lines only. */
static bool
at_line_end(const ByteBuffer *content)
{
	return buffer_size(content) == 0 || content->data[content->end - 1] == '\n';
}

/* Forgets the last line of content, which has no end. */
static void
drop_partial_line(ByteBuffer *content)
{
	while (!at_line_end(content))
		content->end--;
}

/*
 * Deals with a frame that does not stand where the last one ended.  The frame is not taken: when
 * this has set things right, it comes again and fits.
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
	else if (!at_line_end(content))
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

/*
 * Other bytes stand in the journal than were read.  A journal that was deleted and made again is
 * another one, which a listing tells soon; if it does not, this one was written anew.
 */
static void
take_mismatch(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->mismatched_at == 0)
		state->mismatched_at = broker->snapshots + 1;
	else if (broker->snapshots >= state->mismatched_at)
		sophia_broker_fail(broker, reader, ERRCODE_DATA_CORRUPTED, true,
						   "journal \"%s\" was written anew: no line ends at offset " INT64_FORMAT
						   ", up to which it was read",
						   reader->journal, reader_position(reader));
	broker->relist = true;
	back_off(reader);
}

/*
 * Compares what was appended behind `before` with what was read before, as far as it stands before
 * the position, and takes that away.  False when it differs, and the request is gone.
 */
static bool
settle_doubt(Broker *broker, Reader *reader, size_t before)
{
	BrokerReader *state = reader->private;
	ByteBuffer *content = &reader->content;
	size_t got = buffer_size(content) - before;
	size_t n = Min(got, (size_t) (state->overlap_size - state->overlap_seen));
	char *first = content->data + content->start + before;

	if (n == 0)
		return true;
	if (memcmp(first, state->overlap + state->overlap_seen, n) != 0)
	{
		content->end -= got;
		take_mismatch(broker, reader);
		return false;
	}
	memmove(first, first + n, got - n);
	content->end -= n;
	state->overlap_seen += (int) n;
	if (state->overlap_seen == state->overlap_size)
		state->mismatched_at = 0;
	return true;
}

void
sophia_broker_doubt(Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->doubted || state->jump_to >= 0 || state->fragment != NULL)
		return;
	doubt(reader);
	restart_reader(reader, 0);
}

/* Deals with what was appended behind `before`; false when that failed and the request is gone. */
static bool
take_bytes(Broker *broker, Reader *reader, size_t before)
{
	BrokerReader *state = reader->private;
	BrokerJournal *journal = sophia_broker_journal(broker, reader->journal);
	int64 position;

	if (!settle_doubt(broker, reader, before))
		return false;
	position = reader_position(reader);
	state->progress = true;
	if (position > state->best)
	{
		state->best = position;
		state->overlap_wait = 0;
		sophia_backoff_reset(&state->backoff);
		sophia_broker_works(broker, reader);
	}
	reader->write_head = Max(reader->write_head, position);
	if (journal != NULL)
		journal->entry->write_head = Max(journal->entry->write_head, position);
	return true;
}

/* Appends what a content frame brings; false when that failed and the request is gone. */
static bool
take_content(Broker *broker, Reader *reader, const Frame *frame)
{
	BrokerReader *state = reader->private;
	size_t before = buffer_size(&reader->content);

	if (!sophia_base64_append(&reader->content, frame->content, frame->content_length))
	{
		sophia_broker_failed(&state->call, ERRCODE_PROTOCOL_VIOLATION,
							 "the broker sent content that is not base64, or memory is short");
		fail_call(broker, reader);
		return false;
	}
	return take_bytes(broker, reader, before);
}

/* ---- fragments ---- */

/* Which fragment a frame is about; false when its codec is not supported. */
static bool
fragment_name(const Frame *frame, FragmentName *name)
{
	char file[FRAGMENT_NAME_SIZE];

	if (frame->extension == NULL)
		return false;
	snprintf(file, sizeof(file), "%016" PRIx64 "-%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 "%08x%s",
			 frame->fragment_begin, frame->fragment_end, frame->sum[0], frame->sum[1],
			 (unsigned) frame->sum[2], frame->extension);
	return sophia_fragment_name_parse(file, name);
}

/*
 * May this URL be asked?  A broker that is reached by https has no business with stores that are
 * not.
 */
static bool
url_allowed(const Broker *broker, const char *url)
{
	if (pg_strncasecmp(url, "https://", 8) == 0)
		return true;
	return pg_strncasecmp(url, "http://", 7) == 0 &&
		   pg_strncasecmp(broker->access.address, "https://", 8) != 0;
}

/*
 * Begins to fetch the fragment of a frame, which stands where the next byte is wanted, from its
 * store; false when it is to be read through the broker.
 */
static bool
begin_fetch(Broker *broker, Reader *reader, const Frame *frame)
{
	BrokerReader *state = reader->private;
	char url[URL_SIZE];
	char error[256];
	FragmentName name;

	if (sophia_clock_ms() < state->fetch_at ||
		(frame->fragment_begin == state->fetched && state->fetch_failures >= FETCH_TRIES))
		return false;
	if (!sophia_frame_url(frame, url, sizeof(url)) || !url_allowed(broker, url) ||
		!fragment_name(frame, &name) || name.begin > frame->offset ||
		name.end <= reader_position(reader))
		return false;
	state->fragment = sophia_broker_fetch(reader->source->context, url, &name, frame->offset, error,
										  sizeof(error));
	explicit_bzero(url, sizeof(url));
	if (state->fragment == NULL)
		return false;
	if (state->fetched != name.begin)
		state->fetch_failures = 0;
	state->fetched = name.begin;
	sophia_broker_end(&state->call);
	return true;
}

static void
end_fetch(Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->fragment != NULL)
		sophia_broker_fetch_end(state->fragment);
	state->fragment = NULL;
}

/* A fragment could not be had from its store: again, or through the broker. */
static void
fetch_failed(Broker *broker, Reader *reader, bool useless)
{
	BrokerReader *state = reader->private;
	const FragmentName *name = sophia_broker_fetch_name(state->fragment);
	const char *error = sophia_broker_fetch_error(state->fragment);

	state->fetch_failures = useless ? FETCH_TRIES : state->fetch_failures + 1;
	sophia_broker_fail(broker, reader,
					   useless ? ERRCODE_DATA_CORRUPTED : ERRCODE_CONNECTION_EXCEPTION, false,
					   "could not fetch bytes " INT64_FORMAT " to " INT64_FORMAT
					   " of journal \"%s\" from their store: %s",
					   name->begin, name->end, reader->journal, error);
	if (state->fetch_failures >= FETCH_TRIES && !useless)
		state->fetch_at = sophia_clock_ms() + STORE_REST_MS;
	if (state->fetch_failures >= FETCH_TRIES)
		ereport(LOG, (errmsg("bytes " INT64_FORMAT " to " INT64_FORMAT
							 " of journal \"%s\" are read through the broker",
							 name->begin, name->end, reader->journal),
					  errdetail("They could not be fetched from their store: %s.", error)));
	end_fetch(reader);
	state->doubted |= state->overlap_seen < state->overlap_size;
	restart_reader(reader, sophia_backoff_next(&state->backoff));
}

/* Goes on with a fragment as far as content has room; returns when to come again. */
static int64
pump_fetch(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;
	size_t before = buffer_size(&reader->content);
	FetchStatus status;

	reader->paused = before >= reader->limit;
	status =
		sophia_broker_fetch_turn(state->fragment, &reader->content,
								 reader->paused ? 0 : Min(FETCH_SLICE, reader->limit - before));
	if (buffer_size(&reader->content) > before && !take_bytes(broker, reader, before))
	{
		end_fetch(reader);
		return state->retry_at;
	}
	switch (status)
	{
		case FETCH_WAITING:
			return PG_INT64_MAX;
		case FETCH_MORE:
			return sophia_clock_ms();
		case FETCH_DONE:
			end_fetch(reader);
			restart_reader(reader, 0);
			break;
		case FETCH_AGAIN:
		case FETCH_USELESS:
			fetch_failed(broker, reader, status == FETCH_USELESS);
			break;
	}
	return state->retry_at;
}

/* ---- frames ---- */

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
			if (state->probing)
			{
				/* the journal goes on, but what stood before is gone: nothing to compare with */
				if (frame->write_head >= reader_position(reader))
					state->overlap_seen = state->overlap_size;
				read_from_broker(reader);
				return;
			}
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
	if (frame->kind != FRAME_STATUS && frame->offset > request_offset(reader) &&
		state->overlap_seen < state->overlap_size)
	{
		/* what stood before is gone, as far as there is nothing to compare with */
		state->overlap_seen = (int) Min(
			frame->offset - request_offset(reader) + state->overlap_seen, state->overlap_size);
		return true;
	}
	if (frame->kind != FRAME_STATUS && frame->offset != request_offset(reader))
	{
		jump(broker, reader, frame->offset);
		return state->call.request != NULL;
	}
	state->not_found = 0;
	if (frame->kind == FRAME_METADATA && begin_fetch(broker, reader, frame))
		return false;
	if (frame->kind == FRAME_METADATA && state->probing)
	{
		read_from_broker(reader);
		return false;
	}
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
		/* An expired token ends like this too, for the seconds that clocks may differ. */
		broker->access.kind->doubt(&broker->access);
		back_off(reader);
	}
}

/* The answer broke off.  One that had brought bytes is simply gone on with. */
static void
answer_failed(Broker *broker, Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->progress && state->call.failure_sqlstate == ERRCODE_CONNECTION_FAILURE)
	{
		doubt(reader);
		restart_reader(reader, 0);
	}
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

/*
 * A read that waits for the bytes before its place, which a journal that was resumed does not have
 * any more, asks for metadata again when its time is up.  Returns when that is.
 */
static int64
watch_overlap(Reader *reader)
{
	BrokerReader *state = reader->private;
	int64 now = sophia_clock_ms();
	int64 wait = Min(Max(2 * state->overlap_wait, FIRST_WAIT_MS), LONGEST_WAIT_MS);

	if (reader->paused || state->probing || state->overlap_seen == state->overlap_size)
		return PG_INT64_MAX;
	if (now < state->active_at + wait)
		return state->active_at + wait;
	state->overlap_wait = wait;
	send_anew(reader);
	return now;
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

int64
sophia_broker_pump_reader(Reader *reader)
{
	Broker *broker = reader->source->private;
	BrokerReader *state = reader->private;
	int64 next;

	if (state->fragment != NULL)
		return pump_fetch(broker, reader);
	if (state->call.request == NULL)
	{
		if (nothing_to_read(broker, reader))
		{
			state->resting = true;
			sophia_broker_works(broker, reader);
			return PG_INT64_MAX;
		}
		if (!sophia_broker_ready(broker))
			return PG_INT64_MAX;
		if (sophia_clock_ms() < state->retry_at || !start_reading(broker, reader))
			return state->retry_at;
	}
	take_frames(broker, reader);
	if (state->fragment != NULL)
		return sophia_clock_ms();
	if (sophia_broker_outdated(broker, &state->call) && at_line_end(&reader->content))
		send_anew(reader);
	if (state->call.request == NULL)
		return state->retry_at;
	next = watch_silence(broker, reader);
	return state->call.request != NULL ? Min(next, watch_overlap(reader)) : next;
}

void
sophia_broker_open_reader(Reader *reader)
{
	BrokerReader *state = palloc0(sizeof(BrokerReader));

	state->best = reader->offset;
	state->jump_to = -1;
	state->fetched = -1;
	state->doubted = reader->offset > 0;
	sophia_backoff_init(&state->backoff, (uint64) (uintptr_t) state ^ (uint64) MyProcPid << 32);
	reader->private = state;
}

void
sophia_broker_close_reader(Reader *reader)
{
	Broker *broker = reader->source->private;
	BrokerReader *state = reader->private;

	sophia_broker_end(&state->call);
	end_fetch(reader);
	sophia_broker_works(broker, reader);
	pfree(state);
}
