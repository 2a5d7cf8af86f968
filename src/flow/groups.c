/*
 * groups.c
 *		The documents of one call of sophia_apply(), gathered by the key of their row: see groups.h.
 */
#include "postgres.h"

#include "flow/groups.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

void
sophia_apply_dead(Apply *apply, const ApplyDocument *document, int sqlstate, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(apply->context);
	DeadLetter *letter = palloc(sizeof(DeadLetter));

	letter->line = document->line;
	letter->length = document->length;
	letter->offset = document->document.offset;
	letter->sqlstate = sqlstate;
	letter->reason = pstrdup(reason);
	apply->dead = lappend(apply->dead, letter);
	MemoryContextSwitchTo(old);
}

/* The value of key number i: at the shape's pointer, else at those of the column that holds it. */
static const JsonNode *
find_key(const Shape *shape, const JsonNode *root, int i)
{
	const JsonNode *node = sophia_json_find(root, &shape->keys[i]);
	const TargetTable *table = sophia_shape_target(shape);

	if (node != NULL && node->kind != JSON_NULL)
		return node;
	for (int c = 0; c < table->n_columns; c++)
	{
		const TargetColumn *column = &table->columns[c];

		if (strcmp(column->name, shape->key_columns[i]) != 0)
			continue;
		for (int p = 0; p < column->n_pointers && (node == NULL || node->kind == JSON_NULL); p++)
			node = sophia_json_find(root, &column->pointers[p]);
	}
	return node;
}

/* The text of a value as its column's type writes it, the same for equal values; NULL: it is none. */
static char *
typed_text(KeyType *type, ConversionContext *context, const JsonNode *node)
{
	Datum value;
	bool null;

	if (!type->conversion->convert(context, &node, 1, &value, &null) || null)
		return NULL;
	if (type->conversion->type == NUMERICOID)
		return numeric_normalize(DatumGetNumeric(value));
	/* zero has two signs */
	if (type->conversion->type == FLOAT8OID && DatumGetFloat8(value) == 0)
		return pstrdup("0");
	if (type->conversion->type == FLOAT4OID && DatumGetFloat4(value) == 0)
		return pstrdup("0");
	return OutputFunctionCall(&type->output, value);
}

/* The text of key number i; NULL when it is missing, blank, no scalar or no value of its column. */
static char *
key_text(Shape *shape, const JsonNode *root, int i, size_t *length, ConversionContext *context)
{
	const JsonNode *node = find_key(shape, root, i);
	char *characters;

	if (node == NULL || node->kind == JSON_NULL || node->kind == JSON_ARRAY ||
		node->kind == JSON_OBJECT)
		return NULL;
	if (shape->key_types[i].conversion == NULL)
	{
		characters = sophia_json_to_text(node, length);
		return *length > 0 || shape->generic ? characters : NULL;
	}
	characters = typed_text(&shape->key_types[i], context, node);
	if (characters != NULL)
		*length = strlen(characters);
	return characters;
}

/* Fills key[] and *hash; false when the document has no usable key. */
static bool
read_key(Apply *apply, const ApplyDocument *document, text **key, uint32 *hash,
		 ConversionContext *context)
{
	Shape *shape = apply->shape;

	*hash = 0;
	for (int i = 0; i < shape->n_keys; i++)
	{
		size_t length;
		char *characters;

		if (shape->append)
		{
			characters = i == 0 ? pstrdup(apply->journal)
								: psprintf(INT64_FORMAT, document->document.offset);
			length = strlen(characters);
		}
		else
			characters = key_text(shape, &document->document.root, i, &length, context);
		if (characters == NULL)
			return false;
		key[i] = cstring_to_text_with_len(characters, length);
		*hash = hash_combine(*hash, hash_bytes((unsigned char *) characters, length));
		pfree(characters);
	}
	return true;
}

/* A document without a usable key becomes a dead letter, with what its column has to say. */
static void
refuse_key(Apply *apply, const ApplyDocument *document, const ConversionContext *context)
{
	if (context->misfit_reason == NULL)
		sophia_apply_dead(apply, document, ERRCODE_NOT_NULL_VIOLATION, "document has no usable key");
	else
		sophia_apply_dead(apply, document, context->misfit_sqlstate,
						  psprintf("document has no usable key: it %s", context->misfit_reason));
}

static bool
same_key(const Shape *shape, text *const *a, text *const *b)
{
	for (int i = 0; i < shape->n_keys; i++)
		if (VARSIZE(a[i]) != VARSIZE(b[i]) ||
			memcmp(VARDATA(a[i]), VARDATA(b[i]), VARSIZE(a[i]) - VARHDRSZ) != 0)
			return false;
	return true;
}

/* The group of that key, new when there is none. */
static KeyGroup *
find_group(KeyGroups *groups, const Shape *shape, text **key, uint32 hash)
{
	uint32 slot = hash & groups->mask;
	KeyGroup *group;

	for (; groups->slots[slot] != 0; slot = (slot + 1) & groups->mask)
	{
		group = &groups->groups[groups->slots[slot] - 1];
		if (group->hash == hash && same_key(shape, group->key, key))
			return group;
	}
	group = &groups->groups[groups->n++];
	groups->slots[slot] = groups->n;
	memcpy(group->key, key, sizeof(group->key));
	group->hash = hash;
	return group;
}

KeyGroups *
sophia_groups_gather(Apply *apply, const ApplyDocument *documents, int n)
{
	Shape *shape = apply->shape;
	KeyGroups *groups = palloc(sizeof(KeyGroups));
	uint32 slots = pg_nextpower2_32(Max(n * 2, 8));
	GroupMember *members = palloc(sizeof(GroupMember) * Max(n, 1));

	groups->n = 0;
	groups->groups = palloc0(sizeof(KeyGroup) * Max(n, 1));
	groups->slots = palloc0(sizeof(int) * slots);
	groups->mask = slots - 1;
	for (int i = 0; i < n; i++)
	{
		text *key[SHAPE_MAX_KEYS] = {NULL};
		uint32 hash;
		ConversionContext context = {.collection = shape->collection};
		KeyGroup *group;

		if (documents[i].document.tombstone && shape->ignores_tombstones)
			continue;
		if (!read_key(apply, &documents[i], key, &hash, &context))
		{
			refuse_key(apply, &documents[i], &context);
			continue;
		}
		group = find_group(groups, shape, key, hash);
		members[i] = (GroupMember){.document = &documents[i]};
		if (group->first == NULL)
			group->first = &members[i];
		else
			group->last->next = &members[i];
		group->last = &members[i];
		group->members++;
		group->tombstones |= documents[i].document.tombstone;
	}
	return groups;
}
