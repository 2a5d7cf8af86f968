/*
 * source.h
 *		Where the bytes of a collection's journals come from: one interface, two kinds (a folder of fragments,
 *		a Gazette broker).
 *
 * A Source is one endpoint and one collection, opened by the ingest worker for one stream.  It is driven by
 * polling: the worker calls pump() whenever its event loop wakes (a socket is ready, a deadline passed) and
 * pump() does what can be done now without waiting.  What it finds lands in plain fields that the worker reads.
 * Nothing here starts a transaction or touches a table, and the worker never calls pump() inside one.
 *
 * Memory: content lives in malloc'ed Buffers; strings and structs are palloc'ed in source->context.
 * Errors: pump() never throws for anything the outside world did; it calls sophia_source_fail() and, when
 * the failure is transient, tries again by itself with backoff (base/clock.h).  A permanent failure (bad
 * configuration, unsupported codec) stays until the stream is started again.
 */
#ifndef SOPHIA_SOURCE_H
#define SOPHIA_SOURCE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "base/buffer.h"
#include "datatype/timestamp.h"
#include "flow/fragment_name.h"

/* One journal of the collection, as last listed; elements of Source.journals. */
typedef struct SourceJournal
{
	char *name;		  /* full journal name */
	int64 write_head; /* offset past the last byte; -1 while unknown */
	bool removed;	  /* was listed once and is gone now */
	int64 revision;	  /* another one: it was deleted and made again, and is another journal; 0 = not known */
} SourceJournal;

/*
 * Reads one journal from an offset on.  `content` holds consecutive bytes of the journal, the first of which
 * is at `offset`; the worker takes whole lines from its front (sophia_reader_consume).  The source appends.
 */
typedef struct Reader
{
	struct Source *source;
	char *journal;
	int64 offset; /* journal offset of the first byte in content */
	ByteBuffer content;
	size_t limit;	  /* the source stops appending at this many bytes; the worker raises it for a
								 * longer line */
	int64 write_head; /* newest write head seen while reading, -1 = unknown */
	bool paused;	  /* the source holds back: content reached limit, or must be
								 * empty before the source goes on behind a hole */
	void *private;	  /* of the kind */
} Reader;

typedef struct Source
{
	const struct SourceKind *kind;
	MemoryContext context; /* everything palloc'ed for this source; deleted by sophia_source_close */
	char *address;
	char *token;	  /* secret reference 'env:NAME' or 'file:name', or NULL */
	char *collection; /* NULL: no collection; only list_collections is used */
	List *journals;	  /* of SourceJournal *; grows, entries never move */
	List *readers;	  /* of Reader * */

	/*
	 * Refreshing: list the journals and read every head anew.  The worker sets refresh_wanted to a number larger
	 * than refresh_done; the source starts a refresh after that moment, and when it has listed and has every head
	 * sets refresh_done to the refresh_wanted that it had seen when it started.
	 */
	uint64 refresh_wanted;
	uint64 refresh_done;

	TimestampTz wake_at; /* pump() wants to be called no later than this; 0 = only on socket events */

	/* The last failure; message '' = none.  Cleared by the source when the failing thing works again. */
	char error_message[512];
	int error_sqlstate;
	bool error_permanent;

	void *private; /* of the kind */
} Source;

typedef struct SourceKind
{
	const char *name; /* 'fragments', 'broker' */

	/* Raises 22023 (42501 where a setting forbids it) when the address cannot be right; used in any backend. */
	void (*check_address)(const char *address);

	void (*open)(Source *source);
	void (*pump)(Source *source);

	/* Starts reading `reader->journal` at `reader->offset`. */
	void (*open_reader)(Reader *reader);
	void (*close_reader)(Reader *reader);
	void (*close)(Source *source);
} SourceKind;

extern const SourceKind sophia_source_fragments;
extern const SourceKind sophia_source_broker;

/* The kind of that name, or NULL. */
extern const SourceKind *sophia_source_kind(const char *name);

/* Opens; parent context owns it.  `collection` NULL: the journals of all collections are listed (for
 * sophia.collections() and check_endpoint); then sophia_collection_length(SourceJournal.name) tells them apart. */
extern Source *sophia_source_open(MemoryContext parent, const SourceKind *kind, const char *address,
								  const char *token, const char *collection);
extern void sophia_source_close(Source *source);

extern Reader *sophia_reader_open(Source *source, const char *journal, int64 offset);
extern void sophia_reader_close(Reader *reader);

/* Takes n bytes from the front: content shrinks, offset grows. */
extern void sophia_reader_consume(Reader *reader, size_t n);

/* For kinds: records a failure (message is formatted, cut to fit). */
extern void sophia_source_fail(Source *source, int sqlstate, bool permanent, const char *format,
							   ...) pg_attribute_printf(4, 5);
extern void sophia_source_clear_error(Source *source);

/* For kinds: the entry of that name, added (write_head -1) when it is new. */
extern SourceJournal *sophia_source_journal(Source *source, const char *name);

#endif /* SOPHIA_SOURCE_H */
