/*
 * stream_fields.c
 *		The table of a stream as its columns change: see stream_fields.h.
 *
 * Nothing here holds up a stream for long: a lock that is not to be had is asked for again later, and a fill does a few
 * rows a turn.  What fails for good is recorded and not tried again.
 */
#include "postgres.h"

#include "flow/stream_fields.h"

#include "base/guard.h"
#include "flow/evolution.h"
#include "flow/fill.h"
#include "store/statement.h"
#include "utils/memutils.h"

void
sophia_stream_load_shape(Stream *stream)
{
	const StreamDefinition *definition = &stream->definition;
	Shape *shape = sophia_shape_load(stream->context, definition->shape, definition->options,
									 definition->collection, definition->hard_delete);

	if (stream->shape != NULL)
		sophia_shape_free(stream->shape);
	stream->shape = shape;
	if (stream->evolution != NULL)
		sophia_evolution_bind(stream->evolution, shape);
	stream->may_fill = true;
}

static void
refresh_shape(void *argument)
{
	MemoryContext context = CurrentMemoryContext;

	sophia_transaction_begin("reading a shape");
	sophia_stream_load_shape(argument);
	sophia_transaction_commit(context);
}

bool
sophia_stream_refresh_shape(Stream *stream, Failure *failure)
{
	return !stream->shape->outdated || sophia_attempt(refresh_shape, stream, failure);
}

/* Runs `work` in a transaction of its own, unless the extension is about to be altered. */
static void
run_guarded(Stream *stream, const char *activity, void (*work)(Stream *))
{
	MemoryContext context = CurrentMemoryContext;

	sophia_transaction_begin(activity);
	if (!sophia_guard_extension())
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("extension \"sophia_stack\" is locked")));
	work(stream);
	sophia_transaction_commit(context);
}

static void
widen(Stream *stream)
{
	sophia_evolution_widen(stream->evolution);
}

static void
attempt_widen(void *argument)
{
	run_guarded(argument, "widening a column", widen);
}

/* What refuse_widening() and refuse_column() record. */
static const char *refusal;

static void
refuse_widening(Stream *stream)
{
	sophia_evolution_refuse_widening(stream->evolution, refusal);
}

static void
attempt_refuse_widening(void *argument)
{
	run_guarded(argument, "recording a refusal", refuse_widening);
}

bool
sophia_stream_widen(Stream *stream, Failure *failure)
{
	if (sophia_attempt(attempt_widen, stream, failure))
		return true;
	if (sophia_failure_is_transient(failure))
		return false;
	refusal = failure->message;
	return sophia_attempt(attempt_refuse_widening, stream, failure);
}

static void
add_column(Stream *stream)
{
	sophia_evolution_add_column(stream->evolution, stream->shape);
}

static void
attempt_add_column(void *argument)
{
	run_guarded(argument, "adding a column", add_column);
}

static void
refuse_column(Stream *stream)
{
	sophia_evolution_refuse_column(stream->evolution, stream->shape, refusal);
}

static void
attempt_refuse_column(void *argument)
{
	run_guarded(argument, "recording a refusal", refuse_column);
}

/* Gives a new field its column; false when that is to be tried again later. */
static bool
turn_new_fields(Stream *stream)
{
	Failure failure;

	if (sophia_attempt(attempt_add_column, stream, &failure))
		return true;
	if (sophia_failure_is_transient(&failure))
		return false;
	refusal = failure.message;
	return sophia_attempt(attempt_refuse_column, stream, &failure);
}

/* Arguments of run_fill(). */
typedef struct FillCall
{
	Stream *stream;
	FillResult result;
} FillCall;

static void
run_fill(void *argument)
{
	FillCall *call = argument;

	call->result = sophia_fill_run(call->stream->shape);
}

static void
attempt_fail_fill(void *argument)
{
	sophia_fill_fail(((Stream *) argument)->shape, refusal);
}

/* Fills some rows; false when that is to be tried again later. */
static bool
turn_fill(Stream *stream)
{
	FillCall call = {stream, FILL_NONE};
	Failure failure;

	if (!sophia_attempt(run_fill, &call, &failure))
	{
		if (sophia_failure_is_transient(&failure))
			return false;
		refusal = failure.message;
		return sophia_attempt(attempt_fail_fill, stream, &failure);
	}
	switch (call.result)
	{
		case FILL_NONE:
			stream->may_fill = false;
			return true;
		case FILL_MORE:
			return true;
		case FILL_AGAIN:
			return stream->shape->outdated;
		case FILL_WIDEN:
			return sophia_stream_widen(stream, &failure);
	}
	return true;
}

int64
sophia_stream_turn_fields(Stream *stream, int64 now)
{
	bool adds = sophia_evolution_has_new_fields(stream->evolution);

	if (!adds && !stream->may_fill)
		return now + 1000;
	if (stream->fields_retry_at > now)
		return stream->fields_retry_at;
	if (adds ? turn_new_fields(stream) : turn_fill(stream))
	{
		stream->fields_retry_at = 0;
		sophia_backoff_reset(&stream->fields_backoff);
		return now;
	}
	stream->fields_retry_at = sophia_clock_ms() + sophia_backoff_next(&stream->fields_backoff);
	return stream->fields_retry_at;
}
