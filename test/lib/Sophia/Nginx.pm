# nginx with TLS 1.3 in front of a server on this machine, with a certificate of an authority of its own.
#
#   my $nginx = Sophia::Nginx->new(upstream => $port);        # http2 => 0: HTTP/1.1 only; sessions are not resumed
#   my $address = $nginx->address;                            # https://127.0.0.1:PORT
#   my $file = $nginx->ca_file;                               # the authority, in PEM
#   $nginx->certify(days => -1);                              # another certificate, which has expired, or host => 'NAME'
#   $nginx->stop; $nginx->start;                              # the same port
#   my @lines = $nginx->lines;                                # of each request: its protocol, and the number of its connection
package Sophia::Nginx;
use strict;
use warnings;
use Carp qw(croak);
use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Sophia::Ports ();
use Time::HiRes qw(time usleep);

my @running;

sub new
{
	my ($class, %p) = @_;
	my $self = bless { owner => $$, http2 => 1, %p, folder => File::Temp->newdir('sophia_nginx_XXXXXX', TMPDIR => 1) }, $class;
	($self->{port}) = Sophia::Ports::free_ports(1);
	$self->_authority;
	$self->certify;
	push @running, $self;
	return $self->start;
}

sub address { return "https://127.0.0.1:$_[0]{port}" }
sub ca_file { return "$_[0]{folder}/ca.pem" }

sub _openssl
{
	my ($self, @arguments) = @_;
	open my $pipe, '-|', 'sh', '-c', 'cd "$0" && exec openssl "$@" 2>&1', $self->{folder}, @arguments or croak "cannot run openssl: $!";
	my $printed = do { local $/; <$pipe> };
	close $pipe or croak "openssl @arguments failed: $printed";
	return;
}

sub _authority
{
	my ($self) = @_;
	chmod 0755, $self->{folder};
	$self->_openssl(qw(req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj), '/CN=Authority of a test');
	return;
}

# Writes a certificate; it counts from the next start on.
sub certify
{
	my ($self, %p) = @_;
	my $folder = $self->{folder};
	open my $file, '>', "$folder/names" or croak "cannot write: $!";
	print $file 'subjectAltName = ', $p{host} ? "DNS:$p{host}" : 'IP:127.0.0.1', "\n";
	close $file;
	open $file, '>', "$folder/ca.conf" or croak "cannot write: $!";
	print $file "[ca]\ndefault_ca = c\n[c]\nnew_certs_dir = .\ndatabase = index\nrand_serial = yes\ndefault_md = sha256\npolicy = p\n"
	  . "unique_subject = no\n[p]\ncommonName = supplied\n";
	close $file;
	open $file, '>', "$folder/index" or croak "cannot write: $!";
	close $file;
	my ($from, $to) = map { POSIX::strftime('%Y%m%d%H%M%SZ', gmtime(time + 86400 * $_)) } -10, $p{days} // 30;
	$self->_openssl(qw(req -newkey rsa:2048 -nodes -keyout key.pem -out request -subj), '/CN=Server of a test');
	$self->_openssl(qw(ca -batch -notext -config ca.conf -keyfile ca.key -cert ca.pem -in request -out cert.pem -extfile names),
		'-startdate', $from, '-enddate', $to);
	return;
}

sub start
{
	my ($self) = @_;
	my $folder = $self->{folder};
	my $http2 = $self->{http2} ? ' http2' : '';
	open my $file, '>', "$folder/nginx.conf" or croak "cannot write: $!";
	print $file <<"CONF";
daemon off;
worker_processes 1;
pid $folder/pid;
error_log $folder/error.log;
events { worker_connections 1024; }
http {
  log_format protocol '\$server_protocol \$connection \$request_method';
  access_log $folder/access.log protocol;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  keepalive_requests 1000000;
  client_max_body_size 64m;
  upstream server { server 127.0.0.1:$self->{upstream}; keepalive 64; }
  server {
    listen 127.0.0.1:$self->{port} ssl$http2;
    ssl_certificate $folder/cert.pem;
    ssl_certificate_key $folder/key.pem;
    ssl_protocols TLSv1.3;
    ssl_session_cache off;
    ssl_session_tickets off;
    location / { proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection ''; }
  }
}
CONF
	close $file;
	$self->{pid} = fork // croak "cannot fork: $!";
	if (!$self->{pid})
	{
		open STDERR, '>', '/dev/null';
		exec $self->_program, '-p', "$folder", '-c', "$folder/nginx.conf" or POSIX::_exit(127);
	}
	my $until = time + 30;
	until (IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}))
	{
		croak 'nginx does not listen' if time > $until || waitpid($self->{pid}, POSIX::WNOHANG) != 0;
		usleep(20_000);
	}
	return $self;
}

# Debian's is where users do not look for programs.
sub _program
{
	my ($found) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
	return $found // croak 'there is no nginx';
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return;
}

sub lines
{
	my ($self) = @_;
	open my $file, '<', "$self->{folder}/access.log" or return;
	chomp(my @lines = <$file>);
	return @lines;
}

END
{
	local $?;
	$_->stop for grep { $_->{owner} == $$ } @running;
}

1;
