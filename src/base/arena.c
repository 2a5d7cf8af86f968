/*
 * arena.c
 *		Memory for things that die together: see arena.h.  Pure: no server call.
 */
#include "base/arena.h"

#include <stdlib.h>

#define ARENA_BLOCK (256 * 1024)
#define ARENA_ALIGN 16

struct ArenaBlock
{
	ArenaBlock *older;
	size_t size; /* bytes after this header */
};

#define BLOCK_HEADER ((sizeof(ArenaBlock) + ARENA_ALIGN - 1) & ~(size_t) (ARENA_ALIGN - 1))

void *
sophia_arena_alloc(Arena *arena, size_t n)
{
	void *result;

	n = n == 0 ? ARENA_ALIGN : (n + ARENA_ALIGN - 1) & ~(size_t) (ARENA_ALIGN - 1);
	if (n > arena->room)
	{
		size_t size = n > ARENA_BLOCK ? n : ARENA_BLOCK;
		ArenaBlock *block = malloc(BLOCK_HEADER + size);

		if (block == NULL)
			return NULL;
		block->older = arena->blocks;
		block->size = size;
		arena->blocks = block;
		arena->next = (char *) block + BLOCK_HEADER;
		arena->room = size;
	}
	result = arena->next;
	arena->next += n;
	arena->room -= n;
	return result;
}

void
sophia_arena_reset(Arena *arena)
{
	ArenaBlock *kept = NULL;

	while (arena->blocks != NULL)
	{
		ArenaBlock *block = arena->blocks;

		arena->blocks = block->older;
		if (kept == NULL && block->size == ARENA_BLOCK)
			kept = block;
		else
			free(block);
	}
	arena->next = NULL;
	arena->room = 0;
	if (kept != NULL)
	{
		kept->older = NULL;
		arena->blocks = kept;
		arena->next = (char *) kept + BLOCK_HEADER;
		arena->room = kept->size;
	}
}

void
sophia_arena_free(Arena *arena)
{
	while (arena->blocks != NULL)
	{
		ArenaBlock *block = arena->blocks;

		arena->blocks = block->older;
		free(block);
	}
	arena->next = NULL;
	arena->room = 0;
}
