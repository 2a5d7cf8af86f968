-- Forgetting a person: erased everywhere, and kept out afterwards.
--
-- What is kept of a forgotten person are keyed hashes of identifiers.  While there are any, a trigger on each table that can
-- bring a person back compares what comes with them: whatever writes (a stream, a payload of Gong's API, an adopted table, replayed
-- dead letters, a hand), so there is one place that keeps people out, and none that costs anything while nobody is forgotten.
-- Rows that are a person do not come in; of what is shared with others, the person's part is blanked.

CREATE TABLE sophia.suppressions (
  kind text NOT NULL CHECK (kind IN ('record', 'email', 'phone', 'name', 'speaker')),
  hash bytea NOT NULL,
  forgotten_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, hash)
);
COMMENT ON TABLE sophia.suppressions IS 'keyed hashes of the identifiers of people who were forgotten: what comes with one stays out';
COMMENT ON COLUMN sophia.suppressions.kind IS 'record (id of a source record), email, phone, name (full names, looked for only where something else tells the person), or speaker of a Gong call (call/speaker; call/ for any)';
COMMENT ON COLUMN sophia.suppressions.hash IS 'HMAC-SHA256 of the identifier under the key of this installation';
COMMENT ON COLUMN sophia.suppressions.forgotten_at IS 'when the person was forgotten';
SELECT pg_catalog.pg_extension_config_dump('sophia.suppressions', '');

CREATE TABLE sophia.suppression_key (
  inner_pad bytea NOT NULL,
  outer_pad bytea NOT NULL
);
CREATE UNIQUE INDEX ON sophia.suppression_key ((true));
COMMENT ON TABLE sophia.suppression_key IS 'internal: random key of the hashes, as the two pads of HMAC (RFC 2104); made when first needed, and dumped with them';
SELECT pg_catalog.pg_extension_config_dump('sophia.suppression_key', '');

CREATE FUNCTION sophia.make_suppression_key() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  key bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
  inner_pad bytea := decode(repeat('36', 64), 'hex');
  outer_pad bytea := decode(repeat('5c', 64), 'hex');
BEGIN
  FOR i IN 0 .. 31 LOOP
    inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # get_byte(key, i));
    outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # get_byte(key, i));
  END LOOP;
  INSERT INTO sophia.suppression_key VALUES (inner_pad, outer_pad) ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION sophia.make_suppression_key() IS 'internal: makes the key of the hashes where there is none';

CREATE FUNCTION sophia.identifier_hash(kind text, value text) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT sha256(k.outer_pad || sha256(k.inner_pad || convert_to(kind || ' ' || value, 'UTF8'))) FROM sophia.suppression_key AS k
$$;
COMMENT ON FUNCTION sophia.identifier_hash(text, text) IS 'internal: keyed hash of an identifier';

