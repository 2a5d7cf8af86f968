/*
 * jsonb.c
 *		Between document trees and the server's jsonb: see jsonb.h.
 *
 * The server's way (text -> lexer -> JsonbValue tree -> datum) costs a third of a COPY of such documents.  The tree
 * is sorted and distinct already, so the on-disk form of utils/jsonb.h is written in one pass: a header with
 * the count, an entry (type, and length or offset) a key and value, then their bytes, numbers and containers aligned.
 */
#include "postgres.h"

#include "store/jsonb.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

static bool encode_value(StringInfo out, const JsonNode *node, JEntry *entry);

/* True for an integer of up to 18 digits, the common case, which needs no parsing by the server. */
static bool
small_integer(const JsonNode *node, int64 *value)
{
	bool negative = node->u.text[0] == '-';

	if (node->length > 18)
		return false;
	*value = 0;
	for (uint32 i = negative; i < node->length; i++)
	{
		if (node->u.text[i] < '0' || node->u.text[i] > '9')
			return false;
		*value = *value * 10 + (node->u.text[i] - '0');
	}
	if (negative)
		*value = -*value;
	return true;
}

Numeric
sophia_json_numeric(const JsonNode *node)
{
	char digits[32];
	char *text = digits;
	int64 value;
	Datum result;

	if (node->kind == JSON_DECIMAL)
		return (Numeric) node->u.data;
	if (small_integer(node, &value))
		return int64_to_numeric(value);
	if (node->length >= sizeof(digits))
		text = palloc(node->length + 1);
	memcpy(text, node->u.text, node->length);
	text[node->length] = '\0';
	result = DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
								 Int32GetDatum(-1));
	if (text != digits)
		pfree(text);
	return DatumGetNumeric(result);
}

/* Moves `out` to the next multiple of four; returns the bytes added. */
static int
pad(StringInfo out)
{
	int padding = INTALIGN(out->len) - out->len;

	enlargeStringInfo(out, padding);
	memset(out->data + out->len, 0, padding);
	out->len += padding;
	return padding;
}

/* Stores entry number i of a container whose entries start at byte `entries`; *total grows by its length. */
static bool
put_entry(StringInfo out, int entries, uint32 i, JEntry entry, uint32 *total)
{
	uint32 length = entry & JENTRY_OFFLENMASK;

	*total += length;
	if (*total > JENTRY_OFFLENMASK)
		return false;
	if (i % JB_OFFSET_STRIDE == 0)
		entry = (entry & JENTRY_TYPEMASK) | *total | JENTRY_HAS_OFF;
	memcpy(out->data + entries + i * sizeof(JEntry), &entry, sizeof(JEntry));
	return true;
}

/* Starts a container: header and room for its entries; returns the byte where they start. */
static int
start_container(StringInfo out, uint32 header, uint32 n_entries)
{
	int entries;

	pad(out);
	enlargeStringInfo(out, sizeof(uint32) + n_entries * sizeof(JEntry));
	memcpy(out->data + out->len, &header, sizeof(uint32));
	entries = out->len + sizeof(uint32);
	out->len = entries + n_entries * sizeof(JEntry);
	return entries;
}

static bool
encode_object(StringInfo out, const JsonNode *node)
{
	uint32 total = 0;
	uint32 n = node->length;
	int entries;

	if (n > JB_CMASK)
		return false;
	entries = start_container(out, n | JB_FOBJECT, n * 2);
	for (uint32 i = 0; i < n; i++)
	{
		const JsonMember *member = &node->u.members[i];

		if (member->length > JENTRY_OFFLENMASK)
			return false;
		appendBinaryStringInfoNT(out, member->name, member->length);
		if (!put_entry(out, entries, i, JENTRY_ISSTRING | member->length, &total))
			return false;
	}
	for (uint32 i = 0; i < n; i++)
	{
		JEntry entry;

		if (!encode_value(out, &node->u.members[i].value, &entry) ||
			!put_entry(out, entries, n + i, entry, &total))
			return false;
	}
	return true;
}

static bool
encode_items(StringInfo out, const JsonNode *items, uint32 n, uint32 flags)
{
	uint32 total = 0;
	int entries;

	if (n > JB_CMASK)
		return false;
	entries = start_container(out, n | flags, n);
	for (uint32 i = 0; i < n; i++)
	{
		JEntry entry;

		if (!encode_value(out, &items[i], &entry) || !put_entry(out, entries, i, entry, &total))
			return false;
	}
	return true;
}

