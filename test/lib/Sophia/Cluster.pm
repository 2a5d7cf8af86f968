# A PostgreSQL::Test::Cluster with sophia_stack in it.
#
#   my $node = Sophia::Cluster->create('main');                    # started; extension made in postgres
#   my $node = Sophia::Cluster->create('plain', preload => 0);     # as if nobody had touched shared_preload_libraries
#   my $pid = $node->wait_for_worker('ingest');
#   $node->kill_worker('ingest', 'KILL');
package Sophia::Cluster;
use strict;
use warnings;
use parent 'PostgreSQL::Test::Cluster';
use Carp qw(croak);
use POSIX ();
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More ();

# Makes and starts a cluster.  Parameters:
#   preload    1: shared_preload_libraries holds sophia_stack (default)
#   databases  sophia_stack.databases (default postgres)
#   fragments  sophia_stack.fragment_directories: a folder or an array of them
#   secrets    sophia_stack.secrets_directory
#   conf       more lines of postgresql.conf
#   extension  1: CREATE EXTENSION in database postgres (default)
#   init       a hash of parameters for PostgreSQL::Test::Cluster's init()
#   start      1: is started (default); otherwise no extension is made either
sub create
{
	my ($class, $name, %p) = @_;
	my $self = $class->SUPER::new($name);
	my $preload = $p{preload} // 1;
	my @fragments = ref $p{fragments} ? @{ $p{fragments} } : grep { defined } $p{fragments};
	my $conf = "restart_after_crash = on\nmax_worker_processes = 16\nmax_connections = 40\n";

	$self->SUPER::init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ], %{ $p{init} // {} });
	if ($preload)
	{
		$conf .= "shared_preload_libraries = 'sophia_stack'\n";
		$conf .= "sophia_stack.databases = '" . ($p{databases} // 'postgres') . "'\n";
		$conf .= "sophia_stack.fragment_directories = '" . join(',', @fragments) . "'\n" if @fragments;
		$conf .= "sophia_stack.secrets_directory = '$p{secrets}'\n" if defined $p{secrets};
	}
	$self->append_conf('postgresql.conf', $conf . ($p{conf} // ''));
	return $self if !($p{start} // 1);
	$self->start;
	$self->safe_psql('postgres', 'CREATE EXTENSION sophia_stack') if $p{extension} // 1;
	return $self;
}

# The pid of a running worker ('ingest', 'launcher'), '' when there is none.
sub worker_pid
{
	my ($self, $kind, $database) = @_;
	my $where = defined $database ? " AND datname = '$database'" : '';
	return $self->safe_psql('postgres',
		"SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'sophia_stack $kind'$where");
}

# Waits until a worker runs that is not the process $other, and returns its pid.
sub wait_for_worker
{
	my ($self, $kind, $other) = @_;
	my $but = $other ? " AND pid <> $other" : '';
	$self->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'sophia_stack $kind'$but)")
	  or croak "no worker $kind appeared";
	return $self->worker_pid($kind);
}

# Sends a signal to a worker and returns the pid that it had.
sub kill_worker
{
	my ($self, $kind, $signal) = @_;
	my $pid = $self->wait_for_worker($kind);
	kill $signal, $pid or croak "cannot signal worker $kind, pid $pid: $!";
	return $pid;
}

# Seconds of processor time that a process has used.
sub processor_seconds
{
	my ($self, $pid) = @_;
	my @fields = split ' ', (slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr);
	return ($fields[11] + $fields[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# A test that a query comes to say true.
sub comes_true
{
	my ($self, $query, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return Test::More::ok($self->poll_query_until('postgres', $query), $what);
}

# What the server logged since the last call.
sub news
{
	my ($self) = @_;
	my $text = substr slurp_file($self->logfile), $self->{told} // 0;
	$self->{told} += length $text;
	return $text;
}

# Reads the configuration anew.  When it returns every process has been told: the postmaster tells them before it takes
# another connection.
sub reload
{
	my ($self) = @_;
	$self->SUPER::reload;
	$self->safe_psql('postgres', 'SELECT');
	return;
}

# Waits until no error of a stream is left.  A stream may be caught up a moment before its source is known to be well.
sub wait_until_well
{
	my ($self, $stream) = @_;
	return $self->poll_query_until('postgres', "SELECT last_error IS NULL FROM sophia.stream_status WHERE stream = '$stream'");
}

# Waits until the server answers again after it lost a process, which it may not have noticed yet.
sub wait_until_up
{
	my ($self, $killed) = @_;
	return $self->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $killed)");
}

# sophia.await_stream: true when the stream is caught up within so many seconds.
sub await_stream
{
	my ($self, $stream, $seconds, $database) = @_;
	$seconds //= $PostgreSQL::Test::Utils::timeout_default;
	return $self->safe_psql($database // 'postgres', "SELECT sophia.await_stream('$stream', '$seconds s')") eq 't';
}

# Runs SQL that must fail; returns "SQLSTATE: message" and the whole error text (with detail and hint).
sub error_of
{
	my ($self, $sql, $database) = @_;
	my ($status, $out, $err) = $self->psql($database // 'postgres', "\\set VERBOSITY verbose\n$sql");
	my ($first) = $err =~ /ERROR:\s+(.*)/;
	return wantarray ? ($first // '', $err) : $first // '';
}

1;
