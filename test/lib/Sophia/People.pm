# A made-up set of people in HubSpot, Gong and Slack with what makes resolvers join the wrong ones: switchboards and role
# addresses that many share, families in one company, namesakes in others.  Who is who is known.
#
#   my $people = Sophia::People->new(people => 400);
#   $node->safe_psql('postgres', $people->sql);              # rows of the raw tables, and public.crm_truth (key, cluster)
#   CALL sophia.refresh_unified_contacts();                  # then unified_contacts.id are the keys
#   $node->safe_psql('postgres', Sophia::People::view_sql);  # public.crm, what the rules of Sophia::MatchRules compare
#
# Every domain ends in .example; phone numbers are from ranges that are kept for fiction.  The same arguments give the
# same people.
package Sophia::People;
use strict;
use warnings;

my @first = qw(Anna Hanna Andreas Ben Bella Carl Carla Carlos Dana Daniel Daniela Emil Emilia Eric Erica Fabian Fatima Greta
  Hugo Ines Ivan Jan Jana Jonas Joan John Julia Julian Karl Katja Lars Lena Leon Liam Luca Lucas Maria Mario Marta Martin Mia
  Mila Nina Noah Olga Oscar Paul Paula Pia Rosa Sara Simon Sofia Stefan Tara Tom Uma Vera Victor Yara Zoe);
my @last = qw(Abel Baker Becker Berger Brandt Carter Castro Cohen Costa Cruz Diaz Dubois Ebert Evans Fischer Fontana Foster
  Garcia Graf Haas Hansen Harris Hoffmann Ito Jansen Jensen Keller Kim Klein Koch Kovacs Kumar Lang Larsen Lee Lopez Maier
  Martin Meyer Moreau Moreno Nguyen Novak Olsen Ortiz Park Patel Pereira Peters Popov Quinn Ramos Reed Ricci Roth Santos Sato
  Schmidt Schulz Silva Singh Sommer Stein Suzuki Tanaka Torres Vogel Wagner Walker Weber Weiss Werner Wolf Wong Young Ziegler);
my @role = qw(info sales office support);
my $employees = 8;    # of a company
my $mobiles = 1000;   # of the range that Ofcom keeps for drama

