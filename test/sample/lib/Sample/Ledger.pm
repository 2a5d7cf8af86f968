package Sample::Ledger;

# Ledger: what a correct reader must make of the sample, kept while it is published.
#
# It holds the reduced document of each key and from these counts rows.  It never looks at the bytes that were
# written: test/sample/verify reads those and must come to the same end.

use strict;
use warnings;
use Sample::Json;

sub new { return bless { rows => {}, streams => {}, dead => [], values => [], never => [] }, shift }

# A committed document takes effect: an event has key, doc, clock, meta, and perhaps a defect.
sub committed
{
	my ($self, $collection, $journal, $event) = @_;
	my $stream = $self->{streams}{ $collection->{stream} } ||= {};

	return $self->dead($collection, $event->{defect}, $journal) if $event->{defect};
	$stream->{documents}++;
	my $op = ($event->{meta} || {})->{op} || '';
	if ($collection->{positional} && $op eq 'd')
	{
		$stream->{positional_deletes}++;
		return;
	}
	$stream->{tombstones}++ if $op eq 'd';
	my $rows = $self->{rows}{ $collection->{shape} } ||= {};
	$rows->{ $event->{key} } =
	  apply($rows->{ $event->{key} }, $event, $journal, $op eq 'd', $collection->{merge});
	return;
}

# Within a journal the later one counts, between journals the larger clock.
sub apply
{
	my ($row, $event, $journal, $deleted, $merge) = @_;
	my $next = { doc => $event->{doc}, clock => $event->{clock}, journal => $journal, deleted => $deleted };
	my $older = $row && $row->{journal} ne $journal && $event->{clock} < $row->{clock};

	return $row if $older && ($deleted || !$merge);
	return $next if !$row || !$merge || $deleted || $row->{deleted};
	my ($under, $over) = $older ? ($event->{doc}, $row->{doc}) : ($row->{doc}, $event->{doc});
	return { %{ $older ? $row : $next }, doc => merge($under, $over) };
}

# Objects merge at every depth; everything else, null included, is replaced.
sub merge
{
	my ($under, $over) = @_;
	my %result = %$under;

	foreach my $name (keys %$over)
	{
		my $both = ref $result{$name} eq 'HASH' && ref $over->{$name} eq 'HASH';
		$result{$name} = $both ? merge($result{$name}, $over->{$name}) : $over->{$name};
	}
	return \%result;
}

sub dead
{
	my ($self, $collection, $kind, $journal) = @_;

	$self->{streams}{ $collection->{stream} }{dead_letters}++;
	push @{ $self->{dead} }, { stream => $collection->{stream}, kind => $kind, journal => $journal };
	return;
}

sub staged
{
	my ($self, $collection, $count) = @_;
	$self->{streams}{ $collection->{stream} }{staged} += $count;
	return;
}

# One value that must be found, and one that must not be found anywhere in a table's documents.
sub value
{
	my ($self, $table, $key, $column, $value) = @_;
	push @{ $self->{values} }, { table => $table, key => $key, column => $column, value => $value };
	return;
}

sub never
{
	my ($self, $table, $text) = @_;
	push @{ $self->{never} }, { table => $table, text => $text };
	return;
}

sub rows { return $_[0]{rows}{ $_[1] } }

1;
