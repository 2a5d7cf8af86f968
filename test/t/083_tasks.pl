# Functions with a task of their own, on a provider of kind openai: what they ask, and what they make of the answers.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Provider;
use Test::More;

my $provider = Sophia::Provider->new;
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub warnings_of
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return ($out, $err);
}

# What the provider was asked last: the system's message, and the schema.
sub asked
{
	my $body = ($provider->requests)[-1]{body};
	return ($body->{messages}[0]{content}, $body->{response_format}{json_schema}{schema}, $body);
}

$node->wait_for_worker('gateway');
sql(<<"SQL");
SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}');
SELECT sophia.create_model('chat', 'llm', 'tiny', '{"defaults": {"temperature": 0.7, "seed": 1}}');
SELECT sophia.create_model('other', 'llm', 'tiny-2');
SELECT sophia.create_model('small', 'llm', 'small-1000');
SELECT sophia.create_model('limited', 'llm', 'small-3000', '{"limits": {"context": 900}}');
SELECT sophia.set_default_model('complete', 'chat');
SQL

# ---- what is asked ----

is(sql("SELECT sophia.sentiment('fine')"), '-1', 'a sentiment is a number');
my ($system, $schema, $body) = asked();
like($system, qr/^You rate the sentiment of a text\./, 'the prompt is the message of the system');
is($body->{messages}[1]{content}, 'fine', 'the text that of the user, with nothing added');
is_deeply([ $schema->{type}, $schema->{required}, @{$body}{qw(model temperature seed max_tokens)} ], [ 'object', ['score'], 'tiny', 0, 1, 50 ],
	'with a schema; the options of the prompt go over those of the model');
is(sql("SELECT sophia.classify_sentiment('fine')"), 'positive', 'a sentiment is a word');
is(sql("SELECT sophia.classify_text('fine', ARRAY['bug \"x\"', 'question'])"), 'bug "x"', 'a text gets a label');
($system, $schema) = asked();
like($system, qr/one of these categories: \["bug \\"x\\"", "question"\]\./, 'the prompt names the labels');
is_deeply($schema->{properties}{label}{enum}, [ 'bug "x"', 'question' ], 'and so does the schema');
is(sql("SELECT sophia.translate('fine', 'en', 'de')"), 'echo: fine', 'a text is translated');
like((asked())[0], qr/from en to de\./, 'from and to a language');
sql("SELECT sophia.translate('fine', '', 'de')");
like((asked())[0], qr/from the language that it is in to de\./, 'or from one that is not told');
is(sql("SELECT sophia.extract_answer('fine', 'How is it?')"), '[{"score": 0, "answer": "echo: fine"}]', 'an answer is found');
like((asked())[0], qr/The question is: How is it\?\n/, 'to a question');
is(sql("SELECT sophia.summarize('fine')"), 'echo: fine', 'a text is summarized');
is(sql("SELECT summary, ratio, tokens_in, tokens_out FROM sophia.summarize_detail('fine')"), 'echo: fine|2.5|7|3', 'also with figures');
is(sql("SELECT sophia.ai_filter('fine', 'Is it?')"), 't', 'a text is asked about');
is(sql(q(SELECT sophia.complete_json('fine', '{"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"}}}'))), '{"a": "echo: fine", "n": 0}',
	'JSON is had by a schema');
is((asked())[0], 'Answer with nothing but a JSON value that fits this JSON schema: {"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"}}}',
	'which the model is told');
