package Sample::Flow;

# Flow: journals, producers and fragments, as Estuary Flow writes them (Gazette broker/protocol, message/uuid.go).
#
# A Collection routes documents to its journals; the publishing functions append chunks to them: documents of a
# transaction (CONTINUE), acknowledgements in both forms, documents that commit by themselves (OUTSIDE), and the
# things that go wrong in life: a chunk appended twice, a transaction rolled back, one never finished.
# Who publishes says at the same time what a reader must make of it: committed documents go to the Ledger,
# nothing else does.

use strict;
use warnings;
use Compress::Zlib ();
use Digest::SHA qw(sha1 sha1_hex);
use File::Path qw(make_path);
use POSIX qw(strftime);
use Sample::Json;
use Sample::Time;

use constant { OUTSIDE => 0, CONTINUE => 1, ACK => 2, CONTROL => 4 };
use constant UUID_EPOCH => 122_192_928_000_000_000;

# Half-open key hash range of a second journal starts here.
use constant SECOND_HALF => '80000000';

# new(name, stream, shape, ledger, random, ...): partitions are the journals' last name components, each with
# what precedes "pivot="; pick(key, doc) gives the number of the journal; ack_form is 'new' or 'legacy'; overlap
# asks for a fragment that another one covers.
sub new
{
	my ($class, %args) = @_;
	my $generation = substr(sha1_hex("generation $args{name}"), 0, 16);
	my $self = bless {
		pick       => sub { 0 },
		partitions => ['pivot=00'],
		ack_form   => 'new',
		%args
	}, $class;

	$self->{journals} = [ map { { name => "$args{name}/$generation/$_", appends => [], last => 0, size => 0 } }
		  @{ $self->{partitions} } ];
	return $self;
}

# Two journals split by a hash of the key.
sub split_by_key
{
	return (partitions => [ 'pivot=00', 'pivot=' . SECOND_HALF ], pick => sub { ord(sha1($_[0])) >> 7 });
}

sub producer
{
	my ($self, $name) = @_;
	my $id = substr(sha1("producer $self->{name} $name"), 0, 6);
	substr($id, 0, 1) = chr(ord($id) | 1);
	return $self->{producers}{$name} ||= { id => $id, clock => 0 };
}

sub tick
{
	my ($producer, $time) = @_;
	my $clock = ($time * 10 + UUID_EPOCH) << 4;
	$clock = $producer->{clock} + 160 if $clock <= $producer->{clock};
	return $producer->{clock} = $clock;
}

sub uuid
{
	my ($producer, $clock, $flags) = @_;
	return sprintf(
		'%08x-%04x-%04x-%02x%02x-%s',
		($clock >> 4) & 0xffffffff,
		($clock >> 36) & 0xffff,
		(($clock >> 52) & 0xfff) | 0x1000,
		0x80 | (($clock & 0xf) << 2) | ($flags >> 8),
		$flags & 0xff,
		unpack('H*', $producer->{id}));
}

sub append
{
	my ($self, $number, $time, $bytes) = @_;
	my $journal = $self->{journals}[$number];

	$journal->{last} = $time if $time > $journal->{last};
	push @{ $journal->{appends} }, [ $journal->{last}, $bytes ];
	$journal->{size} += length $bytes;
	return;
}

# The line of a document with its uuid set; leaves the event's own document alone.
sub line
{
	my ($event, $uuid) = @_;
	return json({ %{ $event->{doc} }, _meta => { %{ $event->{meta} || {} }, uuid => $uuid } }) . "\n";
}

