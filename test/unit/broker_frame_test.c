/*
 * broker_frame_test.c
 *		Unit tests of flow/broker_frame.c: every shape of line that a broker sends, cut anywhere.
 */
#include "base/base64.h"
#include "flow/broker_frame.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "tap.h"

/* A line and the frame it must give; `content` is what the base64 stands for. */
typedef struct Shape
{
	const char *name;
	const char *line;
	Frame frame;
	const char *content;
} Shape;

#define FRAGMENT                                                                                   \
	"{\"journal\":\"acmeCo/contacts/pivot=00\",\"begin\":\"16\",\"end\":\"5894\",\"sum\":"         \
	"{\"part1\":\"11654237732518350195\",\"part2\":\"4864798383187981773\",\"part3\":3720909592}," \
	"\"compressionCodec\":\"GZIP\",\"backingStore\":\"file:///\",\"modTime\":\"1795416886\","      \
	"\"pathPostfix\":\"\"}"
#define HEADER                                                                                     \
	"{\"processId\":{\"zone\":\"local\",\"suffix\":\"brok1\"},\"route\":{\"members\":[],"          \
	"\"primary\":-1,\"endpoints\":[\"http://127.0.0.1:1\"]},\"etcd\":{\"revision\":\"5\"}}"

static const Shape shapes[] = {
	{"metadata of a persisted fragment",
	 "{\"result\":{\"status\":\"OK\",\"header\":" HEADER ",\"offset\":\"100\",\"writeHead\":"
	 "\"17634\",\"fragment\":" FRAGMENT ",\"fragmentUrl\":\"file:///a.gz\",\"content\":null}}\n",
	 {.kind = FRAME_METADATA,
	  .offset = 100,
	  .write_head = 17634,
	  .fragment_begin = 16,
	  .fragment_end = 5894,
	  .mod_time = 1795416886,
	  .has_url = true}},
	{"metadata of a fragment that is not persisted",
	 "{\"result\":{\"status\":\"OK\",\"header\":null,\"offset\":\"0\",\"writeHead\":\"12\","
	 "\"fragment\":{\"begin\":\"0\",\"end\":\"12\",\"backingStore\":\"\",\"modTime\":\"0\"},"
	 "\"fragmentUrl\":\"\",\"content\":null}}\n",
	 {.kind = FRAME_METADATA, .write_head = 12, .fragment_end = 12}},
	{"content",
	 "{\"result\":{\"status\":\"OK\",\"header\":null,\"offset\":\"100\",\"writeHead\":\"0\","
	 "\"fragment\":null,\"fragmentUrl\":\"\",\"content\":\"eyJhIjoxfQo=\"}}\n",
	 {.kind = FRAME_CONTENT, .offset = 100},
	 "{\"a\":1}\n"},
	{"content with white space, numbers, another order and an unknown member",
	 " { \"result\" : { \"content\" : \"eyJhIjoxfQo=\" , \"extra\":[1,{\"x\":\"]\\\"}\"}], "
	 "\"fragment\":null,\t\"offset\" : 9223372036854775807, \"writeHead\": 5, \"status\":\"OK\" } }"
	 " \r\n",
	 {.kind = FRAME_CONTENT, .offset = INT64_MAX, .write_head = 5},
	 "{\"a\":1}\n"},
	{"empty content",
	 "{\"result\":{\"status\":\"OK\",\"offset\":\"7\",\"content\":\"\"}}\n",
	 {.kind = FRAME_CONTENT, .offset = 7},
	 ""},
	{"offset not yet available",
	 "{\"result\":{\"status\":\"OFFSET_NOT_YET_AVAILABLE\",\"header\":" HEADER ",\"offset\":"
	 "\"17634\",\"writeHead\":\"17634\",\"fragment\":null,\"fragmentUrl\":\"\",\"content\":null}}"
	 "\n",
	 {.kind = FRAME_STATUS,
	  .status = BROKER_OFFSET_NOT_YET_AVAILABLE,
	  .offset = 17634,
	  .write_head = 17634,
	  .message = "OFFSET_NOT_YET_AVAILABLE"}},
	{"journal not found",
	 "{\"result\":{\"status\":\"JOURNAL_NOT_FOUND\",\"offset\":\"-1\",\"content\":null}}\n",
	 {.kind = FRAME_STATUS,
	  .status = BROKER_JOURNAL_NOT_FOUND,
	  .offset = -1,
	  .message = "JOURNAL_NOT_FOUND"}},
	{"suspended",
	 "{\"result\":{\"status\":\"SUSPENDED\"}}\n",
	 {.kind = FRAME_STATUS, .status = BROKER_SUSPENDED, .message = "SUSPENDED"}},
	{"not allowed",
	 "{\"result\":{\"status\":\"NOT_ALLOWED\"}}\n",
	 {.kind = FRAME_STATUS, .status = BROKER_NOT_ALLOWED, .message = "NOT_ALLOWED"}},
	{"another status",
	 "{\"result\":{\"status\":\"INSUFFICIENT_JOURNAL_BROKERS\"}}\n",
	 {.kind = FRAME_STATUS, .status = BROKER_OTHER, .message = "INSUFFICIENT_JOURNAL_BROKERS"}},
	{"an error without newline",
	 "{\"error\":{\"grpcCode\":16,\"httpCode\":401,\"message\":\"missing \\\"Bearer\\\"\\n\\u0041 "
	 "\xC3\xA9\",\"httpStatus\":\"Unauthorized\",\"details\":[]}}",
	 {.kind = FRAME_ERROR, .grpc_code = 16, .http_code = 401, .message = "missing \"Bearer\" ? ??"}},
	{"the error of a malformed request",
	 "{\"code\":3,\"message\":\"unexpected EOF\",\"details\":[]}",
	 {.kind = FRAME_ERROR, .grpc_code = 3, .message = "unexpected EOF"}},
	{"an error as plain text",
	 "{\"error\":\"no such route\"}\n",
	 {.kind = FRAME_ERROR, .message = "no such route"}},
};

