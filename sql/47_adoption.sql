-- Tables that Estuary's own PostgreSQL materialization writes (landing tables), as a source of the raw tables.
--
-- A trigger on the landing table puts the document of each changed row into a queue, inside Estuary's transaction; the
-- worker, or feed_adopted(), takes it from there in order and applies it by the clock rule, in another one.  Rows that were
-- there before the trigger are read once, by ranges of blocks, into the same queue in front of what came after.  Who reads
-- a range twice (the table was rewritten, truncated or made anew) does no harm: the clocks tell.
--
-- The landing table is found by its name, so that one that was dropped and made anew is noticed; nothing in it is
-- changed but for the trigger, and nothing but the trigger depends on it.

CREATE TABLE sophia.adoptions (
  adoption integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  landing_schema text NOT NULL,
  landing_table text NOT NULL,
  shape text NOT NULL,
  owner text NOT NULL,
  attached oid,
  file oid,
  next_block bigint,
  rows_fed bigint NOT NULL DEFAULT 0,
  rows_dead bigint NOT NULL DEFAULT 0,
  last_row_at timestamptz,
  last_error text,
  retry_at timestamptz,
  -- As with a stream: restored elsewhere, it stays stopped until adopt_table is called there.
  system_identifier bigint NOT NULL,
  database_oid oid NOT NULL,
  adopted_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (landing_schema, landing_table)
);
COMMENT ON TABLE sophia.adoptions IS 'internal: landing tables that feed raw tables; see sophia.adopted_tables';
COMMENT ON SEQUENCE sophia.adoptions_adoption_seq IS 'numbers the adopted tables';
COMMENT ON COLUMN sophia.adoptions.owner IS 'owner of the landing table; a table of another owner does not take its place by itself';
COMMENT ON COLUMN sophia.adoptions.attached IS 'relation that had the trigger when it was last looked at; NULL = none';
COMMENT ON COLUMN sophia.adoptions.file IS 'file of the relation that the range of blocks counts in';
COMMENT ON COLUMN sophia.adoptions.next_block IS 'first block of which the rows are not in the queue yet; NULL = all of them are';
COMMENT ON COLUMN sophia.adoptions.retry_at IS 'not before this after an error';
COMMENT ON COLUMN sophia.adoptions.system_identifier IS 'the cluster where the table was adopted';
COMMENT ON COLUMN sophia.adoptions.database_oid IS 'the database where the table was adopted';

-- Written by the trigger without a statement: src/flow/landing_sql.c knows these columns.
CREATE SEQUENCE sophia.landed_rows_id_seq;
COMMENT ON SEQUENCE sophia.landed_rows_id_seq IS 'orders the changes of landing tables';
CREATE TABLE sophia.landed_rows (
  adoption integer NOT NULL,
  id bigint NOT NULL,
  clock bigint NOT NULL,
  document bytea NOT NULL,
  problem text
);
CREATE INDEX ON sophia.landed_rows (adoption, id);
COMMENT ON TABLE sophia.landed_rows IS 'internal: documents of landing tables that are still to be applied';
COMMENT ON COLUMN sophia.landed_rows.id IS 'order of the changes of one row; 0 = was there when the table was read';
COMMENT ON COLUMN sophia.landed_rows.clock IS 'clock of the document, an unsigned 64-bit value kept in the bits of a bigint';
COMMENT ON COLUMN sophia.landed_rows.problem IS 'why there is no document; NULL = there is one';

SELECT pg_catalog.pg_extension_config_dump('sophia.adoptions', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.adoptions_adoption_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.landed_rows', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.landed_rows_id_seq', '');

CREATE FUNCTION sophia.land_row() RETURNS trigger
  AS 'MODULE_PATHNAME', 'sophia_land_row' LANGUAGE C;
COMMENT ON FUNCTION sophia.land_row() IS 'internal: puts a changed row of an adopted table into the queue';

CREATE FUNCTION sophia.landing_rows(landing oid, first bigint, blocks bigint,
    OUT document bytea, OUT clock bigint, OUT problem text)
  RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'sophia_landing_rows' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION sophia.landing_rows(oid, bigint, bigint) IS 'internal: the documents that the rows of a landing table hold in a range of blocks';

CREATE FUNCTION sophia.landing_has(landing regclass, pointer text) RETURNS boolean
  AS 'MODULE_PATHNAME', 'sophia_landing_has' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION sophia.landing_has(regclass, text) IS 'internal: whether rows of a landing table tell what stands at a JSON pointer';

