# Waiting for what no query of one server tells.
package Sophia::Wait;
use strict;
use warnings;
use Exporter qw(import);
use Time::HiRes qw(time usleep);

our @EXPORT_OK = qw(wait_for);

# Waits, a minute at most, until a function says true.
sub wait_for
{
	my ($what, $condition) = @_;
	my $until = time + 60;
	until ($condition->())
	{
		die "waited in vain for $what" if time > $until;
		usleep(50_000);
	}
	return;
}

1;
