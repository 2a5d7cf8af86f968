-- Match rules: what they may say, what they link, what waits, and what decisions do.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS fuzzystrmatch;
DROP EXTENSION IF EXISTS pg_trgm;
RESET client_min_messages;

SELECT round(sophia.jaro('MARTHA', 'MARHTA')::numeric, 4) AS jaro, round(sophia.jaro_winkler('MARTHA', 'MARHTA')::numeric, 4) AS jaro_winkler,
  sophia.levenshtein('kitten', 'sitting'), round(sophia.levenshtein_similarity('kitten', 'sitting')::numeric, 4) AS similarity,
  sophia.token_similarity('acme inc', 'inc acme'), sophia.name_similarity('lee, ann', 'a. lee');
SELECT sophia.jaro(NULL, 'a') IS NULL AS "null", sophia.jaro(repeat('a', 1025), 'a') IS NULL AS too_long, sophia.jaro('Zoë', 'Zoë') AS umlaut;
SELECT method, compares, met, extension FROM sophia.match_methods ORDER BY method;

-- ---- errors ----
CREATE TABLE people (id integer PRIMARY KEY, first text, last text, email text, born date, score numeric, tags text[]);
\set compare '[{"expr": "email", "method": "exact", "levels": [{"at": 1, "weight": 5}, {"at": 0, "weight": -1}]}]'
SELECT sophia.add_match_rule(NULL, 'people', 'id', '{email}', :'compare', 1);
SELECT sophia.add_match_rule('', 'people', 'id', '{email}', :'compare', 1);
SELECT sophia.add_match_rule('r', NULL, 'id', '{email}', :'compare', 1);
SELECT sophia.add_match_rule('r', 'nowhere', 'id', '{email}', :'compare', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{}', :'compare', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', ARRAY[NULL], :'compare', 1);
SELECT sophia.add_match_rule('r', 'people', 'nothing', '{email}', :'compare', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email,lower(nothing)}', :'compare', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '{}', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[1]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email"}]', 1);
\set VERBOSITY default
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "magic", "levels": [{"at": 1, "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "exact", "weight": 1, "levels": [{"at": 1, "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "trigram", "levels": [{"at": 0.5, "weight": 2}]}]', 1);
\set VERBOSITY terse
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "exact"}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "exact", "levels": []}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "exact", "levels": [{"at": "1", "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "exact", "null": "x", "levels": [{"at": 1, "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "emial", "method": "exact", "levels": [{"at": 1, "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "day_distance", "levels": [{"at": 1, "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "number_distance", "levels": [{"at": 1, "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', '[{"expr": "email", "method": "overlap", "levels": [{"at": 1, "weight": 2}]}]', 1);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', :'compare', NULL);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', :'compare', 5, 4);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', :'compare', -2, 0);
SELECT sophia.add_match_rule('r', 'people', 'id', '{email}', :'compare', 'NaN');
CALL sophia.match_records('people');
CALL sophia.match_records(NULL);
SELECT sophia.decide(1, 'same');
SELECT sophia.decide(NULL, 'same');
SELECT sophia.decide(1, 'perhaps');
SELECT sophia.drop_match_rule('r');
SELECT * FROM sophia.match_rules;

-- ---- every method, and levels ----
INSERT INTO people VALUES
  (1, 'Martha', 'Weber', 'm@x.example', '1980-01-01', 10, '{a,b}'), (2, 'Marhta', 'Weber', 'm@x.example', '1980-01-03', 11.5, '{b}'),
  (3, 'Otto', NULL, NULL, NULL, NULL, '{}'), (4, 'Otto', NULL, NULL, NULL, NULL, '{}');
SELECT sophia.add_match_rule('all', 'people', 'id', ARRAY['soundex(first)'], '[
  {"expr": "first", "method": "jaro", "levels": [{"at": 0.94, "weight": 1}]},
  {"expr": "first", "method": "jaro_winkler", "levels": [{"at": 0.99, "weight": 100}, {"at": 0.96, "weight": 2}, {"at": 0, "weight": 100}]},
  {"expr": "first", "method": "levenshtein", "levels": [{"at": 0.7, "weight": 100}, {"at": 0.6, "weight": 4}]},
  {"expr": "first", "method": "edit_distance", "levels": [{"at": 1, "weight": 100}, {"at": 2, "weight": 8}]},
  {"expr": "first || last", "method": "name", "levels": [{"at": 0.9, "weight": 16}]},
  {"expr": "last", "method": "tokens", "levels": [{"at": 1, "weight": 32}]},
  {"expr": "first", "method": "metaphone", "levels": [{"at": 1, "weight": 64}, {"at": 0, "weight": 0.5}]},
  {"expr": "first", "method": "soundex", "levels": [{"at": 1, "weight": 128}]},
  {"expr": "born", "method": "day_distance", "levels": [{"at": 1, "weight": 1000}, {"at": 2, "weight": 256}]},
  {"expr": "score", "method": "number_distance", "levels": [{"at": 1.5, "weight": 512}]},
  {"expr": "tags", "method": "overlap", "levels": [{"at": 1, "weight": 1024}]},
  {"expr": "email", "method": "exact", "null": -4096, "levels": [{"at": 1, "weight": 2048}]}]', -5000);
CALL sophia.match_records('people');
SELECT key_a, key_b, rule, score, status, strength FROM sophia.match_pairs ORDER BY key_a;
SELECT e.value ->> 'method' AS method, e.value ->> 'a' AS a, e.value ->> 'b' AS b, round((e.value ->> 'result')::numeric, 4) AS result, e.value ->> 'weight' AS weight
FROM sophia.review_queue AS q, jsonb_array_elements(q.evidence) AS e WHERE q.key_a = '1' LIMIT 3;
SELECT source, key_a, key_b, values_a -> 'tags' AS tags_a, values_b -> 'tags' AS tags_b, conflict FROM sophia.review_queue ORDER BY score;
-- A rule without link_at never links.
SELECT count(DISTINCT cluster_id) AS clusters, count(*) AS records FROM sophia.match_clusters WHERE source = 'people'::regclass;
SELECT sophia.drop_match_rule('all');
SELECT count(*) FROM sophia.match_pairs;

-- ---- rules of one source ----
TRUNCATE people;
SELECT sophia.add_match_rule('email', 'people', 'id', '{email}', :'compare', 3, 5);
SELECT sophia.add_match_rule('email', 'people', 'id', '{email}', :'compare', 3, 5);
SELECT sophia.add_match_rule('other', 'people', 'id + 1', '{email}', :'compare', 3, 5);
SELECT rule, source, key, blocking, review_at, link_at, search_path, author = current_user AS own FROM sophia.match_rules;
CALL sophia.match_records('people');
SELECT * FROM sophia.evaluate_identities('people', 'people');

-- ---- one weak pair never joins two strong clusters ----
CREATE TABLE edges (id text, word text, grade integer);
INSERT INTO edges VALUES ('a', 'x', 1), ('b', 'x', 1), ('c', 'x', 1), ('d', 'y', 2), ('e', 'y', 2), ('f', 'y', 2), ('g', 'z', 3);
CREATE TABLE bridges (id text, at text);
INSERT INTO bridges VALUES ('c', 'cd'), ('d', 'cd');
CREATE VIEW chained AS SELECT e.*, b.at FROM edges AS e LEFT JOIN bridges AS b USING (id);
SELECT sophia.add_match_rule('chained', 'chained', 'id', '{word,at}', '[{"expr": "word", "method": "exact", "levels": [{"at": 1, "weight": 6}]},
  {"expr": "at", "method": "exact", "levels": [{"at": 1, "weight": 3}]}]', 2, 3);
CALL sophia.match_records('chained');
CREATE VIEW chained_clusters AS SELECT string_agg(key, '' ORDER BY key) AS members, cluster_id FROM sophia.match_clusters
  WHERE source = 'chained'::regclass GROUP BY cluster_id;
SELECT members FROM chained_clusters ORDER BY 1;
SELECT key_a, key_b, status, conflict FROM sophia.match_pairs WHERE source = 'chained'::regclass ORDER BY 1, 2;
SELECT pair AS bridge FROM sophia.review_queue WHERE source = 'chained'::regclass \gset
-- Again: the same, by the same numbers.
CREATE TEMP TABLE before AS SELECT p.pair, p.key_a, p.key_b, p.status, p.score FROM sophia.match_pairs AS p;
CREATE TEMP TABLE clusters_before AS SELECT * FROM sophia.match_clusters;
CALL sophia.match_records('chained');
SELECT count(*) AS changed FROM (SELECT * FROM before EXCEPT SELECT p.pair, p.key_a, p.key_b, p.status, p.score FROM sophia.match_pairs AS p) AS x;
SELECT count(*) AS changed FROM (SELECT source, key, cluster_id FROM clusters_before EXCEPT SELECT source, key, cluster_id FROM sophia.match_clusters) AS x;
SELECT records, pairs_compared, pairs_linked, pairs_waiting, conflicts, blocks_skipped FROM sophia.match_runs ORDER BY run DESC LIMIT 1;

-- ---- decisions ----
SELECT sophia.decide(:bridge, 'same');
SELECT members FROM chained_clusters ORDER BY 1;
CALL sophia.match_records('chained');
SELECT members FROM chained_clusters ORDER BY 1;
SELECT status, conflict, decided_by = current_user AS own FROM sophia.match_pairs WHERE pair = :bridge;
-- Decided again; the cluster that was first keeps the oldest id, the other one gets a new one.
SELECT min(cluster_id) AS oldest FROM chained_clusters \gset
SELECT sophia.decide(:bridge, 'different');
SELECT members, cluster_id = :oldest AS oldest FROM chained_clusters ORDER BY 1;
-- Outranks rules, also where others lead around it.
SELECT pair AS inner_pair FROM sophia.match_pairs WHERE source = 'chained'::regclass AND key_a = 'a' AND key_b = 'b' \gset
SELECT sophia.decide(:inner_pair, 'different');
SELECT members FROM chained_clusters ORDER BY 1;
CALL sophia.match_records('chained');
SELECT members FROM chained_clusters ORDER BY 1;
SELECT key_a, key_b, conflict FROM sophia.review_queue WHERE source = 'chained'::regclass ORDER BY 1, 2;
-- Survives that no rule finds it any more.
DELETE FROM bridges;
CALL sophia.match_records('chained');
SELECT key_a, key_b, status FROM sophia.match_pairs WHERE source = 'chained'::regclass AND status IN ('same', 'different') ORDER BY 1, 2;
SELECT sophia.decide(:inner_pair, 'same');
SELECT members FROM chained_clusters ORDER BY 1;

-- ---- evaluation ----
CREATE TABLE truth (key text, cluster text);
INSERT INTO truth VALUES ('a', '1'), ('b', '1'), ('c', '2'), ('d', '3'), ('e', '3'), ('f', '3'), ('g', '3');
-- Found: abc, def, g. Pairs: 6 found, 1 + 6 true, 1 + 3 of them right.
SELECT round("precision"::numeric, 4) AS p, round(recall::numeric, 4) AS r, round(f1::numeric, 4) AS f1, round(b3_precision::numeric, 4) AS b3_p,
  round(b3_recall::numeric, 4) AS b3_r, round(b3_f1::numeric, 4) AS b3_f1, largest_cluster, clusters, id_churn
FROM sophia.evaluate_identities('truth', 'chained');
-- Churn: a split takes one record of seven away.
UPDATE edges SET word = 'w' WHERE id = 'f';
CALL sophia.match_records('chained');
SELECT clusters, round(id_churn::numeric, 4) AS churn FROM sophia.evaluate_identities('truth', 'chained');
CALL sophia.match_records('chained');
SELECT clusters, round(id_churn::numeric, 4) AS churn FROM sophia.evaluate_identities('truth', 'chained');
SELECT sophia.evaluate_identities('people', 'chained');
SELECT sophia.evaluate_identities(NULL, 'chained');
\set VERBOSITY sqlstate
SELECT sophia.evaluate_identities('people', 'chained');
\set VERBOSITY terse
INSERT INTO truth VALUES ('a', '9');
SELECT sophia.evaluate_identities('truth', 'chained');

-- ---- large blocks, keys ----
SET sophia_stack.match_block_limit = 2;
CALL sophia.match_records('chained');
SELECT rule, blocking, value, records FROM sophia.skipped_blocks ORDER BY value;
RESET sophia_stack.match_block_limit;
INSERT INTO edges VALUES ('g', 'z', 4);
CALL sophia.match_records('chained');
DELETE FROM edges WHERE grade = 4;

-- ---- rights ----
CREATE ROLE sophia_test_matcher;
GRANT EXECUTE ON FUNCTION sophia.add_match_rule, sophia.try_match_rule, sophia.try_match_expression, sophia.store_match_rule,
  sophia.check_match_comparisons, sophia.check_match_levels, sophia.method_schema, sophia.caller_search_path TO sophia_test_matcher;
SET ROLE sophia_test_matcher;
SELECT sophia.add_match_rule('own', 'edges', 'id', '{word}', '[{"expr": "word", "method": "exact", "levels": [{"at": 1, "weight": 6}]}]', 2, 3);
RESET ROLE;
GRANT SELECT ON edges TO sophia_test_matcher;
SET ROLE sophia_test_matcher;
SELECT sophia.add_match_rule('own', 'edges', 'id', '{word}', '[{"expr": "word", "method": "exact", "levels": [{"at": 1, "weight": 6}]}]', 2, 3);
RESET ROLE;
-- Its SQL would run with rights that its author lacks.
CALL sophia.match_records('edges');
SELECT sophia.drop_match_rule('own'), sophia.drop_match_rule('chained'), sophia.drop_match_rule('email');
REVOKE ALL ON FUNCTION sophia.add_match_rule, sophia.try_match_rule, sophia.try_match_expression, sophia.store_match_rule,
  sophia.check_match_comparisons, sophia.check_match_levels, sophia.method_schema, sophia.caller_search_path FROM sophia_test_matcher;
REVOKE ALL ON edges FROM sophia_test_matcher;
DROP ROLE sophia_test_matcher;
DROP VIEW chained_clusters, chained;
DROP TABLE people, edges, bridges, truth;
DROP EXTENSION fuzzystrmatch;
TRUNCATE sophia.match_pairs, sophia.match_clusters, sophia.match_runs;
