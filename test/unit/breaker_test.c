/*
 * breaker_test.c
 *		Unit tests of ai/breaker.c.
 */
#include "ai/breaker.h"
#include "tap.h"

static void
test_opening(void)
{
	Breaker breaker = {.most_failures = 3, .base_ms = 1000};

	sophia_breaker_failed(&breaker, 0);
	sophia_breaker_failed(&breaker, 0);
	sophia_breaker_succeeded(&breaker);
	sophia_breaker_failed(&breaker, 0);
	sophia_breaker_failed(&breaker, 0);
	ok(breaker.state == BREAKER_CLOSED, "failures that are not in a row do not open it");
	sophia_breaker_failed(&breaker, 10);
	ok(breaker.state == BREAKER_OPEN && breaker.open_until == 1010, "three in a row do");
	ok(!sophia_breaker_allows(&breaker, 1009), "nothing is sent while it is open");
	sophia_breaker_failed(&breaker, 1000);
	ok(breaker.open_until == 1010, "what was sent before changes nothing by failing");
	ok(sophia_breaker_allows(&breaker, 1010) && breaker.state == BREAKER_HALF_OPEN, "then a probe");
	sophia_breaker_sent(&breaker);
	ok(!sophia_breaker_allows(&breaker, 1010), "which is alone");
	sophia_breaker_forget(&breaker);
	ok(sophia_breaker_allows(&breaker, 1010), "unless it tells nothing");
	sophia_breaker_sent(&breaker);
	sophia_breaker_failed(&breaker, 2000);
	ok(breaker.state == BREAKER_OPEN && breaker.open_until == 4000, "it opens for twice as long");
	ok(sophia_breaker_allows(&breaker, 4000), "another probe");
	sophia_breaker_sent(&breaker);
	sophia_breaker_succeeded(&breaker);
	ok(breaker.state == BREAKER_CLOSED && sophia_breaker_allows(&breaker, 4000), "closes it");
}

static void
test_growing(void)
{
	Breaker breaker = {.most_failures = 1, .base_ms = 1000};
	Breaker never = {.most_failures = 0, .base_ms = 1000};
	int64_t now = 0;

	for (int i = 0; i < 20; i++)
	{
		now = breaker.open_until;
		(void) sophia_breaker_allows(&breaker, now);
		sophia_breaker_failed(&breaker, now);
		sophia_breaker_failed(&never, now);
	}
	ok(breaker.open_until - now == BREAKER_LONGEST_MS, "it is open for a minute at most");
	ok(never.state == BREAKER_CLOSED, "without a limit it never opens");
}

static void
test_window(void)
{
	Window window;

	sophia_window_init(&window, 20);
	sophia_window_grow(&window);
	ok(window.size == 20, "the window does not grow beyond its limit");
	sophia_window_shrink(&window, 5, 10);
	sophia_window_shrink(&window, 6, 11);
	ok(window.size == 10, "requests of one window halve it once");
	sophia_window_shrink(&window, 10, 12);
	ok(window.size == 5, "later ones again");
	for (int i = 0; i < 6; i++)
		sophia_window_grow(&window);
	ok(window.size > 5.9 && window.size < 6.2, "a window of good answers adds one");
	for (int i = 0; i < 10; i++)
		sophia_window_shrink(&window, 100 + i, 100 + i);
	ok(window.size == 1, "one is always allowed");
}

static void
test_latencies(void)
{
	static const double parts[] = {0.5, 0.95, 0.99};
	Latencies latencies = {0};
	int32_t found[3];

	ok(!sophia_latencies_percentiles(&latencies, parts, found), "no latencies, no percentiles");
	for (int i = 100; i >= 1; i--)
		sophia_latencies_add(&latencies, i);
	ok(sophia_latencies_percentiles(&latencies, parts, found) && found[0] == 50 && found[1] == 95 &&
		   found[2] == 99,
	   "percentiles of 1 to 100");
	for (int i = 0; i < LATENCY_SAMPLES; i++)
		sophia_latencies_add(&latencies, 7);
	ok(sophia_latencies_percentiles(&latencies, parts, found) && found[2] == 7,
	   "old ones are forgotten");
}

int
main(void)
{
	test_opening();
	test_growing();
	test_window();
	test_latencies();
	done_testing();
	return exit_status();
}
