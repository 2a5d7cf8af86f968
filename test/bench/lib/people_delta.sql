-- 10 000 changed rows, :round telling one round from another: 6000 contacts, a tenth of them with another address, 1500 users
-- of Slack, 1000 engagements, 1000 calls (500 with another party) and 500 new messages.
UPDATE hubspot_raw.contacts SET jobtitle = 'Round ' || :round, doc = doc || jsonb_build_object('round', :round),
  email = CASE WHEN id::int % 600 = 1 THEN 'round' || :round || email ELSE email END
WHERE id IN (SELECT (1 + (n::bigint * 73 + :round * 31) % ((450000 * :scale)::int))::text FROM generate_series(1, 6000) AS n);
UPDATE slack_raw.users SET title = 'Round ' || :round
WHERE id IN (SELECT 'U' || (1 + (n::bigint * 73 + :round * 31) % ((150000 * :scale)::int)) FROM generate_series(1, 1500) AS n);
UPDATE hubspot_raw.engagements SET subject = 'Round ' || :round
WHERE id IN (SELECT (1 + (n::bigint * 73 + :round * 31) % ((100000 * :scale)::int))::text FROM generate_series(1, 1000) AS n);
UPDATE gong_raw.calls SET title = 'Round ' || :round
WHERE id IN (SELECT 'c' || (1 + (n::bigint * 73 + :round * 31) % ((100000 * :scale)::int)) FROM generate_series(1, 500) AS n);
UPDATE gong_raw.call_parties SET title = 'Round ' || :round
WHERE party_id = 'p2' AND call_id IN (SELECT 'c' || (1 + (n::bigint * 73 + :round * 31) % ((100000 * :scale)::int)) FROM generate_series(1, 500) AS n);
INSERT INTO slack_raw.messages (channel, ts, user_id, text, sent_at, doc)
SELECT 'C' || n, (1800000000 + :round * 1000 + n) || '.000100', 'U' || 1 + (n * 277 + :round) % ((150000 * :scale)::int), 'Later ' || n, to_timestamp(1800000000 + :round * 1000 + n), '{}'
FROM generate_series(0, 499) AS n;
