/*
 * apply_sql.c
 *		Documents applied in a session's own transaction, through the code of the ingest.
 *
 * For documents that come out of their turn or by no journal at all: dead letters that are replayed, payloads, tables that
 * somebody else writes.  Only their clocks order them, against each other and against what the rows were made from.
 *
 * A worker may write the same rows at the same time.  Rows that exist are locked before they are reduced; where a key is
 * inserted by somebody else meanwhile, the documents are applied again to what is there then.  A table of elements alone has
 * no row to lock for a document, so there the table is locked.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/compat.h"
#include "catalog/pg_type.h"
#include "flow/apply.h"
#include "flow/document.h"
#include "flow/groups.h"
#include "flow/uuid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "store/statement.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(sophia_apply_documents);

#define RESULT_COLUMNS 9

/* What one call works with. */
typedef struct Call
{
	Apply apply;
	Arena arena; /* documents as given */
	Arena rows;	 /* reduced ones */
	JsonParser parser;
	int n;
	const char **lines;		  /* of the documents as given */
	ApplyDocument *documents; /* those that can be applied, in the order of their clocks */
	int n_documents;
} Call;

static bool
option_is(Jsonb *options, const char *name, const char *wanted)
{
	JsonbValue value;

	return getKeyJsonValueFromContainer(&options->root, name, strlen(name), &value) != NULL &&
		   value.type == jbvString && value.val.string.len == strlen(wanted) &&
		   memcmp(value.val.string.val, wanted, strlen(wanted)) == 0;
}

static char *
option_text(Jsonb *options, const char *name)
{
	JsonbValue value;

	if (getKeyJsonValueFromContainer(&options->root, name, strlen(name), &value) == NULL ||
		value.type != jbvString)
		return pstrdup("");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* The values of an array argument, NULL where it is null; one that does not go with `n` documents is an error. */
static Datum *
array_argument(FunctionCallInfo fcinfo, int argument, Oid type, int n, int *count)
{
	Datum *values;

	*count = 0;
	if (PG_ARGISNULL(argument))
		return NULL;
	if (type == INT8OID)
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						  TYPALIGN_DOUBLE, &values, NULL, count);
	else
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), type, -1, false, TYPALIGN_INT, &values,
						  NULL, count);
	if (n >= 0 && *count != n)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("arrays of documents, clocks and offsets differ in length")));
	return values;
}

/* Parses a document whose line, offset and, if it is given, clock are there; what cannot be applied is dead. */
static void
take_document(Call *call, ApplyDocument *given, bool clock_given)
{
	bool fine = sophia_document_parse(&call->parser, &call->arena, given);
	DocumentUuid uuid;
	const char *reason;
	int sqlstate = 0;

	if (!fine)
		sqlstate = sophia_document_problem(call->parser.problem, call->parser.problem_at, &reason);
	else if (sophia_document_too_large(given->length))
		sqlstate = sophia_document_problem_of_size(given->length, &reason);
	else if (!clock_given)
	{
		if (call->parser.uuid.kind == JSON_STRING &&
			sophia_uuid_parse(call->parser.uuid.u.text, call->parser.uuid.length, &uuid))
			given->document.clock = uuid.clock;
		else
			sqlstate = sophia_document_problem_of_uuid(&reason);
	}
	if (sqlstate != 0)
		sophia_apply_dead(&call->apply, given, sqlstate, reason);
	else
		call->documents[call->n_documents++] = *given;
}

/* By clock, as given where they are equal. */
static int
compare_documents(const void *a, const void *b)
{
	const ApplyDocument *left = a;
	const ApplyDocument *right = b;

	if (left->document.clock != right->document.clock)
		return left->document.clock < right->document.clock ? -1 : 1;
	return left->line < right->line ? -1 : left->line > right->line;
}

