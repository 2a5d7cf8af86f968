# Waiting for what no query of one server tells.
package Sophia::Wait;
use strict;
use warnings;
use Exporter qw(import);
use PostgreSQL::Test::Utils ();
use Time::HiRes qw(time usleep);

our @EXPORT_OK = qw(wait_for);

# Waits, as long as PostgreSQL's own tests do at most, until a function says true.
sub wait_for
{
	my ($what, $condition) = @_;
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($condition->())
	{
		die "waited in vain for $what" if time > $until;
		usleep(50_000);
	}
	return;
}

1;