is(sql(q(SELECT sophia.complete_json('fine', '{"type": "boolean"}', 'other', '{"temperature": 0.5, "max_tokens": 9}'))), 'true', 'of a model, with options');
(undef, undef, $body) = asked();
is_deeply([ @{$body}{qw(model temperature max_tokens)} ], [ 'tiny-2', 0.5, 9 ], 'which were sent');
is(sql("SELECT sophia.summarize_agg(x) FROM (VALUES ('one'), (NULL), (' '), ('two')) AS v (x)"), "echo: one\n\ntwo", 'rows are summarized together');
is(sql("SELECT sophia.summarize_agg(NULL) IS NULL, sophia.summarize_agg(x) IS NULL FROM (SELECT 'a' WHERE false) AS v (x)"), 't|t', 'none give NULL');
is(sql("SELECT pg_typeof(sophia.sentiment('a')), pg_typeof(sophia.sentiment(ARRAY['a'])), pg_typeof(sophia.classify_text(ARRAY['a'], ARRAY['b', 'c'])),"
	. " pg_typeof(sophia.extract_answer(ARRAY['a'], 'q')), pg_typeof(sophia.ai_filter(ARRAY['a'], 'q')), pg_typeof(sophia.summarize_detail(ARRAY['a']))"),
	'double precision|double precision[]|text[]|jsonb[]|boolean[]|sophia.summary_detail[]', 'types');

# ---- what is made of answers ----

for my $case (
	[ 'sentiment(%s)', '{"score": 0.25}', '0.25' ],
	[ 'sentiment(%s)', "```json\n{\"score\": -1}\n```", '-1' ],
	[ 'sentiment(%s)', '{"sentiment": 1}', '1' ],
	[ 'sentiment(%s)', ' 0.5 ', '0.5' ],
	[ 'classify_sentiment(%s)', 'Neutral', 'neutral' ],
	[ 'classify_sentiment(%s)', '"mixed"', 'mixed' ],
	[ "classify_text(%s, '{Bug,Wish}')", '{"label": "bug"}', 'Bug' ],
	[ "translate(%s, 'en', 'de')", 'Guten Tag', 'Guten Tag' ],
	[ "translate(%s, 'en', 'de')", '{"translation": "\u00fc \"x\""}', "\x{c3}\x{bc} \"x\"" ],
	[ 'summarize(%s)', '{"summary": ""}', '' ],
	[ "ai_filter(%s, 'q')", 'No', 'f' ],
	[ "ai_filter(%s, 'q')", '{"answer": true}', 't' ],
	[ "ai_filter(%s, 'q') IS NULL", '{"answer": "unknown"}', 't' ],
	[ "extract_answer(%s, 'q')", '{"answer": "x", "score": 0.9}', '[{"score": 0.9, "answer": "x"}]' ],
	[ "extract_answer(%s, 'q')", 'x', '[{"score": null, "answer": "x"}]' ],
	[ q(complete_json(%s, '{"type": "array", "items": {"pattern": "^a+$"}}')), '["aa"]', '["aa"]' ])
{
	is(sql('SELECT sophia.' . sprintf($case->[0], "\$x\$#answer=$case->[1]\$x\$")), $case->[2], "$case->[0]: $case->[1]");
}

my $says = '58000: model "chat" of provider "llm": the answer';
for my $case (
	[ 'sentiment(%s)', '{"score": 1.5}', "$says is no number from -1 to 1" ],
	[ 'sentiment(%s)', '{"a": 1, "b": 2}', "$says is no number from -1 to 1" ],
	[ 'sentiment(%s)', 'good', "$says is no number from -1 to 1" ],
	[ 'sentiment(%s)', '{"score": 0.', "$says is no JSON" ],
	[ 'classify_sentiment(%s)', 'Sure! It is positive.', "$says is none of the labels" ],
	[ "classify_text(%s, '{a,b}')", '{"label": "c"}', "$says is none of the labels" ],
	[ "translate(%s, 'en', 'de')", '{"translation": 1}', "$says holds no text" ],
	[ 'summarize(%s)', '["a"]', "$says holds no text" ],
	[ "ai_filter(%s, 'q')", '5', "$says is neither yes nor no" ],
	[ "extract_answer(%s, 'q')", '{"answer": "x", "score": 7}', 'x' ],
	[ q(complete_json(%s, '{"type": "object", "required": ["a"]}')), '{"b": 1}', "$says does not fit the schema: the value lacks \"a\"" ],
	[ q(complete_json(%s, '{"items": {"pattern": "^a+$"}}')), '["aa", "ab"]', "$says does not fit the schema: /1 does not match its pattern" ],
	[ q(complete_json(%s, '{"type": "string"}')), 'plain', "$says is no JSON" ])
{
	my $expected = $case->[2] eq 'x' ? '58000: model "chat" of provider "llm": the score of the answer is no number from 0 to 1' : $case->[2];
	is(scalar $node->error_of('SELECT sophia.' . sprintf($case->[0], "\$x\$#answer=$case->[1]\$x\$")), $expected, "$case->[0] fails: $case->[1]");
}
is(scalar $node->error_of(q(SELECT sophia.summarize('#length #answer={"summary": "a'))), "$says reached the limit of its tokens before it was whole", 'an answer that is cut fails');

