/*
 * gateway_sql.c
 *		SQL entry points about providers and the gateway: checks, trying a provider, and what the gateway tells.
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "ai/address.h"
#include "ai/call.h"
#include "shared/channels.h"

PG_FUNCTION_INFO_V1(sophia_check_provider_address);
PG_FUNCTION_INFO_V1(sophia_try_provider);
PG_FUNCTION_INFO_V1(sophia_provider_states);
PG_FUNCTION_INFO_V1(sophia_request_list);

#define PROVIDER_STATE_COLUMNS 11
#define REQUEST_LIST_COLUMNS   10

/* check_provider_address(address text): raises what is wrong. */
Datum
sophia_check_provider_address(PG_FUNCTION_ARGS)
{
	bool listed;
	const char *problem =
		sophia_provider_address_problem(text_to_cstring(PG_GETARG_TEXT_PP(0)), &listed);

	if (problem != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid address of a provider: %s", problem),
			 errhint("Write http[s]://host[:port][/path], for example http://127.0.0.1:8000/v1.")));
	PG_RETURN_VOID();
}

/* What a try found, for people. */
static char *
describe(const Outcome *outcome)
{
	if (outcome->sqlstate != 0)
		return outcome->message;
	if (outcome->text.length == 0)
		return psprintf("provider answers within %.0f ms: no models", outcome->ms);
	return psprintf("provider answers within %.0f ms: %.*s", outcome->ms,
					(int) outcome->text.length, outcome->text.text);
}

/* try_provider(provider text, timeout float8, OUT ok boolean, OUT message text): timeout in seconds. */
Datum
sophia_try_provider(PG_FUNCTION_ARGS)
{
	Profile *profile = sophia_profile_of_provider(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	double timeout_ms = Max(PG_GETARG_FLOAT8(1), 0.001) * 1000;
	TextSpan input = {"models", 6};
	Call call = {.kind = CALL_MODELS,
				 .function = "check_provider",
				 .profile = profile,
				 .n = 1,
				 .inputs = &input};
	Datum values[2];
	bool nulls[2] = {false, false};
	TupleDesc row;

	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result is no composite type");
	if (timeout_ms < profile->timeout_ms)
		profile->timeout_ms = (int) timeout_ms;
	profile->attempts = 1;
	sophia_call_run(&call);
	values[0] = BoolGetDatum(call.outcomes[0].sqlstate == 0);
	values[1] = CStringGetTextDatum(describe(&call.outcomes[0]));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
}

/* provider_states(): what the gateway tells of the providers of this database. */
Datum
sophia_provider_states(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ProviderState *states = palloc(sizeof(ProviderState) * CHANNEL_PROVIDERS);

	InitMaterializedSRF(fcinfo, 0);
	sophia_channels_copy_providers(states);
	for (int i = 0; i < CHANNEL_PROVIDERS; i++)
	{
		const ProviderState *state = &states[i];
		bool nulls[PROVIDER_STATE_COLUMNS] = {false};
		Datum values[PROVIDER_STATE_COLUMNS] = {
			CStringGetTextDatum(state->name),
			Int32GetDatum(state->in_flight),
			Int32GetDatum(state->queued),
			Int64GetDatum(state->calls),
			Int64GetDatum(state->errors),
			Int64GetDatum(state->retries),
			Int32GetDatum(state->connections),
			Int64GetDatum(state->connections_created),
			Int64GetDatum(state->connections_closed),
			CStringGetTextDatum(state->last_error),
			TimestampTzGetDatum(state->last_error_at),
		};

		if (state->database != MyDatabaseId)
			continue;
		nulls[9] = nulls[10] = state->last_error_at == 0;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* request_list(): what the gateway does now, for the whole cluster. */
Datum
sophia_request_list(PG_FUNCTION_ARGS)
{
	static const char *const states[] = {"", "queued", "running", "waiting"};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	RequestEntry *entries = palloc(sizeof(RequestEntry) * CHANNEL_REQUESTS);

	InitMaterializedSRF(fcinfo, 0);
	sophia_channels_copy_requests(entries);
	for (int i = 0; i < CHANNEL_REQUESTS; i++)
	{
		const RequestEntry *entry = &entries[i];
		bool nulls[REQUEST_LIST_COLUMNS] = {false};
		Datum values[REQUEST_LIST_COLUMNS] = {
			CStringGetTextDatum(psprintf("%d." UINT64_FORMAT, entry->pid, entry->number)),
			Int32GetDatum(entry->pid),
			ObjectIdGetDatum(entry->database),
			ObjectIdGetDatum(entry->role),
			CStringGetTextDatum(entry->provider),
			CStringGetTextDatum(entry->model),
			CStringGetTextDatum(entry->function),
			CStringGetTextDatum(states[entry->state]),
			Int32GetDatum(entry->attempts),
			TimestampTzGetDatum(entry->received_at),
		};

		if (entry->state == REQUEST_FREE)
			continue;
		nulls[5] = entry->model[0] == '\0';
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
