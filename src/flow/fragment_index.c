/*
 * fragment_index.c
 *		What a folder of fragments holds: see fragment_index.h.
 *
 * Folders and fragments are entries of two hash tables, which never move and are reused.  A scan walks the tree with
 * one open folder a level and marks what it finds with its number; afterwards each journal drops what was not found.
 */
#include "flow/fragment_index.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Deeper folders are not looked at; the deepest one of Gazette is about ten below the collection. */
#define MAX_DEPTH 32

typedef enum FolderKind
{
	FOLDER_OTHER,	   /* above the collection; with no collection wanted, any above a pivot */
	FOLDER_COLLECTION, /* a generation, fields or a pivot follow */
	FOLDER_PARTITION,  /* fields or a pivot follow */
	FOLDER_JOURNAL	   /* a pivot, or any below it */
} FolderKind;

typedef struct FolderKey
{
	StoreFolder *parent;
	char name[NAME_MAX + 1];
} FolderKey;

struct StoreFolder
{
	FolderKey key;
	FolderKind kind;
	IndexedJournal *journal; /* of kind FOLDER_JOURNAL */
	int references;			 /* entries that point here */
	uint64 seen;
};

struct FragmentIndex
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
	long folders_found; /* by the scan that runs, with the fixed ones */

	/* Of the scan that runs. */
	bool failed;
	int *sqlstate;
	char *error;
	size_t error_size;
};

static void scan_folder(FragmentIndex *index, int parent, StoreFolder *folder, int depth);

/* ---- folders ---- */

/* The path below the root; returns its length, which is not below `size` when it was cut. */
static size_t
folder_path(const StoreFolder *folder, char *path, size_t size)
{
	if (folder->key.parent == NULL)
	{
		path[0] = '\0';
		return 0;
	}

	size_t n = folder_path(folder->key.parent, path, size);

	if (n >= size)
		return n;
	return n + snprintf(path + n, size - n, "%s%s", n > 0 ? "/" : "", folder->key.name);
}

static StoreFolder *
enter_folder(FragmentIndex *index, StoreFolder *parent, const char *name, bool *found)
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

/* Opens a folder from the address down, one component at a time, so that no link among them is followed. */
static int
open_folder(const FragmentIndex *index, const StoreFolder *folder)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

	if (folder->key.parent == NULL)
		return open(index->source->address, flags);

	int parent = open_folder(index, folder->key.parent);

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
		index->start = enter_folder(index, index->start, name, &found);
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

/* ---- journals ---- */

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

/* The journal whose name is the path of that folder; NULL when the path is too long to be one. */
static IndexedJournal *
enter_journal(FragmentIndex *index, const StoreFolder *folder)
{
	char name[MAXPGPATH];

	if (folder_path(folder, name, sizeof(name)) >= sizeof(name))
		return NULL;

	IndexedJournal *journal = sophia_index_journal(index, name);

	if (journal == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(index->context);

		journal = palloc0(sizeof(IndexedJournal));
		journal->entry = sophia_source_journal(index->source, name);
		index->journals = lappend(index->journals, journal);
		MemoryContextSwitchTo(old);
	}
	return journal;
}

static int
compare_fragments(const void *a, const void *b)
{
	const FragmentName *x = &(*(Fragment *const *) a)->key.name;
	const FragmentName *y = &(*(Fragment *const *) b)->key.name;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return 0;
}

static void
sort_fragments(IndexedJournal *journal)
{
	int64 reach = 0;

	qsort(journal->fragments, journal->count, sizeof(Fragment *), compare_fragments);
	for (int i = 0; i < journal->count; i++)
	{
		Fragment *fragment = journal->fragments[i];

		reach = Max(reach, fragment->key.name.end);
		fragment->reach = reach;
	}
}

static void
list_fragment(FragmentIndex *index, IndexedJournal *journal, Fragment *fragment)
{
	if (journal->count == journal->capacity)
	{
		int capacity = Max(16, 2 * journal->capacity);
		Size size = mul_size(capacity, sizeof(Fragment *));

		journal->fragments = journal->fragments == NULL ? MemoryContextAlloc(index->context, size)
														: repalloc_huge(journal->fragments, size);
		journal->capacity = capacity;
	}
	journal->fragments[journal->count++] = fragment;
	journal->changed = true;
	fragment->listed = true;
}

