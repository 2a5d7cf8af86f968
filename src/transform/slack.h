/*
 * slack.h
 *		Slack's message markup as people read it.  The rules of all of these functions: normalize.h.
 */
#ifndef SOPHIA_SLACK_H
#define SOPHIA_SLACK_H

#include "base/buffer.h"

/* Appends the name of a Slack id to out; false (and out unchanged) when it is unknown. */
typedef bool (*SlackNameLookup)(void *arg, const char *id, size_t len, ByteBuffer *out);

/* The text of a Slack message as people read it; lookup may be NULL.  False when no text is left. */
extern bool sophia_slack_text(const char *in, size_t len, SlackNameLookup lookup, void *arg,
							  ByteBuffer *out);

#endif /* SOPHIA_SLACK_H */
