/*
 * client_wait.c
 *		How a session waits for another process of ours: see client_wait.h.
 *
 * The server keeps a set of what a session waits for its client with: socket, latch and postmaster.  It is used here as the
 * server's own look at the client does it (pq_check_connection), so a wait costs one system call.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"

#include "base/compat.h"
#include "net/client_wait.h"

#define CLIENT_EVENTS 3

/* Waits for latch and client; true when the client has gone away. */
static bool
client_goes(long timeout_ms)
{
	WaitEvent events[CLIENT_EVENTS];
	bool gone = false;
	int n;

	ModifyWaitEvent(FeBeWaitSet, COMPAT_CLIENT_SOCKET_POSITION, WL_SOCKET_CLOSED, NULL);
	n = WaitEventSetWait(FeBeWaitSet, timeout_ms, events, CLIENT_EVENTS, PG_WAIT_EXTENSION);
	for (int i = 0; i < n; i++)
	{
		if ((events[i].events & WL_POSTMASTER_DEATH) != 0)
			proc_exit(1);
		gone |= (events[i].events & WL_SOCKET_CLOSED) != 0;
	}
	return gone;
}

void
sophia_client_wait(long timeout_ms)
{
	int wake_on = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout_ms >= 0 ? WL_TIMEOUT : 0);

	if (FeBeWaitSet == NULL || !WaitEventSetCanReportClosed())
		(void) WaitLatch(MyLatch, wake_on, timeout_ms, PG_WAIT_EXTENSION);
	else if (client_goes(timeout_ms))
	{
		ClientConnectionLost = true;
		InterruptPending = true;
	}
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
