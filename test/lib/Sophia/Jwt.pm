# Tokens as Estuary's control plane hands them out for a broker: HS256 over the claims of a Gazette authorization
# (go.gazette.dev/core/auth).
package Sophia::Jwt;
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256);
use JSON::PP ();
use MIME::Base64 qw(encode_base64url);

# Capability bits of a broker.
use constant { LIST => 2, APPLY => 4, READ => 8, APPEND => 16 };

# A signed token.  Parameters:
#   key         the secret bytes (not base64)
#   cap         capability bits (default LIST | READ)
#   collection  restricts it to the journals of this collection
#   prefix      and to journal names that begin so
#   lifetime    seconds from now to exp (default 3600; negative: expired)
#   claims      a hash that overrides claims
sub mint
{
	my (%p) = @_;
	my $now = time;
	my @labels;
	push @labels, { name => 'estuary.dev/collection', value => $p{collection} } if defined $p{collection};
	push @labels, { name => 'name', value => $p{prefix}, prefix => JSON::PP::true } if defined $p{prefix};
	my %claims = (
		cap => $p{cap} // LIST | READ,
		sel => { include => { labels => \@labels } },
		iat => $now - 1,
		exp => $now + ($p{lifetime} // 3600),
		iss => 'local.test',
		sub => 'sophia_stack',
		%{ $p{claims} // {} });
	my $json = JSON::PP->new->canonical->utf8;
	my $signed = join '.', map { encode_base64url($json->encode($_)) } { alg => 'HS256', typ => 'JWT' }, \%claims;
	return $signed . '.' . encode_base64url(hmac_sha256($signed, $p{key}));
}

1;
