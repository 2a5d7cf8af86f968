-- Raw rows of three systems: with :scale = 1, 450 000 contacts of HubSpot, 150 000 users of Slack, and 100 000 records of
-- Gong (1000 users, 99 000 parties of calls), about 500 000 people; 100 000 engagements, 100 000 calls and 100 000
-- messages, two participants each.  Everything follows from the numbers of the rows.  One contact in fifty was merged into
-- the next; one in twenty has the domain of free mail; every person of Slack or Gong below a number is one of HubSpot, too.

SET synchronous_commit = off;
INSERT INTO hubspot_raw.companies (id, name, domain, createdate, doc)
SELECT n::text, 'Company ' || n, 'www.company' || n || '.example', '2020-01-01', jsonb_build_object('id', n)
FROM generate_series(1, (20000 * :scale)::int) AS n;

INSERT INTO hubspot_raw.owners (id, email, first_name, last_name, doc)
SELECT n::text, 'staff' || n || '@own.example', 'First' || n, 'Staff' || n, '{}' FROM generate_series(1, 200) AS n;

INSERT INTO hubspot_raw.contacts (id, email, additional_emails, firstname, lastname, company, jobtitle, phone, associated_company_id,
  owner_id, lifecyclestage, createdate, lastmodifieddate, merged_object_ids, url, source_updated_at, doc)
SELECT n::text, e.email, CASE WHEN n % 10 = 0 THEN ARRAY['other' || n || '@mail' || n % 1000 || '.example'] END,
  'First' || n % 5000, 'Last' || n, 'Typed ' || n % 7000, 'Title ' || n % 300,
  CASE WHEN n % 3 = 0 THEN '+1 415 ' || 2000000 + n % 7000000 END, (1 + n % ((20000 * :scale)::int))::text, (1 + n % 200)::text, 'lead',
  '2021-01-01'::timestamptz + n * interval '1 minute', '2024-01-01', CASE WHEN n % 50 = 0 THEN ARRAY[(n - 1)::text] END,
  'https://app.example/contacts/' || n, '2024-01-01',
  jsonb_build_object('id', n, 'properties', jsonb_build_object('email', e.email, 'firstname', 'First' || n % 5000,
    'lastname', 'Last' || n, 'jobtitle', 'Title ' || n % 300), '_meta', jsonb_build_object('uuid', md5(n::text)))
FROM generate_series(1, (450000 * :scale)::int) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 20 = 0 THEN 'person' || n || '@gmail.com'
  ELSE 'person' || n || '@company' || (1 + n % ((20000 * :scale)::int))::text || '.example' END AS email) AS e;

INSERT INTO gong_raw.users (id, email, first_name, last_name, active, created, doc)
SELECT 'g' || n, 'staff' || n || '@own.example', 'First' || n, 'Staff' || n, true, '2020-01-01', '{}' FROM generate_series(1, 1000) AS n;

INSERT INTO slack_raw.users (id, team_id, name, real_name, first_name, last_name, email, title, deleted, updated_at, doc)
SELECT 'U' || n, CASE WHEN n % 30 = 0 THEN 'T2' ELSE 'T1' END, 'nick' || n, 'First' || n % 5000 || ' Last' || n, 'First' || n % 5000, 'Last' || n,
  CASE WHEN n <= 1000 THEN 'staff' || n || '@own.example' WHEN n <= (120000 * :scale)::int THEN p.email ELSE 'slack' || n || '@elsewhere.example' END,
  'Title', false, '2024-01-01', jsonb_build_object('id', 'U' || n)
FROM generate_series(1, (150000 * :scale)::int) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 20 = 0 THEN 'person' || n || '@gmail.com'
  ELSE 'person' || n || '@company' || (1 + n % ((20000 * :scale)::int))::text || '.example' END AS email) AS p;

INSERT INTO slack_raw.channels (id, name, is_private, is_ext_shared, doc)
SELECT 'C' || n, 'room' || n, false, n % 10 = 0, '{}' FROM generate_series(0, 499) AS n;

-- Interactions are spread evenly over those who take part in them.
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, subject, body_text, direction, contact_ids, owner_id, createdate, doc)
SELECT n::text, (ARRAY['CALL', 'NOTE', 'MEETING'])[1 + n % 3], '2023-01-01'::timestamptz + n * interval '1 minute', 'About ' || n,
  'What was said in engagement ' || n, 'OUTBOUND', ARRAY[(1 + (n::bigint * 7) % ((450000 * :scale)::int))::text], (1 + n % 200)::text, '2023-01-01', jsonb_build_object('id', n)
FROM generate_series(1, (100000 * :scale)::int) AS n;

INSERT INTO gong_raw.calls (id, title, started, duration_s, direction, primary_user_id, has_parties, doc)
SELECT 'c' || n, 'Call ' || n, '2023-01-01'::timestamptz + n * interval '1 minute', 1800, 'Outbound', 'g' || 1 + n % 1000, true, jsonb_build_object('id', 'c' || n)
FROM generate_series(1, (100000 * :scale)::int) AS n;

INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, speaker_id, user_id, email, email_norm, name, affiliation, doc)
SELECT 'c' || n, 'p1', 1, 's1', 'g' || 1 + n % 1000, 'staff' || (1 + n % 1000)::text || '@own.example', 'staff' || (1 + n % 1000)::text || '@own.example', 'Staff', 'Internal', '{}'
FROM generate_series(1, (100000 * :scale)::int) AS n
UNION ALL
SELECT 'c' || n, 'p2', 2, 's2', NULL, e.email, e.email, 'First Last' || m, 'External', jsonb_build_object('id', m)
FROM generate_series(1, (100000 * :scale)::int) AS n
CROSS JOIN LATERAL (SELECT 1000 + n % ((99000 * :scale)::int) AS m) AS k
CROSS JOIN LATERAL (SELECT CASE WHEN m <= (80000 * :scale)::int THEN 'person' || m || '@company' || (1 + m % ((20000 * :scale)::int))::text || '.example'
  ELSE 'gong' || m || '@elsewhere.example' END AS email) AS e;

INSERT INTO slack_raw.messages (channel, ts, user_id, text, sent_at, doc)
SELECT 'C' || n % 500, (1700000000 + n) || '.000100', 'U' || 1 + n % ((150000 * :scale)::int), 'Message ' || n || ' for <@U' || (1 + (n + 1) % ((150000 * :scale)::int))::text || '>',
  to_timestamp(1700000000 + n), jsonb_build_object('ts', n)
FROM generate_series(1, (100000 * :scale)::int) AS n;
VACUUM ANALYZE;
