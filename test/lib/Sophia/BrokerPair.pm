# Two brokers that keep each journal twice, so that one of them may be killed and nothing that was acknowledged is lost.
#
#   my $pair = Sophia::BrokerPair->new->start;
#   my $journal = $pair->create_journal('acme/contacts');
#   $pair->kill_member;                         # one of the two, by chance; the other one goes on serving reads, but
#                                               # nothing can be appended
#   $pair->start_member;                        # the one that was killed; returns once everything is kept twice again
#   $pair->replace_member;                      # one of the two hands over to a new one and ends by SIGTERM
package Sophia::BrokerPair;
use strict;
use warnings;
use parent 'Sophia::Broker';
use Carp qw(croak);

# Parameters as Sophia::Broker's; the lease is short, since nothing can be appended until it has ended.
sub new
{
	my ($class, %p) = @_;
	my $self = $class->SUPER::new(lease => 3, %p);
	($self->{ports}{third}) = Sophia::Broker::_free_ports(1);
	$self->{members} = [qw(gazette deputy)];
	$self->{spare} = 'third';
	return $self;
}

sub start
{
	my ($self) = @_;
	$self->_start_etcd;
	$self->_start_broker($_) for @{ $self->{members} };
	return $self;
}

sub create_journal
{
	my ($self, $collection, %p) = @_;
	return $self->SUPER::create_journal($collection, %p, spec => { replication => 2, %{ $p{spec} // {} } });
}

# The name of the member that was killed, if it is away.
sub away { return $_[0]{away} }

# Kills one member; the address becomes that of the other one.
sub kill_member
{
	my ($self) = @_;
	croak "$self->{away} is away already" if defined $self->{away};
	$self->{away} = $self->_choose;
	$self->_end($self->{away}, 'KILL');
	return;
}

# Starts the member that was killed.
sub start_member
{
	my ($self) = @_;
	my $name = delete $self->{away} // croak 'no member is away';
	$self->_wait($self->{lease} + 30, "the lease of $name to end", sub { $self->_members == 1 });
	$self->_start_broker($name);
	$self->wait_until_replicated;
	return;
}

# A third one joins, and one of the two hands over and ends; the address becomes that of the one that stays.
sub replace_member
{
	my ($self) = @_;
	my $old = $self->_choose;
	my $new = $self->{spare};
	$self->_start_broker($new);
	$self->_end($old, 'TERM');
	$self->{members} = [ $new, grep { $_ ne $old } @{ $self->{members} } ];
	$self->{spare} = $old;
	$self->wait_until_replicated;
	return;
}

# One of the two members, by chance; the other one is addressed from now on.
sub _choose
{
	my ($self) = @_;
	my ($one, $other) = rand() < 0.5 ? @{ $self->{members} } : reverse @{ $self->{members} };
	$self->{address} = "http://127.0.0.1:$self->{ports}{$other}";
	return $one;
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
