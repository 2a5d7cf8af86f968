# What documents make of the row of their key: merging, replacing, deleting, and which of two journals wins.
use strict;
use warnings;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(clock_of OUTSIDE);
use Sophia::Ingest;
use Test::More;

my $node = Sophia::Ingest->create('main');
my $p = Sophia::Documents->producer('030000000001');
my $json = JSON::PP->new->canonical;
my $deleted = { op => 'd' };
my %journals;

# Appends to a journal of the collection and waits until its stream is caught up; $name is that of the journal.
sub feed
{
	my ($stream, $bytes, $name) = @_;
	my ($collection) = split /\|/, $node->status($stream, 'collection');
	my $journal = $journals{ $collection . '/' . ($name // 'pivot=00') } //= $node->journal($collection, name => $name);
	$journal->write($bytes);
	ok($node->await_stream($stream), "$stream: caught up");
	return;
}

# doc of a row, without the uuid, as canonical JSON.
sub doc
{
	my ($table, $where) = @_;
	return $node->rows("SELECT doc #- '{_meta,uuid}' FROM $table WHERE $where");
}

sub is_doc
{
	my ($table, $where, $wanted, $name) = @_;
	my $found = doc($table, $where);
	return is($found eq '' ? '' : $json->encode(JSON::PP->new->decode($found)), $json->encode($wanted), $name);
}

# Clocks later than those of now, which $p uses.
sub at { return clock_of(4_000_000_000 + $_[0]) }

# A document that commits by itself, of a producer that writes nothing else.
my $producers = 0;
sub single
{
	my ($document, $clock) = @_;
	return Sophia::Documents->producer(sprintf '05%010x', ++$producers)->document($document, flags => OUTSIDE, clock => $clock);
}

# ---- merge ----

$node->follow('contacts', 'acme/contacts', 'hubspot.contacts');
feed('contacts', $p->transaction({ id => 'c1', archived => JSON::PP::false, companies => [ 1, 2 ],
		properties => { firstname => 'Ann', lastname => 'Lee', jobtitle => 'CTO', nested => { deep => { a => 1, b => 2 } } } }));
is($node->rows("SELECT firstname, lastname, jobtitle, archived, company_ids FROM hubspot_raw.contacts WHERE id = 'c1'"),
	'Ann|Lee|CTO|f|{1,2}', 'the first document makes the row');
feed('contacts', $p->transaction({ id => 'c1', companies => [ 3 ], properties => { jobtitle => undef, phone => '+1 555 0100', nested => { deep => { b => [ 1 ], c => undef } } } }));
is_doc('hubspot_raw.contacts', "id = 'c1'", { _meta => {}, id => 'c1', archived => JSON::PP::false, companies => [ 3 ],
		properties => { firstname => 'Ann', lastname => 'Lee', jobtitle => undef, phone => '+1 555 0100', nested => { deep => { a => 1, b => [ 1 ], c => undef } } } },
	'objects merge at every depth, arrays are replaced, an explicit null stays');
is($node->rows("SELECT firstname, jobtitle, phone, company_ids, doc #> '{properties,jobtitle}' FROM hubspot_raw.contacts WHERE id = 'c1'"),
	'Ann||+1 555 0100|{3}|null', 'and so do the columns');
feed('contacts', $p->transaction({ id => 'c1', properties => { nested => 5, lastname => { was => 'Lee' } } }, { id => 'c1', companies => [] }));
is_doc('hubspot_raw.contacts', "id = 'c1'", { _meta => {}, id => 'c1', archived => JSON::PP::false, companies => [],
		properties => { firstname => 'Ann', lastname => { was => 'Lee' }, jobtitle => undef, phone => '+1 555 0100', nested => 5 } },
	'a scalar replaces an object, an object a scalar, an empty array an array');

# The _meta is the last document's; stamps follow it.
my $line = single({ id => 'c1', _meta => { op => 'u', row_id => 7 } }, at(0));
my $offset = $journals{'acme/contacts/pivot=00'}->offset;
my ($uuid) = $line =~ /"uuid":"([^"]*)"/;
feed('contacts', $line);
is($node->rows("SELECT doc -> '_meta' = '{\"op\": \"u\", \"row_id\": 7, \"uuid\": \"$uuid\"}', source_clock, source_journal, source_offset, source_published_at = to_timestamp(4000000000) FROM hubspot_raw.contacts WHERE id = 'c1'"),
	join('|', 't', at(0), 'acme/contacts/pivot=00', $offset, 't'), '_meta and the origin are those of the last document applied');
