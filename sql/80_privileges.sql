-- Nothing is executable by everybody but pure functions: those that only compute from their arguments.  They are granted
-- here by name, in alphabetical order.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sophia FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA sophia FROM PUBLIC;

GRANT EXECUTE ON FUNCTION sophia.email_domain, sophia.jaro, sophia.jaro_winkler, sophia.levenshtein,
  sophia.levenshtein_similarity, sophia.name_similarity, sophia.normalize_email, sophia.normalize_name,
  sophia.normalize_phone, sophia.slack_text, sophia.snippet, sophia.strip_html, sophia.token_similarity TO PUBLIC;
