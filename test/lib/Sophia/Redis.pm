# A real redis-server of its own, by TCP and by a unix socket, in memory only.
#
#   my $redis = Sophia::Redis->new(password => 'x');     # no password: it wants none
#   $redis->host_port; $redis->socket;                   # where it is
#   $redis->command('DBSIZE');                           # what redis-cli says
#   $redis->kill; $redis->start; $redis->hang; $redis->go_on;
package Sophia::Redis;
use strict;
use warnings;
use Carp qw(croak);
use File::Temp ();
use IO::Socket::INET;
use IPC::Run ();
use POSIX ();
use Time::HiRes qw(sleep time);

my @servers;

sub new
{
	my ($class, %p) = @_;
	my $self = bless { owner => $$, password => $p{password}, folder => File::Temp->newdir('sophia_redis_XXXXXX', TMPDIR => 1) }, $class;
	my $free = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or croak "no port: $!";
	$self->{port} = $free->sockport;
	close $free;
	push @servers, $self;
	return $self->start;
}

sub host_port { return "127.0.0.1:$_[0]{port}" }
sub socket { return "$_[0]{folder}/s" }

sub start
{
	my ($self) = @_;
	my @password = defined $self->{password} ? ('--requirepass', $self->{password}) : ();
	my $until = time + 30;
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		open STDOUT, '>', "$self->{folder}/log";
		open STDERR, '>&', \*STDOUT;
		no warnings "exec";
		exec { "redis-server" } "redis-server", '--port', $self->{port}, '--bind', '127.0.0.1', '--unixsocket', $self->socket,
		  '--save', '', '--appendonly', 'no', '--dir', "$self->{folder}", @password;
		POSIX::_exit(1);
	}
	$self->{pid} = $pid;
	while ($self->command('PING') !~ /PONG/)
	{
		croak 'redis-server does not start' if time > $until;
		sleep 0.05;
	}
	return $self;
}

sub command
{
	my ($self, @words) = @_;
	local $ENV{REDISCLI_AUTH} = $self->{password} // '';
	delete $ENV{REDISCLI_AUTH} if !defined $self->{password};
	IPC::Run::run([ 'redis-cli', '-p', $self->{port}, @words ], '>', \my $out, '2>', \my $error);
	chomp $out;
	return $out;
}

# Makes it stand still, and go on.
sub hang { CORE::kill 'STOP', $_[0]{pid} }
sub go_on { CORE::kill 'CONT', $_[0]{pid} }

sub kill
{
	my ($self) = @_;
	return if !$self->{pid};
	CORE::kill('KILL', $self->{pid});
	waitpid $self->{pid}, 0;
	$self->{pid} = undef;
	return;
}

END
{
	my $status = $?;
	for my $server (@servers)
	{
		$server->kill if $server->{owner} == $$;
	}
	$? = $status;
}

1;