# Steps of one transaction: appended one after another, or interleaved with those of another one.  Each step
# is a function; the last step of a journal is its acknowledgement.  `end` tells what becomes of it: 'commit',
# or 'open' (no acknowledgement at all).
sub transaction
{
	my ($self, $producer, $events, $end) = @_;
	my (%of, @steps);

	# Clocks follow the order of the documents, whichever journal each goes to.
	foreach my $event (@$events)
	{
		$event->{clock} = tick($producer, $event->{time});
		push @{ $of{ $self->{pick}->($event->{key}, $event->{doc}) } }, $event;
	}
	my @numbers = sort { $a <=> $b } keys %of;
	foreach my $number (@numbers)
	{
		my @rest = @{ $of{$number} };
		while (@rest)
		{
			my @chunk = splice @rest, 0, 1 + $self->{random}->(6);
			push @steps, sub { $self->append_chunk($number, $producer, \@chunk) };
		}
	}
	return @steps if $end eq 'open';
	my $time = $events->[-1]{time} + SECOND;
	my $first = 1;
	foreach my $number (@numbers)
	{
		my @hints = $first ? grep { $_ != $number } @numbers : ();
		my $documents = $of{$number};
		push @steps, sub { $self->acknowledge($number, $producer, $time, $documents, @hints) };
		$first = 0;
	}
	return @steps;
}

sub append_chunk
{
	my ($self, $number, $producer, $events) = @_;
	my $bytes = '';

	foreach my $event (@$events)
	{
		$bytes .= line($event, uuid($producer, $event->{clock}, CONTINUE));
	}
	$self->append($number, $events->[-1]{time}, $bytes);
	$self->append($number, $events->[-1]{time}, $bytes) if $self->{random}->(14) == 0;
	$producer->{chunk}{$number} = $bytes;
	return;
}

sub acknowledge
{
	my ($self, $number, $producer, $time, $events, @hints) = @_;
	my $uuid = uuid($producer, tick($producer, $time), ACK);
	my $name = $self->{journals}[$number]{name};
	my $document = { _meta => { uuid => $uuid, ack => TRUE } };

	if ($self->{ack_form} eq 'new')
	{
		$document = { _meta => { uuid => $uuid }, hints => [ map { $self->hint($name, $_) } @hints ], is_ack => TRUE };
	}
	my $bytes = json($document) . "\n";
	$self->append($number, $time, $bytes);
	$producer->{ack}{$number} = $bytes;

	# What is appended again after its acknowledgement must not show twice.
	$self->append($number, $time, $bytes) if $self->{random}->(12) == 0;
	$self->append($number, $time, $producer->{chunk}{$number}) if $self->{random}->(12) == 0;
	$self->{ledger}->committed($self, $name, $_) foreach @$events;
	return;
}

# Tells that a journal takes part in the transaction: its name is a delta against this journal's.
sub hint
{
	my ($self, $name, $number) = @_;
	my $other = $self->{journals}[$number]{name};
	my $same = 0;

	$same++ while substr($name, $same, 1) eq substr($other, $same, 1);
	return { j => [ num(length($name) - $same), substr($other, $same) ], p => [ {} ] };
}

# Runs the steps of transactions, mixed; the order within each stays.
sub run
{
	my ($self, @transactions) = @_;

	while (@transactions = grep { @$_ } @transactions)
	{
		my $next = shift @{ $transactions[ $self->{random}->(scalar @transactions) ] };
		$next->();
	}
	return;
}

sub outside
{
	my ($self, $producer, @events) = @_;

	foreach my $event (@events)
	{
		my $number = $self->{pick}->($event->{key}, $event->{doc});
		$event->{clock} = tick($producer, $event->{time});
		my $bytes = line($event, uuid($producer, $event->{clock}, OUTSIDE));
		$self->append($number, $event->{time}, $bytes);
		$self->append($number, $event->{time}, $bytes) if $self->{random}->(12) == 0;
		$self->{ledger}->committed($self, $self->{journals}[$number]{name}, $event);
	}
	return;
}

# Marks the beginning of a backfill: a control document, never a row.
sub control
{
	my ($self, $time) = @_;
	my $producer = $self->producer('outside');
	my $uuid = uuid($producer, tick($producer, $time), CONTROL);

	$self->append(0, $time, json({ _meta => { uuid => $uuid, backfillBegin => TRUE, keyBegin => '00000000',
		keyEnd => 'ffffffff' } }) . "\n");
	return;
}

# A transaction that commits, and one that its producer rolls back by acknowledging the first one again.
sub roll_back
{
	my ($self, $committed, $lost) = @_;
	my $producer = $self->producer('rolled back');

	$self->run([ $self->transaction($producer, $committed, 'commit') ]);
	$self->run([ $self->transaction($producer, $lost, 'open') ]);
	foreach my $number (sort keys %{ $producer->{ack} })
	{
		$self->append($number, $lost->[-1]{time} + SECOND, $producer->{ack}{$number});
	}
	return;
}