-- ---- feeding ----

CREATE FUNCTION sophia.attach_landing(adoption integer, landing regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('CREATE OR REPLACE TRIGGER sophia_adopted AFTER INSERT OR UPDATE OR DELETE ON %s '
                 'FOR EACH ROW EXECUTE FUNCTION sophia.land_row(%s)', landing, adoption);
  EXECUTE format('COMMENT ON TRIGGER sophia_adopted ON %s IS %L', landing, 'feeds a raw table: see sophia.adopted_tables');
  EXECUTE format('ALTER TRIGGER sophia_adopted ON %s DEPENDS ON EXTENSION sophia_stack', landing);
  -- The lock that the trigger took keeps the table what it is from here on.
  PERFORM FROM pg_class c JOIN sophia.adoptions a ON a.adoption = attach_landing.adoption
    WHERE c.oid = landing AND c.relkind = 'r' AND pg_get_userbyid(c.relowner) = a.owner;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'table "%" belongs to another role than the one that was adopted', landing USING ERRCODE = '42501',
      HINT = 'Call sophia.adopt_table() for it.';
  END IF;
  UPDATE sophia.adoptions a SET attached = landing, file = pg_relation_filenode(landing), next_block = 0
    WHERE a.adoption = attach_landing.adoption;
END;
$$;
COMMENT ON FUNCTION sophia.attach_landing(integer, regclass) IS 'internal: puts the trigger on a landing table, and has its rows read';

-- Whoever feeds has locked the adoption, and Estuary's transaction may have locked the landing table: waits less for it than
-- a deadlock takes to be noticed, so that it is never Estuary who has to give way.
CREATE FUNCTION sophia.find_landing(adoption integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
  known record;
BEGIN
  SELECT a.attached, a.file, a.next_block, c.oid AS landing, pg_relation_filenode(c.oid) AS now_file,
         t.oid IS NOT NULL AS has_trigger, t.tgenabled = 'D' AS disabled INTO known
    FROM sophia.adoptions a
    LEFT JOIN pg_namespace n ON n.nspname = a.landing_schema
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = a.landing_table AND c.relkind = 'r'
    LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'sophia_adopted'
      AND t.tgfoid = 'sophia.land_row'::regproc AND t.tgargs = convert_to(a.adoption::text, 'UTF8') || '\x00'
    WHERE a.adoption = find_landing.adoption;
  IF known.landing IS NULL OR known.disabled THEN
    UPDATE sophia.adoptions a SET attached = NULL, next_block = NULL
      WHERE a.adoption = find_landing.adoption AND a.attached IS NOT NULL;
  ELSIF known.attached IS DISTINCT FROM known.landing OR NOT known.has_trigger THEN
    PERFORM sophia.attach_landing(adoption, known.landing);
  ELSIF known.next_block IS NOT NULL AND known.file <> known.now_file THEN
    -- Rewritten while it was being read: the rows may stand elsewhere now.
    UPDATE sophia.adoptions a SET file = known.now_file, next_block = 0 WHERE a.adoption = find_landing.adoption;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.find_landing(integer) IS 'internal: looks whether an adopted table is still the one that has the trigger, and attaches the one that took its place';

-- A range of 64 blocks (half a megabyte, and what is kept out of line) at a time.  Its rows get the number 0, so they come
-- before every change that was not committed when the statement saw them.
CREATE FUNCTION sophia.read_landing(adoption integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
  blocks constant bigint := 64;
  known record;
BEGIN
  SELECT a.attached::regclass AS landing, a.next_block INTO known
    FROM sophia.adoptions a WHERE a.adoption = read_landing.adoption AND a.next_block IS NOT NULL;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  INSERT INTO sophia.landed_rows (adoption, id, clock, document, problem)
    SELECT read_landing.adoption, 0, r.clock, r.document, r.problem FROM sophia.landing_rows(known.landing, known.next_block, blocks) AS r;
  UPDATE sophia.adoptions a
    SET next_block = CASE WHEN (known.next_block + blocks) * current_setting('block_size')::bigint < pg_relation_size(known.landing)
                          THEN known.next_block + blocks END
    -- The table is locked now. If it was rewritten before, all of its rows are read again.
    WHERE a.adoption = read_landing.adoption AND a.file = pg_relation_filenode(known.landing);
END;
$$;
COMMENT ON FUNCTION sophia.read_landing(integer) IS 'internal: puts the next rows that an adopted table had before it had the trigger into the queue';

-- As the ingest does for streams: once each, and a notification of the first of a kind.
CREATE FUNCTION sophia.keep_dead_letter(landing text, number bigint, document bytea, reason text, sqlstate text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known constant boolean := EXISTS (SELECT FROM sophia.dead_letters d WHERE d.stream = landing AND d.sqlstate = keep_dead_letter.sqlstate
    AND sophia.dead_letter_kind(d.reason) = sophia.dead_letter_kind(keep_dead_letter.reason));
  kept bigint;
BEGIN
  INSERT INTO sophia.dead_letters (stream, journal, begin_offset, document, reason, sqlstate)
    SELECT landing, landing, number, keep_dead_letter.document, keep_dead_letter.reason, keep_dead_letter.sqlstate
    WHERE NOT EXISTS (SELECT FROM sophia.dead_letters d
                      WHERE d.stream = landing AND d.journal = landing AND d.document = keep_dead_letter.document)
    RETURNING id INTO kept;
  IF kept IS NOT NULL AND NOT known THEN
    PERFORM pg_notify('sophia_dead_letter', json_build_object('stream', landing, 'sqlstate', keep_dead_letter.sqlstate,
                                                              'reason', left(keep_dead_letter.reason, 500), 'id', kept)::text);
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.keep_dead_letter(text, bigint, bytea, text, text) IS 'internal: keeps a document of an adopted table that could not be applied';

-- At most 1000 documents or 4 MB, or one that is longer.
CREATE FUNCTION sophia.apply_landed(adoption integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known record;
  taken record;
  result record;
BEGIN
  SELECT a.shape, format('%I.%I', a.landing_schema, a.landing_table) AS landing, sophia.landing_options(a.adoption) AS options INTO known
    FROM sophia.adoptions a WHERE a.adoption = apply_landed.adoption;
  SELECT array_agg(q.place ORDER BY q.n) AS places, array_agg(q.document ORDER BY q.n) AS documents,
         array_agg(q.clock ORDER BY q.n) AS clocks, array_agg(q.id ORDER BY q.n) AS ids, array_agg(q.problem ORDER BY q.n) AS problems,
         count(*) AS n
    INTO taken
    FROM (SELECT w.place, w.document, w.clock, w.id, w.problem, w.n,
                 sum(octet_length(w.document)) OVER (ORDER BY w.n) AS bytes
          FROM (SELECT r.ctid AS place, r.document, r.clock, r.id, r.problem, row_number() OVER (ORDER BY r.id, r.ctid) AS n
                FROM (SELECT l.ctid, l.* FROM sophia.landed_rows l WHERE l.adoption = apply_landed.adoption
                      ORDER BY l.adoption, l.id LIMIT 1000) r) w) q
    WHERE q.n = 1 OR q.bytes <= 4194304;
  IF taken.n = 0 THEN
    RETURN false;
  END IF;
  SELECT * INTO result FROM sophia.apply_documents(known.shape, known.options, known.landing,
                                                   taken.documents, taken.clocks, taken.ids);
  PERFORM sophia.keep_dead_letter(known.landing, taken.ids[f.position], taken.documents[f.position],
                                  coalesce(taken.problems[f.position], f.reason),
                                  CASE WHEN taken.problems[f.position] IS NULL THEN f.sqlstate ELSE '22000' END)
    FROM unnest(result.failed, result.sqlstates, result.reasons) AS f (position, sqlstate, reason);
  DELETE FROM sophia.landed_rows l WHERE l.ctid = ANY (taken.places);
  UPDATE sophia.adoptions a
    SET rows_fed = a.rows_fed + taken.n - cardinality(result.failed), rows_dead = a.rows_dead + cardinality(result.failed),
        last_row_at = clock_timestamp()
    WHERE a.adoption = apply_landed.adoption;
  RETURN true;
END;
$$;
COMMENT ON FUNCTION sophia.apply_landed(integer) IS 'internal: applies the next documents of an adopted table; false when none waits';

CREATE FUNCTION sophia.landing_options(adoption integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  -- The collection as the materialization names it, else the table: some shapes keep its last part.
  SELECT jsonb_build_object('collection',
    coalesce(substring(obj_description(a.attached, 'pg_class') FROM ' of collection (.*)$'), a.landing_table))
  FROM sophia.adoptions a WHERE a.adoption = landing_options.adoption
$$;
COMMENT ON FUNCTION sophia.landing_options(integer) IS 'internal: what apply_documents is to know of the documents of an adopted table';

CREATE FUNCTION sophia.letters_definition(stream text, OUT shape text, OUT options jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.shape, s.options || jsonb_build_object('collection', s.collection) FROM sophia.streams s WHERE s.stream = letters_definition.stream
  UNION ALL
  SELECT a.shape, sophia.landing_options(a.adoption) FROM sophia.adoptions a
    WHERE format('%I.%I', a.landing_schema, a.landing_table) = letters_definition.stream
  LIMIT 1
$$;
COMMENT ON FUNCTION sophia.letters_definition(text) IS 'internal: how documents are applied whose dead letters have that stream: a stream, or an adopted table';

CREATE FUNCTION sophia.feed_adoption(adoption integer, wait boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  more boolean;
  problem text;
  code text;
BEGIN
  -- One at a time feeds a table: what it reads is then older than what it applies next.
  IF wait THEN
    PERFORM FROM sophia.adoptions a WHERE a.adoption = feed_adoption.adoption FOR NO KEY UPDATE;
  ELSE
    -- A worker writes nothing into what may still be in the middle of a restore.
    PERFORM FROM sophia.adoptions a JOIN sophia.here h USING (system_identifier, database_oid)
      WHERE a.adoption = feed_adoption.adoption AND (a.retry_at IS NULL OR a.retry_at <= clock_timestamp())
      FOR NO KEY UPDATE OF a SKIP LOCKED;
  END IF;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  BEGIN
    more := sophia.apply_landed(adoption);
  EXCEPTION WHEN OTHERS THEN
    problem := SQLERRM;
    code := SQLSTATE;
  END;
  -- What landed is applied even where the table is not what it should be.
  BEGIN
    PERFORM sophia.find_landing(adoption);
    PERFORM sophia.read_landing(adoption);
  EXCEPTION WHEN OTHERS THEN
    problem := SQLERRM;
    code := SQLSTATE;
  END;
  UPDATE sophia.adoptions a
    SET last_error = problem,
        retry_at = clock_timestamp() + CASE WHEN code = '55P03' THEN interval '0.2 s' WHEN code IS NOT NULL THEN interval '5 s' END
    WHERE a.adoption = feed_adoption.adoption AND (problem IS NOT NULL OR a.last_error IS NOT NULL);
  RETURN problem IS NULL AND (more
    OR EXISTS (SELECT FROM sophia.landed_rows l WHERE l.adoption = feed_adoption.adoption)
    OR EXISTS (SELECT FROM sophia.adoptions a WHERE a.adoption = feed_adoption.adoption AND a.next_block IS NOT NULL));
END;
$$;
COMMENT ON FUNCTION sophia.feed_adoption(integer, boolean) IS 'internal: feeds the next slice of an adopted table; true where there is more. An error is noted, not raised';

CREATE FUNCTION sophia.feed_adopted() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  before constant bigint := (SELECT sum(a.rows_fed) FROM sophia.adoptions a);
BEGIN
  FOR one IN SELECT a.adoption FROM sophia.adoptions a ORDER BY a.adoption LOOP
    WHILE sophia.feed_adoption(one.adoption, true) LOOP
    END LOOP;
  END LOOP;
  RETURN coalesce((SELECT sum(a.rows_fed) FROM sophia.adoptions a) - before, 0);
END;
$$;
COMMENT ON FUNCTION sophia.feed_adopted() IS 'feeds all that waits in adopted tables, in the current transaction, and returns how many rows that were';

-- ---- adopting ----

CREATE FUNCTION sophia.require_landing_shape(shape text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF shape IS NULL THEN
    RAISE EXCEPTION 'shape must not be null' USING ERRCODE = '22004';
  ELSIF shape = 'generic' THEN
    RAISE EXCEPTION 'a landing table cannot feed shape "generic"' USING ERRCODE = '22023',
      HINT = format('The shapes are %s.', (SELECT string_agg(s.shape, ', ' ORDER BY s.shape) FROM sophia.shapes s));
  END IF;
  PERFORM sophia.require_shape(shape, NULL, '{}');
END;
$$;
COMMENT ON FUNCTION sophia.require_landing_shape(text) IS 'internal: raises an error where there is no such shape, or not the table that it fills';

CREATE FUNCTION sophia.check_landing(landing regclass, shape text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known record;
  missing text;
BEGIN
  SELECT c.relkind, c.relpersistence, c.relowner INTO known FROM pg_class c WHERE c.oid = landing;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the table does not exist' USING ERRCODE = '42P01';
  ELSIF known.relkind <> 'r' OR known.relpersistence = 't' THEN
    RAISE EXCEPTION '"%" is not an ordinary table', landing USING ERRCODE = '42809';
  ELSIF NOT pg_has_role(sophia.caller(), known.relowner, 'USAGE') THEN
    RAISE EXCEPTION 'must be owner of table %', landing USING ERRCODE = '42501';
  ELSIF EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = landing AND d.refclassid = 'pg_extension'::regclass
                  AND d.deptype = 'e' AND e.extname = 'sophia_stack')
     OR EXISTS (SELECT FROM sophia.shapes s JOIN pg_namespace n ON n.nspname = s.target_schema
                JOIN pg_class c ON c.relnamespace = n.oid AND c.relname IN (s.target_table, s.array_table)
                WHERE c.oid = landing) THEN
    RAISE EXCEPTION 'table "%" is a table of sophia_stack', landing USING ERRCODE = '22023',
      HINT = 'Adopt the table that Estuary writes.';
  END IF;
  SELECT k.pointer INTO missing
    FROM sophia.shapes s CROSS JOIN LATERAL unnest(s.key, s.key_columns) AS k (pointer, column_name)
    WHERE s.shape = check_landing.shape AND NOT sophia.landing_has(landing, k.pointer)
      AND NOT EXISTS (SELECT FROM sophia.table_columns c, unnest(c.pointers) p
                      WHERE c.table_schema = s.target_schema AND c.table_name = s.target_table AND c.column_name = k.column_name
                        AND sophia.landing_has(landing, p))
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'table "%" cannot feed shape "%"', landing, shape USING ERRCODE = '22023',
      DETAIL = format('It has neither "flow_document" nor a column that holds "%s".', missing);
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_landing(regclass, text) IS 'internal: raises an error where the caller cannot have that table feed that shape';

CREATE FUNCTION sophia.adopt_table(landing regclass, shape text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  remedy constant text := sophia.worker_missing();
  known sophia.adoptions;
BEGIN
  IF adopt_table.landing IS NULL THEN
    RAISE EXCEPTION 'landing must not be null' USING ERRCODE = '22004';
  END IF;
  PERFORM sophia.require_landing_shape(adopt_table.shape);
  PERFORM sophia.check_landing(adopt_table.landing, adopt_table.shape);
  INSERT INTO sophia.adoptions (landing_schema, landing_table, shape, owner, system_identifier, database_oid)
    SELECT n.nspname, c.relname, adopt_table.shape, pg_get_userbyid(c.relowner), h.system_identifier, h.database_oid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN sophia.here h WHERE c.oid = adopt_table.landing
    ON CONFLICT (landing_schema, landing_table) DO UPDATE
      SET owner = excluded.owner, retry_at = NULL, system_identifier = excluded.system_identifier, database_oid = excluded.database_oid
    RETURNING * INTO known;
  IF known.shape <> adopt_table.shape THEN
    RAISE EXCEPTION 'table "%" is adopted with shape "%"', adopt_table.landing, known.shape USING ERRCODE = '42710',
      HINT = 'Call sophia.release_table() first.';
  END IF;
  -- Waits for the transactions that write the table, as long as the caller likes.
  EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', adopt_table.landing);
  PERFORM sophia.find_landing(known.adoption);
  -- A small table is fed at once.  The worker goes on with a large one, so that its writers do not wait for long.
  FOR turn IN 1 .. 8 LOOP
    EXIT WHEN NOT sophia.feed_adoption(known.adoption, true);
  END LOOP;
  IF remedy IS NOT NULL THEN
    RAISE WARNING 'table "%" feeds only when sophia.feed_adopted() is called, because this database has no ingest worker', adopt_table.landing
      USING ERRCODE = '55000', HINT = remedy;
  END IF;
  PERFORM sophia.notify_workers();
END;
$$;
COMMENT ON FUNCTION sophia.adopt_table(regclass, text) IS
  'has a table that an Estuary materialization writes feed the raw table of a shape, with the rows that it has and those that it gets';

CREATE FUNCTION sophia.adopt_new_table(shape text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found regclass[];
BEGIN
  PERFORM sophia.require_landing_shape(shape);
  SELECT array_agg(c.oid::regclass) INTO found
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute f ON f.attrelid = c.oid AND f.attname = 'flow_published_at' AND NOT f.attisdropped
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND sophia.written_here(c.xmin)
      AND pg_has_role(sophia.caller(), c.relowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM sophia.adoptions a WHERE a.attached = c.oid);
  IF cardinality(found) > 1 THEN
    RAISE EXCEPTION 'this transaction made more than one table that could be meant: %', array_to_string(found, ', ')
      USING ERRCODE = '42725', HINT = 'Call sophia.adopt_table().';
  ELSIF found IS NULL THEN
    RAISE NOTICE 'this transaction made no table that could be adopted';
    RETURN NULL;
  END IF;
  PERFORM sophia.adopt_table(found[1], shape);
  RETURN (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.oid = found[1]);
END;
$$;
COMMENT ON FUNCTION sophia.adopt_new_table(text) IS
  'adopts the table that the current transaction made, and returns its name; what adoption_sql has a materialization call';

CREATE FUNCTION sophia.adoption_sql(shape text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.require_landing_shape(shape);
  RETURN format($text$DO $adoption$
BEGIN
  PERFORM sophia.adopt_new_table(%L);
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'sophia_stack did not adopt the table: %%', SQLERRM;
END
$adoption$;$text$, shape);
END;
$$;
COMMENT ON FUNCTION sophia.adoption_sql(text) IS
  'text for the field "additional table create SQL" of a binding of Estuary''s PostgreSQL materialization: adopts the table whenever it is made';

CREATE FUNCTION sophia.release_table(landing text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known record;
  waiting bigint;
BEGIN
  IF release_table.landing IS NULL THEN
    RAISE EXCEPTION 'landing must not be null' USING ERRCODE = '22004';
  END IF;
  SELECT a.adoption, c.oid::regclass AS relation, t.oid IS NOT NULL AS has_trigger, a.owner INTO known
    FROM sophia.adoptions a
    LEFT JOIN pg_namespace n ON n.nspname = a.landing_schema
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = a.landing_table
    LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'sophia_adopted'
    WHERE ARRAY[a.landing_schema, a.landing_table] = parse_ident(release_table.landing)
    FOR NO KEY UPDATE OF a;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'table "%" is not adopted', release_table.landing USING ERRCODE = '42704',
      HINT = 'Give its name with its schema, as in sophia.adopted_tables.';
  END IF;
  IF known.has_trigger THEN
    EXECUTE format('DROP TRIGGER sophia_adopted ON %s', known.relation);
  END IF;
  WHILE sophia.apply_landed(known.adoption) LOOP
  END LOOP;
  DELETE FROM sophia.adoptions a WHERE a.adoption = known.adoption;
END;
$$;
COMMENT ON FUNCTION sophia.release_table(text) IS
  'undoes adopt_table: takes the trigger off the table, feeds what waits and forgets it; rows and dead letters stay';

CREATE VIEW sophia.adopted_tables AS
  SELECT format('%I.%I', a.landing_schema, a.landing_table) AS landing, a.shape,
         CASE WHEN a.system_identifier <> h.system_identifier OR a.database_oid <> h.database_oid THEN 'stopped'
              -- Not by to_regclass, which fails for who may not use the schema.
              WHEN NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                               WHERE c.oid = a.attached AND n.nspname = a.landing_schema AND c.relname = a.landing_table) THEN 'detached'
              WHEN a.last_error IS NOT NULL THEN 'failing'
              WHEN a.next_block IS NOT NULL THEN 'loading'
              ELSE 'feeding' END AS state,
         a.rows_fed, (SELECT count(*) FROM sophia.landed_rows l WHERE l.adoption = a.adoption) AS rows_waiting, a.rows_dead,
         a.last_row_at, a.last_error, a.adopted_at
  FROM sophia.adoptions a CROSS JOIN sophia.here h;
COMMENT ON VIEW sophia.adopted_tables IS 'tables that Estuary writes and that feed raw tables';
COMMENT ON COLUMN sophia.adopted_tables.landing IS 'name of the table; its dead letters have it as their stream';
COMMENT ON COLUMN sophia.adopted_tables.state IS
  'feeding; loading: rows that were there before are being read; failing: see last_error, it is tried again; detached: there is no such table, or another one, which is attached soon; stopped: restored, until adopt_table is called';
COMMENT ON COLUMN sophia.adopted_tables.rows_fed IS 'documents that were applied; a row counts each time it changes';
COMMENT ON COLUMN sophia.adopted_tables.rows_waiting IS 'documents that landed and are not applied yet';
COMMENT ON COLUMN sophia.adopted_tables.rows_dead IS 'documents that became dead letters';
COMMENT ON COLUMN sophia.adopted_tables.last_row_at IS 'when the last document was applied';
