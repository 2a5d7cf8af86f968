-- Comparing embeddings.  A vector is a real[] of one dimension without nulls; 22023 for anything else, and for two of
-- different lengths.

CREATE FUNCTION sophia.cosine_similarity(a real[], b real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_cosine_similarity_sql';
COMMENT ON FUNCTION sophia.cosine_similarity(real[], real[]) IS 'cosine of the angle between two vectors, -1 to 1, 1 for the same direction; NaN where one is zero';

CREATE FUNCTION sophia.vector_cosine_similarity(a real[], b real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_cosine_similarity_sql';
COMMENT ON FUNCTION sophia.vector_cosine_similarity(real[], real[]) IS 'the same as cosine_similarity, by the name that Snowflake Cortex has for it';

CREATE FUNCTION sophia.inner_product(a real[], b real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_inner_product_sql';
COMMENT ON FUNCTION sophia.inner_product(real[], real[]) IS 'sum of the products of the elements of two vectors';

CREATE FUNCTION sophia.vector_inner_product(a real[], b real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_inner_product_sql';
COMMENT ON FUNCTION sophia.vector_inner_product(real[], real[]) IS 'the same as inner_product, by the name that Snowflake Cortex has for it';

CREATE FUNCTION sophia.l2_distance(a real[], b real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_l2_distance_sql';
COMMENT ON FUNCTION sophia.l2_distance(real[], real[]) IS 'Euclidean distance of two vectors';

CREATE FUNCTION sophia.vector_l2_distance(a real[], b real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_l2_distance_sql';
COMMENT ON FUNCTION sophia.vector_l2_distance(real[], real[]) IS 'the same as l2_distance, by the name that Snowflake Cortex has for it';

CREATE FUNCTION sophia.vector_l1_distance(a real[], b real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sophia_l1_distance_sql';
COMMENT ON FUNCTION sophia.vector_l1_distance(real[], real[]) IS 'sum of the distances of the elements of two vectors, by the name that Snowflake Cortex has for it';
