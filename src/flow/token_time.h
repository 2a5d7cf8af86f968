/*
 * token_time.h
 *		When a broker's token is replaced: before it expires, and when there is a reason.  Pure: no
 *		server call.
 *
 * Three clocks are in play: ours, the control plane's, which issues tokens, and the broker's, which
 * verifies them.  Times here are sophia_clock_ms() unless they are said to be unix seconds.
 */
#ifndef SOPHIA_TOKEN_TIME_H
#define SOPHIA_TOKEN_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* A reason to want another token than the current one before its time; zero = there was none. */
typedef struct Demand
{
	uint64_t number; /* of the token that it was raised for last; tokens count from 1 */
	int count;		 /* raised for as many tokens in a row, each soon after it was granted */
	int64_t due;	 /* not met before */
	bool met;		 /* another token is on its way */
} Demand;

/*
 * Milliseconds that a token lasts which was just granted; `issued` and `expires` are what it says
 * and `now` is our time, in unix seconds; `issued` may be 0.  At most a day, 0 = it has expired.
 */
extern int64_t sophia_token_life_ms(int64_t issued, int64_t expires, int64_t now);

/* Milliseconds after which a token that lasts so long is renewed. */
extern int64_t sophia_token_renew_after_ms(int64_t life_ms);

/*
 * Raises a demand for another token than `number`, which happens again and again while there is a
 * reason; true once it is met.  At once, but for tokens of which each follows within a minute of its
 * grant on another of no use: then after 15 s, doubled with each up to 5 min, which gives a token
 * that is not valid yet the time to become so.
 */
extern bool sophia_demand_raise(Demand *demand, uint64_t number, int64_t granted_at, int64_t now);

#endif /* SOPHIA_TOKEN_TIME_H */
