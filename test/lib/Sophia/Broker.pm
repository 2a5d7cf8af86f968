# A real Gazette broker with an etcd of its own, on free ports of the loopback interface.
#
#   my $broker = Sophia::Broker->new;                  # ->new(auth_key => 'secret') demands tokens of the JSON endpoints
#   $broker->start;
#   my $journal = $broker->create_journal('acme/contacts');
#   $broker->put($journal, $bytes);                    # returns the offset past them
#   $broker->stop('TERM');                             # or KILL
#   $broker->start;                                    # the same address and content; waits for the lease of a killed one
#
# A broker that gets SIGTERM ends only when another one has taken over its journals, so stopping it gently starts a
# deputy at another address, which hands them back when the broker starts again.  What a killed broker had not
# persisted yet is lost, as in life.
#
# Everything it holds lies in a temporary folder, and every process ends with the test, however that ends.
package Sophia::Broker;
use strict;
use warnings;
use Carp qw(croak);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Spec;
use File::Temp ();
use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 qw(encode_base64 decode_base64);
use POSIX ();
use Sophia::Ports qw(free_ports);
use Time::HiRes qw(time);

use constant PREFIX => '/gazette/test';

# Seconds that anything may take which happens within one, where others keep the processors busy.
use constant PATIENCE => 120;

my $json = JSON::PP->new->canonical->utf8;
my @brokers;

# Makes a broker and starts nothing yet.  Parameters:
#   auth_key  secret bytes; the broker then verifies tokens (Sophia::Jwt) on its JSON endpoints
#   lease     seconds that etcd keeps the place of a broker that was killed (default 10)
#   args      more arguments for `gazette serve`
sub new
{
	my ($class, %p) = @_;
	my @ports = free_ports(4);
	my $self = bless {
		owner => $$,
		folder => File::Temp->newdir('sophia_broker_XXXXXX', TMPDIR => 1),
		bin => _binaries(),
		auth_key => $p{auth_key},
		args => $p{args} // [],
		lease => $p{lease} // 10,
		label => $ports[0],
		address => "http://127.0.0.1:$ports[0]",
		ports => { gazette => $ports[0], deputy => $ports[3] },
		etcd => "http://127.0.0.1:$ports[1]",
		etcd_peer => "http://127.0.0.1:$ports[2]",
		http => HTTP::Tiny->new(timeout => 30, keep_alive => 0)
	}, $class;
	mkdir $self->file_root or croak "cannot make the store: $!";
	push @brokers, $self;
	return $self;
}

# http://127.0.0.1:PORT
sub address { return $_[0]{address} }

# The folder where the broker persists fragments; itself a fragment store.
sub file_root { return "$_[0]{folder}/store" }

# The text that 'etcd', the broker ('gazette'), its 'deputy' or 'gazctl' logged.
sub log_of
{
	my ($self, $name) = @_;
	open my $file, '<', $self->_log_path($name) or return '';
	local $/;
	return scalar <$file>;
}

