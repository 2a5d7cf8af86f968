/*
 * loop.h
 *		The event loop of a process: its latch, sockets and timers, waited for in one place.
 *
 * Who owns a socket or a deadline puts a LoopWatch or a LoopTimer, in memory of its own, into the
 * loop; their callbacks run inside sophia_loop_wait() and nowhere else.
 */
#ifndef SOPHIA_LOOP_H
#define SOPHIA_LOOP_H

#include "postgres.h"

/* Events of a LoopWatch, as bits. */
#define LOOP_READABLE 1
#define LOOP_WRITABLE 2
#define LOOP_FAILED	  4 /* an error or a hang-up; always reported */
#define LOOP_CLOSED	  8 /* the other side sends no more */

/* A socket that is watched. */
typedef struct LoopWatch
{
	int fd;
	void (*ready)(struct LoopWatch *watch, int events);
	void *owner; /* for the callback */
	bool watched;
} LoopWatch;

/* A moment at which something is due. */
typedef struct LoopTimer
{
	int64 due; /* by sophia_clock_ms(); -1 = never */
	void (*ring)(struct LoopTimer *timer);
	struct LoopTimer *next;
} LoopTimer;

/*
 * Makes the loop of this process ready for sockets; again is no harm.  Raises 53000 when no file
 * descriptor is left. Before the first call sophia_loop_wait() waits for the latch alone.
 */
extern void sophia_loop_init(void);

/*
 * Waits for the latch, a watched socket, a timer or the end of timeout_ms (-1 = none), whichever
 * comes first; then runs the callbacks of what is ready and due.  Raises what CHECK_FOR_INTERRUPTS
 * raises; exits when the postmaster is gone.  The latch is reset before it returns, so test for
 * work after it.
 */
extern void sophia_loop_wait(long timeout_ms);

/*
 * Watches a socket for `events`, or changes what it is watched for.  False when the system refuses.
 * This and sophia_loop_forget() raise nothing: libraries call them from inside.
 */
extern bool sophia_loop_watch(LoopWatch *watch, int events);

/* Ends the watching; the callback will not run again, even for an event that is already there. */
extern void sophia_loop_forget(LoopWatch *watch);

/* Puts a timer into the loop, where it stays; setting `due` starts and stops it. */
extern void sophia_loop_add_timer(LoopTimer *timer);

/* Takes it out again; not while a timer rings. */
extern void sophia_loop_remove_timer(LoopTimer *timer);

#endif /* SOPHIA_LOOP_H */
