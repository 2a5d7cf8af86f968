/*
 * tidy.c
 *		Forgetting producers and staged documents: see tidy.h.
 */
#include "postgres.h"

#include "flow/tidy.h"

#include "base/settings.h"
#include "flow/row.h"
#include "flow/uuid.h"
#include "miscadmin.h"
#include "store/events.h"
#include "store/producers.h"
#include "utils/timestamp.h"

/* As Flow's readers do. */
#define REMEMBERED_SECONDS (48 * 3600)

/* Producers are looked through once an hour of the journal's time. */
#define INTERVAL_SECONDS 3600

/* A clock that is further ahead of this server's than that tells nothing of the journal's time. */
#define FUTURE_SECONDS 3600

#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

uint64
sophia_tidy_now(void)
{
	return sophia_clock_of_unix_us(GetCurrentTimestamp() + UNIX_EPOCH_US);
}

void
sophia_tidy_note(Journal *journal, uint64 clock, uint64 now)
{
	if (clock > journal->newest && !sophia_clock_is_behind(now, clock, FUTURE_SECONDS))
		journal->newest = clock;
}

/* Deletes the staged documents of a producer, which may be acknowledged some day. */
static void
set_aside(const char *stream, Journal *journal, Producer *producer, ProducerRows *rows)
{
	int64 last = sophia_producers_last_staged(stream, journal->name, producer->id);
	uint64 n = sophia_producers_unstage(stream, journal->name, producer->id);
	/* some of it may have been set aside before, and a replay of that broken off */
	int64 gap_end = Max(producer->gap_end, last + 1);
	StoredProducer stored = {producer->id, producer->state.last_ack, producer->state.max_clock,
							 producer->state.begin, gap_end};
	StreamEvent event = {.name = "set_aside",
						 .offset = last,
						 .clock = producer->state.max_clock,
						 .published_at = sophia_row_published(producer->state.max_clock)};

	producer->staged = false;
	if (n == 0)
		return;
	producer->gap_end = gap_end;
	sophia_producers_put(rows, &stored);
	event.detail =
		psprintf("{\"producer\": \"%012llx\", \"begin_offset\": %lld, \"documents\": %llu}",
				 (unsigned long long) producer->id, (long long) producer->state.begin,
				 (unsigned long long) n);
	sophia_events_add(stream, journal->name, &event);
}

static bool
is_forgettable(const Journal *journal, const Producer *producer)
{
	return producer->state.begin < 0 &&
		   (!producer->state.known ||
			sophia_clock_is_behind(producer->state.last_ack, journal->newest, REMEMBERED_SECONDS));
}

static bool
is_silent(const Journal *journal, const Producer *producer)
{
	return producer->state.begin >= 0 && producer->staged && producer != journal->wanted &&
		   sophia_clock_is_behind(producer->state.max_clock, journal->newest,
								  (int64) sophia_staging_limit * SECS_PER_MINUTE);
}

void
sophia_tidy(const char *stream, Journal *journal)
{
	int n = 0;
	uint64 *forgotten;
	ProducerRows *rows;
	HASH_SEQ_STATUS sequence;
	Producer *producer;

	if (!sophia_clock_is_behind(journal->tidied, journal->newest, INTERVAL_SECONDS))
		return;
	journal->tidied = journal->newest;
	forgotten = palloc(sizeof(uint64) * Max(hash_get_num_entries(journal->producers), 1));
	rows = sophia_producers_rows();
	hash_seq_init(&sequence, journal->producers);
	while ((producer = hash_seq_search(&sequence)) != NULL)
	{
		if (is_forgettable(journal, producer))
			forgotten[n++] = producer->id;
		else if (is_silent(journal, producer))
			set_aside(stream, journal, producer, rows);
	}
	sophia_producers_save(rows, stream, journal->name);
	sophia_producers_forget(stream, journal->name, forgotten, n);
	for (int i = 0; i < n; i++)
		hash_search(journal->producers, &forgotten[i], HASH_REMOVE, NULL);
	pfree(forgotten);
}
