# The sample company is what its expected.json says, read by a program that shares no code with the one that wrote it.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir . '/sample';
command_ok([ 'test/sample/company', '--out', $folder ], 'the sample company is written');
command_ok([ 'test/sample/verify', $folder ], 'and can be verified');

done_testing();
