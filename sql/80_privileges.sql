-- Nothing is executable by everybody but pure functions: those that only compute from their arguments.  They are granted
-- here by name, in alphabetical order.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sophia FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA sophia FROM PUBLIC;

GRANT EXECUTE ON FUNCTION sophia.cosine_similarity, sophia.email_domain, sophia.inner_product, sophia.jaro,
  sophia.jaro_winkler, sophia.l2_distance, sophia.levenshtein, sophia.levenshtein_similarity, sophia.name_similarity,
  sophia.normalize_email, sophia.normalize_name, sophia.normalize_phone, sophia.slack_text, sophia.snippet,
  sophia.strip_html, sophia.token_similarity, sophia.vector_cosine_similarity, sophia.vector_inner_product,
  sophia.vector_l1_distance, sophia.vector_l2_distance TO PUBLIC;
