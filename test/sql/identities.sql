-- People: which records are one person, what keeps them apart, decisions, and what can be asked about it all.
SET client_min_messages = warning;
\set VERBOSITY terse
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
TRUNCATE sophia.identity_events, sophia.identity_decisions, sophia.identifier_limits;
ALTER SEQUENCE sophia.identity_ids RESTART;
ALTER SEQUENCE sophia.identity_events_event_seq RESTART;
RESET client_min_messages;
SELECT sophia.resolve_id(1);
SELECT sophia.resolve_identities();
SELECT count(*) > 0 AS made FROM sophia.create_schemas();

-- Rules: a set of addresses, a staff alias, phone and last name, Gong's context, a merge; role addresses and names tell nothing.
INSERT INTO hubspot_raw.contacts (id, email, additional_emails, firstname, lastname, jobtitle, phone, createdate, merged_object_ids, doc) VALUES
  ('1', 'ann@acme.example', '{ann@home.example}', 'Ann', 'Lee', 'CTO', '+14155550100', '2024-01-01', NULL, '{}'),
  ('2', 'bob@acme.example', NULL, 'Bob', 'Lee', NULL, '+14155550101', '2024-01-02', NULL, '{}'),
  ('3', 'info@acme.example', NULL, 'Info', 'Desk', NULL, NULL, '2024-01-03', NULL, '{}'),
  ('4', 'test@test.com', NULL, 'Test', 'One', NULL, '+4989000000000', '2024-01-04', NULL, '{}'),
  ('5', 'old@five.example', NULL, 'Eve', 'Fox', NULL, NULL, '2024-01-05', NULL, '{}');
INSERT INTO slack_raw.users (id, email, real_name, first_name, last_name, phone, doc) VALUES
  ('U1', 'ann@home.example', 'Ann L.', 'Ann', 'Lee', NULL, '{}'), ('U2', NULL, 'bob lee', 'BOB', 'Lee', '+14155550101', '{}'),
  ('U3', 'info@acme.example', 'Info Man', 'Info', 'Man', NULL, '{}'), ('U4', 'test@test.com', 'Test Two', 'Test', 'Two', NULL, '{}'),
  ('U5', NULL, 'Zoe Lee', 'Zoe', 'Lee', '+14155550101', '{}'), ('U6', 'gus.alias@own.example', 'Gus', NULL, NULL, NULL, '{}');
INSERT INTO gong_raw.users (id, email, email_aliases, first_name, last_name, doc) VALUES
  ('g1', 'gus@own.example', '{gus.alias@own.example}', 'Gus', 'Own', '{}');
INSERT INTO gong_raw.calls (id, started, doc) VALUES ('c1', '2024-02-01', '{}');
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, email, name, hubspot_contact_id, doc) VALUES
  ('c1', 'p1', 1, 'evelyn@private.example', 'Evelyn Fox', '5', '{}'), ('c1', 'p2', 2, 'office@acme.example', 'Some Body', '1', '{}');
CALL sophia.refresh();
SELECT id, identity_id FROM processed_data.unified_contacts ORDER BY identity_id, id;
SELECT contact_id, kind, evidence, qualifier, identity_id, rule, confidence, status FROM processed_data.identity_links ORDER BY 1, 2, 3;
SELECT identity_id, full_name, job_title, email, all_emails, sources, record_ids, is_internal FROM processed_data.contacts ORDER BY 1;
SELECT identity_id, status, merged_into, size, primary_contact_id FROM processed_data.identities ORDER BY 1;
SELECT * FROM sophia.explain_identity('slack_U1', 'hubspot_1');
SELECT count(*) FROM sophia.explain_identity('slack_U3', 'hubspot_3');
SELECT count(*) FROM sophia.verify_identities();

