/*
 * Unit tests of flow/balance.c: spreading shares of work over workers, and moving few of them.
 */
#include <stdlib.h>
#include <string.h>

#include "flow/balance.h"
#include "tap.h"

#define BUSY	  BALANCE_BUSY
#define MAX_N	  40
#define ALL_OF(n) ((UINT32_C(1) << (n)) - 1)

static int
count(const Share *shares, int n, int worker, bool busy_only)
{
	int found = 0;

	for (int i = 0; i < n; i++)
		found += shares[i].worker == worker && (!busy_only || shares[i].backlog >= BUSY);
	return found;
}

static int
moved(const Share *before, const Share *after, int n)
{
	int found = 0;

	for (int i = 0; i < n; i++)
		found += before[i].worker >= 0 && before[i].worker != after[i].worker;
	return found;
}

static void
test_new(void)
{
	Share shares[6] = {{-1, 0}, {-1, 0}, {-1, BUSY}, {-1, 0}, {-1, BUSY}, {-1, 0}};
	Share again[6];

	sophia_balance(shares, 6, ALL_OF(3));
	ok(count(shares, 6, 0, false) == 2 && count(shares, 6, 1, false) == 2 &&
		   count(shares, 6, 2, false) == 2,
	   "six tables on three workers are two each");
	ok(shares[2].worker != shares[4].worker, "the busy ones apart");
	memcpy(again, shares, sizeof(shares));
	sophia_balance(again, 6, ALL_OF(3));
	ok(moved(shares, again, 6) == 0, "a second look moves nothing");
	sophia_balance(again, 0, ALL_OF(3));
	ok(true, "nothing to spread");
}

static void
test_death(void)
{
	Share before[6] = {{0, 0}, {0, 0}, {1, 0}, {1, BUSY}, {2, 0}, {2, 0}};
	Share after[6];

	memcpy(after, before, sizeof(before));
	sophia_balance(after, 6, 5); /* without 1 */
	ok(moved(before, after, 6) == 2 && count(after, 6, 0, false) == 3 &&
		   count(after, 6, 2, false) == 3,
	   "what a dead worker had goes to the others, and nothing else moves");
	memcpy(before, after, sizeof(before));
	sophia_balance(after, 6, ALL_OF(3));
	ok(moved(before, after, 6) == 2 && count(after, 6, 1, false) == 2,
	   "when it is back it gets two");
	sophia_balance(after, 6, 1);
	ok(count(after, 6, 0, false) == 6, "the last worker has all");
}

static void
test_busy(void)
{
	Share before[4] = {{0, BUSY}, {0, BUSY}, {1, 0}, {1, 0}};
	Share after[4];

	memcpy(after, before, sizeof(before));
	sophia_balance(after, 4, ALL_OF(2));
	ok(count(after, 4, 0, true) == 1 && count(after, 4, 1, true) == 1, "busy ones are pulled apart");
	ok(count(after, 4, 0, false) == 2, "and the others make way");
	after[0].backlog = after[1].backlog = 0;
	memcpy(before, after, sizeof(before));
	sophia_balance(after, 4, ALL_OF(2));
	ok(moved(before, after, 4) == 0, "nothing moves when they have caught up");
}

/* Whatever stands where: the result is even, and stays. */
static void
test_random(void)
{
	bool even = true;
	bool stays = true;

	srand(1);
	for (int round = 0; round < 2000; round++)
	{
		int n = rand() % MAX_N;
		uint32_t living = 1 + rand() % 255;
		int least[2] = {MAX_N, MAX_N};
		int most[2] = {0, 0};
		Share shares[MAX_N];
		Share again[MAX_N];

		for (int i = 0; i < n; i++)
			shares[i] = (Share){rand() % 10 - 1, rand() % 2 == 0 ? BUSY : 0};
		sophia_balance(shares, n, living);
		for (int w = 0; w < 8; w++)
		{
			if ((living >> w & 1) == 0)
			{
				even &= count(shares, n, w, false) == 0;
				continue;
			}
			for (int busy = 0; busy < 2; busy++)
			{
				int its = count(shares, n, w, busy);

				least[busy] = its < least[busy] ? its : least[busy];
				most[busy] = its > most[busy] ? its : most[busy];
			}
		}
		even &= most[1] - least[1] < 2;
		memcpy(again, shares, sizeof(shares));
		sophia_balance(again, n, living);
		stays &= moved(shares, again, n) == 0;
	}
	ok(even, "busy shares are even, and nobody dead has one");
	ok(stays, "a decision stands");
}

int
main(void)
{
	test_new();
	test_death();
	test_busy();
	test_random();
	done_testing();
	return exit_status();
}
