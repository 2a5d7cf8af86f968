package Sample::Slack;

# Slack: users, channels, members and messages as the Airbyte-made capture sends them.  Thread parents and plain
# messages stand in both channel_messages and threads, replies in threads only.

use utf8;
use strict;
use warnings;
use Sample::Json;
use Sample::Time;
use Sample::World;

use constant START => at(5, 4, 6);
use constant TEAM => 'T05ACME';

my @channel = qw(general sales support engineering random gripper-v2 field-service releases marketing finance
  incidents line-demo hiring ext-borealis ext-alder board);
my @line = ('Shipment for cell 4 left this morning.', 'Who can take the visit on Thursday?', 'Looks good to me 👍',
	'The customer is happy again.', 'Torque sensor reads 3 > 2 & rising.', 'Numbers are in the sheet.',
	'We need a new date for the training.', 'This is the third outage this month, not good.');

sub new
{
	my ($class, $world, $ledger) = @_;
	my $self = bless { world => $world, ledger => $ledger, serial => 0, events => {}, shown => {} }, $class;

	$self->{guests} = [ grep { $_->{slack} } @{ $world->{people} } ];
	$self->{left} = [ map { { %$_, slack => "$_->{slack}X", email => "old.$_->{email}" } } @{ $world->{staff} }[ 3 .. 5 ] ];
	return $self;
}

sub random { my ($self, $n) = @_; return $self->{world}{random}->($n) }

sub event
{
	my ($self, $collection, $key, $time, $doc, $meta) = @_;
	my $seen = $time < START ? START + 1000 * $self->{serial}++ : $time;
	my $event = { key => $key, time => $seen, doc => $doc, meta => $meta };

	push @{ $self->{events}{$collection} }, $event;
	return $event;
}

# Staff, guests of customers, people who left, bots.  A full refresh sends everybody again.
sub users
{
	my ($self) = @_;

	foreach my $time (START, at(6, 7, 3))
	{
		$self->user($_, $time, TEAM) foreach @{ $self->{world}{staff} };
		$self->user($_, $time, $_->{team}, is_restricted => TRUE) foreach @{ $self->{guests} };
		$self->user($_, $time, TEAM, deleted => TRUE) foreach @{ $self->{left} };
		$self->bot($_, $time) foreach 0 .. 2;
		$self->event('users', 'USLACKBOT', $time, { id => 'USLACKBOT', team_id => TEAM, name => 'slackbot', deleted => FALSE,
			real_name => 'Slackbot', is_bot => FALSE, is_app_user => FALSE, updated => num(0),
			profile => { real_name => 'Slackbot', display_name => 'Slackbot', first_name => 'slackbot', last_name => '' } });
	}
	$self->{humans} = @{ $self->{world}{staff} } + @{ $self->{guests} } + @{ $self->{left} };
	$self->{ledger}->value('slack_raw.users', { id => $self->{left}[0]{slack} }, 'deleted', 'true');
	return;
}

# Deactivated users have no real_name and no time zone of their own.
sub user
{
	my ($self, $person, $time, $team, %more) = @_;
	my $name = Sample::World::name($person);
	my %doc = (id => $person->{slack}, team_id => $team, name => $person->{local}, real_name => $name, deleted => FALSE,
		color => '9f69e7', tz => 'Europe/Oslo', tz_label => 'Central European Time', tz_offset => num(3600), is_admin => FALSE,
		is_bot => FALSE, is_app_user => FALSE, is_restricted => FALSE, updated => num(int(at(5, 1) / SECOND) + $person->{number}),
		profile => { email => $person->{number} % 5 ? $person->{email} : uc $person->{email}, real_name => $name,
			first_name => $person->{first}, last_name => $person->{last}, display_name => lc $person->{first},
			title => $person->{title}, phone => $person->{phone}, team => $team }, %more);

	delete @doc{qw(real_name tz tz_label tz_offset)} if $more{deleted};
	$self->event('users', $person->{slack}, $time, \%doc);
	return;
}

