/*
 * snippet.c
 *		The first words of a text in one line: see snippet.h.  Pure: no server call.
 *
 * Reads no further than it has to, because bodies are long and each of them gets a snippet.
 */
#include "transform/snippet.h"
#include "transform/unicode.h"

bool
sophia_snippet(const char *in, size_t len, ByteBuffer *out)
{
	size_t before = buffer_size(out);
	const char *end = in + len;
	int characters = 0;
	bool space = false;
	bool fits = true;

	while (in < end && fits)
	{
		uint32_t c = sophia_utf8_next(&in, end);

		if (sophia_unicode_is_space(c))
		{
			space = characters > 0;
			continue;
		}
		if (characters + space >= SNIPPET_MAX_CHARACTERS)
			break;
		if (space)
			fits = sophia_buffer_append(out, " ", 1);
		fits = fits && sophia_utf8_append(out, c);
		characters += 1 + space;
		space = false;
	}
	if (fits && characters > 0)
		return true;
	buffer_truncate(out, before);
	return false;
}