feed('contacts', $p->outside({ id => 'c1', _meta => { op => 'c' } }));
is($node->rows("SELECT doc -> '_meta' ? 'row_id', doc #>> '{_meta,op}' FROM hubspot_raw.contacts WHERE id = 'c1'"), 'f|c', '_meta is replaced, not merged');
is($node->rows("SELECT source_clock FROM hubspot_raw.contacts WHERE id = 'c1'"), $p->clock, 'within a journal the later document wins, although its clock is smaller');

# Numbers keep every digit.
feed('contacts', $p->raw('{"_meta":{"uuid":"%s"},"id":12345678901234567890123,"properties":{"n":1.10,"m":0.1234567890123456789012345678901234567890}}', flags => OUTSIDE));
is($node->rows("SELECT id, doc #>> '{properties,n}', doc #>> '{properties,m}' FROM hubspot_raw.contacts WHERE id LIKE '1234%'"),
	'12345678901234567890123|1.10|0.1234567890123456789012345678901234567890', 'numbers keep every digit, and a number can be a key');

# ---- tombstones, kept ----

feed('contacts', $p->transaction({ id => 'c2', properties => { firstname => 'Bob', jobtitle => 'CEO' } }));
my $stamp = $node->rows("SELECT changed_xid FROM hubspot_raw.contacts WHERE id = 'c2'");
feed('contacts', $p->transaction({ id => 'c2', _meta => $deleted }));
is($node->rows("SELECT is_deleted, firstname, changed_xid > '$stamp', source_clock = " . ($p->clock - 160) . " FROM hubspot_raw.contacts WHERE id = 'c2'"), 't|Bob|t|t',
	'a tombstone keeps the row, marked, with a new stamp');
feed('contacts', $p->transaction({ id => 'c2', properties => { firstname => 'Bo' } }));
is($node->rows("SELECT is_deleted, firstname, jobtitle FROM hubspot_raw.contacts WHERE id = 'c2'"), 'f|Bo|', 'a later document starts from an empty one');
is_doc('hubspot_raw.contacts', "id = 'c2'", { _meta => {}, id => 'c2', properties => { firstname => 'Bo' } }, 'so does doc');
feed('contacts', $p->transaction({ id => 'c2', properties => { jobtitle => 'CEO' } }, { id => 'c2', _meta => $deleted }, { id => 'c2', properties => { phone => '1' } }));
is_doc('hubspot_raw.contacts', "id = 'c2'", { _meta => {}, id => 'c2', properties => { phone => '1' } }, 'also within one transaction');
is($node->rows("SELECT is_deleted, firstname, jobtitle, phone FROM hubspot_raw.contacts WHERE id = 'c2'"), 'f|||1', 'and in the columns');
feed('contacts', $p->transaction({ id => 'c3', properties => { firstname => 'Cy' } }, { id => 'c3', _meta => $deleted }, { id => 'c4', _meta => $deleted }));
is($node->rows("SELECT id, is_deleted, firstname FROM hubspot_raw.contacts WHERE id IN ('c3', 'c4') ORDER BY id"), "c3|t|Cy\nc4|t|", 'also of a row that is new');
is($node->status('contacts', 'documents_deleted'), '4', 'tombstones are counted');

# ---- tombstones that remove ----

$node->follow('hard', 'acme/hard', 'hubspot.contacts', { delete => 'hard' });
feed('hard', $p->transaction({ id => 'h1', properties => { firstname => 'Ann' } }, { id => 'h2', properties => { firstname => 'Bob' } }));
feed('hard', $p->transaction({ id => 'h1', _meta => $deleted }, { id => 'h3', _meta => $deleted }, { id => 'h4', properties => { firstname => 'Di' } }, { id => 'h4', _meta => $deleted }));
is($node->rows("SELECT id FROM hubspot_raw.contacts WHERE id LIKE 'h%'"), 'h2', 'delete = hard removes the row');
feed('hard', $p->transaction({ id => 'h2', _meta => $deleted }, { id => 'h2', properties => { lastname => 'Lee' } }));
is($node->rows("SELECT id, firstname, lastname, is_deleted FROM hubspot_raw.contacts WHERE id LIKE 'h%'"), 'h2||Lee|f', 'a later document of the transaction makes it anew');
is_doc('hubspot_raw.contacts', "id = 'h2'", { _meta => {}, id => 'h2', properties => { lastname => 'Lee' } }, 'from an empty one');

