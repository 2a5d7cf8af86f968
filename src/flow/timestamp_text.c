/*
 * timestamp_text.c
 *		Timestamps as the sources write them: see timestamp_text.h.
 */
#include "postgres.h"

#include "flow/timestamp_text.h"

#include "base/compat.h"
#include "common/int.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

/* Reads exactly n digits. */
static bool
digits(const char **p, const char *end, int n, int *value)
{
	*value = 0;
	if (end - *p < n)
		return false;
	for (int i = 0; i < n; i++, (*p)++)
	{
		if (**p < '0' || **p > '9')
			return false;
		*value = *value * 10 + (**p - '0');
	}
	return true;
}

/* Fraction of a second with `p` behind the point, in microseconds; further digits are cut. */
static bool
fraction(const char **p, const char *end, int *microseconds)
{
	int weight = 100000;
	const char *start = *p;

	*microseconds = 0;
	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
	{
		*microseconds += (**p - '0') * weight;
		weight /= 10;
	}
	return *p > start;
}

/* Z, +HH, +HHMM or +HH:MM up to the end of the text; seconds east of Greenwich. */
static bool
zone(const char *p, const char *end, int *seconds)
{
	int sign = 1;
	int hours;
	int minutes = 0;

	*seconds = 0;
	if (p == end || ((*p == 'Z' || *p == 'z') && p + 1 == end))
		return true;
	if (*p != '+' && *p != '-')
		return false;
	sign = *p++ == '-' ? -1 : 1;
	if (!digits(&p, end, 2, &hours))
		return false;
	if (p < end && *p == ':')
		p++;
	if (p < end && !digits(&p, end, 2, &minutes))
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return p == end && hours <= 15 && minutes < 60;
}

/* YYYY-MM-DD as a day number of the server. */
static bool
date(const char **p, const char *end, DateADT *result)
{
	int year, month, day;

	if (!digits(p, end, 4, &year) || *p >= end || *(*p)++ != '-' || !digits(p, end, 2, &month) ||
		*p >= end || *(*p)++ != '-' || !digits(p, end, 2, &day))
		return false;
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > day_tab[isleap(year)][month - 1])
		return false;
	*result = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/* hh:mm[:ss[.f]] in microseconds. */
static bool
time_of_day(const char **p, const char *end, TimeADT *result)
{
	int hour, minute, second = 0, microsecond = 0;

	if (!digits(p, end, 2, &hour) || *p >= end || *(*p)++ != ':' || !digits(p, end, 2, &minute))
		return false;
	if (*p < end && **p == ':' && ((*p)++, !digits(p, end, 2, &second)))
		return false;
	if (*p < end && **p == '.' && ((*p)++, !fraction(p, end, &microsecond)))
		return false;
	if (hour > 23 || minute > 59 || second > 59)
		return false;
	*result = ((hour * 60 + minute) * 60 + second) * USECS_PER_SEC + microsecond;
	return true;
}

/* The usual form, YYYY-MM-DD[T hh:mm[:ss[.f]][zone]], which is nearly every value; false: something else. */
static bool
parse_iso(const char *p, const char *end, TimestampTz *result)
{
	DateADT day;
	TimeADT time = 0;
	int east = 0;

	if (!date(&p, end, &day))
		return false;
	if (p < end)
	{
		if (*p != 'T' && *p != 't' && *p != ' ')
			return false;
		p++;
		if (!time_of_day(&p, end, &time) || !zone(p, end, &east))
			return false;
	}
	*result = (TimestampTz) day * USECS_PER_DAY + time - east * USECS_PER_SEC;
	return true;
}

/* True for a word whose meaning depends on when it is read. */
static bool
names_a_day(char *const *field, const int *field_type, int fields)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};

	for (int i = 0; i < fields; i++)
		for (size_t w = 0; w < lengthof(words); w++)
			/* the server looks at the first TOKMAXLEN characters of a word */
			if (field_type[i] == DTK_STRING && strncmp(field[i], words[w], TOKMAXLEN) == 0)
				return true;
	return false;
}

/* Any other form, by the server's own reader, which reports trouble by return codes. */
static bool
parse_any(const char *text, size_t length, TimestampTz *result)
{
	char copy[MAXDATELEN + 1];
	char work[MAXDATELEN + MAXDATEFIELDS];
	char *field[MAXDATEFIELDS];
	int field_type[MAXDATEFIELDS];
	int fields;
	int kind;
	int zone_seconds = 0;
	struct pg_tm tm;
	fsec_t fsec;

	if (length > MAXDATELEN)
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	return ParseDateTime(copy, work, sizeof(work), field, field_type, MAXDATEFIELDS, &fields) ==
			   0 &&
		   !names_a_day(field, field_type, fields) &&
		   compat_decode_datetime(field, field_type, fields, &kind, &tm, &fsec, &zone_seconds) ==
			   0 &&
		   kind == DTK_DATE && tm2timestamp(&tm, fsec, &zone_seconds, result) == 0;
}

bool
sophia_timestamp_parse(const char *text, size_t length, TimestampTz *result)
{
	while (length > 0 && *text == ' ')
		text++, length--;
	while (length > 0 && text[length - 1] == ' ')
		length--;
	return parse_iso(text, text + length, result) || parse_any(text, length, result);
}

bool
sophia_date_parse(const char *text, size_t length, DateADT *result)
{
	const char *p = text;

	return date(&p, text + length, result) && p == text + length;
}

bool
sophia_time_parse(const char *text, size_t length, TimeADT *result)
{
	const char *p = text;
	int east;

	return time_of_day(&p, text + length, result) && zone(p, text + length, &east);
}

bool
sophia_interval_parse(const char *text, size_t length, Interval *result)
{
	char copy[MAXDATELEN + 1];
	char work[MAXDATELEN + MAXDATEFIELDS];
	char *field[MAXDATEFIELDS];
	int field_type[MAXDATEFIELDS];
	int fields;
	int kind;
	struct pg_itm_in parts = {0};
	int error;

	if (length > MAXDATELEN)
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	error = ParseDateTime(copy, work, sizeof(work), field, field_type, MAXDATEFIELDS, &fields);
	if (error == 0)
		error = DecodeInterval(field, field_type, fields, INTERVAL_FULL_RANGE, &kind, &parts);
	if (error == DTERR_BAD_FORMAT)
		error = DecodeISO8601Interval(copy, &kind, &parts);
	return error == 0 && kind == DTK_DELTA && itmin2interval(&parts, result) == 0;
}

bool
sophia_timestamp_from_epoch(const char *text, size_t length, bool milliseconds, TimestampTz *result)
{
	const char *p = text;
	const char *end = text + length;
	bool negative = p < end && *p == '-';
	int64 whole = 0;
	int64 micro = 0;
	int64 weight = milliseconds ? 100 : 100000;

	if (negative)
		p++;
	if (p >= end || *p < '0' || *p > '9')
		return false;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
	{
		if (whole > INT64CONST(100000000000000000))
			return false;
		whole = whole * 10 + (*p - '0');
	}
	if (p < end && *p == '.')
		for (p++; p < end && *p >= '0' && *p <= '9'; p++, weight /= 10)
			micro += (*p - '0') * weight;
	if (p < end || pg_mul_s64_overflow(whole, milliseconds ? 1000 : USECS_PER_SEC, &whole) ||
		pg_add_s64_overflow(whole, micro, &whole))
		return false;
	if (negative)
		whole = -whole;
	if (pg_sub_s64_overflow(
			whole, (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY, result))
		return false;
	return IS_VALID_TIMESTAMP(*result);
}
