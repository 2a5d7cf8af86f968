-- interaction_timeline and interaction_participants: HubSpot engagements, Gong calls, Slack messages.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set VERBOSITY terse
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
TRUNCATE sophia.refresh_log;
SELECT count(*) > 0 AS made FROM sophia.create_schemas();

-- People: staff Gus (Gong, Slack, owner 90), customers Ann (10 was merged into 1) and Cay.
INSERT INTO hubspot_raw.owners (id, email, first_name, last_name, doc) VALUES
  ('90', 'gus@own.example', 'Gus', 'Guide', '{}'), ('91', 'ivy@own.example', 'Ivy', NULL, '{}');
INSERT INTO hubspot_raw.contacts (id, email, additional_emails, firstname, lastname, merged_object_ids, doc) VALUES
  ('1', 'ann@acme.example', '{ann@home.example}', 'Ann', 'Lee', '{10}', '{}'), ('10', 'old@acme.example', NULL, 'Ann', 'Old', NULL, '{}'),
  ('2', 'cay@acme.example', NULL, 'Cay', 'Dee', NULL, '{}'), ('3', 'gus@own.example', NULL, 'Gus', 'Guide', NULL, '{}');
INSERT INTO gong_raw.users (id, email, first_name, last_name, doc) VALUES ('501', 'gus@own.example', 'Gus', 'Guide', '{}');
INSERT INTO slack_raw.users (id, team_id, name, real_name, email, is_bot, doc) VALUES
  ('U1', 'T1', 'gus', 'Gus Guide', 'gus@own.example', false, '{}'), ('U2', 'T1', 'ivy', 'Ivy', NULL, false, '{}'),
  ('U3', 'T2', 'ann', 'Ann Lee', NULL, false, '{}'), ('UB', 'T1', 'buildbot', 'Build Bot', NULL, true, '{}');
INSERT INTO slack_raw.channels (id, name, is_private, is_ext_shared, doc) VALUES
  ('C1', 'general', false, false, '{}'), ('C2', 'secret', true, false, '{}'), ('C3', 'acme', false, true, '{}');

INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, ended_at, subject, body_html, body_text, body_preview, direction, duration_ms,
    from_email, to_emails, cc_emails, bcc_emails, thread_id, ical_uid, owner_id, contact_ids, company_ids, deal_ids, createdate, url, doc) VALUES
  ('100', 'EMAIL', '2024-05-01 10:00', NULL, 'Offer', NULL, E'Dear Ann,\nhere it is', NULL, NULL, NULL, 'Gus <GUS@own.example>',
    '{ann@home.example,stranger@x.example,ann@home.example}', '{cay@acme.example}', '{not an address}', 'th1', NULL, '90', '{1,10,1,2,77}', '{700,701}', '{800}',
    '2024-05-01 10:01', 'https://h/100', '{}'),
  ('101', 'INCOMING_EMAIL', '2024-05-02', NULL, 'Re: Offer', '<p>Yes</p><script>x</script>', NULL, ' Yes  please ', 'INCOMING_EMAIL', NULL,
    'old@acme.example', '{gus@own.example}', NULL, NULL, 'th1', NULL, '90', NULL, NULL, NULL, NULL, NULL, '{}'),
  ('102', 'FORWARDED_EMAIL', '2024-05-03', NULL, NULL, NULL, NULL, NULL, 'FORWARDED_EMAIL', NULL, 'cay@acme.example', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}'),
  ('103', 'CALL', '2024-05-04', NULL, 'Hello', NULL, NULL, NULL, 'OUTBOUND', 61500, NULL, NULL, NULL, NULL, NULL, NULL, '90', '{10}', NULL, NULL, NULL, NULL, '{}'),
  ('104', 'CALL', '2024-05-05', NULL, NULL, NULL, NULL, NULL, 'INBOUND', 9223372036854775807, NULL, NULL, NULL, NULL, NULL, NULL, '91', '{2}', NULL, NULL, NULL, NULL, '{}'),
  ('105', 'MEETING', '2024-05-06 10:00', '2024-05-06 10:30', 'Demo', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'ical-1', '90', '{2}', NULL, NULL, NULL, NULL,
    '{"properties": {"hs_attendee_owner_ids": "90;91;404"}}'),
  ('106', 'MEETING', '2024-05-13 10:00', '2024-05-13 10:30', 'Demo, a week later', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'ical-1', '90', NULL, NULL, NULL, NULL, NULL, '{}'),
  ('107', 'NOTE', '2024-05-07', NULL, NULL, '<div>a<br>b</div>', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '90', '{3}', NULL, NULL, NULL, NULL, '{}'),
  ('108', 'TASK', NULL, NULL, 'Call back', NULL, repeat('word ', 100), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2024-05-08', NULL, '{}'),
  ('109', 'CONVERSATION_SESSION', 'infinity', '2024-05-08', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}'),
  ('110', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '[]');
UPDATE hubspot_raw.engagements SET is_deleted = true WHERE id = '102';

INSERT INTO gong_raw.calls (id, title, url, started, scheduled, duration_s, direction, scope, system, primary_user_id, is_private, calendar_event_id, brief, doc) VALUES
  ('c1', 'Demo', 'https://g/c1', '2024-05-06 10:05', '2024-05-06 10:00', 1500, 'Conference', 'External', 'Zoom', '501', false, 'ical-1', 'They liked it.',
    '{"context": [{"system": "HubSpot", "objects": [{"objectType": "Account", "objectId": 700}, {"objectType": "Opportunity", "objectId": "800"}]}]}'),
  ('c2', 'Salaries', 'https://g/c2', NULL, '2024-05-07', NULL, 'Inbound', 'Unknown', NULL, '501', true, NULL, 'Private brief', '{}'),
  ('c3', 'Standup', NULL, '2024-05-08', NULL, 600, 'Conference', 'Internal', NULL, '501', NULL, NULL, NULL, '{}'),
  ('c4', 'Deleted', NULL, '2024-05-09', NULL, 600, 'Outbound', NULL, NULL, '404', NULL, NULL, NULL, '{}');
UPDATE gong_raw.calls SET is_deleted = true WHERE id = 'c4';
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, speaker_id, user_id, email, email_norm, name, phone, affiliation, hubspot_contact_id, doc) VALUES
  ('c1', 'p1', 1, 's1', '501', 'gus@own.example', 'gus@own.example', 'Gus', NULL, 'Internal', NULL, '{}'),
  ('c1', 'p2', 2, 's2', NULL, 'Ann@acme.example', 'ann@acme.example', 'Ann', NULL, 'External', '10', '{}'),
  ('c1', 'p3', 3, NULL, NULL, 'late@acme.example', 'late@acme.example', NULL, NULL, 'External', NULL, '{}'),
  ('c1', 'p4', 4, 's2', NULL, NULL, NULL, 'Ann''s phone', '+1 415 555 0100', 'Unknown', NULL, '{}'),
  ('c1', 'p5', 5, NULL, NULL, NULL, NULL, NULL, NULL, 'Unknown', '10', '{}'),
  ('c1', 'p6', 6, NULL, NULL, NULL, NULL, NULL, NULL, 'Unknown', NULL, '{}'),
  ('c2', 'p1', 1, 's1', NULL, NULL, NULL, 'Caller', NULL, 'External', NULL, '{}');
INSERT INTO gong_raw.call_transcripts (call_id, seq, speaker_id, start_ms, end_ms, text, sentiment, sentiment_score, doc) VALUES
  ('c1', 1, 's1', 0, 1200, 'Welcome', 'positive', 0.5, '{}'), ('c1', 2, 's2', 1200, 61700, 'Nice', 'positive', 0.9, '{}'), ('c1', 3, 's1', 61700, 65000, 'Bye', NULL, NULL, '{}'),
  ('c1', 4, 's9', 65000, 66000, 'Who is this', 'neutral', 0.1, '{}'), ('c2', 1, 's1', 0, 1000, 'a secret', NULL, NULL, '{}'),
  ('c3', 1, NULL, 0, 1000, 'Good morning', NULL, NULL, '{}'), ('c3', 2, 's1', 1000, NULL, 'Hello', NULL, NULL, '{}'), ('c3', 11, 's1', NULL, NULL, 'not in the opening', NULL, NULL, '{}');

