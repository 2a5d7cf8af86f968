# What becomes of dead letters: replayed, discarded, counted, limited, announced.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(OUTSIDE);
use Sophia::Ingest;
use JSON::PP qw(decode_json);
use Test::More;

my $node = Sophia::Ingest->create('main', conf => "sophia_stack.dead_letter_limit = 40\n");
my $p = Sophia::Documents->producer('030000000001');
my $uuid = '"_meta":{"uuid":"%s"}';
my %journal;

sub feed
{
	my ($stream, $bytes, $name) = @_;
	($journal{ $name // $stream } //= $node->journal('acme/' . ($name // $stream)))->write($bytes);
	ok($node->await_stream($stream), "$stream: caught up");
}

# A document that waits for the table to accept it.
sub refused { return map { { id => $_, properties => { firstname => "refused $_", lastname => 'L' } } } @_ }
sub replay { return $node->rows("SELECT * FROM sophia.replay_dead_letters($_[0])") }
sub contacts { return $node->rows("SELECT string_agg(id || ':' || coalesce(firstname, ''), ' ' ORDER BY id) FROM hubspot_raw.contacts WHERE id ~ '$_[0]'") }
sub fails_with
{
	my ($sql, $sqlstate, $message, $name) = @_;
	my (undef, undef, $error) = $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($error, qr/ERROR:  $sqlstate: $message/, $name);
}
sub refuse { $node->safe_psql('postgres', "ALTER TABLE hubspot_raw.contacts ADD CONSTRAINT refuse CHECK (firstname !~ '^refused') NOT VALID") }
sub admit { $node->safe_psql('postgres', 'ALTER TABLE hubspot_raw.contacts DROP CONSTRAINT refuse') }

# ---- replay ----

refuse();
$node->follow('c', 'acme/c', 'hubspot.contacts');
feed('c', $p->outside(refused('a1', 'a2'), { id => 'a2', properties => { email => 'new@example.com' } })
	. $p->raw("{$uuid,\"id\":}", flags => OUTSIDE) . $p->outside(refused('a3')));
is($node->status('c', 'documents_dead, dead_letters'), '4|4', 'stream_status counts them');
is(replay("'c'"), '0|4', 'what is refused again fails again');
is($node->rows("SELECT count(*), count(*) FILTER (WHERE reason ~ 'violates check constraint \"refuse\"'), count(*) FILTER (WHERE reason ~ 'valid JSON') FROM sophia.dead_letters"), '4|3|1', 'and stays with its reason');
admit();
my ($first) = $node->rows("SELECT id FROM sophia.dead_letters WHERE encode(document, 'escape') ~ 'refused a1'");
is(replay("'c', ARRAY[$first, NULL, 999999]"), '1|0', 'one of them is replayed by its id');
is(contacts('^a'), 'a1:refused a1 a2:', 'and is a row, alone');
is(replay("stream => 'c'"), '2|1', 'the others are replayed; what is no JSON is not');
is($node->rows("SELECT firstname, email FROM hubspot_raw.contacts WHERE id = 'a2'"), 'refused a2|new@example.com', 'an older document fills what the row lacks');
is($node->rows("SELECT source_journal, (SELECT max(source_clock) FROM hubspot_raw.contacts WHERE id = 'a2') = source_clock FROM hubspot_raw.contacts WHERE id = 'a2'"), 'acme/c/pivot=00|t', 'whose origin stays');
is($node->status('c', 'documents_dead, dead_letters'), '4|1', 'both counts tell');
is(replay("'c'"), '0|1', 'again does nothing');

# A dead letter is newer than its row of another journal, or older: the clock decides, whatever their order in the journal.
$node->follow('o', 'acme/o', 'hubspot.owners');
$node->safe_psql('postgres', "ALTER TABLE hubspot_raw.owners ADD CONSTRAINT refuse CHECK (last_name <> 'x')");
feed('o', $p->outside({ id => '1', lastName => 'old' }, { id => '1', lastName => 'x', firstName => 'late' }));
feed('o', $p->outside({ id => '2', lastName => 'x' }));
feed('o', $p->outside({ id => '2', lastName => 'newer' }));
$node->safe_psql('postgres', 'ALTER TABLE hubspot_raw.owners DROP CONSTRAINT refuse');
is(replay("'o'"), '2|0', 'both are replayed');
is($node->rows('SELECT id, last_name, first_name FROM hubspot_raw.owners ORDER BY id'), "1|x|late\n2|newer|", 'the larger clock wins');

# A setting that has changed, a key that has come, elements.
$node->follow('t', 'acme/t', 'gong.call_transcripts');
$node->safe_psql('postgres', "ALTER TABLE gong_raw.call_transcripts ADD CONSTRAINT refuse CHECK (text <> 'no')");
my $said = sub { return { callId => '7', transcript => [ map { { speakerId => 's', sentences => [ { start => 1, end => 2, text => $_ } ] } } @_ ] } };
feed('t', $p->outside($said->('no'), $said->('yes', 'and'), $said->('yes', 'no')));
$node->safe_psql('postgres', 'ALTER TABLE gong_raw.call_transcripts DROP CONSTRAINT refuse');
is(replay("'t'"), '2|0', 'transcripts are replayed');
is($node->rows('SELECT string_agg(text, \' \' ORDER BY seq) FROM gong_raw.call_transcripts'), 'yes no', 'the newest one is the call\'s');

# A table of the user's that every document is appended to: the place in the journal is the key.
$node->safe_psql('postgres', q(SELECT sophia.create_table_for('{"type": "object", "properties": {"n": {"type": "integer"}}}', 'public.events', '{}')));
$node->safe_psql('postgres', 'ALTER TABLE public.events ADD CONSTRAINT refuse CHECK (n > 0)');
$node->follow('e', 'acme/e', 'generic', { table => 'public.events', reduce => 'none' });
feed('e', $p->outside({ n => 1 }, { n => -1 }, { n => 2 }, { n => -1 }));
$node->safe_psql('postgres', 'ALTER TABLE public.events DROP CONSTRAINT refuse');
is(replay("'e'"), '2|0', 'events are replayed');
is($node->rows("SELECT string_agg(n::text, ' ' ORDER BY source_offset) FROM public.events"), '1 -1 2 -1', 'each to its place');

# ---- many of them, twice at a time ----

refuse();
$node->follow('many', 'acme/many', 'hubspot.contacts');
$node->append_conf('postgresql.conf', "sophia_stack.dead_letter_limit = -1\n");
$node->reload;
feed('many', $p->transaction(refused(map { sprintf 'm%04d', $_ } 1 .. 2500)));
is($node->status('many', 'dead_letters, state'), '2500|running', 'there may be any number of them without a limit');
admit();
$node->safe_psql('postgres', 'CREATE TABLE public.written (id text); CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.written VALUES (NEW.id); RETURN NEW; END $$;
  CREATE TRIGGER note BEFORE INSERT OR UPDATE ON hubspot_raw.contacts FOR EACH ROW EXECUTE FUNCTION public.note()');
my @calls = map { $node->beside("SELECT * FROM sophia.replay_dead_letters('many')") } 1, 2;
$_->{run}->finish for @calls;
is(join(' ', sort map { ${ $_->{out} } =~ s/\s+//r } @calls), '0|0 2500|0', 'of two calls at a time one replays, the other finds nothing');
is($node->rows('SELECT count(*), count(DISTINCT id) FROM public.written'), '2500|2500', 'each is written once');
is(${ $calls[0]{err} } . ${ $calls[1]{err} }, '', 'neither fails');
is($node->rows("SELECT count(*) FROM hubspot_raw.contacts WHERE id ~ '^m'"), '2500', 'in slices, all of them');
$node->safe_psql('postgres', 'DROP TRIGGER note ON hubspot_raw.contacts');

# ---- discard; streams that are gone ----

refuse();
feed('c', $p->outside(refused('d1', 'd2', 'd3')));
is($node->rows("SELECT sophia.discard_dead_letters('c', (SELECT array_agg(id) FROM sophia.dead_letters WHERE encode(document, 'escape') ~ 'refused d2'))"), '1', 'one is discarded by its id');
is($node->rows("SELECT sophia.discard_dead_letters('o', (SELECT array_agg(id) FROM sophia.dead_letters))"), '0', 'not by the name of another stream');
$node->safe_psql('postgres', "SELECT sophia.drop_stream('c')");
fails_with("SELECT * FROM sophia.replay_dead_letters('c')", '42704', 'stream "c" does not exist any more', 'those of a dropped stream are not replayed');
is($node->rows("SELECT sophia.discard_dead_letters('c')"), '3', 'but discarded');
for my $function ('replay_dead_letters', 'discard_dead_letters')
{
	fails_with("SELECT sophia.$function('nothing')", '42704', 'stream "nothing" does not exist', "$function: an unknown stream");
	fails_with("SELECT sophia.$function(NULL)", '22004', 'stream must not be null', "$function: no stream");
}

# ---- the limit ----

$node->append_conf('postgresql.conf', "sophia_stack.dead_letter_limit = 10\n");
$node->reload;
$node->follow('l', 'acme/l', 'hubspot.contacts');
feed('l', $p->outside(refused(map { "l$_" } 1 .. 10)) . $p->outside({ id => 'lx' }));
is($node->status('l', 'state, dead_letters'), 'running|10', 'as many as the limit are kept');
$journal{l}->write($p->outside(refused('l11')) . $p->outside({ id => 'ly' }));
is($node->failure_of('l'), 'stream has more than 10 dead letters (sophia_stack.dead_letter_limit): replay or discard them, then start the stream', 'with one more the stream fails, and says why');
is($node->status('l', 'dead_letters'), '11', 'which is recorded');
is(contacts('^l[xy]'), 'lx: ly:', 'with all of its batch');
$node->safe_psql('postgres', "SELECT sophia.start_stream('l')");
like($node->failure_of('l'), qr/more than 10 dead letters/, 'started without more, it fails anew');
admit();
is(replay("'l'"), '11|0', 'they are replayed');
$node->safe_psql('postgres', "SELECT sophia.start_stream('l')");
feed('l', $p->outside({ id => 'lz' }));
is($node->status('l', 'state, last_error, dead_letters, documents_dead'), 'running||0|11', 'and the stream goes on');

# ---- the first of a kind is announced ----

my $listener = $node->background_psql('postgres', on_error_stop => 0);
my $heard = sub {
	my $out = $listener->query('SELECT 1') // '';
	return map { decode_json($_) } $out =~ /Asynchronous notification "sophia_dead_letter" with payload "(\{.*?\})" received/g;
};
$listener->query('LISTEN sophia_dead_letter');
$node->follow('n', 'acme/n', 'hubspot.contacts');
my $bad = sub { return $p->raw("{$uuid,\"id\":\"n$_[0]\",\"properties\":{\"createdate\":\"never $_[0]\"}}", flags => OUTSIDE) };
feed('n', $bad->(1) . $bad->(2) . $p->raw("{$uuid,\"id\":\"n5\",\"archived\":\"maybe\"}", flags => OUTSIDE));
my @said = sort { $a->{id} <=> $b->{id} } $heard->();
is(scalar @said, 2, 'one notification a kind');
is_deeply($said[0], { stream => 'n', sqlstate => '22007', reason => 'value "never 1" of column "createdate" is no timestamp', id => $node->rows("SELECT min(id) FROM sophia.dead_letters WHERE stream = 'n'") }, 'it tells stream, reason and id');
like($said[1]{reason}, qr/archived/, 'another column is another kind');
feed('n', $bad->(3));
is(scalar(() = $heard->()), 0, 'more of a kind are not announced');
$node->safe_psql('postgres', "SELECT sophia.discard_dead_letters('n')");
feed('n', $bad->(4));
is(scalar(() = $heard->()), 1, 'once all of them are gone, the next is the first again');
$listener->quit;

$node->stop;
done_testing();