# ---- arguments ----

is(sql("SELECT sophia.sentiment(NULL::text) IS NULL AND sophia.translate('a', NULL, 'de') IS NULL AND sophia.classify_text('a', NULL) IS NULL AND sophia.ai_filter('a', NULL) IS NULL"
	. " AND sophia.complete_json('a', NULL) IS NULL AND sophia.try_sentiment(NULL::text) IS NULL AND sophia.sentiment(NULL::text[]) IS NULL"), 't', 'NULL gives NULL');
for my $case (
	[ "sentiment(' ')", '22023: the text is empty' ],
	[ "sentiment('a', 'none')", '42704: model "none" does not exist' ],
	[ "classify_text('a', '{b}')", '22023: there must be at least two labels' ],
	[ "classify_text('a', '{b,B}')", '22023: label "B" is there twice' ],
	[ "classify_text('a', '{b,NULL}')", '22023: label number 2 is empty' ],
	[ "translate('a', 'en', '')", '22023: argument to_lang is empty' ],
	[ "extract_answer('a', ' ')", '22023: argument question is empty' ],
	[ q(complete_json('a', '{"if": true}')), '22023: invalid schema: the keyword "if" of JSON schemas is not supported' ],
	[ q{complete_json('a', '{"pattern": "("}')}, '2201B: invalid regular expression: parentheses () not balanced' ],
	[ q(complete_json('a', '[]')), '22023: invalid schema: a schema must be a JSON object or a boolean' ],
	[ q(complete_json('a', '{}', NULL, '{"x": 1}')), '22023: unknown option "x"' ],
	[ "sentiment('#status=401')", '28000: model "chat" of provider "llm": HTTP status 401: #status=401' ])
{
	is(scalar $node->error_of("SELECT sophia.$case->[0]"), $case->[1], "fails: $case->[0]");
}
sql("SELECT sophia.set_default_model('sentiment', 'other'); SELECT sophia.sentiment('a')");
is((asked())[2]{model}, 'tiny-2', 'a function may have a default model of its own');
is(scalar $node->error_of("SELECT sophia.set_default_model('sentimeant', 'other')"), '22023: function "sentimeant" takes no default model', 'if it is one');

# ---- arrays and try_ ----

