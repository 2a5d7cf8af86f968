/*
 * fragment_index.c
 *		What is known of a folder of fragments: see fragment_index.h.
 *
 * Folders and fragments are entries of two hash tables, which never move and are reused.
 */
#include "flow/fragment_index.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"

/* ---- folders ---- */

size_t
sophia_index_folder_path(const StoreFolder *folder, char *path, size_t size)
{
	if (folder->key.parent == NULL)
	{
		path[0] = '\0';
		return 0;
	}

	size_t n = sophia_index_folder_path(folder->key.parent, path, size);

	if (n >= size)
		return n;
	return n + snprintf(path + n, size - n, "%s%s", n > 0 ? "/" : "", folder->key.name);
}

StoreFolder *
sophia_index_enter_folder(FragmentIndex *index, StoreFolder *parent, const char *name, bool *found)
{
	FolderKey key;

	memset(&key, 0, sizeof(key));
	key.parent = parent;
	strlcpy(key.name, name, sizeof(key.name));

	StoreFolder *folder = hash_search(index->folders, &key, HASH_ENTER, found);

	if (!*found)
	{
		folder->kind = FOLDER_OTHER;
		folder->journal = NULL;
		folder->references = 0;
		folder->seen = 0;
		parent->references++;
	}
	return folder;
}

int
sophia_index_open_folder(const FragmentIndex *index, const StoreFolder *folder)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

	if (folder->key.parent == NULL)
		return open(index->source->address, flags);

	int parent = sophia_index_open_folder(index, folder->key.parent);

	if (parent < 0)
		return -1;

	int fd = openat(parent, folder->key.name, flags | O_NOFOLLOW);
	int saved = errno;

	close(parent);
	errno = saved;
	return fd;
}

/* Adds the collection's own folders; scans start at the last of them. */
static void
enter_collection(FragmentIndex *index, const char *collection)
{
	const char *p = collection;

	while (*p != '\0')
	{
		char name[NAME_MAX + 1];
		size_t len = strcspn(p, "/");
		bool found;

		strlcpy(name, p, Min(len + 1, sizeof(name)));
		index->start = sophia_index_enter_folder(index, index->start, name, &found);
		p += len + (p[len] == '/');
	}
	index->start->kind = FOLDER_COLLECTION;
}

FragmentIndex *
sophia_index_create(MemoryContext context, Source *source)
{
	FragmentIndex *index = MemoryContextAllocZero(context, sizeof(FragmentIndex));
	HASHCTL folders = {
		.keysize = sizeof(FolderKey), .entrysize = sizeof(StoreFolder), .hcxt = context};
	HASHCTL fragments = {
		.keysize = sizeof(FragmentKey), .entrysize = sizeof(Fragment), .hcxt = context};
	int flags = HASH_ELEM | HASH_BLOBS | HASH_CONTEXT;

	index->context = context;
	index->source = source;
	index->folders = hash_create("sophia fragment folders", 64, &folders, flags);
	index->fragments = hash_create("sophia fragments", 256, &fragments, flags);
	index->start = &index->root;
	if (source->collection != NULL)
		enter_collection(index, source->collection);
	index->fixed_folders = hash_get_num_entries(index->folders);
	return index;
}

/* ---- journals and fragments ---- */

IndexedJournal *
sophia_index_journal(FragmentIndex *index, const char *name)
{
	ListCell *cell;

	foreach(cell, index->journals)
	{
		IndexedJournal *journal = lfirst(cell);

		if (strcmp(journal->entry->name, name) == 0)
			return journal;
	}
	return NULL;
}

uint64
sophia_index_generation(const FragmentIndex *index)
{
	return index->generation;
}

void
sophia_index_forget(FragmentIndex *index, Fragment *fragment)
{
	fragment->key.folder->references--;
	hash_search(index->fragments, &fragment->key, HASH_REMOVE, NULL);
}

/* ---- choosing ---- */

/* How many fragments begin at or before the offset. */
static int
count_begun(const IndexedJournal *journal, int64 offset)
{
	int low = 0;
	int high = journal->count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (journal->fragments[middle]->key.name.begin <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
preference(const Fragment *fragment)
{
	if (sophia_fragment_name_codec(&fragment->key.name) == FRAGMENT_UNSUPPORTED)
		return 0;
	return fragment->state == FRAGMENT_FAILED ? 1 : 2;
}

static bool
better(const Fragment *a, const Fragment *b)
{
	if (b == NULL || preference(a) != preference(b))
		return b == NULL || preference(a) > preference(b);
	return a->key.name.end > b->key.name.end;
}

Fragment *
sophia_index_choose(IndexedJournal *journal, int64 offset, Fragment **next)
{
	int begun = count_begun(journal, offset);
	Fragment *best = NULL;

	*next = begun < journal->count ? journal->fragments[begun] : NULL;
	for (int i = begun - 1; i >= 0 && journal->fragments[i]->reach > offset; i--)
	{
		Fragment *fragment = journal->fragments[i];

		if (fragment->key.name.end > offset && better(fragment, best))
			best = fragment;
	}
	return best;
}

void
sophia_index_pin(Fragment *fragment)
{
	fragment->pins++;
}

void
sophia_index_unpin(FragmentIndex *index, Fragment *fragment)
{
	if (--fragment->pins == 0 && !fragment->listed)
		sophia_index_forget(index, fragment);
}

void
sophia_index_path(const Fragment *fragment, char path[MAXPGPATH])
{
	size_t n = sophia_index_folder_path(fragment->key.folder, path, MAXPGPATH);

	if (n + 1 + FRAGMENT_NAME_SIZE > MAXPGPATH)
		return;
	path[n] = '/';
	sophia_fragment_name_print(&fragment->key.name, path + n + 1);
}

/* When a fragment was written; one of which that cannot be told counts as new. */
static int64
written_at(FragmentIndex *index, const Fragment *fragment)
{
	char file[FRAGMENT_NAME_SIZE];
	char error[256];
	FragmentIdentity identity;
	FragmentStatus status;
	int folder = sophia_index_open_folder(index, fragment->key.folder);

	if (folder < 0)
		return PG_INT64_MAX;
	sophia_fragment_name_print(&fragment->key.name, file);
	status = sophia_fragment_identify(folder, file, &identity, error, sizeof(error));
	close(folder);
	return status == FRAGMENT_DONE ? identity.mtime_ns / INT64CONST(1000000000) : PG_INT64_MAX;
}

int64
sophia_index_locate(FragmentIndex *index, IndexedJournal *journal, int64 seconds)
{
	for (int i = 0; i < journal->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (written_at(index, journal->fragments[i]) >= seconds)
			return journal->fragments[i]->key.name.begin;
	}
	return Max(journal->entry->write_head, 0);
}
