/*
 * clock_test.c
 *		Unit tests of base/clock.c.
 */
#include "base/clock.h"
#include "tap.h"

static void
test_bounds(uint64_t seed)
{
	static const int64_t ceilings[] = {50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
	Backoff backoff;
	bool within = true;

	sophia_backoff_init(&backoff, seed);
	for (int i = 0; i < 10; i++)
	{
		int64_t wait = sophia_backoff_next(&backoff);

		within &= wait <= ceilings[i] && wait >= ceilings[i] / 2;
	}
	ok(within, "seed %llu: each wait is between half and whole of its step",
	   (unsigned long long) seed);
	sophia_backoff_reset(&backoff);
	ok(sophia_backoff_next(&backoff) <= 50, "seed %llu: a reset starts again",
	   (unsigned long long) seed);
}

static void
test_seeds(void)
{
	Backoff one;
	Backoff same;
	Backoff other;
	bool equal = true;
	bool differs = false;

	sophia_backoff_init(&one, 7);
	sophia_backoff_init(&same, 7);
	sophia_backoff_init(&other, 8);
	for (int i = 0; i < 12; i++)
	{
		int64_t wait = sophia_backoff_next(&one);

		equal &= wait == sophia_backoff_next(&same);
		differs |= wait != sophia_backoff_next(&other);
	}
	ok(equal, "equal seeds give equal waits");
	ok(differs, "unequal seeds give unequal waits");
}

static void
test_many_failures(void)
{
	Backoff backoff;

	sophia_backoff_init(&backoff, 1);
	backoff.failures = INT32_MAX;
	ok(sophia_backoff_next(&backoff) <= BACKOFF_CAP_MS && backoff.failures == INT32_MAX,
	   "the count of failures does not overflow");
}

int
main(void)
{
	int64_t before = sophia_clock_ms();

	test_bounds(0);
	test_bounds(UINT64_MAX);
	test_seeds();
	test_many_failures();
	ok(sophia_clock_ms() >= before, "the clock does not go back");
	done_testing();
	return exit_status();
}
