-- How alike two texts are, for match rules and for anybody.  Texts are compared as they are: normalise them first.  NULL
-- for texts of more than 1024 characters.

CREATE FUNCTION sophia.jaro(a text, b text) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_jaro_sql';
COMMENT ON FUNCTION sophia.jaro(text, text) IS 'Jaro similarity of two texts, 0 to 1';

CREATE FUNCTION sophia.jaro_winkler(a text, b text) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_jaro_winkler_sql';
COMMENT ON FUNCTION sophia.jaro_winkler(text, text) IS 'Jaro-Winkler similarity of two texts, 0 to 1: Jaro, more where both begin alike';

CREATE FUNCTION sophia.levenshtein(a text, b text) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_levenshtein_sql';
COMMENT ON FUNCTION sophia.levenshtein(text, text) IS 'number of characters to insert, delete or replace to make one text of the other';

CREATE FUNCTION sophia.levenshtein_similarity(a text, b text) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_levenshtein_similarity_sql';
COMMENT ON FUNCTION sophia.levenshtein_similarity(text, text) IS '1 minus the Levenshtein distance divided by the length of the longer text';

CREATE FUNCTION sophia.token_similarity(a text, b text) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_token_similarity_sql';
COMMENT ON FUNCTION sophia.token_similarity(text, text) IS 'distinct words that two texts have in common, divided by the distinct words of both';

CREATE FUNCTION sophia.name_similarity(a text, b text) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
AS 'MODULE_PATHNAME', 'sophia_name_similarity_sql';
COMMENT ON FUNCTION sophia.name_similarity(text, text) IS 'how alike two names are whatever the order of their words, 0 to 1; an initial is like a word that begins with it';
