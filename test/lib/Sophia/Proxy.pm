# A proxy in front of a real broker (or another HTTP/1.1 server) that lets everything through until it is told to do
# harm, and that can hand out the fragments of a broker as a cloud's store does: by signed URLs.
#
#   my $proxy = Sophia::Proxy->new($broker);                         # ->new('http://127.0.0.1:PORT')
#   ... create_endpoint('proxied', 'broker', $proxy->address) ...
#   my $fault = $proxy->fault(on => 'read', stop => { bytes => 0 });           # the next read ends behind its header
#   $proxy->fault(on => 'read', times => 0, stop => { random => 50_000 });     # every read breaks somewhere
#   $proxy->fault(on => 'list', answer => { status => 503, body => '' });
#   $proxy->applied($fault);                                         # how often it struck
#   $proxy->clear;                                                   # no faults any more
#   $proxy->cut;                                                     # breaks what is open, now; returns how many
#   $proxy->refuse; $proxy->allow;                                   # closes its port; opens it again
#   $proxy->behind($address);                                        # requests go to another server from now on
#   $proxy->serve_fragments;                                         # fragmentUrl file:///... becomes http://...
#
# A fault strikes the first `times` requests that it fits (default 1; 0 = every one until clear), after letting `skip`
# of them pass.  Of several that fit, the oldest strikes, alone.  It fits by:
#   on        'read', 'list', 'fragment' (a GET of a signed URL), or a regular expression over "METHOD /path"
#   request   a regular expression over the body of the request
# It does, in this order (all optional):
#   delay     waits so many seconds before anything else
#   answer    answers itself: { status => 503, body => 'text', headers => [ 'Retry-After: 1' ] }
#   headers   adds these to the answer
#   edit      of a fragment's file: [ 'shorten', N ] bytes of content less, [ 'lengthen', N ] more, [ 'members', N ]: the
#             same content as N members of gzip, [ 'corrupt', N ]: byte N of the content is another
#   replace   [ regular expression, text ] ...: in every line of the answer
#   stop      ends the answer early: { bytes => N } of its body, { lines => N }, { after => 'regular expression' },
#             { random => N }: so many bytes below N
#   append    text that follows what was let through
#   ending    'cut': the connection ends without the end of the answer, which libcurl calls error 18 (the default with
#             `stop`); 'reset': the same by a TCP reset; 'end': as if nothing were missing (the default otherwise);
#             'hang': nothing more comes until the client leaves
#
# The proxy is a process of its own with one child a connection; all of them end with the test, however that ends.
# It speaks HTTP/1.1 without TLS, one request a connection; what a command of this interface changes holds for every
# request that comes after it.
package Sophia::Proxy;
use strict;
use warnings;
use Carp qw(croak);
use Compress::Zlib ();
use Fcntl qw(:flock);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

use constant { BLOCK => 65536, EOL => "\r\n", URL_LIFETIME => 60 };

my $json = JSON::PP->new->canonical->utf8->allow_nonref;

