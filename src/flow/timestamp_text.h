/*
 * timestamp_text.h
 *		Timestamps as the sources write them, read without ever raising an error.
 */
#ifndef SOPHIA_TIMESTAMP_TEXT_H
#define SOPHIA_TIMESTAMP_TEXT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/date.h"

/* ISO 8601 or anything else the server reads as a timestamp; without a zone it is UTC.  False: it is none. */
extern bool sophia_timestamp_parse(const char *text, size_t length, TimestampTz *result);

/* A calendar date, YYYY-MM-DD.  False: it is none. */
extern bool sophia_date_parse(const char *text, size_t length, DateADT *result);

/* A time of day, hh:mm[:ss[.f]]; a zone behind it is checked and not used.  False: it is none. */
extern bool sophia_time_parse(const char *text, size_t length, TimeADT *result);

/* An interval in ISO 8601 form or in any that the server reads.  False: it is none. */
extern bool sophia_interval_parse(const char *text, size_t length, Interval *result);

/* A decimal number of seconds since 1970 (or of milliseconds, when `milliseconds`).  False: no number, out of range. */
extern bool sophia_timestamp_from_epoch(const char *text, size_t length, bool milliseconds,
										TimestampTz *result);

#endif /* SOPHIA_TIMESTAMP_TEXT_H */
