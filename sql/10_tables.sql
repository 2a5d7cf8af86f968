-- Configuration and state of the ingest.  Dumped, so that a restored database knows where each stream stands.

CREATE TABLE sophia.endpoints (
  endpoint text PRIMARY KEY,
  kind text NOT NULL,
  address text NOT NULL,
  options jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sophia.endpoints IS 'where collections are read from: a Gazette broker or a folder of fragments';
COMMENT ON COLUMN sophia.endpoints.kind IS 'fragments or broker';
COMMENT ON COLUMN sophia.endpoints.address IS 'http[s]://host:port of a broker, or the absolute folder of a fragment store';
COMMENT ON COLUMN sophia.endpoints.options IS 'token: reference of a secret (env:NAME or file:name), never the secret itself';

CREATE TABLE sophia.streams (
  stream text PRIMARY KEY,
  endpoint text NOT NULL REFERENCES sophia.endpoints,
  collection text NOT NULL,
  shape text NOT NULL,
  options jsonb NOT NULL DEFAULT '{}',
  state text NOT NULL DEFAULT 'stopped' CHECK (state IN ('stopped', 'starting', 'running', 'failed')),
  last_error text,
  -- A stream restored into another cluster or database stays stopped until it is started there.
  system_identifier bigint NOT NULL,
  database_oid oid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sophia.streams IS 'one collection followed into one table';
COMMENT ON COLUMN sophia.streams.state IS 'stopped; starting: the worker has not listed its journals yet; running; failed: a permanent error disabled it, see last_error';
COMMENT ON COLUMN sophia.streams.last_error IS 'why the stream failed, or the last transient trouble while it lasts';
COMMENT ON COLUMN sophia.streams.system_identifier IS 'the cluster where the stream was created or last started';
COMMENT ON COLUMN sophia.streams.database_oid IS 'the database where the stream was created or last started';

CREATE TABLE sophia.checkpoints (
  stream text NOT NULL,
  journal text NOT NULL,
  next_offset bigint NOT NULL,
  write_head bigint NOT NULL DEFAULT 0,
  documents_applied bigint NOT NULL DEFAULT 0,
  documents_reduced bigint NOT NULL DEFAULT 0,
  documents_deleted bigint NOT NULL DEFAULT 0,
  documents_dead bigint NOT NULL DEFAULT 0,
  last_document_at timestamptz,
  revision bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (stream, journal)
);
COMMENT ON TABLE sophia.checkpoints IS 'per journal: up to where everything is applied; locked by each batch that applies, which fences out a second worker';
COMMENT ON COLUMN sophia.checkpoints.next_offset IS 'first byte of the journal that is not applied or staged yet';
COMMENT ON COLUMN sophia.checkpoints.write_head IS 'offset past the last byte that the endpoint held when it was last asked';
COMMENT ON COLUMN sophia.checkpoints.documents_applied IS 'committed documents that took effect or were superseded, without dead letters';
COMMENT ON COLUMN sophia.checkpoints.documents_reduced IS 'of the applied: those that met an earlier document or row of their key';
COMMENT ON COLUMN sophia.checkpoints.documents_deleted IS 'of the applied: tombstones';
COMMENT ON COLUMN sophia.checkpoints.documents_dead IS 'documents that became dead letters';
COMMENT ON COLUMN sophia.checkpoints.last_document_at IS 'publication time (from its uuid) of the last document applied';
COMMENT ON COLUMN sophia.checkpoints.revision IS 'when a broker''s cluster made the journal (createRevision), by which one that was deleted and made again is told from the earlier one; 0 = not known';

CREATE TABLE sophia.producers (
  stream text NOT NULL,
  journal text NOT NULL,
  producer bytea NOT NULL CHECK (length(producer) = 6),
  last_ack bigint NOT NULL,
  max_clock bigint NOT NULL,
  begin_offset bigint NOT NULL DEFAULT -1,
  PRIMARY KEY (stream, journal, producer)
);
COMMENT ON TABLE sophia.producers IS 'sequencing state per journal and producer; clocks are unsigned 64-bit values kept in the bits of a bigint';
COMMENT ON COLUMN sophia.producers.last_ack IS 'clock of the last acknowledgement or self-committing document';
COMMENT ON COLUMN sophia.producers.max_clock IS 'largest clock of the open transaction; equal to last_ack when there is none';
COMMENT ON COLUMN sophia.producers.begin_offset IS 'offset of the first document of the open transaction, -1 = none';

CREATE TABLE sophia.staged_documents (
  stream text NOT NULL,
  journal text NOT NULL,
  producer bytea NOT NULL,
  begin_offset bigint NOT NULL,
  clock bigint NOT NULL,
  document bytea NOT NULL,
  PRIMARY KEY (stream, journal, producer, begin_offset)
);
COMMENT ON TABLE sophia.staged_documents IS 'documents of transactions that are not acknowledged yet';
COMMENT ON COLUMN sophia.staged_documents.clock IS 'clock of the document, an unsigned 64-bit value kept in the bits of a bigint';
COMMENT ON COLUMN sophia.staged_documents.document IS 'the bytes of the document as they stand in the journal, without the newline';

CREATE TABLE sophia.dead_letters (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stream text NOT NULL,
  journal text NOT NULL,
  begin_offset bigint NOT NULL,
  document bytea NOT NULL,
  reason text NOT NULL,
  sqlstate text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON sophia.dead_letters (stream, journal, begin_offset);
COMMENT ON TABLE sophia.dead_letters IS 'documents that could not be applied, whole, each with its reason';
COMMENT ON SEQUENCE sophia.dead_letters_id_seq IS 'numbers the dead letters';
COMMENT ON COLUMN sophia.dead_letters.begin_offset IS 'offset of the first byte of the document in its journal';
COMMENT ON COLUMN sophia.dead_letters.document IS 'the bytes of the document as they stand in the journal, without the newline';

SELECT pg_catalog.pg_extension_config_dump('sophia.endpoints', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.streams', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.checkpoints', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.producers', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.staged_documents', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.dead_letters', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.dead_letters_id_seq', '');
