/*
 * arena.h
 *		Memory for things that die together, on malloc, so that pure files need no server.
 *
 * Nothing is freed singly: a reset forgets everything and keeps one block for the next round.
 */
#ifndef SOPHIA_ARENA_H
#define SOPHIA_ARENA_H

#include <stddef.h>

typedef struct ArenaBlock ArenaBlock;

typedef struct Arena
{
	ArenaBlock *blocks; /* newest first */
	char *next;			/* free room in the newest block */
	size_t room;
} Arena;

/* n bytes aligned for any type, or NULL when there is no memory; lives until the reset. */
extern void *sophia_arena_alloc(Arena *arena, size_t n);

/* Forgets everything that was allocated; keeps one block of ordinary size. */
extern void sophia_arena_reset(Arena *arena);

/* Gives all memory back; the arena can be used again. */
extern void sophia_arena_free(Arena *arena);

#endif /* SOPHIA_ARENA_H */
