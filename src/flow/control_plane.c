/*
 * control_plane.c
 *		Asks Estuary's control plane for access to a broker: see control_plane.h.
 *
 *		waiting ──ask_at has come──► asking ──granted──► waiting, until the token is to be renewed
 *		   ▲                           │
 *		   └── provisional, refused ───┘
 *
 * One operation is one question, repeated until it is granted or refused for good; it names the
 * second when it began, so that the control plane can tell whether what it knows is as new.  The
 * refresh token is the only secret there is.  It is sent as it is (the control plane exchanges it),
 * read anew for each request, and wiped when the answer is there.
 *
 * A broker's token is renewed two minutes before it expires, in the background, and when the broker
 * refuses it or may hide journals for it (token_time.h).
 * Source: estuary/flow crates/models/src/authorizations.rs, crates/control-plane-api/src/server.
 */
#include "postgres.h"

#include <time.h>

#include "miscadmin.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "flow/address.h"
#include "flow/authorization.h"
#include "flow/broker.h"
#include "flow/control_plane.h"
#include "net/host.h"
#include "flow/token_time.h"

#define ASK_TIMEOUT_MS	 30000L
#define ANSWER_LIMIT	 ((size_t) 256 * 1024)
#define SHORTEST_WAIT_MS 250
#define LONGEST_WAIT_MS	 (10 * 60 * 1000)
#define UNKNOWN_LIFE_MS	 (30 * 60 * 1000) /* of a token that does not say when it expires */

/* After a refusal for good, backoff is that many times as long: up to a minute. */
#define DENIAL_FACTOR 12

typedef struct ControlPlane
{
	BrokerAccess *access;
	HttpRequest *request; /* NULL = waiting */
	Secret secret;		  /* the refresh token, while it is sent */
	char *redirect;		  /* where to ask, NULL = at the path itself */
	pg_time_t started;	  /* unix second when the operation began; 0 = none is under way */
	int64 ask_at;		  /* by sophia_clock_ms(), like those below */
	int64 granted_at;
	int64 expires_at;
	bool refused; /* the broker refused the token, and another is on its way */
	Demand refusal;
	Demand suspicion;
	Backoff backoff;
} ControlPlane;

static Broker *
broker_of(const BrokerAccess *access)
{
	return access->source->private;
}

/* Replaces a text in the source's memory. */
static void
replace_text(const BrokerAccess *access, char **text, const char *with)
{
	char *old = *text;

	*text = with != NULL ? MemoryContextStrdup(access->source->context, with) : NULL;
	if (old != NULL)
		pfree(old);
}

/* ---- failures ---- */

static int
sqlstate_of(AuthorizationKind kind)
{
	switch (kind)
	{
		case AUTHORIZATION_UNKNOWN:
		case AUTHORIZATION_DENIED:
			return ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
		case AUTHORIZATION_NOT_FOUND:
			return ERRCODE_UNDEFINED_OBJECT;
		case AUTHORIZATION_REJECTED:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		default:
			return ERRCODE_CONNECTION_EXCEPTION;
	}
}

/*
 * Ends the operation without a grant.  Rights are given and collections are made elsewhere, so
 * everything but a request that is wrong in itself, and always was, is tried again: soon when it may pass by itself,
 * in the end once a minute when somebody has to act.
 */
static void
fail_operation(ControlPlane *plane, AuthorizationKind kind, const char *reason)
{
	const Source *source = plane->access->source;
	const char *what = source->collection != NULL ? source->collection : source->prefix;
	bool passing = kind == AUTHORIZATION_UNAVAILABLE;

	plane->started = 0;
	replace_text(plane->access, &plane->redirect, NULL);
	plane->ask_at =
		sophia_clock_ms() + sophia_backoff_next(&plane->backoff) * (passing ? 1 : DENIAL_FACTOR);
	sophia_broker_fail(broker_of(plane->access), plane->access, sqlstate_of(kind),
					   kind == AUTHORIZATION_REJECTED && plane->access->number == 0,
					   "no access to \"%s\": %s", what != NULL ? what : "", reason);
}

/* ---- questions ---- */

static const char *
plane_address(const ControlPlane *plane)
{
	const char *address = plane->access->source->address;

	return address[0] != '\0' ? address : sophia_control_plane;
}

static const char *
plane_path(const ControlPlane *plane)
{
	return plane->access->source->collection != NULL ? "/authorize/user/collection"
													 : "/authorize/user/prefix";
}

static void
write_question(const ControlPlane *plane, StringInfo body)
{
	const Source *source = plane->access->source;

	if (source->collection != NULL)
	{
		appendStringInfoString(body, "{\"collection\":");
		escape_json(body, source->collection);
	}
	else
	{
		appendStringInfoString(body, "{\"prefix\":");
		escape_json(body, source->prefix);
		appendStringInfoString(body, ",\"dataPlane\":");
		escape_json(body, source->data_plane);
	}
	appendStringInfo(body, ",\"capability\":\"read\",\"startedUnix\":" INT64_FORMAT "}",
					 (int64) plane->started);
}

