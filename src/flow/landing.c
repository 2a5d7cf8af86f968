/*
 * landing.c
 *		From the row of a landing table to the document that it holds: see landing.h.
 */
#include "postgres.h"

#include "flow/landing.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "base/json_parse.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "flow/uuid.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define UUID_TEXT_SIZE 37

/* One row on its way to its document. */
typedef struct Landing
{
	const LandingTable *table;
	TupleDesc desc;
	HeapTuple before; /* NULL = none */
	Datum *values;	  /* of the row */
	bool *nulls;
	StringInfoData text;
} Landing;

/* Reused over calls; on malloc, so that an error leaves nothing half done. */
static JsonParser parser;
static Arena arena;

static Datum
value_of(const Landing *landing, int attribute, bool *null)
{
	*null = landing->nulls[attribute - 1];
	return landing->values[attribute - 1];
}

static bool
has_value(const Landing *landing, const LandingColumn *column)
{
	return !landing->nulls[column->attribute - 1];
}

static bool
had_value(const Landing *landing, const LandingColumn *column)
{
	return landing->before != NULL &&
		   !heap_attisnull(landing->before, column->attribute, landing->desc);
}

static void
append_text(StringInfo out, Datum value, bool holds_json)
{
	text *characters = DatumGetTextPP(value);
	const char *start = VARDATA_ANY(characters);
	int length = VARSIZE_ANY_EXHDR(characters);
	int blanks = 0;

	while (holds_json && blanks < length && strchr(" \t\r\n", start[blanks]) != NULL)
		blanks++;
	if (holds_json && blanks < length && (start[blanks] == '{' || start[blanks] == '['))
	{
		bool fine;

		parser.skim = true;
		fine = sophia_json_parse(&parser, &arena, start, length);
		sophia_arena_reset(&arena);
		if (fine)
		{
			appendBinaryStringInfo(out, start, length);
			return;
		}
	}
	escape_json(out, text_to_cstring(characters));
}

/* Times are written in UTC, whatever the session has set. */
static void
append_time(StringInfo out, Datum value, Oid type)
{
	char buffer[MAXDATELEN + 1];
	int utc = 0;

	JsonEncodeDateTime(buffer, value, type, type == TIMESTAMPTZOID ? &utc : NULL);
	appendStringInfo(out, "\"%s\"", buffer);
}

/* A number is no JSON where it is not finite. */
static void
append_number(StringInfo out, Datum value, Oid output)
{
	char *digits = OidOutputFunctionCall(output, value);
	bool finite = isdigit((unsigned char) digits[digits[0] == '-' ? 1 : 0]);

	appendStringInfo(out, finite ? "%s" : "\"%s\"", digits);
}

