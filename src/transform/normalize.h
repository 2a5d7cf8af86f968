/*
 * normalize.h
 *		E-mail addresses, phone numbers, names, HTML and Slack markup brought to one form.
 *
 * Pure: no server call, so that the same code runs in the backend, in the ingest worker and in unit
 * tests.  Every function takes UTF-8 of any content and appends its result to `out`.  False means that the
 * value cannot be normalised (or, never seen in practice, that there is no memory); `out` is then as before.
 */
#ifndef SOPHIA_NORMALIZE_H
#define SOPHIA_NORMALIZE_H

#include "transform/email.h"
#include "transform/html.h"
#include "transform/name.h"
#include "transform/phone.h"
#include "transform/slack.h"
#include "transform/snippet.h"

#endif /* SOPHIA_NORMALIZE_H */