-- A source change parts what it had joined, and brings it together again under the old number.
UPDATE slack_raw.users SET email = 'somebody@else.example' WHERE id = 'U1';
CALL sophia.refresh();
SELECT id, identity_id FROM processed_data.unified_contacts WHERE id IN ('hubspot_1', 'slack_U1') ORDER BY id;
UPDATE slack_raw.users SET email = 'ann@home.example' WHERE id = 'U1';
CALL sophia.refresh();
SELECT id, identity_id FROM processed_data.unified_contacts WHERE id IN ('hubspot_1', 'slack_U1') ORDER BY id;
-- A HubSpot merge: the survivor takes the numbers over.
INSERT INTO hubspot_raw.contacts (id, email, merged_object_ids, doc) VALUES ('100', 'both@acme.example', '{2,5}', '{}');
CALL sophia.refresh();
SELECT id, identity_id FROM processed_data.unified_contacts WHERE id IN ('hubspot_2', 'hubspot_5', 'hubspot_100', 'slack_U2') ORDER BY id;
SELECT identity_id, status, merged_into, primary_contact_id, heir_contact_id FROM processed_data.identities
WHERE primary_contact_id IN ('hubspot_2', 'hubspot_5') ORDER BY 1;
UPDATE hubspot_raw.contacts SET merged_object_ids = NULL WHERE id = '100';
CALL sophia.refresh();
SELECT identity_id, status, merged_into, primary_contact_id, heir_contact_id FROM processed_data.identities
WHERE primary_contact_id IN ('hubspot_2', 'hubspot_5', 'hubspot_100') ORDER BY 1;
SELECT count(*) FROM sophia.verify_identities();

-- Decisions.
SELECT c.identity_id AS ann FROM processed_data.unified_contacts AS c WHERE id = 'hubspot_1' \gset
SELECT c.identity_id AS bob FROM processed_data.unified_contacts AS c WHERE id = 'hubspot_2' \gset
SELECT sophia.unlink('slack_U1', 'hubspot_1') AS unlinked \gset
SELECT id, identity_id <> :ann AS apart FROM processed_data.unified_contacts WHERE id = 'slack_U1';
CALL sophia.refresh('full');
SELECT id, identity_id <> :ann AS apart FROM processed_data.unified_contacts WHERE id = 'slack_U1';
SELECT sophia.link('slack_U1', 'hubspot_1') AS linked \gset
SELECT id, identity_id = :ann AS together FROM processed_data.unified_contacts WHERE id = 'slack_U1';
SELECT sophia.undo(:linked) > :linked AS undone;
SELECT id, identity_id <> :ann AS apart FROM processed_data.unified_contacts WHERE id = 'slack_U1';
SELECT sophia.undo(:linked);
SELECT sophia.undo(:unlinked) > :unlinked AS undone;
SELECT id, identity_id = :ann AS together FROM processed_data.unified_contacts WHERE id = 'slack_U1';
SELECT sophia.merge_contacts(:bob, :ann) AS merged \gset
SELECT sophia.resolve_id(:ann) = :bob AS kept, record_ids FROM processed_data.contacts WHERE identity_id = :bob;
SELECT step, from_record, to_record, rule FROM sophia.explain_identity('slack_U1', 'slack_U2');
SELECT sophia.split_contact(:ann, '{hubspot_2,slack_U2}') AS split \gset
SELECT identity_id = :bob AS kept, record_ids FROM processed_data.contacts WHERE record_ids && '{hubspot_1,hubspot_2}' ORDER BY record_ids;
SELECT sophia.undo(:split) > 0 AS undone;
SELECT sophia.undo(:merged) > 0 AS undone;
SELECT identity_id = CASE WHEN 'hubspot_1' = ANY (record_ids) THEN :ann ELSE :bob END AS restored, record_ids FROM processed_data.contacts
WHERE record_ids && '{hubspot_1,hubspot_2}' ORDER BY record_ids;
SELECT kind, decision, count(*) FROM sophia.identity_history(:ann) GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM sophia.verify_identities();
-- Decisions that contradict each other.
BEGIN;
SELECT sophia.unlink('slack_U3', 'slack_U4') > 0 AS ok, sophia.link('slack_U3', 'slack_U5') > 0 AS ok;
SELECT sophia.link('slack_U4', 'slack_U5');
ROLLBACK;

