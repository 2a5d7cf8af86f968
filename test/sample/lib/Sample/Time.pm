package Sample::Time;

# Time: points in time as integer microseconds since 1970, and the forms in which the three systems write them.

use strict;
use warnings;
use POSIX qw(strftime);
use Time::Local qw(timegm);
use Exporter qw(import);

our @EXPORT = qw(at iso iso_ms millis SECOND MINUTE HOUR DAY);

use constant { SECOND => 1_000_000, MINUTE => 60_000_000, HOUR => 3_600_000_000, DAY => 86_400_000_000 };

# at(month, day, hour, minute, second) in 2026, UTC.
sub at
{
	my ($month, $day, $hour, $minute, $second) = @_;
	return timegm($second || 0, $minute || 0, $hour || 0, $day, $month - 1, 2026) * SECOND;
}

sub iso
{
	my ($time) = @_;
	return strftime('%Y-%m-%dT%H:%M:%S', gmtime(int($time / SECOND))) . sprintf('.%06dZ', $time % SECOND);
}

sub iso_ms
{
	my ($time) = @_;
	return strftime('%Y-%m-%dT%H:%M:%S', gmtime(int($time / SECOND)))
	  . sprintf('.%03dZ', int($time % SECOND / 1000));
}

sub millis { return int($_[0] / 1000) }

1;
