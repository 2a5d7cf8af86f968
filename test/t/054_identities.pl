# People resolved piece by piece are those that resolving everything at once gives: random changes of records, merges and
# merges undone, guards and decisions, compared after each round.  Identities keep their numbers, and decisions
# outlast a restart and a dump.
#
# SOPHIA_SEED, SOPHIA_ROUNDS: another course of the test, and a longer one.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;

my $seed = $ENV{SOPHIA_SEED} || 1;
my $rounds = $ENV{SOPHIA_ROUNDS} || 40;
srand $seed;
note "SOPHIA_SEED=$seed SOPHIA_ROUNDS=$rounds";
my $node = Sophia::Cluster->create('identities');
my $psql = sub { return $node->safe_psql('postgres', $_[0]) };

$psql->("SELECT sophia.create_schemas();
	SELECT sophia.set_identifier_limits('email', 4, 5); SELECT sophia.set_identifier_limits('phone', 3, 2);");

my @emails = ((map { "p$_\@acme.example" } 1 .. 14), 'info@acme.example', 'test@test.example');
my @phones = map { "+1415555010$_" } 0 .. 4;
my @first = ('Ann', 'Bob', 'Cyd', undef);
my @last = ('Lee', 'Ray', undef);
sub pick { return $_[int rand @_] }
sub quoted { my ($value) = @_; return defined $value ? "'$value'" : 'NULL' }
sub maybe { my ($share, $value) = @_; return rand() < $share ? $value : undef }

sub hubspot
{
	my $id = 1 + int rand 20;
	my $more = join ',', map { pick(@emails) } 1 .. int rand 3;
	my $merged = rand() < 0.2 ? quoted('{' . (1 + int rand 20) . '}') : 'NULL';
	return sprintf "INSERT INTO hubspot_raw.contacts (id, email, additional_emails, firstname, lastname, phone, merged_object_ids, is_deleted, doc)
		VALUES ('%s', %s, '{%s}', %s, %s, %s, %s, %s, '{\"n\": %d}') ON CONFLICT (id) DO UPDATE SET
		(email, additional_emails, firstname, lastname, phone, merged_object_ids, is_deleted, doc) = ROW (excluded.email, excluded.additional_emails,
		excluded.firstname, excluded.lastname, excluded.phone, excluded.merged_object_ids, excluded.is_deleted, excluded.doc);",
		$id, quoted(maybe(0.8, pick(@emails))), $more, quoted(pick(@first)), quoted(pick(@last)), quoted(maybe(0.4, pick(@phones))),
		$merged, rand() < 0.1 ? 'true' : 'false', int rand 1000000;
}

sub slack
{
	return sprintf "INSERT INTO slack_raw.users (id, email, real_name, first_name, last_name, phone, doc)
		VALUES ('U%d', %s, 'Some Body', %s, %s, %s, '{\"n\": %d}') ON CONFLICT (id) DO UPDATE SET (email, first_name, last_name, phone, doc) =
		ROW (excluded.email, excluded.first_name, excluded.last_name, excluded.phone, excluded.doc);",
		1 + int rand 12, quoted(maybe(0.8, pick(@emails))), quoted(pick(@first)), quoted(pick(@last)), quoted(maybe(0.4, pick(@phones))),
		int rand 1000000;
}

sub user
{
	my $id = 1 + int rand 5;
	return "DELETE FROM gong_raw.users WHERE id = 'g$id';" if rand() < 0.2;
	my $aliases = join ',', map { pick(@emails) } 1 .. int rand 3;
	return sprintf "INSERT INTO gong_raw.users (id, email, email_aliases, first_name, last_name, doc)
		VALUES ('g%d', %s, '{%s}', %s, %s, '{\"n\": %d}') ON CONFLICT (id) DO UPDATE SET (email, email_aliases, first_name, last_name, doc) =
		ROW (excluded.email, excluded.email_aliases, excluded.first_name, excluded.last_name, excluded.doc);",
		$id, quoted(maybe(0.9, pick(@emails))), $aliases, quoted(pick(@first)), quoted(pick(@last)), int rand 1000000;
}

sub party
{
	my $call = 1 + int rand 8;
	my $email = maybe(0.8, pick(@emails));
	return sprintf "INSERT INTO gong_raw.calls (id, doc) VALUES ('%1\$d', '{}') ON CONFLICT DO NOTHING;
		INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, email, email_norm, name, phone, hubspot_contact_id, doc)
		VALUES ('%1\$d', 'p%2\$d', %2\$d, %3\$s, %3\$s, 'Ann Lee', %4\$s, %5\$s, '{\"n\": %6\$d}') ON CONFLICT (call_id, party_id) DO UPDATE SET
		(email, email_norm, phone, hubspot_contact_id, doc) = ROW (excluded.email, excluded.email_norm, excluded.phone, excluded.hubspot_contact_id,
		excluded.doc);", $call, 1 + int rand 3, quoted($email), quoted(maybe(0.3, pick(@phones))),
		quoted(maybe(0.3, 1 + int rand 20)), int rand 1000000;
}

