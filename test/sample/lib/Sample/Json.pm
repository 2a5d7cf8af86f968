package Sample::Json;

# Json: writes JSON with a fixed member order and with types that the caller chose, not ones that are guessed.
#
# A plain Perl scalar is always a string here; numbers, booleans and escapes that must stand exactly so are
# literals.  That keeps numbers of any length whole and the output the same on every machine.

use strict;
use warnings;
use Encode qw(encode_utf8);
use Exporter qw(import);

our @EXPORT = qw(num literal TRUE FALSE json text_of);

my %escape = ("\n" => '\n', "\r" => '\r', "\t" => '\t', '"' => '\"', '\\' => '\\\\');

# A value that is written as it stands.
sub literal { my $text = "$_[0]"; return bless \$text, 'Sample::Literal' }
sub num     { return literal($_[0]) }
sub TRUE    { return literal('true') }
sub FALSE   { return literal('false') }

# What a text column shows of a value: strings and literals alike, undef stays undef.
sub text_of { return ref $_[0] eq 'Sample::Literal' ? ${ $_[0] } : $_[0] }

sub write_value
{
	my ($value) = @_;

	return 'null' if !defined $value;
	my $kind = ref $value;
	return $$value if $kind eq 'Sample::Literal';
	return '[' . join(',', map { write_value($_) } @$value) . ']' if $kind eq 'ARRAY';
	return '{' . join(',', map { write_value($_) . ':' . write_value($value->{$_}) } sort keys %$value) . '}'
	  if $kind eq 'HASH';
	$value =~ s/(["\\\x00-\x1f])/$escape{$1} || sprintf('\\u%04x', ord $1)/ge;
	return "\"$value\"";
}

# The document as UTF-8 bytes, without a newline.
sub json { return encode_utf8(write_value($_[0])) }

1;
