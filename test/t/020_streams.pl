# The life of a stream, the numbers that it shows, and the sample company with all its shapes.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Documents qw(clock_of OUTSIDE CONTROL);
use Sophia::Ingest;
use Test::More;

my $company = File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir('company'));
system_or_bail(abs_path(dirname(__FILE__) . '/../sample/company'), '--out', "$company/files");
my $expected = JSON::PP->new->utf8->decode(slurp_file("$company/files/expected.json"));

my $node = Sophia::Ingest->create('main', fragments => undef, conf => <<"CONF");
sophia_stack.fragment_directories = '$PostgreSQL::Test::Utils::tmp_check,$company'
CONF
my $contacts = 'SELECT id, firstname, is_deleted FROM hubspot_raw.contacts ORDER BY id';

# Rows of everything that a stream keeps about itself.
sub kept
{
	my ($stream) = @_;
	return join ' ', map { $node->rows("SELECT count(*) FROM sophia.$_ WHERE stream = '$stream'") }
	  qw(checkpoints producers staged_documents dead_letters);
}

sub contact
{
	my ($id, $name) = @_;
	return { id => $id, properties => { firstname => $name } };
}

# ---- start and stop ----

my $producer = Sophia::Documents->producer('030000000001', clock_of(1_780_000_000));
my $journal = $node->journal('acme/contacts');
$journal->write($producer->transaction(contact(1, 'Ann'), contact(2, 'Bob'), contact(3, 'Cy')));
$node->follow('contacts', 'acme/contacts', 'hubspot.contacts', { start => JSON::PP::false });
is($node->status('contacts', 'state, journals, applied_offset, write_head, lag_bytes, documents_applied, last_document_at, last_error, worker_pid'),
	'stopped|0|0|0|0|0|||', 'a stream that is not to start is stopped and knows nothing');
my ($error, $text) = $node->error_of("SELECT sophia.await_stream('contacts')");
like($error, qr/^55000: stream "contacts" is stopped$/, 'it cannot be waited for');
like($text, qr/HINT:.*start_stream/, 'and the hint says how to start it');
is($node->rows($contacts), '', 'it writes no row');

$node->safe_psql('postgres', "SELECT sophia.start_stream('contacts')");
ok($node->await_stream('contacts'), 'it is started and caught up');
is($node->rows($contacts), "1|Ann|f\n2|Bob|f\n3|Cy|f", 'the rows are there at once');
my $worker = $node->worker_pid('ingest');
is($node->status('contacts', 'stream, endpoint, collection, shape, state, last_error, worker_pid'),
	"contacts|store|acme/contacts|hubspot.contacts|running||$worker", 'the status tells what it is');
is($node->status('contacts', 'journals, applied_offset, write_head, lag_bytes'), join('|', 1, ($journal->offset) x 2, 0),
	'and how far it is');

# A duplicate, a tombstone, a bad document, a control document and an open transaction.
my $chunk = $producer->document(contact(2, 'Bea')) . $producer->document(contact(2, 'Bo'));
$journal->write($chunk . $chunk . $producer->document({ id => 3, _meta => { op => 'd' } }) . $producer->ack);
$journal->write($producer->document({ nothing => 1 }, flags => OUTSIDE) . $producer->document({}, flags => CONTROL));
my $last = $producer->tick;
$journal->write($producer->document(contact(4, 'Di'), flags => OUTSIDE, clock => $last));
$journal->write($producer->document(contact(5, 'Ed')));
ok($node->await_stream('contacts'), 'caught up with more');
is($node->status('contacts', 'documents_applied, documents_reduced, documents_deleted, documents_dead'), '7|3|1|1',
	'documents are counted once, as they took effect');
is($node->status('contacts', "last_document_at = timestamptz '2026-05-28 20:26:40+00' + 11 * interval '1 us'"), 't',
	'the last document has the time of its uuid');
is($node->rows("SELECT journal, applied_offset, write_head, lag_bytes, documents_applied FROM sophia.stream_journals WHERE stream = 'contacts'"),
	join('|', $journal->name, ($journal->offset) x 2, 0, 7), 'its journal has a row');
is(kept('contacts'), '1 1 1 1', 'it keeps a checkpoint, a producer, a staged document and a dead letter');

