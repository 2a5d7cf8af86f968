package Sample::Hubspot;

# Hubspot: documents of contacts, companies, deals, engagements and owners as source-hubspot-native sends them:
# integer ids, every property a string or null, associations as arrays of ids, often twice.
#
# HubSpot's own capture never says that a record was deleted; the tombstones here stand for a feed that does.

use utf8;
use strict;
use warnings;
use Sample::Json;
use Sample::Time;

use constant PORTAL => 'https://app.hubspot.com/contacts/4400123/record';
use constant START => at(5, 4, 6);    # the capture begins with a backfill

my @topic = ('Pilot line for palletising', 'Spare parts for cell 4', 'Safety scanner recall', 'Renewal of support',
	'Quote for two welding arms', 'Gripper wear after 2 000 hours', 'Site visit in spring', 'Training dates',
	'Invoice 20418', 'Firmware 7.2 and conveyor speed');
my @sentence = ('Thanks for the call this morning.', 'The second arm stops at about forty degrees.',
	'Could you send the revised quote by Friday?', 'We are very happy with the new gripper.',
	'The line was down for three hours, which we cannot accept again.', 'Please add our buyer to the thread.',
	'Delivery in week 23 suits us.', 'I attach the drawings & the load table.');

sub new
{
	my ($class, $world, $ledger) = @_;
	return bless { world => $world, ledger => $ledger, serial => 0, events => {} }, $class;
}

sub random { my ($self, $n) = @_; return $self->{world}{random}->($n) }

# Puts a document on its collection's list: published when the capture saw it.
sub event
{
	my ($self, $collection, $time, $doc, $meta) = @_;
	my $seen = $time < START ? START + 1000 * $self->{serial}++ : $time + 90 * SECOND;
	my $event = { key => text_of($doc->{id}), time => $seen, doc => $doc, meta => $meta };

	push @{ $self->{events}{$collection} }, $event;
	return $event;
}

sub record
{
	my ($type, $id, $created, $updated, $properties, %more) = @_;
	return { id => $id, createdAt => iso($created), updatedAt => iso($updated), archived => FALSE,
		properties => $properties, url => PORTAL . "/$type/" . text_of($id), %more };
}

sub tombstone
{
	my ($self, $collection, $time, $id) = @_;
	return $self->event($collection, $time, { id => $id, archived => FALSE, properties => {} }, { op => 'd' });
}

sub owner_of
{
	my ($self) = @_;
	return $self->{world}->any([ grep { $_->{owner} } @{ $self->{world}{staff} } ]);
}

# Companies: the association arrays hold ids twice.
sub companies
{
	my ($self) = @_;

	foreach my $company (@{ $self->{world}{companies} })
	{
		my $created = at(1, 1 + $self->random(28), $self->random(24));
		my @people = map { $_->{hubspot} } @{ $company->{people} };
		$company->{owner} = $self->owner_of;
		my %properties = (name => $company->{name}, domain => $company->{domain}, website => "www.$company->{domain}",
			lifecyclestage => 'customer', num_associated_contacts => scalar @people, industry => undef,
			hubspot_owner_id => $company->{owner}{owner}, createdate => iso_ms($created),
			hs_lastmodifieddate => iso_ms($created), hs_object_id => text_of($company->{hubspot}));
		$self->event('companies', $created,
			record('0-2', $company->{hubspot}, $created, $created, \%properties, contacts => [ @people, @people ]));
		next if !$self->{world}->chance(30);
		my $changed = at(5, 6 + $self->random(24), $self->random(24));
		$self->event('companies', $changed, record('0-2', $company->{hubspot}, $created, $changed,
			{ num_associated_deals => '2', hs_lastmodifieddate => iso_ms($changed) }));
	}
	$self->tombstone('companies', at(6, 20, 9), $self->{world}{companies}[-1]{hubspot});
	return;
}

