# The timeline after a refresh of what changed equals the one that is made anew: random changes of every raw table that it
# depends on, a refresh after each few, and a comparison row for row.  SOPHIA_SEED repeats a run.
use strict;
use warnings;
use Sophia::Cluster;
use Test::More;

my $rounds = 40;
my $seed = $ENV{SOPHIA_SEED} || int(rand(1_000_000));
srand($seed);
diag "SOPHIA_SEED=$seed";
my $node = Sophia::Cluster->create('timeline', preload => 0);
my $clock = 0;

sub one_of { return $_[ int(rand(@_)) ] }
sub quote { my ($v) = @_; return 'NULL' if !defined $v; $v =~ s/'/''/g; return "'$v'" }
sub maybe { my ($v) = @_; return rand() < 0.6 ? $v : undef }
sub list { return @_ ? '{' . join(',', @_) . '}' : undef }

# Few values, so that changes meet one another.
my @addresses = map { ("p$_\@acme.example", "p$_\@home.example") } 1 .. 6;
my @staff = map { "s$_\@own.example" } 1 .. 3;
sub address { return rand() < 0.7 ? one_of(@addresses) : one_of(@staff) }
sub some { my ($n, @from) = @_; return map { one_of(@from) } 1 .. int(rand($n + 1)) }
sub moment { return '2024-05-01 10:' . sprintf('%02d', int(rand(40))) }

# table => [ key columns, a key, the other columns ]
my %tables = (
	'hubspot_raw.contacts' => [ ['id'], sub { [ int(1 + rand(8)) ] }, sub {
		return { email => maybe(address()), additional_emails => maybe(list(some(2, @addresses))), firstname => maybe(one_of('Ann', 'Bob')),
			merged_object_ids => (rand() < 0.2 ? list(some(2, 1 .. 9)) : undef), is_deleted => one_of('f', 'f', 't'), doc => '{}' } } ],
	'hubspot_raw.owners' => [ ['id'], sub { [ one_of(91, 92) ] }, sub { return { email => maybe(one_of(@staff)), first_name => maybe(one_of('Gus', 'Ivy')), doc => '{}' } } ],
	'hubspot_raw.engagements' => [ ['id'], sub { [ int(100 + rand(12)) ] }, sub {
		my $kind = one_of('EMAIL', 'INCOMING_EMAIL', 'CALL', 'MEETING', 'MEETING', 'NOTE', undef);
		my $mail = ($kind // '') =~ /EMAIL/;
		return { engagement_type => $kind, occurred_at => maybe(moment()), subject => maybe(one_of('A', 'B')), owner_id => maybe(one_of(91, 92, 93)),
			from_email => ($mail ? address() : undef), to_emails => ($mail ? list(some(2, @addresses, @staff)) : undef),
			thread_id => ($mail ? maybe(one_of('t1', 't2')) : undef), ical_uid => maybe(one_of('i1', 'i2')), contact_ids => list(some(3, 1 .. 9)),
			company_ids => list(some(2, 7, 8)), is_deleted => one_of('f', 'f', 't'),
			doc => one_of('{}', '{"properties": {"hs_attendee_owner_ids": "91;92"}}', '{"properties": {"hs_gdpr_deleted": "true"}}') } } ],
	'gong_raw.users' => [ ['id'], sub { [ one_of(501, 502) ] }, sub { return { email => maybe(one_of(@staff)), email_aliases => maybe(list(some(1, @staff, @addresses))), first_name => maybe('Gus'), doc => '{}' } } ],
	'gong_raw.calls' => [ ['id'], sub { [ 'c' . int(rand(5)) ] }, sub {
		return { title => maybe('T'), started => maybe(moment()), primary_user_id => maybe(one_of(501, 502, 503)), is_private => one_of('f', 't', undef),
			calendar_event_id => maybe(one_of('i1', 'i2')), brief => maybe('brief'), is_deleted => one_of('f', 'f', 't'), doc => '{}' } } ],
	'gong_raw.call_parties' => [ [ 'call_id', 'party_id' ], sub { [ 'c' . int(rand(5)), 'p' . int(rand(3)) ] }, sub {
		return { ordinal => int(1 + rand(3)), speaker_id => maybe(one_of('s1', 's2')), user_id => (rand() < 0.3 ? one_of(501, 502) : undef), email => maybe(address()),
			name => maybe('Pat'), affiliation => one_of('Internal', 'External', 'Unknown', undef), hubspot_contact_id => (rand() < 0.2 ? int(1 + rand(8)) : undef), doc => '{}' } } ],
	'gong_raw.call_transcripts' => [ [ 'call_id', 'seq' ], sub { [ 'c' . int(rand(5)), int(1 + rand(3)) ] }, sub {
		return { speaker_id => one_of('s1', 's2', 's9', undef), start_ms => 0, end_ms => int(rand(9000)), text => one_of('x', 'y'), doc => '{}' } } ],
	'slack_raw.users' => [ ['id'], sub { [ one_of('U1', 'U2', 'U3') ] }, sub {
		return { team_id => one_of('T1', 'T1', 'T2'), name => one_of('n1', 'n2'), real_name => maybe(one_of('Ann', 'Bob')), email => maybe(one_of(@addresses)), is_bot => one_of('f', 'f', 't'), doc => '{}' } } ],
	'slack_raw.channels' => [ ['id'], sub { [ one_of('C1', 'C2') ] }, sub { return { name => one_of('general', 'acme'), is_private => one_of('f', 't'), is_ext_shared => one_of('f', 't'), doc => '{}' } } ],
	'slack_raw.messages' => [ [ 'channel', 'ts' ], sub { [ one_of('C1', 'C2'), '17150000' . one_of('10', '20', '30', '40') . '.0001' ] }, sub {
		return { user_id => maybe(one_of('U1', 'U2', 'U3', 'U4')), text => one_of('hi', 'hi <@U1> <@U4>', 'see <#C2> <@U2|b>'), subtype => one_of(undef, undef, 'channel_join', 'bot_message'),
			thread_ts => maybe('17150000' . one_of('10', '20') . '.0001'), sent_at => maybe(moment()), team => maybe(one_of('T1', 'T2')), is_deleted => one_of('f', 'f', 't'), doc => '{}' } } ],
);

sub change
{
	my $table = one_of(sort keys %tables);
	my ($keys, $key, $rest) = @{ $tables{$table} };
	my @values = @{ $key->() };
	my $where = join(' AND ', map { "$keys->[$_] = " . quote($values[$_]) } 0 .. $#values);
	return "DELETE FROM $table WHERE $where" if rand() < 0.15;
	my %columns = %{ $rest->() };
	my @names = sort keys %columns;
	return "INSERT INTO $table (" . join(', ', @$keys, @names) . ') VALUES (' . join(', ', map { quote($_) } @values, @columns{@names})
	  . ') ON CONFLICT (' . join(', ', @$keys) . ') DO UPDATE SET ' . join(', ', map { "$_ = excluded.$_" } @names);
}

my @compared = qw(interaction_timeline interaction_participants);

sub differences
{
	my ($round) = @_;
	my $found = '';
	for my $table (@compared)
	{
		$found .= $node->safe_psql('postgres', "SELECT '$table now', * FROM (TABLE processed_data.$table EXCEPT TABLE kept.$table) AS x
			UNION ALL SELECT '$table was', * FROM (TABLE kept.$table EXCEPT TABLE processed_data.$table) AS x");
	}
	diag("round $round: $found") if $found ne '';
	return $found;
}

$node->safe_psql('postgres', 'SELECT count(*) FROM sophia.create_schemas(); CREATE SCHEMA kept;');
$node->safe_psql('postgres', join(";\n", map { change() } 1 .. 150) . ";\nCALL sophia.refresh('full')");

my ($wrong, $full) = (0, 0);
for my $round (1 .. $rounds)
{
	$node->safe_psql('postgres', join(";\n", map { change() } 1 .. int(1 + rand(6))));
	$node->safe_psql('postgres', rand() < 0.3 ? 'CALL sophia.refresh(max_rows => 3); CALL sophia.refresh(max_rows => 1000)' : 'CALL sophia.refresh()');
	$full += $node->safe_psql('postgres', "SELECT count(*) FROM sophia.refresh_log WHERE mode_used = 'full' AND target = 'interaction_timeline' AND mode = 'incremental'");
	$node->safe_psql('postgres', join(';', map { "DROP TABLE IF EXISTS kept.$_; CREATE TABLE kept.$_ AS TABLE processed_data.$_" } @compared)
		. ";CALL sophia.refresh('full')");
	$wrong++ if differences($round) ne '';
}
is($wrong, 0, "$rounds rounds: what changed, refreshed, equals everything made anew (seed $seed)");
is($full, 0, '… and was not made anew itself');

$node->safe_psql('postgres', join(';', map { "DROP TABLE kept.$_; CREATE TABLE kept.$_ AS TABLE processed_data.$_" } @compared)
	. "; TRUNCATE processed_data.interaction_timeline, processed_data.interaction_participants; CALL sophia.refresh('full')");
is(differences('fill'), '', 'filled into empty tables, it is the same');

# What a reply names was so only between two steps, and never shown.
$node->safe_psql('postgres', <<'SQL');
INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, thread_id, doc) VALUES
	('920', 'EMAIL', '2024-01-02', 'one', '{}'), ('990', 'EMAIL', '2024-01-01', 'other', '{}');
CALL sophia.refresh();
UPDATE hubspot_raw.engagements SET thread_id = 'one' WHERE id = '990';
CALL sophia.refresh(max_rows => 1);
SQL
my $emails = "SELECT id, thread_key, parent_id FROM processed_data.interaction_timeline WHERE id IN ('hubspot_920', 'hubspot_990') ORDER BY id";
is($node->safe_psql('postgres', $emails), "hubspot_920|one|hubspot_990\nhubspot_990|other|", 'a step ends between two e-mails of a thread');
$node->safe_psql('postgres', "UPDATE hubspot_raw.engagements SET thread_id = 'other' WHERE id = '990'; CALL sophia.refresh(max_rows => 1); CALL sophia.refresh()");
is($node->safe_psql('postgres', $emails), "hubspot_920|one|\nhubspot_990|other|", 'the first of them goes back to its thread');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.verify_refresh(1)'), 0, 'nothing differs');

$node->safe_psql('postgres', 'CALL sophia.refresh(); CALL sophia.refresh()');
is($node->safe_psql('postgres', 'SELECT rows_inserted + rows_updated + rows_deleted FROM sophia.refresh_log ORDER BY id DESC LIMIT 1'), '0', 'nothing changed: nothing is written');
done_testing();
