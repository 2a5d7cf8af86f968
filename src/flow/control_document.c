/*
 * control_document.c
 *		What a document says that is no data: see control_document.h.
 */
#include "postgres.h"

#include "flow/control_document.h"

#include "flow/timestamp_text.h"
#include "utils/timestamp.h"

#define CLOCK_DIGITS 16

/* Members of acknowledgements that are no content. */
static const char *const ack_members[] = {
	"_meta",  "backfillBegin", "backfillComplete", "hints",
	"is_ack", "keyBegin",	   "keyEnd",		   "truncatedAt",
};

/* A member of /_meta or, failing that, of the top; NULL when there is none. */
static const JsonNode *
find_member(const JsonNode *root, const char *name)
{
	const JsonNode *meta = sophia_json_member(root, "_meta", 5);
	const JsonNode *found =
		meta != NULL ? sophia_json_member(meta, name, (uint32_t) strlen(name)) : NULL;

	return found != NULL ? found : sophia_json_member(root, name, (uint32_t) strlen(name));
}

static bool
says(const JsonNode *root, const char *name)
{
	const JsonNode *member = find_member(root, name);

	return member != NULL && member->kind == JSON_TRUE;
}

/* A clock of 16 hexadecimal digits. */
static bool
read_clock(const JsonNode *node, uint64 *clock)
{
	char text[CLOCK_DIGITS + 1];

	if (node->length != CLOCK_DIGITS)
		return false;
	memcpy(text, node->u.text, CLOCK_DIGITS);
	text[CLOCK_DIGITS] = '\0';
	if (strspn(text, "0123456789abcdefABCDEF") != CLOCK_DIGITS)
		return false;
	*clock = strtou64(text, NULL, 16);
	return true;
}

/* The boundary of a truncation, as a clock or as a timestamp. */
static bool
read_boundary(const JsonNode *root, uint64 *clock)
{
	const JsonNode *node = find_member(root, "truncatedAt");
	TimestampTz moment;

	if (node == NULL || node->kind != JSON_STRING)
		return false;
	if (read_clock(node, clock))
		return true;
	if (!sophia_timestamp_parse(node->u.text, node->length, &moment) || TIMESTAMP_NOT_FINITE(moment))
		return false;
	*clock = sophia_clock_of_unix_us(moment + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
												  USECS_PER_DAY);
	return true;
}

static bool
has_content(const JsonNode *root)
{
	if (root->kind != JSON_OBJECT)
		return true;
	for (uint32_t i = 0; i < root->length; i++)
	{
		const JsonMember *member = &root->u.members[i];
		bool known = false;

		for (size_t k = 0; k < lengthof(ack_members); k++)
			known |= strlen(ack_members[k]) == member->length &&
					 memcmp(ack_members[k], member->name, member->length) == 0;
		if (!known)
			return true;
	}
	return false;
}

ControlDocument
sophia_control_document_read(const JsonNode *root, int flags)
{
	ControlDocument document = {CONTROL_NOTHING, false, 0};

	if (says(root, "backfillBegin"))
		document.kind = CONTROL_BACKFILL_BEGIN;
	else if (says(root, "backfillComplete"))
		document.kind = CONTROL_BACKFILL_COMPLETE;
	else if (flags & DOCUMENT_FLAG_CONTROL)
		document.kind = CONTROL_UNKNOWN;
	else if (has_content(root))
		document.kind = CONTROL_ACK_CONTENT;
	if (document.kind == CONTROL_BACKFILL_COMPLETE)
		document.bounded = read_boundary(root, &document.truncated_at);
	return document;
}

const char *
sophia_control_document_event(ControlKind kind)
{
	static const char *const names[] = {
		[CONTROL_NOTHING] = "",
		[CONTROL_BACKFILL_BEGIN] = "backfill_begin",
		[CONTROL_BACKFILL_COMPLETE] = "backfill_complete",
		[CONTROL_UNKNOWN] = "control",
		[CONTROL_ACK_CONTENT] = "ack_content",
	};

	return names[kind];
}
