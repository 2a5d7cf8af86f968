/*
 * breaker.h
 *		Circuit breaker and window of one address of a provider, and how long its answers take.
 *
 * The breaker opens after so many failures in a row.  Then nothing is sent until a while is over, which doubles each time it
 * opens again; what is sent next is the probe, alone, and what becomes of it closes or opens the breaker.
 *
 * The window is how many requests may be there at a time.  It is halved by an answer that says the server is overloaded, but
 * once only for all requests that were sent before that, and grows by one for each window of good answers (additive
 * increase, multiplicative decrease; as TCP does it: RFC 5681).
 *
 * Pure: no server call; times are milliseconds of any clock that does not go back.
 */
#ifndef SOPHIA_BREAKER_H
#define SOPHIA_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

typedef enum BreakerState
{
	BREAKER_CLOSED,
	BREAKER_OPEN,
	BREAKER_HALF_OPEN /* the probe is under way, or may be sent */
} BreakerState;

typedef struct Breaker
{
	int most_failures; /* in a row, that open it; 0 = it never opens */
	int64_t base_ms;   /* how long it is open at first */
	BreakerState state;
	int failures; /* in a row */
	int opened;	  /* how often, since it was closed */
	bool probing;
	int64_t open_until;
} Breaker;

#define BREAKER_LONGEST_MS 60000

/* Whether something may be sent now.  An open breaker whose time is over becomes half-open. */
extern bool sophia_breaker_allows(Breaker *breaker, int64_t now);

/* Something is sent, which was allowed. */
extern void sophia_breaker_sent(Breaker *breaker);

extern void sophia_breaker_succeeded(Breaker *breaker);
extern void sophia_breaker_failed(Breaker *breaker, int64_t now);

/* What was sent ended in a way that tells nothing. */
extern void sophia_breaker_forget(Breaker *breaker);

typedef struct Window
{
	double size;
	int most;
	int64_t halved_at;
} Window;

/* Begins anew with the largest window. */
extern void sophia_window_init(Window *window, int most);

/* A good answer. */
extern void sophia_window_grow(Window *window);

/* An answer of overload to a request that was sent then. */
extern void sophia_window_shrink(Window *window, int64_t sent_at, int64_t now);

/* How long the latest answers took, in microseconds. */
#define LATENCY_SAMPLES 512

typedef struct Latencies
{
	int32_t us[LATENCY_SAMPLES];
	int64_t count; /* of all */
} Latencies;

extern void sophia_latencies_add(Latencies *latencies, int64_t us);

/* Three percentiles of them, each the smallest value that so much of them does not exceed; false: there is none yet. */
extern bool sophia_latencies_percentiles(const Latencies *latencies, const double parts[3],
										 int32_t found[3]);

#endif /* SOPHIA_BREAKER_H */
