/*
 * evolution_change.c
 *		Giving new fields their columns and misfits their wider types: see evolution.h.
 *
 * What is refused for good is remembered here, so that a batch that is run again makes a dead letter of the document;
 * the shape may be read anew meanwhile.
 */
#include "postgres.h"

#include "flow/evolution_state.h"

#include "base/settings.h"
#include "catalog/pg_type.h"
#include "flow/field_rules.h"
#include "flow/fields.h"
#include "miscadmin.h"
#include "store/statement.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

bool
sophia_evolution_has_new_fields(const Evolution *evolution)
{
	return evolution != NULL && evolution->has_new_fields;
}

/* The oldest field that is stored; false when there is none.  *change lives in the current memory context. */
static bool
next_field(Evolution *evolution, char **conversion, FieldChange *change)
{
	static Statement statement = {
		"SELECT pointer, conversion, journal, begin_offset FROM sophia.new_fields WHERE stream = $1"
		" ORDER BY journal, begin_offset, pointer LIMIT 1 FOR UPDATE",
		1,
		{TEXTOID}};
	bool null;

	if (sophia_statement_run(&statement, (Datum[]){CStringGetTextDatum(evolution->stream)}, NULL) ==
		0)
		return false;
	change->stream = evolution->stream;
	change->origin = "evolve";
	change->reason = "new field";
	change->pointer = sophia_result_text(0, 1);
	*conversion = sophia_result_text(0, 2);
	change->journal = sophia_result_text(0, 3);
	change->offset = DatumGetInt64(sophia_result(0, 4, &null));
	return true;
}

static void
forget_field(Evolution *evolution, const char *pointer)
{
	static Statement statement = {
		"DELETE FROM sophia.new_fields WHERE stream = $1 AND pointer = $2", 2, {TEXTOID, TEXTOID}};

	sophia_statement_run(
		&statement, (Datum[]){CStringGetTextDatum(evolution->stream), CStringGetTextDatum(pointer)},
		NULL);
}

/* A name for the column of a field that is free, or this field's own. */
static FieldPlace
choose_name(const TargetTable *table, const char *text, char name[FIELD_NAME], Oid *type)
{
	Arena arena = {0};
	JsonPointer pointer;
	FieldPlace place = FIELD_TAKEN;
	bool usable = sophia_json_pointer(&pointer, &arena, text);

	for (int attempt = 0; usable && (place == FIELD_TAKEN || place == FIELD_UNKNOWN); attempt++)
	{
		CHECK_FOR_INTERRUPTS();
		sophia_field_name(name, &pointer, attempt);
		if (!sophia_field_name_reserved(name))
			place = sophia_field_place(table, name, text, type);
	}
	sophia_arena_free(&arena);
	return place;
}

/* All that is stored is left in doc, because the table has enough columns. */
static void
stop_adding(Evolution *evolution, const TargetTable *table, const FieldChange *change)
{
	static Statement statement = {"DELETE FROM sophia.new_fields WHERE stream = $1", 1, {TEXTOID}};

	sophia_field_refuse(table, NULL, "column refused", NULL, change,
						psprintf("option evolve has added %d columns to the table, as many as"
								 " sophia_stack.evolve_limit allows",
								 sophia_evolve_limit));
	sophia_statement_run(&statement, (Datum[]){CStringGetTextDatum(evolution->stream)}, NULL);
	evolution->full = true;
}

void
sophia_evolution_add_column(Evolution *evolution, const Shape *shape)
{
	FieldChange change;
	char *conversion;
	char name[FIELD_NAME];
	FieldPlace place;
	Oid relid;
	Oid type;

	evolution->current = NULL;
	if (shape->main == NULL || !next_field(evolution, &conversion, &change))
	{
		evolution->has_new_fields = false;
		return;
	}
	evolution->current = MemoryContextStrdup(evolution->context, change.pointer);
	if (sophia_field_evolved(shape->main) >= sophia_evolve_limit)
	{
		change.pointer = NULL;
		stop_adding(evolution, shape->main, &change);
		return;
	}
	relid = sophia_field_lock(shape->main);
	place = choose_name(shape->main, change.pointer, name, &type);
	if (!OidIsValid(type))
		type = sophia_conversion_find(conversion)->type;
	if (place != FIELD_REGISTERED)
		sophia_field_add(shape->main, relid, name, type, place, &change);
	forget_field(evolution, change.pointer);
}

