# Match rules on a generated CRM in which many share phones and addresses: no cluster joins two people, by match rules or by
# identities.  What was decided survives a dump; rules run with the rights of their callers only.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::MatchRules;
use Sophia::People;
use Test::More;

my $node = Sophia::Cluster->create('match');
my $people = Sophia::People->new;

sub rows
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', "SET client_min_messages = warning;\n$sql");
}

rows("BEGIN;\n" . $people->sql . "COMMIT;\nCALL sophia.refresh_unified_contacts();\n" . Sophia::People::view_sql());
is(rows('SELECT count(*) FROM public.crm_truth AS t FULL JOIN public.crm AS c ON c.id = t.key WHERE t.key IS NULL OR c.id IS NULL'),
	'0', 'every record of the CRM has a person');
is(rows(q{SELECT count(*) > 20 FROM (SELECT phone_e164 FROM public.crm AS c JOIN public.crm_truth AS t ON t.key = c.id
	GROUP BY 1 HAVING count(DISTINCT t.cluster) > 4) AS x}), 't', 'many people share their phones');
is(rows(q{SELECT count(*) > 20 FROM (SELECT c.email_norm FROM processed_data.unified_contacts AS c JOIN public.crm_truth AS t ON t.key = c.id
	GROUP BY 1 HAVING count(DISTINCT t.cluster) > 1) AS x}), 't', 'and addresses');

# ---- match rules ----

my $rules = Sophia::MatchRules->new('crm');
rows($rules->sql('public.crm', rule => 'review only', link_at => undef) . "CALL sophia.match_records('public.crm')");
is(rows(q{SELECT count(DISTINCT cluster_id) = count(*) FROM sophia.match_clusters WHERE source = 'public.crm'::regclass}),
	't', 'a rule without link_at links nothing');
is(rows('SELECT count(*) > 100 FROM sophia.review_queue'), 't', 'and has pairs wait');

rows("BEGIN; SELECT sophia.drop_match_rule('review only');\n" . $rules->sql('public.crm') . "COMMIT; CALL sophia.match_records('public.crm')");
my $joined = q{SELECT count(*) FROM (SELECT m.cluster_id FROM sophia.match_clusters AS m JOIN public.crm_truth AS t ON t.key = m.key
	WHERE m.source = 'public.crm'::regclass GROUP BY 1 HAVING count(DISTINCT t.cluster) > 1) AS x};
is(rows($joined), '0', 'no cluster joins two people');
is(rows(q{SELECT e."precision" = 1, e.recall > 0.8, e.largest_cluster < 10 FROM sophia.evaluate_identities('public.crm_truth', 'public.crm') AS e}),
	't|t|t', 'and most records of a person are found');
is(rows(q{SELECT count(*) > 50, count(*) FILTER (WHERE a.cluster = b.cluster) > 0.9 * count(*) FROM sophia.review_queue AS q
	JOIN public.crm_truth AS a ON a.key = q.key_a JOIN public.crm_truth AS b ON b.key = q.key_b}), 't|t', 'most of the others wait for review');
my $clusters = q{SELECT md5(string_agg(m.key || ' ' || m.cluster_id, ',' ORDER BY m.key)) FROM sophia.match_clusters AS m};
my $before = rows($clusters);
rows("CALL sophia.match_records('public.crm')");
is(rows($clusters), $before, 'a second run changes nothing');

# ---- decisions ----

my ($waiting, $linked) = map { rows("SELECT min(pair) FROM sophia.match_pairs WHERE status = '$_'") } qw(review linked);
rows("SELECT sophia.decide($waiting, 'same'), sophia.decide($linked, 'different')");
my $decided = rows($clusters);
isnt($decided, $before, 'decisions take effect at once');
rows("CALL sophia.match_records('public.crm')");
is(rows($clusters), $decided, 'and a run finds the same, though it looks at everything');
is(rows("SELECT string_agg(status, ' ' ORDER BY status) FROM sophia.match_pairs WHERE decided_at IS NOT NULL"), 'different same',
	'decisions outrank the rule');

my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';
rows('CREATE DATABASE restored');
command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'the database is dumped');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'and restored');
is(rows($clusters, 'restored'), $decided, 'clusters keep their ids in the restored database');
rows("CALL sophia.match_records('public.crm')", 'restored');
is(rows($clusters, 'restored'), $decided, 'where rules and decisions give the same');

rows("DELETE FROM hubspot_raw.contacts; CALL sophia.refresh_unified_contacts(); CALL sophia.match_records('public.crm')", 'restored');
is(rows("SELECT count(*) FROM sophia.match_pairs WHERE key_b LIKE 'hubspot%' AND decided_at IS NULL", 'restored'), '0',
	'pairs that are not found any more go');

# ---- one at a time, and with whose rights ----

