/*
 * fields.h
 *		Columns that are added to the table of a stream, or get a wider type.
 *
 * Runs inside the caller's transaction and SPI connection.  DDL runs as the owner of the table.
 */
#ifndef SOPHIA_FIELDS_H
#define SOPHIA_FIELDS_H

#include "postgres.h"

#include "flow/shape.h"

/* Why a table changes. */
typedef struct FieldChange
{
	const char *stream;
	const char *origin; /* add_field, evolve or misfit */
	const char *reason;
	const char *pointer; /* of the field */
	const char *journal; /* of the document that asked for it, NULL = none did */
	int64 offset;
} FieldChange;

/* Locks a table against everybody, as DDL does, and returns it.  Raises 42P01 where there is none. */
extern Oid sophia_field_lock(const TargetTable *table);

/* What stands at the name of a column. */
typedef enum FieldPlace
{
	FIELD_FREE,
	FIELD_TAKEN,	  /* something else that the ingest knows */
	FIELD_UNKNOWN,	  /* a column that the user made */
	FIELD_REGISTERED, /* this very field */
	FIELD_LEFT /* a column that was added for this very field, by an extension that is gone */
} FieldPlace;

/* `type` of the column that is there, if one is. */
extern FieldPlace sophia_field_place(const TargetTable *table, const char *column,
									 const char *pointer, Oid *type);

/* True where no row has a value in a column. */
extern bool sophia_field_empty(const TargetTable *table, const char *column);

/*
 * Adds a column for a field, and has it filled; takes over one that is there.  The caller has locked the table and
 * looked at the place.
 */
extern void sophia_field_add(const TargetTable *table, Oid relid, const char *column, Oid type,
							 FieldPlace place, const FieldChange *change);

/* Gives a column the type of a conversion; has it filled anew where its text may then differ from what doc says. */
extern void sophia_field_widen(const TargetTable *table, const TargetColumn *column,
							   const Conversion *to, const FieldChange *change);

/* Records a change that was not made, once. */
extern void sophia_field_refuse(const TargetTable *table, const char *column, const char *what,
								const char *type, const FieldChange *change, const char *error);

/* Columns that option evolve has added to a table. */
extern int64 sophia_field_evolved(const TargetTable *table);

#endif /* SOPHIA_FIELDS_H */