sub bot
{
	my ($self, $number, $time) = @_;
	my $name = (qw(deploybot statusbot calendar))[$number];
	my $id = sprintf('U05BOT%03d', $number);

	$self->event('users', $id, $time, { id => $id, team_id => TEAM, name => $name, real_name => $name, deleted => FALSE,
		is_bot => TRUE, is_app_user => $number == 2 ? TRUE : FALSE, updated => num(int(at(2, 1) / SECOND)),
		profile => { real_name => $name, display_name => $name, bot_id => "B05BOT$number" } });
	return;
}

sub channels
{
	my ($self) = @_;
	my @staff = @{ $self->{world}{staff} };

	foreach my $number (0 .. $#channel)
	{
		my $external = $channel[$number] =~ /^ext-/;
		my $id = sprintf('C06CHAN%03d', $number);
		my @people = $number < 2 ? @staff : $self->{world}->some(12, @staff);
		my @guests = $external ? @{ $self->{guests} }[ grep { $_ % 2 == $number % 2 } 0 .. $#{ $self->{guests} } ] : ();
		$guests[0] = $self->{guests}[0] if $channel[$number] eq 'ext-borealis';
		push @{ $self->{channels} }, { id => $id, name => $channel[$number], people => [ @people, @guests ] };
		$self->channel($id, $number, $external, $_, @people + @guests) foreach START, at(6, 10);
		$self->member($id, $_->{slack}, START) foreach @people, @guests;
	}
	my ($id, $gone) = ($self->{channels}[3]{id}, $self->{channels}[3]{people}[0]{slack});
	$self->member($id, $gone, at(6, 25), { op => 'd' });
	$self->{ledger}->value('slack_raw.channel_members', { channel_id => $id, member_id => $gone }, 'is_deleted', 'true');
	return;
}

sub channel
{
	my ($self, $id, $number, $external, $time, $members) = @_;
	my $topic = { value => "About $channel[$number]", creator => 'U05ACME0000', last_set => num(int(at(1, 3) / SECOND)) };

	$self->event('channels', $id, $time, { id => $id, name => $channel[$number], name_normalized => $channel[$number],
		is_channel => TRUE, is_private => $channel[$number] =~ /^(board|finance)$/ ? TRUE : FALSE,
		is_archived => $channel[$number] eq 'hiring' ? TRUE : FALSE, is_general => $number ? FALSE : TRUE,
		is_ext_shared => $external ? TRUE : FALSE, is_shared => $external ? TRUE : FALSE, created => num(int(at(1, 3) / SECOND)),
		creator => 'U05ACME0000', updated => num(millis($time)), num_members => num($members), topic => $topic,
		purpose => { %$topic, value => '' }, previous_names => [] });
	return;
}

sub member
{
	my ($self, $channel, $member, $time, $meta) = @_;

	$self->event('channel_members', "$channel $member", $time, { channel_id => $channel, member_id => $member }, $meta);
	return;
}

sub messages
{
	my ($self, $count) = @_;

	foreach my $number (0 .. $count - 1)
	{
		my $channel = $number % 30 == 0 ? (grep { $_->{name} eq 'ext-borealis' } @{ $self->{channels} })[0]
		  : $self->{world}->any($self->{channels});
		my $time = at(1, 8, 7) + $self->random(172 * 24 * 60) * MINUTE + $number;
		my $author = $number % 30 == 0 ? $self->{guests}[0] : $self->{world}->any($channel->{people});
		$self->message($number, $channel, $author, $time);
	}
	return;
}

sub ts { my ($time) = @_; return sprintf('%d.%06d', $time / SECOND, $time % SECOND) }

sub message
{
	my ($self, $number, $channel, $author, $time) = @_;
	my $doc = $self->message_document($channel, $author, $time, $self->text($number, $channel));
	my $more = $doc;

	if ($number % 23 == 7)
	{
		$doc->{subtype} = 'channel_join';
		$doc->{text} = "<\@$author->{slack}> has joined the channel";
	}
	elsif ($number % 29 == 11)
	{
		delete @$doc{qw(user client_msg_id)};
		@$doc{qw(subtype bot_id username)} = ('bot_message', 'B05BOT0', 'Deploybot');
	}
	elsif ($number % 4 == 0)
	{
		$more = $self->thread($doc, $channel, $time, 1 + $self->random(4));
	}
	$self->both($more, $time);

	# Reactions show when the channel's window is read again.
	return if $number % 10;
	$self->note($self->event('channel_messages', "$channel->{id} $doc->{ts}", ($time < START ? START : $time) + 6 * HOUR,
		{ %$more, reactions => [ { name => 'tada', count => num(1), users => [ $channel->{people}[0]{slack} ] } ] }));
	return;
}

sub message_document
{
	my ($self, $channel, $author, $time, $text) = @_;
	my $ts = ts($time);

	return { channel_id => $channel->{id}, ts => $ts, float_ts => num($ts), type => 'message', user => $author->{slack},
		text => $text, team => $author->{team} || TEAM, client_msg_id => 'client-' . ($ts =~ tr/.//dr) };
}

# Plain text, mentions, channel names, links, and an emoji written as two escapes.
sub text
{
	my ($self, $number, $channel) = @_;
	my $line = $self->{world}->any(\@line) =~ s/&/&amp;/r =~ s/>/&gt;/r;
	my $other = $self->{world}->any($channel->{people})->{slack};
	my $kind = $number % 12;

	return "<\@$other> $line" if $kind == 1;
	return "$line See <https://docs.acme-robotics.example/cell?id=$number&amp;v=2|the manual>." if $kind == 2;
	return "$line More in <#$self->{channels}[1]{id}|sales> and <https://status.example>" if $kind == 3;
	return literal('"Release is out \ud83d\ude80 \u00e9t\u00e9"') if $kind == 5;
	return $line;
}

# What threads sends lacks the members that only channel_messages has.
sub both
{
	my ($self, $doc, $time) = @_;
	my $key = "$doc->{channel_id} $doc->{ts}";
	my $permalink = "https://acme-robotics.slack.example/archives/$doc->{channel_id}/p" . ($doc->{ts} =~ tr/.//dr);

	$self->note($self->event('channel_messages', $key, $time + 5 * MINUTE,
		{ %$doc, permalink => $permalink, blocks => [ { type => 'rich_text', block_id => "b$doc->{ts}" } ] }));
	$self->note($self->event('threads', $key, $time + 35 * MINUTE, $doc)) if !$doc->{bot_id};
	return;
}

# A parent with its replies; the last reply is also broadcast to the channel now and then.
sub thread
{
	my ($self, $parent, $channel, $time, $replies) = @_;
	my @users;

	foreach my $reply (1 .. $replies)
	{
		my $author = $self->{world}->any($channel->{people});
		my $at = $time + $reply * 7 * MINUTE + $reply;
		my $doc = $self->message_document($channel, $author, $at, $self->text($reply, $channel));
		@$doc{qw(thread_ts parent_user_id)} = @$parent{qw(ts user)};
		push @users, $author->{slack};
		my $broadcast = $reply == 4;
		$doc->{subtype} = 'thread_broadcast' if $broadcast;
		$self->both($doc, $at) if $broadcast;
		$self->note($self->event('threads', "$channel->{id} $doc->{ts}", $at + HOUR, $doc)) if !$broadcast;
		$parent->{latest_reply} = $doc->{ts};
	}
	return { %$parent, thread_ts => $parent->{ts}, reply_count => num($replies), reply_users => \@users,
		reply_users_count => num(scalar @users) };
}

# Keeps which messages belong into a timeline.
sub note
{
	my ($self, $event) = @_;
	my $subtype = $event->{doc}{subtype} || '';

	$self->{shown}{ $event->{key} } = 1 if $subtype =~ /^(|thread_broadcast|bot_message)$/;
	return;
}

1;
