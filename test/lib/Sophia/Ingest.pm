# A Sophia::Cluster whose streams read a folder of fragments of its own: schemas made, endpoint 'store' created.
#
#   my $node = Sophia::Ingest->create('main');
#   my $journal = $node->journal('acme/contacts');
#   $journal->write($producer->transaction({ id => 1 }));
#   $node->follow('contacts', 'acme/contacts', 'hubspot.contacts');
#   ok($node->await_stream('contacts'), 'caught up');
package Sophia::Ingest;
use strict;
use warnings;
use parent 'Sophia::Cluster';
use Carp qw(croak);
use File::Spec;
use JSON::PP ();
use PostgreSQL::Test::Utils ();
use Sophia::Documents;

my $json = JSON::PP->new->canonical->utf8;

# Makes and starts a cluster; parameters as Sophia::Cluster's.
sub create
{
	my ($class, $name, %p) = @_;
	my $store = File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir($name));
	my $self = $class->SUPER::create($name, fragments => $store, %p);
	$self->{store} = $store;
	return $self if !($p{start} // 1);
	$self->prepare('postgres') if $p{extension} // 1;
	return $self;
}

# Makes the schemas and the endpoint in a database that has the extension.
sub prepare
{
	my ($self, $database) = @_;
	$self->safe_psql($database, 'SELECT count(*) FROM sophia.create_schemas()');
	$self->safe_psql($database, "SELECT sophia.create_endpoint('store', 'fragments', '$self->{store}')");
	return;
}

# The folder of the fragments.
sub store { return $_[0]{store} }

# A journal of a collection.  Parameters: name (below the collection, default pivot=00), offset.
sub journal
{
	my ($self, $collection, %p) = @_;
	return Sophia::Documents->journal($self->{store}, "$collection/" . ($p{name} // 'pivot=00'), $p{offset});
}

# create_stream; the options as a hash.
sub follow
{
	my ($self, $stream, $collection, $shape, $options, $database) = @_;
	my $text = $json->encode($options // {});
	$self->safe_psql($database // 'postgres',
		"SELECT sophia.create_stream('$stream', 'store', '$collection', '$shape', '$text')");
	return;
}

# Result of a query, rows separated by newlines and columns by |.
sub rows
{
	my ($self, $sql) = @_;
	return $self->safe_psql('postgres', $sql);
}

# Columns of stream_status.
sub status
{
	my ($self, $stream, $columns) = @_;
	return $self->rows("SELECT $columns FROM sophia.stream_status WHERE stream = '$stream'");
}

# Waits until columns of stream_status have that value.
sub wait_for_status
{
	my ($self, $stream, $columns, $value) = @_;
	return $self->poll_query_until('postgres', "SELECT $columns FROM sophia.stream_status WHERE stream = '$stream'",
		$value);
}

# Waits until the stream has failed and returns why.
sub failure_of
{
	my ($self, $stream) = @_;
	$self->wait_for_status($stream, 'state', 'failed') or croak "stream $stream did not fail";
	return $self->status($stream, 'last_error');
}

# Dead letters of a stream: begin_offset|sqlstate|reason in the order of their offsets.
sub dead_letters
{
	my ($self, $stream) = @_;
	return $self->rows(
		"SELECT begin_offset, sqlstate, reason FROM sophia.dead_letters WHERE stream = '$stream' ORDER BY journal, begin_offset");
}

# Runs SQL in a session of its own, beside the test; finish() waits for its end.
sub beside
{
	my ($self, $sql) = @_;
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-q', '-d', $self->connstr('postgres'), '-c', $sql ],
		'<', \undef, '>', \$out, '2>', \$err);
	return { run => $run, out => \$out, err => \$err };
}

1;