# Parameters: people (400), seed (1).
sub new
{
	my ($class, %p) = @_;
	my $self = bless { %p, people => $p{people} // 400, rows => [], truth => [], next => 100 }, $class;

	die "more than $mobiles people have no mobile number each\n" if $self->{people} > $mobiles;
	srand($p{seed} // 1);
	$self->_make_company($_) for 0 .. ($self->{people} - 1) / $employees;
	return $self;
}

sub one_of { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }

# A name mistyped: two letters change places.
sub mistyped
{
	my ($name) = @_;
	return $name if length $name < 4;
	my $at = 1 + int rand(length($name) - 2);
	return substr($name, 0, $at) . substr($name, $at + 1, 1) . substr($name, $at, 1) . substr($name, $at + 2);
}

# People of a company: the first two are of one family; one has the name of somebody elsewhere.
sub _make_company
{
	my ($self, $n) = @_;
	my $company = {
		number => $n, name => "$last[ $n % @last ] " . one_of(qw(Labs Works Foods Systems)) . " $n",
		domain => "company$n.example", phone => sprintf('+1 212 555 %04d', 100 + $n % 100)
	};
	my (%taken, @here);

	for my $i (0 .. $employees - 1)
	{
		my $number = $n * $employees + $i;
		last if $number >= $self->{people};
		my ($first, $last) = (one_of(@first), $i < 2 ? $last[ $n % @last ] : one_of(@last));
		($first, $last) = qw(John Baker) if $i == 2 && $n % 4 == 0;
		redo if $taken{"$first $last"}++;
		push @here, { number => $number, first => $first, last => $last, company => $company,
			email => lc "$first.$last\@$company->{domain}", mobile => sprintf('+44 7700 900%03d', $number % $mobiles) };
	}
	$self->_make_records($_) for @here;
	$self->_make_role_records($company, @here);
	return;
}

# What the systems know of a person.
sub _make_records
{
	my ($self, $p) = @_;
	my $private = lc "$p->{first}$p->{number}\@mail.example";
	my $merged = chance(.25);
	my @phones = ($p->{mobile}, $p->{mobile}, $p->{company}{phone}, $p->{company}{phone}, undef);
	my $phone = one_of(@phones);

	$self->_hubspot($p, email => $p->{email}, phone => $phone, company => $p->{company}{name},
		more => [ $merged ? $private : (), chance(.3) ? "info\@$p->{company}{domain}" : () ], merged => $merged ? $private : undef);
	$self->_hubspot({ %$p, first => mistyped($p->{first}) }, email => $private, phone => $p->{mobile}, company => $p->{company}{name})
	  if !$merged && chance(.15);
	$self->_gong($p, email => $merged && chance(.4) ? $private : $p->{email}, phone => $p->{company}{phone},
		name => one_of("$p->{first} $p->{last}", "$p->{last}, $p->{first}", substr($p->{first}, 0, 1) . ". $p->{last}"))
	  if chance(.4);
	$self->_slack($p, email => uc $p->{email}, phone => chance(.5) ? $p->{company}{phone} : undef) if chance(.25);
	return;
}

# Two people behind one role address: one in HubSpot, another one in a call.
sub _make_role_records
{
	my ($self, $company, @here) = @_;
	return if @here < 4;
	my $address = one_of(@role) . "\@$company->{domain}";
	$self->_hubspot($here[2], email => $address, phone => $company->{phone}, company => $company->{name});
	$self->_gong($here[3], email => $address, phone => $company->{phone}, name => "$here[3]{first} $here[3]{last}");
	return;
}

sub _true
{
	my ($self, $key, $p) = @_;
	push @{ $self->{truth} }, [ $key, $p->{number} ];
	return;
}

sub _hubspot
{
	my ($self, $p, %r) = @_;
	my $id = $self->{next} += 2;
	my $loser = defined $r{merged} ? $id - 1 : undef;

	push @{ $self->{rows} }, row('hubspot_raw.contacts (id, email, firstname, lastname, phone, company, doc)',
		$loser, $r{merged}, @$p{qw(first last)}, undef, $r{company}, '{}')
	  if defined $loser;
	push @{ $self->{rows} },
	  row('hubspot_raw.contacts (id, email, additional_emails, firstname, lastname, phone, company, merged_object_ids, doc)',
		$id, $r{email}, '{' . join(',', @{ $r{more} // [] }) . '}', @$p{qw(first last)}, $r{phone}, $r{company},
		defined $loser ? "{$loser}" : undef, '{}');
	return $self->_true("hubspot_$id", $p);
}

sub _gong
{
	my ($self, $p, %r) = @_;
	my $call = 'c' . $self->{next}++;

	push @{ $self->{rows} }, row('gong_raw.calls (id, started, doc)', $call, '2024-06-01', '{}'),
	  row('gong_raw.call_parties (call_id, party_id, ordinal, email, email_norm, name, phone, affiliation, doc)',
		$call, 'p1', 1, $r{email}, $r{email}, $r{name}, $r{phone}, 'External', '{}');
	return $self->_true("gong_$r{email}", $p);
}

sub _slack
{
	my ($self, $p, %r) = @_;
	my $id = 'U' . $self->{next}++;

	push @{ $self->{rows} },
	  row('slack_raw.users (id, team_id, real_name, first_name, last_name, email, phone, is_restricted, doc)',
		$id, 'T1', lc "$p->{first} $p->{last}", lc $p->{first}, lc $p->{last}, $r{email}, $r{phone}, 'true', '{}');
	return $self->_true("slack_$id", $p);
}

sub row
{
	my ($table, @values) = @_;
	return "INSERT INTO $table VALUES (" . join(', ', map { defined $_ ? "'" . s/'/''/gr . "'" : 'NULL' } @values) . ");\n";
}

# The raw tables' rows and the truth.
sub sql
{
	my ($self) = @_;
	return join '', "SELECT count(*) FROM sophia.create_schemas();\n", @{ $self->{rows} },
	  "CREATE TABLE public.crm_truth (key text PRIMARY KEY, cluster text);\n",
	  map { "INSERT INTO public.crm_truth VALUES ('$_->[0]', '$_->[1]');\n" } @{ $self->{truth} };
}

# Contacts with what a rule should know beyond a row: how many share the phone, and which addresses are a person's.
sub view_sql
{
	return <<~'SQL';
		CREATE VIEW public.crm AS
		SELECT c.id, c.first_name, c.last_name, c.company_name, c.phone_e164,
		  nullif(c.email_domain, 'mail.example') AS work_domain,
		  count(*) OVER (PARTITION BY c.phone_e164) AS phone_records,
		  ARRAY(SELECT e FROM unnest(c.all_emails) AS e
		    WHERE split_part(e, '@', 1) NOT IN ('info', 'sales', 'office', 'support')) AS own_emails
		FROM processed_data.unified_contacts AS c
		WHERE NOT c.is_deleted;
		SQL
}

1;
