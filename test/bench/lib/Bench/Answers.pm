# The server of test/bench/gateway (lib/answers.c, compiled as `answers` in a folder), and what wrk gets out of it.
#
#   my $answers = Bench::Answers->start($folder, 10_000);      # answers so many microseconds after a request
#   print $answers->ceiling(20);                               # requests a second, by so many connections
package Bench::Answers;
use strict;
use warnings;
use IPC::Open2 qw(open2);

use constant SECONDS => 3;

my @running;

sub start
{
	my ($class, $folder, $delay_us) = @_;
	my $self = bless { owner => $$, folder => $folder, name => "answers.$delay_us." . @running }, $class;
	$self->{pid} = open2($self->{out}, $self->{in}, "$folder/answers", $delay_us, "$folder/$self->{name}");
	chomp($self->{port} = readline $self->{out});
	push @running, $self;
	return $self;
}

sub port { return $_[0]{port} }
sub address { return "http://127.0.0.1:$_[0]{port}/v1" }
sub url { return $_[0]->address . '/chat/completions' }

# The most connections that were open at a time, and the chats that were answered.
sub told
{
	my ($self) = @_;
	syswrite $self->{in}, "\n";
	return split ' ', readline $self->{out};
}

# The file with the body of the first request.
sub body_file
{
	my ($self) = @_;
	my (undef, $body) = $self->_request;
	open my $file, '>', "$self->{folder}/body" or die "cannot write the body: $!\n";
	print $file $body;
	close $file;
	return "$self->{folder}/body";
}

# The first request that came: its header lines and its body.
sub _request
{
	my ($self) = @_;
	open my $file, '<', "$self->{folder}/$self->{name}" or die "no request has come yet\n";
	my ($head, $body) = split /\r\n\r\n/, do { local $/; <$file> }, 2;
	return ($head, $body);
}

# Has wrk send the bytes of the first request again and again; returns requests a second.
sub ceiling
{
	my ($self, $connections) = @_;
	my ($head, $body) = $self->_request;
	my (undef, @headers) = split /\r\n/, $head;
	my $script = "$self->{folder}/wrk.lua";
	open my $file, '>', $script or die "cannot write $script: $!\n";
	print $file "wrk.method = 'POST'\nwrk.body = [==[$body]==]\n";
	print $file map { /^(?!Host|Content-Length)([^:]+): (.*)/i ? "wrk.headers['$1'] = '$2'\n" : () } @headers;
	close $file;
	my @command = ('wrk', '-t', 1, '-c', $connections, '-d', SECONDS, '-s', $script, $self->url);
	open my $pipe, '-|', @command or die "cannot run wrk: $!\n";
	my $printed = do { local $/; <$pipe> };
	close $pipe or die "wrk failed\n";
	die "wrk said: $printed\n" if $printed =~ /Non-2xx|Socket errors/;
	return ($printed =~ m{Requests/sec:\s+([0-9.]+)})[0];
}

END
{
	local $?;
	for my $answers (grep { $_->{owner} == $$ } @running)
	{
		kill 'KILL', $answers->{pid};
		waitpid $answers->{pid}, 0;
	}
}

1;
