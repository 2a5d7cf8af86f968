/*
 * tap.h
 *		What a unit test needs to print TAP: plan() or done_testing(), ok(), and exit_status() for main().
 */
#ifndef SOPHIA_TAP_H
#define SOPHIA_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_planned = -1;
static int tap_run = 0;
static int tap_failed = 0;

/* Announces n tests, before the first of them; done_testing() is not needed then. */
static inline void
plan(int n)
{
	tap_planned = n;
	printf("1..%d\n", n);
}

/* One test: its outcome and, printf-like, its name.  Returns the outcome. */
__attribute__((format(printf, 2, 3))) static inline bool
ok(bool outcome, const char *format, ...)
{
	va_list args;

	printf("%sok %d - ", outcome ? "" : "not ", ++tap_run);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	if (!outcome)
		tap_failed++;
	return outcome;
}

/* Announces as many tests as were run, after the last of them. */
static inline void
done_testing(void)
{
	plan(tap_run);
}

/* What main() returns: 0 when every announced test ran and passed. */
static inline int
exit_status(void)
{
	return tap_failed > 0 || tap_run != tap_planned || tap_run == 0;
}

#endif /* SOPHIA_TAP_H */
