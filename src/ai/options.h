/*
 * options.h
 *		The options of a call, which are also what a model may have as defaults.
 */
#ifndef SOPHIA_AI_OPTIONS_H
#define SOPHIA_AI_OPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

/* Raises 22023 where these are no options of a call, naming those that there are. */
extern void sophia_check_call_options(Jsonb *options);

#endif /* SOPHIA_AI_OPTIONS_H */
