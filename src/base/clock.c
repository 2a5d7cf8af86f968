/*
 * clock.c
 *		Monotonic time and backoff: see clock.h.  Pure: no server call.
 */
#include "base/clock.h"

#include <time.h>

int64_t
sophia_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The next number of SplitMix64, which any state may start. */
static uint64_t
next_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

void
sophia_backoff_init(Backoff *backoff, uint64_t seed)
{
	backoff->random = seed;
	backoff->failures = 0;
}

int64_t
sophia_backoff_next(Backoff *backoff)
{
	int64_t wait = BACKOFF_BASE_MS;

	for (int i = 0; i < backoff->failures && wait < BACKOFF_CAP_MS; i++)
		wait *= 2;
	if (wait > BACKOFF_CAP_MS)
		wait = BACKOFF_CAP_MS;
	if (backoff->failures < INT32_MAX)
		backoff->failures++;
	return wait - (int64_t) (next_random(&backoff->random) % (uint64_t) (wait / 2 + 1));
}

void
sophia_backoff_reset(Backoff *backoff)
{
	backoff->failures = 0;
}
