# Lineage: documents of rows, edges of columns, and events that are what OpenLineage's schema wants.
use strict;
use warnings;
use IPC::Run ();
use JSON::PP qw(decode_json encode_json);
use PostgreSQL::Test::Utils;
use Sophia::Cluster;
use Sophia::Documents;
use Test::More;
use Time::HiRes qw(time);

my $store = PostgreSQL::Test::Utils::tempdir() . '/store';
mkdir $store or die "cannot make $store: $!";
my $producer = Sophia::Documents->producer('030000000001');
my $people = Sophia::Documents->journal($store, 'acme/contacts/pivot=00');
$people->write($producer->transaction({ id => '1', properties => { email => 'ann@x.example', firstname => 'Ann', associatedcompanyid => '9' } },
	{ id => '2', properties => { email => 'old@x.example' } }));
$people->write($producer->transaction({ id => '1', properties => { phone => '+1 415 555 0100', hs_merged_object_ids => '2' } }));
Sophia::Documents->journal($store, 'acme/companies/pivot=00')->write($producer->transaction({ id => '9', properties => { name => 'Acme' } }));

my $node = Sophia::Cluster->create('lineage', fragments => $store);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql("SELECT sophia.create_schemas(); SELECT sophia.create_endpoint('store', 'fragments', '$store');
	SELECT sophia.create_stream('people', 'store', 'acme/contacts', 'hubspot.contacts');
	SELECT sophia.create_stream('companies', 'store', 'acme/companies', 'hubspot.companies')");
ok($node->await_stream($_), "$_ are there") for qw(people companies);
sql(<<'SQL');
INSERT INTO gong_raw.users (id, email, doc) VALUES ('u_1', 'host@own.example', '{}');
INSERT INTO gong_raw.calls (id, started, primary_user_id, doc) VALUES ('7', '2024-01-01', 'u_1', '{}');
INSERT INTO gong_raw.call_parties (call_id, party_id, ordinal, email, email_norm, name, speaker_id, doc) VALUES
  ('7', 'p_1', 1, 'bo@y.example', 'bo@y.example', 'Bo', 's1', '{}'), ('7', 'p_2', 2, NULL, NULL, 'Nameless', 's2', '{}');
INSERT INTO gong_raw.call_transcripts (call_id, seq, speaker_id, text, start_ms, end_ms, doc, source_journal, source_offset)
  SELECT '7', i, 's1', 'text', i, i + 1, '{}', 'transcripts', 33 FROM generate_series(1, 500) AS i;
INSERT INTO slack_raw.users (id, real_name, doc) VALUES ('U1', 'Cy', '{}');
INSERT INTO slack_raw.channels (id, name, doc) VALUES ('C_1', 'general', '{}');
INSERT INTO slack_raw.messages (channel, ts, user_id, text, sent_at, doc) VALUES ('C_1', '1.2', 'U1', 'hi', '2024-01-01', '{}');
INSERT INTO hubspot_raw.contacts (id, email, doc) SELECT 'x' || i, 'x' || i || '@z.example', '{}' FROM generate_series(1, 20000) AS i;
CALL sophia.refresh();
SQL

# ---- rows ----

my $lineage = "SELECT source, source_key, part, stream, journal, journal_offset FROM sophia.row_lineage";
my $offset = sql("SELECT source_offset FROM hubspot_raw.contacts WHERE id = '1'");
cmp_ok($offset, '>', 0, 'a raw row knows the offset of its last document');
my $bytes = join '', map { slurp_file($_) } sort glob "$store/acme/contacts/pivot=00/*-*";
is(decode_json((split /\n/, substr($bytes, $offset))[0])->{properties}{phone}, '+1 415 555 0100', 'which stands there in the journal');
is(sql("$lineage('processed_data.unified_contacts', 'hubspot_1')"),
	qq(hubspot_raw.contacts|{"id": "1"}|record|people|acme/contacts/pivot=00|$offset\n)
	. qq(hubspot_raw.contacts|{"id": "2"}|merged record|people|acme/contacts/pivot=00|) . sql("SELECT source_offset FROM hubspot_raw.contacts WHERE id = '2'")
	. qq(\nhubspot_raw.companies|{"id": "9"}|company|companies|acme/companies/pivot=00|0),
	'a contact is made of its record, the one that was merged into it, and its company');
is(sql("$lineage('processed_data.unified_contacts', 'gong_bo\@y.example')"), 'gong_raw.call_parties|{"call_id": "7", "party_id": "p_1"}|record|||', 'an outside party');
is(sql("$lineage('processed_data.unified_contacts', 'gong_7_p_2')"), 'gong_raw.call_parties|{"call_id": "7", "party_id": "p_2"}|record|||', 'one without an address');
is(sql("$lineage('processed_data.unified_contacts', 'gong_u_1')"), 'gong_raw.users|{"id": "u_1"}|record|||', 'a user whose id has an underscore');
is(sql("$lineage('processed_data.interaction_timeline', 'gong_7') WHERE part <> 'party'"),
	qq(gong_raw.calls|{"id": "7"}|record|||\ngong_raw.call_transcripts|{"seq": 1, "call_id": "7"}|transcript||transcripts|33),
	'a call is made of itself and its transcript, which is one document');
is(sql("$lineage('processed_data.interaction_timeline', 'slack_C_1_1.2')"),
	qq(slack_raw.messages|{"ts": "1.2", "channel": "C_1"}|record|||\nslack_raw.channels|{"id": "C_1"}|channel|||\nslack_raw.users|{"id": "U1"}|author|||),
	'a message of a channel whose id has an underscore');
is(sql("SELECT string_agg(r.source || ' ' || r.part, ', ' ORDER BY r.source::text, r.part) FROM processed_data.interaction_participants AS p,
	sophia.row_lineage('processed_data.interaction_participants', jsonb_build_object('interaction_id', p.interaction_id, 'ordinal', p.ordinal)) AS r
	WHERE p.email_norm = 'bo\@y.example'"),
	'gong_raw.call_parties contact, gong_raw.call_parties party, gong_raw.call_transcripts transcript, gong_raw.calls record', 'a participant');
is(sql("SELECT count(*) FROM sophia.row_lineage('processed_data.unified_contacts', 'hubspot_none')"), 0, 'of a row that is not there, nothing');
my ($rc, undef, $err) = $node->psql('postgres', "SELECT sophia.row_lineage('hubspot_raw.contacts', '1')");
like($err, qr/hubspot_raw.contacts is no table of processed_data/, 'raw rows know their document themselves');
# Twenty of twenty thousand: by their keys, whatever the number of rows.
my ($found, $scans, $ms) = split /\n/, sql("DO \$\$ BEGIN PERFORM sophia.row_lineage('processed_data.unified_contacts', 'hubspot_1'); END \$\$;
	BEGIN; CREATE TEMP TABLE clock AS SELECT clock_timestamp() AS began;
	SELECT count(*) > 0 FROM generate_series(1, 20) AS i, sophia.row_lineage('processed_data.unified_contacts', 'hubspot_' || CASE i WHEN 1 THEN '1' ELSE 'x' || i END);
	SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'hubspot_raw.contacts'::regclass;
	SELECT extract(epoch FROM clock_timestamp() - began) * 1000 / 20 FROM clock; COMMIT");
is("$found $scans", 't 0', 'rows are found by their keys');
cmp_ok($ms, '<=', 50, "in $ms ms, where others keep the processors busy");

# ---- columns ----

is(sql("SELECT c.table_name, c.column_name FROM sophia.table_columns AS c WHERE c.table_schema = 'processed_data' AND NOT EXISTS (
	SELECT FROM sophia.lineage_edges AS e WHERE e.target_table = c.table_name AND e.target_column = c.column_name) ORDER BY 1, 2"), '',
	'every column of processed_data is made of something');
is(sql("SELECT e.* FROM sophia.lineage_edges AS e WHERE NOT EXISTS (SELECT FROM sophia.table_columns AS c
	WHERE c.table_schema = e.source_schema AND c.table_name = e.source_table AND c.column_name = e.source_column)
	OR NOT EXISTS (SELECT FROM sophia.table_columns AS c
	WHERE c.table_schema = 'processed_data' AND c.table_name = e.target_table AND c.column_name = e.target_column)"), '', 'of columns that there are');
is(sql("SELECT source, source_column, transformation, depth FROM sophia.lineage('processed_data.unified_contacts', 'lifecycle_stage')"),
	"hubspot_raw.contacts|lifecyclestage|identity|1\nhubspot.contacts|/properties/lifecyclestage|identity|2", 'a column leads to the pointer of its documents');
is(sql("SELECT count(*) FROM sophia.lineage('processed_data.interaction_timeline') WHERE source = 'gong.calls' AND source_column = '/metaData/title'")
	+ sql("SELECT count(*) FROM sophia.lineage('processed_data.interaction_timeline') WHERE source = 'gong.calls' AND source_column LIKE '%/title'") > 0, 1,
	'so does a table');
sql("SELECT sophia.add_field('people', '/properties/twitterhandle', 'twitter', 'text')");
is(sql("SELECT source, source_column FROM sophia.lineage('hubspot_raw.contacts', 'twitter')"), 'hubspot.contacts|/properties/twitterhandle', 'and a field that was added');
($rc, undef, $err) = $node->psql('postgres', "SELECT sophia.lineage('hubspot_raw.contacts', 'none')");
like($err, qr/column "none" of hubspot_raw.contacts does not exist/, 'a column that is not there is an error');

# ---- OpenLineage ----

sql("SELECT sophia.check_quality(); UPDATE hubspot_raw.contacts SET firstname = 'Anna' WHERE id = '1'; CALL sophia.refresh();
	INSERT INTO sophia.refresh_log (target, mode, mode_used, started_at, finished_at, complete, rows_inserted, rows_updated, rows_deleted, error)
	VALUES ('unified_contacts', 'full', 'full', now(), now(), false, 0, 0, 0, E'it \"broke\"\\n')");
my @events = split /\n/, sql('SELECT sophia.openlineage_events()');
my $runs = sql('SELECT count(*) FROM sophia.refresh_log');
is(scalar @events, 2 * $runs, 'two events a run');
IPC::Run::run([ 'test/openlineage/validate' ], '<', \join("\n", @events, ''), '>', \my $verdict, '2>', \my $trouble);
is($verdict . $trouble, @events . " events, 0 errors\n", 'they are valid');
my @decoded = map { decode_json($_) } @events;
my $broken = encode_json({ %{ $decoded[0] }, run => { runId => '42' }, eventTime => 'now' });
IPC::Run::run([ 'test/openlineage/validate' ], '<', \"$broken\n", '>', \$verdict, '2>', \$trouble);
like($verdict, qr/run\/runId.*1 events, [23] errors/s, 'and the validator finds what is not');
is(scalar(grep { $_->{eventType} eq 'START' } @decoded), $runs, 'each run starts');
my ($failed) = grep { $_->{eventType} eq 'FAIL' } @decoded;
is($failed->{run}{facets}{errorMessage}{message}, "it \"broke\"\n", 'one failed');
my ($done) = grep { $_->{eventType} eq 'COMPLETE' && $_->{job}{name} =~ /unified_contacts/ } @decoded;
cmp_ok($done->{outputs}[0]{outputFacets}{outputStatistics}{rowCount}, '>', 20000, 'with how many rows');
is($done->{outputs}[0]{name}, 'postgres.processed_data.unified_contacts', 'of the database, schema and table');
ok((grep { $_->{field} eq 'email' } @{ $done->{outputs}[0]{facets}{columnLineage}{fields}{email}{inputFields} }), 'made of columns');
my ($checked) = grep { $_->{inputFacets} } map { @{ $_->{inputs} } } $failed;
ok(@{ $checked->{inputFacets}{dataQualityAssertions}{assertions} }, 'and the rules that were checked');
my %run;
$run{ $_->{run}{runId} }++ for @decoded;
is(join(',', sort values %run), join(',', (2) x $runs), 'events of a run share its number, and no others');
is_deeply([ split /\n/, sql('SELECT sophia.openlineage_events()') ], \@events, 'which stays');
is(sql("SELECT count(*) FROM sophia.openlineage_events((SELECT max(finished_at) FROM sophia.refresh_log WHERE error IS NULL), 'postgres://db.example:5432') AS e
	WHERE e #>> '{job,namespace}' = 'postgres://db.example:5432'") >= 2, 1, 'since a time, in a namespace of choice');

$node->stop;
done_testing();
