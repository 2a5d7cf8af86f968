/*
 * journal.c
 *		One journal of a stream as the ingest worker follows it: see journal.h.
 */
#include "postgres.h"

#include "flow/journal.h"

#include "store/checkpoint.h"
#include "utils/memutils.h"

Producer *
sophia_journal_producer(Journal *journal, uint64 id)
{
	bool found;
	Producer *producer = hash_search(journal->producers, &id, HASH_ENTER, &found);

	if (!found)
	{
		memset((char *) producer + sizeof(id), 0, sizeof(Producer) - sizeof(id));
		producer->state.begin = -1;
	}
	return producer;
}

static void
take_producer(void *owner, const StoredProducer *stored)
{
	Producer *producer = sophia_journal_producer(owner, stored->producer);

	producer->state.known = true;
	producer->state.last_ack = stored->last_ack;
	producer->state.max_clock = stored->max_clock;
	producer->state.begin = stored->begin_offset;
	producer->staged = stored->begin_offset >= 0;
}

Journal *
sophia_journal_open(MemoryContext context, Source *source, SourceJournal *listed,
					const char *stream, int64 start)
{
	HASHCTL control = {.keysize = sizeof(uint64), .entrysize = sizeof(Producer), .hcxt = context};
	Journal *journal = MemoryContextAllocZero(context, sizeof(Journal));

	journal->name = MemoryContextStrdup(context, listed->name);
	journal->listed = listed;
	journal->producers =
		hash_create("sophia_stack producers", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	journal->revision = listed->revision;
	journal->next_offset = sophia_checkpoint_open(stream, listed->name, listed->revision, start);
	journal->stored_head = -1;
	sophia_backoff_init(&journal->backoff, (uint64) (uintptr_t) journal);
	sophia_checkpoint_producers(stream, listed->name, take_producer, journal);
	journal->reader = sophia_reader_open(source, listed->name, journal->next_offset);
	return journal;
}

void
sophia_journal_close(Journal *journal)
{
	sophia_reader_close(journal->reader);
	hash_destroy(journal->producers);
	pfree((char *) journal->name);
	pfree(journal);
}

int64
sophia_journal_head(const Journal *journal)
{
	return Max(journal->next_offset, Max(journal->listed->write_head, journal->reader->write_head));
}
