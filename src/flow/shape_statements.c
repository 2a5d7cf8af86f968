/*
 * shape_statements.c
 *		The statements that read and write a shape's tables.
 *
 * Names are quoted, values are parameters or batch rows.  All of them find their rows by key, so the worker plans
 * with sequential scans, hash joins and merge joins switched off and takes every table as large: plans are kept.
 */
#include "postgres.h"

#include "flow/shape.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

static const char *
qualified(const TargetTable *table)
{
	return quote_qualified_identifier(table->schema, table->name);
}

/* Prepares and keeps; `n` parameters of type text[]. */
static SPIPlanPtr
prepare(const char *sql, int n)
{
	Oid types[SHAPE_MAX_KEYS];
	SPIPlanPtr plan;

	for (int i = 0; i < n; i++)
		types[i] = TEXTARRAYOID;
	plan = SPI_prepare(sql, n, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

/* "ROWS FROM (unnest($1), unnest($2)) WITH ORDINALITY AS k(k1, k2, n) JOIN|, table AS t ON|WHERE t.a = k.k1 AND t.b = k.k2" in parts. */
static void
append_keys(StringInfo sql, const Shape *shape)
{
	appendStringInfoString(sql, "ROWS FROM (");
	for (int i = 0; i < shape->n_keys; i++)
		appendStringInfo(sql, "%spg_catalog.unnest($%d)", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(sql, ") WITH ORDINALITY AS k(");
	for (int i = 0; i < shape->n_keys; i++)
		appendStringInfo(sql, "k%d, ", i + 1);
	appendStringInfoString(sql, "n)");
}

static void
append_key_match(StringInfo sql, const Shape *shape)
{
	for (int i = 0; i < shape->n_keys; i++)
	{
		const char *cast = shape->key_types[i].cast;

		appendStringInfo(sql, "%st.%s = k.k%d%s%s", i > 0 ? " AND " : "",
						 quote_identifier(shape->key_columns[i]), i + 1, cast != NULL ? "::" : "",
						 cast != NULL ? cast : "");
	}
}

/* The column that names the collection of the last document applied, as a text expression. */
static const char *
collection_column(const TargetTable *table)
{
	for (int i = 0; i < table->n_columns; i++)
		if (strcmp(table->columns[i].conversion->name, "collection") == 0)
			return psprintf("t.%s", quote_identifier(table->columns[i].name));
	return "NULL::text";
}

/*
 * Key number (from 0), document, deleted, clock, journal, offset, collection.  Of elements, one row
 * a document: the one that was applied last.
 */
SPIPlanPtr
sophia_shape_fetch(Shape *shape)
{
	TargetTable *table = sophia_shape_target(shape);
	StringInfoData sql;

	if (table->fetch != NULL)
		return table->fetch;
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "SELECT %sk.n::int4 - 1, %s, t.is_deleted, t.source_clock,"
					 " t.source_journal, t.source_offset, %s FROM ",
					 shape->main != NULL ? "" : "DISTINCT ON (k.n) ",
					 shape->main != NULL ? "t.doc" : "NULL::jsonb", collection_column(table));
	append_keys(&sql, shape);
	appendStringInfo(&sql, " JOIN %s AS t ON ", qualified(table));
	append_key_match(&sql, shape);
	appendStringInfoString(
		&sql, shape->main != NULL
				  ? " FOR UPDATE OF t"
				  : " ORDER BY k.n, t.source_clock < 0 DESC NULLS LAST, t.source_clock DESC");
	table->fetch = prepare(sql.data, shape->n_keys);
	return table->fetch;
}

/* Deletes the rows of the keys given. */
SPIPlanPtr
sophia_shape_remove(Shape *shape, TargetTable *table)
{
	StringInfoData sql;

	if (table->remove != NULL)
		return table->remove;
	initStringInfo(&sql);
	appendStringInfo(&sql, "DELETE FROM %s AS t USING ", qualified(table));
	append_keys(&sql, shape);
	appendStringInfoString(&sql, " WHERE ");
	/* an array's rows carry the document's key in their first key column */
	if (table == shape->elements)
		appendStringInfo(&sql, "t.%s = k.k1", quote_identifier(table->columns[0].name));
	else
		append_key_match(&sql, shape);
	table->remove = prepare(sql.data, shape->n_keys);
	return table->remove;
}

/* Marks the elements of the documents given as deleted. */
SPIPlanPtr
sophia_shape_mark_deleted(Shape *shape)
{
	TargetTable *table = shape->elements;
	StringInfoData sql;

	if (table->mark_deleted != NULL)
		return table->mark_deleted;
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "UPDATE %s AS t SET is_deleted = true, source_clock = d.source_clock,"
					 " source_journal = d.source_journal, source_offset = d.source_offset,"
					 " source_published_at = d.source_published_at, ingested_at = pg_catalog.now(),"
					 " changed_xid = pg_catalog.pg_current_xact_id()"
					 " FROM " BATCH_ROWS " AS d WHERE t.%s = d.%s AND NOT t.is_deleted",
					 qualified(table), quote_identifier(table->columns[0].name),
					 quote_identifier(table->columns[0].name));
	table->mark_deleted = prepare(sql.data, 0);
	return table->mark_deleted;
}

/* Deletes the elements of the documents given that the batch does not hold (NOT IN is hashed; an anti-join would not be). */
SPIPlanPtr
sophia_shape_surplus(Shape *shape)
{
	TargetTable *table = shape->elements;
	const char *parent = quote_identifier(table->columns[0].name);
	const char *own = quote_identifier(table->columns[1].name);
	StringInfoData sql;

	if (table->surplus != NULL)
		return table->surplus;
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "DELETE FROM %s AS t USING pg_catalog.unnest($1) AS k(k1) WHERE t.%s = k.k1"
					 " AND (t.%s, t.%s) NOT IN (SELECT b.%s, b.%s FROM " BATCH_ROWS " AS b)",
					 qualified(table), parent, parent, own, parent, own);
	table->surplus = prepare(sql.data, 1);
	return table->surplus;
}

