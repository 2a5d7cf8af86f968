-- unified_contacts: one row a source record, of HubSpot contacts, Gong users and outside parties, and people in Slack.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set VERBOSITY terse
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
TRUNCATE sophia.refresh_log;
RESET client_min_messages;

-- Needs the tables; the mode is checked.
CALL sophia.refresh_unified_contacts();
CALL sophia.refresh_unified_contacts('sometimes');
CALL sophia.refresh(NULL);

-- One source alone: the others are skipped.
SELECT count(*) > 0 AS made FROM sophia.create_schemas('{hubspot}');
INSERT INTO hubspot_raw.companies (id, name, domain, createdate, doc) VALUES
  ('700', 'Acme Inc', 'www.Acme.example', '2024-01-01', '{}'), ('701', 'Acme Copy', 'acme.example', '2024-02-01', '{}'),
  ('702', 'Mail', 'gmail.com', '2023-01-01', '{}'), ('703', NULL, 'nameless.example', '2023-01-01', '{}');
INSERT INTO hubspot_raw.owners (id, email, first_name, last_name, doc) VALUES
  ('90', 'Olga@Own.example', 'Olga', 'Owner', '{}'), ('91', 'contractor@gmail.com', 'Con', 'Tractor', '{}');
INSERT INTO hubspot_raw.contacts (id, email, additional_emails, firstname, lastname, company, jobtitle, phone, mobilephone,
    associated_company_id, owner_id, lifecyclestage, createdate, lastmodifieddate, source_updated_at, url, archived, doc) VALUES
  ('1', 'Ann.Lee@Acme.example', '{ann@home.example,ANN.LEE@acme.example,nonsense}', ' Ann ', 'Lee', 'acme', 'CTO', '+1 415 555 0100', NULL,
    '700', '90', 'lead', '2024-01-01', '2024-02-01', '2024-02-01', 'https://h/1', false, '{"id": 1, "_meta": {"uuid": "a"}}'),
  ('2', 'solo@gmail.com', NULL, NULL, 'unknown', 'Free Text GmbH', NULL, '', '0049 89 123456',
    NULL, NULL, NULL, '2024-01-02', '2024-01-02', NULL, NULL, NULL, '{}'),
  ('3', NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}'),
  ('4', 'olga@own.example', NULL, 'Olga', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}'),
  ('5', 'archived@acme.example', NULL, 'Old', 'One', NULL, NULL, NULL, NULL, '999', NULL, NULL, NULL, NULL, NULL, NULL, true, '{}');
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, contact_ids, doc) VALUES
  ('80', 'NOTE', '2024-03-01', '{1,1,2}', '{}'), ('81', 'CALL', '2024-04-01', '{1}', '{}'), ('82', 'TASK', '2030-01-01', '{1}', '{}');
CALL sophia.refresh_unified_contacts();
SELECT id, email, first_name, last_name, full_name, company_name, job_title, phone, phone_e164 FROM processed_data.unified_contacts ORDER BY id;
SELECT id, source_system, source_id, email_norm, email_domain, all_emails, is_internal AS int, is_deleted AS del, owner_id, lifecycle_stage AS stage,
  source_url FROM processed_data.unified_contacts ORDER BY id;
SELECT id, created_at, updated_at, source_updated_at, first_seen_at, last_seen_at, length(doc_hash) AS hash, identity_id IS NOT NULL AS resolved
FROM processed_data.unified_contacts ORDER BY id;
-- A second run finds nothing to do and writes nothing, nor does the transport of a document matter.
UPDATE hubspot_raw.contacts SET doc = '{"id": 1, "_meta": {"uuid": "b"}}' WHERE id = '1';
CREATE TEMP TABLE before AS SELECT id, xmin AS writer, ctid AS place FROM processed_data.unified_contacts;
CALL sophia.refresh_unified_contacts('full');
SELECT count(*) AS untouched FROM before JOIN processed_data.unified_contacts AS t USING (id)
WHERE before.writer = t.xmin AND before.place = t.ctid;
-- An update, a tombstone, a removed row.
UPDATE hubspot_raw.contacts SET jobtitle = 'CEO' WHERE id = '1';
UPDATE hubspot_raw.contacts SET is_deleted = true WHERE id = '2';
DELETE FROM hubspot_raw.contacts WHERE id = '3';
BEGIN;
CALL sophia.refresh_unified_contacts();
SELECT id, job_title, is_deleted FROM processed_data.unified_contacts WHERE id IN ('hubspot_1', 'hubspot_2', 'hubspot_3') ORDER BY id;
ROLLBACK;
CALL sophia.refresh_unified_contacts();
SELECT id, target, mode, mode_used, reason IS NULL AS as_asked, finished_at >= started_at AS timed, complete, rows_inserted, rows_updated, rows_deleted, error
FROM (SELECT row_number() OVER (ORDER BY l.id) AS id, target, mode, mode_used, reason, started_at, finished_at, complete, rows_inserted,
  rows_updated, rows_deleted, error FROM sophia.refresh_log AS l) AS l ORDER BY id;