sub contact_properties
{
	my ($self, $person, $created) = @_;
	my $company = $person->{company};
	my $number = $person->{number};

	$person->{extra} = "$person->{local}.private\@mail.example" if $number % 9 == 4;
	return {
		email => $number % 8 == 5 ? ucfirst $person->{email} : $person->{email},
		hs_additional_emails => $person->{extra} ? "$person->{extra};$person->{local}\@old-$company->{domain}" : undef,
		firstname => $person->{first}, lastname => $person->{last}, jobtitle => $person->{title},
		company => $number % 11 ? $company->{name} : uc $company->{name},
		associatedcompanyid => text_of($company->{hubspot}), phone => $number % 4 ? $person->{phone_text} : undef,
		mobilephone => $number % 4 ? undef : $person->{phone},
		hs_calculated_phone_number => $number % 4 ? $person->{phone} : undef,
		lifecyclestage => $number % 5 ? 'customer' : 'lead', hs_lead_status => $number % 5 ? undef : 'OPEN',
		hubspot_owner_id => $company->{owner}{owner}, hs_object_id => text_of($person->{hubspot}),
		hs_all_contact_vids => text_of($person->{hubspot}), hs_merged_object_ids => undef,
		createdate => iso_ms($created), lastmodifieddate => $number % 10 ? iso_ms($created) : millis($created),
		hs_email_domain => $company->{domain}, salutation => undef, fax => undef, hs_linkedin_url => undef,
		num_notes => '0.20000000000000000000000000000000000000000000000001'
	};
}

sub contacts
{
	my ($self) = @_;

	foreach my $person (@{ $self->{world}{people} })
	{
		my $created = at(1 + $self->random(4), 1 + $self->random(28), $self->random(24), $self->random(60));
		my $company = $person->{company}{hubspot};
		$person->{created} = $created;
		$self->event('contacts', $created, record('0-1', $person->{hubspot}, $created, $created,
			$self->contact_properties($person, $created), companies => [ $company, $company ]));
		$self->contact_changes($person) if $self->{world}->chance(45);
		$self->nightly($person) if $self->{world}->chance(30);
	}
	$self->merged_contacts;
	$self->special_contacts;
	return;
}

# A later document without the association array, which then keeps its old value.
sub contact_changes
{
	my ($self, $person) = @_;
	my $changed = at(5 + $self->random(2), 5 + $self->random(24), $self->random(23), $self->random(60));
	my %properties = (lifecyclestage => 'opportunity', lastmodifieddate => iso_ms($changed));

	$properties{hs_lead_status} = undef if $self->{world}->chance(50);
	$self->event('contacts', $changed,
		record('0-1', $person->{hubspot}, $person->{created}, $changed, \%properties));
	return;
}

# Calculated properties only, five minutes before midnight.
sub nightly
{
	my ($self, $person) = @_;
	my $time = at(5 + $self->random(2), 5 + $self->random(24), 23, 55);

	$self->event('contacts', $time, { id => $person->{hubspot}, createdAt => iso($person->{created}),
		updatedAt => iso($time), archived => FALSE, properties => {
			hs_full_name_or_email => "$person->{first} $person->{last}", hs_time_in_lead => '8640000000',
			hs_calculated_phone_number => $person->{phone} } });
	return;
}

# Merges make a new record that lists the old ones; an older merge kept one of the two ids; one is a chain.
sub merged_contacts
{
	my ($self) = @_;
	my @people = @{ $self->{world}{people} }[ 20 .. 31 ];
	my $serial = 0;

	while (my ($kept, $gone) = splice @people, 0, 2)
	{
		my $time = at(5, 20 + $serial, 11);
		my $old_way = $serial == 5;
		my $id = $old_way ? $kept->{hubspot} : num(90_500_000_000 + 17 * $serial);
		my @losers = map { text_of($_->{hubspot}) } $old_way ? $gone : ($kept, $gone);
		my $properties = $self->contact_properties($kept, $kept->{created});
		$properties->{hs_object_id} = text_of($id);
		$properties->{hs_merged_object_ids} = join ';', @losers;
		$properties->{hs_calculated_merged_vids} = join ';', map { "$_:" . millis($time) } @losers;
		$properties->{hs_additional_emails} = $gone->{email};
		$properties->{lastmodifieddate} = iso_ms($time);
		$self->event('contacts', $time, record('0-1', $id, $kept->{created}, $time, $properties,
			companies => [ $kept->{company}{hubspot} ]));
		$self->{merged}{$_} = $id foreach @losers;
		$self->{ledger}->value('hubspot_raw.contacts', { id => text_of($id) }, 'email', $properties->{email});
		$self->chain($id, $kept, $time + DAY) if $serial == 4;
		$serial++;
	}
	return;
}

