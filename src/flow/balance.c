/*
 * balance.c
 *		Spreading shares of work over workers: see balance.h.  Pure: no server call.
 */
#include "flow/balance.h"

#include <stdbool.h>

/* How many shares each worker has; of them, those that keep it busy. */
typedef struct Loads
{
	int all[BALANCE_WORKERS];
	int busy[BALANCE_WORKERS];
} Loads;

static bool
is_busy(const Share *share)
{
	return share->backlog >= BALANCE_BUSY;
}

static bool
lives(uint32_t living, int worker)
{
	return worker >= 0 && worker < BALANCE_WORKERS && (living >> worker & 1) != 0;
}

static void
give(Share *share, int worker, Loads *loads)
{
	if (share->worker >= 0)
	{
		loads->all[share->worker]--;
		loads->busy[share->worker] -= is_busy(share);
	}
	share->worker = worker;
	loads->all[worker]++;
	loads->busy[worker] += is_busy(share);
}

/* The living workers that have least and most by `first`, and by `second` where that is equal. */
static void
find_extremes(uint32_t living, const int *first, const int *second, int *least, int *most)
{
	*least = *most = -1;
	for (int w = 0; w < BALANCE_WORKERS; w++)
	{
		if (!lives(living, w))
			continue;
		if (*least < 0 || first[w] < first[*least] ||
			(first[w] == first[*least] && second[w] < second[*least]))
			*least = w;
		if (*most < 0 || first[w] > first[*most] ||
			(first[w] == first[*most] && second[w] > second[*most]))
			*most = w;
	}
}

/* Shares whose worker is gone, or never was: those that are busy first. */
static void
place_orphans(Share *shares, int n, uint32_t living, Loads *loads, bool busy)
{
	for (int i = 0; i < n; i++)
	{
		int least;
		int most;

		if (shares[i].worker >= 0 || is_busy(&shares[i]) != busy)
			continue;
		find_extremes(living, busy ? loads->busy : loads->all, busy ? loads->all : loads->busy,
					  &least, &most);
		give(&shares[i], least, loads);
	}
}

/* Moves shares of one kind from who has most to who has least, while that has two less. */
static void
even_out(Share *shares, int n, uint32_t living, Loads *loads, bool busy)
{
	const int *loaded = busy ? loads->busy : loads->all;

	for (;;)
	{
		int least;
		int most;
		int i = 0;

		find_extremes(living, loaded, busy ? loads->all : loads->busy, &least, &most);
		if (loaded[most] - loaded[least] < 2)
			return;
		while (i < n && (shares[i].worker != most || is_busy(&shares[i]) != busy))
			i++;
		if (i == n)
			return;
		give(&shares[i], least, loads);
	}
}

void
sophia_balance(Share *shares, int n, uint32_t living)
{
	Loads loads = {{0}, {0}};

	for (int i = 0; i < n; i++)
	{
		int worker = shares[i].worker;

		shares[i].worker = -1;
		if (lives(living, worker))
			give(&shares[i], worker, &loads);
	}
	place_orphans(shares, n, living, &loads, true);
	place_orphans(shares, n, living, &loads, false);
	even_out(shares, n, living, &loads, true);
	even_out(shares, n, living, &loads, false);
}
