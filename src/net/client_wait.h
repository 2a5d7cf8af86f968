/*
 * client_wait.h
 *		How a session waits for another process of ours, without forgetting its client.
 */
#ifndef SOPHIA_CLIENT_WAIT_H
#define SOPHIA_CLIENT_WAIT_H

/*
 * Waits until the latch is set, or timeout_ms (-1: no limit) is over, and resets the latch.  Raises what
 * CHECK_FOR_INTERRUPTS raises, and ends the session when its client has gone away, which PostgreSQL 15 does not notice
 * by itself while a statement runs.
 */
extern void sophia_client_wait(long timeout_ms);

#endif /* SOPHIA_CLIENT_WAIT_H */
