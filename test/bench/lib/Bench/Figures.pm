# What benches share in making and showing figures.
package Bench::Figures;
use strict;
use warnings;
use Exporter qw(import);
use POSIX ();

our @EXPORT_OK = qw(median memory percentile processors say_line);

sub say_line { print map({ "$_\n" } @_); return }

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return @sorted % 2 ? $sorted[ $#sorted / 2 ] : ($sorted[ @sorted / 2 - 1 ] + $sorted[ @sorted / 2 ]) / 2;
}

# The smallest value that at least this part (0 to 1) of the values do not exceed.
sub percentile
{
	my ($part, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;
	my $rank = POSIX::ceil($part * @sorted);
	return $sorted[ $rank < 1 ? 0 : $rank - 1 ];
}

# How many processors the machine has.
sub processors
{
	open my $cpus, '<', '/proc/cpuinfo' or die "no /proc: $!\n";
	return scalar grep { /^processor/ } <$cpus>;
}

# How much memory the machine has, in MB.
sub memory
{
	open my $file, '<', '/proc/meminfo' or die "no /proc: $!\n";
	my ($total) = map { /^MemTotal:\s+(\d+)/ } <$file>;
	return int($total / 1024);
}

1;
