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

/* Makes a call of the arguments of a function over a text or an array, and runs it; false where its result is NULL. */
typedef bool (*CallRunner)(FunctionCallInfo fcinfo, Call *call, bool array);

/*
 * The results of the try_ form of a function: sophia.ai_result for a text, rows of it for an array.  Errors become values, but
 * for a cancel, and for what the server itself has trouble with, such as memory.
 */
extern Datum sophia_result_try(FunctionCallInfo fcinfo, CallRunner run);
extern Datum sophia_result_try_array(FunctionCallInfo fcinfo, CallRunner run);

#endif /* SOPHIA_RESULT_H */
