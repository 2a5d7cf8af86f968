-- Similarity and distance of vectors.

SELECT sophia.inner_product('{1,2,3}', '{4,5,6}') AS product, sophia.l2_distance('{1,2}', '{4,6}') AS distance,
  sophia.cosine_similarity('{1,0}', '{1,1}') AS "45 degrees", sophia.cosine_similarity('{1,2}', '{-2,-4}') AS opposite;
SELECT sophia.vector_l1_distance('{1,2.5,-3}', '{4,2,3}') AS sum, sophia.vector_l1_distance('{}', '{}') AS empty_sum;
SELECT sophia.vector_inner_product('{1,2,3}', '{4,5,6}') AS product, sophia.vector_l2_distance('{1,2}', '{4,6}') AS distance,
  sophia.vector_cosine_similarity('{1,0}', '{1,1}') AS "45 degrees";
-- no length, no direction, and nothing at all
SELECT sophia.cosine_similarity('{0,0}', '{1,1}') AS zero, sophia.cosine_similarity('{}', '{}') AS empty_angle, sophia.inner_product('{}', '{}') AS empty_product,
  sophia.l2_distance('{}', '{}') AS empty_distance, sophia.cosine_similarity(NULL, '{1}') IS NULL AS "null", sophia.l2_distance('{NaN}', '{1}') AS nan;
-- any scale: single precision alone would overflow, or lose everything
SELECT sophia.cosine_similarity('{1e30,1e30}', '{1e30,0}') AS huge, sophia.cosine_similarity('{1e-30,1e-30}', '{1e-30,0}') AS tiny;
SELECT sophia.l2_distance(array_fill(1e30::real, '{64}'), array_fill(0::real, '{64}')) AS long_and_huge, sophia.inner_product(array_fill(1e-30::real, '{64}'), array_fill(1e-30::real, '{64}')) AS long_and_tiny;

-- Vectors of every length, to the digits of a float as SQL itself counts.
WITH vectors AS (
  SELECT n, array_agg(sin(n * 7 + i)::real ORDER BY i) AS a, array_agg(cos(n * 3 - i)::real ORDER BY i) AS b FROM generate_series(1, 70) AS n, generate_series(1, n) AS i GROUP BY n),
sums AS (
  SELECT n, a, b, s.* FROM vectors, LATERAL (SELECT sum(x::float8 * y) AS ab, sum(x::float8 * x) AS aa, sum(y::float8 * y) AS bb, sum((x::float8 - y) ^ 2) AS d FROM unnest(a, b) AS u (x, y)) AS s)
SELECT count(*), count(*) FILTER (WHERE abs(sophia.inner_product(a, b) - ab) < 1e-5) AS inner_product, count(*) FILTER (WHERE abs(sophia.l2_distance(a, b) - sqrt(d)) < 1e-5) AS l2_distance,
  count(*) FILTER (WHERE abs(sophia.cosine_similarity(a, b) - ab / sqrt(aa * bb)) < 1e-6) AS cosine, count(*) FILTER (WHERE sophia.cosine_similarity(a, a) = 1) AS itself FROM sums;

-- What is no vector, or does not go together.
SELECT sophia.cosine_similarity('{1,2}', '{1,2,3}');
\echo :LAST_ERROR_SQLSTATE
SELECT sophia.l2_distance('{{1,2},{3,4}}', '{1,2}');
\echo :LAST_ERROR_SQLSTATE
SELECT sophia.inner_product('{1,NULL}', '{1,2}');
\echo :LAST_ERROR_SQLSTATE

-- Everybody may call them, the planner may compute them beforehand, and they keep off no parallel plan.
SELECT proname, provolatile, proisstrict, proparallel, procost, has_function_privilege('pg_monitor', oid, 'EXECUTE') AS public FROM pg_proc
WHERE pronamespace = 'sophia'::regnamespace AND proname ~ '(inner_product|l[12]_distance|cosine_similarity)$' ORDER BY proname COLLATE "C";
