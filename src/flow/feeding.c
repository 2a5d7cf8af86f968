/*
 * feeding.c
 *		The worker's part in tables that Estuary writes itself: see feeding.h.  What a slice is, and what becomes of an error,
 *		stands in sql/47_adoption.sql, because sessions may do the same.
 */
#include "postgres.h"

#include "flow/feeding.h"

#include "base/clock.h"
#include "base/guard.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "flow/attempt.h"
#include "shared/registry.h"
#include "store/statement.h"

/* Looks this often for what nobody announced: a table that was made anew, rows of a prepared transaction. */
#define LOOK_MS 5000

/* Comes back after a failure at the earliest, and to an extension that somebody is altering. */
#define RETRY_MS 200

/* Tables take turns of one slice each, so that streams do not wait for all of them. */
static int64 look_at;	   /* when to look, whatever was announced */
static int32 last_fed;	   /* the table of the last turn, 0 = a round begins */
static bool another_round; /* there was more in this one, or will be */

/* Feeds a slice of the next table; false at the end of a round. */
static bool
feed_next(void)
{
	static Statement statement = {
		"SELECT a.adoption, sophia.feed_adoption(a.adoption, false) FROM (SELECT adoption"
		" FROM sophia.adoptions WHERE adoption > $1 ORDER BY adoption LIMIT 1) AS a",
		1,
		{INT4OID}};
	bool null;

	if (sophia_statement_run(&statement, (Datum[]){Int32GetDatum(last_fed)}, NULL) == 0)
		return false;
	last_fed = DatumGetInt32(sophia_result(0, 1, &null));
	another_round |= DatumGetBool(sophia_result(0, 2, &null));
	return true;
}

/* Milliseconds until a table that failed is to be tried again, or all are to be looked at. */
static int64
until_retry(void)
{
	static Statement statement = {
		"SELECT (extract(epoch FROM min(retry_at) - pg_catalog.clock_timestamp()) * 1000)::bigint"
		" FROM sophia.adoptions JOIN sophia.here USING (system_identifier, database_oid)"};
	bool null;
	Datum result;

	sophia_statement_run(&statement, NULL, NULL);
	result = sophia_result(0, 1, &null);
	return null ? LOOK_MS : Min(Max(DatumGetInt64(result), RETRY_MS), LOOK_MS);
}

/* One turn; *argument, an int64, becomes the milliseconds until the next one. */
static void
feed(void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	int64 *wait = argument;

	sophia_transaction_begin("feeding adopted tables");
	if (!sophia_guard_extension())
		*wait = OidIsValid(get_extension_oid("sophia_stack", true)) ? RETRY_MS : LOOK_MS;
	else if (feed_next())
		*wait = 0;
	else
	{
		*wait = another_round ? 0 : until_retry();
		last_fed = 0;
		another_round = false;
	}
	sophia_transaction_commit(context);
}

/* The first worker that runs feeds; for a moment it may be two, which is no harm. */
static bool
lower_worker_runs(void)
{
	return (sophia_registry_living_workers() &
			(((uint32) 1 << sophia_registry_worker_index()) - 1)) != 0;
}

int64
sophia_feeding_turn(void)
{
	int64 wait = LOOK_MS;
	Failure failure;

	if (lower_worker_runs())
		return sophia_clock_ms() + LOOK_MS;
	if (sophia_registry_rows_landed())
	{
		another_round |= last_fed != 0;
		look_at = 0;
	}
	if (sophia_clock_ms() < look_at)
		return look_at;
	if (!sophia_attempt(feed, &wait, &failure))
		last_fed = 0;
	look_at = sophia_clock_ms() + wait;
	return look_at;
}
