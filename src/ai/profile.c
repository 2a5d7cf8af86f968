/*
 * profile.c
 *		A model and its provider, as a call needs them: see profile.h.
 *
 * They are read by the snapshot of the statement, so a change of another session counts once it is committed.  What this
 * very transaction has written is refused: it may be rolled back, and must not reach the gateway before.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "ai/profile.h"
#include "store/statement.h"

#define PROVIDER_COLUMNS                                                                           \
	"p.provider, p.address, coalesce(p.secret, ''), p.changed_at,"                                 \
	" (coalesce((p.options ->> 'timeout')::numeric, 120) * 1000)::int,"                            \
	" coalesce((p.options ->> 'attempts')::int, 4),"                                               \
	" coalesce((p.options ->> 'max_connections')::int, 20),"                                       \
	" coalesce((p.options ->> 'in_flight')::int, 20),"                                             \
	" p.kind, sophia.provider_auth(p.kind, p.address, p.options),"

enum
{
	COLUMN_PROVIDER = 1,
	COLUMN_ADDRESS,
	COLUMN_SECRET,
	COLUMN_CHANGED,
	COLUMN_TIMEOUT,
	COLUMN_ATTEMPTS,
	COLUMN_CONNECTIONS,
	COLUMN_IN_FLIGHT,
	COLUMN_KIND,
	COLUMN_AUTH,
	COLUMN_UNCOMMITTED,
	COLUMN_MODEL,
	COLUMN_REMOTE,
	COLUMN_OPTIONS,
	COLUMN_DIMENSIONS,
	COLUMN_ITEMS,
	COLUMN_BYTES,
	COLUMN_PRICE_IN,
	COLUMN_PRICE_OUT,
	COLUMN_CONTEXT,
	COLUMN_ESTIMATES
};

static int
result_int(int column)
{
	bool null;
	Datum value = sophia_result(0, column, &null);

	return null ? 0 : DatumGetInt32(value);
}

/* A copy of a numeric of the result in `context`; *null where there is none. */
static Datum
result_numeric(int column, MemoryContext context, bool *null)
{
	Datum value = sophia_result(0, column, null);
	MemoryContext old = MemoryContextSwitchTo(context);

	if (!*null)
		value = NumericGetDatum(DatumGetNumericCopy(value));
	MemoryContextSwitchTo(old);
	return value;
}

/* What both queries give, in the caller's context. */
static void
read_provider(Profile *profile)
{
	bool null;

	profile->provider = sophia_result_text(0, COLUMN_PROVIDER);
	profile->address = sophia_result_text(0, COLUMN_ADDRESS);
	profile->secret = sophia_result_text(0, COLUMN_SECRET);
	profile->kind = sophia_result_text(0, COLUMN_KIND);
	profile->auth = sophia_result_text(0, COLUMN_AUTH);
	profile->generation = DatumGetTimestampTz(sophia_result(0, COLUMN_CHANGED, &null));
	profile->timeout_ms = result_int(COLUMN_TIMEOUT);
	profile->attempts = result_int(COLUMN_ATTEMPTS);
	profile->connections = result_int(COLUMN_CONNECTIONS);
	profile->in_flight = result_int(COLUMN_IN_FLIGHT);
	profile->uncommitted = DatumGetBool(sophia_result(0, COLUMN_UNCOMMITTED, &null));
}

static void
check_committed(const Profile *profile)
{
	if (profile->uncommitted)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg(
				 "provider \"%s\" or its model was changed in this transaction, so it cannot be called yet",
				 profile->provider),
			 errhint("Commit first.")));
}

static void
read_model(Profile *profile, MemoryContext context)
{
	bool null;
	bool no_price_in;
	bool no_price_out;

	profile->model = sophia_result_text(0, COLUMN_MODEL);
	profile->remote_name = sophia_result_text(0, COLUMN_REMOTE);
	profile->options = sophia_result_text(0, COLUMN_OPTIONS);
	profile->dimensions = result_int(COLUMN_DIMENSIONS);
	profile->pack_items = result_int(COLUMN_ITEMS);
	profile->pack_bytes = result_int(COLUMN_BYTES);
	profile->price_in = result_numeric(COLUMN_PRICE_IN, context, &no_price_in);
	profile->price_out = result_numeric(COLUMN_PRICE_OUT, context, &no_price_out);
	profile->context_tokens = result_int(COLUMN_CONTEXT);
	profile->estimates_tokens = DatumGetBool(sophia_result(0, COLUMN_ESTIMATES, &null));
	profile->has_price = !no_price_in && !no_price_out;
}