-- These run for each row while anybody is forgotten: in PL/pgSQL, which keeps the plans.
CREATE FUNCTION sophia.is_suppressed(kind text, value text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN value IS NOT NULL AND EXISTS (SELECT FROM sophia.suppression_key AS k
    JOIN sophia.suppressions AS s ON s.kind = is_suppressed.kind
      AND s.hash = sha256(k.outer_pad || sha256(k.inner_pad || convert_to(is_suppressed.kind || ' ' || value, 'UTF8'))));
END
$$;
COMMENT ON FUNCTION sophia.is_suppressed(text, text) IS 'internal: whether an identifier is one of a forgotten person';

-- A phone number may belong to many; it tells a person only where nothing better is known.
CREATE FUNCTION sophia.is_forgotten(record text, emails text[], phones text[] DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  item text;
  has_email boolean := false;
BEGIN
  IF sophia.is_suppressed('record', record) THEN
    RETURN true;
  END IF;
  FOREACH item IN ARRAY coalesce(emails, '{}') LOOP
    CONTINUE WHEN item IS NULL;
    has_email := true;
    IF sophia.is_suppressed('email', sophia.normalize_email(item)) THEN
      RETURN true;
    END IF;
  END LOOP;
  IF has_email THEN
    RETURN false;
  END IF;
  FOREACH item IN ARRAY coalesce(phones, '{}') LOOP
    IF sophia.is_suppressed('phone', coalesce(sophia.normalize_phone(item), item)) THEN
      RETURN true;
    END IF;
  END LOOP;
  RETURN false;
END
$$;
COMMENT ON FUNCTION sophia.is_forgotten(text, text[], text[]) IS 'internal: whether a record is one of a forgotten person, by its id, its addresses or, where it has none, its phone numbers';

-- ---- blanking what is shared with others ----

-- Texts that end up empty become null, and go where they are elements.
CREATE FUNCTION sophia.blank_json(value jsonb, pattern text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  blanked text;
BEGIN
  IF value::text !~* pattern THEN
    RETURN value;
  END IF;
  CASE jsonb_typeof(value)
    WHEN 'string' THEN
      blanked := regexp_replace(value #>> '{}', pattern, '', 'gi');
      RETURN to_jsonb(nullif(btrim(blanked), ''));
    WHEN 'array' THEN
      RETURN coalesce((SELECT jsonb_agg(b.item ORDER BY b.n) FROM (
        SELECT coalesce(sophia.blank_json(e.item, pattern), 'null') AS item, e.item AS was, e.n
        FROM jsonb_array_elements(value) WITH ORDINALITY AS e (item, n)) AS b
        WHERE b.item <> 'null' OR b.was = 'null'), '[]');
    WHEN 'object' THEN
      RETURN (SELECT jsonb_object_agg(e.key, coalesce(sophia.blank_json(e.value, pattern), 'null')) FROM jsonb_each(value) AS e (key, value));
    ELSE
      RETURN CASE WHEN regexp_replace(value::text, pattern, '', 'gi') = '' THEN NULL ELSE value END;
  END CASE;
END
$$;
COMMENT ON FUNCTION sophia.blank_json(jsonb, text) IS 'internal: a document without what a pattern finds in its texts; member names stay';

CREATE FUNCTION sophia.blank_party(party jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(party) AS e (key, value)
  WHERE e.key IN ('id', 'speakerId', 'affiliation', 'methods')
$$;
COMMENT ON FUNCTION sophia.blank_party(jsonb) IS 'internal: a party of a Gong call without what tells who it was';

-- HubSpot names the contacts of a record in contact_ids, and in the member contacts of the document.
CREATE FUNCTION sophia.drop_contacts(whole jsonb, ids text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_set(whole || jsonb_build_object('contact_ids', to_jsonb(ARRAY(
      SELECT i.id FROM jsonb_array_elements_text(nullif(whole -> 'contact_ids', 'null')) WITH ORDINALITY AS i (id, n)
      WHERE i.id <> ALL (ids) ORDER BY i.n))), '{doc,contacts}', coalesce((
      SELECT jsonb_agg(i.item ORDER BY i.n) FROM jsonb_array_elements(CASE jsonb_typeof(whole #> '{doc,contacts}')
        WHEN 'array' THEN whole #> '{doc,contacts}' END) WITH ORDINALITY AS i (item, n)
      WHERE i.item #>> '{}' <> ALL (ids)), '[]'), false)
$$;
COMMENT ON FUNCTION sophia.drop_contacts(jsonb, text[]) IS 'internal: a row of HubSpot, as JSON, without associations with some contacts';

CREATE FUNCTION sophia.forget_pattern(addresses text[], words text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(p.part, '|') FROM (
    SELECT '(?<![[:alnum:]._%+-])(?:' || string_agg(DISTINCT regexp_replace(a.value, '([^[:alnum:]@_])', '\\\1', 'g'), '|')
      || ')(?![[:alnum:]-]|\.[[:alnum:]])' AS part
    FROM unnest(addresses) AS a (value) WHERE a.value <> ''
    UNION ALL
    SELECT '(?<![[:alnum:]])(?:' || string_agg(DISTINCT replace(regexp_replace(w.value, '([^[:alnum:]@_])', '\\\1', 'g'), '\ ', '\s+'), '|') || ')(?![[:alnum:]])'
    FROM unnest(words) AS w (value) WHERE w.value <> '') AS p
$$;
COMMENT ON FUNCTION sophia.forget_pattern(text[], text[]) IS 'internal: pattern that finds e-mail addresses, and words or phrases, as wholes; NULL for none';

CREATE FUNCTION sophia.person_tokens(document text) RETURNS text[]
  AS 'MODULE_PATHNAME', 'sophia_person_tokens' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.person_tokens(text) IS 'internal: e-mail addresses and users of Slack in a document';

CREATE FUNCTION sophia.document_text(document bytea) RETURNS text
  AS 'MODULE_PATHNAME', 'sophia_document_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.document_text(bytea) IS 'internal: a document that may be no JSON as text, its \u escapes resolved; what is no character becomes a question mark';

-- A regular expression over a whole table is slow, and so is a row as jsonb: rows that cannot match are told by their bytes.
CREATE FUNCTION sophia.may_name(line text, needles text) RETURNS boolean
  AS 'MODULE_PATHNAME', 'sophia_may_name' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.may_name(text, text) IS 'internal: whether a row as text may have one of the identifiers that needles, a line each, were made of';

CREATE FUNCTION sophia.forget_needles(identifiers text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  -- The longest part that is written one way only: ASCII without blanks, and without what rows and JSON escape.
  SELECT string_agg(DISTINCT coalesce(n.part, ''), E'\n')
  FROM unnest(identifiers) AS i (value)
  LEFT JOIN LATERAL (SELECT m[1] AS part FROM regexp_matches(i.value, '[!#-\[\]-~]+', 'g') AS m ORDER BY length(m[1]) DESC LIMIT 1) AS n ON true
  WHERE i.value <> ''
$$;
COMMENT ON FUNCTION sophia.forget_needles(text[]) IS 'internal: what stands in every row that has one of these identifiers, however it is written; a line each, an empty one for any row';

CREATE FUNCTION sophia.suppressed_pattern(document text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text;
  last text := '';
  addresses text[] := '{}';
  users text[] := '{}';
BEGIN
  FOREACH token IN ARRAY sophia.person_tokens(document) LOOP
    CONTINUE WHEN token = last;
    last := token;
    IF token ~ '^@?[UW][A-Z0-9]+$' THEN
      IF sophia.is_suppressed('record', 'slack_' || ltrim(token, '@')) THEN
        users := users || ltrim(token, '@');
      END IF;
    ELSE
      token := rtrim(token, '.!?''');
      IF sophia.is_suppressed('email', sophia.normalize_email(token)) THEN
        addresses := addresses || token;
      END IF;
    END IF;
  END LOOP;
  IF addresses = '{}' AND users = '{}' THEN
    RETURN NULL;
  END IF;
  RETURN sophia.forget_pattern(addresses, users);
END
$$;
COMMENT ON FUNCTION sophia.suppressed_pattern(text) IS 'internal: pattern of the e-mail addresses and Slack users in a document that belong to forgotten people; NULL for none';

-- Names are two to four words in a row.
CREATE FUNCTION sophia.suppressed_names(document jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT sophia.forget_pattern(NULL, ARRAY(
    SELECT DISTINCT n.phrase
    FROM jsonb_path_query(document, 'strict $.** ? (@.type() == "string")') AS t (value)
    CROSS JOIN LATERAL regexp_split_to_array(t.value #>> '{}', '[^[:alnum:]''.-]+') AS w (words)
    CROSS JOIN LATERAL generate_series(1, cardinality(w.words)) AS s (first)
    CROSS JOIN LATERAL generate_series(1, 3) AS l (more)
    CROSS JOIN LATERAL (SELECT btrim(array_to_string(w.words[s.first : s.first + l.more], ' '), '.- ''') AS phrase) AS n
    WHERE s.first + l.more <= cardinality(w.words) AND sophia.is_suppressed('name', sophia.normalize_name(n.phrase))))
$$;
COMMENT ON FUNCTION sophia.suppressed_names(jsonb) IS 'internal: pattern of the names of forgotten people in a document; NULL for none';

-- ---- keeping out ----

CREATE VIEW sophia.guarded_tables AS
SELECT t.name, pg_catalog.to_regclass(t.name) AS relation
FROM pg_catalog.unnest(ARRAY['hubspot_raw.contacts', 'hubspot_raw.companies', 'hubspot_raw.deals', 'hubspot_raw.engagements',
  'hubspot_raw.owners', 'gong_raw.calls', 'gong_raw.call_parties', 'gong_raw.call_transcripts', 'gong_raw.users', 'slack_raw.users',
  'slack_raw.channels', 'slack_raw.channel_members', 'slack_raw.messages', 'processed_data.unified_contacts', 'sophia.dead_letters']) AS t (name)
WHERE pg_catalog.to_regclass(t.name) IS NOT NULL;
COMMENT ON VIEW sophia.guarded_tables IS 'internal: tables that keep forgotten people out';

CREATE FUNCTION sophia.forgotten_party(party jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN sophia.is_forgotten('gong_' || (party ->> 'userId'), ARRAY[party ->> 'emailAddress'], ARRAY[party ->> 'phoneNumber']);
END
$$;
COMMENT ON FUNCTION sophia.forgotten_party(jsonb) IS 'internal: whether a party of a Gong call is a forgotten person';

CREATE FUNCTION sophia.keep_out_of_call(doc jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF sophia.is_suppressed('record', 'gong_' || (doc ->> 'primaryUserId')) THEN
    doc := jsonb_set(doc, '{primaryUserId}', 'null');
  END IF;
  IF sophia.is_suppressed('record', 'gong_' || (doc #>> '{metaData,primaryUserId}')) THEN
    doc := jsonb_set(doc, '{metaData,primaryUserId}', 'null');
  END IF;
  IF jsonb_typeof(doc -> 'parties') = 'array' THEN
    doc := jsonb_set(doc, '{parties}', coalesce((
      SELECT jsonb_agg(CASE WHEN sophia.forgotten_party(p.party) THEN sophia.blank_party(p.party) ELSE p.party END ORDER BY p.n)
      FROM jsonb_array_elements(doc -> 'parties') WITH ORDINALITY AS p (party, n)), '[]'));
  END IF;
  RETURN doc;
END
$$;
COMMENT ON FUNCTION sophia.keep_out_of_call(jsonb) IS 'internal: a document of a Gong call without forgotten people as its host or parties; any other document as it is';

-- A dead letter cannot be blanked where it is no JSON: then it is not kept.
CREATE FUNCTION sophia.keep_out_of_letter(document bytea) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  pattern text := sophia.suppressed_pattern(sophia.document_text(document));
  doc jsonb;
  kept jsonb;
BEGIN
  BEGIN
    doc := convert_from(document, 'UTF8')::jsonb;
  EXCEPTION WHEN data_exception THEN
    RETURN CASE WHEN pattern IS NULL THEN document END;
  END;
  IF sophia.is_forgotten('slack_' || coalesce(doc ->> 'user', doc ->> 'id'),
        ARRAY[doc #>> '{properties,email}', doc ->> 'email', doc ->> 'emailAddress', doc #>> '{profile,email}'])
      OR doc -> 'properties' ?| '{email,firstname,lastname,lifecyclestage}' AND sophia.is_suppressed('record', 'hubspot_' || (doc ->> 'id')) THEN
    RETURN NULL;
  END IF;
  kept := sophia.keep_out_of_call(doc);
  IF pattern IS NOT NULL THEN
    kept := sophia.blank_json(kept, concat_ws('|', pattern, sophia.suppressed_names(kept)));
  END IF;
  RETURN CASE WHEN kept = doc THEN document ELSE convert_to(kept::text, 'UTF8') END;
END
$$;
COMMENT ON FUNCTION sophia.keep_out_of_letter(bytea) IS 'internal: a dead letter without forgotten people; NULL where it is not to be kept';

CREATE FUNCTION sophia.keep_out() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name constant text := TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
  whole jsonb;
  ids text[];
  pattern text;
  names text;
  involved boolean := false;
BEGIN
  IF name = 'sophia.dead_letters' THEN
    NEW.document := sophia.keep_out_of_letter(NEW.document);
    IF NEW.document IS NULL THEN RETURN NULL; END IF;
    RETURN NEW;
  END IF;
  -- Rows that are a person.
  CASE name
    WHEN 'hubspot_raw.contacts' THEN
      IF sophia.is_forgotten('hubspot_' || NEW.id, ARRAY[NEW.email] || NEW.additional_emails, ARRAY[NEW.phone_e164]) THEN RETURN NULL; END IF;
    WHEN 'hubspot_raw.owners' THEN
      IF sophia.is_forgotten(NULL, ARRAY[NEW.email]) THEN RETURN NULL; END IF;
    WHEN 'gong_raw.users' THEN
      IF sophia.is_forgotten('gong_' || NEW.id, ARRAY[NEW.email, NEW.trusted_email] || NEW.email_aliases, ARRAY[NEW.phone]) THEN RETURN NULL; END IF;
    WHEN 'slack_raw.users' THEN
      IF sophia.is_forgotten('slack_' || NEW.id, ARRAY[NEW.email], ARRAY[NEW.phone]) THEN RETURN NULL; END IF;
    WHEN 'slack_raw.channel_members' THEN
      IF sophia.is_suppressed('record', 'slack_' || NEW.member_id) THEN RETURN NULL; END IF;
    WHEN 'slack_raw.messages' THEN
      IF sophia.is_suppressed('record', 'slack_' || NEW.user_id) THEN RETURN NULL; END IF;
    WHEN 'processed_data.unified_contacts' THEN
      IF sophia.is_forgotten(NEW.id, ARRAY[NEW.email] || NEW.all_emails, ARRAY[NEW.phone_e164]) THEN RETURN NULL; END IF;
    ELSE NULL;
  END CASE;

  -- Parts of what others share in.
  IF name IN ('hubspot_raw.engagements', 'hubspot_raw.deals', 'hubspot_raw.companies') THEN
    ids := ARRAY(SELECT i.id FROM unnest(NEW.contact_ids) AS i (id) WHERE sophia.is_suppressed('record', 'hubspot_' || i.id));
    IF name = 'hubspot_raw.engagements' AND cardinality(ids) > 0 AND ids @> NEW.contact_ids THEN
      RETURN NULL;
    ELSIF cardinality(ids) > 0 THEN
      involved := true;
      NEW := jsonb_populate_record(NEW, sophia.drop_contacts(to_jsonb(NEW), ids));
    END IF;
  ELSIF name = 'gong_raw.calls' THEN
    involved := sophia.is_suppressed('speaker', NEW.id || '/');
    NEW.doc := sophia.keep_out_of_call(NEW.doc);
    IF sophia.is_suppressed('record', 'gong_' || NEW.primary_user_id) THEN NEW.primary_user_id := NULL; END IF;
  ELSIF name = 'gong_raw.call_parties' THEN
    IF sophia.is_forgotten('gong_' || NEW.user_id, ARRAY[NEW.email], ARRAY[NEW.phone])
        OR sophia.is_suppressed('record', 'hubspot_' || NEW.hubspot_contact_id)
        OR sophia.is_suppressed('record', 'gong_' || NEW.call_id || '_' || NEW.party_id) THEN
      NEW := jsonb_populate_record(NEW, '{"user_id": null, "email": null, "email_norm": null, "name": null, "title": null, "phone": null, "hubspot_contact_id": null}');
      NEW.doc := sophia.blank_party(NEW.doc);
      INSERT INTO sophia.suppressions (kind, hash)
      SELECT 'speaker', sophia.identifier_hash('speaker', NEW.call_id || '/' || u.speaker) FROM unnest(ARRAY['', NEW.speaker_id]) AS u (speaker)
      WHERE u.speaker IS NOT NULL
      ON CONFLICT DO NOTHING;
      IF FOUND THEN
        -- What came before the party; as the owner of the tables, whose triggers run, too.
        PERFORM sophia.execute_as(c.relowner, format('UPDATE %s SET doc = doc WHERE %I = %L', c.oid::regclass,
          CASE c.oid WHEN 'gong_raw.calls'::regclass THEN 'id' ELSE 'call_id' END, NEW.call_id))
        FROM pg_class AS c WHERE c.oid IN ('gong_raw.call_transcripts'::regclass, 'gong_raw.calls'::regclass);
      END IF;
    END IF;
  ELSIF name = 'gong_raw.call_transcripts' THEN
    involved := sophia.is_suppressed('speaker', NEW.call_id || '/');
    IF sophia.is_suppressed('speaker', NEW.call_id || '/' || NEW.speaker_id) THEN
      NEW := jsonb_populate_record(NEW, '{"text": null, "topic": null, "sentiment": null, "sentiment_score": null, "sentiment_model": null}');
      NEW.doc := NEW.doc - 'sentences' - 'topic';
    END IF;
  END IF;
  whole := to_jsonb(NEW);
  pattern := sophia.suppressed_pattern(whole::text);
  IF involved OR pattern IS NOT NULL THEN
    names := sophia.suppressed_names(whole);
  END IF;
  IF num_nonnulls(pattern, names) > 0 THEN
    NEW := jsonb_populate_record(NEW, sophia.blank_json(whole, concat_ws('|', pattern, names)));
  END IF;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION sophia.keep_out() IS 'internal: trigger BEFORE INSERT OR UPDATE that keeps forgotten people out of a table';

CREATE FUNCTION sophia.guard_tables() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  wanted boolean := EXISTS (SELECT FROM sophia.suppressions);
  guarded record;
BEGIN
  FOR guarded IN
    SELECT g.relation, EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = g.relation AND t.tgname = 'sophia_keep_out') AS stands
    FROM sophia.guarded_tables AS g
  LOOP
    IF wanted AND NOT guarded.stands THEN
      EXECUTE format('CREATE TRIGGER sophia_keep_out BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION sophia.keep_out()', guarded.relation);
      EXECUTE format('ALTER TRIGGER sophia_keep_out ON %s DEPENDS ON EXTENSION sophia_stack', guarded.relation);
      EXECUTE format('COMMENT ON TRIGGER sophia_keep_out ON %s IS %L', guarded.relation, 'keeps people out that sophia_stack forgot');
    ELSIF guarded.stands AND NOT wanted THEN
      EXECUTE format('DROP TRIGGER sophia_keep_out ON %s', guarded.relation);
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.guard_tables() IS 'internal: makes the triggers that keep people out, or takes them off where nobody is forgotten';

-- ---- forgetting ----

-- What tells the person; e-mails and phones that a record of somebody else has, too, tell nobody.
CREATE FUNCTION sophia.person_identifiers(records text[]) RETURNS TABLE (kind text, value text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own constant text[] := ARRAY(SELECT e.value FROM processed_data.unified_contacts AS u
    CROSS JOIN LATERAL unnest(u.email_norm || u.all_emails) AS e (value) WHERE u.id = ANY (records) AND e.value IS NOT NULL);
BEGIN
  RETURN QUERY
  SELECT 'record', r.id FROM unnest(records) AS r (id)
  UNION
  SELECT 'email', e.value FROM unnest(own) AS e (value)
  WHERE e.value NOT IN (
    SELECT n.value FROM processed_data.unified_contacts AS o CROSS JOIN LATERAL unnest(o.email_norm || o.all_emails) AS n (value)
    WHERE o.id <> ALL (records) AND (o.email_norm = ANY (own) OR o.all_emails && own) AND n.value IS NOT NULL)
  UNION
  SELECT 'phone', u.phone_e164 FROM processed_data.unified_contacts AS u
  WHERE u.id = ANY (records) AND u.phone_e164 IS NOT NULL AND NOT EXISTS (
    SELECT FROM processed_data.unified_contacts AS o WHERE o.id <> ALL (records) AND o.phone_e164 = u.phone_e164);
  IF sophia.has_source('hubspot') THEN
    RETURN QUERY
    SELECT 'record', 'hubspot_' || c.id FROM hubspot_raw.contacts AS c WHERE 'hubspot_' || c.merged_into = ANY (records);
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.person_identifiers(text[]) IS 'internal: identifiers that belong to the person of these records alone';

-- Addresses, phone numbers and names as they are written in the rows of the person.
CREATE FUNCTION sophia.person_phrases(records text[], emails text[], OUT addresses text[], OUT phones text[], OUT names text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  SELECT array_agg(DISTINCT u.email) FILTER (WHERE sophia.normalize_email(u.email) = ANY (emails)),
    array_agg(DISTINCT u.phone) FILTER (WHERE length(u.phone) > 5 AND NOT EXISTS (
      SELECT FROM processed_data.unified_contacts AS o WHERE o.id <> ALL (records) AND o.phone_e164 = u.phone_e164)),
    array_agg(DISTINCT u.full_name) FILTER (WHERE u.full_name ~ '\S\s+\S') INTO addresses, phones, names
  FROM processed_data.unified_contacts AS u WHERE u.id = ANY (records);
  IF sophia.has_source('gong') THEN
    addresses := addresses || ARRAY(SELECT DISTINCT p.email FROM gong_raw.call_parties AS p WHERE p.email_norm = ANY (emails));
    names := names || ARRAY(SELECT DISTINCT p.name FROM gong_raw.call_parties AS p WHERE p.email_norm = ANY (emails) AND p.name ~ '\S\s+\S');
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.person_phrases(text[], text[]) IS 'internal: e-mail addresses, phone numbers and full names of a person as sources write them';

-- What a person is known by while it is forgotten; nothing of it is kept.
CREATE TYPE sophia.forgotten_person AS (
  identities bigint[],
  records text[],
  hubspot text[],
  gong text[],
  slack text[],
  emails text[],
  full_names text[],
  calls text[],
  parties text[],
  interactions text[],
  pattern text,
  needles text,
  names text
);
COMMENT ON TYPE sophia.forgotten_person IS 'internal: identities, records (and their ids by source), addresses, full names, Gong calls, parties (call/party) in them, interactions of nobody else, patterns of identifiers and of names, and needles of the identifiers';

-- $1 is the person.  Rows of which `own` is true are erased; in those of which `shared` is true, or that name an identifier, the
-- person is blanked (NULL: in none); `found` is what must not be true afterwards, where that is not both.
CREATE VIEW sophia.forget_plan AS
SELECT p.* FROM (VALUES
  -- These name raw rows by their keys, or rows of other tables, and so come before them.
  ('sophia.ai_jobs', 't.input ~* ($1).pattern OR t.arguments::text ~* ($1).pattern OR (t.result).value::text ~* ($1).pattern OR t.input ~* ($1).names'
    ' OR (t.result).value::text ~* ($1).names', NULL, NULL),
  ('processed_data.embeddings', 'sophia.is_enriched_of(t.source_table, t.source_key, $1)', NULL, NULL),
  ('sophia.enrichment_state', 'sophia.is_enriched_of((SELECT format(''%I.%I'', e.source_schema, e.source_table) FROM sophia.enrichments AS e WHERE e.name = t.name), t.key, $1)', NULL, NULL),
  ('sophia.enrichment_queue', 'sophia.is_enriched_of((SELECT format(''%I.%I'', e.source_schema, e.source_table) FROM sophia.enrichments AS e WHERE e.name = t.name), t.key, $1)', NULL, NULL),
  ('sophia.quarantine', 'sophia.is_row_of(t.target, t.key, $1) OR t.value ~* ($1).pattern', NULL, NULL),
  ('sophia.quality_results', NULL, 'sophia.is_row_of(t.target, t.example, $1)', NULL),
  ('hubspot_raw.engagements', 'cardinality(t.contact_ids) > 0 AND t.contact_ids <@ ($1).hubspot', 't.contact_ids && ($1).hubspot', NULL),
  ('hubspot_raw.deals', NULL, 't.contact_ids && ($1).hubspot', NULL),
  ('hubspot_raw.companies', NULL, 't.contact_ids && ($1).hubspot', NULL),
  ('hubspot_raw.contacts', 't.id = ANY (($1).hubspot) OR sophia.normalize_email(t.email) = ANY (($1).emails)', 'false', NULL),
  ('hubspot_raw.owners', 'sophia.normalize_email(t.email) = ANY (($1).emails)', 'false', NULL),
  ('gong_raw.call_transcripts', NULL, 't.call_id = ANY (($1).calls)',
    't.text IS NOT NULL AND sophia.is_suppressed(''speaker'', t.call_id || ''/'' || t.speaker_id) AND t.call_id = ANY (($1).calls)'),
  ('gong_raw.call_parties', NULL, 't.email_norm = ANY (($1).emails) OR t.user_id = ANY (($1).gong) OR t.hubspot_contact_id = ANY (($1).hubspot)'
    ' OR num_nonnulls(t.name, t.phone) > 0 AND ''gong_'' || t.call_id || ''_'' || t.party_id = ANY (($1).records)', NULL),
  ('gong_raw.calls', NULL, 't.id = ANY (($1).calls)', 't.primary_user_id = ANY (($1).gong) OR t.doc ->> ''primaryUserId'' = ANY (($1).gong)'
    ' OR t.doc #>> ''{metaData,primaryUserId}'' = ANY (($1).gong)'),
  ('gong_raw.users', 't.id = ANY (($1).gong) OR sophia.normalize_email(t.email) = ANY (($1).emails)', 'false', NULL),
  ('slack_raw.messages', 't.user_id = ANY (($1).slack)', 'false', NULL),
  ('slack_raw.channel_members', 't.member_id = ANY (($1).slack)', 'false', NULL),
  ('slack_raw.channels', NULL, 'false', NULL),
  ('slack_raw.users', 't.id = ANY (($1).slack) OR sophia.normalize_email(t.email) = ANY (($1).emails)', 'false', NULL),
  ('processed_data.interaction_participants', NULL, 't.contact_id = ANY (($1).records) OR t.email_norm = ANY (($1).emails)', NULL),
  ('processed_data.interaction_timeline', 't.id = ANY (($1).interactions) OR t.source_system = ''slack'' AND t.contact_id = ANY (($1).records)',
    't.contact_id = ANY (($1).records) OR t.owner_contact_id = ANY (($1).records) OR t.source_system = ''gong'' AND t.source_id = ANY (($1).calls)',
    't.contact_id = ANY (($1).records) OR t.owner_contact_id = ANY (($1).records)'),
  ('processed_data.contacts', 't.identity_id = ANY (($1).identities)', NULL, NULL),
  ('processed_data.identity_links', 't.contact_id = ANY (($1).records) OR t.evidence = ANY (($1).records) OR t.identity_id = ANY (($1).identities)', NULL, NULL),
  ('processed_data.identities', 't.identity_id = ANY (($1).identities) OR t.primary_contact_id = ANY (($1).records)', NULL, NULL),
  ('processed_data.unified_contacts', 't.id = ANY (($1).records)', 'false', NULL),
  ('sophia.identity_decisions', 't.record_a = ANY (($1).records) OR t.record_b = ANY (($1).records) OR t.keep = ANY (($1).identities)'
    ' OR t.absorb = ANY (($1).identities) OR t.former_primary = ANY (($1).records)', NULL, NULL),
  ('sophia.identity_events', NULL, 't.contact_id = ANY (($1).records) OR t.other_contact_id = ANY (($1).records)', NULL),
  ('sophia.blocked_values', 'NOT t.builtin AND (t.value ~* ($1).pattern OR t.kind = ''hubspot_id'' AND t.value = ANY (($1).hubspot))', NULL, NULL),
  ('sophia.match_pairs', 'sophia.is_row_of(t.source, jsonb_build_object(''id'', t.key_a), $1) OR sophia.is_row_of(t.source, jsonb_build_object(''id'', t.key_b), $1)'
    ' OR t.evidence::text ~* ($1).pattern', NULL, NULL),
  ('sophia.match_clusters', 'sophia.is_row_of(t.source, jsonb_build_object(''id'', t.key), $1)', NULL, NULL),
  ('sophia.skipped_blocks', 't.value ~* ($1).pattern OR t.value ~* ($1).names', NULL, NULL),
  ('sophia.refresh_queue', 't.key = ANY (($1).records)', NULL, NULL),
  ('sophia.refresh_links', 't.contact_id = ANY (($1).records)', NULL, NULL),
  ('sophia.refresh_lookups', 't.key = ANY (($1).emails) OR t.value = ANY (($1).emails) OR t.kind = ''alias'' AND (t.key = ANY (($1).hubspot) OR t.value = ANY (($1).hubspot))'
    ' OR t.key || '' '' || t.value ~* ($1).pattern', NULL, NULL),
  ('sophia.contact_merges', 't.winner = ANY (($1).hubspot) OR t.loser = ANY (($1).hubspot)', NULL, NULL),
  ('sophia.timeline_inputs', 't.key || '' '' || t.value ~* ($1).pattern', NULL, NULL),
  ('sophia.enrichment_progress', NULL, 'false', NULL),
  ('sophia.refresh_log', NULL, 'false', NULL),
  ('sophia.job_run_records', NULL, 'false', NULL),
  ('sophia.streams', NULL, 'false', NULL),
  ('sophia.adoptions', NULL, 'false', NULL),
  ('sophia.schema_changes', NULL, 'false', NULL),
  ('sophia.staged_documents', NULL, NULL, NULL),
  ('sophia.dead_letters', NULL, 'false', NULL),
  ('sophia.stream_events', NULL, 'false', NULL),
  ('sophia.landed_rows', NULL, 'false', NULL)) AS p (name, own, shared, found)
WHERE pg_catalog.to_regclass(p.name) IS NOT NULL;
COMMENT ON VIEW sophia.forget_plan IS 'internal: tables that may hold a person, and in which rows; those with a column document hold documents as bytes';

-- What was made of a text of a person, or of a row with one: of calls and messages by who spoke.
CREATE FUNCTION sophia.is_enriched_of(source text, key jsonb, person sophia.forgotten_person) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN coalesce(CASE source
    WHEN 'gong_raw.call_transcripts' THEN key ->> 'call_id' = ANY (person.calls)
    WHEN 'slack_raw.messages' THEN EXISTS (SELECT FROM slack_raw.messages AS m WHERE m.channel = key ->> 'channel' AND m.ts = key ->> 'ts' AND m.user_id = ANY (person.slack))
    WHEN 'processed_data.interaction_timeline' THEN key ->> 'id' = ANY (person.interactions)
    ELSE sophia.is_row_of(to_regclass(source), key, person) END, false);
END;
$$;
COMMENT ON FUNCTION sophia.is_enriched_of(text, jsonb, sophia.forgotten_person) IS 'internal: whether an enrichment of a row is about a person';

CREATE FUNCTION sophia.is_row_of(source regclass, key jsonb, person sophia.forgotten_person) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN coalesce(CASE source::oid
    WHEN to_regclass('processed_data.unified_contacts')::oid THEN key ->> 'id' = ANY (person.records)
    WHEN to_regclass('hubspot_raw.contacts')::oid THEN key ->> 'id' = ANY (person.hubspot)
    WHEN to_regclass('hubspot_raw.engagements')::oid THEN 'hubspot_' || (key ->> 'id') = ANY (person.interactions)
    WHEN to_regclass('gong_raw.users')::oid THEN key ->> 'id' = ANY (person.gong)
    WHEN to_regclass('gong_raw.call_parties')::oid THEN (key ->> 'call_id') || '/' || (key ->> 'party_id') = ANY (person.parties)
    WHEN to_regclass('slack_raw.users')::oid THEN key ->> 'id' = ANY (person.slack)
  END, false);
END
$$;
COMMENT ON FUNCTION sophia.is_row_of(regclass, jsonb, sophia.forgotten_person) IS 'internal: whether a key names a row that is the person''s own';

CREATE FUNCTION sophia.describe_person(identity bigint) RETURNS sophia.forgotten_person
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  person sophia.forgotten_person;
  phones text[];
  addresses text[];
  words text[];
  written record;
BEGIN
  person.identities := ARRAY[identity];
  IF to_regclass('processed_data.identities') IS NOT NULL THEN
    person.identities := person.identities || ARRAY(SELECT i.identity_id FROM processed_data.identities AS i,
      (SELECT coalesce(o.merged_into, o.identity_id) AS id FROM processed_data.identities AS o WHERE o.identity_id = identity) AS r
      WHERE i.identity_id = r.id OR i.merged_into = r.id);
  END IF;
  person.records := ARRAY(SELECT u.id FROM processed_data.unified_contacts AS u WHERE u.identity_id = ANY (person.identities));
  IF person.records = '{}' THEN
    RAISE EXCEPTION 'identity % does not exist', identity USING ERRCODE = 'no_data_found';
  END IF;
  SELECT array_agg(i.value) FILTER (WHERE i.kind = 'record'), coalesce(array_agg(i.value) FILTER (WHERE i.kind = 'email'), '{}'),
    coalesce(array_agg(i.value) FILTER (WHERE i.kind = 'phone'), '{}') INTO person.records, person.emails, phones
  FROM sophia.person_identifiers(person.records) AS i;
  person.hubspot := ARRAY(SELECT substr(r.id, 9) FROM unnest(person.records) AS r (id) WHERE starts_with(r.id, 'hubspot_'));
  person.gong := ARRAY(SELECT substr(r.id, 6) FROM unnest(person.records) AS r (id) WHERE starts_with(r.id, 'gong_'));
  person.slack := ARRAY(SELECT substr(r.id, 7) FROM unnest(person.records) AS r (id) WHERE starts_with(r.id, 'slack_'));
  person.calls := '{}';
  person.parties := '{}';
  person.interactions := '{}';
  IF sophia.has_source('gong') THEN
    person.parties := ARRAY(SELECT p.call_id || '/' || p.party_id FROM gong_raw.call_parties AS p
      WHERE p.email_norm = ANY (person.emails) OR p.user_id = ANY (person.gong) OR p.hubspot_contact_id = ANY (person.hubspot)
        OR 'gong_' || p.call_id || '_' || p.party_id = ANY (person.records));
    person.calls := ARRAY(SELECT p.call_id FROM gong_raw.call_parties AS p WHERE p.call_id || '/' || p.party_id = ANY (person.parties)
      UNION
      SELECT c.id FROM gong_raw.calls AS c WHERE c.primary_user_id = ANY (person.gong));
  END IF;
  IF sophia.has_source('hubspot') THEN
    person.interactions := ARRAY(SELECT 'hubspot_' || e.id FROM hubspot_raw.engagements AS e
      WHERE cardinality(e.contact_ids) > 0 AND e.contact_ids <@ person.hubspot);
  END IF;
  written := sophia.person_phrases(person.records, person.emails);
  addresses := person.emails || written.addresses;
  words := person.slack || phones || written.phones || ARRAY(SELECT g.id FROM unnest(person.gong) AS g (id) WHERE g.id ~ '^\d{9,}$');
  -- x^ is nowhere.
  person.pattern := coalesce(sophia.forget_pattern(addresses, words), 'x^');
  person.needles := sophia.forget_needles(addresses || words);
  person.full_names := written.names;
  person.names := coalesce(sophia.forget_pattern(NULL, written.names), 'x^');
  RETURN person;
END
$$;
COMMENT ON FUNCTION sophia.describe_person(bigint) IS 'internal: what a person is known by; P0002 where there is no such identity';

CREATE FUNCTION sophia.suppress(person sophia.forgotten_person) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.make_suppression_key();
  INSERT INTO sophia.suppressions (kind, hash)
  SELECT i.kind, sophia.identifier_hash(i.kind, i.value) FROM sophia.person_identifiers(person.records) AS i
  UNION
  SELECT 'name', sophia.identifier_hash('name', sophia.normalize_name(f.name)) FROM unnest(person.full_names) AS f (name)
  UNION
  SELECT 'speaker', sophia.identifier_hash('speaker', c.id || '/') FROM unnest(person.calls) AS c (id)
  ON CONFLICT DO NOTHING;
  IF sophia.has_source('gong') THEN
    INSERT INTO sophia.suppressions (kind, hash)
    SELECT DISTINCT 'speaker', sophia.identifier_hash('speaker', p.call_id || '/' || p.speaker_id) FROM gong_raw.call_parties AS p
    WHERE p.speaker_id IS NOT NULL AND p.call_id = ANY (person.calls) AND p.call_id || '/' || p.party_id = ANY (person.parties)
    ON CONFLICT DO NOTHING;
  END IF;
  PERFORM sophia.guard_tables();
END
$$;
COMMENT ON FUNCTION sophia.suppress(sophia.forgotten_person) IS 'internal: keeps a person out from now on';

CREATE FUNCTION sophia.blank_person(name text, whole jsonb, person sophia.forgotten_person) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  blanked jsonb;
BEGIN
  -- The guard of these tables blanks the party, which it knows by what stands in it; who held a call stands beside its parties.
  IF name = 'gong_raw.call_parties' THEN
    RETURN sophia.blank_json(whole, person.names);
  ELSIF name = 'gong_raw.calls' THEN
    blanked := sophia.blank_json(whole #- '{doc,parties}', person.pattern || '|' || person.names);
    RETURN CASE WHEN whole #> '{doc,parties}' IS NULL THEN blanked
      ELSE jsonb_set(blanked, '{doc,parties}', sophia.blank_json(whole #> '{doc,parties}', person.names)) END;
  END IF;
  blanked := sophia.blank_json(whole, person.pattern || '|' || person.names);
  IF whole ? 'contact_ids' THEN
    blanked := sophia.drop_contacts(blanked, person.hubspot);
  ELSIF name = 'sophia.quality_results' AND sophia.is_row_of((whole ->> 'target')::regclass, whole -> 'example', person) THEN
    blanked := blanked || '{"example": null, "message": null}';
  ELSIF name = 'sophia.identity_events' THEN
    blanked := blanked || '{"contact_id": null, "other_contact_id": null}';
  ELSIF name = 'processed_data.interaction_participants' THEN
    blanked := blanked || CASE WHEN whole ->> 'contact_id' = ANY (person.records) OR whole ->> 'email_norm' = ANY (person.emails)
      THEN '{"contact_id": null, "name": null, "email_norm": null}'::jsonb ELSE '{}' END;
  ELSIF name = 'processed_data.interaction_timeline' THEN
    -- What the person said in a call is not told from what others said; the next refresh writes the body again.
    blanked := blanked || CASE WHEN whole ->> 'source_system' = 'gong' THEN '{"body": null, "snippet": null}'::jsonb ELSE '{}' END
      || CASE WHEN whole ->> 'contact_id' = ANY (person.records) THEN '{"contact_id": null}'::jsonb ELSE '{}' END
      || CASE WHEN whole ->> 'owner_contact_id' = ANY (person.records) THEN '{"owner_contact_id": null}'::jsonb ELSE '{}' END;
  END IF;
  RETURN blanked;
END
$$;
COMMENT ON FUNCTION sophia.blank_person(text, jsonb, sophia.forgotten_person) IS 'internal: a row of a table, as JSON, without a person';

CREATE FUNCTION sophia.forget_shared(name text, condition text, person sophia.forgotten_person) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  columns text;
  held record;
  now_is jsonb;
  changed bigint := 0;
BEGIN
  SELECT string_agg(format('%I = b.%1$I', a.attname), ', ') INTO columns
  FROM pg_attribute AS a
  WHERE a.attrelid = name::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('text'::regtype, 'text[]'::regtype, 'jsonb'::regtype)
    AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey));
  FOR held IN EXECUTE format('SELECT t.tableoid AS part, t.ctid AS place, to_jsonb(t) AS whole FROM %s AS t WHERE %s OR sophia.may_name(t::text, ($1).needles) AND to_jsonb(t)::text ~* ($1).pattern',
      name, condition) USING person
  LOOP
    EXECUTE format('UPDATE %s AS t SET %s FROM jsonb_populate_record(NULL::%1$s, $1) AS b WHERE t.ctid = $2 AND t.tableoid = $3 RETURNING to_jsonb(t)',
        name, columns)
      INTO now_is USING sophia.blank_person(name, held.whole, person), held.place, held.part;
    changed := changed + coalesce(now_is - 'changed_xid' <> held.whole - 'changed_xid', false)::integer;
  END LOOP;
  RETURN changed;
END
$$;
COMMENT ON FUNCTION sophia.forget_shared(text, text, sophia.forgotten_person) IS 'internal: blanks a person in the rows of a table that others share in, and counts those that changed';

CREATE FUNCTION sophia.is_own_document(doc jsonb, person sophia.forgotten_person) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(doc ->> 'id' = ANY (person.hubspot) AND doc -> 'properties' ?| '{email,firstname,lastname,lifecyclestage}', false)
    OR coalesce(doc ->> 'id' = ANY (person.gong || person.slack), false)
    OR coalesce(doc ->> 'user' = ANY (person.slack), false) OR coalesce(doc ->> 'member_id' = ANY (person.slack), false)
    OR coalesce(sophia.normalize_email(coalesce(doc #>> '{properties,email}', doc ->> 'email', doc ->> 'emailAddress', doc #>> '{profile,email}'))
      = ANY (person.emails), false)
$$;
COMMENT ON FUNCTION sophia.is_own_document(jsonb, sophia.forgotten_person) IS 'internal: whether a document is of a person alone';

CREATE FUNCTION sophia.forget_documents(name text, person sophia.forgotten_person, trial boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held record;
  doc jsonb;
  blanked jsonb;
  own boolean;
  found bigint := 0;
BEGIN
  FOR held IN EXECUTE format('SELECT t.ctid AS place, t.document FROM %s AS t WHERE sophia.document_text(t.document) ~* $1', name)
    USING concat_ws('|', person.pattern, '"id": *"?(?:' || nullif(array_to_string(person.hubspot, '|'), '') || ')"? *[,}]',
      '"(?:primaryUserId|userId)": *"(?:' || nullif(array_to_string(person.gong, '|'), '') || ')"')
  LOOP
    doc := NULL;
    BEGIN
      doc := convert_from(held.document, 'UTF8')::jsonb;
    EXCEPTION WHEN data_exception THEN
      NULL;
    END;
    own := doc IS NULL OR sophia.is_own_document(doc, person);
    blanked := sophia.blank_json(sophia.keep_out_of_call(doc), person.pattern);
    -- Else another kind of document has an id of HubSpot.
    CONTINUE WHEN NOT own AND blanked = doc;
    found := found + 1;
    CONTINUE WHEN trial;
    IF own THEN
      EXECUTE format('DELETE FROM %s AS t WHERE t.ctid = $1', name) USING held.place;
    ELSE
      EXECUTE format('UPDATE %s AS t SET document = convert_to($2::text, ''UTF8'') WHERE t.ctid = $1', name)
        USING held.place, sophia.blank_json(blanked, person.names);
    END IF;
  END LOOP;
  RETURN found;
END
$$;
COMMENT ON FUNCTION sophia.forget_documents(text, sophia.forgotten_person, boolean) IS 'internal: erases or blanks documents that were set aside as bytes; a trial only counts';

CREATE FUNCTION sophia.find_person(name text, condition text, person sophia.forgotten_person) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s AS t WHERE %s OR sophia.may_name(t::text, ($1).needles) AND to_jsonb(t)::text ~* ($1).pattern',
    name, condition) INTO found USING person;
  RETURN found;
END
$$;
COMMENT ON FUNCTION sophia.find_person(text, text, sophia.forgotten_person) IS 'internal: rows of a table in which a person is found';

-- With the rights of the caller: rows of tables of others are changed, and the triggers that these have run.
CREATE FUNCTION sophia.forget_contact(identity bigint) RETURNS TABLE (table_name text, erased bigint, found_again bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
  person sophia.forgotten_person;
  step record;
BEGIN
  IF identity IS NULL THEN
    RAISE EXCEPTION 'identity must not be null' USING ERRCODE = 'null_value_not_allowed';
  ELSIF to_regclass('processed_data.unified_contacts') IS NULL THEN
    RAISE EXCEPTION 'the tables of processed_data do not exist'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call sophia.create_schemas() first.';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.refresh', 0));
  person := sophia.describe_person(identity);
  PERFORM sophia.suppress(person);
  FOR step IN SELECT p.*, sophia.column_type(p.name::regclass, 'document') IS NOT DISTINCT FROM 'bytea' AS documents FROM sophia.forget_plan AS p LOOP
    table_name := step.name;
    erased := 0;
    found_again := 0;
    IF step.documents THEN
      erased := sophia.forget_documents(step.name, person, false);
      found_again := sophia.forget_documents(step.name, person, true);
    ELSIF step.own IS NOT NULL THEN
      EXECUTE format('DELETE FROM %s AS t WHERE %s', step.name, step.own) USING person;
      GET DIAGNOSTICS erased = ROW_COUNT;
    END IF;
    IF step.shared IS NOT NULL THEN
      erased := erased + sophia.forget_shared(step.name, step.shared, person);
    END IF;
    IF num_nonnulls(step.own, step.shared) > 0 THEN
      found_again := found_again + sophia.find_person(step.name, coalesce(step.found, concat_ws(' OR ', step.own, step.shared)), person);
    END IF;
    RETURN NEXT;
  END LOOP;
  -- Answers about the person are kept in the cache no longer than their time, and not found there any more.
  PERFORM nextval('sophia.cache_generation');
  -- What the incremental refresh would derive from the rows that are gone, it recomputes.
  PERFORM sophia.request_full(t.target, 'a person was forgotten')
  FROM unnest(ARRAY['unified_contacts', 'interaction_timeline']) AS t (target);
END
$$;
COMMENT ON FUNCTION sophia.forget_contact(bigint) IS
  'erases a person from every table, blanks the person''s part of what is shared with others, and keeps later captures of the person out; a row a table: rows erased or blanked, and rows in which the person was found again (0)';

CREATE FUNCTION sophia.unsuppress(identifier text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  taken bigint;
BEGIN
  IF identifier IS NULL THEN
    RAISE EXCEPTION 'identifier must not be null' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  DELETE FROM sophia.suppressions AS s
  USING (VALUES ('record', btrim(identifier)), ('email', sophia.normalize_email(identifier)),
    ('phone', coalesce(sophia.normalize_phone(identifier), btrim(identifier))), ('name', sophia.normalize_name(identifier)), ('speaker', btrim(identifier))) AS i (kind, value)
  WHERE s.kind = i.kind AND s.hash = sophia.identifier_hash(i.kind, i.value);
  GET DIAGNOSTICS taken = ROW_COUNT;
  PERFORM sophia.guard_tables();
  RETURN taken;
END
$$;
COMMENT ON FUNCTION sophia.unsuppress(text) IS
  'lets what comes with an identifier in again: an e-mail address, a phone number, a full name, the id of a source record as in unified_contacts.id, or call/speaker of Gong; returns how many hashes were taken back';