$provider->forget;
my ($out, $err) = warnings_of("SELECT sophia.classify_sentiment(ARRAY['a', '#answer=bad', NULL, 'a', '#answer=mixed'])");
is($out, '{positive,NULL,NULL,positive,mixed}', 'an array is answered in its order; one that fails is NULL');
is(scalar $provider->requests, 3, 'equal texts are sent once');
like($err, qr/WARNING:  58000: 1 of 4 texts failed, first number 2: model "chat" of provider "llm": the answer is none of the labels\nDETAIL:  Request \d+\.\d+, attempt 1/, 'with one warning');
unlike($err, qr/WARNING.*WARNING/s, 'and no other');
is(sql("SELECT sophia.sentiment('{}'::text[]), sophia.extract_answer('{}'::text[], 'q')"), '{}|{}', 'an empty array is answered');
is(sql("SELECT (sophia.summarize_detail(ARRAY['ab', NULL, 'cdef']))[3].ratio"), '2.5', 'elements may be rows');
is(scalar $node->error_of("SELECT sophia.sentiment(ARRAY['', '#answer=x'])"), '22023: the text is empty', 'if all fail it is an error');
is(sql("SELECT value, error_code, error, provider, model, tokens_in, tokens_out, cached, prompt_version, ord FROM sophia.try_sentiment('#answer=0.5')"), '0.5|||llm|other|7|3|f|1|1', 'try_ tells of a call');
is(sql("SELECT value, error_code, error FROM sophia.try_sentiment('#answer=x')"), '|58000|model "other" of provider "llm": the answer is no number from -1 to 1', 'and of an error');
is(sql("SELECT ord, value, error_code FROM sophia.try_classify_text(ARRAY['a', '#answer=x', NULL, ''], '{b,c}')"), "1|\"b\"|\n2||58000\n3||\n4||22023", 'for each of many');
is(sql("SELECT value FROM sophia.try_summarize_detail('a')"), '"echo: a"', 'a summary is a text there');
is(sql("SELECT string_agg(value::text, ' ' ORDER BY ord) FROM sophia.try_ai_filter(ARRAY['#answer=yes', '#answer=no', '#answer=unknown'], 'q')"), 'true false null', 'and truth is three-valued');
is(sql("SELECT count(DISTINCT c) FROM unnest(sophia.translate(ARRAY(SELECT i::text FROM generate_series(1, 300) AS i), 'a', 'b')) AS c"), 300, 'many texts');

# ---- similarity, and tokens ----

sql("SELECT sophia.create_model('embed', 'llm', 'embed-8'); SELECT sophia.set_default_model('embed_text', 'embed')");
is(sql("SELECT sophia.similarity('a', 'a'), sophia.similarity('a', 'abc') = sophia.cosine_similarity(sophia.embed_text('a'), sophia.embed_text('abc'))"), '1|t', 'similarity is the cosine of embeddings');
$provider->forget;
is(sql("SELECT round(s[1]::numeric, 6), s[2] IS NULL, s[3] < 1 FROM sophia.similarity(ARRAY['a', NULL, 'abc'], 'a', 'embed') AS s"), '1.000000|t|t', 'of many texts with one');
is(scalar $provider->requests, 1, 'in one request');
is(sql("SELECT value, tokens_in, prompt_version FROM sophia.try_similarity('a', 'a')"), '1|10|', 'try_ tells of it');
is(sql("SELECT ord, round((value #>> '{}')::numeric, 3), error_code FROM sophia.try_similarity(ARRAY['a', '', NULL], 'a')"), "1|1.000|\n2||22023\n3||", 'of each');
is(sql("SELECT error_code FROM sophia.try_similarity(ARRAY['a', 'b'], ' ')"), "22023\n22023", 'a text that nothing can be compared with fails for all');
is(sql("SELECT sophia.similarity('{}'::text[], 'a'), sophia.similarity('a', NULL) IS NULL"), '{}|t', 'nothing, and NULL');
is(sql("SELECT sophia.count_tokens('chat', 'one two three'), sophia.count_tokens('chat', ARRAY['a b', NULL])"), '3|{2,NULL}', 'the server counts tokens');
is(($provider->requests)[-1]{path}, '/tokenize', 'beside /v1');
is(sql("SELECT sophia.count_tokens('small', 'one two three'), (SELECT value FROM sophia.try_count_tokens('small', 'x'))"), '4|1', 'where it does not, they are estimated') or diag(sql("SELECT sophia.count_tokens('small', 'one two three')"));
is(sql("SELECT string_agg(DISTINCT token_count, ' ') FROM sophia.models"), 'not tried', 'models do not know that');
sql("SELECT * FROM sophia.check_provider('llm')");
is(sql("SELECT string_agg(model || ' ' || token_count, ', ' ORDER BY model) FROM sophia.models WHERE model IN ('chat', 'small')"), 'chat counted, small estimated', 'until the provider is checked');
$provider->forget;
is(sql("SELECT sophia.count_tokens('small', repeat('word', 100))"), 100, 'then they are estimated');
is(scalar $provider->requests, 0, 'without asking');
sql("SELECT sophia.alter_provider('llm', '${\$provider->address}/v1')");
is(sql("SELECT count(*) FROM sophia.models WHERE token_count <> 'not tried'"), 0, 'another address is another server');
is(sql("SELECT sophia.count_tokens('chat', 'one two three')"), 3, 'at /v1 it counts as well');

