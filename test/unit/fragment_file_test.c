/*
 * Unit tests of flow/fragment_file.c on files in a temporary folder.
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "flow/fragment_file.h"
#include "tap.h"

#define CONTENT_SIZE 1000000
#define BEGIN		 4096

static char content[CONTENT_SIZE];
static int folder;

/* A file as written, and what must come of it. */
typedef struct File
{
	char bytes[2 * CONTENT_SIZE];
	size_t size;
} File;

static File file;

static void
append(const void *bytes, size_t n)
{
	memcpy(file.bytes + file.size, bytes, n);
	file.size += n;
}

static void
append_gzip(const void *bytes, size_t n)
{
	z_stream z = {0};

	deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
	z.next_in = (unsigned char *) bytes;
	z.avail_in = (uInt) n;
	z.next_out = (unsigned char *) file.bytes + file.size;
	z.avail_out = (uInt) (sizeof(file.bytes) - file.size);
	deflate(&z, Z_FINISH);
	file.size += z.total_out;
	deflateEnd(&z);
}

static FragmentName
name_of(const void *bytes, size_t n, const char *extension)
{
	char text[FRAGMENT_NAME_SIZE];
	unsigned char sum[EVP_MAX_MD_SIZE] = {0};
	FragmentName name;
	char *p = text + sprintf(text, "%016x-%016zx-", BEGIN, BEGIN + n);

	if (n > 0)
		EVP_Digest(bytes, n, sum, NULL, EVP_sha1(), NULL);
	for (int i = 0; i < FRAGMENT_SHA1_SIZE; i++)
		p += sprintf(p, "%02x", sum[i]);
	strcpy(p, extension);
	if (!sophia_fragment_name_parse(text, &name))
		abort();
	return name;
}

static void
store(void)
{
	int fd = openat(folder, "f", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, file.bytes, file.size) != (ssize_t) file.size)
		abort();
	close(fd);
}

static FragmentStatus
verify(FragmentFile *f, size_t budget, int *slices)
{
	FragmentStatus status;

	*slices = 0;
	do
	{
		status = sophia_fragment_verify(f, budget);
		(*slices)++;
	} while (status == FRAGMENT_MORE);
	return status;
}

/* Reads from an offset of the content on; true when exactly the rest of `expected` comes. */
static bool
reads(FragmentFile *f, const char *expected, size_t n, int64_t skip, size_t slice)
{
	char *out = malloc(n + slice);
	size_t used = 0;
	size_t got;
	FragmentStatus status;

	sophia_fragment_skip(f, skip);
	do
	{
		status = sophia_fragment_read(f, out + used, slice, &got);
		used += got;
	} while (status == FRAGMENT_MORE && used <= n);

	bool same = status == FRAGMENT_DONE && used == n - (size_t) skip &&
				memcmp(out, expected + skip, used) == 0;

	free(out);
	return same;
}

/* The stored file is good: it verifies, and is read from several offsets. */
static void
expect_good(const char *what, const char *extension, size_t n)
{
	static const struct
	{
		int64_t skip;
		size_t slice;
	} reading[] = {{0, 1 << 20}, {0, 1000}, {1, 70000}, {777777, 4096}, {CONTENT_SIZE - 1, 10}};
	FragmentName name = name_of(content, n, extension);
	FragmentIdentity identity;
	FragmentFile *f;
	char error[256] = "";
	int slices;

	store();
	for (size_t i = 0; i < sizeof(reading) / sizeof(reading[0]); i++)
	{
		if (reading[i].skip >= (int64_t) n)
			continue;
		if (!ok(sophia_fragment_open(folder, "f", &name, &f, &identity, error, sizeof(error)) ==
					FRAGMENT_DONE,
				"%s: opens %s", what, error))
			continue;
		ok(verify(f, 300000, &slices) == FRAGMENT_DONE, "%s: verified in %d slices: %s", what,
		   slices, sophia_fragment_error(f));
		ok(reads(f, content, n, reading[i].skip, reading[i].slice),
		   "%s: reads from %ld by %zu bytes: %s", what, (long) reading[i].skip, reading[i].slice,
		   sophia_fragment_error(f));
		sophia_fragment_close(f);
	}
}

/* The stored file does not verify, and the reason has that text. */
static void
expect_failure(FragmentStatus status, const char *what, const FragmentName *name, const char *reason)
{
	FragmentIdentity identity;
	FragmentFile *f;
	char error[256];
	int slices;

	store();
	if (!ok(sophia_fragment_open(folder, "f", name, &f, &identity, error, sizeof(error)) ==
				FRAGMENT_DONE,
			"%s: opens", what))
		return;
	ok(verify(f, 300000, &slices) == status && strstr(sophia_fragment_error(f), reason),
	   "%s: %s", what, sophia_fragment_error(f));
	sophia_fragment_close(f);
}

static void
expect_damaged(const char *what, const FragmentName *name, const char *reason)
{
	expect_failure(FRAGMENT_DAMAGED, what, name, reason);
}

static void
expect_short(const char *what, const FragmentName *name, const char *reason)
{
	expect_failure(FRAGMENT_SHORT, what, name, reason);
}

static void
test_good(void)
{
	file.size = 0;
	append(content, CONTENT_SIZE);
	expect_good("raw", ".raw", CONTENT_SIZE);
	expect_good("offload, stored plain", ".gzod", CONTENT_SIZE);

	file.size = 0;
	append_gzip(content, CONTENT_SIZE);
	expect_good("gzip", ".gz", CONTENT_SIZE);
	expect_good("offload, stored gzip", "", CONTENT_SIZE);

	file.size = 0;
	append_gzip(content, 1);
	append_gzip(content + 1, 0);
	append_gzip(content + 1, 500000);
	append_gzip(content + 500001, CONTENT_SIZE - 500001);
	append_gzip("", 0);
	expect_good("several members", ".gz", CONTENT_SIZE);

	file.size = 0;
	append(content, 262144);
	expect_good("raw of one slice", ".raw", 262144);
}

