/*
 * balance.h
 *		Which worker follows which table: spreads shares of work evenly and moves as few as possible.
 *
 * A share is everything that writes one table.  It stays where it is while its worker lives and the spread is even, so that
 * a decision is not taken back by the next one.  Pure: no server call.
 */
#ifndef SOPHIA_BALANCE_H
#define SOPHIA_BALANCE_H

#include <stdint.h>

/* More workers than any setting allows. */
#define BALANCE_WORKERS 32

/* A backlog from which on a share keeps a worker busy, in bytes. */
#define BALANCE_BUSY ((int64_t) 16 * 1024 * 1024)

typedef struct Share
{
	int worker;		 /* who has it; -1 = nobody */
	int64_t backlog; /* bytes that it has still to read */
} Share;

/*
 * Gives each share a worker whose bit is set in `living`, of which there must be one.  Afterwards no worker has more than one
 * busy share more than another, nor, as far as shares that are not busy allow it, more than one share more.
 */
extern void sophia_balance(Share *shares, int n, uint32_t living);

#endif /* SOPHIA_BALANCE_H */
