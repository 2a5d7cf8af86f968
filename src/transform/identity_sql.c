/*
 * identity_sql.c
 *		SQL entry points of identity resolution: reads the rows of a query into a graph, and returns its edges.
 *
 * Both are read and written a row at a time, so that only the graph itself is in memory.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "transform/identity_graph.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define ROWS_A_FETCH	  1000
#define VALUES_A_QUESTION 50000
#define QUERY_COLUMNS	  12
#define RESULT_COLUMNS	  10

PG_FUNCTION_INFO_V1(sophia_cluster_identifiers_sql);

/* Elements of an array argument without NULLs; `count` is checked, or set where it is negative. */
static Datum *
array_argument(FunctionCallInfo fcinfo, int argument, Oid type, int32 *count)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(argument);
	char align = type == BOOLOID ? TYPALIGN_CHAR : TYPALIGN_INT;
	Datum *elements;
	int size;

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arrays of identifiers must have one dimension and no nulls")));
	deconstruct_array(array, type, type == TEXTOID ? -1 : (type == BOOLOID ? 1 : 4),
					  type != TEXTOID, align, &elements, NULL, &size);
	if (*count >= 0 && size != *count)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arrays of identifiers must be of one length")));
	*count = size;
	return elements;
}

/* Valid as long as the datum, which is a short or a plain one, as elements of arrays are. */
static GraphText
graph_text(Datum datum)
{
	text *value = DatumGetTextPP(datum);

	return (GraphText){VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

static GraphText *
text_argument(FunctionCallInfo fcinfo, int argument, int32 *count)
{
	Datum *elements = array_argument(fcinfo, argument, TEXTOID, count);
	GraphText *texts = palloc_extended(Max(*count, 1) * sizeof(GraphText), MCXT_ALLOC_HUGE);

	for (int32 i = 0; i < *count; i++)
		texts[i] = graph_text(elements[i]);
	return texts;
}

static IdentityKind *
kinds_argument(FunctionCallInfo fcinfo, int32 *count)
{
	GraphText *names = text_argument(fcinfo, 3, count);
	Datum *priorities = array_argument(fcinfo, 4, INT4OID, count);
	Datum *confidences = array_argument(fcinfo, 5, FLOAT4OID, count);
	Datum *max_records = array_argument(fcinfo, 6, INT4OID, count);
	Datum *max_values = array_argument(fcinfo, 7, INT4OID, count);
	Datum *compare_names = array_argument(fcinfo, 8, BOOLOID, count);
	IdentityKind *kinds = palloc(Max(*count, 1) * sizeof(IdentityKind));

	for (int32 i = 0; i < *count; i++)
		kinds[i] = (IdentityKind){names[i],
								  DatumGetInt32(priorities[i]),
								  DatumGetFloat4(confidences[i]),
								  DatumGetInt32(max_records[i]),
								  DatumGetInt32(max_values[i]),
								  DatumGetBool(compare_names[i])};
	return kinds;
}

/* Number of a kind; 0 = a record, -1 = a kind that is not enabled. */
static int32
kind_number(const IdentityGraph *graph, GraphText name)
{
	for (int32 i = 0; i < graph->kind_count; i++)
		if (graph->kinds[i].name.size == name.size &&
			memcmp(graph->kinds[i].name.bytes, name.bytes, name.size) == 0)
			return i + 1;
	return name.size == 6 && memcmp(name.bytes, "record", 6) == 0 ? 0 : -1;
}

static GraphText
text_column(HeapTuple tuple, TupleDesc row, int column)
{
	bool is_null;
	Datum value = SPI_getbinval(tuple, row, column, &is_null);

	return is_null ? (GraphText){"", 0} : graph_text(value);
}

static int64
number_column(HeapTuple tuple, TupleDesc row, int column)
{
	bool is_null;
	Datum value = SPI_getbinval(tuple, row, column, &is_null);

	if (is_null)
		return 0;
	return TupleDescAttr(row, column - 1)->atttypid == INT8OID ? DatumGetInt64(value)
															   : DatumGetInt32(value);
}

static bool
bool_column(HeapTuple tuple, TupleDesc row, int column)
{
	bool is_null;
	Datum value = SPI_getbinval(tuple, row, column, &is_null);

	return !is_null && DatumGetBool(value);
}

/* When an edge is kept: 'always', 'shared' or 'of member'. */
static IdentityKeep
keep_column(HeapTuple tuple, TupleDesc row, int column)
{
	switch (*text_column(tuple, row, column).bytes)
	{
		case 'a':
			return KEEP_ALWAYS;
		case 's':
			return KEEP_SHARED;
		default:
			return KEEP_OF_MEMBER;
	}
}

static const char *
edge_status(const IdentityEdge *edge)
{
	if (edge->blocked)
		return "blocked";
	if (edge->contested)
		return "contested";
	return edge->accepted ? "linked" : "refused";
}

static void
add_row(IdentityGraph *graph, HeapTuple tuple, TupleDesc row)
{
	bool is_null;
	IdentityRow identifier = {
		.record = text_column(tuple, row, 1),
		.number = kind_number(graph, text_column(tuple, row, 2)),
		.value = text_column(tuple, row, 3),
		.qualifier = text_column(tuple, row, 4),
		.rule = text_column(tuple, row, 5),
		.name = (int32) number_column(tuple, row, 6),
		.keep = keep_column(tuple, row, 7),
		.contested = bool_column(tuple, row, 8),
		.identity = number_column(tuple, row, 9),
		.priority = (int32) number_column(tuple, row, 10),
		.place = (int32) number_column(tuple, row, 11),
		.confidence = DatumGetFloat4(SPI_getbinval(tuple, row, 12, &is_null)),
	};

	if (identifier.number < 0)
		return;
	if (identifier.number > 0)
	{
		identifier.priority = graph->kinds[identifier.number - 1].priority;
		identifier.confidence = graph->kinds[identifier.number - 1].confidence;
	}
	sophia_identity_graph_add(graph, &identifier);
}

/* Adds what the query says; its parameter is the second argument. */
static void
read_rows(FunctionCallInfo fcinfo, IdentityGraph *graph)
{
	Oid type = TEXTARRAYOID;
	Datum records = PG_GETARG_DATUM(1);
	Portal portal;

	SPI_connect();
	portal = SPI_cursor_open_with_args(NULL, text_to_cstring(PG_GETARG_TEXT_PP(0)), 1, &type,
									   &records, NULL, true, 0);
	if (portal->tupDesc->natts != QUERY_COLUMNS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a query for identifiers must have %d columns", QUERY_COLUMNS)));
	do
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, ROWS_A_FETCH);
		for (uint64 i = 0; i < SPI_processed; i++)
			add_row(graph, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(portal);
	SPI_finish();
}

static void
block_values(FunctionCallInfo fcinfo, IdentityGraph *graph)
{
	int32 count = -1;
	GraphText *kinds = text_argument(fcinfo, 9, &count);
	GraphText *values = text_argument(fcinfo, 10, &count);

	for (int32 i = 0; i < count; i++)
	{
		IdentityNode *node =
			sophia_identity_graph_find(graph, kind_number(graph, kinds[i]), values[i]);

		if (node != NULL)
			node->is_hot = true;
	}
}

static Datum
text_datum(GraphText value)
{
	return PointerGetDatum(cstring_to_text_with_len(value.bytes, value.size));
}

/* Asks the query of the third argument, which of some values are allowed. */
static void
ask_lists(FunctionCallInfo fcinfo, IdentityGraph *graph, ArrayBuildState *kinds,
		  ArrayBuildState *values)
{
	Oid types[2] = {TEXTARRAYOID, TEXTARRAYOID};
	Datum arguments[2] = {makeArrayResult(kinds, CurrentMemoryContext),
						  makeArrayResult(values, CurrentMemoryContext)};

	SPI_execute_with_args(text_to_cstring(PG_GETARG_TEXT_PP(2)), 2, types, arguments, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc row = SPI_tuptable->tupdesc;
		IdentityNode *node = sophia_identity_graph_find(
			graph, kind_number(graph, text_column(tuple, row, 1)), text_column(tuple, row, 2));

		node->is_listed = false;
		node->is_exempt = bool_column(tuple, row, 3);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Finds out which of the values that are wanted tell nothing; most values are not. */
static void
check_values(FunctionCallInfo fcinfo, IdentityGraph *graph)
{
	int32 place = 0;

	SPI_connect();
	while (place < graph->node_count)
	{
		MemoryContext question = AllocSetContextCreate(
			CurrentMemoryContext, "question about values", ALLOCSET_DEFAULT_SIZES);
		MemoryContext caller = MemoryContextSwitchTo(question);
		ArrayBuildState *kinds = initArrayResult(TEXTOID, question, false);
		ArrayBuildState *values = initArrayResult(TEXTOID, question, false);

		for (; place < graph->node_count && values->nelems < VALUES_A_QUESTION; place++)
		{
			IdentityNode *node = &graph->nodes[place];

			if (!node->is_wanted)
				continue;
			node->is_wanted = false;
			node->is_listed = true;
			accumArrayResult(kinds, text_datum(graph->kinds[node->number - 1].name), false, TEXTOID,
							 question);
			accumArrayResult(values, text_datum(node->name), false, TEXTOID, question);
		}
		if (values->nelems > 0)
			ask_lists(fcinfo, graph, kinds, values);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(question);
	}
	SPI_finish();
}

static void
return_edge(ReturnSetInfo *result, IdentityGraph *graph, const IdentityEdge *edge)
{
	int32 component = sophia_identity_graph_component(graph, edge);
	const IdentityNode *record = &graph->nodes[edge->record];
	Datum values[RESULT_COLUMNS] = {
		text_datum(record->name),
		edge->number == 0 ? CStringGetTextDatum("record")
						  : text_datum(graph->kinds[edge->number - 1].name),
		text_datum(graph->nodes[edge->value].name),
		edge->qualifier < 0 ? CStringGetTextDatum("")
							: text_datum(graph->nodes[edge->qualifier].name),
		text_datum(graph->rules[edge->rule]),
		Float4GetDatum(edge->confidence),
		CStringGetTextDatum(edge_status(edge)),
		Int32GetDatum(component),
		Int64GetDatum(record->identity),
		Int64GetDatum(graph->nodes[component].owner),
	};
	bool nulls[RESULT_COLUMNS] = {false};

	nulls[8] = record->identity == 0;
	nulls[9] = graph->nodes[component].owner == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
return_edges(FunctionCallInfo fcinfo, IdentityGraph *graph)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "edge of identities", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);

	for (int32 i = 0; i < graph->edge_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		return_edge(result, graph, &graph->edges[i]);
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(caller);
}

/*
 * cluster_identifiers(query, records, allowed, kinds, priorities, confidences, max_records, max_values, compare_names,
 * hot_kinds, hot_values, apart, apart_from): the query, whose parameter is `records`, gives the columns that add_row()
 * reads; the query `allowed`, whose parameters are kinds and values, those of them that no list blocks, and whether
 * a list says so.
 */
Datum
sophia_cluster_identifiers_sql(PG_FUNCTION_ARGS)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "graph of identities", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;
	int32 kind_count = -1;
	int32 pair_count = -1;
	GraphText *apart;
	GraphText *from;
	IdentityKind *kinds;
	IdentityGraph *graph;

	InitMaterializedSRF(fcinfo, 0);
	caller = MemoryContextSwitchTo(context);
	kinds = kinds_argument(fcinfo, &kind_count);
	graph = sophia_identity_graph_create(kinds, kind_count);
	read_rows(fcinfo, graph);
	block_values(fcinfo, graph);
	sophia_identity_graph_want_shared(graph);
	check_values(fcinfo, graph);
	sophia_identity_graph_want_others(graph);
	check_values(fcinfo, graph);
	apart = text_argument(fcinfo, 11, &pair_count);
	from = text_argument(fcinfo, 12, &pair_count);
	sophia_identity_graph_cluster(graph, apart, from, pair_count);
	return_edges(fcinfo, graph);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return (Datum) 0;
}
