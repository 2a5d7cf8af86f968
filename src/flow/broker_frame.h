/*
 * broker_frame.h
 *		The answer of a Gazette broker to POST /v1/journals/read, cut into frames.
 *
 * The body is one JSON object a line, {"result": {...}} or {"error": {...}}; the last line may lack
 * its newline (Gazette broker/protocol/protocol.proto ReadResponse, through grpc-gateway v1).
 */
#ifndef SOPHIA_BROKER_FRAME_H
#define SOPHIA_BROKER_FRAME_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum FrameKind
{
	FRAME_NONE,		/* no whole line is there yet */
	FRAME_METADATA, /* a fragment begins: what follows is read from it */
	FRAME_CONTENT,	/* bytes of the journal */
	FRAME_STATUS,	/* neither; with a status other than OK the stream ends here */
	FRAME_ERROR,	/* the request failed */
	FRAME_INVALID	/* a line that is none of these; `message` says why */
} FrameKind;

/* protocol.proto Status; what it is for a reader of journals. */
typedef enum FrameStatus
{
	BROKER_OK,
	BROKER_JOURNAL_NOT_FOUND,
	BROKER_OFFSET_NOT_YET_AVAILABLE,
	BROKER_NOT_ALLOWED,
	BROKER_SUSPENDED,
	BROKER_OTHER /* transient: its name is in `message` */
} FrameStatus;

typedef struct Frame
{
	FrameKind kind;
	FrameStatus status;
	int64_t offset;		/* of the first byte of content, or where the reading stands */
	int64_t write_head; /* offset past the last byte of the journal; 0 also where it is not said */
	int64_t fragment_begin; /* of the fragment of a FRAME_METADATA */
	int64_t fragment_end;
	int64_t mod_time;	   /* when it was persisted, seconds since 1970; 0 = it is not */
	uint64_t sum[3];	   /* SHA-1 of its content: 8, 8 and 4 bytes, the most significant first */
	const char *extension; /* of its file's name, which tells the codec; NULL = one that is not supported */
	bool has_url;		   /* the fragment can be fetched from its store */
	const char *url;	   /* where, as JSON writes it; inside the input, like content */
	size_t url_length;
	const char *content;   /* base64, inside the input, until that changes */
	size_t content_length; /* characters of it */
	int grpc_code;		   /* of a FRAME_ERROR */
	int http_code;		   /* of a FRAME_ERROR; 0 = not said */
	char message[256];	   /* of an error or an invalid line, or the name of a status; cut to fit */
	size_t length;		   /* bytes of the line, newline included */
} Frame;

/* Remembers how far the unfinished line was searched for its end; zero at the start of a body. */
typedef struct FrameScanner
{
	size_t searched;
} FrameScanner;

/*
 * The next frame of `input`, which is left as it is: consume frame->length bytes when done with the
 * frame. `complete`: the body ended well, so that what stands after the last newline is a line too.
 */
extern FrameKind sophia_frame_next(FrameScanner *scanner, const ByteBuffer *input, bool complete,
								   Frame *frame);

/*
 * The URL of a frame's fragment, with its NUL.  False when there is none, or it is not plain ASCII
 * or has no room.
 */
extern bool sophia_frame_url(const Frame *frame, char *url, size_t size);

#endif /* SOPHIA_BROKER_FRAME_H */
