-- What is noted of each change of a raw table, for the exact cursors (sql/55_cursors.sql): the row has the stamp of the
-- transaction that wrote it last, and the key of a row that is gone is kept until every consumer has read that.
--
-- The ingest stamps its rows itself; the triggers see to what others write.  They fire whatever the session's role in
-- replication is, so that a subscription's changes count, too.

-- Written by the trigger without a statement: src/transform/capture.c knows these columns.
CREATE TABLE sophia.deleted_keys (
  source oid NOT NULL,
  key jsonb,
  xid xid8 NOT NULL
);
CREATE INDEX ON sophia.deleted_keys (source, xid);
COMMENT ON TABLE sophia.deleted_keys IS 'internal: rows that are gone and that a consumer has still to hear of; state of this database, not dumped';
COMMENT ON COLUMN sophia.deleted_keys.source IS 'oid of the table that the row was in';
COMMENT ON COLUMN sophia.deleted_keys.key IS 'primary key of the row, {"column": value, ...}; NULL = all rows are gone (TRUNCATE)';
COMMENT ON COLUMN sophia.deleted_keys.xid IS 'transaction that deleted the row, or gave it another key';

CREATE FUNCTION sophia.stamp_row() RETURNS trigger
  AS 'MODULE_PATHNAME', 'sophia_stamp_row' LANGUAGE C;
COMMENT ON FUNCTION sophia.stamp_row() IS
  'internal: trigger BEFORE INSERT OR UPDATE of a row: sets changed_xid to the current transaction where it is another one, and keeps the old key of a row that gets a new one';

CREATE FUNCTION sophia.keep_key() RETURNS trigger
  AS 'MODULE_PATHNAME', 'sophia_keep_key' LANGUAGE C;
COMMENT ON FUNCTION sophia.keep_key() IS 'internal: trigger AFTER DELETE of a row or AFTER TRUNCATE: keeps what is gone for the consumers of the table';

-- A row that was stamped as it should be costs the evaluation of a condition when it is inserted.  An INSERT that brings an
-- old stamp (COPY of a dump) gets the current one: the row is new to every consumer.
CREATE VIEW sophia.capture_triggers AS
  SELECT * FROM (VALUES
    ('sophia_stamp_insert', 'stamp_row', 'BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.changed_xid IS DISTINCT FROM pg_current_xact_id())'),
    ('sophia_stamp_update', 'stamp_row', 'BEFORE UPDATE ON %s FOR EACH ROW'),
    ('sophia_keep_deleted', 'keep_key', 'AFTER DELETE ON %s FOR EACH ROW'),
    ('sophia_keep_truncated', 'keep_key', 'AFTER TRUNCATE ON %s FOR EACH STATEMENT')) AS t (trigger_name, function_name, event);
COMMENT ON VIEW sophia.capture_triggers IS 'internal: the triggers that a table has whose changes consumers read';
COMMENT ON COLUMN sophia.capture_triggers.event IS 'when it fires, %s standing for the table';

-- With the rights of the extension, since nobody else may execute the functions of the triggers; so the role has to be asked
-- for.  A trigger that is made again where it was disabled gets another oid, by which next_batch notices that changes may be missing.
CREATE FUNCTION sophia.capture_table(relation oid, role oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  missing record;
BEGIN
  FOR missing IN SELECT c.trigger_name, c.function_name, format(c.event, relation::regclass) AS event,
        EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname = c.trigger_name) AS stands
      FROM sophia.capture_triggers c
      WHERE NOT EXISTS (SELECT FROM pg_trigger t
        WHERE t.tgrelid = relation AND t.tgname = c.trigger_name AND t.tgenabled = 'A'
          AND t.tgfoid = to_regproc('sophia.' || c.function_name)) LOOP
    IF NOT pg_has_role(role, (SELECT c.relowner FROM pg_class c WHERE c.oid = relation), 'USAGE') THEN
      RAISE EXCEPTION 'must be owner of table %', (SELECT c.relname FROM pg_class c WHERE c.oid = relation)
        USING ERRCODE = '42501', DETAIL = 'The table lacks triggers that note its changes for consumers.';
    END IF;
    IF missing.stands THEN
      EXECUTE format('DROP TRIGGER %I ON %s', missing.trigger_name, relation::regclass);
    END IF;
    EXECUTE format('CREATE TRIGGER %I %s EXECUTE FUNCTION sophia.%I()', missing.trigger_name, missing.event, missing.function_name);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation::regclass, missing.trigger_name);
    EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION sophia_stack', missing.trigger_name, relation::regclass);
    EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', missing.trigger_name, relation::regclass,
      'notes changes for the consumers of sophia_stack');
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.capture_table(oid, oid) IS 'internal: makes the triggers that note changes where a table lacks them or they are disabled';