# The survivor of a merge is merged again.
sub chain
{
	my ($self, $loser, $person, $time) = @_;
	my $id = num(90_500_000_990);
	my $properties = $self->contact_properties($person, $person->{created});

	$properties->{hs_object_id} = text_of($id);
	$properties->{hs_merged_object_ids} = text_of($loser);
	$self->event('contacts', $time, record('0-1', $id, $person->{created}, $time, $properties));
	$self->{merged}{ text_of($loser) } = $id;
	return;
}

# An explicit null, a deletion, a deletion taken back.
sub special_contacts
{
	my ($self) = @_;
	my @people = @{ $self->{world}{people} };
	my ($cleared, $erased, $back) = @people[ 1, 40, 41 ];
	my $ledger = $self->{ledger};

	$self->event('contacts', at(6, 29, 8), record('0-1', $cleared->{hubspot}, $cleared->{created}, at(6, 29, 8),
		{ jobtitle => undef, lastmodifieddate => iso_ms(at(6, 29, 8)) }));
	$ledger->value('hubspot_raw.contacts', { id => text_of($cleared->{hubspot}) }, 'jobtitle', undef);
	$ledger->value('hubspot_raw.contacts', { id => text_of($cleared->{hubspot}) }, 'firstname', $cleared->{first});
	$self->tombstone('contacts', at(6, 29, 9), $_->{hubspot}) foreach $erased, $back;
	$ledger->value('hubspot_raw.contacts', { id => text_of($erased->{hubspot}) }, 'is_deleted', 'true');
	my $properties = { email => $back->{email}, firstname => $back->{first}, lastname => $back->{last} };
	$self->event('contacts', at(6, 30, 9),
		record('0-1', $back->{hubspot}, $back->{created}, at(6, 30, 9), $properties));
	$ledger->value('hubspot_raw.contacts', { id => text_of($back->{hubspot}) }, 'is_deleted', 'false');
	$ledger->value('hubspot_raw.contacts', { id => text_of($back->{hubspot}) }, 'jobtitle', undef);
	return;
}

sub deals
{
	my ($self) = @_;
	my $number = 0;

	foreach my $company (@{ $self->{world}{companies} })
	{
		foreach (1 .. 2)
		{
			my $created = at(1 + $self->random(5), 1 + $self->random(28), $self->random(24));
			my $id = num(12_300_000_050 + 29 * $number++);
			my @contacts = map { $_->{hubspot} } $self->{world}->some(2, @{ $company->{people} });
			push @{ $company->{deals} }, $id;
			$self->event('deals', $created, record('0-3', $id, $created, $created,
				{ dealname => "$company->{name}: " . $self->{world}->any(\@topic), amount => 5000 + 250 * $self->random(90) . '.50',
					dealstage => 'qualifiedtobuy', pipeline => 'default', closedate => iso_ms($created + 60 * DAY),
					hubspot_owner_id => $company->{owner}{owner}, createdate => iso_ms($created),
					hs_is_closed_won => 'false', hs_lastmodifieddate => iso_ms($created) },
				contacts => [ @contacts, @contacts ], line_items => []));
			next if !$self->{world}->chance(40);
			my $won = at(6, 1 + $self->random(28), 15);
			$self->event('deals', $won, record('0-3', $id, $created, $won, { dealstage => 'closedwon',
				hs_is_closed_won => 'true', amount => '12345678901234.5678', hs_lastmodifieddate => iso_ms($won) }));
			$self->{ledger}->value('hubspot_raw.deals', { id => text_of($id) }, 'amount', '12345678901234.5678')
			  if !$self->{deal_noted}++;
		}
	}
	$self->tombstone('deals', at(6, 30, 10), $_) foreach @{ $self->{world}{companies}[-2]{deals} };
	return;
}

