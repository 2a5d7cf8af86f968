/*
 * fragment_file.h
 *		Reads one fragment file: first a pass that proves it whole, then its content.
 *
 * Both passes go in slices that the caller bounds, so that it can look after other things in between.
 * Pure: no server call; memory is malloc'ed; nothing is thrown, the reason of a failure is text in `error`.
 * Source of the format: Gazette broker/codecs/codecs.go (a gzip file may have several members).
 */
#ifndef SOPHIA_FRAGMENT_FILE_H
#define SOPHIA_FRAGMENT_FILE_H

#include "flow/fragment_name.h"

typedef enum FragmentStatus
{
	FRAGMENT_MORE,		 /* the slice is done, there is more */
	FRAGMENT_DONE,		 /* verified; or read to the end */
	FRAGMENT_MISSING,	 /* no such file */
	FRAGMENT_UNREADABLE, /* the operating system refuses */
	FRAGMENT_SHORT,		 /* it ends before its content does: perhaps it is still being written */
	FRAGMENT_DAMAGED, /* length, SHA-1 or compression do not agree with the name, or the file changed */
	FRAGMENT_NO_MEMORY
} FragmentStatus;

/* Tells one state of a file from another; equal ones have equal content. */
typedef struct FragmentIdentity
{
	uint64_t device;
	uint64_t inode;
	int64_t size;
	int64_t mtime_ns;
} FragmentIdentity;

extern bool sophia_fragment_same(const FragmentIdentity *a, const FragmentIdentity *b);

typedef struct FragmentFile FragmentFile;

/*
 * Opens `file` below an open folder; a symbolic link or anything but a regular file is FRAGMENT_UNREADABLE.
 * FRAGMENT_DONE: *out is open, and *identity says which state of the file.
 */
extern FragmentStatus sophia_fragment_open(int folder, const char *file, const FragmentName *name,
										   FragmentFile **out, FragmentIdentity *identity,
										   char *error, size_t error_size);

/* The identity of a file that is not open; FRAGMENT_DONE or the failure. */
extern FragmentStatus sophia_fragment_identify(int folder, const char *file,
											   FragmentIdentity *identity, char *error,
											   size_t error_size);

/*
 * Checks about `budget` more bytes of content.  FRAGMENT_DONE: length and SHA-1 agree, and the file stands at its
 * beginning again.
 */
extern FragmentStatus sophia_fragment_verify(FragmentFile *f, size_t budget);

/* Reading will start at this offset of the content; before the first sophia_fragment_read. */
extern void sophia_fragment_skip(FragmentFile *f, int64_t n);

/*
 * Reads up to `size` bytes of content into `out`, *got says how many; while it still skips there are none.
 * FRAGMENT_DAMAGED when the file is no longer the one that was opened; then *got is 0.
 */
extern FragmentStatus sophia_fragment_read(FragmentFile *f, char *out, size_t size, size_t *got);

/* Why the last call failed. */
extern const char *sophia_fragment_error(const FragmentFile *f);

extern void sophia_fragment_close(FragmentFile *f);

#endif /* SOPHIA_FRAGMENT_FILE_H */
