/*
 * broker_refresh.c
 *		Lists the journals of a collection and reads their write heads: see broker.h.
 *
 *		idle ──due or wanted──► listing ──complete──► heads ──all known──► idle
 *		  ▲                        │                    │
 *		  └────────── failed: again after a backoff ◄───┘
 *
 * A head is asked for with a read at offset -1 that does not block.  A journal that a listing lacks
 * is asked too, and is gone only when the broker does not know it: a listing may break off between
 * two messages without a trace.
 * Source: Gazette broker/protocol/protocol.proto ListRequest, ListResponse, JournalSpec.Suspend;
 * observed: 25 journals a message.
 */
#include "postgres.h"

#include "utils/json.h"

#include "base/jsonc.h"
#include "flow/broker.h"

#define REFRESH_INTERVAL_MS 30000
#define RELIST_INTERVAL_MS	1000 /* between refreshes that a reader asked for */
#define CALL_TIMEOUT_MS		60000L
#define HEADS_AT_ONCE		8
#define LISTING_MAX_DEPTH	32

BrokerJournal *
sophia_broker_journal(Broker *broker, const char *name)
{
	ListCell *cell;

	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		if (strcmp(journal->entry->name, name) == 0)
			return journal;
	}
	return NULL;
}

/* The entry of a journal that a listing names, made when it is new. */
static BrokerJournal *
listed_journal(Broker *broker, const char *name)
{
	BrokerJournal *journal = sophia_broker_journal(broker, name);
	MemoryContext before;

	if (journal != NULL)
		return journal;
	before = MemoryContextSwitchTo(broker->source->context);
	journal = palloc0(sizeof(BrokerJournal));
	journal->entry = sophia_source_journal(broker->source, name);
	journal->suspended_at = -1;
	broker->journals = lappend(broker->journals, journal);
	MemoryContextSwitchTo(before);
	return journal;
}

/* Head of a journal that is fully suspended and holds nothing below it any more, else -1. */
static int64
suspended_at(jsonc_object *spec)
{
	jsonc_object *suspend = json_object_object_get(spec, "suspend");
	jsonc_object *level = json_object_object_get(suspend, "level");

	if (level == NULL || strcmp(json_object_get_string(level), "FULL") != 0)
		return -1;
	return Max(json_object_get_int64(json_object_object_get(suspend, "offset")), 0);
}

/* Takes over one journal of a listing; false when it is none. */
static bool
take_journal(Broker *broker, jsonc_object *item)
{
	jsonc_object *spec = json_object_object_get(item, "spec");
	jsonc_object *name = json_object_object_get(spec, "name");
	int64 revision = json_object_get_int64(json_object_object_get(item, "createRevision"));
	BrokerJournal *journal;

	if (!json_object_is_type(name, json_type_string) || json_object_get_string_len(name) == 0)
		return false;
	journal = listed_journal(broker, json_object_get_string(name));
	if (journal->create_revision != 0 && revision != 0 && journal->create_revision != revision)
		ereport(LOG, (errmsg("journal \"%s\" was deleted and made again", journal->entry->name),
					  errdetail("Its offsets begin at 0 again.")));
	if (revision != 0)
		journal->create_revision = revision;
	journal->suspended_at = suspended_at(spec);
	journal->listed = broker->refresh;
	journal->entry->removed = false;
	return true;
}

/* Takes over the journals of one message of a listing; false when it is malformed. */
static bool
take_journals(Broker *broker, jsonc_object *message)
{
	jsonc_object *journals =
		json_object_object_get(json_object_object_get(message, "result"), "journals");

	if (journals == NULL)
		return true;
	if (!json_object_is_type(journals, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(journals); i++)
	{
		if (!take_journal(broker, json_object_array_get_idx(journals, i)))
			return false;
	}
	return true;
}

static bool
take_message(Broker *broker, const Frame *frame)
{
	const char *bytes = buffer_bytes(&broker->list.request->body);
	json_tokener *tokener = json_tokener_new_ex(LISTING_MAX_DEPTH);
	jsonc_object *volatile message = NULL;
	volatile bool valid = false;

	if (tokener == NULL)
		return false;
	json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
	PG_TRY();
	{
		message = json_tokener_parse_ex(tokener, bytes, (int) frame->length);
		valid = message != NULL && take_journals(broker, message);
	}
	PG_FINALLY();
	{
		json_object_put(message);
		json_tokener_free(tokener);
	}
	PG_END_TRY();
	return valid;
}

/* Ends the refresh, and says when the next one is due. */
static void
end_refresh(Broker *broker)
{
	int64 now = sophia_clock_ms();

	broker->phase = REFRESH_IDLE;
	if (broker->refresh_failed)
	{
		broker->refresh_at = now + sophia_backoff_next(&broker->refresh_backoff);
		return;
	}
	broker->refresh_at = now + REFRESH_INTERVAL_MS;
	sophia_backoff_reset(&broker->refresh_backoff);
	sophia_broker_works(broker, broker);
	if (!broker->lacking)
		sophia_access_lacks_nothing(&broker->access);
	if (broker->source->refresh_done < broker->wanted_seen)
		broker->source->refresh_done = broker->wanted_seen;
}

static void
post_list(Broker *broker)
{
	StringInfoData body;
	bool sent;

	broker->list_messages = 0;
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"selector\":{\"include\":{\"labels\":["
								  "{\"name\":\"estuary.dev/collection\",\"value\":");
	/* The empty value stands for any. */
	escape_json(&body, broker->source->collection != NULL ? broker->source->collection : "");
	if (broker->access.prefix != NULL)
	{
		appendStringInfoString(&body, "},{\"name\":\"name\",\"prefix\":true,\"value\":");
		escape_json(&body, broker->access.prefix);
	}
	appendStringInfoString(&body, "}]}},\"watch\":false}");
	sent = sophia_broker_post(broker, &broker->list, "/v1/journals/list", &body, CALL_TIMEOUT_MS);
	pfree(body.data);
	if (!sent)
	{
		sophia_broker_retry(broker, &broker->list, broker, "could not list journals");
		broker->refresh_failed = true;
		end_refresh(broker);
	}
}

