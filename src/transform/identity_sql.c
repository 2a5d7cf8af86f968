/*
 * identity_sql.c
 *		SQL entry points of identity resolution: argument checks and one call down.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "funcapi.h"
#include "transform/cluster_edges.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(sophia_cluster_edges_sql);

/* Elements of an array argument without NULLs; `count` is checked, or set where it is negative. */
static Datum *
array_argument(FunctionCallInfo fcinfo, int argument, Oid type, int32 *count)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(argument);
	bool by_value = type != TEXTOID;
	char align = type == BOOLOID ? TYPALIGN_CHAR : TYPALIGN_INT;
	Datum *elements;
	int size;

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arrays of edges must have one dimension and no nulls")));
	deconstruct_array(array, type, type == TEXTOID ? -1 : (type == BOOLOID ? 1 : 4), by_value,
					  align, &elements, NULL, &size);
	if (*count >= 0 && size != *count)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arrays of edges must be of one length")));
	*count = size;
	return elements;
}

static int32 *
int_argument(FunctionCallInfo fcinfo, int argument, int32 *count)
{
	Datum *elements = array_argument(fcinfo, argument, INT4OID, count);
	int32 *numbers = palloc_extended(Max(*count, 1) * sizeof(int32), MCXT_ALLOC_HUGE);

	for (int32 i = 0; i < *count; i++)
		numbers[i] = DatumGetInt32(elements[i]);
	pfree(elements);
	return numbers;
}

static bool *
bool_argument(FunctionCallInfo fcinfo, int argument, int32 *count)
{
	Datum *elements = array_argument(fcinfo, argument, BOOLOID, count);
	bool *flags = palloc_extended(Max(*count, 1), MCXT_ALLOC_HUGE);

	for (int32 i = 0; i < *count; i++)
		flags[i] = DatumGetBool(elements[i]);
	pfree(elements);
	return flags;
}

static void
check_kinds(const ClusterEdges *edges)
{
	for (int32 i = 0; i < edges->count; i++)
		if (edges->kinds[i] < 0 || edges->kinds[i] > edges->kind_count)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("an edge is of unknown kind %d", edges->kinds[i])));
}

/* An array of fixed-width elements that stand side by side in memory as they do in an array. */
static Datum
packed_array(const void *elements, int32 count, Oid type, int width)
{
	Size size = ARR_OVERHEAD_NONULLS(1) + (Size) count * width;
	ArrayType *array = palloc0(size);

	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = type;
	ARR_DIMS(array)[0] = count;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), elements, (Size) count * width);
	return PointerGetDatum(array);
}

Datum
sophia_cluster_edges_sql(PG_FUNCTION_ARGS)
{
	ClusterEdges edges = {.count = -1, .kind_count = -1, .apart_count = -1};
	TupleDesc row;
	Datum values[2];
	bool nulls[2] = {false, false};
	int32 *components;
	bool *accepted;

	edges.records = array_argument(fcinfo, 0, TEXTOID, &edges.count);
	edges.others = array_argument(fcinfo, 1, TEXTOID, &edges.count);
	edges.kinds = int_argument(fcinfo, 2, &edges.count);
	edges.names = int_argument(fcinfo, 3, &edges.count);
	edges.limits = int_argument(fcinfo, 4, &edges.kind_count);
	edges.compare_names = bool_argument(fcinfo, 5, &edges.kind_count);
	edges.apart_records = array_argument(fcinfo, 6, TEXTOID, &edges.apart_count);
	edges.apart_others = array_argument(fcinfo, 7, TEXTOID, &edges.apart_count);
	check_kinds(&edges);
	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	components = palloc_extended(Max(edges.count, 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	accepted = palloc_extended(Max(edges.count, 1), MCXT_ALLOC_HUGE);
	sophia_cluster_edges(&edges, components, accepted);
	values[0] = packed_array(components, edges.count, INT4OID, sizeof(int32));
	values[1] = packed_array(accepted, edges.count, BOOLOID, sizeof(bool));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls)));
}