void
sophia_evolution_refuse_column(Evolution *evolution, const Shape *shape, const char *error)
{
	FieldChange change = {.stream = evolution->stream, .origin = "evolve", .reason = "new field"};

	if (evolution->current == NULL)
		return;
	change.pointer = evolution->current;
	sophia_field_refuse(shape->main, NULL, "column refused", NULL, &change, error);
	forget_field(evolution, evolution->current);
}

/* ---- wider types ---- */

static bool
is_refused(const Evolution *evolution, const TargetColumn *column, const char *to)
{
	ListCell *cell;

	foreach(cell, evolution->refused)
	{
		Refusal *refusal = lfirst(cell);

		if (strcmp(refusal->column, column->name) == 0 && strcmp(refusal->to, to) == 0)
			return true;
	}
	return false;
}

/* The narrowest wider conversion that takes the value, NULL = none. */
static const char *
wide_enough(const TargetColumn *column, const JsonNode *value)
{
	const char *to = sophia_field_wider(column->conversion->name);

	for (; to != NULL; to = sophia_field_wider(to))
	{
		const Conversion *conversion = sophia_conversion_find(to);
		ConversionContext context = {0};
		Datum result;
		bool null;

		if (conversion->convert(&context, &value, 1, &result, &null))
			return to;
	}
	return NULL;
}

/* The table that a column belongs to. */
static const TargetTable *
table_of(const Shape *shape, const TargetColumn *column)
{
	const TargetTable *main = shape->main;

	return main != NULL && column >= main->columns && column < main->columns + main->n_columns
			   ? main
			   : shape->elements;
}

bool
sophia_evolution_widens(const Shape *shape, const Misfit *misfit, const char *journal, int64 offset)
{
	Evolution *evolution = shape->evolution;
	const TargetColumn *column = misfit->column;
	MemoryContext old;
	Widening *widening;
	ListCell *cell;
	const char *to;

	if (evolution == NULL || column == NULL || misfit->value == NULL || !column->may_widen ||
		!(column->evolved ? evolution->widens_evolved : evolution->widens))
		return false;
	to = wide_enough(column, misfit->value);
	if (to == NULL || is_refused(evolution, column, to))
		return false;
	foreach(cell, evolution->widenings)
	{
		widening = lfirst(cell);
		if (widening->column == column)
		{
			to = sophia_field_common(widening->to, to);
			if (!is_refused(evolution, column, to))
				widening->to = to;
			return true;
		}
	}
	old = MemoryContextSwitchTo(evolution->batch);
	widening = palloc(sizeof(Widening));
	widening->table = table_of(shape, column);
	widening->column = column;
	widening->to = to;
	widening->journal = journal != NULL ? pstrdup(journal) : NULL;
	widening->offset = offset;
	strlcpy(widening->reason, misfit->reason, MISFIT_REASON);
	evolution->widenings = lappend(evolution->widenings, widening);
	MemoryContextSwitchTo(old);
	return true;
}

const Widening *
sophia_evolution_widening(const Evolution *evolution)
{
	return evolution == NULL || evolution->widenings == NIL ? NULL : linitial(evolution->widenings);
}

static FieldChange
change_of(const Evolution *evolution, const Widening *widening)
{
	return (FieldChange){.stream = evolution->stream,
						 .origin = "misfit",
						 .reason = widening->reason,
						 .journal = widening->journal,
						 .offset = widening->offset};
}

void
sophia_evolution_widen(Evolution *evolution)
{
	const Widening *widening = sophia_evolution_widening(evolution);
	FieldChange change = change_of(evolution, widening);

	sophia_field_widen(widening->table, widening->column, sophia_conversion_find(widening->to),
					   &change);
}

void
sophia_evolution_refuse_widening(Evolution *evolution, const char *error)
{
	const Widening *widening = sophia_evolution_widening(evolution);
	FieldChange change = change_of(evolution, widening);
	MemoryContext old;
	Refusal *refusal;

	sophia_field_refuse(widening->table, widening->column->name, "widening refused", widening->to,
						&change, error);
	old = MemoryContextSwitchTo(evolution->context);
	refusal = palloc(sizeof(Refusal));
	refusal->column = pstrdup(widening->column->name);
	refusal->to = widening->to;
	evolution->refused = lappend(evolution->refused, refusal);
	MemoryContextSwitchTo(old);
}
