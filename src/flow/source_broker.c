/*
 * source_broker.c
 *		Collections in a Gazette broker: the kind `broker` of source.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "flow/broker.h"
#include "net/address.h"

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
	size_t length = strlen(source->address);

	if (length > 0 && source->address[length - 1] == '/')
		source->address[length - 1] = '\0';
	broker->source = source;
	sophia_backoff_init(&broker->refresh_backoff,
						(uint64) (uintptr_t) broker ^ (uint64) MyProcPid << 32);
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

/* What follows the scheme of an address, NULL when it is not http or https. */
static const char *
after_scheme(const char *address)
{
	if (pg_strncasecmp(address, "http://", 7) == 0)
		return address + 7;
	if (pg_strncasecmp(address, "https://", 8) == 0)
		return address + 8;
	return NULL;
}

/*
 * True for `host`, `host:port` or `[address]:port`, with an optional '/' at the end; copies the
 * host.
 */
static bool
split_authority(const char *authority, char *host, size_t host_size)
{
	bool bracketed = authority[0] == '[';
	const char *start = authority + bracketed;
	size_t length = strspn(start, bracketed ? "0123456789abcdefABCDEF:."
											: "0123456789abcdefghijklmnopqrstuvwxyz"
											  "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-_");
	const char *rest = start + length;

	if (length == 0 || length >= host_size || (bracketed && *rest++ != ']'))
		return false;
	memcpy(host, start, length);
	host[length] = '\0';
	if (*rest == ':')
	{
		size_t digits = strspn(++rest, "0123456789");

		if (digits == 0 || digits > 5 || strtol(rest, NULL, 10) > 65535)
			return false;
		rest += digits;
	}
	return strcmp(rest, "") == 0 || strcmp(rest, "/") == 0;
}

static void
broker_check_address(const char *address)
{
	const char *authority = after_scheme(address);
	char host[256];

	if (authority == NULL || !split_authority(authority, host, sizeof(host)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid broker address \"%s\"", address),
						errhint("Use http://host:port or https://host:port.")));
	if (sophia_address_refused_text(host))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid broker address \"%s\"", address),
						errdetail("Link-local addresses and those of cloud metadata are refused.")));
}

const SourceKind sophia_source_broker = {
	.name = "broker",
	.check_address = broker_check_address,
	.open = broker_open,
	.pump = broker_pump,
	.open_reader = sophia_broker_open_reader,
	.close_reader = sophia_broker_close_reader,
	.close = broker_close,
};