/* Posts the question; false with the reason when it cannot be sent. */
static bool
post_question(ControlPlane *plane, char *error, size_t error_size)
{
	StringInfoData body;
	char *bearer = psprintf("Authorization: Bearer %s", plane->secret.value);
	char *url = psprintf("%s%s", plane_address(plane), plane_path(plane));
	const char *headers[3] = {"Content-Type: application/json", bearer, NULL};
	HttpOptions options = {
		.method = "POST",
		.url = plane->redirect != NULL ? plane->redirect : url,
		.headers = headers,
		.limit = ANSWER_LIMIT,
		.timeout_ms = ASK_TIMEOUT_MS,
	};

	initStringInfo(&body);
	write_question(plane, &body);
	options.body = body.data;
	options.body_length = body.len;
	plane->request = sophia_http_start(&options, error, error_size);
	explicit_bzero(bearer, strlen(bearer));
	pfree(bearer);
	pfree(url);
	pfree(body.data);
	return plane->request != NULL;
}

static void
ask(ControlPlane *plane)
{
	const Source *source = plane->access->source;
	const char *problem = sophia_host_address_problem(plane_address(plane));
	char error[256];

	if (plane->started == 0)
		plane->started = (pg_time_t) time(NULL);
	if (problem != NULL)
		fail_operation(plane, AUTHORIZATION_DENIED,
					   psprintf("invalid address of a control plane: %s", problem));
	else if (source->token == NULL)
		fail_operation(plane, AUTHORIZATION_UNKNOWN, "the endpoint has no option \"token\"");
	else if (source->collection == NULL && (source->prefix == NULL || source->data_plane == NULL))
		fail_operation(plane, AUTHORIZATION_REJECTED,
					   "the endpoint needs the options \"prefix\" and \"data_plane\" for that");
	else if (!sophia_secret_read(source->token, &plane->secret, error, sizeof(error)))
		fail_operation(plane, AUTHORIZATION_UNKNOWN, error);
	else if (!post_question(plane, error, sizeof(error)))
		fail_operation(plane, AUTHORIZATION_UNAVAILABLE, error);
	if (plane->request == NULL)
		sophia_secret_clear(&plane->secret);
}

/* ---- answers ---- */

/* How long a token that was just granted lasts. */
static int64
token_life(const char *token)
{
	int64_t issued;
	int64_t expires;

	if (!sophia_token_times(token, &issued, &expires))
		return UNKNOWN_LIFE_MS;
	return sophia_token_life_ms(issued, expires, (int64) time(NULL));
}

/* Takes over what journals' names begin with; another prefix means another generation. */
static void
take_prefix(BrokerAccess *access, const char *granted)
{
	const Source *source = access->source;
	const char *prefix = source->collection != NULL ? granted : source->prefix;

	if (access->prefix != NULL && prefix != NULL && strcmp(access->prefix, prefix) != 0)
		ereport(LOG, (errmsg("collection \"%s\" was reset: its journals now begin with \"%s\"",
							 source->collection, prefix),
					  errdetail("Journals that begin with \"%s\" are not read any further.",
								access->prefix)));
	replace_text(access, &access->prefix, prefix);
}

static void
take_grant(ControlPlane *plane, Authorization *granted)
{
	BrokerAccess *access = plane->access;
	const char *problem = sophia_host_address_problem(granted->address);
	int64 life = token_life(granted->token);

	if (problem != NULL || life == 0)
	{
		fail_operation(
			plane, AUTHORIZATION_UNAVAILABLE,
			problem == NULL
				? "the control plane gave a token that has expired"
				: psprintf("the control plane gave an invalid address of a broker: %s", problem));
		return;
	}
	replace_text(access, &access->address, granted->address);
	take_prefix(access, granted->prefix);
	sophia_secret_clear(&access->token);
	access->token.value = granted->token;
	access->token.length = strlen(granted->token);
	granted->token = NULL;
	access->number++;
	plane->started = 0;
	replace_text(access, &plane->redirect, NULL);
	plane->refused = false;
	plane->granted_at = sophia_clock_ms();
	plane->expires_at = plane->granted_at + life;
	plane->ask_at = plane->granted_at + sophia_token_renew_after_ms(life);
	sophia_backoff_reset(&plane->backoff);
	sophia_broker_works(broker_of(access), access);
}

/*
 * The control plane wants to be asked again later.  A redirection is followed to the same place
 * only, since the refresh token goes along.
 */
