# A table of Estuary's PostgreSQL materialization, made and written by the statements that materialize-postgres runs: the
# connector is a cloud service that needs a Flow runtime, so tests have its SQL instead.
#
#   my $table = Sophia::Materialization->new($node, 'estuary_hubspot.contacts', collection => 'acmeCo/hubspot/contacts',
#     keys => [ [ 'id', 'BIGINT', 'integer' ] ], values => [ [ 'archived', 'BOOLEAN', 'boolean' ], ... ]);
#   $table->create;
#   $table->store({ id => 1, archived => JSON::PP::false });     # one transaction: INSERT or UPDATE of each document
#   $table->delete({ id => 1 });
package Sophia::Materialization;
use strict;
use warnings;
use JSON::PP ();
use Sophia::Documents ();

my $json = JSON::PP->new->canonical->allow_nonref;

# Parameters:
#   collection  name of the collection
#   keys        columns of the key: [field, type, JSON types]
#   values      the others: [field, type, JSON types, pointer]; the pointer is left out where it is the field
#   document    1: there is a flow_document (default)
#   delta       1: delta updates: no key, no flow_document, rows are only added
#   user        role of the materialization (default postgres)
#   sql         additional table create SQL
#   clock       publication time of the first document in seconds (default 1700000000)
sub new
{
	my ($class, $node, $name, %p) = @_;
	my $self = bless {
		node => $node, name => $name, collection => 'acmeCo/collection', document => 1, delta => 0, user => 'postgres',
		sql => '', clock => 1_700_000_000, uuid => 1, %p, known => {}
	}, $class;
	$self->{document} = 0 if $self->{delta};
	my ($schema, $table) = split /\./, $name;
	$self->{checkpoints} = "$schema.flow_checkpoints_v1";
	return $self;
}

sub _quote
{
	my ($field) = @_;
	return $field =~ /^[a-z_][a-z0-9_]*$/ && $field !~ /^(user|language|scope|system)$/ ? $field
	  : '"' . $field =~ s/"/""/gr . '"';
}

