/*
 * broker_reader.c
 *		Reads a journal from a Gazette broker: see broker.h.
 *
 * A reader keeps one long request open, POST /v1/journals/read with block=true, and opens the next
 * one where it stands when that ends, for whatever reason: a read may end at any byte, and only
 * bytes of whole frames count.
 *
 * Bytes are never spliced.  The broker may skip a hole in the journal ("offset jump"), always from
 * one line's end to another's begin.  The worker then takes what stands before the hole first, and
 * the reader moves behind it.
 * Source: Gazette broker/protocol/protocol.proto ReadRequest, ReadResponse.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/json.h"

#include "base/base64.h"
#include "flow/broker.h"

/*
 * A read that brings nothing for so long is opened anew: the connection may be dead without a
 * trace.
 */
#define IDLE_MS (5 * 60 * 1000)

/*
 * A broker says nothing while there is nothing to read; one that is silent for so long took the
 * request well.
 */
#define SILENCE_IS_HEALTH_MS 1000

/* Tries before a failure is told that ends by itself as a rule. */
#define QUIET_TRIES 4

typedef struct BrokerReader
{
	BrokerCall call;
	Backoff backoff;
	int64 retry_at;	  /* no request before this, by sophia_clock_ms() */
	int64 started_at; /* when the request was sent */
	int64 active_at;  /* when it brought something last */
	int64 best;		  /* the largest offset ever reached; beyond it there is progress */
	bool progress;	  /* the request brought bytes */
	int64 jump_to;	  /* where to go on when content is empty; -1 = no jump */
	int not_found;	  /* times in a row that the journal was unknown */
	bool doubted;	  /* the journal may be written anew: the next read begins a byte before */
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

/* Where the running or next request begins. */
static int64
request_offset(const Reader *reader)
{
	const BrokerReader *state = reader->private;

	return reader_position(reader) - (state->doubted ? 1 : 0);
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
					 request_offset(reader), journal != NULL ? journal->create_revision : 0);
	sent = sophia_broker_post(broker, &state->call, "/v1/journals/read", &body, 0);
	pfree(body.data);
	if (!sent)
		fail_call(broker, reader);
	state->started_at = state->active_at = sophia_clock_ms();
	state->progress = false;
	return sent;
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
 * The first byte of the content that was appended behind `before` stands before what is to be read:
 * it must end a line, or the journal is not the one that was read.  Takes it away; false when the
 * source has failed.
 */
static bool
settle_doubt(Broker *broker, Reader *reader, size_t before)
{
	BrokerReader *state = reader->private;
	ByteBuffer *content = &reader->content;
	char *first = content->data + content->start + before;
	bool same = *first == '\n';

	state->doubted = false;
	if (same)
		memmove(first, first + 1, buffer_size(content) - before - 1);
	content->end = same ? content->end - 1 : content->start + before;
	if (!same)
		sophia_broker_fail(broker, reader, ERRCODE_DATA_CORRUPTED, true,
						   "journal \"%s\" was written anew: no line ends at offset " INT64_FORMAT
						   ", up to which it was read",
						   reader->journal, reader_position(reader));
	return same;
}

void
sophia_broker_doubt(Reader *reader)
{
	BrokerReader *state = reader->private;

	if (state->doubted || state->jump_to >= 0)
		return;
	drop_partial_line(&reader->content);
	state->doubted = true;
	restart_reader(reader, 0);
}

/* Appends what a content frame brings; false when that failed and the request is gone. */
static bool
take_content(Broker *broker, Reader *reader, const Frame *frame)
{
	BrokerReader *state = reader->private;
	BrokerJournal *journal = sophia_broker_journal(broker, reader->journal);
	size_t before = buffer_size(&reader->content);
	int64 position;

	if (!sophia_base64_append(&reader->content, frame->content, frame->content_length))
	{
		sophia_broker_failed(&state->call, ERRCODE_PROTOCOL_VIOLATION,
							 "the broker sent content that is not base64, or memory is short");
		fail_call(broker, reader);
		return false;
	}
	if (state->doubted && buffer_size(&reader->content) > before &&
		!settle_doubt(broker, reader, before))
	{
		restart_reader(reader, 0);
		return false;
	}
	position = reader_position(reader);
	state->progress = true;
	if (position > state->best)
	{
		state->best = position;
		sophia_backoff_reset(&state->backoff);
		sophia_broker_works(broker, reader);
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
	if (frame->kind != FRAME_STATUS && frame->offset != request_offset(reader))
	{
		state->doubted = false; /* what stood before is gone */
		if (frame->offset == reader_position(reader))
			return true;
		jump(broker, reader, frame->offset);
		return state->call.request != NULL;
	}
	state->not_found = 0;
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

int64
sophia_broker_pump_reader(Reader *reader)
{
	Broker *broker = reader->source->private;
	BrokerReader *state = reader->private;

	if (state->call.request == NULL)
	{
		if (nothing_to_read(broker, reader))
		{
			sophia_broker_works(broker, reader);
			return PG_INT64_MAX;
		}
		if (!sophia_broker_ready(broker))
			return PG_INT64_MAX;
		if (sophia_clock_ms() < state->retry_at || !start_reading(broker, reader))
			return state->retry_at;
	}
	take_frames(broker, reader);
	if (sophia_broker_outdated(broker, &state->call) && at_line_end(&reader->content))
		restart_reader(reader, 0);
	return state->call.request != NULL ? watch_silence(broker, reader) : state->retry_at;
}

void
sophia_broker_open_reader(Reader *reader)
{
	BrokerReader *state = palloc0(sizeof(BrokerReader));

	state->best = reader->offset;
	state->jump_to = -1;
	sophia_backoff_init(&state->backoff, (uint64) (uintptr_t) state ^ (uint64) MyProcPid << 32);
	reader->private = state;
}

void
sophia_broker_close_reader(Reader *reader)
{
	Broker *broker = reader->source->private;
	BrokerReader *state = reader->private;

	sophia_broker_end(&state->call);
	sophia_broker_works(broker, reader);
	pfree(state);
}
