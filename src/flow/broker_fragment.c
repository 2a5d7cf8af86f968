/*
 * broker_fragment.c
 *		Fetches one fragment by its signed URL: see broker_fragment.h.
 *
 *		download into the spool ──whole──► verify ──it is the fragment──► read
 *
 * The broker's token is not sent to the store: the URL is signed.  Redirects are not followed, and
 * the answer is not decompressed on its way (the codec is the fragment's, not the transfer's).
 * Source: Gazette broker/client/reader.go (headers), broker/codecs/codecs.go.
 */
#include "postgres.h"

#include <fcntl.h>

#include "storage/fd.h"
#include "utils/wait_event.h"

#include "flow/broker_fragment.h"
#include "flow/fragment_file.h"
#include "net/http.h"

/* An answer's bytes that wait to be spooled. */
#define BODY_LIMIT ((size_t) 1024 * 1024)

/* Content that one turn verifies. */
#define VERIFY_SLICE ((size_t) 4 * 1024 * 1024)

/* A store that sends nothing for so long has forgotten us. */
#define SILENCE_S 30L

#define HTTP_OK 200

struct BrokerFragment
{
	FragmentName name;
	int64 from;
	HttpRequest *request; /* NULL once it is done */
	File spool;			  /* -1 = none */
	int64 spooled;
	FragmentFile *file; /* NULL until the spool is whole */
	bool verified;
	char error[256];
};

static FetchStatus pg_attribute_printf(3, 4)
fail(BrokerFragment *fragment, FetchStatus status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fragment->error, sizeof(fragment->error), format, args);
	va_end(args);
	return status;
}

BrokerFragment *
sophia_broker_fetch(const char *url, const FragmentName *name, int64 from, char *error,
					size_t error_size)
{
	BrokerFragment *fragment = palloc0(sizeof(BrokerFragment));
	const char *headers[] = {sophia_fragment_name_codec(name) == FRAGMENT_GZIP
								 ? "Accept-Encoding: gzip"
								 : "Accept-Encoding: identity",
							 NULL};
	HttpOptions options = {
		.method = "GET",
		.url = url,
		.headers = headers,
		.limit = BODY_LIMIT,
		.http1 = true,
		.low_speed_s = SILENCE_S,
	};

	fragment->name = *name;
	fragment->from = from;
	fragment->spool = -1;
	fragment->request = sophia_http_start(&options, error, error_size);
	if (fragment->request != NULL)
		return fragment;
	pfree(fragment);
	return NULL;
}

const FragmentName *
sophia_broker_fetch_name(const BrokerFragment *fragment)
{
	return &fragment->name;
}

const char *
sophia_broker_fetch_error(const BrokerFragment *fragment)
{
	return fragment->error;
}

/* ---- downloading ---- */

/* Opens the spool, if need be, and appends to it; raises what the server raises, as for temp_file_limit. */
static int
write_spool(BrokerFragment *fragment, char *bytes, int size)
{
	if (fragment->spool < 0)
		fragment->spool = OpenTemporaryFile(true);
	errno = 0;
	return FileWrite(fragment->spool, bytes, size, fragment->spooled, PG_WAIT_EXTENSION);
}

/* Moves what has come into the spool. */
static FetchStatus
spool_body(BrokerFragment *fragment)
{
	ByteBuffer *body = &fragment->request->body;
	int size = (int) buffer_size(body);
	int64 length = fragment->name.end - fragment->name.begin;
	MemoryContext context = CurrentMemoryContext;
	volatile int written = -1;
	volatile bool raised = false;

	/* no codec makes content larger than this */
	if (fragment->spooled + size > 2 * length + (int64) BODY_LIMIT)
		return fail(fragment, FETCH_USELESS, "the store sends more than the fragment can be");
	PG_TRY();
	{
		written = write_spool(fragment, buffer_bytes(body), size);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		fail(fragment, FETCH_USELESS, "%s", error->message);
		FreeErrorData(error);
		raised = true;
	}
	PG_END_TRY();
	if (raised)
		return FETCH_USELESS;
	if (written != size)
		return fail(fragment, FETCH_USELESS, "could not write to a temporary file: %s",
					errno != 0 ? strerror(errno) : "no space is left");
	fragment->spooled += size;
	sophia_buffer_consume(body, size);
	sophia_http_resume(fragment->request);
	return FETCH_MORE;
}

