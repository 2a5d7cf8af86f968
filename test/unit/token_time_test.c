/*
 * token_time_test.c
 *		Unit tests of flow/token_time.c: how long tokens last by clocks that differ, and how often
 *		another one is wanted.
 */
#include "flow/token_time.h"

#include "tap.h"

#define SECOND 1000

static void
test_life(void)
{
	ok(sophia_token_life_ms(1000, 4600, 1000) == 3600 * SECOND, "clocks agree");
	ok(sophia_token_life_ms(1000, 4600, 4000) == 600 * SECOND, "a token that is older");
	ok(sophia_token_life_ms(1000, 4600, 5000) == 3600 * SECOND, "our clock is far ahead");
	ok(sophia_token_life_ms(1000, 4600, 10) == 3600 * SECOND, "our clock is behind");
	ok(sophia_token_life_ms(0, 4600, 1000) == 3600 * SECOND, "it does not say when it was issued");
	ok(sophia_token_life_ms(0, 4600, 5000) == 0, "it has expired for all that is known");
	ok(sophia_token_life_ms(4600, 4600, 4600) == 0, "it never was valid");
	ok(sophia_token_life_ms(1, INT64_C(9000000000000000), 1) == INT64_C(86400) * SECOND, "a day");
}

static void
test_renewal(void)
{
	ok(sophia_token_renew_after_ms(3600 * SECOND) == 3480 * SECOND, "two minutes ahead");
	ok(sophia_token_renew_after_ms(240 * SECOND) == 120 * SECOND, "at half of a short life");
	ok(sophia_token_renew_after_ms(100 * SECOND) == 50 * SECOND, "at half of a shorter one");
	ok(sophia_token_renew_after_ms(1) == 2 * SECOND, "but not all the time");
}

/* Tokens that are refused as soon as they are granted: returns when the last of n was replaced. */
static int64_t
refuse_tokens(Demand *demand, uint64_t first, int n, int64_t now)
{
	for (int i = 0; i < n; i++)
	{
		int64_t granted_at = now;

		while (!sophia_demand_raise(demand, first + i, granted_at, now))
			now += SECOND;
	}
	return now;
}

static void
test_demand(void)
{
	Demand demand = {0};
	int64_t hour = 3600 * SECOND;

	ok(sophia_demand_raise(&demand, 1, 0, hour), "a token that was good is replaced at once");
	ok(sophia_demand_raise(&demand, 1, 0, hour), "and stays to be replaced");
	ok(!sophia_demand_raise(&demand, 2, hour, hour), "but the next one is not");
	ok(!sophia_demand_raise(&demand, 2, hour, hour + 14 * SECOND), "for a while");
	ok(sophia_demand_raise(&demand, 2, hour, hour + 15 * SECOND), "which ends");
	ok(sophia_demand_raise(&demand, 3, hour + 15 * SECOND, hour + 76 * SECOND),
	   "one that was good for a minute is replaced at once again");

	demand = (Demand){0};
	ok(refuse_tokens(&demand, 1, 1, 0) == 0, "the first token is replaced at once, however new");
	ok(refuse_tokens(&demand, 2, 5, 0) == (15 + 30 + 60 + 120 + 240) * SECOND, "waits double");
	ok(refuse_tokens(&demand, 7, 40, 0) == 40 * 300 * SECOND, "up to five minutes");
}

int
main(void)
{
	test_life();
	test_renewal();
	test_demand();
	done_testing();
	return exit_status();
}