sub engagements
{
	my ($self, $count) = @_;
	my @people = @{ $self->{world}{people} };
	my @kinds = ((qw(EMAIL INCOMING_EMAIL CALL) x 5), (qw(MEETING) x 4), (qw(NOTE) x 3), (qw(TASK) x 2));

	foreach my $number (0 .. $count - 1)
	{
		my $person = $number % 40 ? $self->{world}->any(\@people) : $people[0];
		my $kind = $number % 97 == 50 ? 'LINKEDIN_MESSAGE' : $number % 53 == 20 ? 'FORWARDED_EMAIL'
		  : $kinds[ $number % @kinds ];
		my $time = at(1, 12, 8) + int($self->random(168 * 24 * 60)) * MINUTE;
		$self->engagement($number, $kind, $person, $self->owner_of, $time);
	}
	$self->tombstone('engagements', at(6, 30, 11), $_) foreach num(51_700_000_500), num(51_700_000_523);
	return;
}

sub engagement
{
	my ($self, $number, $kind, $person, $owner, $time) = @_;
	my $id = num(51_700_000_500 + 23 * $number);
	my $about = $self->{world}->any(\@topic);
	my @text = map { $self->{world}->any(\@sentence) } 1 .. 3;
	my %properties = (hs_engagement_type => $kind, hs_timestamp => iso_ms($time), hs_createdate => iso_ms($time),
		hs_lastmodifieddate => iso_ms($time), hs_object_id => text_of($id), hubspot_owner_id => $owner->{owner},
		hs_body_preview => join(' ', @text), hs_gdpr_deleted => undef, hs_attachment_ids => undef,
		$self->kind_properties($number, $kind, $person, $owner, $time, $about, \@text));
	my $contact = $person->{hubspot};
	my $company = $person->{company}{hubspot};

	$self->event('engagements', $time, record('0-4', $id, $time, $time, \%properties, contacts => [ $contact, $contact ],
		companies => [$company], deals => [ @{ $person->{company}{deals} }[ 0 .. $number % 2 - 1 ] ], tickets => []));
	return if !$self->{world}->chance(12);
	my $changed = at(6, 1 + $self->random(29), $self->random(23));
	$self->event('engagements', $changed < $time ? $time + HOUR : $changed, record('0-4', $id, $time, $changed,
		{ hs_unique_id => "unique-$number", hs_lastmodifieddate => iso_ms($changed) }));
	return;
}

# The members that only this kind of engagement has.
sub kind_properties
{
	my ($self, $number, $kind, $person, $owner, $time, $about, $text) = @_;
	my $html = html($person, $owner, $text);

	return email($number, $kind, $person, $owner, $about, $text, $html) if $kind =~ /EMAIL/;
	return (hs_call_title => "Call: $about", hs_call_body => $html, hs_call_duration => 1000 * (30 + $self->random(1500)),
		hs_call_direction => $number % 2 ? 'INBOUND' : 'OUTBOUND', hs_call_status => $number % 5 ? 'COMPLETED' : 'NO_ANSWER',
		hs_call_from_number => $number % 2 ? $person->{phone_text} : $owner->{phone},
		hs_call_to_number => $number % 2 ? $owner->{phone} : $person->{phone_text}) if $kind eq 'CALL';
	return (hs_meeting_title => $about, hs_meeting_body => $html, hs_internal_meeting_notes => "<p>$text->[1]</p>",
		hs_meeting_start_time => iso_ms($time), hs_meeting_end_time => $number % 3 ? iso_ms($time + 45 * MINUTE)
		: millis($time + 45 * MINUTE), hs_meeting_outcome => 'COMPLETED', hs_meeting_location => 'Hall 3',
		hs_meeting_external_url => "https://meet.example/m/$number", hs_i_cal_uid => "ical-$number\@acme-robotics.example")
	  if $kind eq 'MEETING';
	return (hs_note_body => $html) if $kind eq 'NOTE';
	return (hs_task_subject => "Follow up: $about", hs_task_body => $html, hs_task_status => 'NOT_STARTED',
		hs_task_type => 'TODO', hs_task_priority => 'HIGH') if $kind eq 'TASK';
	return ();
}

