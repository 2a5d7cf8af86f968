# A stand-in for the REST interface of a Snowflake account: chat completions, embeddings and the list of models.  It checks
# tokens as the service does: those signed by a key pair with their signature, subject, issuer and times.
#
#   my $cortex = Sophia::Cortex->new(account => 'MYORG-ACC', user => 'ANN', public => $pem_file, fingerprint => 'SHA256:...', token => 'pat');
#   $cortex->address; $cortex->requests;
package Sophia::Cortex;
use strict;
use warnings;
use Carp qw(croak);
use File::Temp ();
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(decode_base64url);
use POSIX ();

my $json = JSON::PP->new->canonical->utf8;
my @servers;

sub new
{
	my ($class, %p) = @_;
	my $self = bless { %p, owner => $$, folder => File::Temp->newdir('sophia_cortex_XXXXXX', TMPDIR => 1) }, $class;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64) or croak "cannot listen: $!";
	$self->{port} = $listener->sockport;
	$self->{pid} = fork // croak "cannot fork: $!";
	$self->_serve($listener) if !$self->{pid};
	push @servers, $self;
	return $self;
}

sub address { return "http://127.0.0.1:$_[0]{port}" }

sub requests
{
	my ($self) = @_;
	open my $file, '<', "$self->{folder}/requests" or return;
	return map { $json->decode($_) } <$file>;
}

sub _serve
{
	my ($self, $listener) = @_;
	local $SIG{PIPE} = 'IGNORE';
	while (my $client = $listener->accept)
	{
		my $in = '';
		while ($in !~ /\r\n\r\n/) { sysread($client, $in, 65536, length $in) or last }
		my ($head, $body) = split /\r\n\r\n/, $in, 2;
		my ($length) = ($head // '') =~ /^Content-Length: *(\d+)/mi;
		while (length($body // '') < ($length // 0)) { sysread($client, $body, 65536, length $body) or last }
		my ($status, $answer) = $self->_answer($head // '', $body // '');
		$answer = $json->encode($answer);
		print $client "HTTP/1.1 $status Reason\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
		close $client;
	}
	POSIX::_exit(0);
}

sub _answer
{
	my ($self, $head, $body) = @_;
	my ($method, $path) = $head =~ m{^(\w+) (\S+)};
	my ($bearer) = $head =~ /^Authorization: *Bearer (.*?)\r?$/mi;
	my ($type) = $head =~ /^X-Snowflake-Authorization-Token-Type: *(\S+)/mi;
	my $request = $body ne '' ? $json->decode($body) : {};
	my $wrong = $self->_wrong_token($type // '', $bearer // '');
	open my $file, '>>', "$self->{folder}/requests" or POSIX::_exit(1);
	print $file $json->encode({ method => $method, path => $path, type => $type, body => $request, wrong => $wrong }), "\n";
	close $file;
	return (401, { message => "$wrong: $bearer", code => '390144', request_id => 'r' }) if $wrong;
	return (200, { models => [ { name => 'mistral-large2' } ] }) if $path eq '/api/v2/cortex/models';
	return $self->_embed($request) if $path eq '/api/v2/cortex/inference:embed';
	return (404, { message => 'no such path', code => '390404' }) if $path ne '/api/v2/cortex/v1/chat/completions';
	my $text = $request->{messages}[-1]{content};
	return ($1, { message => 'as asked', code => '1', request_id => 'r' }) if $text =~ /#status=(\d+)/;
	return (200, { choices => [ { index => 0, finish_reason => 'stop', message => { role => 'assistant', content => "echo: $text" } } ],
		usage => { prompt_tokens => 7, completion_tokens => 3, total_tokens => 10 } });
}

# Each vector is an array within an array; the last text comes first.
sub _embed
{
	my ($self, $request) = @_;
	my @data;
	for my $index (0 .. $#{ $request->{text} })
	{
		return (400, { message => 'refused', code => '1' }) if $request->{text}[$index] =~ /#refuse/;
		unshift @data, { object => 'embedding', index => $index, embedding => [ [ length $request->{text}[$index], 0.5 ] ] };
	}
	return (200, { object => 'list', data => \@data, model => $request->{model}, usage => { total_tokens => 5 * @data } });
}

# What is wrong with a token, '' = nothing.
sub _wrong_token
{
	my ($self, $type, $token) = @_;
	return $token eq $self->{token} ? '' : 'unknown token' if $type eq 'PROGRAMMATIC_ACCESS_TOKEN' || $type eq 'OAUTH';
	return "unknown type of token \"$type\"" if $type ne 'KEYPAIR_JWT';
	my ($header, $claims, $signature) = split /\./, $token;
	return 'no JWT' if !defined $signature;
	open my $file, '>:raw', "$self->{folder}/signature" or POSIX::_exit(1);
	print $file decode_base64url($signature);
	close $file;
	open my $verify, '|-', "openssl dgst -sha256 -verify $self->{public} -signature $self->{folder}/signature >/dev/null" or return 'no openssl';
	print $verify "$header.$claims";
	return 'bad signature' if !close $verify;
	return 'bad algorithm' if $json->decode(decode_base64url($header))->{alg} ne 'RS256';
	$claims = $json->decode(decode_base64url($claims));
	return 'bad subject' if $claims->{sub} ne "$self->{account}.$self->{user}";
	return 'bad issuer' if $claims->{iss} ne "$claims->{sub}.$self->{fingerprint}";
	return 'bad times' if $claims->{iat} > time || $claims->{exp} <= time || $claims->{exp} > $claims->{iat} + 3600;
	return '';
}

END
{
	local $?;
	for my $server (grep { $_->{owner} == $$ } @servers) { kill 'KILL', $server->{pid}; waitpid $server->{pid}, 0 }
}

1;
