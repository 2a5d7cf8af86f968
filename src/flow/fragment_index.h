/*
 * fragment_index.h
 *		What a folder of fragments holds: a tree of folders, the journals in it, and each journal's fragments.
 *
 * A scan reads folder entries only and opens no file, so that thousands of files cost milliseconds.  Entries are
 * kept from scan to scan, what is gone is given back: memory follows the content of the folder.  Everything is
 * palloc'ed in the context given.  No symbolic link below the address is followed.
 * Failures of the file system are text in the index; nothing is thrown for them.
 */
#ifndef SOPHIA_FRAGMENT_INDEX_H
#define SOPHIA_FRAGMENT_INDEX_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "flow/fragment_file.h"
#include "flow/source.h"

/* A folder of the tree; its names from the root on make a path. */
typedef struct StoreFolder StoreFolder;

typedef enum FragmentState
{
	FRAGMENT_UNCHECKED,
	FRAGMENT_VERIFIED, /* as long as the file has `identity` */
	FRAGMENT_FAILED	   /* as long as the file has `identity`, and until retry_at */
} FragmentState;

/* What tells fragments apart; compared as bytes. */
typedef struct FragmentKey
{
	StoreFolder *folder;
	FragmentName name;
} FragmentKey;

typedef struct Fragment
{
	FragmentKey key;
	uint64 seen;  /* the last scan that found it */
	int64 reach;  /* largest end of this one and all before it in the journal */
	int pins;	  /* readers that hold on to this entry */
	bool listed;  /* stands in its journal */
	int failures; /* in a row */
	FragmentState state;
	FragmentIdentity identity;
	TimestampTz retry_at;
} Fragment;

typedef struct IndexedJournal
{
	SourceJournal *entry;
	Fragment **fragments; /* by begin */
	int count;
	int capacity;
	int found;	 /* by the scan that runs */
	uint64 seen; /* the last scan that found the journal's folder */
	bool changed;
} IndexedJournal;

typedef struct FragmentIndex FragmentIndex;

/* `source` gives address, collection (NULL: all) and takes the journals; it and `context` outlive the index. */
extern FragmentIndex *sophia_index_create(MemoryContext context, Source *source);

/*
 * Looks at the folders anew, and at the journals' write heads.  False when some folder could not be read; the rest
 * was, nothing is forgotten, and *sqlstate and `error` tell of the first.
 */
extern bool sophia_index_scan(FragmentIndex *index, int *sqlstate, char *error, size_t error_size);

/* How many scans were made. */
extern uint64 sophia_index_generation(const FragmentIndex *index);

/* NULL when no scan has seen it. */
extern IndexedJournal *sophia_index_journal(FragmentIndex *index, const char *name);

/*
 * The fragment to read `offset` from: of those that cover it, one that has not failed before one that has, that
 * before an unsupported one, and then the one that reaches farthest.  NULL when none does; then *next is the first one
 * after the offset, if any.
 */
extern Fragment *sophia_index_choose(IndexedJournal *journal, int64 offset, Fragment **next);

/* Keeps an entry valid until it is unpinned, even when its file is gone. */
extern void sophia_index_pin(Fragment *fragment);
extern void sophia_index_unpin(FragmentIndex *index, Fragment *fragment);

/* Opens the folder that a fragment lies in; -1 with errno. */
extern int sophia_index_open_folder(const FragmentIndex *index, const Fragment *fragment);

/* The path relative to the address. */
extern void sophia_index_path(const Fragment *fragment, char path[MAXPGPATH]);

#endif /* SOPHIA_FRAGMENT_INDEX_H */
