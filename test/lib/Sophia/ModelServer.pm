# A real llama-server with one of the models that test/models/build keeps, on a free port of the loopback interface.
#
#   my $encoder = Sophia::ModelServer->start('minilm');     # 384 dimensions, at most 512 tokens
#   my $chat = Sophia::ModelServer->start('gemma', key => 'secret');
#   $encoder->address                                       # http://127.0.0.1:PORT
#   $encoder->stop;                                         # at the latest when the test ends
package Sophia::ModelServer;
use strict;
use warnings;
use Carp qw(croak);
use File::Basename qw(dirname);
use File::Temp ();
use HTTP::Tiny;
use POSIX ();
use Sophia::Ports qw(free_ports);
use Time::HiRes qw(sleep time);

my %arguments = (
	minilm => [qw(--embeddings -b 512 -ub 512)],
	random768 => [qw(--embeddings -b 512 -ub 512)],
	gemma => [qw(-np 4 -c 8192 --jinja)]);
my @servers;

# Starts a server and waits until it has loaded its model.  Parameters:
#   key   the key that requests must bear
#   port  a certain port: that of a server which was stopped
sub start
{
	my ($class, $model, %p) = @_;
	my $folder = folder();
	my $self = bless {
		owner => $$,
		model => $model,
		port => $p{port} // (free_ports(1))[0],
		log => File::Temp->new(TEMPLATE => "$model-XXXXXX", TMPDIR => 1)
	}, $class;
	my @command = ("$folder/llama-server", '-m', "$folder/$model.gguf", qw(--host 127.0.0.1 --offline --no-ui -t 2), '--port', $self->{port},
		'--alias', $model, @{ $arguments{$model} // croak "there is no model $model" }, defined $p{key} ? ('--api-key', $p{key}) : ());

	$self->{pid} = fork // croak "cannot fork: $!";
	if (!$self->{pid})
	{
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>', $self->{log}->filename or POSIX::_exit(126);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		exec @command or POSIX::_exit(127);
	}
	push @servers, $self;
	$self->_wait_until_ready;
	return $self;
}

# http://127.0.0.1:PORT
sub address { return "http://127.0.0.1:$_[0]{port}" }

# What it logged.
sub log
{
	my ($self) = @_;
	open my $file, '<', $self->{log}->filename or return '';
	local $/;
	return scalar <$file>;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

# The folder of the server and its models; fetched when nobody did it yet.
sub folder
{
	return $ENV{SOPHIA_MODELS} if $ENV{SOPHIA_MODELS};
	my $build = dirname(__FILE__) . '/../../models/build';
	chomp(my $folder = `$build`);
	croak 'the models could not be had' if $? != 0;
	return $ENV{SOPHIA_MODELS} = $folder;
}

sub _wait_until_ready
{
	my ($self) = @_;
	my $http = HTTP::Tiny->new(timeout => 5);
	my $until = time + 120;

	until ($http->get($self->address . '/health')->{status} == 200)
	{
		croak "llama-server with $self->{model} ended:\n" . $self->log if waitpid($self->{pid}, POSIX::WNOHANG) > 0;
		croak "llama-server with $self->{model} is not ready:\n" . $self->log if time > $until;
		sleep 0.1;
	}
	return;
}

END
{
	local $?;
	$_->stop for grep { $_->{owner} == $$ } @servers;
}

1;
