# Changing what runs: rewinding streams, altering streams and endpoints, pausing everything; and what progress shows.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find qw(find);
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Documents qw(clock_of OUTSIDE);
use Sophia::Ingest;
use Sophia::Wait qw(wait_for);
use Test::More;
use Time::HiRes qw(time usleep);

my $broker = Sophia::Broker->new->start;
my $company = File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir('company'));
my $node = Sophia::Ingest->create('main', fragments => undef, conf => <<"CONF");
sophia_stack.fragment_directories = '$PostgreSQL::Test::Utils::tmp_check,$company'
CONF
my $anchor = 1_780_000_000;
my $ann = Sophia::Documents->producer('030000000001', clock_of($anchor));
my $ben = Sophia::Documents->producer('030000000002', clock_of($anchor));

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub contact
{
	my ($id, %properties) = @_;
	return { id => $id, properties => \%properties };
}

# The rows of contacts but for when they were written.
sub contacts
{
	return $node->rows(
		"SELECT id, doc, is_deleted, source_clock, source_journal, source_offset FROM hubspot_raw.contacts ORDER BY id");
}

sub rewind
{
	my ($stream, $position) = @_;
	return sql("SELECT sophia.rewind_stream('$stream'" . (defined $position ? ", '$position'" : '') . ')');
}

sub checkpoint
{
	my ($journal, $columns) = @_;
	return $node->rows("SELECT $columns FROM sophia.checkpoints WHERE journal = '" . $journal->name . "'");
}

# A fragment of a time.
sub write_at
{
	my ($journal, $bytes, $time) = @_;
	my $path = $journal->write($bytes);
	utime $time, $time, $path or die "utime $path: $!";
	return $path;
}

# ---- from the beginning ----

my $journal = $node->journal('acme/contacts');
write_at($journal, $ann->transaction(contact(1, firstname => 'Ann', email => 'ann@example.com'), contact(2, firstname => 'Bo')), $anchor);
write_at($journal, $ann->transaction({ id => 1, _meta => { op => 'd' } }, contact(2, lastname => 'Lee')), $anchor + 1000);
write_at($journal, $ann->outside(contact(1, firstname => 'Anna')) . $ann->document({ nothing => 1 }, flags => OUTSIDE), $anchor + 2000);
write_at($journal, $ben->document(contact(3, firstname => 'Cy')), $anchor + 3000);
$node->follow('contacts', 'acme/contacts', 'hubspot.contacts');
ok($node->await_stream('contacts'), 'caught up');
my $rows = contacts();
my $state = checkpoint($journal, 'next_offset, write_head');
is(scalar(() = $rows =~ /^/gm), 2, 'two rows, and one document is staged');
is($node->status('contacts', 'documents_applied, documents_dead'), '5|1', 'five documents, one dead letter');

my $pid = $node->worker_pid('ingest');
rewind('contacts');
ok($node->await_stream('contacts'), 'a stream is rewound to the beginning while it runs');
is(contacts(), $rows, 'the rows are the same');
is(checkpoint($journal, 'next_offset, write_head'), $state, 'and so is the checkpoint');
is($node->status('contacts', 'documents_applied, documents_dead, state'), '10|1|running', 'everything was read again, the dead letter is the same');
is(sql('SELECT count(*), min(begin_offset) > 0 FROM sophia.staged_documents'), '1|t', 'what is open is staged, once');
is($node->worker_pid('ingest'), $pid, 'by the same process');

