package Sample::Gong;

# Gong: calls in the basic form (what Estuary's capture sends) and the extensive one (with parties, which
# another feed must bring), transcripts, and users, who are staff only.

use utf8;
use strict;
use warnings;
use Sample::Json;
use Sample::Time;
use Sample::World;

use constant START => at(5, 4, 6);
use constant LONG_ID => '12345678901234567890';    # twenty digits: no 64-bit integer holds it

my @topic = ('Quarterly review', 'Gripper demo', 'Contract renewal', 'Line stop of last week', 'Onboarding');
my @said = ('Can you hear me well?', 'The cell stopped twice last week.', 'We would like to extend the contract.',
	'That is much faster than before.', 'I am not happy with how long the repair took.', 'Let us look at the numbers.',
	'I will send the offer tomorrow.', 'Great, that works for us.');

sub new
{
	my ($class, $world, $ledger) = @_;
	return bless { world => $world, ledger => $ledger, serial => 0, events => {}, external => {} }, $class;
}

sub random { my ($self, $n) = @_; return $self->{world}{random}->($n) }

sub event
{
	my ($self, $collection, $key, $time, $doc) = @_;
	my $seen = $time < START ? START + 1000 * $self->{serial}++ : $time;

	push @{ $self->{events}{$collection} }, { key => $key, time => $seen, doc => $doc };
	return;
}

# Everybody again each night would be many; here each user comes once or twice.  One leaves the company and so
# moves to the other partition.
sub users
{
	my ($self) = @_;
	my @staff = @{ $self->{world}{staff} };
	my $leaver = $staff[-1];

	foreach my $person (@staff)
	{
		$self->user($person, START, TRUE);
		$self->user($person, at(6, 1), TRUE) if $self->{world}->chance(40);
	}
	$self->user($leaver, at(6, 15), FALSE);
	$self->{ledger}->value('gong_raw.users', { id => $leaver->{gong} }, 'active', 'false');
	$self->{ledger}->value('gong_raw.users', { id => $staff[0]{gong} }, 'active', 'true');
	return;
}

sub user
{
	my ($self, $person, $time, $active) = @_;

	$self->event('users', $person->{gong}, $time, { id => num($person->{gong}), emailAddress => $person->{email},
		emailAliases => [ $person->{alias}, $person->{email} ], trustedEmailAddress => $person->{trusted},
		firstName => $person->{first}, lastName => $person->{last}, title => $person->{title}, extension => undef,
		phoneNumber => $person->{phone}, managerId => $self->{world}{staff}[0]{gong}, active => $active,
		created => iso(at(1, 2, 9)), spokenLanguages => [ { language => 'en', primary => TRUE } ],
		settings => { webConferencesRecorded => TRUE } });
	return;
}

sub calls
{
	my ($self, $count) = @_;

	foreach my $number (0 .. $count - 1)
	{
		my $time = at(1, 15, 9) + int($self->random(165 * 24 * 4)) * 15 * MINUTE;
		my $call = $self->call($number, $time);
		my $key = $call->{id};

		# The lookback window reads a recent call again, unchanged, the next day.
		$self->event('calls', $key, $time + HOUR, basic($call));
		$self->event('calls', $key, ($time < START ? START : $time) + DAY, basic($call)) if $number % 3 == 0;
		$self->{private} = $key if $number == 5;
		next if $number % 10 == 7;
		$self->extensive($call, $time + 2 * HOUR);
		$self->transcript($call, $time + 3 * HOUR) if $number % 5 != 2;
	}
	return;
}

sub call
{
	my ($self, $number, $time) = @_;
	my @staff = @{ $self->{world}{staff} };
	my $company = $number % 8 == 0 ? $self->{world}{companies}[0] : $self->{world}->any($self->{world}{companies});
	my @guests = $self->{world}->some(1 + $self->random(3), @{ $company->{people} });

	@guests = ($company->{people}[0]) if $number % 8 == 0;
	return { number => $number, id => $number == 3 ? LONG_ID : '7782342274' . sprintf('%09d', 25_937_895 + 613 * $number),
		title => "$company->{name}: " . $self->{world}->any(\@topic), time => $time, duration => 300 + $self->random(3000),
		host => $staff[ $self->random(scalar @staff) ], colleague => $staff[ $self->random(scalar @staff) ],
		company => $company, guests => \@guests };
}

sub members
{
	my ($call) = @_;
	my $number = $call->{number};

	# Call 5 is private.
	return { title => $call->{title}, url => "https://app.gong.example/call?id=$call->{id}",
		scheduled => iso($call->{time}), started => iso($call->{time} + 65 * SECOND), duration => num($call->{duration}),
		primaryUserId => $call->{host}{gong}, direction => $number % 9 == 1 ? 'Outbound' : 'Conference',
		scope => 'External', media => $number % 9 == 1 ? 'Audio' : 'Video', system => $number % 9 == 1 ? 'Outreach' : 'Zoom',
		language => 'eng', workspaceId => '623457276584334', isPrivate => $number == 5 ? TRUE : FALSE,
		meetingUrl => "https://meet.example/m/$number", purpose => undef, customData => undef, sdrDisposition => undef,
		clientUniqueId => undef, calendarEventId => "ical-$number\@acme-robotics.example" };
}

sub basic { my ($call) = @_; return { id => num($call->{id}), %{ members($call) } } }

