/*
 * result.h
 *		The outcomes of a call as results of SQL functions.
 */
#ifndef SOPHIA_RESULT_H
#define SOPHIA_RESULT_H

#include "postgres.h"

#include "ai/call.h"
#include "fmgr.h"
#include "utils/array.h"

/* Takes a text, or an array of texts, as the inputs of a call.  Raises 22023 for an array of several dimensions. */
extern void sophia_result_take_text(Call *call, const text *input);
extern void sophia_result_take_array(Call *call, ArrayType *array);

/* The same of the argument at a place. */
extern void sophia_result_take(Call *call, FunctionCallInfo fcinfo, int place, bool array);

/* What an outcome that is well gives as SQL. */
typedef Datum (*ResultMaker)(const Call *call, int i, Oid type, bool *null);

/* An array of results in the order of the inputs; NULL where one failed or was NULL. */
extern Datum sophia_result_array(const Call *call, Oid type, ResultMaker maker);

/* One WARNING where some texts failed, which names the first; raises its error where all did. */
extern void sophia_result_warn(const Call *call);

/* text[] in the order of the inputs; NULL where one failed or was NULL. */
extern Datum sophia_result_texts(const Call *call);

/* real[] of one outcome. */
extern Datum sophia_result_vector(const Outcome *outcome);

/* Rows (ord, embedding) into the tuplestore of a set-returning function. */
extern void sophia_result_vectors(FunctionCallInfo fcinfo, const Call *call);

/* Makes a call of the arguments of a function over a text or an array; false where its result is NULL. */
typedef bool (*CallMaker)(FunctionCallInfo fcinfo, Call *call, bool array);

/*
 * The results of the try_ form of a function: sophia.ai_result for a text, rows of it for an array.  Errors become values, but
 * for a cancel, and for what the server itself has trouble with, such as memory.
 */
extern Datum sophia_result_try(FunctionCallInfo fcinfo, CallMaker make);
extern Datum sophia_result_try_array(FunctionCallInfo fcinfo, CallMaker make);

/*
 * Has a try_ function make the call of its arguments, and not run it: `make` invokes the function.  False where its result is
 * NULL.  Errors of the arguments, the model and so on are raised.
 */
extern bool sophia_result_make(Call *call, FunctionCallInfo fcinfo);

/* The outcomes become that of an error that met the whole call; false where it tells of something else. */
extern bool sophia_result_fail(Call *call, const ErrorData *error);

/* Columns of sophia.ai_result, of one outcome. */
#define AI_RESULT_COLUMNS 12
extern void sophia_result_row(const Call *call, int i, Datum *values, bool *nulls);

#endif /* SOPHIA_RESULT_H */