sub deletion
{
	return pick(
		sprintf("DELETE FROM hubspot_raw.contacts WHERE id = '%d';", 1 + int rand 20),
		sprintf("DELETE FROM slack_raw.users WHERE id = 'U%d';", 1 + int rand 12),
		sprintf("DELETE FROM gong_raw.call_parties WHERE call_id = '%d';", 1 + int rand 8),
		sprintf("UPDATE hubspot_raw.contacts SET merged_object_ids = NULL WHERE id = '%d';", 1 + int rand 20));
}

sub guard
{
	my $email = pick(@emails);
	return pick("SELECT sophia.block_value('email', '$email');", "SELECT sophia.unblock_value('email', '$email');",
		sprintf("SELECT sophia.set_identifier_limits('email', %d, %d);", 2 + int rand 4, 2 + int rand 5));
}

# Decisions may be refused for good reasons; only the rows count.
sub decide
{
	my @records = split /\n/, $psql->('SELECT id FROM processed_data.unified_contacts ORDER BY id');
	return if @records < 3;
	my ($one, $other) = (pick(@records), pick(@records));
	my $undo = $psql->("SELECT event FROM sophia.identity_history WHERE kind = 'decision' AND decision <> 'undo' AND undone_by IS NULL ORDER BY event");
	my @statements = ("SELECT sophia.link('$one', '$other')", "SELECT sophia.unlink('$one', '$other')",
		"SELECT sophia.merge_contacts(a.identity_id, b.identity_id) FROM processed_data.unified_contacts a, processed_data.unified_contacts b
			WHERE a.id = '$one' AND b.id = '$other'",
		"SELECT sophia.split_contact(identity_id, ARRAY[id]) FROM processed_data.unified_contacts WHERE id = '$one'");
	push @statements, map { "SELECT sophia.undo($_)" } split /\n/, $undo;
	$node->psql('postgres', pick(@statements), on_error_stop => 0);
}

sub differences
{
	return $psql->('SELECT * FROM sophia.verify_identities() LIMIT 10');
}

# What a fill of empty tables makes is the same but for the numbers of people, which nobody had yet.
my $made = "SELECT 'contacts' AS target, to_jsonb(t) - 'identity_id' AS content FROM processed_data.contacts AS t
	UNION ALL SELECT 'identity_links', to_jsonb(l) - '{identity_id,created_at}'::text[] FROM processed_data.identity_links AS l";
my $targets = join ', ', map { "processed_data.$_" } qw(unified_contacts identities identity_links contacts);

