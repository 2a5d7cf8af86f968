/*
 * truncate.h
 *		Deletes the rows that a backfill did not bring again, for streams with option truncate = apply.
 *
 * The marker of a complete backfill says before which clock documents are superseded, or else the marker of its begin
 * does.  Rows whose last document came from this journal before that are deleted as a tombstone would: marked, or
 * removed with option delete = hard.
 */
#ifndef SOPHIA_TRUNCATE_H
#define SOPHIA_TRUNCATE_H

#include "postgres.h"

#include "flow/apply.h"
#include "flow/control_document.h"
#include "flow/journal.h"

/* Acts on the marker of a complete backfill and records it, inside the transaction of a batch. */
extern void sophia_truncate(const char *stream, Shape *shape, const Journal *journal,
							const ApplyDocument *given, const ControlDocument *control);

#endif /* SOPHIA_TRUNCATE_H */
