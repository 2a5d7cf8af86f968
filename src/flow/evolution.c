/*
 * evolution.c
 *		What the documents of a stream ask of its table: see evolution.h.
 *
 * New fields are looked for in the root and in those objects at the root that columns of the table are read from, such
 * as HubSpot's properties.  The names that are known are kept in the order that members of a document have, so that a
 * document without new fields costs one pass over both.
 */
#include "postgres.h"

#include "flow/evolution_state.h"

#include "catalog/pg_type.h"
#include "flow/conversion_functions.h"
#include "flow/field_rules.h"
#include "store/statement.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Longest pointer of a field that gets a column by itself. */
#define MAX_POINTER 1024

Evolution *
sophia_evolution_create(MemoryContext parent, const char *stream, bool adds, const char *misfit)
{
	MemoryContext context =
		AllocSetContextCreate(parent, "sophia_stack evolution", ALLOCSET_SMALL_SIZES);
	Evolution *evolution = MemoryContextAllocZero(context, sizeof(Evolution));

	evolution->context = context;
	evolution->stream = MemoryContextStrdup(context, stream);
	evolution->adds = adds;
	evolution->widens = misfit != NULL && strcmp(misfit, "widen") == 0;
	evolution->widens_evolved = evolution->widens || (adds && misfit == NULL);
	evolution->has_new_fields = adds;
	evolution->known =
		AllocSetContextCreate(context, "sophia_stack known fields", ALLOCSET_SMALL_SIZES);
	evolution->batch =
		AllocSetContextCreate(context, "sophia_stack new fields", ALLOCSET_SMALL_SIZES);
	return evolution;
}

/* ---- what is known ---- */

