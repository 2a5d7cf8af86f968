/*
 * budget.c
 *		What a role may spend on AI calls, and what it has: see budget.h.
 *
 * A budget counts what was written down and what still waits in shared memory, by the latest snapshot: a statement that
 * runs for hours sees what it has spent itself.  Calls that are under way elsewhere are not in it yet.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "ai/budget.h"
#include "store/statement.h"

#define UNITS 1e12 /* of UsageCounts.cost in one of the currency */

/* Runs a query about a role by the latest snapshot; whether it gives a row.  *plan is kept, NULL at first. */
static bool
ask_about_role(SPIPlanPtr *plan, const char *sql, Oid role)
{
	Oid type = OIDOID;
	Datum value = ObjectIdGetDatum(role);

	if (*plan == NULL)
	{
		SPIPlanPtr made = SPI_prepare(sql, 1, &type);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare a query: %s", SPI_result_code_string(SPI_result));
		*plan = made;
	}
	if (SPI_execute_snapshot(*plan, &value, NULL, GetLatestSnapshot(), InvalidSnapshot, true, false,
							 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the budgets");
	return SPI_processed > 0;
}

char *
sophia_budget_problem(const Call *call)
{
	const char *name =
		call->apart != NULL ? call->apart->role_name : GetUserNameFromId(GetOuterUserId(), true);

	return psprintf("role \"%s\" has used up its budget for AI calls", name);
}

double
sophia_budget_left(Oid role)
{
	static SPIPlanPtr any_plan = NULL;
	static SPIPlanPtr left_plan = NULL;
	double left = get_float8_infinity();
	bool null;

	SPI_connect();
	/* most roles have none, and what is spent takes longer to find out */
	if (ask_about_role(&any_plan, "SELECT FROM sophia.budgets AS b WHERE b.role = $1", role) &&
		ask_about_role(&left_plan,
					   "SELECT (l.amount - l.spent)::float8 FROM sophia.budgets_left($1) AS l"
					   " ORDER BY 1 LIMIT 1",
					   role))
		left = DatumGetFloat8(sophia_result(0, 1, &null));
	SPI_finish();
	return left;
}

/* What tokens cost at a price of a million of them, in 1e-12 of the currency. */
static int64
cost_of(int64 tokens, Datum price)
{
	double one = DatumGetFloat8(DirectFunctionCall1(numeric_float8, price));

	return llrint(Max(tokens, 0) * one * (UNITS / 1e6));
}

void
sophia_budget_count(UsageCounts *counts, const Profile *profile, const Outcome *outcome)
{
	counts->calls++;
	counts->cache_hits += outcome->cached;
	counts->ms += outcome->ms;
	counts->errors += outcome->sqlstate != 0;
	counts->tokens_in += Max(outcome->tokens_in, 0);
	counts->tokens_out += Max(outcome->tokens_out, 0);
	if (profile->has_price && outcome->tokens_in >= 0)
		counts->cost += cost_of(outcome->tokens_in, profile->price_in) +
						cost_of(outcome->tokens_out, profile->price_out);
}

void
sophia_budget_keep(const Call *call, const UsageCounts *counts)
{
	UsageKey key;
	TimestampTz now = GetCurrentTimestamp();

	if (counts->calls == 0)
		return;
	memset(&key, 0, sizeof(key));
	key.hour = now - (now % USECS_PER_HOUR + USECS_PER_HOUR) % USECS_PER_HOUR;
	key.database = MyDatabaseId;
	key.role = sophia_call_role(call);
	strlcpy(key.function, call->function, sizeof(key.function));
	strlcpy(key.model, call->profile->model, sizeof(key.model));
	sophia_usage_add(&key, counts);
}
