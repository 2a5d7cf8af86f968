-- Identities: which source records are one person.
--
-- Records and the identifiers that they hold are the nodes of a graph, links between two records are further edges.
-- Clusters are its connected components, except that an edge that would break a limit or a decision is refused, the weaker
-- edges first (src/transform/clusters.h).  Which identifiers a record holds follows from its row and its raw rows alone, so that
-- a changed record concerns those that share an identifier with it, before or after the change, and nobody else.
--
-- An identity belongs to the record that it began with.  The identity of a cluster is the oldest one whose record is
-- in it; the others are merged into it, and come back by themselves when their record leaves.  So the result follows from
-- the records, the guards, the decisions and the table of identities alone: what came in between makes no difference.

CREATE SEQUENCE sophia.identity_ids;
COMMENT ON SEQUENCE sophia.identity_ids IS 'numbers the people; never behind the largest number in processed_data.identities';
SELECT pg_catalog.pg_extension_config_dump('sophia.identity_ids', '');

CREATE TABLE sophia.builtin_identifier_kinds (
  kind text PRIMARY KEY,
  number integer NOT NULL UNIQUE,
  priority integer NOT NULL UNIQUE,
  confidence real NOT NULL,
  max_records integer NOT NULL,
  max_values integer NOT NULL,
  compare_names boolean NOT NULL,
  description text NOT NULL
);
COMMENT ON TABLE sophia.builtin_identifier_kinds IS 'internal: what identifier_kinds shows where the user did not change it';

INSERT INTO sophia.builtin_identifier_kinds
  (kind, number, priority, confidence, max_records, max_values, compare_names, description)
VALUES
  ('hubspot_id', 1, 10, 1.0, 100, 100, false,
    'id of a HubSpot contact: its own, those merged into it, and the one that Gong knows a party as'),
  ('email', 2, 20, 0.98, 20, 20, false,
    'e-mail address, of the whole set of addresses of a record, staff aliases included that no other colleague has'),
  ('phone', 3, 40, 0.9, 10, 5, true,
    'phone number in E.164 form together with an equal last name and, where both are known, an equal first name');

CREATE TABLE sophia.identifier_limits (
  kind text PRIMARY KEY,
  max_records integer CHECK (max_records > 0),
  max_values integer CHECK (max_values > 0),
  enabled boolean NOT NULL
);
COMMENT ON TABLE sophia.identifier_limits IS 'limits of identifier kinds as the user set them';
COMMENT ON COLUMN sophia.identifier_limits.kind IS 'kind of identifier';
COMMENT ON COLUMN sophia.identifier_limits.max_records IS 'as in identifier_kinds; NULL = as shipped';
COMMENT ON COLUMN sophia.identifier_limits.max_values IS 'as in identifier_kinds; NULL = as shipped';
COMMENT ON COLUMN sophia.identifier_limits.enabled IS 'as in identifier_kinds';
SELECT pg_catalog.pg_extension_config_dump('sophia.identifier_limits', '');

CREATE VIEW sophia.identifier_kinds AS
SELECT k.kind, k.priority, k.confidence, coalesce(l.max_records, k.max_records) AS max_records,
  coalesce(l.max_values, k.max_values) AS max_values, coalesce(l.enabled, true) AS enabled, k.compare_names, k.number,
  k.description
FROM sophia.builtin_identifier_kinds AS k
LEFT JOIN sophia.identifier_limits AS l USING (kind);
COMMENT ON VIEW sophia.identifier_kinds IS 'kinds of identifiers that tell that records are one person, and their limits';
COMMENT ON COLUMN sophia.identifier_kinds.kind IS 'name of the kind';
COMMENT ON COLUMN sophia.identifier_kinds.priority IS 'order in which links are made: the smallest first; a later one is refused where it contradicts';
COMMENT ON COLUMN sophia.identifier_kinds.confidence IS 'how sure a link by it is, up to 1';
COMMENT ON COLUMN sophia.identifier_kinds.max_records IS 'records that may share a value; one that more records share is blocked by itself';
COMMENT ON COLUMN sophia.identifier_kinds.max_values IS 'values that a person may have; a link that would bring more is refused';
COMMENT ON COLUMN sophia.identifier_kinds.enabled IS 'whether the kind links at all';
COMMENT ON COLUMN sophia.identifier_kinds.compare_names IS 'whether a link also needs equal first names, where both are known';
COMMENT ON COLUMN sophia.identifier_kinds.number IS 'number of the kind within cluster_edges';
COMMENT ON COLUMN sophia.identifier_kinds.description IS 'what the kind is';

-- A row of the user stands over the one that was shipped for the same value.
CREATE TABLE sophia.blocked_values (
  kind text NOT NULL,
  value text NOT NULL,
  builtin boolean NOT NULL DEFAULT false,
  blocked boolean NOT NULL DEFAULT true,
  reason text,
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, value, builtin)
);
COMMENT ON TABLE sophia.blocked_values IS 'values that never link records, and exceptions from that; changed by block_value and unblock_value';
COMMENT ON COLUMN sophia.blocked_values.kind IS 'kind of identifier';
COMMENT ON COLUMN sophia.blocked_values.value IS 'value, or a pattern in which * stands for any characters';
COMMENT ON COLUMN sophia.blocked_values.builtin IS 'true for what the extension brings; other rows are dumped, and stand over those';
COMMENT ON COLUMN sophia.blocked_values.blocked IS 'false for an exception: a value that links in spite of a pattern or of its number of records';
COMMENT ON COLUMN sophia.blocked_values.reason IS 'why';
COMMENT ON COLUMN sophia.blocked_values.changed_at IS 'when the row was written';
SELECT pg_catalog.pg_extension_config_dump('sophia.blocked_values', 'WHERE NOT builtin');