static const char *const invalid_lines[] = {
	"\n",
	"404 page not found\n",
	"{\"result\":{\"status\":\"OK\"\n",
	"{\"result\":{\"offset\":\"12x\"}}\n",
	"{\"result\":{\"offset\":\"9223372036854775808\"}}\n",
	"{\"result\":{\"offset\":\"\"}}\n",
	"{\"result\":{\"offset\":{}}}\n",
	"{\"result\":{\"content\":\"ey\\u004a\"}}\n",
	"{\"result\":{\"content\":\"eyJh}}\n",
	"{\"result\":{\"status\":\"OK\"}} trailing\n",
	"{\"other\":1}\n",
	"{}\n",
	"{\"result\":7}\n",
	"{\"result\":{\"status\" \"OK\"}}\n",
	"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
	"{\"a\":\"\\\n",
};

static bool
same_frame(const Frame *got, const Frame *expected)
{
	return got->kind == expected->kind && got->status == expected->status &&
		   got->offset == expected->offset && got->write_head == expected->write_head &&
		   got->fragment_begin == expected->fragment_begin &&
		   got->fragment_end == expected->fragment_end && got->mod_time == expected->mod_time &&
		   got->has_url == expected->has_url && got->grpc_code == expected->grpc_code &&
		   got->http_code == expected->http_code &&
		   (got->kind < FRAME_STATUS || strcmp(got->message, expected->message) == 0);
}

/* Checks a frame and takes its line. */
static bool
take_expected(ByteBuffer *input, const Frame *frame, const Shape *shape)
{
	ByteBuffer content = {0};
	bool same = same_frame(frame, &shape->frame);

	if (shape->content != NULL)
	{
		same &= frame->content != NULL &&
				sophia_base64_append(&content, frame->content, frame->content_length) &&
				buffer_size(&content) == strlen(shape->content) &&
				(buffer_size(&content) == 0 ||
				 memcmp(buffer_bytes(&content), shape->content, buffer_size(&content)) == 0);
	}
	else
		same &= frame->content == NULL;
	sophia_buffer_consume(input, frame->length);
	sophia_buffer_free(&content);
	return same;
}

static void
test_shape(const Shape *shape)
{
	size_t length = strlen(shape->line);
	bool whole = shape->line[length - 1] == '\n';
	bool early = false;
	ByteBuffer input = {0};
	FrameScanner scanner = {0};
	Frame frame;

	for (size_t i = 0; i < length; i++)
	{
		sophia_buffer_append(&input, shape->line + i, 1);
		if (i + 1 < length || !whole)
			early |= sophia_frame_next(&scanner, &input, false, &frame) != FRAME_NONE;
	}
	ok(!early, "%s: nothing before the line is whole", shape->name);
	sophia_frame_next(&scanner, &input, !whole, &frame);
	ok(take_expected(&input, &frame, shape), "%s: the frame (%s)", shape->name, frame.message);
	ok(sophia_frame_next(&scanner, &input, true, &frame) == FRAME_NONE, "%s: and no other",
	   shape->name);
	sophia_buffer_free(&input);
}