static void
take_documents(Call *call, FunctionCallInfo fcinfo)
{
	int unused;
	Datum *documents = array_argument(fcinfo, 3, BYTEAOID, -1, &call->n);
	Datum *clocks = array_argument(fcinfo, 4, INT8OID, call->n, &unused);
	Datum *offsets = array_argument(fcinfo, 5, INT8OID, call->n, &unused);

	call->lines = palloc(sizeof(char *) * Max(call->n, 1));
	call->documents = palloc_extended(sizeof(ApplyDocument) * Max(call->n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < call->n; i++)
	{
		bytea *document = DatumGetByteaPP(documents[i]);
		ApplyDocument given = {.line = VARDATA_ANY(document),
							   .length = VARSIZE_ANY_EXHDR(document),
							   .document.offset = offsets != NULL ? DatumGetInt64(offsets[i]) : -1,
							   .document.clock =
								   clocks != NULL ? (uint64) DatumGetInt64(clocks[i]) : 0};

		CHECK_FOR_INTERRUPTS();
		call->lines[i] = given.line;
		take_document(call, &given, clocks != NULL);
	}
	qsort(call->documents, call->n_documents, sizeof(ApplyDocument), compare_documents);
}

/* Documents of an elements' table cannot lock a row of their own. */
static void
lock_elements(const Shape *shape)
{
	if (shape->main == NULL)
		LockRelationOid(sophia_target_relation(shape->elements, false), ShareRowExclusiveLock);
}

/* Position of a dead letter among the documents as given, from 1. */
static int
position(const Call *call, const DeadLetter *letter)
{
	for (int i = 0; i < call->n; i++)
		if (call->lines[i] == letter->line)
			return i + 1;
	elog(ERROR, "dead letter of no document");
}

static void
fill_failures(const Call *call, Datum *values)
{
	int n = list_length(call->apply.dead);
	Datum *positions = palloc(sizeof(Datum) * Max(n, 1));
	Datum *states = palloc(sizeof(Datum) * Max(n, 1));
	Datum *reasons = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		const DeadLetter *letter = list_nth(call->apply.dead, i);

		positions[i] = Int32GetDatum(position(call, letter));
		states[i] = CStringGetTextDatum(unpack_sql_state(letter->sqlstate));
		reasons[i] = CStringGetTextDatum(letter->reason);
	}
	values[0] =
		PointerGetDatum(construct_array(positions, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(states, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(reasons, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
apply_all(Call *call, FunctionCallInfo fcinfo)
{
	const ApplyDocument *documents;
	int n;

	take_documents(call, fcinfo);
	lock_elements(call->apply.shape);
	n = call->n_documents;
	documents = sophia_groups_open_pages(call->apply.shape, &call->arena, call->documents, &n);
	sophia_apply_carefully(&call->apply, documents, n);
}

static void
free_call(Call *call)
{
	sophia_shape_free(call->apply.shape);
	sophia_json_parser_free(&call->parser);
	sophia_arena_free(&call->arena);
	sophia_arena_free(&call->rows);
}

/* Gives the shape and the memory of malloc back however it ends. */
static void
apply_and_free(Call *call, FunctionCallInfo fcinfo)
{
	PG_TRY();
	{
		apply_all(call, fcinfo);
	}
	PG_CATCH();
	{
		free_call(call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	free_call(call);
}

/*
 * apply_documents(shape text, options jsonb, journal text, documents bytea[], clocks bigint[], offsets bigint[]): one row of
 * counts, and what failed; see sql/43_dead_letters.sql.
 */
Datum
sophia_apply_documents(PG_FUNCTION_ARGS)
{
	Call *call = palloc0(sizeof(Call));
	int nest_level = NewGUCNestLevel();
	TupleDesc descriptor;
	Datum values[RESULT_COLUMNS];
	bool nulls[RESULT_COLUMNS] = {false};
	Jsonb *options;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("shape, options and documents must not be null")));
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	options = PG_GETARG_JSONB_P(1);

	sophia_statement_pin_settings(false);
	call->apply.shape =
		sophia_shape_load(CurrentMemoryContext, text_to_cstring(PG_GETARG_TEXT_PP(0)),
						  JsonbToCString(NULL, &options->root, VARSIZE(options)),
						  option_text(options, "collection"), option_is(options, "delete", "hard"));
	call->apply.shape->skips_unchanged = option_is(options, "unchanged", "skip");
	call->apply.journal = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (call->apply.shape->append && call->apply.journal == NULL)
		elog(ERROR, "documents of no journal cannot be appended");
	call->apply.arena = &call->rows;
	call->apply.context = CurrentMemoryContext;
	call->apply.by_clock = true;
	apply_and_free(call, fcinfo);
	AtEOXact_GUC(false, nest_level);

	values[0] = Int64GetDatum(call->apply.applied);
	values[1] = Int64GetDatum(call->apply.rows_inserted);
	values[2] = Int64GetDatum(call->apply.rows_updated);
	values[3] = Int64GetDatum(call->apply.rows_removed);
	values[4] = Int64GetDatum(call->apply.elements_written);
	values[5] = Int64GetDatum(call->apply.elements_removed);
	fill_failures(call, &values[6]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
