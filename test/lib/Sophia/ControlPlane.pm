# A stand-in for Estuary's control plane, which is a paid cloud service: the two authorizations that hand out a broker's
# address and token, with the answers that estuary/flow gives (crates/models/src/authorizations.rs,
# crates/control-plane-api/src/server).  The tokens are signed, and the real broker verifies them.
#
#   my $plane = Sophia::ControlPlane->new($broker);            # listens on a free port of the loopback interface
#   my $secret = $plane->user('ann@acme.test', 'acme/');       # a refresh token that may read what begins so
#   $plane->collection('acme/contacts', prefix => 'acme/contacts/1122334455667788/');
#   $plane->answer('acme/contacts', { retryMillis => 500 });   # the next answer about it, before the one that is due
#   my @requests = $plane->requests('acme/contacts');          # what was asked about it, in order
#
# Each answer follows from a file, which the test changes while the process that answers reads it.
package Sophia::ControlPlane;
use strict;
use warnings;
use Carp qw(croak);
use Fcntl qw(:flock);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(encode_base64 decode_base64);
use POSIX ();
use Sophia::Jwt;
use Time::HiRes qw(time);

my $json = JSON::PP->new->canonical->utf8;
my @planes;

my %reason = (
	200 => 'OK', 307 => 'Temporary Redirect', 400 => 'Bad Request', 401 => 'Unauthorized', 403 => 'Forbidden',
	404 => 'Not Found', 500 => 'Internal Server Error', 503 => 'Service Unavailable');

sub new
{
	my ($class, $broker) = @_;
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 64, ReuseAddr => 1)
	  or croak "cannot listen: $!";
	my $self = bless {
		owner => $$,
		folder => File::Temp->newdir('sophia_plane_XXXXXX', TMPDIR => 1),
		port => $socket->sockport,
		broker => $broker->address,
		key => $broker->{auth_key} }, $class;
	$self->_change(sub { });
	$self->{pid} = fork // croak "cannot fork: $!";
	$self->_serve($socket) if !$self->{pid};
	push @planes, $self;
	return $self;
}

# http://127.0.0.1:PORT
sub address { return "http://127.0.0.1:$_[0]{port}" }

# Makes a user who may read what begins so, and returns a refresh token as the dashboard shows it: base64 of JSON.
sub user
{
	my ($self, $name, @prefixes) = @_;
	my $id = join ':', map { sprintf '%02x', int rand 256 } 1 .. 8;
	my $secret = join '-', map { join '', map { sprintf '%x', int rand 16 } 1 .. $_ } 8, 4, 4, 4, 12;
	$self->_change(sub { $_[0]{users}{$id} = { name => $name, secret => $secret, read => \@prefixes } });
	return encode_base64($json->encode({ id => $id, secret => $secret }), '');
}

# What is known of a collection, or of a prefix that ends with a slash (then data_plane is needed).  Parameters, each
# kept until it is given again:
#   prefix      of its journals' names
#   data_plane  where a prefix is kept
#   broker      address that is handed out (default: the broker's)
#   lifetime    seconds that its tokens last (default 3600)
#   skew        seconds that the clock of the control plane is ahead
#   scope       prefix that its tokens are restricted to (default: prefix)
#   down        true: answers 503, as while a data plane is migrated
#   masked      true: the user's token is masked, which is a 403 in JSON
sub collection
{
	my ($self, $name, %p) = @_;
	$self->_change(sub { $_[0]{collections}{$name}{$_} = $p{$_} for keys %p });
	return;
}

# Puts answers about a collection before what is due: { retryMillis => … }, { redirect => seconds, location => … },
# { status => …, body => … }, or { grant => { … } }, parameters of collection() for one time.
sub answer
{
	my ($self, $name, @answers) = @_;
	$self->_change(sub { push @{ $_[0]{answers}{$name} }, @answers });
	return;
}

# What is due is answered again.
sub forget_answers
{
	my ($self, $name) = @_;
	$self->_change(sub { delete $_[0]{answers}{$name} });
	return;
}

