/*
 * client.c
 *		The session's side of the gateway: see client.h.
 *
 * The channel is made at the first call and kept.  A call that ends by an error while answers are outstanding drops it,
 * which is how the gateway learns that nobody waits for them; so a channel that is kept is always empty.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "ai/client.h"
#include "base/clock.h"
#include "base/settings.h"
#include "net/client_wait.h"
#include "shared/channels.h"
#include "shared/registry.h"

/* How long a call waits for a gateway that is just being started. */
#define GATEWAY_PATIENCE_MS 5000
#define GATEWAY_POLL_MS		20

typedef struct Channel
{
	dsm_segment *segment; /* NULL = there is none */
	shm_mq_handle *to_gateway;
	shm_mq_handle *from_gateway;
	uint64 gateway; /* the run of the gateway that it was announced to */
} Channel;

static Channel channel;

static void
close_channel(void)
{
	if (channel.segment == NULL)
		return;
	sophia_channels_withdraw();
	shm_mq_detach(channel.to_gateway);
	shm_mq_detach(channel.from_gateway);
	dsm_detach(channel.segment);
	channel.segment = NULL;
}

/* before_shmem_exit */
static void
close_at_exit(int code, Datum arg)
{
	close_channel();
}

static void
raise_absent(void)
{
	if (!sophia_registry_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("there is no gateway"),
				 errhint("Add sophia_stack to shared_preload_libraries and restart the server.")));
	if (!sophia_enabled)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the gateway is paused"),
			 errhint(
				 "The setting sophia_stack.enabled is off. Set it to on and reload the configuration.")));
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the gateway does not run"),
		 errhint(
			 "See sophia.workers and the server's log. A free place in max_worker_processes is needed.")));
}

static uint64
await_gateway(void)
{
	int64 deadline = sophia_clock_ms() + GATEWAY_PATIENCE_MS;
	uint64 gateway;

	if (!sophia_registry_available() || !sophia_enabled)
		raise_absent();
	while ((gateway = sophia_channels_gateway()) == 0)
	{
		if (sophia_clock_ms() >= deadline)
			raise_absent();
		sophia_client_wait(GATEWAY_POLL_MS);
	}
	return gateway;
}

static dsm_segment *
make_segment(void)
{
	dsm_segment *segment = dsm_create(sophia_channel_size(), DSM_CREATE_NULL_IF_MAXSEGMENTS);

	if (segment == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many dynamic shared memory segments, so there is none for a call")));
	return segment;
}

/* Makes a channel; until it is whole, an error gives the segment back. */
static void
make_channel(void)
{
	dsm_segment *segment = make_segment();
	shm_mq *to_gateway;
	shm_mq *from_gateway;
	MemoryContext old;

	to_gateway = shm_mq_create(sophia_channel_queue(segment, true), CHANNEL_QUEUE_BYTES);
	from_gateway = shm_mq_create(sophia_channel_queue(segment, false), CHANNEL_QUEUE_BYTES);
	shm_mq_set_sender(to_gateway, MyProc);
	shm_mq_set_receiver(from_gateway, MyProc);
	old = MemoryContextSwitchTo(TopMemoryContext);
	channel.to_gateway = shm_mq_attach(to_gateway, segment, NULL);
	channel.from_gateway = shm_mq_attach(from_gateway, segment, NULL);
	MemoryContextSwitchTo(old);
	dsm_pin_mapping(segment);
	channel.segment = segment;
}

/* Makes the channel of this session, unless it has one to the gateway that is up. */
static void
open_channel(void)
{
	static bool registered = false;
	uint64 gateway = await_gateway();

	if (!registered)
		before_shmem_exit(close_at_exit, (Datum) 0);
	registered = true;
	while (channel.segment == NULL || channel.gateway != gateway)
	{
		close_channel();
		make_channel();
		channel.gateway = sophia_channels_announce(gateway, channel.segment) ? gateway : 0;
		gateway = await_gateway();
	}
}

static void
raise_lost(void)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the gateway ended while the call was under way"),
					errdetail("Whether the provider has answered is not known."),
					errhint("It is started again by itself. Run the statement again.")));
}

/* Whether that result moved a message; raises an error when the gateway is gone. */
static bool
moved(shm_mq_result result)
{
	if (result == SHM_MQ_DETACHED)
		raise_lost();
	return result == SHM_MQ_SUCCESS;
}

/* Sends what there is to send, as far as there is room; false when nothing could be sent. */
static bool
send_some(Exchange *exchange, StringInfo message, int *outstanding)
{
	bool progress = false;

	while (*outstanding < exchange->window)
	{
		if (message->len == 0 && !exchange->next(exchange, message))
			break;
		/* A message that went through in part must be offered again as it is. */
		if (!moved(shm_mq_send(channel.to_gateway, message->len, message->data, true, true)))
			break;
		resetStringInfo(message);
		(*outstanding)++;
		progress = true;
	}
	return progress;
}

static bool
take_some(Exchange *exchange, int *outstanding)
{
	bool progress = false;
	AnswerHeader header;
	Size length;
	void *data;

	while (*outstanding > 0 && moved(shm_mq_receive(channel.from_gateway, &length, &data, true)))
	{
		memcpy(&header, data, sizeof(header));
		(*outstanding)--;
		progress = true;
		exchange->take(exchange, &header, (char *) data + sizeof(header), length - sizeof(header));
	}
	return progress;
}

static void
run_exchange(Exchange *exchange)
{
	StringInfoData message;
	int outstanding = 0;

	initStringInfo(&message);
	while (true)
	{
		bool sent = send_some(exchange, &message, &outstanding);
		bool taken = take_some(exchange, &outstanding);

		if (sent || taken)
			continue;
		if (outstanding == 0 && message.len == 0)
			break;
		if (sophia_channels_gateway() != channel.gateway)
			raise_lost();
		sophia_client_wait(-1);
	}
	pfree(message.data);
}

void
sophia_client_exchange(Exchange *exchange)
{
	open_channel();
	PG_TRY();
	{
		run_exchange(exchange);
	}
	PG_CATCH();
	{
		close_channel();
		PG_RE_THROW();
	}
	PG_END_TRY();
}
