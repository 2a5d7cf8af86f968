/*
 * buffer.h
 *		A growable run of bytes on malloc.  Library callbacks fill it (they must not palloc), and the
 *		pure files use it because they also build without a server.
 */
#ifndef SOPHIA_BUFFER_H
#define SOPHIA_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ByteBuffer
{
	char *data;		 /* start of the memory, NULL while nothing was ever stored */
	size_t start;	 /* first byte not consumed yet */
	size_t end;		 /* one past the last byte */
	size_t capacity; /* bytes of memory at data */
} ByteBuffer;

/* Bytes stored and not consumed. */
static inline size_t
buffer_size(const ByteBuffer *b)
{
	return b->end - b->start;
}

/* The first byte not consumed; valid until the next call that changes the buffer. */
static inline char *
buffer_bytes(const ByteBuffer *b)
{
	return b->data + b->start;
}

/* Makes room for n more bytes and returns where they go (then add them to b->end), or NULL: no memory. */
extern char *sophia_buffer_reserve(ByteBuffer *b, size_t n);

/* Appends n bytes; false when there is no memory, and then nothing has changed. */
extern bool sophia_buffer_append(ByteBuffer *b, const void *bytes, size_t n);

/* Forgets the first n bytes that are stored. */
extern void sophia_buffer_consume(ByteBuffer *b, size_t n);

/* Forgets everything that is stored and keeps the memory. */
extern void sophia_buffer_clear(ByteBuffer *b);

/* Gives the memory back; the buffer can be used again. */
extern void sophia_buffer_free(ByteBuffer *b);

#endif /* SOPHIA_BUFFER_H */