sql("DELETE FROM hubspot_raw.contacts WHERE id = '2'");
write_at($journal, $ben->ack, $anchor + 3500);
rewind('contacts', 'beginning');
ok($node->await_stream('contacts'), 'rewound again');
is(contacts() =~ s/^3\|.*//mr, "$rows\n", 'a row that was lost is back');
like(contacts(), qr/^3\|.*"Cy"/m, 'and the transaction that ended meanwhile is there');
$rows = contacts();

# A rewind that is not read through is rewound again.
sql("SELECT sophia.rewind_stream('contacts'), sophia.rewind_stream('contacts')");
ok($node->await_stream('contacts'), 'rewound twice at once');
is(contacts(), $rows, 'the rows are the same');
sql("BEGIN; SELECT sophia.rewind_stream('contacts'); ROLLBACK");
is($node->status('contacts', 'lag_bytes'), 0, 'a rewind that is rolled back does nothing');

# ---- to a time ----

# An open transaction, a repetition of what stands before the time, and a transaction that spans it.
my $before = $ann->outside(contact(5, firstname => 'old'));
write_at($journal, $before . $ann->outside(contact(5, firstname => 'new')), $anchor + 4000);
write_at($journal, $ben->document(contact(6, firstname => 'Ben spans')), $anchor + 5000);
my $late = $journal->offset;
write_at($journal, $before . $ann->outside(contact(6, firstname => 'Ann early')) . $ben->ack, $anchor + 9000);
ok($node->await_stream('contacts'), 'caught up with more');
$rows = contacts();
like($rows, qr/"firstname": "new".*\n.*"Ben spans"/, 'the order of commits counts, and a repetition not');
my $applied = $node->status('contacts', 'documents_applied');
rewind('contacts', '2026-05-28 22:30:00+00');    # between the last two
ok($node->await_stream('contacts'), 'rewound to a time');
is(contacts(), $rows, 'the rows are the same, though only a part was read again');
is(checkpoint($journal, 'rewound_from'), $late, 'from the fragment on that was written then');
cmp_ok($node->status('contacts', 'documents_applied') - $applied, '<=', 2, 'which are few documents');
is(sql("SELECT rewind_to IS NULL, rewound_at IS NOT NULL FROM sophia.streams WHERE stream = 'contacts'"), 't|t', 'nothing is left to do');

my $open = $journal->offset;
write_at($journal, $ben->document(contact(7, firstname => 'open')), $anchor + 10_000);
write_at($journal, $ann->outside(contact(8, firstname => 'x')), $anchor + 20_000);
ok($node->await_stream('contacts'), 'with a transaction that is open');
rewind('contacts', '2026-05-29 01:59:00+00');
ok($node->await_stream('contacts'), 'rewound behind its beginning');
is(checkpoint($journal, 'rewound_from'), $open, 'it is read from its first document on');
$journal->write($ben->ack);
ok($node->await_stream('contacts'), 'and when it ends');
like(contacts(), qr/^7\|.*"open"/m, 'nothing of it is lost');
rewind('contacts', '2100-01-01');
ok($node->await_stream('contacts'), 'a time that has not come');
is($node->status('contacts', 'lag_bytes'), 0, 'skips nothing');

# ---- to the end, and before a stream has begun ----

sql("SELECT sophia.stop_stream('contacts')");
$journal->write($ann->outside(contact(9, firstname => 'skipped')) . $ben->document(contact(10, firstname => 'cut')));
rewind('contacts', 'end');
is($node->status('contacts', 'state'), 'stopped', 'a stopped stream stays so');
sql("SELECT sophia.start_stream('contacts')");
ok($node->await_stream('contacts'), 'it goes on at the end');
$journal->write($ben->ack . $ann->outside(contact(11, firstname => 'next')));
ok($node->await_stream('contacts'), 'and reads on');
is(sql("SELECT string_agg(id, ' ' ORDER BY id::int) FROM hubspot_raw.contacts WHERE id::int > 8"), '11', 'what was skipped is not there');
rewind('contacts');
ok($node->await_stream('contacts'), 'until it is rewound');
is(sql("SELECT string_agg(id, ' ' ORDER BY id::int) FROM hubspot_raw.contacts WHERE id::int > 8"), '9 10 11', 'then it is');

my $users = $node->journal('acme/users');
$users->write($ann->outside({ id => 'u1' }));
$node->follow('users', 'acme/users', 'slack.users', { start => JSON::PP::false });
rewind('users', 'end');
sql("SELECT sophia.start_stream('users')");
ok($node->await_stream('users'), 'a stream that had not begun');
is(sql('SELECT count(*) FROM slack_raw.users'), 0, 'begins at the end');
sql("SELECT sophia.drop_stream('users')");
$node->follow('users', 'acme/users', 'slack.users', { start => JSON::PP::false, start_from => 'end' });
rewind('users');
sql("SELECT sophia.start_stream('users')");
ok($node->await_stream('users'), 'another');
is(sql('SELECT count(*) FROM slack_raw.users'), 1, 'at the beginning');

like(scalar $node->error_of("SELECT sophia.rewind_stream('nobody')"), qr/^42704/, 'an unknown stream');
like(scalar $node->error_of("SELECT sophia.rewind_stream('users', '$_')"), qr/^22023: invalid position/, "no position: $_")
  for 'middle', '', 'infinity', '2026-13-01';
like(scalar $node->error_of("SELECT sophia.rewind_stream('users', NULL)"), qr/^22004/, 'nor is null');

# ---- from a broker, by the time when it persisted ----

my $name = $broker->create_journal('acme/live', fragment => { length => 1024 });
sql("SELECT sophia.create_endpoint('broker', 'broker', '" . $broker->address . "')");
sql("SELECT sophia.create_stream('live', 'broker', 'acme/live', 'slack.channels')");
my $end = $broker->put($name, $ann->outside({ id => 'c1', name => 'x' x 2000 }));
ok($node->await_stream('live'), 'a document of a broker');
# The fragment is persisted once the next append begins another one; times of fragments are whole seconds.
my $persisted = 0;
wait_for('the fragment to be persisted', sub {
	$broker->put($name, '');
	($persisted) = map { $_->{fragment}{modTime} } $broker->post('read', { journal => $name, metadataOnly => JSON::PP::true });
	$persisted;
});
my $moment = sql("SELECT to_timestamp($persisted + 1)");
$broker->put($name, $ann->outside({ id => 'c2' }));
ok($node->await_stream('live'), 'and another, later');
$rows = sql('SELECT id, doc, source_offset FROM slack_raw.channels ORDER BY id');
sql("SELECT sophia.rewind_stream('live', '$moment')");
ok($node->await_stream('live'), 'rewound to between them');
is(sql("SELECT rewound_from, next_offset = write_head FROM sophia.checkpoints WHERE stream = 'live'"), "$end|t", 'the broker says where that is');
is(sql('SELECT id, doc, source_offset FROM slack_raw.channels ORDER BY id'), $rows, 'the rows are the same');
rewind('live', 'end');
ok($node->await_stream('live'), 'to the end');
rewind('live');
ok($node->await_stream('live'), 'and from the beginning');
is(sql('SELECT id, doc, source_offset FROM slack_raw.channels ORDER BY id'), $rows, 'the rows are the same again');

# ---- alter_stream ----

sub alter
{
	my ($stream, $options) = @_;
	return sql("SELECT sophia.alter_stream('$stream', '$options')");
}

alter('contacts', '{"delete": "hard"}');
$journal->write($ann->document({ id => 11, _meta => { op => 'd' } }, flags => OUTSIDE));
ok($node->await_stream('contacts'), 'an option is changed while the stream runs');
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE id = '11'"), 0, 'a tombstone removes the row now');
alter('contacts', '{"delete": null}');
is(sql("SELECT options FROM sophia.streams WHERE stream = 'contacts'"), '{}', 'null takes it back');
$journal->write($ann->document({ id => 9, _meta => { op => 'd' } }, flags => OUTSIDE));
ok($node->await_stream('contacts'), 'again');
is(sql("SELECT is_deleted FROM hubspot_raw.contacts WHERE id = '9'"), 't', 'and the next one marks it');

for (
	[ 'nobody', '{}', '42704' ],
	[ 'contacts', '{"colour": 1}', '22023: unknown stream option' ],
	[ 'contacts', '{"colour": null}', '22023: unknown stream option' ],
	[ 'contacts', '{"delete": "maybe"}', '22023: invalid value' ],
	[ 'contacts', '[]', '22023' ],
	[ 'contacts', '{"start": false}', '22023: stream option "start"' ],
	[ 'contacts', '{"start_from": "end"}', '55000: stream "contacts" has begun' ])
{
	my ($stream, $options, $error) = @$_;
	like(scalar $node->error_of("SELECT sophia.alter_stream('$stream', '$options')"), qr/^$error/, "refused: $options");
}
like(scalar $node->error_of("SELECT sophia.alter_stream('contacts', NULL)"), qr/^22004/, 'refused: null');
$node->follow('later', 'acme/users', 'slack.users', { start => JSON::PP::false });
alter('later', '{"start_from": "end", "delete": "hard"}');
is(sql("SELECT options - 'start' FROM sophia.streams WHERE stream = 'later'"), '{"delete": "hard", "start_from": "end"}', 'before it begins, start_from can be changed');
sql("SELECT sophia.drop_stream('later')");

# ---- alter_endpoint ----

my $store = $node->store;
rename $store, "$store.moved" or die "rename: $!";
mkdir $store or die "mkdir: $!";
rename "$store.moved", "$store/moved" or die "rename: $!";
my $moved = Sophia::Documents->journal("$store/moved", 'acme/contacts/pivot=00', $journal->offset);
$moved->write($ann->outside(contact(20, firstname => 'moved')));
$applied = $node->status('contacts', 'documents_applied');
sql("SELECT sophia.alter_endpoint('store', '$store/moved')");
ok($node->await_stream('contacts'), 'a folder moves, and the endpoint with it');
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE id = '20'"), 1, 'the stream reads on there');
is($node->status('contacts', 'documents_applied'), $applied + 1, 'from its checkpoint');

sql("SELECT sophia.alter_endpoint('broker', options => '{\"token\": \"env:NOBODY\"}')");
is(sql("SELECT address, options FROM sophia.endpoints WHERE endpoint = 'broker'"), $broker->address . '|{"token": "env:NOBODY"}', 'an option of an endpoint is changed alone');
ok($node->poll_query_until('postgres', "SELECT last_error LIKE '%NOBODY%' FROM sophia.stream_status WHERE stream = 'live'"), 'its streams notice');
sql("SELECT sophia.alter_endpoint('broker', options => '{\"token\": null}')");
ok($node->await_stream('live'), 'and go on when it is taken back');
for (
	[ "'nobody'", '42704' ],
	[ "'broker', 'ftp://127.0.0.1'", '22023' ],
	[ "'store', 'http://127.0.0.1:9'", '22023' ],
	[ "'store', '/nowhere'", '42501' ],
	[ "'broker', options => '{\"tokens\": 1}'", '22023' ],
	[ "'broker', options => '{\"tokens\": null}'", '22023' ],
	[ "'broker', options => '{\"token\": \"secret\"}'", '22023' ])
{
	my ($arguments, $error) = @$_;
	like(scalar $node->error_of("SELECT sophia.alter_endpoint($arguments)"), qr/^$error/, "refused: $arguments");
}

# ---- progress ----

is(sql("SELECT phase, documents > 0, bytes = bytes_total, bytes_left, time_left, started_at < updated_at FROM sophia.stream_progress WHERE stream = 'contacts'"),
	'live|t|t|0|00:00:00|t', 'a stream that has caught up is live');
sql("SELECT sophia.create_stream('nothing', 'store', 'acme/nothing', 'hubspot.companies')");
ok($node->poll_query_until('postgres', "SELECT last_error IS NOT NULL FROM sophia.stream_status WHERE stream = 'nothing'"), 'a stream whose collection is not there');
is(sql("SELECT phase, bytes_left, time_left IS NULL FROM sophia.stream_progress WHERE stream = 'nothing'"), 'starting|0|t', 'has no end in sight');
my $much = $node->journal('acme/much');
$much = Sophia::Documents->journal("$store/moved", 'acme/much/pivot=00');
$much->write(join('', map { $ann->outside({ id => "m$_", name => 'x' x 500 }) } 1 .. 2000)) for 1 .. 20;
# Each write of it lasts a moment, so that a look comes in time.
sql(q(CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
	CREATE TRIGGER linger BEFORE INSERT OR UPDATE ON hubspot_raw.companies EXECUTE FUNCTION public.linger()));
sql("SELECT sophia.create_stream('much', 'store', 'acme/much', 'hubspot.companies')");
ok($node->poll_query_until('postgres',
		"SELECT phase = 'backfill' AND documents > 0 AND bytes > 0 AND rate > 0 AND documents_per_second > 0 AND time_left > '0' AND bytes_left > 0"
		  . " FROM sophia.stream_progress WHERE stream = 'much'"), 'a backfill shows documents, bytes, rate and time left');
sql('DROP TRIGGER linger ON hubspot_raw.companies');
ok($node->await_stream('much'), 'it ends');
is(sql("SELECT phase, documents, bytes = bytes_total, bytes, time_left FROM sophia.stream_progress WHERE stream = 'much'"),
	"live|40000|t|" . $much->offset . '|00:00:00', 'with all there is');
rewind('much');
is(sql("SELECT documents, bytes, bytes_total FROM sophia.stream_progress WHERE stream = 'much'") =~ s/^\d+\|\d+\|//r, $much->offset, 'a rewind begins anew');
ok($node->await_stream('much'), 'and is read again');
is(sql("SELECT phase, documents FROM sophia.stream_progress WHERE stream = 'much'"), 'live|40000', 'counted from there');

# ---- the sample company, rewound to whatever time ----

sql("SELECT sophia.drop_stream(stream) FROM sophia.streams; TRUNCATE hubspot_raw.contacts, hubspot_raw.companies, slack_raw.users, slack_raw.channels");
system_or_bail(abs_path(dirname(__FILE__) . '/../sample/company'), '--out', "$company/files");
my $streams = JSON::PP->new->utf8->decode(slurp_file("$company/files/expected.json"))->{streams};
my $last = 0;
find(sub {
	return if !/^([0-9a-f]{16})-/;
	my $offset = hex $1;
	$last = $offset if $offset > $last;
	utime $anchor + $offset, $anchor + $offset, $_ or die "utime: $!";
}, "$company/files");
sql("SELECT sophia.create_endpoint('company', 'fragments', '$company/files')");
sql("SELECT sophia.create_stream('$_', 'company', '$streams->{$_}{collection}', '$streams->{$_}{shape}')") for sort keys %$streams;

# All rows of the raw tables but for when they were written.
sub company
{
	my @tables = split /\n/, sql("SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text LIKE '%\\_raw' ORDER BY 1");
	return join "\n", map { "$_: " . sql("SELECT count(*), md5(string_agg(r::text, E'\\n' ORDER BY r::text COLLATE \"C\")) FROM (SELECT to_jsonb(t) - 'ingested_at' - 'changed_xid' AS r FROM $_ t) s") } @tables;
}

sub await_company { return join ' ', grep { !$node->await_stream($_) } sort keys %$streams }

is(await_company(), '', 'the sample company is read');
$rows = company();
my $dead = sql('SELECT count(*), sum(begin_offset) FROM sophia.dead_letters');
my $seed = int($ENV{SOPHIA_SEED} // time ^ $$);
diag "SOPHIA_SEED=$seed";
srand $seed;
for my $position ('beginning', map { int rand $last } 1 .. 4)
{
	my $when = $position eq 'beginning' ? $position : sql('SELECT to_timestamp(' . ($anchor + $position) . ')');
	sql("SELECT sophia.rewind_stream('$_', '$when')") for sort keys %$streams;
	await_company();
	is(company(), $rows, "rewound to $position, it is as before");
}
is(sql('SELECT count(*), sum(begin_offset) FROM sophia.dead_letters'), $dead, 'and so are the dead letters');
sql("SELECT sophia.drop_stream(s) FROM unnest('{" . join(',', sort keys %$streams) . "}'::text[]) s");
sql("SELECT sophia.create_stream('contacts', 'store', 'acme/contacts', 'hubspot.contacts'), sophia.create_stream('much', 'store', 'acme/much', 'hubspot.companies')");
ok($node->await_stream($_), "$_ anew") for 'contacts', 'much';

# ---- pause ----

sql('ALTER SYSTEM SET sophia_stack.enabled = off');
my $waiting = $node->beside("BEGIN; LOCK TABLE hubspot_raw.contacts; SELECT pg_sleep(600)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'hubspot_raw.contacts'::regclass AND mode = 'AccessExclusiveLock'"), 'somebody holds the table');
$moved->write($ann->outside(contact(21, firstname => 'late')));
my $asking = $node->beside("SELECT sophia.await_stream('contacts', '600 s')");
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%await_stream%' AND pid <> pg_backend_pid()", 1);
my $started = time;
$node->reload;
$asking->{run}->finish;
cmp_ok(time - $started, '<', 60, 'who waits is told when the workers are paused');
like(${ $asking->{err} }, qr/ERROR:  the workers are paused\nHINT:  The setting sophia_stack.enabled is off/, 'and why');
for my $call ("await_stream('contacts')", "check_endpoint('store')", "collections('store')")
{
	my ($error, $text) = $node->error_of("SELECT sophia.$call");
	like($error, qr/^55000: the workers are paused/, "$call says so too");
	like($text, qr/HINT:  The setting sophia_stack.enabled is off/, 'with a hint');
}
is($node->status('contacts', 'state, last_error'), 'running|sophia_stack.enabled is off', 'so does the status');
is(sql("SELECT DISTINCT phase FROM sophia.stream_progress"), 'paused', 'and the progress');
sql("SELECT sophia.stop_stream('much'), sophia.rewind_stream('much'), sophia.start_stream('much')");
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND pid <> pg_backend_pid()");
$waiting->{run}->finish;
usleep(300_000);
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE id = '21'"), 0, 'nothing is written');
sql('ALTER SYSTEM RESET sophia_stack.enabled');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT current_setting('sophia_stack.enabled')", 'on'), 'switched on');
ok($node->await_stream($_), "$_ goes on") for 'contacts', 'much';
is(sql("SELECT count(*) FROM hubspot_raw.contacts WHERE id = '21'"), 1, 'with what had come');

$node->stop('fast');
done_testing();