my $first = $node->background_psql('postgres');
$first->query_safe("BEGIN; SELECT sophia.lock_matches('public.crm')");
my ($status, $out, $err) = $node->psql('postgres', "SET lock_timeout = '100ms'; CALL sophia.match_records('public.crm')");
like($err, qr/lock timeout/, 'a second run waits for the first');
$first->query_safe('COMMIT');
$first->quit;

rows(<<~'SQL');
	CREATE ROLE low LOGIN;
	CREATE TABLE public.taken (by text);
	CREATE FUNCTION public.take(value text) RETURNS text LANGUAGE sql AS
	  $$ INSERT INTO public.taken VALUES (current_user); SELECT value $$;
	CREATE TABLE public.bait AS SELECT i AS id, 'x' AS word FROM generate_series(1, 3) AS i;
	GRANT SELECT ON public.bait TO low;
	GRANT INSERT ON public.taken TO low;
	DO $do$
	DECLARE
	  routine regprocedure;
	BEGIN
	  FOR routine IN SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'sophia'::regnamespace LOOP
	    EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO low', routine);
	  END LOOP;
	END
	$do$;
	SET ROLE low;
	SELECT sophia.add_match_rule('bait', 'public.bait', 'id', ARRAY['public.take(word)'],
	  '[{"expr": "word", "method": "exact", "levels": [{"at": 1, "weight": 1}]}]', 1, 1);
	SQL
($status, $out, $err) = $node->psql('postgres', "CALL sophia.match_records('public.bait')");
like($err, qr/cannot run as role/, 'an administrator does not run the SQL of a rule of somebody else');
is(rows('SELECT count(*) FROM public.taken'), '0', 'not any of it');
rows("SET ROLE low; CALL sophia.match_records('public.bait')");
is(rows('SELECT DISTINCT by FROM public.taken'), 'low', 'its author does, with his own rights');

# ---- identities ----

my $apart = q{SELECT count(*) FROM (SELECT c.identity_id FROM processed_data.unified_contacts AS c JOIN public.crm_truth AS t ON t.key = c.id
	GROUP BY 1 HAVING count(DISTINCT t.cluster) > 1) AS x};
is(rows($apart), '0', 'no identity joins two people');
is(rows(q{SELECT e."precision" = 1, e.recall > 0.6, e.id_churn = 0 FROM sophia.evaluate_identities('public.crm_truth') AS e}),
	't|t|t', 'and the evidence that is certain joins many of their records');

# Rules over unified_contacts add to it: they link namesakes of one company, here without any address in common.
rows(q{SELECT sophia.add_match_rule('colleagues', 'processed_data.unified_contacts', 'id', ARRAY['lower(full_name) || company_name'],
	  '[{"expr": "lower(full_name)", "method": "exact", "levels": [{"at": 1, "weight": 4}]},
	    {"expr": "company_name", "method": "exact", "levels": [{"at": 1, "weight": 3}]}]', 7, 7);
	CALL sophia.match_records('processed_data.unified_contacts');});
my $pair = rows(q{SELECT min(p.pair) FROM sophia.match_pairs AS p
	JOIN processed_data.unified_contacts AS a ON a.id = p.key_a JOIN processed_data.unified_contacts AS b ON b.id = p.key_b
	WHERE p.source = 'processed_data.unified_contacts'::regclass AND p.status = 'linked' AND a.identity_id <> b.identity_id});
my $together = qq{SELECT a.identity_id = b.identity_id FROM sophia.match_pairs AS p JOIN processed_data.unified_contacts AS a ON a.id = p.key_a
	JOIN processed_data.unified_contacts AS b ON b.id = p.key_b WHERE p.pair = $pair};
isnt($pair, '', 'a rule links contacts that were two identities');
rows('CALL sophia.refresh()');
is(rows($together), 't', 'they are one after the next refresh');
is(rows($apart), '0', 'and still no identity joins two people');
rows("SELECT sophia.decide($pair, 'different'); CALL sophia.refresh()");
is(rows($together), 'f', 'decided to be different, they are two again');
is(rows("SELECT e.id_churn > 0 FROM sophia.evaluate_identities('public.crm_truth') AS e"), 't', 'which the churn of identities shows');
rows("SELECT sophia.decide($pair, 'same'); CALL sophia.refresh()");
is(rows($together), 't', 'decided again, one');

# Other people: whom a switchboard, a family and a namesake bring close stay apart.
for my $seed (2 .. 5)
{
	$node->safe_psql('postgres', "CREATE DATABASE seed$seed");
	rows("BEGIN; CREATE EXTENSION sophia_stack;\n" . Sophia::People->new(seed => $seed)->sql . "COMMIT; CALL sophia.refresh_unified_contacts();", "seed$seed");
	is(rows($apart, "seed$seed"), '0', "no identity joins two people: seed $seed");
}

$node->stop;
done_testing();