/* "prefix.a, prefix.b" over the table's own columns and those of every raw table. */
static void
append_columns(StringInfo sql, const TargetTable *table, const char *prefix)
{
	for (int i = 0; i < table->desc->natts; i++)
		appendStringInfo(sql, "%s%s%s", i > 0 ? ", " : "", prefix,
						 quote_identifier(NameStr(TupleDescAttr(table->desc, i)->attname)));
}

/* The columns that `table` takes over from its old rows, each behind a comma and `prefix`. */
static void
append_kept(StringInfo sql, const Shape *shape, const TargetTable *table, const char *prefix)
{
	for (int i = 0; table == shape->elements && i < shape->n_kept; i++)
		appendStringInfo(sql, ", %s%s", prefix, quote_identifier(shape->kept[i]));
}

/* The old row of the same document that agrees with the new one, the one at its own place before others. */
static void
append_kept_row(StringInfo sql, const Shape *shape, const TargetTable *table)
{
	const char *parent = quote_identifier(table->columns[0].name);
	const char *own = quote_identifier(table->columns[1].name);

	appendStringInfo(sql, " LEFT JOIN LATERAL (SELECT s.* FROM %s AS s WHERE s.%s = b.%s",
					 qualified(table), parent, parent);
	for (int i = 0; i < shape->n_kept_while; i++)
	{
		const char *column = quote_identifier(shape->kept_while[i]);

		appendStringInfo(sql, " AND s.%s IS NOT DISTINCT FROM b.%s", column, column);
	}
	appendStringInfo(sql, " ORDER BY s.%s <> b.%s, s.%s LIMIT 1) AS o ON true", own, own, own);
}

