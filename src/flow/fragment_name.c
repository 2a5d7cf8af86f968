/*
 * fragment_name.c
 *		Reads the names of a fragment store: see fragment_name.h.
 *
 * Pure: no server call, no allocation.
 */
#include "flow/fragment_name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OFFSET_DIGITS	  16
#define GENERATION_DIGITS 16
#define PIVOT_PREFIX	  "pivot="
#define PIVOT_MAX_DIGITS  8

static const struct
{
	const char *text;
	FragmentCodec codec;
} extensions[] = {
	{".raw", FRAGMENT_RAW},
	{".gz", FRAGMENT_GZIP},
	{".gzip", FRAGMENT_GZIP},
	{"", FRAGMENT_GZIP_OFFLOAD},
	{".gzod", FRAGMENT_GZIP_OFFLOAD},
	{".zst", FRAGMENT_UNSUPPORTED},
	{".zstandard", FRAGMENT_UNSUPPORTED},
	{".sz", FRAGMENT_UNSUPPORTED},
	{".snappy", FRAGMENT_UNSUPPORTED},
};

#define EXTENSION_COUNT ((int) (sizeof(extensions) / sizeof(extensions[0])))

/* All writers use lower case. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* How many hexadecimal digits the text starts with, at most `max` looked at. */
static size_t
hex_span(const char *text, size_t max)
{
	size_t n = 0;

	while (n < max && hex_value(text[n]) >= 0)
		n++;
	return n;
}

/* Reads exactly OFFSET_DIGITS digits; offsets are not negative. */
static bool
parse_offset(const char *text, int64_t *out)
{
	uint64_t value = 0;

	if (hex_span(text, OFFSET_DIGITS) != OFFSET_DIGITS)
		return false;
	for (int i = 0; i < OFFSET_DIGITS; i++)
		value = value << 4 | (uint64_t) hex_value(text[i]);
	*out = (int64_t) value;
	return value <= INT64_MAX;
}

static bool
parse_sha1(const char *text, uint8_t *out)
{
	if (hex_span(text, 2 * FRAGMENT_SHA1_SIZE) != 2 * FRAGMENT_SHA1_SIZE)
		return false;
	for (int i = 0; i < FRAGMENT_SHA1_SIZE; i++)
		out[i] = (uint8_t) (hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
	return true;
}

static int
find_extension(const char *text)
{
	for (int i = 0; i < EXTENSION_COUNT; i++)
	{
		if (strcmp(text, extensions[i].text) == 0)
			return i;
	}
	return -1;
}

bool
sophia_fragment_name_parse(const char *file, FragmentName *out)
{
	const char *p = file;

	if (!parse_offset(p, &out->begin))
		return false;
	p += OFFSET_DIGITS;
	if (*p++ != '-' || !parse_offset(p, &out->end) || out->end < out->begin)
		return false;
	p += OFFSET_DIGITS;
	if (*p++ != '-' || !parse_sha1(p, out->sha1))
		return false;
	p += 2 * FRAGMENT_SHA1_SIZE;
	out->extension = find_extension(p);
	return out->extension >= 0;
}

void
sophia_fragment_name_print(const FragmentName *name, char file[FRAGMENT_NAME_SIZE])
{
	char sum[2 * FRAGMENT_SHA1_SIZE + 1];

	for (int i = 0; i < FRAGMENT_SHA1_SIZE; i++)
		snprintf(sum + 2 * i, 3, "%02x", name->sha1[i]);
	snprintf(file, FRAGMENT_NAME_SIZE, "%016" PRIx64 "-%016" PRIx64 "-%s%s", (uint64_t) name->begin,
			 (uint64_t) name->end, sum, extensions[name->extension].text);
}

FragmentCodec
sophia_fragment_name_codec(const FragmentName *name)
{
	return extensions[name->extension].codec;
}

/* Of a path's component, which does not end with a NUL. */
static FragmentFolder
component_kind(const char *name, size_t len)
{
	size_t prefix = strlen(PIVOT_PREFIX);

	if (len == GENERATION_DIGITS && hex_span(name, len) == len)
		return FRAGMENT_FOLDER_GENERATION;
	if (len > prefix && len <= prefix + PIVOT_MAX_DIGITS &&
		strncmp(name, PIVOT_PREFIX, prefix) == 0 &&
		hex_span(name + prefix, len - prefix) == len - prefix)
		return FRAGMENT_FOLDER_PIVOT;
	if (len > 0 && name[0] != '=' && memchr(name, '=', len) != NULL)
		return FRAGMENT_FOLDER_FIELD;
	return FRAGMENT_FOLDER_OTHER;
}

FragmentFolder
sophia_fragment_folder(const char *name)
{
	return component_kind(name, strlen(name));
}

/* Where the last component of a path of that length starts. */
static size_t
last_component(const char *path, size_t len)
{
	while (len > 0 && path[len - 1] != '/')
		len--;
	return len;
}

/* True when the last component is of that kind and another stands before it; *len is then that one's end. */
static bool
strip_component(const char *path, size_t *len, FragmentFolder kind)
{
	size_t start = last_component(path, *len);

	if (start < 2 || component_kind(path + start, *len - start) != kind)
		return false;
	*len = start - 1;
	return true;
}

size_t
sophia_collection_length(const char *journal)
{
	size_t len = strlen(journal);

	if (!strip_component(journal, &len, FRAGMENT_FOLDER_PIVOT))
		return 0;
	while (strip_component(journal, &len, FRAGMENT_FOLDER_FIELD))
		;
	strip_component(journal, &len, FRAGMENT_FOLDER_GENERATION);
	return len;
}