# ---- the last write wins ----

$node->follow('users', 'acme/users', 'slack.users');
feed('users', $p->transaction({ id => 'U1', name => 'ann', deleted => JSON::PP::false, profile => { email => 'a@x.example', title => 'CTO' } }));
feed('users', $p->transaction({ id => 'U1', name => 'bo' }, { id => 'U1', name => 'ann2', profile => { real_name => 'Ann' } }));
is_doc('slack_raw.users', "id = 'U1'", { _meta => {}, id => 'U1', name => 'ann2', profile => { real_name => 'Ann' } }, 'the whole document is replaced');
is($node->rows("SELECT name, email, deleted IS NULL FROM slack_raw.users WHERE id = 'U1'"), 'ann2||t', 'and so are the columns');
feed('users', $p->transaction({ id => 'U1', _meta => $deleted }));
is($node->rows("SELECT is_deleted, name, doc #>> '{profile,real_name}', doc #>> '{_meta,op}' FROM slack_raw.users WHERE id = 'U1'"), 't|ann2|Ann|d', 'a tombstone keeps what the row was');
feed('users', $p->transaction({ id => 'U1' }));
is_doc('slack_raw.users', "id = 'U1'", { _meta => {}, id => 'U1' }, 'until the next document');
$node->follow('members', 'acme/members', 'slack.channel_members', { delete => 'hard' });
feed('members', $p->transaction(map { { channel_id => $_->[0], member_id => $_->[1] } } [ 'C1', 'U1' ], [ 'C1', 'U2' ], [ 'C2', 'U1' ]));
feed('members', $p->transaction({ channel_id => 'C1', member_id => 'U1', _meta => $deleted }));
is($node->rows("SELECT channel_id, member_id FROM slack_raw.channel_members ORDER BY 1, 2"), "C1|U2\nC2|U1", 'a key can have two parts');

# ---- owners ----

$node->follow('owners', 'acme/owners', 'hubspot.owners', { delete => 'hard' });
feed('owners', $p->transaction({ id => 'o1', firstName => 'Ann', _meta => { op => 'c', row_id => 0 } }, { id => 'o2', firstName => 'Bob', _meta => { op => 'c', row_id => 1 } }));
feed('owners', $p->transaction({ id => 'o2', firstName => 'Bo', _meta => { op => 'u', row_id => 0 } }, { id => 'o2', _meta => { op => 'd', row_id => 1 } }));
is($node->rows('SELECT id, first_name, is_deleted FROM hubspot_raw.owners ORDER BY id'), "o1|Ann|f\no2|Bo|f", 'owners are keyed by id, and their positional tombstones are ignored');

# ---- across journals ----