# Starts etcd, if it does not run, and the broker, and waits until it serves.
sub start
{
	my ($self) = @_;
	$self->_start_etcd if !$self->{pid}{etcd};
	my $others = $self->{pid}{deputy} ? 1 : 0;
	$self->_wait($self->{lease} + PATIENCE, 'the lease of the last broker to end', sub { $self->_members == $others });
	$self->_start_broker('gazette');
	$self->_end('deputy', 'TERM') if $others;
	$self->_reset_heads if delete $self->{killed};
	$self->_wait_for_journal($_) for @{ $self->{journals} // [] };
	return $self;
}

# Ends the broker by a signal ('TERM', the default, or 'KILL'); etcd goes on.
sub stop
{
	my ($self, $signal) = @_;
	$signal //= 'TERM';
	$self->_start_broker('deputy') if $signal eq 'TERM';
	$self->{killed} = $signal ne 'TERM';
	return $self->_end('gazette', $signal);
}

# Dies when a process that should run has ended by itself.
sub check
{
	my ($self) = @_;
	for my $name (keys %{ $self->{pid} })
	{
		next if waitpid($self->{pid}{$name}, POSIX::WNOHANG) == 0;
		delete $self->{pid}{$name};
		croak "$name ended early:\n" . substr $self->log_of($name), -2000;
	}
	return;
}

# Ends everything at once; a later start finds what was persisted.
sub stop_all
{
	my ($self) = @_;
	$self->_end($_, 'KILL') for sort keys %{ $self->{pid} };
	$self->{killed} = 1;
	return;
}

# Makes a journal of a collection and returns its name once it can be written.  Parameters:
#   pivot       key-begin, 8 hexadecimal digits (default 00000000); key_end (default ffffffff)
#   generation  16 hexadecimal digits (default: no such folder)
#   fields      array of [field, encoded value]: a logical partition
#   labels      hash of more labels
#   fragment    hash of members of the fragment specification: length, compression_codec, flush_interval, ...
#   suspend...  other members of the specification may be given as spec => { ... }
sub create_journal
{
	my ($self, $collection, %p) = @_;
	my $pivot = $p{pivot} // '00000000';
	my @fields = @{ $p{fields} // [] };
	my $name = join '/', $collection, grep({ defined } $p{generation}), map({ "$_->[0]=$_->[1]" } @fields),
	  'pivot=' . ($pivot eq '00000000' ? '00' : $pivot);
	my %labels = (
		'app.gazette.dev/managed-by' => 'estuary.dev/flow',
		'content-type' => 'application/x-ndjson',
		'estuary.dev/collection' => $collection,
		'estuary.dev/key-begin' => $pivot,
		'estuary.dev/key-end' => $p{key_end} // 'ffffffff',
		map({ ("estuary.dev/field/$_->[0]" => $_->[1]) } @fields),
		%{ $p{labels} // {} });
	$self->apply({
		name => $name,
		replication => 1,
		labels => [ map { { name => $_, value => $labels{$_} } } sort keys %labels ],
		fragment => {
			length => 1 << 20,
			compression_codec => 'GZIP',
			stores => ['file:///'],
			refresh_interval => '2s',
			flush_interval => '0s',
			%{ $p{fragment} // {} }
		},
		%{ $p{spec} // {} } });
	push @{ $self->{journals} }, $name;
	$self->_wait_for_journal($name);
	return $name;
}

# Applies a journal specification, a hash in the form of gazctl's YAML.
sub apply
{
	my ($self, $spec) = @_;
	my $file = File::Temp->new(DIR => "$self->{folder}", SUFFIX => '.yaml');
	print $file $json->encode($spec);
	close $file;
	$self->gazctl('journals', 'apply', '--specs', $file->filename);
	return;
}

# Deletes a journal (its fragments stay in the store).
sub delete_journal
{
	my ($self, $name) = @_;
	my ($journal) = grep { $_->{spec}{name} eq $name } $self->list;
	$self->apply({ name => $name, revision => $journal->{modRevision} + 0, delete => JSON::PP::true });
	$self->{journals} = [ grep { $_ ne $name } @{ $self->{journals} } ];
	return;
}

# Runs gazctl against the broker and returns what it printed.
sub gazctl
{
	my ($self, $noun, $verb, @args) = @_;
	my @command = ("$self->{bin}/gazctl", $noun, $verb, "--broker.address=$self->{address}", $self->_key_argument, @args);
	my $log = $self->_log_path('gazctl');
	my $pid = open my $out, '-|';
	croak "cannot fork: $!" if !defined $pid;
	if (!$pid)
	{
		open STDERR, '>>', $log or POSIX::_exit(126);
		exec @command or POSIX::_exit(127);
	}
	my $printed = do { local $/; <$out> };
	close $out or croak "gazctl $noun $verb failed, see $log: " . $self->log_of('gazctl');
	return $printed;
}

# Appends bytes to a journal, all or nothing, and returns the offset past them.
sub put
{
	my ($self, $journal, $bytes) = @_;
	my $response = $self->_put($journal, $bytes);
	croak "PUT to $journal: $response->{status} $response->{content}" if $response->{status} != 204;
	return $response->{headers}{'x-commit-end'};
}

# The write head of a journal.
sub write_head
{
	my ($self, $journal) = @_;
	return $self->put($journal, '');
}

# Waits until the broker knows the fragment that ends at an offset as persisted, and so looks for it in the store.
sub wait_until_persisted
{
	my ($self, $journal, $end) = @_;
	return $self->_wait(PATIENCE, "the fragment of $journal that ends at $end", sub {
		$self->put($journal, '');
		my ($answer) = $self->post('read', { journal => $journal, offset => $end - 1, metadataOnly => JSON::PP::true });
		$answer->{fragmentUrl};
	});
}

# The journals of a collection (default: all) as the JSON endpoint lists them.  Parameters: token.
sub list
{
	my ($self, $collection, %p) = @_;
	my @labels = defined $collection ? { name => 'estuary.dev/collection', value => $collection } : ();
	my @messages = $self->post('list', { selector => { include => { labels => \@labels } } }, %p);
	return map { @{ $_->{journals} } } @messages;
}

# The bytes of a journal from an offset (default 0) to its head, by the JSON endpoint.  Parameters: token.
sub read
{
	my ($self, $journal, $offset, %p) = @_;
	my @messages = $self->post('read', { journal => $journal, offset => $offset // 0 }, %p);
	return join '', map { decode_base64($_->{content}) } grep { defined $_->{content} } @messages;
}

# POST to /v1/journals/<what>: the results; dies with the broker's message on an error.  Parameters: token (default:
# one that may list and read everything, when the broker has a key; '' = none).
sub post
{
	my ($self, $what, $request, %p) = @_;
	my $token = $p{token} // (defined $self->{auth_key} ? $self->token : '');
	my $response = $self->{http}->post("$self->{address}/v1/journals/$what", {
		content => $json->encode($request),
		headers => { 'content-type' => 'application/json', $token ne '' ? (authorization => "Bearer $token") : () } });
	my @results;
	for my $line (split /\n/, $response->{content})
	{
		my $message = $json->decode($line);
		croak "$what: $response->{status} " . ($message->{error}{message} // $line) if !$message->{result};
		push @results, $message->{result};
	}
	croak "$what: $response->{status} $response->{content}" if !$response->{success};
	return @results;
}

# A token signed with the broker's key; parameters of Sophia::Jwt::mint.
sub token
{
	my ($self, %p) = @_;
	require Sophia::Jwt;
	return Sophia::Jwt::mint(key => $self->{auth_key}, %p);
}

sub _put
{
	my ($self, $journal, $bytes) = @_;
	return $self->{http}->request('PUT', "$self->{address}/" . $journal =~ s/%/%25/gr, { content => $bytes });
}

# What an operator does after brokers died with unpersisted content: appends go on after what was persisted.
sub _reset_heads
{
	my ($self) = @_;
	return if !@{ $self->{journals} // [] };
	return $self->_wait(PATIENCE, 'the heads to be reset', sub {
		eval { $self->gazctl('journals', 'reset-head', '--selector', 'app.gazette.dev/managed-by=estuary.dev/flow'); 1 };
	});
}

# An empty append is a write barrier: it succeeds once the journal is assigned and its head is known.
sub _wait_for_journal
{
	my ($self, $name) = @_;
	return $self->_wait(PATIENCE, "journal $name to be served", sub { $self->_put($name, '')->{status} == 204 });
}

sub _key_argument
{
	my ($self) = @_;
	return if !defined $self->{auth_key};
	return '--broker.auth-keys=' . encode_base64($self->{auth_key}, '');
}

sub _start_etcd
{
	my ($self) = @_;
	$self->_spawn('etcd', 'etcd', '--data-dir', "$self->{folder}/etcd", '--listen-client-urls', $self->{etcd},
		'--advertise-client-urls', $self->{etcd}, '--listen-peer-urls', $self->{etcd_peer},
		'--initial-advertise-peer-urls', $self->{etcd_peer}, '--initial-cluster', "default=$self->{etcd_peer}",
		'--unsafe-no-fsync', '--log-level', 'warn');
	$self->_wait(PATIENCE, 'etcd to serve', sub {
		my $response = $self->{http}->get("$self->{etcd}/health");
		$response->{success} && $response->{content} =~ /"health":"true"/;
	});
	return;
}

sub _start_broker
{
	my ($self, $name) = @_;
	my $before = $self->_members;
	$self->_spawn($name, 'gazette', 'serve', '--broker.host=127.0.0.1', "--broker.port=$self->{ports}{$name}",
		"--broker.id=$name", '--broker.file-root=' . $self->file_root, '--broker.file-only',
		"--etcd.address=$self->{etcd}", '--etcd.prefix=' . PREFIX, "--etcd.lease=$self->{lease}s", '--log.level=info',
		$self->_key_argument, @{ $self->{args} });
	$self->_wait(PATIENCE, "$name to serve", sub {
		$self->{http}->get("http://127.0.0.1:$self->{ports}{$name}/debug/ready")->{success} && $self->_members > $before;
	});
	return;
}

# How many brokers etcd knows.
sub _members
{
	my ($self) = @_;
	my $first = PREFIX . '/members/';
	my $response = $self->{http}->post("$self->{etcd}/v3/kv/range", {
		content => $json->encode({
			key => encode_base64($first, ''),
			range_end => encode_base64($first =~ s{/$}{0}r, ''),
			count_only => JSON::PP::true }) });
	croak "etcd: $response->{status} $response->{content}" if !$response->{success};
	return $json->decode($response->{content})->{count} // 0;
}

sub _log_path
{
	my ($self, $name) = @_;
	return "$self->{folder}/$name.log" if !$ENV{TESTDIR};
	my $test = (File::Spec->splitpath($0))[2] =~ s/\.\w+$//r;
	make_path("$ENV{TESTDIR}/tmp_check/log");
	return "$ENV{TESTDIR}/tmp_check/log/${test}_${name}_$self->{label}.log";
}

sub _spawn
{
	my ($self, $name, $program, @args) = @_;
	my $log = $self->_log_path($name);
	my $pid = fork // croak "cannot fork: $!";
	if (!$pid)
	{
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>>', $log or POSIX::_exit(126);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		exec "$self->{bin}/$program", @args or POSIX::_exit(127);
	}
	$self->{pid}{$name} = $pid;
	return;
}

# Signals a process and waits for its end.
sub _end
{
	my ($self, $name, $signal) = @_;
	my $pid = delete $self->{pid}{$name} // croak "$name does not run";
	my $until = time + PATIENCE;
	kill $signal, $pid;
	while (waitpid($pid, POSIX::WNOHANG) == 0)
	{
		if (time > $until)
		{
			kill 'KILL', $pid;
			waitpid $pid, 0;
			croak "$name did not end on $signal:\n" . substr $self->log_of($name), -2000;
		}
		select undef, undef, undef, 0.05;
	}
	return;
}

sub _wait
{
	my ($self, $seconds, $what, $condition) = @_;
	my $until = time + $seconds;
	while (!$condition->())
	{
		$self->check;
		croak "waited $seconds s in vain for $what" if time > $until;
		select undef, undef, undef, 0.1;
	}
	return;
}

# The folder of the binaries; built when nobody did it yet.
sub _binaries
{
	return $ENV{SOPHIA_BROKER_BIN} if $ENV{SOPHIA_BROKER_BIN};
	my $build = dirname(__FILE__) . '/../../broker/build';
	chomp(my $folder = `$build`);
	croak 'the broker could not be built' if $? != 0;
	return $ENV{SOPHIA_BROKER_BIN} = $folder;
}

END
{
	local $?;
	$_->stop_all for grep { $_->{owner} == $$ } @brokers;
}

1;