# Starts a proxy; `behind` is a Sophia::Broker or the address of a server.
sub new
{
	my ($class, $behind) = @_;
	my $broker = ref $behind ? $behind : undef;
	my $self = bless {
		owner => $$,
		folder => File::Temp->newdir('sophia_proxy_XXXXXX', TMPDIR => 1),
		upstream => ($broker ? $broker->address : $behind) =~ s{^http://|/$}{}gr,
		file_root => $broker ? $broker->file_root : undef,
		faults => 0 }, $class;
	$self->_change(sub { +{ faults => [] } });
	my $listener = _listen(0);
	$self->{port} = $listener->sockport;
	socketpair $self->{control}, my $commands, AF_UNIX, SOCK_STREAM, PF_UNSPEC or croak "socketpair: $!";
	$self->{control}->autoflush;
	my $pid = fork // croak "cannot fork: $!";
	if (!$pid)
	{
		close $self->{control};
		eval { $self->_serve($listener, $commands); 1 } or print {*STDERR} "proxy: $@";
		POSIX::_exit(0);
	}
	$self->{pid} = $pid;
	return $self;
}

# http://127.0.0.1:PORT
sub address { return "http://127.0.0.1:$_[0]{port}" }

# Adds a fault; returns its number.
sub fault
{
	my ($self, %p) = @_;
	my %known = map { $_ => 1 } qw(on request times skip delay answer headers edit replace stop append ending);
	$known{$_} or croak "a fault has no $_" for keys %p;
	my %on = (
		read => '^POST /v1/journals/read$',
		list => '^POST /v1/journals/list$',
		fragment => '^GET /fragments/');
	my %fault = (times => 1, skip => 0, %p, number => ++$self->{faults}, applied => 0);
	$fault{on} = $on{ $fault{on} // '' } // $fault{on} // '';
	$_ = "$_" for $fault{on}, grep { defined } $fault{request}, ref $fault{stop} ? $fault{stop}{after} : undef;
	$fault{request} .= '' if defined $fault{request};
	$fault{stop} = { %{ $fault{stop} }, after => "$fault{stop}{after}" } if $fault{stop} && defined $fault{stop}{after};
	$fault{replace} = [ map { ref $_ eq 'ARRAY' ? [ "$_->[0]", $_->[1] ] : "$_" } @{ $fault{replace} } ] if $fault{replace};
	$self->_change(sub { my ($s) = @_; push @{ $s->{faults} }, \%fault; $s });
	return $fault{number};
}

# How often a fault has struck.
sub applied
{
	my ($self, $number) = @_;
	my ($fault) = grep { $_->{number} == $number } @{ $self->_state->{faults} }, @{ $self->{cleared} // [] };
	return $fault->{applied};
}

# Takes all faults away.
sub clear
{
	my ($self) = @_;
	$self->_change(sub { my ($s) = @_; push @{ $self->{cleared} }, @{ $s->{faults} }; $s->{faults} = []; $s });
	return;
}

# The requests so far whose "METHOD /path" and body (joined by a space) match: hashes with method, path, headers (names
# in lower case), body, fault (the number of what struck it, or undef).
sub requests
{
	my ($self, $pattern) = @_;
	my @requests = map { eval { $json->decode($_) } // () } split /\n/, _slurp("$self->{folder}/requests") // '';
	return grep { !defined $pattern || "$_->{method} $_->{path} $_->{body}" =~ $pattern } @requests;
}

# The number of open connections, and breaking them.
sub connections { return $_[0]->_command('connections') }
sub cut { return $_[0]->_command('cut') }

# Closes the port, so that connections are refused, and opens it again.
sub refuse { return $_[0]->_command('refuse') }
sub allow { return $_[0]->_command('allow') }

# From now on the file:/// URLs that the broker hands out lead to the proxy, which serves the files of the broker's
# store below /fragments/ to who shows the signature.  Parameters:
#   lifetime  seconds after which it answers 403, as stores do (default 60, like Gazette's)
#   host      in the URLs (default 127.0.0.1)
#   on        0: leaves the URLs alone again
sub serve_fragments
{
	my ($self, %p) = @_;
	croak 'no folder of fragments is known' if !defined $self->{file_root};
	my $serve = ($p{on} // 1) ? { lifetime => $p{lifetime} // URL_LIFETIME, host => $p{host} // '127.0.0.1' } : undef;
	$self->_change(sub { my ($s) = @_; $s->{serve} = $serve; $s });
	return;
}

# Lets the requests that come from now on go to another server.
sub behind
{
	my ($self, $address) = @_;
	$self->_change(sub { my ($s) = @_; $s->{upstream} = $address =~ s{^http://|/$}{}gr; $s });
	return;
}

# Ends the proxy.
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	close $self->{control};
	waitpid $pid, 0;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	$self->stop if $self->{owner} == $$;
	return;
}

# ---- what the test and the processes of the proxy share: one file ----

# Replaces the state by what a function makes of it, alone and, since any process may be killed meanwhile, at once.
sub _change
{
	my ($self, $function) = @_;
	open my $lock, '>>', "$self->{folder}/lock" or die "$self->{folder}/lock: $!\n";
	flock $lock, LOCK_EX or die "flock: $!\n";
	my $text = _slurp("$self->{folder}/state");
	my $state = $function->($text ? $json->decode($text) : undef);
	open my $file, '>', "$self->{folder}/state.new" or die "$self->{folder}/state.new: $!\n";
	print $file $json->encode($state);
	close $file or die "close: $!\n";
	rename "$self->{folder}/state.new", "$self->{folder}/state" or die "rename: $!\n";
	return $state;
}

sub _state
{
	my ($self) = @_;
	return $self->_change(sub { $_[0] });
}

# Notes a request and returns what is to be done about it.
sub _judge
{
	my ($self, $request) = @_;
	my ($fault, $serve);
	$self->_change(sub {
		my ($state) = @_;
		($fault) = grep { _fits($_, $request) && $_->{skip}-- <= 0 } @{ $state->{faults} };
		$fault->{applied}++ if $fault;
		open my $log, '>>', "$self->{folder}/requests" or die "$self->{folder}/requests: $!\n";
		print $log $json->encode({ %$request, fault => $fault ? $fault->{number} : undef }), "\n";
		close $log or die "close: $!\n";
		$serve = $state->{serve};
		$self->{upstream} = $state->{upstream} // $self->{upstream};
		return $state;
	});
	return ($fault // {}, $serve);
}

sub _fits
{
	my ($fault, $request) = @_;
	return ($fault->{times} == 0 || $fault->{applied} < $fault->{times})
	  && "$request->{method} $request->{path}" =~ /$fault->{on}/
	  && (!defined $fault->{request} || $request->{body} =~ /(?:$fault->{request})/);
}

sub _command
{
	my ($self, $command) = @_;
	croak 'the proxy has ended' if !$self->{pid};
	print { $self->{control} } "$command\n";
	my $answer = readline $self->{control};
	croak 'the proxy ended' if !defined $answer;
	chomp $answer;
	return $answer;
}

# ---- the process that accepts connections ----

sub _listen
{
	my ($port) = @_;
	return IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 128, ReuseAddr => 1)
	  // die "cannot listen: $@\n";
}

sub _serve
{
	my ($self, $listener, $commands) = @_;
	my %children;
	local @SIG{qw(INT TERM HUP PIPE)} = ('DEFAULT', 'DEFAULT', 'DEFAULT', 'IGNORE');
	$commands->autoflush;
	while (1)
	{
		my @ready = IO::Select->new($commands, $listener // ())->can_read(0.2);
		for my $handle (@ready)
		{
			if ($handle == $commands)
			{
				my $command = readline $commands;
				_end_children(\%children, 1), return if !defined $command;
				chomp $command;
				my $answer = _obey($self, $command, \$listener, \%children);
				print $commands "$answer\n";
			}
			elsif (my $client = $listener && $listener->accept)
			{
				my $pid = fork // next;
				$children{$pid} = 1, next if $pid;
				close $listener;
				close $commands;
				eval { $self->_converse($client); 1 } or $@ =~ /^done$/ or print {*STDERR} "proxy: $@";
				POSIX::_exit(0);
			}
		}
		while ((my $pid = waitpid -1, POSIX::WNOHANG) > 0) { delete $children{$pid} }
	}
}

sub _obey
{
	my ($self, $command, $listener, $children) = @_;
	while ((my $pid = waitpid -1, POSIX::WNOHANG) > 0) { delete $children->{$pid} }
	return scalar keys %$children if $command eq 'connections';
	return _end_children($children) if $command eq 'cut';
	if ($command eq 'refuse') { $$listener->close if $$listener; $$listener = undef }
	else { $$listener //= _listen($self->{port}) }
	return 'done';
}

sub _end_children
{
	my ($children) = @_;
	my $ended = 0;
	for my $pid (keys %$children)
	{
		$ended += kill 'KILL', $pid;
		waitpid $pid, 0;
		delete $children->{$pid};
	}
	return $ended;
}

# ---- one connection ----

sub _converse
{
	my ($self, $client) = @_;
	my $request = _read_request($client) // return;
	my ($fault, $serve) = $self->_judge($request);
	select undef, undef, undef, $fault->{delay} if $fault->{delay};
	my $out = { client => $client, fault => $fault, serve => $serve, sent => 0, lines => 0, passed => '' };
	$out->{port} = $self->{port};
	$out->{stop} = $fault->{stop} && exists $fault->{stop}{random} ? { bytes => int rand $fault->{stop}{random} } : $fault->{stop};
	if (my $answer = $fault->{answer})
	{
		_begin($out, $answer->{status} // 200, $answer->{headers} // ['Content-Type: application/json']);
		_pass($out, $answer->{body} // '');
		return _finish($out);
	}
	return $self->_serve_fragment($out, $request) if $serve && $request->{path} =~ m{^/fragments/};
	return $self->_forward($out, $request);
}

sub _read_request
{
	my ($client) = @_;
	my $head = _read_head($client) // return;
	my ($first, %headers) = _parse_head($head->{text});
	my ($method, $path) = split / /, $first;
	_write($client, 'HTTP/1.1 100 Continue' . EOL . EOL) if lc($headers{expect} // '') eq '100-continue';
	my $body = $head->{rest};
	while (length $body < ($headers{'content-length'} // 0))
	{
		sysread $client, $body, BLOCK, length $body or return;
	}
	return { method => $method, path => $path, headers => \%headers, body => $body };
}

# What comes up to the empty line, and the bytes that came behind it.
sub _read_head
{
	my ($socket) = @_;
	my $text = '';
	while ($text !~ /\r\n\r\n/)
	{
		sysread $socket, $text, BLOCK, length $text or return;
	}
	my ($head, $rest) = split /\r\n\r\n/, $text, 2;
	return { text => $head, rest => $rest };
}

sub _parse_head
{
	my ($text) = @_;
	my ($first, @lines) = split /\r\n/, $text;
	return ($first, map { my ($name, $value) = split /:\s*/, $_, 2; (lc $name => $value) } @lines);
}

sub _forward
{
	my ($self, $out, $request) = @_;
	my $server = IO::Socket::INET->new(PeerAddr => $self->{upstream}, Timeout => 10) // return;
	my %headers = (%{ $request->{headers} }, host => $self->{upstream}, connection => 'close');
	delete $headers{expect};
	_write($server, join(EOL, "$request->{method} $request->{path} HTTP/1.1", map({ "$_: $headers{$_}" } sort keys %headers), '', $request->{body}));
	my $reader = { socket => $server, client => $out->{client}, buffer => '' };
	while ($reader->{buffer} !~ /\r\n\r\n/) { _more($reader) or return }
	my ($head, $rest) = split /\r\n\r\n/, $reader->{buffer}, 2;
	$reader->{buffer} = $rest;
	my ($first, %answer) = _parse_head($head);
	my ($status) = $first =~ /^\S+ (\d+)/;
	my $chunked = lc($answer{'transfer-encoding'} // '') eq 'chunked';
	my $length = $answer{'content-length'};
	delete @answer{qw(transfer-encoding content-length connection trailer)};
	_begin($out, $status, [ map { "$_: $answer{$_}" } sort keys %answer ]);
	my $whole = $chunked ? _copy_chunks($reader, $out) : _copy_plain($reader, $out, $length // ($status == 204 ? 0 : undef));
	_break($out, 'cut') if !$whole;
	return _finish($out);
}

# Waits for more of the server; ends the process when the client leaves meanwhile.
sub _more
{
	my ($reader) = @_;
	my $select = IO::Select->new($reader->{socket}, $reader->{client});
	while (1)
	{
		for my $handle ($select->can_read)
		{
			if ($handle == $reader->{client})
			{
				die "done\n" if !sysread $handle, my $ignored, BLOCK;
				next;
			}
			return sysread $reader->{socket}, $reader->{buffer}, BLOCK, length $reader->{buffer};
		}
	}
}

# Copies a chunked body; false when it breaks off.
sub _copy_chunks
{
	my ($reader, $out) = @_;
	while (1)
	{
		while ($reader->{buffer} !~ /\r\n/) { _more($reader) or return 0 }
		(my $length, $reader->{buffer}) = split /\r\n/, $reader->{buffer}, 2;
		$length = hex $length;
		return 1 if $length == 0;
		while (length $reader->{buffer} < $length + 2) { _more($reader) or return 0 }
		_pass($out, substr $reader->{buffer}, 0, $length);
		$reader->{buffer} = substr $reader->{buffer}, $length + 2;
	}
}

sub _copy_plain
{
	my ($reader, $out, $length) = @_;
	while (!defined $length || $length > 0)
	{
		if ($reader->{buffer} ne '')
		{
			$length -= length $reader->{buffer} if defined $length;
			_pass($out, $reader->{buffer});
			$reader->{buffer} = '';
			next;
		}
		_more($reader) or return !defined $length;
	}
	return 1;
}

# ---- fragments ----

# A file of the broker's store, as a cloud hands it out.
sub _serve_fragment
{
	my ($self, $out, $request) = @_;
	my ($path, $expires, $signature) = $request->{path} =~ m{^/fragments/([^?]+)\?expires=([0-9.]+)&signature=(\w+)$};
	my $file = $path ? "$self->{file_root}/" . _unescape($path) : '';
	if (!$path || $signature ne _sign($path, $expires) || $expires < time)
	{
		_begin($out, 403, ['Content-Type: application/xml']);
		_pass($out, '<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>');
		return _finish($out);
	}
	my $bytes = $file =~ m{/\.\./} ? undef : _slurp($file);
	if (!defined $bytes)
	{
		_begin($out, 404, ['Content-Type: application/xml']);
		_pass($out, '<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>');
		return _finish($out);
	}
	$bytes = _edit($bytes, $path =~ /\.gz$/, @{ $out->{fault}{edit} }) if $out->{fault}{edit};
	_begin($out, 200, [ 'Content-Type: application/octet-stream', @{ $out->{fault}{headers} // [] } ], length $bytes);
	_pass($out, $bytes);
	return _finish($out);
}

sub _edit
{
	my ($bytes, $gzip, $how, $n) = @_;
	my $content = $gzip ? Compress::Zlib::memGunzip($bytes) : $bytes;
	$content = substr $content, 0, -$n if $how eq 'shorten';
	$content .= substr($content, 0, $n) x 1 if $how eq 'lengthen';
	substr($content, $n, 1) = chr(ord(substr $content, $n, 1) ^ 1) if $how eq 'corrupt';
	return $content if !$gzip;
	my $size = $how eq 'members' ? int(length($content) / $n) + 1 : length $content;
	return join '', map { Compress::Zlib::memGzip($_) } unpack "(a$size)*", $content;
}

sub _slurp
{
	my ($path) = @_;
	open my $file, '<:raw', $path or return;
	local $/;
	return scalar <$file>;
}

sub _unescape { return $_[0] =~ s/%([0-9a-fA-F]{2})/chr hex $1/ger }

sub _sign
{
	my ($path, $expires) = @_;
	require Digest::SHA;
	return Digest::SHA::sha1_hex("secret $path $expires");
}

# A line of an answer with the URL of a fragment rewritten.
sub _rewrite
{
	my ($out, $line) = @_;
	my $serve = $out->{serve} // return $line;
	return $line =~ s{"fragmentUrl":"file:///([^"]+)"}{
		my ($path, $expires) = ($1 =~ s/%/%25/gr, sprintf '%.3f', time + $serve->{lifetime});
		qq("fragmentUrl":"http://$serve->{host}:$out->{port}/fragments/$path?expires=$expires&signature=) . _sign($path, $expires) . '"' }er;
}

# ---- the answer to the client ----

sub _begin
{
	my ($out, $status, $headers, $length) = @_;
	my $chunked = !defined $length && $status != 204;
	$out->{chunked} = $chunked;
	my @more = $chunked ? 'Transfer-Encoding: chunked' : defined $length ? "Content-Length: $length" : ();
	_write($out->{client}, join EOL, "HTTP/1.1 $status Status", @$headers, @more, 'Connection: close', '', '');
	return;
}

# Lets bytes of the body through, line by line where something looks at lines.
sub _pass
{
	my ($out, $bytes) = @_;
	if (!$out->{chunked} || !($out->{serve} || $out->{fault}{replace}))
	{
		return _emit($out, $bytes);
	}
	$out->{line} .= $bytes;
	while ($out->{line} =~ s/^([^\n]*\n)//) { _emit($out, _changed($out, $1)) }
	return;
}

sub _changed
{
	my ($out, $line) = @_;
	for my $replace (@{ $out->{fault}{replace} // [] })
	{
		my ($pattern, $text) = @$replace;
		$line =~ s/$pattern/$text/g;
	}
	return _rewrite($out, $line);
}

# Sends bytes up to where the fault stops them.
sub _emit
{
	my ($out, $bytes) = @_;
	my $stop = $out->{stop};
	my $left;
	if ($stop && defined $stop->{bytes}) { $left = $stop->{bytes} - $out->{sent} }
	elsif ($stop && defined $stop->{lines})
	{
		my $lines = $stop->{lines} - $out->{lines};
		$left = 0 if $lines <= 0;
		$left = $+[0] if $lines > 0 && $bytes =~ /\A(?:[^\n]*\n){$lines}/;
		$out->{lines} += $bytes =~ tr/\n//;
	}
	elsif ($stop)
	{
		my $before = length $out->{passed};
		$out->{passed} .= $bytes;
		$left = $+[0] - $before if $out->{passed} =~ /$stop->{after}/;
	}
	my $ends = defined $left && $left <= length $bytes;
	$bytes = substr $bytes, 0, $left < 0 ? 0 : $left if $ends;
	_send($out, $bytes);
	return if !$ends;
	_send($out, $out->{fault}{append} // '');
	return _break($out, $out->{fault}{ending} // 'cut');
}

sub _send
{
	my ($out, $bytes) = @_;
	return if $bytes eq '';
	$out->{sent} += length $bytes;
	_write($out->{client}, $out->{chunked} ? sprintf("%x\r\n%s\r\n", length $bytes, $bytes) : $bytes);
	return;
}

# The body is complete.
sub _finish
{
	my ($out) = @_;
	_emit($out, _changed($out, $out->{line})) if defined $out->{line} && $out->{line} ne '';
	_emit($out, '') if $out->{stop};
	_send($out, $out->{fault}{append} // '');
	return _break($out, $out->{fault}{ending} // 'end');
}

# Ends the connection in one of the ways, and the process.
sub _break
{
	my ($out, $ending) = @_;
	my $client = $out->{client};
	if ($ending eq 'end') { _write($client, '0' . EOL . EOL) if $out->{chunked} }
	elsif ($ending eq 'reset') { setsockopt $client, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 }
	elsif ($ending eq 'hang') { 1 while sysread $client, my $ignored, BLOCK }
	close $client;
	die "done\n";
}

sub _write
{
	my ($socket, $bytes) = @_;
	my $at = 0;
	while ($at < length $bytes)
	{
		my $n = syswrite $socket, $bytes, length($bytes) - $at, $at;
		die "done\n" if !defined $n;
		$at += $n;
	}
	return;
}

1;