for my $case ([ 'clocks below 2^63', at(10), at(20), at(30) ],
	[ 'clocks around 2^63', (1 << 63) - 256, (1 << 63) + 256, ~0 << 16 ])
{
	my ($name, $low, $middle, $high) = @$case;
	my $suffix = $low > at(100) ? 'b' : 'a';
	my $first = sub { feed($_[0], $_[1], "pivot=00") };
	my $other = sub { feed($_[0], $_[1], "pivot=80000000") };

	$first->('users', single({ id => "X$suffix", name => 'middle' }, $middle));
	$other->('users', single({ id => "X$suffix", name => 'low' }, $low));
	is($node->rows("SELECT name FROM slack_raw.users WHERE id = 'X$suffix'"), 'middle', "$name: an older document of another journal is dropped");
	$other->('users', single({ id => "X$suffix", name => 'high' }, $high));
	is($node->rows("SELECT name FROM slack_raw.users WHERE id = 'X$suffix'"), 'high', 'a newer one wins');
	$first->('users', single({ id => "X$suffix", _meta => $deleted }, $middle + 16));
	is($node->rows("SELECT name, is_deleted FROM slack_raw.users WHERE id = 'X$suffix'"), 'high|f', 'an older tombstone deletes nothing');

	$first->('contacts', single({ id => "X$suffix", properties => { firstname => 'middle', phone => undef } }, $middle));
	$other->('contacts', single({ id => "X$suffix", url => 'low', properties => { firstname => 'low', phone => 'low', lastname => 'low' }, _meta => { op => 'c' } }, $low));
	is($node->rows("SELECT firstname, lastname, phone, url, source_journal, source_clock::bit(64) = (${middle}::numeric - CASE WHEN $middle > 9223372036854775807 THEN 18446744073709551616 ELSE 0 END)::bigint::bit(64), doc -> '_meta' ? 'op' FROM hubspot_raw.contacts WHERE id = 'X$suffix'"),
		'middle|low||low|acme/contacts/pivot=00|t|f', 'under merge an older one fills only what the row does not have');
	$other->('contacts', single({ id => "X$suffix", properties => { firstname => 'high', phone => 'high' } }, $high));
	is($node->rows("SELECT firstname, lastname, phone, source_journal FROM hubspot_raw.contacts WHERE id = 'X$suffix'"), 'high|low|high|acme/contacts/pivot=80000000', 'and a newer one is merged');

	$node->follow('transcripts', 'acme/transcripts', 'gong.call_transcripts') if $suffix eq 'a';
	my $said = sub { return { callId => "T$suffix", transcript => [ map { { speakerId => 's', sentences => [ { start => 0, end => 1, text => $_ } ] } } @_ ] } };
	$first->('transcripts', single($said->('one', 'two'), $middle));
	$other->('transcripts', single($said->('low'), $low));
	is($node->rows("SELECT string_agg(text, ' ' ORDER BY seq) FROM gong_raw.call_transcripts WHERE call_id = 'T$suffix'"), 'one two', 'an older transcript of another journal is dropped');
	# Its first row is unchanged and keeps the smaller clock; the transcript as a whole is as new as its newest row.
	$other->('transcripts', single($said->('one', 'three'), $high));
	$first->('transcripts', single($said->('low'), $middle + 160));
	is($node->rows("SELECT string_agg(text, ' ' ORDER BY seq) FROM gong_raw.call_transcripts WHERE call_id = 'T$suffix'"), 'one three', 'a newer one replaces it and stays');
}

# Commit order counts within a journal, whatever the clocks say: the larger clock is committed first here.
my ($a, $b) = map { Sophia::Documents->producer($_, at(500)) } '150000000010', '170000000011';
feed('users', $a->document({ id => 'order', name => 'small clock' }) . $b->document({ id => 'order', name => 'large clock' }, clock => at(600))
	. $b->ack(clock => at(601)) . $a->ack);
is($node->rows("SELECT name FROM slack_raw.users WHERE id = 'order'"), 'small clock', 'within a journal commit order decides');

# ---- Slack: two collections, one row ----

$node->follow('channel_messages', 'acme/channel_messages', 'slack.messages');
$node->follow('threads', 'acme/threads', 'slack.messages');
my @key = (channel_id => 'C1', ts => '1780000000.000100');
feed('channel_messages', $p->transaction({ @key, user => 'U1', text => 'Hello', reply_count => 2, reactions => [ { name => 'wave' } ] }));
feed('threads', $p->transaction({ @key, text => 'Hello!', thread_ts => '1780000000.000100' }, { channel_id => 'C1', ts => '1780000001.000100', user => 'U2', text => 'Hi', thread_ts => '1780000000.000100' }));
is($node->rows("SELECT ts, user_id, text, reply_count, reactions, thread_ts, is_reply, from_stream FROM slack_raw.messages ORDER BY ts"),
	"1780000000.000100|U1|Hello!|2|[{\"name\": \"wave\"}]|1780000000.000100|f|threads\n1780000001.000100|U2|Hi|||1780000000.000100|t|threads",
	'channel_messages and threads merge into one row');
feed('channel_messages', single({ @key, text => 'late', reply_count => 1, permalink => 'link' }, clock_of(1_700_000_000)));
is($node->rows("SELECT text, reply_count, permalink, from_stream FROM slack_raw.messages WHERE ts = '1780000000.000100'"), 'Hello!|2|link|threads',
	'an older document of the other collection fills what is missing');

