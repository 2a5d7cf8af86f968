# The test library against a real broker: what the other tests take as given.
use strict;
use warnings;
no warnings 'portable';       # 64-bit literals
use PostgreSQL::Test::Utils ();
use Sophia::Broker;
use Sophia::Documents qw(uuid clock_of OUTSIDE CONTINUE ACK);
use Sophia::Jwt;
use Test::More;

# Published vectors of document uuids, and the Unix epoch as a clock.
is(uuid('010000000001', 0x1122334455667788, 2), '45566778-2334-1112-a002-010000000001', 'uuid with an acknowledgement');
is(uuid('090607050309', 0x1e9cc5f83fc2f812, 1), '83fc2f81-cc5f-11e9-8801-090607050309', 'uuid inside a transaction');
is(clock_of(10), 0x1b21dd2197721000, 'clock of ten seconds after the epoch');

my $producer = Sophia::Documents->producer('030000000001', clock_of(1_700_000_000));
my $first = $producer->transaction({ id => 1, name => "Zo\x{eb}" }, { id => 2 });
my $second = $producer->outside({ id => 3 });
is(scalar(split /\n/, $first), 3, 'a transaction is its documents and an acknowledgement');

# Fragment files: named after offsets and content, and read back by the tool that everybody has.
my $store = Sophia::Documents->journal(PostgreSQL::Test::Utils::tempdir(), 'acme/contacts/pivot=00');
my $path = $store->write($first, codec => 'gz', members => 3, postfix => 'utc_date=2026-11-23/utc_hour=13');
like($path, qr{/acme/contacts/pivot=00/utc_date=2026-11-23/utc_hour=13/0{16}-[0-9a-f]{16}-[0-9a-f]{40}\.gz$},
	'the name of a fragment');
is(`gzip -dc $path`, $first, 'several gzip members are one content');
$path = $store->write($second);
like($path, qr/\/[0-9a-f]{16}-[0-9a-f]{16}-[0-9a-f]{40}\.raw$/, 'a raw fragment');
is(hex((split /-/, (split m{/}, $path)[-1])[0]), length $first, 'begins where the last one ended');
is(PostgreSQL::Test::Utils::slurp_file($path), $second, 'and holds the bytes as they are');

my $broker = Sophia::Broker->new->start;
my $journal = $broker->create_journal('acme/contacts', generation => '1122334455667788');
is($journal, 'acme/contacts/1122334455667788/pivot=00', 'the name of a journal');
is($broker->write_head($journal), 0, 'a new journal is empty');
is($broker->put($journal, $first), length $first, 'PUT tells the offset past the bytes');
$broker->put($journal, $second);
is($broker->read($journal), $first . $second, 'what was appended can be read');
is($broker->read($journal, length $first), $second, 'also from an offset on');

my $partition = $broker->create_journal('acme/contacts', fields => [ [ 'region', '%_null' ] ], pivot => '80000000');
$broker->put($partition, $second);
is($broker->read($partition), $second, 'a name with a percent sign works');
$broker->create_journal('acme/calls');
is_deeply([ map { $_->{spec}{name} } $broker->list('acme/contacts') ], [ $journal, $partition ],
	'a collection lists its journals');
is(scalar(my @all = $broker->list), 3, 'all journals can be listed');
$broker->delete_journal('acme/calls/pivot=00');
is(scalar(@all = $broker->list), 2, 'a journal can be deleted');

$broker->stop('TERM');
$broker->start;
is($broker->read($journal), $first . $second, 'content survives SIGTERM');
$broker->stop('KILL');
$broker->start;
$broker->put($partition, $first);
is(substr($broker->read($partition), -length $first), $first, 'a killed broker can be started again');
$broker->stop_all;

my $strict = Sophia::Broker->new(auth_key => 'supersecret')->start;
$journal = $strict->create_journal('acme/contacts');
$strict->put($journal, $first);
is(scalar(@all = eval { $strict->list('acme/contacts', token => '') }), 0, 'without a token nothing is listed');
like($@, qr/401/, 'but an error is');
ok(!eval { $strict->list('acme/contacts', token => Sophia::Jwt::mint(key => 'other')) }, 'nor with another key');
ok(!eval { $strict->list('acme/contacts', token => $strict->token(lifetime => -60)) }, 'nor with an old token');
is($strict->read($journal, 0, token => $strict->token(collection => 'acme/contacts')), $first, 'a token opens its collection');
is(scalar(@all = $strict->list(undef, token => $strict->token(collection => 'acme/calls'))), 0, 'and no other');
$strict->stop_all;

done_testing();
