/*
 * usage_writer.c
 *		What the jobs worker does for usage: writes what AI calls have used from shared memory to its database.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "ai/jobs.h"
#include "base/guard.h"
#include "shared/usage.h"
#include "store/statement.h"

static void
write_entry(const UsageEntry *entry)
{
	static Statement statement = {
		"INSERT INTO sophia.usage_hours AS u (hour, role, function, model, calls, cache_hits,"
		" tokens_in, tokens_out, errors, ms, cost)"
		" VALUES ($1, pg_get_userbyid($2), $3, $4, $5, $6, $7, $8, $9, $10, $11 / 1e12)"
		" ON CONFLICT (hour, role, function, model) DO UPDATE SET calls = u.calls + excluded.calls,"
		" cache_hits = u.cache_hits + excluded.cache_hits, tokens_in = u.tokens_in + excluded.tokens_in,"
		" tokens_out = u.tokens_out + excluded.tokens_out, errors = u.errors + excluded.errors,"
		" ms = u.ms + excluded.ms, cost = u.cost + excluded.cost",
		11,
		{TIMESTAMPTZOID, OIDOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		 INT8OID, NUMERICOID}};
	const UsageCounts *counts = &entry->counts;
	Datum values[] = {
		TimestampTzGetDatum(entry->key.hour),
		ObjectIdGetDatum(entry->key.role),
		CStringGetTextDatum(entry->key.function),
		CStringGetTextDatum(entry->key.model),
		Int64GetDatum(counts->calls),
		Int64GetDatum(counts->cache_hits),
		Int64GetDatum(counts->tokens_in),
		Int64GetDatum(counts->tokens_out),
		Int64GetDatum(counts->errors),
		Int64GetDatum(counts->ms),
		NumericGetDatum(int64_to_numeric(counts->cost)),
	};

	sophia_statement_run(&statement, values, NULL);
}

bool
sophia_usage_write(MemoryContext context)
{
	UsageEntry *entries;
	int n = sophia_usage_copy(MyDatabaseId, &entries);
	bool held;

	if (n == 0)
		return false;
	sophia_transaction_begin("writing the usage of AI functions");
	held = OidIsValid(get_extension_oid("sophia_stack", true)) && sophia_guard_extension();
	for (int i = 0; held && i < n; i++)
		write_entry(&entries[i]);
	sophia_transaction_commit(context);
	if (held)
		sophia_usage_written(entries, n);
	return held;
}
