/*
 * source_estuary.c
 *		Collections of Estuary, whose control plane hands out broker, token and journals: the kind
 *		`estuary` of source.h.
 *
 * The journals of a collection begin with a prefix that ends with its generation.  When the
 * collection is reset in Estuary it gets a new generation: the journals of the old one are not read
 * any further, and those of the new one are read from their beginning.
 */
#include "postgres.h"

#include "flow/address.h"
#include "flow/broker.h"
#include "flow/control_plane.h"

static bool
begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Drops the journals that are not of the present generation. */
static void
drop_old_generation(Broker *broker)
{
	const char *prefix = broker->access.prefix;
	bool dropped = false;
	ListCell *cell;

	if (prefix == NULL || broker->source->collection == NULL)
		return;
	foreach(cell, broker->journals)
	{
		BrokerJournal *journal = lfirst(cell);

		if (journal->entry->removed || begins_with(journal->entry->name, prefix))
			continue;
		journal->entry->removed = dropped = true;
	}
	if (dropped)
		sophia_broker_list_anew(broker);
}

static void
estuary_pump(Source *source)
{
	Broker *broker = source->private;

	broker->access.kind->pump(&broker->access);
	if (broker->access.number != broker->access_seen)
	{
		drop_old_generation(broker);
		/* what the last token did not show, this one may */
		broker->relist = true;
	}
	sophia_broker_pump(source);
}

static void
estuary_open(Source *source)
{
	Broker *broker;

	sophia_broker_open(source, &sophia_access_control_plane);
	broker = source->private;
	sophia_control_plane_open(&broker->access);
}

const SourceKind sophia_source_estuary = {
	.name = "estuary",
	.check_address = sophia_check_estuary_address,
	.open = estuary_open,
	.pump = estuary_pump,
	.open_reader = sophia_broker_open_reader,
	.close_reader = sophia_broker_close_reader,
	.close = sophia_broker_close,
};
