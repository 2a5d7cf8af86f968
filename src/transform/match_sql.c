/*
 * match_sql.c
 *		SQL entry points of match rules: similarities, and the clusters of weighted pairs.
 *
 * A similarity of texts that are too long to compare is NULL; no text raises an error.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/settings.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "transform/clustering.h"
#include "transform/similarity.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(sophia_jaro_sql);
PG_FUNCTION_INFO_V1(sophia_jaro_winkler_sql);
PG_FUNCTION_INFO_V1(sophia_levenshtein_sql);
PG_FUNCTION_INFO_V1(sophia_levenshtein_similarity_sql);
PG_FUNCTION_INFO_V1(sophia_token_similarity_sql);
PG_FUNCTION_INFO_V1(sophia_name_similarity_sql);
PG_FUNCTION_INFO_V1(sophia_cluster_pairs_sql);
PG_FUNCTION_INFO_V1(sophia_match_block_limit_sql);

static Span
span_arg(FunctionCallInfo fcinfo, int n)
{
	text *value = PG_GETARG_TEXT_PP(n);

	return (Span){VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

static Datum
similarity(FunctionCallInfo fcinfo, bool (*compare)(Span a, Span b, double *similarity))
{
	double result;

	if (!compare(span_arg(fcinfo, 0), span_arg(fcinfo, 1), &result))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(result);
}

Datum
sophia_jaro_sql(PG_FUNCTION_ARGS)
{
	return similarity(fcinfo, sophia_jaro);
}

Datum
sophia_jaro_winkler_sql(PG_FUNCTION_ARGS)
{
	return similarity(fcinfo, sophia_jaro_winkler);
}

Datum
sophia_levenshtein_sql(PG_FUNCTION_ARGS)
{
	int distance;

	if (!sophia_levenshtein(span_arg(fcinfo, 0), span_arg(fcinfo, 1), &distance))
		PG_RETURN_NULL();
	PG_RETURN_INT32(distance);
}

Datum
sophia_levenshtein_similarity_sql(PG_FUNCTION_ARGS)
{
	return similarity(fcinfo, sophia_levenshtein_similarity);
}

Datum
sophia_token_similarity_sql(PG_FUNCTION_ARGS)
{
	return similarity(fcinfo, sophia_token_similarity);
}

Datum
sophia_name_similarity_sql(PG_FUNCTION_ARGS)
{
	return similarity(fcinfo, sophia_name_similarity);
}

/* An argument that is an array of one dimension, without NULL, of `count` elements; -1: of any number. */
static void *
array_arg(FunctionCallInfo fcinfo, int n, int *count)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(n);
	int elements = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array) || (*count >= 0 && *count != elements))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arrays of pairs must be as long as each other, and hold no null")));
	*count = elements;
	return ARR_DATA_PTR(array);
}

static RecordPair *
read_pairs(FunctionCallInfo fcinfo, int32 nodes, int *count)
{
	int32 *a;
	int32 *b;
	int32 *kind;
	float8 *strength;
	RecordPair *pairs;

	*count = -1;
	a = array_arg(fcinfo, 1, count);
	b = array_arg(fcinfo, 2, count);
	kind = array_arg(fcinfo, 3, count);
	strength = array_arg(fcinfo, 4, count);
	pairs = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(RecordPair) * ((Size) *count + 1));
	for (int i = 0; i < *count; i++)
	{
		if (a[i] < 1 || a[i] > nodes || b[i] < 1 || b[i] > nodes || a[i] == b[i] ||
			kind[i] < PAIR_DIFFERENT || kind[i] > PAIR_REVIEW)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("pair %d is not one of two records", i + 1)));
		pairs[i] = (RecordPair){a[i] - 1, b[i] - 1, strength[i], kind[i], PAIR_APART};
	}
	return pairs;
}

static void *
huge_alloc(size_t bytes)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, bytes);
}

static void
check_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

static Datum
int_array(const int32 *values, int count)
{
	Datum *elements =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * ((Size) count + 1));

	for (int i = 0; i < count; i++)
		elements[i] = Int32GetDatum(values[i]);
	return PointerGetDatum(construct_array(elements, count, INT4OID, 4, true, TYPALIGN_INT));
}

/*
 * cluster_pairs(records integer, a integer[], b integer[], kind integer[], strength float8[],
 * OUT cluster integer[], OUT first integer[], OUT second integer[], OUT outcome integer[]): records are numbered from 1.
 */
Datum
sophia_cluster_pairs_sql(PG_FUNCTION_ARGS)
{
	static const ClusteringHost host = {huge_alloc, check_interrupts};
	int32 nodes = PG_GETARG_INT32(0);
	int count;
	RecordPair *pairs;
	int32 *numbers;
	TupleDesc row;
	Datum values[4];
	bool nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "cluster_pairs must return a row");
	if (nodes < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("number of records must not be negative")));
	pairs = read_pairs(fcinfo, nodes, &count);
	numbers = huge_alloc(sizeof(int32) * ((Size) Max(nodes, count) + 1));
	sophia_cluster_pairs(pairs, count, numbers, nodes, &host);
	for (int i = 0; i < nodes; i++)
		numbers[i]++;
	values[0] = int_array(numbers, nodes);
	for (int i = 0; i < count; i++)
		numbers[i] = pairs[i].a + 1;
	values[1] = int_array(numbers, count);
	for (int i = 0; i < count; i++)
		numbers[i] = pairs[i].b + 1;
	values[2] = int_array(numbers, count);
	for (int i = 0; i < count; i++)
		numbers[i] = pairs[i].outcome;
	values[3] = int_array(numbers, count);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls)));
}

/* match_block_limit(): the setting, also in a session that had not loaded the library. */
Datum
sophia_match_block_limit_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(sophia_match_block_limit);
}