# ---- Gong ----

$node->follow('calls', 'acme/calls', 'gong.calls');
my $parties = sub { return [ map { { id => $_->[0], name => $_->[1], speakerId => "s$_->[0]", emailAddress => lc($_->[1]) . '@x.example' } } @_ ] };
my $party_rows = "SELECT party_id, ordinal, name FROM gong_raw.call_parties WHERE call_id = 'G1' ORDER BY ordinal";
feed('calls', $p->transaction({ id => 'G1', title => 'Basic', duration => 60, media => 'Video', started => '2026-01-01T00:00:00Z' }));
is($node->rows("SELECT title, duration_s, has_parties FROM gong_raw.calls WHERE id = 'G1'"), 'Basic|60|f', 'the basic form of a call');
feed('calls', $p->transaction({ id => 'G1', metaData => { id => 'G1', title => 'Extensive', duration => 61 }, content => { brief => 'Short' },
			parties => $parties->([ 'p1', 'Ann' ], [ 'p2', 'Bob' ], [ 'p3', 'Cy' ]) }));
is($node->rows("SELECT title, duration_s, media, brief, has_parties, doc ->> 'title' FROM gong_raw.calls WHERE id = 'G1'"), 'Extensive|61|Video|Short|t|Basic',
	'the extensive form is merged with it, and the newer one is read first');
is($node->rows($party_rows), "p1|1|Ann\np2|2|Bob\np3|3|Cy", 'its parties are rows');
is($node->rows("SELECT doc ->> 'name' FROM gong_raw.call_parties WHERE party_id = 'p2'"), 'Bob', 'whose doc is their own element');
feed('calls', $p->transaction({ id => 'G1', title => 'Basic again' }));
is($node->rows("SELECT title, brief, has_parties FROM gong_raw.calls WHERE id = 'G1'"), 'Basic again|Short|t', 'the basic form erases nothing of the extensive one');
is($node->rows($party_rows), "p1|1|Ann\np2|2|Bob\np3|3|Cy", 'a call without parties leaves them');
my $stamps = "SELECT party_id, changed_xid, xmin, source_offset FROM gong_raw.call_parties WHERE party_id = 'p1'";
my $before = $node->rows($stamps);
feed('calls', $p->transaction({ id => 'G1', parties => $parties->([ 'p1', 'Ann' ], [ 'p3', 'Cyd' ]) }));
is($node->rows($party_rows), "p1|1|Ann\np3|2|Cyd", 'a new array replaces them');
is($node->rows($stamps), $before, 'an unchanged one is not written');
feed('calls', $p->transaction({ id => 'G1', parties => [] }));
is($node->rows($party_rows), '', 'an empty array removes them');
feed('calls', $p->transaction({ id => 'G1', parties => $parties->([ 'p9', 'Zoe' ]) }, { id => 'G1', _meta => $deleted }));
is($node->rows("SELECT c.is_deleted, p.is_deleted FROM gong_raw.calls c JOIN gong_raw.call_parties p ON p.call_id = c.id WHERE c.id = 'G1'"), 't|t', 'a tombstone marks the call and its parties')
  or diag($node->rows("SELECT * FROM gong_raw.call_parties WHERE call_id = 'G1'"));
# The same documents give the same rows, whether they meet in one batch or not.
for my $together (1, 0)
{
	for my $case ([ 'G3', 'parties before a tombstone', { parties => $parties->([ 'p1', 'Ann' ]) }, { _meta => $deleted }, { title => 'Back' } ],
		[ 'G4', 'a tombstone after which nobody takes part', { title => 'Away', _meta => $deleted }, { title => 'Back' } ],
		[ 'G5', 'parties after a tombstone', { _meta => $deleted }, { parties => $parties->([ 'p2', 'Bob' ]) } ])
	{
		my ($id, $name, @documents) = @$case;
		$id .= $together ? 'a' : 'b';
		my @lines = map { $p->outside({ id => $id, %$_ }) } { parties => $parties->([ 'p0', 'Old' ]) }, @documents;
		my $first = shift @lines;
		feed('calls', $first);
		feed('calls', $_) for $together ? join('', @lines) : @lines;
		is($node->rows("SELECT c.is_deleted, c.title, string_agg(p.name || ' ' || p.is_deleted, ',') FROM gong_raw.calls c LEFT JOIN gong_raw.call_parties p ON p.call_id = c.id WHERE c.id = '$id' GROUP BY c.id"),
			{ G3 => 'f|Back|Ann true', G4 => 'f|Back|Old true', G5 => 'f||Bob false' }->{ substr $id, 0, 2 }, $name . ($together ? ', together' : ', one by one'));
	}
}
feed('calls', $p->transaction({ metaData => { id => 'G2' }, parties => [ { name => 'No id' }, { id => 'p1' }, { id => 'p1', name => 'Twice' } ] }));
is($node->rows("SELECT count(*), count(DISTINCT party_id) FROM gong_raw.call_parties WHERE call_id = 'G2'"), '3|3', 'parties without an id or with a taken one have rows too');

