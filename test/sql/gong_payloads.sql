-- Responses of Gong's API, loaded as they are.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT count(*) > 0 FROM sophia.create_schemas('{gong}');
CREATE VIEW pg_temp.stamps AS
  SELECT 'calls' AS t, id, changed_xid::text FROM gong_raw.calls
  UNION ALL SELECT 'parties', call_id || party_id, changed_xid::text FROM gong_raw.call_parties
  UNION ALL SELECT 'transcripts', call_id || seq, changed_xid::text FROM gong_raw.call_transcripts;

-- A page of basic calls (GET /v2/calls), a single call (GET /v2/calls/{id}), none.
SELECT * FROM sophia.load_gong_calls('{"requestId": "r1", "records": {"totalRecords": 2, "currentPageSize": 2, "currentPageNumber": 0},
  "calls": [{"id": "7782342274025937895", "title": "Kick-off", "started": "2026-03-01T10:00:00Z", "duration": 460, "media": "Video", "primaryUserId": "234599484848423"},
            {"id": "99999999999999999999", "title": "Second", "isPrivate": true, "purpose": null}]}');
SELECT * FROM sophia.load_gong_calls('{"requestId": "r2", "call": {"id": "3", "title": "Single"}}');
SELECT * FROM sophia.load_gong_calls('{"requestId": "r3", "records": {}, "calls": []}');
SELECT id, title, started AT TIME ZONE 'UTC' AS started, duration_s, media, primary_user_id, is_private, has_parties, source_journal, source_offset,
       source_published_at > now() - interval '1 hour' AS published FROM gong_raw.calls ORDER BY id;

-- An extensive one (POST /v2/calls/extensive) adds to the basic one.
SELECT '{"requestId": "r4", "records": {"totalRecords": 1}, "calls": [{
  "metaData": {"id": "7782342274025937895", "title": "Kick-off!", "started": "2026-03-01T10:00:00Z", "duration": 461, "media": "Video", "system": "Zoom"},
  "context": [{"system": "HubSpot", "objects": [{"objectType": "Account", "objectId": "77"}]}],
  "parties": [
    {"id": "p1", "emailAddress": "Ann@Example.com", "name": "Ann", "userId": "234599484848423", "speakerId": "s1", "affiliation": "Internal", "methods": ["Invitee", "Attendee"]},
    {"id": "p2", "name": "Bo", "speakerId": "s2", "affiliation": "External", "phoneNumber": "+49 30 123456",
     "context": [{"system": "HubSpot", "objects": [{"objectType": "Contact", "objectId": "501"}]}]},
    {"name": "Cy"}],
  "content": {"brief": "A kick-off.", "topics": [{"name": "Pricing", "duration": 42}], "trackers": []},
  "media": {"audioUrl": "https://example.com/a", "videoUrl": "https://example.com/v"}}]}' AS extensive \gset
SELECT * FROM sophia.load_gong_calls(:'extensive');
SELECT title, duration_s, media, system, primary_user_id, has_parties, brief, topics, doc ? 'title' AS basic, doc ? 'metaData' AS extensive
  FROM gong_raw.calls WHERE id = '7782342274025937895';
SELECT party_id, ordinal, speaker_id, user_id, email, email_norm, name, phone, affiliation, methods, hubspot_contact_id
  FROM gong_raw.call_parties WHERE call_id = '7782342274025937895' ORDER BY ordinal;

