/*
 * fragment_file.c
 *		Reads one fragment file: see fragment_file.h.
 *
 * One decoder serves both passes: it hands out content bytes and knows when the file's end is a proper one.
 * Verifying hashes what it hands out, reading keeps it; between the two the file is rewound.
 */
#include "flow/fragment_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define INPUT_SIZE	 (128 * 1024)
#define SCRATCH_SIZE ((int64_t) 256 * 1024)

/* 15 bits of window, and gzip headers only. */
#define GZIP_WINDOW_BITS 31

struct FragmentFile
{
	int fd;
	int64_t length;	  /* of the content, by the name */
	int64_t position; /* content bytes decoded so far */
	int64_t skip;	  /* content bytes still to be discarded before the first one wanted */
	uint8_t sha1[FRAGMENT_SHA1_SIZE];
	FragmentIdentity identity;
	bool gzip;
	bool inflating;	   /* stream is initialised */
	bool in_member;	   /* a gzip member was begun and did not end yet */
	bool end_of_input; /* the file has no more bytes */
	z_stream stream;
	EVP_MD_CTX *digest;
	unsigned char *input;	/* compressed bytes; NULL for raw files */
	unsigned char *scratch; /* content that is not kept */
	size_t scratch_size;	/* more than the content, if that is small */
	char error[256];
};

static FragmentStatus __attribute__((format(printf, 3, 4)))
fail(FragmentFile *f, FragmentStatus status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->error, sizeof(f->error), format, args);
	va_end(args);
	return status;
}

static FragmentStatus
fail_system(FragmentFile *f, const char *what)
{
	return fail(f, errno == ENOENT ? FRAGMENT_MISSING : FRAGMENT_UNREADABLE, "%s: %s", what,
				strerror(errno));
}

/* ---- opening ---- */

static void
fill_identity(const struct stat *st, FragmentIdentity *identity)
{
	identity->device = (uint64_t) st->st_dev;
	identity->inode = (uint64_t) st->st_ino;
	identity->size = (int64_t) st->st_size;
	identity->mtime_ns = (int64_t) st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

bool
sophia_fragment_same(const FragmentIdentity *a, const FragmentIdentity *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
		   a->mtime_ns == b->mtime_ns;
}

/* A file that its reader decompressed while copying has no gzip header, and JSON never starts like one. */
static bool
starts_as_gzip(int fd)
{
	unsigned char magic[2];

	return pread(fd, magic, sizeof(magic), 0) == (ssize_t) sizeof(magic) && magic[0] == 0x1f &&
		   magic[1] == 0x8b;
}

static FragmentStatus
open_file(FragmentFile *f, int folder, const char *file)
{
	struct stat st;

	f->fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (f->fd < 0)
		return fail_system(f, "could not open");
	if (fstat(f->fd, &st) != 0)
		return fail_system(f, "could not examine");
	if (!S_ISREG(st.st_mode))
		return fail(f, FRAGMENT_UNREADABLE, "not a regular file");
	fill_identity(&st, &f->identity);
	return FRAGMENT_DONE;
}

static FragmentStatus
prepare_decoder(FragmentFile *f, FragmentCodec codec)
{
	f->gzip = codec == FRAGMENT_GZIP || (codec == FRAGMENT_GZIP_OFFLOAD && starts_as_gzip(f->fd));
	f->scratch_size = f->length < SCRATCH_SIZE ? (size_t) f->length + 1 : SCRATCH_SIZE;
	f->scratch = malloc(f->scratch_size);
	f->digest = EVP_MD_CTX_new();
	if (f->scratch == NULL || f->digest == NULL)
		return fail(f, FRAGMENT_NO_MEMORY, "out of memory");
	if (EVP_DigestInit_ex(f->digest, EVP_sha1(), NULL) != 1)
		return fail(f, FRAGMENT_UNREADABLE, "the crypto library offers no SHA-1");
	if (!f->gzip)
		return FRAGMENT_DONE;

	f->input = malloc(INPUT_SIZE);
	if (f->input == NULL || inflateInit2(&f->stream, GZIP_WINDOW_BITS) != Z_OK)
		return fail(f, FRAGMENT_NO_MEMORY, "out of memory");
	f->inflating = true;
	return FRAGMENT_DONE;
}

FragmentStatus
sophia_fragment_open(int folder, const char *file, const FragmentName *name, FragmentFile **out,
					 FragmentIdentity *identity, char *error, size_t error_size)
{
	FragmentFile *f = calloc(1, sizeof(FragmentFile));

	if (f == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return FRAGMENT_NO_MEMORY;
	}
	f->length = name->end - name->begin;
	memcpy(f->sha1, name->sha1, FRAGMENT_SHA1_SIZE);

	FragmentStatus status = open_file(f, folder, file);

	if (status == FRAGMENT_DONE)
		status = prepare_decoder(f, sophia_fragment_name_codec(name));
	if (status != FRAGMENT_DONE)
	{
		snprintf(error, error_size, "%s", f->error);
		sophia_fragment_close(f);
		return status;
	}
	*out = f;
	*identity = f->identity;
	return FRAGMENT_DONE;
}

FragmentStatus
sophia_fragment_identify(int folder, const char *file, FragmentIdentity *identity, char *error,
						 size_t error_size)
{
	struct stat st;

	if (fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) != 0)
	{
		snprintf(error, error_size, "could not examine: %s", strerror(errno));
		return errno == ENOENT ? FRAGMENT_MISSING : FRAGMENT_UNREADABLE;
	}
	fill_identity(&st, identity);
	return FRAGMENT_DONE;
}

