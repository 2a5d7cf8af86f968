/*
 * fuzz.h
 *		What the fuzz targets share: the entry point of libFuzzer, and a check that stops at what must not be.
 */
#ifndef SOPHIA_FUZZ_H
#define SOPHIA_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
	do                                                                                             \
	{                                                                                              \
		if (!(condition))                                                                          \
		{                                                                                          \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
			abort();                                                                               \
		}                                                                                          \
	} while (0)

/* A copy of exactly that size, so that a read past its end is noticed. */
static inline char *
exact_copy(const void *data, size_t size)
{
	char *copy = malloc(size > 0 ? size : 1);

	REQUIRE(copy != NULL);
	memcpy(copy, data, size);
	return copy;
}

#endif /* SOPHIA_FUZZ_H */
