/*
 * landing_table.h
 *		The columns of a landing table, a table that Estuary's PostgreSQL materialization writes: which part of a document
 *		each of them holds.
 *
 * A column is named by its field, which is a JSON pointer without the leading slash, cut to 63 bytes.  The comment that
 * the materialization gives to a column has the whole pointer:
 *		auto-generated projection of JSON at: /properties/email with inferred types: [string]
 * A column that was added later has none.  What was read is kept for the session, until the table is altered.
 */
#ifndef SOPHIA_LANDING_TABLE_H
#define SOPHIA_LANDING_TABLE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "base/json.h"

typedef struct LandingColumn
{
	int attribute;		 /* its number, from 1 */
	JsonPointer pointer; /* at least one step */
	Oid type;			 /* of a domain, what it is made from */
	Oid output;			 /* output function of the type */
	bool holds_json;	 /* a text that is the text of an object or array */
} LandingColumn;

typedef struct LandingTable
{
	Oid relation;
	bool valid;
	MemoryContext context; /* everything below */
	Arena arena;		   /* names of pointers */
	int document;		   /* attribute with the whole document, 0 = none */
	Oid document_output;   /* output function of its type; InvalidOid: the value is the text */
	int published;		   /* attribute with the time of publication, 0 = none */
	Oid published_type;
	Oid published_output;
	int operation; /* attribute with /_meta/op, 0 = none; one of the columns, too */
	Oid operation_output;
	int n_columns;
	LandingColumn *columns; /* the others, by pointer, a shorter one before those that it begins */
} LandingTable;

/* The description of a relation whose rows are of that form; valid until the next call. */
extern const LandingTable *sophia_landing_table(Oid relation, TupleDesc desc);

/* True where the rows tell what stands at a pointer ("/id"). */
extern bool sophia_landing_table_has(const LandingTable *table, const char *pointer);

#endif /* SOPHIA_LANDING_TABLE_H */
