# Exact cursors beyond one session: who has a consumer, restart, crash, dump and restore, copies of a database, subscriptions.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Test::More;

my $node = Sophia::Cluster->create('main', preload => 0, init => { allows_streaming => 'logical' });
sub sql { return $node->safe_psql('postgres', @_) }

# The keys of a batch of some consumer, in order, each with a minus where it is deleted.
sub batch
{
	my ($consumer, $most, $where, $database) = @_;
	$most //= 'NULL';
	return ($where // $node)->safe_psql($database // 'postgres', <<"SQL");
SELECT string_agg(CASE WHEN deleted THEN '-' ELSE '' END || (key ->> 'id'), ' ' ORDER BY (key ->> 'id')::int) FROM sophia.next_batch('$consumer', $most)
SQL
}

# The same, and commits it.
sub take
{
	my ($consumer, $most, $where, $database) = @_;
	my $keys = batch(@_);
	($where // $node)->safe_psql($database // 'postgres', "SELECT sophia.commit_batch('$consumer')");
	return $keys;
}

sql(<<'SQL');
CREATE TABLE t (id int PRIMARY KEY, v int, is_deleted boolean NOT NULL DEFAULT false, changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id());
INSERT INTO t SELECT generate_series(1, 5);
SELECT sophia.create_consumer('c', '{t}');
SELECT sophia.create_consumer('slow', '{t}');
SQL
is(take('c'), '1 2 3 4 5', 'a first batch has everything');
is(take('slow'), '1 2 3 4 5', 'of each consumer');

# ---- two sessions ----

my $other = $node->background_psql('postgres', on_error_stop => 0);
$other->query_safe('BEGIN; INSERT INTO t VALUES (6)');
sql('UPDATE t SET v = 1 WHERE id = 1');
is(take('c'), '1', 'a transaction that stays open is not waited for');
sql('UPDATE t SET v = 2 WHERE id = 2');
is(take('c'), '2', 'nor are later ones');
$other->query_safe('COMMIT');
is(take('c'), '6', 'and comes when it has committed');

$other->query_safe("BEGIN; SELECT * FROM sophia.next_batch('c')");
like(scalar $node->error_of("SELECT sophia.$_('c')"), qr/^55P03: consumer "c" is in use by another session/, "$_ fails while another session has the consumer")
  for 'next_batch', 'commit_batch', 'reset_consumer', 'drop_consumer', 'skip_batch';
like(sql("SELECT * FROM sophia.pending_changes('c', 10)"), qr/^t\|0\|f\|$/, 'looking is possible');
sql('DELETE FROM t WHERE id = 6');
is(take('slow'), '1 2 -6', 'other consumers go on, and so do writers');
$other->query_safe('ROLLBACK');
is(batch('c'), '-6', 'a batch that was rolled back was none');

$other->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql("SELECT sophia.commit_batch('c')");
sql('UPDATE t SET v = 3 WHERE id = 3');
is(take('c'), '3', 'the next one');
$other->query("SELECT * FROM sophia.next_batch('c')");
like($other->{stderr}, qr/could not serialize access/, 'a transaction whose snapshot is older than the last batch has to start anew');
$other->query('ROLLBACK');
$other->quit;

# ---- deleted keys ----

is(take('slow'), '3', 'the other one');
is(sql('SELECT key FROM sophia.deleted_keys'), '', 'the key is forgotten when both have read it');
sql('DELETE FROM t WHERE id = 5');
is(take('c'), '-5', 'a deleted row');
is(sql("SELECT key ->> 'id' FROM sophia.deleted_keys"), '5', 'is remembered for the other consumer');
is(take('slow'), '-5', 'which hears of it');
sql('INSERT INTO t VALUES (5)');
take('c');
is(sql('SELECT count(*) FROM sophia.deleted_keys'), 0, 'and then it is forgotten');

# ---- writers of other kinds ----

sql("SET session_replication_role = replica; UPDATE t SET v = 9 WHERE id = 1; DELETE FROM t WHERE id = 2; COPY t FROM STDIN;\n7\t7\tf\t3\n8\t8\tt\t3\n\\.\n");
is(take('c'), '1 -2 7 -8', 'triggers fire in any replication role, and COPY brings no old stamps');

# ---- restart and crash ----

sql('UPDATE t SET v = 1 WHERE id IN (1, 3, 4, 7)');
my $first = batch('c', 2);
like($first, qr/^\d \d$/, 'a batch');
$node->restart;
is(batch('c', 2), $first, 'is the same after a restart');
$node->stop('immediate');
$node->start;
is(take('c', 2), $first, 'and after a crash');
is(join(' ', sort split / /, $first . ' ' . take('c', 2)), '1 3 4 7', 'and what follows is the rest');
is(take('c'), '', 'and no more');

# ---- large windows ----

sql('CREATE TABLE big (id int PRIMARY KEY, changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id());
	INSERT INTO big SELECT generate_series(1, 20000);
	SELECT sophia.create_consumer(\'big\', \'{big}\');
	CREATE TABLE got (id int);
	CREATE PROCEDURE drain() LANGUAGE plpgsql AS $$
	BEGIN
	  LOOP
	    INSERT INTO got SELECT (key ->> \'id\')::int FROM sophia.next_batch(\'big\', 3000);
	    EXIT WHEN NOT FOUND;
	    PERFORM sophia.commit_batch(\'big\');
	    INSERT INTO big SELECT max(id) + 1 FROM big HAVING count(*) < 20010;
	    COMMIT;
	  END LOOP;
	END $$;
	CALL drain()');
is(sql('SELECT count(*), count(DISTINCT id), max(id) FROM got'), '20010|20010|20010', 'a window in parts, and then what came meanwhile, a window at a time');
is(sql('SELECT count(*) FROM sophia.batch_keys WHERE n <= 7'), 0, 'no key is left of what was committed');

# ---- dump and restore ----

sql('UPDATE t SET v = 2 WHERE id = 3');
is(batch('c'), '3', 'a batch is open when the database is dumped');
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
my $elsewhere = Sophia::Cluster->create('elsewhere', preload => 0, extension => 0);
$elsewhere->command_ok([ 'pg_restore', '--exit-on-error', '-d', $elsewhere->connstr('postgres'), $dump ], 'pg_restore into another cluster');
is($elsewhere->safe_psql('postgres', "SELECT next_full_reason, transactions_behind FROM sophia.consumers WHERE consumer = 'c'"),
	'restored from another cluster or database|', 'the consumer knows that it was restored');
# Stamps of the other cluster are none of this one's future then.
$elsewhere->safe_psql('postgres', 'DO $$ BEGIN FOR i IN 1 .. 3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
$elsewhere->safe_psql('postgres', 'DELETE FROM t WHERE id = 1');
my ($status, $out, $err) = $elsewhere->psql('postgres', "SELECT sophia.next_batch('c')");
like($err, qr/NOTICE:  consumer "c" lists tables whole: restored from another cluster or database/, 'next_batch says so');
is(take('c', undef, $elsewhere), '3 4 5 7 -8', 'and gives everything');
is($elsewhere->safe_psql('postgres', "SELECT next_full_reason, last_full_reason FROM sophia.consumers WHERE consumer = 'c'"),
	'|restored from another cluster or database', 'the view tells it afterwards');
$elsewhere->safe_psql('postgres', 'UPDATE t SET v = 5 WHERE id = 5; DELETE FROM t WHERE id = 7');
is(take('c', undef, $elsewhere), '5 -7', 'from then on what changes');
is(take('c', undef, $elsewhere), '', 'and nothing twice');
is($elsewhere->safe_psql('postgres', 'SELECT count(*) FROM sophia.deleted_keys'), 2, 'the other consumer, which has read nothing here, keeps the keys');
$elsewhere->safe_psql('postgres', 'DROP EXTENSION sophia_stack');
is($elsewhere->safe_psql('postgres', "SELECT count(*) FROM pg_trigger WHERE tgname ~ 'sophia'"), 0, 'DROP EXTENSION takes the restored triggers along');
is($elsewhere->safe_psql('postgres', 'UPDATE t SET v = 1 WHERE id = 4 RETURNING v'), 1, 'and the table is as any other');

sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()');
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
is(take('c', undef, $node, 'copy'), '1 3 4 5 7 -8', 'a copy of the database is another one, too');
is(take('c'), '3', 'which the original does not notice');

sql("UPDATE sophia.consumer_state SET snapshot = '99999999:99999999:' WHERE consumer = 'c'");
is(sql("SELECT next_full_reason FROM sophia.consumers WHERE consumer = 'c'"), 'transaction ids went back', 'ids that went back are noticed');
is(take('c'), '1 3 4 5 7 -8', 'everything is read');
sql('UPDATE t SET v = 1 WHERE id = 4');
is(take('c'), '4', 'and the cursor is right again');

# ---- a subscription's changes ----

my $subscriber = Sophia::Cluster->create('subscriber', preload => 0);
$subscriber->safe_psql('postgres', <<'SQL');
CREATE TABLE t (id int PRIMARY KEY, v int, is_deleted boolean NOT NULL DEFAULT false, changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id());
SELECT sophia.create_consumer('c', '{t}');
SQL
is(take('c', undef, $subscriber), '', 'a subscriber with an empty table');
sql('CREATE PUBLICATION p FOR TABLE t');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '${\$node->connstr} dbname=postgres' PUBLICATION p");
$subscriber->wait_for_subscription_sync($node, 's');
is(take('c', undef, $subscriber), '1 3 4 5 7 -8', 'the rows of the first copy come');
sql('UPDATE t SET v = 8 WHERE id = 3; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (9)');
$node->wait_for_catchup('s');
is(take('c', undef, $subscriber), '3 -4 9', 'and so do changes');
sql('TRUNCATE t');
$node->wait_for_catchup('s');
is(take('c', undef, $subscriber), '', 'and a truncation');
is($subscriber->safe_psql('postgres', "SELECT last_full_reason FROM sophia.consumers WHERE consumer = 'c'"), 'the table was emptied', 'as a full batch');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');

# ---- the raw tables ----

sql("SELECT sophia.create_schemas('{gong}'); SELECT sophia.create_consumer('gong', '{gong_raw.calls,gong_raw.call_parties}')");
$node->safe_psql('postgres', "SELECT * FROM sophia.next_batch('gong'); SELECT sophia.commit_batch('gong')");
sub gong { return sql("SELECT source, key ->> 'id', key ->> 'party_id', deleted FROM sophia.next_batch('gong') ORDER BY 1, 2, 3; SELECT sophia.commit_batch('gong')") =~ s/\n$//r }
my $call = sub { return "SELECT sophia.load_gong_calls('{\"calls\": [{\"metaData\": {\"id\": \"1\", \"title\": \"$_[0]\"}, \"parties\": [$_[1]]}]}')" };
sql($call->('a', '{"id": "p"}, {"id": "q"}'));
is(gong(), "gong_raw.calls|1||f\ngong_raw.call_parties||p|f\ngong_raw.call_parties||q|f", 'what the ingest writes comes');
sql($call->('b', '{"id": "p"}'));
is(gong(), "gong_raw.calls|1||f\ngong_raw.call_parties||q|t", 'and what it removes, and nothing that stayed the same');

sql("DROP EXTENSION sophia_stack; CREATE EXTENSION sophia_stack; SELECT sophia.create_schemas('{gong}')");
is(sql("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^sophia' AND tgrelid = 'gong_raw.calls'::regclass"), 4, 'a new extension gives adopted tables their triggers');
$_->stop for $node, $elsewhere, $subscriber;
done_testing();
