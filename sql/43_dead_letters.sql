-- Dead letters as a workflow, and what it shares with payloads and adopted tables: applying documents out of their turn.

CREATE FUNCTION sophia.apply_documents(
    shape text, options jsonb, journal text, documents bytea[], clocks bigint[], offsets bigint[],
    OUT applied bigint, OUT rows_inserted bigint, OUT rows_updated bigint, OUT rows_removed bigint,
    OUT elements_written bigint, OUT elements_removed bigint,
    OUT failed integer[], OUT sqlstates text[], OUT reasons text[])
  AS 'MODULE_PATHNAME', 'sophia_apply_documents' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION sophia.apply_documents(text, jsonb, text, bytea[], bigint[], bigint[]) IS
  'internal: applies documents in this transaction as the ingest does, ordered by their clocks alone (NULL: those of their uuids); journal and offsets are what their rows name, NULL for documents of no journal; options: collection, delete (soft, hard), unchanged (skip: write no row that differs in /_meta only); failed: positions from 1 of documents that were not applied, with sqlstates and reasons';
