/*
 * cache_sql.c
 *		SQL entry points of the cache of answers.
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "ai/cache.h"
#include "base/settings.h"
#include "shared/channels.h"

PG_FUNCTION_INFO_V1(sophia_cache_state);
PG_FUNCTION_INFO_V1(sophia_purge_answers);

/* purge_answers(model text, function text): both were checked; NULL = of all. */
Datum
sophia_purge_answers(PG_FUNCTION_ARGS)
{
	const char *model = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *function = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));

	PG_RETURN_INT64(sophia_cache_purge(model, function));
}

/* cache_state(): what the gateway tells of the cache's server. */
Datum
sophia_cache_state(PG_FUNCTION_ARGS)
{
	static const char *const states[] = {"off", "connecting", "up"};
	CacheState state = sophia_channels_cache();
	Datum values[] = {
		CStringGetTextDatum(states[state.state]),
		CStringGetTextDatum(sophia_cache_server),
		Int64GetDatum(state.hits),
		Int64GetDatum(state.misses),
		Int64GetDatum(state.unanswered),
		Int64GetDatum(state.stores),
		Int64GetDatum(state.errors),
		Int64GetDatum(state.connections),
		CStringGetTextDatum(state.last_error),
		TimestampTzGetDatum(state.last_error_at),
	};
	bool nulls[lengthof(values)] = {false};
	TupleDesc row;

	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result is no composite type");
	nulls[1] = sophia_cache_server[0] == '\0';
	nulls[8] = nulls[9] = state.last_error_at == 0;
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
}