sub _literal { return defined $_[0] ? "'" . $_[0] =~ s/'/''/gr . "'" : 'NULL' }

# All columns in their order: keys, values by field name with the time of publication among them, document.
sub _columns
{
	my ($self) = @_;
	return (@{ $self->{keys} },
		(sort { $a->[0] cmp $b->[0] } @{ $self->{values} }, [ 'flow_published_at', 'TIMESTAMPTZ NOT NULL', 'string', '/_meta/uuid' ]),
		$self->{document} ? [ 'flow_document', 'JSON NOT NULL', 'object', '' ] : ());
}

sub _pointer { return $_[0][3] // "/$_[0][0]" }

# The statements that make the table, without the transaction around them.
sub create_sql
{
	my ($self) = @_;
	my %key = map { $_->[0] => 1 } @{ $self->{keys} };
	my @definitions = map { _quote($_->[0]) . " $_->[1]" . ($key{ $_->[0] } ? ' NOT NULL' : '') } $self->_columns;
	my $sql = "CREATE TABLE IF NOT EXISTS $self->{name} (\n\t\t" . join(",\n\t\t", @definitions);
	$sql .= ",\n\n\t\tPRIMARY KEY (" . join(', ', map { _quote($_->[0]) } @{ $self->{keys} }) . ')' if !$self->{delta};
	$sql .= "\n);\n\nCOMMENT ON TABLE $self->{name} IS 'Generated for materialization acmeCo/postgres of collection $self->{collection}';\n";
	for my $column ($self->_columns)
	{
		my $lead = $column->[0] eq 'flow_published_at' ? "Flow Publication Time\nFlow publication date-time of this document\n" : '';
		$sql .= "COMMENT ON COLUMN $self->{name}." . _quote($column->[0]) . ' IS '
		  . _literal("${lead}auto-generated projection of JSON at: " . _pointer($column) . " with inferred types: [$column->[2]]") . ";\n";
	}
	return $sql;
}

# The connector starts: schema and checkpoints; then the table, with the additional SQL in one transaction.
sub create
{
	my ($self) = @_;
	my ($schema) = split /\./, $self->{name};
	$self->run("CREATE SCHEMA IF NOT EXISTS $schema;
		CREATE TABLE IF NOT EXISTS $self->{checkpoints} (materialization TEXT NOT NULL, key_begin BIGINT NOT NULL,
			key_end BIGINT NOT NULL, fence BIGINT NOT NULL, checkpoint TEXT NOT NULL, PRIMARY KEY (materialization, key_begin, key_end));
		INSERT INTO $self->{checkpoints} VALUES ('acmeCo/postgres', 0, 4294967295, 1, '') ON CONFLICT DO NOTHING");
	return $self->run('BEGIN; ' . $self->create_sql . "$self->{sql}; COMMIT");
}

# Runs statements as the materialization's role.
sub run
{
	my ($self, $sql) = @_;
	my ($schema) = split /\./, $self->{name};
	return $self->{node}->safe_psql('postgres', $sql, connstr => $self->{node}->connstr('postgres') . " user=$self->{user}");
}

# The value of a column as the connector converts it; what is no scalar is JSON, and so is every value of a JSON column.
sub _value
{
	my ($document, $column) = @_;
	my $value = $document;
	for my $step (split m{/}, _pointer($column) =~ s{^/}{}r)
	{
		return undef if ref $value ne 'HASH' || !exists $value->{$step};
		$value = $value->{$step};
	}
	return undef if !defined $value;
	return $json->encode($value) if $column->[1] =~ /^JSON/ || (ref $value && !JSON::PP::is_bool($value));
	return JSON::PP::is_bool($value) ? ($value ? 'true' : 'false') : $value;
}

sub _key
{
	my ($self, $document) = @_;
	return map { _value($document, $_) } @{ $self->{keys} };
}

# The document as the runtime has it, published a second after the one before; given => seconds publishes it then.
sub publish
{
	my ($self, $document, $given) = @_;
	my $seconds = $given // $self->{clock}++;
	my $uuid = Sophia::Documents::uuid('030000000009', Sophia::Documents::clock_of($seconds), 0);
	return ({ %$document, _meta => { %{ $document->{_meta} // {} }, $self->{uuid} ? (uuid => $uuid) : () } }, $seconds);
}

# The statement that stores one document: INSERT where the key is new, else UPDATE of all values by key.
sub store_sql
{
	my ($self, $document, $given) = @_;
	my ($published, $seconds) = $self->publish($document, $given);
	my $key = join "\0", $self->_key($document);
	my %value = map { $_->[0] => _literal(_value($published, $_)) } $self->_columns;
	$value{flow_published_at} = "to_timestamp($seconds)";
	$value{flow_document} = _literal($self->{raw} // $json->encode($published)) if $self->{document};
	my @columns = map { $_->[0] } $self->_columns;
	my %is_key = map { $_->[0] => 1 } @{ $self->{keys} };
	if ($self->{delta} || !$self->{known}{$key}++)
	{
		return "INSERT INTO $self->{name} (" . join(', ', map { _quote($_) } @columns) . ') VALUES ('
		  . join(', ', map { $value{$_} } @columns) . ')';
	}
	return "UPDATE $self->{name} SET " . join(', ', map { _quote($_) . " = $value{$_}" } grep { !$is_key{$_} } @columns)
	  . ' WHERE ' . join(' AND ', map { _quote($_) . " = $value{$_}" } grep { $is_key{$_} } @columns);
}

# One transaction: the load phase, the statements, and the fence at the end.
sub transaction
{
	my ($self, @statements) = @_;
	my @keys = map { _quote($_->[0]) . " $_->[1] NOT NULL" } @{ $self->{keys} };
	my $load = $self->{document}
	  ? "CREATE TEMPORARY TABLE flow_temp_table_0 (" . join(', ', @keys) . ") ON COMMIT DELETE ROWS;
		BEGIN; SELECT 0, r.flow_document FROM flow_temp_table_0 AS l JOIN $self->{name} AS r ON "
	  . join(' AND ', map { my $k = _quote($_->[0]); "l.$k = r.$k" } @{ $self->{keys} }) . '; COMMIT;'
	  : '';
	return $self->run("$load BEGIN; " . join('; ', @statements) . "; DO \$\$
		BEGIN
			UPDATE $self->{checkpoints} SET checkpoint = 'AAECAwQFBgcICQ=='
				WHERE materialization = 'acmeCo/postgres' AND key_begin = 0 AND key_end = 4294967295 AND fence = 1;
			IF NOT FOUND THEN RAISE 'This instance was fenced off by another'; END IF;
		END \$\$; COMMIT");
}

# Stores documents in one transaction.
sub store
{
	my ($self, @documents) = @_;
	return $self->transaction(map { $self->store_sql($_) } @documents);
}

# A hard delete of each document's key, in one transaction.
sub delete
{
	my ($self, @documents) = @_;
	delete $self->{known}{ join "\0", $self->_key($_) } for @documents;
	return $self->transaction(map {
			my $document = $_;
			"DELETE FROM $self->{name} WHERE "
			  . join(' AND ', map { _quote($_->[0]) . ' = ' . _literal(_value($document, $_)) } @{ $self->{keys} })
	} @documents);
}

# A backfill of a table whose columns are still compatible.
sub truncate
{
	my ($self) = @_;
	$self->{known} = {};
	return $self->run("TRUNCATE TABLE $self->{name}");
}

# A backfill of a table whose columns are not.
sub recreate
{
	my ($self) = @_;
	$self->{known} = {};
	$self->run("DROP TABLE $self->{name};");
	return $self->create;
}

# A new field is selected: a column that may be null, without a comment.
sub add_column
{
	my ($self, $field, $type, $types, $pointer) = @_;
	push @{ $self->{values} }, [ $field, $type, $types, $pointer ];
	return $self->run("ALTER TABLE $self->{name}\n\tADD COLUMN " . _quote($field) . " $type;");
}

# A field is not required any more.
sub drop_not_null
{
	my ($self, $field) = @_;
	return $self->run("ALTER TABLE $self->{name}\n\tALTER COLUMN " . _quote($field) . ' DROP NOT NULL;');
}

# A column becomes wider in place.
sub alter_type
{
	my ($self, $field, $type, $using) = @_;
	$_->[1] = $type for grep { $_->[0] eq $field } @{ $self->{values} };
	my $column = _quote($field);
	return $self->run("ALTER TABLE $self->{name} ALTER COLUMN $column SET DATA TYPE $type USING " . ($using // "$column\::$type") . ';');
}

# The same by a column beside it, as an earlier connector did.
sub replace_type
{
	my ($self, $field, $type) = @_;
	my ($column, $beside) = (_quote($field), _quote("${field}_flowtmp1"));
	$_->[1] = $type for grep { $_->[0] eq $field } @{ $self->{values} };
	$self->run($_) for "ALTER TABLE $self->{name} ADD COLUMN $beside $type;", "UPDATE $self->{name} SET $beside = $column\::$type;",
	  "ALTER TABLE $self->{name} DROP COLUMN $column;", "ALTER TABLE $self->{name} RENAME COLUMN $beside TO $column;";
	return;
}

1;