/* All shapes in one body, which arrives in pieces of `step` bytes. */
static void
test_pieces(size_t step)
{
	ByteBuffer body = {0};
	ByteBuffer input = {0};
	FrameScanner scanner = {0};
	Frame frame;
	size_t found = 0;
	bool same = true;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		sophia_buffer_append(&body, shapes[i].line, strlen(shapes[i].line));
		if (shapes[i].line[strlen(shapes[i].line) - 1] != '\n')
			sophia_buffer_append(&body, "\n", 1);
	}
	while (buffer_size(&body) > 0)
	{
		size_t n = buffer_size(&body) < step ? buffer_size(&body) : step;

		sophia_buffer_append(&input, buffer_bytes(&body), n);
		sophia_buffer_consume(&body, n);
		while (sophia_frame_next(&scanner, &input, buffer_size(&body) == 0, &frame) != FRAME_NONE)
			same &= take_expected(&input, &frame, &shapes[found++]);
	}
	ok(same && found == sizeof(shapes) / sizeof(shapes[0]), "pieces of %zu bytes", step);
	sophia_buffer_free(&body);
	sophia_buffer_free(&input);
}

static void
test_invalid(const char *line)
{
	ByteBuffer input = {0};
	FrameScanner scanner = {0};
	Frame frame;

	/* A copy of exactly its size, so that a memory checker sees a read past the end. */
	input.capacity = input.end = strlen(line);
	input.data = malloc(input.end);
	memcpy(input.data, line, input.end);
	ok(sophia_frame_next(&scanner, &input, true, &frame) == FRAME_INVALID &&
		   frame.length == strlen(line) && frame.message[0] != '\0',
	   "invalid: %.*s", (int) strcspn(line, "\n"), line);
	sophia_buffer_free(&input);
}

/* What a frame tells of where its fragment lies, and what it must be. */
static void
test_fragment(const char *written, const char *url)
{
	char line[2048];
	char got[64] = "";
	ByteBuffer input = {0};
	FrameScanner scanner = {0};
	Frame frame;

	snprintf(line, sizeof(line),
			 "{\"result\":{\"status\":\"OK\",\"offset\":\"16\",\"fragment\":" FRAGMENT
			 ",\"fragmentUrl\":\"%s\"}}\n",
			 written);
	sophia_buffer_append(&input, line, strlen(line));
	ok(sophia_frame_next(&scanner, &input, false, &frame) == FRAME_METADATA &&
		   frame.sum[0] == UINT64_C(11654237732518350195) &&
		   frame.sum[1] == UINT64_C(4864798383187981773) && frame.sum[2] == UINT64_C(3720909592) &&
		   frame.extension != NULL && strcmp(frame.extension, ".gz") == 0,
	   "a fragment's sum and codec");
	ok(sophia_frame_url(&frame, got, sizeof(got)) == (url != NULL) &&
		   (url == NULL || strcmp(got, url) == 0),
	   "URL %s", written);
	sophia_buffer_free(&input);
}

int
main(void)
{
	test_fragment("https://store.example/a%252F.gz?x=1\\u0026y=2",
				  "https://store.example/a%252F.gz?x=1&y=2");
	test_fragment("https:\\/\\/store.example\\/a", "https://store.example/a");
	test_fragment("", NULL);
	test_fragment("https://store.example/a b", NULL);
	test_fragment("https://store.example/\\u000aHost: x", NULL);
	test_fragment("https://store.example/\\u00", NULL);
	test_fragment("https://store.example/\\u20ac", NULL);
	test_fragment("https://store.example/a-name-that-has-no-room-in-64-bytes-of-a-url", NULL);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		test_shape(&shapes[i]);
	for (size_t step = 1; step <= 64; step = step * 2 + 1)
		test_pieces(step);
	test_pieces(100000);
	for (size_t i = 0; i < sizeof(invalid_lines) / sizeof(invalid_lines[0]); i++)
		test_invalid(invalid_lines[i]);
	done_testing();
	return exit_status();
}
