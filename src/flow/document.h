/*
 * document.h
 *		From the bytes of a document to what can be applied, and what is said of bytes that cannot.
 */
#ifndef SOPHIA_DOCUMENT_H
#define SOPHIA_DOCUMENT_H

#include "postgres.h"

#include "base/json_parse.h"
#include "flow/apply.h"

/*
 * Parses given->line and fills root and tombstone; of a document that is too large to be applied, only what its place in
 * the sequence needs.  False where the parser has found a problem.  Raises an error when there is no memory.
 */
extern bool sophia_document_parse(JsonParser *parser, Arena *arena, ApplyDocument *given);

/* Reads only what the place of a document in the sequence needs: uuid and problems.  Else as sophia_document_parse(). */
extern bool sophia_document_skim(JsonParser *parser, Arena *arena, const char *line, size_t length);

/* Longer than sophia_stack.max_document_size allows. */
extern bool sophia_document_too_large(size_t length);

/* What is wrong with a document that is not to be applied: returns the SQLSTATE, and the text in *reason (palloc'ed). */
extern int sophia_document_problem(JsonProblem problem, size_t at, const char **reason);
extern int sophia_document_problem_of_size(size_t length, const char **reason);
extern int sophia_document_problem_of_uuid(const char **reason);

#endif /* SOPHIA_DOCUMENT_H */