INSERT INTO sophia.blocked_values (kind, value, builtin, reason)
SELECT 'email', local || '@*', true, 'role address'
FROM unnest(ARRAY['abuse', 'accounting', 'accounts', 'accountspayable', 'accountsreceivable', 'admin', 'administration',
  'administrator', 'all', 'ap', 'ar', 'billing', 'bookings', 'business', 'careers', 'contact', 'contactus', 'customercare',
  'customerservice', 'customersupport', 'do-not-reply', 'donotreply', 'enquiries', 'enquiry', 'everyone', 'events', 'facturacion',
  'feedback', 'finance', 'frontdesk', 'general', 'hello', 'help', 'helpdesk', 'hi', 'hostmaster', 'hr', 'info', 'inbox',
  'information', 'inquiries', 'inquiry', 'invoice', 'invoices', 'it', 'jobs', 'kontakt', 'legal', 'mail', 'mailer-daemon',
  'mailbox', 'marketing', 'media', 'news', 'newsletter', 'no-reply', 'no_reply', 'noreply', 'notification', 'notifications',
  'office', 'operations', 'ops', 'orders', 'payroll', 'post', 'postmaster', 'press', 'privacy', 'procurement', 'purchasing',
  'reception', 'recruiting', 'recruitment', 'reply', 'root', 'sales', 'security', 'service', 'services', 'shop', 'staff',
  'support', 'team', 'tech', 'training', 'undisclosed-recipients', 'vertrieb', 'verkauf', 'webmaster', 'welcome', 'ventas']) AS r (local)
UNION ALL
SELECT 'email', local || '@*', true, 'placeholder'
FROM unnest(ARRAY['anonymous', 'asdf', 'dummy', 'email', 'fake', 'first.last', 'na', 'nobody', 'noemail', 'no-email', 'nomail', 'none',
  'notprovided', 'null', 'test', 'test1', 'test123', 'testing', 'undefined', 'unknown', 'username', 'xxx', 'youremail']) AS p (local)
UNION ALL
SELECT 'email', '*@' || domain, true, 'placeholder'
FROM unnest(ARRAY['noemail.com', 'nomail.com', 'yourdomain.com']) AS d (domain)
UNION ALL
SELECT 'phone', pattern, true, 'placeholder'
FROM unnest(ARRAY['*0000000', '*1111111', '*2222222', '*3333333', '*4444444', '*5555555', '*6666666', '*7777777', '*8888888', '*9999999']) AS p (pattern)
UNION ALL
SELECT 'hubspot_id', pattern, true, 'placeholder' FROM unnest(ARRAY['0', '-1']) AS p (pattern);


CREATE VIEW sophia.blocked_values_in_force AS
SELECT DISTINCT ON (b.kind, b.value) b.kind, b.value, b.blocked,
  CASE WHEN strpos(b.value, '*') > 0 AND b.value !~ '^([^*]+@\*|\*@[^*]+)$'
    THEN replace(regexp_replace(b.value, '([\\%_])', '\\\1', 'g'), '*', '%') END AS pattern
FROM sophia.blocked_values AS b
ORDER BY b.kind, b.value, b.builtin;
COMMENT ON VIEW sophia.blocked_values_in_force IS 'internal: blocked_values with the rows of the user standing over the shipped ones';

GRANT SELECT ON sophia.identifier_kinds TO PUBLIC;

CREATE FUNCTION sophia.blocking_rules() RETURNS SETOF sophia.blocked_values_in_force
LANGUAGE sql STABLE ROWS 150 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT * FROM sophia.blocked_values_in_force
$$;
COMMENT ON FUNCTION sophia.blocking_rules() IS 'internal: blocked_values_in_force, for who refreshes but may not read the lists, which have addresses';

