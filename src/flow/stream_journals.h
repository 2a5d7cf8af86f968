/*
 * stream_journals.h
 *		The journals of a stream: which are open, and opening those that are not.
 */
#ifndef SOPHIA_STREAM_JOURNALS_H
#define SOPHIA_STREAM_JOURNALS_H

#include "flow/attempt.h"
#include "flow/stream.h"

/* The open journal of that name, or NULL. */
extern Journal *sophia_stream_find_journal(Stream *stream, const char *name);

/* True when the source lists a journal that is not open. */
extern bool sophia_stream_has_unopened_journals(Stream *stream);

/* Opens the journals that were listed and are not open, all of them in one transaction.  False: nothing was opened. */
extern bool sophia_stream_open_journals(Stream *stream, Failure *failure);

/* Closes the journals that were deleted and made again, so that they are opened as what they are now. */
extern void sophia_stream_close_outdated_journals(Stream *stream);

/* Closes the journals of a list and empties it. */
extern void sophia_stream_close_journals(List **journals);

#endif /* SOPHIA_STREAM_JOURNALS_H */
