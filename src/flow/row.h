/*
 * row.h
 *		A reduced document as a row of its table.
 */
#ifndef SOPHIA_ROW_H
#define SOPHIA_ROW_H

#include "postgres.h"

#include "flow/groups.h"
#include "store/batch_table.h"

/* Why a document fits no row. */
typedef struct Misfit
{
	int sqlstate;
	char reason[MISFIT_REASON];
	const TargetColumn *column; /* that the value does not fit; NULL: it is no matter of a column */
	const JsonNode *value;
} Misfit;

/* Reused from row to row. */
typedef struct RowBuilder
{
	const Shape *shape;
	const char *journal;
	Datum journal_text;
	StringInfoData doc;
	MemoryContext scratch; /* reset after each row */
} RowBuilder;

/* When a document of that clock was published. */
extern TimestampTz sophia_row_published(uint64 clock);

/* True for a document that holds a call of Gong in extensive form, and not in basic form, too. */
extern bool sophia_row_is_extensive(const JsonNode *document);

extern void sophia_row_builder_init(RowBuilder *builder, const Shape *shape, const char *journal);

/*
 * Adds the row of a group to a batch of its main table.  `newest` is the document whose form decides between alternative
 * pointers.  False: a value fits no column, *misfit says why, and nothing was added.
 */
extern bool sophia_row_put(RowBuilder *builder, BatchTable *batch, const KeyGroup *group,
						   Misfit *misfit);

/*
 * Adds a row for each element of the group's array to a batch of the elements' table, or only checks them where `batch` is
 * NULL; else as sophia_row_put().
 */
extern bool sophia_row_put_elements(RowBuilder *builder, BatchTable *batch, const KeyGroup *group,
									Misfit *misfit);

/*
 * The value of one column for a document; what stands below Gong's metaData comes first where `metadata_first` says so.  False:
 * a misfit.
 */
extern bool sophia_row_convert(const TargetColumn *column, ConversionContext *context,
							   const JsonNode *root, bool metadata_first, Datum *value, bool *null,
							   Misfit *misfit);

/* True for a document of Gong's extensive form. */
extern bool sophia_row_has_metadata(const JsonNode *document);

/* Checks the values of one document on its own. */
extern bool sophia_row_fits(RowBuilder *builder, const JsonNode *document, const KeyGroup *group,
							Misfit *misfit);

#endif /* SOPHIA_ROW_H */