INSERT INTO slack_raw.messages (channel, ts, user_id, text, subtype, thread_ts, sent_at, bot_id, username, team, permalink, doc) VALUES
  ('C1', '1715000000.000100', 'U1', 'Hi <@U2>, <@U9> and <@U2|ivy>: see <#C2> &amp; <https://x.example|this> &lt;@U3&gt;', NULL, NULL, to_timestamp(1715000000), NULL, NULL, 'T1', 'https://s/1', '{}'),
  ('C1', '1715000100.000200', 'U2', 'reply to <@U1>', NULL, '1715000000.000100', to_timestamp(1715000100), NULL, NULL, 'T1', NULL, '{}'),
  ('C1', '1715000200.000300', 'U2', 'joined', 'channel_join', NULL, to_timestamp(1715000200), NULL, NULL, 'T1', NULL, '{}'),
  ('C1', '1715000300.000400', NULL, 'build <#C1> green', 'bot_message', NULL, to_timestamp(1715000300), 'B1', 'CI', NULL, NULL, '{}'),
  ('C1', '1715000350.000400', 'UB', 'from a bot user', NULL, NULL, to_timestamp(1715000350), 'B1', NULL, 'T1', NULL, '{}'),
  ('C2', '1715000400.000500', 'U1', 'psst <@U2>', NULL, NULL, to_timestamp(1715000400), NULL, NULL, 'T1', NULL, '{}'),
  ('C3', '1715000500.000600', 'U3', 'hello from acme', NULL, NULL, to_timestamp(1715000500), NULL, NULL, 'T2', NULL, '{}'),
  ('C3', '1715000600.000700', 'U1', '', 'me_message', NULL, to_timestamp(1715000600), NULL, NULL, 'T1', NULL, '{}'),
  ('C9', '1715000700.000800', 'U9', NULL, 'file_share', '1715000600.000100', to_timestamp(1715000700), NULL, NULL, NULL, NULL, '{}');
UPDATE slack_raw.messages SET is_deleted = true WHERE ts = '1715000600.000700';

CALL sophia.refresh();
SELECT id, source_id, interaction_type AS type, direction, channel, channel_name, thread_key, contact_id, owner_contact_id
FROM processed_data.interaction_timeline ORDER BY id COLLATE "C";
SELECT id, occurred_at, ended_at, duration_seconds AS seconds, subject, body, snippet, is_private AS private, is_deleted AS deleted
FROM processed_data.interaction_timeline WHERE id <> 'hubspot_108' ORDER BY id COLLATE "C";
SELECT id, length(body), length(snippet), occurred_at FROM processed_data.interaction_timeline WHERE id = 'hubspot_108';
SELECT id, company_id, deal_id, sentiment, sentiment_score, source_url, duplicate_of, created_at, updated_at
FROM processed_data.interaction_timeline WHERE NOT (company_id, source_url, duplicate_of, sentiment) IS NULL OR updated_at IS NOT NULL ORDER BY id COLLATE "C";
SELECT interaction_id, ordinal, role, contact_id, email_norm, name, affiliation, speaker_id, talk_seconds
FROM processed_data.interaction_participants ORDER BY interaction_id COLLATE "C", ordinal;
SELECT call_id, seq, party_id FROM gong_raw.call_transcripts ORDER BY call_id, seq;
-- Every link leads somewhere.
SELECT count(*) FROM processed_data.interaction_participants AS p WHERE contact_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM processed_data.unified_contacts AS c WHERE c.id = p.contact_id);
SELECT count(*) FROM processed_data.interaction_timeline AS t WHERE (contact_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM processed_data.interaction_participants AS p WHERE p.interaction_id = t.id AND p.contact_id = t.contact_id));