-- Guards.
SELECT sophia.block_value('email', 'Ann@Home.example', 'shared');
SELECT id, identity_id = :ann AS together FROM processed_data.unified_contacts WHERE id = 'slack_U1';
CALL sophia.refresh();
SELECT id, identity_id = :ann AS together FROM processed_data.unified_contacts WHERE id = 'slack_U1';
SELECT change, other_identity_id = :ann AS ann, contact_id FROM sophia.preview_rules('{"unblock": [{"kind": "email", "value": "ann@home.example"}, {"kind": "email", "value": "info@*"}]}')
ORDER BY 1, 3 NULLS FIRST;
SELECT sophia.unblock_value('email', 'ann@home.example'), sophia.unblock_value('email', 'info@acme.example');
CALL sophia.refresh();
SELECT id, identity_id FROM processed_data.unified_contacts WHERE id IN ('hubspot_1', 'slack_U1', 'hubspot_3', 'slack_U3') ORDER BY identity_id, id;
SELECT sophia.set_identifier_limits('email', 2);
INSERT INTO slack_raw.users (id, email, real_name, doc) VALUES ('U7', 'bob@acme.example', 'Bob', '{}'), ('U8', 'bob@acme.example', 'Bob', '{}');
CALL sophia.refresh();
SELECT kind, value, blocked_by, reason, records, automatic FROM sophia.blocked_identifiers WHERE blocked_by <> 'shipped list' ORDER BY 1, 2;
SELECT count(DISTINCT identity_id) FROM processed_data.unified_contacts WHERE email_norm = 'bob@acme.example';
DELETE FROM slack_raw.users WHERE id = 'U8';
CALL sophia.refresh();
SELECT count(DISTINCT identity_id) FROM processed_data.unified_contacts WHERE email_norm = 'bob@acme.example';
SELECT kind, max_records, max_values, enabled FROM sophia.identifier_kinds ORDER BY priority;
SELECT count(*) FROM sophia.verify_identities();

-- An alias of several colleagues is nobody's, until one of them gives it up; one colleague may be a user twice.
SELECT sophia.set_identifier_limits('email');
INSERT INTO hubspot_raw.contacts (id, email, firstname, lastname, doc) VALUES
  ('201', 'j.own@own.example', 'Jo', 'Own', '{}'), ('202', 'left@own.example', 'Lea', 'Left', '{}');
INSERT INTO gong_raw.users (id, email, email_aliases, first_name, last_name, doc) VALUES
  ('j1', 'jo.own@own.example', '{j.own@own.example}', 'Jo', 'Own', '{}'),
  ('l1', 'left@own.example', NULL, 'Lea', 'Left', '{}');
CALL sophia.refresh();
SELECT array_agg(id ORDER BY id) FROM processed_data.unified_contacts WHERE id ~ 'j[12]|l[12]|20[12]' GROUP BY identity_id ORDER BY 1;
INSERT INTO gong_raw.users (id, email, email_aliases, first_name, last_name, doc) VALUES
  ('j2', 'jia.own@own.example', '{j.own@own.example,left@own.example}', 'Jia', 'Own', '{}'),
  ('l2', 'lea@own.example', '{left@own.example}', 'LEA', 'Left', '{}');
CALL sophia.refresh();
SELECT array_agg(id ORDER BY id) FROM processed_data.unified_contacts WHERE id ~ 'j[12]|l[12]|20[12]' GROUP BY identity_id ORDER BY 1;
SELECT contact_id, evidence, rule, status FROM processed_data.identity_links WHERE contact_id ~ 'j[12]|l[12]' ORDER BY 1, 2;
SELECT kind, value, blocked_by, reason, records, automatic FROM sophia.blocked_identifiers WHERE blocked_by = 'several users' ORDER BY 1, 2;
SELECT count(*) FROM sophia.verify_identities();
BEGIN;
SELECT sophia.unblock_value('email', 'j.own@own.example');
CALL sophia.refresh();
SELECT array_agg(id ORDER BY id) FROM processed_data.unified_contacts WHERE id ~ 'j[12]' GROUP BY identity_id;
ROLLBACK;
-- That Gong knows a colleague as a HubSpot contact tells nothing of that contact.
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, user_id, hubspot_contact_id, doc) VALUES ('c1', 'p3', 3, 'g1', '202', '{}');
UPDATE gong_raw.users SET email_aliases = NULL WHERE id = 'j2';
CALL sophia.refresh();
SELECT array_agg(id ORDER BY id) FROM processed_data.unified_contacts WHERE id ~ 'j[12]|l[12]|20[12]' GROUP BY identity_id ORDER BY 1;
SELECT count(*) FROM sophia.verify_identities();

-- What a match rule that is added, changed or dropped would do; guards along with it.
INSERT INTO hubspot_raw.contacts (id, email, firstname, lastname, doc) VALUES
  ('301', 'zoe@a.example', 'Zoe', 'Zimmer', '{}'), ('302', 'zoe@b.example', 'Zoe', 'Zimmer', '{}'), ('303', 'zoe@c.example', 'Zoe', 'Zimmer', '{}');
