# Contacts of HubSpot as its capture writes them, as the content of one journal: documents of about 800 bytes, ids that
# grow, e-mail addresses in random order, one producer, transactions of many documents with their acknowledgement.
# The same seed gives the same values, whatever the clock.
package Bench::Contacts;
use strict;
use warnings;
use Sophia::Documents;

use constant PRODUCER => '0b0e0c0d0a01';
use constant FIRST_ID => 10_000_000_001;
use constant START => 1_780_000_000;    # Unix seconds

my @first = qw(Ada Bela Chidi Dana Emil Farah Goran Hana Ivo Jun Kemal Lena Mateo Nadia Omar Petra);
my @last = qw(Albrecht Boateng Castillo Dvorak Eriksen Fontaine Grimaldi Horvat Ito Jansen Kovacs Lindqvist Moreau Novak);
my @title = ('Buyer', 'Head of Production', 'Maintenance Engineer', 'Plant Manager', 'VP Operations', 'Controller');
my @stage = qw(lead subscriber opportunity customer evangelist marketingqualifiedlead);
my @state = qw(NEW OPEN IN_PROGRESS CONNECTED UNQUALIFIED);

# A source of contacts.  Parameters: transaction, documents in one; seed (default 1); days, how much later than others
# its documents are published (default 0).  Only one source can be in use at a time.
sub new
{
	my ($class, %p) = @_;
	my $clock = Sophia::Documents::clock_of(START + 86_400 * ($p{days} // 0));

	srand($p{seed} // 1);
	return bless {
		transaction => $p{transaction},
		producer => Sophia::Documents->producer(PRODUCER, $clock),
		id => FIRST_ID,
		documents => 0,
		bytes => 0
	}, $class;
}

# How many documents were made, and their bytes without the newlines.
sub documents { return $_[0]{documents} }
sub bytes { return $_[0]{bytes} }

# The lines of one transaction of at most so many documents, the acknowledgement included.
sub transaction
{
	my ($self, $at_most) = @_;
	my $n = $at_most < $self->{transaction} ? $at_most : $self->{transaction};
	my $lines = '';

	$lines .= $self->{producer}->raw($self->_document($self->{id}++)) for 1 .. $n;
	$self->{documents} += $n;
	$self->{bytes} += length($lines) - $n;
	return $lines . $self->{producer}->ack;
}

# One of its arguments.
sub any { return $_[int rand @_] }

# The text of the document with that id.
sub _document
{
	my ($self, $id) = @_;
	my ($first, $last) = (any(@first), any(@last));
	my $company = 1 + int rand 50_000;
	my $serial = int rand 1_000_000_000;
	my ($created, $updated) = map { sprintf '2026-%02d-%02dT%02d:%02d:%02d.%03dZ', 1 + rand 12, 1 + rand 28, rand 24,
		rand 60, rand 60, rand 1000 } 1 .. 2;
	my $mail = sprintf '%s.%s.%06x', lc $first, lc $last, rand 0x1000000;
	my $owner = 70_000_000 + int rand 500;

	return qq({"_meta":{"op":"u","uuid":"%s"},"archived":false,"companies":[$company],"createdAt":"$created","id":$id,)
	  . qq("properties":{"associatedcompanyid":"$company","company":"Company no $company","createdate":"$created",)
	  . qq("email":"$mail\@example.com","firstname":"$first","hs_additional_emails":null,)
	  . qq("hs_calculated_phone_number":"+49$serial",)
	  . qq("hs_lead_status":") . any(@state) . qq(","hs_merged_object_ids":null,)
	  . qq("hs_object_id":"$id","hubspot_owner_id":"$owner","jobtitle":") . any(@title)
	  . qq(","lastmodifieddate":"$updated","lastname":"$last","lifecyclestage":") . any(@stage)
	  . qq(","mobilephone":null,"phone":"0049 $serial"},"updatedAt":"$updated",)
	  . qq("url":"https://app.hubspot.com/contacts/4400123/record/0-1/$id"});
}

1;