-- Nothing changed: nothing is written.
CREATE TEMP TABLE before AS
SELECT 't' || id AS id, xmin AS writer, ctid AS place FROM processed_data.interaction_timeline
UNION ALL SELECT interaction_id || ':' || ordinal, xmin, ctid FROM processed_data.interaction_participants
UNION ALL SELECT call_id || ':' || seq, xmin, ctid FROM gong_raw.call_transcripts;
CALL sophia.refresh_interaction_timeline();
CALL sophia.refresh('full');
SELECT count(*) AS written FROM (
  SELECT 't' || id AS id, xmin AS writer, ctid AS place FROM processed_data.interaction_timeline
  UNION ALL SELECT interaction_id || ':' || ordinal, xmin, ctid FROM processed_data.interaction_participants
  UNION ALL SELECT call_id || ':' || seq, xmin, ctid FROM gong_raw.call_transcripts
  EXCEPT TABLE before) AS changed;
-- A row changes, one goes, one comes; participants alone change; a call becomes private.
UPDATE hubspot_raw.engagements SET subject = 'Goodbye' WHERE id = '103';
DELETE FROM hubspot_raw.engagements WHERE id = '104';
INSERT INTO hubspot_raw.engagements (id, engagement_type, contact_ids, doc) VALUES ('111', 'NOTE', '{2}', '{}');
UPDATE hubspot_raw.engagements SET cc_emails = NULL WHERE id = '100';
UPDATE gong_raw.calls SET is_private = true WHERE id = 'c1';
CALL sophia.refresh();
SELECT id, subject, body, snippet, contact_id FROM processed_data.interaction_timeline WHERE id IN ('hubspot_103', 'hubspot_104', 'hubspot_111', 'gong_c1') ORDER BY id;
SELECT interaction_id, ordinal, role, contact_id FROM processed_data.interaction_participants
WHERE interaction_id IN ('hubspot_100', 'hubspot_104', 'hubspot_111') ORDER BY 1, 2;
-- A merge rewrites the links to the contact that went.
UPDATE hubspot_raw.contacts SET merged_object_ids = '{1,10}' WHERE id = '2';
CALL sophia.refresh();
SELECT id, contact_id FROM processed_data.interaction_timeline WHERE contact_id LIKE 'hubspot%' ORDER BY id;
SELECT interaction_id, ordinal, role, contact_id FROM processed_data.interaction_participants WHERE interaction_id = 'hubspot_100' ORDER BY 1, 2;
SELECT target, rows_inserted, rows_updated, rows_deleted FROM sophia.refresh_log ORDER BY id;
-- Threads: replies name the message or e-mail that began, if the timeline shows it.
SELECT id, thread_key, parent_id FROM processed_data.interaction_timeline WHERE parent_id IS NOT NULL ORDER BY id COLLATE "C";
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, thread_id, doc) VALUES ('112', 'EMAIL', '2024-04-30', 'th1', '{}');
UPDATE slack_raw.messages SET subtype = 'channel_topic' WHERE ts = '1715000000.000100';
CALL sophia.refresh();
SELECT id, parent_id FROM processed_data.interaction_timeline WHERE thread_key IN ('th1', 'C1:1715000000.000100') ORDER BY id COLLATE "C";
-- Companies and deals: all of them, without repetition.
UPDATE hubspot_raw.engagements SET company_ids = '{701,700,701}', deal_ids = '{}' WHERE id = '100';
UPDATE gong_raw.calls SET doc = '{"context": [{"system": "HubSpot", "objects": [{"objectType": "Account", "objectId": 700}, {"objectType": "Company", "objectId": 702},
  {"objectType": "Deal", "objectId": "800"}]}, {"system": "Salesforce", "objects": [{"objectType": "Account", "objectId": "x"}]}]}' WHERE id = 'c1';
