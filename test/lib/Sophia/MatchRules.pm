# Match rules for three kinds of tables of persons, as a user would write them: they see no column that tells the truth.
#
#   my $rules = Sophia::MatchRules->for_columns(@header);    # undef: no kind that is known
#   print $rules->sql('public.people');                      # SELECT sophia.add_match_rule(…)
package Sophia::MatchRules;
use strict;
use warnings;
use JSON::PP ();

# Weights are in the manner of log-odds: what agrees by chance weighs little, what rarely differs within a person much.
# Levels are [at, weight].
my %kind = (
	# FEBRL's generator: Australian persons with swapped, mistyped and missing fields.
	febrl => {
		columns => [qw(rec_id given_name surname street_number address_1 address_2 suburb postcode state date_of_birth soc_sec_id)],
		key => 'rec_id',
		blocking => [
			'soc_sec_id', 'date_of_birth', "address_1 || coalesce(postcode, '')", 'street_number || suburb',
			"least(given_name, surname) || ' ' || greatest(given_name, surname)",
			'left(surname, 4) || postcode', 'left(given_name, 4) || postcode',
			'left(given_name, 3) || left(surname, 3) || left(date_of_birth, 4)' ],
		comparisons => [
			[ "nullif(concat_ws(' ', given_name, surname), '')", 'name',
				[ .99, 5 ], [ .93, 4 ], [ .85, 2 ], [ .7, 0 ], [ 0, -3 ] ],
			[ 'date_of_birth', 'edit_distance', [ 0, 5 ], [ 1, 4 ], [ 2, 2 ], [ 99, -3 ] ],
			[ 'soc_sec_id', 'edit_distance', [ 0, 7 ], [ 1, 5 ], [ 2, 3 ], [ 99, -3 ] ],
			[ "nullif(concat_ws(' ', address_1, address_2), '')", 'name', [ .95, 4 ], [ .85, 3 ], [ .7, 1 ], [ 0, -1 ] ],
			[ 'street_number', 'levenshtein', [ 1, 1 ], [ .5, 0 ], [ 0, -1 ] ],
			[ 'suburb', 'jaro_winkler', [ .9, 2 ], [ .8, 1 ], [ 0, -1 ] ],
			[ 'postcode', 'edit_distance', [ 0, 2 ], [ 2, 1 ], [ 99, -1 ] ] ],
		review_at => 2,
		link_at => 6,
	},
	# Splink's generator: British persons; names change places, letters of anything do.
	fake => {
		columns => [qw(unique_id first_name surname dob city email)],
		key => 'unique_id',
		blocking => [
			'email', 'dob', q{split_part(email, '@', 1)}, 'left(email, 7)', 'right(email, 9)',
			"least(first_name, surname) || ' ' || greatest(first_name, surname)",
			'left(least(first_name, surname), 3) || left(dob, 4)', 'left(greatest(first_name, surname), 3) || left(dob, 4)',
			'city || left(dob, 7)', 'first_name || city', 'surname || city' ],
		comparisons => [
			[ "nullif(concat_ws(' ', first_name, surname), '')", 'name',
				[ .99, 5 ], [ .9, 4 ], [ .8, 2 ], [ .65, 1 ], [ .5, -1 ], [ 0, -4 ] ],
			[ 'dob', 'levenshtein', [ 1, 5 ], [ .85, 3 ], [ .75, 1 ], [ .6, -1 ], [ 0, -3 ] ],
			[ 'email', 'levenshtein', [ 1, 9 ], [ .85, 7 ], [ .7, 5 ], [ .6, 2 ], [ .5, -1 ], [ 0, -4 ] ],
			[ 'city', 'levenshtein', [ 1, 2 ], [ .6, 1 ], [ 0, -1 ] ] ],
		review_at => 2,
		link_at => 4,
	},
	# What Sophia::People makes of unified_contacts: phones that few share, addresses that are no role's.
	crm => {
		columns => [qw(id first_name last_name company_name phone_e164 phone_records own_emails work_domain)],
		key => 'id',
		blocking => [
			'unnest(own_emails)', 'CASE WHEN phone_records <= 4 THEN phone_e164 END',
			"sophia.normalize_name(last_name || ' ' || company_name)", "sophia.normalize_name(last_name || ' ' || work_domain)", "sophia.normalize_name(first_name || ' ' || last_name)" ],
		comparisons => [
			[ 'sophia.normalize_name(first_name)', 'name', [ .99, 3 ], [ .88, 2 ], [ 0, -6 ] ],
			[ 'sophia.normalize_name(last_name)', 'name', [ .99, 3 ], [ .9, 2 ], [ 0, -6 ] ],
			[ 'own_emails', 'overlap', [ 1, 5 ], [ 0, -2 ] ],
			[ 'CASE WHEN phone_records <= 4 THEN phone_e164 END', 'exact', [ 1, 4 ], [ 0, -1 ] ],
			[ 'sophia.normalize_name(company_name)', 'exact', [ 1, 1 ], [ 0, -3 ] ],
			[ 'work_domain', 'exact', [ 1, 1 ], [ 0, -3 ] ] ],
		review_at => 4,
		link_at => 7,
	});

sub new
{
	my ($class, $kind) = @_;
	return bless { name => $kind, %{ $kind{$kind} } }, $class;
}

# The rules for a table of these columns, whatever else it has.
sub for_columns
{
	my ($class, @columns) = @_;
	my %has = map { $_ => 1 } @columns;
	my ($kind) = grep { !grep { !$has{$_} } @{ $kind{$_}{columns} } } qw(febrl fake);
	return defined $kind ? $class->new($kind) : undef;
}

sub name { return $_[0]{name} }
sub key { return $_[0]{key} }
sub columns { return @{ $_[0]{columns} } }

# The call that adds the rule for a table; parameters link_at (undef: never) and rule.
sub sql
{
	my ($self, $table, %p) = @_;
	my @comparisons = map {
		my ($expr, $method, @levels) = @$_;
		{ expr => $expr, method => $method, levels => [ map { { at => 0 + $_->[0], weight => 0 + $_->[1] } } @levels ] }
	} @{ $self->{comparisons} };
	my $link_at = exists $p{link_at} ? $p{link_at} // 'NULL' : $self->{link_at};
	return sprintf "SELECT sophia.add_match_rule('%s', '%s', '%s', ARRAY[%s], %s, %s, %s);\n", $p{rule} // $self->{name}, $table,
	  $self->{key}, join(', ', map { quote($_) } @{ $self->{blocking} }),
	  quote(JSON::PP->new->canonical->encode(\@comparisons)), $self->{review_at}, $link_at;
}

sub quote
{
	my ($text) = @_;
	return "'" . $text =~ s/'/''/gr . "'";
}

1;
