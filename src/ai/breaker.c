/*
 * breaker.c
 *		Circuit breaker, window and latencies of an address: see breaker.h.
 */
#include "ai/breaker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- breaker ---- */

bool
sophia_breaker_allows(Breaker *breaker, int64_t now)
{
	if (breaker->state == BREAKER_OPEN && now >= breaker->open_until)
		breaker->state = BREAKER_HALF_OPEN;
	return breaker->state == BREAKER_CLOSED ||
		   (breaker->state == BREAKER_HALF_OPEN && !breaker->probing);
}

void
sophia_breaker_sent(Breaker *breaker)
{
	breaker->probing = breaker->state == BREAKER_HALF_OPEN;
}

void
sophia_breaker_succeeded(Breaker *breaker)
{
	breaker->state = BREAKER_CLOSED;
	breaker->failures = 0;
	breaker->opened = 0;
	breaker->probing = false;
}

static void
open_breaker(Breaker *breaker, int64_t now)
{
	int64_t wait = breaker->base_ms;

	for (int i = 0; i < breaker->opened && wait < BREAKER_LONGEST_MS; i++)
		wait *= 2;
	if (breaker->opened > 0 && wait > BREAKER_LONGEST_MS)
		wait = breaker->base_ms > BREAKER_LONGEST_MS ? breaker->base_ms : BREAKER_LONGEST_MS;
	breaker->opened++;
	breaker->state = BREAKER_OPEN;
	breaker->open_until = now + wait;
	breaker->probing = false;
}

void
sophia_breaker_failed(Breaker *breaker, int64_t now)
{
	breaker->failures++;
	if (breaker->most_failures == 0)
		return;
	if (breaker->state == BREAKER_HALF_OPEN ||
		(breaker->state == BREAKER_CLOSED && breaker->failures >= breaker->most_failures))
		open_breaker(breaker, now);
}

void
sophia_breaker_forget(Breaker *breaker)
{
	breaker->probing = false;
}

/* ---- window ---- */

void
sophia_window_init(Window *window, int most)
{
	window->size = window->most = most;
	window->halved_at = 0;
}

void
sophia_window_grow(Window *window)
{
	window->size += 1 / window->size;
	if (window->size > window->most)
		window->size = window->most;
}

void
sophia_window_shrink(Window *window, int64_t sent_at, int64_t now)
{
	if (sent_at < window->halved_at)
		return;
	window->size = window->size < 2 ? 1 : window->size / 2;
	window->halved_at = now;
}

/* ---- latencies ---- */

void
sophia_latencies_add(Latencies *latencies, int64_t us)
{
	latencies->us[latencies->count++ % LATENCY_SAMPLES] = us > INT32_MAX ? INT32_MAX : (int32_t) us;
}

static int
compare_us(const void *a, const void *b)
{
	int32_t x = *(const int32_t *) a;
	int32_t y = *(const int32_t *) b;

	return x < y ? -1 : x > y;
}

bool
sophia_latencies_percentiles(const Latencies *latencies, const double parts[3], int32_t found[3])
{
	int n = latencies->count < LATENCY_SAMPLES ? (int) latencies->count : LATENCY_SAMPLES;
	int32_t sorted[LATENCY_SAMPLES];

	if (n == 0)
		return false;
	memcpy(sorted, latencies->us, sizeof(int32_t) * n);
	qsort(sorted, n, sizeof(int32_t), compare_us);
	for (int i = 0; i < 3; i++)
	{
		int rank = (int) ceil(parts[i] * n);

		found[i] = sorted[rank < 1 ? 0 : rank - 1];
	}
	return true;
}
