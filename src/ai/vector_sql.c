/*
 * vector_sql.c
 *		SQL entry points of the vector functions, over real[].
 *
 * They need nothing but their arguments: no preloaded library, no worker.
 */
#include "postgres.h"

#include "ai/vector.h"
#include "base/compat.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(sophia_inner_product_sql);
PG_FUNCTION_INFO_V1(sophia_l1_distance_sql);
PG_FUNCTION_INFO_V1(sophia_l2_distance_sql);
PG_FUNCTION_INFO_V1(sophia_cosine_similarity_sql);

/* Number of elements of a vector.  22023 for an array that is none. */
static size_t
vector_length(const ArrayType *vector)
{
	if (ARR_NDIM(vector) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a vector must have one dimension"),
						errdetail("This array has %d dimensions.", ARR_NDIM(vector))));
	if (array_contains_nulls((ArrayType *) vector))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a vector must not contain nulls")));
	return ArrayGetNItems(ARR_NDIM(vector), ARR_DIMS(vector));
}

static Datum
compare(FunctionCallInfo fcinfo, double (*measure)(const float *a, const float *b, size_t n))
{
	ArrayType *a = PG_GETARG_ARRAYTYPE_P(0);
	ArrayType *b = PG_GETARG_ARRAYTYPE_P(1);
	size_t a_length = vector_length(a);
	size_t b_length = vector_length(b);
	double result;

	if (a_length != b_length)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("vectors differ in length"),
						errdetail("One has %zu elements, the other %zu.", a_length, b_length)));
	result = measure((const float *) ARR_DATA_PTR(a), (const float *) ARR_DATA_PTR(b), a_length);
	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	PG_RETURN_FLOAT8(result);
}

Datum
sophia_inner_product_sql(PG_FUNCTION_ARGS)
{
	return compare(fcinfo, sophia_vector_inner_product);
}

Datum
sophia_l2_distance_sql(PG_FUNCTION_ARGS)
{
	return compare(fcinfo, sophia_vector_l2_distance);
}

Datum
sophia_l1_distance_sql(PG_FUNCTION_ARGS)
{
	return compare(fcinfo, sophia_vector_l1_distance);
}

Datum
sophia_cosine_similarity_sql(PG_FUNCTION_ARGS)
{
	return compare(fcinfo, sophia_vector_cosine);
}
