/*
 * profile.c
 *		A model and its provider, as a call needs them: see profile.h.
 *
 * They are read by the snapshot of the statement, so a change of another session counts once it is committed.  What this
 * very transaction has written is refused: it may be rolled back, and must not reach the gateway before.
 *
 * Reading all of a profile costs more than the rest of a call.  So profiles are remembered with the versions of the rows
 * that they are from, and a call looks up these first.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "ai/profile.h"
#include "base/settings.h"
#include "store/statement.h"

#define PROVIDER_COLUMNS                                                                           \
	"p.provider, p.address, coalesce(p.secret, ''), p.changed_at,"                                 \
	" (coalesce((p.options ->> 'timeout')::numeric, 120) * 1000)::int,"                            \
	" coalesce((p.options ->> 'attempts')::int, 4),"                                               \
	" coalesce((p.options ->> 'max_connections')::int, 20),"                                       \
	" coalesce((p.options ->> 'in_flight')::int, 20),"                                             \
	" coalesce((p.options ->> 'min_connections')::int, 5),"                                        \
	" (coalesce((p.options ->> 'idle_expiry')::numeric, 300) * 1000)::int,"                        \
	" coalesce((p.options ->> 'breaker_failures')::int, 5),"                                       \
	" (coalesce((p.options ->> 'breaker_seconds')::numeric, 5) * 1000)::int,"                      \
	" coalesce((p.options ->> 'queue_bytes')::int, 33554432), p.options ->> 'ca_file',"            \
	" CASE WHEN p.options ? 'replicas' THEN (SELECT string_agg(rtrim(r, '/'), E'\\n' ORDER BY n)"  \
	"  FROM jsonb_array_elements_text(p.options -> 'replicas') WITH ORDINALITY AS e (r, n)) END,"  \
	" p.kind, sophia.provider_auth(p.kind, p.address, p.options), sophia.statement_session(p.options),"

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
	COLUMN_MIN_CONNECTIONS,
	COLUMN_IDLE,
	COLUMN_BREAKER_FAILURES,
	COLUMN_BREAKER,
	COLUMN_QUEUE_BYTES,
	COLUMN_CA_FILE,
	COLUMN_REPLICAS,
	COLUMN_KIND,
	COLUMN_AUTH,
	COLUMN_SESSION,
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
	COLUMN_ESTIMATES,
	COLUMN_FALLBACK,
	COLUMN_CACHE_TTL
};

static int
result_int(int column)
{
	bool null;
	Datum value = sophia_result(0, column, &null);

	return null ? 0 : DatumGetInt32(value);
}

static char *
text_or_empty(int column)
{
	bool null;

	(void) sophia_result(0, column, &null);
	return null ? "" : sophia_result_text(0, column);
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
	char *replicas;

	profile->provider = sophia_result_text(0, COLUMN_PROVIDER);
	profile->address = sophia_result_text(0, COLUMN_ADDRESS);
	profile->secret = sophia_result_text(0, COLUMN_SECRET);
	profile->kind = sophia_result_text(0, COLUMN_KIND);
	profile->auth = sophia_result_text(0, COLUMN_AUTH);
	profile->session = sophia_result_text(0, COLUMN_SESSION);
	profile->generation = DatumGetTimestampTz(sophia_result(0, COLUMN_CHANGED, &null));
	profile->timeout_ms = result_int(COLUMN_TIMEOUT);
	profile->attempts = result_int(COLUMN_ATTEMPTS);
	profile->connections = result_int(COLUMN_CONNECTIONS);
	profile->in_flight = result_int(COLUMN_IN_FLIGHT);
	profile->min_connections = result_int(COLUMN_MIN_CONNECTIONS);
	profile->idle_ms = result_int(COLUMN_IDLE);
	profile->breaker_failures = result_int(COLUMN_BREAKER_FAILURES);
	profile->breaker_ms = result_int(COLUMN_BREAKER);
	profile->queue_bytes = result_int(COLUMN_QUEUE_BYTES);
	profile->ca_file = text_or_empty(COLUMN_CA_FILE);
	replicas = text_or_empty(COLUMN_REPLICAS);
	profile->addresses =
		replicas[0] == '\0' ? profile->address : psprintf("%s\n%s", profile->address, replicas);
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
	profile->fallback = text_or_empty(COLUMN_FALLBACK);
	profile->cache_ttl = result_int(COLUMN_CACHE_TTL);
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

/* ---- profiles that are remembered ---- */

