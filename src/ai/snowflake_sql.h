/*
 * snowflake_sql.h
 *		Task functions of a Snowflake account: SQL statements over many texts, sent to its SQL API.
 *
 * Source: Snowflake's SQL API reference (/api/v2/statements).  A statement is a row of sophia.prompts; {inputs} in it stands for
 * a JSON array of the texts, {model} and the names of arguments for these; each becomes a binding.  It gives rows of
 * the index of the text, from 0, the value, and perhaps why there is none.
 */
#ifndef SOPHIA_SNOWFLAKE_SQL_H
#define SOPHIA_SNOWFLAKE_SQL_H

#include "postgres.h"

#include "ai/call.h"

/* A row of a result; text NULL = SQL's NULL. */
typedef struct SqlRow
{
	int64 index;
	TextSpan value;
	TextSpan error;
} SqlRow;

typedef struct SqlAnswer
{
	SqlRow *rows; /* in the arena */
	int n_rows;
	int partitions;	 /* of the whole result, 1 at least */
	TextSpan handle; /* of the statement, by which its other partitions are asked for */
} SqlAnswer;

/* Length of an id of a request, with its NUL. */
#define SQL_REQUEST_ID_BYTES 37

/* What the path of a statement ends with that may have come there before. */
#define SQL_RETRY "&retry=true"

/* A new id (UUID, version 4), by which the account knows a statement that is sent again. */
extern void sophia_snowflake_sql_id(char *id);

/* The body of a statement over n texts.  `session` is a JSON object of warehouse, role and so on.  False: no memory. */
extern bool sophia_snowflake_sql_request(ByteBuffer *out, const Prompt *prompt,
										 const char *remote_name, const char *session,
										 int timeout_ms, const TextSpan *texts, int n);

/* Reads an answer, as the functions of openai.h do. */
extern bool sophia_snowflake_sql_answer(SqlAnswer *answer, OpenaiProblem *problem, Arena *arena,
										int status, const char *body, size_t length);

/* The handle of a statement that goes on (HTTP status 202), palloc'ed; NULL where the answer names none. */
extern char *sophia_snowflake_sql_handle(const char *body, size_t length);

#endif /* SOPHIA_SNOWFLAKE_SQL_H */