static void
append_value(Landing *landing, const LandingColumn *column)
{
	StringInfo out = &landing->text;
	bool null;
	Datum value = value_of(landing, column->attribute, &null);
	text *json;

	switch (column->type)
	{
		case JSONOID:
			json = DatumGetTextPP(value);
			appendBinaryStringInfo(out, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
			break;
		case JSONBOID:
			appendStringInfoString(out, OidOutputFunctionCall(column->output, value));
			break;
		case BOOLOID:
			appendStringInfoString(out, DatumGetBool(value) ? "true" : "false");
			break;
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			append_number(out, value, column->output);
			break;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			append_text(out, value, column->holds_json);
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			append_time(out, value, column->type);
			break;
		default:
			escape_json(out, OidOutputFunctionCall(column->output, value));
	}
}

static uint64
clock_of_time(TimestampTz time)
{
	int64 us;

	if (TIMESTAMP_NOT_FINITE(time) ||
		pg_add_s64_overflow(time, (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY,
							&us))
		return time < 0 ? 0 : PG_UINT64_MAX;
	return sophia_clock_of_unix_us(us);
}

/* A uuid of version 1 with that clock, no flags and a producer that nobody has; layout as in flow/uuid.h. */
static void
format_uuid(uint64 clock, char *text)
{
	snprintf(text, UUID_TEXT_SIZE, "%08x-%04x-%04x-%02x00-010000000000",
			 (unsigned) (clock >> 4 & 0xffffffff), (unsigned) (clock >> 36 & 0xffff),
			 (unsigned) (clock >> 52 | 0x1000), (unsigned) (0x80 | (clock & 0xf) << 2));
}

/* When the document was published, as the row's own column says; a table without one tells only when it was written. */
static TimestampTz
published(const Landing *landing)
{
	const LandingTable *table = landing->table;
	bool null = true;
	Datum value = (Datum) 0;

	if (table->published != 0)
		value = value_of(landing, table->published, &null);
	if (null)
		return GetCurrentStatementStartTimestamp();
	if (table->published_type == TIMESTAMPTZOID)
		return DatumGetTimestampTz(value);
	return DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, CStringGetDatum(OidOutputFunctionCall(table->published_output, value)),
		ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* The end of the columns from `at` on that have the same step number `depth` as that one. */
static int
end_of_step(const Landing *landing, int at, int end, int depth)
{
	const LandingColumn *first = &landing->table->columns[at];
	int next = at + 1;

	for (; next < end; next++)
	{
		const LandingColumn *other = &landing->table->columns[next];

		if (sophia_json_compare_names(
				first->pointer.step[depth].name, first->pointer.step[depth].length,
				other->pointer.step[depth].name, other->pointer.step[depth].length) != 0)
			break;
	}
	return next;
}

/* True where one of the columns has something to say: a value, or that there is none any more. */
static bool
any_value(const Landing *landing, int at, int end)
{
	for (; at < end; at++)
		if (has_value(landing, &landing->table->columns[at]) ||
			had_value(landing, &landing->table->columns[at]))
			return true;
	return false;
}

static void append_object(Landing *landing, int at, int end, int depth);

/* The members of the columns at..end, whose pointers agree in their first `depth` steps, each behind a separator. */
static void
append_members(Landing *landing, int at, int end, int depth, char *separator)
{
	StringInfo out = &landing->text;
	int next;

	for (; at < end; at = next)
	{
		const LandingColumn *column = &landing->table->columns[at];
		int below = at + (column->pointer.steps == depth + 1);

		next = end_of_step(landing, at, end, depth);
		if (!any_value(landing, at, next))
			continue;
		appendStringInfoChar(out, *separator);
		*separator = ',';
		escape_json(out,
					pnstrdup(column->pointer.step[depth].name, column->pointer.step[depth].length));
		appendStringInfoChar(out, ':');
		/* a column that holds the whole object holds what the columns below it do */
		if (below > at && has_value(landing, column))
			append_value(landing, column);
		else if (any_value(landing, below, next))
			append_object(landing, below, next, depth + 1);
		else
			appendStringInfoString(out, "null");
	}
}

static void
append_object(Landing *landing, int at, int end, int depth)
{
	char separator = '{';

	append_members(landing, at, end, depth, &separator);
	appendStringInfoString(&landing->text, separator == '{' ? "{}" : "}");
}

static bool
is_meta(const LandingColumn *column)
{
	return column->pointer.step[0].length == 5 &&
		   memcmp(column->pointer.step[0].name, "_meta", 5) == 0;
}

/* The document from the columns, with a uuid of its time of publication. */
static void
append_columns(Landing *landing)
{
	const LandingTable *table = landing->table;
	StringInfo out = &landing->text;
	char separator = ',';
	char uuid[UUID_TEXT_SIZE];
	int meta = 0;
	int others;

	while (meta < table->n_columns && !is_meta(&table->columns[meta]))
		meta++;
	for (others = meta; others < table->n_columns && is_meta(&table->columns[others]);)
		others++;
	format_uuid(clock_of_time(published(landing)), uuid);
	appendStringInfo(out, "{\"_meta\":{\"uuid\":\"%s\"", uuid);
	/* "_meta" as a whole in one column comes later, and so counts */
	if (meta < others && table->columns[meta].pointer.steps > 1)
		append_members(landing, meta, others, 1, &separator);
	else
		others = meta;
	appendStringInfoChar(out, '}');
	append_members(landing, 0, meta, 0, &separator);
	append_members(landing, others, table->n_columns, 0, &separator);
	appendStringInfoChar(out, '}');
}

/* The column that holds the whole document, where it does. */
static bool
append_whole(Landing *landing)
{
	const LandingTable *table = landing->table;
	bool null = true;
	Datum value = (Datum) 0;

	if (table->document != 0)
		value = value_of(landing, table->document, &null);
	if (null)
		return false;
	if (OidIsValid(table->document_output))
		appendStringInfoString(&landing->text, OidOutputFunctionCall(table->document_output, value));
	else
	{
		text *json = DatumGetTextPP(value);

		appendBinaryStringInfo(&landing->text, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
	}
	return true;
}

/* Of two members of one name the last one counts. */
static void
make_tombstone(StringInfo text, uint64 clock)
{
	char uuid[UUID_TEXT_SIZE];

	while (text->len > 0 && strchr(" \t\r\n", text->data[text->len - 1]) != NULL)
		text->len--;
	if (text->len > 0 && text->data[text->len - 1] == '}')
		text->len--;
	while (text->len > 0 && strchr(" \t\r\n", text->data[text->len - 1]) != NULL)
		text->len--;
	format_uuid(clock, uuid);
	appendStringInfo(text, "%s\"_meta\":{\"op\":\"d\",\"uuid\":\"%s\"}}",
					 text->len > 0 && text->data[text->len - 1] == '{' ? "" : ",", uuid);
}

static uint64
clock_of(const Landing *landing)
{
	DocumentUuid uuid;
	bool read;

	parser.skim = true;
	(void) sophia_json_parse(&parser, &arena, landing->text.data, landing->text.len);
	read = parser.uuid.kind == JSON_STRING &&
		   sophia_uuid_parse(parser.uuid.u.text, parser.uuid.length, &uuid);
	sophia_arena_reset(&arena);
	return read ? uuid.clock : clock_of_time(published(landing));
}

/* The row is marked as deleted although its document, which somebody else may have written, does not say so. */
static bool
marked_deleted(const Landing *landing)
{
	bool null = true;
	Datum value = (Datum) 0;
	const JsonNode *op;
	bool said;

	if (landing->table->operation != 0)
		value = value_of(landing, landing->table->operation, &null);
	if (null || strcmp(OidOutputFunctionCall(landing->table->operation_output, value), "d") != 0)
		return false;
	parser.skim = false;
	(void) sophia_json_parse(&parser, &arena, landing->text.data, landing->text.len);
	op = parser.problem == JSON_FINE ? sophia_json_member(&parser.root, "_meta", 5) : NULL;
	op = op != NULL ? sophia_json_member(op, "op", 2) : NULL;
	said = op != NULL && op->kind == JSON_STRING && op->length == 1 && op->u.text[0] == 'd';
	sophia_arena_reset(&arena);
	return !said;
}

static void
build(Landing *landing, HeapTuple row, bool deleted, LandedDocument *landed)
{
	landing->values = palloc(sizeof(Datum) * landing->desc->natts);
	landing->nulls = palloc(sizeof(bool) * landing->desc->natts);
	heap_deform_tuple(row, landing->desc, landing->values, landing->nulls);
	initStringInfo(&landing->text);
	if (!append_whole(landing))
		append_columns(landing);
	landed->clock = clock_of(landing);
	if (deleted || marked_deleted(landing))
		make_tombstone(&landing->text, landed->clock);
	landed->document = DatumGetByteaPP(
		PointerGetDatum(cstring_to_text_with_len(landing->text.data, landing->text.len)));
}

LandedDocument
sophia_landing_document(Oid relation, TupleDesc desc, HeapTuple row, HeapTuple before, bool deleted)
{
	Landing landing = {.desc = desc, .before = before};
	LandedDocument landed = {.clock = 0};
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		landing.table = sophia_landing_table(relation, desc);
		build(&landing, row, deleted, &landed);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
			ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION))
			ReThrowError(error);
		landed.document = (bytea *) cstring_to_text("");
		landed.problem = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return landed;
}
