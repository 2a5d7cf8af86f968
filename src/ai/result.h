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

/* One WARNING where some texts failed, which names the first; raises its error where all did. */
extern void sophia_result_warn(const Call *call);

/* text[] in the order of the inputs; NULL where one failed or was NULL. */
extern Datum sophia_result_texts(const Call *call);

/* real[] of one outcome. */
extern Datum sophia_result_vector(const Outcome *outcome);

/* Rows (ord, embedding) into the tuplestore of a set-returning function. */
extern void sophia_result_vectors(FunctionCallInfo fcinfo, const Call *call);

/* One sophia.ai_result, and rows of it. */
extern Datum sophia_result_one(FunctionCallInfo fcinfo, const Call *call);
extern void sophia_result_rows(FunctionCallInfo fcinfo, const Call *call);

#endif /* SOPHIA_RESULT_H */