void
sophia_fragment_close(FragmentFile *f)
{
	if (f->inflating)
		inflateEnd(&f->stream);
	EVP_MD_CTX_free(f->digest);
	free(f->input);
	free(f->scratch);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

const char *
sophia_fragment_error(const FragmentFile *f)
{
	return f->error;
}

/* ---- decoding ---- */

static ssize_t
read_file(FragmentFile *f, void *into, size_t size)
{
	ssize_t n;

	do
		n = read(f->fd, into, size);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		f->end_of_input = true;
	return n;
}

/* Has compressed bytes at hand, or end_of_input. */
static FragmentStatus
fill_input(FragmentFile *f)
{
	if (f->stream.avail_in > 0 || f->end_of_input)
		return FRAGMENT_MORE;

	ssize_t n = read_file(f, f->input, INPUT_SIZE);

	if (n < 0)
		return fail_system(f, "could not read");
	f->stream.next_in = f->input;
	f->stream.avail_in = (uInt) n;
	return FRAGMENT_MORE;
}

/* One step of inflate; a member that begins where another ended goes on with the content. */
static FragmentStatus
inflate_step(FragmentFile *f)
{
	if (!f->in_member)
	{
		inflateReset(&f->stream);
		f->in_member = true;
	}

	int rc = inflate(&f->stream, Z_NO_FLUSH);

	if (rc == Z_STREAM_END)
		f->in_member = false;
	else if (rc == Z_MEM_ERROR)
		return fail(f, FRAGMENT_NO_MEMORY, "out of memory");
	else if (rc != Z_OK && rc != Z_BUF_ERROR)
		return fail(f, FRAGMENT_DAMAGED, "gzip data is damaged: %s",
					f->stream.msg ? f->stream.msg : "unexpected data");
	return FRAGMENT_MORE;
}

static FragmentStatus
decode_gzip(FragmentFile *f, void *out, size_t size, size_t *got)
{
	f->stream.next_out = out;
	f->stream.avail_out = (uInt) size;
	while (f->stream.avail_out > 0)
	{
		FragmentStatus status = fill_input(f);

		if (status != FRAGMENT_MORE)
			return status;
		if (f->stream.avail_in == 0 && !f->in_member)
			break;
		if (f->stream.avail_in == 0)
			return fail(f, FRAGMENT_SHORT, "gzip data ends early");
		status = inflate_step(f);
		if (status != FRAGMENT_MORE)
			return status;
	}
	*got = size - f->stream.avail_out;
	return FRAGMENT_MORE;
}

static FragmentStatus
decode_raw(FragmentFile *f, char *out, size_t size, size_t *got)
{
	while (*got < size && !f->end_of_input)
	{
		ssize_t n = read_file(f, out + *got, size - *got);

		if (n < 0)
			return fail_system(f, "could not read");
		*got += (size_t) n;
	}
	return FRAGMENT_MORE;
}

/* Content bytes: *got < size only at a proper end. */
static FragmentStatus
decode(FragmentFile *f, void *out, size_t size, size_t *got)
{
	*got = 0;

	FragmentStatus status =
		f->gzip ? decode_gzip(f, out, size, got) : decode_raw(f, out, size, got);

	if (status == FRAGMENT_MORE)
		f->position += (int64_t) *got;
	return status;
}

/* ---- verifying ---- */

static FragmentStatus
rewind_file(FragmentFile *f)
{
	if (lseek(f->fd, 0, SEEK_SET) != 0)
		return fail_system(f, "could not rewind");
	f->position = 0;
	f->end_of_input = false;
	f->in_member = false;
	f->stream.avail_in = 0;
	return FRAGMENT_DONE;
}

static FragmentStatus
check_length(FragmentFile *f, int64_t length)
{
	if (length != f->length)
		return fail(f, length < f->length ? FRAGMENT_SHORT : FRAGMENT_DAMAGED,
					"its content has %" PRId64 " bytes, its name says %" PRId64, length, f->length);
	return FRAGMENT_DONE;
}

static FragmentStatus
check_digest(FragmentFile *f)
{
	static const uint8_t zeros[FRAGMENT_SHA1_SIZE];
	uint8_t sum[EVP_MAX_MD_SIZE];

	if (EVP_DigestFinal_ex(f->digest, sum, NULL) != 1)
		return fail(f, FRAGMENT_UNREADABLE, "the crypto library failed");
	if (memcmp(f->length == 0 ? zeros : sum, f->sha1, FRAGMENT_SHA1_SIZE) != 0)
		return fail(f, FRAGMENT_DAMAGED, "the SHA-1 of its content is not the one in its name");
	return FRAGMENT_DONE;
}

/* At the end of the content: is it all, and is it what the name says? */
static FragmentStatus
finish_verify(FragmentFile *f)
{
	FragmentStatus status = check_length(f, f->position);

	if (status == FRAGMENT_DONE)
		status = check_digest(f);
	return status == FRAGMENT_DONE ? rewind_file(f) : status;
}

FragmentStatus
sophia_fragment_verify(FragmentFile *f, size_t budget)
{
	FragmentStatus size = f->gzip ? FRAGMENT_DONE : check_length(f, f->identity.size);

	/* A raw file that is still being copied need not be read to be told. */
	if (size != FRAGMENT_DONE)
		return size;

	for (size_t done = 0; done < budget; done += f->scratch_size)
	{
		size_t got;
		FragmentStatus status = decode(f, f->scratch, f->scratch_size, &got);

		if (status != FRAGMENT_MORE)
			return status;
		if (EVP_DigestUpdate(f->digest, f->scratch, got) != 1)
			return fail(f, FRAGMENT_UNREADABLE, "the crypto library failed");
		if (f->position > f->length)
			return fail(f, FRAGMENT_DAMAGED,
						"its content has more than the %" PRId64 " bytes that its name says",
						f->length);
		if (got < f->scratch_size)
			return finish_verify(f);
	}
	return FRAGMENT_MORE;
}

/* ---- reading ---- */

void
sophia_fragment_skip(FragmentFile *f, int64_t n)
{
	/* Raw content needs no decoding to be skipped. */
	if (!f->gzip && lseek(f->fd, n, SEEK_SET) == n)
		f->position = n;
	else
		f->skip = n;
}

/* Somebody who rewrites the file in place would otherwise splice two contents. */
static FragmentStatus
check_unchanged(FragmentFile *f)
{
	struct stat st;
	FragmentIdentity now;

	if (fstat(f->fd, &st) != 0)
		return fail_system(f, "could not examine");
	fill_identity(&st, &now);
	if (!sophia_fragment_same(&f->identity, &now))
		return fail(f, FRAGMENT_DAMAGED, "it changed while it was read");
	return FRAGMENT_MORE;
}

/* Discards content up to the first byte wanted, at most `budget` bytes of it. */
static FragmentStatus
skip_content(FragmentFile *f, size_t budget)
{
	for (size_t done = 0; done < budget && f->position < f->skip; done += f->scratch_size)
	{
		int64_t left = f->skip - f->position;
		size_t want = left < (int64_t) f->scratch_size ? (size_t) left : f->scratch_size;
		size_t got;
		FragmentStatus status = decode(f, f->scratch, want, &got);

		if (status != FRAGMENT_MORE)
			return status;
		if (got < want)
			return fail(f, FRAGMENT_DAMAGED, "its content ends early");
	}
	return FRAGMENT_MORE;
}

FragmentStatus
sophia_fragment_read(FragmentFile *f, char *out, size_t size, size_t *got)
{
	*got = 0;

	FragmentStatus status = skip_content(f, size);

	if (status != FRAGMENT_MORE || f->position < f->skip)
		return status;

	int64_t left = f->length - f->position;
	size_t want = left < (int64_t) size ? (size_t) left : size;
	size_t n;

	status = decode(f, out, want, &n);
	if (status == FRAGMENT_MORE)
		status = check_unchanged(f);
	if (status != FRAGMENT_MORE)
		return status;
	if (n < want)
		return fail(f, FRAGMENT_DAMAGED, "its content ends early");
	*got = n;
	return f->position == f->length ? FRAGMENT_DONE : FRAGMENT_MORE;
}
