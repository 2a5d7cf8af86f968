/*
 * frame_fuzz.c
 *		Fuzzes the answers of a broker: however a body is cut into pieces, the same frames come out, and content that
 *		is base64 decodes to the size that its length says.
 */
#include "base/base64.h"
#include "flow/broker_frame.h"
#include "fuzz.h"

/* What one reading of a body gave: a sum over its frames. */
typedef struct Reading
{
	unsigned long sum;
	int frames;
	size_t left;
} Reading;

static void
add(Reading *reading, long long value)
{
	reading->sum = reading->sum * 1000003UL + (unsigned long) value;
}

static void
take_content(const Frame *frame)
{
	ByteBuffer bytes = {0};

	if (sophia_base64_append(&bytes, frame->content, frame->content_length))
	{
		REQUIRE(frame->content_length % 4 == 0);
		REQUIRE(buffer_size(&bytes) <= frame->content_length / 4 * 3);
		REQUIRE(frame->content_length == 0 ||
				buffer_size(&bytes) + 3 > frame->content_length / 4 * 3);
	}
	sophia_buffer_free(&bytes);
}

/* Takes all frames that are there now. */
static void
take_frames(Reading *reading, FrameScanner *scanner, ByteBuffer *input, bool complete)
{
	Frame frame;
	FrameKind kind;

	while ((kind = sophia_frame_next(scanner, input, complete, &frame)) != FRAME_NONE)
	{
		REQUIRE(kind == frame.kind);
		REQUIRE(frame.length > 0 && frame.length <= buffer_size(input));
		REQUIRE(memchr(frame.message, '\0', sizeof(frame.message)) != NULL);
		if (kind == FRAME_CONTENT)
			take_content(&frame);
		add(reading, kind);
		add(reading, (long long) frame.length);
		if (kind != FRAME_INVALID && kind != FRAME_ERROR)
		{
			add(reading, frame.status);
			add(reading, frame.offset);
			add(reading, frame.write_head);
		}
		reading->frames++;
		sophia_buffer_consume(input, frame.length);
	}
}

/* Reads a body that comes in pieces of `piece` bytes. */
static Reading
read_body(const uint8_t *data, size_t size, size_t piece)
{
	Reading reading = {0};
	FrameScanner scanner = {0};
	ByteBuffer input = {0};

	for (size_t at = 0; at < size; at += piece)
	{
		size_t n = size - at < piece ? size - at : piece;

		REQUIRE(sophia_buffer_append(&input, data + at, n));
		take_frames(&reading, &scanner, &input, false);
	}
	take_frames(&reading, &scanner, &input, true);
	reading.left = buffer_size(&input);
	sophia_buffer_free(&input);
	return reading;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Reading whole = read_body(data, size, size > 0 ? size : 1);
	Reading pieces = read_body(data, size, 1 + size % 7);

	REQUIRE(whole.sum == pieces.sum && whole.frames == pieces.frames);
	REQUIRE(whole.left == 0 && pieces.left == 0);
	return 0;
}
