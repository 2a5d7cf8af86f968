/*
 * html.c
 *		The text of an HTML document or fragment: see normalize.h.  Pure: no server call.
 *
 * One pass, no tree: e-mail bodies are rarely well-formed, and only their words matter.
 *   - Tags, comments and declarations go; so does what stands between <script>, <style>, <title> and
 *     <template> tags and their ends.
 *   - An element that is not shown (the attribute hidden, or display:none in its style) goes with what is in it; such are
 *     the preview texts of newsletters.  One that never ends is shown.
 *   - A block element and <br> end the line; a table cell ends a word; empty lines and white space at the ends
 *     of lines go; other white space becomes one space, except for line ends inside <pre>.
 *   - Character references are decoded.  One that is unknown stays as written.  What a CDATA section holds is text.
 *   - A "<" that starts no tag, such as in "a < b" or "<ann@example.com>", is text.
 * Every byte is looked at a bounded number of times, whatever the input: what is searched for and is not there is
 * not searched for again.
 */
#include "transform/html.h"
#include "transform/html_entities.h"
#include "transform/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_TAG_NAME 15

typedef enum Gap
{
	GAP_NONE,
	GAP_SPACE,
	GAP_LINE
} Gap;

typedef struct Html
{
	const char *at;
	const char *end;
	ByteBuffer *out;
	Gap gap;	   /* what has to stand between the text so far and the next text */
	size_t before; /* size of out at the start */
	int pre;	   /* open <pre> elements */
	bool unended;  /* an element that is not shown had no end: more are not looked for */
	bool failed;   /* no memory */
} Html;

static void
widen_gap(Html *html, Gap gap)
{
	if (gap > html->gap)
		html->gap = gap;
}

