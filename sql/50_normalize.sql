-- Normalising functions.  NULL gives NULL, and so does what cannot be normalised; no text raises an error.

CREATE FUNCTION sophia.normalize_email(email text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_normalize_email_sql';
COMMENT ON FUNCTION sophia.normalize_email(text) IS 'e-mail address in lower case, without mailto:, display name and angle brackets; NULL without exactly one @';

CREATE FUNCTION sophia.email_domain(email text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
AS 'MODULE_PATHNAME', 'sophia_email_domain_sql';
COMMENT ON FUNCTION sophia.email_domain(text) IS 'registrable domain (public suffix and one label, A-labels) of an e-mail address or host name; NULL for a public suffix and an IP address';

CREATE FUNCTION sophia.normalize_phone(phone text, region text DEFAULT NULL) RETURNS text
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_normalize_phone_sql';
COMMENT ON FUNCTION sophia.normalize_phone(text, text) IS 'phone number in E.164 form, without extension; a number that was not written with its calling code needs the region (ISO 3166-1 alpha-2) where it was; NULL for a number that its numbering plan does not have';

CREATE FUNCTION sophia.normalize_name(name text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_normalize_name_sql';
COMMENT ON FUNCTION sophia.normalize_name(text) IS 'name in the form in which spellings compare equal: lower case, without accents and punctuation, single spaces';

CREATE FUNCTION sophia.strip_html(html text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50
AS 'MODULE_PATHNAME', 'sophia_strip_html_sql';
COMMENT ON FUNCTION sophia.strip_html(text) IS 'text of an HTML fragment: tags, scripts, styles and what is not shown removed, references decoded, white space collapsed, a line a block element';

CREATE FUNCTION sophia.slack_text(message text, names jsonb DEFAULT NULL) RETURNS text
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE COST 20
AS 'MODULE_PATHNAME', 'sophia_slack_text_sql';
COMMENT ON FUNCTION sophia.slack_text(text, jsonb) IS 'text of a Slack message with mentions, links and escapes resolved; names maps ids to names, unknown ids, emoji and formatting marks stay as written';

CREATE FUNCTION sophia.snippet(body text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'sophia_snippet_sql';
COMMENT ON FUNCTION sophia.snippet(text) IS 'first 280 characters of a text in one line, white space collapsed';
