/*
 * fragment_name.h
 *		What the names of a fragment store tell: the content of a file, the journal of a folder, the collection of
 *		a journal.
 *
 * A store's layout is
 *		<collection>[/<generation>][/<field>=<value>...]/pivot=<hex>[/<postfix...>]/<begin>-<end>-<sha1><extension>
 * in which the journal's name ends with the pivot.  Pure: no server call, no allocation.
 * Source: Gazette broker/protocol/fragment_extensions.go, Flow crates/assemble (journal names).
 */
#ifndef SOPHIA_FRAGMENT_NAME_H
#define SOPHIA_FRAGMENT_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAGMENT_SHA1_SIZE 20

/* Longest file name of a fragment with its NUL. */
#define FRAGMENT_NAME_SIZE 96

typedef enum FragmentCodec
{
	FRAGMENT_RAW,
	FRAGMENT_GZIP,
	FRAGMENT_GZIP_OFFLOAD, /* stored as gzip; who copies it may have decompressed it */
	FRAGMENT_UNSUPPORTED   /* known to Gazette, not to us */
} FragmentCodec;

typedef struct FragmentName
{
	int64_t begin;					  /* journal offset of the first byte of content */
	int64_t end;					  /* offset past the last byte */
	uint8_t sha1[FRAGMENT_SHA1_SIZE]; /* of the content, decompressed; zeros when it is empty */
	int extension;					  /* index of the known ones */
} FragmentName;

/* Reads a file name; false when it is not a fragment's. */
extern bool sophia_fragment_name_parse(const char *file, FragmentName *out);

/* Writes the file name that was read. */
extern void sophia_fragment_name_print(const FragmentName *name, char file[FRAGMENT_NAME_SIZE]);

extern FragmentCodec sophia_fragment_name_codec(const FragmentName *name);

/* What a folder's name can be; a name is of one kind only. */
typedef enum FragmentFolder
{
	FRAGMENT_FOLDER_OTHER,
	FRAGMENT_FOLDER_GENERATION, /* 16 hexadecimal digits */
	FRAGMENT_FOLDER_FIELD,		/* <field>=<value>, a logical partition */
	FRAGMENT_FOLDER_PIVOT		/* pivot=<hex>: a journal's name ends here */
} FragmentFolder;

extern FragmentFolder sophia_fragment_folder(const char *name);

/*
 * The collection that a journal belongs to, by name: what stands before [/<16-hex generation>][/<field>=<value>...]
 * /pivot=<hex>.  Returns the length of that prefix, 0 when the name does not end with a pivot.
 */
extern size_t sophia_collection_length(const char *journal);

#endif /* SOPHIA_FRAGMENT_NAME_H */
