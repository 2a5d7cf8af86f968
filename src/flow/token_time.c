/*
 * token_time.c
 *		When a broker's token is replaced: see token_time.h.
 */
#include "flow/token_time.h"

#define RENEW_AHEAD_MS	   (120 * 1000)
#define SHORTEST_RENEW_MS  2000
#define LONGEST_LIFE_S	   (24 * 3600)
#define STEADY_MS		   (60 * 1000)
#define DEMAND_INTERVAL_MS (15 * 1000)
#define DEMAND_LONGEST_MS  (5 * 60 * 1000)

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

int64_t
sophia_token_life_ms(int64_t issued, int64_t expires, int64_t now)
{
	int64_t life = expires - now;

	/* By a clock of ours that is ahead it lasts too short, by one that is behind too long. */
	if (issued > 0 && (life <= 0 || expires - issued < life))
		life = expires - issued;
	return larger(smaller(life, LONGEST_LIFE_S), 0) * 1000;
}

int64_t
sophia_token_renew_after_ms(int64_t life_ms)
{
	return larger(larger(life_ms - RENEW_AHEAD_MS, life_ms / 2), SHORTEST_RENEW_MS);
}

/* How long a demand waits that was raised for so many tokens before. */
static int64_t
demand_wait(int count)
{
	if (count == 0)
		return 0;
	return smaller((int64_t) DEMAND_INTERVAL_MS << smaller(count - 1, 10), DEMAND_LONGEST_MS);
}

bool
sophia_demand_raise(Demand *demand, uint64_t number, int64_t granted_at, int64_t now)
{
	if (demand->number != number)
	{
		if (now - granted_at > STEADY_MS)
			demand->count = 0;
		demand->number = number;
		demand->due = now + demand_wait(demand->count);
		demand->count++;
		demand->met = false;
	}
	demand->met |= now >= demand->due;
	return demand->met;
}
