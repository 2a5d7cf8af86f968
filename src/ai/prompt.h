/*
 * prompt.h
 *		What a task function says to a provider: a row of sophia.prompts, filled in for a call.
 */
#ifndef SOPHIA_PROMPT_H
#define SOPHIA_PROMPT_H

#include "postgres.h"

typedef struct Prompt
{
	int version;
	char *kind;			/* of the provider that it is for */
	char *instructions; /* of kind "openai": the system's message; of "snowflake": the statement */
	Datum options;		/* jsonb: those of the prompt, with those of the call over them */
} Prompt;

/*
 * The prompt of `function` for the provider of `model` (NULL: the default one).  `arguments` is a jsonb object of those that it may
 * name; `schema` and `options` are jsonb of the call, 0 = none.  NULL where there is no such model.  Raises 0A000 where the
 * function cannot be had from providers of that kind.
 */
extern Prompt *sophia_prompt_for(const char *function, const char *model, Datum arguments,
								 Datum schema, Datum options);

#endif /* SOPHIA_PROMPT_H */
