/*
 * fragment_scan.c
 *		Scanning a folder of fragments: see fragment_scan.h.
 *
 * A scan walks the tree with one open folder a level and marks what it finds with its number; afterwards each journal
 * drops what was not found.
 */
#include "flow/fragment_scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Deeper folders are not looked at; the deepest one of Gazette is about ten below the collection. */
#define MAX_DEPTH 32

/* The scan that runs. */
typedef struct Scan
{
	FragmentIndex *index;
	long folders_found; /* with the fixed ones */
	bool failed;
	int *sqlstate;
	char *error;
	size_t error_size;
} Scan;

static void scan_folder(Scan *scan, int parent, StoreFolder *folder, int depth);

/* ---- noting journals and files ---- */

/* The journal whose name is the path of that folder; NULL when the path is too long to be one. */
static IndexedJournal *
enter_journal(FragmentIndex *index, const StoreFolder *folder)
{
	char name[MAXPGPATH];

	if (sophia_index_folder_path(folder, name, sizeof(name)) >= sizeof(name))
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

/* ---- walking ---- */

static void
scan_failed(Scan *scan, const StoreFolder *folder)
{
	int saved = errno;
	char path[MAXPGPATH];

	if (scan->failed)
		return;
	scan->failed = true;
	*scan->sqlstate = saved == ENOENT	? ERRCODE_UNDEFINED_FILE
					  : saved == EACCES ? ERRCODE_INSUFFICIENT_PRIVILEGE
										: ERRCODE_IO_ERROR;
	sophia_index_folder_path(folder, path, sizeof(path));
	snprintf(scan->error, scan->error_size, "could not read folder \"%s%s%s\": %s",
			 scan->index->source->address, path[0] != '\0' ? "/" : "", path, strerror(saved));
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
note_folder(Scan *scan, int parent, StoreFolder *folder, const char *name, int depth)
{
	FolderKind kind;
	bool found;

	if (depth >= MAX_DEPTH || !child_kind(scan->index, folder, name, &kind))
		return;

	StoreFolder *child = sophia_index_enter_folder(scan->index, folder, name, &found);

	if (!found)
	{
		child->kind = kind;
		if (kind == FOLDER_JOURNAL)
			child->journal = folder->kind == FOLDER_JOURNAL ? folder->journal
															: enter_journal(scan->index, child);
	}
	child->seen = scan->index->generation;
	scan->folders_found++;
	if (child->journal != NULL && folder->kind != FOLDER_JOURNAL)
		child->journal->seen = scan->index->generation;
	scan_folder(scan, parent, child, depth + 1);
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
scan_entries(Scan *scan, DIR *dir, StoreFolder *folder, int depth)
{
	struct dirent *entry;

	for (errno = 0; (entry = readdir(dir)) != NULL; errno = 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (entry->d_name[0] == '.')
			continue;

		int type = entry_type(dirfd(dir), entry);

		if (type == DT_DIR)
			note_folder(scan, dirfd(dir), folder, entry->d_name, depth);
		else if (type == DT_REG && folder->journal != NULL)
			note_file(scan->index, folder, entry->d_name);
	}
	if (errno != 0)
		scan_failed(scan, folder);
}

/*
 * Reads a folder below an open one (-1: from the address on).  One that vanished since its parent was read is no
 * failure: it is gone.
 */
static void
scan_folder(Scan *scan, int parent, StoreFolder *folder, int depth)
{
	int fd = parent < 0 ? sophia_index_open_folder(scan->index, folder)
						: openat(parent, folder->key.name,
								 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir == NULL)
	{
		if (errno != ENOENT || parent < 0)
			scan_failed(scan, folder);
		if (fd >= 0)
			close(fd);
		return;
	}

	PG_TRY();
	{
		scan_entries(scan, dir, folder, depth);
	}
	PG_FINALLY();
	{
		closedir(dir);
	}
	PG_END_TRY();
}

/* ---- settling ---- */

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
			sophia_index_forget(index, fragment);
	}
	journal->count = kept;
	journal->changed = true;
}

/* Takes what the scan found into the journal. */
static void
settle_journal(Scan *scan, IndexedJournal *journal)
{
	SourceJournal *entry = journal->entry;

	if (!scan->failed)
	{
		entry->removed = journal->seen != scan->index->generation;
		if (journal->found < journal->count)
			drop_missing(scan->index, journal);
	}
	if (journal->changed)
		sort_fragments(journal);
	journal->changed = false;
	if (journal->count > 0)
		entry->write_head = journal->fragments[journal->count - 1]->reach;
	else if (!scan->failed && !entry->removed)
		entry->write_head = 0;
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

bool
sophia_index_scan(FragmentIndex *index, int *sqlstate, char *error, size_t error_size)
{
	Scan scan = {.index = index,
				 .folders_found = index->fixed_folders,
				 .sqlstate = sqlstate,
				 .error = error,
				 .error_size = error_size};
	ListCell *cell;

	index->generation++;
	foreach(cell, index->journals)
		((IndexedJournal *) lfirst(cell))->found = 0;

	scan_folder(&scan, -1, index->start, 0);

	foreach(cell, index->journals)
		settle_journal(&scan, lfirst(cell));
	if (!scan.failed && scan.folders_found < hash_get_num_entries(index->folders))
		drop_folders(index);
	return !scan.failed;
}
