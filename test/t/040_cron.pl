# pg_cron refreshes processed_data: the procedure runs in its background worker as in a session.
use strict;
use warnings;
use Sophia::Cluster;
use Test::More;

my $node = Sophia::Cluster->create('cron', start => 0);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron, sophia_stack'
cron.database_name = 'postgres'
cron.use_background_workers = on
max_worker_processes = 20");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION pg_cron; CREATE EXTENSION sophia_stack; SELECT sophia.create_schemas();
	INSERT INTO hubspot_raw.contacts (id, email, doc) VALUES ('1', 'ann\@example.com', '{}');
	SELECT cron.schedule('refresh', '* * * * *', 'CALL sophia.refresh()')");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM cron.job_run_details WHERE status = 'succeeded')"),
	'a scheduled refresh succeeds');
is($node->safe_psql('postgres', "SELECT id, email FROM processed_data.unified_contacts"), 'hubspot_1|ann@example.com',
	'it filled unified_contacts');
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'"), 0, 'none failed');
is($node->safe_psql('postgres', "SELECT target, rows_inserted, complete FROM sophia.refresh_log WHERE target = 'unified_contacts' ORDER BY id LIMIT 1"),
	'unified_contacts|1|t', 'and left its record in the log');
$node->safe_psql('postgres', "SELECT cron.unschedule('refresh')");
$node->stop;
done_testing();
