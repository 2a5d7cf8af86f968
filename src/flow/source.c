/*
 * source.c
 *		What every kind of source has in common: see source.h.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "flow/source.h"

/*
 * Bytes that a reader holds ahead of the worker before the source stops appending: at most, at least, and those that all
 * readers of the process share.  A line that is longer is read by one reader at a time.
 */
#define READ_AHEAD		 ((size_t) 8 * 1024 * 1024)
#define READ_AHEAD_LEAST ((size_t) 64 * 1024)
#define READ_AHEAD_ALL	 ((size_t) 64 * 1024 * 1024)

/* A reader with a long line that got no byte for so long makes way for others. */
#define GROWTH_STALLED_MS 10000

static int readers_open;	/* in the process */
static const Reader *grown; /* who has more than its share; NULL = nobody */
static size_t grown_size;	/* what it held when it was last seen to get more */
static int64 grown_at;		/* when that was, by sophia_clock_ms() */

static const SourceKind *const kinds[] = {&sophia_source_fragments, &sophia_source_broker,
										  &sophia_source_estuary};

const SourceKind *
sophia_source_kind(const char *name)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	}
	return NULL;
}

static void
forget_reader(Reader *reader)
{
	sophia_buffer_free(&reader->content);
	readers_open--;
	if (grown == reader)
		grown = NULL;
}

/* Gives back what is not palloc'ed, once: also when an error takes source->context away. */
static void
release_source(void *argument)
{
	Source *source = argument;
	const SourceKind *kind = source->kind;
	ListCell *cell;

	if (kind == NULL)
		return;
	source->kind = NULL;
	foreach(cell, source->readers)
	{
		Reader *reader = lfirst(cell);

		kind->close_reader(reader);
		forget_reader(reader);
	}
	kind->close(source);
}

Source *
sophia_source_open(MemoryContext parent, const SourceKind *kind, const char *address,
				   const char *token, const char *collection)
{
	MemoryContext context = AllocSetContextCreate(parent, "sophia source", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Source *source = palloc0(sizeof(Source));
	MemoryContextCallback *release = palloc0(sizeof(MemoryContextCallback));

	source->kind = kind;
	source->context = context;
	source->address = pstrdup(address);
	source->token = token != NULL ? pstrdup(token) : NULL;
	source->collection = collection != NULL ? pstrdup(collection) : NULL;
	kind->open(source);
	release->func = release_source;
	release->arg = source;
	MemoryContextRegisterResetCallback(context, release);
	MemoryContextSwitchTo(before);
	return source;
}

void
sophia_source_close(Source *source)
{
	release_source(source);
	MemoryContextDelete(source->context);
}

Reader *
sophia_reader_open(Source *source, const char *journal, int64 offset)
{
	MemoryContext before = MemoryContextSwitchTo(source->context);
	Reader *reader = palloc0(sizeof(Reader));

	reader->source = source;
	reader->journal = pstrdup(journal);
	reader->offset = offset;
	reader->limit = sophia_reader_share();
	reader->write_head = -1;
	source->kind->open_reader(reader);
	source->readers = lappend(source->readers, reader);
	readers_open++;
	source->wake_at = GetCurrentTimestamp();
	MemoryContextSwitchTo(before);
	return reader;
}

void
sophia_reader_close(Reader *reader)
{
	Source *source = reader->source;

	source->readers = list_delete_ptr(source->readers, reader);
	source->kind->close_reader(reader);
	forget_reader(reader);
	pfree(reader->journal);
	pfree(reader);
}

size_t
sophia_reader_share(void)
{
	size_t share = READ_AHEAD_ALL / Max(readers_open, 1);

	return Max(Min(share, READ_AHEAD), READ_AHEAD_LEAST);
}

void
sophia_source_allot(Source *source)
{
	size_t share = sophia_reader_share();
	ListCell *cell;

	foreach(cell, source->readers)
	{
		Reader *reader = lfirst(cell);

		if (grown != reader)
			reader->limit = share;
	}
}

bool
sophia_reader_grow(Reader *reader)
{
	int64 now = sophia_clock_ms();

	if (grown != NULL && grown != reader)
	{
		if (buffer_size(&grown->content) != grown_size)
		{
			grown_size = buffer_size(&grown->content);
			grown_at = now;
		}
		if (now - grown_at < GROWTH_STALLED_MS)
			return false;
	}
	grown = reader;
	grown_size = buffer_size(&reader->content);
	grown_at = now;
	reader->limit = Max(reader->limit, grown_size) * 2;
	return true;
}

/* The line that was longer is gone, or the first of several. */
static void
end_growth(Reader *reader, size_t share)
{
	ByteBuffer *content = &reader->content;
	ByteBuffer rest = {0};

	reader->limit = share;
	if (buffer_size(content) > share)
		return;
	grown = NULL;
	if (sophia_buffer_append(&rest, buffer_bytes(content), buffer_size(content)))
	{
		sophia_buffer_free(content);
		*content = rest;
	}
}

void
sophia_reader_consume(Reader *reader, size_t n)
{
	size_t share = sophia_reader_share();

	sophia_buffer_consume(&reader->content, n);
	reader->offset += n;
	if (grown == reader)
		end_growth(reader, share);
	/* Where there are many readers, one that has nothing holds no memory. */
	if (share < READ_AHEAD && buffer_size(&reader->content) == 0)
		sophia_buffer_free(&reader->content);
	/* What was held back can go on, and no socket will tell. */
	if (reader->paused)
		reader->source->wake_at = GetCurrentTimestamp();
}

/* What is no UTF-8, as the name of a file may be, must not reach a table. */
static void
replace_bad_bytes(char *text)
{
	int length = strlen(text);

	for (int at = 0; at < length; at++)
	{
		at += pg_encoding_verifymbstr(PG_UTF8, text + at, length - at);
		if (at < length)
			text[at] = '?';
	}
}

void
sophia_source_fail(Source *source, int sqlstate, bool permanent, const char *format, ...)
{
	char message[sizeof(source->error_message) * 2];
	va_list args;
	int length;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	replace_bad_bytes(message);
	length = pg_mbcliplen(message, strlen(message), sizeof(source->error_message) - 1);
	memcpy(source->error_message, message, length);
	source->error_message[length] = '\0';
	source->error_sqlstate = sqlstate;
	source->error_permanent = permanent;
}

void
sophia_source_clear_error(Source *source)
{
	source->error_message[0] = '\0';
	source->error_sqlstate = 0;
	source->error_permanent = false;
}

SourceJournal *
sophia_source_journal(Source *source, const char *name)
{
	MemoryContext before;
	SourceJournal *journal;
	ListCell *cell;

	foreach(cell, source->journals)
	{
		journal = lfirst(cell);
		if (strcmp(journal->name, name) == 0)
			return journal;
	}
	before = MemoryContextSwitchTo(source->context);
	journal = palloc0(sizeof(SourceJournal));
	journal->name = pstrdup(name);
	journal->write_head = journal->located = -1;
	source->journals = lappend(source->journals, journal);
	MemoryContextSwitchTo(before);
	return journal;
}
