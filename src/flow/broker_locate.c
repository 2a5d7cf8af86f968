/*
 * broker_locate.c
 *		Asks a Gazette broker where a time stands in each journal: see Source.locate_time and broker.h.
 *
 * A read of the metadata from offset 0 on, with beginModTime: the broker passes over what it persisted before that time, and
 * says where the rest begins.  What was written at the time or later was persisted later still, or is not yet, and such
 * fragments are never passed over; so the answer may be early and is never late.
 * Source: Gazette broker/protocol/protocol.proto ReadRequest; broker/fragment/index.go.
 */
#include "postgres.h"

#include "utils/json.h"
#include "utils/timestamp.h"

#include "flow/broker.h"

#define CALL_TIMEOUT_MS	  60000L
#define RETRY_INTERVAL_MS 1000
#define CALLS_AT_ONCE	  8

static void
fail_locate(Broker *broker, BrokerJournal *journal)
{
	char *doing = psprintf("could not find a time in journal \"%s\"", journal->entry->name);

	sophia_broker_end(&journal->locate);
	journal->locate_at = sophia_clock_ms();
	if (!sophia_broker_retry(broker, &journal->locate, broker, doing))
		journal->locate_at += RETRY_INTERVAL_MS;
	pfree(doing);
}

static void
post_locate(Broker *broker, BrokerJournal *journal)
{
	StringInfoData body;
	bool sent;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"journal\":");
	escape_json(&body, journal->entry->name);
	appendStringInfo(
		&body,
		",\"offset\":\"0\",\"block\":false,\"metadataOnly\":true,\"beginModTime\":\"" INT64_FORMAT
		"\",\"minEtcdRevision\":\"" INT64_FORMAT "\"}",
		(int64) timestamptz_to_time_t(broker->source->locate_time), journal->entry->revision);
	sent =
		sophia_broker_post(broker, &journal->locate, "/v1/journals/read", &body, CALL_TIMEOUT_MS);
	pfree(body.data);
	if (!sent)
		fail_locate(broker, journal);
}

static void
take_locate(Broker *broker, BrokerJournal *journal, const Frame *frame)
{
	if (frame->status == BROKER_OK || frame->status == BROKER_OFFSET_NOT_YET_AVAILABLE ||
		frame->status == BROKER_SUSPENDED)
	{
		journal->entry->located = Max(frame->offset, 0);
		sophia_broker_end(&journal->locate);
	}
	else
	{
		sophia_broker_failed(&journal->locate, ERRCODE_CONNECTION_EXCEPTION, frame->message);
		fail_locate(broker, journal);
	}
}

/* Takes the answer, if it has come. */
static void
continue_locate(Broker *broker, BrokerJournal *journal)
{
	Frame frame;

	switch (sophia_broker_next(&journal->locate, &frame))
	{
		case ANSWER_WAITING:
			break;
		case ANSWER_FRAME:
			take_locate(broker, journal, &frame);
			break;
		case ANSWER_ENDED:
			sophia_broker_failed(&journal->locate, ERRCODE_CONNECTION_EXCEPTION,
								 "the broker gave no answer");
			fail_locate(broker, journal);
			break;
		case ANSWER_FAILED:
			fail_locate(broker, journal);
			break;
	}
}

int64
sophia_broker_locate(Broker *broker)
{
	int64 next = PG_INT64_MAX;
	int running = 0;
	ListCell *cell;

	if (broker->source->locate_time == 0 || TIMESTAMP_IS_NOEND(broker->source->locate_time))
		return next;
	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		if (journal->locate.request != NULL)
			continue_locate(broker, journal);
		if (journal->locate.request != NULL)
			running++;
	}
	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		if (journal->entry->located >= 0 || journal->entry->removed ||
			journal->locate.request != NULL || running == CALLS_AT_ONCE)
			continue;
		if (journal->locate_at <= sophia_clock_ms())
			post_locate(broker, journal);
		if (journal->locate.request != NULL)
			running++;
		else
			next = Min(next, journal->locate_at);
	}
	return next;
}
