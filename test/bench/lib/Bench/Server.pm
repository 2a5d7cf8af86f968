# A PostgreSQL server for a bench: this tree, built and installed into a copy of the PostgreSQL installation, and a
# cluster of its own that is reached by its socket only.  Everything lies in one temporary folder and ends with it.
#
#   my $server = Bench::Server->prepare(broker => 1);      # builds; a bench that runs as root goes on as user postgres
#   $server->start("shared_buffers = '1GB'\n");
#   print $server->sql('SELECT 1');
#
# PG_CONFIG names another PostgreSQL than Debian's 15, TMPDIR another place for the folder.
package Bench::Server;
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use POSIX ();
use Time::HiRes qw(sleep time);

use constant DATABASE => 'bench';

my $tree = abs_path(dirname(__FILE__) . '/../../../..');
my @servers;

# Installs what is missing, builds, and leaves the rights of root behind.  Parameters:
#   broker  also has the test broker built (Sophia::Broker then finds it)
#   bench   also has the programs installed that load a server
sub prepare
{
	my ($class, %p) = @_;
	my $self = bless { owner => $$ }, $class;

	run("$tree/test/install-deps", 'build', $p{bench} ? 'bench' : ());
	my $pg_config = $ENV{PG_CONFIG} // '/usr/lib/postgresql/15/bin/pg_config';
	$self->{version} = output($pg_config, '--version');
	$self->{folder} = tempdir('sophia_bench_XXXXXX', TMPDIR => 1);
	push @servers, $self;
	$self->_copy_installation($pg_config);
	$self->_copy_broker(output("$tree/test/broker/build")) if $p{broker};
	become_unprivileged($self->{folder}) if $> == 0;
	$self->_build($pg_config);
	return $self;
}

# The temporary folder.
sub folder { return $_[0]{folder} }

# What pg_config calls the version.
sub version { return $_[0]{version} }

# A folder below the temporary one.
sub make_folder
{
	my ($self, $name) = @_;
	make_path("$self->{folder}/$name");
	return "$self->{folder}/$name";
}

# Makes a cluster with these lines in its configuration, starts it, and makes database `bench` with the extension.
sub start
{
	my ($self, $settings) = @_;
	my $data = "$self->{folder}/data";

	run("$self->{bin}/initdb", '-D', $data, '-A', 'trust', '-U', 'postgres', '-N', '-E', 'UTF8', '--locale=C.UTF-8',
		'--no-instructions', { quiet => 1 });
	open my $file, '>>', "$data/postgresql.conf" or die "cannot write postgresql.conf: $!\n";
	print $file "listen_addresses = ''\nunix_socket_directories = '$self->{folder}'\n",
	  "shared_preload_libraries = 'sophia_stack'\nsophia_stack.databases = '", DATABASE, "'\n", $settings;
	close $file or die "cannot write postgresql.conf: $!\n";
	$self->{started} = 1;
	run("$self->{bin}/pg_ctl", '-D', $data, '-l', "$self->{folder}/server.log", '-s', '-w', 'start');
	$self->sql('CREATE DATABASE ' . DATABASE, database => 'postgres');
	$self->sql('CREATE EXTENSION sophia_stack');
	return;
}

# Runs a script in psql (several statements and backslash commands are fine) and returns what it printed, unaligned and
# without the last newline.  Parameters: database; watch, a function that is called some 20 times a second.
sub sql
{
	my ($self, $script, %p) = @_;
	my $input = "$self->{folder}/script.$$.sql";
	my $printed = "$self->{folder}/printed.$$";

	open my $file, '>', $input or die "cannot write $input: $!\n";
	print $file "$script\n";
	close $file or die "cannot write $input: $!\n";
	my $pid = fork // die "cannot fork: $!\n";
	if (!$pid)
	{
		open STDOUT, '>', $printed or POSIX::_exit(126);
		exec "$self->{bin}/psql", '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-h', $self->{folder}, '-U', 'postgres',
		  '-d', $p{database} // DATABASE, '-f', $input
		  or POSIX::_exit(127);
	}
	while (waitpid($pid, POSIX::WNOHANG) == 0)
	{
		$p{watch}->() if $p{watch};
		sleep 0.05 if $p{watch};
		sleep 0.005 if !$p{watch};
	}
	die "psql failed\n" if $? != 0;
	open $file, '<', $printed or die "cannot read $printed: $!\n";
	my $text = do { local $/; <$file> } // '';
	chomp $text;
	return $text;
}

