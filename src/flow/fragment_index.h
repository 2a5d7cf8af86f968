/*
 * fragment_index.h
 *		What is known of a folder of fragments: a tree of folders, the journals in it, and each journal's fragments;
 *		keeps them, and chooses the fragment to read.
 *
 * fragment_scan.c fills it.  Entries are kept from scan to scan, what is gone is given back: memory follows the
 * content of the folder.  Everything is palloc'ed in the context given.  No symbolic link below the address is
 * followed.
 */
#ifndef SOPHIA_FRAGMENT_INDEX_H
#define SOPHIA_FRAGMENT_INDEX_H

#include "postgres.h"

#include <limits.h>

#include "datatype/timestamp.h"
#include "flow/fragment_file.h"
#include "flow/source.h"
#include "utils/hsearch.h"

typedef enum FolderKind
{
	FOLDER_OTHER,	   /* above the collection; with no collection wanted, any above a pivot */
	FOLDER_COLLECTION, /* a generation, fields or a pivot follow */
	FOLDER_PARTITION,  /* fields or a pivot follow */
	FOLDER_JOURNAL	   /* a pivot, or any below it */
} FolderKind;

typedef struct StoreFolder StoreFolder;
typedef struct IndexedJournal IndexedJournal;

/* What tells folders apart; compared as bytes. */
typedef struct FolderKey
{
	StoreFolder *parent;
	char name[NAME_MAX + 1];
} FolderKey;

/* A folder of the tree; its names from the root on make a path. */
struct StoreFolder
{
	FolderKey key;
	FolderKind kind;
	IndexedJournal *journal; /* of kind FOLDER_JOURNAL */
	int references;			 /* entries that point here */
	uint64 seen;
};

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

struct IndexedJournal
{
	SourceJournal *entry;
	Fragment **fragments; /* by begin */
	int count;
	int capacity;
	int found;	 /* by the scan that runs */
	uint64 seen; /* the last scan that found the journal's folder */
	bool changed;
};

typedef struct FragmentIndex
{
	MemoryContext context;
	Source *source;
	HTAB *folders;
	HTAB *fragments;
	List *journals; /* of IndexedJournal * */
	StoreFolder root;
	StoreFolder *start; /* where scans begin: the collection's folder, or the root */
	uint64 generation;
	long fixed_folders; /* the collection's own, in no scan */
} FragmentIndex;

/* `source` gives address, collection (NULL: all) and takes the journals; it and `context` outlive the index. */
extern FragmentIndex *sophia_index_create(MemoryContext context, Source *source);

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

/* The first offset of the fragments that were written at that time (seconds since 1970) or later; else where all end. */
extern int64 sophia_index_locate(FragmentIndex *index, IndexedJournal *journal, int64 seconds);

/* Keeps an entry valid until it is unpinned, even when its file is gone. */
extern void sophia_index_pin(Fragment *fragment);
extern void sophia_index_unpin(FragmentIndex *index, Fragment *fragment);

/* Gives back an entry that is neither listed nor pinned. */
extern void sophia_index_forget(FragmentIndex *index, Fragment *fragment);

/* The folder of that name below another, added when it is new: *found says whether it was there. */
extern StoreFolder *sophia_index_enter_folder(FragmentIndex *index, StoreFolder *parent,
											  const char *name, bool *found);

/*
 * Opens a folder from the address down, one component at a time, so that no link among them is followed; -1 with
 * errno.
 */
extern int sophia_index_open_folder(const FragmentIndex *index, const StoreFolder *folder);

/* The path below the root; returns its length, which is not below `size` when it was cut. */
extern size_t sophia_index_folder_path(const StoreFolder *folder, char *path, size_t size);

/* The path of a fragment relative to the address. */
extern void sophia_index_path(const Fragment *fragment, char path[MAXPGPATH]);

#endif /* SOPHIA_FRAGMENT_INDEX_H */