# The extensive form; now and then it comes again with a party less, whose row must go.
sub extensive
{
	my ($self, $call, $time) = @_;
	my @parties = $self->parties($call);
	my $doc = { metaData => { id => $call->{id}, %{ members($call) }, title => "$call->{title} (recorded)" },
		context => [ { system => 'HubSpot', objects => [ { objectType => 'Account',
			objectId => text_of($call->{company}{hubspot}), fields => [] } ] } ], parties => \@parties,
		content => { brief => "They spoke about $call->{title}.", topics => [ { name => 'Pricing', duration => num(120) } ],
			trackers => [ { id => '99', name => 'Competitor', count => num(2), type => 'KEYWORD', occurrences => [] } ] },
		interaction => { speakers => [], questions => { companyCount => num(3), nonCompanyCount => num(2) } } };

	$self->event('calls', $call->{id}, $time, $doc);
	if ($call->{number} % 12 == 4)
	{
		pop @parties;
		my $again = ($time < START ? START : $time) + 2 * DAY;
		$self->event('calls', $call->{id}, $again, { %$doc, parties => [@parties] });
	}
	$call->{parties} = \@parties;
	$self->note_external($call, $_, $parties[$_]) foreach 0 .. $#parties;
	return if $call->{number} != 3;
	my $key = { id => LONG_ID };
	$self->{ledger}->value('gong_raw.calls', $key, 'title', $call->{title});
	$self->{ledger}->value('gong_raw.calls', $key, 'duration_s', $call->{duration});
	return;
}

sub parties
{
	my ($self, $call) = @_;
	my $number = $call->{number};
	my $serial = 1;
	my $speaker = sub { return 5_100_000_000 + 100 * $number + shift };
	my $party = sub {
		my (%members) = @_;
		my $mine = $serial++;
		return { id => sprintf('%d%03d', 64_000_000 + $number, $mine), speakerId => '' . $speaker->($mine),
			methods => [ 'Invitee', 'Attendee' ], %members };
	};
	my $host = $call->{host};
	my @parties = $party->(emailAddress => $host->{email}, name => Sample::World::name($host), title => $host->{title},
		userId => $host->{gong}, affiliation => 'Internal', phoneNumber => $host->{phone}, context => []);

	# A colleague who was invited under an alias and has no user id.
	push @parties, $party->(emailAddress => uc $call->{colleague}{alias}, name => $call->{colleague}{first},
		affiliation => 'Unknown', context => []) if $number % 3 == 1;
	foreach my $guest (@{ $call->{guests} })
	{
		my $linked = $number % 2 ? [ { system => 'HubSpot', timing => 'Now', objects => [ { objectType => 'Contact',
			objectId => text_of($guest->{hubspot}), fields => [] } ] } ] : [];
		push @parties, $party->(emailAddress => $number % 4 ? $guest->{email} : ucfirst $guest->{email},
			name => Sample::World::name($guest), title => $guest->{title}, affiliation => 'External', context => $linked);
	}
	push @parties, $party->(phoneNumber => $call->{guests}[0]{phone}, affiliation => 'Unknown', methods => ['Attendee'],
		context => []) if $number % 6 == 2;
	push @parties, $party->(name => 'Meeting Room 2', affiliation => 'Unknown', methods => ['Attendee'], context => [])
	  if $number % 15 == 4;
	push @parties, $party->(affiliation => 'Unknown', methods => ['Attendee'], context => []) if $number % 15 == 8;
	delete $parties[-1]{id} if $number == 9;
	return @parties;
}

# Keeps which external people the last documents name: by e-mail, or by call and party where they have none.
sub note_external
{
	my ($self, $call, $index, $party) = @_;

	return if $party->{userId};
	return $self->{external}{ lc $party->{emailAddress} } = 1 if $party->{emailAddress};
	return if !$party->{name} && !$party->{phoneNumber};
	return $self->{external}{ "$call->{id} " . ($party->{id} || '#' . ($index + 1)) } = 1;
}

# One transcript comes again and is shorter.
sub transcript
{
	my ($self, $call, $time) = @_;
	my @speakers = grep { defined } map { $_->{speakerId} } @{ $call->{parties} };
	my ($clock, @monologues) = (4000);

	foreach my $turn (0 .. 4 + $self->random(12))
	{
		my @sentences;
		foreach (1 .. 1 + $self->random(3))
		{
			push @sentences, { start => num($clock), end => num($clock + 2800), text => $self->{world}->any(\@said) };
			$clock += 3000;
		}
		push @monologues, { speakerId => $turn == 6 ? '999' : $speakers[ $turn % @speakers ],
			topic => $turn % 4 ? undef : 'Pricing', sentences => \@sentences };
	}
	$self->event('call_transcripts', $call->{id}, $time, { callId => $call->{id}, transcript => [@monologues] });
	return if $call->{number} % 30 != 1;
	splice @monologues, 3;
	my $again = ($time < START ? START : $time) + DAY;
	$self->event('call_transcripts', $call->{id}, $again, { callId => $call->{id}, transcript => \@monologues });
	$self->{ledger}->value('gong_raw.call_transcripts', { call_id => $call->{id}, seq => '3' }, 'text',
		join(' ', map { $_->{text} } @{ $monologues[2]{sentences} }));
	return;
}

1;