CALL sophia.refresh();
\set names '{"match": [{"rule": "names", "blocking": ["full_name"], "comparisons": [{"expr": "full_name", "method": "exact", "levels": [{"at": 1, "weight": 3}]}], "review_at": 1, "link_at": 2}]}'
SET client_min_messages = warning;
SELECT change, contact_id FROM sophia.preview_rules(:'names') WHERE contact_id LIKE 'hubspot\_30%' OR contact_id IS NULL;
SELECT * FROM sophia.preview_churn(:'names');
SELECT count(*) FROM sophia.match_rules;
SELECT sophia.add_match_rule('names', 'processed_data.unified_contacts', 'id', '{full_name}',
  '[{"expr": "full_name", "method": "exact", "levels": [{"at": 1, "weight": 3}]}]', 1, 2);
SELECT * FROM sophia.preview_churn('{"block": [{"kind": "email", "value": "zoe@*"}]}');
CALL sophia.match_records('processed_data.unified_contacts');
CALL sophia.refresh();
SELECT * FROM sophia.preview_churn(:'names');
SELECT change, contact_id FROM sophia.preview_rules(jsonb_set(:'names', '{match,0,link_at}', 'null'));
SELECT change, contact_id FROM sophia.preview_rules('{"drop_match": ["names"]}');
SELECT * FROM sophia.preview_churn('{"drop_match": ["names"]}');
SELECT record_ids FROM processed_data.contacts WHERE last_name = 'Zimmer';
SELECT rule, link_at FROM sophia.match_rules;
SELECT sophia.drop_match_rule('names');
CALL sophia.refresh();
RESET client_min_messages;
SELECT count(*) FROM sophia.verify_identities();
SELECT sophia.preview_rules('{"drop_match": ["names"]}');
SELECT sophia.preview_rules('{"match": [{"name": "names"}]}');
SELECT sophia.preview_churn('{"match": [{"rule": "names", "blocking": ["no_column"], "comparisons": [{"expr": "id", "method": "exact", "levels": [{"at": 1, "weight": 3}]}], "review_at": 1}]}');
SELECT sophia.preview_churn(NULL);

-- The golden record.
SELECT field, value, rule, record, source_table, source_key FROM sophia.field_provenance(:ann) WHERE value IS NOT NULL;
SELECT sophia.set_survivorship('full_name', '{slack,hubspot}');
SELECT full_name FROM processed_data.contacts WHERE identity_id = :ann;
SELECT sophia.set_survivorship('full_name', NULL);
SELECT full_name FROM processed_data.contacts WHERE identity_id = :ann;
-- A name is of one record where one has all of it.
BEGIN;
UPDATE hubspot_raw.contacts SET firstname = 'Anna', lastname = NULL WHERE id = '1';
CALL sophia.refresh('full');
SELECT first_name, last_name, full_name FROM processed_data.contacts WHERE identity_id = :ann;
SELECT field, record FROM sophia.field_provenance(:ann) WHERE field LIKE '%name' ORDER BY field;
UPDATE slack_raw.users SET first_name = NULL WHERE id = 'U1';
CALL sophia.refresh('full');
SELECT first_name, last_name, full_name FROM processed_data.contacts WHERE identity_id = :ann;
ROLLBACK;

-- A run that finds nothing writes nothing.
CREATE TEMP TABLE before AS SELECT identity_id, xmin AS writer FROM processed_data.contacts;
CALL sophia.refresh('full');
SELECT count(*) FROM processed_data.contacts AS t JOIN before AS b USING (identity_id) WHERE t.xmin <> b.writer;

-- What is refused.
SELECT sophia.link(NULL, 'hubspot_1');
SELECT sophia.link('hubspot_1', 'hubspot_1');
SELECT sophia.link('hubspot_1', 'nobody');
SELECT sophia.unlink('hubspot_1', NULL);
SELECT sophia.explain_identity('hubspot_1', 'nobody');
SELECT sophia.merge_contacts(:ann, :ann);
SELECT sophia.merge_contacts(:ann, NULL);
SELECT sophia.split_contact(:ann, '{}');
SELECT sophia.split_contact(:ann, '{hubspot_2}');
SELECT sophia.split_contact(:ann, NULL);
SELECT sophia.undo(NULL);
SELECT sophia.undo(99999);
SELECT sophia.resolve_id(NULL);
SELECT sophia.resolve_id(99999);
SELECT sophia.block_value('shoe size', '42');
SELECT sophia.block_value('email', '*');
SELECT sophia.set_identifier_limits('email', 0);
SELECT sophia.set_survivorship('colour', '{slack}');
SELECT sophia.set_survivorship('email', '{slack,fax}');
SELECT sophia.preview_rules('[]');
SET client_min_messages = warning;
TRUNCATE sophia.identity_events, sophia.identity_decisions, sophia.identifier_limits;
DELETE FROM sophia.blocked_values WHERE NOT builtin;
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
