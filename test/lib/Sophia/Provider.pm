# A stand-in for an AI server that speaks the dialect of OpenAI's API: /v1/chat/completions, /v1/embeddings and /v1/models, over
# HTTP/1.1 with connections that are kept.  Many requests are answered at the same time.
#
#   my $provider = Sophia::Provider->new;                # ->new(key => 'secret') demands that bearer token; idle => SECONDS
#                                                        # has it close connections that were idle for so long
#   my $address = $provider->address;                    # http://127.0.0.1:PORT
#   my @requests = $provider->requests;                  # what was asked, in order of arrival; hashes
#   $provider->key('another');
#   $provider->stop; $provider->start;                   # the same port
#
# A chat is answered by "echo: " and the last message.  What a text asks for happens to the request that holds it:
#
#   #delay=MS           the answer comes so late
#   #status=CODE        it is an error, with the text as its message; #retry=S adds Retry-After; #times=N: only so often for
#                       the same text, then all is well (#cut, too)
#   #cut  #garbage  #bytes  #nul  #empty  #big=BYTES     half an answer; no JSON; no UTF-8; \u0000; no choices; so large
#   #other  #trickle    JSON that is no answer; the answer in small pieces
#
# A chat with a JSON schema is answered by the first value that fits the schema, with "echo: " and the text for strings; #answer=…
# at the end of a text is the answer as it is.  The tokens of a text are its words, but for models "small-…", where nothing counts them.  A model "small-N" refuses texts of more than N bytes, as too long.
#
# An embedding of model NAME-N has N dimensions, made from the text; its elements come in reverse order.  A model "float-N"
# answers in numbers whatever is asked for, the others in base64 where it is asked for.  A text that holds #refuse has the whole
# request refused.
package Sophia::Provider;
use strict;
use warnings;
use Carp qw(croak);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

my $json = JSON::PP->new->canonical->utf8;
my @providers;

sub new
{
	my ($class, %p) = @_;
	my $self = bless { owner => $$, idle => $p{idle}, folder => File::Temp->newdir('sophia_provider_XXXXXX', TMPDIR => 1) }, $class;
	$self->key($p{key}) if defined $p{key};
	push @providers, $self;
	return $self->start;
}

sub address { return "http://127.0.0.1:$_[0]{port}" }
sub port { return $_[0]{port} }

# Sets the bearer token that is demanded.
sub key
{
	my ($self, $key) = @_;
	open my $file, '>', "$self->{folder}/key.new" or croak "cannot write the key: $!";
	print $file $key;
	close $file;
	rename "$self->{folder}/key.new", "$self->{folder}/key" or croak "rename: $!";
	return;
}

sub start
{
	my ($self) = @_;
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port} // 0, Proto => 'tcp', Listen => 256,
		ReuseAddr => 1) or croak "cannot listen: $!";
	$self->{port} = $socket->sockport;
	$self->{pid} = fork // croak "cannot fork: $!";
	$self->_serve($socket) if !$self->{pid};
	return $self;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

# The requests so far: path, body (decoded), text (of a chat), connection (its number), running (how many there were with it),
# time, key; and of those whose client went before the answer: gone.  Health checks, which ask for the models, are not among them.
sub requests
{
	my ($self) = @_;
	return grep { $_->{path} !~ m{/models$} } $self->all_requests;
}

# The same with health checks.
sub all_requests
{
	my ($self) = @_;
	open my $file, '<', "$self->{folder}/requests" or return;
	my (@requests, %gone);
	for my $line (map { $json->decode($_) } <$file>)
	{
		if ($line->{gone}) { $gone{ $line->{gone} } = 1 }
		else { push @requests, $line }
	}
	$_->{gone} = $gone{ $_->{number} } for @requests;
	return @requests;
}

# Forgets the requests so far.
sub forget
{
	my ($self) = @_;
	open my $file, '>', "$self->{folder}/requests" or croak "cannot empty the list: $!";
	return;
}

# ---- the process that answers ----

sub _note
{
	my ($self, $what) = @_;
	open my $file, '>>', "$self->{folder}/requests" or POSIX::_exit(1);
	print $file $json->encode($what), "\n";
	close $file;
	return;
}

