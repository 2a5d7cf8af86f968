/*
 * source_broker.c
 *		Collections in a Gazette broker: the kind `broker` of source.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "flow/address.h"
#include "flow/broker.h"

void
sophia_broker_pump(Source *source)
{
	Broker *broker = source->private;
	BrokerAccess *access = &broker->access;
	int64 next;
	int64 again_at; /* not within Min(), which evaluates its arguments twice */
	ListCell *cell;

	broker->access_seen = access->number;
	next = sophia_broker_refresh(broker);
	again_at = sophia_broker_locate(broker);
	next = Min(next, again_at);
	foreach(cell, source->readers)
	{
		again_at = sophia_broker_pump_reader(lfirst(cell));
		next = Min(next, again_at);
	}
	/* what was done may have shown that another token is needed */
	again_at = access->kind->pump(access);
	next = Min(next, again_at);
	if (access->number != broker->access_seen)
		next = sophia_clock_ms();
	source->wake_at =
		next == PG_INT64_MAX
			? 0
			: TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(next - sophia_clock_ms(), 0));
}

void
sophia_broker_open(Source *source, const BrokerAccessKind *access)
{
	Broker *broker = palloc0(sizeof(Broker));

	broker->source = source;
	broker->access.kind = access;
	broker->access.source = source;
	sophia_backoff_init(&broker->refresh_backoff,
						(uint64) (uintptr_t) broker ^ (uint64) MyProcPid << 32);
	sophia_backoff_init(&broker->list_backoff,
						(uint64) (uintptr_t) &broker->list ^ (uint64) MyProcPid << 32);
	source->private = broker;
}

void
sophia_broker_close(Source *source)
{
	Broker *broker = source->private;
	ListCell *cell;

	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		sophia_broker_end(&journal->head);
		sophia_broker_end(&journal->locate);
	}
	sophia_broker_end(&broker->list);
	broker->access.kind->close(&broker->access);
}

static void
broker_open(Source *source)
{
	sophia_broker_open(source, &sophia_access_fixed);
}

const SourceKind sophia_source_broker = {
	.name = "broker",
	.check_address = sophia_check_broker_address,
	.open = broker_open,
	.pump = sophia_broker_pump,
	.open_reader = sophia_broker_open_reader,
	.close_reader = sophia_broker_close_reader,
	.close = sophia_broker_close,
};
