# Task functions of a Snowflake account by its SQL API: what is sent, waited for, read, tried again and cancelled.
use strict;
use warnings;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Cortex;
use Sophia::Secrets;
use Test::More;

my $cortex = Sophia::Cortex->new(account => 'MYORG-ACC', user => 'ANN', public => '', fingerprint => '', token => 'pat-of-ann');
my $secrets = Sophia::Secrets->new;
$secrets->write('pat', 'pat-of-ann');
$secrets->write('wrong', 'pat-of-bob');
my $node = Sophia::Cluster->create('main', secrets => $secrets->folder);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub error_of
{
	my (undef, undef, $error) = $node->psql('postgres', $_[0], extra_params => ['-v', 'VERBOSITY=verbose']);
	return $error;
}

# The requests with that method and path since the last call.
my $seen = 0;
sub new_requests
{
	my ($method, $path) = @_;
	my @all = $cortex->requests;
	my @new = @all[ $seen .. $#all ];
	$seen = @all;
	return grep { $_->{method} eq $method && $_->{path} =~ $path } @new;
}

sub waited_for
{
	for (1 .. 200) { return 1 if $_[0]->(); select undef, undef, undef, 0.05 }
	return 0;
}

$node->wait_for_worker('gateway');
my $address = $cortex->address;
sql(<<"SQL");
SELECT sophia.create_provider('snow', 'snowflake', '$address', 'file:pat', '{"auth": "token", "warehouse": "WH", "role": "ANALYST", "timeout": 20}');
SELECT sophia.create_provider('hasty', 'snowflake', '$address', 'file:pat', '{"auth": "token", "timeout": 1}');
SELECT sophia.create_provider('stranger', 'snowflake', '$address', 'file:wrong', '{"auth": "token"}');
SELECT sophia.create_model('cortex', 'snow', 'mistral-large2', '{"price": {"in": 1, "out": 2}, "limits": {"items": 4}}');
SELECT sophia.create_model('vectors', 'snow', 'snowflake-arctic-embed-m');
SELECT sophia.create_model('hasty', 'hasty', 'mistral-large2');
SELECT sophia.create_model('stranger', 'stranger', 'mistral-large2');
SELECT sophia.set_default_model('complete', 'cortex');
SQL

# ---- every function ----

for (
	[ "sentiment('good')", '0.75' ],
	[ "classify_sentiment('so so')", 'mixed' ],
	[ "classify_text('b', ARRAY['x', 'y \"z\"'])", 'y "z"' ],
	[ "translate('bonjour', 'fr', 'de')", 'fr>de: bonjour' ],
	[ "translate('bonjour', '', 'de')", '>de: bonjour' ],
	[ "extract_answer('the document', 'what?')", '[{"score": 0.5, "answer": "what? the document"}]' ],
	[ "summarize('long')", 'short: long' ],
	[ "summarize_detail('long')", '("short: long",2.75,1,3)' ],
	[ "ai_filter('sunny', 'Is it')", 't' ],
	[ "ai_filter('sunny?', 'Is it')", 'f' ],
	[ "count_tokens('cortex', 'one two')", '3' ],
	[ "summarize_agg(t) FROM (VALUES ('a'), ('b')) AS v (t)", "short: a\n\nb" ],
	[ "sentiment(ARRAY['a', NULL, 'b'])", '{0.75,NULL,0.75}' ],
	[ "translate(ARRAY['a', 'b', 'a'], 'fr', 'de')", '{"fr>de: a","fr>de: b","fr>de: a"}' ],
	[ "count_tokens('cortex', ARRAY['one two', 'x'])", '{3,2}' ],
	[ "extract_answer('#value=Paris', 'where?')", '[{"score": null, "answer": "Paris"}]' ],
	[ "extract_answer('#value=42', 'how many?')", '[{"score": null, "answer": "42"}]' ],
	[ "similarity('abc', 'abc', 'vectors')", '1' ],
	[ "complete_json('a', '{\"type\": \"object\"}', 'cortex')", '{"a": 1}' ],
	[ "complete('cortex', 'hello')", 'echo: hello' ],
	[ "complete('cortex', 'hé #events')", "echo: hé #events" ])
{
	is(sql("SELECT sophia.$_->[0]"), $_->[1], $_->[0]);
}

# ---- what is sent ----

new_requests('POST', qr/./);
sql(q{SELECT sophia.translate('it''s "x" ? {to_lang}', 'fr', 'de')});
my @posts = new_requests('POST', qr{^/api/v2/statements\?});
is(scalar @posts, 1, 'a statement is sent once');
my $body = $posts[0]{body};
is($body->{statement}, 'SELECT c.index, c.result:value::string, c.result:error::string FROM (SELECT f.index, AI_TRANSLATE(f.value::string, ?, ?, return_error_details => TRUE) AS result FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS f) AS c ORDER BY c.index',
	'with question marks for all that comes from users');
is_deeply($body->{bindings}, { 1 => { type => 'TEXT', value => 'fr' }, 2 => { type => 'TEXT', value => 'de' }, 3 => { type => 'TEXT', value => '["it\'s \"x\" ? {to_lang}"]' } }, 'and bindings for that');
is_deeply([ @$body{qw(warehouse role timeout)}, $body->{parameters}{query_tag} ], [ 'WH', 'ANALYST', 20, 'sophia_stack' ], 'in the warehouse and role of the provider');
sql("SELECT sophia.ai_filter('sunny', 'Is it')");
like((new_requests('POST', qr{statements\?}))[0]{body}{statement}, qr/AI_FILTER\(CONCAT\(\?, '\\n\\n', f\.value::string\)/, 'a question stands in lines of its own');
sql("SELECT sophia.sentiment(ARRAY(SELECT 'text ' || i FROM generate_series(1, 10) AS i))");
is_deeply([ map { scalar @{ JSON::PP::decode_json($_->{body}{bindings}{1}{value}) } } new_requests('POST', qr{statements\?}) ], [ 4, 4, 2 ], 'texts travel in packs');
is(sql("SELECT sophia.set_prompt('sentiment', 'SELECT f.index, MINE.CORTEX.SENTIMENT(f.value::string) FROM TABLE(FLATTEN(INPUT => PARSE_JSON({inputs}))) AS f', kind => 'snowflake') >= 1000"), 't', 'a statement is data');
sql("SELECT sophia.sentiment('mine')");
like((new_requests('POST', qr{statements\?}))[0]{body}{statement}, qr/MINE\.CORTEX/, 'that an administrator can change');

# ---- results ----

is(sql("SELECT value, model, tokens_in, tokens_out, cost > 0, prompt_version FROM sophia.try_summarize('a text')"), '"short: a text"|cortex|2|4|t|1', 'tokens are estimated');
is(sql("SELECT sophia.summarize('slow #looks=4')"), 'short: slow #looks=4', 'a statement that goes on is looked at');
is(scalar(new_requests('GET', qr{^/api/v2/statements/[0-9a-f-]+$})), 5, 'until it is done');
is(sql("SELECT array_agg(s) FROM unnest(sophia.summarize(ARRAY['a #parts=3', 'b', 'c', 'd'])) AS s"), '{"short: a #parts=3","short: b","short: c","short: d"}', 'a result in partitions');
is(scalar(new_requests('GET', qr{\?partition=[12]$})), 2, 'which are fetched');
is(sql("SELECT string_agg(coalesce(value #>> '{}', error_code || ' ' || substring(error FROM ': (.*) \\(')), '; ' ORDER BY ord) FROM sophia.try_summarize(ARRAY['a #parts=4 #lost=2', 'b', 'c', 'd'])"),
	'short: a #parts=4 #lost=2; short: b; 58000 HTTP status 422: the partition is lost; 58000 HTTP status 422: the partition is lost', 'what came before a partition that is lost is kept');
is(sql("SELECT string_agg(coalesce(value #>> '{}', error_code || ' ' || substring(error FROM ': (.*)')), '; ' ORDER BY ord) FROM sophia.try_translate(ARRAY['a', 'b #null', 'c #why=tooHard', 'd #gone'], 'fr', 'de')"),
	"fr>de: a; 58000 it gives no value for the text, and does not say why; 58000 tooHard; 58000 the answer lacks the row of the text", 'texts without value do not spoil the others');
is(sql("SELECT error_code FROM sophia.try_sentiment('x #value=much')"), '58000', 'a value that is no number');

# ---- errors ----

is(sql("SELECT string_agg(coalesce(value #>> '{}', error_code), ' ' ORDER BY ord) FROM sophia.try_summarize(ARRAY['a', 'b #sql=100132/P0000', 'c', 'd'])"), 'short: a 58000 short: c short: d', 'a statement that fails by one of its texts is halved');
new_requests('POST', qr/./);
my ($error) = error_of("SELECT sophia.summarize(ARRAY['a', 'b #sql=002140/42601', 'c', 'd'])");
like($error, qr/ERROR:  58000: model "cortex" of provider "snow": HTTP status 422: the statement has failed \(SQLSTATE 42601, code 002140, statement 01b66701-/, 'one that is wrong itself');
is(scalar(new_requests('POST', qr{statements\?})), 1, 'is not');
is(sql("SELECT sophia.summarize('now #busy')"), 'short: now #busy', 'a refusal for a while');
@posts = new_requests('POST', qr{statements\?});
is(scalar(@posts), 2, 'is tried again');
is($posts[0]{path} . '&retry=true', $posts[1]{path}, 'with the same id, and says so');
like(error_of("SELECT sophia.summarize('x', 'stranger')"), qr/ERROR:  28000: /, 'a token that is not known');

is(sql("SELECT error_code FROM sophia.try_translate(ARRAY['a #why=max tokens of 4096 exceeded'], 'fr', 'de')"), '54000', 'a row may say that its text is too long');
for (
	[ '#sql=100069/22P02', qr/22023: .*\(SQLSTATE 22P02, code 100069, statement / ],
	[ '#sql=003001/42501 #says=Insufficient privileges', qr/28000: .*HTTP status 422: Insufficient privileges \(SQLSTATE 42501/ ],
	[ '#sql=391908/54000', qr/54000: / ],
	[ '#sql=100351/P0000 #says=the text is too long', qr/54000: / ],
	[ "#sql=001003/42000 #says=error:\nUnknown function", qr/58000: .*422: error: Unknown function \(/ ],
	[ '#sql=100132/P0000 #says=' . 'é' x 300, qr/58000: .*422: (?:é){60} \(SQLSTATE/ ])
{
	like(error_of("SELECT sophia.summarize('$_->[0]')"), $_->[1], substr($_->[0], 0, 60));
}

# ---- a token that expires, a gateway that ends ----

$secrets->write('pat', 'pat-of-ann.2');
new_requests('POST', qr/./);
is(sql("SELECT sophia.summarize('x #renew #looks=2')"), 'short: x #renew #looks=2', 'a token that expires meanwhile is renewed');
is(scalar(new_requests('POST', qr{statements\?})), 1, 'and the statement goes on');
my $gateway = $node->wait_for_worker('gateway');
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $before = $cortex->requests;
$session->query_until(qr/begin/, "\\echo begin\nSELECT sophia.summarize('x #looks=7');\n");
ok(waited_for(sub { grep { $_->{method} eq 'GET' } ($cortex->requests)[ $before .. $cortex->requests - 1 ] }), 'a statement is under way');
sql("SELECT pg_terminate_backend($gateway)");
like($session->query('SELECT 1'), qr/^short: x #looks=7$/m, 'a call outlives the gateway');
$session->quit;
@posts = new_requests('POST', qr{statements\?});
is(scalar(@posts), 2, 'its statement is sent again');
is($posts[0]{path} . '&retry=true', $posts[1]{path}, 'with the same id');

# ---- cancel ----

new_requests('POST', qr/./);
like(error_of("SET statement_timeout = '1s'; SELECT sophia.summarize('x #looks=1000')"), qr/ERROR:  57014: /, 'a call can be cancelled while the account works');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM sophia.gateway_requests'), 'nothing waits');
sub cancelled
{
	return waited_for(sub { grep { $_->{path} =~ m{/cancel$} } ($cortex->requests)[ $seen .. $cortex->requests - 1 ] });
}
ok(cancelled(), 'and the statement is cancelled there');
new_requests('POST', qr/./);
like(error_of("SELECT sophia.summarize('x #looks=1000', 'hasty')"), qr/ERROR:  58000: .*no answer within 1000 ms; the statement is cancelled/, 'a statement that takes too long');
ok(cancelled(), 'is cancelled, too');

# ---- options ----

like(error_of("SELECT sophia.create_provider('a', 'snowflake', '$address', 'file:pat', '{\"auth\": \"token\", \"warehouse\": 1}')"), qr/ERROR:  22023: invalid value of provider option "warehouse"/, 'a warehouse is a name');
like(error_of("SELECT sophia.create_provider('a', 'openai', '$address', NULL, '{\"warehouse\": \"W\"}')"), qr/ERROR:  22023: /, 'which other kinds have not');

# ---- queries written for Snowflake Cortex ----

sql(<<"SQL");
SELECT sophia.create_model('mistral-7b', 'snow', 'mistral-7b'); SELECT sophia.create_model('snowflake-arctic-embed-m', 'snow', 'snowflake-arctic-embed-m-v1.5');
SELECT sophia.create_model('snowflake-arctic-embed-l-v2.0', 'snow', 'snowflake-arctic-embed-l-v2.0');
SELECT sophia.set_default_model('complete', 'mistral-7b'), sophia.set_default_model('embed_text', 'snowflake-arctic-embed-m');
CREATE TABLE notes (id int, body text, labels text[], a real[], b real[]);
INSERT INTO notes VALUES (1, 'one', '{bug,wish}', '{1,0}', '{0,1}'), (2, NULL, '{bug,wish}', NULL, '{1}');
SQL
my $page = slurp_file('docs/functions/cortex.md');
my ($unchanged) = $page =~ /^```sql\n(.*?)^```/ms;
my @rewrites = $page =~ /^\| .*? \| `(sophia\..*?|\(sophia\..*?)` \|/mg;
cmp_ok(scalar(@rewrites), '>', 10, 'there are rewrites');
for my $query ((map { s/SNOWFLAKE\.CORTEX\./sophia./gr } split /\n/, $unchanged), map { "SELECT $_ FROM notes WHERE id = 1" } @rewrites)
{
	my ($status, undef, $complaint) = $node->psql('postgres', $query);
	is($status, 0, "runs: $query") or diag($complaint);
}

$node->stop;
done_testing();