$node->safe_psql('postgres', "SELECT sophia.start_stream('contacts')");
is($node->status('contacts', 'state'), 'running', 'starting a running stream does nothing');
$node->safe_psql('postgres', "SELECT sophia.stop_stream('contacts')");
is($node->status('contacts', 'state, worker_pid'), 'stopped|', 'it is stopped');
$node->safe_psql('postgres', "SELECT sophia.stop_stream('contacts')");
is($node->status('contacts', 'state'), 'stopped', 'stopping a stopped stream does nothing');
# The other stream proves that the worker has had its turn.
$journal->write($producer->ack);
$node->journal('acme/owners')->write($producer->outside({ id => 'o1' }));
$node->follow('owners', 'acme/owners', 'hubspot.owners');
ok($node->await_stream('owners'), 'another stream goes on');
is($node->rows("SELECT count(*) FROM hubspot_raw.contacts WHERE id = '5'"), '0', 'what comes while it is stopped is not written');
$node->safe_psql('postgres', "SELECT sophia.start_stream('contacts')");
ok($node->await_stream('contacts'), 'it starts again');
is($node->rows($contacts), "1|Ann|f\n2|Bo|f\n3|Cy|t\n4|Di|f\n5|Ed|f", 'where it had stopped');
is($node->status('contacts', 'documents_applied'), '8', 'and nothing was applied twice');

# ---- transactions of the user ----

$node->safe_psql('postgres', "BEGIN; SELECT sophia.create_stream('undone', 'store', 'acme/contacts', 'hubspot.contacts'); ROLLBACK");
is($node->status('undone', 'state'), '', 'a stream whose creation is rolled back does not exist');
$node->safe_psql('postgres', "BEGIN; SELECT sophia.stop_stream('contacts'); ROLLBACK");
$journal->write($producer->outside(contact(6, 'Flo')));
ok($node->await_stream('contacts'), 'a stop that is rolled back stops nothing');
is($node->rows("SELECT firstname FROM hubspot_raw.contacts WHERE id = '6'"), 'Flo', 'the stream goes on');

$node->safe_psql('postgres', "BEGIN; SELECT sophia.stop_stream('contacts'), sophia.start_stream('contacts'); COMMIT");
ok($node->wait_for_status('contacts', 'state', 'running'), 'a stream that is stopped and started at once is running');
$node->safe_psql('postgres', 'TRUNCATE hubspot_raw.owners');
$node->safe_psql('postgres', "BEGIN; SELECT sophia.drop_stream('owners'), sophia.create_stream('owners', 'store', 'acme/owners', 'hubspot.owners'); COMMIT");
ok($node->await_stream('owners'), 'a stream that is dropped and created at once is caught up');
is($node->rows('SELECT id FROM hubspot_raw.owners'), 'o1', 'from the start');

# ---- the timeout of await ----

$journal->skip(10);
$journal->write($producer->outside(contact(7, 'Gil')));
is($node->safe_psql('postgres', "SELECT sophia.await_stream('contacts', '200 ms')"), 'f', 'await is false when the time is up');
is($node->safe_psql('postgres', "SELECT sophia.await_stream('contacts', '0')"), 'f', 'also at once');
is($node->safe_psql('postgres', "SELECT sophia.await_stream('contacts', '-1 s')"), 'f', 'and with a time that is over');
my $waiting = $node->beside("SELECT sophia.await_stream('contacts', '60 s')");
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%await%' AND pid <> pg_backend_pid()", 1);
$node->safe_psql('postgres', "SELECT sophia.stop_stream('contacts')");
$waiting->{run}->finish;
like(${ $waiting->{err} }, qr/stream "contacts" is stopped/, 'who waits is told when the stream is stopped');

# ---- drop, and reading again from the start ----

