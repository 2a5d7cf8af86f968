/*
 * session.c
 *		The gateway's side of the channels: see gateway.h.
 *
 * No more is read from a session than it may have queued, and than the provider's queue has room for; what it sends beyond
 * that stays in its own channel.  So the gateway's memory is bounded, however much the sessions send.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "ai/gateway.h"

/* What a session may have waiting for its turn: so many requests, and one more beyond so many bytes. */
#define QUEUED_REQUESTS 32
#define QUEUED_BYTES	(1024 * 1024)

/* An answer on its way to its session. */
typedef struct Answer
{
	dlist_node node;
	Size length;
	char bytes[FLEXIBLE_ARRAY_MEMBER];
} Answer;

/* What was last taken up at a place of a channel. */
typedef struct Place
{
	uint64 id; /* also after the session was closed, so that it is not opened again */
	Session *session;
} Place;

static dlist_head sessions = DLIST_STATIC_INIT(sessions);
static Place *places;

/* ---- coming and going ---- */

static void
open_session(int place, const ChannelSlot *slot)
{
	dsm_segment *segment = dsm_attach(slot->segment);
	Session *session;
	shm_mq *in;
	shm_mq *out;

	if (segment == NULL) /* it is gone again */
		return;
	dsm_pin_mapping(segment);
	session = palloc0(sizeof(Session));
	session->place = place;
	session->pid = slot->pid;
	session->segment = segment;
	in = sophia_channel_queue(segment, true);
	out = sophia_channel_queue(segment, false);
	shm_mq_set_receiver(in, MyProc);
	shm_mq_set_sender(out, MyProc);
	session->in = shm_mq_attach(in, segment, NULL);
	session->out = shm_mq_attach(out, segment, NULL);
	dlist_init(&session->requests);
	dlist_init(&session->queued);
	dlist_init(&session->answers);
	dlist_push_tail(&sessions, &session->node);
	places[place].session = session;
}

static void
close_session(Session *session)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &session->requests)
		sophia_request_drop(dlist_container(GatewayRequest, of_session, iter.cur));
	dlist_foreach_modify(iter, &session->answers)
		pfree(dlist_container(Answer, node, iter.cur));
	dlist_delete(&session->node);
	places[session->place].session = NULL;
	shm_mq_detach(session->in);
	shm_mq_detach(session->out);
	dsm_detach(session->segment);
	pfree(session);
}

void
sophia_sessions_review(uint64 gateway)
{
	int count = sophia_channels_count();

	if (places == NULL)
		places = palloc0(sizeof(Place) * count);
	for (int i = 0; i < count; i++)
	{
		ChannelSlot slot = sophia_channels_slot(i);

		if (slot.id == places[i].id)
			continue;
		if (places[i].session != NULL)
			close_session(places[i].session);
		places[i].id = slot.id;
		if (slot.id != 0 && slot.gateway == gateway)
			open_session(i, &slot);
	}
}

/* ---- reading ---- */

/* Points the texts and the body of a request into its message; false where that is no request. */
static bool
parse_request(GatewayRequest *request, Size length)
{
	Size at = sizeof(RequestHeader);

	if (length < at)
		return false;
	memcpy(&request->header, request->message, sizeof(RequestHeader));
	for (int i = 0; i < REQUEST_TEXTS; i++)
	{
		Size end = at + request->header.lengths[i];

		if (end >= length || request->message[end] != '\0')
			return false;
		request->texts[i] = request->message + at;
		at = end + 1;
	}
	request->body = request->message + at;
	return length - at == request->header.body_length;
}

static GatewayRequest *
make_request(Session *session, const void *message, Size length)
{
	GatewayRequest *request = palloc0(sizeof(GatewayRequest));

	request->session = session;
	request->place = -1;
	/* a NUL ends the body for those who want one */
	request->message = MemoryContextAllocHuge(CurrentMemoryContext, length + 1);
	memcpy(request->message, message, length);
	request->message[length] = '\0';
	if (parse_request(request, length))
	{
		dlist_push_tail(&session->requests, &request->of_session);
		return request;
	}
	pfree(request->message);
	pfree(request);
	return NULL;
}

/* Each session may have one request queued, and more while the provider's queue has room. */
static bool
may_read(const Session *session)
{
	return !session->broken && session->n_queued < QUEUED_REQUESTS &&
		   session->queued_bytes < QUEUED_BYTES &&
		   (session->n_queued == 0 || !sophia_lane_full(session->lane));
}

/*
 * Takes one request, if there is one.  More of them come in the next turn: looking for another one tells the session that
 * there is room again, which can wait until this one is sent.
 */
static bool
read_request(Session *session)
{
	GatewayRequest *request;
	shm_mq_result result;
	Size length;
	void *message;

	if (!may_read(session))
		return false;
	result = shm_mq_receive(session->in, &length, &message, true);
	session->broken = result == SHM_MQ_DETACHED;
	if (result != SHM_MQ_SUCCESS)
		return false;
	request = make_request(session, message, length);
	if (request == NULL)
		session->broken = true;
	else if (request->header.kind == REQUEST_CALL)
		sophia_lane_submit(request);
	else
		sophia_cache_submit(request);
	return true;
}

bool
sophia_sessions_read(void)
{
	bool any = false;
	dlist_iter iter;

	dlist_foreach(iter, &sessions)
		any |= read_request(dlist_container(Session, node, iter.cur));
	return any;
}

/* ---- writing ---- */

void
sophia_session_answer(Session *session, const AnswerHeader *header, const char *body, Size length)
{
	Size total = sizeof(AnswerHeader) + length;
	Answer *answer = MemoryContextAllocHuge(CurrentMemoryContext, offsetof(Answer, bytes) + total);

	answer->length = total;
	memcpy(answer->bytes, header, sizeof(AnswerHeader));
	if (length > 0)
		memcpy(answer->bytes + sizeof(AnswerHeader), body, length);
	dlist_push_tail(&session->answers, &answer->node);
}

static void
write_answers(Session *session)
{
	while (!session->broken && !dlist_is_empty(&session->answers))
	{
		Answer *answer = dlist_head_element(Answer, node, &session->answers);
		bool last = answer->node.next == &session->answers.head;
		shm_mq_result result = shm_mq_send(session->out, answer->length, answer->bytes, true, last);

		session->broken = result == SHM_MQ_DETACHED;
		if (result != SHM_MQ_SUCCESS)
			return;
		dlist_delete(&answer->node);
		pfree(answer);
	}
}

void
sophia_sessions_write(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sessions)
	{
		Session *session = dlist_container(Session, node, iter.cur);

		write_answers(session);
		if (session->broken)
			close_session(session);
	}
}
