/*
 * buffer.c
 *		A growable run of bytes on malloc: see buffer.h.  Pure: no server call.
 *
 * Consuming only moves `start`; the bytes move down when room is needed and at least half of the memory
 * lies before `start`, so that a stream that is appended to and consumed costs amortised O(1) a byte.
 */
#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

#define BUFFER_MIN_CAPACITY 4096

char *
sophia_buffer_reserve(ByteBuffer *b, size_t n)
{
	size_t used = b->end - b->start;
	size_t capacity = b->capacity < BUFFER_MIN_CAPACITY ? BUFFER_MIN_CAPACITY : b->capacity;
	char *grown;

	if (b->capacity > 0 && n <= b->capacity - b->end)
		return b->data + b->end;
	if (n > (size_t) -1 / 4 - used)
		return NULL;
	if (b->data != NULL && b->start >= b->capacity / 2 && used + n <= b->capacity)
	{
		memmove(b->data, b->data + b->start, used);
		b->start = 0;
		b->end = used;
		return b->data + b->end;
	}
	while (capacity < used + n)
		capacity *= 2;
	grown = malloc(capacity);
	if (grown == NULL)
		return NULL;
	if (used > 0)
		memcpy(grown, b->data + b->start, used);
	free(b->data);
	b->data = grown;
	b->start = 0;
	b->end = used;
	b->capacity = capacity;
	return grown + used;
}

bool
sophia_buffer_append(ByteBuffer *b, const void *bytes, size_t n)
{
	char *room = sophia_buffer_reserve(b, n);

	if (room == NULL)
		return false;
	if (n > 0)
		memcpy(room, bytes, n);
	b->end += n;
	return true;
}

void
sophia_buffer_consume(ByteBuffer *b, size_t n)
{
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void
sophia_buffer_clear(ByteBuffer *b)
{
	b->start = b->end = 0;
}

void
sophia_buffer_free(ByteBuffer *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}