/* Opens the whole spool as a fragment's file. */
static FetchStatus
open_spool(BrokerFragment *fragment)
{
	FragmentIdentity identity;
	FragmentStatus status;

	sophia_http_close(fragment->request);
	fragment->request = NULL;
	if (fragment->spool < 0)
		return fail(fragment, FETCH_AGAIN, "the store sent nothing");
	if (!AcquireExternalFD())
		return fail(fragment, FETCH_AGAIN, "too many files are open");
	status =
		sophia_fragment_open(AT_FDCWD, FilePathName(fragment->spool), &fragment->name,
							 &fragment->file, &identity, fragment->error, sizeof(fragment->error));
	if (status == FRAGMENT_DONE)
		return FETCH_MORE;
	ReleaseExternalFD();
	return FETCH_AGAIN;
}

static FetchStatus
download(BrokerFragment *fragment)
{
	HttpRequest *request = fragment->request;

	if (request->status != 0 && request->status != HTTP_OK)
		return fail(fragment, FETCH_AGAIN, "the store answered %ld", request->status);
	if (buffer_size(&request->body) > 0)
		return spool_body(fragment);
	if (!request->finished)
		return FETCH_WAITING;
	if (!request->ok)
		return fail(fragment, FETCH_AGAIN, "%s", request->error);
	return open_spool(fragment);
}

/* ---- reading ---- */

/* What a failure of the spool means for the fragment. */
static FetchStatus
fail_file(BrokerFragment *fragment, FragmentStatus status)
{
	return fail(fragment, status == FRAGMENT_SHORT ? FETCH_AGAIN : FETCH_USELESS, "%s",
				status == FRAGMENT_NO_MEMORY ? "out of memory"
											 : sophia_fragment_error(fragment->file));
}

static FetchStatus
verify(BrokerFragment *fragment)
{
	FragmentStatus status = sophia_fragment_verify(fragment->file, VERIFY_SLICE);

	if (status == FRAGMENT_MORE)
		return FETCH_MORE;
	if (status != FRAGMENT_DONE)
		return fail_file(fragment, status);
	fragment->verified = true;
	sophia_fragment_skip(fragment->file, fragment->from - fragment->name.begin);
	return FETCH_MORE;
}

static FetchStatus
read_content(BrokerFragment *fragment, ByteBuffer *content, size_t room)
{
	char *into = sophia_buffer_reserve(content, room);
	FragmentStatus status;
	size_t got;

	if (into == NULL)
		return fail_file(fragment, FRAGMENT_NO_MEMORY);
	status = sophia_fragment_read(fragment->file, into, room, &got);
	content->end += got;
	if (status == FRAGMENT_MORE)
		return FETCH_MORE;
	return status == FRAGMENT_DONE ? FETCH_DONE : fail_file(fragment, status);
}

FetchStatus
sophia_broker_fetch_turn(BrokerFragment *fragment, ByteBuffer *content, size_t room)
{
	if (fragment->file == NULL)
		return download(fragment);
	if (!fragment->verified)
		return verify(fragment);
	return room > 0 ? read_content(fragment, content, room) : FETCH_WAITING;
}

void
sophia_broker_fetch_end(BrokerFragment *fragment)
{
	if (fragment->request != NULL)
		sophia_http_close(fragment->request);
	if (fragment->file != NULL)
	{
		sophia_fragment_close(fragment->file);
		ReleaseExternalFD();
	}
	if (fragment->spool >= 0)
		FileClose(fragment->spool);
	pfree(fragment);
}
