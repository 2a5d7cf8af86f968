/* Unit tests of base/buffer.c. */
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "tap.h"

static bool
holds(const ByteBuffer *b, const char *text)
{
	return buffer_size(b) == strlen(text) && memcmp(buffer_bytes(b), text, strlen(text)) == 0;
}

/* A stream longer than the memory passes through: appended at one end, consumed at the other. */
static bool
streams(ByteBuffer *b, unsigned total)
{
	unsigned written = 0;
	unsigned read = 0;

	while (read < total)
	{
		for (unsigned i = 0; i < 700 && written < total; i++, written++)
		{
			unsigned char byte = written % 251;

			if (!sophia_buffer_append(b, &byte, 1))
				return false;
		}
		for (unsigned i = 0; i < 650 && read < written; i++, read++)
		{
			if ((unsigned char) buffer_bytes(b)[0] != read % 251)
				return false;
			sophia_buffer_consume(b, 1);
		}
	}
	return buffer_size(b) == 0;
}

int
main(void)
{
	ByteBuffer b = {0};
	char *room;

	ok(sophia_buffer_append(&b, "", 0) && buffer_size(&b) == 0, "nothing can be appended");
	ok(sophia_buffer_append(&b, "abc", 3) && sophia_buffer_append(&b, "def", 3) &&
		   holds(&b, "abcdef"),
	   "appended bytes follow each other");
	sophia_buffer_consume(&b, 2);
	ok(holds(&b, "cdef"), "consuming takes from the front");
	room = sophia_buffer_reserve(&b, 100000);
	ok(room == buffer_bytes(&b) + 4 && holds(&b, "cdef"), "reserving keeps what is stored");
	memcpy(room, "gh", 2);
	b.end += 2;
	ok(holds(&b, "cdefgh"), "reserved room is where the next bytes go");
	ok(!sophia_buffer_append(&b, "x", SIZE_MAX / 2) && holds(&b, "cdefgh"),
	   "too much is refused and changes nothing");
	sophia_buffer_clear(&b);
	ok(buffer_size(&b) == 0, "clearing forgets the bytes");
	sophia_buffer_free(&b);
	ok(streams(&b, 1000000) && b.capacity < 200000, "a long stream passes in bounded memory");
	sophia_buffer_free(&b);
	ok(b.data == NULL && sophia_buffer_append(&b, "again", 5) && holds(&b, "again"),
	   "a freed buffer can be used again");
	sophia_buffer_free(&b);
	done_testing();
	return exit_status();
}