#define REMEMBERED 16

/* The versions of the rows that a profile is from: a row is never changed, but written anew. */
typedef struct RowVersions
{
	TransactionId provider_xmin;
	TransactionId model_xmin;
	ItemPointerData provider_place;
	ItemPointerData model_place;
} RowVersions;

typedef struct Remembered
{
	MemoryContext context; /* NULL = nothing is remembered here */
	MemoryContext before;  /* of what was remembered last, which a call may still use */
	char *model;		   /* "" = the default one of the function */
	char *function;
	bool embeds;
	RowVersions versions;
	Profile profile;
} Remembered;

static Remembered remembered[REMEMBERED];
static int next_place = 0;

static Remembered *
find_remembered(const char *model, const char *function, bool embeds)
{
	for (int i = 0; i < REMEMBERED; i++)
	{
		Remembered *entry = &remembered[i];

		if (entry->context != NULL && entry->embeds == embeds && strcmp(entry->model, model) == 0 &&
			strcmp(entry->function, function) == 0)
			return entry;
	}
	return NULL;
}

/* The present versions; false where there is no such model. */
static bool
read_versions(const char *model, const char *function, bool embeds, RowVersions *versions)
{
	static SPIPlanPtr plan_of_model = NULL;
	static SPIPlanPtr plan_of_default = NULL;
	bool named = model[0] != '\0';
	Datum values[] = {CStringGetTextDatum(named ? model : function), BoolGetDatum(embeds)};
	Oid types[] = {TEXTOID, BOOLOID};
	bool null;

	if (!sophia_profile_query(
			named ? &plan_of_model : &plan_of_default,
			named ? "SELECT p.xmin, p.ctid, m.xmin, m.ctid"
					" FROM sophia.models AS m JOIN sophia.providers AS p USING (provider)"
					" WHERE m.model = $1"
				  : "SELECT p.xmin, p.ctid, m.xmin, m.ctid"
					" FROM sophia.default_models AS d JOIN sophia.models AS m USING (model)"
					"  JOIN sophia.providers AS p USING (provider)"
					" WHERE d.function IN ($1, CASE WHEN $2 THEN 'embed_text' ELSE 'complete' END)"
					" ORDER BY d.function = $1 DESC LIMIT 1",
			named ? 1 : 2, types, values, NULL))
		return false;
	versions->provider_xmin = DatumGetTransactionId(sophia_result(0, 1, &null));
	versions->provider_place = *(ItemPointer) DatumGetPointer(sophia_result(0, 2, &null));
	versions->model_xmin = DatumGetTransactionId(sophia_result(0, 3, &null));
	versions->model_place = *(ItemPointer) DatumGetPointer(sophia_result(0, 4, &null));
	return true;
}

static bool
same_versions(const RowVersions *a, const RowVersions *b)
{
	return a->provider_xmin == b->provider_xmin && a->model_xmin == b->model_xmin &&
		   ItemPointerEquals((ItemPointer) &a->provider_place, (ItemPointer) &b->provider_place) &&
		   ItemPointerEquals((ItemPointer) &a->model_place, (ItemPointer) &b->model_place);
}

/* Takes the place of what was remembered of the same, or of what was remembered first. */
static void
remember(const char *model, const char *function, bool embeds, const RowVersions *versions,
		 const Profile *profile, MemoryContext context)
{
	Remembered *entry = find_remembered(model, function, embeds);

	if (entry == NULL)
		entry = &remembered[next_place++ % REMEMBERED];
	if (entry->before != NULL)
		MemoryContextDelete(entry->before);
	entry->before = entry->context;
	MemoryContextSetParent(context, TopMemoryContext);
	entry->context = context;
	entry->model = MemoryContextStrdup(context, model);
	entry->function = MemoryContextStrdup(context, function);
	entry->embeds = embeds;
	entry->versions = *versions;
	entry->profile = *profile;
}

