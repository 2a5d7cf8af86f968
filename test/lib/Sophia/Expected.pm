# The rows that a stream must make of its documents, computed here and compared in the server.
#
#   my $expected = Sophia::Expected->new('merge');                     # or 'lastWriteWins', as the stream's shape
#   $expected->commit($journal, $offset, $clock, $document);           # in the order of their commits
#   is($expected->differences($node, 'hubspot_raw.contacts'), '', 'the rows are those');
#
# Keys are /id; a key belongs to one journal.  With (offsets => 0) offsets are not compared.
package Sophia::Expected;
use strict;
use warnings;
use JSON::PP ();

my $json = JSON::PP->new->canonical->utf8;

sub new
{
	my ($class, $reduce, %p) = @_;
	return bless { offsets => $p{offsets} // 1, merge => $reduce eq 'merge', rows => {}, committed => 0 }, $class;
}

# How many documents were committed.
sub committed { return $_[0]{committed} }

# How many rows there are, deleted ones too.
sub rows { return scalar keys %{ $_[0]{rows} } }

# A committed document with its _meta.
sub commit
{
	my ($self, $journal, $offset, $clock, $document) = @_;
	my $row = $self->{rows}{ $document->{id} } //= {};
	my $deleted = ($document->{_meta}{op} // '') eq 'd';
	my $old = $row->{deleted} && !$deleted ? {} : $row->{doc} // {};
	my $new = $self->{merge} ? _merged($old, $document) : $deleted && %$old ? $old : $document;
	%$row = (
		doc => { %$new, _meta => $document->{_meta} },
		journal => $journal,
		offset => $offset,
		clock => $clock,
		deleted => $deleted);
	$self->{committed}++;
	return;
}

# A tombstone keeps the row.  Objects merge at every depth, everything else is replaced.
sub _merged
{
	my ($old, $new) = @_;
	return $new if ref $old ne 'HASH' || ref $new ne 'HASH';
	return { %$old, map { ($_ => _merged($old->{$_}, $new->{$_})) } keys %$new };
}

# Lines of the rows that are not as they should be, at most 5; '' when every row and no other is there.
sub differences
{
	my ($self, $node, $table, $database) = @_;
	my $rows = $self->{rows};
	my $input = join '', map {
		my $row = $rows->{$_};
		join("\t", $_, $json->encode($row->{doc}) =~ s/([\\\t])/\\$1/gr, $row->{journal}, $row->{offset},
			unpack('q', pack('Q', $row->{clock})), $row->{deleted} ? 't' : 'f') . "\n"
	} sort keys %$rows;
	my $offset = $self->{offsets} ? 't.source_offset' : 'e."offset"';
	my $script = <<"SQL";
CREATE TEMP TABLE expected (id text, doc jsonb, journal text, "offset" bigint, clock bigint, deleted boolean);
COPY expected FROM STDIN;
$input\\.
SELECT coalesce(e.id, t.id), e.journal, e."offset", t.source_journal, t.source_offset, e.clock, t.source_clock, e.doc, t.doc
FROM expected e FULL JOIN $table t USING (id)
WHERE (e.doc, e.journal, e."offset", e.clock, e.deleted)
  IS DISTINCT FROM (t.doc, t.source_journal, $offset, t.source_clock, t.is_deleted)
ORDER BY 1 LIMIT 5;
SQL
	return $node->safe_psql($database // 'postgres', $script);
}

1;