/* The place of a name in a level; *found tells whether it is there. */
static int
find_name(const Level *level, const char *name, uint32 length, bool *found)
{
	int low = 0;
	int high = level->n;

	*found = false;
	while (low < high)
	{
		int middle = (low + high) / 2;
		int order = sophia_json_compare_names(level->names[middle].name,
											  level->names[middle].length, name, length);

		if (order == 0)
			*found = true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
add_name(Evolution *evolution, Level *level, const char *name, uint32 length, NewField *fresh)
{
	bool found;
	int at = find_name(level, name, length, &found);
	char *copy;

	if (found)
		return;
	if (level->n == level->room)
	{
		level->room = Max(level->room * 2, 32);
		level->names = level->names == NULL
						   ? MemoryContextAlloc(evolution->known, sizeof(KnownName) * level->room)
						   : repalloc(level->names, sizeof(KnownName) * level->room);
	}
	copy = MemoryContextAlloc(evolution->known, length + 1);
	memcpy(copy, name, length);
	copy[length] = '\0';
	memmove(level->names + at + 1, level->names + at, sizeof(KnownName) * (level->n - at));
	level->names[at] = (KnownName){copy, length, fresh};
	level->n++;
}

static bool
is_meta(const JsonPointer *pointer)
{
	return pointer->step[0].length == 5 && memcmp(pointer->step[0].name, "_meta", 5) == 0;
}

/* The level of the objects that a pointer of one or two steps is read from, NULL = none. */
static Level *
find_level(Evolution *evolution, const JsonPointer *pointer)
{
	Level *level;

	if (pointer->steps < 1 || pointer->steps > 2 || is_meta(pointer))
		return NULL;
	for (int i = 0; i < evolution->n_levels; i++)
	{
		level = &evolution->levels[i];
		if (level->at.steps == pointer->steps - 1 &&
			(pointer->steps == 1 ||
			 (level->at.step[0].length == pointer->step[0].length &&
			  memcmp(level->at.step[0].name, pointer->step[0].name, pointer->step[0].length) == 0)))
			return level;
	}
	if (evolution->n_levels == MAX_LEVELS)
		return NULL;
	level = &evolution->levels[evolution->n_levels++];
	level->at = *pointer;
	level->at.steps--;
	return level;
}

static void
know_pointer(Evolution *evolution, const JsonPointer *pointer)
{
	Level *level = find_level(evolution, pointer);

	if (level != NULL)
		add_name(evolution, level, pointer->step[pointer->steps - 1].name,
				 pointer->step[pointer->steps - 1].length, NULL);
}

/* Fields that are stored without being a column: those of columns that the user dropped, and those still to be added. */
static void
know_stored(Evolution *evolution, Shape *shape)
{
	static Statement statement = {
		"SELECT unnest(f.pointers) FROM sophia.fields AS f"
		" WHERE f.table_schema = $1 AND f.table_name = $2"
		" UNION SELECT n.pointer FROM sophia.new_fields AS n WHERE n.stream = $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	uint64 n = sophia_statement_run(&statement,
									(Datum[]){CStringGetTextDatum(shape->main->schema),
											  CStringGetTextDatum(shape->main->name),
											  CStringGetTextDatum(evolution->stream)},
									NULL);

	for (uint64 i = 0; i < n; i++)
	{
		JsonPointer pointer;

		if (sophia_json_pointer(&pointer, &shape->arena, sophia_result_text(i, 1)))
			know_pointer(evolution, &pointer);
	}
}

void
sophia_evolution_bind(Evolution *evolution, Shape *shape)
{
	shape->evolution = evolution;
	MemoryContextReset(evolution->known);
	memset(evolution->levels, 0, sizeof(evolution->levels));
	evolution->n_levels = 0;
	evolution->full = false;
	sophia_evolution_begin(evolution);
	if (!evolution->adds || shape->main == NULL)
		return;
	find_level(evolution, &(JsonPointer){.steps = 1, .step = {{"", 0}}});
	for (int i = 0; i < shape->main->n_columns; i++)
		for (int k = 0; k < shape->main->columns[i].n_pointers; k++)
			know_pointer(evolution, &shape->main->columns[i].pointers[k]);
	for (int i = 0; i < shape->n_keys; i++)
		know_pointer(evolution, &shape->keys[i]);
	know_stored(evolution, shape);
}

/* ---- new fields ---- */

void
sophia_evolution_begin(Evolution *evolution)
{
	if (evolution == NULL || (evolution->fresh == NIL && evolution->widenings == NIL))
		return;
	for (int i = 0; evolution->fresh != NIL && i < evolution->n_levels; i++)
	{
		Level *level = &evolution->levels[i];
		int kept = 0;

		for (int k = 0; k < level->n; k++)
			if (level->names[k].fresh == NULL)
				level->names[kept++] = level->names[k];
		level->n = kept;
	}
	evolution->fresh = NIL;
	evolution->widenings = NIL;
	MemoryContextReset(evolution->batch);
}

/* The narrowest conversion for the value of a new field. */
static const char *
conversion_of_value(const JsonNode *value)
{
	static const Conversion *bigint;
	ConversionContext context = {0};
	Datum result;
	bool null;

	if (value->kind == JSON_TRUE || value->kind == JSON_FALSE)
		return "boolean";
	if (value->kind == JSON_STRING)
		return "text";
	if (bigint == NULL)
		bigint = sophia_conversion_find("bigint");
	return bigint->convert(&context, &value, 1, &result, &null) ? "bigint" : "numeric";
}

/* A name that was not known. */
static void
note_field(Evolution *evolution, Level *level, const JsonMember *member, const char *journal,
		   int64 offset)
{
	MemoryContext old = MemoryContextSwitchTo(evolution->batch);
	JsonPointer pointer = level->at;
	char text[MAX_POINTER];
	NewField *field = NULL;

	pointer.step[pointer.steps].name = member->name;
	pointer.step[pointer.steps].length = member->length;
	pointer.steps++;
	if (sophia_field_pointer(text, sizeof(text), &pointer))
	{
		field = palloc(sizeof(NewField));
		field->pointer = pstrdup(text);
		field->conversion = conversion_of_value(&member->value);
		field->journal = pstrdup(journal);
		field->offset = offset;
		evolution->fresh = lappend(evolution->fresh, field);
	}
	add_name(evolution, level, member->name, member->length, field);
	MemoryContextSwitchTo(old);
}

static bool
is_scalar(const JsonNode *node)
{
	return node->kind != JSON_NULL && node->kind != JSON_ARRAY && node->kind != JSON_OBJECT;
}

/* One pass over the members of an object and the names that are known there. */
static void
look_at(Evolution *evolution, Level *level, const JsonNode *object, const char *journal,
		int64 offset)
{
	int known = 0;

	if (object == NULL || object->kind != JSON_OBJECT)
		return;
	for (uint32 i = 0; i < object->length; i++)
	{
		const JsonMember *member = &object->u.members[i];
		int order = -1;

		if (!is_scalar(&member->value))
			continue;
		while (known < level->n && (order = sophia_json_compare_names(
										level->names[known].name, level->names[known].length,
										member->name, member->length)) < 0)
			known++;
		if (known == level->n || order != 0)
			note_field(evolution, level, member, journal, offset);
		else if (level->names[known].fresh != NULL)
		{
			NewField *fresh = level->names[known].fresh;

			fresh->conversion =
				sophia_field_common(fresh->conversion, conversion_of_value(&member->value));
		}
	}
}

void
sophia_evolution_look(Evolution *evolution, const char *journal, const ApplyDocument *documents,
					  int n)
{
	if (evolution == NULL || !evolution->adds || evolution->full)
		return;
	for (int i = 0; i < n; i++)
	{
		const Document *document = &documents[i].document;

		for (int k = 0; k < evolution->n_levels && !document->tombstone; k++)
			look_at(evolution, &evolution->levels[k],
					sophia_json_find(&document->root, &evolution->levels[k].at), journal,
					document->offset);
	}
}

void
sophia_evolution_save(Evolution *evolution)
{
	static Statement statement = {
		"INSERT INTO sophia.new_fields (stream, pointer, conversion, journal, begin_offset)"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT (stream, pointer) DO NOTHING",
		5,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID}};
	ListCell *cell;

	if (evolution == NULL)
		return;
	foreach(cell, evolution->fresh)
	{
		NewField *field = lfirst(cell);

		sophia_statement_run(
			&statement,
			(Datum[]){CStringGetTextDatum(evolution->stream), CStringGetTextDatum(field->pointer),
					  CStringGetTextDatum(field->conversion), CStringGetTextDatum(field->journal),
					  Int64GetDatum(field->offset)},
			NULL);
	}
}

void
sophia_evolution_committed(Evolution *evolution)
{
	if (evolution == NULL || evolution->fresh == NIL)
		return;
	for (int i = 0; i < evolution->n_levels; i++)
		for (int k = 0; k < evolution->levels[i].n; k++)
			evolution->levels[i].names[k].fresh = NULL;
	evolution->fresh = NIL;
	evolution->has_new_fields = true;
}