# A transaction without an end: staged, never shown.
sub leave_open
{
	my ($self, $events) = @_;

	$self->run([ $self->transaction($self->producer('open'), $events, 'open') ]);
	$self->{ledger}->staged($self, scalar @$events);
	return;
}

# Bytes that are no document.
sub append_garbage
{
	my ($self, $time, $bytes) = @_;

	$self->append(0, $time, "$bytes\n");
	$self->{ledger}->dead($self, 'malformed', $self->{journals}[0]{name});
	return;
}

# Publishes events in order of time: most in transactions of two producers that now and then interleave, some
# committing by themselves.  Events of one key never stand in two transactions that overlap.
sub publish
{
	my ($self, @events) = @_;
	my @events_left = sort { $a->{time} <=> $b->{time} || $a->{key} cmp $b->{key} } @events;
	my $random = $self->{random};

	while (@events_left)
	{
		my @first = splice @events_left, 0, 3 + $random->(28);
		if ($random->(6) == 0)
		{
			$self->outside($self->producer('outside'), @first);
			next;
		}
		my %keys = map { $_->{key} => 1 } @first;
		my @second;
		if ($random->(2))
		{
			my $limit = 2 + $random->(20);
			push @second, shift @events_left
			  while @events_left && @second < $limit && !$keys{ $events_left[0]{key} };
		}
		my ($one, $two) = map { $self->producer($_) } $random->(2) ? qw(a b) : qw(b a);
		my @transactions = [ $self->transaction($one, \@first, 'commit') ];
		push @transactions, [ $self->transaction($two, \@second, 'commit') ] if @second;
		$self->run(@transactions);
	}
	return;
}

# Writes every journal as fragments below the folder; gives their number and the bytes of the journals.
sub write_fragments
{
	my ($self, $folder) = @_;
	my ($count, $bytes) = (0, 0);

	foreach my $journal (@{ $self->{journals} })
	{
		my $offset = 0;
		my @appends = @{ $journal->{appends} };
		my $wanted = $journal->{size} / (3 + int($journal->{size} / 120_000));
		while (@appends)
		{
			my ($time, $content) = @{ shift @appends };

			# Replication hiccups leave a shorter fragment beside the whole one.
			$self->write_fragment($folder, $journal, $offset, $time, $content, $count)
			  if $self->{overlap} && $count == 1 && ++$count;
			$content .= (shift @appends)->[1] while @appends && length($content) < $wanted;
			$self->write_fragment($folder, $journal, $offset, $time, $content, $count++);
			$offset += length $content;
		}
		$bytes += $offset;
	}
	return ($count, $bytes);
}

# One in three fragments is raw, the others are gzip: of one member, or of several that end anywhere.
sub write_fragment
{
	my ($self, $folder, $journal, $offset, $time, $content, $number) = @_;
	my $postfix = strftime('utc_date=%Y-%m-%d/utc_hour=%H', gmtime(int($time / SECOND)));
	my $path = "$folder/$journal->{name}/$postfix";
	my $name = sprintf('%016x-%016x-%s', $offset, $offset + length $content, sha1_hex($content));
	my $members = $number % 3 == 2 ? 0 : $number % 3 == 1 ? 3 : 1;
	my $extension = $members ? '.gz' : '.raw';
	my $stored = $members ? '' : $content;

	foreach my $member (1 .. $members)
	{
		my $from = int(length($content) * ($member - 1) / $members);
		my $to = int(length($content) * $member / $members);
		$stored .= Compress::Zlib::memGzip(substr($content, $from, $to - $from));
	}
	make_path($path);
	open(my $file, '>:raw', "$path/.$name") or die "cannot write $path/.$name: $!\n";
	print {$file} $stored or die "cannot write $path/.$name: $!\n";
	close($file) or die "cannot write $path/.$name: $!\n";
	rename("$path/.$name", "$path/$name$extension") or die "cannot rename $path/.$name: $!\n";
	return;
}

1;
