/*
 * loop.c
 *		The event loop of a process: see loop.h.  The only file that waits on a socket.
 *
 * A WaitEventSet cannot forget a socket, and the sockets of an HTTP library come and go.  So they
 * are watched by a private epoll descriptor, which is itself readable when one of them is; the
 * process waits for its latch and that one descriptor, with the ordinary latch routines.  Events
 * are level-triggered: one that is not dealt with is reported again.
 *
 * The loop lives as long as the process and is made at its first use, so a forked process never
 * inherits one.
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "base/compat.h"
#include "net/loop.h"

/* Events taken per turn; the rest is reported in the next one. */
#define EVENTS_PER_TURN 64

static int epoll_fd = -1;
static WaitEventSet *wait_set = NULL; /* latch, postmaster and epoll_fd */
static LoopTimer *timers = NULL;

/* The events of the running turn, from `batch_at` on still to be dispatched. */
static struct epoll_event batch[EVENTS_PER_TURN];
static int batch_size = 0;
static int batch_at = 0;

void
sophia_loop_init(void)
{
	if (epoll_fd >= 0)
		return;
	if (!AcquireExternalFD())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("no file descriptor is left for an event loop")));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
	{
		ReleaseExternalFD();
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not create an event loop: %m")));
	}
	wait_set = compat_create_wait_event_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
}

bool
sophia_loop_watch(LoopWatch *watch, int events)
{
	struct epoll_event event = {0};

	if ((events & LOOP_READABLE) != 0)
		event.events |= EPOLLIN;
	if ((events & LOOP_WRITABLE) != 0)
		event.events |= EPOLLOUT;
	if ((events & LOOP_CLOSED) != 0)
		event.events |= EPOLLRDHUP;
	event.data.ptr = watch;
	if (epoll_ctl(epoll_fd, watch->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watch->fd, &event) < 0)
		return false;
	watch->watched = true;
	return true;
}

void
sophia_loop_forget(LoopWatch *watch)
{
	/* Fails for a socket that was closed before, which has left the set by itself. */
	if (watch->watched)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->watched = false;
	for (int i = batch_at; i < batch_size; i++)
	{
		if (batch[i].data.ptr == watch)
			batch[i].data.ptr = NULL;
	}
}

void
sophia_loop_add_timer(LoopTimer *timer)
{
	timer->next = timers;
	timers = timer;
}

void
sophia_loop_remove_timer(LoopTimer *timer)
{
	LoopTimer **link = &timers;

	while (*link != NULL && *link != timer)
		link = &(*link)->next;
	if (*link != NULL)
		*link = timer->next;
}

/* Runs the callbacks of the sockets that are ready now. */
static void
dispatch_events(void)
{
	batch_at = 0;
	batch_size = epoll_wait(epoll_fd, batch, EVENTS_PER_TURN, 0);
	while (batch_at < batch_size)
	{
		struct epoll_event event = batch[batch_at++];
		LoopWatch *watch = event.data.ptr;
		int events = 0;

		if (watch == NULL)
			continue;
		if ((event.events & EPOLLIN) != 0)
			events |= LOOP_READABLE;
		if ((event.events & EPOLLOUT) != 0)
			events |= LOOP_WRITABLE;
		if ((event.events & (EPOLLERR | EPOLLHUP)) != 0)
			events |= LOOP_FAILED;
		if ((event.events & EPOLLRDHUP) != 0)
			events |= LOOP_CLOSED;
		watch->ready(watch, events);
	}
	batch_size = batch_at = 0;
}

/* Runs the callbacks of the timers that are due, each at most once. */
static void
dispatch_timers(void)
{
	int64 now = sophia_clock_ms();

	for (LoopTimer *timer = timers; timer != NULL; timer = timer->next)
	{
		if (timer->due >= 0 && timer->due <= now)
		{
			timer->due = -1;
			timer->ring(timer);
		}
	}
}

/* The shorter of a timeout and the time to the next timer; -1 = no end. */
static long
bounded_timeout(long timeout_ms)
{
	int64 now = sophia_clock_ms();

	for (LoopTimer *timer = timers; timer != NULL; timer = timer->next)
	{
		int64 left = Max(timer->due - now, 0);

		if (timer->due >= 0 && (timeout_ms < 0 || left < timeout_ms))
			timeout_ms = (long) left;
	}
	return timeout_ms;
}

void
sophia_loop_wait(long timeout_ms)
{
	WaitEvent events[3];

	timeout_ms = bounded_timeout(timeout_ms);
	if (wait_set != NULL)
		(void) WaitEventSetWait(wait_set, timeout_ms, events, lengthof(events), PG_WAIT_EXTENSION);
	else
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout_ms >= 0 ? WL_TIMEOUT : 0),
						 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (epoll_fd >= 0)
		dispatch_events();
	dispatch_timers();
}