my $offset = $journal->offset;
my $before = $node->rows('SELECT id, firstname, is_deleted, doc, source_clock, source_journal, source_offset FROM hubspot_raw.contacts ORDER BY id');
$node->safe_psql('postgres', "SELECT sophia.drop_stream('contacts')");
is($node->status('contacts', 'state'), '', 'a dropped stream is gone');
is(kept('contacts'), '0 0 0 1', 'its checkpoint goes with it, its dead letters stay');
is($node->rows('SELECT count(*) FROM hubspot_raw.contacts'), '6', 'and so do its rows');
like($node->error_of("SELECT sophia.await_stream('contacts')"), qr/^42704: /, 'it cannot be waited for');
$node->follow('contacts', 'acme/contacts', 'hubspot.contacts');
$node->wait_for_status('contacts', 'documents_applied', 9);
is($node->rows('SELECT id, firstname, is_deleted, doc, source_clock, source_journal, source_offset FROM hubspot_raw.contacts ORDER BY id'),
	$before, 'one of the same name reads everything again and changes no row');
is(kept('contacts'), '1 1 0 1', 'the dead letter is not written again');
$node->safe_psql('postgres', "SELECT sophia.drop_stream('contacts')");

# ---- start_from ----

my $owners = $node->journal('acme/late');
my $open = $producer->document({ id => 'before', email => 'a' });
$owners->write($producer->outside({ id => 'old', email => 'a' }) . $open);
$node->follow('late', 'acme/late', 'hubspot.owners', { start_from => 'end' });
$node->wait_for_status('late', 'state', 'running');
is($node->status('late', 'applied_offset, documents_applied'), $owners->offset . '|0', 'a stream from the end begins there');
$owners->write($producer->document({ id => 'new', email => 'b' }) . $producer->ack);
my $second = $node->journal('acme/late', name => 'pivot=80000000');
$second->write($producer->outside({ id => 'second', email => 'c' }));
ok($node->await_stream('late'), 'it is caught up');
is($node->rows("SELECT id FROM hubspot_raw.owners WHERE id <> 'o1' ORDER BY id"), "new\nsecond",
	'it applies what came later, and a journal that came later from its start');
$node->safe_psql('postgres', "SELECT sophia.stop_stream('late')");
$owners->write($producer->outside({ id => 'stopped', email => 'd' }));
$node->safe_psql('postgres', "SELECT sophia.start_stream('late')");
ok($node->await_stream('late'), 'stopped and started');
is($node->rows("SELECT count(*) FROM hubspot_raw.owners WHERE id = 'stopped'"), '1', 'it goes on from its checkpoint, not from the end');

