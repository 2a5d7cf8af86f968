/*
 * broker_call.c
 *		Requests to a Gazette broker, and what their failures mean: see broker.h.
 *
 * Gazette answers JSON over HTTP (grpc-gateway v1): an error comes as an HTTP status, or as a last
 * line of an answer that began well; what concerns a journal comes as a status inside a good
 * answer.
 */
#include "postgres.h"

#include "flow/broker.h"

/* An answer's bytes that wait to be taken; no line of an answer is longer. */
#define BODY_LIMIT ((size_t) 1024 * 1024)

#define HTTP_OK			  200
#define HTTP_UNAUTHORIZED 401
#define HTTP_FORBIDDEN	  403

BrokerAnswer
sophia_broker_failed(BrokerCall *call, int sqlstate, const char *reason)
{
	call->failure_sqlstate = sqlstate;
	strlcpy(call->failure, reason, sizeof(call->failure));
	return ANSWER_FAILED;
}

bool
sophia_broker_ready(const Broker *broker)
{
	return broker->access.kind->ready(&broker->access);
}

bool
sophia_broker_outdated(const Broker *broker, const BrokerCall *call)
{
	return call->request != NULL && call->access_number != broker->access.number;
}

bool
sophia_broker_post(Broker *broker, BrokerCall *call, const char *path, const StringInfo body,
				   long timeout_ms)
{
	const char *headers[3] = {"Content-Type: application/json", NULL, NULL};
	BrokerAccess *access = &broker->access;
	char *url;
	char *bearer = NULL;
	char error[256];
	HttpOptions options = {
		.method = "POST",
		.headers = headers,
		.body = body->data,
		.body_length = body->len,
		.limit = BODY_LIMIT,
		.http1 = true,
		.timeout_ms = timeout_ms,
	};

	memset(&call->scanner, 0, sizeof(call->scanner));
	call->unauthorized = false;
	if (!access->kind->prepare(access, error, sizeof(error)))
	{
		sophia_broker_failed(call, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, error);
		return false;
	}
	call->access = access;
	call->access_number = access->number;
	options.url = url = psprintf("%s%s", access->address, path);
	if (access->token.value != NULL)
		headers[1] = bearer = psprintf("Authorization: Bearer %s", access->token.value);
	call->request = sophia_http_start(&options, error, sizeof(error));
	if (bearer != NULL)
	{
		explicit_bzero(bearer, strlen(bearer));
		pfree(bearer);
	}
	pfree(url);
	if (call->request == NULL)
		sophia_broker_failed(call, ERRCODE_CONNECTION_FAILURE, error);
	return call->request != NULL;
}

/* The failure that an HTTP status tells, with the broker's words for it. */
static BrokerAnswer
refused(BrokerCall *call, int http_status, const char *message)
{
	char text[320];

	call->unauthorized = http_status == HTTP_UNAUTHORIZED || http_status == HTTP_FORBIDDEN;
	snprintf(text, sizeof(text), "the broker answered %d: %s", http_status,
			 message[0] != '\0' ? message : "no reason given");
	return sophia_broker_failed(call,
								call->unauthorized ? ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION
												   : ERRCODE_CONNECTION_EXCEPTION,
								text);
}

/* An answer whose HTTP status is not 200, once it is there. */
static BrokerAnswer
next_refusal(BrokerCall *call, Frame *frame)
{
	HttpRequest *request = call->request;

	if (!request->finished && !request->paused)
		return ANSWER_WAITING;
	if (sophia_frame_next(&call->scanner, &request->body, true, frame) != FRAME_ERROR)
		frame->message[0] = '\0';
	return refused(call, request->status, frame->message);
}

BrokerAnswer
sophia_broker_next(BrokerCall *call, Frame *frame)
{
	HttpRequest *request = call->request;

	if (request->status != 0 && request->status != HTTP_OK)
		return next_refusal(call, frame);
	switch (
		sophia_frame_next(&call->scanner, &request->body, request->finished && request->ok, frame))
	{
		case FRAME_NONE:
			break;
		case FRAME_ERROR:
			return refused(call, frame->http_code, frame->message);
		case FRAME_INVALID:
			return sophia_broker_failed(call, ERRCODE_PROTOCOL_VIOLATION, frame->message);
		default:
			call->token_retried = false;
			call->access->proved = call->access_number;
			return ANSWER_FRAME;
	}
	if (request->finished)
		return request->ok ? ANSWER_ENDED
						   : sophia_broker_failed(call, ERRCODE_CONNECTION_FAILURE, request->error);
	if (buffer_size(&request->body) >= BODY_LIMIT)
		return sophia_broker_failed(call, ERRCODE_PROTOCOL_VIOLATION,
									"the broker's answer has a line without end");
	return ANSWER_WAITING;
}

void
sophia_broker_took(BrokerCall *call, const Frame *frame)
{
	sophia_buffer_consume(&call->request->body, frame->length);
	sophia_http_resume(call->request);
}

void
sophia_broker_end(BrokerCall *call)
{
	if (call->request != NULL)
		sophia_http_close(call->request);
	call->request = NULL;
}

bool
sophia_broker_retry(Broker *broker, BrokerCall *call, const void *who, const char *doing)
{
	if (call->unauthorized && broker->access.kind->refused(&broker->access, call))
		return true;
	sophia_broker_fail(broker, who, call->failure_sqlstate, false, "%s: %s", doing, call->failure);
	return false;
}

void
sophia_broker_fail(Broker *broker, const void *who, int sqlstate, bool permanent,
				   const char *format, ...)
{
	char message[sizeof(broker->source->error_message)];
	va_list args;

	if (broker->source->error_permanent)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	broker->failing = who;
	sophia_source_fail(broker->source, sqlstate, permanent, "%s", message);
}

void
sophia_broker_works(Broker *broker, const void *who)
{
	if (broker->failing != who || broker->source->error_permanent)
		return;
	broker->failing = NULL;
	sophia_source_clear_error(broker->source);
}
