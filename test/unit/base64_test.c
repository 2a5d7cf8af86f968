/*
 * base64_test.c
 *		Unit tests of base/base64.c.
 */
#include "base/base64.h"

#include <string.h>

#include "tap.h"

/* Encodes plainly, three bytes at a time; `out` holds the characters and a NUL. */
static size_t
encode(const unsigned char *in, size_t length, char *out)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t used = 0;

	for (size_t i = 0; i < length; i += 3)
	{
		unsigned bits = in[i] << 16;

		bits |= i + 1 < length ? in[i + 1] << 8 : 0;
		bits |= i + 2 < length ? in[i + 2] : 0;
		out[used++] = alphabet[bits >> 18];
		out[used++] = alphabet[bits >> 12 & 63];
		out[used++] = i + 1 < length ? alphabet[bits >> 6 & 63] : '=';
		out[used++] = i + 2 < length ? alphabet[bits & 63] : '=';
	}
	out[used] = '\0';
	return used;
}

static void
test_base64_lengths(void)
{
	unsigned char bytes[300];
	char text[401];
	bool same = true;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char) (i * 151 + (i >> 3));
	for (size_t length = 0; length <= sizeof(bytes); length++)
	{
		ByteBuffer out = {0};

		sophia_buffer_append(&out, "x", 1);
		same &= sophia_base64_append(&out, text, encode(bytes, length, text)) &&
				buffer_size(&out) == length + 1 && buffer_bytes(&out)[0] == 'x' &&
				memcmp(buffer_bytes(&out) + 1, bytes, length) == 0;
		sophia_buffer_free(&out);
	}
	ok(same, "base64 of every length up to %zu", sizeof(bytes));
}

static void
test_base64_invalid(void)
{
	char text[41];
	unsigned char bytes[30] = {0};
	size_t length = encode(bytes, sizeof(bytes), text);
	ByteBuffer out = {0};
	bool refused = true;

	for (size_t at = 0; at < length; at++)
	{
		for (const char *bad = "=-_ \n\"*\x80\xFF"; *bad != '\0'; bad++)
		{
			if (*bad == '=' && at == length - 1)
				continue;
			text[at] = *bad;
			refused &= !sophia_base64_append(&out, text, length);
			text[at] = 'A';
		}
	}
	ok(refused, "a character that is no base64 is refused at every place");
	refused = true;
	for (size_t cut = 1; cut < 4; cut++)
		refused &= !sophia_base64_append(&out, text, length - cut);
	ok(refused, "a length that is no multiple of four is refused");
	ok(!sophia_base64_append(&out, "A===", 4) && !sophia_base64_append(&out, "====", 4) &&
		   !sophia_base64_append(&out, "AA=A", 4),
	   "padding in the wrong place is refused");
	ok(buffer_size(&out) == 0, "and nothing was appended");
	sophia_buffer_free(&out);
}

int
main(void)
{
	test_base64_lengths();
	test_base64_invalid();
	done_testing();
	return exit_status();
}
