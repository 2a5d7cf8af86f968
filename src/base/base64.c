/*
 * base64.c
 *		Decoding of base64: see base64.h.  Pure: no server call.
 */
#include "base/base64.h"

#include <stdint.h>

/* What each character contributes at each of the four places of a quantum; BAD where it is none. */
#define BAD UINT32_C(0x80000000)

static uint32_t decode[4][256];
static bool decode_ready = false;

static void
prepare_decode(void)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (int place = 0; place < 4; place++)
	{
		for (int ch = 0; ch < 256; ch++)
			decode[place][ch] = BAD;
		for (uint32_t value = 0; value < 64; value++)
			decode[place][(unsigned char) alphabet[value]] = value << (18 - 6 * place);
	}
	decode_ready = true;
}

static inline uint32_t
decode_quantum(const unsigned char *in)
{
	return decode[0][in[0]] | decode[1][in[1]] | decode[2][in[2]] | decode[3][in[3]];
}

static inline void
put_quantum(unsigned char *out, uint32_t bits)
{
	out[0] = bits >> 16;
	out[1] = bits >> 8;
	out[2] = bits;
}

/* The last quantum, which may be padded; returns its bytes, 0 when it is wrong. */
static size_t
decode_last(const unsigned char *in, unsigned char *out)
{
	unsigned char full[4] = {in[0], in[1], in[2], in[3]};
	size_t bytes = 3;
	uint32_t bits;

	if (in[3] == '=')
	{
		bytes = in[2] == '=' ? 1 : 2;
		full[3] = 'A';
		if (bytes == 1)
			full[2] = 'A';
	}
	bits = decode_quantum(full);
	if ((bits & BAD) != 0)
		return 0;
	put_quantum(out, bits);
	return bytes;
}

bool
sophia_base64_append(ByteBuffer *out, const char *base64, size_t length)
{
	const unsigned char *in = (const unsigned char *) base64;
	const unsigned char *last;
	unsigned char *to;
	uint32_t seen = 0;
	size_t bytes;

	if (length == 0)
		return true;
	if (length % 4 != 0)
		return false;
	if (!decode_ready)
		prepare_decode();
	last = in + length - 4;
	to = (unsigned char *) sophia_buffer_reserve(out, length / 4 * 3);
	if (to == NULL)
		return false;
	for (; in + 8 <= last; in += 8, to += 6)
	{
		uint32_t one = decode_quantum(in);
		uint32_t two = decode_quantum(in + 4);

		seen |= one | two;
		put_quantum(to, one);
		put_quantum(to + 3, two);
	}
	for (; in < last; in += 4, to += 3)
	{
		uint32_t one = decode_quantum(in);

		seen |= one;
		put_quantum(to, one);
	}
	bytes = decode_last(in, to);
	if ((seen & BAD) != 0 || bytes == 0)
		return false;
	out->end += length / 4 * 3 - 3 + bytes;
	return true;
}
