/*
 * source_broker.c
 *		Collections in a Gazette broker: the kind `broker` of source.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "flow/address.h"
#include "flow/broker.h"

static void
broker_pump(Source *source)
{
	Broker *broker = source->private;
	int64 next = sophia_broker_refresh(broker);
	ListCell *cell;

	foreach(cell, source->readers)
		next = Min(next, sophia_broker_pump_reader(lfirst(cell)));
	source->wake_at =
		next == PG_INT64_MAX
			? 0
			: TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(next - sophia_clock_ms(), 0));
}

static void
broker_open(Source *source)
{
	Broker *broker = palloc0(sizeof(Broker));

	broker->source = source;
	sophia_backoff_init(&broker->refresh_backoff,
						(uint64) (uintptr_t) broker ^ (uint64) MyProcPid << 32);
	sophia_backoff_init(&broker->list_backoff, (uint64) (uintptr_t) &broker->list ^ (uint64) MyProcPid << 32);
	source->private = broker;
}

static void
broker_close(Source *source)
{
	Broker *broker = source->private;
	ListCell *cell;

	foreach(cell, broker->journals)
		sophia_broker_end(&((BrokerJournal *) lfirst(cell))->head);
	sophia_broker_end(&broker->list);
	sophia_secret_clear(&broker->token);
}

const SourceKind sophia_source_broker = {
	.name = "broker",
	.check_address = sophia_check_broker_address,
	.open = broker_open,
	.pump = broker_pump,
	.open_reader = sophia_broker_open_reader,
	.close_reader = sophia_broker_close_reader,
	.close = broker_close,
};