# ---- try_ never fails ----

for my $case (
	[ "try_sentiment('a', 'none')", '42704|model "none" does not exist' ],
	[ "try_complete('none', 'a')", '42704|model "none" does not exist' ],
	[ "try_complete('chat', 'a', '{\"x\": 1}')", '22023|unknown option "x"' ],
	[ "try_complete('chat', '{}'::jsonb)", '22023|messages must be a JSON array of at least one message' ],
	[ "try_embed_text('a', 'none')", '42704|model "none" does not exist' ],
	[ "try_embed_text_768('embed', 'a')", '22023|model "embed" of provider "llm": its embeddings have 8 dimensions, not 768' ],
	[ "try_similarity('a', 'b', 'none')", '42704|model "none" does not exist' ],
	[ "try_count_tokens('none', 'a')", '42704|model "none" does not exist' ],
	[ "try_classify_text('a', '{b}')", '22023|there must be at least two labels' ],
	[ q{try_complete_json('a', '{"pattern": "("}')}, '2201B|invalid regular expression: parentheses () not balanced' ])
{
	is(sql("SELECT error_code, error FROM sophia.$case->[0]"), $case->[1], "a value: $case->[0]");
}
is(sql("SELECT ord, error_code FROM sophia.try_translate(ARRAY['a', NULL, 'b'], 'en', 'de', 'none')"), "1|42704\n2|\n3|42704", 'of each of many');
is(sql("SELECT ord, value IS NULL, error_code FROM sophia.try_embed_text_384('embed', ARRAY['a', NULL])"), "1|t|22023\n2|t|", 'embeddings too');
is(sql("SELECT error_code FROM sophia.try_sentiment(ARRAY[['a'], ['b']])"), '22023', 'and an array that cannot be taken');
is(sql("SELECT count(*) FROM generate_series(1, 1000) AS i, sophia.try_sentiment(i::text, 'none') AS t WHERE t.error_code = '42704'"), 1000, 'as often as there is need');
like(scalar $node->error_of("SET statement_timeout = 300; SELECT sophia.try_sentiment('#delay=5000')"), qr/^57014: /, 'but a cancel is a cancel');

# ---- queries written for Snowflake Cortex ----