# The requests about a collection: hashes of time, path, query, request (decoded), user, status.
sub requests
{
	my ($self, $name) = @_;
	open my $file, '<', "$self->{folder}/requests" or return;
	return grep { $_->{about} eq $name } map { $json->decode($_) } <$file>;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

# Reads the state, lets it be changed, and writes it.
sub _change
{
	my ($self, $change) = @_;
	open my $file, '+>>', "$self->{folder}/state" or croak "cannot open the state: $!";
	flock $file, LOCK_EX or croak "cannot lock the state: $!";
	seek $file, 0, 0;
	my $text = do { local $/; <$file> };
	my $state = $text ? $json->decode($text) : {};
	my $result = $change->($state);
	truncate $file, 0;
	print $file $json->encode($state);
	close $file or croak "cannot write the state: $!";
	return $result;
}

# ---- the process that answers ----

sub _serve
{
	my ($self, $socket) = @_;
	my $waiting = IO::Select->new($socket);
	local $SIG{PIPE} = 'IGNORE';
	while (getppid == $self->{owner})
	{
		my $client = $waiting->can_read(1) && $socket->accept or next;
		eval { $self->_answer_client($client); 1 } or print STDERR "control plane: $@";
		close $client;
	}
	POSIX::_exit(0);
}

sub _answer_client
{
	my ($self, $client) = @_;
	my ($line, %headers) = scalar <$client>;
	my ($method, $target) = ($line // '') =~ m{^(\w+) (\S+) HTTP/1\.[01]\r\n} or return;
	while (defined($line = <$client>) && $line =~ /^([^:]+):\s*(.*?)\r\n/)
	{
		$headers{ lc $1 } = $2;
	}
	read $client, my $body, $headers{'content-length'} // 0;
	my ($path, $query) = $target =~ /^([^?]*)\??(.*)/;
	my $request = eval { $json->decode($body) } // {};
	my $about = $request->{collection} // $request->{prefix} // '';
	my ($user, $status, $content, @more);
	$self->_change(sub {
		my ($state) = @_;
		$user = _user_of($state, $headers{authorization} // '');
		my $planned = shift @{ $state->{answers}{$about} // [] };
		($status, $content, @more) = $planned && !$planned->{grant}
		  ? _planned($planned, $path)
		  : $self->_due($state, $method, $path, $user, $request, $about, $planned ? $planned->{grant} : {});
	});
	my $known = { about => $about, time => time, path => $path, query => $query, request => $request,
		user => $user ? $user->{name} : undef, status => $status };
	open my $log, '>>', "$self->{folder}/requests" or die "cannot open the log: $!";
	print $log $json->encode($known), "\n";
	close $log;
	my $type = $content =~ /^\{/ ? 'application/json' : 'text/plain; charset=utf-8';
	print $client join "\r\n", "HTTP/1.1 $status $reason{$status}", "content-type: $type",
	  'content-length: ' . length $content, 'connection: close', @more, '', $content;
	return;
}

# A bearer without a dot is base64 of a refresh token, which is exchanged by the server itself.
sub _user_of
{
	my ($state, $authorization) = @_;
	my ($bearer) = $authorization =~ /^Bearer ([^.]+)$/ or return;
	my $token = eval { $json->decode(decode_base64($bearer)) } or return;
	my $user = $state->{users}{ $token->{id} // '' } or return;
	return $user->{secret} eq $token->{secret} ? $user : undef;
}

sub _planned
{
	my ($planned, $path) = @_;
	return (200, $json->encode({ retryMillis => $planned->{retryMillis} })) if $planned->{retryMillis};
	return ($planned->{status}, $planned->{body} // '') if $planned->{status};
	my $now = time;
	my $then = $now + $planned->{redirect};
	my $location = ($planned->{location} // $path) . '?started=' . _rfc3339($now) . '&retryAfter=' . _rfc3339($then);
	return (307, '', "location: $location",
		'retry-after: ' . POSIX::strftime('%a, %d %b %Y %H:%M:%S +0000', gmtime $then));
}

sub _rfc3339
{
	my ($at) = @_;
	return POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime $at) . sprintf '.%03dZ', 1000 * ($at - int $at);
}

sub _due
{
	my ($self, $state, $method, $path, $user, $request, $about, $once) = @_;
	my $whole = $path eq '/authorize/user/prefix';
	return (404, 'no such page') if $method ne 'POST' || (!$whole && $path ne '/authorize/user/collection');
	return (401, 'invalid refresh token') if !$user;
	return (400, 'Failed to deserialize the JSON body into the target type')
	  if !defined $request->{ $whole ? 'prefix' : 'collection' } || ($whole && !defined $request->{dataPlane});
	my $known = $state->{collections}{$about};
	return (404, ($whole ? 'data-plane ' . $request->{dataPlane} : "collection $about") . ' is not known')
	  if !$known || ($whole && $known->{data_plane} ne $request->{dataPlane});
	return (403, $json->encode({ error => 'missing_capabilities', message => 'the token was not granted what this needs', missing_capabilities => ['ReadCollections'] }))
	  if $known->{masked};
	return (403, "$user->{name} is not authorized to $about for Read")
	  if ($request->{capability} // 'read') ne 'read' || !grep { index($about, $_) == 0 } @{ $user->{read} };
	return (503, "data-plane is cordoned for migration") if $known->{down};
	return (200, $json->encode($self->_grant({ %$known, %$once }, $user, $whole, $about)));
}

# Empty members are left out; a prefix gets access to reactors, too.
sub _grant
{
	my ($self, $known, $user, $whole, $about) = @_;
	my $now = int(time) + ($known->{skew} // 0);
	my $token = Sophia::Jwt::mint(
		key => $self->{key},
		$whole ? () : (collection => $about),
		prefix => $known->{scope} // ($whole ? $about : $known->{prefix}),
		claims => { iat => $now, exp => $now + ($known->{lifetime} // 3600), sub => $user->{name} });
	return {
		brokerAddress => $known->{broker} // $self->{broker},
		brokerToken => $token,
		retryMillis => 0,
		$whole ? (reactorAddress => 'https://reactor.test', reactorToken => $token) : (journalNamePrefix => $known->{prefix}) };
}

END
{
	local $?;
	$_->stop for grep { $_->{owner} == $$ } @planes;
}

1;