-- The same again, in whatever wrapping, writes nothing.
SELECT array_agg(s ORDER BY t, id) AS before FROM pg_temp.stamps s \gset
SELECT * FROM sophia.load_gong_calls(:'extensive');
SELECT * FROM sophia.load_gong_calls(:'extensive'::jsonb #> '{calls,0}');
SELECT * FROM sophia.load_gong_calls(:'extensive'::jsonb -> 'calls');
SELECT * FROM sophia.load_gong_calls(jsonb_build_array(:'extensive'::jsonb, :'extensive'::jsonb #> '{calls,0}'));
SELECT array_agg(s ORDER BY t, id)::text = :'before' AS unchanged FROM pg_temp.stamps s;

-- Fewer parties; a basic call afterwards leaves them and what only the extensive one knows.
SELECT * FROM sophia.load_gong_calls(jsonb_set(:'extensive', '{calls,0,parties}', '[{"id": "p1", "name": "Ann B."}]'));
SELECT * FROM sophia.load_gong_calls('{"id": "7782342274025937895", "title": "Renamed"}');
SELECT title, duration_s, brief, (SELECT string_agg(name, ', ') FROM gong_raw.call_parties p WHERE p.call_id = c.id) AS parties
  FROM gong_raw.calls c WHERE id = '7782342274025937895';

-- Transcripts (POST /v2/calls/transcript).
SELECT '{"requestId": "r5", "records": {"totalRecords": 2}, "callTranscripts": [
  {"callId": "7782342274025937895", "transcript": [
    {"speakerId": "s1", "topic": "Intro", "sentences": [{"start": 460230, "end": 462343, "text": "No wait."}, {"start": 462400, "end": 463000, "text": "Hi."}]},
    {"speakerId": "s2", "topic": null, "sentences": [{"start": 463100, "end": 463200, "text": "Hello."}]}]},
  {"callId": "3", "transcript": []}]}' AS transcripts \gset
SELECT * FROM sophia.load_gong_transcripts(:'transcripts');
SELECT call_id, seq, speaker_id, topic, start_ms, end_ms, text FROM gong_raw.call_transcripts ORDER BY call_id, seq;
UPDATE gong_raw.call_transcripts SET sentiment = 'positive' WHERE seq = 2;
SELECT array_agg(s ORDER BY t, id) AS before FROM pg_temp.stamps s \gset
SELECT * FROM sophia.load_gong_transcripts(:'transcripts');
SELECT * FROM sophia.load_gong_transcripts(:'transcripts'::jsonb #> '{callTranscripts,0}');
SELECT array_agg(s ORDER BY t, id)::text = :'before' AS unchanged FROM pg_temp.stamps s;
SELECT * FROM sophia.load_gong_transcripts(jsonb_set(:'transcripts', '{callTranscripts,0,transcript}', '[{"speakerId": "s2", "sentences": [{"start": 1, "end": 2, "text": "Hello."}]}]'));
SELECT call_id, seq, speaker_id, text, sentiment FROM gong_raw.call_transcripts ORDER BY call_id, seq;

-- Pages that overlap: the later entry of a call says how it is; a response with one call, also among others.
BEGIN;
SELECT * FROM sophia.load_gong_calls('[{"calls": [{"id": "8", "title": "first", "parties": [{"id": "1", "name": "Ann"}]}, {"id": "8", "title": "second"}]},
  {"requestId": "2", "call": {"id": "8", "purpose": "third"}}]');
SELECT id, title, purpose FROM gong_raw.calls WHERE id = '8';
-- Times as ISO 8601, and in seconds as in the examples of Gong's documentation.
SELECT updated FROM sophia.load_gong_calls('{"calls": [{"metaData": {"id": "8", "started": 1518863400, "scheduled": "2018-02-17T02:30:00-08:00"}}]}');
SELECT started = scheduled AS equal, started AT TIME ZONE 'UTC' AS started FROM gong_raw.calls WHERE id = '8';
SELECT * FROM sophia.load_gong_transcripts('[{"callId": "8", "transcript": [{"speakerId": "1", "sentences": [{"start": 1, "end": 2, "text": "early"}]}]},
  {"callId": "8", "transcript": [{"speakerId": "1", "sentences": [{"start": 1, "end": 2, "text": "late"}]}]}]');
SELECT seq, text FROM gong_raw.call_transcripts WHERE call_id = '8';
ROLLBACK;

-- What is no such response, or holds something bad, is refused whole.
SELECT sophia.load_gong_calls(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT sophia.load_gong_calls('{}');
\echo :LAST_ERROR_SQLSTATE
SELECT sophia.load_gong_calls('"x"');
SELECT sophia.load_gong_calls('{"calls": {}}');
SELECT sophia.load_gong_calls(:'transcripts');
SELECT sophia.load_gong_calls('[{"id": "8"}, 1]');
SELECT sophia.load_gong_calls('{"calls": [{"id": "8"}, {"title": "nameless"}]}');
SELECT sophia.load_gong_calls('{"calls": [{"id": "8"}, 1]}');
SELECT sophia.load_gong_calls('{"calls": [{"id": "8"}, {"metaData": {"id": "9", "started": "soon"}}]}');
SELECT sophia.load_gong_calls('{"calls": [{"id": {"a": 1}}]}');
SELECT sophia.load_gong_calls('{"metaData": {"id": "9"}, "parties": "none"}');
SELECT sophia.load_gong_transcripts(NULL);
SELECT sophia.load_gong_transcripts('{"calls": []}');
SELECT sophia.load_gong_transcripts('{"callTranscripts": [{"callId": "8", "transcript": 1}]}');
SELECT sophia.load_gong_transcripts('{"callTranscripts": [{"transcript": []}]}');
SELECT sophia.load_gong_transcripts('[{"callId": "8", "transcript": []}, {"callId": "7782342274025937895"}]');
SELECT count(*) FROM gong_raw.calls WHERE id IN ('8', '9');
SELECT count(*) FROM gong_raw.call_transcripts;

-- The right to load can be granted alone; rows are written with the rights of their table's owner.
CREATE ROLE sophia_test_loader;
SET ROLE sophia_test_loader;
SELECT sophia.load_gong_calls('{"id": "10"}');
RESET ROLE;
GRANT EXECUTE ON FUNCTION sophia.load_gong_calls, sophia.load_gong_transcripts TO sophia_test_loader;
CREATE FUNCTION pg_temp.who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := current_user; RETURN NEW; END $$;
CREATE ROLE sophia_test_owner;
GRANT USAGE ON SCHEMA gong_raw TO sophia_test_owner;
ALTER TABLE gong_raw.calls OWNER TO sophia_test_owner;
ALTER TABLE gong_raw.call_parties OWNER TO sophia_test_owner;
CREATE TRIGGER who BEFORE INSERT ON gong_raw.calls FOR EACH ROW EXECUTE FUNCTION pg_temp.who();
SET ROLE sophia_test_loader;
SELECT * FROM sophia.load_gong_calls('{"id": "10"}');
SELECT * FROM gong_raw.calls;
RESET ROLE;
SELECT title FROM gong_raw.calls WHERE id = '10';
DROP SCHEMA gong_raw, processed_data CASCADE;
SELECT sophia.load_gong_calls('{"id": "10"}');
REVOKE ALL ON FUNCTION sophia.load_gong_calls, sophia.load_gong_transcripts FROM sophia_test_loader;
DROP ROLE sophia_test_loader, sophia_test_owner;