static void
begin_refresh(Broker *broker)
{
	broker->phase = REFRESH_LISTING;
	broker->refresh++;
	broker->wanted_seen = broker->source->refresh_wanted;
	broker->refresh_failed = false;
	broker->lacking = false;
	broker->relist = false;
	/* A token may have been replaced while the old one was still good. */
	broker->access.kind->doubt(&broker->access);
	post_list(broker);
}

void
sophia_broker_list_anew(Broker *broker)
{
	ListCell *cell;

	sophia_broker_end(&broker->list);
	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		sophia_broker_end(&journal->head);
		journal->head_wanted = false;
	}
	broker->phase = REFRESH_IDLE;
	broker->refresh_failed = false;
	broker->refresh_at = sophia_clock_ms();
}

/* Something is missing: it is gone, or it will be looked for again. */
static bool
note_absence(Broker *broker)
{
	bool gone = sophia_access_believes_absence(&broker->access);

	broker->lacking = true;
	if (!gone)
		broker->refresh_failed = true;
	return gone;
}

/* Wants the heads of what was listed, and of what was there before and not listed now. */
static void
begin_heads(Broker *broker)
{
	bool any = false;
	ListCell *cell;

	broker->phase = REFRESH_HEADS;
	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);
		bool listed = journal->listed == broker->refresh;

		any |= listed;
		if (listed && journal->suspended_at >= 0)
			journal->entry->write_head = journal->suspended_at;
		else
			journal->head_wanted = !journal->entry->removed;
	}
	if (!any)
		note_absence(broker);
}

static void
fail_listing(Broker *broker)
{
	sophia_broker_end(&broker->list);
	if (sophia_broker_retry(broker, &broker->list, broker, "could not list journals"))
	{
		sophia_broker_list_anew(broker);
		return;
	}
	broker->refresh_failed = true;
	end_refresh(broker);
}

static void
fail_listing_as(Broker *broker, const char *reason)
{
	sophia_broker_failed(&broker->list, ERRCODE_PROTOCOL_VIOLATION, reason);
	fail_listing(broker);
}

/* Takes what has come of the listing. */
static void
continue_listing(Broker *broker)
{
	BrokerAnswer answer;
	Frame frame;

	while ((answer = sophia_broker_next(&broker->list, &frame)) == ANSWER_FRAME)
	{
		if (frame.status != BROKER_OK)
		{
			fail_listing_as(broker, frame.message);
			return;
		}
		if (!take_message(broker, &frame))
		{
			fail_listing_as(broker, "the broker's listing makes no sense");
			return;
		}
		broker->list_messages++;
		sophia_broker_took(&broker->list, &frame);
	}
	if (answer == ANSWER_FAILED)
		fail_listing(broker);
	else if (answer == ANSWER_ENDED && broker->list_messages == 0)
		fail_listing_as(broker, "the broker ended the listing before it began");
	else if (answer == ANSWER_ENDED)
	{
		sophia_broker_end(&broker->list);
		begin_heads(broker);
	}
}

/* A head that could not be read fails the refresh; the others are read all the same. */
static void
fail_head(Broker *broker, BrokerJournal *journal)
{
	char *doing = psprintf("could not read the head of journal \"%s\"", journal->entry->name);

	sophia_broker_end(&journal->head);
	journal->head_wanted = sophia_broker_retry(broker, &journal->head, broker, doing);
	if (!journal->head_wanted)
		broker->refresh_failed = true;
	pfree(doing);
}