sub differences_of_filling
{
	return $psql->("BEGIN;
		CREATE TEMP TABLE made ON COMMIT DROP AS $made;
		TRUNCATE $targets;
		CALL sophia.refresh_unified_contacts('full');
		(TABLE made EXCEPT ALL ($made)) UNION ALL (($made) EXCEPT ALL TABLE made) LIMIT 10;
		ROLLBACK;");
}

my $wrong = 0;
for my $round (1 .. $rounds)
{
	my $step = $round % 8 == 0 ? guard() : $round % 5 == 0 ? '' : join "\n", map { pick(\&hubspot, \&hubspot, \&slack, \&user, \&party, \&deletion)->() } 1 .. 1 + int rand 6;
	decide() if $round % 5 == 0;
	$psql->("$step CALL sophia.refresh_unified_contacts();");
	my $differences = differences() . ($round % 4 == 0 ? differences_of_filling() : '');
	next if $differences eq '';
	is($differences, '', "seed $seed, round $round: what was resolved piece by piece is what is resolved at once, or filled");
	last if ++$wrong == 3;
}
is($wrong, 0, "seed $seed: $rounds rounds resolved piece by piece are what is resolved at once, or filled");

# ---- what always holds ----

is($psql->("SELECT count(*) FROM processed_data.unified_contacts AS c WHERE NOT EXISTS (SELECT FROM processed_data.contacts AS t
	WHERE t.identity_id = c.identity_id AND c.id = ANY (t.record_ids))"), 0, 'every record is in the golden record of its person');
is($psql->("SELECT count(*) FROM processed_data.contacts AS t FULL JOIN processed_data.identities AS i USING (identity_id)
	WHERE (i.status = 'active') IS DISTINCT FROM (t.identity_id IS NOT NULL) OR cardinality(t.record_ids) <> i.size"), 0,
	'every active identity has one golden record, of its size');
is($psql->("SELECT count(*) FROM processed_data.identities AS i WHERE sophia.resolve_id(i.identity_id) NOT IN (SELECT identity_id FROM processed_data.contacts)"),
	0, 'every old number leads to a person, or to nobody');
is($psql->("SELECT count(*) FROM processed_data.identity_links AS l JOIN processed_data.identity_links AS o USING (kind, evidence)
	WHERE l.contact_id < o.contact_id AND l.rule = 'staff alias' AND o.rule = 'staff alias' AND l.status = 'linked' AND o.status = 'linked'
	AND NOT EXISTS (SELECT FROM sophia.blocked_values AS b WHERE b.value = l.evidence AND NOT b.blocked)
	AND (SELECT count(DISTINCT c.full_name) FROM processed_data.unified_contacts AS c WHERE c.id IN (l.contact_id, o.contact_id)) = 2
	AND (SELECT count(DISTINCT c.email_norm) FROM processed_data.unified_contacts AS c WHERE c.id IN (l.contact_id, o.contact_id)) = 2"),
	0, 'no alias joins colleagues of two names and addresses');
is($psql->("SELECT count(*) FROM sophia.identity_decisions AS d JOIN processed_data.unified_contacts AS a ON a.id = d.record_a
	JOIN processed_data.unified_contacts AS b ON b.id = d.record_b
	WHERE d.demand = 'apart' AND a.identity_id = b.identity_id AND NOT EXISTS (SELECT FROM sophia.identity_decisions AS l
	WHERE l.record_a = d.record_a AND l.record_b = d.record_b AND l.event > d.event)"), 0, 'what was decided to be apart is apart');

# ---- a restart and a dump ----

my $people = 'SELECT identity_id, record_ids FROM processed_data.contacts ORDER BY 1';
my $before = $psql->($people);
$node->restart;
$psql->('CALL sophia.refresh_unified_contacts()');
is($psql->($people), $before, 'a restart changes nobody');

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
my $decisions = 'SELECT * FROM sophia.identity_decisions ORDER BY event, record_a, record_b';
my $decided = $psql->($decisions);
$node->command_checks_all([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 0, [ qr/^$/ ], [ qr/^$/ ], 'the database is dumped without a warning');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('other') ], 'and restored');
is($node->safe_psql('other', $decisions), $decided, 'with its decisions');
$node->safe_psql('other', 'CALL sophia.refresh_unified_contacts()');
is($node->safe_psql('other', 'SELECT mode_used, reason FROM sophia.refresh_log WHERE target = $$unified_contacts$$'), 'full|nothing was refreshed here before',
	'the first refresh there says why it is a full one');
is($node->safe_psql('other', $people), $before, 'and everybody keeps the number');

# ---- without the extension ----

$psql->('DROP EXTENSION sophia_stack CASCADE; CREATE EXTENSION sophia_stack; SELECT sophia.create_schemas();');
my $largest = $psql->('SELECT max(identity_id) FROM processed_data.identities');
$psql->("INSERT INTO slack_raw.users (id, email, real_name, doc) VALUES ('UNEW', 'nobody.else\@new.example', 'New', '{}'); CALL sophia.refresh_unified_contacts();");
ok($psql->("SELECT identity_id > $largest FROM processed_data.unified_contacts WHERE id = 'slack_UNEW'") eq 't',
	'a newly created extension goes on above the largest number');
$node->stop;
done_testing();