-- What was decided and what happened.  A decision is an event; what it demands stands in identity_decisions.
CREATE TABLE sophia.identity_events (
  event bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor text NOT NULL DEFAULT session_user,
  kind text NOT NULL CHECK (kind IN ('merged', 'split', 'moved', 'retired', 'restored', 'decision')),
  decision text CHECK (decision IN ('link', 'unlink', 'merge_contacts', 'split_contact', 'undo')),
  identity_id bigint,
  other_identity_id bigint,
  contact_id text,
  other_contact_id text,
  -- No foreign key: pg_dump warns of a table that refers to itself.
  undone_by bigint,
  CHECK ((kind = 'decision') = (decision IS NOT NULL))
);
CREATE INDEX ON sophia.identity_events (identity_id);
CREATE INDEX ON sophia.identity_events (other_identity_id);
COMMENT ON TABLE sophia.identity_events IS 'internal: what identity_history shows, but for the making of identities';
COMMENT ON SEQUENCE sophia.identity_events_event_seq IS 'numbers the events of identities';
SELECT pg_catalog.pg_extension_config_dump('sophia.identity_events', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.identity_events_event_seq', '');

CREATE TABLE sophia.identity_decisions (
  event bigint NOT NULL REFERENCES sophia.identity_events,
  demand text NOT NULL CHECK (demand IN ('together', 'apart', 'absorbed')),
  record_a text,
  record_b text,
  keep bigint,
  absorb bigint,
  former_primary text,
  CHECK ((demand = 'absorbed') = (keep IS NOT NULL))
);
CREATE INDEX ON sophia.identity_decisions (record_a);
CREATE INDEX ON sophia.identity_decisions (record_b);
CREATE INDEX ON sophia.identity_decisions (event);
COMMENT ON TABLE sophia.identity_decisions IS 'what decisions that were not undone demand of records and identities';
COMMENT ON COLUMN sophia.identity_decisions.event IS 'event of the decision';
COMMENT ON COLUMN sophia.identity_decisions.demand IS 'together or apart: the two records; absorbed: keep is preferred to absorb where one person has both';
COMMENT ON COLUMN sophia.identity_decisions.record_a IS 'unified_contacts.id of a record';
COMMENT ON COLUMN sophia.identity_decisions.record_b IS 'unified_contacts.id of the other record; the smaller one is record_a';
COMMENT ON COLUMN sophia.identity_decisions.keep IS 'identity that is kept';
COMMENT ON COLUMN sophia.identity_decisions.absorb IS 'identity that gives way, although it may be older';
COMMENT ON COLUMN sophia.identity_decisions.former_primary IS 'record that keep belonged to before split_contact took it away';
SELECT pg_catalog.pg_extension_config_dump('sophia.identity_decisions', '');

CREATE FUNCTION sophia.pairs_in_force() RETURNS TABLE (record_a text, record_b text, together boolean, rule text, strength integer,
  confidence real, event bigint)
LANGUAGE plpgsql STABLE ROWS 1000 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- The latest decision about a pair stands; what was decided in review comes after decisions, links of match rules last.
  RETURN QUERY
  SELECT DISTINCT ON (d.record_a, d.record_b) d.record_a, d.record_b, d.demand = 'together', 'decision', 0, 1.0::real, d.event
  FROM sophia.identity_decisions AS d
  WHERE d.demand <> 'absorbed'
  ORDER BY d.record_a, d.record_b, d.event DESC;
  IF to_regclass('sophia.match_pairs') IS NOT NULL THEN
    RETURN QUERY
    SELECT p.key_a, p.key_b, bool_and(p.status <> 'different'), min(p.rule), CASE WHEN bool_or(p.status <> 'linked') THEN 1 ELSE 30 END,
      CASE WHEN bool_or(p.status <> 'linked') THEN 1.0::real ELSE greatest(0.0, least(0.99, max(p.score)))::real END, NULL::bigint
    FROM sophia.match_pairs AS p
    WHERE p.source = to_regclass('processed_data.unified_contacts') AND p.status IN ('linked', 'same', 'different')
      AND NOT EXISTS (SELECT FROM sophia.identity_decisions AS d
        WHERE d.record_a = p.key_a AND d.record_b = p.key_b AND d.demand <> 'absorbed')
    GROUP BY p.key_a, p.key_b;
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.pairs_in_force() IS 'internal: pairs of records that decisions and match rules bring together or keep apart';

CREATE FUNCTION sophia.identifier_query() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  branches text := $query$
    SELECT c.id AS record, 'email' AS kind, e.value, '' AS qualifier,
      CASE WHEN e.value = c.email_norm THEN 'e-mail' WHEN c.source_system = 'gong' AND c.is_internal THEN 'staff alias'
        ELSE 'e-mail set' END AS rule, -1 AS name, c.identity_id
    FROM processed_data.unified_contacts AS c
    CROSS JOIN LATERAL unnest(c.all_emails) AS e (value)
    WHERE NOT c.is_bot
    UNION ALL
    SELECT c.id, 'phone', c.phone_e164, sophia.normalize_name(c.last_name), 'phone and last name',
      coalesce(hashtext(nullif(sophia.normalize_name(c.first_name), '')) & 2147483647, -1), c.identity_id
    FROM processed_data.unified_contacts AS c
    WHERE c.phone_e164 IS NOT NULL AND length(sophia.normalize_name(c.last_name)) > 1 AND NOT c.is_bot
      -- Behind a switchboard an initial would be every namesake's.
      AND length(sophia.normalize_name(c.first_name)) IS DISTINCT FROM 1$query$;
BEGIN
  IF sophia.has_source('hubspot') THEN
    -- An id in a merged list tells nothing where the contact of that id was merged into another one, or into none.
    branches := branches || $query$
      UNION ALL
      SELECT DISTINCT m.record, 'hubspot_id', m.id, '', 'HubSpot merge', -1, m.identity_id
      FROM (
        SELECT c.id AS record, c.source_id, c.identity_id, substring(u.entry FROM '^\s*(\d+)') AS id
        FROM processed_data.unified_contacts AS c
        JOIN hubspot_raw.contacts AS h ON h.id = c.source_id
        CROSS JOIN LATERAL unnest(h.merged_object_ids || h.calculated_merged_vids) AS u (entry)
        WHERE c.source_system = 'hubspot' AND (h.merged_object_ids IS NOT NULL OR h.calculated_merged_vids IS NOT NULL)
        UNION ALL
        SELECT c.id, c.source_id, c.identity_id, l.id
        FROM processed_data.unified_contacts AS c
        JOIN hubspot_raw.contacts AS l ON l.merged_into = c.source_id
        WHERE c.source_system = 'hubspot') AS m
      WHERE m.id <> m.source_id
        AND NOT EXISTS (SELECT FROM hubspot_raw.contacts AS l WHERE l.id = m.id AND l.merged_into IS DISTINCT FROM m.source_id)$query$;
  END IF;
  IF sophia.has_source('gong') THEN
    branches := branches || $query$
      UNION ALL
      SELECT c.id, 'hubspot_id', c.source_id, '', 'HubSpot record', -1, c.identity_id
      FROM processed_data.unified_contacts AS c
      WHERE c.source_system = 'hubspot'
        AND EXISTS (SELECT FROM gong_raw.call_parties AS p WHERE p.hubspot_contact_id = c.source_id)
      UNION ALL
      SELECT DISTINCT g.record, 'hubspot_id', g.value, '', 'Gong context', -1, g.identity_id
      FROM (
        SELECT c.id AS record, p.hubspot_contact_id AS value, c.email_norm, c.source_system, c.identity_id, p.is_deleted
        FROM processed_data.unified_contacts AS c
        JOIN gong_raw.call_parties AS p ON p.email_norm = c.source_id
        UNION ALL
        SELECT c.id, p.hubspot_contact_id, c.email_norm, c.source_system, c.identity_id, p.is_deleted
        FROM processed_data.unified_contacts AS c
        JOIN gong_raw.call_parties AS p ON sophia.normalize_email(p.email) = c.source_id
        WHERE p.email_norm IS NULL AND p.email IS NOT NULL
        UNION ALL
        SELECT c.id, p.hubspot_contact_id, c.email_norm, c.source_system, c.identity_id, p.is_deleted
        FROM processed_data.unified_contacts AS c
        JOIN gong_raw.call_parties AS p
          ON p.call_id = split_part(c.source_id, '_', 1) AND c.source_id = p.call_id || '_' || p.party_id) AS g
      WHERE g.source_system = 'gong' AND g.value IS NOT NULL AND NOT g.is_deleted
        -- A role address is many people: what one of them is tells nothing about the others.
        AND NOT EXISTS (SELECT FROM sophia.blocking_rules() AS b
          WHERE b.kind = 'email' AND b.blocked AND b.value = split_part(g.email_norm, '@', 1) || '@*')$query$;
  END IF;
  RETURN branches;
END
$$;
COMMENT ON FUNCTION sophia.identifier_query() IS
  'internal: query for the identifiers of all records, into whose branches a restriction of record reaches; name is a hash of the first name, -1 where it is not known';

CREATE FUNCTION sophia.allowed_query(identifiers text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- The most telling rule decides: on the value itself, on its local part, on its domain, then any other pattern.
  SELECT format($query$
    SELECT i.*, x.blocked AS said
    FROM (%1$s) AS i
    LEFT JOIN blocking AS x ON x.kind = i.kind AND x.value = i.value
    LEFT JOIN blocking AS l ON l.kind = i.kind AND l.value = split_part(i.value, '@', 1) || '@*'
    LEFT JOIN blocking AS d ON d.kind = i.kind AND d.value = '*@' || split_part(i.value, '@', 2)
    WHERE NOT coalesce(x.blocked, l.blocked, d.blocked,
      CASE WHEN i.kind = ANY (%2$L) THEN (SELECT b.blocked FROM pattern AS b
        WHERE b.kind = i.kind AND i.value LIKE b.pattern ORDER BY length(b.value) DESC, b.value COLLATE "C" LIMIT 1) END, false)$query$,
    identifiers, ARRAY(SELECT DISTINCT b.kind FROM sophia.blocking_rules() AS b WHERE b.pattern IS NOT NULL))
$$;
COMMENT ON FUNCTION sophia.allowed_query(text) IS
  'internal: query for those of the identifiers that no list blocks, within a statement whose CTE blocking is blocked_values_in_force, and pattern those of it with a pattern; said is false for an exception';

CREATE FUNCTION sophia.allowed_values_query() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format($query$
    WITH blocking AS MATERIALIZED (
      SELECT * FROM sophia.blocking_rules()
    ), pattern AS MATERIALIZED (
      SELECT * FROM blocking AS b WHERE b.pattern IS NOT NULL
    )
    SELECT a.kind, a.value, a.said IS NOT NULL FROM (%s) AS a$query$,
    sophia.allowed_query('SELECT u.kind, u.value FROM unnest($1, $2) AS u (kind, value)'))
$$;
COMMENT ON FUNCTION sophia.allowed_values_query() IS
  'internal: query for those of kinds $1 and values $2 that no list blocks, and whether a list says so';

CREATE FUNCTION sophia.edge_query(everything boolean, everybody boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- What only one record holds is kept where no column of unified_contacts finds it again; the id of a HubSpot record, which
  -- any party may name, only where somebody shares it.  Who shares an alias with another colleague shares a mailbox, unless
  -- address or name tells one person who is a user twice.
  SELECT format($query$
    WITH contested AS (
      SELECT e.value
      FROM processed_data.unified_contacts AS c
      CROSS JOIN LATERAL unnest(c.all_emails) AS e (value)
      WHERE c.source_system = 'gong' AND c.is_internal %5$s
      GROUP BY e.value
      HAVING count(DISTINCT coalesce(c.email_norm, c.id)) > 1
        AND count(DISTINCT coalesce(nullif(sophia.normalize_name(c.full_name), ''), c.id)) > 1
    ), pair AS MATERIALIZED (
      SELECT p.*, rank() OVER (ORDER BY p.strength, p.event) AS place, a.identity_id AS identity_a, b.identity_id AS identity_b
      FROM sophia.pairs_in_force() AS p
      JOIN processed_data.unified_contacts AS a ON a.id = p.record_a
      JOIN processed_data.unified_contacts AS b ON b.id = p.record_b
      WHERE p.together %2$s
    )
    SELECT i.record, i.kind, i.value, i.qualifier, i.rule, i.name,
      CASE WHEN i.rule IN ('e-mail', 'phone and last name') THEN 'of member' WHEN i.rule = 'HubSpot record' THEN 'shared' ELSE 'always' END AS kept,
      i.rule = 'staff alias' AND EXISTS (SELECT FROM contested AS x WHERE x.value = i.value) AS contested, i.identity_id,
      NULL::integer AS priority, NULL::bigint AS place, NULL::real AS confidence
    FROM (%1$s) AS i %4$s
    UNION ALL
    SELECT p.record_a, 'record', p.record_b, '', p.rule, -1, 'always', false, p.identity_a, p.strength, p.place, p.confidence FROM pair AS p
    UNION ALL
    SELECT r.id, 'record', r.id, '', '', -1, 'always', false, r.identity_id, 100, 0, 1 FROM (%3$s) AS r$query$,
    sophia.identifier_query(),
    CASE WHEN NOT everything THEN 'AND p.record_a = ANY ($1) AND p.record_b = ANY ($1)' END,
    CASE WHEN everybody THEN format('SELECT c.id, c.identity_id FROM processed_data.unified_contacts AS c WHERE NOT c.is_bot %s',
        CASE WHEN NOT everything THEN 'AND c.id = ANY ($1)' END)
      ELSE 'SELECT p.record_a AS id, p.identity_a AS identity_id FROM pair AS p UNION SELECT p.record_b, p.identity_b FROM pair AS p' END,
    CASE WHEN NOT everything THEN 'WHERE i.record = ANY ($1)' END,
    CASE WHEN NOT everything THEN 'AND c.id = ANY ($1)' END)
$$;
COMMENT ON FUNCTION sophia.edge_query(boolean, boolean) IS
  'internal: query for the edges of all records, or of those in $1, and for one of each record with itself (everybody), or of those in pairs only; columns are record, kind (record = value is one), value, qualifier, rule, hash of the first name (-1 = not known), when it is kept (always, where the value is shared, or where the record is a member: it shares any), whether only an exception in the lists lets it link, identity, and, of a link between records, priority, place among equals and confidence';

CREATE FUNCTION sophia.cluster_identifiers(query text, records text[], allowed text, kinds text[], priorities integer[], confidences real[],
  max_records integer[], max_values integer[], compare_names boolean[], hot_kinds text[], hot_values text[], apart_records text[],
  apart_others text[])
RETURNS TABLE (record text, kind text, value text, qualifier text, rule text, confidence real, status text, component integer,
  identity_id bigint, least_identity_id bigint)
LANGUAGE c STABLE STRICT ROWS 100000
SET search_path = pg_catalog, pg_temp
SET enable_mergejoin = off
AS 'MODULE_PATHNAME', 'sophia_cluster_identifiers_sql';
COMMENT ON FUNCTION sophia.cluster_identifiers(text, text[], text, text[], integer[], real[], integer[], integer[], boolean[], text[], text[], text[], text[]) IS
  'internal: clusters the identifiers that edge_query gives (with records as $1), but for those that allowed (with kinds as $1 and values as $2) does not return, and returns those that are kept from the strongest to the weakest, with the cluster of each record and the smallest identity in it';

CREATE FUNCTION sophia.identity_edges(affected text[], hot_kinds text[], hot_values text[], everybody boolean)
RETURNS TABLE (record text, kind text, value text, qualifier text, rule text, confidence real, status text, component integer,
  identity_id bigint, least_identity_id bigint)
LANGUAGE sql STABLE ROWS 100000
AS $$
  SELECT e.*
  FROM (SELECT pg_catalog.array_agg(k.kind) AS kinds, pg_catalog.array_agg(k.priority) AS priorities,
      pg_catalog.array_agg(k.confidence) AS confidences, pg_catalog.array_agg(k.max_records) AS max_records,
      pg_catalog.array_agg(k.max_values) AS max_values, pg_catalog.array_agg(k.compare_names) AS compare_names
    FROM sophia.identifier_kinds AS k WHERE k.enabled) AS k
  CROSS JOIN (SELECT coalesce(pg_catalog.array_agg(p.record_a), '{}') AS one, coalesce(pg_catalog.array_agg(p.record_b), '{}') AS other
    FROM sophia.pairs_in_force() AS p WHERE NOT p.together) AS p
  CROSS JOIN LATERAL sophia.cluster_identifiers(sophia.edge_query(affected IS NULL, everybody), coalesce(affected, '{}'),
    sophia.allowed_values_query(), coalesce(k.kinds, '{}'), coalesce(k.priorities, '{}'), coalesce(k.confidences, '{}'),
    coalesce(k.max_records, '{}'), coalesce(k.max_values, '{}'), coalesce(k.compare_names, '{}'), hot_kinds, hot_values, p.one, p.other) AS e
$$;
COMMENT ON FUNCTION sophia.identity_edges(text[], text[], text[], boolean) IS
  'internal: clustered edges of the affected records (NULL = of all), with one of each record with itself where everybody is wanted; hot values are those that too many records share, as far as others hold them';

CREATE FUNCTION sophia.holders_query(kind text, value text, exclusion text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format($query$
    SELECT c.id AS record FROM processed_data.unified_contacts AS c
    WHERE %1$s = 'email' AND c.email_norm = %2$s AND NOT c.is_bot %3$s
    UNION ALL
    SELECT c.id FROM processed_data.unified_contacts AS c
    WHERE %1$s = 'phone' AND c.phone_e164 = %2$s AND length(sophia.normalize_name(c.last_name)) > 1
      AND length(sophia.normalize_name(c.first_name)) IS DISTINCT FROM 1 AND NOT c.is_bot %3$s
    UNION ALL
    SELECT c.id FROM processed_data.unified_contacts AS c WHERE %1$s = 'hubspot_id' AND c.id = 'hubspot_' || %2$s %3$s
    UNION ALL
    SELECT c.id FROM (SELECT l.contact_id AS id FROM processed_data.identity_links AS l
      WHERE l.kind = %1$s AND l.evidence = %2$s AND l.rule NOT IN ('e-mail', 'phone and last name', 'HubSpot record')) AS c
    WHERE true %3$s$query$, kind, value, exclusion)
$$;
COMMENT ON FUNCTION sophia.holders_query(text, text, text) IS
  'internal: query for the records that hold an identifier, as the last resolution left them; arguments are SQL expressions and a condition on c';

CREATE FUNCTION sophia.affected_records(changed text[], OUT affected text[], OUT hot_kinds text[], OUT hot_values text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  frontier text[] := ARRAY(SELECT DISTINCT u.id FROM unnest(changed) AS u (id) WHERE u.id IS NOT NULL);
  seen_kinds text[] := '{}';
  seen_values text[] := '{}';
  own_kinds text[];
  own_values text[];
  found record;
BEGIN
  changed := frontier;
  affected := frontier;
  hot_kinds := '{}';
  hot_values := '{}';
  -- What the changed records hold now; of all others identity_links still tells the truth.
  EXECUTE format('SELECT array_agg(i.kind), array_agg(i.value) FROM (%s) AS i WHERE i.record = ANY ($1)', sophia.identifier_query())
    INTO own_kinds, own_values USING changed;
  WHILE frontier <> '{}' LOOP
    EXECUTE format($statement$
      WITH blocking AS MATERIALIZED (
        SELECT * FROM sophia.blocking_rules()
      ), pattern AS MATERIALIZED (
        SELECT * FROM blocking AS b WHERE b.pattern IS NOT NULL
      ), identifier AS MATERIALIZED (
        %1$s
      ), own AS (
        SELECT u.kind, u.value, count(*) AS records FROM unnest($4, $5) AS u (kind, value) GROUP BY u.kind, u.value
      ), held AS MATERIALIZED (
        SELECT i.kind, i.value, h.records,
          i.said IS NULL AND coalesce(cardinality(h.records), 0) + coalesce(o.records, 0) > k.max_records AS is_hot,
          EXISTS (SELECT FROM processed_data.identity_links AS l
            WHERE l.kind = i.kind AND l.evidence = i.value AND l.status = 'blocked') AS was_hot
        FROM identifier AS i
        JOIN sophia.identifier_kinds AS k ON k.kind = i.kind
        LEFT JOIN own AS o ON o.kind = i.kind AND o.value = i.value
        CROSS JOIN LATERAL (SELECT array_agg(DISTINCT g.record) AS records
          FROM (SELECT n.record FROM (%2$s) AS n LIMIT CASE WHEN i.said IS NULL THEN k.max_records + 1 END) AS g) AS h
      )
      SELECT ARRAY(
          SELECT u.record FROM held AS h CROSS JOIN LATERAL unnest(h.records) AS u (record) WHERE NOT (h.is_hot AND h.was_hot)
          UNION
          SELECT l.contact_id FROM held AS h JOIN processed_data.identity_links AS l ON l.kind = h.kind AND l.evidence = h.value
          WHERE NOT h.is_hot AND h.was_hot
          UNION
          SELECT p.record_a FROM sophia.pairs_in_force() AS p WHERE p.record_b = ANY ($1)
          UNION
          SELECT p.record_b FROM sophia.pairs_in_force() AS p WHERE p.record_a = ANY ($1)
          UNION
          SELECT l.evidence FROM processed_data.identity_links AS l WHERE l.contact_id = ANY ($1) AND l.kind = 'record'
          UNION
          SELECT l.contact_id FROM processed_data.identity_links AS l WHERE l.evidence = ANY ($1) AND l.kind = 'record'
          UNION
          -- Who has the identity of one of these that vanished, or that only now turns out to be merged into one of these.
          SELECT t.heir_contact_id FROM processed_data.identities AS t
          WHERE t.heir_contact_id IS NOT NULL AND (t.primary_contact_id = ANY ($1) OR t.primary_contact_id = ANY (ARRAY(
            SELECT 'hubspot_' || i.value FROM identifier AS i WHERE i.kind = 'hubspot_id')))
          EXCEPT
          SELECT u.id FROM unnest($6) AS u (id)) AS records,
        (SELECT array_agg(i.kind) FROM identifier AS i) AS kinds, (SELECT array_agg(i.value) FROM identifier AS i) AS "values",
        (SELECT array_agg(h.kind) FROM held AS h WHERE h.is_hot) AS hot_kinds,
        (SELECT array_agg(h.value) FROM held AS h WHERE h.is_hot) AS hot_values
      $statement$, sophia.allowed_query(format($query$
        SELECT i.kind, i.value FROM (%s) AS i WHERE i.record = ANY ($1)
        UNION
        SELECT l.kind, l.evidence FROM processed_data.identity_links AS l WHERE l.contact_id = ANY ($1) AND l.kind <> 'record'
        EXCEPT
        SELECT u.kind, u.value FROM unnest($2, $3) AS u (kind, value)$query$, sophia.identifier_query())),
      sophia.holders_query('i.kind', 'i.value', 'AND c.id <> ALL ($7)'))
    INTO found USING frontier, seen_kinds, seen_values, own_kinds, own_values, affected, changed;
    frontier := found.records;
    affected := affected || frontier;
    seen_kinds := seen_kinds || found.kinds;
    seen_values := seen_values || found."values";
    hot_kinds := hot_kinds || found.hot_kinds;
    hot_values := hot_values || found.hot_values;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sophia.affected_records(text[]) IS
  'internal: the records whose cluster a change of the given ones can concern: all that are connected with them, before or after it; hot are the values among theirs that too many records share';

CREATE FUNCTION sophia.new_identity_ids(count bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  last bigint;
BEGIN
  -- The data may have come from another installation of the extension: its numbers are not given again.
  EXECUTE 'SELECT max(identity_id) FROM processed_data.identities' INTO last;
  SELECT greatest(last, CASE WHEN s.is_called THEN s.last_value ELSE 0 END) INTO last FROM sophia.identity_ids AS s;
  IF count > 0 THEN
    PERFORM setval('sophia.identity_ids', last + count);
  END IF;
  RETURN last + 1;
END
$$;
COMMENT ON FUNCTION sophia.new_identity_ids(bigint) IS 'internal: reserves numbers of identities and returns the first';

CREATE FUNCTION sophia.log_identity_events(kinds text[], identities bigint[], others bigint[], contacts text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO sophia.identity_events (kind, identity_id, other_identity_id, contact_id)
  SELECT u.kind, u.identity_id, u.other_id, u.contact_id
  FROM unnest(kinds, identities, others, contacts) AS u (kind, identity_id, other_id, contact_id)
$$;
COMMENT ON FUNCTION sophia.log_identity_events(text[], bigint[], bigint[], text[]) IS 'internal: writes what happened to identities, whose caller need not own the log';

CREATE FUNCTION sophia.absorbed_in_force() RETURNS TABLE (keep bigint, absorb bigint)
LANGUAGE sql STABLE ROWS 100 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT DISTINCT ON (least(d.keep, d.absorb), greatest(d.keep, d.absorb)) d.keep, d.absorb
  FROM sophia.identity_decisions AS d
  WHERE d.demand = 'absorbed' AND d.keep <> d.absorb
  ORDER BY least(d.keep, d.absorb), greatest(d.keep, d.absorb), d.event DESC
$$;
COMMENT ON FUNCTION sophia.absorbed_in_force() IS 'internal: identities that give way to another one by decision; of two opposite decisions the later one';

-- A record that vanished leaves its identity to the HubSpot contact that it was merged into, else to the eldest of the rest.
CREATE FUNCTION sophia.settle_heirs(affected text[], records text[], kinds text[], evidence text[]) RETURNS bigint[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  -- Records that vanished before, and that only now turn out to be merged into one of these.
  aliases CONSTANT text[] := ARRAY(
    SELECT 'hubspot_' || e.value FROM unnest(kinds, evidence) AS e (kind, value) WHERE e.kind = 'hubspot_id');
  changed bigint[];
BEGIN
  WITH settled AS (
  UPDATE processed_data.identities AS i SET heir_contact_id = w.heir
  FROM (
    SELECT o.identity_id, CASE WHEN p.id IS NULL THEN coalesce(
        (SELECT min(e.record) FROM unnest(settle_heirs.records, settle_heirs.kinds, settle_heirs.evidence) AS e (record, kind, value)
          WHERE e.kind = 'hubspot_id' AND 'hubspot_' || e.value = o.primary_contact_id AND starts_with(e.record, 'hubspot_')),
        h.id,
        (SELECT c.id FROM processed_data.unified_contacts AS c WHERE c.identity_id = o.identity_id
          ORDER BY c.is_deleted, c.created_at, c.id COLLATE "C" LIMIT 1)) END AS heir
    FROM processed_data.identities AS o
    LEFT JOIN processed_data.unified_contacts AS p ON p.id = o.primary_contact_id
    LEFT JOIN processed_data.unified_contacts AS h ON h.id = o.heir_contact_id
    WHERE (affected IS NULL OR o.primary_contact_id = ANY (affected || aliases) OR o.heir_contact_id = ANY (affected))
      AND (p.id IS NULL OR o.heir_contact_id IS NOT NULL)) AS w
  WHERE i.identity_id = w.identity_id AND i.heir_contact_id IS DISTINCT FROM w.heir
  RETURNING i.identity_id
  )
  SELECT array_agg(s.identity_id) INTO changed FROM settled AS s;
  RETURN changed;
END
$$;
COMMENT ON FUNCTION sophia.settle_heirs(text[], text[], text[], text[]) IS 'internal: gives identities whose record vanished to another record, and back; returns those identities';

CREATE FUNCTION sophia.assign_identities(INOUT records text[], components integer[], rules text[], OUT identities bigint[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  fresh_components integer[];
  gives_way bigint[];
  first_new bigint;
BEGIN
  SELECT array_agg(u.record), array_agg(u.component) INTO assign_identities.records, assign_identities.components
  FROM unnest(assign_identities.records, assign_identities.components, assign_identities.rules) AS u (record, component, rule)
  WHERE u.rule = '';
  SELECT array_agg(n.component ORDER BY n.first_record) INTO fresh_components
  FROM (
    SELECT m.component, min(m.record COLLATE "C") AS first_record
    FROM unnest(assign_identities.records, assign_identities.components) AS m (record, component)
    LEFT JOIN processed_data.identities AS i ON coalesce(i.heir_contact_id, i.primary_contact_id) = m.record
      -- What the join implies, so that a few records are found by index.
      AND (cardinality(assign_identities.records) > 100000 OR i.primary_contact_id = ANY (assign_identities.records)
      OR i.heir_contact_id = ANY (assign_identities.records))
    GROUP BY m.component
    HAVING count(i.identity_id) = 0) AS n;
  gives_way := ARRAY(
    SELECT d.absorb
    FROM sophia.absorbed_in_force() AS d
    JOIN processed_data.identities AS k ON k.identity_id = d.keep
    JOIN processed_data.identities AS a ON a.identity_id = d.absorb
    JOIN unnest(assign_identities.records, assign_identities.components) AS kr (record, component)
      ON kr.record = coalesce(k.heir_contact_id, k.primary_contact_id)
    JOIN unnest(assign_identities.records, assign_identities.components) AS ar (record, component)
      ON ar.record = coalesce(a.heir_contact_id, a.primary_contact_id)
    WHERE ar.component = kr.component);
  first_new := sophia.new_identity_ids(coalesce(cardinality(fresh_components), 0));
  SELECT array_agg(m.record), array_agg(w.identity_id) INTO assign_identities.records, assign_identities.identities
  FROM unnest(assign_identities.records, assign_identities.components) AS m (record, component)
  JOIN (
    SELECT n.component, first_new + n.place - 1 AS identity_id
    FROM unnest(fresh_components) WITH ORDINALITY AS n (component, place)
    UNION ALL
    -- The oldest wins, unless a decision prefers another one of the cluster.
    SELECT o.component, coalesce(min(o.identity_id) FILTER (WHERE o.identity_id <> ALL (gives_way)), min(o.identity_id))
    FROM (
      SELECT r.component, i.identity_id
      FROM processed_data.identities AS i
      JOIN unnest(assign_identities.records, assign_identities.components) AS r (record, component)
        ON r.record = coalesce(i.heir_contact_id, i.primary_contact_id)
      WHERE (cardinality(assign_identities.records) > 100000 OR i.primary_contact_id = ANY (assign_identities.records)
        OR i.heir_contact_id = ANY (assign_identities.records))) AS o
    GROUP BY o.component) AS w ON w.component = m.component;
END
$$;
COMMENT ON FUNCTION sophia.assign_identities(text[], integer[], text[]) IS
  'internal: the identity of each record of the given clusters';

CREATE FUNCTION sophia.write_identities(affected text[], records text[], identities bigint[], settled bigint[],
  OUT touched bigint[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  event_kinds text[];
  event_identities bigint[];
  event_others bigint[];
  event_contacts text[];
BEGIN
  WITH member AS MATERIALIZED (
    SELECT m.record, m.identity_id, c.identity_id AS former_id
    FROM unnest(write_identities.records, write_identities.identities) AS m (record, identity_id)
    JOIN processed_data.unified_contacts AS c ON c.id = m.record
  ), before AS MATERIALIZED (
    SELECT i.identity_id, i.status, i.merged_into, i.size, m.identity_id AS now_id, i.ctid AS place
    FROM processed_data.identities AS i
    LEFT JOIN member AS m ON m.record = coalesce(i.heir_contact_id, i.primary_contact_id)
    WHERE affected IS NULL OR i.primary_contact_id = ANY (affected) OR i.heir_contact_id = ANY (affected)
      OR i.identity_id = ANY (settled)
  ), wanted AS MATERIALIZED (
    SELECT m.identity_id, 'active' AS status, NULL::bigint AS merged_into, count(*)::integer AS size,
      coalesce(min(m.record) FILTER (WHERE starts_with(m.record, 'hubspot_')), min(m.record)) AS primary_contact_id
    FROM member AS m
    GROUP BY m.identity_id
    UNION ALL
    SELECT b.identity_id, CASE WHEN b.now_id IS NULL AND b.status <> 'merged' THEN 'retired' ELSE 'merged' END,
      coalesce(b.now_id, b.merged_into), 0, NULL
    FROM before AS b
    WHERE b.now_id IS DISTINCT FROM b.identity_id
  ), changed AS MATERIALIZED (
    SELECT w.*, b.status AS former_status, b.place
    FROM wanted AS w
    LEFT JOIN before AS b ON b.identity_id = w.identity_id
    WHERE b.identity_id IS NULL OR (b.status, b.merged_into, b.size) IS DISTINCT FROM (w.status, w.merged_into, w.size)
  ), added AS (
    INSERT INTO processed_data.identities
      (identity_id, status, merged_into, size, primary_contact_id, created_at, updated_at)
    SELECT c.identity_id, c.status, c.merged_into, c.size, c.primary_contact_id, now(), now()
    FROM changed AS c WHERE c.former_status IS NULL
    ORDER BY c.identity_id
  ), altered AS (
    UPDATE processed_data.identities AS i
    SET status = c.status, merged_into = c.merged_into, size = c.size, updated_at = now()
    -- By place alone: the few that changed seem many to the planner, which would rather merge them with a scan of all identities.
    FROM changed AS c WHERE i.ctid = c.place
  ), event AS (
    SELECT 1 AS place, CASE c.status WHEN 'active' THEN 'restored' ELSE c.status END AS kind, c.identity_id, c.merged_into AS other_id,
      NULL::text AS contact_id
    FROM changed AS c
    WHERE c.former_status <> c.status
    UNION ALL
    SELECT DISTINCT 2, 'split', m.identity_id, m.former_id, NULL
    FROM member AS m
    JOIN changed AS c ON c.identity_id = m.identity_id AND c.former_status IS DISTINCT FROM 'active'
    WHERE m.former_id <> m.identity_id
    UNION ALL
    SELECT 3, 'moved', m.identity_id, m.former_id, m.record FROM member AS m WHERE m.former_id <> m.identity_id
  )
  SELECT array_agg(e.kind), array_agg(e.identity_id), array_agg(e.other_id), array_agg(e.contact_id),
    CASE WHEN affected IS NOT NULL THEN ARRAY(
      SELECT m.identity_id FROM member AS m UNION SELECT m.former_id FROM member AS m WHERE m.former_id IS NOT NULL
      UNION SELECT b.identity_id FROM before AS b) END
  INTO event_kinds, event_identities, event_others, event_contacts, touched
  FROM (SELECT * FROM event AS o ORDER BY o.place, o.identity_id, o.other_id, o.contact_id COLLATE "C") AS e;
  IF event_kinds IS NOT NULL THEN
    PERFORM sophia.log_identity_events(event_kinds, event_identities, event_others, event_contacts);
  END IF;

  UPDATE processed_data.unified_contacts AS c SET identity_id = m.identity_id
  FROM unnest(write_identities.records, write_identities.identities) AS m (record, identity_id)
  WHERE c.id = m.record AND c.identity_id IS DISTINCT FROM m.identity_id;
END
$$;
COMMENT ON FUNCTION sophia.write_identities(text[], text[], bigint[], bigint[]) IS
  'internal: writes what became of identities and of the records in them; touched are the identities concerned, NULL = all';

CREATE FUNCTION sophia.write_identity_links(affected text[], records text[], kinds text[], evidences text[], qualifiers text[],
  rules text[], confidences real[], states text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
  IF EXISTS (SELECT FROM processed_data.identity_links) THEN
    DELETE FROM processed_data.identity_links AS l
    WHERE (affected IS NULL OR l.contact_id = ANY (affected)) AND NOT EXISTS (
      SELECT FROM unnest(records, kinds, evidences, rules) AS e (record, kind, value, rule)
      WHERE e.record = l.contact_id AND e.kind = l.kind AND e.value = l.evidence AND e.rule <> '');
    INSERT INTO processed_data.identity_links AS l
      (contact_id, kind, evidence, qualifier, identity_id, rule, confidence, status, created_at)
    SELECT e.record, e.kind, e.value, e.qualifier, c.identity_id, e.rule, e.confidence, e.status, now()
    FROM unnest(records, kinds, evidences, qualifiers, rules, confidences, states)
      AS e (record, kind, value, qualifier, rule, confidence, status)
    JOIN processed_data.unified_contacts AS c ON c.id = e.record
    LEFT JOIN processed_data.identity_links AS t ON t.contact_id = e.record AND t.kind = e.kind AND t.evidence = e.value
    WHERE e.rule <> '' AND (t.contact_id IS NULL OR (t.qualifier, t.identity_id, t.rule, t.confidence, t.status)
      IS DISTINCT FROM (e.qualifier, c.identity_id, e.rule, e.confidence, e.status))
    ON CONFLICT (contact_id, kind, evidence) DO UPDATE SET
      (qualifier, identity_id, rule, confidence, status) =
      ROW (excluded.qualifier, excluded.identity_id, excluded.rule, excluded.confidence, excluded.status);
  ELSE
    INSERT INTO processed_data.identity_links
      (contact_id, kind, evidence, qualifier, identity_id, rule, confidence, status, created_at)
    SELECT e.record, e.kind, e.value, e.qualifier, c.identity_id, e.rule, e.confidence, e.status, now()
    FROM unnest(records, kinds, evidences, qualifiers, rules, confidences, states)
      AS e (record, kind, value, qualifier, rule, confidence, status)
    JOIN processed_data.unified_contacts AS c ON c.id = e.record
    WHERE e.rule <> '';
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.write_identity_links(text[], text[], text[], text[], text[], text[], real[], text[]) IS
  'internal: makes the links of the affected records (NULL = of all) as wanted';

CREATE FUNCTION sophia.resolve_records(records text[]) RETURNS bigint[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET work_mem = '128MB'
-- The few rows of an ordinary run are to be found by index, not by a scan that seems as cheap.
SET random_page_cost = 1.1
SET jit = off
AS $$
DECLARE
  affected text[];
  hot_kinds text[] := '{}';
  hot_values text[] := '{}';
  edges record;
  assigned record;
  settled bigint[];
  touched bigint[];
BEGIN
  IF to_regclass('processed_data.unified_contacts') IS NULL OR to_regclass('processed_data.identities') IS NULL
    OR to_regclass('processed_data.identity_links') IS NULL OR to_regclass('processed_data.contacts') IS NULL THEN
    RAISE EXCEPTION 'the tables of processed_data do not exist'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call sophia.create_schemas() first.';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('sophia_stack.refresh', 0));
  IF records IS NOT NULL THEN
    PERFORM set_config('random_page_cost', '0.1', true);
    SELECT * INTO affected, hot_kinds, hot_values FROM sophia.affected_records(records);
  ELSIF sophia.are_all_new() THEN
    PERFORM sophia.fill_identities();
    RETURN NULL;
  END IF;
  SELECT array_agg(e.record) AS records, array_agg(e.kind) AS kinds, array_agg(e.value) AS evidence, array_agg(e.qualifier) AS qualifiers,
    array_agg(e.rule) AS rules, array_agg(e.confidence) AS confidences, array_agg(e.status) AS states,
    array_agg(e.component) AS components
  INTO edges
  FROM sophia.identity_edges(affected, hot_kinds, hot_values, true) AS e;
  settled := sophia.settle_heirs(affected, edges.records, edges.kinds, edges.evidence);
  assigned := sophia.assign_identities(edges.records, edges.components, edges.rules);
  touched := sophia.write_identities(affected, assigned.records, assigned.identities, settled);
  PERFORM sophia.write_identity_links(affected, edges.records, edges.kinds, edges.evidence, edges.qualifiers, edges.rules,
    edges.confidences, edges.states);
  RETURN touched;
END
$$;
COMMENT ON FUNCTION sophia.resolve_records(text[]) IS
  'internal: decides which records are one person, for those connected with these (NULL = all), and writes identities and identity_links; returns the identities concerned, NULL = all';

CREATE FUNCTION sophia.resolve_people(records text[], renewed bigint[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET work_mem = '128MB'
SET random_page_cost = 1.1
SET jit = off
AS $$
DECLARE
  started_at CONSTANT timestamptz := clock_timestamp();
  mode CONSTANT text := CASE WHEN records IS NULL THEN 'full' ELSE 'incremental' END;
  touched bigint[];
  written record;
BEGIN
  IF records IS DISTINCT FROM '{}' THEN
    touched := sophia.resolve_records(records);
  END IF;
  IF records IS NOT NULL THEN
    PERFORM set_config('random_page_cost', '0.1', true);
    touched := ARRAY(SELECT DISTINCT u.id FROM unnest(touched || renewed) AS u (id));
  END IF;
  written := sophia.write_golden(touched);
  PERFORM sophia.log_refresh('contacts', mode, mode, NULL, started_at, written.rows_inserted, written.rows_updated,
    written.rows_deleted);
END
$$;
COMMENT ON FUNCTION sophia.resolve_people(text[], bigint[]) IS
  'internal: resolve_records, and the golden records of the identities concerned and of those of which only values changed';

CREATE FUNCTION sophia.resolve_identities(records text[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF records IS DISTINCT FROM '{}' THEN
    PERFORM sophia.resolve_people(records, '{}');
  END IF;
END
$$;
COMMENT ON FUNCTION sophia.resolve_identities(text[]) IS
  'decides which source records are one person and writes identities, identity_links and contacts; records = unified_contacts.id of what changed, deleted ones included; NULL = everything';
