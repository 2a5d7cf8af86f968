/*
 * producers.h
 *		What is stored of the producers of a journal: their states, and the documents of transactions that are not
 *		acknowledged yet.
 *
 * All of it is read and written inside the caller's transaction and SPI connection, which holds the journal's checkpoint.
 * Clocks are unsigned; the tables keep their bits in a bigint.
 */
#ifndef SOPHIA_PRODUCERS_H
#define SOPHIA_PRODUCERS_H

#include "postgres.h"

#include "store/batch_table.h"

typedef struct StoredProducer
{
	uint64 producer; /* 48 bits */
	uint64 last_ack;
	uint64 max_clock;
	int64 begin_offset; /* of the open transaction, -1 = none */
	int64 gap_end; /* its documents that begin before this are not staged any more; -1 = all are */
} StoredProducer;

/* States and documents that a batch collects, to be written with one statement each. */
typedef struct ProducerRows
{
	BatchTable *states;
	BatchTable *documents;
} ProducerRows;

/* Calls `take` with each producer that is known of a journal. */
extern void sophia_producers_load(const char *stream, const char *journal,
								  void (*take)(void *owner, const StoredProducer *producer),
								  void *owner);

/* Empty rows in the current memory context; sophia_producers_save() writes them, and frees them. */
extern ProducerRows *sophia_producers_rows(void);
extern void sophia_producers_put(ProducerRows *rows, const StoredProducer *producer);
extern void sophia_producers_stage(ProducerRows *rows, uint64 producer, int64 offset, uint64 clock,
								   const char *document, size_t length);
extern void sophia_producers_save(ProducerRows *rows, const char *stream, const char *journal);

/* Deletes the staged documents of a producer; returns how many there were. */
extern uint64 sophia_producers_unstage(const char *stream, const char *journal, uint64 producer);

/* The same for those that begin before an offset. */
extern uint64 sophia_producers_unstage_before(const char *stream, const char *journal,
											  uint64 producer, int64 offset);

/* The offset of the last staged document of a producer, -1 = there is none. */
extern int64 sophia_producers_last_staged(const char *stream, const char *journal, uint64 producer);

/* A cursor over the staged documents of a producer in the order of their offsets: (begin_offset, clock, document). */
extern struct PortalData *sophia_producers_staged(const char *stream, const char *journal,
												  uint64 producer);

/* Forgets the states of n producers. */
extern void sophia_producers_forget(const char *stream, const char *journal,
									const uint64 *producers, int n);

#endif /* SOPHIA_PRODUCERS_H */
