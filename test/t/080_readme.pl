# The README, executed: each block of SQL runs, and shows what the block after it says.
#
# Blocks run in their order in one database, as a reader would run them.  A block marked `sql cron` needs pg_cron and is
# left out.  Places of the README stand for those of the test: its folder of fragments and its broker.
use strict;
use warnings;
no warnings 'portable';       # 64-bit literals
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::Documents qw(clock_of);
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
mkdir "$folder/$_" or die "cannot make $folder/$_: $!" for qw(fragments secrets);
command_ok([ 'test/sample/company', '--out', "$folder/fragments/sample" ], 'the sample company is written');

my $broker = Sophia::Broker->new(auth_key => 'supersecret')->start;
my $journal = $broker->create_journal('acmeCo/hubspot/contacts', generation => '1122334455667788');
my $producer = Sophia::Documents->producer('030000000001', clock_of(1_700_000_000));
$broker->put($journal, $producer->transaction(
	{ id => '101', properties => { email => 'ann@example.com', firstname => 'Ann' } },
	{ id => '102', properties => { email => 'bo@example.com' } }));
append_to_file("$folder/secrets/broker_token", $broker->token(collection => 'acmeCo/hubspot/contacts') . "\n");

my $node = Sophia::Cluster->create('main', databases => 'staging', extension => 0,
	fragments => "$folder/fragments", secrets => "$folder/secrets");
$node->safe_psql('postgres', 'CREATE DATABASE staging');
my %place = ('/srv/fragments' => "$folder/fragments", 'https://broker.example.com:8080' => $broker->address);

# What psql prints for a block, without blanks at the ends of lines; and its exit status.
sub run_block
{
	my ($sql) = @_;
	local $ENV{PGTZ} = 'UTC';
	$sql =~ s/\Q$_\E/$place{$_}/g for keys %place;
	IPC::Run::run([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('staging') ],
		'<', \$sql, '>', \my $out, '2>', \my $err);
	my $status = $?;
	$out =~ s/ +$//mg;
	return ($status, $out, $err);
}

my $readme = slurp_file('README.md');
while ($readme =~ /^```sql\n(.*?)^```\n(?:```text\n(.*?)^```\n)?/msg)
{
	my ($sql, $expected) = ($1, $2);
	my $line = 1 + (substr($readme, 0, $-[0]) =~ tr/\n//);
	my ($status, $out, $err) = run_block($sql);
	is($status, 0, "README.md:$line runs") or diag($err);
	is($out, $expected, "README.md:$line shows what it says") if defined $expected;
}
$node->stop;
$broker->stop_all;

done_testing();
