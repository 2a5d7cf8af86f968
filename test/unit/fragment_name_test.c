/* Unit tests of flow/fragment_name.c. */
#include <string.h>

#include "flow/fragment_name.h"
#include "tap.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SHA		 "da39a3ee5e6b4b0d3255bfef95601890afd80709"
#define ZEROS	 "0000000000000000000000000000000000000000"
#define RANGE	 "0000000000000010-00000000000000ff-"

static const struct
{
	const char *file;
	int64_t begin;
	int64_t end;
	FragmentCodec codec;
} good[] = {
	{RANGE SHA ".raw", 16, 255, FRAGMENT_RAW},
	{RANGE SHA ".gz", 16, 255, FRAGMENT_GZIP},
	{RANGE SHA ".gzip", 16, 255, FRAGMENT_GZIP},
	{RANGE SHA, 16, 255, FRAGMENT_GZIP_OFFLOAD},
	{RANGE SHA ".gzod", 16, 255, FRAGMENT_GZIP_OFFLOAD},
	{RANGE SHA ".zst", 16, 255, FRAGMENT_UNSUPPORTED},
	{RANGE SHA ".zstandard", 16, 255, FRAGMENT_UNSUPPORTED},
	{RANGE SHA ".sz", 16, 255, FRAGMENT_UNSUPPORTED},
	{RANGE SHA ".snappy", 16, 255, FRAGMENT_UNSUPPORTED},
	{"0000000000000010-0000000000000010-" ZEROS ".raw", 16, 16, FRAGMENT_RAW},
	{"0000000000000000-7fffffffffffffff-" SHA ".raw", 0, INT64_MAX, FRAGMENT_RAW},
};

static const char *const bad[] = {
	"",
	".",
	"README.md",
	"0000000000000010",
	"0000000000000010-00000000000000ff",
	RANGE,
	RANGE "da39a3ee5e6b4b0d3255bfef95601890afd8070.raw",
	RANGE SHA "0.raw",
	RANGE SHA ".raw.tmp",
	RANGE SHA ".part",
	RANGE SHA ".",
	"." RANGE SHA ".raw",
	"000000000000001-00000000000000ff-" SHA ".raw",
	"0000000000000010_00000000000000ff-" SHA ".raw",
	"00000000000000ff-0000000000000010-" SHA ".raw",
	"8000000000000000-8000000000000001-" SHA ".raw",
	"000000000000001g-00000000000000ff-" SHA ".raw",
	"-00000000000001-00000000000000ff-" SHA ".raw",
};

static const struct
{
	const char *name;
	FragmentFolder kind;
} folders[] = {
	{"0123456789abcdef", FRAGMENT_FOLDER_GENERATION},
	{"0123456789ABCDEF", FRAGMENT_FOLDER_OTHER},
	{"0123456789abcde", FRAGMENT_FOLDER_OTHER},
	{"0123456789abcdef0", FRAGMENT_FOLDER_OTHER},
	{"0123456789abcdeg", FRAGMENT_FOLDER_OTHER},
	{"pivot=00", FRAGMENT_FOLDER_PIVOT},
	{"pivot=80000000", FRAGMENT_FOLDER_PIVOT},
	{"pivot=800000000", FRAGMENT_FOLDER_FIELD},
	{"pivot=", FRAGMENT_FOLDER_FIELD},
	{"pivot=xy", FRAGMENT_FOLDER_FIELD},
	{"region=eu", FRAGMENT_FOLDER_FIELD},
	{"region=", FRAGMENT_FOLDER_FIELD},
	{"a=b=c", FRAGMENT_FOLDER_FIELD},
	{"=eu", FRAGMENT_FOLDER_OTHER},
	{"contacts", FRAGMENT_FOLDER_OTHER},
	{"", FRAGMENT_FOLDER_OTHER},
};

static const struct
{
	const char *journal;
	const char *collection;
} journals[] = {
	{"acme/contacts/pivot=00", "acme/contacts"},
	{"acme/contacts/0123456789abcdef/pivot=00", "acme/contacts"},
	{"acme/contacts/0123456789abcdef/region=eu/kind=%_null/pivot=80000000", "acme/contacts"},
	{"acme/contacts/region=eu/pivot=80000000", "acme/contacts"},
	{"contacts/pivot=00", "contacts"},
	{"0123456789abcdef/pivot=00", "0123456789abcdef"},
	{"c/0123456789abcdef/0123456789abcdef/pivot=00", "c/0123456789abcdef"},
	{"c/region=eu/0123456789abcdef/pivot=00", "c/region=eu"},
	{"region=eu/pivot=00", "region=eu"},
	{"acme/contacts", ""},
	{"acme/contacts/pivot=00/", ""},
	{"acme/contacts/pivot=00/utc_date=2026-01-02", ""},
	{"pivot=00", ""},
	{"/pivot=00", ""},
	{"", ""},
};

int
main(void)
{
	for (size_t i = 0; i < COUNT(good); i++)
	{
		FragmentName name;
		char file[FRAGMENT_NAME_SIZE];

		ok(sophia_fragment_name_parse(good[i].file, &name) && name.begin == good[i].begin &&
			   name.end == good[i].end && sophia_fragment_name_codec(&name) == good[i].codec,
		   "reads %s", good[i].file);
		sophia_fragment_name_print(&name, file);
		ok(strcmp(file, good[i].file) == 0, "prints %s", file);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
	{
		FragmentName name;

		ok(!sophia_fragment_name_parse(bad[i], &name), "refuses '%s'", bad[i]);
	}
	for (size_t i = 0; i < COUNT(folders); i++)
		ok(sophia_fragment_folder(folders[i].name) == folders[i].kind, "folder '%s'",
		   folders[i].name);
	for (size_t i = 0; i < COUNT(journals); i++)
	{
		size_t len = sophia_collection_length(journals[i].journal);

		ok(len == strlen(journals[i].collection) &&
			   strncmp(journals[i].journal, journals[i].collection, len) == 0,
		   "collection of '%s'", journals[i].journal);
	}
	done_testing();
	return exit_status();
}
