package Sample::World;

# World: the sample company itself: its staff, its customers and the people who work there.
#
# Acme Robotics sells machines; everybody's e-mail domain ends in .example and every phone number is one of the
# 555-01xx numbers that are kept for fiction.  A person is a hash: first, last, email, title, phone, company,
# and the ids under which the three systems know them (hubspot, gong, slack), where they do.

use utf8;
use strict;
use warnings;
use Sample::Json;

use constant DOMAIN => 'acme-robotics.example';
use constant OLD_DOMAIN => 'acmerobotics.example';

my @first = qw(Amara Bjarne Camila Dmitri Elif Farid Greta Hugo Imani Jonas Keiko Lars Mei Nadia Oscar Priya
  Quentin Rosa Samir Tove Uma Viktor Wanda Xavier Yara Zoë José Łukasz Søren Chloé Anders Bea Caleb Dalia Emeka
  Freya Goran Hana Ivo Jia Kofi Leila Marco Nils Olga Pavel Rina Stefan Tariq Ursula Vera Wim Yusuf Zara);
my @last = qw(Abara Becker Castillo Dahl Eriksen Fofana Gallo Haddad Ibsen Jansen Kowalski Lindgren Müller Núñez
  Okafor Petrov Quist Rossi Sato Tanaka Ueda Varga Weiss Xu Yamada Zeman Ågård Brandt Costa Duarte Engel Fischer
  Grant Hoang Iyer Jokinen Kaya Laurent Moreau Nakamura Olsen Park Reyes Silva Traoré Urban Virtanen Walsh);
my @town = qw(Alder Birch Cedar Delta Ember Fjord Granite Harbor Indigo Juniper Kestrel Lumen Maple Nimbus Onyx
  Pioneer Quarry Ridge Summit Tidal);
my @trade = qw(Instruments Logistics Foods Energy Textiles Optics);
my @title = ('Head of Operations', 'Plant Manager', 'Buyer', 'Automation Engineer', 'CTO', 'Maintenance Lead',
	'Process Engineer', 'Director of Procurement', 'Quality Manager', 'COO');
my @staff_title = ('Account Executive', 'Solutions Engineer', 'Customer Success Manager', 'Support Engineer',
	'Product Manager', 'Software Engineer');
my %ascii = ('ë' => 'e', 'é' => 'e', 'Ł' => 'l', 'ø' => 'o', 'ü' => 'u', 'ú' => 'u', 'ñ' => 'n', 'Å' => 'a',
	'å' => 'a');

# new(people, seed): people counts customers' people and staff.
sub new
{
	my ($class, $people, $seed) = @_;
	my $self = bless { people => [], staff => [], companies => [], names => {} }, $class;

	srand($seed);
	$self->{random} = sub { return int(rand($_[0])) };
	$self->add_companies(int($people / 6));
	$self->add_staff(36);
	$self->add_people($people - 36);
	return $self;
}

sub any { my ($self, $list) = @_; return $list->[ $self->{random}->(scalar @$list) ] }

# Some of a list, different ones, in the list's order.
sub some
{
	my ($self, $count, @list) = @_;
	my %picked;

	$picked{ $self->{random}->(scalar @list) } = 1 while keys %picked < $count && keys %picked < @list;
	return map { $list[$_] } sort { $a <=> $b } keys %picked;
}

sub chance { my ($self, $percent) = @_; return $self->{random}->(100) < $percent }

sub add_companies
{
	my ($self, $count) = @_;

	foreach my $number (0 .. $count - 1)
	{
		my $name = $number == 0 ? 'Borealis Instruments'
		  : $town[ $number % @town ] . ' ' . $trade[ int($number / @town) % @trade ]
		  . ($number >= @town * @trade ? ' ' . int($number / (@town * @trade)) : '');
		my $domain = lc($name =~ s/ /-/gr) . '.example';
		push @{ $self->{companies} },
		  { name => $name, domain => $domain, hubspot => num(88_010_000_100 + 37 * $number), people => [] };
	}
	return;
}

sub add_staff
{
	my ($self, $count) = @_;

	foreach my $number (0 .. $count - 1)
	{
		my $person = $self->person(DOMAIN);
		$person->{title} = $staff_title[ $number % @staff_title ];
		$person->{alias} = substr($person->{local}, 0, 1) . '.' . ($person->{local} =~ s/^.*\.//r) . '@' . DOMAIN;
		$person->{trusted} = "$person->{local}\@" . OLD_DOMAIN;
		$person->{gong} = "48201177300100" . sprintf('%05d', 311 * $number + 7);
		$person->{slack} = sprintf('U05ACME%04d', $number);
		$person->{owner} = 710_200 + 13 * $number if $number % 3 == 0;
		$person->{number} = $number;
		push @{ $self->{staff} }, $person;
	}
	return;
}

# Customers' people; the first one is known to all three systems, and so is every fifteenth.
sub add_people
{
	my ($self, $count) = @_;

	foreach my $number (0 .. $count - 1)
	{
		my $company = $self->{companies}[ $number < 3 ? 0 : $number % @{ $self->{companies} } ];
		my $person = $self->person($company->{domain}, $number == 0 ? ('Maya', 'Lindqvist') : ());
		$person->{title} = $number == 0 ? 'Head of Operations' : $self->any(\@title);
		$person->{company} = $company;
		$person->{hubspot} = num(70_150_001_000 + 41 * $number);
		$person->{slack} = sprintf('W07GUEST%03d', $number / 15) if $number % 15 == 0;
		$person->{team} = 'T08' . uc(substr($company->{domain}, 0, 4)) =~ tr/-/X/r;
		$person->{number} = $number;
		push @{ $company->{people} }, $person;
		push @{ $self->{people} }, $person;
	}
	return;
}

# A person with a name that nobody else has.
sub person
{
	my ($self, $domain, $first, $last) = @_;

	while (!defined $first || $self->{names}{"$first $last"}++)
	{
		($first, $last) = ($self->any(\@first), $self->any(\@last));
	}
	my $local = lc("$first.$last" =~ s/([^ -~])/$ascii{$1}/gr);
	my $serial = keys %{ $self->{names} };
	my $phone = sprintf('+1%03d55501%02d', 201 + int($serial / 100) * 4, $serial % 100);
	return { first => $first, last => $last, local => $local, email => "$local\@$domain", phone => $phone,
		phone_text => $phone =~ s/^\+1(...)(...)(....)$/($1) $2-$3/r };
}

sub name { my ($person) = @_; return "$person->{first} $person->{last}" }

1;
