/*
 * broker_refresh.c
 *		Watches the journals of a collection and reads their write heads: see broker.h.
 *
 *		idle ──due or wanted──► listing ──whole snapshot──► heads ──all known──► idle
 *		  ▲  ──────────news: a whole snapshot of the watch────►│
 *		  └────────────── failed: again after a backoff ◄───────┘
 *
 * A listing is the first snapshot of a watch, which stays open and brings another snapshot whenever
 * something has changed; one that ends well is taken up again behind its last whole snapshot.
 * A snapshot may come in several messages and break off between two of them.  Only a whole one
 * tells what is gone; and a journal that it lacks is asked for its head first, and is gone only
 * when the broker does not know it.
 * A head is asked for with a read at offset -1 that does not block.
 * Source: Gazette broker/protocol/protocol.proto ListRequest, ListResponse, JournalSpec.Suspend;
 * broker/list_apply_api.go: a message whose header has a revision begins a snapshot, those without
 * one go on with it, and an empty one of them ends it; 25 journals a message.
 */
#include "postgres.h"

#include "utils/json.h"

#include "base/jsonc.h"
#include "flow/broker.h"

#define REFRESH_INTERVAL_MS 30000
#define RELIST_INTERVAL_MS	1000 /* between refreshes that a reader asked for */
#define CALL_TIMEOUT_MS		60000L
#define LISTING_TIMEOUT_MS	60000
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
	bool another;

	if (!json_object_is_type(name, json_type_string) || json_object_get_string_len(name) == 0)
		return false;
	journal = listed_journal(broker, json_object_get_string(name));
	another = journal->entry->revision != revision || journal->entry->removed;
	if (another || (journal->suspended_at >= 0) != (suspended_at(spec) >= 0))
		journal->head_wanted = true;
	if (another)
		journal->entry->write_head = -1;
	journal->entry->revision = revision;
	journal->suspended_at = suspended_at(spec);
	journal->listed = broker->snapshot;
	journal->entry->removed = false;
	return true;
}

/* Keeps a text of JSON until the next one. */
static void
keep_header(Broker *broker, char **kept, const char *header)
{
	if (*kept != NULL)
		pfree(*kept);
	*kept = MemoryContextStrdup(broker->source->context, header);
}

/* Takes over one message of a listing; false when it is malformed. */
static bool
take_journals(Broker *broker, jsonc_object *message)
{
	jsonc_object *result = json_object_object_get(message, "result");
	jsonc_object *journals = json_object_object_get(result, "journals");
	jsonc_object *header = json_object_object_get(result, "header");
	jsonc_object *etcd = json_object_object_get(header, "etcd");
	int64 revision = json_object_get_int64(json_object_object_get(etcd, "revision"));
	size_t count = 0;

	if (journals != NULL && !json_object_is_type(journals, json_type_array))
		return false;
	if (journals != NULL)
		count = json_object_array_length(journals);
	if (revision != 0)
	{
		broker->snapshot++;
		broker->in_snapshot = true;
		keep_header(broker, &broker->list_header, json_object_to_json_string(header));
	}
	else if (!broker->in_snapshot)
		return count == 0;
	for (size_t i = 0; i < count; i++)
	{
		if (!take_journal(broker, json_object_array_get_idx(journals, i)))
			return false;
	}
	if (revision == 0 && count == 0)
	{
		broker->in_snapshot = false;
		broker->snapshots++;
		keep_header(broker, &broker->resume_header, broker->list_header);
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
	if (!broker->refreshing)
		return;
	broker->refreshing = false;
	broker->refresh_at = now + REFRESH_INTERVAL_MS;
	sophia_backoff_reset(&broker->refresh_backoff);
	sophia_broker_works(broker, broker);
	if (broker->source->refresh_done < broker->wanted_seen)
		broker->source->refresh_done = broker->wanted_seen;
}

/* Begins to watch; with `resume` from the last whole snapshot on.  False when that failed. */
static bool
post_watch(Broker *broker, const char *resume)
{
	StringInfoData body;
	bool sent;

	broker->in_snapshot = false;
	broker->list_at = sophia_clock_ms();
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"selector\":{\"include\":{\"labels\":["
								  "{\"name\":\"estuary.dev/collection\",\"value\":");
	/* The empty value stands for any. */
	escape_json(&body, broker->source->collection != NULL ? broker->source->collection : "");
	appendStringInfoString(&body, "}]}},\"watch\":true");
	if (resume != NULL)
		appendStringInfo(&body, ",\"watchResume\":%s", resume);
	appendStringInfoChar(&body, '}');
	sent = sophia_broker_post(broker, &broker->list, "/v1/journals/list", &body, 0);
	pfree(body.data);
	return sent;
}

static void
post_list(Broker *broker)
{
	if (!post_watch(broker, NULL))
	{
		broker->list_at = PG_INT64_MAX;
		sophia_broker_retry(broker, &broker->list, broker, "could not list journals");
		broker->refresh_failed = true;
		end_refresh(broker);
	}
}

