/*
 * feeding.c
 *		The worker's part in tables that Estuary writes itself: see feeding.h.  What a slice is, and what becomes of an error,
 *		stands in sql/47_adoption.sql, because sessions may do the same.
 */
#include "postgres.h"

#include "flow/feeding.h"

#include "base/clock.h"
#include "base/guard.h"
#include "commands/extension.h"
#include "flow/attempt.h"
#include "shared/registry.h"
#include "store/statement.h"

/* Looks this often for what nobody announced: a table that was made anew, rows of a prepared transaction. */
#define LOOK_MS 5000

/* Comes back after a failure at the earliest, and to an extension that somebody is altering. */
#define RETRY_MS 200

static int64 look_at; /* when to look, whatever was announced */

/* One slice of each table; *argument, an int64, becomes the milliseconds until the next look. */
static void
feed(void *argument)
{
	static Statement slices = {
		"SELECT pg_catalog.bool_or(sophia.feed_adoption(a.adoption, false)) FROM sophia.adoptions AS a"};
	static Statement retry = {
		"SELECT (extract(epoch FROM min(a.retry_at) - pg_catalog.clock_timestamp()) * 1000)::bigint"
		" FROM sophia.adoptions AS a"};
	MemoryContext context = CurrentMemoryContext;
	int64 *wait = argument;
	bool null;

	sophia_transaction_begin("feeding adopted tables");
	if (sophia_guard_extension())
	{
		Datum result;

		sophia_statement_run(&slices, NULL, NULL);
		result = sophia_result(0, 1, &null);
		*wait = !null && DatumGetBool(result) ? 0 : LOOK_MS;
		sophia_statement_run(&retry, NULL, NULL);
		result = sophia_result(0, 1, &null);
		if (!null)
			*wait = Min(*wait, Max(DatumGetInt64(result), RETRY_MS));
	}
	else
		*wait = OidIsValid(get_extension_oid("sophia_stack", true)) ? RETRY_MS : LOOK_MS;
	sophia_transaction_commit(context);
}

int64
sophia_feeding_turn(void)
{
	int64 now = sophia_clock_ms();
	int64 wait = LOOK_MS;
	Failure failure;

	if (sophia_registry_worker_index() != 0)
		return now + LOOK_MS;
	if (!sophia_registry_rows_landed() && now < look_at)
		return look_at;
	if (!sophia_attempt(feed, &wait, &failure))
		wait = LOOK_MS;
	look_at = sophia_clock_ms() + wait;
	return look_at;
}