/* The batch's columns as the table's have them. */
static void
append_values(StringInfo sql, const TargetTable *table)
{
	for (int i = 0; i < table->desc->natts; i++)
	{
		const char *cast = i < table->n_columns ? table->columns[i].cast : NULL;

		appendStringInfo(sql, "%sb.%s%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(table->desc, i)->attname)),
						 cast != NULL ? "::" : "", cast != NULL ? cast : "");
	}
}

/* Where the batch's rows come from. */
static void
append_batch(StringInfo sql, const Shape *shape, const TargetTable *table)
{
	appendStringInfoString(sql, " SELECT ");
	append_values(sql, table);
	appendStringInfoString(sql, ", pg_catalog.pg_current_xact_id()");
	append_kept(sql, shape, table, "o.");
	appendStringInfoString(sql, " FROM " BATCH_ROWS " AS b");
	if (table == shape->elements && shape->n_kept > 0)
		append_kept_row(sql, shape, table);
}

/* Unchanged elements are not written: compares everything but where a row came from. */
static void
append_changed(StringInfo sql, const TargetTable *table)
{
	appendStringInfoString(sql, " WHERE (t.doc, t.is_deleted");
	for (int i = 0; i < table->n_columns; i++)
		appendStringInfo(sql, ", t.%s", quote_identifier(table->columns[i].name));
	appendStringInfoString(sql, ") IS DISTINCT FROM (EXCLUDED.doc, EXCLUDED.is_deleted");
	for (int i = 0; i < table->n_columns; i++)
		appendStringInfo(sql, ", EXCLUDED.%s", quote_identifier(table->columns[i].name));
	appendStringInfoString(sql, ")");
}

static void
append_insert(StringInfo sql, const Shape *shape, const TargetTable *table)
{
	appendStringInfo(sql, "INSERT INTO %s AS t (", qualified(table));
	append_columns(sql, table, "");
	appendStringInfoString(sql, ", changed_xid");
	append_kept(sql, shape, table, "");
	appendStringInfoChar(sql, ')');
	append_batch(sql, shape, table);
}

/* Inserts the batch's rows; fails with 23505 when one of their keys has a row. */
SPIPlanPtr
sophia_shape_insert(Shape *shape, TargetTable *table)
{
	StringInfoData sql;

	if (table->insert != NULL)
		return table->insert;
	initStringInfo(&sql);
	append_insert(&sql, shape, table);
	table->insert = prepare(sql.data, 0);
	return table->insert;
}

/* Inserts the batch's rows or replaces the rows of their keys. */
SPIPlanPtr
sophia_shape_upsert(Shape *shape, TargetTable *table)
{
	StringInfoData sql;
	bool elements = table == shape->elements;

	if (table->upsert != NULL)
		return table->upsert;
	initStringInfo(&sql);
	append_insert(&sql, shape, table);
	appendStringInfoString(&sql, " ON CONFLICT (");
	if (elements)
		appendStringInfo(&sql, "%s, %s", quote_identifier(table->columns[0].name),
						 quote_identifier(table->columns[1].name));
	else
		for (int i = 0; i < shape->n_keys; i++)
			appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
							 quote_identifier(shape->key_columns[i]));
	appendStringInfoString(&sql, ") DO UPDATE SET (");
	append_columns(&sql, table, "");
	appendStringInfoString(&sql, ", changed_xid, ingested_at");
	append_kept(&sql, shape, table, "");
	appendStringInfoString(&sql, ") = ROW(");
	append_columns(&sql, table, "EXCLUDED.");
	appendStringInfoString(&sql, ", EXCLUDED.changed_xid, pg_catalog.now()");
	append_kept(&sql, shape, table, "EXCLUDED.");
	appendStringInfoChar(&sql, ')');
	if (elements)
		append_changed(&sql, table);
	table->upsert = prepare(sql.data, 0);
	return table->upsert;
}
