/*
 * uuid.h
 *		The identifier that a producer gives each document: clock, producer and flags in a UUID of version 1.
 *
 * Pure: no server call.  Layout: Gazette message/uuid.go.
 */
#ifndef SOPHIA_UUID_H
#define SOPHIA_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DocumentUuid
{
	uint64_t clock; /* 60 bits of 100 ns since 1582-10-15, then a counter of 4 bits; unsigned order */
	uint64_t producer; /* 48 bits */
	int flags;		   /* 10 bits; the low ones are DOCUMENT_FLAG_... */
} DocumentUuid;

/* Bits of DocumentUuid.flags; with neither of the first two a document commits by itself. */
#define DOCUMENT_FLAG_CONTINUE 0x1 /* pending until an acknowledgement of its producer */
#define DOCUMENT_FLAG_ACK                                                                          \
	0x2 /* acknowledges, or rolls back, the pending documents of its producer */
#define DOCUMENT_FLAG_CONTROL 0x4 /* is no data */

/*
 * Reads the textual form (36 characters, hexadecimal digits of either case).  False when it is malformed, of a
 * version other than 1 or of a variant other than RFC 4122's; *out is then unchanged.
 */
extern bool sophia_uuid_parse(const char *text, size_t len, DocumentUuid *out);

/* The moment of a clock, in microseconds since 1970-01-01 UTC, rounded down; negative before that. */
extern int64_t sophia_clock_unix_us(uint64_t clock);

/* The first clock of a moment, given in the same way; 0 for one before 1582, the largest for one that no clock reaches. */
extern uint64_t sophia_clock_of_unix_us(int64_t us);

/* True when `clock` lies more than so many seconds before `newest`. */
extern bool sophia_clock_is_behind(uint64_t clock, uint64_t newest, int64_t seconds);

#endif /* SOPHIA_UUID_H */
