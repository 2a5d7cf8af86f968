-- Data quality: rules of each kind and severity, what is refused, and who may do what.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set VERBOSITY terse
DROP SCHEMA IF EXISTS shop CASCADE;
CREATE SCHEMA shop;
RESET client_min_messages;

CREATE TABLE shop.makers (code text, region int, PRIMARY KEY (code, region));
CREATE TABLE shop."Odd ""goods""" (id int, "part'no" text, name text, price numeric, made timestamptz, maker text, region int,
  state text, is_deleted boolean NOT NULL DEFAULT false, PRIMARY KEY (id, "part'no"));
INSERT INTO shop.makers VALUES ('acme', 1);
INSERT INTO shop."Odd ""goods""" VALUES
  (1, 'a''b', 'ann@x.example', 10, '2024-01-01', 'acme', 1, 'new', false),
  (2, 'b"c', NULL, -1, '2019-01-01', 'acme', 2, 'old''', false),
  (3, '{c}', 'ann@x.example', NULL, NULL, NULL, 2, NULL, false),
  (4, 'd', 'no address', 'NaN', 'infinity', 'none', 1, 'new', false),
  (5, 'e', NULL, -5, '1900-01-01', 'none', 9, 'gone', true);
\set goods 'shop."Odd ""goods"""'

-- One of each kind.  A row that is deleted is not looked at; NULL passes but for not_null.
SELECT sophia.add_quality_rule(:'goods', 'named', 'not_null', columns => '{name}');
SELECT sophia.add_quality_rule(target => :'goods', rule => 'one name', kind => 'unique', severity => 'quarantine', columns => '{name}');
SELECT sophia.add_quality_rule(:'goods', 'address', 'regex', columns => '{name}', args => '{"pattern": "^[^@]+@[^@]+''?$"}');
SELECT sophia.add_quality_rule(:'goods', 'priced', 'range', columns => '{price}', args => '{"min": 0, "max": 100}');
SELECT sophia.add_quality_rule(:'goods', 'modern', 'range', columns => '{made}', args => '{"min": "2020-01-01"}');
SELECT sophia.add_quality_rule(:'goods', 'state', 'accepted', columns => '{state}', args => '{"values": ["new", "old", 3]}');
SELECT sophia.add_quality_rule(:'goods', 'made by', 'reference', columns => '{maker,region}', args => '{"table": "shop.makers"}');
SELECT sophia.add_quality_rule(:'goods', 'fresh', 'freshness', columns => '{made}', args => '{"max_age": "1 day"}', filter => 'id < 4');
SELECT sophia.add_quality_rule(:'goods', 'many', 'volume', 'fail', args => '{"min": 10}');
SELECT sophia.add_quality_rule(:'goods', 'recent', 'volume', columns => '{made}', args => '{"max": 0, "within": "1 day"}');
SELECT sophia.add_quality_rule(:'goods', 'odd', 'sql', columns => '{id}', args => '{"check": "id % 2 = 1 -- even"}', filter => 'id > 1 -- not the first');
SELECT sophia.add_quality_rule(:'goods', 'it''s "a" query', 'sql', args => '{"query": "SELECT id, \"part''no\" FROM shop.\"Odd \"\"goods\"\"\" WHERE id = 5"}');
SELECT rule, kind, severity, status, rows_tested, rows_failed, example, message FROM sophia.check_quality(:'goods') ORDER BY rule COLLATE "C";
SELECT key, value FROM sophia.quality_failures(:'goods', 'made by') ORDER BY key;
SELECT target, key, rule, value, resolved_at IS NULL AS open, attempts FROM sophia.quarantine ORDER BY key;
SELECT rule, status, rows_failed, rows_quarantined, since = checked_at AS first, enabled, builtin FROM sophia.quality_status
WHERE target = :'goods'::regclass AND rule IN ('named', 'one name', 'priced') ORDER BY rule;

-- All rules about single rows are one query.  What it tells costs only rows that fail.
DO $$
DECLARE
  line text;
  scans int := 0;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN ' || sophia.row_pass('shop."Odd ""goods"""', '{named,address,priced,modern,state,odd}', false) LOOP
    scans := scans + (line ~ 'Scan')::int;
  END LOOP;
  RAISE NOTICE 'six rules, scans: %', scans;
END $$;

