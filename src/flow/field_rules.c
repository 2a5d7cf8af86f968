/*
 * field_rules.c
 *		What becomes of a field that no column holds: see field_rules.h.
 */
#include "flow/field_rules.h"

#include <stdio.h>
#include <stdint.h>
#include <string.h>

/* Each narrower conversion with the next one; whatever is not named here is followed by text. */
static const char *const ladder[][2] = {
	{"smallint", "integer"},	  {"integer", "bigint"},		   {"bigint", "numeric"},
	{"real", "double precision"}, {"double precision", "numeric"},
};

/* Conversions that refuse nothing that a document holds. */
static const char *const widest[] = {"text", "jsonb", "list", "input"};

/* What is written so far of a name. */
typedef struct NameWriter
{
	char *name;
	size_t length;
	bool gap; /* a "_" is due before the next character */
} NameWriter;

static void
put(NameWriter *writer, char c)
{
	bool start = writer->length == 0;
	size_t room = FIELD_NAME - 1 - writer->length;
	bool underscore = (writer->gap && !start) || (start && c >= '0' && c <= '9');

	if (room < (underscore ? 2 : 1))
		return;
	if (underscore)
		writer->name[writer->length++] = '_';
	writer->name[writer->length++] = c;
	writer->gap = false;
}

static void
put_step(NameWriter *writer, const char *step, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		char c = step[i];

		if (c >= 'A' && c <= 'Z')
			put(writer, c - 'A' + 'a');
		else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80) != 0)
			put(writer, c);
		else
			writer->gap = true;
	}
	writer->gap = true;
}

/* Cuts to `length` bytes at most, and drops a last character of UTF-8 that is not whole. */
static void
cut(char *name, size_t length)
{
	size_t start;
	unsigned char lead;

	if (strlen(name) < length)
		return;
	name[length] = '\0';
	for (start = length - 1; start > 0 && (name[start] & 0xC0) == 0x80;)
		start--;
	lead = (unsigned char) name[start];
	if (start + (lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1) > length)
		name[start] = '\0';
}

void
sophia_field_name(char name[FIELD_NAME], const JsonPointer *pointer, int attempt)
{
	NameWriter writer = {.name = name};
	char suffix[16] = "";

	for (int i = attempt == 0 ? pointer->steps - 1 : 0; i < pointer->steps; i++)
		put_step(&writer, pointer->step[i].name, pointer->step[i].length);
	name[writer.length] = '\0';
	if (writer.length == 0)
		memcpy(name, "field", sizeof("field"));
	if (attempt > 1)
		snprintf(suffix, sizeof(suffix), "_%d", attempt);
	cut(name, FIELD_NAME - 1 - strlen(suffix));
	memcpy(name + strlen(name), suffix, strlen(suffix) + 1);
}

bool
sophia_field_name_reserved(const char *name)
{
	static const char *const reserved[] = {"cmax",	   "cmin", "ctid", "flow_published_at", "oid",
										   "tableoid", "xmax", "xmin", "_meta/op"};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strcmp(reserved[i], name) == 0)
			return true;
	return false;
}

const char *
sophia_field_wider(const char *conversion)
{
	for (size_t i = 0; i < sizeof(widest) / sizeof(widest[0]); i++)
		if (strcmp(widest[i], conversion) == 0)
			return NULL;
	for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]); i++)
		if (strcmp(ladder[i][0], conversion) == 0)
			return ladder[i][1];
	return "text";
}

const char *
sophia_field_common(const char *a, const char *b)
{
	for (const char *up = a; up != NULL; up = sophia_field_wider(up))
		for (const char *other = b; other != NULL; other = sophia_field_wider(other))
			if (strcmp(up, other) == 0)
				return up;
	return "text";
}

bool
sophia_field_pointer(char *out, size_t size, const JsonPointer *pointer)
{
	size_t length = 0;

	for (int i = 0; i < pointer->steps; i++)
	{
		if (length + 1 >= size)
			return false;
		out[length++] = '/';
		for (uint32_t k = 0; k < pointer->step[i].length; k++)
		{
			char c = pointer->step[i].name[k];

			if (length + 2 >= size)
				return false;
			if (c == '~' || c == '/')
			{
				out[length++] = '~';
				c = c == '~' ? '0' : '1';
			}
			out[length++] = c;
		}
	}
	out[length] = '\0';
	return true;
}