# One e-mail in seven comes without its body, as when the application may not read it.
sub email
{
	my ($number, $kind, $person, $owner, $about, $text, $html) = @_;
	my ($from, $to) = $kind eq 'INCOMING_EMAIL' ? ($person, $owner) : ($owner, $person);
	my $hidden = $number % 7 == 3;

	return (hs_email_subject => ($kind eq 'INCOMING_EMAIL' ? "Re: $about" : $about), hs_email_direction => $kind,
		hs_email_html => $hidden ? undef : $html, hs_email_text => $hidden || $number % 3 ? undef : join("\n", @$text),
		hs_email_from_email => $number % 6 ? $from->{email} : uc $from->{email}, hs_email_from_firstname => $from->{first},
		hs_email_to_email => "$to->{email};ops\@" . ($to->{email} =~ s/^.*\@//r), hs_email_cc_email => undef,
		hs_email_bcc_email => undef, hs_email_status => 'SENT', hs_email_thread_id => 'thread-' . int($number / 5),
		hs_email_message_id => "<m$number\@mail.example>");
}

sub html
{
	my ($person, $owner, $text) = @_;
	my $paragraphs = join '', map { '<p>' . s/&/&amp;/r . '</p>' } @$text;
	return "<html><head><style>p { margin: 0 }</style></head><body><div>Hi $owner->{first},</div>"
	  . "$paragraphs<br/>&mdash; <b>$person->{first}</b>&nbsp;$person->{last}<script>track('x')</script></body></html>";
}

# Owners: the whole list again at each change, keyed by position.  Rows change identity and the last go.
sub owners
{
	my ($self) = @_;
	my @owners = grep { $_->{owner} } @{ $self->{world}{staff} };
	my @shorter = grep { $_ != $owners[4] } @owners;
	my @listings = ([ \@owners, START, 'c' ], [ \@shorter, at(5, 28, 7), 'u' ], [ [ reverse @shorter ], at(6, 18, 7), 'u' ]);
	my $before = 0;

	foreach my $listing (@listings)
	{
		my ($list, $time, $op) = @$listing;
		$self->owner_row($list->[$_], $_, $time, $op) foreach 0 .. $#$list;
		$self->owner_row($owners[-1], $_, $time, 'd') foreach @$list .. $before - 1;
		$before = @$list;
	}
	$self->{ledger}->value('hubspot_raw.owners', { id => $owners[-1]{owner} }, 'is_deleted', 'false');
	$self->{ledger}->value('hubspot_raw.owners', { id => $owners[0]{owner} }, 'first_name', $owners[0]{first});
	return;
}

sub owner_row
{
	my ($self, $person, $position, $time, $op) = @_;
	my $doc = { id => "$person->{owner}", email => $person->{number} % 2 ? uc $person->{alias} : $person->{email},
		firstName => $person->{first}, lastName => $person->{last}, type => 'PERSON', userId => num($person->{owner} + 5_000_000),
		userIdIncludingInactive => num($person->{owner} + 5_000_000), archived => FALSE, createdAt => iso(at(1, 2)),
		updatedAt => iso($time) };
	my $event = $self->event('owners', $time, $doc, { op => $op, row_id => num($position) });

	# A listing is published in its own order, within one second.
	$event->{time} = $time + 1000 * $position;
	return;
}

1;