-- A row that was corrected is readmitted, and so is its partner, which did not change.  One that fails again is the same entry.
UPDATE shop."Odd ""goods""" SET name = 'bea@x.example' WHERE id = 3;
SELECT rule, status, rows_tested, rows_failed, jsonb_array_length(moved) AS moved
FROM sophia.run_quality(:'goods', '[{"id": 3, "part''no": "{c}"}, {"id": 99, "part''no": "gone"}]') ORDER BY rule COLLATE "C";
SELECT key, resolved_at IS NULL AS open, last_seen_at >= first_seen_at AS seen FROM sophia.quarantine ORDER BY key;
SELECT rule, severity, status, rows_failed, rows_quarantined, scope FROM sophia.quality_status
WHERE target = :'goods'::regclass AND rule IN ('named', 'one name', 'address') ORDER BY rule;
UPDATE shop."Odd ""goods""" SET name = 'ann@x.example' WHERE id = 3;
SELECT count(*) FROM sophia.check_quality(:'goods');
DELETE FROM shop."Odd ""goods""" WHERE id = 3;
SELECT count(*) FROM sophia.run_quality(:'goods', '[{"id": 3, "part''no": "{c}"}]');
SELECT key, resolved_at IS NULL AS open, attempts FROM sophia.quarantine ORDER BY key;

-- In a refresh a rule of severity fail raises an error, and records nothing.
SELECT sophia.alter_quality_rule(:'goods', 'priced', 'fail');
SELECT sophia.check_changed(:'goods', '[{"id": 1, "part''no": "a''b"}]');
SELECT sophia.check_changed(:'goods', '[{"id": 2, "part''no": "b\"c"}]');
SELECT sophia.check_changed(:'goods', '[]');
SELECT sophia.check_changed(:'goods', NULL);
SELECT sophia.alter_quality_rule(:'goods', 'priced', enabled => false);
SELECT sophia.alter_quality_rule(:'goods', 'many', 'warn');
SELECT sophia.check_changed(:'goods', NULL);

-- A rule that cannot be evaluated is an error of its own; the others go on.
SELECT sophia.add_quality_rule(:'goods', 'divided', 'sql', args => '{"check": "1 / (id - 1) >= 0"}');
SELECT rule, status, rows_failed, message FROM sophia.check_quality(:'goods') WHERE rule IN ('divided', 'named', 'odd') ORDER BY rule;
ALTER TABLE shop."Odd ""goods""" DROP COLUMN state;
SELECT rule, status, rows_failed, message FROM sophia.check_quality(:'goods') WHERE rule IN ('state', 'named') ORDER BY rule;
SELECT sophia.alter_quality_rule(:'goods', 'divided', 'fail');
SELECT sophia.check_changed(:'goods', '[{"id": 1, "part''no": "a''b"}]');
SELECT sophia.drop_quality_rule(:'goods', 'divided');
SELECT sophia.drop_quality_rule(:'goods', 'state');

-- A rule that does not quarantine any more lets its rows go.
SELECT sophia.alter_quality_rule(:'goods', 'named', 'quarantine');
SELECT count(*) FROM sophia.check_quality(:'goods');
SELECT key, rule FROM sophia.quarantine WHERE resolved_at IS NULL;
SELECT sophia.alter_quality_rule(:'goods', 'named', enabled => false);
SELECT count(*) FROM sophia.quarantine WHERE resolved_at IS NULL;
SELECT sophia.drop_quality_rule(:'goods', 'named');