static void
test_damaged(void)
{
	FragmentName raw = name_of(content, CONTENT_SIZE, ".raw");
	FragmentName gz = name_of(content, CONTENT_SIZE, ".gz");

	file.size = 0;
	append(content, CONTENT_SIZE - 1);
	expect_short("raw, a byte short", &raw, "999999 bytes, its name says 1000000");
	append("xx", 2);
	expect_damaged("raw, a byte long", &raw, "1000001 bytes");
	file.size -= 2;
	append("\001", 1);
	expect_damaged("raw, another byte", &raw, "SHA-1");

	file.size = 0;
	append_gzip(content, CONTENT_SIZE);
	file.size -= 8;
	expect_short("gzip without trailer", &gz, "ends early");
	file.size = 10;
	expect_short("gzip, header only", &gz, "ends early");
	file.size = 0;
	expect_short("gzip, empty file", &gz, "0 bytes");
	append(content, 1000);
	expect_damaged("gzip that is none", &gz, "damaged");

	file.size = 0;
	append_gzip(content, CONTENT_SIZE);
	append("garbage", 7);
	expect_damaged("gzip, trailing garbage", &gz, "damaged");
	file.size -= 7;
	file.bytes[file.size - 5] ^= 1;
	expect_damaged("gzip, wrong length in the trailer", &gz, "damaged");

	file.size = 0;
	append_gzip(content, CONTENT_SIZE - 1);
	expect_short("gzip, content short", &gz, "999999 bytes");
	append_gzip("xxxx", 4);
	expect_damaged("gzip, content long", &gz, "more than");
	file.size = 0;
	append_gzip(content, CONTENT_SIZE - 1);
	append_gzip("\001", 1);
	expect_damaged("gzip, another byte", &gz, "SHA-1");
}

static FragmentStatus
try_open(const char *path)
{
	FragmentName name = name_of(content, CONTENT_SIZE, ".raw");
	FragmentIdentity identity;
	FragmentFile *f;
	char error[256];
	FragmentStatus status =
		sophia_fragment_open(folder, path, &name, &f, &identity, error, sizeof(error));

	if (status == FRAGMENT_DONE)
		sophia_fragment_close(f);
	return status;
}

static void
test_open(void)
{
	FragmentIdentity identity;
	char error[256];

	ok(try_open("missing") == FRAGMENT_MISSING, "a missing file");
	ok(try_open("f/below") == FRAGMENT_UNREADABLE, "a file below a file");
	symlinkat("f", folder, "link");
	ok(try_open("link") == FRAGMENT_UNREADABLE, "a symbolic link");
	mkdirat(folder, "sub", 0700);
	ok(try_open("sub") == FRAGMENT_UNREADABLE, "a folder");
	mkfifoat(folder, "fifo", 0600);
	ok(try_open("fifo") == FRAGMENT_UNREADABLE, "a pipe does not block");
	ok(sophia_fragment_identify(folder, "missing", &identity, error, sizeof(error)) ==
		   FRAGMENT_MISSING,
	   "identity of a missing file: %s", error);
	unlinkat(folder, "link", 0);
	unlinkat(folder, "fifo", 0);
	unlinkat(folder, "sub", AT_REMOVEDIR);
}

static void
test_change(void)
{
	FragmentName name = name_of(content, CONTENT_SIZE, ".raw");
	FragmentIdentity opened, now;
	FragmentFile *f;
	char error[256];
	static char out[CONTENT_SIZE];
	size_t got;
	int slices;

	file.size = 0;
	append(content, CONTENT_SIZE);
	store();
	sophia_fragment_open(folder, "f", &name, &f, &opened, error, sizeof(error));
	verify(f, 1 << 20, &slices);
	sophia_fragment_identify(folder, "f", &now, error, sizeof(error));
	ok(memcmp(&opened, &now, sizeof(now)) == 0, "identity is stable");
	ok(sophia_fragment_read(f, out, 1000, &got) == FRAGMENT_MORE && got == 1000, "reads a part");

	struct timespec later[2] = {{1, 0}, {1, 0}};

	utimensat(folder, "f", later, 0);
	ok(sophia_fragment_read(f, out, 1000, &got) == FRAGMENT_DAMAGED && got == 0,
	   "changed meanwhile: %s", sophia_fragment_error(f));
	sophia_fragment_close(f);

	sophia_fragment_open(folder, "f", &name, &f, &opened, error, sizeof(error));
	verify(f, 1 << 20, &slices);
	file.size = 500;
	store();
	ok(sophia_fragment_read(f, out, CONTENT_SIZE, &got) == FRAGMENT_DAMAGED && got == 0,
	   "cut meanwhile: %s", sophia_fragment_error(f));
	sophia_fragment_close(f);
}

int
main(void)
{
	char path[] = "/tmp/fragment_file_test.XXXXXX";

	if (mkdtemp(path) == NULL || (folder = open(path, O_RDONLY | O_DIRECTORY)) < 0)
		return 1;

	/* Half of it compresses well, half does not, and no byte is \001. */
	for (int i = 0; i < CONTENT_SIZE; i++)
		content[i] = i < CONTENT_SIZE / 2 ? "{\"id\":1}\n"[i % 9] : (char) (32 + random() % 90);

	test_good();
	test_damaged();
	test_open();
	test_change();

	unlinkat(folder, "f", 0);
	close(folder);
	rmdir(path);
	done_testing();
	return exit_status();
}