static void
forget_fragment(FragmentIndex *index, Fragment *fragment)
{
	fragment->key.folder->references--;
	hash_search(index->fragments, &fragment->key, HASH_REMOVE, NULL);
}

/* Drops the fragments that the last scan did not find. */
static void
drop_missing(FragmentIndex *index, IndexedJournal *journal)
{
	int kept = 0;

	for (int i = 0; i < journal->count; i++)
	{
		Fragment *fragment = journal->fragments[i];

		if (fragment->seen == index->generation)
		{
			journal->fragments[kept++] = fragment;
			continue;
		}
		fragment->listed = false;
		if (fragment->pins == 0)
			forget_fragment(index, fragment);
	}
	journal->count = kept;
	journal->changed = true;
}

/* ---- scanning ---- */

static void
scan_failed(FragmentIndex *index, const StoreFolder *folder)
{
	int saved = errno;
	char path[MAXPGPATH];

	if (index->failed)
		return;
	index->failed = true;
	*index->sqlstate = saved == ENOENT	 ? ERRCODE_UNDEFINED_FILE
					   : saved == EACCES ? ERRCODE_INSUFFICIENT_PRIVILEGE
										 : ERRCODE_IO_ERROR;
	folder_path(folder, path, sizeof(path));
	snprintf(index->error, index->error_size, "could not read folder \"%s%s%s\": %s",
			 index->source->address, path[0] != '\0' ? "/" : "", path, strerror(saved));
}

/* Whether a folder of that name below `folder` is looked at, and as what. */
static bool
child_kind(const FragmentIndex *index, const StoreFolder *folder, const char *name, FolderKind *kind)
{
	FragmentFolder meaning = sophia_fragment_folder(name);

	/* no journal has such a name, and no table could hold it */
	if (!pg_verify_mbstr(PG_UTF8, name, strlen(name), true))
		return false;
	if (folder->kind == FOLDER_JOURNAL)
	{
		*kind = FOLDER_JOURNAL;
		return true;
	}
	if (meaning == FRAGMENT_FOLDER_PIVOT && folder != &index->root)
	{
		*kind = FOLDER_JOURNAL;
		return true;
	}
	if (folder->kind == FOLDER_OTHER)
	{
		*kind = FOLDER_OTHER;
		return true;
	}
	*kind = FOLDER_PARTITION;
	return meaning == FRAGMENT_FOLDER_FIELD ||
		   (meaning == FRAGMENT_FOLDER_GENERATION && folder->kind == FOLDER_COLLECTION);
}

static void
note_folder(FragmentIndex *index, int parent, StoreFolder *folder, const char *name, int depth)
{
	FolderKind kind;
	bool found;

	if (depth >= MAX_DEPTH || !child_kind(index, folder, name, &kind))
		return;

	StoreFolder *child = enter_folder(index, folder, name, &found);

	if (!found)
	{
		child->kind = kind;
		if (kind == FOLDER_JOURNAL)
			child->journal =
				folder->kind == FOLDER_JOURNAL ? folder->journal : enter_journal(index, child);
	}
	child->seen = index->generation;
	index->folders_found++;
	if (child->journal != NULL && folder->kind != FOLDER_JOURNAL)
		child->journal->seen = index->generation;
	scan_folder(index, parent, child, depth + 1);
}

static void
note_file(FragmentIndex *index, StoreFolder *folder, const char *name)
{
	FragmentKey key;
	bool found;

	memset(&key, 0, sizeof(key));
	if (!sophia_fragment_name_parse(name, &key.name) || key.name.begin == key.name.end)
		return;
	key.folder = folder;

	Fragment *fragment = hash_search(index->fragments, &key, HASH_ENTER, &found);

	if (!found)
	{
		memset((char *) fragment + sizeof(key), 0, sizeof(Fragment) - sizeof(key));
		folder->references++;
	}
	fragment->seen = index->generation;
	folder->journal->found++;
	if (!fragment->listed)
		list_fragment(index, folder->journal, fragment);
}

