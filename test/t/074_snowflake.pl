# Providers of kind snowflake: tokens, chats, embeddings, errors.
use strict;
use warnings;
use File::Temp ();
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Cortex;
use Sophia::Secrets;
use Test::More;

my $folder = File::Temp->newdir('sophia_keys_XXXXXX', TMPDIR => 1);
for my $key ('good', 'other')
{
	system("openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $folder/$key.pem 2>/dev/null || openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $folder/$key.pem 2>/dev/null");
}
system("openssl pkey -in $folder/good.pem -pubout -out $folder/public.pem");
my $print = `openssl pkey -pubin -in $folder/public.pem -outform DER | openssl dgst -sha256 -binary | openssl base64 -A`;
my $cortex = Sophia::Cortex->new(account => 'MYORG-ACC', user => 'ANN', public => "$folder/public.pem", fingerprint => "SHA256:$print", token => 'pat-of-ann');
my $secrets = Sophia::Secrets->new;
$secrets->write('key', PostgreSQL::Test::Utils::slurp_file("$folder/good.pem"));
$secrets->write('other', PostgreSQL::Test::Utils::slurp_file("$folder/other.pem"));
$secrets->write('pat', 'pat-of-ann');
my $node = Sophia::Cluster->create('main', secrets => $secrets->folder);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub error_of
{
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $err;
}

$node->wait_for_worker('gateway');
my $address = $cortex->address;
sql("SELECT sophia.create_provider('snow', 'snowflake', '$address', 'file:key', '{\"user\": \"ann\", \"account\": \"myorg-acc.eu-west-1\"}');
SELECT sophia.create_provider('snow_pat', 'snowflake', '$address', 'file:pat', '{\"auth\": \"token\"}');
SELECT sophia.create_provider('snow_oauth', 'snowflake', '$address', 'file:pat', '{\"auth\": \"oauth\"}');
SELECT sophia.create_provider('snow_other', 'snowflake', '$address', 'file:other', '{\"user\": \"ann\", \"account\": \"myorg-acc\"}');
SELECT sophia.create_provider('snow_none', 'snowflake', '$address', 'file:pat', '{\"user\": \"ann\", \"account\": \"myorg-acc\"}');
SELECT sophia.create_model(m, 'snow' || m, 'mistral-large2') FROM unnest('{\"\",_pat,_oauth,_other,_none}'::text[]) AS m WHERE m <> '';
SELECT sophia.create_model('chat', 'snow', 'mistral-large2');
SELECT sophia.create_model('embed', 'snow', 'snowflake-arctic-embed-m');");

is(sql("SELECT sophia.complete('chat', 'hello')"), 'echo: hello', 'a chat by a key pair');
is(($cortex->requests)[-1]{type}, 'KEYPAIR_JWT', 'which the request names');
is(sql("SELECT sophia.complete('_pat', 'hello')"), 'echo: hello', 'by a programmatic access token');
is(($cortex->requests)[-1]{type}, 'PROGRAMMATIC_ACCESS_TOKEN', 'which the request names');
is(sql("SELECT sophia.complete('_oauth', 'hello')"), 'echo: hello', 'by OAuth');
is(($cortex->requests)[-1]{type}, 'OAUTH', 'which the request names');
is(sql("SELECT sophia.embed_text('abc', 'embed')"), '{3,0.5}', 'an embedding');
is(sql("SELECT string_agg(embedding::text, ' ' ORDER BY ord) FROM sophia.embed_text(ARRAY['a', 'bb', 'ccc'], 'embed')"), '{1,0.5} {2,0.5} {3,0.5}', 'many, by their index');
is_deeply(($cortex->requests)[-1]{body}, { model => 'snowflake-arctic-embed-m', text => [ 'a', 'bb', 'ccc' ] }, 'travel together');
is(sql("SELECT string_agg(coalesce(value ->> 0, error_code), ' ' ORDER BY ord), sum(tokens_in) FROM sophia.try_embed_text(ARRAY['a', '#refuse', 'ccc'], 'embed')"), '1 22023 3|10', 'a pack that is refused is halved');
is(sql("SELECT ok, message ~ ': mistral-large2\$' FROM sophia.check_provider('snow')"), 't|t', 'the provider is tried');
my $error = error_of("SELECT sophia.complete('_other', 'x')");
like($error, qr/28000: model "_other" of provider "snow_other": HTTP status 401: bad signature: \*+/, 'a key that is not the account\'s is refused');
unlike($error, qr/eyJ/, 'and the token is not told');
like(error_of("SELECT sophia.complete('_none', 'x')"), qr/28000: .*no unencrypted RSA private key/, 'a secret that is no key');
like(error_of("SELECT sophia.complete('chat', '#status=500')"), qr/58000: .*HTTP status 500: as asked/, 'a fault of the provider');
is(sql("SELECT sophia.sentiment('x', 'chat')"), '0.75', 'a function with a task, by a key pair, too');
like(error_of("SELECT sophia.create_provider('a', 'snowflake', '$address', 'file:key')"), qr/22023: provider option "user" is missing/, 'a key pair needs a user');
like(error_of("SELECT sophia.create_provider('a', 'snowflake', '$address')"), qr/22023: a provider of kind "snowflake" needs a secret/, 'and a secret');
like(error_of("SELECT sophia.create_provider('a', 'snowflake', '$address', 'file:key', '{\"auth\": \"x\"}')"), qr/22023: invalid value of provider option "auth"/, 'unknown ways are refused');

done_testing();
