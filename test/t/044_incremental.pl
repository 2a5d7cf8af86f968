# What a refresh recomputes of what changed is what a refresh of everything computes, row for row: random changes of all
# sources, refreshed after each round, at times in steps.
#
# SOPHIA_SEED, SOPHIA_ROUNDS: another course of the test, and a longer one.
use strict;
use warnings;
use Sophia::Cluster;
use Sophia::RawChanges;
use Test::More;

my $seed = $ENV{SOPHIA_SEED} || 1;
my $rounds = $ENV{SOPHIA_ROUNDS} || 40;
my $node = Sophia::Cluster->create('incremental');
note "SOPHIA_SEED=$seed SOPHIA_ROUNDS=$rounds";
my $changes = Sophia::RawChanges->new(seed => $seed);

$node->safe_psql('postgres', <<'SQL');
SELECT sophia.create_schemas();
-- Everything computed into empty tables, compared with what is there, and taken back.
CREATE FUNCTION rebuilt() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  differences text[];
BEGIN
  BEGIN
    CREATE TEMP TABLE c AS SELECT * FROM processed_data.unified_contacts;
    CREATE TEMP TABLE i AS SELECT * FROM processed_data.interaction_timeline;
    CREATE TEMP TABLE p AS SELECT * FROM processed_data.interaction_participants;
    ALTER TABLE c DROP COLUMN identity_id;
    TRUNCATE processed_data.unified_contacts, processed_data.interaction_timeline, processed_data.interaction_participants;
    TRUNCATE sophia.refresh_lookups, sophia.contact_merges;
    CALL sophia.refresh('full');
    CREATE TEMP TABLE n AS SELECT * FROM processed_data.unified_contacts;
    ALTER TABLE n DROP COLUMN identity_id;
    SELECT array_agg(d) INTO differences FROM (
      (SELECT 'contact - ' || to_jsonb(c)::text FROM c EXCEPT SELECT 'contact - ' || to_jsonb(n)::text FROM n)
      UNION ALL (SELECT 'contact + ' || to_jsonb(n)::text FROM n EXCEPT SELECT 'contact + ' || to_jsonb(c)::text FROM c)
      UNION ALL (SELECT 'interaction - ' || to_jsonb(i)::text FROM i EXCEPT SELECT 'interaction - ' || to_jsonb(t)::text FROM processed_data.interaction_timeline t)
      UNION ALL (SELECT 'interaction + ' || to_jsonb(t)::text FROM processed_data.interaction_timeline t EXCEPT SELECT 'interaction + ' || to_jsonb(i)::text FROM i)
      UNION ALL (SELECT 'participant - ' || to_jsonb(p)::text FROM p EXCEPT SELECT 'participant - ' || to_jsonb(t)::text FROM processed_data.interaction_participants t)
      UNION ALL (SELECT 'participant + ' || to_jsonb(t)::text FROM processed_data.interaction_participants t EXCEPT SELECT 'participant + ' || to_jsonb(p)::text FROM p)) x (d);
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
  EXCEPTION WHEN SQLSTATE 'UNDO0' THEN NULL;
  END;
  RETURN QUERY SELECT unnest(differences);
END $$;
SQL

my %used;
my $verify = 'SELECT * FROM sophia.verify_refresh(1) LIMIT 20';
for my $round (1 .. $rounds)
{
	$node->safe_psql('postgres', $changes->statements($round == 1 ? 150 : 1 + $changes->below(12)));
	my $how = $changes->pick('', '', '', 'contacts', 'timeline', 'steps', 'time');
	if ($how eq 'steps')
	{
		$node->safe_psql('postgres', 'CALL sophia.refresh(max_rows => ' . (1 + $changes->below(4)) . ');' . $changes->statements(2))
		  for 1 .. 1 + $changes->below(4);
	}
	elsif ($how eq 'time')
	{
		$node->safe_psql('postgres', "CALL sophia.refresh('full', time_budget => '1 ms');" . $changes->statements(2));
	}
	elsif ($how)
	{
		my $procedure = $how eq 'contacts' ? 'refresh_unified_contacts' : 'refresh_interaction_timeline';
		$node->safe_psql('postgres', "CALL sophia.$procedure();" . $changes->statements(3));
	}
	$node->safe_psql('postgres', 'CALL sophia.refresh()');
	my ($mode) = $node->safe_psql('postgres', "SELECT mode_used FROM sophia.refresh_log WHERE target = 'unified_contacts' ORDER BY id DESC LIMIT 1");
	$used{$mode}++;
	my $found = $node->safe_psql('postgres', $verify);
	$found .= $node->safe_psql('postgres', 'SELECT * FROM rebuilt() LIMIT 20') if $round % 5 == 0;
	next if $found eq '';
	fail("seed $seed, round $round ($how): incremental is not full");
	diag($found);
	last;
}
pass("seed $seed: $rounds rounds");
cmp_ok($used{incremental} // 0, '>', $used{full} // 0, 'most of them were incremental');
$node->safe_psql('postgres', 'CALL sophia.refresh()');
is($node->safe_psql('postgres', "CALL sophia.refresh(); SELECT sum(rows_inserted + rows_updated + rows_deleted) FROM sophia.refresh_log
	WHERE id > (SELECT max(id) FROM sophia.refresh_log) - 2"), 0, 'then there is nothing left to do');
$node->stop;
done_testing();
