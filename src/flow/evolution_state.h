/*
 * evolution_state.h
 *		What an Evolution holds: shared by evolution.c, which notes, and evolution_change.c, which changes the table.
 */
#ifndef SOPHIA_EVOLUTION_STATE_H
#define SOPHIA_EVOLUTION_STATE_H

#include "flow/evolution.h"

#define MAX_LEVELS 16

/* A field that this batch saw first. */
typedef struct NewField
{
	const char *pointer;
	const char *conversion; /* that holds the values seen so far */
	const char *journal;
	int64 offset;
} NewField;

typedef struct KnownName
{
	const char *name;
	uint32 length;
	NewField *fresh; /* NULL: it was known before this batch */
} KnownName;

/* An object whose members are fields. */
typedef struct Level
{
	JsonPointer at; /* no step: the root */
	int n;
	int room;
	KnownName *names; /* in the order of sophia_json_compare_names() */
} Level;

/* What was refused for good. */
typedef struct Refusal
{
	char *column;
	const char *to;
} Refusal;

struct Evolution
{
	MemoryContext context;
	const char *stream;
	bool adds;			 /* columns for new fields */
	bool widens;		 /* any column that may be */
	bool widens_evolved; /* those that option evolve added */
	bool full;			 /* the table has as many columns as evolve may add */
	bool has_new_fields; /* some may be stored */
	char *current;		 /* pointer of the one that is given its column, NULL = none */
	List *refused;		 /* of Refusal * */
	MemoryContext known; /* of levels */
	int n_levels;
	Level levels[MAX_LEVELS];
	MemoryContext batch; /* of what follows */
	List *fresh;		 /* of NewField * */
	List *widenings;	 /* of Widening * */
};

#endif /* SOPHIA_EVOLUTION_STATE_H */