# A worker that has not heard yet does nothing any more for the stream of that name that was there before.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
CREATE TRIGGER hold BEFORE INSERT ON hubspot_raw.companies FOR EACH ROW EXECUTE FUNCTION public.hold();
SQL
$node->journal('acme/first')->write($producer->outside({ id => 'first' }));
$node->follow('first', 'acme/first', 'hubspot.companies');
ok($node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sophia_stack ingest' AND wait_event = 'PgSleep'", 1), 'a worker is busy with another stream');
$owners->write($producer->outside({ id => 'unread', email => 'e' }));
$node->safe_psql('postgres', q(BEGIN; SELECT sophia.drop_stream('late'), sophia.create_stream('late', 'store', 'acme/late', 'hubspot.owners', '{"start_from": "end"}'); COMMIT));
ok($node->await_stream('late'), 'one of the same name is caught up');
is($node->status('late', 'applied_offset, documents_applied'), ($owners->offset + $second->offset) . '|0', 'from where it was to begin');
$node->safe_psql('postgres', 'DROP TRIGGER hold ON hubspot_raw.companies; TRUNCATE hubspot_raw.companies');

# ---- the sample company ----

$node->safe_psql('postgres', 'TRUNCATE hubspot_raw.contacts, hubspot_raw.owners, sophia.dead_letters');
$node->safe_psql('postgres', "SELECT sophia.drop_stream(stream) FROM sophia.streams");
$node->safe_psql('postgres', "SELECT sophia.create_endpoint('company', 'fragments', '$company/files')");
my $streams = $expected->{streams};
is(scalar keys %{ { map { $_->{shape} => 1 } values %$streams } }, 12, 'the company has all twelve shapes');
is($node->safe_psql('postgres', "SELECT string_agg(collection, ' ' ORDER BY collection COLLATE \"C\"), sum(bytes) FROM sophia.collections('company')"),
	join('|', join(' ', sort map { $_->{collection} } values %$streams), eval { my $n = 0; $n += $_->{bytes} for values %$streams; $n }),
	'the endpoint lists its collections');
$node->safe_psql('postgres', join '', map { "SELECT sophia.create_stream('$_', 'company', '$streams->{$_}{collection}', '$streams->{$_}{shape}');\n" } sort keys %$streams);
for my $stream (sort keys %$streams)
{
	my $wanted = $streams->{$stream};
	ok($node->await_stream($stream), "$stream: caught up");
	is($node->status($stream, 'state, journals, applied_offset, write_head, lag_bytes, documents_applied, documents_deleted, documents_dead, last_error'),
		join('|', 'running', $wanted->{journals}, ($wanted->{bytes}) x 2, 0, $wanted->{documents} - $wanted->{positional_deletes},
			@$wanted{qw(tombstones dead_letters)}, ''), "$stream: numbers");
	is($node->rows("SELECT count(*) FROM sophia.staged_documents WHERE stream = '$stream'"), $wanted->{staged}, "$stream: staged documents");
}
for my $table (sort keys %{ $expected->{tables} })
{
	is($node->rows("SELECT count(*), count(*) FILTER (WHERE is_deleted) FROM $table"),
		join('|', @{ $expected->{tables}{$table} }{qw(rows deleted)}), "$table: rows");
}
my %kind = ('22P02' => 'malformed', '22P05' => 'nul', '23502' => 'key');
is_deeply(
	[ map { my ($stream, $name, $state) = split /\|/; "$stream $name " . ($kind{$state} // $state) }
		  split /\n/, $node->rows('SELECT stream, journal, sqlstate FROM sophia.dead_letters ORDER BY 1, 2, 3') ],
	[ sort map { "$_->{stream} $_->{journal} $_->{kind}" } @{ $expected->{dead_letters} } ], 'dead letters');
for my $never (@{ $expected->{never} })
{
	is($node->rows("SELECT count(*) FROM $never->{table} WHERE doc::text LIKE '%$never->{text}%'"), '0',
		"$never->{table}: never '$never->{text}'");
}

# What a list of single values expects.
sub check_values
{
	for my $value (@_)
	{
		my $where = join ' AND ', map { "$_ = " . quoted($value->{key}{$_}) } sort keys %{ $value->{key} };
		my $wanted = !defined $value->{value} ? 'IS NULL' : '= ' . quoted($value->{value});
		my $found = $node->rows("SELECT $value->{column}::text $wanted FROM $value->{table} WHERE $where");
		is($found, 't', "$value->{table}.$value->{column} where $where")
		  or diag("found " . $node->rows("SELECT $value->{column} FROM $value->{table} WHERE $where"));
	}
	return;
}

sub quoted { return "'" . $_[0] =~ s/'/''/gr . "'" }

cmp_ok(scalar @{ $expected->{values} }, '>', 20, 'there are values to find');
check_values(@{ $expected->{values} });

# ---- the refresh over it ----

my %processed = %{ $expected->{processed} };
$node->safe_psql('postgres', 'CALL sophia.refresh()');
for my $table (qw(unified_contacts interaction_timeline))
{
	is($node->rows("SELECT source_system, count(*) FROM processed_data.$table GROUP BY 1 ORDER BY 1"),
		join("\n", map { "$_|$processed{$table}{$_}" } sort keys %{ $processed{$table} }), "processed_data.$table: rows");
}
check_values(@{ $processed{values} });
is($node->rows("SELECT count(DISTINCT source_system) FROM processed_data.unified_contacts WHERE email_norm = " . quoted($expected->{hero}{email})), '3',
	'all three systems know the hero');
my $stamps = join ' UNION ALL ', map { "SELECT '$_', xmin::text, ctid::text FROM processed_data.$_" }
  qw(unified_contacts interaction_timeline interaction_participants);
my $stamped = $node->rows("SELECT count(*), md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM ($stamps) t");
$node->safe_psql('postgres', 'CALL sophia.refresh()');
is($node->rows("SELECT count(*), md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM ($stamps) t"), $stamped,
	'a second refresh writes no row');
is($node->rows("SELECT DISTINCT rows_inserted + rows_updated + rows_deleted FROM sophia.refresh_log WHERE id > (SELECT max(id) - 2 FROM sophia.refresh_log)"),
	'0', 'and says so');

$node->stop;
done_testing();
