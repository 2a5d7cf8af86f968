# The timeline partitioned by month: keys, partitions made as they are needed, interactions that move, unknown times.
use strict;
use warnings;
use Sophia::Cluster;
use Test::More;

my $node = Sophia::Cluster->create('partitions', preload => 0);
my $options = q('{"partition_timeline": "month"}');
my $timeline = 'processed_data.interaction_timeline';

sub sql { return $node->safe_psql('postgres', @_) }

sub error_of
{
	my ($statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $err =~ /ERROR:\s+(\w+):/ ? $1 : '';
}

# id, occurred_at and partition of every row
sub rows { return sql("SELECT id, occurred_at AT TIME ZONE 'UTC', tableoid::regclass FROM $timeline ORDER BY id COLLATE \"C\"") }
sub partitions { return sql("SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY 1) FROM pg_inherits WHERE inhparent = '$timeline'::regclass") }

is(error_of("SELECT sophia.create_schemas(options => '{\"partition_timeline\": \"week\"}')"), '22023', 'no other period');
is(error_of("SELECT sophia.create_schemas(options => '{\"partition\": \"month\"}')"), '22023', 'no other option');
is(sql("SELECT action FROM sophia.create_schemas(options => $options) WHERE object = '$timeline'"), 'created', 'made with the option');
is(sql("SELECT pg_get_partkeydef(c.oid) || ' ' || pg_get_constraintdef(k.oid) FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
	WHERE c.oid = '$timeline'::regclass"), 'RANGE (occurred_at) PRIMARY KEY (id, occurred_at)', 'partitioned by time, which the key holds');
is(partitions(), 'processed_data.interaction_timeline_default', 'at first there is the default partition only');
for my $again ('', "options => $options")
{
	is(sql("SELECT string_agg(DISTINCT action, ' ') FROM sophia.create_schemas($again)"), 'exists', "known to create_schemas($again)");
}

sql(q{INSERT INTO hubspot_raw.contacts (id, email, doc) VALUES ('1', 'ann@acme.example', '{}');
	INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, contact_ids, doc) VALUES
		('10', 'NOTE', '2024-05-31 23:59:59+00', '{1}', '{}'), ('11', 'NOTE', '2024-06-01 00:00:00+00', '{1}', '{}'),
		('12', 'NOTE', NULL, '{1}', '{}'), ('13', 'NOTE', 'infinity', '{1}', '{}'), ('14', 'NOTE', '0999-01-01 00:00:00+00', '{1}', '{}');
	CALL sophia.refresh()});
is(rows(), join("\n", 'hubspot_10|2024-05-31 23:59:59|processed_data.interaction_timeline_2024_05',
	'hubspot_11|2024-06-01 00:00:00|processed_data.interaction_timeline_2024_06', 'hubspot_12|-infinity|processed_data.interaction_timeline_default',
	'hubspot_13|infinity|processed_data.interaction_timeline_default', 'hubspot_14|0999-01-01 00:00:00|processed_data.interaction_timeline_default'),
	'a full refresh makes the months; a time that is unknown or of no use goes to the default partition');

# Times change: to another month, to none, from none; one comes, one goes.
sql(q{UPDATE hubspot_raw.engagements SET occurred_at = '2024-07-04 12:00+00' WHERE id = '10';
	UPDATE hubspot_raw.engagements SET occurred_at = NULL WHERE id = '11';
	UPDATE hubspot_raw.engagements SET occurred_at = '2024-05-02 12:00+00' WHERE id = '12';
	INSERT INTO hubspot_raw.engagements (id, engagement_type, occurred_at, contact_ids, doc) VALUES ('15', 'NOTE', '2024-07-31 00:00+00', '{1}', '{}');
	DELETE FROM hubspot_raw.engagements WHERE id = '14';
	CALL sophia.refresh()});
is(sql("SELECT mode_used, rows_inserted, rows_updated, rows_deleted FROM sophia.refresh_log WHERE target = 'interaction_timeline' ORDER BY id DESC LIMIT 1"),
	'incremental|1|3|1', 'an incremental refresh counts a row that moves as updated');
my $expected = join("\n", 'hubspot_10|2024-07-04 12:00:00|processed_data.interaction_timeline_2024_07',
	'hubspot_11|-infinity|processed_data.interaction_timeline_default', 'hubspot_12|2024-05-02 12:00:00|processed_data.interaction_timeline_2024_05',
	'hubspot_13|infinity|processed_data.interaction_timeline_default', 'hubspot_15|2024-07-31 00:00:00|processed_data.interaction_timeline_2024_07');
is(rows(), $expected, 'each id is there once, in the partition of its new month');
sql("CALL sophia.refresh('full')");
is(rows(), $expected, 'a full refresh finds nothing else');
is(sql("SELECT rows_inserted + rows_updated + rows_deleted FROM sophia.refresh_log WHERE target = 'interaction_timeline' ORDER BY id DESC LIMIT 1"), '0', '… and writes nothing');
is(sql("SELECT id, occurred_at AT TIME ZONE 'UTC' FROM sophia.contact_timeline((SELECT identity_id FROM processed_data.unified_contacts WHERE id = 'hubspot_1'))"),
	"hubspot_13|infinity\nhubspot_15|2024-07-31 00:00:00\nhubspot_10|2024-07-04 12:00:00\nhubspot_12|2024-05-02 12:00:00\nhubspot_11|", 'contact_timeline shows them all');
like(sql("EXPLAIN SELECT FROM $timeline WHERE occurred_at >= '2024-07-01+00' AND occurred_at < '2024-08-01+00'"), qr/_2024_07/, 'a query by time reads its months only');

# An ordinary timeline stays what it is, and a dropped extension finds its own again.
sql('DROP EXTENSION sophia_stack; CREATE EXTENSION sophia_stack');
is(sql("SELECT action FROM sophia.create_schemas() WHERE object = '$timeline'"), 'adopted', 'a new installation adopts it');
sql("DROP SCHEMA processed_data CASCADE; SELECT count(*) FROM sophia.create_schemas(); SELECT count(*) FROM sophia.create_schemas(options => $options)");
is(sql("SELECT relkind FROM pg_class WHERE oid = '$timeline'::regclass"), 'r', 'the option is for a table that is not there yet');
done_testing();
