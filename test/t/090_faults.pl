# Random faults while documents of twenty producers flow from a pair of brokers through a proxy: afterwards every document
# that the producers were told is appended and committed has taken effect once, and no other.
#
#   SOPHIA_SEED    the seed of an earlier run (printed by each)
#   SOPHIA_FAULTS  `long` for 100 000 documents and 200 faults instead of 10 000 and 24
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Sophia::BrokerPair;
use Sophia::Cluster;
use Sophia::Documents;
use Sophia::Expected;
use Sophia::Proxy;
use Sophia::Secrets;
use Sophia::Writer;
use Test::More;
use Time::HiRes qw(time usleep);

use constant { JOURNALS => 4, PRODUCERS => 5, APPEND => 25, KEYS => 4000, PATIENCE => 90 };

my $long = ($ENV{SOPHIA_FAULTS} // '') eq 'long';
my $documents = $long ? 100_000 : 10_000;

# How often each fault strikes, in the short form and in the long one.
my %faults = (
	'kill -9 of the ingest worker' => [ 2, 20, \&kill_worker, 'ingest', 'KILL' ],
	'kill -9 of the launcher' => [ 1, 10, \&kill_worker, 'launcher', 'KILL' ],
	'SIGTERM of the ingest worker' => [ 2, 20, \&kill_worker, 'ingest', 'TERM' ],
	'SIGTERM of the launcher' => [ 1, 10, \&kill_worker, 'launcher', 'TERM' ],
	'pg_terminate_backend' => [ 2, 20, \&terminate_worker ],
	'immediate shutdown' => [ 1, 10, \&shut_down ],
	'kill -9 of a broker' => [ 1, 10, \&kill_broker ],
	'SIGTERM of a broker' => [ 1, 10, \&replace_broker ],
	'connections cut' => [ 3, 20, \&cut_connections ],
	'answers that end at random bytes' => [ 3, 30, \&cut_answers ],
	'a token that expires' => [ 2, 12, \&expire_token ],
	'a table that is locked' => [ 2, 12, \&lock_table ],
	'rows that are locked' => [ 2, 8, \&lock_rows ],
	'a disk that is full' => [ 1, 8, \&fill_disk ]);

my $seed = int($ENV{SOPHIA_SEED} // time ^ $$);
srand $seed;
diag "SOPHIA_SEED=$seed";

my $secrets = Sophia::Secrets->new;
my $pair = Sophia::BrokerPair->new(auth_key => 'supersecret')->start;
my $proxy = Sophia::Proxy->new($pair);
my $expected = Sophia::Expected->new('merge', offsets => 0);
my %committed;    # uuids
my @writers = map {
	Sophia::Writer->new($pair, $pair->create_journal('acme/people', pivot => sprintf('%08x', $_ * 0x40000000)),
		[ $expected, bless({}, 'Committed') ])
} 0 .. JOURNALS - 1;

# Takes note of what the producers committed.
sub Committed::commit
{
	my ($self, $journal, $offset, $clock, $document) = @_;
	$committed{ $document->{_meta}{uuid} }++;
	return;
}

write_token(3600);
my $node = Sophia::Cluster->create('main', secrets => $secrets->folder);
$node->safe_psql('postgres', <<"SQL");
SELECT sophia.create_schemas();
SELECT sophia.create_table_for('{"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}', 'public.events', '{}');
SELECT sophia.create_endpoint('proxied', 'broker', '${\$proxy->address}', '{"token": "file:token"}');
SELECT sophia.create_stream('contacts', 'proxied', 'acme/people', 'hubspot.contacts');
SELECT sophia.create_stream('events', 'proxied', 'acme/people', 'generic', '{"table": "public.events", "reduce": "none"}');
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN RAISE 'could not extend file "base": No space left on device' USING ERRCODE = 'disk_full'; END \$\$;
SQL

# ---- faults ----

sub write_token
{
	my ($lifetime) = @_;
	$secrets->write('token', $pair->token(collection => 'acme/people', lifetime => $lifetime));
	return;
}

sub kill_worker
{
	my ($kind, $signal) = @_;
	my $pid = $node->kill_worker($kind, $signal);
	$node->wait_until_up($pid) if $signal eq 'KILL';
	return;
}

sub terminate_worker
{
	my $pid = $node->wait_for_worker('ingest');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	return;
}

sub shut_down
{
	$node->stop('immediate');
	append() for 1 .. 20;
	$node->start;
	return;
}

# While something is being appended.  Nothing more can be until the broker is back, which it is before another may go.
sub kill_broker
{
	my $killed = 0;
	local $SIG{ALRM} = sub { $pair->kill_member; $proxy->behind($pair->address); $killed = 1 };
	Time::HiRes::ualarm(1 + int rand 30_000);
	append() while !$killed;
	$pair->start_member if $pair->away;
	return;
}

sub replace_broker
{
	$pair->replace_member;
	$proxy->behind($pair->address);
	return;
}

sub cut_connections { $proxy->cut; return }

sub cut_answers
{
	$proxy->fault(on => 'read', times => 4, stop => { random => 40_000 });
	$proxy->cut;
	return;
}

# Running reads end when their token does; the next ones get 401 until there is another.
sub expire_token
{
	write_token(1);
	$proxy->cut;
	append() for 1 .. 20;
	usleep 300_000;
	write_token(3600);
	return;
}

# What a session does for a moment, beside the test.
sub beside
{
	my ($sql) = @_;
	my $run = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', "BEGIN; $sql; SELECT pg_sleep(0.4); COMMIT" ],
		'<', \undef, '>', '/dev/null', '2>', '/dev/null');
	append() for 1 .. 20;
	$run->finish;
	return;
}

sub lock_table { return beside('LOCK TABLE hubspot_raw.contacts IN ACCESS EXCLUSIVE MODE') }
sub lock_rows { return beside('SELECT FROM hubspot_raw.contacts FOR UPDATE') }

# Every write is refused as by a full disk for a while.
sub fill_disk
{
	$node->safe_psql('postgres', 'CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON hubspot_raw.contacts EXECUTE FUNCTION full_disk()');
	append() for 1 .. 20;
	usleep 200_000;
	$node->safe_psql('postgres', 'DROP TRIGGER full_disk ON hubspot_raw.contacts');
	return;
}

# ---- documents ----

sub random_document
{
	my ($journal) = @_;
	my $id = $journal . '-' . int rand KEYS / JOURNALS;
	return { id => $id, _meta => { op => 'd' } } if rand() < 0.02;
	my %properties = map { ("member_$_" => rand() < 0.1 ? undef : "value " . int rand 1e6) } map { int rand 8 } 1 .. 3;
	$properties{email} = "$id\@example.com" if rand() < 0.5;
	return { id => $id, properties => \%properties, _meta => { op => 'u' } };
}

my $appended = 0;

# One append to a journal: documents of its producers, also outside any transaction, then the ends of some.  Of one producer
# nothing follows the end of a transaction in the same append, since all of it may be appended once more.
sub append
{
	my $number = int rand JOURNALS;
	my $writer = $writers[$number];
	my @producers = map { sprintf '03000000%02d%02d', $number, $_ } 1 .. PRODUCERS;
	my $alone = pop @producers;
	for (1 .. APPEND)
	{
		if (rand() < 0.1) { $writer->outside($alone, random_document($number)) }
		else { $writer->document($producers[ rand @producers ], random_document($number)) }
		$appended++;
	}
	for my $producer (@producers)
	{
		my $luck = rand;
		if ($luck < 0.3) { $writer->ack($producer) }
		elsif ($luck < 0.35 && $writer->{producers}{$producer}{last_ack}) { $writer->rollback($producer) }
	}
	$writer->put_until_told(PATIENCE, sub { $pair->start_member if $pair->away });
	return;
}

# ---- the run ----

my @plan;
for my $name (sort keys %faults)
{
	push @plan, ($name) x $faults{$name}[$long];
}
for my $i (reverse 1 .. $#plan)
{
	my $j = int rand $i + 1;
	@plan[ $i, $j ] = @plan[ $j, $i ];
}

my $faults = @plan;
my $injected = 0;
my $started = time;
while ($appended < $documents || @plan)
{
	append();
	next if !@plan || $appended < ($injected + rand) * $documents / $faults;
	my $fault = shift @plan;
	my (undef, undef, $strike, @arguments) = @{ $faults{$fault} };
	note sprintf '%.1f s, %d documents: %s', time - $started, $appended, $fault;
	usleep rand 20_000;
	$strike->(@arguments);
	$injected++;
}
for my $writer (@writers)
{
	$writer->ack($_) for grep { $writer->open($_) } sort keys %{ $writer->{pending} };
	$writer->put_until_told(PATIENCE);
}
note sprintf 'appended %d documents in %.1f s', $appended, time - $started;

cmp_ok($injected, '>=', $long ? 200 : 24, 'so many faults struck');
ok($node->await_stream($_, 180), "stream $_ is caught up") for qw(contacts events);
note sprintf 'caught up after %.1f s', time - $started;
is($expected->differences($node, 'hubspot_raw.contacts'), '', 'the rows are as the committed documents make them');
is($node->safe_psql('postgres', 'SELECT count(*) FROM hubspot_raw.contacts'), $expected->rows, 'and so many');
is($node->safe_psql('postgres', 'SELECT stream, documents_applied, documents_dead, state FROM sophia.stream_status ORDER BY 1'),
	join("\n", map { "$_|" . $expected->committed . '|0|running' } qw(contacts events)),
	'each committed document is counted once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sophia.staged_documents'), 0, 'nothing stays staged');

my %rows = map { split /\|/ } split /\n/,
  $node->safe_psql('postgres', q{SELECT doc #>> '{_meta,uuid}', count(*) FROM public.events GROUP BY 1});
my $lost = grep { !$rows{$_} } keys %committed;
my $doubled = 0;
$doubled += $rows{$_} - ($committed{$_} ? 1 : 0) for keys %rows;
is($lost, 0, 'no committed document is lost');
is($doubled, 0, 'none is doubled, and none that was rolled back took effect');
diag "faults: $injected injected, $lost lost, $doubled doubled";

$node->stop;
$proxy->stop;
$pair->stop_all;
done_testing();
