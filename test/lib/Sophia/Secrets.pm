# A folder of secrets, as sophia_stack.secrets_directory names one.
#
#   my $secrets = Sophia::Secrets->new;
#   my $node = Sophia::Cluster->create('main', secrets => $secrets->folder);
#   $secrets->write('token', 'text');
package Sophia::Secrets;
use strict;
use warnings;
use PostgreSQL::Test::Utils ();

sub new
{
	my ($class) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	chmod 0700, $folder;
	return bless { folder => $folder }, $class;
}

sub folder { return $_[0]{folder} }

# Replaces a secret by rename, as an operator does.
sub write
{
	my ($self, $name, $secret) = @_;
	my $file = "$self->{folder}/$name";
	PostgreSQL::Test::Utils::append_to_file("$file.new", "$secret\n");
	rename "$file.new", $file or die "rename: $!";
	return;
}

1;