static void
raise_unknown_model(const char *model, const char *function)
{
	if (model != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" does not exist", model),
				 errhint("See sophia.models; sophia.create_model makes one.")));
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("there is no default model for %s", function),
		 errhint("Name a model, or have an administrator call sophia.set_default_model('%s', ...).",
				 function)));
}

bool
sophia_profile_query(SPIPlanPtr *plan, const char *sql, int n, Oid *types, Datum *values,
					 const char *nulls)
{
	if (*plan == NULL)
	{
		SPIPlanPtr made = SPI_prepare(sql, n, types);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare a query: %s", SPI_result_code_string(SPI_result));
		*plan = made;
	}
	if (SPI_execute_plan(*plan, values, nulls, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not run a query: %s", SPI_result_code_string(SPI_result));
	return SPI_processed > 0;
}

Profile *
sophia_profile_of_model(const char *model, const char *function, Datum options, bool has_options,
						bool embeds)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext context = CurrentMemoryContext;
	Profile *profile = palloc0(sizeof(Profile));
	Datum values[] = {model != NULL ? CStringGetTextDatum(model) : (Datum) 0,
					  CStringGetTextDatum(function), options, BoolGetDatum(embeds)};
	char nulls[] = {model != NULL ? ' ' : 'n', ' ', has_options ? ' ' : 'n', ' '};
	Oid types[] = {TEXTOID, TEXTOID, JSONBOID, BOOLOID};
	bool found;

	SPI_connect();
	found = sophia_profile_query(
		&plan,
		"SELECT " PROVIDER_COLUMNS
		" sophia.written_here(p.xmin) OR sophia.written_here(m.xmin), m.model, m.remote_name,"
		" CASE WHEN $4"
		"  THEN jsonb_build_object('encoding_format',"
		"   coalesce(m.options -> 'defaults' -> 'encoding_format', '\"base64\"'))"
		"  ELSE coalesce(m.options -> 'defaults', '{}') - 'encoding_format'::text END"
		"  || coalesce($3, '{}'),"
		" (m.options ->> 'dimensions')::int,"
		" coalesce((m.options -> 'limits' ->> 'items')::int, 32),"
		" coalesce((m.options -> 'limits' ->> 'bytes')::int, 262144),"
		" (m.options -> 'price' ->> 'in')::numeric, (m.options -> 'price' ->> 'out')::numeric,"
		" (m.options -> 'limits' ->> 'context')::int, m.token_count = 'estimated'"
		" FROM sophia.models AS m JOIN sophia.providers AS p USING (provider)"
		" WHERE m.model = coalesce($1,"
		"  (SELECT d.model FROM sophia.default_models AS d"
		"   WHERE d.function IN ($2, CASE WHEN $4 THEN 'embed_text' ELSE 'complete' END)"
		"   ORDER BY d.function = $2 DESC LIMIT 1))",
		4, types, values, nulls);
	MemoryContextSwitchTo(context);
	if (found)
	{
		read_provider(profile);
		read_model(profile, context);
	}
	SPI_finish();
	/* errors that callers may keep as values are raised when nothing is held any more */
	if (!found)
		raise_unknown_model(model, function);
	check_committed(profile);
	return profile;
}

Profile *
sophia_profile_of_provider(const char *provider)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext context = CurrentMemoryContext;
	Profile *profile = palloc0(sizeof(Profile));
	Datum value = CStringGetTextDatum(provider);
	Oid type = TEXTOID;

	SPI_connect();
	if (!sophia_profile_query(&plan,
							  "SELECT " PROVIDER_COLUMNS " sophia.written_here(p.xmin)"
							  " FROM sophia.providers AS p WHERE p.provider = $1",
							  1, &type, &value, NULL))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("provider \"%s\" does not exist", provider)));
	MemoryContextSwitchTo(context);
	read_provider(profile);
	SPI_finish();
	check_committed(profile);
	profile->model = "";
	return profile;
}
