/*
 * fragment_fuzz.c
 *		Fuzzes fragments: names of files and folders, and gzip files of any bytes.
 *
 * The first byte chooses: names, or a file.  A file is proved whole exactly where zlib itself reads it to the end as
 * the content that its name speaks of, and then its content is read as zlib reads it.
 */
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "flow/fragment_file.h"
#include "fuzz.h"

#define MAX_CONTENT (1 << 20)

static char folder_path[] = "/tmp/sophia_fuzz_XXXXXX";
static int folder = -1;

static void
remove_folder(void)
{
	unlinkat(folder, "f.gz", 0);
	rmdir(folder_path);
}

static void
take_names(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char again[FRAGMENT_NAME_SIZE];
	FragmentName name;
	FragmentName twice;

	REQUIRE(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	if (sophia_fragment_name_parse(text, &name))
	{
		REQUIRE(name.begin >= 0 && name.begin <= name.end);
		sophia_fragment_name_print(&name, again);
		REQUIRE(strcmp(again, text) == 0);
		REQUIRE(sophia_fragment_name_parse(again, &twice));
		REQUIRE(memcmp(name.sha1, twice.sha1, sizeof(name.sha1)) == 0);
		sophia_fragment_name_codec(&name);
	}
	sophia_fragment_folder(text);
	REQUIRE(sophia_collection_length(text) <= strlen(text));
	free(text);
}

/* All members of a gzip file; false where it is none, or too large. */
static bool
inflate_all(const uint8_t *data, size_t size, uint8_t *out, size_t *length)
{
	z_stream z = {.next_in = (uint8_t *) data, .avail_in = (uInt) size};
	int status = Z_OK;
	bool fine = size > 0;

	*length = 0;
	REQUIRE(inflateInit2(&z, 31) == Z_OK);
	while (fine && z.avail_in > 0)
	{
		inflateReset(&z);
		do
		{
			z.next_out = out + *length;
			z.avail_out = (uInt) (MAX_CONTENT - *length);
			status = inflate(&z, Z_NO_FLUSH);
			*length = (size_t) (z.next_out - out);
		} while (status == Z_OK && *length < MAX_CONTENT);
		fine = status == Z_STREAM_END;
	}
	inflateEnd(&z);
	return fine;
}

static void
write_file(const uint8_t *data, size_t size)
{
	int file = openat(folder, "f.gz", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	REQUIRE(file >= 0 && write(file, data, size) == (ssize_t) size);
	close(file);
}

static void
take_file(const uint8_t *data, size_t size)
{
	static uint8_t content[MAX_CONTENT];
	static char read_back[MAX_CONTENT + 1];
	FragmentName name;
	FragmentFile *file;
	FragmentIdentity identity;
	FragmentStatus status;
	char error[256];
	size_t length;
	bool whole = inflate_all(data, size, content, &length);

	REQUIRE(sophia_fragment_name_parse(
		"0000000000000000-0000000000000000-0000000000000000000000000000000000000000.gz", &name));
	name.end = (int64_t) length;
	if (length > 0)
		SHA1(content, length, name.sha1);
	write_file(data, size);
	status = sophia_fragment_open(folder, "f.gz", &name, &file, &identity, error, sizeof(error));
	if (status != FRAGMENT_DONE)
	{
		REQUIRE(!whole || length == 0);
		return;
	}
	while ((status = sophia_fragment_verify(file, 4096)) == FRAGMENT_MORE)
		;
	REQUIRE(length == 0 || (status == FRAGMENT_DONE) == whole);
	if (status == FRAGMENT_DONE)
	{
		size_t total = 0;
		size_t got;

		do
		{
			status = sophia_fragment_read(file, read_back + total, sizeof(read_back) - total, &got);
			total += got;
		} while (status == FRAGMENT_MORE && total < sizeof(read_back));
		REQUIRE(status == FRAGMENT_DONE && total == length);
		REQUIRE(memcmp(read_back, content, length) == 0);
	}
	sophia_fragment_close(file);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (folder < 0)
	{
		REQUIRE(mkdtemp(folder_path) != NULL);
		folder = open(folder_path, O_RDONLY | O_DIRECTORY);
		REQUIRE(folder >= 0);
		atexit(remove_folder);
	}
	if (size == 0)
		return 0;
	if (data[0] == 'n')
		take_names(data + 1, size - 1);
	else
		take_file(data + 1, size - 1);
	return 0;
}
