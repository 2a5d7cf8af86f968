# Companies of HubSpot, in all else as Bench::Contacts.
package Bench::Companies;
use strict;
use warnings;
use parent -norequire, 'Bench::Contacts';
use Bench::Contacts;

my @industry = qw(MACHINERY AUTOMOTIVE CHEMICALS FOOD_PRODUCTION LOGISTICS PAPER PLASTICS TEXTILES);
my @city = ('Aarhus', 'Bilbao', 'Brno', 'Gdansk', 'Graz', 'Lille', 'Porto', 'Turin', 'Uppsala', 'Utrecht');

sub _document
{
	my ($self, $id) = @_;
	my $any = \&Bench::Contacts::any;
	my ($created, $updated) = map { sprintf '2026-%02d-%02dT%02d:%02d:%02d.%03dZ', 1 + rand 12, 1 + rand 28, rand 24,
		rand 60, rand 60, rand 1000 } 1 .. 2;
	my ($serial, $city, $owner) = (int rand 1_000_000_000, $any->(@city), 70_000_000 + int rand 500);
	my $domain = sprintf 'works-%06x.example.com', rand 0x1000000;

	return qq({"_meta":{"op":"u","uuid":"%s"},"archived":false,"createdAt":"$created","id":$id,"properties":{)
	  . qq("annualrevenue":"$serial","city":"$city","country":"$city region","createdate":"$created","domain":"$domain",)
	  . qq("description":"Works no $serial of $city, founded by people of $city and run from there ever since",)
	  . qq("hs_lastmodifieddate":"$updated","hs_num_open_deals":"3","hs_object_id":"$id","hubspot_owner_id":"$owner",)
	  . qq("industry":") . $any->(@industry) . qq(","lifecyclestage":"customer","name":"Works no $serial",)
	  . qq("numberofemployees":"250","phone":"0049 $serial","website":"https://$domain/"},"updatedAt":"$updated",)
	  . qq("url":"https://app.hubspot.com/contacts/4400123/record/0-2/$id"});
}

1;