/* Appends a value's bytes and says in *entry what they are.  False: too large. */
static bool
encode_value(StringInfo out, const JsonNode *node, JEntry *entry)
{
	int before = out->len;
	JEntry type = JENTRY_ISNULL;

	switch (node->kind)
	{
		case JSON_NULL:
			break;
		case JSON_FALSE:
			type = JENTRY_ISBOOL_FALSE;
			break;
		case JSON_TRUE:
			type = JENTRY_ISBOOL_TRUE;
			break;
		case JSON_STRING:
			type = JENTRY_ISSTRING;
			appendBinaryStringInfoNT(out, node->u.text, node->length);
			break;
		case JSON_NUMBER:
		case JSON_DECIMAL:
		{
			Numeric number = sophia_json_numeric(node);

			type = JENTRY_ISNUMERIC;
			pad(out);
			appendBinaryStringInfoNT(out, (char *) number, VARSIZE_ANY(number));
			if (node->kind == JSON_NUMBER)
				pfree(number);
			break;
		}
		case JSON_ARRAY:
			type = JENTRY_ISCONTAINER;
			check_stack_depth();
			if (!encode_items(out, node->u.items, node->length, JB_FARRAY))
				return false;
			break;
		case JSON_OBJECT:
			type = JENTRY_ISCONTAINER;
			check_stack_depth();
			if (!encode_object(out, node))
				return false;
			break;
	}
	if (out->len - before > JENTRY_OFFLENMASK)
		return false;
	*entry = type | (out->len - before);
	return true;
}

Jsonb *
sophia_jsonb_encode(StringInfo out, const JsonNode *node)
{
	bool fits;
	JEntry ignored;

	resetStringInfo(out);
	enlargeStringInfo(out, VARHDRSZ);
	out->len = VARHDRSZ;
	if (node->kind == JSON_OBJECT || node->kind == JSON_ARRAY)
		fits = encode_value(out, node, &ignored);
	else
		fits = encode_items(out, node, 1, JB_FARRAY | JB_FSCALAR);
	if (!fits)
		return NULL;
	SET_VARSIZE(out->data, out->len);
	return (Jsonb *) out->data;
}

static bool decode_container(JsonNode *node, Arena *arena, const JsonbContainer *container);

/* Entry number i of a container, whose contents start at `base`. */
static bool
decode_entry(JsonNode *node, Arena *arena, const JsonbContainer *container, char *base, int i)
{
	JEntry entry = container->children[i];
	uint32 offset = getJsonbOffset(container, i);

	node->length = 0;
	if (JBE_ISNULL(entry))
		node->kind = JSON_NULL;
	else if (JBE_ISSTRING(entry))
	{
		node->kind = JSON_STRING;
		node->u.text = base + offset;
		node->length = getJsonbLength(container, i);
	}
	else if (JBE_ISNUMERIC(entry))
	{
		node->kind = JSON_DECIMAL;
		node->u.data = base + INTALIGN(offset);
		node->length = VARSIZE_ANY(node->u.data);
	}
	else if (JBE_ISBOOL(entry))
		node->kind = JBE_ISBOOL_TRUE(entry) ? JSON_TRUE : JSON_FALSE;
	else
		return decode_container(node, arena, (const JsonbContainer *) (base + INTALIGN(offset)));
	return true;
}

static bool
decode_object(JsonNode *node, Arena *arena, const JsonbContainer *container)
{
	int n = JsonContainerSize(container);
	char *base = (char *) &container->children[n * 2];
	JsonMember *members = sophia_arena_alloc(arena, n * sizeof(JsonMember));

	if (members == NULL)
		return false;
	node->kind = JSON_OBJECT;
	node->length = n;
	node->u.members = members;
	for (int i = 0; i < n; i++)
	{
		members[i].name = base + getJsonbOffset(container, i);
		members[i].length = getJsonbLength(container, i);
		if (!decode_entry(&members[i].value, arena, container, base, n + i))
			return false;
	}
	return true;
}

static bool
decode_container(JsonNode *node, Arena *arena, const JsonbContainer *container)
{
	int n = JsonContainerSize(container);
	JsonNode *items;

	check_stack_depth();
	if (JsonContainerIsObject(container))
		return decode_object(node, arena, container);
	items = sophia_arena_alloc(arena, n * sizeof(JsonNode));
	if (items == NULL)
		return false;
	node->kind = JSON_ARRAY;
	node->length = n;
	node->u.items = items;
	for (int i = 0; i < n; i++)
		if (!decode_entry(&items[i], arena, container, (char *) &container->children[n], i))
			return false;
	return true;
}

bool
sophia_jsonb_decode(JsonNode *node, Arena *arena, const Jsonb *jsonb)
{
	return decode_container(node, arena, &jsonb->root);
}
