# Random changes of the raw tables, as SQL: few ids and few addresses, so that rows come, go, come back and meet.
#
#   my $changes = Sophia::RawChanges->new(seed => 7);
#   $node->safe_psql('postgres', $changes->statements(20));     # the same statements for the same seed
package Sophia::RawChanges;
use strict;
use warnings;
use POSIX ();

my @domains = qw(own.example acme.example initech.example gmail.com hooli.example);
my @names = ('Ann Lee', 'Bob Ray', 'Lee, Ann', 'Cy', 'Dot Dee', 'unknown', '');
my @kinds = (
	[ contact => 8 ], [ merge => 4 ], [ unmerge => 2 ], [ company => 3 ], [ owner => 1 ], [ engagement => 6 ], [ gong_user => 2 ],
	[ call => 4 ], [ parties => 5 ], [ party => 2 ], [ transcript => 2 ], [ slack_user => 4 ], [ channel => 1 ], [ message => 6 ],
	[ remove => 5 ], [ tombstone => 3 ]);

sub new
{
	my ($class, %p) = @_;
	my $self = bless { state => $p{seed} // 1 }, $class;
	$self->{kinds} = [ map { ($_->[0]) x $_->[1] } @kinds ];
	return $self;
}

# The same numbers on every platform (a linear congruential generator).
sub below
{
	my ($self, $n) = @_;
	$self->{state} = ($self->{state} * 1103515245 + 12345) % 2147483648;
	return int($self->{state} / 65536) % $n;
}

sub pick { my ($self, @list) = @_; return $list[ $self->below(scalar @list) ] }
sub maybe { my ($self, $value) = @_; return $self->below(4) ? $value : undef }

sub quote
{
	my ($value) = @_;
	return 'NULL' if !defined $value;
	return $value =~ s/'/''/gr =~ s/^(.*)$/'$1'/sr;
}

sub list { return @_ ? '{' . join(',', map { qq("$_") } @_) . '}' : undef }
sub some { my ($self, $most, $make) = @_; return map { $make->() } 1 .. $self->below($most + 1) }
sub email { my ($self) = @_; return 'p' . $self->below(14) . '@' . $self->pick(@domains) }
sub when { my ($self) = @_; return sprintf '2024-%02d-%02d %02d:00+00', 1 + $self->below(12), 1 + $self->below(28), $self->below(24) }

# INSERT … ON CONFLICT DO UPDATE, the first columns being the key.
sub upsert
{
	my ($table, $keys, %row) = @_;
	my @columns = sort keys %row;
	my $set = join ', ', map { "$_ = excluded.$_" } grep { my $c = $_; !grep { $_ eq $c } @$keys } @columns;
	return sprintf 'INSERT INTO %s (%s) VALUES (%s) ON CONFLICT (%s) DO UPDATE SET %s', $table, join(', ', @columns),
	  join(', ', map { quote($row{$_}) } @columns), join(', ', @$keys), $set;
}

sub id_of
{
	my ($self, $table) = @_;
	my %most = (
		'hubspot_raw.contacts' => 25, 'hubspot_raw.companies' => 6, 'hubspot_raw.owners' => 3, 'hubspot_raw.engagements' => 25,
		'gong_raw.users' => 4, 'gong_raw.calls' => 8);
	return 1 + $self->below($most{$table});
}

sub contact
{
	my ($self) = @_;
	my $name = $self->pick(@names);
	return upsert('hubspot_raw.contacts', ['id'], id => $self->id_of('hubspot_raw.contacts'), email => $self->maybe($self->email),
		additional_emails => list($self->some(2, sub { $self->email })), firstname => $self->maybe($name),
		lastname => $self->maybe($self->pick(@names)), company => $self->maybe('Typed'), phone => $self->maybe('+1415555010' . $self->below(10)),
		associated_company_id => $self->maybe($self->id_of('hubspot_raw.companies')), owner_id => $self->maybe($self->below(4)),
		createdate => $self->maybe($self->when), archived => $self->pick(undef, 'f', 'f', 't'), is_deleted => 'f',
		doc => sprintf('{"n": %d}', $self->below(5)));
}

sub merge
{
	my ($self) = @_;
	my $ids = list($self->some(3, sub { 1 + $self->below(28) }));
	my $calculated = list($self->some(1, sub { (1 + $self->below(28)) . ':1700000000000' }));
	return sprintf 'UPDATE hubspot_raw.contacts SET merged_object_ids = %s, calculated_merged_vids = %s WHERE id = %s', quote($ids),
	  quote($calculated), quote($self->id_of('hubspot_raw.contacts'));
}

sub unmerge { my ($self) = @_; return 'UPDATE hubspot_raw.contacts SET merged_object_ids = NULL, calculated_merged_vids = NULL WHERE id = ' . quote($self->id_of('hubspot_raw.contacts')) }

sub company
{
	my ($self) = @_;
	return upsert('hubspot_raw.companies', ['id'], id => $self->id_of('hubspot_raw.companies'), name => $self->maybe('Company ' . $self->below(5)),
		domain => $self->maybe($self->pick('', 'www.') . $self->pick(@domains)), createdate => $self->maybe($self->when), is_deleted => 'f', doc => '{}');
}

sub owner
{
	my ($self) = @_;
	return upsert('hubspot_raw.owners', ['id'], id => $self->id_of('hubspot_raw.owners'), email => 'p' . $self->below(14) . '@' . $self->pick('own.example', 'own.example', 'own.example', 'hooli.example'),
		first_name => $self->maybe('Olga'), doc => '{}');
}

sub engagement
{
	my ($self) = @_;
	return upsert('hubspot_raw.engagements', ['id'], id => $self->id_of('hubspot_raw.engagements'),
		engagement_type => $self->pick(qw(NOTE CALL MEETING EMAIL INCOMING_EMAIL TASK)), occurred_at => $self->maybe($self->when),
		contact_ids => list($self->some(3, sub { 1 + $self->below(28) })), owner_id => $self->maybe($self->below(4)), from_email => $self->maybe($self->email),
		to_emails => list($self->some(2, sub { $self->email })), thread_id => $self->maybe('t' . $self->below(4)), ical_uid => $self->maybe('cal' . $self->below(5)),
		subject => 'About ' . $self->below(3), is_deleted => 'f', doc => '{}');
}

sub gong_user
{
	my ($self) = @_;
	return upsert('gong_raw.users', ['id'], id => 'u' . $self->id_of('gong_raw.users'), email => 'p' . $self->below(14) . '@own.example',
		email_aliases => list($self->some(1, sub { 'p' . $self->below(14) . '@' . $self->pick('own.example', 'gmail.com') })),
		first_name => 'Gus', last_name => 'No ' . $self->below(3), active => $self->pick('t', 't', 'f'), is_deleted => 'f', doc => '{}');
}

sub call
{
	my ($self) = @_;
	return upsert('gong_raw.calls', ['id'], id => 'c' . $self->id_of('gong_raw.calls'), started => $self->maybe($self->when), scheduled => $self->maybe($self->when),
		primary_user_id => $self->maybe('u' . $self->id_of('gong_raw.users')), is_private => $self->pick(undef, 'f', 't'),
		calendar_event_id => $self->maybe('cal' . $self->below(5)), title => 'Call ' . $self->below(3), is_deleted => 'f', doc => '{}');
}

sub party
{
	my ($self, $call, $ordinal) = @_;
	my $email = $self->maybe($self->email);
	$call //= 'c' . $self->id_of('gong_raw.calls');
	$ordinal //= 1 + $self->below(4);
	return upsert('gong_raw.call_parties', [qw(call_id party_id)], call_id => $call, party_id => "p$ordinal", ordinal => $ordinal,
		speaker_id => $self->maybe("s$ordinal"), user_id => $self->pick(undef, undef, 'u' . $self->id_of('gong_raw.users')), email => $email,
		email_norm => $self->maybe($email), name => $self->maybe($self->pick(@names)), phone => $self->maybe('+49170123456' . $self->below(10)),
		affiliation => $self->pick(undef, 'External', 'Internal', 'Unknown'), hubspot_contact_id => $self->pick(undef, undef, 1 + $self->below(28)),
		is_deleted => 'f', doc => sprintf('{"n": %d}', $self->below(5)));
}

sub parties
{
	my ($self) = @_;
	my $call = 'c' . $self->id_of('gong_raw.calls');
	return ("DELETE FROM gong_raw.call_parties WHERE call_id = '$call'", map { $self->party($call, $_) } 1 .. 1 + $self->below(4));
}

sub transcript
{
	my ($self) = @_;
	return upsert('gong_raw.call_transcripts', [qw(call_id seq)], call_id => 'c' . $self->id_of('gong_raw.calls'), seq => 1 + $self->below(3),
		speaker_id => 's' . (1 + $self->below(4)), start_ms => 0, end_ms => 1000 * $self->below(60), text => 'said ' . $self->below(9), doc => '{}');
}

sub slack_user
{
	my ($self) = @_;
	return upsert('slack_raw.users', ['id'], id => 'U' . $self->below(8), team_id => $self->pick('T1', 'T1', 'T2', undef), real_name => $self->maybe($self->pick(@names)),
		name => 'nick' . $self->below(3), email => $self->maybe($self->email), is_bot => $self->pick(undef, 'f', 'f', 't'), is_restricted => $self->pick(undef, 'f', 't'),
		deleted => $self->pick(undef, 'f', 't'), is_deleted => 'f', doc => '{}');
}

sub channel
{
	my ($self) = @_;
	return upsert('slack_raw.channels', ['id'], id => 'C' . $self->below(3), name => 'room' . $self->below(4), is_private => $self->pick('f', 't'),
		is_ext_shared => $self->pick('f', 't'), doc => '{}');
}

sub message
{
	my ($self) = @_;
	my $at = 1717200000 + 86400 * $self->below(12);
	return upsert('slack_raw.messages', [qw(channel ts)], channel => 'C' . $self->below(3), ts => "$at.000100", user_id => $self->maybe('U' . $self->below(8)),
		sent_at => POSIX::strftime('%Y-%m-%d %H:%M:%S+00', gmtime $at), text => 'hi <@U' . $self->below(8) . '> in <#C' . $self->below(3) . '>',
		thread_ts => $self->pick(undef, (1717200000 + 86400 * $self->below(12)) . '.000100'), subtype => $self->pick(undef, undef, 'channel_join', 'bot_message'),
		is_deleted => 'f', doc => '{}');
}

# Rows that go, and rows that are marked as deleted, of any table.
sub _some_rows
{
	my ($self) = @_;
	my $table = $self->pick('hubspot_raw.contacts', 'hubspot_raw.companies', 'hubspot_raw.engagements', 'hubspot_raw.owners', 'gong_raw.users',
		'gong_raw.calls', 'gong_raw.call_parties', 'gong_raw.call_transcripts', 'slack_raw.users', 'slack_raw.channels', 'slack_raw.messages');
	my $hash = $table =~ /call_/ ? "call_id || 'x' || ctid::text" : $table =~ /messages/ ? 'channel || ts' : 'id';
	return ($table, sprintf 'abs(hashtext(%s)) %% 12 = %d', $hash, $self->below(12));
}

sub remove { my ($self) = @_; my ($table, $which) = $self->_some_rows; return "DELETE FROM $table WHERE $which" }
sub tombstone { my ($self) = @_; my ($table, $which) = $self->_some_rows; return "UPDATE $table SET is_deleted = true WHERE $which" }

# So many changes, a transaction of several statements each.
sub statements
{
	my ($self, $n) = @_;
	my @changes;

	for (1 .. $n)
	{
		my $kind = $self->pick(@{ $self->{kinds} });
		push @changes, $self->$kind;
	}
	return join ";\n", @changes, '';
}

1;