-- Merges: a chain 10 -> 11 -> 12; a list of "id:time" pairs; a record merged into itself; a cycle 20, 21, 22; two survivors.
INSERT INTO hubspot_raw.contacts (id, email, merged_object_ids, calculated_merged_vids, doc) VALUES
  ('10', 'ten@acme.example', NULL, NULL, '{}'), ('11', 'eleven@acme.example', '{10}', NULL, '{}'),
  ('12', 'twelve@acme.example', NULL, '{11:1700000000000,12:1,x,"  999 "}', '{}'),
  ('20', 'c0@acme.example', '{22}', NULL, '{}'), ('21', 'c1@acme.example', '{20}', NULL, '{}'), ('22', 'c2@acme.example', '{21}', NULL, '{}'),
  ('30', 'fork@acme.example', NULL, NULL, '{}'), ('9', 'left@acme.example', '{30}', NULL, '{}'), ('31', 'right@acme.example', '{30}', NULL, '{}');
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, contact_ids, doc) VALUES ('83', 'NOTE', '2024-05-01', '{10}', '{}');
CREATE TEMP TABLE stamp AS SELECT id, changed_xid, ctid AS place FROM hubspot_raw.contacts;
CALL sophia.refresh_unified_contacts();
SELECT * FROM sophia.hubspot_aliases() ORDER BY id;
SELECT c.id, merged_into, c.changed_xid = s.changed_xid AS stamp_kept, c.ctid = s.place AS row_kept FROM hubspot_raw.contacts AS c
JOIN stamp AS s USING (id) WHERE id::int BETWEEN 9 AND 31 ORDER BY id::int;
SELECT id, email, all_emails, last_seen_at FROM processed_data.unified_contacts WHERE source_id::int BETWEEN 9 AND 31 ORDER BY id;
-- A merge that is taken back.
UPDATE hubspot_raw.contacts SET calculated_merged_vids = NULL WHERE id = '12';
CALL sophia.refresh_unified_contacts();
SELECT id, merged_into FROM hubspot_raw.contacts WHERE id IN ('10', '11', '12') ORDER BY id;
SELECT id FROM processed_data.unified_contacts WHERE source_id IN ('10', '11', '12') ORDER BY id;

-- Gong: users, and the parties that are none of them.
SELECT count(*) > 0 AS made FROM sophia.create_schemas();
INSERT INTO gong_raw.users (id, email, email_aliases, trusted_email, first_name, last_name, title, phone, active, created, source_published_at, doc) VALUES
  ('501', 'Gus@own.example', '{gus.old@own.example}', 'gus@trusted.example', 'Gus', 'Guide', 'AE', '+44 20 7946 0958', true, '2023-01-01', '2024-06-01', '{}'),
  ('502', 'left@own.example', NULL, NULL, 'Lea', 'Left', NULL, NULL, false, '2023-01-02', NULL, '{}');
INSERT INTO gong_raw.calls (id, started, scheduled, primary_user_id, doc) VALUES
  ('c1', '2024-06-01', NULL, '501', '{}'), ('c2', NULL, '2024-06-02', '501', '{}'), ('c3', '2024-06-03', NULL, NULL, '{}');
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, user_id, email, email_norm, name, title, phone, affiliation, doc) VALUES
  ('c1', 'p1', 1, '501', 'gus@own.example', 'gus@own.example', 'Gus', NULL, NULL, 'Internal', '{}'),
  ('c1', 'p2', 2, NULL, 'Ann.Lee@Acme.example', 'ann.lee@acme.example', 'Ann Lee', NULL, '+1 415 555 0199', 'External', '{"n": 1}'),
  ('c1', 'p3', 3, NULL, NULL, NULL, NULL, NULL, '+49 170 1234567', 'Unknown', '{}'),
  ('c1', 'p4', 4, NULL, NULL, NULL, 'Web Guest', NULL, NULL, 'Unknown', '{}'),
  ('c1', 'p5', 5, NULL, NULL, NULL, '', NULL, NULL, 'Unknown', '{}'),
  ('c2', 'p1', 1, NULL, 'gus.old@own.example', 'gus.old@own.example', 'Gus', NULL, NULL, 'Unknown', '{}'),
  ('c2', 'p2', 2, NULL, 'ann.lee@acme.example', 'ann.lee@acme.example', NULL, 'CTO', NULL, 'External', '{"n": 2}'),
  ('c2', 'p3', 3, NULL, 'new.hire@own.example', 'new.hire@own.example', 'Hire, New', NULL, NULL, 'Unknown', '{}'),
  ('c2', 'p4', 4, NULL, 'free@gmail.com', 'free@gmail.com', 'Free', NULL, NULL, 'External', '{}'),
  ('c3', 'p1', 1, NULL, 'gone@acme.example', 'gone@acme.example', 'Gone', NULL, NULL, 'External', '{}');
UPDATE gong_raw.calls SET is_deleted = true WHERE id = 'c3';

