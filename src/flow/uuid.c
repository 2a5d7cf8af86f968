/*
 * uuid.c
 *		Reads the identifier that a producer gives each document.
 *
 * Pure: no server call, no allocation.  Layout: Gazette message/uuid.go; b0 to b15 are the bytes in network order.
 */
#include "flow/uuid.h"

#define UUID_TEXT_LENGTH 36
#define UUID_BYTES		 16

/* 100 ns from 1582-10-15 to 1970-01-01. */
#define UNIX_EPOCH_TICKS INT64_C(122192928000000000)

#define TICKS_PER_US 10
#define TICKS_PER_S	 UINT64_C(10000000)
#define MAX_TICKS	 ((INT64_C(1) << 60) - 1)

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The 16 bytes of 8-4-4-4-12 hexadecimal digits. */
static bool
decode_text(const char *text, uint8_t *bytes)
{
	int n = 0;

	for (int i = 0; i < UUID_TEXT_LENGTH;)
	{
		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (text[i++] != '-')
				return false;
			continue;
		}

		int high = hex_value(text[i]);
		int low = hex_value(text[i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[n++] = (uint8_t) (high << 4 | low);
		i += 2;
	}
	return true;
}

static uint64_t
big_endian(const uint8_t *bytes, int n)
{
	uint64_t value = 0;

	for (int i = 0; i < n; i++)
		value = value << 8 | bytes[i];
	return value;
}

bool
sophia_uuid_parse(const char *text, size_t len, DocumentUuid *out)
{
	uint8_t b[UUID_BYTES];

	if (len != UUID_TEXT_LENGTH || !decode_text(text, b))
		return false;
	if (b[6] >> 4 != 1 || b[8] >> 6 != 2)
		return false;

	/* The version, in the upper half of b6, is shifted out of the 64 bits. */
	out->clock = big_endian(b, 4) << 4 | big_endian(b + 4, 2) << 36 | big_endian(b + 6, 2) << 52 |
				 ((b[8] >> 2) & 0xf);
	out->flags = (b[8] & 0x3) << 8 | b[9];
	out->producer = big_endian(b + 10, 6);
	return true;
}

int64_t
sophia_clock_unix_us(uint64_t clock)
{
	int64_t ticks = (int64_t) (clock >> 4) - UNIX_EPOCH_TICKS;
	int64_t us = ticks / TICKS_PER_US;

	return ticks % TICKS_PER_US < 0 ? us - 1 : us;
}

uint64_t
sophia_clock_of_unix_us(int64_t us)
{
	if (us < -UNIX_EPOCH_TICKS / TICKS_PER_US)
		return 0;
	if (us > (MAX_TICKS - UNIX_EPOCH_TICKS) / TICKS_PER_US)
		return UINT64_MAX;
	return (uint64_t) (us * TICKS_PER_US + UNIX_EPOCH_TICKS) << 4;
}

bool
sophia_clock_is_behind(uint64_t clock, uint64_t newest, int64_t seconds)
{
	return newest > clock && (newest - clock) >> 4 > (uint64_t) seconds * TICKS_PER_S;
}
