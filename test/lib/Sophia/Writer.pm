# Writes documents of several producers into a journal of a broker and tells what it committed.
#
#   my $writer = Sophia::Writer->new($broker, $journal, [ $expected, ... ]);     # Sophia::Expected
#   $writer->document('030000000001', { id => 1 });      # pending
#   $writer->ack('030000000001');                        # or ->rollback
#   $writer->outside('030000000002', { id => 2 });       # commits by itself
#   $writer->put;                                        # one append of all that; returns its bytes
#   $writer->put_again($bytes);                          # duplicates
package Sophia::Writer;
use strict;
use warnings;
use Sophia::Documents qw(uuid OUTSIDE CONTINUE ACK);
use JSON::PP ();

my $json = JSON::PP->new->canonical->utf8;

sub new
{
	my ($class, $broker, $journal, $expected) = @_;
	return bless {
		broker => $broker,
		journal => $journal,
		expected => $expected // [],
		offset => 0,              # of the next byte
		bytes => '',              # not appended yet
		pending => {},            # producer => [ offset, clock, document ] ...
		producers => {} }, $class;
}

sub journal { return $_[0]{journal} }

# Whether a producer (default: any) has an open transaction.
sub open
{
	my ($self, $id) = @_;
	return scalar grep { @{ $self->{pending}{$_} // [] } } defined $id ? $id : keys %{ $self->{pending} };
}

sub document
{
	my ($self, $id, $document) = @_;
	push @{ $self->{pending}{$id} }, $self->_line($id, $document, CONTINUE);
	return;
}

sub outside
{
	my ($self, $id, $document) = @_;
	$self->_commit($self->_line($id, $document, OUTSIDE));
	return;
}

sub ack
{
	my ($self, $id) = @_;
	$self->_append($self->_producer($id)->ack);
	$self->_commit(@{ $self->{pending}{$id} // [] });
	$self->{pending}{$id} = [];
	return;
}

sub rollback
{
	my ($self, $id) = @_;
	$self->_append($self->_producer($id)->rollback);
	$self->{pending}{$id} = [];
	return;
}

# A whole transaction.
sub transaction
{
	my ($self, $id, @documents) = @_;
	$self->document($id, $_) for @documents;
	$self->ack($id);
	return;
}

# Appends what was written since the last time, all or nothing.
sub put
{
	my ($self) = @_;
	my $bytes = $self->{bytes};
	my $end = $self->{broker}->put($self->{journal}, $bytes);
	die "the journal ends at $end, not at $self->{offset}\n" if $end != $self->{offset};
	$self->{bytes} = '';
	return $bytes;
}

# The same where appends may fail: a producer that is told nothing appends the same bytes again, so that they may stand
# in the journal more than once.  Offsets are not known any more.  After so many seconds it gives up; after each failure
# it calls a function.
sub put_until_told
{
	my ($self, $seconds, $meanwhile) = @_;
	my $until = time + $seconds;
	my $end;
	while (!defined($end = eval { $self->{broker}->put($self->{journal}, $self->{bytes}) }))
	{
		die "nothing could be appended for $seconds s: $@" if time > $until;
		$meanwhile->() if $meanwhile;
		select undef, undef, undef, 0.1;
	}
	$self->{offset} = $end;
	$self->{bytes} = '';
	return;
}

sub put_again
{
	my ($self, $bytes) = @_;
	$self->_append($bytes);
	$self->put;
	return;
}

sub _producer
{
	my ($self, $id) = @_;
	return $self->{producers}{$id} //= Sophia::Documents->producer($id);
}

sub _line
{
	my ($self, $id, $document, $flags) = @_;
	my $clock = $self->_producer($id)->tick;
	my $whole = { %$document, _meta => { %{ $document->{_meta} // {} }, uuid => uuid($id, $clock, $flags) } };
	my $offset = $self->{offset};
	$self->_append($json->encode($whole) . "\n");
	return [ $offset, $clock, $whole ];
}

sub _append
{
	my ($self, $bytes) = @_;
	$self->{bytes} .= $bytes;
	$self->{offset} += length $bytes;
	return;
}

sub _commit
{
	my ($self, @documents) = @_;
	for my $document (@documents)
	{
		$_->commit($self->{journal}, @$document) for @{ $self->{expected} };
	}
	return;
}

1;