CALL sophia.refresh();
SELECT id, company_id, company_ids, deal_id, deal_ids FROM processed_data.interaction_timeline WHERE id IN ('hubspot_100', 'gong_c1') ORDER BY id;
-- Duplicates without a calendar: same host, within 15 minutes, and one of the same people besides the host.
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, owner_id, contact_ids, doc) VALUES
  ('200', 'MEETING', '2024-06-01 10:00', '90', '{2}', '{}'), ('201', 'MEETING', '2024-06-01 10:16', '90', '{2}', '{}'),
  ('202', 'MEETING', '2024-06-01 10:00', '91', '{2}', '{}'), ('203', 'MEETING', '2024-06-01 10:00', '90', '{3}', '{}'),
  ('204', 'CALL', '2024-06-01 10:00', '90', '{2}', '{}'), ('205', 'MEETING', '2024-06-01 10:00', '90', '{2}', '{}');
UPDATE hubspot_raw.engagements SET ical_uid = 'ical-7' WHERE id = '205';
INSERT INTO gong_raw.calls (id, started, primary_user_id, doc) VALUES ('c7', '2024-06-01 10:00:30', '501', '{}');
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, email, affiliation, doc) VALUES
  ('c7', 'p1', 1, 'gus@own.example', 'Internal', '{}'), ('c7', 'p2', 2, 'Cay@acme.example', 'External', '{}');
CALL sophia.refresh();
SELECT id, duplicate_of FROM processed_data.interaction_timeline WHERE id LIKE 'hubspot_20_' ORDER BY id;
-- The calendar outranks that; a call that moves, loses its people or goes takes the marks with it.
INSERT INTO gong_raw.calls (id, started, calendar_event_id, doc) VALUES ('c8', '2024-06-01 10:14', 'ical-7', '{}');
UPDATE gong_raw.calls SET started = '2024-06-01 10:15:30' WHERE id = 'c7';
CALL sophia.refresh();
SELECT id, duplicate_of FROM processed_data.interaction_timeline WHERE id LIKE 'hubspot_20_' ORDER BY id;
DELETE FROM gong_raw.call_parties WHERE call_id = 'c7' AND party_id = 'p2';
UPDATE gong_raw.calls SET is_deleted = true WHERE id = 'c8';
CALL sophia.refresh();
SELECT id, duplicate_of FROM processed_data.interaction_timeline WHERE id LIKE 'hubspot_20_' ORDER BY id;
-- Speakers of a call that has no transcript: how long Gong says that they spoke.
UPDATE gong_raw.calls SET doc = '{"interaction": {"speakers": [{"id": "s7", "talkTime": 12.4}, {"id": "s8", "talkTime": "?"}]}}' WHERE id = 'c7';
UPDATE gong_raw.call_parties SET speaker_id = 's7' WHERE call_id = 'c7';
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, speaker_id, name, doc) VALUES ('c7', 'p8', 8, 's8', 'Eve', '{}');
CALL sophia.refresh();
SELECT ordinal, role, contact_id, speaker_id, talk_seconds FROM processed_data.interaction_participants WHERE interaction_id = 'gong_c7' ORDER BY ordinal;
-- A private call tells neither what was said nor how; a transcript that comes weeks later counts.
SELECT id, is_private, body, sentiment, sentiment_score FROM processed_data.interaction_timeline WHERE id IN ('gong_c1', 'gong_c2') ORDER BY id;
INSERT INTO gong_raw.call_transcripts (call_id, seq, speaker_id, start_ms, end_ms, text, sentiment, doc) VALUES ('c7', 1, 's8', 0, 2000, 'I am Eve', 'neutral', '{}');
UPDATE gong_raw.calls SET is_private = false WHERE id = 'c1';
CALL sophia.refresh();
SELECT id, body, sentiment FROM processed_data.interaction_timeline WHERE id IN ('gong_c1', 'gong_c7') ORDER BY id;
SELECT party_id FROM gong_raw.call_transcripts WHERE call_id = 'c7';
-- What HubSpot erased for a person's sake keeps its place, and nothing else.
UPDATE hubspot_raw.engagements SET doc = '{"properties": {"hs_gdpr_deleted": "true"}}' WHERE id = '100';
CALL sophia.refresh();
SELECT id, occurred_at, subject, body, snippet, contact_id, company_ids, deal_ids, source_url, is_deleted FROM processed_data.interaction_timeline WHERE id = 'hubspot_100';
SELECT count(*) FROM processed_data.interaction_participants WHERE interaction_id = 'hubspot_100';
SELECT DISTINCT mode_used FROM sophia.refresh_log WHERE target = 'interaction_timeline' AND started_at > (SELECT max(started_at) FROM sophia.refresh_log WHERE mode = 'full');
-- Pages of a person: ties stay together, duplicates come once, deleted ones not at all, unknown times at the end.
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, contact_ids, doc) VALUES
  ('300', 'NOTE', '2024-07-02', '{2}', '{}'), ('301', 'NOTE', '2024-07-02', '{2}', '{}'), ('302', 'NOTE', '2024-07-02', '{2,2}', '{}'), ('303', 'NOTE', NULL, '{2}', '{}');
