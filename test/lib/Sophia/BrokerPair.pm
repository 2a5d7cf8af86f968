# Two brokers that keep each journal twice, so that one of them may be killed and nothing that was acknowledged is lost.
#
#   my $pair = Sophia::BrokerPair->new->start;
#   my $journal = $pair->create_journal('acme/contacts');
#   $pair->kill_member;                         # one of the two, by chance; the other one goes on serving reads, but
#                                               # nothing can be appended
#   $pair->start_member;                        # one in its place; returns once everything is kept twice again
#   $pair->replace_member;                      # one of the two hands over to a new one and ends by SIGTERM
package Sophia::BrokerPair;
use strict;
use warnings;
use parent 'Sophia::Broker';
use Carp qw(croak);
use Sophia::Ports qw(free_ports);

# Parameters as Sophia::Broker's; the lease is short, since nothing can be appended until it has ended, but
# not so short that a member loses it where it has to wait for a processor.
sub new
{
	my ($class, %p) = @_;
	my $self = $class->SUPER::new(lease => 6, %p);
	$self->{members} = [];
	return $self;
}

sub start
{
	my ($self) = @_;
	$self->_start_etcd;
	$self->_add_member for 1 .. 2;
	$self->{address} = "http://127.0.0.1:$self->{ports}{ $self->{members}[0] }";
	return $self;
}

sub create_journal
{
	my ($self, $collection, %p) = @_;
	return $self->SUPER::create_journal($collection, %p, spec => { replication => 2, %{ $p{spec} // {} } });
}

# Each member has a name and a port of its own: the others try those of one that went less and less often.
sub _add_member
{
	my ($self) = @_;
	my $name = 'member' . ++$self->{numbered};
	($self->{ports}{$name}) = free_ports(1);
	$self->_start_broker($name);
	push @{ $self->{members} }, $name;
	return;
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

# Starts a member in the place of the one that was killed.
sub start_member
{
	my ($self) = @_;
	my $name = delete $self->{away} // croak 'no member is away';
	$self->_wait($self->{lease} + Sophia::Broker::PATIENCE, "the lease of $name to end", sub { $self->_members == 1 });
	$self->_add_member;
	$self->wait_until_replicated;
	return;
}

# A third one joins, and one of the two hands over and ends; the address becomes that of the one that stays.
sub replace_member
{
	my ($self) = @_;
	my $old = $self->_choose;
	$self->_add_member;
	$self->_end($old, 'TERM');
	$self->wait_until_replicated;
	return;
}

# Takes one of the two members out, by chance, and returns its name; the other one is addressed from now on.
sub _choose
{
	my ($self) = @_;
	my $one = splice @{ $self->{members} }, int rand 2, 1;
	$self->{address} = "http://127.0.0.1:$self->{ports}{ $self->{members}[0] }";
	return $one;
}

# Waits until both members keep every journal, also what was appended last.
sub wait_until_replicated
{
	my ($self) = @_;
	$self->_wait(Sophia::Broker::PATIENCE, 'every journal to be kept twice', sub {
		my @journals = eval { $self->list };
		@journals && !grep { @{ $_->{route}{members} } != 2 } @journals;
	});
	$self->_wait_for_journal($_) for @{ $self->{journals} };
	return;
}

1;