sql(<<"SQL");
SELECT sophia.create_model('mistral-7b', 'llm', 'tiny'); SELECT sophia.create_model('snowflake-arctic-embed-m', 'llm', 'embed-768');
SELECT sophia.create_model('snowflake-arctic-embed-l-v2.0', 'llm', 'embed-1024');
CREATE TABLE notes (id int, body text, labels text[], a real[], b real[]);
INSERT INTO notes VALUES (1, 'one', '{bug,wish}', '{1,0}', '{0,1}'), (2, NULL, '{bug,wish}', NULL, '{1}');
SQL
my $page = slurp_file('docs/functions/cortex.md');
my ($unchanged) = $page =~ /^```sql\n(.*?)^```/ms;
for my $query (split /\n/, $unchanged)
{
	my ($status, undef, $error) = $node->psql('postgres', $query =~ s/SNOWFLAKE\.CORTEX\./sophia./gr);
	is($status, 0, "runs but for the prefix: $query") or diag($error);
}
for my $rewrite ($page =~ /^\| .*? \| `(sophia\..*?|\(sophia\..*?)` \|/mg)
{
	my ($status, undef, $error) = $node->psql('postgres', "SELECT $rewrite FROM notes WHERE id = 1");
	is($status, 0, "runs as it is rewritten: $rewrite") or diag($error);
}
is(scalar(() = $page =~ /^\| .*? \| `\(?sophia\./mg), scalar(() = $page =~ /^\| (?!Cortex)/mg), 'every rewrite is tried');

# ---- long texts ----

$provider->forget;
is(sql("SELECT sophia.classify_text(repeat('word ', 100), '{a,b}', 'small')"), 'a', 'what is short enough');
is(scalar $node->error_of("SELECT sophia.classify_text(repeat('word ', 1000), '{a,b}', 'small')"),
	'54000: model "small" of provider "llm": HTTP status 400: the maximum context length is 1000', 'what is not is refused by the provider');
$provider->forget;
is(scalar $node->error_of("SELECT sophia.classify_text(repeat('word ', 1000), '{a,b}', 'limited')"),
	'54000: the text has about 1250 tokens, too many for the 900 of model "limited"', 'or before it is sent, where the limit is known');
is(scalar $node->error_of("SELECT sophia.complete('limited', repeat('word ', 1000))"),
	'54000: the text has about 1250 tokens, too many for the 900 of model "limited"', 'by complete too');
is(scalar $provider->requests, 0, 'without a request');
my $short = '{"type": "object", "properties": {"summary": {"type": "string", "maxLength": 100}}}';
sql("SELECT sophia.set_prompt('summarize', 'Be short.', '$short')");
my $words = join ' ', map { "word$_" } 1 .. 1200;
like(sql("SELECT sophia.summarize('$words', 'limited')"), qr/^echo: echo: word1 word2 .{70,}$/, 'a long text is summarized in parts');
my @texts = map { $_->{text} } $provider->requests;
cmp_ok(scalar @texts, '>=', 3, 'and their summaries again') or diag(scalar @texts);
ok(join('', @texts[ 0 .. $#texts - 1 ]) =~ s/ //gr eq $words =~ s/ //gr, 'of which nothing is lost');
is(scalar(grep { length > 3000 } @texts), 0, 'none is longer than the limit');
$provider->forget;
is(sql("SELECT length(sophia.summarize(repeat('word ', 2000), 'small'))"), 100, 'without a limit it is halved until the provider takes it');
is(sql("SELECT sophia.summarize(ARRAY[repeat('x', 5000), NULL, 'a', repeat('#status=500 ', 200)], 'small') IS NULL"), 'f', 'in arrays too');
is(sql("SELECT ord, left(value::text, 9), error_code, tokens_in > 7 FROM sophia.try_summarize(ARRAY[repeat('x', 5000), NULL, 'a', repeat('#status=500 ', 200)], 'small')"),
	"1|\"echo: ec||t\n2|||\n3|\"echo: a\"||f\n4||58000|", 'where each is itself, and its parts are counted');
is(sql("SELECT sophia.extract_answer(repeat('nothing ', 300) || E'\n#answer={\"answer\": \"here\", \"score\": 0.8}', 'q', 'small')"), '[{"score": 0.8, "answer": "here"}]', 'of several answers the surest counts');
sql("SELECT sophia.set_prompt('summarize_agg', 'Be short.', '$short'), sophia.set_default_model('summarize_agg', 'small')");
is(sql("SELECT length(sophia.summarize_agg(repeat('word ', 150) || i)) FROM generate_series(1, 50) AS i"), 100, 'many rows are too');
is(sql("SELECT sophia.summarize(repeat(chr(233), 3000), 'small') = 'echo: echo: ' || repeat(chr(233), 88)"), 't', 'characters are not cut apart');

# ---- prompts ----

my $version = sql("SELECT sophia.set_prompt('sentiment', 'How good is it?')");
cmp_ok($version, '>=', 1000, 'a prompt can be changed');
sql("SELECT sophia.sentiment('a')");
($system, $schema) = asked();
is($system, 'How good is it?', 'and is used');
is_deeply($schema->{required}, ['score'], 'with what was not changed');
is(sql("SELECT prompt_version FROM sophia.try_sentiment('a')"), $version, 'results tell its version');
is(sql("BEGIN; SELECT sophia.set_prompt('sentiment', 'x'); ROLLBACK; SELECT sophia.set_prompt('sentiment', NULL) - $version"), ($version + 1) . "\n2", 'a version is never another text');
sql("SELECT sophia.sentiment('a')");
like((asked())[0], qr/^You rate the sentiment of a text\./, 'the shipped one can be had again');
for my $case (
	[ "'none', 'x'", '22023: function "none" has no prompt for providers of kind "openai"' ],
	[ "NULL, 'x'", '22004: function must not be null' ],
	[ "'sentiment', ' '", '22023: the instructions are empty' ],
	[ "'sentiment', 'x', '{\"if\": 1}'", '22023: invalid schema: the keyword "if" of JSON schemas is not supported' ],
	[ "'sentiment', 'x', NULL, '{\"x\": 1}'", '22023: unknown option "x"' ])
{
	is(scalar $node->error_of("SELECT sophia.set_prompt($case->[0])"), $case->[1], "fails: set_prompt($case->[0])");
}
$version = sql("SELECT sophia.set_prompt('translate', 'From {from_lang} into {to_lang}, please.')");
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'the database is dumped');
sql('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'and restored');
my $mine = "SELECT version, instructions FROM sophia.prompts WHERE function = 'translate' AND version >= 1000";
is($node->safe_psql('restored', $mine), "$version|From {from_lang} into {to_lang}, please.", 'with its prompts');
is($node->safe_psql('restored', "SELECT count(*) FROM sophia.prompts WHERE version < 1000"), sql("SELECT count(*) FROM sophia.prompts WHERE version < 1000"), 'beside the shipped ones');
cmp_ok($node->safe_psql('restored', "SELECT sophia.set_prompt('translate', 'x')"), '>', $version, 'and versions go on');
sql("DELETE FROM sophia.prompts WHERE function = 'ai_filter'");
is(scalar $node->error_of("SELECT sophia.ai_filter('a', 'q')"), '0A000: function "ai_filter" cannot be had from providers of kind "openai"', 'what a kind of provider lacks is told');

# ---- plans and rights ----

is(sql("SELECT string_agg(DISTINCT provolatile::text || proparallel::text || procost, ' ') FROM pg_proc WHERE pronamespace = 'sophia'::regnamespace"
	. " AND proname ~ '^(try_)?(sentiment|classify_|translate|summarize|extract_answer|ai_filter|complete_json)' AND prokind = 'f'"), 'vr1e+06', 'labels');
sql('CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT EXECUTE ON FUNCTION sophia.sentiment(text, text), sophia.summarize_agg(text) TO ann');
is(sql("SET ROLE ann; SELECT sophia.sentiment('x')"), '-1', 'the right to call can be granted alone');
is(sql("SET ROLE ann; SELECT sophia.summarize_agg('x')"), 'echo: x', 'that of the aggregate too');
is(scalar $node->error_of("SET ROLE bob; SELECT sophia.sentiment('x')"), '42501: permission denied for function sentiment', 'and is needed');
is(scalar $node->error_of("SET ROLE bob; SELECT sophia.summarize_agg('x')"), '42501: permission denied for aggregate summarize_agg', 'there as well');
is(scalar $node->error_of("SET ROLE ann; SELECT sophia.set_prompt('sentiment', 'x')"), '42501: permission denied for function set_prompt', 'prompts are for administrators');

$node->stop;
unlike($node->news, qr/TRAP|PANIC|server process .* was terminated/, 'nothing crashed');
$provider->stop;

done_testing();