static void
post_head(Broker *broker, BrokerJournal *journal)
{
	StringInfoData body;
	bool sent;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"journal\":");
	escape_json(&body, journal->entry->name);
	appendStringInfo(&body,
					 ",\"offset\":\"-1\",\"block\":false,\"metadataOnly\":true,"
					 "\"minEtcdRevision\":\"" INT64_FORMAT "\"}",
					 journal->create_revision);
	journal->head_wanted = false;
	sent = sophia_broker_post(broker, &journal->head, "/v1/journals/read", &body, CALL_TIMEOUT_MS);
	pfree(body.data);
	if (!sent)
		fail_head(broker, journal);
}

/* Who reads a journal, NULL = nobody. */
static Reader *
find_reader(const Source *source, const char *name)
{
	ListCell *cell;

	foreach(cell, source->readers)
	{
		Reader *reader = lfirst(cell);

		if (strcmp(reader->journal, name) == 0)
			return reader;
	}
	return NULL;
}

/*
 * Tells when a journal ends before what was read of it.  While brokers hand it over to one another
 * that may pass, so it is looked at again first.
 */
static void
check_head(Broker *broker, BrokerJournal *journal)
{
	const SourceJournal *entry = journal->entry;
	Reader *reader = find_reader(broker->source, entry->name);

	if (reader == NULL || entry->write_head >= reader->offset)
	{
		journal->heads_behind = 0;
		sophia_broker_works(broker, journal);
	}
	else if (journal->heads_behind++ == 0)
	{
		broker->relist = true;
		sophia_broker_doubt(reader);
	}
	else
		sophia_broker_fail(broker, journal, ERRCODE_DATA_CORRUPTED, false,
						   "journal \"%s\" ends at offset " INT64_FORMAT
						   ", but was read up to " INT64_FORMAT
						   ": its brokers lost content, or it was made again",
						   entry->name, entry->write_head, reader->offset);
}

/* Takes the answer for a head. */
static void
take_head(Broker *broker, BrokerJournal *journal, const Frame *frame)
{
	bool listed = journal->listed == broker->refresh;

	if (frame->status == BROKER_OK || frame->status == BROKER_OFFSET_NOT_YET_AVAILABLE)
	{
		journal->entry->write_head = frame->write_head;
		sophia_broker_end(&journal->head);
		check_head(broker, journal);
	}
	else if (frame->status == BROKER_JOURNAL_NOT_FOUND && !listed)
	{
		journal->entry->removed = note_absence(broker);
		sophia_broker_end(&journal->head);
	}
	else
	{
		sophia_broker_failed(&journal->head, ERRCODE_CONNECTION_EXCEPTION, frame->message);
		fail_head(broker, journal);
	}
}

/* Takes the answers that have come for one head; false when it is still asked for. */
static bool
continue_head(Broker *broker, BrokerJournal *journal)
{
	Frame frame;

	switch (sophia_broker_next(&journal->head, &frame))
	{
		case ANSWER_WAITING:
			return false;
		case ANSWER_FRAME:
			take_head(broker, journal, &frame);
			break;
		case ANSWER_ENDED:
			sophia_broker_failed(&journal->head, ERRCODE_CONNECTION_EXCEPTION,
								 "the broker gave no answer");
			fail_head(broker, journal);
			break;
		case ANSWER_FAILED:
			fail_head(broker, journal);
			break;
	}
	return true;
}

/* Keeps a few heads asked for until all are known. */
static void
continue_heads(Broker *broker)
{
	int running = 0;
	ListCell *cell;

	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		if (journal->head.request != NULL && !continue_head(broker, journal))
			running++;
	}
	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		if (!journal->head_wanted || running == HEADS_AT_ONCE)
			continue;
		if (!sophia_broker_ready(broker))
			return;
		post_head(broker, journal);
		running += journal->head.request != NULL;
	}
	if (running == 0)
		end_refresh(broker);
}

/* When the next refresh is to start. */
static int64
refresh_due(const Broker *broker)
{
	const Source *source = broker->source;

	if (!broker->refresh_failed && source->refresh_wanted > source->refresh_done)
		return 0;
	if (!broker->refresh_failed && broker->relist)
		return broker->refresh_at - REFRESH_INTERVAL_MS + RELIST_INTERVAL_MS;
	return broker->refresh_at;
}

int64
sophia_broker_refresh(Broker *broker)
{
	if (broker->phase == REFRESH_IDLE && refresh_due(broker) <= sophia_clock_ms())
	{
		if (!sophia_broker_ready(broker))
			return PG_INT64_MAX;
		begin_refresh(broker);
	}
	if (broker->phase == REFRESH_LISTING)
		continue_listing(broker);
	if (broker->phase == REFRESH_HEADS)
		continue_heads(broker);
	return broker->phase == REFRESH_IDLE ? refresh_due(broker) : PG_INT64_MAX;
}