static void
begin_refresh(Broker *broker)
{
	broker->phase = REFRESH_LISTING;
	broker->refreshing = true;
	broker->wanted_seen = broker->source->refresh_wanted;
	broker->refresh_failed = false;
	broker->relist = false;
	/* A token may have been replaced while the old one was still good. */
	sophia_secret_clear(&broker->token);
	sophia_broker_end(&broker->list);
	post_list(broker);
}

/*
 * Wants the heads of what was listed, and of what was there before and not listed now; after a
 * snapshot that nobody asked for, only of what it changed.
 */
static void
begin_heads(Broker *broker)
{
	bool all = broker->phase == REFRESH_LISTING;
	ListCell *cell;

	broker->phase = REFRESH_HEADS;
	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);
		bool listed = journal->listed == broker->snapshot;

		if (listed && journal->suspended_at >= 0)
		{
			journal->entry->write_head = journal->suspended_at;
			journal->head_wanted = false;
		}
		else if (all || !listed)
			journal->head_wanted = !journal->entry->removed;
	}
}

static void
fail_listing(Broker *broker)
{
	sophia_broker_end(&broker->list);
	broker->list_at = PG_INT64_MAX;
	if (sophia_broker_retry(broker, &broker->list, broker, "could not list journals"))
	{
		post_list(broker);
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

/* The watch ended well, as it does when a token expires or a broker goes. */
static void
listing_ended(Broker *broker)
{
	if (broker->phase == REFRESH_LISTING)
	{
		fail_listing_as(broker, "the broker ended the listing before it was whole");
		return;
	}
	sophia_broker_end(&broker->list);
	broker->in_snapshot = false;
	broker->list_at = sophia_clock_ms() + sophia_backoff_next(&broker->list_backoff);
}

/* The watch broke off.  One that nobody waits for just makes the next refresh due. */
static void
listing_failed(Broker *broker)
{
	if (broker->phase == REFRESH_LISTING)
	{
		fail_listing(broker);
		return;
	}
	sophia_broker_end(&broker->list);
	broker->in_snapshot = false;
	broker->list_at = PG_INT64_MAX;
	broker->relist = true;
}

/* Takes one message of the watch; false when the watch has failed. */
static bool
take_listing(Broker *broker, const Frame *frame)
{
	uint64 whole = broker->snapshots;

	if (frame->status != BROKER_OK || !take_message(broker, frame))
	{
		sophia_broker_failed(&broker->list, ERRCODE_PROTOCOL_VIOLATION,
							 frame->status != BROKER_OK ? frame->message
														: "the broker's listing makes no sense");
		listing_failed(broker);
		return false;
	}
	sophia_backoff_reset(&broker->list_backoff);
	sophia_broker_took(&broker->list, frame);
	if (broker->snapshots > whole)
		begin_heads(broker);
	return true;
}

/* Takes what has come of the listing; returns when to look again if nothing comes. */
static int64
continue_listing(Broker *broker)
{
	int64 late = broker->list_at + LISTING_TIMEOUT_MS;
	BrokerAnswer answer;
	Frame frame;

	while ((answer = sophia_broker_next(&broker->list, &frame)) == ANSWER_FRAME)
	{
		if (!take_listing(broker, &frame))
			return PG_INT64_MAX;
	}
	if (answer == ANSWER_FAILED)
		listing_failed(broker);
	else if (answer == ANSWER_ENDED)
		listing_ended(broker);
	else if (broker->phase != REFRESH_LISTING)
		return PG_INT64_MAX;
	else if (late <= sophia_clock_ms())
		fail_listing_as(broker, "the broker did not list them in time");
	else
		return late;
	return broker->list_at;
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
					 journal->entry->revision);
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
	bool listed = journal->listed == broker->snapshot;

	if (frame->status == BROKER_OK || frame->status == BROKER_OFFSET_NOT_YET_AVAILABLE)
	{
		journal->entry->write_head = frame->write_head;
		sophia_broker_end(&journal->head);
		check_head(broker, journal);
	}
	else if (frame->status == BROKER_JOURNAL_NOT_FOUND && !listed)
	{
		journal->entry->removed = true;
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
	int64 now = sophia_clock_ms();
	int64 next = PG_INT64_MAX;

	if (broker->phase == REFRESH_IDLE && refresh_due(broker) <= now)
		begin_refresh(broker);
	if (broker->list.request == NULL && broker->phase != REFRESH_LISTING &&
		broker->resume_header != NULL && broker->list_at <= now &&
		!post_watch(broker, broker->resume_header))
		listing_failed(broker);
	if (broker->list.request != NULL)
		next = continue_listing(broker);
	if (broker->phase == REFRESH_HEADS)
		continue_heads(broker);
	return broker->phase == REFRESH_IDLE ? Min(next, refresh_due(broker)) : next;
}
