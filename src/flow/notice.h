/*
 * notice.h
 *		What a batch tells beside rows: control documents, and producers that broke the rules of their sequence.
 *
 * All of it is counted; what can come in masses is recorded as an event up to a limit an hour and journal.
 */
#ifndef SOPHIA_NOTICE_H
#define SOPHIA_NOTICE_H

#include "postgres.h"

#include "flow/apply.h"
#include "flow/control_document.h"
#include "flow/journal.h"
#include "flow/sequencer.h"
#include "store/checkpoint.h"

/* A producer lost documents: `dropped` of them, by the document given. */
extern void sophia_notice_anomaly(const char *stream, Journal *journal, CheckpointChange *change,
								  const ApplyDocument *given, uint64 producer,
								  SequenceAnomaly anomaly, uint64 dropped);

/* A document that is no data said something. */
extern void sophia_notice_control(const char *stream, Journal *journal, CheckpointChange *change,
								  const ApplyDocument *given, const ControlDocument *control);

/* Records a marker of a backfill with where its truncation ends, and with the rows that it deleted; -1 = none was to be. */
extern void sophia_notice_marker(const char *stream, const Journal *journal,
								 const ApplyDocument *given, const ControlDocument *control,
								 int64 rows);

#endif /* SOPHIA_NOTICE_H */
