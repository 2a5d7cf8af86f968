# Two brokers that keep each journal twice, so that one of them may be killed and nothing that was acknowledged is lost.
#
#   my $pair = Sophia::BrokerPair->new->start;
#   my $journal = $pair->create_journal('acme/contacts');
#   $pair->end_member('KILL');                  # one of the two, by chance; the other one takes over
#   $pair->put($journal, $bytes);               # goes to the one that lives, and may fail while it takes over
#   $pair->start_member;                        # the one that was ended; returns once everything is kept twice again
package Sophia::BrokerPair;
use strict;
use warnings;
use parent 'Sophia::Broker';
use Carp qw(croak);

use constant MEMBERS => qw(gazette deputy);

# Parameters as Sophia::Broker's; the lease is short, since nothing can be appended until it has ended.
sub new
{
	my ($class, %p) = @_;
	return $class->SUPER::new(lease => 3, %p);
}

sub start
{
	my ($self) = @_;
	$self->_start_etcd;
	$self->_start_broker($_) for MEMBERS;
	return $self;
}

sub create_journal
{
	my ($self, $collection, %p) = @_;
	return $self->SUPER::create_journal($collection, %p, spec => { replication => 2, %{ $p{spec} // {} } });
}

# The name of the member that is away, if one is.
sub away { return $_[0]{away} }

# Ends one member by a signal and returns its name; the address becomes that of the other one.
sub end_member
{
	my ($self, $signal) = @_;
	croak "$self->{away} is away already" if defined $self->{away};
	my @members = rand() < 0.5 ? (MEMBERS) : reverse MEMBERS;
	$self->{away} = $members[0];
	$self->{address} = "http://127.0.0.1:$self->{ports}{$members[1]}";
	$self->_end($members[0], $signal);
	return $members[0];
}

# Starts the member that is away.
sub start_member
{
	my ($self) = @_;
	my $name = delete $self->{away} // croak 'no member is away';
	$self->_wait($self->{lease} + 30, "the lease of $name to end", sub { $self->_members == 1 });
	$self->_start_broker($name);
	$self->wait_until_replicated;
	return $name;
}

# Waits until both members keep every journal, also what was appended last.
sub wait_until_replicated
{
	my ($self) = @_;
	$self->_wait(60, 'every journal to be kept twice', sub {
		my @journals = eval { $self->list };
		@journals && !grep { @{ $_->{route}{members} } != 2 } @journals;
	});
	$self->_wait_for_journal($_) for @{ $self->{journals} };
	return;
}

1;
