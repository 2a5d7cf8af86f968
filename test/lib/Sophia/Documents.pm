# Documents of collections as Flow writes them, and fragment files of their journals as a Gazette broker stores them.
#
#   my $producer = Sophia::Documents->producer('030000000001');
#   my $bytes = $producer->document({ id => 1 }) . $producer->ack;      # one committed transaction
#   my $journal = Sophia::Documents->journal("$folder", 'acme/contacts/pivot=00');
#   $journal->write($bytes, codec => 'gz', members => 2);               # a fragment, in place by rename
package Sophia::Documents;
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use IO::Compress::Gzip qw(gzip $GzipError);
use JSON::PP ();
use Time::HiRes ();

our @EXPORT_OK = qw(uuid clock_of OUTSIDE CONTINUE ACK CONTROL);

# Flags of a document's uuid.
use constant { OUTSIDE => 0, CONTINUE => 1, ACK => 2, CONTROL => 4 };

# A clock advances by a microsecond a document: its high 60 bits count 100 ns, the low 4 bits are a counter.
use constant CLOCK_STEP => 160;

my $json = JSON::PP->new->canonical->utf8;

# The clock of a moment in Unix seconds.
sub clock_of
{
	my ($seconds) = @_;
	return (122192928000000000 + int($seconds * 10_000_000)) << 4;
}

# The RFC 4122 version 1 uuid of a document: producer is 12 hexadecimal digits, clock an unsigned 64-bit integer.
sub uuid
{
	my ($producer, $clock, $flags) = @_;
	return sprintf '%08x-%04x-%04x-%02x%02x-%s',
	  ($clock >> 4) & 0xffffffff, ($clock >> 36) & 0xffff, ($clock >> 52) & 0xfff | 0x1000,
	  0x80 | ($clock & 0xf) << 2 | $flags >> 8 & 0x3, $flags & 0xff, $producer;
}

# A producer with an id of its own and a clock (default: now).
sub producer
{
	my ($class, $id, $clock) = @_;
	return bless { id => $id, clock => $clock // clock_of(Time::HiRes::time) }, 'Sophia::Documents::Producer';
}

# A journal of a fragment store in a folder, written from an offset on (default 0).
sub journal
{
	my ($class, $folder, $name, $offset) = @_;
	return bless { folder => $folder, name => $name, offset => $offset // 0 }, 'Sophia::Documents::Journal';
}

package Sophia::Documents::Producer;

sub clock { return $_[0]{clock} }

# Moves the clock on by so many steps (default 1) and returns it.
sub tick
{
	my ($self, $steps) = @_;
	return $self->{clock} += Sophia::Documents::CLOCK_STEP * ($steps // 1);
}

# A line with a document; the uuid joins what `_meta` already holds.  Parameters: flags (default CONTINUE),
# clock (default: the next one), uuid (as written, also a bad one).
sub document
{
	my ($self, $document, %p) = @_;
	my $uuid = $p{uuid} // Sophia::Documents::uuid($self->{id}, $p{clock} // $self->tick,
		$p{flags} // Sophia::Documents::CONTINUE);
	my %line = (%$document, _meta => { %{ $document->{_meta} // {} }, uuid => $uuid });
	return $json->encode(\%line) . "\n";
}

# The same for text that is not to be encoded anew: every %s in it becomes the uuid.
sub raw
{
	my ($self, $text, %p) = @_;
	my $uuid = Sophia::Documents::uuid($self->{id}, $p{clock} // $self->tick,
		$p{flags} // Sophia::Documents::CONTINUE);
	return $text =~ s/%s/$uuid/gr . "\n";
}

# Documents that commit by themselves.
sub outside
{
	my ($self, @documents) = @_;
	return join '', map { $self->document($_, flags => Sophia::Documents::OUTSIDE) } @documents;
}

# An acknowledgement.  Parameters: clock (default: the next one; that of the last acknowledgement rolls back), style
# ('template' as the older runtime writes it, or 'hints' as the newer one).
sub ack
{
	my ($self, %p) = @_;
	my $clock = $self->{last_ack} = $p{clock} // $self->tick;
	my $uuid = Sophia::Documents::uuid($self->{id}, $clock, Sophia::Documents::ACK);
	return $json->encode({ _meta => { uuid => $uuid }, hints => [], is_ack => JSON::PP::true }) . "\n"
	  if ($p{style} // 'template') eq 'hints';
	return $json->encode({ _meta => { ack => JSON::PP::true, uuid => $uuid } }) . "\n";
}

# An acknowledgement that rolls back: the clock of the last one, again.
sub rollback
{
	my ($self, %p) = @_;
	die "there is no acknowledgement yet\n" if !defined $self->{last_ack};
	return $self->ack(%p, clock => $self->{last_ack});
}

# A transaction: the documents and their acknowledgement.
sub transaction
{
	my ($self, @documents) = @_;
	return join '', (map { $self->document($_) } @documents), $self->ack;
}

package Sophia::Documents::Journal;

sub name { return $_[0]{name} }
sub offset { return $_[0]{offset} }

# Writes the next fragment and returns its path.  Parameters:
#   codec    'raw' (default) or 'gz'
#   members  number of gzip members (default 1)
#   postfix  folders below the journal, such as utc_date=2026-11-23/utc_hour=13
#   begin    where it begins (default: where the last one ended)
#   sum      another SHA-1 in the name than that of the content
#   cut      stores only so many bytes of the file, as a copy that is not complete
sub write
{
	my ($self, $bytes, %p) = @_;
	my $begin = $p{begin} // $self->{offset};
	my $end = $begin + length $bytes;
	my $codec = $p{codec} // 'raw';
	my $stored = $codec eq 'gz' ? _gzip($bytes, $p{members} // 1) : $bytes;
	my $path = join '/', $self->{folder}, $self->{name}, grep({ defined } $p{postfix}),
	  sprintf('%016x-%016x-%s.%s', $begin, $end, $p{sum} // Digest::SHA::sha1_hex($bytes), $codec);

	$stored = substr $stored, 0, $p{cut} if defined $p{cut};
	File::Path::make_path(File::Basename::dirname($path));
	open my $file, '>:raw', "$path.tmp" or die "cannot write $path.tmp: $!\n";
	print $file $stored;
	close $file or die "cannot write $path.tmp: $!\n";
	rename "$path.tmp", $path or die "cannot rename to $path: $!\n";
	$self->{offset} = $end;
	return $path;
}

# Leaves a hole of so many bytes.
sub skip
{
	my ($self, $bytes) = @_;
	return $self->{offset} += $bytes;
}

sub _gzip
{
	my ($bytes, $members) = @_;
	my $size = int(length($bytes) / $members) + 1;
	my $stored = '';
	for my $i (0 .. $members - 1)
	{
		my $part = $i * $size < length $bytes ? substr $bytes, $i * $size, $size : '';
		IO::Compress::Gzip::gzip(\$part, \my $member) or die "gzip: $IO::Compress::Gzip::GzipError\n";
		$stored .= $member;
	}
	return $stored;
}

1;