/* The type of an entry, asked of the file where the folder does not tell. */
static int
entry_type(int parent, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type;
	if (fstatat(parent, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return DT_UNKNOWN;
	return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_UNKNOWN;
}

/* Names that begin with a dot are files in the making, and the folder itself and its parent. */
static void
scan_entries(FragmentIndex *index, DIR *dir, StoreFolder *folder, int depth)
{
	struct dirent *entry;

	for (errno = 0; (entry = readdir(dir)) != NULL; errno = 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (entry->d_name[0] == '.')
			continue;

		int type = entry_type(dirfd(dir), entry);

		if (type == DT_DIR)
			note_folder(index, dirfd(dir), folder, entry->d_name, depth);
		else if (type == DT_REG && folder->journal != NULL)
			note_file(index, folder, entry->d_name);
	}
	if (errno != 0)
		scan_failed(index, folder);
}

/*
 * Reads a folder below an open one (-1: from the address on).  One that vanished since its parent was read is no
 * failure: it is gone.
 */
static void
scan_folder(FragmentIndex *index, int parent, StoreFolder *folder, int depth)
{
	int fd = parent < 0 ? open_folder(index, folder)
						: openat(parent, folder->key.name,
								 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir == NULL)
	{
		if (errno != ENOENT || parent < 0)
			scan_failed(index, folder);
		if (fd >= 0)
			close(fd);
		return;
	}

	PG_TRY();
	{
		scan_entries(index, dir, folder, depth);
	}
	PG_FINALLY();
	{
		closedir(dir);
	}
	PG_END_TRY();
}

/* Gives back the folders that are gone and that nothing points to; a parent may follow with a later scan. */
static void
drop_folders(FragmentIndex *index)
{
	HASH_SEQ_STATUS status;
	StoreFolder *folder;

	hash_seq_init(&status, index->folders);
	while ((folder = hash_seq_search(&status)) != NULL)
	{
		if (folder->seen == index->generation || folder->seen == 0 || folder->references > 0)
			continue;
		folder->key.parent->references--;
		hash_search(index->folders, &folder->key, HASH_REMOVE, NULL);
	}
}

/* Takes what the scan found into the journal. */
static void
settle_journal(FragmentIndex *index, IndexedJournal *journal)
{
	SourceJournal *entry = journal->entry;

	if (!index->failed)
	{
		entry->removed = journal->seen != index->generation;
		if (journal->found < journal->count)
			drop_missing(index, journal);
	}
	if (journal->changed)
		sort_fragments(journal);
	journal->changed = false;
	if (journal->count > 0)
		entry->write_head = journal->fragments[journal->count - 1]->reach;
	else if (!index->failed && !entry->removed)
		entry->write_head = 0;
}

bool
sophia_index_scan(FragmentIndex *index, int *sqlstate, char *error, size_t error_size)
{
	ListCell *cell;

	index->generation++;
	index->folders_found = index->fixed_folders;
	index->failed = false;
	index->sqlstate = sqlstate;
	index->error = error;
	index->error_size = error_size;
	foreach(cell, index->journals)
		((IndexedJournal *) lfirst(cell))->found = 0;

	scan_folder(index, -1, index->start, 0);

	foreach(cell, index->journals)
		settle_journal(index, lfirst(cell));
	if (!index->failed && index->folders_found < hash_get_num_entries(index->folders))
		drop_folders(index);
	return !index->failed;
}

uint64
sophia_index_generation(const FragmentIndex *index)
{
	return index->generation;
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
		forget_fragment(index, fragment);
}

int
sophia_index_open_folder(const FragmentIndex *index, const Fragment *fragment)
{
	return open_folder(index, fragment->key.folder);
}

void
sophia_index_path(const Fragment *fragment, char path[MAXPGPATH])
{
	size_t n = folder_path(fragment->key.folder, path, MAXPGPATH);

	if (n + 1 + FRAGMENT_NAME_SIZE > MAXPGPATH)
		return;
	path[n] = '/';
	sophia_fragment_name_print(&fragment->key.name, path + n + 1);
}