static void
take_provisional(ControlPlane *plane, int64 wait_ms)
{
	const HttpRequest *request = plane->request;
	char *place = psprintf("%s%s", plane_address(plane), plane_path(plane));
	size_t length = strlen(place);

	replace_text(plane->access, &plane->redirect, NULL);
	if (wait_ms < 0)
	{
		if (request->redirect == NULL || strncmp(request->redirect, place, length) != 0 ||
			(request->redirect[length] != '?' && request->redirect[length] != '\0'))
		{
			fail_operation(plane, AUTHORIZATION_UNAVAILABLE,
						   "the control plane redirects to another place");
			return;
		}
		replace_text(plane->access, &plane->redirect, request->redirect);
		wait_ms = request->retry_after_s * 1000;
	}
	plane->ask_at = sophia_clock_ms() + Min(Max(wait_ms, SHORTEST_WAIT_MS), LONGEST_WAIT_MS);
	pfree(place);
}

/* Takes an answer that is complete, and wipes what must not stay. */
static void
take_answer(ControlPlane *plane)
{
	HttpRequest *request = plane->request;
	Authorization answer;

	if (request->paused)
		fail_operation(plane, AUTHORIZATION_UNAVAILABLE, "the control plane's answer is too long");
	else if (!request->ok)
		fail_operation(plane, AUTHORIZATION_UNAVAILABLE, request->error);
	else
	{
		sophia_authorization_read(&answer, request->status, buffer_bytes(&request->body),
								  buffer_size(&request->body), plane->secret.value);
		if (answer.kind == AUTHORIZATION_GRANTED)
			take_grant(plane, &answer);
		else if (answer.kind == AUTHORIZATION_PROVISIONAL)
			take_provisional(plane, answer.wait_ms);
		else
			fail_operation(plane, answer.kind, answer.message);
		sophia_authorization_clear(&answer);
	}
	if (request->body.data != NULL)
		explicit_bzero(request->body.data, request->body.capacity);
	sophia_http_close(request);
	plane->request = NULL;
	sophia_secret_clear(&plane->secret);
}

/* ---- the kind ---- */

static int64
plane_pump(BrokerAccess *access)
{
	ControlPlane *plane = access->private;

	if (plane->request != NULL && (plane->request->finished || plane->request->paused))
		take_answer(plane);
	if (plane->request == NULL && sophia_clock_ms() >= plane->ask_at &&
		!access->source->error_permanent)
		ask(plane);
	if (plane->request != NULL || access->source->error_permanent)
		return PG_INT64_MAX;
	return plane->ask_at;
}

static bool
plane_ready(const BrokerAccess *access)
{
	const ControlPlane *plane = access->private;

	return access->token.value != NULL && !plane->refused && sophia_clock_ms() < plane->expires_at;
}

static bool
plane_prepare(BrokerAccess *access, char *error, size_t error_size)
{
	if (access->token.value != NULL)
		return true;
	strlcpy(error, "the control plane has not given access yet", error_size);
	return false;
}

/*
 * Wants another token for a reason; true when one is on its way.  An operation that is under way
 * will bring it.
 */
static bool
demand_token(ControlPlane *plane, Demand *demand)
{
	uint64 number = plane->access->number;
	int64 now = sophia_clock_ms();
	bool met = demand->number == number && demand->met;

	if (met || !sophia_demand_raise(demand, number, plane->granted_at, now))
		return met;
	if (plane->started == 0)
		plane->ask_at = now;
	return true;
}

/*
 * One call that was refused speaks for all: the token is not used again until there is another one,
 * but for one that is refused soon after it was granted, as by a clock that is ahead.
 */
static bool
plane_refused(BrokerAccess *access, BrokerCall *call)
{
	ControlPlane *plane = access->private;

	if (call->access_number == access->number && !plane->refused)
	{
		plane->refused = demand_token(plane, &plane->refusal);
		return plane->refused;
	}
	return true;
}

/* When the token expires is known. */
static void
plane_doubt(BrokerAccess *access)
{
}

static void
plane_suspect(BrokerAccess *access)
{
	ControlPlane *plane = access->private;

	demand_token(plane, &plane->suspicion);
}

static void
plane_close(BrokerAccess *access)
{
	ControlPlane *plane = access->private;

	if (plane->request != NULL)
		sophia_http_close(plane->request);
	plane->request = NULL;
	sophia_secret_clear(&plane->secret);
	sophia_secret_clear(&access->token);
}

const BrokerAccessKind sophia_access_control_plane = {
	.pump = plane_pump,
	.ready = plane_ready,
	.prepare = plane_prepare,
	.refused = plane_refused,
	.doubt = plane_doubt,
	.suspect = plane_suspect,
	.close = plane_close,
};

void
sophia_control_plane_open(BrokerAccess *access)
{
	ControlPlane *plane = palloc0(sizeof(ControlPlane));

	plane->access = access;
	plane->ask_at = sophia_clock_ms();
	sophia_backoff_init(&plane->backoff, (uint64) (uintptr_t) plane ^ (uint64) MyProcPid << 32);
	access->private = plane;
}
