# The README, executed: each block of SQL runs, and shows what the block after it says.
#
# Blocks run in their order in one database, as a reader would run them.  A block marked `sql cron` needs pg_cron and is
# left out.  Places of the README stand for those of the test: its folder of fragments and its broker; the control plane and the AI
# server are stand-ins.
use strict;
use warnings;
no warnings 'portable';       # 64-bit literals
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Sophia::Broker;
use Sophia::Cluster;
use Sophia::ControlPlane;
use Sophia::Documents qw(clock_of);
use Sophia::Provider;
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
my $plane = Sophia::ControlPlane->new($broker);
my $companies = $broker->create_journal('acmeCo/hubspot/companies', generation => '1122334455667788');
$broker->put($companies, $producer->transaction({ id => '901', properties => { name => 'Acme', domain => 'acme.example' } }));
$plane->collection('acmeCo/hubspot/companies', prefix => 'acmeCo/hubspot/companies/1122334455667788/');
$plane->collection('acmeCo/', data_plane => 'ops/dp/public/gcp-us-central1-c1', scope => 'acmeCo/hubspot/companies/');
append_to_file("$folder/secrets/estuary", $plane->user('ann@acme.test', 'acmeCo/') . "\n");
append_to_file("$folder/secrets/broker_token", $broker->token(collection => 'acmeCo/hubspot/contacts') . "\n");

my $provider = Sophia::Provider->new;
my $node = Sophia::Cluster->create('main', databases => 'staging', extension => 0,
	fragments => "$folder/fragments", secrets => "$folder/secrets",
	conf => "sophia_stack.control_plane = '${\$plane->address}'\n");
$node->safe_psql('postgres', 'CREATE DATABASE staging');
my %place = ('/srv/fragments' => "$folder/fragments", 'https://broker.example.com:8080' => $broker->address,
	'http://127.0.0.1:8000' => $provider->address);

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

# The lines that show the form of a document are what the README says of them.
my ($lines) = $readme =~ /^```json lines\n(.*?)^```\n/ms;
Sophia::Documents->journal("$folder/fragments/form", 'acmeCo/form/pivot=00')->write($lines);
$node->safe_psql('staging', "SELECT sophia.create_endpoint('form', 'fragments', '$folder/fragments/form')");
$node->safe_psql('staging', "SELECT sophia.create_stream('form', 'form', 'acmeCo/form', 'hubspot.contacts')");
is($node->safe_psql('staging', "SELECT sophia.await_stream('form')"), 't', 'the lines of the README are read');
is($node->safe_psql('staging', 'SELECT id, is_deleted FROM hubspot_raw.contacts '
	. "WHERE source_journal = 'acmeCo/form/pivot=00' ORDER BY id"), "1|t\n2|f\n3|f", 'and are what it says of them');
$node->stop;
$plane->stop;
$provider->stop;
$broker->stop_all;

done_testing();
