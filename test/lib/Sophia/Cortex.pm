# A stand-in for the REST interfaces of a Snowflake account: chat completions, embeddings, the list of models, and the SQL API
# (/api/v2/statements) for statements over texts: always asynchronous, cells are strings, a result comes in partitions.  It checks
# tokens as the service does: those signed by a key pair with their signature, subject, issuer and times.
#
#   my $cortex = Sophia::Cortex->new(account => 'MYORG-ACC', user => 'ANN', public => $pem_file, fingerprint => 'SHA256:...', token => 'pat');
#   $cortex->address; $cortex->requests;
#
# What a text asks for happens to its statement: #looks=N: it is done at the Nth look, #parts=N: so many partitions, #lost=N: that one of them cannot
# be had, #busy: 503 when it is first sent, #sql=CODE/STATE: it fails (422) where it has that text, #says=TEXT with that message, #renew: the token
# has expired at the first look; and to its own row: #null, #why=TEXT (no value, with that error), #gone (no row), #value=TEXT.  A chat with #events
# is answered by a stream of events.  A token of the account may end with ".N": so a renewed one is another one.
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
		my $type = ref $answer ? 'application/json' : 'text/event-stream';
		$answer = $json->encode($answer) if ref $answer;
		print $client "HTTP/1.1 $status Reason\r\nContent-Type: $type\r\nConnection: close\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
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
	return $self->_statement($head, $method, $path, $request, $bearer) if $path =~ m{^/api/v2/statements};
	return (404, { message => 'no such path', code => '390404' }) if $path ne '/api/v2/cortex/v1/chat/completions';
	my $text = $request->{messages}[-1]{content};
	return ($1, { message => 'as asked', code => '1', request_id => 'r' }) if $text =~ /#status=(\d+)/;
	return (200, { choices => [ { index => 0, message => { role => 'assistant', content => '{"a": 1}' } } ], finish_reason => 'stop' }) if $request->{response_format};
	return (200, _events("echo: $text")) if $text =~ /#events/;
	return (200, { choices => [ { index => 0, finish_reason => 'stop', message => { role => 'assistant', content => "echo: $text" } } ],
		usage => { prompt_tokens => 7, completion_tokens => 3, total_tokens => 10 } });
}

# A text by a character an event.
sub _events
{
	my ($text) = @_;
	my @events = map { { choices => [ { index => 0, delta => { content => $_ } } ] } } split //, $text;
	push @events, { choices => [ { index => 0, delta => {}, finish_reason => 'stop' } ] }, { choices => [], usage => { prompt_tokens => 7, completion_tokens => 3, total_tokens => 10 } };
	return join '', map({ "data: " . $json->encode($_) . "\n\n" } @events), "data: [DONE]\n\n";
}

# Dimensions of models that have as many as theirs have; others have 2.
my %dimensions = ('snowflake-arctic-embed-m-v1.5' => 768, 'snowflake-arctic-embed-l-v2.0' => 1024);