-- Slack: people only.
INSERT INTO slack_raw.users (id, team_id, name, real_name, display_name, first_name, last_name, email, title, phone, is_bot, is_app_user,
    is_restricted, deleted, updated_at, doc) VALUES
  ('U1', 'T1', 'ann', 'Ann Lee', 'annie', 'Ann', 'Lee', 'ann@own.example', 'Eng', '+49 89 1', false, false, false, false, '2024-01-01', '{}'),
  ('U2', 'T1', 'bob', NULL, 'bobby', NULL, NULL, NULL, NULL, NULL, NULL, NULL, true, true, NULL, '{}'),
  ('U3', 'T2', 'eve', 'Eve Else', NULL, NULL, NULL, NULL, NULL, NULL, false, false, false, false, NULL, '{}'),
  ('U4', 'T1', 'bot', 'Build Bot', NULL, NULL, NULL, NULL, NULL, NULL, true, false, false, false, NULL, '{}'),
  ('U5', 'T1', 'app', 'App', NULL, NULL, NULL, NULL, NULL, NULL, false, true, false, false, NULL, '{}'),
  ('USLACKBOT', 'T1', 'slackbot', 'Slackbot', NULL, NULL, NULL, NULL, NULL, NULL, false, false, false, false, NULL, '{}'),
  ('U6', 'T1', 'nameless', '', NULL, NULL, NULL, NULL, NULL, NULL, false, false, false, false, NULL, '{}');
INSERT INTO slack_raw.messages (channel, ts, user_id, sent_at, text, doc) VALUES
  ('C1', '1717200000.000100', 'U1', to_timestamp(1717200000), 'hi', '{}'), ('C1', '1717300000.000100', 'U1', to_timestamp(1717300000), 'ho', '{}');
CALL sophia.refresh_unified_contacts();
SELECT id, source_id, email, first_name, last_name, full_name, company_name, job_title, phone_e164, is_internal AS int, is_deleted AS del
FROM processed_data.unified_contacts WHERE source_system <> 'hubspot' ORDER BY id COLLATE "C";
SELECT id, created_at, updated_at, first_seen_at, last_seen_at, all_emails
FROM processed_data.unified_contacts WHERE source_system <> 'hubspot' ORDER BY id COLLATE "C";
-- A party turns out to be a colleague: its own row goes.
UPDATE gong_raw.users SET email_aliases = '{free@gmail.com}' WHERE id = '502';
CALL sophia.refresh_unified_contacts();
SELECT id FROM processed_data.unified_contacts WHERE email_norm = 'free@gmail.com';
CALL sophia.refresh_unified_contacts();
SELECT rows_inserted, rows_updated, rows_deleted FROM sophia.refresh_log ORDER BY id DESC LIMIT 3;
-- A party counts for the user that it names; while there is none, for the one whose address it has.
INSERT INTO gong_raw.calls (id, started, doc) VALUES ('c4', '2022-01-01', '{}');
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, user_id, email, doc) VALUES ('c4', 'p1', 1, '503', 'left@own.example', '{}');
CALL sophia.refresh_unified_contacts();
SELECT id, first_seen_at FROM processed_data.unified_contacts WHERE id IN ('gong_502', 'gong_503');
INSERT INTO gong_raw.users (id, email, first_name, doc) VALUES ('503', 'otto@own.example', 'Otto', '{}');
CALL sophia.refresh_unified_contacts();
SELECT id, first_seen_at FROM processed_data.unified_contacts WHERE id IN ('gong_502', 'gong_503') ORDER BY id;
-- A dry run counts and changes nothing; limits leave the rest to the next call.
UPDATE slack_raw.users SET title = 'Changed' WHERE id IN ('U1', 'U2', 'U3');
CALL sophia.refresh_unified_contacts('dry_run');
CALL sophia.refresh_unified_contacts(max_rows => 2);
CALL sophia.refresh_unified_contacts(time_budget => '1 h');
SELECT mode, mode_used, complete, rows_inserted, rows_updated, rows_deleted
FROM (SELECT * FROM sophia.refresh_log WHERE target = 'unified_contacts' ORDER BY id DESC LIMIT 3) AS l ORDER BY id;
SELECT count(*) AS differences FROM sophia.verify_refresh(1) WHERE target NOT LIKE 'interaction%';
CALL sophia.refresh_unified_contacts(max_rows => 0);
SELECT * FROM sophia.verify_refresh(2);
-- Bad values never stop a refresh.
INSERT INTO hubspot_raw.contacts (id, email, additional_emails, merged_object_ids, createdate, phone, doc) VALUES
  ('x''; --', '@@@', '{NULL,"",a@b@c}', '{NULL,"","99999999999999999999999999"}', 'infinity', repeat('9', 500), '[1, 2]'),
  ('', NULL, NULL, '{""}', '-infinity', NULL, '"text"');
CALL sophia.refresh_unified_contacts();
SELECT id, full_name, email_norm, phone_e164, created_at FROM processed_data.unified_contacts WHERE source_id IN ('x''; --', '') ORDER BY id;
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
