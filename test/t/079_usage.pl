# What AI calls have used: counted whatever becomes of the transaction, written by the jobs worker, held against budgets.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Provider;
use Test::More;

my $provider = Sophia::Provider->new;
my $node = Sophia::Cluster->create('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# What a statement of a role says on standard error.
sub error_of
{
	my ($role, $statement) = @_;
	my (undef, undef, $error) = $node->psql('postgres', "SET ROLE $role; $statement", extra_params => ['-v', 'VERBOSITY=verbose']);
	return $error;
}

$node->wait_for_worker('gateway');
sql(<<"SQL");
SELECT sophia.create_provider('llm', 'openai', '${\$provider->address}', NULL, '{"attempts": 1, "in_flight": 1}');
SELECT sophia.create_model('chat', 'llm', 'tiny', '{"price": {"in": 1000, "out": 2000}}');
SELECT sophia.create_model('free', 'llm', 'tiny');
SELECT sophia.create_model('vectors', 'llm', 'embed-8');
CREATE ROLE ann; CREATE ROLE bob;
GRANT USAGE ON SCHEMA sophia TO ann, bob;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sophia TO ann, bob;
SQL

my $usage = 'SELECT database, role, function, model, calls, cache_hits, tokens_in, tokens_out, cost, errors, ms >= 0'
  . " FROM sophia.ai_usage WHERE day = (now() AT TIME ZONE 'UTC')::date ORDER BY role, function, model";

# ---- counting ----

is(sql($usage), '', 'nothing is used at first');
is(sql("SELECT count(*) FROM sophia.workers WHERE worker LIKE '%jobs'"), 0, 'and there is no jobs worker');
my ($in, $out, $cost) = split /\|/, sql("SET ROLE ann; SELECT tokens_in, tokens_out, cost FROM sophia.try_complete('chat', 'hello')");
is($cost, ($in * 1000 + $out * 2000) / 1e6, 'a call has its price');
is(sql($usage), "postgres|ann|complete|chat|1|0|$in|$out|$cost|0|t", 'it is in the usage at once');
$node->psql('postgres', "BEGIN; SET ROLE ann; SELECT sophia.complete('chat', 'hello'); ROLLBACK");
sql("BEGIN READ ONLY; SET ROLE ann; SELECT sophia.complete('chat', 'hello'); COMMIT");
is(sql($usage), 'postgres|ann|complete|chat|3|0|' . 3 * $in . '|' . 3 * $out . '|' . 3 * $cost . '|0|t',
	'also what was rolled back, and what a read-only transaction asked for');
sql("SET ROLE bob; SELECT count(*) FROM sophia.embed_text(ARRAY['a', 'b', 'a', NULL], 'vectors')");
like(sql("$usage OFFSET 1"), qr/^postgres\|bob\|embed_text\|vectors\|2\|0\|\d+\|0\|0\|0\|t$/, 'equal texts are one call');
$node->psql('postgres', "SET ROLE bob; SELECT sophia.complete('free', 'no #status=500')");
is(sql("SELECT calls, errors, tokens_in, cost FROM sophia.ai_usage WHERE role = 'bob' AND function = 'complete'"), '1|1|0|0', 'a failure is counted as one');
sql("SELECT sophia.check_provider('llm')");
is(sql("SELECT count(*) FROM sophia.ai_usage WHERE role = 'postgres'"), 0, 'checking a provider is no use of a model');

# Answers that came before a cancel are billed.
sql("SELECT sophia.set_default_model('complete', 'free')");
$node->psql('postgres', "SET ROLE ann; SET statement_timeout = '1s'; SELECT sophia.complete(ARRAY['one', 'two', 'three #delay=60000'])");
is(sql("SELECT calls, errors FROM sophia.ai_usage WHERE role = 'ann' AND model = 'free'"), '2|0', 'what was answered before a cancel is counted');

# ---- writing ----

ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM sophia.pending_usage()'), 'the jobs worker writes it down');
is(sql("SELECT sum(calls) FROM sophia.usage_hours"), '8', 'all of it');
my $before = sql($usage);
is(sql("SELECT worker, database, state FROM sophia.workers WHERE worker LIKE '%jobs'"), 'sophia_stack jobs|postgres|running', 'the jobs worker is listed');
sql("SELECT sophia.complete('chat', 'last')");
$node->restart('fast');
$node->wait_for_worker('gateway');
like(sql($usage), qr/^\Q$before\E\npostgres\|postgres\|complete\|chat\|1\|/, 'a clean restart loses nothing');
sql("SELECT sophia.complete('chat', 'more') FROM generate_series(1, 3)");
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM sophia.pending_usage()'), 'more is added');
is(sql("SELECT calls FROM sophia.ai_usage WHERE role = 'postgres'"), 4, 'to what was there');

# ---- budgets ----

sql("SELECT sophia.set_budget('bob', 0, 'month')");
$provider->forget;
like(error_of('bob', "SELECT sophia.complete('free', 'hello')"), qr/ERROR:  53400: role "bob" has used up its budget for AI calls\nDETAIL:  See sophia.budget_status/, 'a budget of 0 forbids');
is(sql("SET ROLE bob; SELECT error_code FROM sophia.try_complete('free', 'hello')"), '53400', 'as a value of try_complete');
is(scalar $provider->requests, 0, 'nothing was sent');
sql("SELECT sophia.set_budget('bob', NULL, 'month')");
is(sql("SET ROLE bob; SELECT sophia.complete('free', 'hello')"), 'echo: hello', 'NULL lifts it');

sql("SELECT sophia.set_budget('ann', 3.5 * $cost, 'day'); SELECT sophia.set_budget('ann', 100, 'month')");
is(sql("SELECT role, per, amount, spent, remaining FROM sophia.budget_status WHERE per = 'day'"),
	'ann|day|' . 3.5 * $cost . '|' . 3 * $cost . '|' . 0.5 * $cost, 'what is spent is listed');
is(sql("SET ROLE ann; SELECT sophia.complete('chat', 'hello')"), 'echo: hello', 'what is left can be spent');
like(error_of('ann', "SELECT sophia.complete('chat', 'hello')"), qr/ERROR:  53400/, 'no more than that');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM sophia.pending_usage()'), 'it is written down');
like(error_of('ann', "SELECT sophia.complete('chat', 'hello')"), qr/ERROR:  53400/, 'and counts all the same');
sql("SELECT sophia.set_budget('ann', 6.5 * $cost, 'day'); SELECT sophia.set_default_model('complete', 'chat')");
$provider->forget;
like(error_of('ann', "SELECT sophia.complete(array_agg('hello ' || i)) FROM generate_series(1, 100) AS i"),
	qr/WARNING:  53400: \d+ of 100 texts failed/, 'an array ends where the budget does');
cmp_ok(scalar $provider->requests, '<', 50, 'the rest is not sent');

for ([ "'ann', -1, 'day'", '22023' ], [ "'ann', 'NaN', 'day'", '22023' ], [ "'ann', 1, 'week'", '22023' ], [ "NULL, 1, 'day'", '22004' ], [ "'ann', 1, NULL", '22004' ], [ "'nobody', 1, 'day'", '42704' ])
{
	my ($arguments, $state) = @$_;
	like(error_of('postgres', "SELECT sophia.set_budget($arguments)"), qr/ERROR:  $state/, "set_budget($arguments)");
}

done_testing();
