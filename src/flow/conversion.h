/*
 * conversion.h
 *		How a JSON value becomes a column's value.
 *
 * Conversions are named in sophia.table_columns.  None of them throws for what a document holds: a value that fits no
 * column is a misfit, and the document becomes a dead letter.
 */
#ifndef SOPHIA_CONVERSION_H
#define SOPHIA_CONVERSION_H

#include "postgres.h"

#include "base/buffer.h"
#include "base/json.h"
#include "datatype/timestamp.h"

/* Longest misfit reason, with its NUL. */
#define MISFIT_REASON 256

/* What a conversion may look at besides the value. */
typedef struct ConversionContext
{
	const char *collection; /* name of the collection */
	const char *key;		/* first component of the document's key, NUL-terminated */
	int ordinal;			/* 1-based position of an array's element */
	bool taken;				/* the element's own identifier was already used by an earlier one */
	TimestampTz published;	/* when the last document applied was published */
	/* Set by a conversion that refuses a value. */
	int misfit_sqlstate;
	const char *misfit_reason; /* a constant, such as "is no timestamp" */
} ConversionContext;

/*
 * `values` are the nodes at the column's pointers, NULL where absent.  Returns false for a misfit; otherwise
 * *null or *value (in the current memory context).
 */
typedef bool (*ConversionFunction)(ConversionContext *context, const JsonNode *const *values, int n,
								   Datum *value, bool *null);

typedef struct Conversion
{
	const char *name;
	Oid type; /* of the datum */
	ConversionFunction convert;
} Conversion;

/* The conversion of that name, or NULL. */
extern const Conversion *sophia_conversion_find(const char *name);

/*
 * The conversion that fills a column of any type: makes a text, which the statement reads by the type's input function.
 * That may raise an error for what a document holds.
 */
#define SOPHIA_CONVERSION_INPUT "input"

/* Name of the conversion that fills a column of that type from any value of a document; NULL for a pseudo-type. */
extern const char *sophia_conversion_of(Oid type);

/* A text normaliser (email, phone, html): appends to `out`; false when `in` cannot be normalised, then NULL is stored. */
typedef bool (*TextNormalizer)(const char *in, size_t length, ByteBuffer *out);

/* Gives a conversion its normaliser.  Called by module init: flow does not know who normalises. */
extern void sophia_conversion_set_normalizer(const char *name, TextNormalizer normalizer);

/* The text of a node as ->> gives it, in the current memory context; *length without NUL, which follows. */
extern char *sophia_json_to_text(const JsonNode *node, size_t *length);

#endif /* SOPHIA_CONVERSION_H */
