-- The extension is there (pg_regress made it), can be dropped with all it has, and made again.
SELECT library = sql AS same_version FROM sophia.version();
SELECT extrelocatable, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
  WHERE extname = 'sophia_stack';

-- The library loads without preload too, and its symbols can be found.
LOAD 'sophia_stack';

-- Everything that a stream needs to go on is dumped; this names what is not.
SELECT t FROM unnest(ARRAY['endpoints', 'streams', 'checkpoints', 'producers', 'staged_documents', 'dead_letters',
                           'dead_letters_id_seq']) t, pg_extension
  WHERE extname = 'sophia_stack' AND to_regclass('sophia.' || t)::oid <> ALL (extconfig);

DROP EXTENSION sophia_stack;
SELECT count(*) FROM pg_namespace WHERE nspname = 'sophia';
-- A schema of that name that somebody else made is not taken over.
CREATE SCHEMA sophia;
CREATE EXTENSION sophia_stack;
DROP SCHEMA sophia;
CREATE EXTENSION sophia_stack;
SELECT count(*) FROM sophia.streams;