sub _serve
{
	my ($self, $listener) = @_;
	local $SIG{PIPE} = 'IGNORE';
	$listener->blocking(0);
	$self->{select} = IO::Select->new($listener);
	$self->{clients} = {};
	while (1)
	{
		my ($due) = sort { $a <=> $b } map { $_->{due} // () } values %{ $self->{clients} };
		my $wait = defined $due ? $due - time : 1;
		$wait = 0.05 if $self->{idle} && $wait > 0.05;
		for my $socket ($self->{select}->can_read($wait < 0 ? 0 : $wait))
		{
			if ($socket == $listener) { $self->_accept($listener) }
			else { $self->_read($socket) }
		}
		for my $client (values %{ $self->{clients} })
		{
			$self->_send($client) if defined $client->{due} && $client->{due} <= time;
		}
		for my $client (values %{ $self->{clients} })
		{
			$self->_close($client) if $self->{idle} && !defined $client->{due} && $client->{since} + $self->{idle} < time;
		}
		POSIX::_exit(0) if getppid() != $self->{owner};
	}
}

sub _accept
{
	my ($self, $listener) = @_;
	while (my $socket = $listener->accept)
	{
		$socket->blocking(1);
		setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
		$self->{select}->add($socket);
		$self->{clients}{$socket} = { socket => $socket, number => ++$self->{connections}, in => '', since => time };
	}
	return;
}

sub _close
{
	my ($self, $client) = @_;
	$self->_note({ gone => $client->{request} }) if defined $client->{due};
	$self->{select}->remove($client->{socket});
	delete $self->{clients}{ $client->{socket} };
	close $client->{socket};
	return;
}

sub _read
{
	my ($self, $socket) = @_;
	my $client = $self->{clients}{$socket} // return;
	my $n = sysread $socket, $client->{in}, 1 << 20, length $client->{in};
	return $self->_close($client) if !$n;
	return if $client->{in} !~ /\r\n\r\n/;
	my ($head, $body) = split /\r\n\r\n/, $client->{in}, 2;
	my ($length) = $head =~ /^Content-Length: *(\d+)/mi;
	return if length $body < ($length // 0);
	$client->{in} = '';
	$self->_answer($client, $head, $body);
	return;
}

# Decides the answer to a request, and when it is due.
sub _answer
{
	my ($self, $client, $head, $body) = @_;
	my ($path) = $head =~ m{^\w+ (\S+)};
	my ($key) = $head =~ /^Authorization: *Bearer (.*?)\r?$/mi;
	my $request = $body ne '' ? $json->decode($body) : {};
	my $text = $request->{messages} ? $request->{messages}[-1]{content} : defined $request->{content} ? $request->{content} : join ' ', @{ $request->{input} // [] };
	my $running = 1 + grep { defined $_->{due} } values %{ $self->{clients} };
	$client->{request} = ++$self->{number};
	$self->_note({ number => $client->{request}, path => $path, body => $request, text => $text, key => $key, time => time,
		connection => $client->{number}, running => $running });
	$client->{due} = time + ($text =~ /#delay=(\d+)/ ? $1 / 1000 : 0);
	$client->{cut} = $text =~ /#cut/ && ($text !~ /#times=(\d+)/ || ++$self->{seen}{$text} <= $1);
	$client->{trickle} = $text =~ /#trickle/;
	my ($status, $answer, @headers) = $self->_result($path, $request, $text, $key);
	$client->{out} = join "\r\n", "HTTP/1.1 $status Reason", 'Content-Type: application/json', @headers,
	  'Content-Length: ' . length $answer, '', $answer;
	$self->_send($client) if $client->{due} <= time;
	return;
}

sub _result
{
	my ($self, $path, $request, $text, $key) = @_;
	my ($demanded) = $self->_demanded_key;
	return (401, $json->encode({ error => { message => 'invalid key ' . ($key // 'none'), type => 'auth', code => 401 } }))
	  if defined $demanded && ($key // '') ne $demanded;
	if ($text =~ /#status=(\d+)/ && ($text !~ /#times=(\d+)/ || ++$self->{seen}{$text} <= $1))
	{
		my ($status) = $text =~ /#status=(\d+)/;
		return ($status, $json->encode({ error => { message => $text, type => 'test', code => $status + 0 } }),
			$text =~ /#retry=(\d+)/ ? "Retry-After: $1" : ());
	}
	return (200, $json->encode({ object => 'list', data => [ map { { id => $_, object => 'model' } } qw(tiny embed-8) ] }))
	  if $path =~ m{/models$};
	return (200, $json->encode({ tokens => [ map { ord } split ' ', $request->{content} ] }))
	  if $path eq '/tokenize' && $request->{model} !~ /^small/;
	return (404, '{"detail":"Not Found"}') if $path !~ m{/(?:chat/completions|embeddings)$};
	return (200, "<html>not \x{7b}") if $text =~ /#garbage/;
	return (200, '{"choices":[]}') if $text =~ /#empty/;
	return (200, '{"weather":["fine",1]}') if $text =~ /#other/;
	return (200, qq({"choices":[{"message":{"content":"a\xff"}}]})) if $text =~ /#bytes/;
	return (200, '{"choices":[{"message":{"content":"a\u0000b"}}]}') if $text =~ /#nul/;
	return (200, '{"choices":[{"message":{"content":"' . 'x' x $1 . '"}}]}') if $text =~ /#big=(\d+)/;
	return $self->_embeddings($request) if $path =~ m{/embeddings$};
	return (400, $json->encode({ error => { message => "the maximum context length is $1", code => 400 } }))
	  if $request->{model} =~ /^small-(\d+)/ && length $text > $1;
	my $schema = ($request->{response_format} // {})->{json_schema};
	my $content = $schema ? $json->encode(_instance($schema->{schema}, "echo: $text")) : "echo: $text";
	utf8::decode($content) if $schema;
	$content = $1 if $text =~ /#answer=(.*)/s;
	return (200, $json->encode({
		id => 'chat', object => 'chat.completion', model => $request->{model},
		choices => [ { index => 0, finish_reason => $text =~ /#length/ ? 'length' : 'stop', message => { role => 'assistant', content => $content } } ],
		usage => { prompt_tokens => 7, completion_tokens => 3, total_tokens => 10 } }));
}

# A value that a schema accepts.
sub _instance
{
	my ($schema, $text) = @_;
	my $type = $schema->{type} // '';
	return $schema->{enum}[0] if $schema->{enum};
	return { map { $_ => _instance($schema->{properties}{$_}, $text) } keys %{ $schema->{properties} } } if $type eq 'object';
	return [] if $type eq 'array';
	return substr $text, 0, $schema->{maxLength} // length $text if $type eq 'string';
	return $type eq 'boolean' ? JSON::PP::true : $type eq 'null' ? undef : 0;
}

sub _demanded_key
{
	my ($self) = @_;
	open my $file, '<', "$self->{folder}/key" or return;
	local $/;
	return scalar <$file>;
}

# The vector that stands for a text, of n dimensions; floats have it exactly.
sub vector
{
	my ($text, $n) = @_;
	return map { ((unpack('%32C*', $text) + 7 * $_) % 64) / 64 } 1 .. $n;
}

sub _embeddings
{
	my ($self, $request) = @_;
	my ($dimensions) = $request->{model} =~ /-(\d+)$/;
	my $numbers = $request->{model} =~ /^float/ || ($request->{encoding_format} // 'float') ne 'base64';
	my @data;
	for my $index (0 .. $#{ $request->{input} })
	{
		my $text = $request->{input}[$index];
		return (400, $json->encode({ error => { message => "input $index is refused", code => 400 } })) if $text =~ /#refuse/;
		utf8::encode($text);
		my @vector = vector($text, $dimensions);
		unshift @data, { object => 'embedding', index => $index,
			embedding => $numbers ? \@vector : encode_base64(pack('f<*', @vector), '') };
	}
	return (200, $json->encode({ object => 'list', data => \@data, model => $request->{model},
		usage => { prompt_tokens => 5 * @data, total_tokens => 5 * @data } }));
}

sub _send
{
	my ($self, $client) = @_;
	my $out = $client->{cut} ? substr $client->{out}, 0, length($client->{out}) - 20 : $client->{out};
	my $sent = 0;
	delete $client->{due};
	$client->{since} = time;
	while ($sent < length $out)
	{
		my $n = syswrite $client->{socket}, $out, $client->{trickle} ? 7 : length($out) - $sent, $sent;
		return $self->_close($client) if !$n;
		$sent += $n;
	}
	$self->_close($client) if $client->{cut};
	return;
}

END
{
	local $?;
	$_->stop for grep { $_->{owner} == $$ } @providers;
}

1;
