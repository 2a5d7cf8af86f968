/*
 * clock.h
 *		Monotonic time in milliseconds, and how long to wait before trying again.
 */
#ifndef SOPHIA_CLOCK_H
#define SOPHIA_CLOCK_H

#include <stdint.h>

#define BACKOFF_BASE_MS 50
#define BACKOFF_CAP_MS	5000

/* The waits after consecutive failures of one thing. */
typedef struct Backoff
{
	uint64_t random; /* state of the jitter */
	int failures;	 /* consecutive ones so far */
} Backoff;

/* Milliseconds of a clock that never goes back; only differences mean something. */
extern int64_t sophia_clock_ms(void);

/* Starts with no failure.  Equal seeds give equal waits; unequal ones keep many waiters apart. */
extern void sophia_backoff_init(Backoff *backoff, uint64_t seed);

/*
 * Counts a failure and returns the milliseconds to wait before the next try: BACKOFF_BASE_MS
 * doubled with each failure up to BACKOFF_CAP_MS, and of that between one half and the whole, by
 * chance.
 */
extern int64_t sophia_backoff_next(Backoff *backoff);

/* It works again: the next failure waits as the first did. */
extern void sophia_backoff_reset(Backoff *backoff);

#endif /* SOPHIA_CLOCK_H */
