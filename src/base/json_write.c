/*
 * json_write.c
 *		JSON as text: see json_write.h.  Pure: no server call.
 */
#include "base/json_write.h"

#include <stdio.h>
#include <string.h>

/* What stands for a character that must be escaped (RFC 8259, section 7), or NULL. */
static const char *
escape_of(unsigned char ch, char *scratch, size_t size)
{
	switch (ch)
	{
		case '"':
			return "\\\"";
		case '\\':
			return "\\\\";
		case '\n':
			return "\\n";
		case '\r':
			return "\\r";
		case '\t':
			return "\\t";
		default:
			if (ch >= 0x20)
				return NULL;
			snprintf(scratch, size, "\\u%04x", ch);
			return scratch;
	}
}

bool
sophia_json_write_string(ByteBuffer *out, const char *text, size_t length)
{
	size_t plain = 0; /* where the run of characters begins that is not written yet */
	bool ok = sophia_buffer_append(out, "\"", 1);

	for (size_t i = 0; i < length; i++)
	{
		char scratch[8];
		const char *escape = escape_of((unsigned char) text[i], scratch, sizeof(scratch));

		if (escape == NULL)
			continue;
		ok = ok && sophia_buffer_append(out, text + plain, i - plain) &&
			 sophia_buffer_append(out, escape, strlen(escape));
		plain = i + 1;
	}
	return ok && sophia_buffer_append(out, text + plain, length - plain) &&
		   sophia_buffer_append(out, "\"", 1);
}
