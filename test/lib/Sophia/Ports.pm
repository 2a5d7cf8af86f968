# Ports for servers of the tests.
package Sophia::Ports;
use strict;
use warnings;
use Exporter qw(import);
use IO::Socket::INET;

our @EXPORT_OK = qw(free_ports);

# Ports that nobody listens on, below those that the kernel gives to outgoing connections, so that they also stay free
# while a server is stopped.
sub free_ports
{
	my ($n) = @_;
	my %ports;
	while (keys %ports < $n)
	{
		my $port = 20000 + int rand 12000;
		my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp', Listen => 1)
		  or next;
		$ports{$port} = 1;
	}
	return keys %ports;
}

1;