# Runs pgbench with these arguments and returns what it printed.
sub pgbench
{
	my ($self, @arguments) = @_;
	open my $pipe, '-|', "$self->{bin}/pgbench", '-h', $self->{folder}, '-U', 'postgres', @arguments, DATABASE
	  or die "cannot run pgbench: $!\n";
	my $printed = do { local $/; <$pipe> };
	close $pipe or die "pgbench failed: $printed\n";
	return $printed;
}

# Waits, a minute at most, until a query says true.
sub wait_until
{
	my ($self, $query) = @_;

	for (1 .. 600)
	{
		return if $self->sql($query) eq 't';
		sleep 0.1;
	}
	die "not so within a minute: $query\n";
}

sub stop
{
	my ($self) = @_;
	return if !delete $self->{started};
	run("$self->{bin}/pg_ctl", '-D', "$self->{folder}/data", '-s', '-m', 'immediate', 'stop', { may_fail => 1 });
	return;
}

# Runs a command and dies when it fails.  Its output goes to standard error; options in a hash at the end: quiet,
# may_fail.
sub run
{
	my @command = @_;
	my $options = ref $command[-1] ? pop @command : {};
	my $pid = fork // die "cannot fork: $!\n";

	if (!$pid)
	{
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>&', \*STDERR or POSIX::_exit(126);
		!$options->{quiet} or open STDOUT, '>', '/dev/null' or POSIX::_exit(126);
		exec @command or POSIX::_exit(127);
	}
	waitpid $pid, 0;
	die "@command failed\n" if $? != 0 && !$options->{may_fail};
	return;
}

# The last line that a command prints.
sub output
{
	my @command = @_;
	open my $pipe, '-|', @command or die "cannot run $command[0]: $!\n";
	my @lines = <$pipe>;
	close $pipe or die "@command failed\n";
	chomp @lines;
	return $lines[-1];
}

# PostgreSQL finds its files relative to its program, so a copy of its folders is a complete installation.
sub _copy_installation
{
	my ($self, $pg_config) = @_;
	my $root = $self->make_folder('root');

	for my $what (qw(bindir pkglibdir sharedir))
	{
		my $folder = output($pg_config, "--$what");
		make_path("$root$folder");
		run('cp', '-a', "$folder/.", "$root$folder/");
	}
	$self->{bin} = $root . output($pg_config, '--bindir');
	return;
}

# The cache of the binaries may be closed to the user who runs them.
sub _copy_broker
{
	my ($self, $binaries) = @_;
	my $folder = $self->make_folder('broker');

	run('cp', map({ "$binaries/$_" } qw(etcd gazette gazctl)), $folder);
	$ENV{SOPHIA_BROKER_BIN} = $folder;
	return;
}

# PostgreSQL does not run as root: the process becomes user postgres, whom the folder then belongs to.
sub become_unprivileged
{
	my ($folder) = @_;
	my (undef, undef, $uid, $gid) = getpwnam 'postgres' or die "there is no user postgres to run the server\n";

	run('chown', '-R', "$uid:$gid", $folder);
	$) = "$gid $gid";
	$( = $gid;
	POSIX::setuid($uid) or die "cannot become user postgres: $!\n";
	$ENV{HOME} = $folder;
	chdir $folder or die "user postgres cannot enter $folder: $!\n";
	return;
}

sub _build
{
	my ($self, $pg_config) = @_;
	my $copy = $self->make_folder('tree');
	my $root = "$self->{folder}/root";

	delete @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE MAKEFLAGS MAKELEVEL)};
	run('sh', '-c', 'tar -C "$0" --exclude="*.o" --exclude="*.bc" --exclude="sophia_stack--*" -cf - Makefile'
		  . ' sophia_stack.control sql src | tar -C "$1" -xf - --no-same-owner', $tree, $copy);
	for my $goal ([ '-j2', 'all' ], [ "DESTDIR=$root", 'install' ])
	{
		run('make', '-s', '-C', $copy, "PG_CONFIG=$pg_config", 'with_llvm=no', @$goal);
	}
	return;
}

END
{
	local $?;
	for my $server (grep { $_->{owner} == $$ } @servers)
	{
		$server->stop;
		chdir '/';
		$ENV{KEEP} ? print "left behind: $server->{folder}\n" : remove_tree($server->{folder});
	}
}

1;
