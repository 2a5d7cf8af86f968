/*
 * notice.c
 *		What a batch tells beside rows: see notice.h.
 */
#include "postgres.h"

#include "flow/notice.h"

#include "base/clock.h"
#include "flow/row.h"
#include "lib/stringinfo.h"
#include "store/events.h"

#define EVENTS_AN_HOUR 100
#define HOUR_MS		   (3600 * 1000)

/* True while events that can come in masses are still recorded. */
static bool
may_tell(Journal *journal)
{
	int64 now = sophia_clock_ms();

	if (journal->told == 0 || now - journal->told_since >= HOUR_MS)
	{
		journal->told_since = now;
		journal->told = 0;
	}
	return journal->told++ < EVENTS_AN_HOUR;
}

static void
add_event(const char *stream, const Journal *journal, const char *name, const ApplyDocument *given,
		  const char *detail, bool keep)
{
	StreamEvent event = {.name = name,
						 .offset = given->document.offset,
						 .clock = given->document.clock,
						 .published_at = sophia_row_published(given->document.clock),
						 .detail = detail,
						 .document = keep ? given->line : NULL,
						 .length = given->length};

	sophia_events_add(stream, journal->name, &event);
}

void
sophia_notice_anomaly(const char *stream, Journal *journal, CheckpointChange *change,
					  const ApplyDocument *given, uint64 producer, SequenceAnomaly anomaly,
					  uint64 dropped)
{
	static const char *const names[] = {
		[SEQUENCE_IN_ORDER] = "",
		[SEQUENCE_OUTSIDE_IN_TRANSACTION] = "outside_in_transaction",
		[SEQUENCE_PARTIAL_ACK] = "partial_ack",
		[SEQUENCE_DEEP_ROLLBACK] = "deep_rollback",
	};

	change->anomalies++;
	if (!may_tell(journal))
		return;
	ereport(LOG,
			(errmsg("sequence anomaly in journal \"%s\" of stream \"%s\" at offset %lld: %s",
					journal->name, stream, (long long) given->document.offset, names[anomaly])));
	add_event(stream, journal, names[anomaly], given,
			  psprintf("{\"producer\": \"%012llx\", \"dropped\": %llu}",
					   (unsigned long long) producer, (unsigned long long) dropped),
			  false);
}

void
sophia_notice_marker(const char *stream, const Journal *journal, const ApplyDocument *given,
					 const ControlDocument *control, int64 rows)
{
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfoChar(&detail, '{');
	if (control->bounded)
		appendStringInfo(&detail, "\"truncated_at\": \"%016llx\"",
						 (unsigned long long) control->truncated_at);
	if (rows >= 0)
		appendStringInfo(&detail, "%s\"rows\": %lld", control->bounded ? ", " : "",
						 (long long) rows);
	appendStringInfoChar(&detail, '}');
	add_event(stream, journal, sophia_control_document_event(control->kind), given, detail.data,
			  true);
}

void
sophia_notice_control(const char *stream, Journal *journal, CheckpointChange *change,
					  const ApplyDocument *given, const ControlDocument *control)
{
	bool marker =
		control->kind == CONTROL_BACKFILL_BEGIN || control->kind == CONTROL_BACKFILL_COMPLETE;

	if (marker)
		sophia_notice_marker(stream, journal, given, control, -1);
	else
	{
		change->anomalies++;
		if (may_tell(journal))
			add_event(stream, journal, sophia_control_document_event(control->kind), given, "{}",
					  true);
	}
}