# Each vector is an array within an array; the last text comes first.
sub _embed
{
	my ($self, $request) = @_;
	my @data;
	for my $index (0 .. $#{ $request->{text} })
	{
		return (400, { message => 'refused', code => '1' }) if $request->{text}[$index] =~ /#refuse/;
		unshift @data, { object => 'embedding', index => $index, embedding => [ [ length $request->{text}[$index], (0.5) x (($dimensions{ $request->{model} } // 2) - 1) ] ] };
	}
	return (200, { object => 'list', data => \@data, model => $request->{model}, usage => { total_tokens => 5 * @data } });
}

sub _statement
{
	my ($self, $head, $method, $path, $request, $bearer) = @_;
	return (400, { code => '391903', message => 'no User-Agent' }) if $head !~ /^User-Agent: \S/mi;
	my $known = $self->{statements} //= {};
	if ($method eq 'POST' && $path =~ m{^/api/v2/statements\?requestId=([0-9a-f-]{36})&async=true&nullable=true(&retry=true)?$})
	{
		my ($id, $again) = ($1, $2);
		my $handle = "01b66701-0000-0000-0000-$1" =~ s/-[0-9a-f-]+-/-0000-/r;
		return (503, { code => '1', message => 'busy' }) if $request->{statement} && join('', map { $_->{value} } values %{ $request->{bindings} }) =~ /#busy/ && !$self->{busy}{$id}++;
		return (400, { code => '1', message => 'sent again without retry' }) if $self->{busy}{$id} && !$again;
		# the same id again is the same statement, and says so
		return (400, { code => '1', message => 'sent again without retry' }) if $known->{$handle} && !$again;
		$known->{$handle} //= { %{ $self->_run($request) }, bearer => $bearer };
		return (202, { code => '333334', message => 'Asynchronous execution in progress. Use provided query id to perform query monitoring and management.',
			statementHandle => $handle, statementStatusUrl => "/api/v2/statements/$handle" });
	}
	my ($handle, $cancel, $partition) = $path =~ m{^/api/v2/statements/([0-9a-f-]+)(/cancel)?(?:\?partition=(\d+))?$} or return (404, { code => '390404', message => 'no such path' });
	my $statement = $known->{$handle} or return (422, { code => '000709', sqlState => '02000', message => 'Statement not found', statementHandle => $handle });
	if ($cancel)
	{
		$statement->{looks} = 1e9;
		return (200, { code => '000604', message => 'successfully canceled', statementHandle => $handle });
	}
	return (401, { code => '390318', message => 'token expired' }) if $statement->{renew} && $bearer eq $statement->{bearer};
	return (422, { code => '000710', sqlState => '02000', message => 'the partition is lost', statementHandle => $handle }) if $partition && $partition == $statement->{lost};
	return (200, { data => $statement->{partitions}[$partition] }) if defined $partition;
	return (202, { code => '333334', message => 'in progress', statementHandle => $handle, statementStatusUrl => "/api/v2/statements/$handle" }) if $statement->{looks}-- > 1;
	return (422, { %{ $statement->{failed} }, statementHandle => $handle }) if $statement->{failed};
	return (200, { code => '090001', message => 'Statement executed successfully.', sqlState => '00000', statementHandle => $handle, data => $statement->{partitions}[0],
		resultSetMetaData => { numRows => $statement->{rows}, format => 'jsonv2', rowType => [ { name => 'INDEX', type => 'fixed' }, { name => 'VALUE', type => 'text' } ],
			partitionInfo => [ map { { rowCount => scalar @$_, uncompressedSize => 100 } } @{ $statement->{partitions} } ] } });
}

# A statement over texts: what each function gives is made from the texts and the other bindings.
sub _run
{
	my ($self, $request) = @_;
	my ($before) = $request->{statement} =~ /^(.*?)FLATTEN\(INPUT => PARSE_JSON\(\?\)\)/ or return { failed => { code => '001003', sqlState => '42000', message => 'SQL compilation error' }, looks => 1 };
	my @bound = map { $request->{bindings}{$_}{value} } sort { $a <=> $b } keys %{ $request->{bindings} };
	my $texts = JSON::PP->new->decode(splice @bound, ($before =~ tr/?//), 1);
	my $all = join ' ', @$texts;
	my ($says) = $all =~ /#says=(.*)/s;
	return { failed => { code => $1, sqlState => $2, message => $says // 'the statement has failed' }, looks => 1 } if $all =~ m{#sql=(\d+)/(\w+)};
	my @rows;
	for my $index (0 .. $#$texts)
	{
		my $text = $texts->[$index];
		my $value = $text =~ /#value=(.*)/ ? $1 : _value($request->{statement}, $text, @bound);
		next if $text =~ /#gone/;
		push @rows, [ "$index", $text =~ /#null|#why/ ? undef : $value, $text =~ /#why=(.+)/ ? $1 : undef ];
	}
	my $parts = $all =~ /#parts=(\d+)/ ? $1 : 1;
	my @partitions = map { [] } 1 .. $parts;
	push @{ $partitions[ $_ * $parts / @rows ] }, $rows[$_] for 0 .. $#rows;
	return { partitions => \@partitions, rows => scalar @rows, looks => $all =~ /#looks=(\d+)/ ? $1 : 1, lost => $all =~ /#lost=(\d+)/ ? $1 : 0,
		renew => scalar($all =~ /#renew/) };
}

sub _value
{
	my ($statement, $text, @bound) = @_;
	return '0.75' if $statement =~ /CORTEX\.SENTIMENT\(/;
	return 'mixed' if $statement =~ /AI_SENTIMENT\(/;
	return JSON::PP->new->decode($bound[0])->[-1] if $statement =~ /AI_CLASSIFY\(/;
	return "$bound[0]>$bound[1]: $text" if $statement =~ /AI_TRANSLATE\(/;
	return JSON::PP->new->canonical->encode([ { answer => "$bound[0] $text", score => 0.5 } ]) if $statement =~ /EXTRACT_ANSWER\(/;
	return "short: $text" if $statement =~ /SUMMARIZE\(/;
	return $text =~ /\?/ ? 'false' : 'true' if $statement =~ /AI_FILTER\(/;
	return '' . scalar(() = "$bound[0] $text" =~ /\S+/g) if $statement =~ /COUNT_TOKENS\(/;
	return 'unknown function';
}

# What is wrong with a token, '' = nothing.
sub _wrong_token
{
	my ($self, $type, $token) = @_;
	return $token =~ s/\.\d$//r eq $self->{token} ? '' : 'unknown token' if $type eq 'PROGRAMMATIC_ACCESS_TOKEN' || $type eq 'OAUTH';
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
