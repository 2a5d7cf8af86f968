/*
 * prompt.c
 *		What a task function says to a provider: see prompt.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "ai/profile.h"
#include "ai/prompt.h"
#include "store/statement.h"

/* The row of the last result, in `context`; a version of 0 where there is none. */
static Prompt *
read_prompt(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Prompt *prompt = palloc0(sizeof(Prompt));
	bool null;
	Datum version = sophia_result(0, 2, &null);

	prompt->kind = sophia_result_text(0, 1);
	if (!null)
	{
		prompt->version = DatumGetInt32(version);
		prompt->instructions = sophia_result_text(0, 3);
		prompt->options = PointerGetDatum(PG_DETOAST_DATUM_COPY(sophia_result(0, 4, &null)));
	}
	MemoryContextSwitchTo(old);
	return prompt;
}

Prompt *
sophia_prompt_for(const char *function, const char *model, Datum arguments, Datum schema,
				  Datum options)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext context = CurrentMemoryContext;
	Oid types[] = {TEXTOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID};
	Datum values[] = {CStringGetTextDatum(function),
					  model != NULL ? CStringGetTextDatum(model) : (Datum) 0, arguments, schema,
					  options};
	char nulls[] = {' ', model != NULL ? ' ' : 'n', ' ', schema != 0 ? ' ' : 'n',
					options != 0 ? ' ' : 'n'};
	Prompt *prompt;

	SPI_connect();
	(void) sophia_profile_query(&plan,
								"SELECT kind, version, instructions, merged"
								" FROM sophia.prompt_for($1, $2, 'complete', $3, $4, $5)",
								5, types, values, nulls);
	prompt = read_prompt(context);
	SPI_finish();
	if (prompt->kind == NULL)
		return NULL;
	if (prompt->version == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("function \"%s\" cannot be had from providers of kind \"%s\"",
							   function, prompt->kind)));
	return prompt;
}