-- What is refused.
SELECT sophia.add_quality_rule(:'goods', 'address', 'regex', columns => '{name}', args => '{"pattern": "a"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'regexp', columns => '{name}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'regex', columns => '{name}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'regex', columns => '{name}', args => '{"pattern": "["}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'regex', columns => '{name}', args => '{"pattern": "a", "flags": "i"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'regex', columns => '{name,maker}', args => '{"pattern": "a"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'not_null', columns => '{nome}');
\set VERBOSITY sqlstate
SELECT sophia.add_quality_rule(:'goods', 'x', 'not_null', columns => '{nome}');
SELECT * FROM sophia.lineage(:'goods', 'nome');
\set VERBOSITY terse
SELECT sophia.add_quality_rule(:'goods', 'x', 'not_null');
SELECT sophia.add_quality_rule(:'goods', 'x', 'not_null', 'error', '{name}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'not_null', NULL, '{name}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'not_null', columns => '{name}', args => '[]');
SELECT sophia.add_quality_rule(:'goods', 'x', 'range', columns => '{price}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'range', columns => '{price}', args => '{"min": "much"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'accepted', columns => '{name}', args => '{"values": [null]}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'reference', columns => '{maker}', args => '{"table": "shop.makers"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'reference', columns => '{maker}', args => '{"table": "shop.nobody"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'freshness', columns => '{name}', args => '{"max_age": "1 day"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'freshness', columns => '{made}', args => '{"max_age": "soon"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'freshness', 'quarantine', '{made}', '{"max_age": "1 day"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'volume', args => '{"min": 1.5}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'sql', args => '{"check": "true", "query": "SELECT 1"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'sql', args => '{"check": "nome IS NULL"}');
SELECT sophia.add_quality_rule(:'goods', 'x', 'sql', args => '{"check": "true) OR (true"}', filter => ')');
SELECT sophia.add_quality_rule(:'goods', 'x', 'sql', args => '{"query": "DELETE FROM shop.makers RETURNING 1 AS id"}');
SELECT sophia.add_quality_rule(:'goods', '', 'not_null', columns => '{name}');
SELECT sophia.add_quality_rule(NULL, 'x', 'not_null', columns => '{name}');
SELECT sophia.alter_quality_rule(:'goods', 'x', 'warn');
SELECT sophia.drop_quality_rule(:'goods', 'x');
SELECT * FROM sophia.quality_failures(:'goods', 'x');
CREATE VIEW shop.cheap AS SELECT id, price FROM shop."Odd ""goods""" WHERE price < 50;
SELECT sophia.add_quality_rule('shop.cheap', 'x', 'not_null', 'quarantine', '{price}');
SELECT sophia.add_quality_rule('shop.cheap', 'x', 'range', 'warn', '{price}', '{"min": 0}');
SELECT rule, rows_tested, rows_failed, example, message FROM sophia.check_quality('shop.cheap');

-- Rules that the extension brings can be changed, not dropped.
SELECT count(*) > 0 AS made FROM sophia.create_schemas();
SELECT sophia.drop_quality_rule('hubspot_raw.deals', 'named');
SELECT sophia.alter_quality_rule('hubspot_raw.deals', 'named', enabled => false);
SELECT sophia.alter_quality_rule('hubspot_raw.deals', 'named', 'fail');
SELECT rule, severity, enabled, builtin, status FROM sophia.quality_status WHERE target = 'hubspot_raw.deals'::regclass ORDER BY rule;
SELECT sophia.alter_quality_rule('hubspot_raw.deals', 'named', 'warn', true);
SELECT s.shape FROM sophia.shapes AS s WHERE NOT EXISTS (SELECT FROM sophia.quality_rules AS r
  WHERE r.builtin AND r.target_schema = s.target_schema AND r.target_table = s.target_table);

-- Rights: only the owner of a table adds rules; they run as the owner, whoever checks.
CREATE ROLE regress_quality_owner;
CREATE ROLE regress_quality_other;
GRANT USAGE, CREATE ON SCHEMA shop TO regress_quality_owner;
GRANT USAGE ON SCHEMA shop TO regress_quality_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sophia TO regress_quality_owner, regress_quality_other;
SET ROLE regress_quality_owner;
CREATE TABLE shop.mine (id int PRIMARY KEY, note text);
INSERT INTO shop.mine VALUES (1, 'x');
CREATE FUNCTION shop.whoami(id int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN current_user || ' ' || session_user; END $$;
SELECT sophia.add_quality_rule('shop.makers', 'x', 'not_null', columns => '{code}');
SELECT sophia.add_quality_rule('shop.mine', 'x', 'sql', args => '{"check": "EXISTS (SELECT FROM shop.makers)"}');
SELECT sophia.add_quality_rule('shop.mine', 'whose', 'sql', args => '{"check": "current_user = ''regress_quality_owner'' AND shop.whoami(id) LIKE ''regress_quality_owner%''"}');
SELECT * FROM sophia.check_quality('shop.makers');
RESET ROLE;
SELECT rule, status, message FROM sophia.check_quality('shop.mine');
SET ROLE regress_quality_other;
SELECT * FROM sophia.check_quality('shop.mine');
SELECT * FROM sophia.check_quality();
SELECT * FROM sophia.quality_failures('shop.mine', 'whose');
SELECT sophia.drop_quality_rule('shop.mine', 'whose');
RESET ROLE;
-- The rule stays with the role that had the table, whoever has it then.
ALTER TABLE shop.mine OWNER TO CURRENT_USER;
SELECT rule, status, message FROM sophia.check_quality('shop.mine');

-- History can be pruned; the last result of each rule stays.
SELECT sophia.prune_quality() AS pruned;
SELECT sophia.prune_quality('-1 s') > 0 AS pruned;
SELECT max(n) FROM (SELECT count(*) AS n FROM sophia.quality_results GROUP BY target, rule) AS c;
SELECT count(*) FROM sophia.quarantine WHERE resolved_at IS NOT NULL;

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sophia FROM regress_quality_owner, regress_quality_other;
DROP ROLE regress_quality_owner, regress_quality_other;
DELETE FROM sophia.quality_rules WHERE target_schema = 'shop';
DELETE FROM sophia.quality_changes;
TRUNCATE sophia.quality_results, sophia.quarantine;