/* ---- reading ---- */

/* Reads all of a profile into the caller's context; false where there is no such model. */
static bool
read_profile(Profile *profile, const char *model, const char *function, Datum options,
			 bool has_options, bool embeds, MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	Datum values[] = {model != NULL ? CStringGetTextDatum(model) : (Datum) 0,
					  CStringGetTextDatum(function), options, BoolGetDatum(embeds)};
	char nulls[] = {model != NULL ? ' ' : 'n', ' ', has_options ? ' ' : 'n', ' '};
	Oid types[] = {TEXTOID, TEXTOID, JSONBOID, BOOLOID};
	MemoryContext old;

	if (!sophia_profile_query(
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
			" (m.options -> 'limits' ->> 'context')::int, m.token_count = 'estimated',"
			" CASE WHEN m.options ? 'fallback' THEN (SELECT string_agg(f, E'\\n' ORDER BY n)"
			"  FROM jsonb_array_elements_text(m.options -> 'fallback') WITH ORDINALITY AS e (f, n)) END,"
			" coalesce((m.options ->> 'cache_ttl')::int, 604800)"
			" FROM sophia.models AS m JOIN sophia.providers AS p USING (provider)"
			" WHERE m.model = coalesce($1,"
			"  (SELECT d.model FROM sophia.default_models AS d"
			"   WHERE d.function IN ($2, CASE WHEN $4 THEN 'embed_text' ELSE 'complete' END)"
			"   ORDER BY d.function = $2 DESC LIMIT 1))",
			4, types, values, nulls))
		return false;
	old = MemoryContextSwitchTo(context);
	read_provider(profile);
	read_model(profile, context);
	MemoryContextSwitchTo(old);
	return true;
}

/* Forgetting a person makes a new one.  Only asked for where answers are kept. */
static int64
read_cache_generation(void)
{
	static SPIPlanPtr plan = NULL;
	bool null;

	if (!sophia_cache || sophia_cache_server[0] == '\0' ||
		!sophia_profile_query(&plan, "SELECT last_value FROM sophia.cache_generation", 0, NULL,
							  NULL, NULL))
		return 0;
	return DatumGetInt64(sophia_result(0, 1, &null));
}

Profile *
sophia_profile_of_model(const char *model, const char *function, Datum options, bool has_options,
						bool embeds)
{
	const char *name = model != NULL ? model : "";
	Profile *profile = palloc0(sizeof(Profile));
	MemoryContext context = CurrentMemoryContext;
	Remembered *entry;
	RowVersions versions;
	bool found;

	SPI_connect();
	if (has_options)
		found = read_profile(profile, model, function, options, true, embeds, context);
	else
		found = read_versions(name, function, embeds, &versions);
	if (found && !has_options)
	{
		entry = find_remembered(name, function, embeds);
		if (entry != NULL && same_versions(&entry->versions, &versions))
			*profile = entry->profile;
		else
		{
			/* it is the caller's until it is whole, so that an error leaves nothing behind */
			MemoryContext own =
				AllocSetContextCreate(context, "sophia_stack profile", ALLOCSET_SMALL_SIZES);

			found = read_profile(profile, model, function, options, false, embeds, own);
			if (found && !profile->uncommitted)
				remember(name, function, embeds, &versions, profile, own);
		}
	}
	if (found)
		profile->cache_generation = read_cache_generation();
	SPI_finish();
	/* errors that callers may keep as values are raised when nothing is held any more */
	if (!found)
		raise_unknown_model(model, function);
	check_committed(profile);
	profile->call_options = options;
	profile->has_call_options = has_options;
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
	profile->model = profile->fallback = "";
	return profile;
}
