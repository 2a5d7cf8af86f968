# Phone numbers of 20 countries in many written forms: normalize_phone beside libphonenumber-js, of which test/phone has
# the pinned version.  Nothing is skipped: without that library this test fails.
use strict;
use warnings;
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use Test::More;

my $tools = dirname(__FILE__) . '/../phone';
my $folder = $ENV{SOPHIA_PHONE_ORACLE} // `$tools/build`;
chomp $folder;
ok(-d "$folder/node_modules/libphonenumber-js", 'libphonenumber-js is installed')
  or BAIL_OUT('normalize_phone cannot be compared: test/phone/build could not install libphonenumber-js');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'sophia_stack'\n");
$node->start;
my $answers = $node->data_dir . '/answers';
is(system("node $tools/oracle '$folder' >'$answers'"), 0, 'the library answers');

$node->safe_psql('postgres', 'CREATE EXTENSION sophia_stack;
	CREATE TABLE answers (region text, number text, expected text, ours text)');
$node->safe_psql('postgres', "COPY answers (region, number, expected) FROM '$answers' (NULL '\\N');
	UPDATE answers SET ours = sophia.normalize_phone(number, nullif(region, ''))");
my ($all, $valid, $regions, $same) = split /\|/, $node->safe_psql('postgres', q{
	SELECT count(*), count(*) FILTER (WHERE expected <> ''), count(DISTINCT region) FILTER (WHERE region <> ''),
	  count(*) FILTER (WHERE coalesce(ours, '') = expected) FROM answers});
cmp_ok($all, '>=', 2000, "$all numbers are compared");
cmp_ok($valid, '>=', 2000, "$valid of them are valid");
is($regions, 20, 'they are of 20 countries');
note "disagreement, region|number|libphonenumber-js|normalize_phone: $_"
  for split /\n/, $node->safe_psql('postgres', q{SELECT * FROM answers WHERE coalesce(ours, '') <> expected ORDER BY 1, 2});
cmp_ok($same, '>=', 0.99 * $all, "$same of $all are the same E.164 or the same refusal");
$node->stop;
done_testing();
