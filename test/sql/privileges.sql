-- House rules for the objects of the extension; each query returns what breaks one.
CREATE TEMP VIEW members AS
  SELECT d.classid, d.objid, i.type, i.schema, i.identity
  FROM pg_depend d, pg_extension e, pg_identify_object(d.classid, d.objid, d.objsubid) i
  WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'sophia_stack' AND d.deptype = 'e';
CREATE TEMP VIEW functions AS
  SELECT p.* FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

-- Everything lies in the schema sophia.
SELECT type, identity FROM members WHERE type <> 'schema' AND schema IS DISTINCT FROM 'sophia' ORDER BY identity;

-- Everybody may execute pure functions only. The text functions are these.
SELECT oid::regprocedure FROM functions WHERE has_function_privilege('public', oid, 'EXECUTE') ORDER BY oid::regprocedure::text COLLATE "C";
SELECT oid::regprocedure FROM functions
  WHERE has_function_privilege('public', oid, 'EXECUTE') AND (provolatile <> 'i' OR prosecdef) ORDER BY oid::regprocedure::text COLLATE "C";

-- Nobody but the owner may write a table, or read one that holds configuration or state; domains of mail providers are
-- no secret.
SELECT m.identity, a.privilege_type
  FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
  JOIN pg_extension e ON e.extname = 'sophia_stack', aclexplode(c.relacl) a
  WHERE a.grantee <> c.relowner AND c.relname <> 'free_mail_domains'
    AND (a.privilege_type <> 'SELECT' OR c.oid = ANY (e.extconfig)) ORDER BY 1, 2;

-- A function that runs with the owner's rights pins the search_path, and so does every other that is no C.  Queries under a
-- name, which the planner puts into their caller's statement, cannot (sql/60_refresh.sql); they write and change nothing.  Nor can
-- what runs its caller's query, or commits; both run with their caller's rights.
SELECT f.oid::regprocedure FROM functions f JOIN pg_language l ON l.oid = f.prolang
  WHERE prosqlbody IS NULL AND prokind <> 'a' AND (prosecdef OR l.lanname NOT IN ('c', 'sql') OR l.lanname = 'sql' AND provolatile = 'v')
    AND f.oid::regprocedure::text NOT IN ('sophia.ai_map(text,text,jsonb)', 'sophia.backfill_enrichment(text)')
    AND NOT coalesce(proconfig @> '{"search_path=pg_catalog, pg_temp"}', false) ORDER BY f.oid::regprocedure::text COLLATE "C";

-- Functions in C that are called with NULL say so by not being strict; these have an argument that may be left out,
-- add_field says which one is NULL, and an aggregate begins with nothing.
SELECT f.oid::regprocedure FROM functions f JOIN pg_language l ON l.oid = f.prolang
  WHERE l.lanname = 'c' AND NOT proisstrict AND pronargs > 0 AND prorettype <> 'trigger'::regtype ORDER BY f.oid::regprocedure::text COLLATE "C";

-- Everything has a comment.
SELECT type, identity FROM members
  WHERE obj_description(objid, classid::regclass::name) IS NULL AND type NOT IN ('type', 'sequence', 'toast table', 'index')
  ORDER BY type, identity;

-- The right to call a function can be granted alone: it reads and writes with the owner's rights.
CREATE ROLE sophia_test_operator;
GRANT EXECUTE ON FUNCTION sophia.create_endpoint, sophia.drop_endpoint TO sophia_test_operator;
SET ROLE sophia_test_operator;
SELECT sophia.create_endpoint('granted', 'broker', 'http://127.0.0.1:8080');
SELECT sophia.drop_endpoint('granted');
SELECT sophia.drop_stream('granted');
SELECT * FROM sophia.endpoints;
SELECT * FROM sophia.stream_status;
SELECT sophia.ask_worker('await_stream', 'x', 0);
RESET ROLE;
GRANT SELECT ON sophia.stream_status TO sophia_test_operator;
GRANT EXECUTE ON FUNCTION sophia.worker_pid TO sophia_test_operator;
SET ROLE sophia_test_operator;
SELECT count(*) FROM sophia.stream_status;
RESET ROLE;
REVOKE ALL ON FUNCTION sophia.create_endpoint, sophia.drop_endpoint, sophia.worker_pid FROM sophia_test_operator;
REVOKE ALL ON sophia.stream_status FROM sophia_test_operator;
DROP ROLE sophia_test_operator;