my $monologue = sub { my ($speaker, $text) = @_; return { speakerId => $speaker, sentences => [ { start => 1, end => 2, text => $text } ] } };
my $rows = "SELECT seq, speaker_id, text, sentiment, sentiment_score FROM gong_raw.call_transcripts WHERE call_id = 'G1' ORDER BY seq";
feed('transcripts', $p->transaction({ callId => 'G1', transcript => [ $monologue->('a', 'One'), $monologue->('b', 'Two'), $monologue->('a', 'Three'), $monologue->('b', 'Four') ] }));
$node->safe_psql('postgres', "UPDATE gong_raw.call_transcripts SET sentiment = 'label ' || seq, sentiment_score = seq, sentiment_model = 'm', party_id = 'p' WHERE call_id = 'G1'");
$before = $node->rows("SELECT xmin, changed_xid FROM gong_raw.call_transcripts WHERE call_id = 'G1' AND seq = 1");
feed('transcripts', $p->transaction({ callId => 'G1', transcript => [ $monologue->('a', 'One'), $monologue->('b', 'Two, changed'), $monologue->('b', 'Three') ] }));
is($node->rows($rows), "1|a|One|label 1|1\n2|b|Two, changed||\n3|b|Three||", 'a shorter transcript replaces the rows; sentiment stays where speaker and text are equal');
is($node->rows("SELECT xmin, changed_xid FROM gong_raw.call_transcripts WHERE call_id = 'G1' AND seq = 1"), $before, 'an unchanged monologue is not written');
$node->safe_psql('postgres', "UPDATE gong_raw.call_transcripts SET sentiment = 'label ' || seq, sentiment_score = seq WHERE call_id = 'G1'");
feed('transcripts', $p->transaction({ callId => 'G1', transcript => [ $monologue->('c', 'New'), $monologue->('a', 'One'), $monologue->('b', 'Three') ] }));
is($node->rows($rows), "1|c|New||\n2|a|One|label 1|1\n3|b|Three|label 3|3", 'sentiment follows a monologue that moved');
is($node->rows("SELECT doc #>> '{sentences,0,text}', doc ? '_meta' FROM gong_raw.call_transcripts WHERE call_id = 'G1' AND seq = 3"), 'Three|f', 'doc is the monologue');
feed('transcripts', $p->transaction({ callId => 'G1', _meta => $deleted }));
is($node->rows("SELECT count(*), bool_and(is_deleted) FROM gong_raw.call_transcripts WHERE call_id = 'G1'"), '3|t', 'a tombstone marks the rows of a transcript');
feed('transcripts', $p->transaction({ callId => 'G1', transcript => [ $monologue->('c', 'New') ] }));
is($node->rows("SELECT seq, text, is_deleted FROM gong_raw.call_transcripts WHERE call_id = 'G1'"), '1|New|f', 'a later one takes that back');

# ---- computed columns ----

$node->safe_psql('postgres', "UPDATE hubspot_raw.contacts SET merged_into = 'other' WHERE id = 'c2'");
feed('contacts', $p->transaction({ id => 'c2', properties => { firstname => 'Bob' } }));
is($node->rows("SELECT firstname, merged_into FROM hubspot_raw.contacts WHERE id = 'c2'"), 'Bob|other', 'the ingest leaves computed columns alone');

$node->stop;
done_testing();
