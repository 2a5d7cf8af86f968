# Forgetting a person: erased everywhere, the rest of what is shared stays, and whatever comes later stays out.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Documents;
use Sophia::Ingest;
use Test::More;

my $node = Sophia::Ingest->create('main');
my $p = Sophia::Documents->producer('030000000001');
my (%journal, %shape);
%shape = (contacts => 'hubspot.contacts', engagements => 'hubspot.engagements', deals => 'hubspot.deals', owners => 'hubspot.owners',
	calls => 'gong.calls', transcripts => 'gong.call_transcripts', users => 'slack.users', members => 'slack.channel_members',
	messages => 'slack.messages');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Documents into their collections, applied when it returns.
sub capture
{
	my (%documents) = @_;
	for my $stream (sort keys %documents)
	{
		($journal{$stream} //= $node->journal("acme/$stream"))->write($p->transaction(@{ $documents{$stream} }));
		ok($node->await_stream($stream), "$stream: caught up");
	}
}

my @everything = (
	contacts => [ { id => 101, properties => { email => 'Ann@Acme.example', hs_additional_emails => 'ann.lee@home.example', firstname => 'Ann', lastname => 'Lee', phone => '+49 30 901820' } },
		{ id => 102, properties => { email => 'bo@acme.example', firstname => 'Bo', lastname => 'Ek' } } ],
	engagements => [ { id => 1, contacts => [101], properties => { hs_engagement_type => 'NOTE', hs_note_body => 'only hers' } },
		{ id => 2, contacts => [ 101, 102 ], properties => { hs_engagement_type => 'MEETING', hs_meeting_title => 'Ann Lee and Bo Ek', hs_meeting_body => 'mail ann@acme.example or joann@acme.example' } } ],
	deals => [ { id => 7, contacts => [ 101, 102 ], properties => { dealname => 'Spare parts' } } ],
	owners => [ { id => 9, email => 'ann@acme.example', firstName => 'Ann' }, { id => 10, email => 'bo@acme.example' } ],
	calls => [ { id => '55', metaData => { id => '55', title => 'Ann Lee meets Bo' }, parties => [
		{ id => 'p1', speakerId => 's1', emailAddress => 'ann@acme.example', name => 'Ann Lee', title => 'CEO', affiliation => 'External' },
		{ id => 'p2', speakerId => 's2', emailAddress => 'bo@acme.example', name => 'Bo Ek', affiliation => 'External' } ] } ],
	transcripts => [ { callId => '55', transcript => [ { speakerId => 's1', sentences => [ { start => 0, end => 9, text => 'my secret' } ] },
		{ speakerId => 's2', sentences => [ { start => 10, end => 19, text => 'no secret, Ann  Lee' } ] } ] } ],
	users => [ { id => 'UANN00001', name => 'ann', profile => { email => 'ann@acme.example', real_name => 'Ann Lee' } }, { id => 'UBO000001', name => 'bo', profile => { email => 'bo@acme.example' } } ],
	members => [ { channel_id => 'C1', member_id => 'UANN00001' }, { channel_id => 'C1', member_id => 'UBO000001' } ],
	messages => [ { channel_id => 'C1', ts => '1.000001', user => 'UANN00001', text => 'I wrote this' },
		{ channel_id => 'C1', ts => '2.000001', user => 'UBO000001', text => 'ask <@UANN00001>', reactions => [ { name => 'x', users => [ 'UANN00001', 'UBO000001' ] } ] } ]);

# Whatever is left of her, as table and column.
sub traces
{
	return sql(q{SELECT string_agg(t.name, ' ') FROM (
		SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text IN ('hubspot_raw', 'gong_raw', 'slack_raw', 'processed_data', 'sophia')
			AND c.relname NOT IN ('deleted_keys', 'batch_keys')) t
		WHERE (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s t WHERE to_jsonb(t)::text ~* %L', t.name,
			'(?<![[:alnum:]])ann@acme|ann\.lee@home|UANN0|901820|my secret|hubspot_101|616e6e4061636d65|only hers'), false, true, '')))[1]::text <> '0'});
}