static void
emit(Html *html, uint32_t c)
{
	bool fits = true;

	if (sophia_unicode_is_space(c) || c < ' ' || (c >= 0x7F && c < 0xA0))
	{
		widen_gap(html, c == '\n' && html->pre > 0 ? GAP_LINE : GAP_SPACE);
		return;
	}
	if (sophia_unicode_is_invisible(c))
		return;
	if (html->gap != GAP_NONE && buffer_size(html->out) > html->before)
		fits = sophia_buffer_append(html->out, html->gap == GAP_LINE ? "\n" : " ", 1);
	html->gap = GAP_NONE;
	html->failed = !(fits && sophia_utf8_append(html->out, c)) || html->failed;
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What an element does to the text around it, and to its own. */
typedef enum ElementKind
{
	ELEMENT_INLINE,
	ELEMENT_BLOCK,
	ELEMENT_CELL,
	ELEMENT_PRE,
	ELEMENT_SILENT
} ElementKind;

typedef struct Element
{
	char name[MAX_TAG_NAME + 1];
	ElementKind kind;
} Element;

static int
compare_element(const void *name, const void *element)
{
	return strcmp(name, ((const Element *) element)->name);
}

/* The kind of an element by its name in lower case. */
static ElementKind
element_kind(const char *name)
{
	/* clang-format off */
	static const Element elements[] = {
		{"address", ELEMENT_BLOCK}, {"article", ELEMENT_BLOCK}, {"aside", ELEMENT_BLOCK},
		{"blockquote", ELEMENT_BLOCK}, {"body", ELEMENT_BLOCK}, {"br", ELEMENT_BLOCK},
		{"button", ELEMENT_CELL}, {"caption", ELEMENT_BLOCK}, {"center", ELEMENT_BLOCK},
		{"dd", ELEMENT_BLOCK}, {"details", ELEMENT_BLOCK}, {"dialog", ELEMENT_BLOCK},
		{"dir", ELEMENT_BLOCK}, {"div", ELEMENT_BLOCK}, {"dl", ELEMENT_BLOCK},
		{"dt", ELEMENT_BLOCK}, {"fieldset", ELEMENT_BLOCK}, {"figcaption", ELEMENT_BLOCK},
		{"figure", ELEMENT_BLOCK}, {"footer", ELEMENT_BLOCK}, {"form", ELEMENT_BLOCK},
		{"h1", ELEMENT_BLOCK}, {"h2", ELEMENT_BLOCK}, {"h3", ELEMENT_BLOCK},
		{"h4", ELEMENT_BLOCK}, {"h5", ELEMENT_BLOCK}, {"h6", ELEMENT_BLOCK},
		{"head", ELEMENT_BLOCK}, {"header", ELEMENT_BLOCK}, {"hgroup", ELEMENT_BLOCK},
		{"hr", ELEMENT_BLOCK}, {"html", ELEMENT_BLOCK}, {"img", ELEMENT_CELL},
		{"input", ELEMENT_CELL}, {"legend", ELEMENT_BLOCK}, {"li", ELEMENT_BLOCK},
		{"main", ELEMENT_BLOCK}, {"menu", ELEMENT_BLOCK}, {"nav", ELEMENT_BLOCK},
		{"ol", ELEMENT_BLOCK}, {"option", ELEMENT_CELL}, {"p", ELEMENT_BLOCK},
		{"pre", ELEMENT_PRE}, {"script", ELEMENT_SILENT}, {"section", ELEMENT_BLOCK},
		{"select", ELEMENT_BLOCK}, {"style", ELEMENT_SILENT}, {"summary", ELEMENT_BLOCK},
		{"table", ELEMENT_BLOCK}, {"tbody", ELEMENT_BLOCK}, {"td", ELEMENT_CELL},
		{"template", ELEMENT_SILENT}, {"tfoot", ELEMENT_BLOCK}, {"th", ELEMENT_CELL},
		{"thead", ELEMENT_BLOCK}, {"title", ELEMENT_SILENT}, {"tr", ELEMENT_BLOCK},
		{"ul", ELEMENT_BLOCK},
	};
	/* clang-format on */
	const Element *found;

	found = bsearch(name, elements, sizeof(elements) / sizeof(elements[0]), sizeof(elements[0]),
					compare_element);
	return found == NULL ? ELEMENT_INLINE : found->kind;
}

/* The byte after the tag that starts at `at`, quoted attribute values being skipped; the end when it is cut. */
static const char *
after_tag(const char *at, const char *end)
{
	char quote = '\0';

	for (; at < end; at++)
	{
		if (quote != '\0')
			quote = *at == quote ? '\0' : quote;
		else if ((*at == '"' || *at == '\'') && at[-1] == '=')
			quote = *at;
		else if (*at == '>')
			return at + 1;
	}
	return end;
}

/* The first place at or after `at` where the bytes stand, letters in any case, or NULL.  They begin with a sign. */
static const char *
find(const char *at, const char *end, const char *bytes)
{
	size_t n = strlen(bytes);

	for (; (size_t) (end - at) >= n; at++)
	{
		at = memchr(at, bytes[0], end - at);
		if (at == NULL || (size_t) (end - at) < n)
			return NULL;
		if (strncasecmp(at, bytes, n) == 0)
			return at;
	}
	return NULL;
}

/* Moves past the end tag of an element whose content is no text. */
static void
skip_element(Html *html, const char *name)
{
	char end_tag[MAX_TAG_NAME + 3] = "</";
	const char *found;

	memcpy(end_tag + 2, name, strlen(name) + 1);
	found = find(html->at, html->end, end_tag);
	html->at = found == NULL ? html->end : after_tag(found + 1, html->end);
}

/* True when a style says display:none, in any case and with any blanks. */
static bool
displays_none(const char *style, size_t len)
{
	static const char none[] = "display:none";

	for (size_t i = 0; i < len; i++)
	{
		size_t n = 0;

		for (size_t j = i; j < len && n < sizeof(none) - 1; j++)
			if (!is_blank(style[j]))
			{
				if ((style[j] | 0x20) != (none[n] | 0x20))
					break;
				n++;
			}
		if (n == sizeof(none) - 1)
			return true;
	}
	return false;
}

/* True when the attributes between p and to say that the element is not shown. */
static bool
is_hidden(const char *p, const char *to)
{
	while (p < to)
	{
		const char *name = p;
		const char *value;
		size_t n;
		size_t len = 0;

		while (p < to && !is_blank(*p) && *p != '=' && *p != '>' && *p != '/')
			p++;
		n = p - name;
		value = ++p;
		if (p < to && p[-1] == '=')
		{
			bool quoted = *p == '"' || *p == '\'';
			char quote = *p;

			for (value = p += quoted; p < to && (quoted ? *p != quote : !is_blank(*p) && *p != '>');)
				p++;
			len = p - value;
			p++;
		}
		if ((n == 6 && strncasecmp(name, "hidden", 6) == 0) ||
			(n == 5 && strncasecmp(name, "style", 5) == 0 && displays_none(value, len)))
			return true;
	}
	return false;
}

/* Moves past the end of an element that is not shown; does nothing when it has no end. */
static void
skip_hidden(Html *html, const char *name)
{
	size_t n = strlen(name);
	int depth = 1;

	for (const char *p = html->at; (p = memchr(p, '<', html->end - p)) != NULL; p++)
	{
		bool closing = html->end - p > 1 && p[1] == '/';
		const char *found = p + 1 + closing;

		if ((size_t) (html->end - found) <= n || strncasecmp(found, name, n) != 0 ||
			!(is_blank(found[n]) || found[n] == '>' || found[n] == '/'))
			continue;
		depth += closing ? -1 : 1;
		if (depth == 0)
		{
			html->at = after_tag(found + n, html->end);
			return;
		}
	}
	html->unended = true;
}

/* Applies the tag whose attributes are from `attributes` to html->at. */
static void
apply_tag(Html *html, const char *name, const char *attributes, bool closing)
{
	ElementKind kind = element_kind(name);

	if (kind == ELEMENT_SILENT && !closing)
		skip_element(html, name);
	else if (kind == ELEMENT_CELL)
		widen_gap(html, GAP_SPACE);
	else if (kind == ELEMENT_BLOCK || kind == ELEMENT_PRE)
		widen_gap(html, GAP_LINE);
	if (kind == ELEMENT_PRE)
		html->pre += !closing ? 1 : html->pre > 0 ? -1 : 0;
	if (!closing && !html->unended && kind != ELEMENT_SILENT && strcmp(name, "br") != 0 &&
		strcmp(name, "img") != 0 && strcmp(name, "input") != 0 && strcmp(name, "hr") != 0 &&
		html->at[-1] == '>' && is_hidden(attributes, html->at))
		skip_hidden(html, name);
}

/* Takes over the text of a CDATA section from `at` on, to its end or that of the document. */
static void
read_cdata(Html *html, const char *at)
{
	const char *close = find(at, html->end, "]]>");
	const char *to = close == NULL ? html->end : close;

	while (at < to && !html->failed)
		emit(html, sophia_utf8_next(&at, to));
	html->at = close == NULL ? html->end : close + 3;
}

/* Reads a tag, comment or declaration at html->at; false (and nothing is read) when the "<" is text. */
static bool
read_markup(Html *html)
{
	const char *p = html->at + 1;
	const char *name_end;
	char name[MAX_TAG_NAME + 1] = "";
	bool closing = false;

	if (html->end - p >= 3 && memcmp(p, "!--", 3) == 0)
	{
		const char *close = find(p + 1, html->end, "-->");

		html->at = close == NULL ? html->end : close + 3;
		return true;
	}
	if (html->end - p >= 8 && memcmp(p, "![CDATA[", 8) == 0)
	{
		read_cdata(html, p + 8);
		return true;
	}
	if (p < html->end && (*p == '!' || *p == '?'))
	{
		html->at = after_tag(p + 1, html->end);
		return true;
	}
	if (p < html->end && *p == '/')
	{
		closing = true;
		p++;
	}
	for (name_end = p;
		 name_end < html->end && (is_letter(*name_end) || *name_end == ':' ||
								  (name_end > p && (is_digit(*name_end) || *name_end == '-')));)
		name_end++;
	if (name_end == p || name_end == html->end ||
		!(is_blank(*name_end) || *name_end == '/' || *name_end == '>'))
		return false;
	if (name_end - p <= MAX_TAG_NAME)
		for (size_t i = 0; i < (size_t) (name_end - p); i++)
			name[i] = is_letter(p[i]) ? (char) (p[i] | 0x20) : p[i];
	html->at = after_tag(name_end, html->end);
	apply_tag(html, name, name_end, closing);
	return true;
}

/* What a numeric reference means: Windows-1252 where it names a control code, as browsers read it. */
static uint32_t
numeric_meaning(uint32_t c)
{
	static const uint16_t windows_1252[32] = {
		0x20AC, 0x81,	0x201A, 0x192,	0x201E, 0x2026, 0x2020, 0x2021, 0x2C6,	0x2030, 0x160,
		0x2039, 0x152,	0x8D,	0x17D,	0x8F,	0x90,	0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
		0x2013, 0x2014, 0x2DC,	0x2122, 0x161,	0x203A, 0x153,	0x9D,	0x17E,	0x178};

	if (c >= 0x80 && c < 0xA0)
		return windows_1252[c - 0x80];
	if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
		return UNICODE_REPLACEMENT;
	return c;
}

static int
digit_of(char c, uint32_t base)
{
	if (is_digit(c))
		return c - '0';
	if (base == 16 && is_letter(c) && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Reads "&#65;" or "&#x41;"; the semicolon may be missing. */
static bool
read_numeric_reference(Html *html)
{
	const char *p = html->at + 2;
	uint32_t base = p < html->end && (*p | 0x20) == 'x' ? 16 : 10;
	uint32_t c = 0;
	const char *digits;

	digits = p += base == 16;
	for (; p < html->end && digit_of(*p, base) >= 0; p++)
		c = c > 0x10FFFF ? c : c * base + (uint32_t) digit_of(*p, base);
	if (p == digits)
		return false;
	html->at = p < html->end && *p == ';' ? p + 1 : p;
	emit(html, numeric_meaning(c));
	return true;
}

static int
compare_entity(const void *name, const void *entity)
{
	return strcmp(name, ((const HtmlEntity *) entity)->name);
}

/* The reference that the n bytes of a name with its semicolon are, or a beginning of them that needs none; NULL = none. */
static const HtmlEntity *
find_entity(const char *at, size_t *n, bool semicolon)
{
	char name[HTML_ENTITY_MAX_NAME + 1] = "";
	const HtmlEntity *entity;

	for (memcpy(name, at, *n); *n >= 2; name[--*n] = '\0', semicolon = false)
	{
		entity = bsearch(name, html_entities, sizeof(html_entities) / sizeof(html_entities[0]),
						 sizeof(html_entities[0]), compare_entity);
		if (entity != NULL && (semicolon || entity->bare))
			return entity;
		if (*n > HTML_ENTITY_MAX_BARE)
		{
			memset(name + HTML_ENTITY_MAX_BARE + 1, 0, *n - HTML_ENTITY_MAX_BARE - 1);
			*n = HTML_ENTITY_MAX_BARE + 1;
		}
	}
	return NULL;
}

/* Reads a character reference at html->at; false (and nothing is read) when the "&" is text. */
static bool
read_reference(Html *html)
{
	const char *p = html->at + 1;
	size_t n = 0;
	size_t used;
	bool semicolon;
	const HtmlEntity *entity;

	if (p < html->end && *p == '#')
		return read_numeric_reference(html);
	while (p + n < html->end && n < HTML_ENTITY_MAX_NAME && (is_letter(p[n]) || is_digit(p[n])))
		n++;
	used = n;
	semicolon = p + n < html->end && p[n] == ';';
	entity = find_entity(p, &used, semicolon);
	if (entity == NULL)
		return false;
	html->at = p + used + (used == n && semicolon);
	emit(html, entity->first);
	if (entity->second != 0)
		emit(html, entity->second);
	return true;
}

/* True for visible ASCII that begins neither tag nor reference. */
static bool
is_plain(char c)
{
	return (signed char) c > ' ' && c != 0x7F && c != '<' && c != '&';
}

/* Takes over words of ASCII with one space between them, without tag and reference; false when there are none. */
static bool
read_word(Html *html)
{
	const char *p = html->at;

	while (p < html->end && (is_plain(*p) || (*p == ' ' && p > html->at && p[-1] != ' ')))
		p++;
	if (p > html->at && p[-1] == ' ')
		p--;
	if (p == html->at)
		return false;
	emit(html, (unsigned char) *html->at++);
	if (p > html->at && !sophia_buffer_append(html->out, html->at, p - html->at))
		html->failed = true;
	html->at = p;
	return true;
}

bool
sophia_strip_html(const char *in, size_t len, ByteBuffer *out)
{
	Html html = {.at = in, .end = in + len, .out = out, .before = buffer_size(out)};

	while (html.at < html.end && !html.failed)
	{
		if (read_word(&html))
			continue;
		if ((*html.at == '<' && read_markup(&html)) || (*html.at == '&' && read_reference(&html)))
			continue;
		emit(&html, sophia_utf8_next(&html.at, html.end));
	}
	if (!html.failed && buffer_size(out) > html.before)
		return true;
	buffer_truncate(out, html.before);
	return false;
}