UPDATE hubspot_raw.engagements SET is_deleted = true WHERE id = '301';
CALL sophia.refresh();
SELECT identity_id AS cay FROM processed_data.unified_contacts WHERE id = 'hubspot_2' \gset
SELECT id, occurred_at, role FROM sophia.contact_timeline(:cay, max_rows => 1);
SELECT id, occurred_at, role FROM sophia.contact_timeline(:cay, '2024-07-02', 3);
SELECT count(*), count(DISTINCT id) FROM sophia.contact_timeline(:cay);
SELECT id, occurred_at FROM sophia.contact_timeline(:cay, '0001-01-01');
SELECT count(*) FROM sophia.contact_timeline(NULL);
SELECT count(*) FROM sophia.contact_timeline(-1);
SELECT count(*) FROM sophia.contact_timeline(:cay, max_rows => 0);
-- Who turned out to be a bot is told by name, until it goes.
INSERT INTO slack_raw.users (id, real_name, doc) VALUES ('UBOT', 'Robo', '{}');
CALL sophia.refresh();
UPDATE slack_raw.users SET is_bot = true WHERE id = 'UBOT';
CALL sophia.refresh();
INSERT INTO slack_raw.channels (id, name, doc) VALUES ('CBOT', 'old', '{}');
INSERT INTO slack_raw.messages (channel, ts, text, username, doc) VALUES ('CBOT', '1717200000.000100', 'ask <@UBOT>', 'ann', '{}');
CALL sophia.refresh();
SELECT body FROM processed_data.interaction_timeline WHERE channel = 'CBOT';
DELETE FROM slack_raw.users WHERE id = 'UBOT';
CALL sophia.refresh();
SELECT body FROM processed_data.interaction_timeline WHERE channel = 'CBOT';
-- What everything was recomputed with step by step is known to what comes after it.
UPDATE slack_raw.channels SET name = 'new' WHERE id = 'CBOT';
CALL sophia.refresh('full', max_rows => 1000000);
SELECT channel_name FROM processed_data.interaction_timeline WHERE channel = 'CBOT';
UPDATE slack_raw.channels SET name = 'old' WHERE id = 'CBOT';
CALL sophia.refresh();
SELECT channel_name FROM processed_data.interaction_timeline WHERE channel = 'CBOT';
-- A source that went is left alone.
DROP SCHEMA slack_raw CASCADE;
CALL sophia.refresh();
SELECT source_system, count(*) FROM processed_data.interaction_timeline GROUP BY 1 ORDER BY 1;
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS hubspot_raw, gong_raw, slack_raw, processed_data CASCADE;