$node->follow($_, "acme/$_", $shape{$_}) for sort keys %shape;
capture(@everything);
capture(contacts => [ { id => 101, properties => { email => 'ann@acme.example', createdate => 'soon' } } ]);
is(sql('SELECT count(*) FROM sophia.dead_letters'), 1, 'a dead letter of hers');
$journal{contacts}->write($p->document({ id => 101, properties => { email => 'ann@acme.example' } }));
ok($node->await_stream('contacts'), 'and a staged document');
sql('CALL sophia.refresh(); SELECT sophia.resolve_identities()');
is(sql("SELECT string_agg(id, ' ' ORDER BY id) FROM processed_data.unified_contacts WHERE identity_id = (SELECT identity_id FROM processed_data.unified_contacts WHERE id = 'hubspot_101')"),
	'gong_ann@acme.example hubspot_101 slack_UANN00001', 'she is three records');
isnt(traces(), '', 'who can be found');
sql('CREATE TABLE versions AS SELECT id, changed_xid FROM hubspot_raw.contacts');

# ---- forgetting ----

like($node->error_of('SELECT sophia.forget_contact(NULL)'), qr/^22004/, 'nobody');
like($node->error_of('SELECT sophia.forget_contact(12345)'), qr/^P0002/, 'somebody unknown');
is(sql("SELECT count(*) FROM pg_trigger WHERE tgname = 'sophia_keep_out'"), 0, 'nothing is guarded while nobody is forgotten');
my $ann = sql("SELECT identity_id FROM processed_data.unified_contacts WHERE id = 'hubspot_101'");
my $report = sql("CREATE TABLE report AS SELECT f.* FROM processed_data.unified_contacts u, sophia.forget_contact(u.identity_id) f WHERE u.id = 'hubspot_101';
	SELECT table_name || ' ' || erased FROM report WHERE erased > 0 ORDER BY 1");
is(sql('SELECT sum(found_again) FROM report'), 0, 'nothing is found again');
like($report, qr/^\Q$_\E$/m, "it says so: $_") for 'hubspot_raw.contacts 1', 'hubspot_raw.engagements 2', 'hubspot_raw.deals 1', 'hubspot_raw.owners 1', 'gong_raw.calls 1',
  'gong_raw.call_parties 1', 'slack_raw.users 1', 'slack_raw.channel_members 1', 'slack_raw.messages 2', 'sophia.dead_letters 1', 'sophia.staged_documents 1',
  'processed_data.unified_contacts 3', 'processed_data.contacts 1', 'processed_data.identities 1';
is(traces(), '', 'nor by searching every table');
like($node->error_of("SELECT sophia.forget_contact($ann)"), qr/^P0002/, 'who is forgotten is unknown');

# ---- what others share in stays ----

sub rest
{
	my ($when) = @_;
	is(sql("SELECT id, contact_ids, subject, body_text, doc -> 'contacts' FROM hubspot_raw.engagements"), $_[1], "a meeting of both ($when)");
	is(sql("SELECT id, contact_ids FROM hubspot_raw.deals"), '7|{102}', "a deal of both ($when)");
	is(sql("SELECT party_id, name, email, title, speaker_id, affiliation FROM gong_raw.call_parties ORDER BY 1"), "p1||||s1|External\np2|Bo Ek|bo\@acme.example||s2|External", "a call of both ($when)");
	is(sql("SELECT seq, speaker_id, text FROM gong_raw.call_transcripts ORDER BY 1"), "1|s1|\n2|s2|no secret,", "what was said ($when)");
	is(sql("SELECT ts, user_id, text, doc #> '{reactions,0,users}' FROM slack_raw.messages"), '2.000001|UBO000001|ask <@>|["UBO000001"]', "a message that names her ($when)");
	is(sql("SELECT string_agg(id, ' ' ORDER BY id) FROM processed_data.unified_contacts"), 'gong_bo@acme.example hubspot_102 slack_UBO000001', "the other one ($when)");
}
rest('forgotten', '2|{102}|and Bo Ek|mail  or joann@acme.example|[102]');
is(sql("SELECT count(*) FROM versions v JOIN hubspot_raw.contacts c USING (id) WHERE c.id = '102' AND c.changed_xid = v.changed_xid"), 1, 'rows of others are not written');
sql('CALL sophia.refresh()');
is(sql("SELECT interaction_id, ordinal, coalesce(contact_id, '-'), coalesce(name, '-') FROM processed_data.interaction_participants WHERE interaction_id = 'gong_55' ORDER BY 2"),
	"gong_55|1|-|-\ngong_55|2|gong_bo\@acme.example|Bo Ek", 'a participant without a name remains');
is(traces(), '', 'a refresh brings nothing back');

# ---- later captures ----

$journal{contacts}->write($p->ack);
ok($node->await_stream('contacts'), 'the transaction that was open commits');
capture(@everything);
capture(contacts => [ { id => 101, properties => { email => 'ann@acme.example', createdate => 'soon' } }, { id => 103, properties => { email => 'ANN.Lee@home.example' } },
		{ id => 104, properties => { phone => '+49 30 901820' } }, { id => 105, properties => { email => 'new@acme.example', phone => '+49 30 901820' } } ],
	transcripts => [ { callId => '56', transcript => [ { speakerId => 's9', sentences => [ { start => 0, end => 9, text => 'my secret' } ] } ] } ]);
is(sql("SELECT string_agg(id, ' ' ORDER BY id) FROM hubspot_raw.contacts"), '102 105', 'she stays out; who shares a phone number does not');
sql(q{SELECT sophia.load_gong_calls('{"calls": [{"metaData": {"id": "56", "title": "with ann@acme.example"}, "parties": [{"id": "q", "speakerId": "s9", "name": "Ann Lee", "emailAddress": "ann@acme.example"}]}]}')});
is(sql("SELECT p.name, p.email, t.text, c.title FROM gong_raw.call_parties p JOIN gong_raw.call_transcripts t USING (call_id) JOIN gong_raw.calls c ON c.id = call_id WHERE call_id = '56'"), '|||with',
	'a payload of Gong\'s API, whose transcript came first');
sql("UPDATE hubspot_raw.contacts SET doc = doc WHERE id = '105'");
is(sql('SELECT count(*) FROM sophia.dead_letters'), 0, 'no dead letter of hers is kept');
sql("DELETE FROM gong_raw.call_parties WHERE call_id = '56'; DELETE FROM gong_raw.call_transcripts WHERE call_id = '56'; DELETE FROM gong_raw.calls WHERE id = '56'; DELETE FROM hubspot_raw.contacts WHERE id = '105';
	CALL sophia.refresh()");
sql("SELECT * FROM sophia.create_schemas()");
rest('captured again', '2|{102}|and Bo Ek|mail  or joann@acme.example|[102]');

# ---- the hashes ----

is(sql("SELECT count(*) FROM sophia.suppressions WHERE encode(hash, 'escape') ~* 'ann' OR length(hash) <> 32"), 0, 'hashes tell nothing');
is(sql("SELECT count(*) FROM sophia.suppressions s WHERE s.hash = sha256(convert_to('email ann\@acme.example', 'UTF8'))"), 0, 'and are keyed');
is(sql(q{SELECT sophia.identifier_hash('x', 'y') = (SELECT sha256(k.outer_pad || sha256(k.inner_pad || 'x y')) FROM sophia.suppression_key k)}), 't', 'HMAC-SHA256');
command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', $node->connstr('postgres') ], 'dump');
sql('CREATE DATABASE restored');
command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $node->basedir . '/dump' ], 'restore');
is($node->safe_psql('restored', "SELECT count(*) FROM sophia.create_schemas() WHERE false; INSERT INTO hubspot_raw.contacts (id, email, doc) VALUES ('300', 'ann\@acme.example', '{}'); SELECT count(*) FROM hubspot_raw.contacts WHERE id = '300'"), "0\n0",
	'a restored database keeps her out, too');

# ---- back again ----

like($node->error_of('SELECT sophia.unsuppress(NULL)'), qr/^22004/, 'no identifier');
is(sql("SELECT sophia.unsuppress('nobody\@acme.example')"), 0, 'an identifier of nobody');
is(sql("SELECT sophia.unsuppress(' Ann\@ACME.example'), sophia.unsuppress('hubspot_101'), sophia.unsuppress('ann.lee\@home.example')"), '1|1|1', 'identifiers are taken back');
capture(@everything[ 0, 1 ]);
is(sql("SELECT string_agg(id, ' ' ORDER BY id) FROM hubspot_raw.contacts"), '101 102', 'and let her in');
sql('DELETE FROM sophia.suppressions; SELECT sophia.unsuppress(\'x\')');
is(sql("SELECT count(*) FROM pg_trigger WHERE tgname = 'sophia_keep_out'"), 0, 'no guard is left without need');
sql('DROP EXTENSION sophia_stack');
$node->stop;
done_testing();
